/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When to send a heartbeat, and when the peer counts as lost. Pure: times in, decisions out.
 *
 * Time without a message counts only while this process was running and looking, by the rule of
 * common/patience.h. A step that comes more than one interval late shows that it was not. So after
 * such a pause the peer has what was left of its timeout, and no clock reading from before the
 * pause decides anything. The price: a peer that died while we were stopped is noticed that much
 * later. docs/PROTOCOL.md, Life and death.
 */
#include "colo/link/link_internal.h"
#include "common/patience.h"

static void plan(Heartbeat *heartbeat, ColoTime now)
{
    ColoTime lost = colo_time_add_us(now, MAX(0, heartbeat->timeout_us - heartbeat->idle_us));
    heartbeat->planned = heartbeat->beat.us < lost.us ? heartbeat->beat : lost;
}

void heartbeat_start(Heartbeat *heartbeat, guint interval_ms, guint timeout_ms, ColoTime now)
{
    *heartbeat = (Heartbeat){.interval_us = MAX(1, (gint64)interval_ms) * COLO_US_PER_MS,
                             .timeout_us = MAX(1, (gint64)timeout_ms) * COLO_US_PER_MS,
                             .looked = now,
                             .beat = now};
    plan(heartbeat, now);
}

void heartbeat_received(Heartbeat *heartbeat, ColoTime now)
{
    heartbeat->idle_us = 0;
    heartbeat->looked = now;
}

guint heartbeat_step(Heartbeat *heartbeat, ColoTime now)
{
    guint todo = 0;
    /* A sign of life may have come after the moment that counts: then nothing does. */
    heartbeat->idle_us +=
        patience_counted_us(heartbeat->looked, heartbeat->planned, heartbeat->interval_us, now);
    heartbeat->looked = now;
    if (heartbeat->idle_us >= heartbeat->timeout_us)
        todo |= HEARTBEAT_LOST;
    if (now.us >= heartbeat->beat.us) {
        todo |= HEARTBEAT_SEND;
        heartbeat->beat = colo_time_add_us(now, heartbeat->interval_us);
    }
    plan(heartbeat, now);
    return todo;
}
