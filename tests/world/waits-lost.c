/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of waits: the link is lost, and it is to be found out who continues. */
#include "tests/world/waits.h"

#include "colo/node/uplinks-watch.h"
#include "vm/vm_internal.h"

static void cut(void)
{
    world.cut[0] = world.cut[1] = TRUE;
    world_link_look();
}

static void mend_way(void)
{
    world.cut[0] = world.cut[1] = FALSE;
    world_link_look();
}

/* ---- The arbiter ---- */

static void mend_alpha(void)
{
    waits_mend_arbiter(ALPHA);
}

static void mend_beta(void)
{
    waits_mend_arbiter(BETA);
}

static void mount_alpha(void)
{
    world_mount(ALPHA, TRUE);
}

static void mount_beta(void)
{
    world_mount(BETA, TRUE);
}

static void lose_and_ask(void)
{
    waits_pair();
    waits_hang_arbiter(ALPHA);
    waits_hang_arbiter(BETA);
    cut();
}

static void lose_without_arbiter(void)
{
    waits_pair();
    world_mount(ALPHA, FALSE);
    world_mount(BETA, FALSE);
    cut();
}

static void lose_with_none(void)
{
    waits_pair();
    cut();
}

static void be_linked_again(void)
{
    lose_without_arbiter();
    waits_pass_ms(5000);
    mend_way();
}

/* ---- The other side first ---- */

static gboolean is_taken_over(void)
{
    return BETA->node->state == FSM_P_NONE;
}

static void be_without_carrier(void)
{
    waits_pair();
    ALPHA->carrier = FALSE;
    world_net_look();
    waits_pass_ms(200);
    cut();
    waits_await(is_taken_over, "the secondary is chosen");
}

static gboolean is_left(void)
{
    return claim_doing(BETA->node->claim) == CLAIM_LEFT;
}

static gint64 deferred_ms(const Config *config)
{
    (void)config;
    return UPLINKS_ASK_WAIT_MS;
}

/* The primary is well, and says that it goes on without it; then nothing more is heard of it. */
static void be_unfit(void)
{
    waits_pair();
    world.held_message = LINK_MSG_RECEIVED;
    waits_order(ALPHA, "checkpoint");
    waits_await(is_left, "the secondary is told that it is unfit");
    cut();
}

static gint64 left_ms(const Config *config)
{
    (void)config;
    return 10000;
}

/* ---- Denied ---- */

static gboolean is_frozen(void)
{
    return ALPHA->node->state == FSM_P_FROZEN;
}

/* The secondary continues where the primary can't ask; then the primary is told. */
static void be_frozen(void)
{
    waits_pair();
    waits_hang_arbiter(ALPHA);
    cut();
    waits_await(is_taken_over, "the secondary continues");
    waits_mend_arbiter(ALPHA);
    waits_await(is_frozen, "the primary is denied");
    waits_pass_ms(1000);
}

static void be_frozen_alone(void)
{
    be_frozen();
    world_die(BETA, FALSE);
    mend_way();
}

static void start_beta(void)
{
    world_start(BETA, "auto");
}

/* ---- A takeover ---- */

static void load_in_vain(void)
{
    waits_pair();
    waits_hold_qemu(BETA, VM_OP_LOAD);
    world_die(ALPHA, FALSE);
}

static void run_in_vain(void)
{
    waits_pair();
    waits_hold_qemu(BETA, VM_OP_RESUME);
    world_die(ALPHA, FALSE);
}

static void note_in_vain(void)
{
    waits_pair();
    BETA->notes_hang = TRUE;
    world_die(ALPHA, FALSE);
}

static void let_notes(void)
{
    BETA->notes_hang = FALSE;
}

static gboolean is_noting(void)
{
    return claim_noting(BETA->node->claim) == CLAIM_NOTE_REMOVING;
}

static gint64 note_ms(const Config *config)
{
    (void)config;
    return 1000;
}

static void refuse_to_run(void)
{
    waits_pair();
    BETA->vm->refuse[VM_OP_RESUME] = G_MAXUINT;
    world_die(ALPHA, FALSE);
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

static void take_disks_in_vain(void)
{
    waits_pair();
    BETA->disk_holds = "takeover";
    world_die(ALPHA, FALSE);
}

static gboolean is_ordered(void)
{
    return g_strcmp0(disks_order_name(BETA->node->disks), "takeover") == 0;
}

static void let_disks(void)
{
    world_disk_let(BETA);
}

static void disks_die(void)
{
    world_disk_kill(BETA);
}

/* ---- ---- */

#define QUIT                                                                                       \
    {                                                                                              \
        WAIT_COMMAND, FSM_COMPLETED, "quit"                                                        \
    }
#define NOBODY_ELSE "nobody else may decide; it asks every second"
#define A_PERSON    "without an arbiter an administrator decides"

/* clang-format off */
static const Wait rows[] = {
    {.name = "paused/asked", .what = "an answer of the arbiter", .bring = lose_and_ask,
     .let = mend_alpha, .state = FSM_P_PAUSED, .claim = CLAIM_ASKED,
     .told = {"waiting.for=is being asked"}, .limit = "`arbiter.timeout`: asks again, and looks for its peer",
     .limit_ms = waits_arbiter_ms, .then = FSM_P_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_COMMAND, FSM_COMPLETED, "quit"},
              {WAIT_PEER_DIES, FSM_P_PAUSED, NULL}}},
    {.name = "paused/undecided", .what = "the arbiter, which can't be asked",
     .bring = lose_without_arbiter, .let = mount_alpha, .state = FSM_P_PAUSED,
     .claim = CLAIM_UNDECIDED, .told = {"waiting.for=can't be asked"}, .why = NOBODY_ELSE,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover force"}, QUIT,
              {WAIT_PEER_DIES, FSM_P_PAUSED, NULL}}},
    {.name = "paused/deferred", .what = "the secondary to be chosen: this host has no carrier",
     .bring = be_without_carrier, .state = FSM_P_PAUSED, .claim = CLAIM_DEFERRED,
     .told = {"waiting.for=a decision"}, .limit = "3 s", .limit_ms = deferred_ms,
     .then = FSM_P_FROZEN,
     .ends = {{WAIT_COMMAND, FSM_P_PAUSED, "failover"}, QUIT,
              {WAIT_PEER_DIES, FSM_P_FROZEN, NULL}}},
    {.name = "paused/manual", .what = "an administrator: there is no arbiter", .arbiter = "none",
     .bring = lose_with_none, .let = mend_way, .state = FSM_P_PAUSED, .claim = CLAIM_MANUAL,
     .told = {"waiting.for=there is no arbiter"}, .why = A_PERSON,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover"}, QUIT,
              {WAIT_PEER_DIES, FSM_P_PAUSED, NULL}}},
    {.name = "recover", .what = "the arbiter, which can't be asked; the secondary is back",
     .bring = be_linked_again, .let = mount_alpha, .state = FSM_P_RECOVER, .claim = CLAIM_AGAIN,
     .told = {"waiting.for=is back"}, .why = NOBODY_ELSE,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_COMMAND, FSM_P_SETUP, "failover force"}, QUIT,
              {WAIT_COMMAND, FSM_P_PAUSED, "pause"}, {WAIT_PEER_TOLD, FSM_P_PAUSED, "pause"},
              {WAIT_PEER_DIES, FSM_P_PAUSED, NULL}, {WAIT_PEER_VANISHES, FSM_P_PAUSED, NULL}}},
    {.name = "frozen", .what = "the other node to run the VM", .bring = be_frozen,
     .let = mend_way, .state = FSM_P_FROZEN, .told = {"waiting.for=to run the VM"},
     .why = "the VM is the other node's",
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, QUIT, {WAIT_PEER_DIES, FSM_P_FROZEN, NULL}}},
    {.name = "frozen/alone", .what = "the other node, which is off", .bring = be_frozen_alone,
     .let = start_beta, .state = FSM_P_FROZEN, .told = {"waiting.for=to run the VM"},
     .why = "clients may have received its output",
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover force"}, QUIT,
              {WAIT_PEER_DIES, FSM_P_FROZEN, NULL}}},
    {.name = "secondary-paused/asked", .what = "an answer of the arbiter", .who = 1,
     .bring = lose_and_ask, .let = mend_beta, .state = FSM_S_PAUSED, .claim = CLAIM_ASKED,
     .told = {"waiting.for=is being asked"}, .limit = "`arbiter.timeout`: asks again, and looks for its peer",
     .limit_ms = waits_arbiter_ms, .then = FSM_S_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT, {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
    {.name = "secondary-paused/undecided", .what = "the arbiter, which can't be asked", .who = 1,
     .bring = lose_without_arbiter, .let = mount_beta, .state = FSM_S_PAUSED,
     .claim = CLAIM_UNDECIDED, .told = {"waiting.for=can't be asked"}, .why = NOBODY_ELSE,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover force"}, QUIT,
              {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
    {.name = "secondary-paused/left", .what = "the primary to continue: this node is unfit",
     .who = 1, .bring = be_unfit, .let = mend_way, .state = FSM_S_PAUSED, .claim = CLAIM_LEFT,
     .told = {"waiting.for=a decision"}, .limit = "10 s, and then it asks", .limit_ms = left_ms,
     .then = FSM_S_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_S_ACTIVE, NULL}, {WAIT_COMMAND, FSM_S_PAUSED, "failover"}, QUIT,
              {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
    {.name = "secondary-paused/manual", .what = "an administrator: there is no arbiter",
     .arbiter = "none", .who = 1, .bring = lose_with_none, .let = mend_way,
     .state = FSM_S_PAUSED, .claim = CLAIM_MANUAL, .told = {"waiting.for=there is no arbiter"},
     .why = A_PERSON,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover"}, QUIT,
              {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
    {.name = "secondary-recover", .what = "the primary's word: it is back, and asks the arbiter",
     .who = 1, .bring = be_linked_again, .let = mount_alpha, .state = FSM_S_RECOVER,
     .told = {"waiting.for=is back"}, .why = NOBODY_ELSE,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_COMMAND, FSM_P_NONE, "failover force"}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_TOLD, FSM_S_PAUSED, "pause"},
              {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}, {WAIT_PEER_VANISHES, FSM_S_PAUSED, NULL}}},
    {.name = "secondary-device/loading", .what = "QEMU to load the last checkpoint", .who = 1,
     .bring = load_in_vain, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_DEVICE,
     .order = VM_OP_LOAD, .told = {"waiting.for=load", "vm.order=load"},
     .limit = "`qemu-timeout`: the VM is lost here", .limit_ms = waits_qemu_ms,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-device/resuming", .what = "QEMU to run the VM", .who = 1,
     .bring = run_in_vain, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_DEVICE,
     .order = VM_OP_RESUME, .told = {"waiting.for=resume", "vm.order=resume"},
     .limit = "`qemu-timeout`: the VM is lost here", .limit_ms = waits_qemu_ms,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-device/note", .what = "its own storage, to know that the VM runs here, which has no disks",
     .who = 1, .bring = note_in_vain, .let = let_notes, .state = FSM_S_DEVICE, .also = is_noting,
     .told = {"waiting.for=to continue the VM ('unrun' in state-dir to be removed)"}, .limit = "1 s: it is heard all the same",
     .limit_ms = note_ms, .then = FSM_P_NONE,
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, QUIT, {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
    {.name = "secondary-device/refused", .what = "disks, or QEMU, that refuse to run the VM",
     .who = 1, .bring = refuse_to_run, .let = let_beta_run, .fail = waits_beta_dies,
     .state = FSM_S_DEVICE, .also = is_refused, .told = {"waiting.for=tried again every second"},
     .why = "it may be the only VM: it is tried every second",
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
    {.name = "secondary-device/disks", .what = "the images to be this node's", .disks = "raw",
     .who = 1, .bring = take_disks_in_vain, .let = let_disks, .fail = disks_die,
     .state = FSM_S_DEVICE, .also = is_ordered, .told = {"waiting.for=takeover", "disks.order=takeover"},
     .why = "it may be the only VM: storage may take its time",
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_PEER_DIES, FSM_S_DEVICE, NULL}}},
};
/* clang-format on */

const WaitTable waits_lost = {rows, G_N_ELEMENTS(rows)};
