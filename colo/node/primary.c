/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the primary's checkpoint cycle. cycle.h has its phases, events and actions; this carries the
 * actions out, and feeds what comes of them. primary_step() is the only one to change the phase.
 *
 * Syncing is for a VM with disks, so that the pause need not sync. Preparing: a secondary's VM that
 * runs is told to be paused, and the pages that it has written are added to the checkpoint
 * (dirty.c). A VM that waits needs none of this. Settling: input is deferred, and QEMU reads what
 * it has been given already.
 *
 * The guest's frames, which the cycle holds up and releases, are in traffic.c.
 *
 * Protection is claimed once the secondary has loaded enough checkpoints (READY). The last load
 * must not write to a page of RAM that the secondary had not named before. It can restore the pages
 * that it named. Each time it names one, the next checkpoint carries that page once more.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"

#include <string.h>

/* The first checkpoint is taken when no more than this is left to copy in its pause. */
#define FIRST_PAUSE_PAGES 4096

/* QEMU reads at once if it gets any CPU: when to look again, and when to pause it all the same. */
#define SETTLE_LOOK_US 200
#define SETTLE_MAX_US  (5 * COLO_US_PER_MS)

/* ---- The way to the pause ---- */

/*
 * QEMU flushes the disks in each pause: now there is little left to flush. If the sync fails, the
 * flush fails too, and the guest is told.
 */
static void on_synced(guint64 epoch, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    (void)epoch;
    if (error)
        node_report(node, "the disks can't be synced", error);
    primary_step(node, CYCLE_EVENT_SYNCED);
}

static void sync_disks(Node *node)
{
    if (disks_are_there(node->disks))
        disks_sync(node->disks, node->cycle.epoch, on_synced);
    else
        primary_step(node, CYCLE_EVENT_SYNCED);
}

/* A secondary's VM that runs has to be paused first. */
static void prepare(Node *node)
{
    if (judge_peer_vm(node->judge) == PEER_VM_PAUSED) {
        primary_step(node, CYCLE_EVENT_PREPARED);
        return;
    }
    message_send(node->link, &(Message){.type = LINK_MSG_PREPARE, .epoch = node->cycle.epoch});
    colo_fault_point("primary-preparing");
}

/* The secondary has named pages that the next checkpoint is to carry. */
static gboolean add_pages(Node *node, const char *message, const MessageRun *runs, gsize n,
                          GError **error)
{
    guint64 ram_pages = vm_ram(machine_vm(node->machine))->size_bytes / VM_PAGE_SIZE;
    for (gsize i = 0; i < n; i++) {
        guint64 first = runs[i].first, count = runs[i].count;
        if (first >= ram_pages || count > ram_pages - first) {
            g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                        "message '%s': pages %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                        " of %" G_GUINT64_FORMAT,
                        message, first, count, ram_pages);
            return FALSE;
        }
        capture_add_pages(node->capture, first, count);
    }
    return TRUE;
}

gboolean primary_dirty(Node *node, const MessageDirty *dirty, GError **error)
{
    if (node->cycle.phase != CYCLE_PREPARING || dirty->epoch != node->cycle.epoch) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'dirty' that wasn't asked for");
        return FALSE;
    }
    if (!add_pages(node, "dirty", dirty->runs, dirty->n_runs, error))
        return FALSE;
    if (dirty->follow == 0)
        primary_step(node, CYCLE_EVENT_PREPARED);
    return TRUE;
}

/* No more input is given to the guest: waits until QEMU has read what was. */
static void look_if_settled(Node *node)
{
    ColoTime now = colo_time_now();
    if (cards_are_read(node->cards) ||
        colo_time_diff_us(now, node->cycle.settle_started) >= SETTLE_MAX_US)
        primary_step(node, CYCLE_EVENT_SETTLED);
    else
        g_source_set_ready_time(node->settle_timer, colo_time_add_us(now, SETTLE_LOOK_US).us);
}

static gboolean on_settle_timer(gpointer user_data)
{
    Node *node = user_data;
    g_source_set_ready_time(node->settle_timer, -1);
    /* What ended the cycle in this turn of the main loop can't take back a timer that is due. */
    if (node->cycle.phase == CYCLE_SETTLING)
        look_if_settled(node);
    return G_SOURCE_CONTINUE;
}

static void settle(Node *node)
{
    node->cycle.settle_started = colo_time_now();
    look_if_settled(node);
}

/* ---- The pause ---- */

static void on_paused(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    (void)vm;
    /* If no checkpoint needs the pause any more, a VM that refused it is well. */
    gboolean is_well = node->cycle.phase == CYCLE_PAUSING_CANCELLED &&
                       g_error_matches(error, VM_ERROR, VM_ERROR_QMP);
    if (error && !is_well) {
        node_vm_lost(node, "the VM can't be paused", error);
        return;
    }
    colo_fault_point("primary-paused");
    disks_vm_paused(node->disks);
    /* What the guest has sent until here belongs to the epoch that ends. */
    cards_drain(node->cards);
    primary_step(node, CYCLE_EVENT_PAUSED);
}

static void pause_vm(Node *node)
{
    node->cycle.pause_started = colo_time_now();
    disks_let_through(node->disks);
    vm_pause(machine_vm(node->machine), on_paused, node);
}

static void on_saved(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    gboolean cancelled = node->cycle.phase == CYCLE_SAVING_CANCELLED;
    (void)vm;
    if (g_error_matches(error, VM_ERROR, VM_ERROR_QMP) &&
        (cancelled || node->state == FSM_P_ACTIVE)) {
        /* It can't be protected now (a device that QEMU won't save, say), but it is well. */
        if (!cancelled)
            node_link_lost(node, "the device state can't be saved", error);
        /* Which may have been its end. */
        if (node->cycle.phase == CYCLE_SAVING_CANCELLED)
            primary_step(node, CYCLE_EVENT_NOT_SAVED);
        return;
    }
    if (error) {
        node_vm_lost(node, "the device state can't be saved", error);
        return;
    }
    colo_fault_point("primary-state-saved");
    node->cycle.state = g_bytes_ref(state);
    primary_step(node, CYCLE_EVENT_SAVED);
}

static void on_marked(guint64 epoch, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    (void)epoch;
    if (error) {
        node_stream_lost(node, "the disks can't take part in a checkpoint", error);
        return;
    }
    colo_fault_point("primary-disks-marked");
    /* It was for the epoch that has ended. */
    primary_want_no_more(node, WANTED(REASON_DISK_LIMIT));
    primary_step(node, CYCLE_EVENT_MARKED);
}

/* The device state and the disks' mark are made at the same time. */
static void save(Node *node)
{
    /* The first pause of a session: what left before it is part of this checkpoint. */
    traffic_pause(node);
    comparing_pause(node);
    vm_save_device_state(machine_vm(node->machine), on_saved, node);
    if (disks_are_there(node->disks))
        disks_mark(node->disks, node->cycle.epoch, on_marked);
    else
        primary_step(node, CYCLE_EVENT_MARKED);
}

/* The service's part of the checkpoint. */
static GBytes *make_attachment(Node *node)
{
    g_auto(Attachment) attachment = {.runs = node->cycle.compares,
                                     .maps = node->rewrite ? rewrite_export(node->rewrite) : NULL};
    if (!attachment.maps) /* every connection that needed it has ended */
        g_clear_pointer(&node->rewrite, rewrite_free);
    return attachment_pack(&attachment);
}

/* Everything that belongs to the checkpoint is there, but for RAM. */
static void copy(Node *node)
{
    g_autoptr(GBytes) state = g_steal_pointer(&node->cycle.state);
    g_autoptr(GPtrArray) frames = primary_held_frames(node);
    g_autoptr(GBytes) attachment = make_attachment(node);
    capture_take(node->capture, node->cycle.epoch, state, frames, attachment);
}

static void on_taken(const CaptureStats *stats, gpointer user_data)
{
    Node *node = user_data;
    node->epoch = stats->epoch;
    traffic_begin_epoch(node, node->cycle.compares);
    node->cycle.stats = *stats;
    log_set_epoch(node->epoch);
    primary_step(node, CYCLE_EVENT_TAKEN);
}

/* ---- The VM runs again ---- */

static void on_running(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (error)
        node_vm_lost(node, "the VM can't be resumed", error);
    else
        primary_step(node, CYCLE_EVENT_RUNNING);
}

static void resume(Node *node)
{
    g_clear_pointer(&node->cycle.state, g_bytes_unref);
    /* A VM that ends doesn't run once more. */
    if (resume_is_io_stopped(node->resume) || final_has_begun(node->final))
        on_running(NULL, node);
    else
        resume_vm(node->resume, on_running);
}

/* The disks know that it runs here, before it does. */
static void begin_run(Node *node)
{
    holdings_begin_run(node->holdings);
}

void primary_run(Node *node)
{
    /* A secondary may be here before QEMU has answered: no checkpoint until then. */
    primary_step(node, CYCLE_EVENT_START);
}

void primary_resume_started(Node *node)
{
    resume_vm(node->resume, on_running);
}

void primary_continue(Node *node)
{
    if (!resume_is_to_continue(node->resume) || !fsm_is_primary(node->state) ||
        node->cycle.phase != CYCLE_IDLE)
        return;
    resume_continues(node->resume);
    primary_step(node, CYCLE_EVENT_CONTINUE);
}

static void end_pause(Node *node)
{
    Cycle *cycle = &node->cycle;
    cycle->resumed = colo_time_now();
    cycle->pause_us = colo_time_diff_us(cycle->resumed, cycle->pause_started);
    figures_add_pause(node->figures, cycle->pause_started, cycle->resumed);
    cycle->pause_started = (ColoTime){0};
}

static void give_input(Node *node)
{
    gboolean was_paused = node->cycle.pause_started.us != 0;
    if (was_paused)
        end_pause(node);
    clock_look(node->clock);
    primary_give_deferred(node);
    if (was_paused)
        colo_fault_point("primary-resumed");
}

/* ---- The secondary has it ---- */

static void on_sent(const CaptureStats *stats, gpointer user_data)
{
    Node *node = user_data;
    node->cycle.stats = *stats;
    answering_sent(node->answering);
    primary_step(node, CYCLE_EVENT_SENT);
}

static void set_proof(Node *node, Proof next)
{
    if (!proof_may_become(node->proof, next))
        g_error("the proof can't become %s from %s", proof_name(next), proof_name(node->proof));
    log_debug("proof: %s -> %s", proof_name(node->proof), proof_name(next));
    node->proof = next;
}

gboolean primary_received(Node *node, guint64 epoch, GError **error)
{
    if (epoch != node->cycle.epoch || !cycle_step(node->cycle.phase, CYCLE_EVENT_RECEIVED).legal) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "the peer reports that it has checkpoint %" G_GUINT64_FORMAT
                    ", which it wasn't sent",
                    epoch);
        return FALSE;
    }
    primary_step(node, CYCLE_EVENT_RECEIVED);
    return TRUE;
}

static void release_output(Node *node)
{
    if (node->proof == PROOF_TAKE)
        set_proof(node, PROOF_LOAD);
    colo_fault_point("primary-acknowledged");
    gate_release(node->gate, node->cycle.epoch);
    comparing_committed(node);
    colo_fault_point("primary-released");
}

static void count(Node *node)
{
    const Cycle *cycle = &node->cycle;
    const CaptureStats *stats = &cycle->stats;
    FiguresCheckpoint checkpoint = {.reason = cycle->reason,
                                    .bytes = stats->bytes,
                                    .pause_us = cycle->pause_us,
                                    .transfer_us = stats->transfer_us};
    figures_add_checkpoint(node->figures, &checkpoint);
    log_debug(
        "checkpoint complete reason=%s pause_us=%" G_GINT64_FORMAT " harvest_us=%" G_GINT64_FORMAT
        " copy_us=%" G_GINT64_FORMAT " transfer_us=%" G_GINT64_FORMAT " dirty=%" G_GUINT64_FORMAT
        " ahead=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT,
        checkpoint_reason_name(cycle->reason), cycle->pause_us, stats->harvest_us, stats->copy_us,
        stats->transfer_us, stats->dirty_pages, stats->ahead_pages, stats->bytes);
}

gboolean primary_ready(Node *node, const MessageReady *ready, GError **error)
{
    if (node->state != FSM_P_ACTIVE || node->proof != PROOF_LOAD) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message 'ready' in state %s",
                    fsm_state_name(node->state));
        return FALSE;
    }
    if (!add_pages(node, "ready", ready->runs, ready->n_runs, error))
        return FALSE;
    set_proof(node, proof_after_load(++node->proofs, ready->n_runs));
    if (node->proof == PROOF_DONE) {
        node_event(node, FSM_PROVEN);
        claim_tidy(node->claim);
    }
    primary_reschedule(node);
    return TRUE;
}

/* ---- The cycle ---- */

static void look(Node *node)
{
    g_source_set_ready_time(node->settle_timer, -1);
    primary_continue(node);
    primary_reschedule(node);
}

/* The actions that end at once with the next event are the last of their steps. */
void primary_step(Node *node, CycleEvent event)
{
    static void (*const actions[CYCLE_ACTIONS])(Node *) = {
        [CYCLE_DO_START] = begin_run,
        [CYCLE_DO_SYNC] = sync_disks,
        [CYCLE_DO_PREPARE] = prepare,
        [CYCLE_DO_SETTLE] = settle,
        [CYCLE_DO_PAUSE] = pause_vm,
        [CYCLE_DO_SAVE] = save,
        [CYCLE_DO_COPY] = copy,
        [CYCLE_DO_RESUME] = resume,
        [CYCLE_DO_GIVE_INPUT] = give_input,
        [CYCLE_DO_RELEASE] = release_output,
        [CYCLE_DO_COUNT] = count,
        [CYCLE_DO_TELL_PAUSED] = primary_paused,
        [CYCLE_DO_COMMIT] = primary_committed,
        [CYCLE_DO_LOOK] = look,
    };
    Cycle *cycle = &node->cycle;
    CycleStep step = cycle_step(cycle->phase, event);
    if (!step.legal)
        g_error("event %s in phase %s of the checkpoint cycle", cycle_event_name(event),
                cycle_phase_name(cycle->phase));
    if (step.next != cycle->phase)
        log_debug("cycle: %s -> %s (%s)", cycle_phase_name(cycle->phase),
                  cycle_phase_name(step.next), cycle_event_name(event));
    cycle->phase = step.next;
    for (CycleAction action = 0; action < CYCLE_ACTIONS; action++)
        if (step.actions & 1u << action)
            actions[action](node);
}

/* ---- Schedule ---- */

void primary_want(Node *node, CheckpointReason reason)
{
    Wanted before = node->wanted;
    node->wanted = wanted_add(before, reason);
    if (node->wanted != before)
        primary_reschedule(node);
}

void primary_want_no_more(Node *node, Wanted reasons)
{
    node->wanted &= ~reasons;
}

static void take_checkpoint(Node *node, CheckpointReason reason)
{
    node->wanted = wanted_take(node->wanted, reason);
    node->cycle.epoch = node->epoch + 1;
    node->cycle.reason = reason;
    primary_step(node, CYCLE_EVENT_DUE);
}

static void schedule_look(Node *node)
{
    if (node->cycle.phase != CYCLE_IDLE || primary_is_to_pause(node) || !node->capture)
        return;
    if (node->state == FSM_P_ACTIVE) {
        /*
         * From its pause on output is held, first of all until this checkpoint is complete. That
         * must not depend on storage that may be away for hours. So there is no pause before the
         * session is on record.
         */
        if (node->proof == PROOF_DUE && claim_is_recorded(node->claim) &&
            disks_may_checkpoint(node->disks)) {
            set_proof(node, PROOF_TAKE);
            take_checkpoint(node, REASON_INITIAL);
        }
        return;
    }
    const Config *config = node->config;
    ScheduleOptions options = {.period_us = (gint64)config->checkpoint_period_ms * COLO_US_PER_MS,
                               .min_gap_us = (gint64)config->min_gap_ms * COLO_US_PER_MS,
                               .dirty_limit_pages = config->dirty_limit_pages};
    ScheduleFacts facts = {.resumed = node->cycle.resumed,
                           .output_waits = gate_stats(node->gate)->frames > 0,
                           .wanted = node->wanted,
                           .dirty_pages = capture_dirty_pages(node->capture)};
    ScheduleDecision decision = schedule_decide(&options, &facts, colo_time_now());
    if (decision.due)
        take_checkpoint(node, decision.reason);
    else
        g_source_set_ready_time(node->schedule_timer, decision.look_again.us);
}

static gboolean on_schedule_timer(gpointer user_data)
{
    Node *node = user_data;
    g_source_set_ready_time(node->schedule_timer, -1);
    schedule_look(node);
    return G_SOURCE_CONTINUE;
}

void primary_reschedule(Node *node)
{
    /* From the main loop, not from within whatever has changed a fact. */
    g_source_set_ready_time(node->schedule_timer, 0);
}

/* ---- The session ---- */

static void on_progress(const SyncProgress *progress, gpointer user_data)
{
    Node *node = user_data;
    node->has_progress = TRUE;
    node->progress = *progress;
    log_debug("synchronising: round %u, %.0f %%", progress->round, progress->percent);
}

static void on_synchronised(const SyncProgress *progress, gpointer user_data)
{
    Node *node = user_data;
    node->has_progress = TRUE;
    node->progress = *progress;
    log_info("synchronised: %" G_GUINT64_FORMAT
             " MiB in %u rounds, of which the secondary had %" G_GUINT64_FORMAT,
             progress->sent_bytes >> 20, progress->round, progress->same_bytes >> 20);
    set_proof(node, PROOF_DUE);
    primary_reschedule(node);
}

static void on_capture_failed(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /*
     * A process that ends can't be looked into before its end is reported. The link is well. So
     * hand over, instead of asking the arbiter for a VM that is dead.
     */
    if (fsm_is_protected(node->state) &&
        g_error_matches(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING)) {
        node_vm_ending(node, "the VM's memory can't be followed any more", error);
        return;
    }
    node_stream_lost(node, "the checkpoint stream to the secondary has failed", error);
}

void primary_synchronise(Node *node)
{
    static const CaptureCallbacks callbacks = {.progress = on_progress,
                                               .synchronised = on_synchronised,
                                               .taken = on_taken,
                                               .sent = on_sent,
                                               .failed = on_capture_failed};
    g_autoptr(GError) error = NULL;
    set_proof(node, PROOF_SYNCHRONISE);
    node->proofs = 0;
    primary_want_no_more(node, WANTED(REASON_ADMIN));
    node->has_progress = FALSE;
    node->capture = capture_new(vm_ram(machine_vm(node->machine)), machine_tracker(node->machine),
                                link_checkpoint_fd(node->link), &callbacks, node, &error);
    if (!node->capture) {
        node_link_lost(node, "checkpoints can't be captured", error);
        return;
    }
    answering_watch(node->answering);
    node_attach_disks(node);
    net_send_addresses(node);
    capture_synchronise(node->capture, FIRST_PAUSE_PAGES);
    colo_fault_point("primary-sync-start");
}

void primary_end_capture(Node *node)
{
    g_clear_pointer(&node->capture, capture_free);
    disks_detach(node->disks);
    node->has_progress = FALSE;
    answering_forget(node->answering);
    comparing_end(node);
    primary_step(node, CYCLE_EVENT_SESSION_ENDED);
}

void primary_forget_vm(Node *node)
{
    primary_step(node, CYCLE_EVENT_VM_GONE);
    g_clear_pointer(&node->cycle.state, g_bytes_unref);
    node->cycle = (Cycle){0};
    node->pause_wanted = node->frozen = FALSE;
    answering_forget(node->answering);
    comparing_forget(node, FALSE);
    g_clear_pointer(&node->rewrite, rewrite_free);
    g_source_set_ready_time(node->schedule_timer, -1);
    g_source_set_ready_time(node->settle_timer, -1);
    traffic_forget(node);
}

void primary_init(Node *node)
{
    traffic_init(node);
    node->schedule_timer = node_timer_new(on_schedule_timer, node);
    node->settle_timer = node_timer_new(on_settle_timer, node);
}

void primary_finalise(Node *node)
{
    capture_free(node->capture);
    g_source_destroy(node->schedule_timer);
    g_source_unref(node->schedule_timer);
    g_source_destroy(node->settle_timer);
    g_source_unref(node->settle_timer);
    traffic_finalise(node);
}
