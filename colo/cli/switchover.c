/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo switchover`: the order, and its result. The order is answered at once; its status is looked
 * at until that is one of the ends. Nothing is undone when the wait ends.
 */
#include <stdio.h>
#include <string.h>

#include "colo/cli/cli.h"
#include "common/clock.h"
#include "common/json.h"

/* Events end the wait between two looks earlier. */
#define LOOK_MS 200

static json_object *at(json_object *object, const char *name)
{
    json_object *value = NULL;
    return json_object_object_get_ex(object, name, &value) ? value : NULL;
}

static const char *text_at(json_object *object, const char *name, const char *otherwise)
{
    json_object *value = at(object, name);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : otherwise;
}

/* "disks, uplink" */
static char *pending_of(json_object *now)
{
    json_object *pending = at(now, "ack-pending");
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

SwitchoverOutcome cli_switchover_outcome(json_object *now, char **ret_text)
{
    const char *status = text_at(now, "status", "none");
    const char *error = text_at(now, "error", NULL);
    json_object *ms = at(now, "downtime-ms");
    if (!strcmp(status, "completed")) {
        *ret_text =
            ms ? g_strdup_printf("the other node has taken the VM, %.1f ms after it was paused",
                                 json_object_get_double(ms))
               : g_strdup("the VM runs on this node");
        return SWITCHOVER_IS_DONE;
    }
    if (!strcmp(status, "cancelled")) {
        *ret_text = g_strdup("cancelled: the VM runs where it ran");
        return SWITCHOVER_IS_NOT_DONE;
    }
    if (!strcmp(status, "failed") || !strcmp(status, "none")) {
        *ret_text = g_strdup_printf("failed: %s", error ? error : "colod does not say why");
        return SWITCHOVER_IS_NOT_DONE;
    }
    *ret_text = what_it_waits_for(now, status);
    return SWITCHOVER_IS_UNDER_WAY;
}

static gboolean await(CliConnection *connection, char **ret_text, GError **error)
{
    ColoTime started = colo_time_now();
    g_autofree char *shown = NULL;
    for (;;) {
        gboolean ok = FALSE;
        g_autofree char *text = NULL;
        json_object *now = cli_execute(connection, "query-switchover", NULL, &ok, error);
        if (!ok)
            return FALSE;
        SwitchoverOutcome outcome = cli_switchover_outcome(now, &text);
        json_object_put(now);
        if (outcome == SWITCHOVER_IS_DONE) {
            *ret_text = g_steal_pointer(&text);
            return TRUE;
        }
        if (outcome == SWITCHOVER_IS_NOT_DONE) {
            g_set_error_literal(error, CLI_ERROR, CLI_ERROR_COMMAND, text);
            return FALSE;
        }
        if (colo_time_diff_us(colo_time_now(), started) > G_USEC_PER_SEC &&
            g_strcmp0(shown, text) != 0) {
            fprintf(stderr, "colo: waiting for %s\n", text);
            g_free(shown);
            shown = g_steal_pointer(&text);
        }
        json_object_put(cli_next_event(connection, LOOK_MS, error));
        if (error && *error)
            return FALSE;
    }
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
    return ok && (!wait || await(connection, ret_text, error));
}
