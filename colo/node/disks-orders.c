/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node's disks are ordered to do: the commands of a session and of its checkpoints. */
#include "colo/node/disks_internal.h"
#include "common/log.h"

/* ---- Orders ---- */

DiskOrder *disks_order_new(Disks *disks, const char *name, guint64 epoch, DisksDone done)
{
    DiskOrder *order = g_new(DiskOrder, 1);
    *order = (DiskOrder){
        .disks = disks, .session = disks->session, .name = name, .epoch = epoch, .done = done};
    g_ptr_array_add(disks->orders, order);
    return order;
}

DiskOrder *disks_answered(gpointer order)
{
    g_ptr_array_remove_fast(((DiskOrder *)order)->disks->orders, order);
    return order;
}

guint disks_timeout(const Disks *disks)
{
    return (guint)disks->config->disk_timeout_ms;
}

GError *disks_order_error(json_object *result, const GError *error)
{
    json_object *why = json_object_object_get(result, "refused");
    if (why)
        return g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_LACKS, json_object_get_string(why));
    return error ? g_error_copy(error) : NULL;
}

/* Of mark and sync: the owner of the cycle continues. */
static void on_order(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    if (order->session != disks->session)
        return;
    g_autoptr(GError) failed = disks_order_error(result, error);
    if (failed)
        g_prefix_error(&failed, "%s: ", order->name);
    order->done(order->epoch, failed, disks->user_data);
}

void disks_sync(Disks *disks, guint64 epoch, DisksDone done)
{
    disk_server_command(disks->server, "sync", NULL, disks_timeout(disks), on_order,
                        disks_order_new(disks, "sync", epoch, done));
}

void disks_let_through(Disks *disks)
{
    if (disks->activation)
        disk_server_command(disks->server, "let-through", NULL, disks_timeout(disks), NULL, NULL);
}

void disks_mark(Disks *disks, guint64 epoch, DisksDone done)
{
    if (epoch_is(disks->marked, epoch)) {
        done(epoch, NULL, disks->user_data);
        return;
    }
    disk_server_epoch_command(disks->server, "mark", epoch, disks_timeout(disks), on_order,
                              disks_order_new(disks, "mark", epoch, done));
}

static void on_answer(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    order->answer(result, error, order->disks->user_data);
}

void disks_order(Disks *disks, const char *name, json_object *arguments, DisksAnswer done)
{
    DiskOrder *order = disks_order_new(disks, name, 0, NULL);
    order->answer = done;
    disk_server_command(disks->server, name, arguments, disks_timeout(disks), on_answer, order);
}

void disks_limit_sync_rate(Disks *disks)
{
    if (!disks->activation)
        return;
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "bytes-per-second",
                           json_object_new_uint64(disks->config->sync_rate_bytes));
    disk_server_command(disks->server, "limit-sync-rate", arguments, disks_timeout(disks), NULL,
                        NULL);
}

/* ---- Between sessions ---- */

gboolean disks_may_become_replica(const Disks *disks)
{
    return !disks->activation || (disks->server && !disks->failed && disks_rest_given_up(disks));
}

static void on_became_replica(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    if (!error)
        disks_renew_flag(disks);
    order->answer(result, error, disks->user_data);
}

void disks_become_replica(Disks *disks, DisksAnswer done)
{
    if (!disks->activation) {
        done(NULL, NULL, disks->user_data);
        return;
    }
    DiskOrder *order = disks_order_new(disks, "become-replica", 0, NULL);
    order->answer = done;
    disk_server_command(disks->server, order->name, NULL, disks_timeout(disks), on_became_replica,
                        order);
}

/* ---- Sessions ---- */

static void step_apply(Disks *disks, DisksApplyEvent event)
{
    DisksApply before = disks->apply;
    DisksApplyStep step = disks_apply_step(before, event);
    if (!step.legal)
        g_error("disks, apply: %s in %s", disks_apply_event_name(event), disks_apply_name(before));
    if (step.next != before)
        log_debug("disks, apply: %s -> %s", disks_apply_name(before), disks_apply_name(step.next));
    disks->apply = step.next;
}

static void on_attached(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (!error || order->session != disks->session)
        return;
    if (disks->handler.look(disks->user_data).is_primary)
        disks_session_lost(disks, error->message);
    else
        disks_fail(disks, error);
}

void disks_attach(Disks *disks, const DisksSession *session)
{
    if (!disks->activation)
        return;
    disks->synchronised = FALSE;
    disks->applied = disks->marked = EPOCH_NONE;
    step_apply(disks, DISKS_APPLY_SESSION);
    disks->handler.hold_back(disks->user_data);
    disk_server_attach(disks->server, session->primary, session->id, session->fd, session->discard,
                       disks_timeout(disks), on_attached,
                       disks_order_new(disks, "attach", 0, NULL));
}

static void on_detached(json_object *result, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    (void)result;
    disks->detaching--;
    if (error)
        disks_fail(disks, error);
}

void disks_detach(Disks *disks)
{
    if (!disks->server)
        return;
    disks->session++;
    disks->detaching++;
    disks->synchronised = FALSE;
    disks->marked = EPOCH_NONE;
    step_apply(disks, DISKS_APPLY_SESSION);
    disks_forget_lost(disks);
    /* Behind a sync it takes as long as that: what can't continue without it fails by itself. */
    disk_server_command(disks->server, "detach", NULL, 0, on_detached, disks);
}

gboolean disks_may_checkpoint(const Disks *disks)
{
    return !disks->activation || disks->synchronised;
}

/* ---- The secondary's checkpoints ---- */

static void on_applied(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (order->session != disks->session)
        return;
    if (error && disks->handler.look(disks->user_data).keeps &&
        !g_error_matches(error, VM_ERROR, VM_ERROR_DIED)) {
        /* Nobody else may have the VM. It can be tried again, and nothing else is possible. */
        step_apply(disks, DISKS_APPLY_REFUSED);
        disks->handler.refused("the disks can't be made those of the checkpoint", error,
                               disks->user_data);
        return;
    }
    step_apply(disks, DISKS_APPLY_DONE);
    if (error) {
        disks_fail(disks, error);
        return;
    }
    disks->applied = epoch_some(order->epoch);
    disks->handler.step_copy(disks->user_data);
}

void disks_received(Disks *disks, guint64 epoch)
{
    if (!disks->activation)
        return;
    disks->apply_epoch = epoch;
    step_apply(disks, DISKS_APPLY_RECEIVED);
    disks->handler.step_copy(disks->user_data);
}

gboolean disks_apply_is_due(const Disks *disks)
{
    return disks->apply == DISKS_APPLY_DUE;
}

void disks_apply(Disks *disks)
{
    if (!disks_apply_is_due(disks))
        return;
    guint64 epoch = disks->apply_epoch;
    step_apply(disks, DISKS_APPLY_ASK);
    disk_server_epoch_command(disks->server, "apply", epoch, disks_timeout(disks), on_applied,
                              disks_order_new(disks, "apply", epoch, NULL));
}

gboolean disks_are_applying(const Disks *disks)
{
    return disks_apply_is_asked(disks->apply);
}

gboolean disks_are_at(const Disks *disks, OptionalEpoch epoch)
{
    return !disks->activation || epoch_equal(disks->applied, epoch);
}

/* ---- The end ---- */

void disks_abandon_orders(Disks *disks)
{
    for (guint i = 0; i < disks->orders->len; i++) {
        DiskOrder *order = g_ptr_array_index(disks->orders, i);
        g_autoptr(GError) gone =
            g_error_new(BLOCK_ERROR, BLOCK_ERROR_ABANDONED, "%s: the disks end", order->name);
        if (order->switched)
            order->switched(order->ticket, gone);
        g_free(order);
    }
    g_clear_pointer(&disks->orders, g_ptr_array_unref);
}
