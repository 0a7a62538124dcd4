/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link as the node sees it: it comes up, brings messages and packets, and breaks. What the
 * peer says is checked against the state here or by whom it concerns; a peer that breaks the
 * protocol has lost the link.
 */
#include "colo/node/node_internal.h"
#include "common/endian.h"
#include "common/log.h"

#include <sys/socket.h>

void node_link_lost(Node *node, const char *what, const GError *error)
{
    node->link_lost = colo_time_now();
    node_report(node, what, error);
    uplinks_link_lost(node, error);
    if (node->ending_timer)
        /* Whoever the arbiter would let go on, it can't be this VM. */
        node_vm_lost(node, "the VM is lost", node->ending_sign);
    else
        node_event(node,
                   node->svm_spoilt && (node->state == FSM_S_COLO || node->state == FSM_S_HANDED)
                       ? FSM_SPOILT
                       : FSM_LINK_DOWN);
}

void node_stream_lost(Node *node, const char *what, const GError *error)
{
    g_autoptr(GError) why = g_error_copy(error);
    g_prefix_error(&why, "%s: ", what);
    link_break(node->link, why);
}

static void on_link_up(json_object *peer_hello, gpointer user_data)
{
    Node *node = user_data;
    json_object *name;
    g_free(node->peer_name);
    node->peer_name = json_object_object_get_ex(peer_hello, "name", &name)
                          ? g_strdup(json_object_get_string(name))
                          : NULL;
    log_info("linked with %s, session %s", node->peer_name ? node->peer_name : "the peer",
             link_session(node->link));
    if (fsm_is_primary(node->state))
        options_tell(node);
    else
        owner_pin(node);
    uplinks_link_up(node);
    node_event(node, FSM_LINK_UP);
}

static void on_link_down(const GError *why, gpointer user_data)
{
    node_link_lost(user_data, "the link to the peer is lost", why);
}

static void on_sent(gpointer user_data)
{
    svm_send_dirty(user_data);
}

static void on_fresh(gpointer user_data)
{
    net_let_leave(user_data);
}

static void on_attempt_failed(const GError *why, gpointer user_data)
{
    Node *node = user_data;
    if (g_error_matches(why, LINK_ERROR, LINK_ERROR_REFUSED))
        node_report(node, "no pair", why);
    else
        log_info("no link yet: %s", why->message);
}

/* An event that a message stands for: what doesn't fit the state breaks the protocol. */
static gboolean peer_event(Node *node, FsmEvent event, GError **error)
{
    if (fsm_step(node->state, event).verdict == FSM_BUG) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message '%s' in state %s",
                    fsm_event_name(event), fsm_state_name(node->state));
        return FALSE;
    }
    node_event(node, event);
    return TRUE;
}

static gboolean only_bytes(gsize len, gsize expected, GError **error)
{
    if (len == expected)
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "%zu bytes where %zu belong", len,
                expected);
    return FALSE;
}

/* An ordered end is no trouble. */
static void log_farewell(const guint8 *payload, gsize len)
{
    g_autofree char *text = g_utf8_make_valid((const char *)payload, (gssize)MIN(len, 512));
    log_info("the peer ends: %s", text);
}

static gboolean handle_message(Node *node, guint type, const guint8 *payload, gsize len,
                               GError **error)
{
    node->answers++;
    switch (type) {
    case LINK_MSG_BLANK:
        return peer_event(node, FSM_BLANK, error);
    case LINK_MSG_RECEIVED:
        return only_bytes(len, 8, error) && primary_received(node, colo_get_be64(payload), error);
    case LINK_MSG_APPLIED:
        if (!only_bytes(len, 16, error))
            return FALSE;
        stats_add(node->apply_stats, (gint64)MIN(colo_get_be64(payload + 8), G_MAXINT32));
        return TRUE;
    case LINK_MSG_READY:
        return primary_ready(node, payload, len, error);
    case LINK_MSG_PROTECT:
        return secondary_may_protect(node, error) && peer_event(node, FSM_PROTECT, error);
    case LINK_MSG_RUNS:
        return peer_event(node, FSM_PEER_RUNS, error);
    case LINK_MSG_STANDS:
        node->link_lost = colo_time_now();
        return peer_event(node, FSM_PEER_STANDS, error);
    case LINK_MSG_PREPARE:
        return only_bytes(len, 8, error) && svm_prepare(node, colo_get_be64(payload), error);
    case LINK_MSG_DIRTY:
        return primary_dirty(node, payload, len, error);
    case LINK_MSG_LOADED:
        return only_bytes(len, 8, error) && comparing_loaded(node, colo_get_be64(payload), error);
    case LINK_MSG_STALLED:
        return comparing_stalled(node, payload, len, error);
    case LINK_MSG_REBOOTED:
        return only_bytes(len, 8, error) && comparing_rebooted(node, colo_get_be64(payload), error);
    case LINK_MSG_SETTLED:
        return secondary_settled(node, payload, len, error);
    case LINK_MSG_CARRIER:
        return only_bytes(len, 8, error) && uplinks_peer_says(node, colo_get_be64(payload));
    case LINK_MSG_ADDRESSES:
        return net_receive_addresses(node, payload, len, error);
    case LINK_MSG_FINAL:
        return only_bytes(len, 8, error) && final_received(node, colo_get_be64(payload), error);
    case LINK_MSG_FINISHED:
        return only_bytes(len, 8, error) && final_finished(node, colo_get_be64(payload), error);
    case LINK_MSG_TROUBLE:
        trouble_received(node, payload, len);
        return TRUE;
    case LINK_MSG_OPTIONS:
        return options_received(node, payload, len, error);
    case LINK_MSG_YIELD:
        /* It may cross with our own going: not an error. */
        if (node->state == FSM_P_COLO && node->peer_vm != PEER_VM_STALLED)
            node_event(node, FSM_YIELD);
        return TRUE;
    case LINK_MSG_YIELDED:
        node->link_lost = colo_time_now();
        node->yielded = TRUE;
        return peer_event(node, FSM_YIELDED, error);
    case LINK_MSG_BUSY:
        return only_bytes(len, 8, error);
    case LINK_MSG_UNFIT:
        if (node->state == FSM_S_COLO) {
            answer_unfit(node, payload, len);
            return TRUE;
        }
        return peer_event(node, FSM_UNFIT, error);
    case LINK_MSG_LEAVE:
        memory_leave(node);
        return TRUE;
    case LINK_MSG_HANDED:
        return only_bytes(len, 8, error) && secondary_handed(node, colo_get_be64(payload), error);
    case LINK_MSG_TAKEN:
        return peer_event(node, FSM_TAKEN, error);
    case LINK_MSG_REFUSED:
        return primary_refused(node, payload, len, error);
    case LINK_MSG_GOODBYE:
        log_farewell(payload, len);
        return peer_event(node, node->doubted ? FSM_LINK_DOWN : FSM_PEER_GOODBYE, error);
    case LINK_MSG_FAILED:
        trouble_received(node, payload, len);
        return peer_event(node, node->doubted ? FSM_LINK_DOWN : FSM_PEER_FAILED, error);
    default:
        log_debug("message of unknown type %u from the peer, %zu bytes: ignored", type, len);
        return TRUE;
    }
}

static void on_message(guint type, const guint8 *payload, gsize len, gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!handle_message(node, type, payload, len, &error))
        node_link_lost(node, "the peer broke the protocol", error);
}

static void on_packet(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                      gpointer user_data)
{
    Node *node = user_data;
    gboolean primary = fsm_is_primary(node->state);
    if (nic >= node->cards->len && (primary || nic != LINK_NIC_NOTE)) {
        g_autoptr(GError) error = g_error_new(NODE_ERROR, NODE_ERROR_PROTOCOL,
                                              "a packet of card %u of %u", nic, node->cards->len);
        node_stream_lost(node, "the peer broke the protocol", error);
        return;
    }
    if (!primary)
        secondary_mirrored(node, nic, epoch, data, len);
    else if (fsm_is_protected(node->state))
        comparing_secondary_output(node, nic, epoch, data, len);
}

void node_link_seek(Node *node, void (*seek)(Link *, json_object *))
{
    json_object *hello = json_object_new_object();
    json_object_object_add(hello, "name", json_object_new_string(node->config->name));
    json_object_object_add(hello, "identity", json_object_get(node->identity));
    seek(node->link, hello);
    json_object_put(hello);
}

void node_link_close(Node *node)
{
    if (node->apply_fd >= 0)
        shutdown(node->apply_fd, SHUT_RDWR);
    link_close(node->link);
    link_idle(node->link, fsm_state_name(node->state));
}

gboolean node_link_init(Node *node, GError **error)
{
    const Config *config = node->config;
    LinkOptions options = {.listen = config->listen,
                           .peer = config->peer,
                           .heartbeat_interval_ms = (guint)config->heartbeat_interval_ms,
                           .heartbeat_timeout_ms = (guint)config->heartbeat_timeout_ms,
                           .disks = config->vm->disks->len > 0};
    LinkCallbacks callbacks = {.up = on_link_up,
                               .message = on_message,
                               .packet = on_packet,
                               .down = on_link_down,
                               .attempt_failed = on_attempt_failed,
                               .sent = on_sent,
                               .fresh = on_fresh};
    node->link = link_new(&options, &callbacks, node, error);
    return node->link != NULL;
}
