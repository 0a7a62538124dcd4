/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo switchover`: the order, and its result. The order is answered at once; its status is looked
 * at until that is one of the ends. Nothing is undone when the wait ends.
 */
#include <string.h>

#include "colo/cli/cli.h"
#include "common/json.h"

/* "disks, uplink" */
static char *pending_of(json_object *now)
{
    json_object *pending = colo_json_at(now, "ack-pending");
    GString *text = g_string_new(NULL);
    gsize n = json_object_is_type(pending, json_type_array) ? json_object_array_length(pending) : 0;
    for (gsize i = 0; i < n; i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "",
                               json_object_get_string(json_object_array_get_idx(pending, i)));
    return g_string_free(text, FALSE);
}

static char *what_it_waits_for(json_object *now, const char *status)
{
    g_autofree char *pending = pending_of(now);
    if (!strcmp(status, "setup"))
        return g_strdup_printf("the secondary to approve%s%s", *pending ? " of: " : "", pending);
    if (!strcmp(status, "active"))
        return g_strdup("less memory to be left to send (downtime-limit)");
    if (!strcmp(status, "pre-switchover"))
        return g_strdup("an order, with the VM paused: colo continue, or colo cancel");
    return g_strdup_printf("the end of status %s", status);
}

CliOutcome cli_switchover_outcome(json_object *now, char **ret_text)
{
    const char *status = colo_json_text(now, "status", "none");
    const char *error = colo_json_text(now, "error", NULL);
    json_object *ms = colo_json_at(now, "downtime-ms");
    if (!strcmp(status, "completed")) {
        *ret_text =
            ms ? g_strdup_printf("the other node has taken the VM, %.1f ms after it was paused",
                                 json_object_get_double(ms))
               : g_strdup("the VM runs on this node");
        return CLI_DONE;
    }
    if (!strcmp(status, "cancelled")) {
        *ret_text = g_strdup("cancelled: the VM runs where it ran");
        return CLI_REFUSED;
    }
    if (!strcmp(status, "failed") || !strcmp(status, "none")) {
        *ret_text = g_strdup_printf("failed: %s", error ? error : "colod does not say why");
        return CLI_REFUSED;
    }
    *ret_text = what_it_waits_for(now, status);
    return CLI_WAITS;
}

static CliOutcome look(json_object *now, gpointer user_data, char **ret_text)
{
    (void)user_data;
    return cli_switchover_outcome(now, ret_text);
}

gboolean cli_switchover(const char *path, gboolean pause, gboolean wait, char **ret_text,
                        GError **error)
{
    g_autoptr(CliConnection) connection = cli_connect(path, error);
    if (!connection)
        return FALSE;
    gboolean ok = FALSE;
    json_object *arguments = json_object_new_object();
    if (pause)
        colo_json_add_bool(arguments, "pause", TRUE);
    json_object_put(cli_execute(connection, "switchover", arguments, &ok, error));
    *ret_text = NULL;
    return ok && (!wait ||
                  cli_await(connection, "query-switchover", 0, look, NULL, ret_text, NULL, error));
}
