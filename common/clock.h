/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one time type: microseconds of the monotonic clock, wrapped in a struct so that it can't be
 * mixed up with a duration. Durations are plain gint64 with a unit in their name (_us, _ms).
 * The wall clock is for people's eyes only (log lines, events) and never passes through here.
 */
#ifndef COLO_COMMON_CLOCK_H
#define COLO_COMMON_CLOCK_H

#include <glib.h>

typedef struct {
    gint64 us;
} ColoTime;

#define COLO_US_PER_MS G_GINT64_CONSTANT(1000)

/*
 * The present moment. Parts that wait or measure ask here. What only decides is given `now` instead
 * (tests/unit/test-waits.sh has a list). A test that turns the clock puts its own in the place of the C
 * library's, which GLib asks (tests/world/world-loop.c, tests/support/turned-clock.h).
 */
static inline ColoTime colo_time_now(void)
{
    return (ColoTime){.us = g_get_monotonic_time()};
}

/* The moment `us` microseconds after `t` (before it if negative). */
static inline ColoTime colo_time_add_us(ColoTime t, gint64 us)
{
    return (ColoTime){.us = t.us + us};
}

/* Microseconds from `earlier` to `later`; negative if they are in the other order. */
static inline gint64 colo_time_diff_us(ColoTime later, ColoTime earlier)
{
    return later.us - earlier.us;
}

#endif
