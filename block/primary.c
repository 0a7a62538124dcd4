/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's end of the connection. Three threads: the sender empties the queue into the socket.
 * The receiver does the handshake and takes the peer's answers. The syncer (sync.c) compares and
 * sends.
 *
 *   HELLO      HELLO sent; the replica's HELLO expected
 *   BITMAPS    BITMAP... and READY expected
 *   STREAMING  START sent: every change follows. The synchronisation runs until SYNC_END/SYNCED;
 *              then synchronised() is called, and marks may come
 *
 * The dirty maps: `current` takes writes; the other holds what was written before the mark
 * `rotated` and is emptied when the peer has applied that mark or a later one. If it is not yet
 * empty at the next mark, the maps are not exchanged. Then more than necessary stays dirty, never
 * less.
 */
#include "block/primary.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"

#define DEFAULT_QUEUE (G_GUINT64_CONSTANT(64) << 20)

void disk_primary_fail(Primary *p, const GError *error)
{
    g_mutex_lock(&p->mutex);
    gboolean first = !p->failed && !p->stop;
    p->failed = TRUE;
    g_cond_broadcast(&p->changed);
    g_mutex_unlock(&p->mutex);
    if (first && !g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_PEER))
        queue_push(&p->queue, QUEUE_CONTROL, wire_error_new(error));
    queue_close(&p->queue);
    throttle_limit(&p->set->throttle, 0);
    if (first && p->set->callbacks.lost)
        p->set->callbacks.lost(error, p->set->user_data);
}

static void set_phase(Primary *p, PrimaryPhase next)
{
    if (!disk_primary_may(p->phase, next))
        g_error("disks, primary: %s -> %s", disk_primary_phase_name(p->phase),
                disk_primary_phase_name(next));
    g_debug("disks, primary: %s -> %s", disk_primary_phase_name(p->phase),
            disk_primary_phase_name(next));
    p->phase = next;
}

/* ---- Sending ---- */

static void push_control(Primary *p, guint16 type, guint64 epoch, guint64 offset)
{
    WireHeader header = {.type = type, .epoch = epoch, .offset = offset};
    queue_push(&p->queue, QUEUE_CONTROL, wire_record_new(&header));
}

void disk_primary_send_write(Primary *p, Disk *disk, const guint8 *data, guint32 count,
                             guint64 offset)
{
    if (!p->streaming)
        return;
    while (count > 0) {
        WireHeader header = {.type = WIRE_WRITE,
                             .disk = (guint16)disk->index,
                             .length = MIN(count, WIRE_DATA_MAX),
                             .epoch = p->epoch,
                             .offset = offset};
        WireRecord *record = wire_record_new(&header);
        memcpy(wire_payload(record), data, header.length);
        if (!queue_push(&p->queue, QUEUE_WRITE, record))
            return;
        data += header.length;
        offset += header.length;
        count -= header.length;
    }
}

void disk_primary_send_zero(Primary *p, Disk *disk, guint64 len, guint64 offset, gboolean may_trim)
{
    if (!p->streaming)
        return;
    WireHeader header = {.type = WIRE_ZERO,
                         .disk = (guint16)disk->index,
                         .length = 12,
                         .epoch = p->epoch,
                         .offset = offset};
    WireRecord *record = wire_record_new(&header);
    colo_put_be64(wire_payload(record), len);
    colo_put_be32(wire_payload(record) + 8, may_trim ? 1 : 0);
    queue_push(&p->queue, QUEUE_WRITE, record);
}

/* Adds records to the running hash that each mark closes, and fills it in there. */
static void hash_records(XXH3_state_t *hash, WireRecord *list)
{
    for (; list; list = list->next) {
        guint16 type = colo_get_be16(list->bytes);
        if (type == WIRE_MARK)
            colo_put_be64(wire_payload(list), XXH3_64bits_digest(hash));
        if (type == WIRE_MARK || type == WIRE_START)
            XXH3_64bits_reset(hash);
        else
            XXH3_64bits_update(hash, list->bytes, list->len);
    }
}

static gpointer sender_thread(gpointer data)
{
    Primary *p = data;
    XXH3_state_t *hash = XXH3_createState();
    XXH3_64bits_reset(hash);
    for (;;) {
        WireRecord *list = queue_pop_all(&p->queue);
        if (!list)
            break;
        g_autoptr(GError) error = NULL;
        hash_records(hash, list);
        gsize bytes = 0;
        for (WireRecord *record = list; record; record = record->next)
            bytes += record->len;
        gboolean ok = wire_write(p->fd, list, &error);
        wire_records_free(list);
        queue_sent(&p->queue, bytes);
        if (!ok) {
            /* The peer's last words may still be on their way to the receiver, which then reports.
             */
            queue_close(&p->queue);
            shutdown(p->fd, SHUT_WR);
            break;
        }
    }
    XXH3_freeState(hash);
    return NULL;
}

/* ---- Handshake ---- */

/* `bits` are the peer's, of `header->count` chunks. */
static void add_bitmap(Primary *p, const WireHeader *header, const guint8 *bits)
{
    guint64 first = header->offset / BLOCK_CHUNK_BYTES;
    for (guint32 i = 0; i < header->count; i++)
        if (chunk_test(bits, i))
            chunk_mark(p->scope[header->disk], first + i);
}

/*
 * Do the bitmaps name every difference? They do if both images come from the same session, and the
 * side that wrote in it counts its changes from a checkpoint not later than the other's.
 */
static gboolean is_incremental(const WireHello *ours, const WireHello *theirs)
{
    if (!ours->has_lineage || !theirs->has_lineage || ours->writer == theirs->writer ||
        memcmp(ours->lineage, theirs->lineage, BLOCK_SESSION_BYTES))
        return FALSE;
    return ours->writer ? ours->lineage_epoch <= theirs->lineage_epoch
                        : theirs->lineage_epoch <= ours->lineage_epoch;
}

static void make_scope(Primary *p)
{
    DiskSet *set = p->set;
    p->progress.full = !is_incremental(&p->hello, &p->theirs);
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        for (gsize k = 0; k < disk->dirty[0].n_bytes; k++) {
            guint8 *byte = &p->scope[i][k];
            *byte |= disk->dirty[0].bits[k] | disk->dirty[1].bits[k];
            if (p->progress.full)
                *byte = 0xff;
        }
        for (guint64 chunk = 0; chunk < disk->dirty[0].chunks; chunk++)
            if (chunk_test(p->scope[i], chunk))
                p->progress.total_bytes +=
                    MIN(BLOCK_CHUNK_BYTES, set->sizes[i] - chunk * BLOCK_CHUNK_BYTES);
    }
}

void disk_primary_note_elapsed(Primary *p)
{
    if (p->began_us && !p->synchronised)
        p->progress.elapsed_ms = (guint64)(g_get_monotonic_time() - p->began_us) / 1000;
}

/* From here on every change is either in the scope or behind START in the stream. */
static void start_streaming(Primary *p)
{
    set_phase(p, PRIMARY_STREAMING);
    set_exclude(p->set);
    g_mutex_lock(&p->mutex);
    make_scope(p);
    p->began_us = g_get_monotonic_time();
    g_mutex_unlock(&p->mutex);
    push_control(p, WIRE_START, 0, p->seed);
    p->streaming = TRUE;
    __atomic_store_n(&p->old_dirty, TRUE, __ATOMIC_RELEASE);
    set_unlock(p->set);
    p->syncer = g_thread_new("disk-sync", sync_thread, p);
}

/* ---- The peer's answers ---- */

static void handle_need(Primary *p, const WireHeader *header, const guint8 *bits)
{
    guint64 first = header->offset / BLOCK_CHUNK_BYTES;
    gsize byte = (gsize)(first / 8);
    g_mutex_lock(&p->mutex);
    if (header->disk < p->need_disk || (header->disk == p->need_disk && byte < p->need_byte)) {
        p->need_disk = header->disk;
        p->need_byte = byte;
    }
    for (guint32 i = 0; i < header->count; i++) {
        guint64 chunk = first + i;
        if (chunk_test(bits, i)) {
            if (!chunk_test(p->need[header->disk], chunk))
                p->need_count++;
            chunk_mark(p->need[header->disk], chunk);
        } else {
            p->progress.done_bytes +=
                MIN(BLOCK_CHUNK_BYTES, p->set->sizes[header->disk] - chunk * BLOCK_CHUNK_BYTES);
        }
    }
    p->progress.done_bytes = MIN(p->progress.done_bytes, p->progress.total_bytes);
    if (p->outstanding > 0)
        p->outstanding--;
    g_cond_broadcast(&p->changed);
    g_mutex_unlock(&p->mutex);
}

/* The peer's images are those of a checkpoint: what was written before is no difference now. And so
 * much may an epoch have from here on. */
static gboolean handle_applied(Primary *p, const WireHeader *header, GError **error)
{
    DiskSet *set = p->set;
    guint64 epoch = header->epoch;
    set_share(set);
    guint64 last = p->epoch, rotated = p->rotated;
    guint old = 1 - set->current_map;
    set_unlock(set);
    if (epoch == 0 || epoch > last) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM,
                    "record APPLIED: epoch %" G_GUINT64_FORMAT " has not been marked", epoch);
        return FALSE;
    }
    /* Whatever the limit is, a single write passes. */
    throttle_limit(&set->throttle, header->offset ? MAX(header->offset, WIRE_DATA_MAX) : 0);
    g_mutex_lock(&set->mutex);
    set_change_state(set, BLOCK_STATE_OWNED);
    set->record.has_lineage = TRUE;
    set->record.writer = TRUE;
    memcpy(set->record.session, p->hello.session, BLOCK_SESSION_BYTES);
    set->record.committed = set->record.applied = epoch;
    if (!p->adopted)
        generation_adopted(&set->record.generation);
    p->adopted = TRUE;
    gboolean ok = set_write_state(set, FALSE, FALSE, error);
    g_mutex_unlock(&set->mutex);
    /* Only after the lineage: a map without its bits must not be read with the older epoch. */
    if (ok && epoch >= rotated && __atomic_load_n(&p->old_dirty, __ATOMIC_ACQUIRE)) {
        for (guint i = 0; i < set->n_disks && ok; i++)
            ok = chunk_map_clear(&set->disks[i].dirty[old]) == 0;
        if (ok)
            __atomic_store_n(&p->old_dirty, FALSE, __ATOMIC_RELEASE);
        ok = TRUE; /* what could not be cleared stays dirty */
    }
    if (ok && set->callbacks.applied)
        set->callbacks.applied(epoch, set->user_data);
    return ok;
}

static gboolean handle_hello(Primary *p, const WireHeader *header, const guint8 *payload,
                             GError **error)
{
    DiskSet *set = p->set;
    WireHello theirs;
    set_phase(p, PRIMARY_BITMAPS);
    if (!wire_hello_check(payload, header->length, &p->hello, set->configs, set->sizes,
                          set->n_disks, &theirs, error))
        return FALSE;
    g_mutex_lock(&p->mutex);
    p->theirs = theirs;
    p->has_theirs = TRUE;
    g_mutex_unlock(&p->mutex);
    return set_may_synchronise(&p->hello, &theirs, error);
}

static void handle_synced(Primary *p)
{
    g_mutex_lock(&p->mutex);
    p->synced_reply = TRUE;
    g_cond_broadcast(&p->changed);
    g_mutex_unlock(&p->mutex);
}

/* ---- The receiver ---- */

static gboolean handle(Primary *p, const WireHeader *header, const guint8 *payload, GError **error)
{
    if (header->type & WIRE_OPTIONAL)
        return TRUE;
    if (!disk_primary_expects(p->phase, header->type))
        return wire_unexpected(header, error);
    switch (header->type) {
    case WIRE_HELLO:
        return handle_hello(p, header, payload, error);
    case WIRE_BITMAP:
        add_bitmap(p, header, payload);
        return TRUE;
    case WIRE_READY:
        start_streaming(p);
        return TRUE;
    case WIRE_NEED:
        handle_need(p, header, payload);
        return TRUE;
    case WIRE_SYNCED:
        handle_synced(p);
        return TRUE;
    default:
        return handle_applied(p, header, error);
    }
}

static gpointer receiver_thread(gpointer data)
{
    Primary *p = data;
    DiskSet *set = p->set;
    g_autofree guint8 *buf = g_malloc(WIRE_DATA_MAX);
    guint8 raw[WIRE_HEADER];
    WireReader reader = {.fd = p->fd};
    g_autoptr(GError) error = NULL;
    queue_push(&p->queue, QUEUE_CONTROL,
               wire_hello_new(&p->hello, set->configs, set->sizes, set->n_disks));
    do {
        WireHeader header;
        if (!wire_read(&reader, set->sizes, set->n_disks, raw, &header, buf, &error))
            break;
        handle(p, &header, buf, &error);
    } while (!error);
    disk_primary_fail(p, error);
    return NULL;
}

/* ---- From the controlling thread ---- */

gboolean disk_set_attach_primary(DiskSet *set, int fd, const guint8 *session, GError **error)
{
    if (set->mode != DISK_MODE_ACTIVE || set->primary) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE,
                    set->primary ? "the disks have a peer already"
                                 : "only active disks can be replicated");
        close(fd);
        return FALSE;
    }
    /* All would be sent, and then no mark could be made. */
    if (set_lacks_metadata(set, error)) {
        close(fd);
        return FALSE;
    }
    if (set->record.generation.current == 0 || set->record.generation.data != GENERATION_WRITER) {
        /* Nobody has reported that the VM runs here: then it does from now on. */
        if (!disk_set_write_alone(set, error)) {
            close(fd);
            return FALSE;
        }
    }
    Primary *p = g_new0(Primary, 1);
    p->set = set;
    p->fd = fd;
    set_hello(set, session, TRUE, &p->hello);
    queue_init(&p->queue, set->options.queue_bytes ? set->options.queue_bytes : DEFAULT_QUEUE);
    g_mutex_init(&p->mutex);
    g_cond_init(&p->changed);
    p->seed = (guint64)g_random_int() << 32 | g_random_int();
    p->scope = g_new0(guint8 *, set->n_disks);
    p->need = g_new0(guint8 *, set->n_disks);
    for (guint i = 0; i < set->n_disks; i++) {
        p->scope[i] = g_malloc0(set->disks[i].dirty[0].n_bytes + 1);
        p->need[i] = g_malloc0(set->disks[i].dirty[0].n_bytes + 1);
    }
    set_exclude(set);
    set->primary = p;
    set_unlock(set);
    p->sender = g_thread_new("disk-send", sender_thread, p);
    p->receiver = g_thread_new("disk-answers", receiver_thread, p);
    return TRUE;
}

void disk_primary_free(Primary *p)
{
    DiskSet *set = p->set;
    g_mutex_lock(&p->mutex);
    p->stop = TRUE;
    g_cond_broadcast(&p->changed);
    g_mutex_unlock(&p->mutex);
    queue_close(&p->queue); /* writers stop waiting: only then can the gate be had */
    shutdown(p->fd, SHUT_RDWR);
    g_thread_join(p->receiver);
    g_thread_join(p->sender);
    if (p->syncer)
        g_thread_join(p->syncer);
    throttle_limit(&set->throttle, 0); /* the receiver sets it */
    set_exclude(set);
    set->primary = NULL;
    set_unlock(set);
    close(p->fd);
    for (guint i = 0; i < set->n_disks; i++) {
        g_free(p->scope[i]);
        g_free(p->need[i]);
    }
    g_free(p->scope);
    g_free(p->need);
    queue_clear(&p->queue);
    g_mutex_clear(&p->mutex);
    g_cond_clear(&p->changed);
    g_free(p);
}

/*
 * Whether QEMU has written all that it had to: as it gave its disks up, or in the pause of an
 * ordinary checkpoint. Giving them up may have failed in that pause, which doesn't count for it. A raw
 * image has what was written to it, in any case.
 */
static gboolean has_written(DiskSet *set, gboolean given_up, GError **error)
{
    g_autoptr(GString) refused = g_string_new(NULL);
    for (guint i = 0; i < set->n_disks; i++) {
        const Disk *disk = &set->disks[i];
        guint since = given_up ? disk->refused_watched : disk->refused_synced;
        guint until = !given_up && set->watched ? disk->refused_watched : disk_refused(disk);
        if (until != since && (given_up || disk_has_metadata(disk)))
            g_string_append_printf(refused, "%s%s: %s", refused->len ? ", " : "", disk->config.name,
                                   g_strerror(-g_atomic_int_get(&disk->refused_with)));
    }
    if (refused->len > 0)
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS,
                    "QEMU could not write all that it had to (%s)", refused->str);
    return refused->len == 0;
}

static gboolean may_mark(DiskSet *set, guint64 epoch, GError **error)
{
    Primary *p = set->primary;
    if (p)
        g_mutex_lock(&p->mutex);
    gboolean ok = p && p->synchronised && !p->failed && epoch > p->epoch;
    if (p)
        g_mutex_unlock(&p->mutex);
    if (!ok) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE,
                    "checkpoint %" G_GUINT64_FORMAT " can't be marked: %s", epoch,
                    !p                 ? "the disks have no peer"
                    : !p->synchronised ? "the disks are not synchronised"
                    : p->failed        ? "the peer's disks are lost"
                                       : "epochs must rise");
        return FALSE;
    }
    return !set_lacks_metadata(set, error);
}

static void make_mark(DiskSet *set, guint64 epoch)
{
    Primary *p = set->primary;
    set_exclude(set);
    if (!__atomic_load_n(&p->old_dirty, __ATOMIC_ACQUIRE)) {
        set->current_map = 1 - set->current_map;
        p->rotated = epoch;
        __atomic_store_n(&p->old_dirty, TRUE, __ATOMIC_RELEASE);
    }
    p->epoch = epoch;
    throttle_begin_epoch(&set->throttle);
    WireHeader header = {.type = WIRE_MARK, .length = 8, .epoch = epoch};
    WireRecord *record = wire_record_new(&header);
    queue_push(&p->queue, QUEUE_CONTROL, record);
    set_unlock(set);
}

gboolean disk_set_mark(DiskSet *set, guint64 epoch, GError **error)
{
    gboolean may = may_mark(set, epoch, error) && has_written(set, FALSE, error);
    if (may)
        make_mark(set, epoch);
    return may;
}

void disk_set_watch(DiskSet *set)
{
    set->watched = TRUE;
    for (guint i = 0; i < set->n_disks; i++)
        set->disks[i].refused_watched = disk_refused(&set->disks[i]);
}

/* Nothing is on its way any more: QEMU has had the answers to all that it asked for. */
gboolean disk_set_mark_written(DiskSet *set, guint64 epoch, GError **error)
{
    gboolean may = has_written(set, TRUE, error) && may_mark(set, epoch, error);
    if (may)
        make_mark(set, epoch);
    return may;
}

void disk_primary_status(Primary *p, DiskSetStatus *status)
{
    g_mutex_lock(&p->mutex);
    status->attached = !p->failed;
    status->in_sync = p->synchronised && !p->failed;
    disk_primary_note_elapsed(p);
    status->sync = p->progress;
    status->knows_peer = p->has_theirs;
    status->peer_generation = p->theirs.generation;
    g_mutex_unlock(&p->mutex);
    status->queue_bytes = queue_bytes(&p->queue);
}

void disk_primary_set_rate(Primary *p)
{
    g_mutex_lock(&p->mutex);
    g_cond_broadcast(&p->changed);
    g_mutex_unlock(&p->mutex);
}
