/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much a guest may write within one epoch. A takeover has to bring an epoch to the medium
 * before any output leaves, and the guest writes to the page cache: so without a limit the time of
 * a takeover has none. The limit is what the secondary's medium takes in about half a second
 * (settle.h).
 *
 *   half of it is written   a checkpoint is asked for, which begins the next epoch
 *   all of it is written    writers wait for that
 *
 * Whoever pauses the VM calls throttle_open() before, because the pause waits for the writes that
 * are under way. No writer waits for longer than a second, so that nothing else that waits for them
 * hangs (a guest that powers off, say). So the limit isn't exact.
 *
 * Any thread. A writer must hold no lock of the set.
 */
#ifndef COLO_BLOCK_THROTTLE_H
#define COLO_BLOCK_THROTTLE_H

#include <glib.h>

typedef struct {
    GMutex mutex; /* everything below */
    GCond changed;
    gint64 wait_us;      /* at most; constant */
    guint64 limit_bytes; /* 0: none */
    guint64 bytes;       /* of this epoch */
    guint waiting;       /* writers */
    gboolean asked;      /* for a checkpoint, in this epoch */
    gboolean open;       /* until the next epoch */
} Throttle;

/* `wait_us` 0: a second. */
void throttle_init(Throttle *throttle, gint64 wait_us);
void throttle_clear(Throttle *throttle);

/* Counts a write, after it has waited. TRUE: a checkpoint is to be asked for, once in an epoch. */
gboolean throttle_admit(Throttle *throttle, guint64 bytes);

/* Takes effect at once. 0: no limit. */
void throttle_limit(Throttle *throttle, guint64 limit_bytes);

/* An epoch begins. */
void throttle_begin_epoch(Throttle *throttle);

/* Until the next epoch begins nobody waits. */
void throttle_open(Throttle *throttle);

/* For status: the limit, and whether anybody waits. */
void throttle_look(Throttle *throttle, guint64 *ret_limit_bytes, gboolean *ret_waits);

#endif
