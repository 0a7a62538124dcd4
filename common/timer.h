/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A timer whose user sets each next time, which a timeout source can't do. */
#ifndef COLO_COMMON_TIMER_H
#define COLO_COMMON_TIMER_H

#include <glib.h>

/*
 * A source of high priority on the calling thread's default main context, for
 * g_source_set_ready_time(): `func` is called at that time, and again until it sets another or returns
 * G_SOURCE_REMOVE. Not set at first. The caller owns the reference.
 */
GSource *colo_timer_new(GSourceFunc func, gpointer user_data);

#endif
