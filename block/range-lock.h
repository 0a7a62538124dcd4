/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks on byte ranges of a disk: holders of ranges that don't overlap never wait for each other.
 * The disk is cut into regions, which are spread over independent shards. A shard's mutex is held
 * only to look at its list of held ranges, never during I/O. A range over several regions is taken
 * region by region in rising order, so no two holders can wait for each other.
 */
#ifndef COLO_BLOCK_RANGE_LOCK_H
#define COLO_BLOCK_RANGE_LOCK_H

#include <glib.h>

#define RANGE_LOCK_SHARDS 64u
#define RANGE_LOCK_REGION (G_GUINT64_CONSTANT(1) << 20)

typedef struct RangeHold RangeHold;

typedef struct {
    struct {
        GMutex mutex;
        GCond dropped;
        RangeHold *holds;
    } shard[RANGE_LOCK_SHARDS];
} RangeLock;

void range_lock_init(RangeLock *lock);
void range_lock_clear(RangeLock *lock);

/* Waits until nobody holds any byte of [offset, offset + len) and takes them. len > 0. */
RangeHold *range_lock_take(RangeLock *lock, guint64 offset, guint64 len);

/* Ends the hold that range_lock_take() began. */
void range_lock_drop(RangeLock *lock, RangeHold *hold);

#endif
