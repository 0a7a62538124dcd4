/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a node whose VM is to go on: SIGTERM, which the shutdown of a host sends. The primary
 * of a protected VM hands it over as `failover` does, and ends when the other's is seen to run. If
 * it is not to be (refused, no secondary any more, too late, a second signal) this is an end like
 * any other.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* A hand-over takes some hundred milliseconds; a service manager kills after a minute or more. */
#define LEAVE_MS 30000

static void end_now(Node *node, const char *why)
{
    log_warning("%s: this node ends", why);
    leave_forget(node);
    node_shut_down(node);
}

static gboolean on_too_late(gpointer user_data)
{
    Node *node = user_data;
    node->leave_timer = 0;
    end_now(node, "the VM does not run on the other host in time");
    return G_SOURCE_REMOVE;
}

/* From the main loop: the state is still being changed when it is looked at. */
static gboolean on_look(gpointer user_data)
{
    Node *node = user_data;
    node->leave_source = 0;
    switch (node->state) {
    case FSM_P_DEVICE:
    case FSM_P_HANDED:
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
    case FSM_P_FROZEN:
        break;
    case FSM_S_STARTING:
        log_info("the other node runs the VM: this one ends");
        leave_forget(node);
        node_shut_down(node);
        break;
    default:
        end_now(node, "the VM can't be handed over");
    }
    return G_SOURCE_REMOVE;
}

void leave_look(Node *node)
{
    if (node->leave_timer && !node->leave_source)
        node->leave_source = g_idle_add_full(G_PRIORITY_HIGH, on_look, node, NULL);
}

void leave_forget(Node *node)
{
    if (node->leave_timer)
        g_source_remove(node->leave_timer);
    if (node->leave_source)
        g_source_remove(node->leave_source);
    node->leave_timer = node->leave_source = 0;
}

void node_leave(Node *node)
{
    gboolean hands_over = fsm_is_primary(node->state) && fsm_is_protected(node->state) &&
                          node->config->on_sigterm == CONFIG_SIGTERM_HAND_OVER;
    if (node->leave_timer || !hands_over) {
        leave_forget(node);
        node_shut_down(node);
        return;
    }
    log_info("handing the VM over before this node ends; a second signal ends it at once");
    node->leave_timer = patience_add(LEAVE_MS, on_too_late, node);
    node_event(node, FSM_YIELD);
}
