/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ring of samples, and the same samples in order: percentiles are asked for within each
 * checkpoint's pause. Invariant: the first min(count, STATS_SAMPLES) entries of `sorted_us` are
 * those of the ring, ascending.
 */
#include "common/stats.h"

#include <string.h>

#include "common/clock.h"

struct Stats {
    gint64 ring_us[STATS_SAMPLES], sorted_us[STATS_SAMPLES];
    guint64 count;
};

Stats *stats_new(void)
{
    return g_new0(Stats, 1);
}

void stats_free(Stats *stats)
{
    g_free(stats);
}

/* How many of the first `n` are less than `us`. */
static gsize rank_of(const gint64 *sorted_us, gsize n, gint64 us)
{
    gsize low = 0;
    while (low < n) {
        gsize middle = low + (n - low) / 2;
        if (sorted_us[middle] < us)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

void stats_add(Stats *stats, gint64 duration_us)
{
    gint64 us = MAX(duration_us, 0);
    gint64 *oldest_us = &stats->ring_us[stats->count % STATS_SAMPLES];
    gint64 *sorted_us = stats->sorted_us;
    gsize gap = MIN(stats->count, STATS_SAMPLES);
    if (gap == STATS_SAMPLES)
        gap = rank_of(sorted_us, STATS_SAMPLES, *oldest_us);
    /* The gap moves to where the new one belongs. */
    gsize at = rank_of(sorted_us, MIN(stats->count, STATS_SAMPLES), us);
    if (at > gap) {
        at--;
        memmove(&sorted_us[gap], &sorted_us[gap + 1], (at - gap) * sizeof(*sorted_us));
    } else {
        memmove(&sorted_us[at + 1], &sorted_us[at], (gap - at) * sizeof(*sorted_us));
    }
    *oldest_us = sorted_us[at] = us;
    stats->count++;
}

guint64 stats_count(const Stats *stats)
{
    return stats->count;
}

gint64 stats_percentile_us(const Stats *stats, unsigned percent)
{
    g_assert(percent <= 100);
    gsize n = MIN(stats->count, STATS_SAMPLES);
    if (n == 0)
        return 0;
    gsize rank = (n * percent + 99) / 100;
    return stats->sorted_us[rank > 0 ? rank - 1 : 0];
}

static double percentile_ms(const Stats *stats, unsigned percent)
{
    return (double)stats_percentile_us(stats, percent) / COLO_US_PER_MS;
}

double stats_p50_ms(const Stats *stats)
{
    return percentile_ms(stats, 50);
}

double stats_p99_ms(const Stats *stats)
{
    return percentile_ms(stats, 99);
}

double stats_max_ms(const Stats *stats)
{
    return percentile_ms(stats, 100);
}
