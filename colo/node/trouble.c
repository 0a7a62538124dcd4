/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What went wrong last, on this node and on the peer: each tells the other, so that either can be
 * asked why there is no protection. It is over when the VM is protected (again). That a node ends
 * in order, or takes no peer for the moment, is no trouble.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

/* A name to be shown for the peer. */
static const char *peer_called(const Node *node)
{
    return node->peer_name ? node->peer_name : "the peer";
}

void node_report(Node *node, const char *what, const GError *error)
{
    log_error("%s: %s", what, error->message);
    g_clear_error(&node->last_error);
    node->last_error = g_error_copy(error);
    g_prefix_error(&node->last_error, "%s: ", what);
    node->last_error_at = g_get_real_time();
    const char *text = node->last_error->message;
    if (node->link)
        message_send(node->link, &(Message){.type = LINK_MSG_TROUBLE, .text = text});
    json_object *data = json_object_new_object();
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(node, "ERROR", data);
}

void node_report_once(Node *node, const char *what, const GError *error)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, error->message);
    if (!node->last_error || strcmp(node->last_error->message, text) != 0)
        node_report(node, what, error);
}

void trouble_received(Node *node, const char *text)
{
    if (!g_strcmp0(text, node->peer_error))
        return; /* a failure's reason comes twice */
    log_warning("%s reports: %s", peer_called(node), text);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "peer", json_object_new_string(peer_called(node)));
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(node, "PEER_ERROR", data);
    g_free(node->peer_error);
    node->peer_error = g_strdup(text);
    node->peer_error_at = g_get_real_time();
}

void trouble_is_over(Node *node)
{
    g_clear_error(&node->last_error);
    g_clear_pointer(&node->peer_error, g_free);
}

static json_object *describe(const char *text, gint64 at)
{
    if (!text)
        return NULL;
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(at / G_USEC_PER_SEC);
    g_autofree char *when = g_date_time_format_iso8601(time);
    json_object *trouble = json_object_new_object();
    json_object_object_add(trouble, "text", json_object_new_string(text));
    json_object_object_add(trouble, "when", json_object_new_string(when));
    return trouble;
}

void trouble_add_status(const Node *node, json_object *status, json_object *peer)
{
    json_object_object_add(peer, "last-error", describe(node->peer_error, node->peer_error_at));
    json_object_object_add(
        status, "last-error",
        describe(node->last_error ? node->last_error->message : NULL, node->last_error_at));
}
