/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's smaller parts, made and connected: what each of them asks for is looked up here, and
 * what it reports goes to the others from here. So none of them knows another one, nor the node.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* ---- Announcements ---- */

AnnounceRight parts_announce_right(const Node *node)
{
    return announce_right(node->state, node->state == FSM_P_COLO && link_is_fresh(node->link));
}

static AnnounceRight on_announce_look(gpointer user_data)
{
    return parts_announce_right(user_data);
}

static void on_volley(gpointer user_data)
{
    net_announce(user_data);
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    Node *node = user_data;
    const ConfigNic *card = g_ptr_array_index(node->config->nics, nic);
    log_warning("nic %s: a frame with the guest's address came from the network: another host has "
                "sent as the guest, or uses its address; announcing the guest again",
                card->name);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(card->name));
    node_emit(node, "ADDRESS_ELSEWHERE", data);
}

static void make_announce(Node *node)
{
    static const AnnounceHandler handler = {
        .look = on_announce_look, .volley = on_volley, .elsewhere = on_elsewhere};
    node->announce = announce_new(node->config, &handler, node);
}

/* ---- Uplinks ---- */

static UplinksWorld on_uplinks_look(gpointer user_data)
{
    const Node *node = user_data;
    return (UplinksWorld){.state = node->state, .copy_is_fit = judge_copy_is_fit(node->judge)};
}

static void on_say_cut(guint64 cut, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_CARRIER, .cut = cut});
}

static void on_carrier_changed(guint nic, gboolean has_carrier, gpointer user_data)
{
    Node *node = user_data;
    const ConfigNic *card = g_ptr_array_index(node->config->nics, nic);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(card->name));
    json_object_object_add(data, "carrier", json_object_new_boolean(has_carrier));
    node_emit(node, "CARRIER_CHANGED", data);
}

static void on_plugged_in(gpointer user_data)
{
    Node *node = user_data;
    announce_when_possible(node->announce);
}

static void on_uplinks_hand_over(gpointer user_data)
{
    node_event(user_data, FSM_YIELD);
}

static gboolean make_uplinks(Node *node, GError **error)
{
    static const UplinksHandler handler = {.look = on_uplinks_look,
                                           .say = on_say_cut,
                                           .changed = on_carrier_changed,
                                           .plugged_in = on_plugged_in,
                                           .hand_over = on_uplinks_hand_over};
    node->uplinks = uplinks_new(node->config, &handler, node, error);
    return node->uplinks != NULL;
}

/* ---- Life ---- */

void parts_init(Node *node)
{
    make_announce(node);
}

gboolean parts_begin(Node *node, GError **error)
{
    return make_uplinks(node, error);
}

void parts_finalise(Node *node)
{
    uplinks_free(node->uplinks);
    announce_free(node->announce);
}
