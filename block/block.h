/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's disks: the activation flag (block/activation.h) and the epoch-replicated disk. A
 * DiskSet is all disks of one VM on one host: images, their stages, overlays and dirty bitmaps, and
 * at most one connection to the peer's DiskSet. docs/DISKS.md specifies the stream and the files.
 *
 * A set is in one of these modes, the same for all its disks:
 *
 *   ACTIVE    reads and writes go to the images; every write is noted in a dirty bitmap and, with a
 *             peer attached, sent to it tagged with the running epoch.
 *   INACTIVE  the owner's images, given up for a handover: readable, nothing may be written.
 *   REPLICA   the images stay at the last applied checkpoint. The peer's writes of the running
 *             epoch are staged, local writes go to a volatile overlay.
 *
 *     open(owner) ---> ACTIVE <--activate/inactivate--> INACTIVE --disk_set_become_replica--.
 *                         ^                                                                 v
 *     open(!owner) -------|------------------------------------------------------------> REPLICA
 *                         `-------------------------disk_set_takeover-----------------------'
 *
 * What holds:
 *  - A replica's images are those of one checkpoint on all disks, or the set knows that they are
 *    not (then it can't be taken over). This holds after the death of this process at any moment.
 *  - Two sets of one pairing differ at most in what their dirty bitmaps name, or they know that
 *    they can't tell; a resynchronisation then compares everything.
 *  - No synchronisation overwrites what its source doesn't hold (generation.h), unless an
 *    administrator allowed it on the side that loses it.
 *  - Writes that overlap are sent in the order in which they reached the image.
 *
 * Threads: the data path (disk_read() ... disk_extents()) may be called from any number of threads
 * at once. All else is for one controlling thread. Callbacks run on the set's own threads; they
 * must not call back into the set.
 */
#ifndef COLO_BLOCK_BLOCK_H
#define COLO_BLOCK_BLOCK_H

#include <glib.h>

#include "block/activation.h"
#include "block/generation.h"

#define BLOCK_ERROR block_error_quark()
GQuark block_error_quark(void);

typedef enum {
    BLOCK_ERROR_ABANDONED, /* the opposite was asked for meanwhile, or the service ends */
    BLOCK_ERROR_DISK,      /* an operation on one disk failed: names it */
    BLOCK_ERROR_RUNNING,   /* not under a running VM */
    BLOCK_ERROR_INACTIVE,  /* the disks don't belong to this side now */
    BLOCK_ERROR_CONFIG,    /* a disk or option that can't be: names it */
    BLOCK_ERROR_LOCKED,    /* an image is in use by another process */
    BLOCK_ERROR_STATE,     /* state files that are damaged, foreign or demand a resynchronisation */
    BLOCK_ERROR_IO,        /* a file could not be read or written */
    BLOCK_ERROR_STREAM,    /* the peer's bytes break the specification: record and offset named */
    BLOCK_ERROR_MISMATCH,  /* the peer's disks are not the same: which and how */
    BLOCK_ERROR_PEER,      /* the peer reported a failure, or the connection ended */
    BLOCK_ERROR_MODE,      /* asked for in the wrong mode or order */
    BLOCK_ERROR_LACKS, /* an image lacks what QEMU could not write: no checkpoint can be made of it as it is */
    BLOCK_ERROR_GENERATION, /* a synchronisation would overwrite data that the source lacks */
} BlockError;

/* Sessions are named by 16 bytes, written as 32 hexadecimal digits. */
#define BLOCK_SESSION_BYTES 16u

/* Granularity of the dirty bitmap and of comparing by hash. */
#define BLOCK_CHUNK_BYTES 65536u

typedef struct {
    const char *name;   /* export name: letters, digits, '-', '_', '.' */
    const char *path;   /* raw file or block device */
    const char *format; /* what QEMU puts on top ("raw", "qcow2"): only compared with the peer's */
    gboolean direct;    /* O_DIRECT; the size must be a multiple of 4096 */
} DiskConfig;

/*
 * Storage faults, for tests: called before every change to a file of the set, possibly from several
 * threads. Returns 0 to let it happen, or a negative errno; then only the first *len bytes of it
 * are written. `file` is the file's base name. A hook that refuses all further changes is a process
 * that died there.
 */
typedef int (*BlockFaultHook)(const char *what, const char *file, guint64 offset, gsize *len,
                              gpointer user_data);

typedef struct {
    const char *state_dir;      /* existing folder for state, bitmaps, journals and overlays */
    guint64 stage_memory_bytes; /* per disk and stage, then its journal file; 0: 64 MiB */
    guint64 queue_bytes;        /* unsent bytes after which a writer waits; 0: 64 MiB */
    guint64 settle_bytes; /* the most that may be on the way to the medium (settle.h); 0: 64 MiB */
    gint64 throttle_us;   /* throttle.h, full_bytes_us; 0: a second */
    guint64 sync_rate_bytes; /* synchronisation: bytes looked at per second; 0: no limit */
    BlockFaultHook fault;    /* or NULL */
    gpointer fault_data;
} DiskSetOptions;

/* Synchronisation of all disks together. */
typedef struct {
    guint64 total_bytes; /* to be looked at */
    guint64 done_bytes;  /* known to be equal, or sent */
    guint64 sent_bytes;  /* of the guest's data that had to be sent */
    guint64 elapsed_ms;  /* since it began, or from its begin to its end */
    gboolean full;       /* everything is compared; else only what the bitmaps name */
} DiskSyncProgress;

/* On the set's own threads; each may be NULL. */
typedef struct {
    void (*progress)(const DiskSyncProgress *progress, gpointer user_data);
    /* Primary: the peer holds all disks; disk_set_mark() may be called. */
    void (*synchronised)(const DiskSyncProgress *progress, gpointer user_data);
    /* Replica: all writes before checkpoint `epoch` are here, verified. */
    void (*marked)(guint64 epoch, gpointer user_data);
    /* Replica: in the middle of a long disk_set_apply(), every now and then. */
    void (*applying)(guint64 epoch, gpointer user_data);
    /* Primary: the guest has written half of what an epoch may have. The next one is to begin. */
    void (*filling)(gpointer user_data);
    /* Primary: the peer's images are those of checkpoint `epoch`. */
    void (*applied)(guint64 epoch, gpointer user_data);
    /* The connection is of no more use: only disk_set_detach() is left to do. The guest
     * continues. */
    void (*lost)(const GError *error, gpointer user_data);
} DiskSetCallbacks;

typedef struct DiskSet DiskSet;
typedef struct Disk Disk;

/*
 * What disk_set_open() would find: the images are there, of a size, and nobody uses them; and the
 * data in them. Changes nothing. May block.
 */
gboolean disk_set_examine(const DiskConfig *disks, guint n_disks, const char *state_dir,
                          Generation *ret_generation, GError **error);

/*
 * Opens, checks and locks the images, finishes or discards what an earlier process left behind, and
 * takes the mode: `owner` starts ACTIVE, else REPLICA. An owner whose images are an incomplete
 * replica by their state is refused (BLOCK_ERROR_STATE, with the way out). Whether they are the
 * newest is for its owner to find out, with disk_set_examine(). May block.
 */
DiskSet *disk_set_open(const DiskConfig *disks, guint n_disks, gboolean owner,
                       const DiskSetOptions *options, const DiskSetCallbacks *callbacks,
                       gpointer user_data, GError **error);

/*
 * Detaches, syncs, notes a clean end, unlocks and frees. Every data path call must have returned.
 * May block.
 */
void disk_set_free(DiskSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskSet, disk_set_free)

/* ---- The data path: 0 or a negative errno; any alignment; ranges must lie within the disk. ----
 */

Disk *disk_set_find(DiskSet *set, const char *name); /* NULL: no such disk */
guint64 disk_size(const Disk *disk);

int disk_read(Disk *disk, void *buf, guint32 count, guint64 offset);

/*
 * Write, zero and flush. While a peer is attached and its queue is full, a writer waits for room.
 * When an epoch has as much as its limit, writes pass slowly until the next one (throttle.h).
 * `fua`: also durable on return. `may_trim`: zeroes that need not be allocated.
 */
int disk_write(Disk *disk, const void *buf, guint32 count, guint64 offset, gboolean fua);
int disk_zero(Disk *disk, guint32 count, guint64 offset, gboolean may_trim, gboolean fua);
/* Zeroes without storage, or nothing at all where the storage can't do that. */
int disk_trim(Disk *disk, guint32 count, guint64 offset, gboolean fua);
int disk_flush(Disk *disk);

/* Calls `extent` for consecutive pieces from `offset` on: a hole reads as zeroes. Stops when it
 * returns non-zero (and returns that) or at the end of the range. */
typedef int (*DiskExtentFunc)(guint64 offset, guint64 length, gboolean hole, gpointer user_data);
int disk_extents(Disk *disk, guint32 count, guint64 offset, DiskExtentFunc extent,
                 gpointer user_data);

/* ---- Pairing ---- */

/*
 * ACTIVE: from now on the guest's writes count though no peer has them: a new generation, unless
 * nobody can have the current one. To be called before the VM runs, and when it continues without
 * its peer. Durable on return. May block.
 */
gboolean disk_set_write_alone(DiskSet *set, GError **error);

/* REPLICA: the next primary may overwrite whatever is here. Holds until it begins to. */
void disk_set_discard(DiskSet *set);

/*
 * Attaches an ACTIVE set to a peer that attaches as replica. `fd` is a connected stream socket
 * (taken over, also on failure). `session` is the same on both sides and new for every pairing.
 * Returns at once; handshake and synchronisation follow on the set's threads, then synchronised()
 * or lost().
 */
gboolean disk_set_attach_primary(DiskSet *set, int fd, const guint8 *session, GError **error);

/* The other side of it, in mode REPLICA. From the handshake on until the first mark the images are
 * incomplete, and the state file records that. */
gboolean disk_set_attach_replica(DiskSet *set, int fd, const guint8 *session, GError **error);

/* Ends the connection and its threads; does nothing if there is none. A primary continues alone. A
 * replica keeps what is complete and drops the rest. */
void disk_set_detach(DiskSet *set);

/*
 * Primary, in the pause of a checkpoint: what has been written up to now belongs to checkpoint
 * `epoch`, all later writes to the one after. Epochs rise. BLOCK_ERROR_MODE before synchronised().
 * BLOCK_ERROR_LACKS for a disk that is not raw: if it could not be synced (set.h, set_lacks_metadata()), or if QEMU
 * was refused anything since disk_set_sync(). QEMU's `stop` writes all that it keeps in memory of a qcow2 disk, and
 * succeeds though it can't. What is missing then is written by a later flush, so a later mark has it.
 */
gboolean disk_set_mark(DiskSet *set, guint64 epoch, GError **error);

/*
 * Of a QEMU that is about to give up its disks: from here on it is known what it can't write, whatever it
 * says itself. disk_set_mark_written() is disk_set_mark(), but BLOCK_ERROR_LACKS, with each disk's name and
 * reason, if something of that failed. A flush of a raw disk doesn't count: nothing is behind it. What fails of
 * that doesn't count for disk_set_mark(), for an ordinary checkpoint does without it.
 */
void disk_set_watch(DiskSet *set);
gboolean disk_set_mark_written(DiskSet *set, guint64 epoch, GError **error);

/*
 * Replica, after marked(epoch), with the VM paused: drops the overlay and applies the stage, all
 * disks as one. If it fails it can be tried again, and nothing else is possible. May block for disk
 * I/O.
 */
gboolean disk_set_apply(DiskSet *set, guint64 epoch, GError **error);

/*
 * Replica, after marked(epoch) of a mark after which the primary's guest writes no more: applies it
 * and makes all durable. The images are all that there is of their generation. May block.
 */
gboolean disk_set_finish(DiskSet *set, guint64 epoch, GError **error);

/*
 * Replica at checkpoint `epoch` (applied): detaches, drops all later stages, writes the overlay
 * into the images, syncs them and becomes ACTIVE. If it fails the set stays a replica with its
 * overlay intact, and it can be tried again. A process that dies in it leaves images that can't be
 * owned. May block for disk I/O.
 */
gboolean disk_set_takeover(DiskSet *set, guint64 epoch, GError **error);

/*
 * Handover: ACTIVE to INACTIVE (syncs; on failure the set counts as INACTIVE) and back. Idempotent.
 * An image that is known to have lost writes isn't synced again: nothing could come of that, and
 * handing over is the way out.
 */
gboolean disk_set_inactivate(DiskSet *set, GError **error);
gboolean disk_set_activate(DiskSet *set, GError **error);

/*
 * After a handover: an INACTIVE, detached set becomes the replica of the side that took over. Its next
 * synchronisation is of what was written since. If it fails the set stays INACTIVE. One with an image
 * that has lost writes can't: every apply would fail, but not those of the next process.
 */
gboolean disk_set_become_replica(DiskSet *set, GError **error);

/*
 * Syncs all images without holding up writers: before a pause it makes QEMU's flush in it short. From here on
 * counts what QEMU is refused.
 * BLOCK_ERROR_LACKS: active ones, of which no mark can be made any more.
 */
gboolean disk_set_sync(DiskSet *set, GError **error);

/* The VM is about to be paused for the end of the epoch: no writer waits until the next one. */
void disk_set_let_through(DiskSet *set);

/* Live tuning of sync_rate_bytes. */
void disk_set_limit_sync_rate(DiskSet *set, guint64 bytes_per_s);

/* ---- Status ---- */

typedef enum {
    DISK_MODE_OPENING, /* it is nobody's yet */
    DISK_MODE_ACTIVE,
    DISK_MODE_INACTIVE,
    DISK_MODE_REPLICA,
    DISK_MODES
} DiskMode;

const char *disk_mode_name(DiskMode mode);

typedef struct {
    const char *name; /* borrowed from the set */
    guint64 size_bytes;
    guint64 dirty_bytes;   /* named by the bitmaps: to be looked at by the next resynchronisation */
    guint64 staged_bytes;  /* replica: of stages not yet applied */
    guint64 overlay_bytes; /* replica: in the overlay */
    int write_error; /* -errno: why the last change to its active image failed; 0: it did not */
    int sync_error;  /* -errno: it could not be synced, so nobody knows what it holds; or 0 */
} DiskStatus;

typedef struct {
    DiskMode mode;
    gboolean attached;   /* a connection exists and works */
    gboolean in_sync;    /* primary: synchronised; replica: the images are those of `epoch` */
    guint64 epoch;       /* primary: last applied by the peer; replica: last applied */
    guint64 queue_bytes; /* primary: not yet sent */
    guint64 epoch_limit; /* bytes that the guest may write within an epoch; 0: no limit */
    gboolean waits;      /* the guest's writes, for the next epoch */
    DiskSyncProgress sync;
    Generation generation;
    gboolean knows_peer; /* has had its handshake in this session: */
    Generation peer_generation;
    guint n_disks;
} DiskSetStatus;

void disk_set_status(DiskSet *set, DiskSetStatus *ret_status);
void disk_set_disk_status(DiskSet *set, guint index, DiskStatus *ret_status);

#endif
