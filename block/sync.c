/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Synchronisation: walks the chunks in the scope, sends hashes, and sends the chunks that the peer
 * asks for. It holds a piece's range while it reads the piece and queues what it read. So the
 * guest's own writes to that piece come before or after its records in the stream, not between. In
 * whatever order the answers come, the last record for a byte has the byte's last value.
 *
 * The rate limit counts bytes looked at (read here, and read by the peer to compare them).
 */
#include "block/primary.h"

#include <string.h>

/* HASH records on their way: bounds what the peer has to answer. */
#define WINDOW 64u

typedef struct {
    Primary *p;
    guint8 *buf; /* WIRE_DATA_MAX */
    guint disk;  /* the scan: everything before this disk and chunk has been hashed */
    guint64 chunk;
    gint64 next_us; /* rate limit: not before */
    gint64 next_report_bytes;
} Sync;

static guint64 chunk_len(const Primary *p, guint disk, guint64 chunk)
{
    return MIN(BLOCK_CHUNK_BYTES, p->set->sizes[disk] - chunk * BLOCK_CHUNK_BYTES);
}

/* Finds the next run of chunks to hash: within one record, and one region of the range lock. */
static gboolean next_run(Sync *sync, guint64 *ret_first, guint *ret_count)
{
    Primary *p = sync->p;
    for (; sync->disk < p->set->n_disks; sync->disk++, sync->chunk = 0) {
        const guint8 *scope = p->scope[sync->disk];
        guint64 chunks = p->set->disks[sync->disk].dirty[0].chunks;
        guint64 chunk = sync->chunk;
        while (chunk < chunks && !chunk_test(scope, chunk))
            chunk += chunk % 8 == 0 && scope[chunk / 8] == 0 ? 8 : 1;
        if (chunk >= chunks)
            continue;
        guint64 stop = MIN(chunks, (chunk / WIRE_HASH_CHUNKS + 1) * WIRE_HASH_CHUNKS);
        *ret_first = chunk;
        while (chunk < stop && chunk_test(scope, chunk))
            chunk++;
        *ret_count = (guint)(chunk - *ret_first);
        sync->chunk = chunk;
        return TRUE;
    }
    return FALSE;
}

/* Waits until the rate limit allows to look at `bytes` more. FALSE: the end has come. */
static gboolean wait_for_rate(Sync *sync, guint64 bytes)
{
    Primary *p = sync->p;
    g_mutex_lock(&p->mutex);
    for (;;) {
        guint64 rate = __atomic_load_n(&p->set->sync_rate, __ATOMIC_RELAXED);
        gint64 now = g_get_monotonic_time();
        if (p->stop || p->failed || rate == 0 || now >= sync->next_us) {
            if (rate > 0)
                sync->next_us = MAX(now, sync->next_us) +
                                (gint64)((double)bytes * G_USEC_PER_SEC / (double)rate);
            break;
        }
        /* A new rate wakes us up: what is left to wait was reckoned with the old one. */
        if (g_cond_wait_until(&p->changed, &p->mutex, sync->next_us) &&
            rate != __atomic_load_n(&p->set->sync_rate, __ATOMIC_RELAXED))
            sync->next_us = now;
    }
    gboolean goes = !p->stop && !p->failed;
    g_mutex_unlock(&p->mutex);
    return goes;
}

static gboolean read_failed(Disk *disk, int r, GError **error)
{
    block_file_fail(&disk->image.file, "read it to synchronise", r, error);
    g_prefix_error(error, "disk %s: ", disk->config.name);
    return FALSE;
}

static gboolean send_hashes(Sync *sync, guint64 first, guint count, GError **error)
{
    Primary *p = sync->p;
    Disk *disk = &p->set->disks[sync->disk];
    guint64 offset = first * BLOCK_CHUNK_BYTES;
    gsize len = (gsize)MIN((guint64)count * BLOCK_CHUNK_BYTES, disk->image.size - offset);
    if (!wait_for_rate(sync, len))
        return TRUE;
    queue_wait_room(&p->queue);
    WireHeader header = {.type = WIRE_HASH,
                         .disk = (guint16)sync->disk,
                         .length = count * WIRE_HASH_BYTES,
                         .epoch = 0,
                         .offset = offset,
                         .count = count};
    WireRecord *record = wire_record_new(&header);
    g_mutex_lock(&p->mutex);
    p->outstanding++;
    g_mutex_unlock(&p->mutex);
    RangeHold *hold = disk_hold(disk, offset, len);
    int r = image_read(&disk->image, sync->buf, len, offset);
    for (guint i = 0; i < count && r == 0; i++)
        wire_hash_chunk(sync->buf + (gsize)i * BLOCK_CHUNK_BYTES,
                        (gsize)chunk_len(p, sync->disk, first + i), p->seed,
                        wire_payload(record) + i * WIRE_HASH_BYTES);
    if (r == 0)
        queue_push(&p->queue, QUEUE_CONTROL, record);
    range_lock_drop(&disk->ranges, hold);
    if (r == 0)
        return TRUE;
    g_free(record);
    return read_failed(disk, r, error);
}

static gboolean is_zero(const guint8 *buf, gsize len)
{
    return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

static gboolean send_chunk(Sync *sync, guint index, guint64 chunk, GError **error)
{
    Primary *p = sync->p;
    Disk *disk = &p->set->disks[index];
    guint64 offset = chunk * BLOCK_CHUNK_BYTES;
    guint32 len = (guint32)chunk_len(p, index, chunk);
    if (!wait_for_rate(sync, len))
        return TRUE;
    queue_wait_room(&p->queue);
    RangeHold *hold = disk_hold(disk, offset, len);
    int r = image_read(&disk->image, sync->buf, len, offset);
    gboolean zero = r == 0 && is_zero(sync->buf, len);
    /* The gate is not held: the mode and epoch don't change before the synchronisation has ended.
     */
    if (zero)
        disk_primary_send_zero(p, disk, len, offset, TRUE);
    else if (r == 0)
        disk_primary_send_write(p, disk, sync->buf, len, offset);
    range_lock_drop(&disk->ranges, hold);
    if (r < 0)
        return read_failed(disk, r, error);
    g_mutex_lock(&p->mutex);
    p->progress.done_bytes = MIN(p->progress.done_bytes + len, p->progress.total_bytes);
    p->progress.sent_bytes += zero ? 0 : len;
    g_mutex_unlock(&p->mutex);
    return TRUE;
}

/* Takes a chunk that the peer needs; the mutex is held. */
static gboolean take_need(Primary *p, guint *ret_disk, guint64 *ret_chunk)
{
    if (p->need_count == 0)
        return FALSE;
    /* Nothing is needed before the cursor. */
    for (; p->need_disk < p->set->n_disks; p->need_disk++, p->need_byte = 0) {
        guint8 *need = p->need[p->need_disk];
        for (; p->need_byte < p->set->disks[p->need_disk].dirty[0].n_bytes; p->need_byte++) {
            guint8 *byte = &need[p->need_byte];
            if (!*byte)
                continue;
            guint bit = (guint)__builtin_ctz(*byte);
            *byte &= (guint8) ~(1u << bit);
            p->need_count--;
            *ret_disk = p->need_disk;
            *ret_chunk = (guint64)p->need_byte * 8 + bit;
            return TRUE;
        }
    }
    g_assert_not_reached();
}

typedef enum { STEP_END, STEP_CHUNK, STEP_SCAN, STEP_DONE } Step;

/* What to do next; waits while there is nothing to do but wait for answers. */
static Step next_step(Sync *sync, gboolean scanned, guint *ret_disk, guint64 *ret_chunk)
{
    Primary *p = sync->p;
    Step step = STEP_END;
    g_mutex_lock(&p->mutex);
    while (!p->stop && !p->failed) {
        if (take_need(p, ret_disk, ret_chunk))
            step = STEP_CHUNK;
        else if (!scanned && p->outstanding < WINDOW)
            step = STEP_SCAN;
        else if (scanned && p->outstanding == 0)
            step = STEP_DONE;
        if (step != STEP_END)
            break;
        g_cond_wait(&p->changed, &p->mutex);
    }
    g_mutex_unlock(&p->mutex);
    return step;
}

static void report(Sync *sync)
{
    Primary *p = sync->p;
    g_mutex_lock(&p->mutex);
    disk_primary_note_elapsed(p);
    DiskSyncProgress progress = p->progress;
    g_mutex_unlock(&p->mutex);
    /* A hundred times in all, not for every chunk. */
    if ((gint64)progress.done_bytes < sync->next_report_bytes || !p->set->callbacks.progress)
        return;
    sync->next_report_bytes = (gint64)(progress.done_bytes + progress.total_bytes / 100 + 1);
    p->set->callbacks.progress(&progress, p->set->user_data);
}

static gboolean compare_all(Sync *sync, GError **error)
{
    gboolean scanned = FALSE;
    for (;;) {
        guint disk = 0;
        guint64 chunk = 0;
        switch (next_step(sync, scanned, &disk, &chunk)) {
        case STEP_END:
            return FALSE;
        case STEP_DONE:
            return TRUE;
        case STEP_CHUNK:
            if (!send_chunk(sync, disk, chunk, error))
                return FALSE;
            break;
        case STEP_SCAN: {
            guint count;
            scanned = !next_run(sync, &chunk, &count);
            if (!scanned && !send_hashes(sync, chunk, count, error))
                return FALSE;
            break;
        }
        }
        report(sync);
    }
}

/* The first mark may follow: from now on the peer may have our generation, so what we write without
 * it belongs to another. Not before: until it has answered, it may still have an older one. */
static gboolean expose(DiskSet *set, GError **error)
{
    g_mutex_lock(&set->mutex);
    set->record.generation.exposed = TRUE;
    gboolean ok = set_write_state(set, FALSE, TRUE, error);
    g_mutex_unlock(&set->mutex);
    return ok;
}

static gboolean finish(Primary *p, GError **error)
{
    WireHeader header = {.type = WIRE_SYNC_END};
    queue_push(&p->queue, QUEUE_CONTROL, wire_record_new(&header));
    g_mutex_lock(&p->mutex);
    while (!p->stop && !p->failed && !p->synced_reply)
        g_cond_wait(&p->changed, &p->mutex);
    gboolean done = p->synced_reply && !p->stop && !p->failed;
    g_mutex_unlock(&p->mutex);
    if (!done)
        return TRUE;
    if (!expose(p->set, error))
        return FALSE;
    g_mutex_lock(&p->mutex);
    disk_primary_note_elapsed(p);
    p->synchronised = !p->stop && !p->failed;
    p->progress.done_bytes = p->progress.total_bytes;
    done = p->synchronised;
    DiskSyncProgress progress = p->progress;
    g_mutex_unlock(&p->mutex);
    if (done && p->set->callbacks.synchronised)
        p->set->callbacks.synchronised(&progress, p->set->user_data);
    return TRUE;
}

gpointer sync_thread(gpointer data)
{
    Sync sync = {.p = data, .buf = g_malloc(WIRE_DATA_MAX)};
    g_autoptr(GError) error = NULL;
    if (compare_all(&sync, &error))
        finish(sync.p, &error);
    if (error)
        disk_primary_fail(sync.p, error);
    g_free(sync.buf);
    return NULL;
}
