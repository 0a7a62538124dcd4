/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of waits: a node that starts, is alone, or takes a secondary. */
#include "tests/world/waits.h"

#include "colo/node/uplinks-watch.h"
#include "vm/vm_internal.h"

/* ---- A node that was half of a pair, and starts again ---- */

static void end_both(void)
{
    waits_pair();
    world_die(ALPHA, FALSE);
    world_die(BETA, FALSE);
}

static void mend_alpha(void)
{
    waits_mend_arbiter(ALPHA);
}

static void mount_alpha(void)
{
    world_mount(ALPHA, TRUE);
}

static void mount_beta(void)
{
    world_mount(BETA, TRUE);
}

static void find_no_arbiter(void)
{
    end_both();
    world_mount(ALPHA, FALSE);
    world_start(ALPHA, "auto");
}

static void ask_in_vain(void)
{
    end_both();
    world_start(ALPHA, "auto");
    while (claim_starting(ALPHA->node->claim) == CLAIM_START_IDLE)
        waits_pass_ms(1);
    waits_hang_arbiter(ALPHA);
}

static void ask_again(void)
{
    end_both();
    world_start(ALPHA, "auto");
    while (claim_starting(ALPHA->node->claim) == CLAIM_START_IDLE)
        waits_pass_ms(1);
    world_mount(ALPHA, FALSE);
}

static gboolean is_there_no_arbiter(void)
{
    return claim_trouble(ALPHA->node->claim) != NULL;
}

static void let_secondary_ask(void)
{
    end_both();
    world_start(ALPHA, "auto");
}

static gint64 deferred_ms(const Config *config)
{
    return 2 * (gint64)config->heartbeat_timeout_ms + UPLINKS_ASK_WAIT_MS;
}

static void secondary_finds_no_arbiter(void)
{
    waits_pair();
    world_die(BETA, FALSE);
    world_mount(BETA, FALSE);
    world_start(BETA, "secondary");
}

static gboolean has_not_begun(void)
{
    return !claim_has_begun(BETA->node->claim) && claim_trouble(BETA->node->claim);
}

/* ---- QEMU and disks that don't start ---- */

static void start_alpha(void)
{
    waits_hold_qemu(ALPHA, VM_OP_START);
    world_start(ALPHA, "primary");
}

static void start_beta(void)
{
    waits_hold_qemu(BETA, VM_OP_START);
    world_start(BETA, "secondary");
}

static void start_disks(void)
{
    ALPHA->disk_holds = "start";
    world_start(ALPHA, "primary");
}

static void alpha_disks_start(void)
{
    world_disk_let(ALPHA);
}

static void alpha_disks_die(void)
{
    world_disk_kill(ALPHA);
}

/* ---- Alone ---- */

static void be_primary(void)
{
    world_start(ALPHA, "primary");
}

static void be_secondary(void)
{
    world_start(BETA, "secondary");
}

static void comes_beta(void)
{
    world_start(BETA, "secondary");
}

static void comes_alpha(void)
{
    world_start(ALPHA, "primary");
}

/* Its decision is another's; the other was started without its disks, and has given the VM back. */
static void wait_for_vm(void)
{
    waits_pair();
    world_die(ALPHA, FALSE);
    while (BETA->node->state != FSM_P_NONE)
        waits_pass_ms(1);
    world_die(BETA, FALSE);
    world_start(ALPHA, "auto");
}

/* The primary takes nobody, for its QEMU is being started: a secondary that was told to dial asks on. */
static void dial_in_vain(void)
{
    start_alpha();
    ALPHA->config->qemu_timeout_ms = 60000;
    world_start(BETA, "secondary");
    while (BETA->node->state != FSM_S_NONE)
        waits_pass_ms(1);
    waits_order(BETA, "recover");
}

static gboolean is_recovering(void)
{
    return seek_recovering(BETA->node->seek) != NULL;
}

static gint64 recover_ms(const Config *config)
{
    return (gint64)config->recover_timeout_ms;
}

/* ---- Two that are linked ---- */

static void hold_message(guint type)
{
    world_start(ALPHA, "primary");
    world.held_message = type;
    world_start(BETA, "secondary");
}

static void hold_blank(void)
{
    hold_message(LINK_MSG_BLANK);
}

static void hold_runs(void)
{
    hold_message(LINK_MSG_RUNS);
}

static void hold_session(void)
{
    world_start(ALPHA, "primary");
    world_start(BETA, "secondary");
    waits_hold_qemu(BETA, VM_OP_INACTIVATE);
}

static void hold_ready(void)
{
    hold_message(LINK_MSG_READY);
}

static gboolean alpha_awaits_ready(void)
{
    return primary_proof(ALPHA->node->primary) == PROOF_LOAD;
}

static void hold_load(void)
{
    waits_hold_qemu(BETA, VM_OP_LOAD);
    world_start(ALPHA, "primary");
    world_start(BETA, "secondary");
}

static gboolean is_primary_alone(void)
{
    return ALPHA->node->state == FSM_P_NONE;
}

static void hold_record(void)
{
    world_start(ALPHA, "primary");
    ALPHA->config->arbiter_check_ms = 500;
    waits_await(is_primary_alone, "the primary runs");
    waits_pass_ms(500);
    world_mount(ALPHA, FALSE);
    world_start(BETA, "secondary");
    waits_pass_ms(4000);
}

static gboolean is_not_recorded(void)
{
    return primary_proof(ALPHA->node->primary) == PROOF_DUE &&
           claim_recording(ALPHA->node->claim) == CLAIM_RECORD_WANTED;
}

/* What the primary gives a secondary that nothing waits for: answer.c. */
static gint64 joining_ms(const Config *config)
{
    return 3 * (gint64)config->qemu_timeout_ms + (gint64)config->heartbeat_timeout_ms;
}

/* ---- ---- */

#define NOTHING_IS_STARTED "nothing may be started before"
#define LOOKS_ON           "it looks, and nothing waits for it"
#define QUIT                                                                                       \
    {                                                                                              \
        WAIT_COMMAND, FSM_COMPLETED, "quit"                                                        \
    }

/* clang-format off */
static const Wait rows[] = {
    {.name = "asking/no-arbiter", .what = "the arbiter's storage, to be there",
     .bring = find_no_arbiter, .let = mount_alpha, .state = FSM_P_ASKING,
     .also = is_there_no_arbiter,
     .told = {"waiting.for=the arbiter", "arbiter.trouble=storage"}, .why = NOTHING_IS_STARTED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT}},
    {.name = "asking/hangs", .what = "an answer of the arbiter",
     .bring = ask_in_vain, .let = mend_alpha, .state = FSM_P_ASKING, .start = CLAIM_START_ASKED,
     .told = {"waiting.for=the arbiter"}, .why = NOTHING_IS_STARTED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT}},
    {.name = "asking/again", .what = "the arbiter, which has not answered",
     .bring = ask_again, .let = mount_alpha, .state = FSM_P_ASKING,
     .start = CLAIM_START_AGAIN,
     .told = {"waiting.for=the arbiter"}, .why = NOTHING_IS_STARTED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT}},
    {.name = "asking/deferred", .what = "its secondary, which may be about to take over",
     .bring = let_secondary_ask, .state = FSM_P_ASKING, .start = CLAIM_START_DEFERRED,
     .told = {"waiting.for=the arbiter"}, .limit = "2 `heartbeat-timeout` + 3 s",
     .limit_ms = deferred_ms, .then = FSM_P_NONE,
     .ends = {QUIT}},
    {.name = "starting/qemu", .what = "QEMU to start",
     .bring = start_alpha, .let = waits_alpha_answers, .fail = waits_alpha_dies,
     .state = FSM_P_STARTING, .order = VM_OP_START,
     .told = {"waiting.for=QEMU", "vm.order=start"}, .limit = "`qemu-timeout`, for each order",
     .limit_ms = waits_qemu_ms, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT}},
    {.name = "starting/disks", .what = "the disk server to start",
     .disks = "raw", .bring = start_disks, .let = alpha_disks_start, .fail = alpha_disks_die,
     .state = FSM_P_STARTING, .told = {"waiting.for=disks"},
     .why = "images are opened, by storage that may be slow",
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT}},
    {.name = "secondary-starting/qemu", .what = "QEMU to start", .who = 1,
     .bring = start_beta, .let = waits_beta_answers, .fail = waits_beta_dies,
     .state = FSM_S_STARTING, .order = VM_OP_START,
     .told = {"waiting.for=QEMU", "vm.order=start"}, .limit = "`qemu-timeout`, for each order",
     .limit_ms = waits_qemu_ms, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT}},
    {.name = "secondary-starting/no-arbiter", .what = "the arbiter's storage, to be there",
     .who = 1, .bring = secondary_finds_no_arbiter, .let = mount_beta, .state = FSM_S_STARTING,
     .also = has_not_begun, .told = {"waiting.for=the arbiter"}, .why = NOTHING_IS_STARTED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, QUIT}},
    {.name = "none", .what = "a secondary",
     .bring = be_primary, .let = comes_beta, .state = FSM_P_NONE,
     .told = {"waiting.for=a secondary"}, .why = LOOKS_ON,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, QUIT}},
    {.name = "secondary-none", .what = "a primary", .who = 1,
     .bring = be_secondary, .let = comes_alpha, .state = FSM_S_NONE,
     .told = {"waiting.for=a primary"}, .why = LOOKS_ON,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, QUIT}},
    {.name = "secondary-none/recover", .what = "the link that `recover` has ordered", .who = 1,
     .bring = dial_in_vain, .let = waits_alpha_answers, .state = FSM_S_NONE, .also = is_recovering,
     .told = {"peer.recovering=10.0.0.1"}, .limit = "`recover-timeout`",
     .limit_ms = recover_ms, .then = FSM_S_NONE,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_COMMAND, FSM_S_NONE, "pause"}, QUIT}},
    {.name = "secondary-none/owner", .what = "the node that owns the VM", .who = 0,
     .bring = wait_for_vm, .let = comes_beta, .state = FSM_S_NONE, .start = CLAIM_START_WAITS,
     .told = {"waiting.for=a primary"}, .why = LOOKS_ON, .ends = {QUIT}},
    {.name = "setup", .what = "its secondary to make itself ready",
     .bring = hold_blank, .let = world_link_let, .state = FSM_P_SETUP,
     .told = {"waiting.for=to make itself ready"}, .limit = "3 `qemu-timeout` + `heartbeat-timeout`, and `disk-timeout` if there are disks",
     .limit_ms = joining_ms, .then = FSM_P_NONE,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "pause"},
              {WAIT_PEER_TOLD, FSM_P_NONE, "pause"}, QUIT, {WAIT_PEER_DIES, FSM_P_NONE, NULL},
              {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "secondary-setup", .what = "the primary's word that it runs the VM", .who = 1,
     .bring = hold_runs, .let = world_link_let, .state = FSM_S_SETUP,
     .told = {"waiting.for=to run the VM"}, .why = "the primary may wait for the arbiter",
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_COMMAND, FSM_S_NONE, "pause"},
              {WAIT_PEER_TOLD, FSM_S_NONE, "pause"}, QUIT, {WAIT_PEER_DIES, FSM_S_NONE, NULL},
              {WAIT_PEER_VANISHES, FSM_S_NONE, NULL}}},
    {.name = "secondary-active/inactivating", .what = "QEMU to give up its disks", .disks = "qcow2", .who = 1,
     .bring = hold_session, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_ACTIVE,
     .order = VM_OP_INACTIVATE, .told = {"vm.order=inactivate"},
     .limit = "`qemu-timeout` + `disk-timeout`: the VM is lost here", .limit_ms = waits_qemu_disks_ms,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_NONE, "pause"}, {WAIT_PEER_TOLD, FSM_S_NONE, "pause"},
              {WAIT_PEER_DIES, FSM_S_NONE, NULL}, {WAIT_PEER_VANISHES, FSM_S_NONE, NULL}}},
    {.name = "active/ready", .what = "its secondary to show that it can load the VM",
     .bring = hold_ready, .let = world_link_let, .state = FSM_P_ACTIVE, .also = alpha_awaits_ready,
     .told = {"waiting.for=can load the VM"}, .limit = "3 `qemu-timeout` + `heartbeat-timeout`, and `disk-timeout` if there are disks",
     .limit_ms = joining_ms, .then = FSM_P_NONE,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "pause"},
              {WAIT_PEER_TOLD, FSM_P_NONE, "pause"}, QUIT, {WAIT_PEER_DIES, FSM_P_NONE, NULL},
              {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "active/record", .what = "the arbiter's storage, to have the session on record",
     .bring = hold_record, .let = mount_alpha, .state = FSM_P_ACTIVE, .also = is_not_recorded,
     .told = {"waiting.for=the arbiter"}, .why = "the VM runs, unprotected",
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "pause"}, QUIT,
              {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "secondary-active/load", .what = "QEMU to load the VM, for the first time", .who = 1,
     .bring = hold_load, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_ACTIVE,
     .order = VM_OP_LOAD, .told = {"vm.order=load device state", "waiting.for=can load the VM"},
     .limit = "`qemu-timeout`", .limit_ms = waits_qemu_ms, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_PEER_TOLD, FSM_S_NONE, "quit"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
};
/* clang-format on */

const WaitTable waits_starting = {rows, G_N_ELEMENTS(rows)};
