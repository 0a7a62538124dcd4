/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/link/link_internal.h"

/* 0: it makes no sense. */
#define TO(name) (LINK_##name + 1)
#define ORDERS                                                                                     \
    [LINK_EVENT_ACCEPT] = TO(ACCEPTING), [LINK_EVENT_DIAL] = TO(DIALLING),                         \
    [LINK_EVENT_END] = TO(IDLE)

/* clang-format off */
static const guint8 table[LINK_STATES][LINK_EVENTS] = {
    [LINK_IDLE] = {
        ORDERS,
    },
    [LINK_ACCEPTING] = {
        ORDERS,
        [LINK_EVENT_PAIRED] = TO(UP),
    },
    [LINK_DIALLING] = {
        ORDERS,
        [LINK_EVENT_PAIRED] = TO(UP),
    },
    [LINK_UP] = {
        ORDERS,
        [LINK_EVENT_LOST] = TO(IDLE),
    },
};
/* clang-format on */

gboolean link_state_step(LinkState state, LinkEvent event, LinkState *ret_next)
{
    g_assert((guint)state < LINK_STATES && (guint)event < LINK_EVENTS);
    if (!table[state][event])
        return FALSE;
    *ret_next = (LinkState)(table[state][event] - 1);
    return TRUE;
}

const char *link_state_name(LinkState state)
{
    static const char *const names[LINK_STATES] = {
        [LINK_IDLE] = "idle",
        [LINK_ACCEPTING] = "accepting",
        [LINK_DIALLING] = "dialling",
        [LINK_UP] = "up",
    };
    return names[state];
}

const char *link_event_name(LinkEvent event)
{
    static const char *const names[LINK_EVENTS] = {
        [LINK_EVENT_ACCEPT] = "accept", [LINK_EVENT_DIAL] = "dial", [LINK_EVENT_END] = "end",
        [LINK_EVENT_PAIRED] = "paired", [LINK_EVENT_LOST] = "lost",
    };
    return names[event];
}
