/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's cards: frames between its ports, the uplinks and traffic.c, which decides which way
 * each goes. A node without output (secondary, or a primary that has lost its VM) has closed
 * uplinks.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <netinet/ether.h>
#include <string.h>

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    Card *card = user_data;
    Node *node = card->node;
    if (route_is_to_clients(node->route))
        addresses_learn(card->addresses, data, len);
    traffic_output(node, card->index, data, len);
}

static void on_input(const guint8 *data, gsize len, gpointer user_data)
{
    Card *card = user_data;
    Node *node = card->node;
    addresses_received(card->addresses, data, len);
    if (addresses_is_own(card->addresses, data, len))
        announce_elsewhere(node->announce, card->index);
    traffic_input(node, card->index, data, len);
}

static void on_port_failed(const GError *error, gpointer user_data)
{
    Card *card = user_data;
    node_vm_ending(card->node, "the guest's network card can't be reached", error);
}

static void on_uplink_failed(const GError *error, gpointer user_data)
{
    Card *card = user_data;
    node_report(card->node, "the uplink has failed", error);
}

static void card_free(gpointer data)
{
    Card *card = data;
    port_free(card->port);
    uplink_free(card->uplink);
    addresses_free(card->addresses);
    g_free(card);
}

gboolean net_init(Node *node, GError **error)
{
    node->cards = g_ptr_array_new_with_free_func(card_free);
    node->outbound = backlog_new(0); /* see may_leave() */
    for (guint i = 0; i < node->config->nics->len; i++) {
        const ConfigNic *ours = g_ptr_array_index(node->config->nics, i);
        const VmNic *nic = g_ptr_array_index(node->config->vm->nics, i);
        struct ether_addr mac = {0};
        ether_aton_r(nic->mac, &mac);
        Card *card = g_new0(Card, 1);
        g_ptr_array_add(node->cards, card);
        card->node = node;
        card->index = i;
        card->addresses = addresses_new(mac.ether_addr_octet);
        card->uplink =
            uplink_new(ours->ifname, ours->bridge, on_input, on_uplink_failed, card, error);
        if (!card->uplink ||
            !uplink_set_offloads(card->uplink, port_model_has_offloads(nic->model), error)) {
            g_prefix_error(error, "nic %s: ", ours->name);
            return FALSE;
        }
    }
    return TRUE;
}

void net_finalise(Node *node)
{
    g_clear_pointer(&node->outbound, backlog_free);
    g_clear_pointer(&node->cards, g_ptr_array_unref);
}

static Card *card_at(Node *node, unsigned nic)
{
    return nic < node->cards->len ? g_ptr_array_index(node->cards, nic) : NULL;
}

void net_attach(Node *node)
{
    for (guint i = 0; i < node->cards->len; i++) {
        Card *card = card_at(node, i);
        const VmNic *nic = g_ptr_array_index(node->config->vm->nics, i);
        card->port = port_new(vm_nic_fd(node->vm, i), on_output, on_port_failed, card);
        port_set_model(card->port, nic->model);
    }
}

void net_detach(Node *node)
{
    for (guint i = 0; i < node->cards->len; i++)
        g_clear_pointer(&card_at(node, i)->port, port_free);
}

void net_set_open(Node *node, gboolean open)
{
    if (!open)
        announce_end(node->announce);
    for (guint i = 0; i < node->cards->len; i++) {
        Uplink *uplink = card_at(node, i)->uplink;
        if (open)
            uplink_open(uplink);
        else
            uplink_close(uplink);
    }
}

void net_drain(Node *node)
{
    for (guint i = 0; i < node->cards->len && card_at(node, i)->port; i++)
        port_drain(card_at(node, i)->port);
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

static void send_now(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    Card *card = card_at(node, nic);
    if (card)
        uplink_send(card->uplink, data, len);
}

void net_send(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    net_let_leave(node);
    if (!backlog_first(node->outbound) && may_leave(node)) {
        send_now(node, nic, data, len);
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
        send_now(node, frame->nic, data, len);
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
    Card *card = card_at(node, nic);
    if (card && card->port)
        port_send(card->port, data, len);
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

gboolean net_is_delivered(Node *node)
{
    for (guint i = 0; i < node->cards->len; i++) {
        const Port *port = card_at(node, i)->port;
        if (port && !port_is_read(port))
            return FALSE;
    }
    return TRUE;
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

const char *net_tap(const Node *node, guint card)
{
    const Card *at = g_ptr_array_index(node->cards, card);
    return uplink_ifname(at->uplink);
}

static void send_on_card(const guint8 *data, gsize len, gpointer user_data)
{
    Card *card = user_data;
    uplink_send(card->uplink, data, len);
}

void net_announce(Node *node)
{
    for (guint i = 0; i < node->cards->len; i++) {
        Card *card = card_at(node, i);
        addresses_announce(card->addresses, send_on_card, card);
    }
}

void net_send_addresses(Node *node)
{
    for (guint i = 0; i < node->cards->len; i++) {
        g_autoptr(GBytes) bytes = addresses_serialise(card_at(node, i)->addresses);
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        MessageAddresses addresses = {.card = i, .data = data, .len = len};
        message_send(node->link, &(Message){.type = LINK_MSG_ADDRESSES, .addresses = addresses});
    }
}

gboolean net_receive_addresses(Node *node, const MessageAddresses *addresses, GError **error)
{
    Card *card = card_at(node, addresses->card);
    if (!card) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "addresses of a network card that the VM doesn't have");
        return FALSE;
    }
    g_autoptr(GBytes) bytes = g_bytes_new(addresses->data, addresses->len);
    return addresses_merge(card->addresses, bytes, error);
}
