/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The replica's end: one thread reads the stream.
 *
 *   HELLO      HELLO, BITMAP..., READY sent; the primary's HELLO expected
 *   START      START expected
 *   SYNCING    changes go straight to the images, which are INCOMPLETE; hashes are answered
 *   STAGING    from the first mark on: the images are a checkpoint; changes go to the open stage
 *
 * A mark in STAGING seals the open stage and opens the other one. So what is needed to apply it is
 * in the journals before the mark is reported. If the other one still waits to be applied, reading
 * stops until it has been. At most one complete and one incomplete epoch are held.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/set.h"
#include "common/endian.h"

struct Replica {
    DiskSet *set;
    int fd;
    WireHello hello, theirs;
    gboolean has_theirs; /* set->mutex: `theirs` is complete */
    GThread *receiver;
    GMutex send_mutex; /* records are written whole */
    gint failed, stop; /* atomic; stop is set under set->mutex too */

    /* The receiver's: */
    ReplicaPhase phase;
    guint64 epoch; /* of the last mark */
    guint64 seed;
    gboolean needs_all; /* what is read here may not be on the medium */
    XXH3_state_t *hash; /* of the records since START or the last mark */
    guint8 *chunk;
};

static void set_phase(Replica *replica, ReplicaPhase next)
{
    ReplicaPhase before = replica->phase;
    if (!disk_replica_may(before, next))
        g_error("disks, replica: %s -> %s", disk_replica_phase_name(before),
                disk_replica_phase_name(next));
    g_debug("disks, replica: %s -> %s", disk_replica_phase_name(before),
            disk_replica_phase_name(next));
    replica->phase = next;
}

static gboolean send_record(Replica *replica, WireRecord *record, GError **error)
{
    g_mutex_lock(&replica->send_mutex);
    gboolean ok = wire_write(replica->fd, record, error);
    g_mutex_unlock(&replica->send_mutex);
    g_free(record);
    return ok;
}

static gboolean send_plain(Replica *replica, guint16 type, guint64 epoch, GError **error)
{
    WireHeader header = {.type = type, .epoch = epoch};
    return send_record(replica, wire_record_new(&header), error);
}

void disk_replica_send_applied(Replica *replica, guint64 epoch)
{
    WireHeader header = {
        .type = WIRE_APPLIED, .epoch = epoch, .offset = settler_epoch_bytes(replica->set->settler)};
    /* If it fails the receiver finds out as well. */
    send_record(replica, wire_record_new(&header), NULL);
}

void disk_replica_status(Replica *replica, DiskSetStatus *status)
{
    status->attached = !g_atomic_int_get(&replica->failed);
    g_mutex_lock(&replica->set->mutex);
    status->knows_peer = replica->has_theirs;
    status->peer_generation = replica->theirs.generation;
    g_mutex_unlock(&replica->set->mutex);
}

/* ---- Handshake ---- */

/* Sends what this side's bitmaps name: only pieces with anything in them. */
static gboolean send_bitmaps(Replica *replica, GError **error)
{
    DiskSet *set = replica->set;
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        for (gsize at = 0; at < disk->dirty[0].n_bytes; at += WIRE_BITMAP_CHUNKS / 8) {
            gsize len = MIN(WIRE_BITMAP_CHUNKS / 8, disk->dirty[0].n_bytes - at);
            WireHeader header = {
                .type = WIRE_BITMAP,
                .disk = (guint16)i,
                .length = (guint32)len,
                .offset = (guint64)at * 8 * BLOCK_CHUNK_BYTES,
                .count = (guint32)MIN(WIRE_BITMAP_CHUNKS, disk->dirty[0].chunks - (guint64)at * 8)};
            WireRecord *record = wire_record_new(&header);
            guint8 *bits = wire_payload(record), any = 0;
            for (gsize k = 0; k < len; k++)
                any |= bits[k] = disk->dirty[0].bits[at + k] | disk->dirty[1].bits[at + k];
            if (!any)
                g_free(record);
            else if (!send_record(replica, record, error))
                return FALSE;
        }
    }
    return send_plain(replica, WIRE_READY, 0, error);
}

static gboolean handle_hello(Replica *replica, const WireHeader *header, const guint8 *payload,
                             GError **error)
{
    DiskSet *set = replica->set;
    WireHello theirs;
    set_phase(replica, REPLICA_START);
    if (!wire_hello_check(payload, header->length, &replica->hello, set->configs, set->sizes,
                          set->n_disks, &theirs, error))
        return FALSE;
    g_mutex_lock(&set->mutex);
    replica->theirs = theirs;
    replica->has_theirs = TRUE;
    g_mutex_unlock(&set->mutex);
    return set_may_synchronise(&replica->hello, &theirs, error);
}

/* From here on the images are nobody's until the first mark. */
static gboolean handle_start(Replica *replica, const WireHeader *header, GError **error)
{
    DiskSet *set = replica->set;
    g_mutex_lock(&set->mutex);
    set->replica_synced = FALSE;
    set->complete_epoch = 0;
    set->open_stage = 0;
    set_change_state(set, BLOCK_STATE_INCOMPLETE);
    set->record.has_lineage = FALSE;
    set->record.committed = set->record.applied = 0;
    set->record.images = 0;
    set->discard = FALSE;
    replica->needs_all = set->record.unsynced;
    gboolean ok = set_write_state(set, FALSE, TRUE, error);
    g_mutex_unlock(&set->mutex);
    for (guint i = 0; i < set->n_disks && ok; i++)
        for (guint k = 0; k < 2 && ok; k++) {
            Disk *disk = &set->disks[i];
            int r = stage_reset(&disk->stages[k]);
            if (r == 0)
                r = chunk_map_clear(&disk->dirty[k]);
            if (r < 0)
                ok = block_file_fail(&disk->stages[k].file, "start a synchronisation", r, error);
        }
    replica->seed = header->offset;
    set_phase(replica, REPLICA_SYNCING);
    XXH3_64bits_reset(replica->hash);
    return ok;
}

/* ---- Changes ---- */

/* While synchronising: the image itself. The gate keeps readers off a half-written whole. */
static int change_now(Disk *disk, const WireHeader *header, const guint8 *payload, guint64 len,
                      gboolean may_trim, const gint *stop)
{
    if (len == 0)
        return 0;
    settler_wait(disk->set->settler, NULL, NULL, stop);
    set_share(disk->set);
    RangeHold *hold = disk_hold(disk, header->offset, len);
    int r = header->type == WIRE_WRITE
                ? image_write(&disk->image, payload, (gsize)len, header->offset)
                : image_zero(&disk->image, len, header->offset, may_trim);
    range_lock_drop(&disk->ranges, hold);
    set_unlock(disk->set);
    settler_note(disk->set->settler, disk->index, header->offset,
                 header->type == WIRE_WRITE ? len : 1);
    return r;
}

static gboolean handle_change(Replica *replica, const WireHeader *header, const guint8 *payload,
                              GError **error)
{
    DiskSet *set = replica->set;
    Disk *disk = &set->disks[header->disk];
    guint64 len = header->length;
    gboolean may_trim = FALSE;
    if (header->epoch != replica->epoch) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM,
                    "record %s: epoch %" G_GUINT64_FORMAT " within epoch %" G_GUINT64_FORMAT,
                    wire_type_name(header->type), header->epoch, replica->epoch);
        return FALSE;
    }
    if (header->type == WIRE_ZERO) {
        len = colo_get_be64(payload);
        may_trim = colo_get_be32(payload + 8) & 1;
        if (len > disk->image.size || header->offset > disk->image.size - len) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM,
                        "record ZERO: %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                        " are outside disk %s",
                        len, header->offset, disk->config.name);
            return FALSE;
        }
    }
    if (replica->phase == REPLICA_SYNCING) {
        int r = change_now(disk, header, payload, len, may_trim, &replica->stop);
        return r == 0 || set_disk_failed(disk, "write what the peer sent", r, error);
    }
    Stage *stage = &disk->stages[set->open_stage]; /* only this thread changes which it is */
    int r = header->type == WIRE_WRITE
                ? stage_append_write(stage, header->offset, payload, header->length)
                : stage_append_zero(stage, header->offset, len, may_trim);
    return r == 0 || set_disk_failed(disk, "stage what the peer sent", r, error);
}

static gboolean handle_hash(Replica *replica, const WireHeader *header, const guint8 *hashes,
                            GError **error)
{
    Disk *disk = &replica->set->disks[header->disk];
    WireHeader answer = {.type = WIRE_NEED,
                         .disk = header->disk,
                         .length = (guint32)chunk_bytes(header->count),
                         .offset = header->offset,
                         .count = header->count};
    WireRecord *record = wire_record_new(&answer);
    guint8 *need = wire_payload(record);
    memset(need, 0, answer.length);
    for (guint i = 0; i < header->count; i++) {
        guint64 offset = header->offset + (guint64)i * BLOCK_CHUNK_BYTES;
        gsize len = (gsize)MIN(BLOCK_CHUNK_BYTES, disk->image.size - offset);
        guint8 hash[WIRE_HASH_BYTES];
        /* What can't be read may still be written. */
        if (replica->needs_all || image_read(&disk->image, replica->chunk, len, offset) < 0) {
            chunk_mark(need, i);
            continue;
        }
        wire_hash_chunk(replica->chunk, len, replica->seed, hash);
        if (memcmp(hash, hashes + i * WIRE_HASH_BYTES, WIRE_HASH_BYTES))
            chunk_mark(need, i);
    }
    return send_record(replica, record, error);
}

/* ---- Marks ---- */

/* The first mark: the images have just become checkpoint `epoch`. */
static gboolean complete_sync(Replica *replica, guint64 epoch, GError **error)
{
    DiskSet *set = replica->set;
    int r = 0;
    set_exclude(set);
    for (guint i = 0; i < set->n_disks && r == 0; i++)
        r = overlay_reset(&set->disks[i].overlay);
    set_unlock(set);
    if (r < 0)
        return set_disk_failed(&set->disks[0], "empty the overlay", r, error);
    g_mutex_lock(&set->mutex);
    set_change_state(set, BLOCK_STATE_REPLICA);
    set->record.has_lineage = TRUE;
    set->record.writer = FALSE;
    set->record.unsynced = FALSE; /* all has been written anew */
    memcpy(set->record.session, replica->hello.session, BLOCK_SESSION_BYTES);
    set->record.committed = set->record.applied = epoch;
    generation_adopt(&set->record.generation, &replica->theirs.generation);
    gboolean ok = set_write_state(set, FALSE, TRUE, error);
    set->replica_synced = ok;
    g_mutex_unlock(&set->mutex);
    if (ok)
        disk_replica_send_applied(replica, epoch);
    return ok;
}

static gboolean complete_stage(Replica *replica, guint64 epoch, GError **error)
{
    DiskSet *set = replica->set;
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        int r = stage_seal(&disk->stages[set->open_stage], replica->hello.session, epoch);
        if (r < 0)
            return set_disk_failed(disk, "write its journal", r, error);
    }
    g_mutex_lock(&set->mutex);
    while (set->complete_epoch && !g_atomic_int_get(&replica->stop))
        g_cond_wait(&set->stage_free, &set->mutex);
    gboolean stopped = set->complete_epoch != 0;
    if (!stopped) {
        set->complete_epoch = epoch;
        set->open_stage = 1 - set->open_stage;
    }
    g_mutex_unlock(&set->mutex);
    if (stopped)
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_PEER, "the disks are being detached");
    return !stopped;
}

static gboolean handle_mark(Replica *replica, const WireHeader *header, const guint8 *payload,
                            GError **error)
{
    DiskSet *set = replica->set;
    if (header->epoch <= replica->epoch ||
        colo_get_be64(payload) != XXH3_64bits_digest(replica->hash)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM,
                    "record MARK of epoch %" G_GUINT64_FORMAT ": %s", header->epoch,
                    header->epoch <= replica->epoch ? "epochs must rise"
                                                    : "the records before it are damaged");
        return FALSE;
    }
    gboolean first = replica->phase == REPLICA_SYNCING;
    if (!(first ? complete_sync(replica, header->epoch, error)
                : complete_stage(replica, header->epoch, error)))
        return FALSE;
    if (first)
        set_phase(replica, REPLICA_STAGING);
    replica->epoch = header->epoch;
    XXH3_64bits_reset(replica->hash);
    if (set->callbacks.marked)
        set->callbacks.marked(header->epoch, set->user_data);
    return TRUE;
}

/* ---- The receiver ---- */

static gboolean handle(Replica *replica, const WireHeader *header, const guint8 *payload,
                       GError **error)
{
    if (header->type & WIRE_OPTIONAL)
        return TRUE;
    if (!disk_replica_expects(replica->phase, header->type))
        return wire_unexpected(header, error);
    switch (header->type) {
    case WIRE_HELLO:
        return handle_hello(replica, header, payload, error);
    case WIRE_START:
        return handle_start(replica, header, error);
    case WIRE_HASH:
        return handle_hash(replica, header, payload, error);
    case WIRE_SYNC_END:
        return send_plain(replica, WIRE_SYNCED, 0, error);
    case WIRE_MARK:
        return handle_mark(replica, header, payload, error);
    default:
        return handle_change(replica, header, payload, error);
    }
}

static void replica_fail(Replica *replica, const GError *error)
{
    DiskSet *set = replica->set;
    g_atomic_int_set(&replica->failed, TRUE);
    if (!g_atomic_int_get(&replica->stop) && set->callbacks.lost)
        set->callbacks.lost(error, set->user_data);
    if (!g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_PEER))
        send_record(replica, wire_error_new(error), NULL);
    /*
     * The peer's sender, which may be in the middle of a write, must not wait for a reader. But if
     * our storage has failed, our owner reports it to the peer before the connection ends, at the
     * detach.
     */
    if (!g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_IO))
        shutdown(replica->fd, SHUT_RDWR);
}

static gpointer receiver_thread(gpointer data)
{
    Replica *replica = data;
    DiskSet *set = replica->set;
    g_autofree guint8 *buf = g_malloc(WIRE_DATA_MAX);
    guint8 raw[WIRE_HEADER];
    WireReader reader = {.fd = replica->fd};
    g_autoptr(GError) error = NULL;
    if (send_record(replica,
                    wire_hello_new(&replica->hello, set->configs, set->sizes, set->n_disks),
                    &error))
        send_bitmaps(replica, &error);
    while (!error) {
        WireHeader header;
        if (!wire_read(&reader, set->sizes, set->n_disks, raw, &header, buf, &error))
            break;
        if (handle(replica, &header, buf, &error) && header.type != WIRE_MARK &&
            header.type != WIRE_START) {
            XXH3_64bits_update(replica->hash, raw, sizeof(raw));
            XXH3_64bits_update(replica->hash, buf, header.length);
        }
    }
    replica_fail(replica, error);
    return NULL;
}

/* ---- From the controlling thread ---- */

gboolean disk_set_attach_replica(DiskSet *set, int fd, const guint8 *session, GError **error)
{
    if (set->mode != DISK_MODE_REPLICA || set->replica) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE,
                    set->replica ? "the disks have a peer already"
                                 : "disks that this side owns can't become a replica");
        close(fd);
        return FALSE;
    }
    Replica *replica = g_new0(Replica, 1);
    replica->set = set;
    replica->fd = fd;
    set_hello(set, session, FALSE, &replica->hello);
    g_mutex_init(&replica->send_mutex);
    replica->hash = XXH3_createState();
    XXH3_64bits_reset(replica->hash);
    replica->chunk = g_malloc(BLOCK_CHUNK_BYTES);
    set->replica = replica;
    replica->receiver = g_thread_new("disk-replica", receiver_thread, replica);
    return TRUE;
}

void disk_replica_free(Replica *replica)
{
    DiskSet *set = replica->set;
    g_mutex_lock(&set->mutex);
    g_atomic_int_set(&replica->stop, TRUE);
    g_cond_broadcast(&set->stage_free);
    g_mutex_unlock(&set->mutex);
    shutdown(replica->fd, SHUT_RDWR);
    g_thread_join(replica->receiver);
    close(replica->fd);
    XXH3_freeState(replica->hash);
    g_mutex_clear(&replica->send_mutex);
    g_free(replica->chunk);
    g_free(replica);
}
