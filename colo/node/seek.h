/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether, where and how this node looks for its peer. The state machine says what it would do
 * (accept or dial). An administrator may have paused the link, or want it elsewhere. This is where
 * both meet, so that neither state machine nor link knows of administrators.
 *
 *   pause      neither accepts nor dials, until `recover`. Who asks is told why. It outlives every
 *              change of state, and no restart of colod.
 *   recover    a node that dials: once, now, at the address given, and at most recover-timeout. If
 *              nobody is reached the node is as it was before, paused or not, and it is told. If
 *              somebody is, that address counts from then on; unless it was a set of sockets, which
 *              can be used once.
 *              A node that accepts: listens there, too, from then on.
 *
 * What is not a failure: that the peer takes nobody at the moment, or still has the last link. It is
 * asked again as long as there is time. While the arbiter is asked the state machine doesn't dial:
 * `recover` waits for that, too.
 */
#ifndef COLO_COLO_NODE_SEEK_H
#define COLO_COLO_NODE_SEEK_H

#include "colo/config/config.h"
#include "colo/link/link.h"

typedef enum { SEEK_NOBODY, SEEK_SECONDARY, SEEK_PRIMARY } SeekWish;

typedef struct {
    /* This side's part of the link's handshake; new reference. */
    json_object *(*hello)(gpointer user_data);
    /* `recover` has not led to a link; it is as before. */
    void (*recover_failed)(const char *uri, const char *why, gpointer user_data);
} SeekHandler;

typedef struct Seek Seek;

/* Both borrowed. */
Seek *seek_new(const Config *config, const SeekHandler *handler, gpointer user_data);
/* As soon as there is one, and before all else. Borrowed. */
void seek_attach(Seek *seek, Link *link);
void seek_free(Seek *seek);

/* What the state machine wants from now on; SEEK_NOBODY leaves the link as it is. */
void seek_wish(Seek *seek, SeekWish wish);
/* From the link: it is up; an attempt to dial has failed. */
void seek_linked(Seek *seek);
void seek_dial_failed(Seek *seek, const GError *why);

/* Orders of an administrator. A link that is up is the caller's to end. */
void seek_pause(Seek *seek);
/*
 * `dials`: as a secondary does. `uri` NULL: the configured address, and no other to listen on.
 * CONFIG_ERROR_VALUE or LINK_ERROR_ADDRESS: nothing has changed.
 */
gboolean seek_recover(Seek *seek, gboolean dials, const char *uri, GError **error);

gboolean seek_is_paused(const Seek *seek);
/* Borrowed: where it dials; where it tries to at the moment by an order (NULL: it doesn't). */
const char *seek_address(const Seek *seek);
const char *seek_recovering(const Seek *seek);
/* Where it listens besides the configured address; NULL: nowhere. */
const char *seek_listens_also(const Seek *seek);

#endif
