/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that remembers what went wrong last, on this node and on the peer.
 *
 * It owns both texts and when they came. Its creator decides whom to tell.
 *
 * Always holds: the handler reports each text once, when it is remembered.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_TROUBLE_H
#define COLO_COLO_NODE_TROUBLE_H

#include <glib.h>
#include <json-c/json.h>

typedef struct Trouble Trouble;

/* Called from within the functions below. */
typedef struct {
    /* For administrators and the peer: of this node. */
    void (*happened)(const char *text, gpointer user_data);
    /* For administrators: the peer has reported its own. */
    void (*reported)(const char *peer, const char *text, gpointer user_data);
} TroubleHandler;

Trouble *trouble_new(const TroubleHandler *handler, gpointer user_data);
void trouble_free(Trouble *trouble);

/* Remembers and logs an error; `what` goes before it. */
void trouble_report(Trouble *trouble, const char *what, const GError *error);
/* The same, unless that is the last error already: of what is tried again and again. */
void trouble_report_once(Trouble *trouble, const char *what, const GError *error);
/* The peer's, or the reason for which it has failed. `peer` is a name to be shown for it. */
void trouble_received(Trouble *trouble, const char *peer, const char *text);
/* The VM is protected: what was wrong before is no more. */
void trouble_is_over(Trouble *trouble);

/* Borrowed; NULL: none. */
const GError *trouble_last(const Trouble *trouble);
const char *trouble_of_peer(const Trouble *trouble);
/* Adds "last-error" of this node to `status`, and of the peer to `peer`. */
void trouble_add_status(const Trouble *trouble, json_object *status, json_object *peer);

#endif
