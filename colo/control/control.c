/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket's server: the unix socket, the commands, the events. docs/CONTROL.md is the
 * reference. Lenient where QMP is strict: commands work without qmp_capabilities; a client gets
 * events from its first command on.
 *
 * Failure: a client that connects when CONTROL_CLIENTS_MAX are there, or when we are out of
 * descriptors, is turned away (in the first case with an error). Nothing a client does reaches
 * beyond its connection.
 */
#include "colo/control/control.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/control/control_internal.h"
#include "colo/control/fdsets.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/unix-listen.h"

G_DEFINE_QUARK(control_error, control_error)

#define ACCEPT_RETRY_MS 100

struct Control {
    UnixListen listen;
    guint source; /* accepting, or waiting to try again */
    const ControlCommand *commands;
    gpointer user_data;
    GPtrArray *clients; /* of ControlClient*, a reference each */
    FdSets *fdsets;
    GPtrArray *events; /* of char*: the last ones, oldest first */
    guint64 sequence;  /* of the last event; the first is 1 */
};

struct ControlRequest {
    ControlClient *client;
    json_object *id; /* NULL: none was given (or null, which is the same) */
    gboolean has_id;
    gboolean overtakes;
    ControlDescriptor came;
};

/* ---- Lines of JSON ---- */

/* One line of valid UTF-8, whatever is quoted in it. Drops the reference. */
static char *to_line(json_object *object)
{
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE);
    char *line = g_utf8_make_valid(text, -1);
    json_object_put(object);
    return line;
}

static json_object *version(void)
{
    g_auto(GStrv) parts = g_strsplit(COLO_VERSION ".0.0", ".", 4);
    json_object *numbers = json_object_new_object();
    colo_json_add_int(numbers, "major", atoi(parts[0]));
    colo_json_add_int(numbers, "minor", atoi(parts[1]));
    colo_json_add_int(numbers, "micro", atoi(parts[2]));
    json_object *result = json_object_new_object();
    /* QMP clients look for this member; the package tells whose version it is. */
    json_object_object_add(result, "qemu", numbers);
    colo_json_add_string(result, "package", "colo " COLO_VERSION);
    return result;
}

char *control_greeting(void)
{
    json_object *qmp = json_object_new_object();
    json_object_object_add(qmp, "version", version());
    json_object *capabilities = json_object_new_array();
    json_object_array_add(capabilities, json_object_new_string("oob"));
    json_object_object_add(qmp, "capabilities", capabilities);
    json_object *greeting = json_object_new_object();
    json_object_object_add(greeting, "QMP", qmp);
    return to_line(greeting);
}

static json_object *error_object(const char *class, const char *text)
{
    json_object *inner = json_object_new_object();
    colo_json_add_string(inner, "class", class);
    colo_json_add_string(inner, "desc", text);
    json_object *object = json_object_new_object();
    json_object_object_add(object, "error", inner);
    return object;
}

/* ---- Answers ---- */

static ControlRequest *request_new(ControlClient *client, json_object *message,
                                   ControlDescriptor *came, gboolean overtakes)
{
    ControlRequest *request = g_new0(ControlRequest, 1);
    request->client = control_client_ref(client);
    request->has_id = json_object_object_get_ex(message, "id", &request->id);
    json_object_get(request->id);
    request->overtakes = overtakes;
    request->came = *came;
    *came = CONTROL_NO_DESCRIPTOR;
    return request;
}

/* Sends the answer (owned) and ends the request. */
static void answer(ControlRequest *request, json_object *object)
{
    if (request->has_id)
        json_object_object_add(object, "id", json_object_get(request->id));
    g_autofree char *line = to_line(object);
    control_client_send(request->client, line);
    control_client_answered(request->client, request->overtakes);
    control_client_unref(request->client);
    json_object_put(request->id);
    control_descriptor_clear(&request->came);
    g_free(request);
}

void control_reply(ControlRequest *request, json_object *result)
{
    json_object *object = json_object_new_object();
    json_object_object_add(object, "return", result ? result : json_object_new_object());
    answer(request, object);
}

void control_fail(ControlRequest *request, const GError *error)
{
    gboolean unknown = g_error_matches(error, CONTROL_ERROR, CONTROL_ERROR_COMMAND);
    answer(request, error_object(unknown ? "CommandNotFound" : "GenericError", error->message));
}

void control_execute_failed(ControlClient *client, const char *why)
{
    g_autofree char *line = to_line(error_object("GenericError", why));
    control_client_send(client, line);
}

/* ---- Commands of the server itself ---- */

static void do_capabilities(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    json_object *enable = json_object_object_get(arguments, "enable");
    gsize n = enable ? json_object_array_length(enable) : 0;
    for (gsize i = 0; i < n; i++) {
        json_object *name = json_object_array_get_idx(enable, i);
        if (json_object_is_type(name, json_type_string) &&
            !strcmp(json_object_get_string(name), "oob"))
            continue;
        g_autoptr(GError) error =
            g_error_new(CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                        "qmp_capabilities: there is no capability %s to be enabled, only \"oob\"",
                        json_object_to_json_string(name));
        control_fail(request, error);
        return;
    }
    if (n > 0)
        control_client_set_oob(request->client);
    control_reply(request, NULL);
}

static void do_version(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    control_reply(request, version());
}

/* ---- Descriptors ---- */

/* The one that came with the command, moved out of it; -1 and an error if not exactly one did. */
static int take_descriptor(ControlRequest *request, GError **error)
{
    if (request->came.wrong)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "add-fd: the descriptor can't be used: %s", request->came.wrong);
    else if (request->came.fd < 0)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "add-fd: no descriptor came with the command: send one with its bytes "
                    "(SCM_RIGHTS)");
    return colo_fd_steal(&request->came.fd);
}

static gint64 number(json_object *arguments, const char *name)
{
    json_object *value = NULL;
    return json_object_object_get_ex(arguments, name, &value) ? json_object_get_int64(value)
                                                              : FDSETS_ANY;
}

static void do_add_fd(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Control *control = user_data;
    g_autoptr(GError) error = NULL;
    int fd = take_descriptor(request, &error);
    gint64 id = -1;
    if (fd >= 0)
        id =
            fdsets_add(control->fdsets, number(arguments, "fdset-id"), fd,
                       json_object_get_string(json_object_object_get(arguments, "opaque")), &error);
    if (id < 0) {
        control_fail(request, error);
        return;
    }
    json_object *result = json_object_new_object();
    colo_json_add_int(result, "fdset-id", id);
    colo_json_add_int(result, "fd", fd);
    control_reply(request, result);
}

static void do_remove_fd(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Control *control = user_data;
    g_autoptr(GError) error = NULL;
    if (fdsets_remove(control->fdsets, number(arguments, "fdset-id"), number(arguments, "fd"),
                      &error))
        control_reply(request, NULL);
    else
        control_fail(request, error);
}

static void do_fdsets(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Control *control = user_data;
    control_reply(request, fdsets_describe(control->fdsets));
}

/* ---- The table of these ---- */

static void do_commands(ControlRequest *request, json_object *arguments, gpointer user_data);
static void do_events(ControlRequest *request, json_object *arguments, gpointer user_data);

static const ControlCommand own_commands[] = {
    {"qmp_capabilities", do_capabilities, "enable:array?",                "Ends QMP's negotiation.",              FALSE},
    {"query-version",    do_version,      "",                             "Tells the version.",                   FALSE},
    {"query-commands",   do_commands,     "",                             "Lists the commands.",                  FALSE},
    {"query-events",     do_events,       "since:int?",
     "Tells the last events, of those after the one with sequence number 'since'.",                               FALSE},
    {"add-fd",           do_add_fd,       "fdset-id:int? opaque:string?",
     "Keeps the descriptor that comes with the command.",                                                         FALSE},
    {"remove-fd",        do_remove_fd,    "fdset-id:int fd:int?",
     "Closes a descriptor that was kept, or all of a set.",                                                       TRUE },
    {"query-fdsets",     do_fdsets,       "",                             "Lists the descriptors that are kept.", FALSE},
    {NULL,               NULL,            NULL,                           NULL,                                   FALSE},
};

static void list_commands(const ControlCommand *commands, json_object *list)
{
    for (const ControlCommand *c = commands; c->name; c++) {
        json_object *entry = json_object_new_object();
        colo_json_add_string(entry, "name", c->name);
        colo_json_add_string(entry, "arguments", c->arguments ? c->arguments : "");
        colo_json_add_string(entry, "help", c->help);
        json_object_object_add(entry, "oob", json_object_new_boolean(c->oob));
        json_object_array_add(list, entry);
    }
}

static void do_commands(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Control *control = user_data;
    json_object *list = json_object_new_array();
    list_commands(control->commands, list);
    list_commands(own_commands, list);
    control_reply(request, list);
}

static void do_events(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Control *control = user_data;
    json_object *since_object = NULL;
    gint64 since = 0;
    if (json_object_object_get_ex(arguments, "since", &since_object))
        since = json_object_get_int64(since_object);
    json_object *list = json_object_new_array();
    for (guint i = 0; i < control->events->len; i++) {
        guint64 sequence = control->sequence - control->events->len + 1 + i;
        if (since < 0 || sequence > (guint64)since)
            json_object_array_add(list, json_tokener_parse(g_ptr_array_index(control->events, i)));
    }
    control_reply(request, list);
}

/* ---- Running commands ---- */

static const ControlCommand *find_command(const ControlCommand *commands, const char *name)
{
    for (const ControlCommand *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

/* The form of a message: its members and their types. */
static gboolean check_message(json_object *message, GError **error)
{
    json_object_object_foreach(message, name, value)
    {
        const char *wrong = NULL;
        if (!strcmp(name, "execute") || !strcmp(name, "exec-oob"))
            wrong = json_object_is_type(value, json_type_string) ? NULL : "must be a string";
        else if (!strcmp(name, "arguments"))
            wrong = json_object_is_type(value, json_type_object) ? NULL : "must be an object";
        else if (strcmp(name, "id"))
            wrong = "is unknown: expected 'execute' or 'exec-oob', 'arguments' and 'id'";
        if (wrong) {
            g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT, "member '%s' %s", name,
                        wrong);
            return FALSE;
        }
    }
    gboolean in_order = json_object_object_get_ex(message, "execute", NULL);
    if (in_order != control_is_oob(message))
        return TRUE;
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT, "%s",
                in_order ? "there is both 'execute' and 'exec-oob': choose one"
                         : "member 'execute' is missing: the command's name");
    return FALSE;
}

/* Whether it may overtake others, as it asks to. */
static gboolean check_oob(const ControlCommand *command, gboolean enabled, GError **error)
{
    if (!enabled)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "'exec-oob' is not enabled: qmp_capabilities with \"enable\":[\"oob\"]");
    else if (!command->oob)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "%s can't be run by 'exec-oob': use 'execute'", command->name);
    else
        return TRUE;
    return FALSE;
}

/* The command that `message` asks for, checked with its arguments; NULL and an error if it's wrong.
 */
static const ControlCommand *look_up(const Control *control, json_object *message,
                                     gboolean overtakes, gboolean *ret_own, GError **error)
{
    if (!check_message(message, error))
        return NULL;
    gboolean oob = control_is_oob(message);
    const char *name =
        json_object_get_string(json_object_object_get(message, oob ? "exec-oob" : "execute"));
    const ControlCommand *command = find_command(own_commands, name);
    *ret_own = command != NULL;
    if (!command)
        command = find_command(control->commands, name);
    if (!command) {
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_COMMAND,
                    "The command %s has not been found (query-commands lists what there is)", name);
        return NULL;
    }
    if (oob && !check_oob(command, overtakes, error))
        return NULL;
    json_object *arguments = json_object_object_get(message, "arguments");
    return control_arguments_check(name, command->arguments, arguments, error) ? command : NULL;
}

gboolean control_is_oob(json_object *message)
{
    return json_object_object_get_ex(message, "exec-oob", NULL);
}

void control_execute(ControlClient *client, json_object *message, ControlDescriptor *came,
                     gboolean overtakes)
{
    Control *control = control_client_control(client);
    ControlRequest *request = request_new(client, message, came, overtakes);
    g_autoptr(GError) error = NULL;
    gboolean own = FALSE;

    control_client_set_wants_events(client);
    const ControlCommand *command = look_up(control, message, overtakes, &own, &error);
    if (!command) {
        control_fail(request, error);
        return;
    }
    json_object *arguments = json_object_object_get(message, "arguments");
    arguments = arguments ? json_object_get(arguments) : json_object_new_object();
    command->handler(request, arguments, own ? control : control->user_data);
    json_object_put(arguments);
}

/* ---- Events ---- */

void control_event(Control *control, const char *name, json_object *data)
{
    gint64 now_us = g_get_real_time();
    json_object *timestamp = json_object_new_object();
    colo_json_add_int(timestamp, "seconds", now_us / G_USEC_PER_SEC);
    colo_json_add_int(timestamp, "microseconds", now_us % G_USEC_PER_SEC);
    json_object *event = json_object_new_object();
    colo_json_add_string(event, "event", name);
    if (data)
        json_object_object_add(event, "data", data);
    json_object_object_add(event, "timestamp", timestamp);
    colo_json_add_int(event, "sequence", (gint64)++control->sequence);
    char *line = to_line(event);
    if (control->events->len == CONTROL_EVENTS_KEPT)
        g_ptr_array_remove_index(control->events, 0);
    g_ptr_array_add(control->events, line);
    /* Sending may end a client and take it out of the list: from the back. */
    for (guint i = control->clients->len; i-- > 0;) {
        ControlClient *client = g_ptr_array_index(control->clients, i);
        if (control_client_wants_events(client))
            control_client_send(client, line);
    }
}

/* ---- Clients ---- */

void control_forget(Control *control, ControlClient *client)
{
    if (g_ptr_array_remove_fast(control->clients, client))
        control_client_unref(client);
}

void control_add_client(Control *control, int fd)
{
    if (control->clients->len >= CONTROL_CLIENTS_MAX) {
        g_autofree char *line = to_line(
            error_object("GenericError", "there are too many clients: close one and try again"));
        g_autofree char *text = g_strconcat(line, "\r\n", NULL);
        /* To a fresh socket, which takes it; if not, the client is none the wiser. */
        if (send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            log_debug("control socket: turned a client away without an answer");
        close(fd);
        return;
    }
    ControlClient *client = control_client_new(control, fd);
    g_ptr_array_add(control->clients, client);
    g_autofree char *greeting = control_greeting();
    control_client_send(client, greeting);
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer user_data);

static void accept_more(Control *control)
{
    control->source = g_unix_fd_add(control->listen.fd, G_IO_IN, on_connection, control);
}

static gboolean on_accept_retry(gpointer user_data)
{
    accept_more(user_data);
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)condition;
    Control *control = user_data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) {
        control_add_client(control, client);
        return G_SOURCE_CONTINUE;
    }
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
        return G_SOURCE_CONTINUE;
    /* The connection stays in the queue, and polling would spin: look again a little later. */
    log_warning("control socket: %s: a client has to wait", g_strerror(errno));
    control->source = g_timeout_add(ACCEPT_RETRY_MS, on_accept_retry, control);
    return G_SOURCE_REMOVE;
}

Control *control_new(const char *path, const ControlCommand *commands, gpointer user_data,
                     GError **error)
{
    for (const ControlCommand *c = commands; c->name; c++)
        g_assert(control_arguments_spec_is_valid(c->arguments));
    g_autoptr(Control) control = g_new0(Control, 1);
    control->listen = UNIX_LISTEN_NONE;
    control->commands = commands;
    control->user_data = user_data;
    control->clients = g_ptr_array_new();
    control->events = g_ptr_array_new_with_free_func(g_free);
    control->fdsets = fdsets_new();
    g_autoptr(GError) why = NULL;
    if (!unix_listen_begin(&control->listen, path, "control-socket", &why)) {
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_SOCKET, "control socket %s: %s", path,
                    why->message);
        return NULL;
    }
    accept_more(control);
    return g_steal_pointer(&control);
}

int control_descriptor(const Control *control, gint64 set, const char *opaque, GError **error)
{
    return fdsets_get(control->fdsets, set, opaque, error);
}

void control_free(Control *control)
{
    if (!control)
        return;
    if (control->source)
        g_source_remove(control->source);
    while (control->clients->len > 0)
        control_client_close(g_ptr_array_index(control->clients, 0));
    unix_listen_end(&control->listen);
    g_ptr_array_unref(control->clients);
    g_ptr_array_unref(control->events);
    fdsets_free(control->fdsets);
    g_free(control);
}
