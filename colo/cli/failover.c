/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `colo failover`: the order, and its result. colod's answer to the order comes before the
 * failover, so its status is watched until that shows one of the ends. Nothing is undone when the
 * wait ends: the order stays in force.
 */
#include <stdio.h>
#include <string.h>

#include "colo/cli/cli.h"
#include "common/clock.h"
#include "common/json.h"

/* How long it may take until somebody has decided. */
#define PATIENCE_S 60
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
static FailoverOutcome handing_over(json_object *before, json_object *now, char **ret_text)
{
    const char *state = text_at(now, "state", "");
    const char *peer = text_at(at(before, "peer"), "name", "the peer");
    const char *error = text_at(at(now, "last-error"), "text", NULL);
    if (!strcmp(text_at(now, "role", ""), "secondary")) {
        gboolean linked = json_object_get_boolean(at(at(now, "peer"), "connected"));
        if (linked && is_one_of(state, followed)) {
            *ret_text = g_strdup_printf("taken over by %s", peer);
            return FAILOVER_DONE;
        }
        *ret_text = g_strdup_printf("%s takes over; waiting for its confirmation", peer);
        return FAILOVER_WAITS;
    }
    /* It left this state when the order was answered. */
    if (is_one_of(state, given_up) || !strcmp(state, "colo")) {
        *ret_text = g_strdup_printf("refused, the VM stays on this node: %s",
                                    error ? error : "the secondary could not take it");
        return FAILOVER_REFUSED;
    }
    *ret_text = g_strdup_printf("%s is asked to take over", peer);
    return FAILOVER_WAITS;
}

FailoverOutcome cli_failover_outcome(json_object *before, json_object *now, char **ret_text)
{
    const char *role = text_at(now, "role", ""), *state = text_at(now, "state", "");
    const char *node = text_at(now, "node", "this node");
    const char *peer = text_at(at(now, "peer"), "name", "the peer");
    gboolean was_primary = !strcmp(text_at(before, "role", ""), "primary");
    if (was_primary && !strcmp(text_at(before, "state", ""), "colo"))
        return handing_over(before, now, ret_text);
    if (!strcmp(role, "primary") && is_one_of(state, serving)) {
        *ret_text = g_strdup_printf(was_primary ? "%s continues alone" : "taken over by %s", node);
        return FAILOVER_DONE;
    }
    if ((was_primary && (!strcmp(role, "secondary") || !strcmp(state, "frozen"))) ||
        (!was_primary && is_one_of(state, given_up))) {
        *ret_text = g_strdup_printf("refused: the VM is %s's", peer);
        return FAILOVER_REFUSED;
    }
    const char *waits = text_at(at(now, "waiting"), "for", NULL);
    *ret_text = waits                      ? g_strdup(waits)
                : !strcmp(state, "device") ? g_strdup("the VM to continue here")
                                           : g_strdup_printf("%s to decide", peer);
    return FAILOVER_WAITS;
}

/* ---- Waiting ---- */

static gboolean give_up(const char *text, GError **error)
{
    g_set_error(error, CLI_ERROR, CLI_ERROR_COMMAND, "%s", text);
    return FALSE;
}

static gboolean await(CliConnection *connection, json_object *before, char **ret_text,
                      GError **error)
{
    ColoTime started = colo_time_now();
    g_autofree char *shown = NULL;
    for (;;) {
        gboolean ok = FALSE;
        g_autofree char *text = NULL;
        json_object *now = cli_execute(connection, "status", NULL, &ok, error);
        if (!ok)
            return FALSE;
        FailoverOutcome outcome = cli_failover_outcome(before, now, &text);
        json_object_put(now);
        gint64 us = colo_time_diff_us(colo_time_now(), started);
        if (outcome == FAILOVER_DONE) {
            *ret_text = g_strdup_printf("%s in %" G_GINT64_FORMAT " ms", text, us / COLO_US_PER_MS);
            return TRUE;
        }
        if (outcome == FAILOVER_REFUSED)
            return give_up(text, error);
        if (us > PATIENCE_S * G_USEC_PER_SEC) {
            g_autofree char *late = g_strdup_printf(
                "not decided within %d s; the order remains. It waits for: %s", PATIENCE_S, text);
            return give_up(late, error);
        }
        if (us > G_USEC_PER_SEC && g_strcmp0(shown, text) != 0) {
            fprintf(stderr, "colo: waiting for: %s\n", text);
            g_free(shown);
            shown = g_steal_pointer(&text);
        }
        json_object_put(cli_next_event(connection, LOOK_MS, error));
        if (error && *error)
            return FALSE;
    }
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
