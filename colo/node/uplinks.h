/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that knows whether clients can reach this host, and the peer's. It watches the
 * carrier of each card's uplink, and reports it to the peer. What follows from it for who continues
 * is decided by uplinks-watch.h.
 *
 * It owns the watch of the carriers, the last report of the peer about its own, and the timer of
 * the decision. It doesn't open or close an uplink, and it doesn't ask the arbiter.
 *
 * Always holds: what the peer has reported stays known after the link is lost, because it is needed
 * then. It is forgotten when there is a link again.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_UPLINKS_H
#define COLO_COLO_NODE_UPLINKS_H

#include "colo/config/config.h"
#include "colo/node/fsm.h"
#include "netcompare/netcompare.h"

typedef struct Uplinks Uplinks;

/* Facts that others own. */
typedef struct {
    FsmState state;
    gboolean copy_is_fit; /* the secondary could take a VM that is handed over */
} UplinksWorld;

/* Called on the main loop; `send` and `changed` also by the functions below. */
typedef struct {
    UplinksWorld (*look)(gpointer user_data);
    /* The interface of a card's tap, one that colod was started with; borrowed. */
    const char *(*tap)(guint card, gpointer user_data);
    /* To the peer: the cards that have no carrier here, a bit each. */
    void (*send)(guint64 cut, gpointer user_data);
    /* For administrators. */
    void (*changed)(guint card, gboolean has_carrier, gpointer user_data);
    /* A carrier is back: what was announced meanwhile has reached nobody. */
    void (*plugged_in)(gpointer user_data);
    /* The peer has carrier where this host has none: the VM is to move. */
    void (*hand_over)(gpointer user_data);
} UplinksHandler;

/* Looks at the carriers. NULL with NETCOMPARE_ERROR if they can't be watched. */
Uplinks *uplinks_new(const Config *config, const UplinksHandler *handler, gpointer user_data,
                     GError **error);
void uplinks_free(Uplinks *uplinks);

/* Something has changed that decides who is better. */
void uplinks_reconsider(Uplinks *uplinks);
/* The VM has moved here. */
void uplinks_vm_came(Uplinks *uplinks);
void uplinks_link_up(Uplinks *uplinks);
/* Before the state changes: how long to wait before the arbiter is asked, in milliseconds. */
guint uplinks_link_lost(Uplinks *uplinks, const GError *why);
/* Message of the peer. */
void uplinks_received(Uplinks *uplinks, guint64 cut);

/* The card's tap is there, and in its bridge if it has one. `tap` NULL: it has none. */
gboolean uplinks_is_in_place(const Uplinks *uplinks, guint card, const char *tap);

/* ---- For status and tests ---- */

UplinkCarrier uplinks_carrier(const Uplinks *uplinks, guint card);
gboolean uplinks_peer_has_carrier(const Uplinks *uplinks, guint card);
guint64 uplinks_cut(const Uplinks *uplinks);
guint64 uplinks_peer_cut(const Uplinks *uplinks);
/* Whether to hand the VM over is still to be decided. */
gboolean uplinks_is_deciding(const Uplinks *uplinks);

#endif
