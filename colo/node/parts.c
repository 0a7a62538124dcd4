/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's smaller parts, made and connected: what each of them asks for is looked up here, and
 * what it reports goes to the others from here. So none of them knows another one, nor the node.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* ---- What several of them ask for and report ---- */

static FsmState on_state(gpointer user_data)
{
    const Node *node = user_data;
    return node->state;
}

static void on_hand_over(gpointer user_data)
{
    node_event(user_data, FSM_YIELD);
}

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

static gboolean make_uplinks(Node *node, GError **error)
{
    static const UplinksHandler handler = {.look = on_uplinks_look,
                                           .say = on_say_cut,
                                           .changed = on_carrier_changed,
                                           .plugged_in = on_plugged_in,
                                           .hand_over = on_hand_over};
    node->uplinks = uplinks_new(node->config, &handler, node, error);
    return node->uplinks != NULL;
}

/* ---- QEMU's own memory ---- */

static guint64 on_measure(gpointer user_data)
{
    const Node *node = user_data;
    return node->vm ? vm_private_bytes(node->vm) : 0;
}

/* One whose end is expected has nobody to run the VM but the secondary, and one that may have lost
 * the arbiter's yes to it may not go on without it. */
static gboolean on_may_let_go(gpointer user_data)
{
    const Node *node = user_data;
    return !node->ending_timer && !node->doubted;
}

static void on_say_leave(gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_LEAVE});
}

static void on_recycle(gpointer user_data)
{
    node_event(user_data, FSM_RECYCLE);
}

static void make_memory(Node *node)
{
    static const MemoryHandler handler = {.state = on_state,
                                          .measure = on_measure,
                                          .may_let_go = on_may_let_go,
                                          .leave = on_say_leave,
                                          .recycle = on_recycle};
    node->memory = memory_new(node->config, &handler, node);
}

/* ---- SIGTERM ---- */

static void on_end(gpointer user_data)
{
    node_shut_down(user_data);
}

static void make_leave(Node *node)
{
    static const LeaveHandler handler = {
        .state = on_state, .hand_over = on_hand_over, .end = on_end};
    node->leave = leave_new(&handler, node);
}

/* ---- Trouble ---- */

void parts_peer_reports(Node *node, const char *text)
{
    trouble_received(node->trouble, node->peer_name ? node->peer_name : "the peer", text);
}

static void on_happened(const char *text, gpointer user_data)
{
    Node *node = user_data;
    if (node->link)
        message_send(node->link, &(Message){.type = LINK_MSG_TROUBLE, .text = text});
    json_object *data = json_object_new_object();
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(node, "ERROR", data);
}

static void on_heard(const char *peer, const char *text, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "peer", json_object_new_string(peer));
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(user_data, "PEER_ERROR", data);
}

static void make_trouble(Node *node)
{
    static const TroubleHandler handler = {.happened = on_happened, .heard = on_heard};
    node->trouble = trouble_new(&handler, node);
}

/* ---- Life ---- */

void parts_init(Node *node)
{
    node->figures = figures_new();
    make_trouble(node);
    make_announce(node);
    make_memory(node);
    make_leave(node);
}

gboolean parts_begin(Node *node, GError **error)
{
    return make_uplinks(node, error);
}

void parts_finalise(Node *node)
{
    uplinks_free(node->uplinks);
    leave_free(node->leave);
    memory_free(node->memory);
    announce_free(node->announce);
    trouble_free(node->trouble);
    figures_free(node->figures);
}
