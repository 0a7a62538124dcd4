/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options that change while the node runs. Those of the pair have one value on both nodes: `set`
 * works on either, and a takeover changes nothing. The primary's values count. It sends all of them
 * when a secondary comes and after each change. It treats what an administrator has set on the
 * secondary as if it had been set here. So both agree, whoever has changed what, and in whatever
 * order the messages cross. Without a peer a node's own change holds until a primary sends
 * otherwise.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

static void emit_changed(Node *node, const char *name, json_object *change, const char *by)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "name", json_object_new_string(name));
    json_object_object_foreach(change, member, value)
        json_object_object_add(data, member, json_object_get(value));
    json_object_object_add(data, "by", json_object_new_string(by));
    node_emit(node, "OPTION_CHANGED", data);
}

/* Has everything that an option counts for know of its new value. */
static void take_effect(Node *node, const char *name)
{
    const Config *config = node->config;
    if (g_str_has_prefix(name, "heartbeat-"))
        link_set_heartbeat(node->link, (guint)config->heartbeat_interval_ms,
                           (guint)config->heartbeat_timeout_ms);
    link_set_handshake_timeout(node->link, (guint)config->recover_timeout_ms);
    log_set_level(config->log_level);
    disks_limit_sync_rate(node->disks);
    judge_tune(node->judge);
    clock_look(node->clock);
    /* An epoch is of one mode. */
    if (!strcmp(name, "mode") && node->state == FSM_P_COLO)
        primary_want(node->primary, REASON_ADMIN);
    primary_tune(node->primary);
}

static void tell_peer(const Node *node, const char *text)
{
    message_send(node->link, &(Message){.type = LINK_MSG_OPTIONS, .text = text});
}

void node_options_tell(const Node *node)
{
    g_autofree char *text = config_pair_text(node->config);
    tell_peer(node, text);
}

/* ---- The peer's word ---- */

static void take_over_changes(Node *node, json_object *changed)
{
    gboolean primary = fsm_is_primary(node->state);
    json_object_object_foreach(changed, name, change)
    {
        const char *value = json_object_get_string(json_object_object_get(change, "value"));
        const char *before = json_object_get_string(json_object_object_get(change, "before"));
        if (primary)
            log_info("%s set to %s on the secondary", name, value);
        else
            log_info("%s is %s from now on, as on the primary; it was %s here", name, value,
                     before);
        take_effect(node, name);
        emit_changed(node, name, change, "peer");
    }
}

gboolean node_options_received(Node *node, const char *text, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_object *changed = NULL;
    gboolean primary = fsm_is_primary(node->state);
    if (config_set_pair(node->config, text, &changed, &why)) {
        take_over_changes(node, changed);
        json_object_put(changed);
    } else if (!primary || !g_error_matches(why, CONFIG_ERROR, CONFIG_ERROR_VALUE)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "options of the pair: %s",
                    why->message);
        return FALSE;
    } else {
        /* It was right there, but together with what has changed here meanwhile it isn't. */
        log_warning("what was set on the secondary does not count: %s", why->message);
    }
    if (primary)
        node_options_tell(node);
    return TRUE;
}

/* ---- Commands ---- */

static void fail(ControlRequest *request, GError *error)
{
    control_fail(request, error);
    g_error_free(error);
}

static json_object *scope_of(const char *key)
{
    return key ? json_object_new_string(config_is_of_pair(key) ? "pair" : "node") : NULL;
}

void do_get(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Node *node = user_data;
    const char *name = json_object_get_string(json_object_object_get(arguments, "name"));
    if (!name) {
        control_reply(request, config_list(node->config));
        return;
    }
    GError *error = NULL;
    g_autofree char *value = config_get(node->config, name, &error);
    if (!value) {
        fail(request, error);
        return;
    }
    json_object *result = json_object_new_object();
    json_object_object_add(result, "value", json_object_new_string(value));
    json_object_object_add(result, "scope", scope_of(config_live_key(node->config, name)));
    control_reply(request, result);
}

void do_set(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Node *node = user_data;
    const char *given = json_object_get_string(json_object_object_get(arguments, "name"));
    const char *text = json_object_get_string(json_object_object_get(arguments, "value"));
    GError *error = NULL;
    g_autofree char *before = config_get(node->config, given, NULL);
    if (!config_set(node->config, given, text, &error)) {
        fail(request, error);
        return;
    }
    const char *name = config_live_key(node->config, given);
    g_autofree char *value = config_get(node->config, name, NULL);
    log_info("%s set to %s", name, value);
    take_effect(node, name);
    json_object *change = json_object_new_object();
    json_object_object_add(change, "value", json_object_new_string(value));
    json_object_object_add(change, "before", json_object_new_string(before));
    emit_changed(node, name, change, "here");
    gboolean told = config_is_of_pair(name) && link_is_up(node->link);
    if (told) {
        g_autofree char *line = g_strdup_printf("%s=%s\n", name, value);
        tell_peer(node, line);
    }
    json_object_put(change);
    json_object *result = json_object_new_object();
    json_object_object_add(result, "name", json_object_new_string(name));
    json_object_object_add(result, "value", json_object_new_string(value));
    json_object_object_add(result, "scope", scope_of(name));
    json_object_object_add(result, "node", json_object_new_string(node->config->name));
    json_object_object_add(result, "peer-told", json_object_new_boolean(told));
    control_reply(request, result);
}
