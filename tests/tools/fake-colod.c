/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake-colod SOCKET CONFIG STATUS: the control socket of a colod without one behind it, for tests
 * of `colo`. Options are those of the file CONFIG, the status is what is in the file STATUS.
 * Further commands: emit (an event of that name) and hang (never answers). Ends by `quit`.
 */
#include <stdio.h>
#include <stdlib.h>

#include "colo/config/config.h"
#include "colo/control/control.h"
#include "common/json.h"

typedef struct {
    Control *control;
    Config *config;
    const char *status_path;
    GMainLoop *loop;
} Fake;

static void fail(ControlRequest *request, GError *error)
{
    control_fail(request, error);
    g_error_free(error);
}

static const char *string_of(json_object *arguments, const char *name)
{
    return json_object_get_string(json_object_object_get(arguments, name));
}

static void do_status(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Fake *fake = user_data;
    control_reply(request, json_object_from_file(fake->status_path));
}

static void do_get(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Fake *fake = user_data;
    const char *name = string_of(arguments, "name");
    if (!name) {
        control_reply(request, config_list(fake->config));
        return;
    }
    GError *error = NULL;
    g_autofree char *value = config_get(fake->config, name, &error);
    if (!value) {
        fail(request, error);
        return;
    }
    json_object *result = json_object_new_object();
    colo_json_add_string(result, "value", value);
    control_reply(request, result);
}

static void do_set(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Fake *fake = user_data;
    GError *error = NULL;
    const char *name = string_of(arguments, "name"), *value = string_of(arguments, "value");
    if (!config_set(fake->config, name, value, &error)) {
        fail(request, error);
        return;
    }
    gboolean of_pair = config_is_of_pair(name);
    json_object *result = json_object_new_object();
    colo_json_add_string(result, "name", name);
    colo_json_add_string(result, "value", value);
    colo_json_add_string(result, "scope", of_pair ? "pair" : "node");
    colo_json_add_string(result, "node", fake->config->name);
    colo_json_add_bool(result, "peer-told", of_pair);
    control_reply(request, result);
}

static void do_checkpoint(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Fake *fake = user_data;
    control_event(fake->control, "CHECKPOINT", NULL);
    control_reply(request, NULL);
}

static void do_failover(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    if (json_object_get_boolean(json_object_object_get(arguments, "force")))
        control_reply(request, NULL);
    else
        fail(request, g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE,
                                  "failover: not in state none: wait for a peer"));
}

/* Says what it was asked, as an error: that is shown. */
static void do_capture_on(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    fail(request,
         g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE, "capture-on %s",
                     json_object_to_json_string_ext(arguments, JSON_C_TO_STRING_NOSLASHESCAPE)));
}

static void do_capture_off(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    control_reply(request, NULL);
}

static void do_emit(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Fake *fake = user_data;
    json_object *data = json_object_new_object();
    colo_json_add_string(data, "text", "a b\033[2J");
    colo_json_add_int(data, "epoch", 7);
    control_event(fake->control, string_of(arguments, "name"), data);
    control_reply(request, NULL);
}

static void do_hang(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)request, (void)arguments, (void)user_data;
}

static void do_quit(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Fake *fake = user_data;
    control_reply(request, NULL);
    g_main_loop_quit(fake->loop);
}

static const ControlCommand commands[] = {
    {"status",      do_status,      "",                         "Tells what is in a file.", FALSE},
    {"get",         do_get,         "name:string?",             "Tells options.",           FALSE},
    {"set",         do_set,         "name:string value:string", "Changes an option.",       FALSE},
    {"checkpoint",  do_checkpoint,  "",                         "Emits CHECKPOINT.",        FALSE},
    {"failover",    do_failover,    "force:bool?",              "Fails without force.",     FALSE},
    {"capture-on",  do_capture_on,  "file:string last:int?",    "Tells its arguments.",     FALSE},
    {"capture-off", do_capture_off, "",                         "Does nothing.",            FALSE},
    {"emit",        do_emit,        "name:string",              "Emits an event.",          FALSE},
    {"hang",        do_hang,        "",                         "Never answers.",           FALSE},
    {"quit",        do_quit,        "",                         "Ends.",                    FALSE},
    {NULL,          NULL,           NULL,                       NULL,                       FALSE},
};

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: fake-colod SOCKET CONFIG STATUS\n");
        return 2;
    }
    g_autoptr(GError) error = NULL;
    Fake fake = {.config = config_load(argv[2], "primary", &error), .status_path = argv[3]};
    if (fake.config)
        fake.control = control_new(argv[1], commands, &fake, &error);
    if (error) {
        fprintf(stderr, "fake-colod: %s\n", error->message);
        return 1;
    }
    fake.loop = g_main_loop_new(NULL, FALSE);
    g_main_loop_run(fake.loop);
    g_main_loop_unref(fake.loop);
    control_free(fake.control);
    config_free(fake.config);
    return 0;
}
