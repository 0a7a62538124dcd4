/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that tells the network where the guest is: when, and how often.
 *
 * It owns the rounds and their timer. It doesn't own the cards, whose addresses a volley consists
 * of, nor the node's state. Its creator says whether the guest may be announced from here.
 *
 * Always holds: nothing is announced unless AnnounceHandler.look returns ANNOUNCE_ALLOWED.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_ANNOUNCE_H
#define COLO_COLO_NODE_ANNOUNCE_H

#include "colo/config/config.h"
#include "colo/node/fsm.h"

typedef struct Announce Announce;

typedef enum {
    ANNOUNCE_NOT,      /* the guest's output doesn't leave here */
    ANNOUNCE_UNPROVEN, /* it may, as soon as the secondary has sent something again */
    ANNOUNCE_ALLOWED,
} AnnounceRight;

/* Called on the main loop, and from within the functions below. */
typedef struct {
    AnnounceRight (*look)(gpointer user_data);
    /* Sends an announcement of each address, on each card. */
    void (*volley)(gpointer user_data);
    /* For administrators: another host has sent as the guest, on card `nic`. */
    void (*elsewhere)(unsigned nic, gpointer user_data);
} AnnounceHandler;

/* Pure. `is_fresh`: there is proof that the secondary was there a moment ago. */
AnnounceRight announce_right(FsmState state, gboolean is_fresh);
/* What passes between volley number `volley` (from 1) and the next one. Pure. */
gint64 announce_wait_us(const Config *config, guint64 volley);

/* `config` is borrowed, and read again for each volley. */
Announce *announce_new(const Config *config, const AnnounceHandler *handler, gpointer user_data);
void announce_free(Announce *announce);

/* Tells the network where the guest is: now, and again some times. */
void announce_start(Announce *announce);
/* The same as soon as this node may: it calls announce_if_owed() then. */
void announce_when_possible(Announce *announce);
void announce_if_owed(Announce *announce);
/* No output leaves here any more. */
void announce_end(Announce *announce);
/* A frame has come from the network whose source address is the guest's. */
void announce_elsewhere(Announce *announce, unsigned nic);

/* Volleys are to come, or the rounds are to begin anew. */
gboolean announce_is_planned(const Announce *announce);
/* The rounds are to begin anew, when it is time. */
gboolean announce_is_repeated(const Announce *announce);

#endif
