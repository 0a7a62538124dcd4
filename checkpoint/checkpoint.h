/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints of RAM and device state: dirty-page tracking, capture on the primary, apply on the
 * secondary, and the stream between them (docs/STREAM.md). Knows nothing of roles, peers or QEMU:
 * it is given RAM (VmRam), a connected socket and callbacks.
 *
 * Threads: a Capture and an Apply each have one thread of their own that does all copying, hashing
 * and blocking I/O. Their functions are called, and their callbacks run, on the thread that made
 * them (its default GMainContext). After _free() returns no callback runs any more.
 */
#ifndef COLO_CHECKPOINT_CHECKPOINT_H
#define COLO_CHECKPOINT_CHECKPOINT_H

#include <glib.h>

#include "common/clock.h"
#include "vm/vm.h"

#define CHECKPOINT_ERROR checkpoint_error_quark()
GQuark checkpoint_error_quark(void);

typedef enum {
    CHECKPOINT_ERROR_STREAM,      /* bytes that break the specification: record and offset named */
    CHECKPOINT_ERROR_VERSION,     /* a stream of another version, or a mandatory record unknown */
    CHECKPOINT_ERROR_MISMATCH,    /* RAM of another size or name */
    CHECKPOINT_ERROR_IO,          /* the connection failed or ended */
    CHECKPOINT_ERROR_TRACKING,    /* dirty pages can't be tracked: names what is missing */
    CHECKPOINT_ERROR_NO_CONVERGE, /* the guest dirties faster than the link sends */
} CheckpointError;

/* ---- Sets of pages ---- */

/* A set of page numbers below a fixed limit: a bitmap with its population count. */
typedef struct PageSet PageSet;

PageSet *page_set_new(guint64 pages);
PageSet *page_set_copy(const PageSet *set);
void page_set_free(PageSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSet, page_set_free)
void page_set_add_run(PageSet *set, guint64 first, guint64 count);
void page_set_clear(PageSet *set);
gboolean page_set_contains(const PageSet *set, guint64 page);
guint64 page_set_count(const PageSet *set);
/* The next run of members at or after `from`: its first page and length; FALSE if there is none. */
gboolean page_set_next_run(const PageSet *set, guint64 from, guint64 *ret_first,
                           guint64 *ret_count);

/* ---- Dirty tracking ---- */

typedef enum {
    DIRTY_METHOD_AUTO,       /* the best that works here */
    DIRTY_METHOD_UFFD,       /* userfaultfd async write-protection + PAGEMAP_SCAN (Linux 6.7) */
    DIRTY_METHOD_SOFT_DIRTY, /* /proc/PID/clear_refs + pagemap bit 55 (CONFIG_MEM_SOFT_DIRTY) */
    DIRTY_METHOD_COMPARE,    /* every page is hashed and compared with its last hash */
} DirtyMethod;

typedef struct DirtyTracker DirtyTracker;

/*
 * Starts tracking the writes of ram->pid. AUTO tries the methods in the order above. Error:
 * CHECKPOINT_ERROR_TRACKING, which for AUTO names why each failed.
 */
DirtyTracker *dirty_tracker_new(const VmRam *ram, DirtyMethod method, GError **error);
void dirty_tracker_free(DirtyTracker *tracker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DirtyTracker, dirty_tracker_free)

/* The method in use, never AUTO; its name as in the configuration ("uffd", ...). */
DirtyMethod dirty_tracker_method(const DirtyTracker *tracker);
const char *dirty_method_name(DirtyMethod method);
/* Why AUTO did not take a better method, for people; NULL if it has the best one. */
const char *dirty_tracker_passed_over(const DirtyTracker *tracker);
gboolean dirty_method_parse(const char *name, DirtyMethod *ret_method);

/*
 * Adds to `pages` all pages written since the last harvest (or since _new) and starts over, with
 * no write lost in between. Any one thread at a time. The first harvest may report every page.
 */
gboolean dirty_tracker_harvest(DirtyTracker *tracker, PageSet *pages, GError **error);

/*
 * Tells what was copied of a page after a harvest (`data` NULL: zeros). COMPARE reports a page
 * until it has been told, and compares with that; the other methods need not know. Capture does
 * this.
 */
void dirty_tracker_copied(DirtyTracker *tracker, guint64 page, const guint8 *data);

/* ---- How pages are sent ---- */

/* On the wire, so never renumbered (docs/STREAM.md, PACKED). */
typedef enum { PACK_PLAIN, PACK_LZ4, PACK_ZSTD, PACK_CODECS } PackCodec;

const char *pack_codec_name(PackCodec codec);

/* What a capture is told to do. AUTO: whatever is fastest, as measured (checkpoint/pack-rule.h). */
typedef enum {
    CAPTURE_PACK_AUTO,
    CAPTURE_PACK_OFF,
    CAPTURE_PACK_LZ4,
    CAPTURE_PACK_ZSTD
} CapturePack;

/* ---- Capture: the primary's side ---- */

/* One output frame that is held back until this checkpoint is complete on the other side. */
typedef struct {
    unsigned nic;
    GBytes *data; /* virtio-net header and frame, as the port gave it */
} HeldFrame;

/* An array of HeldFrame*, which it frees. */
GPtrArray *checkpoint_frames_new(void);
/* Takes over `data`. */
void checkpoint_frames_add(GPtrArray *frames, unsigned nic, GBytes *data);

typedef struct {
    guint64 epoch;
    gint64 harvest_us, copy_us; /* within the pause */
    gint64 transfer_us;  /* from the end of the copy to the last byte accepted by the socket */
    guint64 dirty_pages; /* copied within the pause */
    guint64 ahead_pages; /* sent ahead since the checkpoint before */
    guint64 zero_pages;  /* of both, that were sent as zero */
    guint64 same_pages;  /* of both, that the other side had already */
    guint64 bytes;       /* on the wire since the checkpoint before */
    guint64 plain_bytes; /* the same, had nothing been packed */
    PackCodec codec;     /* that pages are packed by now */
} CaptureStats;

typedef struct {
    unsigned round;      /* from 1 */
    guint64 total_bytes; /* RAM size */
    guint64 sent_bytes;  /* of guest RAM (zero pages count), all rounds */
    guint64 same_bytes;  /* of these, what the other side had already */
    guint64 left_bytes;  /* still dirty */
    double percent;      /* 0..100, never goes back */
    gint64 left_us;      /* estimate; -1: unknown yet */
    double dirty_bytes_per_s;
    double send_bytes_per_s; /* of guest RAM, as sent_bytes */
    double link_bytes_per_s; /* on the wire, where zero pages and same_bytes take little */
} SyncProgress;

typedef struct {
    void (*progress)(const SyncProgress *progress, gpointer user_data);
    /* The first synchronisation is small enough to take the first checkpoint now. */
    void (*synchronised)(const SyncProgress *progress, gpointer user_data);
    /* All of the pause's work is done: the VM may resume. */
    void (*taken)(const CaptureStats *stats, gpointer user_data);
    /* The last byte is with the kernel. */
    void (*sent)(const CaptureStats *stats, gpointer user_data);
    /* capture_dirty_pages() has reached what capture_set_dirty_limit() says. */
    void (*dirty_limit)(gpointer user_data);
    /* Nothing more will be sent; only _free() is left to do. */
    void (*failed)(const GError *error, gpointer user_data);
} CaptureCallbacks;

typedef struct Capture Capture;

/*
 * Makes a capture that writes to the connected blocking socket `fd` (borrowed: keep it open until
 * _free) and starts its thread. `tracker` is borrowed too and used by no one else.
 */
Capture *capture_new(const VmRam *ram, DirtyTracker *tracker, int fd,
                     const CaptureCallbacks *callbacks, gpointer user_data, GError **error);

/* Ends at once, in the middle of a record if need be (shuts the socket down). */
void capture_free(Capture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Capture, capture_free)

/*
 * Waits until the other side has told what its RAM holds already, and sends all other RAM in rounds
 * while the VM runs, until what is left fits `pause_pages`; calls progress() and then
 * synchronised() once. After that pages are still sent ahead. Before the first checkpoint, once.
 */
void capture_synchronise(Capture *capture, guint64 pause_pages);

/*
 * Takes checkpoint `epoch` (rising by one each time) of a VM that is paused and has saved
 * `device_state`. `frames` (of HeldFrame, may be NULL) and `attachment` (the service's own bytes,
 * may be NULL) are sent with it. Harvests and copies, calls taken(), then sends and calls sent().
 * Takes references of what it is given, which must not change until sent(). Only one at a time.
 * Before synchronised() it ends the synchronisation, but not its wait for the other side's word, and
 * copies all that is left in the pause. It
 * fails beyond the limits of docs/STREAM.md: a device state of 64 MiB, an attachment of 64 MiB,
 * frames of 256 KiB, CHECKPOINT_FRAMES_MAX of them, CHECKPOINT_FRAMES_BYTES_MAX in all.
 */
#define CHECKPOINT_FRAMES_MAX       (1u << 20)
#define CHECKPOINT_FRAMES_BYTES_MAX (256u << 20)

void capture_take(Capture *capture, guint64 epoch, GBytes *device_state, GPtrArray *frames,
                  GBytes *attachment);

/* Whether the other side has yet to tell what its RAM holds. */
gboolean capture_awaits_base(const Capture *capture);

/* Has the next checkpoint carry these pages of RAM, whether they were written or not. */
void capture_add_pages(Capture *capture, guint64 first, guint64 count);

/* Pages written since the last checkpoint and not sent ahead, as of the last look. Any thread. */
guint64 capture_dirty_pages(const Capture *capture);

/*
 * From now on dirty_limit() is called when a look finds `pages` or more: once, until a look finds
 * fewer or a checkpoint is taken. 0: never. At any time; counts from the next look on.
 */
void capture_set_dirty_limit(Capture *capture, guint64 pages);

/*
 * A synchronisation sends so many bytes per second at most, over any time that is long for a chunk of
 * 256 KiB; 0: as many as it can. A checkpoint is sent as fast as it can be. At any time; counts at
 * once.
 */
void capture_set_sync_rate(Capture *capture, guint64 bytes_per_s);

/*
 * A synchronisation leaves RAM and its guest alone until `start`; a checkpoint doesn't wait. Before
 * capture_synchronise().
 */
void capture_set_start(Capture *capture, ColoTime start);

/*
 * How pages are packed from now on. At first OFF: the other side must be known to read PACKED records.
 * At any time; counts from the next 64 pages on.
 */
void capture_set_packing(Capture *capture, CapturePack packing);

/*
 * How pages are sent ahead and when the first synchronisation gives up (capture-ahead.c has the
 * reasons).
 *
 */
typedef struct {
    guint64 ahead_pages;      /* no sending ahead while fewer pages are dirty */
    gint64 look_interval_us;  /* between looks at the number of dirty pages, at least */
    gint64 round_interval_us; /* between rounds of sending ahead, at least */
    gint64 patience_us;       /* a synchronisation may go without progress for so long, */
    unsigned patience_rounds; /* and for so many rounds */
} CaptureTuning;

#define CAPTURE_TUNING_DEFAULT                                                                     \
    ((CaptureTuning){.ahead_pages = 1024,                                                          \
                     .look_interval_us = 10000,                                                    \
                     .round_interval_us = 10000,                                                   \
                     .patience_us = 10000000,                                                      \
                     .patience_rounds = 10})

/* At any time; counts from the next round on. Copies. */
void capture_set_tuning(Capture *capture, const CaptureTuning *tuning);

/* ---- Apply: the secondary's side ---- */

/* A checkpoint that is complete and verified. */
typedef struct {
    guint64 epoch;
    GBytes *device_state;
    GPtrArray *frames;  /* of HeldFrame*; never NULL */
    GBytes *attachment; /* NULL: none */
    guint64 pages, bytes;
    guint64 plain_bytes;          /* what `bytes` would be, had nothing been packed */
    gint64 transfer_us, apply_us; /* apply_us is 0 until it has been applied */
} Checkpoint;

Checkpoint *checkpoint_ref(Checkpoint *checkpoint);
void checkpoint_unref(Checkpoint *checkpoint);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Checkpoint, checkpoint_unref)

typedef struct {
    /* In the thread, of one that is verified: FALSE if it isn't what its owner can use, which is an
     * error of the stream. NULL: any is. */
    gboolean (*check)(const Checkpoint *checkpoint, GError **error);
    void (*progress)(guint64 received_bytes, guint64 total_bytes, gpointer user_data);
    /* Complete and verified in memory: the commit point. RECEIVED may be sent. */
    void (*received)(Checkpoint *checkpoint, gpointer user_data);
    /* RAM is now that of `checkpoint`. */
    void (*applied)(Checkpoint *checkpoint, gpointer user_data);
    /* The stream ended or broke; complete checkpoints stay valid. */
    void (*failed)(const GError *error, gpointer user_data);
} ApplyCallbacks;

typedef struct Apply Apply;

/*
 * Tells the other end of the connected blocking socket `fd` (borrowed) what is in `ram`, to which
 * nobody may write from now on. Then reads a stream from it, all in a thread of its own, stages each
 * checkpoint, verifies it and applies it to `ram` at once. Staging never holds more than one
 * incomplete checkpoint, so no more than the guest's RAM. The pages of the first checkpoint are
 * written to `ram` as they come. Until it is complete, RAM is unusable.
 */
Apply *apply_new(const VmRam *ram, int fd, const ApplyCallbacks *callbacks, gpointer user_data,
                 GError **error);

/*
 * From now on a checkpoint that is complete and verified here counts as incomplete until it is
 * allowed, for something outside of the stream belongs to it. Epochs up to `epoch` are allowed (0:
 * none yet).
 */
void apply_allow(Apply *apply, guint64 epoch);

/*
 * Stops reading: drops what is incomplete and finishes applying what is complete. Then calls `done`
 * with the checkpoint that RAM is of, or NULL if there has been none. Nothing is read
 * from the socket any more; failed() is not called for that. Once.
 */
void apply_finish(Apply *apply, void (*done)(Checkpoint *checkpoint, gpointer user_data),
                  gpointer user_data);

void apply_free(Apply *apply);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Apply, apply_free)

/* ---- RAM around a load of device state: the secondary's side ---- */

/*
 * Loading device state may write to RAM. Before each load a guard saves the pages that loads are
 * known to write to, and puts them back after it. It reports which other pages a load has written
 * to, and which pages a VM that ran since has written. One order at a time. A thread of the guard's
 * own carries it out, for it may look at all of RAM, while the VM is paused.
 */
typedef struct LoadGuard LoadGuard;

/* On the thread that gave the order. `pages` is for the call; NULL with an error. */
typedef void (*LoadGuardDone)(const PageSet *pages, const GError *error, gpointer user_data);

/* `ram` and `tracker` are borrowed; the guard doesn't use the tracker between orders. */
LoadGuard *load_guard_new(const VmRam *ram, DirtyTracker *tracker, GError **error);
/* Ends an order that is under way; its callback doesn't come. The tracker can't be used after that.
 */
void load_guard_free(LoadGuard *guard);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LoadGuard, load_guard_free)

/* Forgets which pages are known, and what the next checkpoint has to carry. No order is under way.
 */
void load_guard_reset(LoadGuard *guard);
/*
 * The known pages are saved; `pages` is empty. In a session's first one pages written until now
 * don't count: the first checkpoint has named all. Later load_guard_after() reports what was
 * written since the last look, whoever did it. But where the tracker sees what colod writes itself
 * (compare, soft-dirty), this is not known of a VM that did not stay paused.
 */
void load_guard_before(LoadGuard *guard, LoadGuardDone done, gpointer user_data);
/*
 * The same before a load after which no checkpoint comes that could correct anything. Where
 * load_guard_is_exact(), load_guard_after() puts back whatever pages are written from then on; else
 * this is load_guard_before(). Dirty tracking starts over after it.
 */
void load_guard_before_last(LoadGuard *guard, LoadGuardDone done, gpointer user_data);
/*
 * The known pages are put back. `pages`: those that were written besides. They are known from now
 * on, and wrong until a checkpoint has carried them.
 */
void load_guard_after(LoadGuard *guard, LoadGuardDone done, gpointer user_data);
/*
 * Whether the load of a takeover is exact for this VM, which has not been loaded yet. `ram` NULL:
 * for one that is started with this process's rights. If not, CHECKPOINT_ERROR_TRACKING has the
 * reason.
 */
gboolean load_guard_is_exact(const VmRam *ram, GError **error);
/* `pages`: all that the next checkpoint has to carry; they are forgotten. */
void load_guard_written(LoadGuard *guard, LoadGuardDone done, gpointer user_data);

#endif
