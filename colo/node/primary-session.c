/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's session with a secondary: the capture, the proof that the secondary can load what
 * it is sent, and when the next checkpoint is due.
 *
 * The schedule is looked at when a fact changes, or its timer tells; both from the main loop.
 */
#include "colo/node/node.h"
#include "colo/node/primary_internal.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/timer.h"

/* The first checkpoint is taken when no more than this is left to copy in its pause. */
#define FIRST_PAUSE_PAGES 4096

/* ---- The proof ---- */

static void set_proof(Primary *primary, Proof next)
{
    if (!proof_may_become(primary->proof, next))
        g_error("the proof can't become %s from %s", proof_name(next), proof_name(primary->proof));
    log_debug("proof: %s -> %s", proof_name(primary->proof), proof_name(next));
    primary->proof = next;
}

Proof primary_proof(const Primary *primary)
{
    return primary->proof;
}

void primary_try_load(Primary *primary)
{
    if (primary->proof == PROOF_TAKE)
        set_proof(primary, PROOF_LOAD);
}

gboolean primary_add_pages(Primary *primary, const char *message, const MessageRun *runs, gsize n,
                           GError **error)
{
    guint64 ram_pages = vm_ram(primary->vm)->size_bytes / VM_PAGE_SIZE;
    for (gsize i = 0; i < n; i++) {
        guint64 first = runs[i].first, count = runs[i].count;
        if (first >= ram_pages || count > ram_pages - first) {
            g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                        "message '%s': pages %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                        " of %" G_GUINT64_FORMAT,
                        message, first, count, ram_pages);
            return FALSE;
        }
        capture_add_pages(primary->capture, first, count);
    }
    return TRUE;
}

gboolean primary_ready(Primary *primary, const MessageReady *ready, GError **error)
{
    FsmState state = primary_look(primary).state;
    if (state != FSM_P_ACTIVE || primary->proof != PROOF_LOAD) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message 'ready' in state %s",
                    fsm_state_name(state));
        return FALSE;
    }
    if (!primary_add_pages(primary, "ready", ready->runs, ready->n_runs, error))
        return FALSE;
    set_proof(primary, proof_after_load(++primary->proofs, ready->n_runs));
    if (primary->proof == PROOF_DONE) {
        primary->handler->event(FSM_PROVEN, primary->user_data);
        primary->handler->proven(primary->user_data);
    }
    primary_reschedule(primary);
    return TRUE;
}

/* ---- The schedule ---- */

void primary_want(Primary *primary, CheckpointReason reason)
{
    Wanted before = primary->wanted;
    primary->wanted = wanted_add(before, reason);
    if (primary->wanted != before)
        primary_reschedule(primary);
}

void primary_want_no_more(Primary *primary, Wanted reasons)
{
    primary->wanted &= ~reasons;
}

gboolean primary_wants(const Primary *primary, CheckpointReason reason)
{
    return (primary->wanted & WANTED(reason)) != 0;
}

static void look_at_schedule(Primary *primary)
{
    if (primary->cycle.phase != CYCLE_IDLE || primary_is_to_pause(primary) || !primary->capture)
        return;
    PrimaryWorld world = primary_look(primary);
    if (world.state == FSM_P_ACTIVE) {
        /*
         * From its pause on output is held, first of all until this checkpoint is complete. That
         * must not depend on storage that may be away for hours. So there is no pause before the
         * session is on record.
         */
        if (primary->proof == PROOF_DUE && world.is_recorded && world.disks_in_step) {
            set_proof(primary, PROOF_TAKE);
            primary_take(primary, REASON_INITIAL);
        }
        return;
    }
    if (primary->plan != PLAN_NONE) {
        primary_take(primary, REASON_ADMIN);
        return;
    }
    const Config *config = primary->config;
    ScheduleOptions options = {.period_us = (gint64)config->checkpoint_period_ms * COLO_US_PER_MS,
                               .min_gap_us = (gint64)config->min_gap_ms * COLO_US_PER_MS,
                               .dirty_limit_pages = config->dirty_limit_pages};
    ScheduleFacts facts = {.resumed = primary->cycle.resumed,
                           .output_waits = world.output_waits,
                           .wanted = primary->wanted |
                                     (primary_owes_stop(primary) ? WANTED(REASON_ADMIN) : 0),
                           .dirty_pages = capture_dirty_pages(primary->capture)};
    ScheduleDecision decision = schedule_decide(&options, &facts, colo_time_now());
    if (decision.due)
        primary_take(primary, decision.reason);
    else
        colo_timer_set_us(primary->schedule_timer, decision.look_again.us);
}

static gboolean on_schedule_timer(gpointer user_data)
{
    Primary *primary = user_data;
    colo_timer_set_us(primary->schedule_timer, -1);
    look_at_schedule(primary);
    return G_SOURCE_CONTINUE;
}

void primary_reschedule(Primary *primary)
{
    /* From the main loop, not from within whatever has changed a fact. */
    colo_timer_set_us(primary->schedule_timer, 0);
}

static void tune_capture(const Primary *primary)
{
    capture_set_dirty_limit(primary->capture, primary->config->dirty_limit_pages);
    static const CapturePack packings[] = {[CONFIG_COMPRESS_AUTO] = CAPTURE_PACK_AUTO,
                                           [CONFIG_COMPRESS_OFF] = CAPTURE_PACK_OFF,
                                           [CONFIG_COMPRESS_LZ4] = CAPTURE_PACK_LZ4,
                                           [CONFIG_COMPRESS_ZSTD] = CAPTURE_PACK_ZSTD};
    capture_set_sync_rate(primary->capture, primary->config->ram_sync_bytes_per_s);
    capture_set_packing(primary->capture,
                        primary->may_pack ? packings[primary->config->compress] : CAPTURE_PACK_OFF);
}

void primary_tune(Primary *primary)
{
    if (primary->capture)
        tune_capture(primary);
    primary_reschedule(primary);
}

gboolean primary_is_scheduled(const Primary *primary)
{
    return colo_timer_due_us(primary->schedule_timer) != -1;
}

/* ---- The session ---- */

static void on_progress(const SyncProgress *progress, gpointer user_data)
{
    Primary *primary = user_data;
    primary->has_progress = TRUE;
    primary->progress = *progress;
    log_debug("synchronising: round %u, %.0f %%", progress->round, progress->percent);
}

static void on_synchronised(const SyncProgress *progress, gpointer user_data)
{
    Primary *primary = user_data;
    primary->has_progress = TRUE;
    primary->progress = *progress;
    log_info("synchronised: %" G_GUINT64_FORMAT
             " MiB in %u rounds, of which the secondary had %" G_GUINT64_FORMAT,
             progress->sent_bytes >> 20, progress->round, progress->same_bytes >> 20);
    set_proof(primary, PROOF_DUE);
    primary_reschedule(primary);
}

static void on_dirty_limit(gpointer user_data)
{
    primary_reschedule(user_data);
}

static void on_capture_failed(const GError *error, gpointer user_data)
{
    Primary *primary = user_data;
    /*
     * A process that ends can't be looked into before its end is reported. The link is well. So
     * hand over, instead of asking the arbiter for a VM that is dead.
     */
    if (fsm_is_protected(primary_look(primary).state) &&
        g_error_matches(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING)) {
        primary->handler->ending("the VM's memory can't be followed any more", error,
                                 primary->user_data);
        return;
    }
    primary->handler->stream_lost("the checkpoint stream to the secondary has failed", error,
                                  primary->user_data);
}

void primary_synchronise(Primary *primary, int fd, gboolean may_pack)
{
    static const CaptureCallbacks callbacks = {.progress = on_progress,
                                               .synchronised = on_synchronised,
                                               .taken = primary_taken,
                                               .sent = primary_sent,
                                               .dirty_limit = on_dirty_limit,
                                               .failed = on_capture_failed};
    g_autoptr(GError) error = NULL;
    set_proof(primary, PROOF_SYNCHRONISE);
    primary->proofs = 0;
    primary->may_pack = may_pack;
    primary_want_no_more(primary, WANTED(REASON_ADMIN));
    primary->has_progress = FALSE;
    primary->capture =
        capture_new(vm_ram(primary->vm), primary->tracker, fd, &callbacks, primary, &error);
    if (!primary->capture) {
        primary->handler->link_lost("checkpoints can't be captured", error, primary->user_data);
        return;
    }
    capture_set_start(primary->capture, primary->warm);
    tune_capture(primary);
    primary->handler->session_began(primary->user_data);
    capture_synchronise(primary->capture, FIRST_PAUSE_PAGES);
    colo_fault_point("primary-sync-start");
}

void primary_end_session(Primary *primary)
{
    g_clear_pointer(&primary->capture, capture_free);
    primary->has_progress = FALSE;
    primary->handler->session_ended(primary->user_data);
    primary_step(primary, CYCLE_EVENT_SESSION_ENDED);
}

gboolean primary_has_session(const Primary *primary)
{
    return primary->capture != NULL;
}

gboolean primary_awaits_base(const Primary *primary)
{
    return primary->capture && capture_awaits_base(primary->capture);
}

const SyncProgress *primary_progress(const Primary *primary)
{
    return primary->has_progress ? &primary->progress : NULL;
}

guint64 primary_dirty_pages(const Primary *primary)
{
    return primary->capture ? capture_dirty_pages(primary->capture) : 0;
}

/* ---- Life ---- */

void primary_session_init(Primary *primary)
{
    primary->schedule_timer = colo_timer_new(on_schedule_timer, primary);
}

void primary_session_finalise(Primary *primary)
{
    capture_free(primary->capture);
    g_source_destroy(primary->schedule_timer);
    g_source_unref(primary->schedule_timer);
}
