/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the primary's checkpoint cycle. cycle.h has its phases, events and actions; this carries the
 * actions out, and feeds what comes of them. primary_step() is the only one to change the phase.
 *
 * Syncing is for a VM with disks, so that the pause need not sync. Preparing: a secondary's VM that
 * runs is told to be paused, and the pages that it has written are added to the checkpoint
 * (told.h). A VM that waits needs none of this. Settling: input is deferred, and QEMU reads what
 * it has been given already (settle.h).
 */
#include "colo/node/node.h"
#include "colo/node/primary_internal.h"
#include "colo/node/resume.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/timer.h"

/*
 * QEMU has so long to read what it was given (settle.h). What it reads later its guest gets in the
 * next epoch, and the copy in this one: they differ. After the last checkpoint the guest gets it never.
 */
#define SETTLE_US      (5 * COLO_US_PER_MS)
#define SETTLE_LAST_US (100 * COLO_US_PER_MS)

/*
 * A guest that was loaded has answered by then (measured under TCG: 30 ms if nothing else runs on its core,
 * twice that beside a synchronisation).
 */
#define WARM_UP_US (50 * COLO_US_PER_MS)

/* When a pause is tried again that QEMU has refused. */
#define PAUSE_AGAIN_US (1000 * COLO_US_PER_MS)

PrimaryWorld primary_look(const Primary *primary)
{
    return primary->handler->look(primary->user_data);
}

/* ---- The way to the pause ---- */

/*
 * QEMU flushes the disks in each pause: now there is little left to flush. If the sync fails, the
 * flush fails too, and the guest is told. Of an image that QEMU can't write all to any more there is no
 * checkpoint (block/set.h, set_lacks_metadata()).
 */
void primary_synced(Primary *primary, const GError *error)
{
    if (g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_LACKS)) {
        primary_cannot_go_on(primary, CYCLE_EVENT_NOT_SYNCED, error);
        return;
    }
    if (error)
        primary->handler->trouble("the disks can't be synced", error, primary->user_data);
    primary_step(primary, CYCLE_EVENT_SYNCED);
}

static void sync_disks(Primary *primary)
{
    if (primary_look(primary).has_disks)
        primary->handler->sync(primary->cycle.epoch, primary->user_data);
    else
        primary_step(primary, CYCLE_EVENT_SYNCED);
}

/* A secondary's VM that runs has to be paused first. */
static void prepare(Primary *primary)
{
    if (primary_look(primary).peer_vm == PEER_VM_PAUSED) {
        primary_step(primary, CYCLE_EVENT_PREPARED);
        return;
    }
    primary->handler->send(&(Message){.type = LINK_MSG_PREPARE, .epoch = primary->cycle.epoch},
                           primary->user_data);
    colo_fault_point("primary-preparing");
}

gboolean primary_dirty(Primary *primary, const MessageDirty *dirty, GError **error)
{
    const Cycle *cycle = &primary->cycle;
    if (cycle->phase != CYCLE_PREPARING || dirty->epoch != cycle->epoch) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'dirty' that wasn't asked for");
        return FALSE;
    }
    if (!primary_add_pages(primary, "dirty", dirty->runs, dirty->n_runs, error))
        return FALSE;
    if (dirty->follow == 0)
        primary_step(primary, CYCLE_EVENT_PREPARED);
    return TRUE;
}

static gboolean is_delivered(gpointer user_data)
{
    const Primary *primary = user_data;
    return primary->handler->is_delivered(primary->user_data);
}

static void on_settled(gpointer user_data)
{
    primary_step(user_data, CYCLE_EVENT_SETTLED);
}

/* No more input is given to the guest until it runs again. */
static void settle(Primary *primary)
{
    /* After any other pause than that of an ordinary checkpoint QEMU's process may become the copy's. */
    gboolean runs_on = primary->cycle.phase == CYCLE_SETTLING && !primary->cycle.last;
    settle_begin(primary->settle, runs_on ? SETTLE_US : SETTLE_LAST_US);
}

/* ---- The pause ---- */

static void pause_is_over(Primary *primary)
{
    primary->cycle.refusal_told = FALSE;
    colo_fault_point("primary-paused");
    /* What the guest has sent until here belongs to the epoch that ends. */
    primary->handler->paused(primary->cycle.pause_started, primary->user_data);
    gboolean holds =
        primary->cycle.phase == CYCLE_PAUSING && primary->cycle.last && primary->plan == PLAN_HELD;
    primary_step(primary, holds ? CYCLE_EVENT_HELD : CYCLE_EVENT_PAUSED);
}

/*
 * QEMU refuses to pause the VM, which is well. A checkpoint needs the pause: there is none, and no
 * session. Or nobody needs it any more. Else it is tried again: meanwhile the VM runs as it did.
 */
static void pause_refused(Primary *primary, const GError *error)
{
    static const char what[] = "the VM can't be paused";
    Cycle *cycle = &primary->cycle;
    if (cycle->phase == CYCLE_STOPPING) {
        cycle->pause_refused = TRUE;
        colo_timer_set_us(primary->again_timer,
                          colo_time_add_us(colo_time_now(), PAUSE_AGAIN_US).us);
        if (!cycle->refusal_told)
            primary->handler->trouble(what, error, primary->user_data);
        cycle->refusal_told = TRUE;
        return;
    }
    if (cycle->phase == CYCLE_PAUSING)
        primary->handler->link_lost(what, error, primary->user_data);
    /* That may have been its end. */
    if (cycle->phase == CYCLE_PAUSING_CANCELLED)
        pause_is_over(primary);
}

static void on_paused(Vm *vm, const GError *error, gpointer user_data)
{
    Primary *primary = user_data;
    (void)vm;
    if (!error)
        pause_is_over(primary);
    else if (g_error_matches(error, VM_ERROR, VM_ERROR_QMP))
        pause_refused(primary, error);
    else
        primary->handler->lost("the VM can't be paused", error, primary->user_data);
}

static void pause_vm(Primary *primary)
{
    primary->cycle.pause_started = colo_time_now();
    primary->handler->pausing(primary->user_data);
    vm_pause(primary->vm, on_paused, primary);
}

static void pause_again(Primary *primary)
{
    if (!primary->cycle.pause_refused)
        return;
    primary->cycle.pause_refused = FALSE;
    if (primary->cycle.phase == CYCLE_STOPPING)
        pause_vm(primary);
    else
        pause_is_over(primary);
}

static gboolean on_again_timer(gpointer user_data)
{
    Primary *primary = user_data;
    colo_timer_set_us(primary->again_timer, -1);
    pause_again(primary);
    return G_SOURCE_CONTINUE;
}

/* Nobody needs the device state any more. */
static gboolean saves_for_nothing(const Primary *primary)
{
    CyclePhase phase = primary->cycle.phase;
    return phase == CYCLE_SAVING_CANCELLED || phase == CYCLE_SAVING_UNMARKED;
}

static void on_saved(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    static const char what[] = "the device state can't be saved";
    Primary *primary = user_data;
    (void)vm;
    if (g_error_matches(error, VM_ERROR, VM_ERROR_QMP)) {
        /* It can't be protected now (a device that QEMU won't save, say), but it is well. */
        if (!saves_for_nothing(primary))
            primary->handler->link_lost(what, error, primary->user_data);
        /* That may have been its end. */
        if (saves_for_nothing(primary))
            primary_step(primary, CYCLE_EVENT_NOT_SAVED);
        return;
    }
    if (error) {
        primary->handler->lost(what, error, primary->user_data);
        return;
    }
    colo_fault_point("primary-state-saved");
    primary->cycle.state = g_bytes_ref(state);
    gboolean gives_up = primary->cycle.gives_up && primary->cycle.phase == CYCLE_SAVING;
    if (gives_up)
        colo_fault_point("switchover-saved");
    primary_step(primary, gives_up ? CYCLE_EVENT_SAVED_LAST : CYCLE_EVENT_SAVED);
}

/*
 * The images are well, but for what QEMU could not write to them in this pause. The secondary has been told of the
 * checkpoint. It goes on from the one before all the same, as if we had died here.
 */
static void not_marked(Primary *primary, const GError *error)
{
    /* The secondary does not get to know it. It stands, too: if our VM runs again, it needs another one. */
    primary->cycle.stopped = primary->cycle.was_stopped;
    primary_want(primary, REASON_ADMIN);
    primary_cannot_go_on(primary, CYCLE_EVENT_NOT_MARKED, error);
}

void primary_marked(Primary *primary, const GError *error)
{
    if (g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_LACKS)) {
        not_marked(primary, error);
        return;
    }
    if (error) {
        primary->handler->stream_lost("the disks can't take part in a checkpoint", error,
                                      primary->user_data);
        return;
    }
    colo_fault_point("primary-disks-marked");
    /* It was for the epoch that has ended. */
    primary_want_no_more(primary, WANTED(REASON_DISK_LIMIT));
    primary_step(primary, CYCLE_EVENT_MARKED);
}

static void mark(Primary *primary)
{
    if (primary_look(primary).has_disks)
        primary->handler->mark(primary->cycle.epoch, primary->user_data);
    else
        primary_step(primary, CYCLE_EVENT_MARKED);
}

/* The device state and the disks' mark are made at the same time: but of the last checkpoint. */
static void save(Primary *primary)
{
    Cycle *cycle = &primary->cycle;
    cycle->was_stopped = cycle->stopped;
    cycle->stopped = primary_look(primary).is_stopped;
    cycle->compares = primary->handler->decide(cycle->epoch, cycle->last, primary->user_data);
    cycle->gives_up = cycle->last && primary_look(primary).has_disks;
    vm_save_device_state(primary->vm, on_saved, primary);
    if (!cycle->gives_up)
        mark(primary);
}

/* It may have become an ordinary one meanwhile. */
static void give_up_disks(Primary *primary)
{
    if (primary->cycle.last) {
        primary_gives_up_disks(primary);
        primary->handler->give_up_disks(primary->cycle.epoch, primary->user_data);
    } else {
        primary_step(primary, CYCLE_EVENT_NOT_GIVEN_UP);
    }
}

/* What can't be given up is taken back: it becomes an ordinary checkpoint, and the VM runs. */
void primary_given_up(Primary *primary, const GError *error)
{
    static const char what[] = "the disks can't be given up";
    if (!error) {
        colo_fault_point("switchover-inactive");
        primary_gave_up_disks(primary);
        primary_step(primary, CYCLE_EVENT_GIVEN_UP);
        return;
    }
    if (!resume_may_pass(error)) {
        primary->handler->lost(what, error, primary->user_data);
        return;
    }
    if (primary_look(primary).state == FSM_P_DEVICE)
        primary->handler->event(FSM_HAND_OVER_FAILED, primary->user_data);
    /* Not before: what was wrong is over when a pair is protected. */
    if (primary->cycle.phase == CYCLE_GIVING_UP)
        primary->handler->trouble(what, error, primary->user_data);
    primary_step(primary, CYCLE_EVENT_NOT_GIVEN_UP);
}

/* Everything that belongs to the checkpoint is there, but for RAM. */
static void copy(Primary *primary)
{
    Cycle *cycle = &primary->cycle;
    g_autoptr(GBytes) state = g_steal_pointer(&cycle->state);
    g_autoptr(GPtrArray) frames = NULL;
    g_autoptr(GBytes) attachment = NULL;
    primary->handler->content(cycle->epoch, cycle->compares, cycle->stopped, &frames, &attachment,
                              primary->user_data);
    capture_take(primary->capture, cycle->epoch, state, frames, attachment);
}

void primary_taken(const CaptureStats *stats, gpointer user_data)
{
    Primary *primary = user_data;
    primary->handler->taken(stats->epoch, primary->cycle.compares, primary->user_data);
    primary->cycle.stats = *stats;
    primary->cycle.copied = colo_time_now();
    primary->cycle.ahead_bytes = stats->bytes;
    primary->cycle.stood_us =
        colo_time_diff_us(primary->cycle.copied, primary->cycle.pause_started);
    primary->pause_wanted |= primary->cycle.last;
    primary_step(primary, primary->cycle.last ? CYCLE_EVENT_KEPT : CYCLE_EVENT_TAKEN);
}

/* ---- The VM runs again ---- */

void primary_ran(Primary *primary, const GError *error)
{
    if (error)
        primary->handler->lost("the VM can't be resumed", error, primary->user_data);
    else
        primary_step(primary, CYCLE_EVENT_RUNNING);
}

static void resume(Primary *primary)
{
    g_clear_pointer(&primary->cycle.state, g_bytes_unref);
    /* A VM that ends doesn't run once more. */
    if (primary_look(primary).ends)
        primary_ran(primary, NULL);
    else
        primary->handler->resume(primary->user_data);
}

/* The disks know that it runs here, before it does. */
static void begin_run(Primary *primary)
{
    primary->handler->begin_run(primary->user_data);
}

void primary_run(Primary *primary)
{
    /* A secondary may be here before QEMU has answered: no checkpoint until then. */
    primary_step(primary, CYCLE_EVENT_START);
}

void primary_may_run(Primary *primary)
{
    primary->handler->resume(primary->user_data);
}

void primary_continue(Primary *primary)
{
    CyclePhase phase = primary->cycle.phase;
    /* It is being paused for nothing else. */
    gboolean stops = phase == CYCLE_STOPPING && !primary->pause_wanted;
    if ((phase == CYCLE_IDLE || stops) && fsm_is_primary(primary_look(primary).state) &&
        primary->handler->continues(primary->user_data))
        primary_step(primary, stops ? CYCLE_EVENT_RESUME : CYCLE_EVENT_CONTINUE);
}

static void give_input(Primary *primary)
{
    Cycle *cycle = &primary->cycle;
    ColoTime paused = cycle->pause_started, now = colo_time_now();
    if (paused.us) {
        cycle->resumed = now;
        cycle->pause_us = colo_time_diff_us(now, paused);
        cycle->pause_started = (ColoTime){0};
    }
    primary->handler->running(paused, now, primary->user_data);
    if (paused.us)
        colo_fault_point("primary-resumed");
}

/* ---- The secondary has it ---- */

void primary_sent(const CaptureStats *stats, gpointer user_data)
{
    Primary *primary = user_data;
    primary->cycle.stats = *stats;
    primary->handler->sent(primary->user_data);
    primary_step(primary, CYCLE_EVENT_SENT);
}

gboolean primary_received(Primary *primary, guint64 epoch, GError **error)
{
    const Cycle *cycle = &primary->cycle;
    if (epoch != cycle->epoch || !cycle_step(cycle->phase, CYCLE_EVENT_RECEIVED).legal) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "the peer reports that it has checkpoint %" G_GUINT64_FORMAT
                    ", which it wasn't sent",
                    epoch);
        return FALSE;
    }
    primary_step(primary, CYCLE_EVENT_RECEIVED);
    return TRUE;
}

static void release_output(Primary *primary)
{
    primary_try_load(primary);
    colo_fault_point("primary-acknowledged");
    primary->handler->release(primary->cycle.epoch, primary->cycle.compares, primary->user_data);
    colo_fault_point("primary-released");
}

/* How much of it was sent after the copy, had nothing been packed. */
static guint64 rest_bytes(const Cycle *cycle)
{
    const CaptureStats *stats = &cycle->stats;
    guint64 ahead = MIN(cycle->ahead_bytes, stats->bytes);
    double part = stats->bytes ? (double)(stats->bytes - ahead) / (double)stats->bytes : 0;
    return (guint64)(part * (double)stats->plain_bytes);
}

/* It is complete now. */
static void count(Primary *primary)
{
    const Cycle *cycle = &primary->cycle;
    const CaptureStats *stats = &cycle->stats;
    FiguresCheckpoint checkpoint = {.reason = cycle->reason,
                                    .bytes = stats->bytes,
                                    .plain_bytes = stats->plain_bytes,
                                    .codec = stats->codec,
                                    .rest_bytes = rest_bytes(cycle),
                                    .rest_us = colo_time_diff_us(colo_time_now(), cycle->copied),
                                    .pause_us = cycle->pause_us,
                                    .stood_us = cycle->stood_us,
                                    .transfer_us = stats->transfer_us};
    primary->handler->complete(&checkpoint, primary->user_data);
    log_debug("checkpoint complete reason=%s pause_us=%" G_GINT64_FORMAT
              " harvest_us=%" G_GINT64_FORMAT " copy_us=%" G_GINT64_FORMAT
              " transfer_us=%" G_GINT64_FORMAT " dirty=%" G_GUINT64_FORMAT
              " ahead=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT " plain=%" G_GUINT64_FORMAT
              " compress=%s",
              schedule_reason_name(cycle->reason), cycle->pause_us, stats->harvest_us,
              stats->copy_us, stats->transfer_us, stats->dirty_pages, stats->ahead_pages,
              stats->bytes, stats->plain_bytes, pack_codec_name(stats->codec));
}

/* ---- The cycle ---- */

static void end_waits(Primary *primary)
{
    settle_end(primary->settle);
    colo_timer_set_us(primary->again_timer, -1);
}

static void look(Primary *primary)
{
    end_waits(primary);
    primary_continue(primary);
    primary_reschedule(primary);
}

/* The actions that end at once with the next event are the last of their steps. */
void primary_step(Primary *primary, CycleEvent event)
{
    static void (*const actions[CYCLE_ACTIONS])(Primary *) = {
        [CYCLE_DO_START] = begin_run,
        [CYCLE_DO_SYNC] = sync_disks,
        [CYCLE_DO_PREPARE] = prepare,
        [CYCLE_DO_SETTLE] = settle,
        [CYCLE_DO_PAUSE] = pause_vm,
        [CYCLE_DO_SAVE] = save,
        [CYCLE_DO_GIVE_UP] = give_up_disks,
        [CYCLE_DO_MARK] = mark,
        [CYCLE_DO_COPY] = copy,
        [CYCLE_DO_RESUME] = resume,
        [CYCLE_DO_GIVE_INPUT] = give_input,
        [CYCLE_DO_RELEASE] = release_output,
        [CYCLE_DO_COUNT] = count,
        [CYCLE_DO_TELL_PAUSED] = primary_paused,
        [CYCLE_DO_TELL_HELD] = primary_held,
        [CYCLE_DO_COMMIT] = primary_committed,
        [CYCLE_DO_LOOK] = look,
    };
    Cycle *cycle = &primary->cycle;
    CycleStep step = cycle_step(cycle->phase, event);
    if (!step.legal)
        g_error("event %s in phase %s of the checkpoint cycle", cycle_event_name(event),
                cycle_phase_name(cycle->phase));
    if (step.next != cycle->phase)
        log_debug("cycle: %s -> %s (%s)", cycle_phase_name(cycle->phase),
                  cycle_phase_name(step.next), cycle_event_name(event));
    gboolean had_own_limit = primary_has_own_limit(primary);
    cycle->phase = step.next;
    if (had_own_limit)
        primary_end_own_limit(primary);
    for (CycleAction action = 0; action < CYCLE_ACTIONS; action++)
        if (step.actions & 1u << action)
            actions[action](primary);
}

void primary_take(Primary *primary, CheckpointReason reason)
{
    primary->wanted = wanted_take(primary->wanted, reason);
    primary->cycle.epoch = primary_look(primary).epoch + 1;
    primary->cycle.reason = reason;
    primary->cycle.last = primary->plan != PLAN_NONE;
    primary_step(primary, CYCLE_EVENT_DUE);
}

CyclePhase primary_phase(const Primary *primary)
{
    return primary->cycle.phase;
}

guint64 primary_epoch(const Primary *primary)
{
    return primary->cycle.epoch;
}

/* ---- Life ---- */

Primary *primary_new(const Config *config, const PrimaryHandler *handler, gpointer user_data)
{
    Primary *primary = g_new0(Primary, 1);
    primary->config = config;
    primary->handler = handler;
    primary->user_data = user_data;
    primary->settle = settle_new(is_delivered, on_settled, primary);
    primary->again_timer = colo_timer_new(on_again_timer, primary);
    primary_session_init(primary);
    return primary;
}

void primary_free(Primary *primary)
{
    if (!primary)
        return;
    primary_end_hand_over(primary);
    primary_session_finalise(primary);
    settle_free(primary->settle);
    g_source_destroy(primary->again_timer);
    g_source_unref(primary->again_timer);
    g_clear_pointer(&primary->cycle.state, g_bytes_unref);
    g_free(primary);
}

void primary_attach(Primary *primary, Vm *vm, DirtyTracker *tracker)
{
    primary->vm = vm;
    primary->tracker = tracker;
}

void primary_was_loaded(Primary *primary)
{
    primary->warm = colo_time_add_us(colo_time_now(), WARM_UP_US);
}

void primary_forget(Primary *primary)
{
    primary_step(primary, CYCLE_EVENT_VM_GONE);
    g_clear_pointer(&primary->cycle.state, g_bytes_unref);
    primary->cycle = (Cycle){0};
    primary->pause_wanted = primary->frozen = FALSE;
    primary_set_plan(primary, PLAN_NONE);
    colo_timer_set_us(primary->schedule_timer, -1);
    end_waits(primary);
}

void primary_detach(Primary *primary)
{
    g_assert(primary->cycle.phase == CYCLE_IDLE && !primary->capture);
    primary->vm = NULL;
    primary->tracker = NULL;
}

void primary_moved(Primary *primary, FsmState next)
{
    primary->doubted &= fsm_is_contested(next);
    if (next != FSM_P_DEVICE && next != FSM_P_HANDED)
        primary_end_hand_over(primary);
    if (!fsm_is_protected(next) && next != FSM_P_HANDED) {
        primary_set_plan(primary, PLAN_NONE);
        primary->cycle.last = FALSE;
    }
}
