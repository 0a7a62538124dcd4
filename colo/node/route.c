/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/route.h"

/* ---- Output ---- */

/* 0: it can't happen. */
#define TO(name) (ROUTE_##name + 1)

/* clang-format off */
static const guint8 table[ROUTES][ROUTE_EVENTS] = {
    [ROUTE_DROP] = {
        [ROUTE_VM_GONE]        = TO(DROP),
        [ROUTE_ALONE]          = TO(OPEN),
        [ROUTE_SESSION_ENDS]   = TO(DROP),
        [ROUTE_COPY_BEGINS]    = TO(TO_PEER),
        [ROUTE_COPY_ENDS]      = TO(DROP),
    },
    [ROUTE_TO_PEER] = {
        [ROUTE_VM_GONE]        = TO(DROP),
        [ROUTE_COPY_ENDS]      = TO(DROP),
        [ROUTE_TAKES_OVER]     = TO(OPEN),
    },
    [ROUTE_HOLD] = {
        [ROUTE_VM_GONE]        = TO(DROP),
        [ROUTE_ALONE]          = TO(OPEN),
        [ROUTE_PAUSED]         = TO(HOLD),
        [ROUTE_EPOCH_HOLDS]    = TO(HOLD),
        [ROUTE_EPOCH_COMPARES] = TO(COMPARE),
        [ROUTE_SESSION_ENDS]   = TO(HOLD),
    },
    [ROUTE_COMPARE] = {
        [ROUTE_VM_GONE]        = TO(DROP),
        /* What the guest still sends belongs to the epoch that ends. */
        [ROUTE_PAUSED]         = TO(COMPARE),
        [ROUTE_EPOCH_HOLDS]    = TO(HOLD),
        [ROUTE_EPOCH_COMPARES] = TO(COMPARE),
        /* The copy proves nothing any more, and may have taken over. */
        [ROUTE_SESSION_ENDS]   = TO(HOLD),
    },
    [ROUTE_OPEN] = {
        [ROUTE_VM_GONE]        = TO(DROP),
        [ROUTE_ALONE]          = TO(OPEN),
        /* The first of a session: what left before it is part of this checkpoint. */
        [ROUTE_PAUSED]         = TO(HOLD),
        [ROUTE_SESSION_ENDS]   = TO(OPEN),
        /* It has taken over. */
        [ROUTE_COPY_ENDS]      = TO(OPEN),
    },
};
/* clang-format on */

#undef TO

gboolean route_step(Route route, RouteEvent event, Route *ret_next)
{
    g_assert((guint)route < ROUTES && (guint)event < ROUTE_EVENTS);
    if (!table[route][event])
        return FALSE;
    *ret_next = (Route)(table[route][event] - 1);
    return TRUE;
}

gboolean route_fits(Route route, FsmState state)
{
    switch (state) {
    case FSM_P_NONE:
    case FSM_P_SETUP:
        return route == ROUTE_OPEN;
    case FSM_P_ACTIVE:
        return route == ROUTE_OPEN || route == ROUTE_HOLD;
    case FSM_P_COLO:
    case FSM_P_PRE_SWITCHOVER:
    case FSM_P_DEVICE:
    case FSM_P_HANDED:
        return route_is_guarded(route);
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
    case FSM_P_FROZEN:
        return route == ROUTE_HOLD;
    case FSM_S_ACTIVE:
        return route == ROUTE_DROP || route == ROUTE_TO_PEER;
    case FSM_S_COLO:
    case FSM_S_HANDED:
    case FSM_S_PAUSED:
    case FSM_S_RECOVER:
        return route == ROUTE_TO_PEER;
    case FSM_S_DEVICE:
    case FSM_S_TAKING:
        return route == ROUTE_TO_PEER || route == ROUTE_OPEN;
    case FSM_P_ASKING:
    case FSM_P_STARTING:
    case FSM_S_STARTING:
    case FSM_S_NONE:
    case FSM_S_SETUP:
    case FSM_S_GIVING:
    case FSM_S_LEAVING:
    case FSM_FAILED:
    case FSM_COMPLETED:
    case FSM_STATES:
        break;
    }
    return route == ROUTE_DROP;
}

gboolean route_is_to_clients(Route route)
{
    return route == ROUTE_OPEN || route_is_guarded(route);
}

gboolean route_is_guarded(Route route)
{
    return route == ROUTE_HOLD || route == ROUTE_COMPARE;
}

const char *route_name(Route route)
{
    static const char *const names[ROUTES] = {
        [ROUTE_DROP] = "drop",       [ROUTE_TO_PEER] = "to-peer", [ROUTE_HOLD] = "hold",
        [ROUTE_COMPARE] = "compare", [ROUTE_OPEN] = "open",
    };
    return names[route];
}

const char *route_event_name(RouteEvent event)
{
    static const char *const names[ROUTE_EVENTS] = {
        [ROUTE_VM_GONE] = "vm-gone",
        [ROUTE_ALONE] = "alone",
        [ROUTE_PAUSED] = "paused",
        [ROUTE_EPOCH_HOLDS] = "epoch-holds",
        [ROUTE_EPOCH_COMPARES] = "epoch-compares",
        [ROUTE_SESSION_ENDS] = "session-ends",
        [ROUTE_COPY_BEGINS] = "copy-begins",
        [ROUTE_COPY_ENDS] = "copy-ends",
        [ROUTE_TAKES_OVER] = "takes-over",
    };
    return names[event];
}

/* ---- The last look ---- */

RouteExit route_exit(FsmState state, gboolean is_held)
{
    switch (state) {
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        return ROUTE_EXIT_OPEN;
    case FSM_S_DEVICE:
        return is_held ? ROUTE_EXIT_CLOSED : ROUTE_EXIT_OPEN;
    case FSM_P_COLO:
    case FSM_P_PRE_SWITCHOVER:
    case FSM_P_DEVICE:
        return ROUTE_EXIT_FRESH;
    default:
        return ROUTE_EXIT_CLOSED;
    }
}

/* ---- Input ---- */

gboolean route_mirrors(Route output, gboolean has_session)
{
    return has_session && route_is_guarded(output);
}

InputRoute route_input(FsmState state, Route output, gboolean pausing, gboolean has_session)
{
    if (fsm_is_taking_over(state))
        return INPUT_QUEUE;
    if (!fsm_is_primary(state))
        return INPUT_DROP;
    if (pausing)
        return state == FSM_P_HANDED ? INPUT_DEFER_MIRRORED : INPUT_DEFER;
    return route_mirrors(output, has_session) ? INPUT_MIRROR : INPUT_GIVE;
}
