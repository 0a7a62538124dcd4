/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A capture and an apply in one process, connected by a socket pair, with everything that they
 * report noted. Each checkpoint differs in its device state, frames and attachment. A guest, which
 * is a thread that writes to the primary's RAM, can run on it.
 */
#ifndef COLO_TESTS_CHECKPOINT_PAIR_H
#define COLO_TESTS_CHECKPOINT_PAIR_H

#include "checkpoint/checkpoint.h"
#include "tests/support/test-ram.h"

#define CHECKPOINT_PAIR_PAGES 2048u

typedef struct CheckpointGuest CheckpointGuest;

typedef struct {
    TestRam *primary, *secondary;
    DirtyTracker *tracker;
    Capture *capture;
    Apply *apply;
    CheckpointGuest *guest; /* NULL: none runs */
    int fds[2];
    guint8 *at_pause; /* the primary's RAM when it was paused last */
    guint64 epoch;
    gboolean synchronised, taken, sent, finished;
    guint limits;              /* so often the dirty-limit was reached */
    guint64 received, applied; /* epochs */
    double percent;
    SyncProgress progress; /* when it was synchronised */
    CaptureStats stats;
    Checkpoint *last; /* reference */
    GError *capture_error, *apply_error;
    guint64 finish_epoch;
} CheckpointPair;

/* With new RAM, which is all holes. NULL if the method doesn't work here; the test is then marked
 * as skipped. */
CheckpointPair *checkpoint_pair_new(DirtyMethod method);
void checkpoint_pair_free(CheckpointPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CheckpointPair, checkpoint_pair_free)

/* The method that a test's data names. */
DirtyMethod checkpoint_pair_method(gconstpointer data);

/* Fills the first half of the RAM with pages that differ from their neighbours. */
void checkpoint_pair_fill(TestRam *ram);

/* A capture of the primary's RAM, or an apply to the secondary's, that reports to the pair. */
Capture *checkpoint_pair_capture_new(CheckpointPair *pair, int fd);
Apply *checkpoint_pair_apply_new(CheckpointPair *pair, int fd);

/* Starts the guest. Of ten writes nine are to the first `hot_pages`; 0: all are to any page. */
void checkpoint_pair_run_guest(CheckpointPair *pair, guint hot_pages);

/* Runs the main loop until one of the pair's flags is set. */
void checkpoint_pair_wait(const gboolean *flag);

/* Pauses the guest, keeps its RAM in at_pause and starts the next checkpoint. */
void checkpoint_pair_start_take(CheckpointPair *pair);
/* One checkpoint, to the end on both sides. */
void checkpoint_pair_take_unchecked(CheckpointPair *pair);
/* The last checkpoint that arrived is the one that was sent, and so is every byte of RAM. */
void checkpoint_pair_check(const CheckpointPair *pair);
/* Takes a checkpoint and checks it. */
void checkpoint_pair_take(CheckpointPair *pair);

/* Finishes the apply: finish_epoch is what RAM is of then. */
void checkpoint_pair_finish(CheckpointPair *pair);

/* The secondary can't use the checkpoint of this epoch; 0: it can use all. */
void checkpoint_pair_refuse(guint64 epoch);

/* Ends both sides, which shuts their sockets down, and makes new sockets for others. */
void checkpoint_pair_cut(CheckpointPair *pair);
/* Does this, and makes both sides anew: RAM is as it was, as after a lost link. */
void checkpoint_pair_again(CheckpointPair *pair);
/* Tells what an apply would tell first, where there is none. */
void checkpoint_pair_tell_base(CheckpointPair *pair);

#endif
