/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host on the guest's network (10.9.0.1; the guest is 10.9.0.2/24) that pings it, through a card that is
 * attached by vhost-user. It answers the guest's questions for its address, and counts the guest's replies.
 */
#ifndef COLO_TESTS_SUPPORT_PING_PEER_H
#define COLO_TESTS_SUPPORT_PING_PEER_H

#include "vm/vhost-card.h"

typedef struct {
    VhostCard *card; /* borrowed */
    guint8 mac[6];   /* the guest's */
    guint16 sequence;
    guint64 sent, answers, bad; /* bad: an answer with other bytes than were sent */
} PingPeer;

/* Takes the card's frames from now on. `mac` as in VmNic. */
void ping_peer_init(PingPeer *peer, VhostCard *card, const char *mac);
/* Sends one ping with `bytes` of data, up to 1,400. */
void ping_peer_ping(PingPeer *peer, gsize bytes);

#endif
