/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether clients can reach this host: the carrier of each card's uplink, watched and told to the
 * peer; and what follows from it for who goes on, as uplinks-watch.h decides. What the peer has
 * reported of its own stays known after the link is lost, for that is when it is needed.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* A hand-over that isn't possible now is tried again after this. */
#define TRY_AGAIN_US (1 * G_USEC_PER_SEC)

static Card *card_at(const Node *node, guint i)
{
    return g_ptr_array_index(node->cards, i);
}

static const ConfigNic *nic_of(const Node *node, guint i)
{
    return g_ptr_array_index(node->config->nics, i);
}

static void say(const Node *node)
{
    message_send(node->link, &(Message){.type = LINK_MSG_CARRIER, .cut = node->uplinks_cut});
}

/* ---- Watching ---- */

static void tell(Node *node, guint i, UplinkCarrier carrier)
{
    gboolean there = carrier != UPLINK_CARRIER_NO;
    const char *name = nic_of(node, i)->name;
    if (there)
        log_info("nic %s: its uplink has a carrier", name);
    else
        log_warning("nic %s: its uplink has no carrier: clients can't reach this host by it", name);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(name));
    json_object_object_add(data, "carrier", json_object_new_boolean(there));
    node_emit(node, "CARRIER_CHANGED", data);
}

static void look(Node *node)
{
    guint64 cut = 0;
    for (guint i = 0; i < node->cards->len; i++) {
        Card *card = card_at(node, i);
        const ConfigNic *nic = nic_of(node, i);
        UplinkCarrier carrier = carrier_watch_look(node->carriers, nic->bridge, nic->uplink);
        /* At first, and of what is not known, only that there is none is news. */
        if ((carrier == UPLINK_CARRIER_NO) != (card->carrier == UPLINK_CARRIER_NO))
            tell(node, i, carrier);
        card->carrier = carrier;
        if (carrier == UPLINK_CARRIER_NO && i < UPLINKS_CARDS_MAX)
            cut |= G_GUINT64_CONSTANT(1) << i;
    }
    if (cut == node->uplinks_cut)
        return;
    gboolean plugged_in = (node->uplinks_cut & ~cut) != 0;
    node->uplinks_cut = cut;
    say(node);
    uplinks_reconsider(node);
    /* What was announced meanwhile has reached nobody. */
    if (plugged_in)
        announce_when_possible(node);
}

static void on_changed(gpointer user_data)
{
    look(user_data);
}

/* ---- What follows ---- */

void uplinks_reconsider(Node *node)
{
    /* From the main loop, not from within whatever has changed a fact. */
    g_source_set_ready_time(node->uplinks_timer, 0);
}

static gboolean on_timer(gpointer user_data)
{
    Node *node = user_data;
    ColoTime now = colo_time_now();
    UplinksDecision decision = uplinks_decide(&node->uplinks_watch, node->state == FSM_P_COLO,
                                              node->uplinks_cut, node->peer_cut, node->moved, now);
    gint64 again = decision.look_again.us == G_MAXINT64 ? -1 : decision.look_again.us;
    if (decision.hand_over && !judge_copy_is_fit(node->judge))
        again = colo_time_add_us(now, TRY_AGAIN_US).us;
    g_source_set_ready_time(node->uplinks_timer, again);
    if (!decision.hand_over || again >= 0)
        return G_SOURCE_CONTINUE;
    log_warning("handing the VM over: the peer has carrier where this host has none");
    node_event(node, FSM_YIELD);
    return G_SOURCE_CONTINUE;
}

gboolean uplinks_peer_says(Node *node, guint64 cut)
{
    if (cut != node->peer_cut)
        log_info("the peer's uplinks without carrier: %" G_GINT64_MODIFIER "x", cut);
    node->peer_cut = cut;
    uplinks_reconsider(node);
    return TRUE;
}

void uplinks_link_up(Node *node)
{
    node->peer_cut = 0;
    claim_defer(node->claim, 0);
    say(node);
}

void uplinks_link_lost(Node *node, const GError *why)
{
    gboolean silent = g_error_matches(why, LINK_ERROR, LINK_ERROR_TIMEOUT);
    guint wait_ms = 0;
    if (fsm_is_protected(node->state))
        wait_ms = uplinks_ask_wait_ms(fsm_is_primary(node->state), silent, node->uplinks_cut,
                                      node->peer_cut, (guint)node->config->heartbeat_interval_ms);
    if (wait_ms)
        log_info("the arbiter is asked in %u ms: the other side is to continue if it can", wait_ms);
    claim_defer(node->claim, wait_ms);
}

/* ---- Status and life ---- */

static json_object *carrier_value(UplinkCarrier carrier)
{
    return carrier == UPLINK_CARRIER_UNKNOWN
               ? NULL
               : json_object_new_boolean(carrier == UPLINK_CARRIER_YES);
}

void uplinks_add_status(const Node *node, json_object *status)
{
    json_object *nics = json_object_new_array();
    json_object_object_add(status, "nics", nics);
    for (guint i = 0; i < node->cards->len; i++) {
        const Card *card = card_at(node, i);
        gboolean peer_has = i >= UPLINKS_CARDS_MAX || !(node->peer_cut >> i & 1);
        json_object *nic = json_object_new_object();
        json_object_object_add(nic, "name", json_object_new_string(nic_of(node, i)->name));
        json_object_object_add(nic, "tap", json_object_new_string(uplink_ifname(card->uplink)));
        json_object_object_add(nic, "carrier", carrier_value(card->carrier));
        json_object_object_add(nic, "peer-carrier",
                               link_is_up(node->link) ? json_object_new_boolean(peer_has) : NULL);
        json_object_array_add(nics, nic);
    }
}

gboolean uplinks_init(Node *node, GError **error)
{
    node->uplinks_timer = node_timer_new(on_timer, node);
    if (node->cards->len == 0)
        return TRUE;
    node->carriers = carrier_watch_new(on_changed, node, error);
    if (!node->carriers)
        return FALSE;
    look(node);
    return TRUE;
}

void uplinks_finalise(Node *node)
{
    carrier_watch_free(node->carriers);
    if (node->uplinks_timer)
        g_source_destroy(node->uplinks_timer);
    g_clear_pointer(&node->uplinks_timer, g_source_unref);
}
