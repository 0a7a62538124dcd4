/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's disks (colo/node/disks.h) whose server and node are a test's: the test answers each
 * order, and raises each event. On a clock of its own (turned-clock.h). Include it in the one source
 * file of a test program, for it has block/server.h in it.
 */
#ifndef COLO_TESTS_SUPPORT_DISKS_BY_HAND_H
#define COLO_TESTS_SUPPORT_DISKS_BY_HAND_H

#include "colo/node/disks.h"
#include "tests/support/turned-clock.h"

#include <glib/gstdio.h>
#include <string.h>

/* ---- The server ---- */

typedef struct {
    char *name;
    guint64 epoch;
    guint timeout_ms;
    DiskServerDone done;
    gpointer user_data;
} Command;

struct DiskServer {
    DiskServerCallbacks callbacks;
    gpointer user_data;
    GPtrArray *commands; /* of Command*: those without an answer */
    gboolean ended;      /* in order */
};

static guint killed, waited; /* servers freed; asked to have ended */

static inline void free_command(gpointer data)
{
    Command *command = data;
    g_free(command->name);
    g_free(command);
}

void disk_server_command(DiskServer *server, const char *name, json_object *arguments,
                         guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    Command *command = g_new0(Command, 1);
    *command = (Command){
        .name = g_strdup(name),
        .epoch = json_object_get_uint64(json_object_object_get(arguments, "epoch")),
        .timeout_ms = timeout_ms,
        .done = done,
        .user_data = user_data,
    };
    json_object_put(arguments);
    g_ptr_array_add(server->commands, command);
}

void disk_server_attach(DiskServer *server, gboolean primary, const char *session, int fd,
                        gboolean discard, guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    g_assert_true(session && fd >= 0);
    (void)primary;
    (void)discard;
    disk_server_command(server, "attach", NULL, timeout_ms, done, user_data);
}

void disk_server_end(DiskServer *server)
{
    server->ended = TRUE;
}

gboolean disk_server_wait(DiskServer *server, guint timeout_ms)
{
    g_assert_true(server->ended);
    g_assert_cmpuint(timeout_ms, ==, 7000);
    waited++;
    return TRUE;
}

void disk_server_free(DiskServer *server)
{
    if (!server)
        return;
    g_ptr_array_unref(server->commands);
    g_free(server);
    killed++;
}

/* ---- The node ---- */

typedef struct {
    char *dir;
    Config config;
    DisksWorld world;
    Disks *disks;
    DiskServer *server; /* the last one */
    gboolean cannot_serve;
    guint ready, synchronised, filling, held_back, steps, refused, runs, noted;
    guint64 marked, applying;
    guint done, done_failed; /* of disks_sync() and disks_mark() */
    guint activated;
    char *activation_error, *lost, *stream_lost, *trouble; /* the last ones */
    guint n_lost, n_troubles;
    guint inactivations, given_up; /* asked of QEMU; of disks_give_up() */
    char *given_up_error;          /* of the last one */
    json_object *changed;          /* the last one */
    guint changes;
} Fixture;

static inline void keep(char **text, const char *what, const GError *error)
{
    g_free(*text);
    *text = g_strdup_printf("%s: %s", what, error->message);
}

static inline DisksWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static inline DiskServer *on_serve(const DiskServerOptions *options,
                                   const DiskServerCallbacks *callbacks, gpointer callback_data,
                                   GError **error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(g_str_has_prefix(options->socket, f->dir));
    if (f->cannot_serve) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "no image");
        return NULL;
    }
    f->server = g_new0(DiskServer, 1);
    f->server->callbacks = *callbacks;
    f->server->user_data = callback_data;
    f->server->commands = g_ptr_array_new_with_free_func(free_command);
    return f->server;
}

static inline void on_ready(const char *socket, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true((socket != NULL) == (f->config.vm->disks->len > 0));
    f->ready++;
}

static inline void on_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    keep(&f->lost, what, error);
    f->n_lost++;
}

static inline void on_stream_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    keep(&f->stream_lost, what, error);
}

static inline void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    keep(&f->trouble, what, error);
    f->n_troubles++;
}

static inline void on_synchronised(gpointer user_data)
{
    Fixture *f = user_data;
    f->synchronised++;
}

static inline void on_filling(gpointer user_data)
{
    Fixture *f = user_data;
    f->filling++;
}

static inline void on_hold_back(gpointer user_data)
{
    Fixture *f = user_data;
    f->held_back++;
}

static inline void on_marked(guint64 epoch, gpointer user_data)
{
    Fixture *f = user_data;
    f->marked = epoch;
}

static inline void on_applying(guint64 epoch, gpointer user_data)
{
    Fixture *f = user_data;
    f->applying = epoch;
}

static inline void on_step_copy(gpointer user_data)
{
    Fixture *f = user_data;
    f->steps++;
}

static inline void on_refused(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(what && error);
    f->refused++;
}

static inline void on_run(gpointer user_data)
{
    Fixture *f = user_data;
    f->runs++;
}

static inline void on_inactivate(gpointer user_data)
{
    Fixture *f = user_data;
    f->inactivations++;
}

static inline void on_given_up(guint64 epoch, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(epoch, ==, 4);
    g_free(f->given_up_error);
    f->given_up_error = error ? g_strdup(error->message) : NULL;
    f->given_up++;
}

static inline void on_noted(json_object *result, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_nonnull(result);
    f->noted++;
}

static inline void on_changed(json_object *data, gpointer user_data)
{
    Fixture *f = user_data;
    json_object_put(f->changed);
    f->changed = data;
    f->changes++;
}

static inline void on_activated(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->activation_error);
    f->activation_error = error ? g_strdup(error->message) : NULL;
    f->activated++;
}

static inline void on_done(guint64 epoch, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(epoch, ==, 4);
    f->done++;
    f->done_failed += error != NULL;
}

static inline void set_up(Fixture *f, gconstpointer state)
{
    static const DisksHandler handler = {.look = on_look,
                                         .serve = on_serve,
                                         .ready = on_ready,
                                         .lost = on_lost,
                                         .stream_lost = on_stream_lost,
                                         .trouble = on_trouble,
                                         .synchronised = on_synchronised,
                                         .filling = on_filling,
                                         .hold_back = on_hold_back,
                                         .marked = on_marked,
                                         .applying = on_applying,
                                         .step_copy = on_step_copy,
                                         .refused = on_refused,
                                         .run = on_run,
                                         .inactivate = on_inactivate,
                                         .noted = on_noted,
                                         .changed = on_changed,
                                         .activated = on_activated};
    killed = waited = 0;
    f->world.state = (FsmState)GPOINTER_TO_INT(state);
    f->world.is_primary = fsm_is_primary(f->world.state);
    f->dir = g_dir_make_tmp("colo-disks-XXXXXX", NULL);
    f->config.vm = vm_description_new();
    f->config.state_dir = f->dir;
    f->config.disk_timeout_ms = 7000;
    vm_description_add_disk(f->config.vm, "vda");
    f->disks = disks_new(&f->config, &handler, f);
}

static inline void tear_down(Fixture *f, gconstpointer state)
{
    (void)state;
    disks_free(f->disks);
    vm_description_free(f->config.vm);
    g_rmdir(f->dir);
    g_free(f->dir);
    g_free(f->lost);
    g_free(f->stream_lost);
    g_free(f->trouble);
    g_free(f->activation_error);
    g_free(f->given_up_error);
    json_object_put(f->changed);
}

/* The first order of that name without an answer; NULL: there is none. */
static inline Command *find(const Fixture *f, const char *name)
{
    for (guint i = 0; i < f->server->commands->len; i++) {
        Command *command = f->server->commands->pdata[i];
        if (!strcmp(command->name, name))
            return command;
    }
    return NULL;
}

static inline void answer_with(Fixture *f, const char *name, json_object *result,
                               const GError *error)
{
    guint index = 0;
    Command *command = find(f, name);
    g_assert_nonnull(command);
    g_ptr_array_find(f->server->commands, command, &index);
    g_ptr_array_steal_index(f->server->commands, index);
    if (command->done)
        command->done(result, error, command->user_data);
    free_command(command);
}

/* `text`: a JSON object. */
static inline void succeed(Fixture *f, const char *name, const char *text)
{
    json_object *result = json_tokener_parse(text);
    answer_with(f, name, result, NULL);
    json_object_put(result);
}

static inline void refuse(Fixture *f, const char *name, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, why);
    answer_with(f, name, NULL, error);
}

static inline void raise_event(Fixture *f, const char *name, const char *text)
{
    json_object *data = json_tokener_parse(text);
    f->server->callbacks.event(name, data, f->server->user_data);
    json_object_put(data);
}

static inline void attach(Fixture *f)
{
    DisksSession session = {.primary = f->world.is_primary, .id = "session", .fd = 0};
    disks_attach(f->disks, &session);
}

static inline void begin(Fixture *f)
{
    disks_start(f->disks, f->world.is_primary);
    f->server->callbacks.ready(f->server->user_data);
    attach(f);
    succeed(f, "attach", "{}");
}

#endif
