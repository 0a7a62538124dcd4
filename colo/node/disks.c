/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk server as part of a node. It is started before QEMU and ended after it. It gets the
 * link's `disks` connection for each session, and takes part in each checkpoint and in the
 * takeover.
 *
 *   primary    attach --synchronised--> may take checkpoints: sync, pause, mark(e)
 *   secondary  attach --MARKED(e)--> RAM's e may count
 *                     --received--> the VM gives the disks up, apply(e)
 *   takeover   apply(e) has been done, block_activate() --takeover(e)--> output may leave
 *
 * The disk server's end is the end of the VM here. When the node ends, the server ends in order, so
 * that its files count after a reboot too. It is killed if it has failed. It is also killed if
 * another VM is to be started, for which its files count all the same. It stays if the VM has moved
 * to the other host and is kept as its copy: then the images become a replica, and the flag is a new
 * one. The end of its connection to the peer's server ends the session, but only after a moment. If
 * the peer is alive, it reports the reason on the link.
 */
#include "colo/node/disks_internal.h"
#include "common/fault.h"
#include "common/json.h"
#include "common/log.h"
#include "common/patience.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

/* How long the peer may take to report why its disks have gone. */
#define LOST_MS 500

/* How often the disk server is asked how it is, for status. */
#define STATUS_MS 500

/* Unsent writes after which the guest waits: in the worst case its pause does so too. */
#define QUEUE_BYTES (16u * 1024 * 1024)

/* A write that doesn't fit waits: the longest is of 1 MiB. */
#define QUEUE_FULL_BYTES (QUEUE_BYTES - 1024 * 1024)

static DisksWorld look(const Disks *disks)
{
    return disks->handler.look(disks->user_data);
}

/* ---- Failures ---- */

static gboolean on_failure(gpointer user_data)
{
    Disks *disks = user_data;
    g_autoptr(GError) failure = g_steal_pointer(&disks->failure);
    disks->failure_source = 0;
    gboolean refused = g_error_matches(failure, BLOCK_ERROR, BLOCK_ERROR_GENERATION);
    disks->handler.lost(refused ? "no synchronisation" : "the disks are lost", failure,
                        disks->user_data);
    return G_SOURCE_REMOVE;
}

/* Not at once: the caller is the disk server's own code. */
void disks_fail(Disks *disks, const GError *error)
{
    disks->failed = TRUE;
    /* Orders fail with it first, but its end brings its last words. */
    if (disks->failure || g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        return;
    disks->failure = g_error_copy(error);
    disks->failure_source = g_idle_add_full(G_PRIORITY_HIGH, on_failure, disks, NULL);
}

static gboolean on_lost(gpointer user_data)
{
    Disks *disks = user_data;
    g_autoptr(GError) lost = g_steal_pointer(&disks->lost);
    disks->lost_timer = 0;
    disks->handler.stream_lost("the connection between the disks is lost", lost, disks->user_data);
    return G_SOURCE_REMOVE;
}

void disks_session_lost(Disks *disks, const char *why)
{
    if (disks->lost_timer)
        return;
    disks->lost = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_PEER, why);
    disks->lost_timer = patience_add(LOST_MS, on_lost, disks);
}

void disks_forget_lost(Disks *disks)
{
    g_clear_handle_id(&disks->lost_timer, g_source_remove);
    g_clear_error(&disks->lost);
}

/* ---- What the server reports ---- */

static void on_ready(gpointer user_data)
{
    Disks *disks = user_data;
    disks->handler.ready(disks->socket, disks->user_data);
}

static guint64 epoch_of(json_object *data)
{
    return json_object_get_uint64(json_object_object_get(data, "epoch"));
}

static void on_synchronised(Disks *disks, json_object *data)
{
    log_info("disks synchronised: %" G_GUINT64_FORMAT " MiB compared, %" G_GUINT64_FORMAT
             " MiB sent",
             json_object_get_uint64(json_object_object_get(data, "total-bytes")) >> 20,
             json_object_get_uint64(json_object_object_get(data, "sent-bytes")) >> 20);
    disks->synchronised = TRUE;
    disks->handler.synchronised(disks->user_data);
}

/* A secondary that is not ready yet can't be hurried, and a copy's checkpoint is its primary's. */
static void on_filling(Disks *disks)
{
    DisksWorld world = look(disks);
    if (world.is_primary && fsm_is_protected(world.state))
        disks->handler.filling(disks->user_data);
    else if (world.is_primary)
        disks_let_through(disks);
}

static void on_session_lost(Disks *disks, json_object *data)
{
    const char *why = json_object_get_string(json_object_object_get(data, "reason"));
    gboolean failed = json_object_get_boolean(json_object_object_get(data, "failed"));
    gboolean refused = json_object_get_boolean(json_object_object_get(data, "refused"));
    DisksWorld world = look(disks);
    if (world.keeps) {
        /* Of what the last checkpoint doesn't have: a takeover reports what it can't do. */
        log_warning("disks: %s", why);
    } else if ((failed || refused) && !world.is_primary) {
        g_autoptr(GError) error = g_error_new_literal(
            BLOCK_ERROR, refused ? BLOCK_ERROR_GENERATION : BLOCK_ERROR_IO, why);
        disks_fail(disks, error);
    } else {
        disks_session_lost(disks, why);
    }
}

static void on_event(const char *name, json_object *data, gpointer user_data)
{
    Disks *disks = user_data;
    if (disks->detaching > 0)
        return;
    if (!strcmp(name, "SYNCHRONISED")) {
        on_synchronised(disks, data);
    } else if (!strcmp(name, "FILLING")) {
        on_filling(disks);
    } else if (!strcmp(name, "APPLYING")) {
        disks->handler.applying(epoch_of(data), disks->user_data);
    } else if (!strcmp(name, "MARKED")) {
        colo_fault_point("secondary-disks-marked");
        disks->handler.marked(epoch_of(data), disks->user_data);
    } else if (!strcmp(name, "LOST")) {
        on_session_lost(disks, data);
    }
}

static void on_died(const GError *error, gpointer user_data)
{
    disks_fail(user_data, error);
}

/* ---- Status ---- */

/* The first image that could not be synced, of the server's last answer; NULL: none. */
static json_object *find_unsynced(const Disks *disks)
{
    json_object *images = json_object_object_get(disks->status, "disks");
    for (gsize i = 0; images && i < json_object_array_length(images); i++)
        if (json_object_object_get(json_object_array_get_idx(images, i), "sync-error"))
            return json_object_array_get_idx(images, i);
    return NULL;
}

gboolean disks_are_unsynced(const Disks *disks)
{
    return find_unsynced(disks) != NULL;
}

/* Of a VM that runs here; what a takeover meets is reported by resume.c, which waits for it. */
static void tell_unsynced(Disks *disks)
{
    FsmState state = look(disks).state;
    json_object *image = find_unsynced(disks);
    if (!image || disks->sync_told || !fsm_is_primary(state))
        return;
    disks->sync_told = TRUE;
    g_autoptr(GError) error = g_error_new(
        BLOCK_ERROR, BLOCK_ERROR_IO,
        "disk %s: %s: what the guest has written may be lost, and each flush fails (%s)",
        json_object_get_string(json_object_object_get(image, "name")),
        json_object_get_string(json_object_object_get(image, "sync-error")),
        fsm_is_protected(state)
            ? "the other host's image is good: 'colo failover' hands the VM over"
            : "mend the storage, then shut the guest down and start colod again: its file systems "
              "are to be checked");
    disks->handler.trouble("a disk can't be made durable any more", error, disks->user_data);
}

void disks_note_status(Disks *disks, json_object *status)
{
    json_object_put(disks->status);
    disks->status = json_object_get(status);
    tell_unsynced(disks);
}

static void on_status(json_object *result, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    disks->asking_status = FALSE;
    if (!error)
        disks_note_status(disks, result);
}

static gboolean on_status_timer(gpointer user_data)
{
    Disks *disks = user_data;
    if (!disks->asking_status) {
        disks->asking_status = TRUE;
        disk_server_command(disks->server, "status", NULL, (guint)disks->config->disk_timeout_ms,
                            on_status, disks);
    }
    return G_SOURCE_CONTINUE;
}

static void copy_member(json_object *to, json_object *from, const char *name)
{
    json_object_object_add(to, name, json_object_get(json_object_object_get(from, name)));
}

gboolean disks_writes_wait(const Disks *disks)
{
    return json_object_get_uint64(json_object_object_get(disks->status, "queue-bytes")) >=
           QUEUE_FULL_BYTES;
}

const char *disks_order_name(const Disks *disks)
{
    const DiskOrder *order = disks->orders && disks->orders->len ? disks->orders->pdata[0] : NULL;
    return order ? order->name : NULL;
}

void disks_add_status(const Disks *disks, json_object *status)
{
    static const char *const members[] = {"mode",           "attached",    "in-sync",
                                          "epoch",          "queue-bytes", "epoch-limit-bytes",
                                          "writes-wait",    "sync",        "generation",
                                          "peer-generation"};
    if (!disks->activation) {
        json_object_object_add(status, "disks", NULL);
        return;
    }
    json_object *object = json_object_new_object();
    disks_describe_flag(disks, object);
    colo_json_add_string(object, "order", disks_order_name(disks));
    for (gsize i = 0; i < G_N_ELEMENTS(members); i++)
        copy_member(object, disks->status, members[i]);
    json_object *images = json_object_object_get(disks->status, "disks");
    json_object_object_add(object, "images",
                           images ? json_object_get(images) : json_object_new_array());
    json_object_object_add(status, "disks", object);
}

/* ---- Life ---- */

static gboolean start_server(Disks *disks, gboolean owner, GError **error)
{
    static const DiskServerCallbacks callbacks = {
        .ready = on_ready, .event = on_event, .died = on_died};
    const Config *config = disks->config;
    if (g_mkdir_with_parents(config->state_dir, 0700) < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "state-dir %s: %s", config->state_dir,
                    g_strerror(errno));
        return FALSE;
    }
    /* Of a service that was killed. If it is not dead, the images are locked. */
    g_unlink(disks->socket);
    DiskServerOptions options = {.nbdkit = config->nbdkit,
                                 .socket = disks->socket,
                                 .state_dir = config->state_dir,
                                 .owner = owner,
                                 .stage_memory_bytes = config->stage_memory_bytes,
                                 .queue_bytes = QUEUE_BYTES,
                                 .sync_rate_bytes = config->sync_rate_bytes};
    disks->server = disks->handler.serve(&options, &callbacks, disks, error, disks->user_data);
    return disks->server != NULL;
}

void disks_start(Disks *disks, gboolean owner)
{
    g_autoptr(GError) error = NULL;
    if (disks->config->vm->disks->len == 0) {
        disks->handler.ready(NULL, disks->user_data);
        return;
    }
    g_assert(!disks->activation);
    disks->orders = g_ptr_array_new();
    disks->socket = g_build_filename(disks->config->state_dir, "nbd", NULL);
    disks_make_flag(disks, owner);
    if (!start_server(disks, owner, &error)) {
        disks_fail(disks, error);
        return;
    }
    disks->status_timer = g_timeout_add(STATUS_MS, on_status_timer, disks);
}

gboolean disks_are_there(const Disks *disks)
{
    return disks->activation != NULL;
}

void disks_stop(Disks *disks, gboolean node_ends)
{
    if (!disks->activation)
        return;
    g_clear_handle_id(&disks->failure_source, g_source_remove);
    g_clear_handle_id(&disks->status_timer, g_source_remove);
    disks_forget_lost(disks);
    DiskServer *ending = node_ends && !disks->failed ? disks->server : NULL;
    if (ending)
        disk_server_end(ending);
    else
        disk_server_free(disks->server);
    g_unlink(disks->socket);
    block_activation_free(disks->activation);
    disks_abandon_orders(disks);
    json_object_put(disks->status);
    g_clear_error(&disks->failure);
    g_clear_error(&disks->qemu_failure);
    g_free(disks->socket);
    *disks = (Disks){.config = disks->config,
                     .handler = disks->handler,
                     .user_data = disks->user_data,
                     .ending = ending};
}

Disks *disks_new(const Config *config, const DisksHandler *handler, gpointer user_data)
{
    Disks *disks = g_new0(Disks, 1);
    disks->config = config;
    disks->handler = *handler;
    disks->user_data = user_data;
    return disks;
}

void disks_free(Disks *disks)
{
    if (!disks)
        return;
    disks_stop(disks, TRUE);
    guint64 timeout_ms = disks->config->disk_timeout_ms;
    if (disks->ending && !disk_server_wait(disks->ending, (guint)timeout_ms))
        log_warning("the disks are not synced after %" G_GUINT64_FORMAT
                    " ms: their server is killed, and after a reboot all of them is compared",
                    timeout_ms);
    disk_server_free(disks->ending);
    g_free(disks);
}
