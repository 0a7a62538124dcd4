/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the network where the guest is, after a takeover and when somebody asks for it: in rounds,
 * for a volley may be lost (a switch port that isn't forwarding yet, a full queue), and a host that
 * was overtaken may still have sent frames (docs/ARCHITECTURE.md, "A host that stood still").
 *
 * A frame with the card's own address that comes from the network was sent by somebody else: every
 * switch on its way has learnt the wrong port by it, so the rounds begin again; but not more often
 * than every AGAIN_MS, for a network that throws our own frames back does it each time.
 *
 * Invariant: only a node whose output may leave announces. A protected primary may have been
 * overtaken while its process was stopped, so it needs fresh proof of the secondary, as for every
 * frame (net.c).
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#define AGAIN_MS 2000

gint64 announce_wait_us(const Config *config, guint64 volley)
{
    guint64 wait_ms = config->announce_initial_ms + (volley - 1) * config->announce_step_ms;
    return (gint64)MIN(wait_ms, config->announce_max_ms) * COLO_US_PER_MS;
}

gboolean announce_is_possible(const Node *node)
{
    switch (node->state) {
    case FSM_S_DEVICE:
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        return TRUE;
    case FSM_P_COLO:
        return link_is_fresh(node->link);
    default:
        return FALSE;
    }
}

static void plan(Node *node, ColoTime now)
{
    if (node->announced < node->config->announce_rounds)
        g_source_set_ready_time(
            node->announce_timer,
            colo_time_add_us(now, announce_wait_us(node->config, node->announced)).us);
    else
        g_source_set_ready_time(
            node->announce_timer,
            node->announce_again
                ? colo_time_add_us(node->announce_began, AGAIN_MS * COLO_US_PER_MS).us
                : -1);
}

static void volley(Node *node)
{
    if (announce_is_possible(node))
        net_announce(node);
    node->announced++;
    plan(node, colo_time_now());
}

void announce_start(Node *node)
{
    node->announced = 0;
    node->announce_again = node->announce_owed = FALSE;
    node->announce_began = colo_time_now();
    volley(node);
}

void announce_when_possible(Node *node)
{
    /* A protected primary that needs a sign of the secondary first has it before the rounds end. */
    node->announce_owed = !announce_is_possible(node) && node->state != FSM_P_COLO;
    if (!node->announce_owed)
        announce_start(node);
}

void announce_if_owed(Node *node)
{
    if (node->announce_owed)
        announce_when_possible(node);
}

void announce_elsewhere(Node *node, unsigned nic)
{
    if (node->announce_again)
        return;
    const ConfigNic *card = g_ptr_array_index(node->config->nics, nic);
    log_warning("nic %s: a frame with the guest's address came from the network: another host has "
                "sent as the guest, or uses its address; announcing the guest again",
                card->name);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(card->name));
    node_emit(node, "ADDRESS_ELSEWHERE", data);
    node->announce_again = TRUE;
    if (node->announced >= node->config->announce_rounds)
        plan(node, colo_time_now());
}

static gboolean on_announce_timer(gpointer user_data)
{
    Node *node = user_data;
    if (node->announced < node->config->announce_rounds)
        volley(node);
    else
        announce_start(node);
    return G_SOURCE_CONTINUE;
}

void announce_end(Node *node)
{
    node->announced = node->config->announce_rounds;
    node->announce_again = FALSE;
    g_source_set_ready_time(node->announce_timer, -1);
}

void announce_init(Node *node)
{
    node->announce_timer = node_timer_new(on_announce_timer, node);
    announce_end(node);
}

void announce_finalise(Node *node)
{
    g_source_destroy(node->announce_timer);
    g_clear_pointer(&node->announce_timer, g_source_unref);
}
