/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two disk sets in one process, connected by a socket pair, with everything that happens to them
 * noted in a mailbox. A side can be made to die at its N-th change to a file; what it leaves is
 * then opened again as another process would.
 */
#ifndef COLO_TESTS_BLOCK_PAIR_H
#define COLO_TESTS_BLOCK_PAIR_H

#include "block/block.h"

#define SIDE_DISKS 2u

/* One host. */
typedef struct {
    char *dir;
    char *paths[SIDE_DISKS];
    guint64 sizes[SIDE_DISKS];
    DiskConfig configs[SIDE_DISKS];
    DiskSetOptions options;
    DiskSet *set;
    Disk *disks[SIDE_DISKS];

    GMutex mutex; /* everything below */
    GCond changed;
    gint64 die_at; /* change number at which the process dies; 0: never */
    gint64 changes;
    gboolean dead;
    int refuse_with;         /* negative errno for matching changes; 0: none */
    const char *refuse_what; /* "write", ...; NULL: any */
    const char *refuse_file; /* a part of the file's name */
    gboolean hold_settling;  /* what is written out of the page cache waits */
    gulong settle_us;        /* ... or takes so long */
    guint64 image_syncs;
    guint64 settles; /* pieces written out of the page cache */
    guint forgets;   /* images whose page cache was let go, since the set was opened */
    gboolean synchronised, lost;
    char *lost_message;
    guint64 marked, applied;
    guint fillings;
    DiskSyncProgress progress;
} Side;

/* Makes a folder with images of these sizes, all zeroes. The set is not open. */
Side *side_new(const guint64 *sizes);

/* Closes the set and removes the folder. */
void side_free(Side *side);

/* Opens the set; resets the mailbox and the fault. The caller looks at the error if NULL-able. */
gboolean side_open(Side *side, gboolean owner, GError **error);

/* Frees the set; for a crash dead before, so that nothing more reaches the files. */
void side_close(Side *side);
void side_crash(Side *side);
gboolean side_is_dead(Side *side);

/* Connects the open sets of both sides in a new session. */
void side_pair(Side *primary, Side *replica);

/* Attaches both and waits until synchronised; FALSE if either is lost. */
gboolean side_synchronise(Side *primary, Side *replica);

/* Wait for an event; FALSE if the side is lost (or dead) instead. */
gboolean side_wait_synchronised(Side *side);
gboolean side_wait_marked(Side *side, guint64 epoch);
gboolean side_wait_applied(Side *side, guint64 epoch);
void side_wait_lost(Side *side);

/* Opens the set, which succeeds. */
void side_open_ok(Side *side, gboolean owner);
/* ... or fails, with this code and a message that has `text` in it. */
void side_open_fails(Side *side, gboolean owner, BlockError code, const char *text);

/* Its state file's path, to be freed. Changes a byte of the file; `resign`: with a right checksum. */
char *side_state_path(const Side *side);
void side_patch_state(const Side *side, gsize at, guint8 xor, gboolean resign);

/* The image file's bytes, to be freed. */
guint8 *side_image(const Side *side, guint disk);

/* The disk's contents as its guest reads them, to be freed. */
guint8 *side_read(const Side *side, guint disk);
/* One byte of it. */
guint8 side_byte(const Side *side, guint disk, guint64 offset);

/* Lets every change of kind `what` (NULL: any) to files whose name contains `file` fail from now
 * on; 0 ends it. */
void side_refuse(Side *side, const char *what, const char *file, int negative_errno);

/* Lets what is written out of the page cache hang, or go on. */
void side_hold_settling(Side *side, gboolean hold);
/* Each piece of it takes so long. */
void side_slow_settling(Side *side, gulong us);

/* Waits until images have been synced so often since the set was opened. */
void side_wait_image_syncs(Side *side, guint64 count);

/* ---- Two of them, for tests with a fixture ---- */

typedef struct {
    Side *a, *b; /* owner and replica */
} BlockPair;

/* Makes both, not open. */
void block_pair_new(BlockPair *pair, const guint64 *sizes);
/* Opens both, which succeeds. */
void block_pair_open(BlockPair *pair);
/* Synchronises both and takes checkpoint 1, which the replica has marked. */
void block_pair_join(BlockPair *pair);
void block_pair_free(BlockPair *pair);

/* Takes checkpoint `epoch` and waits until the owner knows that it was applied. */
void block_pair_checkpoint(BlockPair *pair, guint64 epoch);
/* The files of both are the same, byte for byte. */
void block_pair_assert_same_images(const BlockPair *pair);

/* Fixture functions for g_test_add(), with disks of these sizes: both are made; and open; and
 * synchronised, with checkpoint 1 applied. */
extern const guint64 block_pair_sizes[SIDE_DISKS];
void block_pair_setup(BlockPair *pair, gconstpointer data);
void block_pair_setup_open(BlockPair *pair, gconstpointer data);
void block_pair_setup_joined(BlockPair *pair, gconstpointer data);
void block_pair_teardown(BlockPair *pair, gconstpointer data);

/* Writes `count` bytes of `value` to a disk, which succeeds. */
void side_fill(const Side *side, guint disk, guint8 value, guint32 count, guint64 offset);

#endif
