/* SPDX-License-Identifier: GPL-2.0-or-later */
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
