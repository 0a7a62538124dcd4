/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/settle.h"

#include "common/clock.h"
#include "common/timer.h"

/* QEMU reads at once if it gets any CPU. */
#define LOOK_AGAIN_US 200
/* What the time between two looks counts at most: QEMU may have had no more of it than we. */
#define COUNTS_US 1000

struct Settle {
    SettleIsReadFunc is_read;
    SettledFunc settled;
    gpointer user_data;
    gboolean waits;
    gint64 left_us;
    ColoTime looked;
    GSource *timer;
};

static gboolean look(gpointer user_data)
{
    Settle *settle = user_data;
    ColoTime now = colo_time_now();
    colo_timer_set_us(settle->timer, -1);
    /* What has ended this in the same turn of the main loop can't take back a timer that is due. */
    if (!settle->waits)
        return G_SOURCE_CONTINUE;
    settle->left_us -= MIN(colo_time_diff_us(now, settle->looked), COUNTS_US);
    settle->looked = now;
    if (settle->is_read(settle->user_data) || settle->left_us <= 0) {
        settle->waits = FALSE;
        settle->settled(settle->user_data);
    } else {
        colo_timer_set_us(settle->timer, colo_time_add_us(now, LOOK_AGAIN_US).us);
    }
    return G_SOURCE_CONTINUE;
}

void settle_begin(Settle *settle, gint64 limit_us)
{
    g_assert(!settle->waits);
    settle->waits = TRUE;
    settle->left_us = limit_us;
    settle->looked = colo_time_now();
    look(settle);
}

void settle_end(Settle *settle)
{
    settle->waits = FALSE;
    colo_timer_set_us(settle->timer, -1);
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
