/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of its cards (cards.h) and its traffic (traffic.h). Frames go from one to the
 * other here, and to the peer, the judge and the copy. A node without output (secondary, or a
 * primary that has lost its VM) has closed uplinks.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* ---- What its cards report ---- */

static void on_output(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    Node *node = user_data;
    if (route_is_to_clients(traffic_route(node->traffic)))
        cards_learn(node->cards, nic, data, len);
    traffic_output(node->traffic, nic, data, len);
}

static gboolean on_takes(unsigned nic, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    (void)nic;
    return traffic_takes_output(node->traffic, len);
}

static void on_input(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    traffic_input(node->traffic, nic, data, len);
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    const Node *node = user_data;
    /* Of a VM that is handed over it is the secondary, which has just taken it. */
    if (node->state != FSM_P_HANDED)
        announce_elsewhere(node->announce, nic);
}

static void on_room(unsigned nic, gpointer user_data)
{
    const Node *node = user_data;
    traffic_room(node->traffic, nic);
}

static void on_broken(unsigned nic, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    const ConfigNic *config = g_ptr_array_index(node->config->nics, nic);
    log_warning("network card %s: %s", config->name, error->message);
}

static void on_port_failed(const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    machine_expect_end(node->machine, "the guest's network card can't be reached", error);
}

static void on_uplink_failed(const GError *error, gpointer user_data)
{
    node_report(user_data, "the uplink has failed", error);
}

gboolean net_make_cards(Node *node, GError **error)
{
    static const CardsHandler handler = {.output = on_output,
                                         .takes = on_takes,
                                         .input = on_input,
                                         .elsewhere = on_elsewhere,
                                         .room = on_room,
                                         .broken = on_broken,
                                         .port_failed = on_port_failed,
                                         .uplink_failed = on_uplink_failed};
    node->cards = cards_new(node->config, &handler, node, error);
    return node->cards != NULL;
}

/* ---- What its traffic asks for and reports ---- */

static TrafficWorld on_look(gpointer user_data)
{
    const Node *node = user_data;
    return (TrafficWorld){.state = node->state,
                          .is_held = claim_holds_output(node->claim),
                          .epoch = node->epoch,
                          .defers_input = cycle_defers_input(primary_phase(node->primary)),
                          .has_session = primary_has_session(node->primary),
                          .limit_wanted = primary_wants(node->primary, REASON_OUTPUT_LIMIT)};
}

static gboolean on_is_fresh(gpointer user_data)
{
    const Node *node = user_data;
    return link_is_fresh(node->link);
}

static void on_send(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    cards_send(node->cards, nic, data, len);
}

static void on_give(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    cards_give(node->cards, nic, data, len);
}

static gboolean on_has_room(unsigned nic, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    return cards_have_room(node->cards, nic, len);
}

static gboolean on_mirror(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                          gpointer user_data)
{
    const Node *node = user_data;
    return link_send_packet(node->link, nic, epoch, data, len);
}

static void on_to_peer(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    replay_output(node->replay, nic, data, len);
}

static void on_queue(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    replay_input(node->replay, nic, data, len);
}

static void on_compare(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    const Node *node = user_data;
    judge_output(node->judge, nic, epoch, frame);
}

static void on_each_compared(guint64 until, TrafficFrameFunc func, gpointer data,
                             gpointer user_data)
{
    const Node *node = user_data;
    judge_foreach_held(node->judge, until, func, data);
}

static void on_opening(gpointer user_data)
{
    Node *node = user_data;
    comparing_forget(node, TRUE);
    primary_want_no_more(node->primary, WANTED(REASON_OUTPUT_LIMIT));
}

static void on_wanted(CheckpointReason reason, gpointer user_data)
{
    const Node *node = user_data;
    primary_want(node->primary, reason);
}

static void on_held(gpointer user_data)
{
    const Node *node = user_data;
    primary_reschedule(node->primary);
}

static void on_takes_again(gpointer user_data)
{
    const Node *node = user_data;
    cards_take_output(node->cards);
}

void net_init(Node *node)
{
    static const TrafficHandler handler = {.look = on_look,
                                           .is_fresh = on_is_fresh,
                                           .send = on_send,
                                           .give = on_give,
                                           .has_room = on_has_room,
                                           .mirror = on_mirror,
                                           .to_peer = on_to_peer,
                                           .queue = on_queue,
                                           .compare = on_compare,
                                           .each_compared = on_each_compared,
                                           .opening = on_opening,
                                           .wanted = on_wanted,
                                           .held = on_held,
                                           .takes_again = on_takes_again};
    node->traffic = traffic_new(node->config->output_limit_bytes, &handler, node);
}

/* ---- What concerns both, and others ---- */

void net_set_open(Node *node, gboolean open)
{
    if (!open)
        announce_end(node->announce);
    cards_set_open(node->cards, open);
}

void net_open_and_announce(Node *node)
{
    net_set_open(node, TRUE);
    announce_start(node->announce);
    traffic_let_leave(node->traffic);
}

void net_send_addresses(Node *node)
{
    for (guint i = 0; i < cards_count(node->cards); i++) {
        g_autoptr(GBytes) bytes = cards_addresses(node->cards, i);
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        MessageAddresses addresses = {.card = i, .data = data, .len = len};
        message_send(node->link, &(Message){.type = LINK_MSG_ADDRESSES, .addresses = addresses});
    }
}

gboolean net_receive_addresses(Node *node, const MessageAddresses *addresses, GError **error)
{
    if (addresses->card >= cards_count(node->cards)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "addresses of a network card that the VM doesn't have");
        return FALSE;
    }
    g_autoptr(GBytes) bytes = g_bytes_new(addresses->data, addresses->len);
    return cards_merge_addresses(node->cards, addresses->card, bytes, error);
}

void net_finalise(Node *node)
{
    traffic_free(node->traffic);
    cards_free(node->cards);
}
