/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/uplinks-watch.h"

gboolean uplinks_other_is_better(guint64 cut_here, guint64 cut_there)
{
    return cut_here != cut_there && (cut_there & ~cut_here) == 0;
}

guint uplinks_ask_wait_ms(gboolean is_primary, gboolean timed_out, guint64 cut_here,
                          guint64 cut_there, guint interval_ms)
{
    if (uplinks_other_is_better(cut_here, cut_there))
        return UPLINKS_ASK_WAIT_MS;
    if (is_primary || !timed_out || uplinks_other_is_better(cut_there, cut_here))
        return 0;
    return 2 * interval_ms;
}

UplinksDecision uplinks_decide(UplinksWatch *watch, gboolean may, guint64 cut_here,
                               guint64 cut_there, ColoTime moved, ColoTime now)
{
    UplinksDecision decision = {.look_again = {.us = G_MAXINT64}};
    gboolean worse = may && uplinks_other_is_better(cut_here, cut_there);
    if (worse && !watch->worse)
        watch->since = now;
    watch->worse = worse;
    if (!worse)
        return decision;
    ColoTime due = colo_time_add_us(watch->since, UPLINKS_SETTLE_US);
    if (moved.us)
        due.us = MAX(due.us, colo_time_add_us(moved, UPLINKS_REST_US).us);
    decision.hand_over = now.us >= due.us;
    if (!decision.hand_over)
        decision.look_again = due;
    return decision;
}
