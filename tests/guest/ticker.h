/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints what time it is for the guest, again and again, so that a reader of its console sees a clock that
 * stands, leaps or goes back: "tick N mono US real US back B". N counts from 0. The two times are those of
 * the monotonic and of the real-time clock, in microseconds. B counts how often either was less than
 * the last time.
 */
#ifndef COLO_TESTS_GUEST_TICKER_H
#define COLO_TESTS_GUEST_TICKER_H

/* The printing thread, on standard output; never returns. `argument`: an unsigned, milliseconds between two lines. */
void *ticker_thread(void *argument);

#endif
