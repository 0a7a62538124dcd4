/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side: the thread, its commands, and the checkpoints themselves.
 *
 * In the pause there is only what must be there: harvest, and copying the dirty pages to a staging
 * area whose memory exists already (measured: .45 us a page). Looking for zero pages, packing, hashing
 * and sending come after it. Staging never holds more than the guest's RAM. What it holds beyond twice
 * the largest of the recent checkpoints goes back to the host.
 *
 * The thread does one thing at a time and looks for commands between small pieces of work. The
 * longest piece that a paused VM can meet is one harvest or look.
 *
 * Errors end the capture: failed() once, then nothing but waiting for capture_free().
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/capture_internal.h"
#include "common/fault.h"
#include "common/fd.h"

/* Staging memory that is kept ready at least. */
#define STAGING_MIN_PAGES 1024

typedef enum {
    MSG_PROGRESS,
    MSG_SYNCHRONISED,
    MSG_TAKEN,
    MSG_SENT,
    MSG_DIRTY_LIMIT,
    MSG_FAILED
} MessageKind;

typedef struct {
    MessageKind kind;
    SyncProgress progress;
    CaptureStats stats;
    GError *error;
} Message;

static void deliver(gpointer data, gboolean wanted, gpointer user_data)
{
    Message *m = data;
    Capture *c = user_data;
    if (wanted) {
        const CaptureCallbacks *cb = &c->callbacks;
        gpointer owner = c->user_data;
        /* Before the call: the callback may take the next checkpoint, or free the capture. */
        if (m->kind == MSG_SENT)
            c->busy = FALSE;
        if (m->kind == MSG_PROGRESS && cb->progress)
            cb->progress(&m->progress, owner);
        else if (m->kind == MSG_SYNCHRONISED && cb->synchronised)
            cb->synchronised(&m->progress, owner);
        else if (m->kind == MSG_TAKEN && cb->taken)
            cb->taken(&m->stats, owner);
        else if (m->kind == MSG_SENT && cb->sent)
            cb->sent(&m->stats, owner);
        else if (m->kind == MSG_DIRTY_LIMIT && cb->dirty_limit)
            cb->dirty_limit(owner);
        else if (m->kind == MSG_FAILED && cb->failed)
            cb->failed(m->error, owner);
    }
    g_clear_error(&m->error);
    g_free(m);
}

static void post_stats(Capture *c, MessageKind kind)
{
    Message *m = g_new0(Message, 1);
    m->kind = kind;
    m->stats = c->stats;
    mailbox_post(c->mailbox, m);
}

void capture_post_progress(Capture *c, const SyncProgress *progress, gboolean done)
{
    Message *m = g_new0(Message, 1);
    m->kind = done ? MSG_SYNCHRONISED : MSG_PROGRESS;
    m->progress = *progress;
    mailbox_post(c->mailbox, m);
}

void capture_post_dirty_limit(Capture *c)
{
    Message *m = g_new0(Message, 1);
    m->kind = MSG_DIRTY_LIMIT;
    mailbox_post(c->mailbox, m);
}

static void post_failed(Capture *c, GError *error)
{
    Message *m = g_new0(Message, 1);
    m->kind = MSG_FAILED;
    m->error = error;
    mailbox_post(c->mailbox, m);
}

gboolean capture_command_waiting(Capture *c)
{
    g_mutex_lock(&c->lock);
    gboolean waiting = c->quit || c->take || c->want_sync;
    g_mutex_unlock(&c->lock);
    return waiting;
}

CaptureTuning capture_tuning(Capture *c)
{
    g_mutex_lock(&c->lock);
    CaptureTuning tuning = c->tuning;
    g_mutex_unlock(&c->lock);
    return tuning;
}

static void take_command_free(TakeCommand *take)
{
    if (!take)
        return;
    g_bytes_unref(take->device_state);
    if (take->frames)
        g_ptr_array_unref(take->frames);
    g_bytes_unref(take->attachment);
    g_free(take);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TakeCommand, take_command_free)

/* ---- A checkpoint ---- */

gboolean capture_touch(Capture *c, guint64 page)
{
    if (page_set_contains(c->touched, page))
        return TRUE;
    guint64 count;
    if (ram_next_extent(c->ram, page, 1, &count))
        return FALSE;
    (void)*(volatile guint8 *)(c->ram->base + page * VM_PAGE_SIZE);
    page_set_add_run(c->touched, page, 1);
    return TRUE;
}

/* Copies the pages of `copied` to staging, in order. */
static void copy_to_staging(Capture *c)
{
    guint64 count = page_set_count(c->copied);
    arena_prepare(&c->staging, count * VM_PAGE_SIZE);
    guint8 *slot = c->staging.base;
    guint64 first, n;
    for (guint64 at = 0; page_set_next_run(c->copied, at, &first, &n); at = first + n) {
        for (guint64 page = first; page < first + n; page++, slot += VM_PAGE_SIZE) {
            if (capture_touch(c, page))
                memcpy(slot, c->ram->base + page * VM_PAGE_SIZE, VM_PAGE_SIZE);
            else
                memset(slot, 0, VM_PAGE_SIZE);
        }
    }
}

/* The part within the pause. */
static gboolean take_copy(Capture *c, GError **error)
{
    ColoTime start = colo_time_now();
    page_set_add_set(c->pending, c->fresh);
    page_set_clear(c->fresh);
    g_mutex_lock(&c->lock);
    page_set_add_set(c->pending, c->added);
    page_set_clear(c->added);
    g_mutex_unlock(&c->lock);
    if (!dirty_tracker_harvest(c->tracker, c->pending, error))
        return FALSE;
    ColoTime harvested = colo_time_now();
    PageSet *taken = c->pending;
    c->pending = c->copied; /* empty */
    c->copied = taken;
    copy_to_staging(c);
    ColoTime copied = colo_time_now();
    c->stats.harvest_us = colo_time_diff_us(harvested, start);
    c->stats.copy_us = colo_time_diff_us(copied, harvested);
    c->stats.dirty_pages = page_set_count(c->copied);
    return TRUE;
}

/* Gives a chunk to the socket when it is large enough, and keeps the look up to date meanwhile. */
static gboolean send_chunk(Capture *c, GError **error)
{
    if (stream_writer_pending(c->writer) < CAPTURE_CHUNK_BYTES)
        return TRUE;
    if (capture_flush(c, FALSE, error) != FLOW_OK)
        return FALSE;
    capture_choose_packing(c, FALSE, TRUE);
    return capture_look(c, error);
}

/* Half of the checkpoint is on its way. */
static gboolean send_half(Capture *c, GError **error)
{
    if (capture_flush(c, FALSE, error) != FLOW_OK)
        return FALSE;
    colo_fault_point("primary-sending");
    return TRUE;
}

static gboolean send_staging(Capture *c, GError **error)
{
    const guint8 *slot = c->staging.base;
    guint64 first, count, sent = 0, half = page_set_count(c->copied) / 2;
    for (guint64 at = 0; page_set_next_run(c->copied, at, &first, &count); at = first + count) {
        for (guint64 page = first; page < first + count; page++, slot += VM_PAGE_SIZE) {
            if (sent++ == half && !send_half(c, error))
                return FALSE;
            if (stream_writer_page(c->writer, page, slot))
                c->stats.zero_pages++;
            dirty_tracker_copied(c->tracker, page, slot);
            if (!send_chunk(c, error))
                return FALSE;
        }
    }
    return sent > 0 || send_half(c, error);
}

static gboolean send_frames(Capture *c, const GPtrArray *frames, GError **error)
{
    for (guint i = 0; frames && i < frames->len; i++) {
        const HeldFrame *frame = g_ptr_array_index(frames, i);
        if (!stream_writer_frame(c->writer, frame->nic, frame->data, error) ||
            !send_chunk(c, error))
            return FALSE;
    }
    return TRUE;
}

/* Gives staging memory back that the recent checkpoints did not need. */
static void settle_staging(Capture *c)
{
    guint64 used = page_set_count(c->copied);
    c->staging_peak = MAX(MAX(used, c->staging_peak - c->staging_peak / 64), STAGING_MIN_PAGES);
    page_set_clear(c->copied);
    arena_trim(&c->staging, 2 * c->staging_peak * VM_PAGE_SIZE);
}

static gboolean take(Capture *c, const TakeCommand *command, GError **error)
{
    if (!take_copy(c, error))
        return FALSE;
    ColoTime copied = colo_time_now();
    c->stats.epoch = command->epoch;
    colo_fault_point("primary-copied");
    capture_note_dirty(c, 0);
    post_stats(c, MSG_TAKEN);
    capture_ahead_reset(c);
    /* What was sent ahead and is still with the writer comes first. */
    stream_writer_begin(c->writer, command->epoch);
    capture_choose_packing(c, TRUE, TRUE);
    if (!send_staging(c, error) ||
        !stream_writer_device_state(c->writer, command->device_state, error) ||
        (command->attachment && !stream_writer_attachment(c->writer, command->attachment, error)) ||
        !send_frames(c, command->frames, error))
        return FALSE;
    stream_writer_end(c->writer, command->epoch);
    if (capture_flush(c, FALSE, error) != FLOW_OK)
        return FALSE;
    colo_fault_point("primary-sent");
    c->stats.transfer_us = colo_time_diff_us(colo_time_now(), copied);
    c->stats.plain_bytes = (guint64)((gint64)c->stats.bytes + stream_writer_saved(c->writer));
    c->stats.codec = c->pack_rule.chosen;
    post_stats(c, MSG_SENT);
    c->stats = (CaptureStats){0};
    g_clear_pointer(&c->base, base_free);
    settle_staging(c);
    return TRUE;
}

/* ---- The thread ---- */

/* Does the next thing; FALSE if the capture is over: with an error, or without one on quit. */
static gboolean step(Capture *c, GError **error)
{
    g_mutex_lock(&c->lock);
    gboolean quit = c->quit, sync = c->want_sync;
    guint64 pause_pages = c->pause_pages;
    g_autoptr(TakeCommand) command = g_steal_pointer(&c->take);
    c->want_sync = FALSE;
    g_mutex_unlock(&c->lock);
    if (quit)
        return FALSE;
    if (command)
        return take(c, command, error);
    if (sync)
        return capture_synchronise_run(c, pause_pages, error) != FLOW_FAILED;
    if (c->synchronised && capture_idle_step(c, error) == FLOW_FAILED)
        return FALSE;
    if (!capture_command_waiting(c))
        capture_wait(c, capture_idle_us(c));
    return TRUE;
}

static gpointer capture_thread(gpointer data)
{
    Capture *c = data;
    g_autoptr(GError) error = NULL;
    while (step(c, &error))
        ;
    if (error)
        post_failed(c, g_steal_pointer(&error));
    return NULL;
}

/* ---- The owner's side ---- */

static void wake(Capture *c)
{
    guint64 one = 1;
    ssize_t put = write(c->wake, &one, sizeof(one));
    /* It can only fail with a counter that is full, so awake already. */
    (void)put;
}

Capture *capture_new(const VmRam *ram, DirtyTracker *tracker, int fd,
                     const CaptureCallbacks *callbacks, gpointer user_data, GError **error)
{
    if (!ram_check(ram, error))
        return NULL;
    guint64 pages = ram->size_bytes / VM_PAGE_SIZE;
    g_autoptr(Capture) c = g_new0(Capture, 1);
    c->ram = ram;
    c->tracker = tracker;
    c->fd = fd;
    c->callbacks = *callbacks;
    c->user_data = user_data;
    c->tuning = CAPTURE_TUNING_DEFAULT;
    c->packing = CAPTURE_PACK_OFF;
    g_mutex_init(&c->lock);
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake < 0) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO, "eventfd: %s", g_strerror(errno));
        return NULL;
    }
    if (!arena_init(&c->staging, ram->size_bytes, error))
        return NULL;
    c->staging_peak = STAGING_MIN_PAGES;
    c->writer = stream_writer_new(ram->id, ram->size_bytes);
    c->pending = page_set_new(pages);
    page_set_add_run(c->pending, 0, pages);
    c->fresh = page_set_new(pages);
    c->added = page_set_new(pages);
    c->copied = page_set_new(pages);
    c->look = page_set_new(pages);
    c->touched = page_set_new(pages);
    c->dirty_now = pages;
    c->mailbox = mailbox_new(deliver, c);
    c->thread = g_thread_try_new("colo-capture", capture_thread, c, error);
    if (!c->thread) {
        g_prefix_error(error, "capture thread: ");
        return NULL;
    }
    return g_steal_pointer(&c);
}

void capture_free(Capture *c)
{
    if (!c)
        return;
    if (c->thread) {
        g_mutex_lock(&c->lock);
        c->quit = TRUE;
        g_mutex_unlock(&c->lock);
        wake(c);
        shutdown(c->fd, SHUT_RDWR);
        g_thread_join(c->thread);
    }
    if (c->mailbox)
        mailbox_close(c->mailbox);
    colo_fd_close(&c->wake);
    take_command_free(c->take);
    arena_clear(&c->staging);
    base_free(c->base);
    stream_writer_free(c->writer);
    page_set_free(c->pending);
    page_set_free(c->fresh);
    page_set_free(c->added);
    page_set_free(c->copied);
    page_set_free(c->look);
    page_set_free(c->touched);
    g_mutex_clear(&c->lock);
    g_free(c);
}

void capture_synchronise(Capture *c, guint64 pause_pages)
{
    __atomic_store_n(&c->awaits_base, TRUE, __ATOMIC_RELAXED);
    g_mutex_lock(&c->lock);
    c->want_sync = TRUE;
    c->pause_pages = pause_pages;
    g_mutex_unlock(&c->lock);
    wake(c);
}

void capture_take(Capture *c, guint64 epoch, GBytes *device_state, GPtrArray *frames,
                  GBytes *attachment)
{
    g_assert(!c->busy && (c->last_epoch == 0 || epoch == c->last_epoch + 1));
    c->busy = TRUE;
    c->last_epoch = epoch;
    TakeCommand *command = g_new(TakeCommand, 1);
    *command = (TakeCommand){.epoch = epoch,
                             .device_state = g_bytes_ref(device_state),
                             .frames = frames ? g_ptr_array_ref(frames) : NULL,
                             .attachment = attachment ? g_bytes_ref(attachment) : NULL};
    g_mutex_lock(&c->lock);
    take_command_free(c->take); /* of a capture that has failed */
    c->take = command;
    g_mutex_unlock(&c->lock);
    wake(c);
}

gboolean capture_awaits_base(const Capture *c)
{
    return __atomic_load_n(&c->awaits_base, __ATOMIC_RELAXED);
}

void capture_add_pages(Capture *c, guint64 first, guint64 count)
{
    g_mutex_lock(&c->lock);
    page_set_add_run(c->added, first, count);
    g_mutex_unlock(&c->lock);
}

guint64 capture_dirty_pages(const Capture *c)
{
    return __atomic_load_n(&c->dirty_now, __ATOMIC_RELAXED);
}

void capture_set_start(Capture *c, ColoTime start)
{
    g_mutex_lock(&c->lock);
    c->start = start;
    g_mutex_unlock(&c->lock);
}

void capture_set_sync_rate(Capture *c, guint64 bytes_per_s)
{
    __atomic_store_n(&c->sync_rate, bytes_per_s, __ATOMIC_RELAXED);
    wake(c);
}

void capture_set_packing(Capture *c, CapturePack packing)
{
    __atomic_store_n(&c->packing, packing, __ATOMIC_RELAXED);
}

void capture_set_dirty_limit(Capture *c, guint64 pages)
{
    __atomic_store_n(&c->dirty_limit, pages, __ATOMIC_RELAXED);
}

void capture_set_tuning(Capture *c, const CaptureTuning *tuning)
{
    g_mutex_lock(&c->lock);
    c->tuning = *tuning;
    g_mutex_unlock(&c->lock);
    wake(c);
}
