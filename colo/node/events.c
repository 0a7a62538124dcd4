/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/events.h"

CopyDuty events_copy_duty(FsmState state, gboolean is_undecided)
{
    switch (state) {
    case FSM_S_NONE:
    case FSM_S_SETUP:
    case FSM_S_ACTIVE:
        return COPY_JOIN;
    case FSM_S_COLO:
        return COPY_PROTECT;
    case FSM_S_HANDED:
        return COPY_HAND_OVER;
    case FSM_S_PAUSED:
        return is_undecided ? COPY_FREEZE : COPY_HOLD;
    case FSM_S_RECOVER:
        return COPY_FREEZE;
    case FSM_S_DEVICE:
    case FSM_S_TAKING:
        return COPY_TAKE_OVER;
    default:
        return COPY_UNUSED;
    }
}

FsmEvent events_link_lost(FsmState state, gboolean copy_is_valid)
{
    gboolean could_ask = state == FSM_S_COLO || state == FSM_S_HANDED;
    return could_ask && !copy_is_valid ? FSM_INVALID : FSM_LINK_DOWN;
}

EventsAsk events_ask(FsmState state, CopyCondition condition, gboolean peer_has_yielded)
{
    if (state != FSM_S_PAUSED)
        return EVENTS_ASK_NOW;
    if (condition == COPY_LOADING)
        return EVENTS_ASK_WAITS;
    return condition == COPY_INVALID && !peer_has_yielded ? EVENTS_ASK_LEAVES : EVENTS_ASK_NOW;
}

FsmEvent events_unfit(gboolean copy_is_valid)
{
    return copy_is_valid ? FSM_UNFIT : FSM_INVALID;
}

FsmEvent events_peer_ends(FsmEvent event, gboolean doubted)
{
    return doubted ? FSM_LINK_DOWN : event;
}

gboolean events_takes_yield(FsmState state, gboolean copy_is_fit)
{
    return (state == FSM_P_COLO || state == FSM_P_PRE_SWITCHOVER) && copy_is_fit;
}

EventsLeave events_leave(FsmState state, gboolean leaving, gboolean may_do_without)
{
    if (state == FSM_S_COLO && leaving)
        return EVENTS_LEAVE_GOES;
    return state == FSM_P_COLO && may_do_without ? EVENTS_LEAVE_MAY : EVENTS_LEAVE_NOTHING;
}

FsmEvent events_final(FsmState state, gboolean final, FsmEvent event)
{
    gboolean lost = event == FSM_LINK_DOWN || event == FSM_YIELDED || event == FSM_INVALID;
    gboolean over = event == FSM_LINK_DOWN || event == FSM_PEER_FAILED ||
                    event == FSM_PEER_GOODBYE || event == FSM_YIELD || event == FSM_VM_LOST;
    if (state == FSM_P_COLO && final && over)
        return FSM_SHUTDOWN;
    if (state == FSM_S_COLO && final && lost)
        return FSM_PEER_GOODBYE;
    return event;
}
