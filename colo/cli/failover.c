/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo failover`: the order, and its result. colod's answer to the order comes before the
 * failover, so its status is watched until that shows one of the ends. Nothing is undone when the
 * wait ends: the order stays in force.
 */
#include <string.h>

#include "colo/cli/cli.h"
#include "common/json.h"

/* How long it may take until somebody has decided. */
#define PATIENCE_S 60

static gboolean is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(text, *list))
            return TRUE;
    return FALSE;
}

/* States of a primary that serves its clients, and of a secondary that has given up its copy. */
static const char *const serving[] = {"none", "setup", "active", "colo", NULL};
static const char *const followed[] = {"setup", "active", "colo", NULL};
static const char *const given_up[] = {"none", "setup", "active", NULL};

/* Asked on the primary of a protected VM. */
static CliOutcome handing_over(json_object *before, json_object *now, char **ret_text)
{
    const char *state = colo_json_text(now, "state", "");
    const char *peer = colo_json_text(colo_json_at(before, "peer"), "name", "the peer");
    const char *error = colo_json_text(colo_json_at(now, "last-error"), "text", NULL);
    if (!strcmp(colo_json_text(now, "role", ""), "secondary")) {
        gboolean linked =
            json_object_get_boolean(colo_json_at(colo_json_at(now, "peer"), "connected"));
        if (linked && is_one_of(state, followed)) {
            *ret_text = g_strdup_printf("taken over by %s", peer);
            return CLI_DONE;
        }
        *ret_text = g_strdup_printf("%s takes over; waiting for its confirmation", peer);
        return CLI_WAITS;
    }
    /* It left this state when the order was answered. */
    if (is_one_of(state, given_up) || !strcmp(state, "colo")) {
        *ret_text = g_strdup_printf("refused, the VM stays on this node: %s",
                                    error ? error : "the secondary could not take it");
        return CLI_REFUSED;
    }
    *ret_text = g_strdup_printf("%s is asked to take over", peer);
    return CLI_WAITS;
}

CliOutcome cli_failover_outcome(json_object *before, json_object *now, char **ret_text)
{
    const char *role = colo_json_text(now, "role", ""), *state = colo_json_text(now, "state", "");
    const char *node = colo_json_text(now, "node", "this node");
    const char *peer = colo_json_text(colo_json_at(now, "peer"), "name", "the peer");
    gboolean was_primary = !strcmp(colo_json_text(before, "role", ""), "primary");
    if (was_primary && !strcmp(colo_json_text(before, "state", ""), "colo"))
        return handing_over(before, now, ret_text);
    if (!strcmp(role, "primary") && is_one_of(state, serving)) {
        *ret_text = g_strdup_printf(was_primary ? "%s continues alone" : "taken over by %s", node);
        return CLI_DONE;
    }
    if ((was_primary && (!strcmp(role, "secondary") || !strcmp(state, "frozen"))) ||
        (!was_primary && is_one_of(state, given_up))) {
        *ret_text = g_strdup_printf("refused: the VM is %s's", peer);
        return CLI_REFUSED;
    }
    const char *waits = colo_json_text(colo_json_at(now, "waiting"), "for", NULL);
    *ret_text = waits                      ? g_strdup(waits)
                : !strcmp(state, "device") ? g_strdup("the VM to continue here")
                                           : g_strdup_printf("%s to decide", peer);
    return CLI_WAITS;
}

static CliOutcome look(json_object *now, gpointer before, char **ret_text)
{
    return cli_failover_outcome(before, now, ret_text);
}

static gboolean await(CliConnection *connection, json_object *before, char **ret_text,
                      GError **error)
{
    g_autofree char *text = NULL;
    gint64 ms;
    if (!cli_await(connection, "status", PATIENCE_S, look, before, &text, &ms, error))
        return FALSE;
    *ret_text = g_strdup_printf("%s in %" G_GINT64_FORMAT " ms", text, ms);
    return TRUE;
}

gboolean cli_failover(const char *path, gboolean force, gboolean wait, char **ret_text,
                      GError **error)
{
    g_autoptr(CliConnection) connection = cli_connect(path, error);
    if (!connection)
        return FALSE;
    gboolean ok = FALSE;
    json_object *before = cli_execute(connection, "status", NULL, &ok, error);
    if (!ok)
        return FALSE;
    json_object *arguments = json_object_new_object();
    if (force)
        colo_json_add_bool(arguments, "force", TRUE);
    json_object_put(cli_execute(connection, "failover", arguments, &ok, error));
    *ret_text = NULL;
    ok = ok && (!wait || await(connection, before, ret_text, error));
    json_object_put(before);
    return ok;
}
