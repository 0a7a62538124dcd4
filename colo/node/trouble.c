/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What went wrong last, on this node and on the peer. Each reports it to the other, so that either
 * can be asked why there is no protection. It is over when the VM is protected (again). That a node
 * ends in order, or takes no peer for the moment, is no trouble.
 */
#include "colo/node/trouble.h"

#include "common/log.h"

#include <string.h>

struct Trouble {
    TroubleHandler handler;
    gpointer user_data;
    GError *last;
    gint64 last_at; /* wall clock, for people */
    char *peers;    /* NULL: none */
    gint64 peers_at;
};

void trouble_report(Trouble *trouble, const char *what, const GError *error)
{
    log_error("%s: %s", what, error->message);
    /* It may be what is reported. */
    GError *last = g_error_copy(error);
    g_prefix_error(&last, "%s: ", what);
    g_clear_error(&trouble->last);
    trouble->last = last;
    trouble->last_at = g_get_real_time();
    trouble->handler.happened(last->message, trouble->user_data);
}

void trouble_report_once(Trouble *trouble, const char *what, const GError *error)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, error->message);
    if (!trouble->last || strcmp(trouble->last->message, text) != 0)
        trouble_report(trouble, what, error);
}

void trouble_received(Trouble *trouble, const char *peer, const char *text)
{
    if (!g_strcmp0(text, trouble->peers))
        return; /* a failure's reason comes twice */
    log_warning("%s reports: %s", peer, text);
    trouble->handler.reported(peer, text, trouble->user_data);
    g_free(trouble->peers);
    trouble->peers = g_strdup(text);
    trouble->peers_at = g_get_real_time();
}

void trouble_is_over(Trouble *trouble)
{
    g_clear_error(&trouble->last);
    g_clear_pointer(&trouble->peers, g_free);
}

const GError *trouble_last(const Trouble *trouble)
{
    return trouble->last;
}

const char *trouble_of_peer(const Trouble *trouble)
{
    return trouble->peers;
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

void trouble_add_status(const Trouble *trouble, json_object *status, json_object *peer)
{
    const char *text = trouble->last ? trouble->last->message : NULL;
    json_object_object_add(peer, "last-error", describe(trouble->peers, trouble->peers_at));
    json_object_object_add(status, "last-error", describe(text, trouble->last_at));
}

Trouble *trouble_new(const TroubleHandler *handler, gpointer user_data)
{
    Trouble *trouble = g_new0(Trouble, 1);
    trouble->handler = *handler;
    trouble->user_data = user_data;
    return trouble;
}

void trouble_free(Trouble *trouble)
{
    if (!trouble)
        return;
    trouble_is_over(trouble);
    g_free(trouble);
}
