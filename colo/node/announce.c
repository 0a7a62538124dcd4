/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the network where the guest is, after a takeover and on request. It does this in rounds,
 * because a volley may be lost: a switch port doesn't forward yet, or a queue is full. Also a host
 * that was overtaken may still have sent frames (docs/ARCHITECTURE.md, "A host that was stopped").
 *
 * A frame with the card's own address that comes from the network was sent by another host. Every
 * switch on its way has learnt the wrong port from it. So the rounds begin again, but not more
 * often than every AGAIN_MS: a network that returns our own frames does it each time.
 *
 * Invariant: only a node whose output may leave announces. A protected primary may have been
 * overtaken while its process was stopped. So it needs fresh proof of the secondary, as for every
 * frame (traffic.h).
 */
#include "colo/node/announce.h"

#include "common/clock.h"
#include "common/timer.h"

#define AGAIN_MS 2000

struct Announce {
    const Config *config; /* borrowed */
    AnnounceHandler handler;
    gpointer user_data;
    GSource *timer;
    guint64 volleys, rounds; /* those under way: had, and to be had */
    ColoTime began;
    gboolean owed;  /* when this node's output may leave again */
    gboolean again; /* there is reason to begin again, when it is time */
};

gint64 announce_wait_us(const Config *config, guint64 volley)
{
    guint64 wait_ms = config->announce_initial_ms + (volley - 1) * config->announce_step_ms;
    return (gint64)MIN(wait_ms, config->announce_max_ms) * COLO_US_PER_MS;
}

AnnounceRight announce_right(FsmState state, gboolean is_fresh)
{
    switch (state) {
    case FSM_S_DEVICE:
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        return ANNOUNCE_ALLOWED;
    case FSM_P_COLO:
        return is_fresh ? ANNOUNCE_ALLOWED : ANNOUNCE_UNPROVEN;
    default:
        return ANNOUNCE_NOT;
    }
}

static AnnounceRight look(const Announce *announce)
{
    return announce->handler.look(announce->user_data);
}

static void plan(Announce *announce, ColoTime now)
{
    gint64 next_us = -1;
    if (announce->volleys < announce->rounds)
        next_us = colo_time_add_us(now, announce_wait_us(announce->config, announce->volleys)).us;
    else if (announce->again)
        next_us = colo_time_add_us(announce->began, AGAIN_MS * COLO_US_PER_MS).us;
    colo_timer_set_us(announce->timer, next_us);
}

static void volley(Announce *announce)
{
    if (look(announce) == ANNOUNCE_ALLOWED)
        announce->handler.volley(announce->user_data);
    announce->volleys++;
    plan(announce, colo_time_now());
}

void announce_start(Announce *announce)
{
    announce->volleys = 0;
    announce->rounds = announce->config->announce_rounds;
    announce->again = announce->owed = FALSE;
    announce->began = colo_time_now();
    volley(announce);
}

void announce_when_possible(Announce *announce)
{
    /* A node that first needs a sign of the secondary has it before the rounds end. */
    announce->owed = look(announce) == ANNOUNCE_NOT;
    if (!announce->owed)
        announce_start(announce);
}

void announce_if_owed(Announce *announce)
{
    if (announce->owed)
        announce_when_possible(announce);
}

void announce_elsewhere(Announce *announce, unsigned nic)
{
    if (announce->again)
        return;
    announce->handler.elsewhere(nic, announce->user_data);
    announce->again = TRUE;
    if (announce->volleys >= announce->rounds)
        plan(announce, colo_time_now());
}

static gboolean on_timer(gpointer user_data)
{
    Announce *announce = user_data;
    if (announce->volleys < announce->rounds)
        volley(announce);
    else
        announce_start(announce);
    return G_SOURCE_CONTINUE;
}

void announce_end(Announce *announce)
{
    announce->volleys = announce->rounds;
    announce->again = FALSE;
    colo_timer_set_us(announce->timer, -1);
}

gboolean announce_is_planned(const Announce *announce)
{
    return colo_timer_due_us(announce->timer) != -1;
}

gboolean announce_is_repeated(const Announce *announce)
{
    return announce->again;
}

Announce *announce_new(const Config *config, const AnnounceHandler *handler, gpointer user_data)
{
    Announce *announce = g_new0(Announce, 1);
    announce->config = config;
    announce->handler = *handler;
    announce->user_data = user_data;
    announce->timer = colo_timer_new(on_timer, announce);
    announce_end(announce);
    return announce;
}

void announce_free(Announce *announce)
{
    if (!announce)
        return;
    g_source_destroy(announce->timer);
    g_source_unref(announce->timer);
    g_free(announce);
}
