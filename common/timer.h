/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A timer whose user sets each next time, which a timeout source can't do. */
#ifndef COLO_COMMON_TIMER_H
#define COLO_COMMON_TIMER_H

#include <glib.h>

/*
 * A source of high priority on the calling thread's default main context. Once its time has come, `func` is
 * called in each turn until it sets another time or returns G_SOURCE_REMOVE. Not set at first. The caller
 * owns the reference.
 */
GSource *colo_timer_new(GSourceFunc func, gpointer user_data);

/*
 * Sets the time, in microseconds of the monotonic clock; 0: at once, -1: never. Only in the thread whose
 * main loop runs the timer. g_source_set_ready_time() would do, but it wakes that loop each time, which is
 * awake: two system calls and a turn for each frame.
 */
void colo_timer_set_us(GSource *timer, gint64 at_us);

/* The time that was set. */
gint64 colo_timer_due_us(const GSource *timer);

#endif
