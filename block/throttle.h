/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much a guest may write within one epoch. A takeover has to bring an epoch to the medium
 * before any output leaves, and the guest writes to the page cache. So without a limit the time of
 * a takeover has none. The limit is what the secondary's medium takes in half a second (settle.h).
 *
 *   half of it is written   a checkpoint is asked for, which begins the next epoch
 *   all of it is written    writes pass at half the medium's rate until then
 *
 * So an epoch is not much larger than the limit, and the next one no larger than it. Reads and
 * flushes wait behind writes (QEMU has 16 requests under way, nbdkit 16 threads), and so does
 * whatever drains QEMU's disks. So a small write passes in milliseconds, and none waits for longer
 * than a second. Whoever pauses the VM calls throttle_open() before, because the pause waits for
 * all writes that are under way.
 *
 * Any thread. A writer must hold no lock of the set.
 */
#ifndef COLO_BLOCK_THROTTLE_H
#define COLO_BLOCK_THROTTLE_H

#include <glib.h>

typedef struct {
    GMutex mutex; /* everything below */
    GCond changed;
    gint64 full_bytes_us; /* in which the limit's bytes pass when the epoch is full; constant */
    guint64 limit_bytes;  /* 0: none */
    guint64 bytes;        /* of this epoch */
    gint64 next_us;       /* monotonic: when the next write passes a full epoch */
    guint waiting;        /* writers */
    gboolean asked;       /* for a checkpoint, in this epoch */
    gboolean open;        /* until the next epoch */
} Throttle;

/* `full_bytes_us` 0: a second. */
void throttle_init(Throttle *throttle, gint64 full_bytes_us);
void throttle_clear(Throttle *throttle);

/* Before a write of so many bytes. TRUE: a checkpoint is to be asked for, once in an epoch. */
gboolean throttle_asks(Throttle *throttle, guint64 bytes);
/* Waits until the write may pass, and counts it. */
void throttle_admit(Throttle *throttle, guint64 bytes);

/* Takes effect at once. 0: no limit. */
void throttle_limit(Throttle *throttle, guint64 limit_bytes);

/* An epoch begins. */
void throttle_begin_epoch(Throttle *throttle);

/* Until the next epoch begins nobody waits. */
void throttle_open(Throttle *throttle);

/* For status: the limit, and whether anybody waits. */
void throttle_look(Throttle *throttle, guint64 *ret_limit_bytes, gboolean *ret_waits);

#endif
