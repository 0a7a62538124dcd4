/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/range-lock.h"

/* One region's part of a held range; the parts of one range are an array. */
struct RangeHold {
    RangeHold *next; /* in the shard's list */
    guint64 start, end;
    guint parts; /* of the whole range, in its first part */
};

void range_lock_init(RangeLock *lock)
{
    for (guint i = 0; i < RANGE_LOCK_SHARDS; i++) {
        g_mutex_init(&lock->shard[i].mutex);
        g_cond_init(&lock->shard[i].dropped);
        lock->shard[i].holds = NULL;
    }
}

void range_lock_clear(RangeLock *lock)
{
    for (guint i = 0; i < RANGE_LOCK_SHARDS; i++) {
        g_assert(!lock->shard[i].holds);
        g_mutex_clear(&lock->shard[i].mutex);
        g_cond_clear(&lock->shard[i].dropped);
    }
}

static guint shard_of(guint64 offset)
{
    return (guint)(offset / RANGE_LOCK_REGION % RANGE_LOCK_SHARDS);
}

static gboolean is_held(const RangeHold *holds, guint64 start, guint64 end)
{
    for (; holds; holds = holds->next)
        if (start < holds->end && holds->start < end)
            return TRUE;
    return FALSE;
}

RangeHold *range_lock_take(RangeLock *lock, guint64 offset, guint64 len)
{
    g_assert(len > 0);
    guint64 end = offset + len;
    guint parts = (guint)((end - 1) / RANGE_LOCK_REGION - offset / RANGE_LOCK_REGION + 1);
    RangeHold *hold = g_new(RangeHold, parts);
    hold->parts = parts;
    for (guint i = 0; i < parts; i++) {
        guint64 stop = MIN(end, (offset / RANGE_LOCK_REGION + 1) * RANGE_LOCK_REGION);
        guint s = shard_of(offset);
        hold[i].start = offset;
        hold[i].end = stop;
        g_mutex_lock(&lock->shard[s].mutex);
        while (is_held(lock->shard[s].holds, offset, stop))
            g_cond_wait(&lock->shard[s].dropped, &lock->shard[s].mutex);
        hold[i].next = lock->shard[s].holds;
        lock->shard[s].holds = &hold[i];
        g_mutex_unlock(&lock->shard[s].mutex);
        offset = stop;
    }
    return hold;
}

void range_lock_drop(RangeLock *lock, RangeHold *hold)
{
    for (guint i = 0; i < hold->parts; i++) {
        guint s = shard_of(hold[i].start);
        g_mutex_lock(&lock->shard[s].mutex);
        RangeHold **at = &lock->shard[s].holds;
        while (*at != &hold[i])
            at = &(*at)->next;
        *at = hold[i].next;
        g_cond_broadcast(&lock->shard[s].dropped);
        g_mutex_unlock(&lock->shard[s].mutex);
    }
    g_free(hold);
}
