/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link as the node sees it: it comes up, brings messages and packets, and breaks. What the peer
 * sends is checked against the state, here or by the part that it concerns. A peer that breaks the
 * protocol has lost the link.
 */
#include "colo/node/events.h"
#include "colo/node/node_internal.h"
#include "common/log.h"

void node_link_lost(Node *node, const char *what, const GError *error)
{
    figures_primary_lost(node->figures, FIGURES_LOST);
    node_report(node, what, error);
    claim_defer(node->claim, uplinks_link_lost(node->uplinks, error));
    const GError *ending = machine_ending_sign(node->machine);
    if (ending)
        /* Whichever side the arbiter would choose, it can't be this VM. */
        node_vm_lost(node, "the VM is lost", ending);
    else
        node_event(node, events_link_lost(node->state, copy_is_valid(node->copy)));
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
    node->peer_unpacks = link_features_has(peer_hello, LINK_FEATURE_PACKED);
    seek_linked(node->seek);
    log_info("linked with %s, session %s", node->peer_name ? node->peer_name : "the peer",
             link_session(node->link));
    if (fsm_is_primary(node->state))
        node_options_tell(node);
    else
        claim_pin(node->claim);
    claim_defer(node->claim, 0);
    uplinks_link_up(node->uplinks);
    node_event(node, FSM_LINK_UP);
}

static void on_link_down(const GError *why, gpointer user_data)
{
    node_link_lost(user_data, "the link to the peer is lost", why);
}

static void on_sent(gpointer user_data)
{
    const Node *node = user_data;
    copy_tell_on(node->copy);
}

static void on_fresh(gpointer user_data)
{
    const Node *node = user_data;
    traffic_let_leave(node->traffic);
}

static void on_attempt_failed(const GError *why, gpointer user_data)
{
    Node *node = user_data;
    if (g_error_matches(why, LINK_ERROR, LINK_ERROR_REFUSED))
        node_report(node, "no pair", why);
    else
        log_info("no link yet: %s", why->message);
}

static void on_dial_failed(const GError *why, gpointer user_data)
{
    const Node *node = user_data;
    seek_dial_failed(node->seek, why);
}

/* The event of a message: what doesn't fit the state breaks the protocol. */
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

/*
 * ---- One handler for each message; it decides, or its callee, what the message is allowed in ----
 */

static gboolean on_blank(Node *node, const Message *message, GError **error)
{
    (void)message;
    return peer_event(node, FSM_BLANK, error);
}

static gboolean on_received(Node *node, const Message *message, GError **error)
{
    return primary_received(node->primary, message->epoch, error);
}

static gboolean on_applied(Node *node, const Message *message, GError **error)
{
    (void)error;
    figures_add_applied(node->figures, (gint64)MIN(message->applied.apply_us, G_MAXINT32));
    return TRUE;
}

static gboolean on_ready(Node *node, const Message *message, GError **error)
{
    figures_add_loaded(node->figures, FALSE);
    return primary_ready(node->primary, &message->ready, error);
}

static gboolean on_protect(Node *node, const Message *message, GError **error)
{
    (void)message;
    if (!secondary_may_protect(node, error) || !peer_event(node, FSM_PROTECT, error))
        return FALSE;
    replica_proven(node->becoming);
    return TRUE;
}

static gboolean on_runs(Node *node, const Message *message, GError **error)
{
    (void)message;
    /* What an administrator would have to say otherwise. */
    if (node->gave_back && node->config->vm->disks->len > 0)
        node->config->discard = TRUE;
    return peer_event(node, FSM_PEER_RUNS, error);
}

static gboolean on_peer_paused(Node *node, const Message *message, GError **error)
{
    (void)message;
    figures_primary_lost(node->figures, FIGURES_LOST);
    return peer_event(node, FSM_PEER_PAUSED, error);
}

static gboolean on_prepare(Node *node, const Message *message, GError **error)
{
    return secondary_prepare(node, message->epoch, error);
}

static gboolean on_dirty(Node *node, const Message *message, GError **error)
{
    return primary_dirty(node->primary, &message->dirty, error);
}

static gboolean on_loaded(Node *node, const Message *message, GError **error)
{
    figures_add_loaded(node->figures, TRUE);
    return comparing_loaded(node, message->epoch, error);
}

static gboolean on_stalled(Node *node, const Message *message, GError **error)
{
    return comparing_stalled(node, &message->stalled, error);
}

static gboolean on_rebooted(Node *node, const Message *message, GError **error)
{
    return comparing_rebooted(node, message->epoch, error);
}

static gboolean on_settled(Node *node, const Message *message, GError **error)
{
    (void)error;
    replay_settled(node->replay, &message->settled);
    return TRUE;
}

static gboolean on_carrier(Node *node, const Message *message, GError **error)
{
    (void)error;
    uplinks_received(node->uplinks, message->cut);
    return TRUE;
}

static gboolean on_addresses(Node *node, const Message *message, GError **error)
{
    return net_receive_addresses(node, &message->addresses, error);
}

static gboolean on_final(Node *node, const Message *message, GError **error)
{
    return final_received(node->final, message->epoch, error);
}

static gboolean on_finished(Node *node, const Message *message, GError **error)
{
    return final_finished(node->final, message->epoch, error);
}

static gboolean on_trouble(Node *node, const Message *message, GError **error)
{
    (void)error;
    parts_peer_reports(node, message->text);
    return TRUE;
}

static gboolean on_options(Node *node, const Message *message, GError **error)
{
    return node_options_received(node, message->text, error);
}

static gboolean on_yield(Node *node, const Message *message, GError **error)
{
    (void)message;
    (void)error;
    if (events_takes_yield(node->state, judge_copy_is_fit(node->judge)))
        node_event(node, FSM_YIELD);
    return TRUE;
}

static gboolean on_yielded(Node *node, const Message *message, GError **error)
{
    figures_primary_lost(node->figures, FIGURES_LOST);
    if (node->state == FSM_S_GIVING || node->state == FSM_S_LEAVING) {
        g_autoptr(GError) why = g_error_new(NODE_ERROR, NODE_ERROR_REFUSED, "%s", message->text);
        node_report(node, "the VM is given back to a primary that has ended: start colod there",
                    why);
    }
    return peer_event(node, FSM_YIELDED, error);
}

/* That it came is all there is to it: answer-watch.h. */
static gboolean on_busy(Node *node, const Message *message, GError **error)
{
    (void)node;
    (void)message;
    (void)error;
    return TRUE;
}

static gboolean on_unfit(Node *node, const Message *message, GError **error)
{
    if (node->state != FSM_S_COLO)
        return peer_event(node, FSM_UNFIT, error);
    parts_unfit(node, message->text);
    return TRUE;
}

static gboolean on_leave(Node *node, const Message *message, GError **error)
{
    (void)message;
    (void)error;
    memory_leave(node->memory);
    return TRUE;
}

static gboolean on_handed(Node *node, const Message *message, GError **error)
{
    return secondary_handed(node, &message->moved, error);
}

/* The network knows where the guest is now: all that has come here for it before is in the taps. */
static gboolean on_taken(Node *node, const Message *message, GError **error)
{
    if (node->state == FSM_P_HANDED)
        cards_read_now(node->cards);
    switchover_taken(node->switchover, message->moved.us);
    return peer_event(node, FSM_TAKEN, error);
}

static gboolean on_refused(Node *node, const Message *message, GError **error)
{
    switchover_refused(node->switchover, message->refused.why);
    return primary_refused(node->primary, &message->refused, error);
}

static gboolean on_switchover(Node *node, const Message *message, GError **error)
{
    (void)error;
    switchover_received(node->switchover, message);
    return TRUE;
}

static gboolean on_goodbye(Node *node, const Message *message, GError **error)
{
    /* An ordered end is no trouble. */
    log_info("the peer ends: %s", message->text);
    return peer_event(node, events_peer_ends(FSM_PEER_GOODBYE, primary_is_doubted(node->primary)),
                      error);
}

static gboolean on_failed(Node *node, const Message *message, GError **error)
{
    parts_peer_reports(node, message->text);
    return peer_event(node, events_peer_ends(FSM_PEER_FAILED, primary_is_doubted(node->primary)),
                      error);
}

static gboolean (*const handlers[])(Node *node, const Message *message, GError **error) = {
    [LINK_MSG_BLANK] = on_blank,
    [LINK_MSG_RECEIVED] = on_received,
    [LINK_MSG_APPLIED] = on_applied,
    [LINK_MSG_READY] = on_ready,
    [LINK_MSG_PROTECT] = on_protect,
    [LINK_MSG_ADDRESSES] = on_addresses,
    [LINK_MSG_YIELD] = on_yield,
    [LINK_MSG_YIELDED] = on_yielded,
    [LINK_MSG_GOODBYE] = on_goodbye,
    [LINK_MSG_FAILED] = on_failed,
    [LINK_MSG_PREPARE] = on_prepare,
    [LINK_MSG_DIRTY] = on_dirty,
    [LINK_MSG_LOADED] = on_loaded,
    [LINK_MSG_STALLED] = on_stalled,
    [LINK_MSG_SETTLED] = on_settled,
    [LINK_MSG_REBOOTED] = on_rebooted,
    [LINK_MSG_RUNS] = on_runs,
    [LINK_MSG_PAUSED] = on_peer_paused,
    [LINK_MSG_HANDED] = on_handed,
    [LINK_MSG_TAKEN] = on_taken,
    [LINK_MSG_REFUSED] = on_refused,
    [LINK_MSG_OPTIONS] = on_options,
    [LINK_MSG_TROUBLE] = on_trouble,
    [LINK_MSG_UNFIT] = on_unfit,
    [LINK_MSG_BUSY] = on_busy,
    [LINK_MSG_LEAVE] = on_leave,
    [LINK_MSG_FINAL] = on_final,
    [LINK_MSG_FINISHED] = on_finished,
    [LINK_MSG_CARRIER] = on_carrier,
    [LINK_MSG_SWITCHOVER_ASK] = on_switchover,
    [LINK_MSG_SWITCHOVER_ACK] = on_switchover,
    [LINK_MSG_SWITCHOVER_WANT] = on_switchover,
    [LINK_MSG_SWITCHOVER_CANCEL] = on_switchover,
    [LINK_MSG_SWITCHOVER_PHASE] = on_switchover,
};

static gboolean handle_message(Node *node, guint type, const guint8 *payload, gsize len,
                               GError **error)
{
    g_auto(Message) message = {0};
    const MessageInfo *info = message_info(type);
    gboolean from_primary = !fsm_is_primary(node->state);
    answering_received(node->answering);
    if (!info) {
        log_debug("message of unknown type %u from the peer, %zu bytes: ignored", type, len);
        return TRUE;
    }
    if (!(info->from & (from_primary ? MESSAGE_FROM_PRIMARY : MESSAGE_FROM_SECONDARY))) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message '%s' from a %s", info->name,
                    from_primary ? "primary" : "secondary");
        return FALSE;
    }
    return message_unpack(type, payload, len, &message, error) &&
           handlers[type](node, &message, error);
}

static void on_message(guint type, const guint8 *payload, gsize len, gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!handle_message(node, type, payload, len, &error))
        node_link_lost(node, "the peer broke the protocol", error);
}

static gboolean handle_packet(const Node *node, unsigned nic, guint64 epoch, const guint8 *data,
                              gsize len, GError **error)
{
    gboolean primary = fsm_is_primary(node->state);
    if (nic >= cards_count(node->cards) && (primary || nic != LINK_NIC_NOTE)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "a packet of card %u of %u", nic,
                    cards_count(node->cards));
        return FALSE;
    }
    if (!primary)
        return replay_mirrored(node->replay, nic, epoch, data, len, error);
    if (fsm_is_protected(node->state))
        judge_copy_output(node->judge, nic, epoch, node->epoch, data, len);
    return TRUE;
}

static void on_packet(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                      gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!handle_packet(node, nic, epoch, data, len, &error))
        node_stream_lost(node, "the peer broke the protocol", error);
}

/* It was the old primary's, for the guest that this node has taken. */
static void on_late_packet(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    if (nic < cards_count(node->cards))
        traffic_input(node->traffic, nic, data, len);
}

static json_object *make_hello(gpointer user_data)
{
    const Node *node = user_data;
    json_object *hello = json_object_new_object();
    json_object_object_add(hello, "name", json_object_new_string(node->config->name));
    json_object_object_add(hello, "identity", json_object_get(machine_identity(node->machine)));
    return hello;
}

static void on_recover_failed(const char *uri, const char *why, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "error", json_object_new_string(why));
    json_object_object_add(data, "uri", json_object_new_string(uri));
    node_emit(user_data, "RECOVER_FAILED", data);
}

void node_link_pause(Node *node)
{
    log_info("the link is paused by an administrator, until 'recover'");
    seek_pause(node->seek);
    if (!link_is_up(node->link))
        return;
    /* As a cut of the network: so a secondary leaves the arbiter's first answer to its primary. */
    g_autoptr(GError) error =
        g_error_new_literal(LINK_ERROR, LINK_ERROR_TIMEOUT, "an administrator has paused the link");
    /* The end of its connections would tell it that the primary's process has died. */
    if (fsm_is_primary(node->state) && fsm_is_protected(node->state) &&
        node->config->arbiter != CONFIG_ARBITER_NONE)
        message_send(node->link, &(Message){.type = LINK_MSG_UNFIT, .text = error->message});
    node_link_lost(node, "the link to the peer is ended", error);
}

void node_link_close(Node *node)
{
    seek_wish(node->seek, SEEK_NOBODY);
    receiver_shut_down(node->receiver);
    answering_forget(node->answering);
    link_close(node->link);
    link_idle(node->link, fsm_state_name(node->state));
}

static int on_descriptor(int fdset, const char *what, gpointer user_data, GError **error)
{
    const Node *node = user_data;
    return control_descriptor(node->control, fdset, what, error);
}

gboolean node_link_init(Node *node, GError **error)
{
    const Config *config = node->config;
    LinkOptions options = {.listen = config->listen,
                           .peer = config->peer,
                           .heartbeat_interval_ms = (guint)config->heartbeat_interval_ms,
                           .heartbeat_timeout_ms = (guint)config->heartbeat_timeout_ms,
                           .handshake_timeout_ms = (guint)config->recover_timeout_ms,
                           .disks = config->vm->disks->len > 0};
    LinkCallbacks callbacks = {.up = on_link_up,
                               .message = on_message,
                               .packet = on_packet,
                               .late_packet = on_late_packet,
                               .down = on_link_down,
                               .attempt_failed = on_attempt_failed,
                               .sent = on_sent,
                               .dial_failed = on_dial_failed,
                               .descriptor = on_descriptor,
                               .fresh = on_fresh};
    for (guint type = 0; type < G_N_ELEMENTS(handlers); type++)
        g_assert(!handlers[type] == !message_info(type));
    node->link = link_new(&options, &callbacks, node, error);
    if (!node->link)
        return FALSE;
    seek_attach(node->seek, node->link);
    return TRUE;
}

void node_link_make_seek(Node *node)
{
    static const SeekHandler handler = {.hello = make_hello, .recover_failed = on_recover_failed};
    node->seek = seek_new(node->config, &handler, node);
}
