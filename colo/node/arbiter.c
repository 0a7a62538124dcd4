/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the arbiter there? A node that starts looks first, and starts nothing before it has seen the
 * folder that is the pair's: at boot its storage may come later than colod, and what is at its
 * place until then is another folder.
 *
 * A node that was never half of a pair can't know which folder is right: there it is an error that
 * ends it. One that knows waits, for as long as it takes, and says what for.
 *
 * Later it looks from time to time, for administrators only: a pair whose arbiter can't be asked
 * would have to wait for them if a host were lost now, so it doesn't count as protected. Nothing is
 * done because of it: a healthy pair needs no arbiter.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

/* How long to wait before an arbiter that wasn't there is looked for again. */
#define AGAIN_MS 1000

/* ---- From time to time ---- */

static gboolean on_look_due(gpointer user_data);

/* NULL: it is there. */
static void note(Node *node, const GError *why)
{
    gboolean was_there = !node->arbiter_trouble;
    g_free(node->arbiter_trouble);
    node->arbiter_trouble = why ? g_strdup(why->message) : NULL;
    if (was_there == !why)
        return;
    if (why)
        log_warning("the arbiter can't be asked: a lost host would need an administrator now: %s",
                    why->message);
    else
        log_info("the arbiter can be asked again");
    json_object *data = json_object_new_object();
    json_object_object_add(data, "there", json_object_new_boolean(!why));
    if (why)
        json_object_object_add(data, "why", json_object_new_string(why->message));
    node_emit(node, "ARBITER_CHANGED", data);
}

static void on_looked(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /* One that was late has been told of, and others have been made. */
    if (g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_GONE))
        return;
    note(node, answer == ARBITER_UNKNOWN ? error : NULL);
    if (!node->watch_timer)
        node->watch_timer = g_timeout_add((guint)node->config->arbiter_check_ms, on_look_due, node);
}

static gboolean on_look_due(gpointer user_data)
{
    Node *node = user_data;
    node->watch_timer = 0;
    arbiter_look(node->arbiter, FALSE, on_looked, node);
    return G_SOURCE_REMOVE;
}

gboolean watch_is_protected(const Node *node)
{
    return fsm_is_protected(node->state) && !node->arbiter_trouble;
}

/* ---- The start ---- */

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
    if (strcmp(node->config->arbiter, "none") != 0)
        arbiter_look(node->arbiter, FALSE, on_looked, node);
    if (node->state == FSM_P_ASKING)
        owner_claim(node);
    else
        node_vm_start(node);
}

static void on_first_look(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if ((node->state != FSM_P_ASKING && node->state != FSM_S_STARTING) || node->arbiter_seen)
        return;
    gboolean knows = arbiter_is_pinned(node->arbiter);
    if (answer != ARBITER_UNKNOWN) {
        note(node, NULL);
        start(node);
    } else if (knows && node->config->overrule) {
        /* Whoever the arbiter would name is off, the administrator says. */
        node_report(node, "the arbiter isn't there", error);
        start(node);
    } else if (knows && !g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_GONE)) {
        wait_for_it(node, error);
    } else if (knows) {
        return; /* it waits since that one was late */
    } else {
        node_vm_lost(node, "this node can't start", error);
    }
}

static gboolean on_look_again(gpointer user_data)
{
    Node *node = user_data;
    node->watch_timer = 0;
    if ((node->state == FSM_P_ASKING || node->state == FSM_S_STARTING) && !node->arbiter_seen)
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
