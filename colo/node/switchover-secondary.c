/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A secondary's switchover: what its parts, the node and the primary's messages mean to it. */
#include "colo/node/switchover_internal.h"

#define LASTING_LOOKS 5

/* ---- The parts ---- */

static void tell_parts(Switchover *switchover, guint parts)
{
    g_free(switchover->pending);
    switchover->parts = parts;
    switchover->pending = switchover_parts_text(parts);
    switchover_feed(switchover, parts ? SWITCHOVER_WITHDRAWN : SWITCHOVER_ACKED, NULL);
}

/*
 * With each checkpoint the secondary has something to do for a moment. That counts if it lasts, or
 * was told already.
 */
static guint lasting_parts(Switchover *switchover, const SwitchoverWorld *world)
{
    const guint passing = SWITCHOVER_PART_CHECKPOINT | SWITCHOVER_PART_DISKS;
    gboolean goes_on = world->epoch == switchover->seen_epoch && (world->pending & passing);
    switchover->looks = goes_on ? switchover->looks + 1 : 0;
    switchover->seen_epoch = world->epoch;
    guint counts = switchover->parts | (switchover->looks >= LASTING_LOOKS ? passing : 0);
    return world->pending & (~passing | counts);
}

void switchover_look_at_parts(Switchover *switchover, const SwitchoverWorld *world)
{
    /* It was not asked yet. */
    if (!switchover->pending || world->state != FSM_S_COLO)
        return;
    guint parts = lasting_parts(switchover, world);
    if (parts != switchover->parts)
        tell_parts(switchover, parts);
}

/* ---- The node ---- */

/* Why it leaves the VM to the primary was told before. */
static gboolean is_reasoned(FsmState next)
{
    return next == FSM_S_COLO || next == FSM_S_GIVING || next == FSM_S_LEAVING;
}

void switchover_moved_secondary(Switchover *switchover, FsmState next, FsmEvent event)
{
    SwitchoverEvent follows = switchover_of_secondary(next, event);
    if (follows == SWITCHOVER_EVENTS)
        return;
    if (follows == SWITCHOVER_TAKEN)
        switchover->resumed = colo_time_now();
    switchover_feed(switchover, follows,
                    is_reasoned(next) && switchover->reason ? switchover->reason
                                                            : switchover_why_over(next, event));
}

/* ---- The primary's messages ---- */

void switchover_asked(Switchover *switchover, guint32 id)
{
    SwitchoverWorld world = switchover->handler.look(switchover->user_data);
    if (world.state != FSM_S_COLO)
        return;
    if (switchover->id != id)
        switchover_feed(switchover, SWITCHOVER_OVER,
                        "the primary has begun another switchover at the same time");
    if (!switchover_is_under_way(switchover->phase))
        switchover_reset(switchover, FALSE, id, FALSE);
    switchover->seen_epoch = world.epoch;
    switchover->handler.watch(TRUE, switchover->user_data);
    tell_parts(switchover, switchover->handler.look(switchover->user_data).pending);
}

/* An administrator's if there is no text. */
void switchover_cancelled_there(Switchover *switchover, const char *why)
{
    switchover_feed(switchover, *why ? SWITCHOVER_FAILED_THERE : SWITCHOVER_CANCELLED_THERE, why);
}

void switchover_told(Switchover *switchover, guint32 flags)
{
    if (switchover->is_primary ||
        switchover->handler.look(switchover->user_data).state != FSM_S_COLO)
        return;
    if (flags == SWITCHOVER_TOLD_HELD)
        switchover_feed(switchover, SWITCHOVER_HELD, NULL);
    else if (flags == SWITCHOVER_TOLD_GOES)
        switchover_feed(switchover, SWITCHOVER_GOES, NULL);
}
