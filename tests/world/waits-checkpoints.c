/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of waits: a protected pair, and its checkpoints. */
#include "tests/world/waits.h"

#include "vm/vm_internal.h"

/* ---- QEMU ---- */

static void checkpoint(void)
{
    waits_order(ALPHA, "checkpoint");
}

static void hold(WorldHost *host, VmOp op)
{
    waits_pair();
    waits_hold_qemu(host, op);
    checkpoint();
}

static void hold_pause(void)
{
    hold(ALPHA, VM_OP_PAUSE);
}

static void hold_save(void)
{
    hold(ALPHA, VM_OP_SAVE);
}

static void hold_resume(void)
{
    hold(ALPHA, VM_OP_RESUME);
}

static gboolean runs_there(void)
{
    return copy_runs(BETA->node->copy);
}

static void hold_copy_pause(void)
{
    waits_pair();
    waits_await(runs_there, "the copy runs");
    waits_hold_qemu(BETA, VM_OP_PAUSE);
    checkpoint();
}

/* For a checkpoint; QEMU is also asked from time to time. */
static gboolean is_preparing(void)
{
    return primary_phase(ALPHA->node->primary) == CYCLE_PREPARING;
}

static void hold_copy_load(void)
{
    hold(BETA, VM_OP_LOAD);
}

static void hold_copy_resume(void)
{
    hold(BETA, VM_OP_RESUME);
}

static void hold_copy_disks(void)
{
    hold(BETA, VM_OP_INACTIVATE);
}

/* Until its first checkpoint is taken, it may not run. */
static void refuse_resume(void)
{
    waits_pair();
    ALPHA->vm->refuse[VM_OP_RESUME] = G_MAXUINT;
    checkpoint();
}

static void refuse_resume_alone(void)
{
    waits_pair();
    ALPHA->config->resume_patience_ms = BETA->config->resume_patience_ms = 0;
    ALPHA->vm->refuse[VM_OP_RESUME] = G_MAXUINT;
    checkpoint();
    waits_pass_ms(500);
    world_die(BETA, FALSE);
}

static void let_resume(void)
{
    ALPHA->vm->refuse[VM_OP_RESUME] = 0;
    waits_order(ALPHA, "cont");
}

static gboolean is_refused(void)
{
    return resume_refusal(ALPHA->node->resume) != NULL;
}

static gint64 patience_ms(const Config *config)
{
    return (gint64)config->resume_patience_ms;
}

/* ---- Disks ---- */

static void hold_disks(WorldHost *host, const char *order)
{
    waits_pair();
    host->disk_holds = order;
    checkpoint();
}

static void hold_sync(void)
{
    hold_disks(ALPHA, "sync");
}

static void hold_mark(void)
{
    hold_disks(ALPHA, "mark");
}

static void hold_apply(void)
{
    hold_disks(BETA, "apply");
}

static void hold_attach(void)
{
    BETA->disk_holds = "attach";
    world_start(ALPHA, "primary");
    world_start(BETA, "secondary");
}

static void let_alpha_disks(void)
{
    world_disk_let(ALPHA);
}

static void let_beta_disks(void)
{
    world_disk_let(BETA);
}

static void alpha_disks_die(void)
{
    world_disk_kill(ALPHA);
}

static void beta_disks_die(void)
{
    world_disk_kill(BETA);
}

static gboolean is_applying(void)
{
    return disks_are_applying(BETA->node->disks);
}

static gboolean is_attaching(void)
{
    const char *order = disks_order_name(BETA->node->disks);
    return g_strcmp0(order, "attach") == 0;
}

/* ---- Messages ---- */

static void hold_message(guint type)
{
    waits_pair();
    world.held_message = type;
    checkpoint();
}

static void hold_dirty(void)
{
    hold_message(LINK_MSG_DIRTY);
}

static void hold_received(void)
{
    hold_message(LINK_MSG_RECEIVED);
}

static void freeze_beta(void)
{
    waits_pair();
    BETA->frozen_until_us = G_MAXINT64;
    world_link_look();
}

static void thaw_beta(void)
{
    BETA->frozen_until_us = 0;
    world_link_look();
}

static gint64 heartbeat_ms(const Config *config)
{
    return (gint64)config->heartbeat_timeout_ms;
}

/* ---- A guest that is stopped ---- */

static void stop_guest(void)
{
    waits_pair();
    waits_order(ALPHA, "stop");
    waits_pass_ms(1000);
}

static void let_guest(void)
{
    waits_order(ALPHA, "cont");
    waits_pass_ms(50);
}

static gboolean is_stopped(void)
{
    return resume_is_stopped(ALPHA->node->resume);
}

static gboolean on_io_error(gpointer data)
{
    (void)data;
    vm_emit(&ALPHA->vm->vm, VM_EVENT_STOPPED, "io-error");
    return G_SOURCE_REMOVE;
}

static void stop_by_error(void)
{
    waits_pair();
    world_later(ALPHA, 0, on_io_error, NULL);
}

static gboolean is_stopped_by_error(void)
{
    return (resume_stops(ALPHA->node->resume) & STOPS(IO_ERROR)) != 0;
}

static gint64 io_retry_ms(const Config *config)
{
    return (gint64)config->io_retry_ms;
}

/* ---- The end ---- */

static void end_with_disks(void)
{
    waits_pair();
    world.held_message = LINK_MSG_FINISHED;
    waits_order(ALPHA, "quit");
    waits_pass_ms(500);
}

static gboolean is_ending(void)
{
    return final_has_begun(ALPHA->node->final);
}

static gint64 final_ms(const Config *config)
{
    (void)config;
    return 10000 - 500;
}

static gboolean is_alone(void)
{
    return ALPHA->node->state == FSM_P_NONE;
}

static void end_unrecorded(void)
{
    world_start(ALPHA, "primary");
    waits_await(is_alone, "the primary runs");
    waits_hang_arbiter(ALPHA);
    waits_order(ALPHA, "quit");
}

static void mend_alpha(void)
{
    waits_mend_arbiter(ALPHA);
}

static gboolean has_not_ended(void)
{
    return !ALPHA->ended;
}

static gint64 disown_ms(const Config *config)
{
    (void)config;
    return 2000;
}

/* ---- ---- */

#define QEMU_LIMIT .limit = "`qemu-timeout`: the VM is lost here", .limit_ms = waits_qemu_ms
#define DISK_LIMIT .limit = "`disk-timeout`", .limit_ms = waits_disk_ms
#define ANSWER_LIMIT                                                                               \
    .limit = "`answer-timeout`: the secondary is unfit", .limit_ms = waits_answer_ms
#define QUIT                                                                                       \
    {                                                                                              \
        WAIT_COMMAND, FSM_COMPLETED, "quit"                                                        \
    }
#define QUIT_TWICE                                                                                 \
    {                                                                                              \
        WAIT_COMMAND, FSM_COMPLETED, "quit;quit"                                                   \
    }
#define PAUSE                                                                                      \
    {                                                                                              \
        WAIT_COMMAND, FSM_P_NONE, "pause"                                                          \
    }

/* clang-format off */
static const Wait rows[] = {
    {.name = "colo/pausing", .what = "QEMU to pause the VM", .bring = hold_pause,
     .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_COLO, .order = VM_OP_PAUSE,
     .cycle = CYCLE_PAUSING, .told = {"vm.order=pause", "checkpoints.waits-for=QEMU"},
     QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_P_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/saving", .what = "QEMU to save the state of the VM's devices",
     .bring = hold_save, .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_COLO,
     .order = VM_OP_SAVE, .cycle = CYCLE_SAVING_MARKED,
     .told = {"vm.order=save", "checkpoints.waits-for=QEMU"}, QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_P_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/resuming", .what = "QEMU to resume the VM", .bring = hold_resume,
     .let = waits_alpha_answers, .fail = waits_alpha_dies, .state = FSM_P_COLO, .order = VM_OP_RESUME,
     .told = {"vm.order=resume"}, QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_P_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/refused", .what = "disks, or QEMU, that refuse to resume the VM",
     .bring = refuse_resume, .let = let_resume, .fail = waits_alpha_dies, .state = FSM_P_COLO,
     .also = is_refused, .told = {"vm.state=inactive", "last-error.text=can't be resumed"},
     .limit = "`resume-patience`: the secondary takes over", .limit_ms = patience_ms,
     .then = FSM_P_HANDED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_P_HANDED, "failover"}, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "none/refused", .what = "disks, or QEMU, that refuse to resume the VM",
     .bring = refuse_resume_alone, .let = let_resume, .fail = waits_alpha_dies, .state = FSM_P_NONE,
     .also = is_refused, .cycle = CYCLE_RESUMING, .told = {"vm.state=inactive", "waiting.for=can't be resumed"},
     .why = "it may be the only VM: it is tried every second",
     .ends = {{WAIT_ANSWER, FSM_P_NONE, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT}},
    {.name = "colo/syncing", .what = "the images to be synced", .disks = "raw",
     .bring = hold_sync, .let = let_alpha_disks, .fail = alpha_disks_die, .state = FSM_P_COLO,
     .cycle = CYCLE_SYNCING, .told = {"disks.order=sync", "checkpoints.waits-for=disks"},
     DISK_LIMIT, .then = FSM_P_COLO,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT_TWICE,
              PAUSE, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/marking", .what = "the disks to end the epoch", .disks = "raw",
     .bring = hold_mark, .let = let_alpha_disks, .fail = alpha_disks_die, .state = FSM_P_COLO,
     .cycle = CYCLE_MARKING, .told = {"disks.order=mark", "checkpoints.waits-for=disks"},
     DISK_LIMIT, .then = FSM_P_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT_TWICE,
              PAUSE, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/preparing", .what = "the secondary's VM to be paused", .mode = "colo",
     .bring = hold_dirty, .let = world_link_let, .state = FSM_P_COLO, .cycle = CYCLE_PREPARING,
     .told = {"checkpoints.waits-for=secondary"}, ANSWER_LIMIT, .then = FSM_P_NONE,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, QUIT, PAUSE, {WAIT_PEER_TOLD, FSM_P_NONE, "pause"},
              {WAIT_PEER_DIES, FSM_P_NONE, NULL}, {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "colo/sent", .what = "the secondary to have all of a checkpoint",
     .bring = hold_received, .let = world_link_let, .state = FSM_P_COLO, .cycle = CYCLE_SENT,
     .told = {"checkpoints.waits-for=secondary"}, ANSWER_LIMIT, .then = FSM_P_NONE,
     .ends = {{WAIT_ANSWER, FSM_P_COLO, NULL}, QUIT, PAUSE, {WAIT_PEER_TOLD, FSM_P_NONE, "pause"},
              {WAIT_PEER_DIES, FSM_P_NONE, NULL}, {WAIT_PEER_VANISHES, FSM_P_NONE, NULL}}},
    {.name = "colo/silence", .what = "a sign of life of the peer", .bring = freeze_beta,
     .let = thaw_beta, .state = FSM_P_COLO, .told = {"peer.connected=true"},
     .limit = "`heartbeat-timeout`", .limit_ms = heartbeat_ms, .then = FSM_P_PAUSED,
     .ends = {QUIT, PAUSE, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/stopped", .what = "`cont`, of a guest that an administrator has stopped",
     .bring = stop_guest, .let = let_guest, .state = FSM_P_COLO, .also = is_stopped,
     .told = {"vm.stopped-by=admin", "vm.state=stopped"}, .why = "an administrator has stopped it",
     .ends = {{WAIT_COMMAND, FSM_P_COLO, "cont"}, QUIT, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/io-error", .what = "a disk, of a guest that its error has stopped",
     .disks = "raw", .bring = stop_by_error, .state = FSM_P_COLO, .also = is_stopped_by_error,
     .told = {"vm.stopped-by=io-error"}, .limit = "`io-retry`: it is continued",
     .limit_ms = io_retry_ms, .then = FSM_P_COLO,
     .ends = {{WAIT_COMMAND, FSM_P_COLO, "cont"}, QUIT_TWICE, {WAIT_PEER_DIES, FSM_P_NONE, NULL}}},
    {.name = "colo/ending", .what = "the secondary to have the last writes, before the end",
     .disks = "raw", .bring = end_with_disks, .let = world_link_let, .state = FSM_P_COLO,
     .also = is_ending, .told = {"waiting.for=last writes"}, .limit = "10 s",
     .limit_ms = final_ms, .then = FSM_COMPLETED,
     .ends = {{WAIT_ANSWER, FSM_COMPLETED, NULL}, QUIT, {WAIT_PEER_DIES, FSM_COMPLETED, NULL}}},
    {.name = "completed", .what = "the arbiter, to have it on record that the VM is nobody's",
     .bring = end_unrecorded, .let = mend_alpha, .state = FSM_COMPLETED, .also = has_not_ended,
     .told = {"waiting.for=the arbiter"}, .limit = "2 s", .limit_ms = disown_ms,
     .then = FSM_COMPLETED, .ends = {{WAIT_ANSWER, FSM_COMPLETED, NULL}}},
    {.name = "secondary-active/disks", .what = "its disk server to begin the session",
     .disks = "raw", .who = 1, .bring = hold_attach, .let = let_beta_disks, .fail = beta_disks_die,
     .state = FSM_S_ACTIVE, .also = is_attaching, .told = {"disks.order=attach"}, DISK_LIMIT,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_NONE, "pause"}, {WAIT_PEER_DIES, FSM_S_NONE, NULL}}},
    {.name = "secondary-colo/pausing", .what = "QEMU to pause its copy", .mode = "colo", .who = 1,
     .bring = hold_copy_pause, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_COLO,
     .order = VM_OP_PAUSE, .also = is_preparing, .told = {"vm.order=pause"}, 
     .limit = "`answer-timeout`, the primary's", .limit_ms = waits_answer_ms, .then = FSM_S_PAUSED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-colo/loading", .what = "QEMU to load a checkpoint", .mode = "colo",
     .who = 1, .bring = hold_copy_load, .let = waits_beta_answers, .fail = waits_beta_dies,
     .state = FSM_S_COLO, .order = VM_OP_LOAD, .told = {"vm.order=load"}, QEMU_LIMIT,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-colo/resuming", .what = "QEMU to run its copy", .mode = "colo", .who = 1,
     .bring = hold_copy_resume, .let = waits_beta_answers, .fail = waits_beta_dies, .state = FSM_S_COLO,
     .order = VM_OP_RESUME, .told = {"vm.order=resume"}, QEMU_LIMIT, .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-colo/inactivating", .what = "QEMU to give up its disks", .disks = "qcow2",
     .mode = "colo", .who = 1, .bring = hold_copy_disks, .let = waits_beta_answers, .fail = waits_beta_dies,
     .state = FSM_S_COLO, .order = VM_OP_INACTIVATE, .told = {"vm.order=inactivate"},
     .limit = "`qemu-timeout` + `disk-timeout`: the VM is lost here", .limit_ms = waits_qemu_disks_ms,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_FAILED, NULL}}},
    {.name = "secondary-colo/applying", .what = "its images to be made those of a checkpoint",
     .disks = "raw", .who = 1, .bring = hold_apply, .let = let_beta_disks, .fail = beta_disks_die,
     .state = FSM_S_COLO, .also = is_applying, .told = {"disks.order=apply"}, DISK_LIMIT,
     .then = FSM_FAILED,
     .ends = {{WAIT_ANSWER, FSM_S_COLO, NULL}, {WAIT_FAILURE, FSM_FAILED, NULL}, QUIT,
              {WAIT_COMMAND, FSM_S_PAUSED, "pause"}, {WAIT_PEER_DIES, FSM_S_PAUSED, NULL}}},
};
/* clang-format on */

const WaitTable waits_checkpoints = {rows, G_N_ELEMENTS(rows)};
