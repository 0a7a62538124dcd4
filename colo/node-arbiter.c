/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the arbiter there? A node that starts looks first, and starts nothing before it has seen the
 * folder that is the pair's: at boot its storage may come later than colod, and what is at its
 * place until then is another folder.
 *
 * A node that was never half of a pair can't know which folder is right: there it is an error that
 * ends it. One that knows waits, for as long as it takes, and says what for.
 */
#include "colo/log.h"
#include "colo/node_internal.h"

#include <string.h>

/* How long to wait before an arbiter that wasn't there is looked for again. */
#define AGAIN_MS 1000

static gboolean on_look_again(gpointer user_data);

/* Waits, and says why; but once. */
static void wait_for_it(Node *node, const GError *why)
{
    if (g_strcmp0(node->arbiter_trouble, why->message) != 0)
        node_report(node, "waiting for the arbiter, nothing is started", why);
    g_free(node->arbiter_trouble);
    node->arbiter_trouble = g_strdup(why->message);
    node->watch_timer = g_timeout_add(AGAIN_MS, on_look_again, node);
}

static void start(Node *node)
{
    node->arbiter_seen = TRUE;
    if (node->state == FSM_P_ASKING)
        owner_claim(node);
    else
        node_vm_start(node);
}

static void on_first_look(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (node->state != FSM_P_ASKING && node->state != FSM_S_STARTING)
        return;
    if (answer != ARBITER_UNKNOWN) {
        if (node->arbiter_trouble)
            log_info("the arbiter is there");
        g_clear_pointer(&node->arbiter_trouble, g_free);
        start(node);
    } else if (arbiter_is_pinned(node->arbiter)) {
        wait_for_it(node, error);
    } else {
        node_vm_lost(node, "this node can't start", error);
    }
}

static gboolean on_look_again(gpointer user_data)
{
    Node *node = user_data;
    node->watch_timer = 0;
    if (node->state == FSM_P_ASKING || node->state == FSM_S_STARTING)
        arbiter_look(node->arbiter, TRUE, on_first_look, node);
    return G_SOURCE_REMOVE;
}

void watch_begin(Node *node)
{
    if (!strcmp(node->config->arbiter, "none"))
        start(node);
    else
        arbiter_look(node->arbiter, TRUE, on_first_look, node);
}

void watch_finalise(Node *node)
{
    if (node->watch_timer)
        g_source_remove(node->watch_timer);
    node->watch_timer = 0;
    g_clear_pointer(&node->arbiter_trouble, g_free);
}
