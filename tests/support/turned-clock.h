/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clock that only a test turns, monotonic and of the wall: GLib and the code under test ask it
 * instead of the kernel.
 * For unit tests without threads and sockets; include it in the one source file of a test program.
 */
#ifndef COLO_TESTS_SUPPORT_TURNED_CLOCK_H
#define COLO_TESTS_SUPPORT_TURNED_CLOCK_H

#include <glib.h>
#include <sys/time.h>
#include <time.h>

static gint64 turned_clock_us = G_USEC_PER_SEC;

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    (void)clock;
    ret->tv_sec = turned_clock_us / G_USEC_PER_SEC;
    ret->tv_nsec = turned_clock_us % G_USEC_PER_SEC * 1000;
    return 0;
}

int gettimeofday(struct timeval *ret, void *zone)
{
    (void)zone;
    ret->tv_sec = turned_clock_us / G_USEC_PER_SEC;
    ret->tv_usec = turned_clock_us % G_USEC_PER_SEC;
    return 0;
}

/* Runs what is due now. */
static inline void turned_clock_settle(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

/* So much time passes; each timer is run when it is due, to the millisecond. */
static inline void turned_clock_pass_ms(gint64 ms)
{
    turned_clock_settle();
    for (gint64 i = 0; i < ms; i++) {
        turned_clock_us += 1000;
        turned_clock_settle();
    }
}

#endif
