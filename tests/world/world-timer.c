/* SPDX-License-Identifier: GPL-2.0-or-later */
/* common/timer.h on the world's clock: its loop goes by each source's ready time, and asks no source. */
#include "common/timer.h"

static gboolean dispatch(GSource *source, GSourceFunc func, gpointer user_data)
{
    (void)source;
    return func(user_data);
}

GSource *colo_timer_new(GSourceFunc func, gpointer user_data)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    GSource *timer = g_source_new(&funcs, sizeof(GSource));
    g_source_set_callback(timer, func, user_data, NULL);
    g_source_set_priority(timer, G_PRIORITY_HIGH);
    g_source_attach(timer, g_main_context_get_thread_default());
    return timer;
}

void colo_timer_set_us(GSource *timer, gint64 at_us)
{
    g_source_set_ready_time(timer, at_us);
}

gint64 colo_timer_due_us(const GSource *timer)
{
    return g_source_get_ready_time((GSource *)timer);
}
