/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's side: reads the stream, stages each checkpoint, verifies it, and makes RAM that
 * of the checkpoint.
 *
 * Invariants:
 * - RAM changes only by checkpoints that are complete and verified. The first one of a stream is
 *   the exception: RAM has no valid contents before it, so its pages are written to RAM as they
 *   come. If the first checkpoint stays incomplete, RAM is unusable and apply_finish() gives NULL.
 *   What is in RAM by chance is told to the other side (base.h), which may then leave it out.
 * - received() is posted before the first byte of RAM changes. From then on only the death of this
 *   process keeps the checkpoint from being applied.
 * - Nothing is read while a checkpoint is being applied: the connection's own flow control holds
 *   the primary back. So there is at most one complete checkpoint that is not applied, and one
 *   incomplete.
 *
 * - With apply_allow(), a checkpoint waits between being verified and being complete.
 *
 * Memory: 4 bytes per page of RAM, two bits per page, and staging. Staging has one slot for each
 * page that came with data since the last END, however often it came; at most the size of RAM.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "checkpoint/base.h"
#include "checkpoint/stream_internal.h"
#include "common/fault.h"

#define PROGRESS_US       (100 * COLO_US_PER_MS)
#define STAGING_MIN_PAGES 1024

typedef struct {
    Checkpoint checkpoint;
    gatomicrefcount references;
} CountedCheckpoint;

typedef void (*FinishFunc)(Checkpoint *checkpoint, gpointer user_data);

struct Apply {
    const VmRam *ram; /* borrowed */
    int fd;           /* borrowed */
    ApplyCallbacks callbacks;
    gpointer user_data;
    Mailbox *mailbox;
    GThread *thread;

    GMutex lock;
    gboolean stop;  /* under lock: read nothing more */
    gboolean ended; /* under lock: the thread has posted all but FINISHED */
    gboolean waits; /* under lock: for a checkpoint to be allowed */
    guint64 allowed;
    GCond changed; /* stop or allowed */

    /* The owner's. */
    FinishFunc done;
    gpointer done_data;

    /* The thread's own; `applied` also the owner's once `ended`. */
    StreamReader *reader;
    gboolean first;  /* no END yet */
    PageSet *staged; /* named since the last END */
    PageSet *zero;   /* those of `staged` that are zero now */
    guint32 *slots;  /* by page: its slot + 1, 0: none yet; for pages of `staged` only */
    guint32 used_slots;
    Arena staging;
    guint64 staging_peak;
    GBytes *device_state;
    GPtrArray *frames;
    GBytes *attachment;
    ColoTime begun, last_post;
    Checkpoint *applied; /* what RAM is of, or NULL */
};

/* ---- Checkpoints ---- */

Checkpoint *checkpoint_ref(Checkpoint *checkpoint)
{
    g_atomic_ref_count_inc(&((CountedCheckpoint *)checkpoint)->references);
    return checkpoint;
}

void checkpoint_unref(Checkpoint *checkpoint)
{
    if (!checkpoint || !g_atomic_ref_count_dec(&((CountedCheckpoint *)checkpoint)->references))
        return;
    g_bytes_unref(checkpoint->device_state);
    g_ptr_array_unref(checkpoint->frames);
    g_bytes_unref(checkpoint->attachment);
    g_free(checkpoint);
}

/* ---- Reports ---- */

typedef enum { MSG_PROGRESS, MSG_RECEIVED, MSG_APPLIED, MSG_FAILED, MSG_FINISHED } MessageKind;

typedef struct {
    MessageKind kind;
    guint64 received_bytes;
    Checkpoint *checkpoint; /* a reference */
    gint64 apply_us;
    GError *error;
} Message;

static void deliver(gpointer data, gboolean wanted, gpointer user_data)
{
    Message *m = data;
    Apply *a = user_data;
    if (wanted) {
        const ApplyCallbacks *cb = &a->callbacks;
        if (m->kind == MSG_APPLIED)
            m->checkpoint->apply_us = m->apply_us; /* here: the owner's thread reads it */
        if (m->kind == MSG_PROGRESS && cb->progress)
            cb->progress(m->received_bytes, a->ram->size_bytes, a->user_data);
        else if (m->kind == MSG_RECEIVED && cb->received)
            cb->received(m->checkpoint, a->user_data);
        else if (m->kind == MSG_APPLIED && cb->applied)
            cb->applied(m->checkpoint, a->user_data);
        else if (m->kind == MSG_FAILED && cb->failed)
            cb->failed(m->error, a->user_data);
        else if (m->kind == MSG_FINISHED)
            a->done(m->checkpoint, a->done_data);
    }
    checkpoint_unref(m->checkpoint);
    g_clear_error(&m->error);
    g_free(m);
}

static Message *post(Apply *a, MessageKind kind, Checkpoint *checkpoint, gint64 apply_us,
                     GError *error)
{
    Message *m = g_new0(Message, 1);
    m->kind = kind;
    m->checkpoint = checkpoint ? checkpoint_ref(checkpoint) : NULL;
    m->apply_us = apply_us;
    m->error = error;
    m->received_bytes = page_set_count(a->staged) * VM_PAGE_SIZE;
    mailbox_post(a->mailbox, m);
    return m;
}

static gboolean is_stopping(Apply *a)
{
    g_mutex_lock(&a->lock);
    gboolean stop = a->stop;
    g_mutex_unlock(&a->lock);
    return stop;
}

/* ---- Staging ---- */

static guint8 *staging_slot(Apply *a, guint64 page)
{
    if (a->slots[page] == 0)
        a->slots[page] = ++a->used_slots;
    return a->staging.base + (guint64)(a->slots[page] - 1) * VM_PAGE_SIZE;
}

static void stage(Apply *a, const StreamRecord *record)
{
    page_set_add_run(a->staged, record->first, record->count);
    if (!record->data) {
        page_set_add_run(a->zero, record->first, record->count);
        return;
    }
    page_set_remove_run(a->zero, record->first, record->count);
    const guint8 *data = record->data;
    for (guint64 page = record->first; page < record->first + record->count; page++) {
        memcpy(staging_slot(a, page), data, VM_PAGE_SIZE);
        data += VM_PAGE_SIZE;
        /* Maps the page now, so that writing it later does not fault. */
        (void)*(volatile guint8 *)(a->ram->base + page * VM_PAGE_SIZE);
    }
}

/* The first checkpoint goes to RAM at once; `staged` only counts its pages. */
static void write_through(Apply *a, const StreamRecord *record)
{
    page_set_add_run(a->staged, record->first, record->count);
    if (record->type == STREAM_SAME)
        ; /* as it was told, and nobody has written to it since */
    else if (record->data)
        ram_write_new(a->ram, record->first, record->count, record->data);
    else
        ram_zero(a->ram, record->first, record->count);
    ColoTime now = colo_time_now();
    if (colo_time_diff_us(now, a->last_post) < PROGRESS_US)
        return;
    a->last_post = now;
    post(a, MSG_PROGRESS, NULL, 0, NULL);
}

static void take_pages(Apply *a, const StreamRecord *record)
{
    if (a->first) {
        write_through(a, record);
        colo_fault_point("secondary-sync");
    } else {
        stage(a, record);
        colo_fault_point("secondary-staging");
    }
}

static void apply_staged(Apply *a)
{
    guint64 applied = 0, half = page_set_count(a->staged) / 2;
    gboolean halfway = FALSE;
    guint64 first, count;
    for (guint64 at = 0; page_set_next_run(a->zero, at, &first, &count); at = first + count) {
        ram_zero(a->ram, first, count);
        applied += count;
    }
    page_set_remove_set(a->staged, a->zero);
    for (guint64 at = 0; page_set_next_run(a->staged, at, &first, &count); at = first + count) {
        if (!halfway && applied >= half) {
            halfway = TRUE;
            colo_fault_point("secondary-applying");
        }
        for (guint64 page = first; page < first + count; page++)
            memcpy(a->ram->base + page * VM_PAGE_SIZE, staging_slot(a, page), VM_PAGE_SIZE);
        applied += count;
    }
    if (!halfway)
        colo_fault_point("secondary-applying");
}

static void settle_staging(Apply *a)
{
    a->staging_peak =
        MAX(MAX(a->used_slots, a->staging_peak - a->staging_peak / 64), STAGING_MIN_PAGES);
    a->staging.ready_bytes = MAX(a->staging.ready_bytes, (guint64)a->used_slots * VM_PAGE_SIZE);
    arena_trim(&a->staging, 2 * a->staging_peak * VM_PAGE_SIZE);
    /* All slots are free again; those of `zero` too, which may have had data before. */
    page_set_add_set(a->staged, a->zero);
    guint64 first, count;
    for (guint64 at = 0; page_set_next_run(a->staged, at, &first, &count); at = first + count)
        memset(a->slots + first, 0, count * sizeof(*a->slots));
    a->used_slots = 0;
    page_set_clear(a->staged);
    page_set_clear(a->zero);
}

/* FALSE: the end has come before. */
static gboolean wait_until_allowed(Apply *a, guint64 epoch)
{
    g_mutex_lock(&a->lock);
    while (a->waits && a->allowed < epoch && !a->stop)
        g_cond_wait(&a->changed, &a->lock);
    gboolean allowed = !a->waits || a->allowed >= epoch;
    g_mutex_unlock(&a->lock);
    return allowed;
}

/* END was verified, and the checkpoint is allowed. */
static gboolean complete(Apply *a, const StreamRecord *end, GError **error)
{
    colo_fault_point("secondary-verified");
    CountedCheckpoint *counted = g_new0(CountedCheckpoint, 1);
    g_atomic_ref_count_init(&counted->references);
    g_autoptr(Checkpoint) checkpoint = &counted->checkpoint;
    checkpoint->epoch = end->epoch;
    checkpoint->device_state = g_steal_pointer(&a->device_state);
    checkpoint->frames = g_steal_pointer(&a->frames);
    checkpoint->attachment = g_steal_pointer(&a->attachment);
    a->frames = checkpoint_frames_new();
    checkpoint->pages = end->total_pages;
    checkpoint->bytes = end->total_bytes;
    checkpoint->plain_bytes = end->plain_bytes;
    if (a->callbacks.check && !a->callbacks.check(checkpoint, error))
        return FALSE;
    ColoTime received = colo_time_now();
    checkpoint->transfer_us = colo_time_diff_us(received, a->begun);
    if (a->first)
        post(a, MSG_PROGRESS, NULL, 0, NULL);
    post(a, MSG_RECEIVED, checkpoint, 0, NULL);
    if (a->first)
        colo_fault_point("secondary-applying");
    else
        apply_staged(a);
    a->first = FALSE;
    settle_staging(a);
    g_clear_pointer(&a->applied, checkpoint_unref);
    a->applied = checkpoint_ref(checkpoint);
    colo_fault_point("secondary-applied");
    post(a, MSG_APPLIED, checkpoint, colo_time_diff_us(colo_time_now(), received), NULL);
    return TRUE;
}

/* ---- The thread ---- */

static gssize receive(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    Apply *a = opaque;
    while (!is_stopping(a)) {
        ssize_t got = recv(a->fd, buf, len, 0);
        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO,
                    "the checkpoint connection can't be read from: %s", g_strerror(errno));
        return -1;
    }
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO, "stopped");
    return -1;
}

static gboolean send_all(gpointer opaque, const guint8 *bytes, gsize len, GError **error)
{
    Apply *a = opaque;
    for (gsize sent = 0; sent < len;) {
        if (is_stopping(a)) {
            g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO, "stopped");
            return FALSE;
        }
        ssize_t put = send(a->fd, bytes + sent, len - sent, MSG_NOSIGNAL);
        if (put > 0) {
            sent += (gsize)put;
        } else if (errno != EINTR) {
            g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO,
                        "the checkpoint connection can't be written to: %s", g_strerror(errno));
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean tell_base(Apply *a, GError **error)
{
    guint64 seed = (guint64)g_random_int() << 32 | g_random_int();
    return base_send(a->ram, seed, send_all, a, error);
}

static gboolean step(Apply *a, GError **error)
{
    StreamRecord record;
    if (is_stopping(a) || !stream_reader_next(a->reader, &record, error))
        return FALSE;
    switch (record.type) {
    case STREAM_PAGES:
    case STREAM_ZERO:
    case STREAM_SAME:
        take_pages(a, &record);
        break;
    case STREAM_BEGIN:
        a->begun = colo_time_now();
        break;
    case STREAM_DEVICE_STATE:
        a->device_state = record.bytes;
        break;
    case STREAM_ATTACHMENT:
        a->attachment = record.bytes;
        break;
    case STREAM_FRAME:
        checkpoint_frames_add(a->frames, record.nic, record.bytes);
        break;
    case STREAM_END:
        if (wait_until_allowed(a, record.epoch))
            return complete(a, &record, error);
        break;
    default:
        g_assert_not_reached(); /* the reader gives no others */
    }
    return TRUE;
}

static gpointer apply_thread(gpointer data)
{
    Apply *a = data;
    g_autoptr(GError) error = NULL;
    gboolean ok = tell_base(a, &error);
    while (ok && step(a, &error))
        ;
    g_mutex_lock(&a->lock);
    a->ended = TRUE;
    if (a->stop)
        post(a, MSG_FINISHED, a->applied, 0, NULL);
    else
        post(a, MSG_FAILED, NULL, 0, g_steal_pointer(&error));
    g_mutex_unlock(&a->lock);
    return NULL;
}

/* ---- The owner's side ---- */

Apply *apply_new(const VmRam *ram, int fd, const ApplyCallbacks *callbacks, gpointer user_data,
                 GError **error)
{
    if (!ram_check(ram, error))
        return NULL;
    guint64 pages = ram->size_bytes / VM_PAGE_SIZE;
    g_autoptr(Apply) a = g_new0(Apply, 1);
    g_mutex_init(&a->lock);
    g_cond_init(&a->changed);
    a->ram = ram;
    a->fd = fd;
    a->callbacks = *callbacks;
    a->user_data = user_data;
    if (!arena_init(&a->staging, ram->size_bytes, error))
        return NULL;
    a->first = TRUE;
    a->reader = stream_reader_new(ram->id, ram->size_bytes, receive, a);
    a->staged = page_set_new(pages);
    a->zero = page_set_new(pages);
    a->slots = g_new0(guint32, pages);
    a->frames = checkpoint_frames_new();
    a->mailbox = mailbox_new(deliver, a);
    a->thread = g_thread_try_new("colo-apply", apply_thread, a, error);
    if (!a->thread) {
        g_prefix_error(error, "apply thread: ");
        return NULL;
    }
    return g_steal_pointer(&a);
}

/* Returns whether the thread had ended before. The peer does not notice. */
static gboolean stop(Apply *a)
{
    g_mutex_lock(&a->lock);
    gboolean ended = a->ended;
    a->stop = TRUE;
    g_cond_signal(&a->changed);
    g_mutex_unlock(&a->lock);
    shutdown(a->fd, SHUT_RD);
    return ended;
}

void apply_allow(Apply *a, guint64 epoch)
{
    g_mutex_lock(&a->lock);
    a->waits = TRUE;
    a->allowed = MAX(a->allowed, epoch);
    g_cond_signal(&a->changed);
    g_mutex_unlock(&a->lock);
}

void apply_finish(Apply *a, FinishFunc done, gpointer user_data)
{
    g_assert(!a->done);
    a->done = done;
    a->done_data = user_data;
    if (stop(a))
        post(a, MSG_FINISHED, a->applied, 0, NULL);
}

void apply_free(Apply *a)
{
    if (!a)
        return;
    if (a->thread) {
        stop(a);
        g_thread_join(a->thread);
    }
    if (a->mailbox)
        mailbox_close(a->mailbox);
    stream_reader_free(a->reader);
    page_set_free(a->staged);
    page_set_free(a->zero);
    g_free(a->slots);
    arena_clear(&a->staging);
    g_clear_pointer(&a->device_state, g_bytes_unref);
    g_clear_pointer(&a->attachment, g_bytes_unref);
    g_clear_pointer(&a->frames, g_ptr_array_unref);
    checkpoint_unref(a->applied);
    g_mutex_clear(&a->lock);
    g_cond_clear(&a->changed);
    g_free(a);
}
