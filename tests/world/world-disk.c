/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block/server.h without a process. Orders are carried out one after another, each after a time by
 * chance, on the host's medium (world-medium.c): world-disk-orders.c. world-disk-stream.c is the
 * stream between two of them.
 *
 * What block/ promises is kept. A replica's image is a checkpoint's, or known not to be. An apply
 * or a takeover that is cut short is finished, or known. Bitmaps name all that differs. It is also
 * demanded that images change only under a VM that is paused. If that VM caches, it must have given
 * them up.
 */
#include <string.h>
#include <unistd.h>

#include "block/wire.h"
#include "common/patience.h"
#include "tests/world/world-disk.h"

typedef struct {
    DiskServer *server;
    const char *name;
    json_object *arguments;
    DiskServerDone done;
    gpointer user_data;
    GSource *timer; /* then it is answered, whatever becomes of it; or NULL */
} Order;

G_DEFINE_QUARK(block_error, block_error)

/* ---- Syncing ---- */

int disk_sync(DiskServer *server, const char *what)
{
    if (server->sync_error)
        return server->sync_error;
    server->sync_error = medium_sync(server->medium, what);
    if (server->sync_error && server->mode == DISK_MODE_ACTIVE)
        world_storage_unsynced(server->host);
    return server->sync_error;
}

/* As block/settle.c: nobody waits for it. */
static gboolean on_settle(gpointer data)
{
    DiskServer *server = data;
    world_source_clear(&server->settle);
    if (!server->ended && server->mode == DISK_MODE_REPLICA)
        disk_sync(server, "what was applied");
    return G_SOURCE_REMOVE;
}

void disk_settle(DiskServer *server)
{
    if (!server->settle)
        server->settle =
            world_after(server->host, world_between(50000, G_USEC_PER_SEC), on_settle, server);
}

static void end_cleanly(DiskServer *server)
{
    if (!server->sync_error)
        medium_end_cleanly(server->medium);
}

/* ---- Orders ---- */

static void order_free(Order *order)
{
    json_object *fd;
    world_source_clear(&order->timer);
    if (json_object_object_get_ex(order->arguments, "fd", &fd))
        close(json_object_get_int(fd));
    json_object_put(order->arguments);
    g_free(order);
}

static void answer(Order *order, json_object *result, const GError *error)
{
    DiskServerDone done = g_steal_pointer(&order->done);
    if (done)
        done(result, error, order->user_data);
}

static gboolean on_timeout(gpointer data)
{
    Order *order = data;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "%s: no answer in time", order->name);
    world_source_clear(&order->timer);
    world_sometimes("a disk server's answer is too late");
    answer(order, NULL, error);
    return G_SOURCE_REMOVE;
}

/* Of a server that has died. */
static gboolean fail_all(gpointer data)
{
    DiskServer *server = data;
    g_autoptr(GError) error =
        g_error_new_literal(VM_ERROR, VM_ERROR_DIED, "the disk server has ended");
    world_source_clear(&server->step);
    for (Order *order; (order = g_queue_pop_head(server->orders)) != NULL; order_free(order))
        answer(order, NULL, error);
    return G_SOURCE_REMOVE;
}

static void begin_next(DiskServer *server);
static gboolean on_started(gpointer data);

static gboolean on_order(gpointer data)
{
    DiskServer *server = data;
    Order *order = g_queue_pop_head(server->orders);
    g_autoptr(GError) error = NULL;
    world_source_clear(&server->step);
    gboolean done = disk_order_run(server, order->name, order->arguments, &error);
    json_object *result = done ? disk_order_result(server) : NULL;
    server->step_error = 0;
    if (order->done && g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_IO) &&
        (!strcmp(order->name, "apply") || !strcmp(order->name, "takeover")))
        world_storage_refused(server->host, order->name);
    begin_next(server);
    if (done)
        disk_stream_read(server);
    if (!done)
        world_tell("%s: disks: %s: %s", server->host->name, order->name, error->message);
    answer(order, result, error);
    json_object_put(result);
    order_free(order);
    return G_SOURCE_REMOVE;
}

/* What can be cut short by a death begins now. */
static void begin_next(DiskServer *server)
{
    const Order *order = g_queue_peek_head(server->orders);
    gint64 hangs_us = MAX(server->host->disk_hangs_until_us - world.now_us, 0);
    if (!order || server->step || server->start)
        return;
    if (server->ended) {
        server->step = world_after(server->host, 0, fail_all, server);
        return;
    }
    if (!g_strcmp0(server->host->disk_holds, order->name))
        return;
    gint64 us = disk_order_begin(server, order->name, order->arguments);
    server->step = world_after(server->host, hangs_us + us, on_order, server);
}

void disk_server_command(DiskServer *server, const char *name, json_object *arguments,
                         guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    Order *order = g_new(Order, 1);
    *order = (Order){server, g_intern_string(name), arguments, done, user_data, NULL};
    if (timeout_ms) {
        order->timer = patience_source_new(timeout_ms);
        g_source_set_callback(order->timer, on_timeout, order, NULL);
        g_source_attach(order->timer, NULL);
    }
    if (strcmp(name, "status") != 0)
        world_tell("%s: disks: order %s %s", server->host->name, name,
                   arguments ? json_object_to_json_string(arguments) : "");
    if (!strcmp(name, "apply") || !strcmp(name, "takeover") || !strcmp(name, "activate"))
        world_storage_tried(server->host);
    g_queue_push_tail(server->orders, order);
    begin_next(server);
}

void world_disk_let(WorldHost *host)
{
    DiskServer *server = host->disk_server;
    const char *held = host->disk_holds;
    host->disk_holds = NULL;
    if (server && !g_strcmp0(held, "start") && !server->start)
        server->start = world_after(host, 0, on_started, server);
    else if (server)
        begin_next(server);
}

gboolean disk_has_order(const DiskServer *server, const char *name)
{
    for (const GList *at = server->orders->head; at; at = at->next)
        if (!strcmp(((const Order *)at->data)->name, name))
            return TRUE;
    return FALSE;
}

void disk_server_attach(DiskServer *server, gboolean primary, const char *session, int fd,
                        gboolean discard, guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "role",
                           json_object_new_string(primary ? "primary" : "replica"));
    json_object_object_add(arguments, "session", json_object_new_string(session));
    json_object_object_add(arguments, "discard", json_object_new_boolean(discard));
    /* The server's own: the link may have closed its one, and another be of that number. */
    json_object_object_add(arguments, "fd", json_object_new_int(dup(fd)));
    disk_server_command(server, "attach", arguments, timeout_ms, done, user_data);
}

gboolean disk_server_generation(json_object *object, Generation *ret_generation)
{
    return wire_generation_parse(object, ret_generation);
}

/* ---- Life ---- */

static void die(DiskServer *server, const GError *why)
{
    server->ended = TRUE;
    disk_stream_end(server);
    world_source_clear(&server->settle);
    world_source_clear(&server->start);
    world_source_clear(&server->throttle.filling);
    fail_all(server);
    server->callbacks.died(why, server->user_data);
}

static gboolean on_killed(gpointer data)
{
    WorldHost *host = data;
    g_autoptr(GError) error =
        g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, "the disk server was killed by signal 9");
    if (host->disk_server && !host->disk_server->ended)
        die(host->disk_server, error);
    return G_SOURCE_REMOVE;
}

void world_disk_kill(WorldHost *host)
{
    if (host->disk_server)
        world_later(host, 0, on_killed, host);
}

static gboolean on_started(gpointer data)
{
    DiskServer *server = data;
    g_autoptr(GError) error = NULL;
    world_source_clear(&server->start);
    if (!medium_open(server->medium, server->mode == DISK_MODE_ACTIVE, &error)) {
        die(server, error);
        return G_SOURCE_REMOVE;
    }
    begin_next(server);
    server->callbacks.ready(server->user_data);
    return G_SOURCE_REMOVE;
}

DiskServer *disk_server_start(const DiskServerOptions *options, const DiskConfig *disks,
                              guint n_disks, const DiskServerCallbacks *callbacks,
                              gpointer user_data, GError **error)
{
    (void)disks;
    (void)n_disks;
    (void)error;
    DiskServer *server = g_new0(DiskServer, 1);
    server->host = world.current;
    server->medium = server->host->medium;
    server->callbacks = *callbacks;
    server->user_data = user_data;
    server->mode = options->owner ? DISK_MODE_ACTIVE : DISK_MODE_REPLICA;
    server->throttle.limit = options->owner ? 0 : world.epoch_writes;
    server->orders = g_queue_new();
    server->unread = g_queue_new();
    if (g_strcmp0(server->host->disk_holds, "start") != 0)
        server->start = world_after(server->host, world_between(1000, 50000), on_started, server);
    server->host->disk_server = server;
    server->host->unsynced_told = FALSE;
    server->host->disk_starts++;
    return server;
}

static void stop(DiskServer *server)
{
    disk_stream_end(server);
    world_source_clear(&server->settle);
    world_source_clear(&server->step);
    world_source_clear(&server->start);
    world_source_clear(&server->throttle.filling);
    g_queue_clear_full(server->orders, (GDestroyNotify)order_free);
    server->ended = TRUE;
    if (server->host->disk_server == server)
        server->host->disk_server = NULL;
}

void disk_server_end(DiskServer *server)
{
    gboolean opened = !server->start && !server->ended;
    stop(server);
    if (opened)
        end_cleanly(server);
}

gboolean disk_server_wait(DiskServer *server, guint timeout_ms)
{
    (void)server;
    (void)timeout_ms;
    return TRUE;
}

void disk_server_free(DiskServer *server)
{
    if (!server)
        return;
    stop(server);
    g_queue_free(server->orders);
    g_queue_free(server->unread);
    g_free(server);
}

void world_disk_death(WorldHost *host, gboolean power)
{
    DiskServer *server = host->disk_server;
    host->disk_server = NULL;
    if (power)
        medium_lose_power(host->medium);
    else if (server && !server->start && !server->ended && world_chance(500))
        end_cleanly(server); /* it has outlived colod for a moment */
}

void world_disk_init(WorldHost *host)
{
    host->medium = g_new0(Medium, 1);
    host->medium->host = host;
}

gboolean world_disk_may_boot(const WorldHost *host)
{
    GenerationData data = medium_generation(host->medium).data;
    return !world.disks || data == GENERATION_WRITER || data == GENERATION_IN_STEP;
}

gboolean world_disk_is_in_step(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    Generation ours = medium_generation(host->medium), theirs = medium_generation(peer->medium);
    return generation_compare(&ours, &theirs) == GENERATION_EQUAL;
}

/* ---- The guest ---- */

gboolean world_disk_takes_io(const WorldHost *host)
{
    const DiskServer *server = host->disk_server;
    const Order *order = server ? g_queue_peek_head(server->orders) : NULL;
    return server && !server->start && !server->ended && !server->final &&
           host->disk_hangs_until_us <= world.now_us &&
           !(order && (!strcmp(order->name, "apply") || !strcmp(order->name, "takeover")));
}

gboolean world_disk_serves(const WorldHost *host)
{
    return !world.disks || (host->disk_server && !host->disk_server->ended);
}

gboolean world_disk_is_final(const WorldHost *host)
{
    return host->disk_server->final && host->disk_server->mode == DISK_MODE_REPLICA;
}
