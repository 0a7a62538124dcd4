/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk set from inside. Locks, outermost first:
 *
 *   gate             shared by every use of the images and overlays; exclusive for what changes the
 *                    mode, the epoch or a whole image at once (mark, apply, takeover)
 *   a disk's ranges  for every change of the image or overlay
 *   mutex            the stages' bookkeeping and the state record; never held during guest I/O
 */
#ifndef COLO_BLOCK_SET_H
#define COLO_BLOCK_SET_H

#include <pthread.h>
#include <string.h>

#include "block/chunk-map.h"
#include "block/image.h"
#include "block/overlay.h"
#include "block/range-lock.h"
#include "block/settle.h"
#include "block/stage.h"
#include "block/state.h"
#include "block/steps.h"
#include "block/throttle.h"
#include "block/wire.h"

typedef struct Primary Primary;
typedef struct Replica Replica;

struct Disk {
    DiskSet *set;
    guint index;
    DiskConfig config; /* strings owned */
    Image image;
    RangeLock ranges;
    ChunkMap dirty[2]; /* set->current_map takes writes; together: all since the lineage's epoch */
    Stage stages[2];   /* set->open_stage takes records; the other may be complete */
    Overlay overlay;   /* open while the set is a replica */
    guint refused;     /* atomic: how often QEMU could not write to the image */
    gint refused_with; /* atomic: the last time, -errno */
    /* Controlling thread: `refused`, as disk_set_sync() and disk_set_watch() found it. */
    guint refused_synced, refused_watched;
};

struct DiskSet {
    DiskSetOptions options;
    DiskSetCallbacks callbacks;
    gpointer user_data;
    char *state_dir;
    Disk *disks;
    guint n_disks;
    DiskConfig *configs; /* the disks', as an array */
    guint64 *sizes;

    pthread_rwlock_t gate;
    DiskMode mode;     /* gate */
    guint current_map; /* gate */
    Primary *primary;  /* gate: non-NULL from attach to detach */

    GMutex mutex;
    GCond stage_free;
    StateFile state;
    StateRecord record;      /* mutex: as the state file has it */
    Replica *replica;        /* controlling thread */
    Settler *settler;        /* of a replica: from open to closed overlays */
    guint open_stage;        /* mutex */
    guint64 complete_epoch;  /* mutex: of the stage that waits to be applied; 0: none */
    gboolean replica_synced; /* mutex: since the first mark of a session */
    gboolean discard;        /* mutex: a primary may overwrite whatever is here */
    guint64 sync_rate;       /* atomic */
    Throttle throttle;       /* of the guest's writes: what an epoch may have */
    gboolean watched;        /* controlling thread: disk_set_watch(), since disk_set_sync() */
};

/* QEMU has more behind it than the guest's bytes: what it keeps in memory until a flush. */
static inline gboolean disk_has_metadata(const Disk *disk)
{
    return strcmp(disk->config.format, "raw") != 0;
}

static inline guint disk_refused(const Disk *disk)
{
    return (guint)g_atomic_int_get((const gint *)&disk->refused);
}

static inline void set_share(DiskSet *set)
{
    pthread_rwlock_rdlock(&set->gate);
}
static inline void set_exclude(DiskSet *set)
{
    pthread_rwlock_wrlock(&set->gate);
}
static inline void set_unlock(DiskSet *set)
{
    pthread_rwlock_unlock(&set->gate);
}

/* The only ones who set these: the mode under the gate, the record's state under the mutex. */
void set_change_mode(DiskSet *set, DiskMode next);
void set_change_state(DiskSet *set, BlockState next);

/* Writes set->record; the mutex is held. BLOCK_ERROR_IO. */
gboolean set_write_state(DiskSet *set, gboolean clean, gboolean sync, GError **error);

/* BLOCK_ERROR_IO "disk NAME: ...: can't WHAT: reason" from a negative errno. Always FALSE. */
gboolean set_disk_failed(const Disk *disk, const char *what, int r, GError **error);

/* What this side sends in the handshake of `session`. */
void set_hello(DiskSet *set, const guint8 *session, gboolean primary, WireHello *ret_hello);

/* Both have sent what they have: may the primary's data replace the replica's?
 * BLOCK_ERROR_GENERATION if not. */
gboolean set_may_synchronise(const WireHello *ours, const WireHello *theirs, GError **error);

/*
 * Whether there is a disk whose image lacks what QEMU has of it; then BLOCK_ERROR_LACKS, with its name. QEMU keeps
 * new metadata of qcow2 in memory, and writes it in an order that flushes make: clusters count as used
 * before a table refers to them (qcow2_cache_flush_dependency(), QEMU 7.2 and 10). A flush that fails ends that,
 * and after a failed sync every later flush fails. So from then on no new cluster comes into the image's
 * tables: the guest reads what it has written, from QEMU's memory, and whoever opens the image finds zeroes there.
 * That a sync failed is all that is known of it, so what has had luck is refused with the rest. A raw image has all
 * that was written to it, in the page cache at least, and so has the peer's.
 */
gboolean set_lacks_metadata(const DiskSet *set, GError **error);

/* Makes all durable, and records it in the state file: a later process may rely on it. */
gboolean set_end_cleanly(DiskSet *set, GError **error);

/* Opens the overlays of a set that becomes a replica; closes them. */
gboolean set_open_overlays(DiskSet *set, GError **error);
void set_close_overlays(DiskSet *set);

/* Takes a change's aligned range of the disk. */
static inline RangeHold *disk_hold(Disk *disk, guint64 offset, guint64 len)
{
    guint64 start = offset / IMAGE_BLOCK * IMAGE_BLOCK;
    guint64 end = (offset + len + IMAGE_BLOCK - 1) / IMAGE_BLOCK * IMAGE_BLOCK;
    return range_lock_take(&disk->ranges, start, end - start);
}

/* ---- stream.c: what both ends do ---- */

typedef struct {
    int fd;
    guint64 at;       /* bytes taken */
    gsize start, end; /* of what has been read ahead */
    guint8 ahead[65536];
} WireReader;

/*
 * Reads a record: header checked, payload in `buf` (WIRE_DATA_MAX bytes). `ret_raw` gets the
 * header's bytes. BLOCK_ERROR_STREAM, or BLOCK_ERROR_PEER if the connection ended or an ERROR
 * record came.
 */
gboolean wire_read(WireReader *reader, const guint64 *sizes, guint n_disks, guint8 *ret_raw,
                   WireHeader *ret_header, guint8 *buf, GError **error);

/* Writes records (borrowed, a list) to a socket. BLOCK_ERROR_PEER. */
gboolean wire_write(int fd, const WireRecord *list, GError **error);

/* "This record may not come now": BLOCK_ERROR_STREAM. Always FALSE. */
gboolean wire_unexpected(const WireHeader *header, GError **error);

WireRecord *wire_error_new(const GError *error);

/* XXH3-128 of a chunk, as sent: the seed makes equal hashes of different chunks unguessable. */
void wire_hash_chunk(const void *data, gsize len, guint64 seed, guint8 *ret_hash);

/* ---- primary.c, sync.c ---- */

void disk_primary_free(Primary *primary); /* ends its threads; the gate must not be held */
/* Sends a change to the peer if one is attached; the gate is shared and the range held. */
void disk_primary_send_write(Primary *primary, Disk *disk, const guint8 *data, guint32 count,
                             guint64 offset);
void disk_primary_send_zero(Primary *primary, Disk *disk, guint64 len, guint64 offset,
                            gboolean may_trim);
void disk_primary_status(Primary *primary, DiskSetStatus *status);
void disk_primary_set_rate(Primary *primary);

/* ---- replica.c ---- */

void disk_replica_free(Replica *replica);
void disk_replica_status(Replica *replica, DiskSetStatus *status);
/* With what the epochs to come may have. */
void disk_replica_send_applied(Replica *replica, guint64 epoch);

#endif
