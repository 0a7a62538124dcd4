/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is sent while the VM runs: the rounds of the first synchronisation, and pages ahead of the
 * next checkpoint.
 *
 * No page is lost. A page leaves `pending` only when it is copied into the stream, after the
 * harvest that put it there. A later harvest reports any write after that one. A page that is
 * copied while the guest writes to it may be torn. The same write makes it dirty again, so a whole
 * copy follows before END.
 *
 * Sending ahead pays for pages that stay as they are until the checkpoint: it takes them out of the
 * pause. A page that the guest writes all the time is sent for nothing. Each harvest costs the
 * guest a page fault at its next write. So:
 * - A look counts the dirty pages without starting over (no cost for the guest), at most every
 *   look_interval and for at most 1/LOOK_SHARE of the time.
 * - Nothing more happens while fewer than ahead_pages are dirty. The pause copies 1,000 pages in
 *   half a millisecond, which is less than stopping and saving costs anyway.
 * - Otherwise a round harvests, and sends those of the pages known before that were *not* written
 *   again since the last round. A hot page is never sent, and a page that is written once is sent
 *   once. One that is written now and then is sent at most once per time it was quiet for a whole
 *   round.
 * - A round that finds few quiet pages doubles the time to the next one, a fruitful one halves it.
 *   So a guest that rewrites the same pages is soon left alone.
 */
#include <string.h>

#include "checkpoint/capture_internal.h"
#include "checkpoint/pace.h"

#define LOOK_SHARE       40
#define ROUND_GAP_MAX_US (200 * COLO_US_PER_MS)
#define PROGRESS_US      (100 * COLO_US_PER_MS)
#define MIB              (1024.0 * 1024.0)
/* Pages that are worked on between two looks at the command slot. */
#define BATCH_PAGES 64
/* Staging memory taken between two looks at the command slot; half a millisecond's worth. */
#define PREPARE_BYTES (2u << 20)

/* A synchronisation at work. */
typedef struct {
    guint64 pause_pages;
    SyncProgress progress;
    ColoTime start, round_start, last_post;
    guint64 round_pages; /* sent in this round */
    guint64 best_left;   /* pages: the least that any round left */
    ColoTime best_at;
    unsigned stale_rounds; /* since best_left fell by a tenth */
    Pace pace;
    guint64 paced_bytes; /* of stats.bytes */
    guint64 began_bytes; /* likewise */
} Sync;

static void update_progress(Capture *c, Sync *sync, ColoTime now)
{
    SyncProgress *p = &sync->progress;
    p->same_bytes = c->stats.same_pages * VM_PAGE_SIZE;
    p->left_bytes = page_set_count(c->pending) * VM_PAGE_SIZE;
    gint64 elapsed_us = colo_time_diff_us(now, sync->start);
    if (elapsed_us > 0) {
        double per_s = (double)G_USEC_PER_SEC / (double)elapsed_us;
        p->send_bytes_per_s = (double)p->sent_bytes * per_s;
        p->link_bytes_per_s = (double)(c->stats.bytes - sync->began_bytes) * per_s;
    }
    double percent = 100.0 * (double)(p->total_bytes - p->left_bytes) / (double)p->total_bytes;
    p->percent = MAX(p->percent, percent);
    double gain = p->send_bytes_per_s - p->dirty_bytes_per_s;
    p->left_us = gain > 0 ? (gint64)((double)p->left_bytes / gain * G_USEC_PER_SEC) : -1;
}

static void tell_progress(Capture *c, Sync *sync)
{
    ColoTime now = colo_time_now();
    if (colo_time_diff_us(now, sync->last_post) < PROGRESS_US)
        return;
    sync->last_post = now;
    update_progress(c, sync, now);
    capture_post_progress(c, &sync->progress, FALSE);
}

/* After what the socket has taken by now, as long as capture_set_sync_rate() demands. */
static Flow keep_pace(Capture *c, Sync *sync)
{
    pace_sent(&sync->pace, c->stats.bytes - sync->paced_bytes);
    sync->paced_bytes = c->stats.bytes;
    while (!capture_command_waiting(c)) {
        guint64 rate = __atomic_load_n(&c->sync_rate, __ATOMIC_RELAXED);
        gint64 wait_us = pace_wait_us(&sync->pace, rate, colo_time_now());
        if (wait_us == 0)
            return FLOW_OK;
        capture_wait(c, MIN(wait_us, PROGRESS_US));
        tell_progress(c, sync);
    }
    return FLOW_COMMAND;
}

/* Pages were taken from `pending` and written to the stream. */
static Flow sent_pages(Capture *c, Sync *sync, guint64 count, GError **error)
{
    c->stats.ahead_pages += count;
    if (sync) {
        sync->round_pages += count;
        sync->progress.sent_bytes += count * VM_PAGE_SIZE;
        tell_progress(c, sync);
    }
    if (capture_command_waiting(c))
        return FLOW_COMMAND;
    if (stream_writer_pending(c->writer) < CAPTURE_CHUNK_BYTES)
        return FLOW_OK;
    Flow flow = capture_flush(c, TRUE, error);
    if (flow == FLOW_OK)
        capture_choose_packing(c, FALSE, sync != NULL);
    return sync && flow == FLOW_OK ? keep_pace(c, sync) : flow;
}

/*
 * Sends a page, or tells that the other side has it. The copy is what counts for both: the guest may
 * write to the page between its hash and its copy.
 */
static void send_page(Capture *c, guint64 page, const guint8 *data)
{
    guint8 copy[VM_PAGE_SIZE];
    if (c->base) {
        data = memcpy(copy, data, sizeof(copy));
        gboolean same = base_holds(c->base, page, copy);
        base_forget(c->base, page, 1);
        if (same) {
            stream_writer_same_run(c->writer, page, 1);
            c->stats.same_pages++;
            dirty_tracker_copied(c->tracker, page, copy);
            return;
        }
    }
    if (stream_writer_page(c->writer, page, data))
        c->stats.zero_pages++;
    dirty_tracker_copied(c->tracker, page, stream_writer_last_page(c->writer));
}

/* Sends up to BATCH_PAGES pages of a run that is no hole. */
static Flow send_batch(Capture *c, Sync *sync, guint64 first, guint64 count, GError **error)
{
    for (guint64 page = first; page < first + count; page++) {
        page_set_remove_run(c->pending, page, 1);
        send_page(c, page, c->ram->base + page * VM_PAGE_SIZE);
    }
    page_set_add_run(c->touched, first, count);
    return sent_pages(c, sync, count, error);
}

static Flow send_hole(Capture *c, Sync *sync, guint64 first, guint64 count, GError **error)
{
    page_set_remove_run(c->pending, first, count);
    stream_writer_zero_run(c->writer, first, count);
    if (c->base)
        base_forget(c->base, first, count);
    c->stats.zero_pages += count;
    for (guint64 page = first; page < first + count; page++)
        dirty_tracker_copied(c->tracker, page, NULL);
    return sent_pages(c, sync, count, error);
}

/* Sends a run of `pending`, holes without reading them. */
static Flow send_run(Capture *c, Sync *sync, guint64 first, guint64 count, GError **error)
{
    guint64 end = first + count;
    while (first < end) {
        guint64 extent = 1;
        gboolean hole = !page_set_contains(c->touched, first) &&
                        ram_next_extent(c->ram, first, end - first, &extent);
        guint64 stop = first + extent;
        while (first < stop) {
            guint64 n = hole ? extent : MIN(stop - first, BATCH_PAGES);
            Flow flow =
                hole ? send_hole(c, sync, first, n, error) : send_batch(c, sync, first, n, error);
            first += n;
            if (flow != FLOW_OK)
                return flow;
        }
    }
    return FLOW_OK;
}

/* Sends all of `pending`. */
static Flow send_pending(Capture *c, Sync *sync, GError **error)
{
    guint64 first, count;
    capture_choose_packing(c, TRUE, sync != NULL);
    while (page_set_next_run(c->pending, 0, &first, &count)) {
        Flow flow = send_run(c, sync, first, count, error);
        if (flow != FLOW_OK)
            return flow;
    }
    return capture_flush(c, TRUE, error);
}

/* ---- The first synchronisation ---- */

static gboolean no_converge(const Sync *sync, GError **error)
{
    const SyncProgress *p = &sync->progress;
    g_set_error(
        error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_NO_CONVERGE,
        "the first synchronisation does not converge: after %u rounds %.1f MiB are left and "
        "a pause takes %.1f MiB; the guest dirties %.1f MiB/s, the link takes %.1f MiB/s "
        "(give the guest less to do, the link more bandwidth, ram-sync-rate a higher bound or "
        "none, "
        "or the pause more pages)",
        p->round, (double)p->left_bytes / MIB, (double)(sync->pause_pages * VM_PAGE_SIZE) / MIB,
        p->dirty_bytes_per_s / MIB, p->send_bytes_per_s / MIB);
    return FALSE;
}

/*
 * Judges a round. It makes progress if it leaves at least a tenth less than the best one before.
 * The synchronisation is given up after patience_rounds rounds and patience_us without progress.
 */
static gboolean end_round(Capture *c, Sync *sync, GError **error)
{
    CaptureTuning tuning = capture_tuning(c);
    ColoTime now = colo_time_now();
    guint64 left = page_set_count(c->pending);
    gint64 took_us = MAX(colo_time_diff_us(now, sync->round_start), 1);
    sync->progress.dirty_bytes_per_s =
        (double)(left * VM_PAGE_SIZE) * G_USEC_PER_SEC / (double)took_us;
    update_progress(c, sync, now);
    if (left < sync->best_left - sync->best_left / 10) {
        sync->best_left = left;
        sync->best_at = now;
        sync->stale_rounds = 0;
    } else {
        sync->stale_rounds++;
    }
    if (left <= sync->pause_pages)
        return TRUE;
    if (sync->stale_rounds >= MAX(tuning.patience_rounds, 1) &&
        colo_time_diff_us(now, sync->best_at) >= tuning.patience_us)
        return no_converge(sync, error);
    return TRUE;
}

static Flow await_start(Capture *c, GError **error)
{
    if (!c->base)
        c->base = base_receive(page_set_limit(c->pending), capture_receive, c, error);
    if (!c->base)
        return FLOW_FAILED;
    __atomic_store_n(&c->awaits_base, FALSE, __ATOMIC_RELAXED);
    g_mutex_lock(&c->lock);
    ColoTime start = c->start;
    g_mutex_unlock(&c->lock);
    while (!capture_command_waiting(c)) {
        gint64 left_us = colo_time_diff_us(start, colo_time_now());
        if (left_us <= 0)
            return FLOW_OK;
        capture_wait(c, left_us);
    }
    return FLOW_COMMAND;
}

Flow capture_synchronise_run(Capture *c, guint64 pause_pages, GError **error)
{
    Flow start = await_start(c, error);
    if (start != FLOW_OK)
        return start;
    ColoTime now = colo_time_now();
    Sync sync = {
        .pause_pages = pause_pages,
        .start = now,
        .last_post = now,
        .best_at = now,
        .best_left = G_MAXUINT64,
        .pace = {.at = now     },
        .paced_bytes = c->stats.bytes,
        .began_bytes = c->stats.bytes,
        .progress = { .total_bytes = c->ram->size_bytes, .left_us = -1}
    };
    page_set_add_set(c->pending, c->fresh);
    page_set_clear(c->fresh);
    /* What was written before needs no second round. */
    if (!dirty_tracker_harvest(c->tracker, c->pending, error))
        return FLOW_FAILED;
    do {
        /* Short rounds would only make the guest fault. */
        if (sync.stale_rounds > 0)
            capture_wait(c, capture_tuning(c).round_interval_us);
        sync.progress.round++;
        sync.round_pages = 0;
        sync.round_start = colo_time_now();
        Flow flow = send_pending(c, &sync, error);
        if (flow != FLOW_OK)
            return flow;
        if (!dirty_tracker_harvest(c->tracker, c->pending, error) || !end_round(c, &sync, error))
            return FLOW_FAILED;
        capture_post_progress(c, &sync.progress, FALSE);
    } while (page_set_count(c->pending) > pause_pages);
    capture_ahead_reset(c);
    capture_note_dirty(c, page_set_count(c->pending));
    capture_post_progress(c, &sync.progress, TRUE);
    return FLOW_OK;
}

/* ---- Between checkpoints ---- */

void capture_ahead_reset(Capture *c)
{
    CaptureTuning tuning = capture_tuning(c);
    ColoTime now = colo_time_now();
    c->synchronised = TRUE;
    c->next_look = colo_time_add_us(now, tuning.look_interval_us);
    c->round_gap_us = tuning.round_interval_us;
    c->next_round = now;
}

/* Makes room for what the pause will copy, and maps pages that are new to colod, so that the pause
 * does not fault. Stops when a command waits. */
static void prepare_pause(Capture *c, guint64 dirty)
{
    guint64 want = MIN((dirty + dirty / 4) * VM_PAGE_SIZE, c->ram->size_bytes);
    while (c->staging.ready_bytes < want) {
        if (capture_command_waiting(c))
            return;
        arena_prepare(&c->staging, MIN(c->staging.ready_bytes + PREPARE_BYTES, want));
    }
    guint64 first, count, batch = 0;
    page_set_remove_set(c->look, c->touched);
    for (guint64 at = 0; page_set_next_run(c->look, at, &first, &count); at = first + count) {
        for (guint64 page = first; page < first + count; page++) {
            if (++batch % BATCH_PAGES == 0 && capture_command_waiting(c))
                return;
            capture_touch(c, page);
        }
    }
}

void capture_note_dirty(Capture *c, guint64 pages)
{
    guint64 limit = __atomic_load_n(&c->dirty_limit, __ATOMIC_RELAXED);
    gboolean is_over = limit && pages >= limit;
    __atomic_store_n(&c->dirty_now, pages, __ATOMIC_RELAXED);
    if (is_over && !c->is_over_limit)
        capture_post_dirty_limit(c);
    c->is_over_limit = is_over;
}

gboolean capture_look(Capture *c, GError **error)
{
    ColoTime start = colo_time_now();
    if (colo_time_diff_us(start, c->next_look) < 0)
        return TRUE;
    page_set_clear(c->look);
    if (!dirty_tracker_peek(c->tracker, c->look, error))
        return FALSE;
    page_set_add_set(c->look, c->fresh);
    guint64 dirty = page_set_count_union(c->pending, c->look);
    capture_note_dirty(c, dirty);
    ColoTime end = colo_time_now();
    gint64 gap_us =
        MAX(capture_tuning(c).look_interval_us, LOOK_SHARE * colo_time_diff_us(end, start));
    c->next_look = colo_time_add_us(end, gap_us);
    prepare_pause(c, dirty);
    return TRUE;
}

/* One round of sending ahead, as told at the top. */
static Flow send_ahead(Capture *c, GError **error)
{
    CaptureTuning tuning = capture_tuning(c);
    page_set_add_set(c->pending, c->fresh);
    page_set_clear(c->fresh);
    guint64 known = page_set_count(c->pending);
    if (!dirty_tracker_harvest(c->tracker, c->fresh, error))
        return FLOW_FAILED;
    page_set_remove_set(c->pending, c->fresh);
    guint64 quiet = page_set_count(c->pending);
    if (quiet >= known / 4)
        c->round_gap_us = c->round_gap_us / 2;
    else
        c->round_gap_us = c->round_gap_us * 2;
    c->round_gap_us = CLAMP(c->round_gap_us, tuning.round_interval_us,
                            MAX(ROUND_GAP_MAX_US, tuning.round_interval_us));
    Flow flow = send_pending(c, NULL, error);
    c->next_round = colo_time_add_us(colo_time_now(), c->round_gap_us);
    return flow;
}

Flow capture_idle_step(Capture *c, GError **error)
{
    if (!capture_look(c, error))
        return FLOW_FAILED;
    if (__atomic_load_n(&c->dirty_now, __ATOMIC_RELAXED) <= capture_tuning(c).ahead_pages ||
        colo_time_diff_us(colo_time_now(), c->next_round) < 0)
        return FLOW_OK;
    return send_ahead(c, error);
}

gint64 capture_idle_us(const Capture *c)
{
    if (!c->synchronised)
        return -1;
    return MAX(colo_time_diff_us(c->next_look, colo_time_now()), 0);
}
