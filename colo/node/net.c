/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's cards: frames between its ports, the uplinks and traffic.c, which decides which way
 * each goes. A node without output (secondary, or a primary that has lost its VM) has closed
 * uplinks.
 */
#include "colo/node/node_internal.h"

/* ---- What its cards report ---- */

static void on_output(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    Node *node = user_data;
    if (route_is_to_clients(node->route))
        cards_learn(node->cards, nic, data, len);
    traffic_output(node, nic, data, len);
}

static void on_input(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    traffic_input(user_data, nic, data, len);
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    const Node *node = user_data;
    announce_elsewhere(node->announce, nic);
}

static void on_port_failed(const GError *error, gpointer user_data)
{
    node_vm_ending(user_data, "the guest's network card can't be reached", error);
}

static void on_uplink_failed(const GError *error, gpointer user_data)
{
    node_report(user_data, "the uplink has failed", error);
}

gboolean net_init(Node *node, GError **error)
{
    static const CardsHandler handler = {.output = on_output,
                                         .input = on_input,
                                         .elsewhere = on_elsewhere,
                                         .port_failed = on_port_failed,
                                         .uplink_failed = on_uplink_failed};
    node->outbound = backlog_new(0); /* see may_leave() */
    node->cards = cards_new(node->config, &handler, node, error);
    return node->cards != NULL;
}

void net_finalise(Node *node)
{
    g_clear_pointer(&node->outbound, backlog_free);
    g_clear_pointer(&node->cards, cards_free);
}

void net_set_open(Node *node, gboolean open)
{
    if (!open)
        announce_end(node->announce);
    cards_set_open(node->cards, open);
}

/*
 * The last look before a frame of the protected VM leaves (docs/ARCHITECTURE.md, "A host that stood
 * still"). The frame was released by messages of the secondary. If this process was stopped, these
 * may have waited for any time. So the frame waits here, in order, until there is new proof of the
 * secondary. What the arbiter or the secondary itself has decided for good needs no such proof:
 * then the state is another. The queue is bounded by what can be released in a heartbeat-timeout.
 */
static gboolean may_leave(Node *node)
{
    switch (route_exit(node->state)) {
    case ROUTE_EXIT_CLOSED:
        return FALSE;
    case ROUTE_EXIT_FRESH:
        return link_is_fresh(node->link);
    case ROUTE_EXIT_OPEN:
        break;
    }
    return TRUE;
}

void net_send(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    net_let_leave(node);
    if (!backlog_first(node->outbound) && may_leave(node)) {
        cards_send(node->cards, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(node->outbound, nic, node->epoch, frame);
}

void net_let_leave(Node *node)
{
    while (backlog_first(node->outbound) && may_leave(node)) {
        gsize len;
        g_autoptr(BacklogFrame) frame = backlog_take(node->outbound, backlog_first(node->outbound));
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        cards_send(node->cards, frame->nic, data, len);
    }
}

void net_send_mapped(Node *node, unsigned nic, GBytes *frame)
{
    g_autoptr(GBytes) mapped =
        node->rewrite ? rewrite_map_output(node->rewrite, nic, frame) : g_bytes_ref(frame);
    gsize len;
    const guint8 *data = g_bytes_get_data(mapped, &len);
    net_send(node, nic, data, len);
}

void net_deliver(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    cards_give(node->cards, nic, data, len);
}

static void deliver_frame(unsigned nic, GBytes *frame, gpointer user_data)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    net_deliver(user_data, nic, data, len);
}

Rewrite *net_new_rewrite(Node *node, guint64 epoch)
{
    RewriteOptions options;
    rewrite_options_init(&options);
    options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
    return rewrite_new(&options, epoch, deliver_frame, node);
}

void net_deliver_mapped(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (!node->rewrite) {
        net_deliver(node, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    rewrite_input(node->rewrite, nic, frame);
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
