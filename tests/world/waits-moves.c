/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of waits: a switchover and a hand-over, and what becomes of both nodes after it. */
#include "tests/world/waits.h"

#include "vm/vm_internal.h"

/* ---- Until the VM stands ---- */

static void find_no_arbiter(void)
{
    waits_pair();
    /* Long before it looks by itself again. */
    world_mount(BETA, FALSE);
    waits_order(ALPHA, "switchover");
    waits_pass_ms(100);
}

static void mount_beta(void)
{
    world_mount(BETA, TRUE);
}

static void be_pair(void)
{
    waits_pair();
    ALPHA->config->downtime_limit_ms = BETA->config->downtime_limit_ms = 0;
}

static void begin_with(gboolean *trouble)
{
    be_pair();
    *trouble = TRUE;
    waits_order(ALPHA, "switchover");
    waits_pass_ms(300);
}

static void lose_bridge(void)
{
    begin_with(&BETA->out_of_bridge);
}

static void mend_bridge(void)
{
    BETA->out_of_bridge = FALSE;
}

/* A checkpoint is to be loaded, and then this is. */
static void begin_under(const char *disks_hold, VmOp qemu_holds)
{
    be_pair();
    BETA->disk_holds = disks_hold;
    BETA->takes_us[qemu_holds] = qemu_holds ? WORLD_FOREVER : 0;
    ALPHA->config->answer_timeout_ms = BETA->config->answer_timeout_ms = 60000;
    BETA->config->qemu_timeout_ms = 60000;
    BETA->config->disk_timeout_ms = 60000;
    waits_order(ALPHA, "checkpoint");
    waits_pass_ms(200);
    waits_order(ALPHA, "switchover");
    waits_pass_ms(500);
}

static void begin_under_load(void)
{
    begin_under(NULL, VM_OP_LOAD);
}

static void begin_under_apply(void)
{
    begin_under("apply", VM_OP_NONE);
}

/* No pause of this VM is short enough. */
static void wait_for_less(void)
{
    ALPHA->takes_us[VM_OP_SAVE] = 300 * COLO_US_PER_MS;
    waits_pair();
    waits_order(ALPHA, "switchover");
}

static void allow_more(void)
{
    ALPHA->config->downtime_limit_ms = 0;
}

static gint64 switchover_ms(const Config *config)
{
    return (gint64)config->switchover_timeout_ms;
}

static void stop_in_vain(void)
{
    be_pair();
    waits_hold_qemu(ALPHA, VM_OP_PAUSE);
    waits_order(ALPHA, "switchover pause");
}

/* ---- It stands ---- */

static gboolean is_held(void)
{
    return ALPHA->node->state == FSM_P_PRE_SWITCHOVER;
}

static void be_held(void)
{
    be_pair();
    waits_order(ALPHA, "switchover pause");
    waits_await(is_held, "the VM is held");
    waits_pass_ms(50);
}

static void save_in_vain(void)
{
    be_held();
    waits_hold_qemu(ALPHA, VM_OP_SAVE);
    waits_order(ALPHA, "continue");
}

static void release_in_vain(void)
{
    be_held();
    waits_hold_qemu(ALPHA, VM_OP_INACTIVATE);
    waits_order(ALPHA, "continue");
}

static gboolean has_failed(void)
{
    return ALPHA->node->state == FSM_P_COLO;
}

static void release_too_long(void)
{
    release_in_vain();
    waits_await(has_failed, "the switchover fails");
}

static void inactivate_in_vain(void)
{
    be_held();
    ALPHA->disk_holds = "inactivate";
    waits_order(ALPHA, "continue");
}

/* As it is by default, and longer than any other step of a hand-over may take. */
static void inactivate_for_long(void)
{
    be_held();
    ALPHA->config->disk_timeout_ms = BETA->config->disk_timeout_ms = 30000;
    ALPHA->disk_holds = "inactivate";
    waits_order(ALPHA, "continue");
}

static gboolean is_inactivating(void)
{
    return g_strcmp0(disks_order_name(ALPHA->node->disks), "inactivate") == 0;
}

static void watch_in_vain(void)
{
    be_held();
    ALPHA->disk_holds = "watch";
    waits_order(ALPHA, "continue");
}

static void mark_for_long(void)
{
    inactivate_for_long();
    ALPHA->disk_holds = "mark-written";
}

static void send_in_vain(void)
{
    be_held();
    ALPHA->config->downtime_limit_ms = 1000;
    world.held_message = LINK_MSG_RECEIVED;
    waits_order(ALPHA, "continue");
}

static void stop_for_failover(void)
{
    be_pair();
    waits_hold_qemu(ALPHA, VM_OP_PAUSE);
    waits_order(ALPHA, "failover");
}

static void let_alpha_disks(void)
{
    world_disk_let(ALPHA);
}

static void alpha_disks_die(void)
{
    world_disk_kill(ALPHA);
}

static void let_beta_disks(void)
{
    world_disk_let(BETA);
}

static void beta_disks_die(void)
{
    world_disk_kill(BETA);
}

/* It was cancelled, and can't run again. */
static void run_in_vain(void)
{
    be_held();
    waits_hold_qemu(ALPHA, VM_OP_RESUME);
    waits_order(ALPHA, "cancel");
}

/* ---- It is handed over ---- */

static void hand_in_vain(void)
{
    be_held();
    world.held_message = LINK_MSG_HANDED;
    waits_order(ALPHA, "continue");
}

static gint64 handed_ms(const Config *config)
{
    return 30000 + (gint64)config->disk_timeout_ms;
}

static void check_in_vain(void)
{
    be_held();
    waits_hold_qemu(BETA, VM_OP_PAUSE);
    waits_order(ALPHA, "continue");
}

static void ask_in_vain(void)
{
    be_held();
    waits_hang_arbiter(BETA);
    waits_order(ALPHA, "continue");
}

static void mend_beta(void)
{
    waits_mend_arbiter(BETA);
}

static gboolean is_asked(void)
{
    return BETA->node->state == FSM_S_HANDED && claim_doing(BETA->node->claim) == CLAIM_ASKED;
}

static void ask_and_cancel(void)
{
    ask_in_vain();
    waits_await(is_asked, "the secondary asks");
    waits_order(ALPHA, "cancel");
    waits_pass_ms(10); /* it has heard of that */
}

static void load_in_vain(void)
{
    be_held();
    waits_hold_qemu(BETA, VM_OP_LOAD);
    waits_order(ALPHA, "continue");
}

static void take_disks_in_vain(void)
{
    be_held();
    BETA->disk_holds = "takeover";
    waits_order(ALPHA, "continue");
}

static gboolean is_ordered(void)
{
    return g_strcmp0(disks_order_name(BETA->node->disks), "takeover") == 0;
}

static void refuse_to_run(void)
{
    be_held();
    BETA->vm->refuse[VM_OP_RESUME] = G_MAXUINT;
    waits_order(ALPHA, "continue");
}

static void let_beta_run(void)
{
    BETA->vm->refuse[VM_OP_RESUME] = 0;
    waits_order(BETA, "cont");
}

static gboolean is_refused(void)
{
    return resume_refusal(BETA->node->resume) != NULL;
}

static gboolean is_taking(void)
{
    return BETA->node->state == FSM_S_TAKING;
}

static void give_in_vain(void)
{
    be_held();
    BETA->vm->refuse[VM_OP_LOAD] = 1;
    waits_order(ALPHA, "continue");
    waits_await(is_taking, "the secondary takes over");
    waits_hang_arbiter(BETA);
}

static void leave_in_vain(void)
{
    give_in_vain();
    waits_pass_ms(1000);
    waits_order(BETA, "quit");
}

static gint64 leave_ms(const Config *config)
{
    (void)config;
    return TAKING_LEAVE_MS;
}

/* ---- It has moved ---- */

static void check_for_copy(void)
{
    be_held();
    waits_order(ALPHA, "continue");
    while (ALPHA->node->state != FSM_P_HANDED)
        waits_pass_ms(1);
    waits_hold_qemu(ALPHA, VM_OP_PAUSE);
}

static void switch_for_copy(void)
{
    be_held();
    ALPHA->disk_holds = "become-replica";
    waits_order(ALPHA, "continue");
}

static gboolean is_switching(void)
{
    return replica_phase(ALPHA->node->becoming) == REPLICA_SWITCHING;
}

static void let_alpha_become(void)
{
    ALPHA->takes_us[VM_OP_PAUSE] = 0;
    waits_alpha_answers();
}

/* ---- ---- */

#define QEMU_LIMIT .limit = "`qemu-timeout`: the VM is lost here", .limit_ms = waits_qemu_ms
#define DISK_LIMIT .limit = "`disk-timeout`", .limit_ms = waits_disk_ms
#define QUIT                                                                                       \
    {                                                                                              \
        WAIT_COMMAND, FSM_COMPLETED, "quit"                                                        \
    }
#define CANCEL                                                                                     \
    {                                                                                              \
        WAIT_COMMAND, FSM_P_COLO, "cancel"                                                         \
    }
#define ALONE                                                                                      \
    {                                                                                              \
        WAIT_PEER_DIES, FSM_P_NONE, NULL                                                           \
    }

/* clang-format off */
static const Wait rows[] = {
    {.name = "switchover/setup", .what = "the secondary to approve in all its parts",
     .bring = find_no_arbiter, .let = mount_beta, .state = FSM_P_COLO, .move = SWITCHOVER_SETUP,
     .told = {"switchover.ack-pending=arbiter", "switchover.status=setup"},
     .limit = "`switchover-timeout`", .limit_ms = switchover_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, {WAIT_PEER_TOLD, FSM_P_COLO, "cancel"},
              QUIT, ALONE, {WAIT_COMMAND, FSM_P_PAUSED, "pause"}}},
    {.name = "switchover/setup-uplink", .what = "the secondary's tap, to be in its bridge",
     .bring = lose_bridge, .let = mend_bridge, .state = FSM_P_COLO, .move = SWITCHOVER_SETUP,
     .told = {"switchover.ack-pending=\"uplink\" ]"}, .limit = "`switchover-timeout`",
     .limit_ms = switchover_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, QUIT, ALONE}},
    {.name = "switchover/setup-checkpoint", .what = "the secondary to have loaded a checkpoint",
     .mode = "colo", .bring = begin_under_load, .let = waits_beta_answers, .state = FSM_P_COLO,
     .move = SWITCHOVER_SETUP, .told = {"switchover.ack-pending=\"checkpoint\""},
     .limit = "`switchover-timeout`", .limit_ms = switchover_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, QUIT, ALONE}},
    {.name = "switchover/setup-disks", .what = "the secondary's images to be those of a checkpoint",
     .disks = "raw", .bring = begin_under_apply, .let = let_beta_disks, .state = FSM_P_COLO,
     .move = SWITCHOVER_SETUP, .told = {"switchover.ack-pending=\"disks\""},
     .limit = "`switchover-timeout`", .limit_ms = switchover_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, {WAIT_COMMAND, FSM_COMPLETED, "quit;quit"},
              ALONE}},
    {.name = "switchover/active", .what = "little enough to be left to send",
     .bring = wait_for_less, .let = allow_more, .state = FSM_P_COLO, .move = SWITCHOVER_ACTIVE,
     .told = {"switchover.status=active"}, .limit = "`switchover-timeout`",
     .limit_ms = switchover_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, {WAIT_PEER_TOLD, FSM_P_COLO, "cancel"},
              QUIT, ALONE, {WAIT_COMMAND, FSM_P_PAUSED, "pause"}}},
    {.name = "switchover/stopping", .what = "QEMU to pause the VM", .bring = stop_in_vain,
     .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_COLO, .order = VM_OP_PAUSE,
     .move = SWITCHOVER_STOPPING, .told = {"vm.order=pause", "checkpoints.waits-for=QEMU"},
     QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_PRE_SWITCHOVER, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL,
              QUIT, ALONE}},
    {.name = "pre-switchover", .what = "`continue`, or `cancel`", .bring = be_held,
     .state = FSM_P_PRE_SWITCHOVER, .cycle = CYCLE_HELD, .move = SWITCHOVER_PRE,
     .told = {"waiting.for=an administrator", "switchover.status=pre-switchover"},
     .why = "it was asked for",
     .ends = {{WAIT_COMMAND, FSM_P_HANDED, "continue"}, CANCEL,
              {WAIT_PEER_TOLD, FSM_P_COLO, "cancel"}, {WAIT_COMMAND, FSM_P_HANDED, "failover"},
              {WAIT_SIGTERM, FSM_COMPLETED, NULL}, QUIT, ALONE,
              {WAIT_COMMAND, FSM_P_NONE, "pause"}}},
    {.name = "switchover/cancelling", .what = "QEMU to resume the VM", .bring = run_in_vain,
     .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_COLO, .order = VM_OP_RESUME,
     .move = SWITCHOVER_CANCELLING, .told = {"vm.order=resume", "switchover.status=cancelling"},
     QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT, ALONE}},
    {.name = "device/pausing", .what = "QEMU to pause the VM, for a failover",
     .bring = stop_for_failover, .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_DEVICE,
     .order = VM_OP_PAUSE, .cycle = CYCLE_STOPPING,
     .told = {"waiting.for=QEMU has not paused", "vm.order=pause"}, QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT, ALONE}},
    {.name = "device/saving", .what = "QEMU to save the state of the VM's devices",
     .bring = save_in_vain, .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_DEVICE,
     .order = VM_OP_SAVE, .move = SWITCHOVER_DEVICE,
     .told = {"waiting.for=QEMU has not saved", "vm.order=save"}, QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL,
              {WAIT_PEER_TOLD, FSM_P_COLO, "cancel"}, QUIT, ALONE}},
    {.name = "device/watching", .what = "the disk server, before QEMU gives up its disks",
     .disks = "raw", .bring = watch_in_vain, .let = let_alpha_disks, .fail = alpha_disks_die,
     .state = FSM_P_DEVICE, .cycle = CYCLE_GIVING_UP,
     .told = {"waiting.for=disks have not been given up", "disks.order=watch"}, DISK_LIMIT,
     .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL, QUIT,
              ALONE}},
    {.name = "device/releasing", .what = "QEMU to give up its disks", .disks = "qcow2",
     .bring = release_in_vain, .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_DEVICE,
     .order = VM_OP_INACTIVATE, .cycle = CYCLE_GIVING_UP,
     .told = {"waiting.for=disks have not been given up", "vm.order=inactivate"}, DISK_LIMIT,
     .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL, QUIT,
              ALONE}},
    {.name = "colo/releasing", .what = "QEMU to give up its disks, though the switchover has failed by it",
     .disks = "qcow2", .bring = release_too_long, .let = waits_alpha_answers, .fail = waits_alpha_dies,
     .state = FSM_P_COLO, .order = VM_OP_INACTIVATE, .cycle = CYCLE_GIVING_UP,
     .told = {"vm.order=inactivate", "switchover.status=failed"},
     .limit = "`qemu-timeout` more: the VM is lost here", .limit_ms = waits_qemu_ms, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL},
              {WAIT_COMMAND, FSM_COMPLETED, "quit;quit"}, ALONE}},
    {.name = "device/inactivating", .what = "the images to be synced and given up",
     .disks = "raw", .bring = inactivate_in_vain, .let = let_alpha_disks, .fail = alpha_disks_die,
     .state = FSM_P_DEVICE, .cycle = CYCLE_GIVING_UP,
     .also = is_inactivating,
     .told = {"waiting.for=disks have not been given up", "disks.order=inactivate"}, DISK_LIMIT,
     .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL, QUIT,
              ALONE}},
    {.name = "device/inactivating-long", .disks = "raw", .bring = inactivate_for_long, .let = let_alpha_disks,
     .fail = alpha_disks_die, .state = FSM_P_DEVICE, .cycle = CYCLE_GIVING_UP,
     .also = is_inactivating,
     .told = {"waiting.for=disks have not been given up", "disks.order=inactivate"}, DISK_LIMIT,
     .then = FSM_P_COLO, .after = "switchover.error=root",
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL, QUIT,
              ALONE}},
    {.name = "device/marking-long", .disks = "raw", .bring = mark_for_long, .let = let_alpha_disks,
     .fail = alpha_disks_die, .state = FSM_P_DEVICE, .cycle = CYCLE_GIVING_UP,
     .told = {"waiting.for=disks have not been given up"}, DISK_LIMIT,
     .then = FSM_P_COLO, .after = "switchover.error=root",
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, CANCEL, QUIT,
              ALONE}},
    {.name = "device/sent", .what = "the secondary to have the VM's last checkpoint",
     .bring = send_in_vain, .let = world_link_let, .state = FSM_P_DEVICE,
     .cycle = CYCLE_PAUSED_SENT, .told = {"waiting.for=has not received"},
     .limit = "`answer-timeout`: the secondary is unfit", .limit_ms = waits_answer_ms,
     .then = FSM_P_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_P_HANDED, NULL}, CANCEL, {WAIT_PEER_TOLD, FSM_P_COLO, "cancel"},
              QUIT, ALONE, {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "handed", .what = "the secondary to take the VM, or to leave it",
     .bring = hand_in_vain, .let = world_link_let, .state = FSM_P_HANDED,
     .move = SWITCHOVER_HANDED, .told = {"waiting.for=to take the VM"},
     .limit = "30 s + `disk-timeout`: the arbiter is asked", .limit_ms = handed_ms,
     .then = FSM_P_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_P_FROZEN, NULL}, QUIT, {WAIT_COMMAND, FSM_P_PAUSED, "pause"},
              {WAIT_PEER_TOLD, FSM_P_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_P_NONE, NULL},
              {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "handed/cancelling", .what = "the secondary to leave the VM, as it was asked to",
     .bring = ask_and_cancel, .let = mend_beta, .state = FSM_P_HANDED,
     .move = SWITCHOVER_HANDED_CANCELLING, .told = {"waiting.for=to take the VM"},
     .limit = "`arbiter.timeout`, the secondary's", .limit_ms = waits_arbiter_ms,
     .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT, {WAIT_COMMAND, FSM_P_PAUSED, "pause"},
              {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "secondary-handed/checking", .what = "QEMU to show that it answers", .who = 1,
     .bring = check_in_vain, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_HANDED,
     .order = VM_OP_PAUSE, .told = {"waiting.for=QEMU here", "vm.order=pause"}, QEMU_LIMIT,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-handed/asking", .what = "the arbiter's yes", .who = 1,
     .bring = ask_in_vain, .let = mend_beta, .state = FSM_S_HANDED, .claim = CLAIM_ASKED,
     .told = {"waiting.for=the arbiter"}, .limit = "`arbiter.timeout`: refused",
     .limit_ms = waits_arbiter_ms, .then = FSM_S_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT, {WAIT_COMMAND, FSM_S_PAUSED, "pause"},
              {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
    {.name = "taking/loading", .what = "QEMU to load the last checkpoint", .who = 1,
     .bring = load_in_vain, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_TAKING,
     .order = VM_OP_LOAD, .told = {"waiting.for=load", "vm.order=load"},
     .limit = "`qemu-timeout`: given back", .limit_ms = waits_qemu_ms, .then = FSM_S_GIVING,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_S_GIVING, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
    {.name = "taking/disks", .what = "the images to be this node's", .disks = "raw", .who = 1,
     .bring = take_disks_in_vain, .let = let_beta_disks, .fail = beta_disks_die,
     .state = FSM_S_TAKING, .also = is_ordered, .told = {"waiting.for=takeover", "disks.order=takeover"},
     .limit = "`disk-timeout`: given back", .limit_ms = waits_disk_ms, .then = FSM_S_GIVING,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_S_GIVING, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
    {.name = "taking/refused", .what = "QEMU, which refuses to run the VM", .who = 1,
     .bring = refuse_to_run, .let = let_beta_run, .state = FSM_S_TAKING, .also = is_refused,
     .told = {"waiting.for=can't be", "vm.state=inactive"},
     .limit = "`disk-timeout`: given back", .limit_ms = waits_disk_ms, .then = FSM_S_GIVING,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT, {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
    {.name = "giving", .what = "the arbiter, to have the VM given back", .who = 1,
     .bring = give_in_vain, .let = mend_beta, .state = FSM_S_GIVING,
     .told = {"waiting.for=given back"}, .why = "the primary may have no other way to learn it",
     .ends = {{WAIT_ANSWER, FSM_S_STARTING, NULL}, {WAIT_COMMAND, FSM_S_LEAVING, "quit"},
              {WAIT_PEER_DIES, FSM_S_GIVING, NULL}}},
    {.name = "leaving", .what = "the arbiter, to have the VM given back before the end",
     .who = 1, .bring = leave_in_vain, .let = mend_beta, .state = FSM_S_LEAVING,
     .told = {"waiting.for=given back"}, .limit = "10 s", .limit_ms = leave_ms,
     .then = FSM_COMPLETED,
     .ends = {{WAIT_ANSWER, FSM_COMPLETED, NULL}, QUIT, {WAIT_PEER_DIES, FSM_COMPLETED, NULL}}},
    {.name = "secondary-starting/checking", .what = "QEMU to show that it can be kept",
     .bring = check_for_copy, .let = let_alpha_become, .fail = waits_alpha_dies, .state = FSM_S_STARTING,
     .order = VM_OP_PAUSE, .told = {"waiting.for=QEMU", "vm.order=pause"},
     .limit = "`qemu-timeout`: a new one is started", .limit_ms = waits_qemu_ms,
     .then = FSM_S_COLO,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_S_COLO, NULL}, QUIT}},
    {.name = "secondary-starting/switching", .what = "its images to become a replica",
     .disks = "raw", .bring = switch_for_copy, .let = let_alpha_disks, .state = FSM_S_STARTING,
     .also = is_switching, .told = {"disks.order=become-replica"}, DISK_LIMIT,
     .then = FSM_S_COLO, .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, QUIT}},
};
/* clang-format on */

const WaitTable waits_moves = {rows, G_N_ELEMENTS(rows)};
