/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's disks as part of a node. The disk server (block/server.h) is started before QEMU and
 * ended after it. It gets the link's `disks` connection for each session, and takes part in each
 * checkpoint and in the takeover. docs/DISKS.md, "What the VM's owner does", is the protocol.
 *
 *   primary    attach --synchronised--> may take checkpoints: sync, pause, mark(e)
 *   secondary  attach --MARKED(e)--> RAM's e may count
 *                     --received--> the VM gives the disks up, apply(e)
 *   takeover   apply(e) has been done, block_activate() --takeover(e)--> output may leave
 *
 * Invariants:
 * - A checkpoint is complete on the secondary only if it is for RAM and for all disks. Until
 *   MARKED(e), RAM's e is held back (apply_allow()), so RAM never gets ahead of the disks.
 * - The VM runs only with the activation flag's consent: disks_activate() is asked before every
 *   resume (resume.c), of a copy disks_may_run_copy().
 * - While apply(e) changes the images, the VM is paused and its QEMU has given them up.
 * - Orders are answered in the order in which they were given. What belongs to a session that is
 *   over is ignored: the answer to an order before the detach, or an event before the detach's own
 *   answer.
 *
 * The disk server's end is the end of the VM here. When the node ends, the server ends in order, so
 * that its files count after a reboot too. It is killed if it has failed. It is also killed if
 * another VM is to be started, for which its files count all the same. The end of its connection to
 * the peer's server ends the session, but only after a moment. If the peer is alive, it reports the
 * reason on the link.
 *
 * A node whose VM has no disks has no Disks; every function accepts that.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/patience.h"

#include "block/activation.h"
#include "block/server.h"

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

struct Disks {
    Node *node;
    DiskServer *server;
    BlockActivation *activation;
    char *socket;
    GError *qemu_failure; /* of the last `cont` that was part of an activation */
    gboolean failed;
    GError *failure; /* to be reported from the main loop */
    guint failure_source;
    guint status_timer;
    gboolean asking_status;
    json_object *status; /* the server's last answer */
    gboolean sync_told;  /* that what was written can't be made durable any more */

    /* The session. */
    guint session;   /* its number */
    guint detaching; /* orders to detach that have no answer yet: events are of before */
    guint lost_timer;
    GError *lost;
    gboolean synchronised;                /* primary: checkpoints may be taken */
    guint64 apply_due, applying, applied; /* secondary: epochs; 0: none */
    guint64 epoch;                        /* to take over from */
    GPtrArray *orders;                    /* of Order* */
};

/* An order without an answer yet, which counts in its session only. */
typedef struct {
    Disks *disks;
    guint session;
    const char *name;
    guint64 epoch;
    DisksDone done;
    DisksAnswer answer;   /* of disks_order() */
    BlockOpDone switched; /* of the activation flag */
    gpointer ticket;
} Order;

/* ---- Failures ---- */

static gboolean on_failure(gpointer user_data)
{
    Disks *disks = user_data;
    g_autoptr(GError) failure = g_steal_pointer(&disks->failure);
    disks->failure_source = 0;
    gboolean refused = g_error_matches(failure, BLOCK_ERROR, BLOCK_ERROR_GENERATION);
    node_vm_lost(disks->node, refused ? "no synchronisation" : "the disks are lost", failure);
    return G_SOURCE_REMOVE;
}

/* The disks can't continue here. Not at once: the caller is the disk server's own code. */
static void fail(Disks *disks, const GError *error)
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
    node_stream_lost(disks->node, "the connection between the disks is lost", lost);
    return G_SOURCE_REMOVE;
}

static void session_lost(Disks *disks, const char *why)
{
    if (disks->lost_timer)
        return;
    disks->lost = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_PEER, why);
    disks->lost_timer = patience_add(LOST_MS, on_lost, disks);
}

static void forget_lost(Disks *disks)
{
    if (disks->lost_timer)
        g_source_remove(disks->lost_timer);
    disks->lost_timer = 0;
    g_clear_error(&disks->lost);
}

/* ---- Orders ---- */

static Order *order_new(Disks *disks, const char *name, guint64 epoch, DisksDone done)
{
    Order *order = g_new(Order, 1);
    *order = (Order){
        .disks = disks, .session = disks->session, .name = name, .epoch = epoch, .done = done};
    g_ptr_array_add(disks->orders, order);
    return order;
}

/* The answer has come: the caller frees the order. */
static Order *answered(gpointer order)
{
    g_ptr_array_remove_fast(((Order *)order)->disks->orders, order);
    return order;
}

static guint timeout_of(const Disks *disks)
{
    return (guint)disks->node->config->disk_timeout_ms;
}

/* Of mark and sync: the owner of the cycle continues. */
static void on_order(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (order->session != disks->session)
        return;
    g_autoptr(GError) failed = error ? g_error_copy(error) : NULL;
    if (failed)
        g_prefix_error(&failed, "%s: ", order->name);
    order->done(disks->node, order->epoch, failed);
}

void disks_sync(Node *node, guint64 epoch, DisksDone done)
{
    disk_server_command(node->disks->server, "sync", NULL, timeout_of(node->disks), on_order,
                        order_new(node->disks, "sync", epoch, done));
}

void disks_let_through(Node *node)
{
    if (node->disks)
        disk_server_command(node->disks->server, "let-through", NULL, timeout_of(node->disks), NULL,
                            NULL);
}

void disks_mark(Node *node, guint64 epoch, DisksDone done)
{
    disk_server_epoch_command(node->disks->server, "mark", epoch, timeout_of(node->disks), on_order,
                              order_new(node->disks, "mark", epoch, done));
}

static void on_answer(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    order->answer(order->disks->node, result, error);
}

void disks_order(Node *node, const char *name, json_object *arguments, DisksAnswer done)
{
    Order *order = order_new(node->disks, name, 0, NULL);
    order->answer = done;
    disk_server_command(node->disks->server, name, arguments, timeout_of(node->disks), on_answer,
                        order);
}

void disks_limit_sync_rate(Node *node)
{
    if (!node->disks)
        return;
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "bytes-per-second",
                           json_object_new_uint64(node->config->sync_rate_bytes));
    disk_server_command(node->disks->server, "limit-sync-rate", arguments, timeout_of(node->disks),
                        NULL, NULL);
}

/* ---- Sessions ---- */

static void on_attached(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (!error || order->session != disks->session)
        return;
    if (disks->node->is_primary)
        session_lost(disks, error->message);
    else
        fail(disks, error);
}

void disks_attach(Node *node)
{
    Disks *disks = node->disks;
    if (!disks)
        return;
    disks->synchronised = FALSE;
    disks->apply_due = disks->applying = disks->applied = 0;
    if (node->apply)
        apply_allow(node->apply, 0);
    disk_server_attach(disks->server, node->is_primary, link_session(node->link),
                       link_disks_fd(node->link), node->config->discard, timeout_of(disks),
                       on_attached, order_new(disks, "attach", 0, NULL));
}

static void on_detached(json_object *result, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    (void)result;
    disks->detaching--;
    if (error)
        fail(disks, error);
}

void disks_detach(Node *node)
{
    Disks *disks = node->disks;
    if (!disks || !disks->server)
        return;
    disks->session++;
    disks->detaching++;
    disks->synchronised = FALSE;
    disks->apply_due = disks->applying = 0;
    forget_lost(disks);
    /* Behind a sync it takes as long as that: what can't continue without it fails by itself. */
    disk_server_command(disks->server, "detach", NULL, 0, on_detached, disks);
}

gboolean disks_writes_wait(const Node *node)
{
    const Disks *disks = node->disks;
    return disks && json_object_get_uint64(json_object_object_get(disks->status, "queue-bytes")) >=
                        QUEUE_FULL_BYTES;
}

gboolean disks_may_checkpoint(const Node *node)
{
    return !node->disks || node->disks->synchronised;
}

/* ---- The secondary's checkpoints ---- */

static void on_applied(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (order->session != disks->session)
        return;
    disks->applying = 0;
    if (error && resume_is_to_keep(disks->node->state) &&
        !g_error_matches(error, VM_ERROR, VM_ERROR_DIED)) {
        /* Nobody else may have the VM. It can be tried again, and nothing else is possible. */
        disks->apply_due = order->epoch;
        resume_wait(disks->node->resume, "the disks can't be made those of the checkpoint", error);
        return;
    }
    if (error) {
        fail(disks, error);
        return;
    }
    disks->applied = order->epoch;
    copy_step(disks->node->copy);
}

void disks_received(Node *node, guint64 epoch)
{
    if (!node->disks)
        return;
    node->disks->apply_due = epoch;
    copy_step(node->copy);
}

gboolean disks_apply_is_due(const Node *node)
{
    return node->disks && node->disks->apply_due && !node->disks->applying;
}

void disks_apply(Node *node)
{
    Disks *disks = node->disks;
    if (!disks_apply_is_due(node))
        return;
    disks->applying = disks->apply_due;
    disks->apply_due = 0;
    disk_server_epoch_command(disks->server, "apply", disks->applying, timeout_of(disks),
                              on_applied, order_new(disks, "apply", disks->applying, NULL));
}

gboolean disks_are_applying(const Node *node)
{
    return node->disks && node->disks->applying;
}

gboolean disks_are_at(const Node *node, guint64 epoch)
{
    return !node->disks || node->disks->applied == epoch;
}

/* ---- The activation flag ---- */

static Order *switch_new(Disks *disks, BlockOpDone done, gpointer ticket)
{
    Order *order = order_new(disks, "switch", 0, NULL);
    order->switched = done;
    order->ticket = ticket;
    return order;
}

static void on_switched(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    /* Of a takeover. */
    if (result)
        holdings_note(order->disks->node->holdings, result);
    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        fail(order->disks, error);
    order->switched(order->ticket, error);
}

/* The images: below QEMU's drivers. A replica becomes active by taking over. */
static void activate_images(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    if (disks->epoch)
        /* As long as the storage takes to sync: nobody else has the VM. */
        disk_server_epoch_command(disks->server, "takeover", disks->epoch, 0, on_switched,
                                  switch_new(disks, done, ticket));
    else
        disk_server_command(disks->server, "activate", NULL, timeout_of(disks), on_switched,
                            switch_new(disks, done, ticket));
}

static void inactivate_images(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    disk_server_command(disks->server, "inactivate", NULL, timeout_of(disks), on_switched,
                        switch_new(disks, done, ticket));
}

static void on_qemu_resumed(Vm *vm, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    (void)vm;
    g_clear_error(&order->disks->qemu_failure);
    order->disks->qemu_failure = error ? g_error_copy(error) : NULL;
    order->switched(order->ticket, error);
}

/*
 * QEMU activates what it has given up when the VM is resumed. It doesn't resume the VM if that
 * fails. So its disks are active when the VM runs, and not before.
 */
static void activate_qemu(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    parts_run_vm(disks->node, on_qemu_resumed, switch_new(disks, done, ticket));
}

static void on_qemu_released(Vm *vm, const GError *error, gpointer user_data)
{
    g_autofree Order *order = answered(user_data);
    (void)vm;
    order->switched(order->ticket, error);
}

static void inactivate_qemu(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    vm_inactivate_disks(disks->node->vm, on_qemu_released, switch_new(disks, done, ticket));
}

static void make_flag(Disks *disks, gboolean owner)
{
    static const BlockDiskOps images = {activate_images, inactivate_images};
    static const BlockDiskOps qemu = {activate_qemu, inactivate_qemu};
    disks->activation = block_activation_new(owner);
    block_activation_add(disks->activation, "images", &images, disks);
    block_activation_add(disks->activation, "qemu", &qemu, disks);
}

static void on_activated(BlockActivation *activation, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    g_autoptr(GError) qemu_failure = g_steal_pointer(&disks->qemu_failure);
    if (error && disks->failed)
        return; /* the disk server's end is about to be reported */
    if (!error)
        block_activation_resume(activation, BLOCK_RUN_ACTIVE, NULL);
    /* Of QEMU its own message, which shows whether it lives. */
    resume_activated(disks->node->resume, error && qemu_failure ? qemu_failure : error);
}

gboolean disks_activate(Node *node)
{
    Disks *disks = node->disks;
    if (!disks || block_activation_resume(disks->activation, BLOCK_RUN_ACTIVE, NULL))
        return TRUE;
    if (!block_activation_is_busy(disks->activation)) {
        gboolean takes_over = node->state == FSM_S_DEVICE;
        disks->epoch = takes_over ? copy_checkpoint(node->copy)->epoch : 0;
        block_activate(disks->activation, on_activated, disks);
        if (takes_over)
            colo_fault_point("takeover-disks");
    }
    return FALSE;
}

gboolean disks_may_run_copy(Node *node, GError **error)
{
    return !node->disks ||
           block_activation_resume(node->disks->activation, BLOCK_RUN_OVERLAY, error);
}

void disks_vm_paused(Node *node)
{
    if (node->disks)
        block_activation_paused(node->disks->activation);
}

/* ---- The disk server ---- */

static void on_ready(gpointer user_data)
{
    Disks *disks = user_data;
    node_disks_ready(disks->node);
}

static guint64 epoch_of(json_object *data)
{
    return json_object_get_uint64(json_object_object_get(data, "epoch"));
}

static void on_event(const char *name, json_object *data, gpointer user_data)
{
    Disks *disks = user_data;
    Node *node = disks->node;
    if (disks->detaching > 0)
        return;
    if (!strcmp(name, "SYNCHRONISED")) {
        log_info("disks synchronised: %" G_GUINT64_FORMAT " MiB compared, %" G_GUINT64_FORMAT
                 " MiB sent",
                 json_object_get_uint64(json_object_object_get(data, "total-bytes")) >> 20,
                 json_object_get_uint64(json_object_object_get(data, "sent-bytes")) >> 20);
        disks->synchronised = TRUE;
        primary_reschedule(node);
    } else if (!strcmp(name, "FILLING")) {
        /* A secondary that is not ready yet can't be hurried, and a copy's checkpoint is its primary's. */
        if (node->is_primary && fsm_is_protected(node->state))
            primary_want(node, REASON_DISK_LIMIT);
        else if (node->is_primary)
            disks_let_through(node);
    } else if (!strcmp(name, "APPLYING")) {
        message_send(node->link, &(Message){.type = LINK_MSG_BUSY, .epoch = epoch_of(data)});
    } else if (!strcmp(name, "MARKED")) {
        colo_fault_point("secondary-disks-marked");
        /* The administrator's word was for what has been overwritten by now. */
        node->config->discard = FALSE;
        if (node->apply)
            apply_allow(node->apply, epoch_of(data));
        final_marked(node->final, epoch_of(data));
    } else if (!strcmp(name, "LOST")) {
        const char *why = json_object_get_string(json_object_object_get(data, "reason"));
        gboolean failed = json_object_get_boolean(json_object_object_get(data, "failed"));
        gboolean refused = json_object_get_boolean(json_object_object_get(data, "refused"));
        if (resume_is_to_keep(node->state)) {
            /* Of what the last checkpoint doesn't have: a takeover reports what it can't do. */
            log_warning("disks: %s", why);
        } else if ((failed || refused) && !node->is_primary) {
            g_autoptr(GError) error = g_error_new_literal(
                BLOCK_ERROR, refused ? BLOCK_ERROR_GENERATION : BLOCK_ERROR_IO, why);
            fail(disks, error);
        } else {
            session_lost(disks, why);
        }
    }
}

static void on_died(const GError *error, gpointer user_data)
{
    fail(user_data, error);
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

gboolean disks_are_unsynced(const Node *node)
{
    return node->disks && find_unsynced(node->disks) != NULL;
}

/* Of a VM that runs here; what a takeover meets is reported by resume.c, which waits for it. */
static void tell_unsynced(Disks *disks)
{
    Node *node = disks->node;
    json_object *image = find_unsynced(disks);
    if (!image || disks->sync_told || !fsm_is_primary(node->state))
        return;
    disks->sync_told = TRUE;
    g_autoptr(GError) error = g_error_new(
        BLOCK_ERROR, BLOCK_ERROR_IO,
        "disk %s: %s: what the guest has written may be lost, and each flush fails (%s)",
        json_object_get_string(json_object_object_get(image, "name")),
        json_object_get_string(json_object_object_get(image, "sync-error")),
        fsm_is_protected(node->state)
            ? "the other host's image is good: 'colo failover' hands the VM over"
            : "mend the storage, then shut the guest down and start colod again: its file systems "
              "are to be checked");
    node_report(node, "a disk can't be made durable any more", error);
}

static void on_status(json_object *result, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    disks->asking_status = FALSE;
    if (error)
        return;
    json_object_put(disks->status);
    disks->status = json_object_get(result);
    tell_unsynced(disks);
}

static gboolean on_status_timer(gpointer user_data)
{
    Disks *disks = user_data;
    if (!disks->asking_status) {
        disks->asking_status = TRUE;
        disk_server_command(disks->server, "status", NULL, timeout_of(disks), on_status, disks);
    }
    return G_SOURCE_CONTINUE;
}

static void copy_member(json_object *to, json_object *from, const char *name)
{
    json_object_object_add(to, name, json_object_get(json_object_object_get(from, name)));
}

void disks_add_status(const Node *node, json_object *status)
{
    static const char *const members[] = {"mode",           "attached",    "in-sync",
                                          "epoch",          "queue-bytes", "epoch-limit-bytes",
                                          "writes-wait",    "sync",        "generation",
                                          "peer-generation"};
    const Disks *disks = node->disks;
    if (!disks) {
        json_object_object_add(status, "disks", NULL);
        return;
    }
    json_object *object = json_object_new_object();
    gboolean active = block_activation_flag(disks->activation) == BLOCK_ACTIVE;
    json_object_object_add(object, "flag", json_object_new_string(active ? "active" : "inactive"));
    for (gsize i = 0; i < G_N_ELEMENTS(members); i++)
        copy_member(object, disks->status, members[i]);
    json_object *images = json_object_object_get(disks->status, "disks");
    json_object_object_add(object, "images",
                           images ? json_object_get(images) : json_object_new_array());
    json_object_object_add(status, "disks", object);
}

/* ---- Life ---- */

static DiskServer *start_server(Disks *disks, gboolean owner, GError **error)
{
    static const DiskServerCallbacks callbacks = {
        .ready = on_ready, .event = on_event, .died = on_died};
    const Config *config = disks->node->config;
    const GPtrArray *list = config->vm->disks;
    if (g_mkdir_with_parents(config->state_dir, 0700) < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "state-dir %s: %s", config->state_dir,
                    g_strerror(errno));
        return NULL;
    }
    /* Of a service that was killed. If it is not dead, the images are locked. */
    g_unlink(disks->socket);
    g_autofree DiskConfig *configs = g_new0(DiskConfig, list->len);
    for (guint i = 0; i < list->len; i++)
        configs[i] = holdings_disk(config, i);
    DiskServerOptions options = {.nbdkit = config->nbdkit,
                                 .plugin = disks->node->handler.disk_plugin,
                                 .socket = disks->socket,
                                 .state_dir = config->state_dir,
                                 .owner = owner,
                                 .stage_memory_bytes = config->stage_memory_bytes,
                                 .queue_bytes = QUEUE_BYTES,
                                 .sync_rate_bytes = config->sync_rate_bytes};
    const NodeHandler *handler = &disks->node->handler;
    DiskServer *server =
        handler->make_disks
            ? handler->make_disks(&options, configs, list->len, &callbacks, disks, error,
                                  handler->user_data)
            : disk_server_start(&options, configs, list->len, &callbacks, disks, error);
    return server;
}

void disks_start(Node *node)
{
    VmDescription *vm = node->config->vm;
    gboolean owner = fsm_is_primary(node->state);
    g_autoptr(GError) error = NULL;
    Disks *disks = node->disks = g_new0(Disks, 1);
    disks->node = node;
    disks->orders = g_ptr_array_new();
    disks->socket = g_build_filename(node->config->state_dir, "nbd", NULL);
    g_free(vm->disk_socket);
    vm->disk_socket = g_strdup(disks->socket);
    make_flag(disks, owner);
    disks->server = start_server(disks, owner, &error);
    if (!disks->server) {
        fail(disks, error);
        return;
    }
    disks->status_timer = g_timeout_add(STATUS_MS, on_status_timer, disks);
}

void disks_stop(Node *node, gboolean node_ends)
{
    Disks *disks = g_steal_pointer(&node->disks);
    if (!disks)
        return;
    if (disks->failure_source)
        g_source_remove(disks->failure_source);
    if (disks->status_timer)
        g_source_remove(disks->status_timer);
    forget_lost(disks);
    holdings_forget(node->holdings);
    if (node_ends && disks->server && !disks->failed) {
        disk_server_end(disks->server);
        node->disks_ending = disks->server;
    } else {
        disk_server_free(disks->server);
    }
    g_unlink(disks->socket);
    block_activation_free(disks->activation);
    for (guint i = 0; i < disks->orders->len; i++) {
        Order *order = g_ptr_array_index(disks->orders, i);
        g_autoptr(GError) gone =
            g_error_new(BLOCK_ERROR, BLOCK_ERROR_ABANDONED, "%s: the disks end", order->name);
        if (order->switched)
            order->switched(order->ticket, gone);
        g_free(order);
    }
    g_ptr_array_unref(disks->orders);
    json_object_put(disks->status);
    g_clear_error(&disks->failure);
    g_clear_error(&disks->qemu_failure);
    g_free(disks->socket);
    g_free(disks);
}

void disks_await_end(Node *node)
{
    guint64 timeout_ms = node->config->disk_timeout_ms;
    if (!node->disks_ending)
        return;
    if (!disk_server_wait(node->disks_ending, (guint)timeout_ms))
        log_warning("the disks are not synced after %" G_GUINT64_FORMAT
                    " ms: their server is killed, and after a reboot all of them is compared",
                    timeout_ms);
    g_clear_pointer(&node->disks_ending, disk_server_free);
}
