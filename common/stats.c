/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A ring of samples, sorted only when somebody asks: adding is on the path of every checkpoint,
 * asking is not. Invariant: min(count, STATS_SAMPLES) entries of the ring are valid.
 */
#include "common/stats.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

struct Stats {
    gint64 ring_us[STATS_SAMPLES];
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

void stats_add(Stats *stats, gint64 duration_us)
{
    stats->ring_us[stats->count++ % STATS_SAMPLES] = MAX(duration_us, 0);
}

guint64 stats_count(const Stats *stats)
{
    return stats->count;
}

static int compare_us(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

gint64 stats_percentile_us(const Stats *stats, unsigned percent)
{
    g_assert(percent <= 100);
    gsize n = MIN(stats->count, STATS_SAMPLES);
    if (n == 0)
        return 0;
    gint64 sorted_us[STATS_SAMPLES];
    memcpy(sorted_us, stats->ring_us, n * sizeof(sorted_us[0]));
    qsort(sorted_us, n, sizeof(sorted_us[0]), compare_us);
    gsize rank = (n * percent + 99) / 100;
    return sorted_us[rank > 0 ? rank - 1 : 0];
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
