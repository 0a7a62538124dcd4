/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The carriers here and at the peer, and what is reported of them. */
#include "colo/node/uplinks.h"

#include "colo/link/link.h"
#include "colo/node/uplinks-watch.h"
#include "common/log.h"
#include "common/timer.h"

/* A hand-over that isn't possible now is tried again after this. */
#define TRY_AGAIN_US (1 * G_USEC_PER_SEC)

struct Uplinks {
    const Config *config; /* borrowed */
    UplinksHandler handler;
    gpointer user_data;
    CarrierWatch *watch;     /* NULL: the VM has no card */
    UplinkCarrier *carriers; /* of each card */
    guint64 cut, peer_cut;   /* uplinks-watch.h; the peer's as reported last */
    UplinksWatch decided;
    GSource *timer;
    ColoTime moved; /* when the VM came here; 0: it was started here */
};

static const ConfigNic *nic_at(const Uplinks *uplinks, guint card)
{
    return g_ptr_array_index(uplinks->config->nics, card);
}

static void send_cut(const Uplinks *uplinks)
{
    uplinks->handler.send(uplinks->cut, uplinks->user_data);
}

/* ---- Watching ---- */

static void tell(const Uplinks *uplinks, guint card, UplinkCarrier carrier)
{
    gboolean there = carrier != UPLINK_CARRIER_NO;
    const char *name = nic_at(uplinks, card)->name;
    if (there)
        log_info("nic %s: its uplink has a carrier", name);
    else
        log_warning("nic %s: its uplink has no carrier: clients can't reach this host by it", name);
    uplinks->handler.changed(card, there, uplinks->user_data);
}

static UplinkCarrier carrier_of(const Uplinks *uplinks, guint card)
{
    const ConfigNic *nic = nic_at(uplinks, card);
    if (nic->tap && !nic->uplink)
        return carrier_watch_look_tap(uplinks->watch,
                                      uplinks->handler.tap(card, uplinks->user_data));
    return carrier_watch_look(uplinks->watch, nic->bridge, nic->uplink);
}

static void look(Uplinks *uplinks)
{
    guint64 cut = 0;
    for (guint i = 0; i < uplinks->config->nics->len; i++) {
        UplinkCarrier before = uplinks->carriers[i];
        UplinkCarrier carrier = carrier_of(uplinks, i);
        /* At first, and of what is not known, only that there is none is news. */
        if ((carrier == UPLINK_CARRIER_NO) != (before == UPLINK_CARRIER_NO))
            tell(uplinks, i, carrier);
        uplinks->carriers[i] = carrier;
        if (carrier == UPLINK_CARRIER_NO && i < UPLINKS_CARDS_MAX)
            cut |= G_GUINT64_CONSTANT(1) << i;
    }
    if (cut == uplinks->cut)
        return;
    gboolean plugged_in = (uplinks->cut & ~cut) != 0;
    uplinks->cut = cut;
    send_cut(uplinks);
    uplinks_reconsider(uplinks);
    if (plugged_in)
        uplinks->handler.plugged_in(uplinks->user_data);
}

static void on_changed(gpointer user_data)
{
    look(user_data);
}

gboolean uplinks_is_in_place(const Uplinks *uplinks, guint card, const char *tap)
{
    return !tap || carrier_watch_is_port(uplinks->watch, tap, nic_at(uplinks, card)->bridge);
}

/* ---- What follows ---- */

void uplinks_reconsider(Uplinks *uplinks)
{
    /* From the main loop, not from within whatever has changed a fact. */
    colo_timer_set_us(uplinks->timer, 0);
}

static gboolean on_timer(gpointer user_data)
{
    Uplinks *uplinks = user_data;
    UplinksWorld world = uplinks->handler.look(uplinks->user_data);
    ColoTime now = colo_time_now();
    UplinksDecision decision = uplinks_decide(&uplinks->decided, world.state == FSM_P_COLO,
                                              uplinks->cut, uplinks->peer_cut, uplinks->moved, now);
    gint64 again = decision.look_again.us == G_MAXINT64 ? -1 : decision.look_again.us;
    if (decision.hand_over && !world.copy_is_fit)
        again = colo_time_add_us(now, TRY_AGAIN_US).us;
    colo_timer_set_us(uplinks->timer, again);
    if (!decision.hand_over || again >= 0)
        return G_SOURCE_CONTINUE;
    log_warning("handing the VM over: the peer has carrier where this host has none");
    uplinks->handler.hand_over(uplinks->user_data);
    return G_SOURCE_CONTINUE;
}

void uplinks_vm_came(Uplinks *uplinks)
{
    uplinks->moved = colo_time_now();
}

void uplinks_received(Uplinks *uplinks, guint64 cut)
{
    if (cut != uplinks->peer_cut)
        log_info("the peer's uplinks without carrier: %" G_GINT64_MODIFIER "x", cut);
    uplinks->peer_cut = cut;
    uplinks_reconsider(uplinks);
}

void uplinks_link_up(Uplinks *uplinks)
{
    uplinks->peer_cut = 0;
    send_cut(uplinks);
}

guint uplinks_link_lost(Uplinks *uplinks, const GError *why)
{
    FsmState state = uplinks->handler.look(uplinks->user_data).state;
    gboolean timed_out = g_error_matches(why, LINK_ERROR, LINK_ERROR_TIMEOUT);
    guint wait_ms = 0;
    if (fsm_is_protected(state))
        wait_ms =
            uplinks_ask_wait_ms(fsm_is_primary(state), timed_out, uplinks->cut, uplinks->peer_cut,
                                (guint)uplinks->config->heartbeat_interval_ms);
    if (wait_ms)
        log_info("the arbiter is asked in %u ms: the other side is to continue if it can", wait_ms);
    return wait_ms;
}

/* ---- Status and life ---- */

UplinkCarrier uplinks_carrier(const Uplinks *uplinks, guint card)
{
    return uplinks->carriers[card];
}

gboolean uplinks_peer_has_carrier(const Uplinks *uplinks, guint card)
{
    return card >= UPLINKS_CARDS_MAX || !(uplinks->peer_cut >> card & 1);
}

guint64 uplinks_cut(const Uplinks *uplinks)
{
    return uplinks->cut;
}

guint64 uplinks_peer_cut(const Uplinks *uplinks)
{
    return uplinks->peer_cut;
}

gboolean uplinks_is_deciding(const Uplinks *uplinks)
{
    return uplinks->decided.worse || colo_timer_due_us(uplinks->timer) != -1;
}

Uplinks *uplinks_new(const Config *config, const UplinksHandler *handler, gpointer user_data,
                     GError **error)
{
    Uplinks *uplinks = g_new0(Uplinks, 1);
    uplinks->config = config;
    uplinks->handler = *handler;
    uplinks->user_data = user_data;
    uplinks->timer = colo_timer_new(on_timer, uplinks);
    uplinks->carriers = g_new0(UplinkCarrier, config->nics->len);
    if (config->nics->len == 0)
        return uplinks;
    uplinks->watch = carrier_watch_new(on_changed, uplinks, error);
    if (!uplinks->watch) {
        uplinks_free(uplinks);
        return NULL;
    }
    look(uplinks);
    return uplinks;
}

void uplinks_free(Uplinks *uplinks)
{
    if (!uplinks)
        return;
    carrier_watch_free(uplinks->watch);
    g_source_destroy(uplinks->timer);
    g_source_unref(uplinks->timer);
    g_free(uplinks->carriers);
    g_free(uplinks);
}
