/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/settle.h"

#include "common/clock.h"
#include "common/timer.h"

/* QEMU reads at once if it gets any CPU. */
#define LOOK_AGAIN_US 200

struct Settle {
    SettleIsReadFunc is_read;
    SettledFunc settled;
    gpointer user_data;
    gboolean waits;
    ColoTime until;
    GSource *timer;
};

static gboolean look(gpointer user_data)
{
    Settle *settle = user_data;
    ColoTime now = colo_time_now();
    g_source_set_ready_time(settle->timer, -1);
    /* What has ended this in the same turn of the main loop can't take back a timer that is due. */
    if (!settle->waits)
        return G_SOURCE_CONTINUE;
    if (settle->is_read(settle->user_data) || colo_time_diff_us(settle->until, now) <= 0) {
        settle->waits = FALSE;
        settle->settled(settle->user_data);
    } else {
        g_source_set_ready_time(settle->timer, colo_time_add_us(now, LOOK_AGAIN_US).us);
    }
    return G_SOURCE_CONTINUE;
}

void settle_begin(Settle *settle, gint64 limit_us)
{
    g_assert(!settle->waits);
    settle->waits = TRUE;
    settle->until = colo_time_add_us(colo_time_now(), limit_us);
    look(settle);
}

void settle_end(Settle *settle)
{
    settle->waits = FALSE;
    g_source_set_ready_time(settle->timer, -1);
}

Settle *settle_new(SettleIsReadFunc is_read, SettledFunc settled, gpointer user_data)
{
    Settle *settle = g_new0(Settle, 1);
    settle->is_read = is_read;
    settle->settled = settled;
    settle->user_data = user_data;
    settle->timer = colo_timer_new(look, settle);
    return settle;
}

void settle_free(Settle *settle)
{
    if (!settle)
        return;
    g_source_destroy(settle->timer);
    g_source_unref(settle->timer);
    g_free(settle);
}
