/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's end of a connection, shared by primary.c (stream, acknowledgements) and sync.c. */
#ifndef COLO_BLOCK_PRIMARY_H
#define COLO_BLOCK_PRIMARY_H

#include "block/queue.h"
#include "block/set.h"

struct Primary {
    DiskSet *set;
    int fd;
    WireHello hello, theirs;
    Queue queue;
    GThread *sender, *receiver, *syncer;
    guint64 seed;
    PrimaryPhase phase; /* the receiver's */

    /* Under the gate: */
    gboolean streaming; /* START has been queued: every change follows */
    guint64 epoch;      /* of the changes being made: the last mark, 0 before the first */
    guint64 rotated;    /* the map that is not current holds nothing written after this mark */
    gboolean old_dirty; /* atomic: it holds anything */

    GMutex mutex;
    GCond changed;
    /* Under the mutex: */
    gboolean stop, failed, synchronised, synced_reply;
    gboolean has_theirs; /* `theirs` is complete */
    gboolean adopted;    /* the peer has become a checkpoint of ours */
    guint8 **scope; /* per disk: what the peer's bitmaps name; from START on: what to compare */
    guint8 **need;  /* per disk: chunks to send */
    guint64 need_count;
    guint need_disk; /* with need_byte: no chunk before it is needed */
    gsize need_byte;
    guint outstanding; /* HASH records without their NEED */
    DiskSyncProgress progress;
    gint64 began_us; /* the synchronisation */
};

/* Reports the first failure, to the peer too if it is not the peer's: nothing more is queued,
 * lost() is called. Any thread of the primary's. */
void disk_primary_fail(Primary *primary, const GError *error);

/* Brings progress.elapsed_ms up to date; the mutex is held. */
void disk_primary_note_elapsed(Primary *primary);

/* The synchronisation's thread. */
gpointer sync_thread(gpointer primary);

#endif
