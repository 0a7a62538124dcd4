/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations of something that happens over and over (pauses, transfers, ...): how often in all, and
 * the percentiles of the last STATS_SAMPLES of them. Fixed memory, one thread, no I/O.
 */
#ifndef COLO_COMMON_STATS_H
#define COLO_COMMON_STATS_H

#include <glib.h>

#define STATS_SAMPLES 1024u

typedef struct Stats Stats;

Stats *stats_new(void);
void stats_free(Stats *stats);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stats, stats_free)

/* Adds a duration; negative ones count as 0. */
void stats_add(Stats *stats, gint64 duration_us);

/* How many have been added since stats_new(). */
guint64 stats_count(const Stats *stats);

/*
 * The smallest of the last samples that at least `percent` (0..100) of them do not exceed (the
 * nearest-rank percentile), in microseconds; 0 if there are none.
 */
gint64 stats_percentile_us(const Stats *stats, unsigned percent);

/* The same in milliseconds; max is the longest of the last samples. */
double stats_p50_ms(const Stats *stats);
double stats_p99_ms(const Stats *stats);
double stats_max_ms(const Stats *stats);

#endif
