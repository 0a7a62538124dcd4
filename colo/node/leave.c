/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a node whose VM is to continue: SIGTERM, which the shutdown of a host sends. The
 * primary of a protected VM hands it over as `failover` does, and ends when the other's is seen to
 * run. So does one that hands it over already: the secondary may yet give it back, and then this is
 * the only VM. A hand-over that leaves the VM here is tried once more. If there is none, this is an end like
 * any other. The reasons are that it was refused, that there is no secondary any more, that it is too
 * late, or a second signal.
 */
#include "colo/node/leave.h"

#include "common/log.h"
#include "common/patience.h"

/* A hand-over takes some hundred milliseconds; a service manager kills after a minute or more. */
#define LEAVE_MS 30000

/*
 * How much longer at a time, as long as the secondary has neither taken the VM nor given it back. If the
 * link is lost then, the arbiter is asked: once more so long.
 */
#define HANDED_MS 5000

struct Leave {
    LeaveHandler handler;
    gpointer user_data;
    guint timer; /* runs while the VM is handed over */
    guint look_source;
    gboolean tried_again;
    gboolean asks; /* the link is lost, and there was more time for the arbiter's answer */
};

static void forget(Leave *leave)
{
    g_clear_handle_id(&leave->timer, g_source_remove);
    g_clear_handle_id(&leave->look_source, g_source_remove);
}

static void end(Leave *leave)
{
    forget(leave);
    leave->handler.end(leave->user_data);
}

static void end_after_all(Leave *leave, const char *why)
{
    log_warning("%s: this node ends", why);
    end(leave);
}

static gboolean on_too_late(gpointer user_data)
{
    Leave *leave = user_data;
    FsmState state = leave->handler.state(leave->user_data);
    gboolean is_open = state == FSM_P_PAUSED || state == FSM_P_RECOVER;
    gboolean asks = is_open && leave->handler.is_handed(leave->user_data);
    leave->timer = 0;
    if (state == FSM_P_HANDED || (asks && !leave->asks))
        leave->timer = patience_add(HANDED_MS, on_too_late, leave);
    else
        end_after_all(leave, "the VM does not run on the other host in time");
    leave->asks = asks;
    return G_SOURCE_REMOVE;
}

/* From the main loop: the state is still being changed when leave_look() is called. */
static gboolean on_look(gpointer user_data)
{
    Leave *leave = user_data;
    leave->look_source = 0;
    switch (leave->handler.state(leave->user_data)) {
    case FSM_P_DEVICE:
    case FSM_P_HANDED:
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
    case FSM_P_FROZEN:
        break;
    case FSM_P_COLO:
        /* Somebody has cancelled it, or a disk could not be given up for a planned one. */
        if (!leave->tried_again) {
            leave->tried_again = TRUE;
            leave->handler.hand_over(leave->user_data);
            break;
        }
        end_after_all(leave, "the VM can't be handed over");
        break;
    case FSM_S_STARTING:
        log_info("the other node runs the VM: this one ends");
        end(leave);
        break;
    default:
        end_after_all(leave, "the VM can't be handed over");
    }
    return G_SOURCE_REMOVE;
}

void leave_look(Leave *leave)
{
    if (leave->timer && !leave->look_source)
        leave->look_source = g_idle_add_full(G_PRIORITY_HIGH, on_look, leave, NULL);
}

gboolean leave_is_under_way(const Leave *leave)
{
    return leave->timer != 0;
}

void leave_begin(Leave *leave, gboolean hands_over)
{
    FsmState state = leave->handler.state(leave->user_data);
    gboolean is_handed = leave->handler.is_handed(leave->user_data);
    gboolean may_hand_over = fsm_is_primary(state) && fsm_is_protected(state);
    if (leave->timer || !hands_over || (!is_handed && !may_hand_over)) {
        end(leave);
        return;
    }
    log_info("%s before this node ends; a second signal ends it at once",
             is_handed ? "the other node is to take the VM, or to give it back,"
                       : "handing the VM over");
    leave->tried_again = leave->asks = FALSE;
    leave->timer = patience_add(LEAVE_MS, on_too_late, leave);
    if (!is_handed)
        leave->handler.hand_over(leave->user_data);
}

Leave *leave_new(const LeaveHandler *handler, gpointer user_data)
{
    Leave *leave = g_new0(Leave, 1);
    leave->handler = *handler;
    leave->user_data = user_data;
    return leave;
}

void leave_free(Leave *leave)
{
    if (!leave)
        return;
    forget(leave);
    g_free(leave);
}
