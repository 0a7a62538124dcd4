/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/timer.h"

typedef struct {
    GSource source;
    gint64 due_us; /* -1: never */
} Timer;

/* Asked in each turn, so that a time that was set needs no waking. */
static gboolean prepare(GSource *source, gint *ret_timeout_ms)
{
    gint64 due_us = ((Timer *)source)->due_us;
    *ret_timeout_ms = -1;
    if (due_us < 0)
        return FALSE;
    gint64 left_us = MAX(0, due_us - g_source_get_time(source));
    /* Rounded up: not before the time. */
    *ret_timeout_ms = (gint)MIN((left_us + 999) / 1000, G_MAXINT);
    return left_us == 0;
}

static gboolean check(GSource *source)
{
    gint64 due_us = ((Timer *)source)->due_us;
    return due_us >= 0 && due_us <= g_source_get_time(source);
}

static gboolean dispatch(GSource *source, GSourceFunc func, gpointer user_data)
{
    (void)source;
    return func(user_data);
}

GSource *colo_timer_new(GSourceFunc func, gpointer user_data)
{
    static GSourceFuncs funcs = {.prepare = prepare, .check = check, .dispatch = dispatch};
    GSource *timer = g_source_new(&funcs, sizeof(Timer));
    ((Timer *)timer)->due_us = -1;
    g_source_set_callback(timer, func, user_data, NULL);
    g_source_set_priority(timer, G_PRIORITY_HIGH);
    g_source_attach(timer, g_main_context_get_thread_default());
    return timer;
}

void colo_timer_set_us(GSource *timer, gint64 at_us)
{
    ((Timer *)timer)->due_us = at_us;
}

gint64 colo_timer_due_us(const GSource *timer)
{
    return ((const Timer *)timer)->due_us;
}
