/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/patience.h"

gint64 patience_counted_us(ColoTime looked, ColoTime planned, gint64 slack_us, ColoTime now)
{
    gboolean late = colo_time_diff_us(now, planned) > slack_us;
    return MAX(0, colo_time_diff_us(late ? planned : now, looked));
}

static void plan(Patience *patience, ColoTime now)
{
    patience->looked = now;
    patience->planned = colo_time_add_us(now, CLAMP(patience->left_us, 0, PATIENCE_STEP_US));
}

void patience_start(Patience *patience, gint64 limit_us, ColoTime now)
{
    patience->left_us = limit_us;
    plan(patience, now);
}

gboolean patience_step(Patience *patience, ColoTime now)
{
    gboolean late = colo_time_diff_us(now, patience->planned) > PATIENCE_STEP_US;
    patience->left_us -=
        patience_counted_us(patience->looked, patience->planned, PATIENCE_STEP_US, now);
    if (late)
        patience->left_us = MAX(patience->left_us, PATIENCE_STEP_US);
    plan(patience, now);
    return patience->left_us <= 0;
}

/* ---- The source ---- */

typedef struct {
    GSource source;
    gint64 limit_us;
    Patience patience;
} PatienceSource;

static gboolean dispatch(GSource *source, GSourceFunc func, gpointer user_data)
{
    PatienceSource *self = (PatienceSource *)source;
    /* Not the main loop's time, which is that of the turn's beginning. */
    if (patience_step(&self->patience, colo_time_now())) {
        if (!func || !func(user_data))
            return G_SOURCE_REMOVE;
        patience_start(&self->patience, self->limit_us, colo_time_now());
    }
    g_source_set_ready_time(source, self->patience.planned.us);
    return G_SOURCE_CONTINUE;
}

GSource *patience_source_new(guint limit_ms)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    GSource *source = g_source_new(&funcs, sizeof(PatienceSource));
    PatienceSource *self = (PatienceSource *)source;
    self->limit_us = limit_ms * COLO_US_PER_MS;
    patience_start(&self->patience, self->limit_us, colo_time_now());
    g_source_set_ready_time(source, self->patience.planned.us);
    return source;
}

guint patience_add(guint limit_ms, GSourceFunc func, gpointer user_data)
{
    GSource *source = patience_source_new(limit_ms);
    g_source_set_callback(source, func, user_data, NULL);
    guint id = g_source_attach(source, NULL);
    g_source_unref(source);
    return id;
}
