/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The activation flag over a node's disks. It has two members. Below are the images, which the disk
 * server switches together. Above them are QEMU's drivers, which QEMU switches together. What is
 * known of them goes to status, and each change of it to administrators.
 */
#include "colo/node/disks_internal.h"
#include "common/fault.h"
#include "common/log.h"

/* The members, in the order in which they are added. */
enum { IMAGES, QEMU };

/* ---- What is known ---- */

static BlockDiskState state_of(const Disks *disks, guint member)
{
    static const BlockDiskState states[] = {[VM_DISKS_ACTIVE] = BLOCK_DISK_ACTIVE,
                                            [VM_DISKS_INACTIVE] = BLOCK_DISK_INACTIVE,
                                            [VM_DISKS_UNKNOWN] = BLOCK_DISK_UNKNOWN};
    BlockDiskState state = block_activation_disk(disks->activation, member, NULL);
    /* An order of the flag is under way, or has failed. Else the VM knows. */
    if (member == IMAGES || state == BLOCK_DISK_UNKNOWN)
        return state;
    return states[disks->handler.look(disks->user_data).qemu];
}

/* "vda, vdb". The caller's. */
static char *join_names(const Disks *disks)
{
    const GPtrArray *all = disks->config->vm->disks;
    GString *names = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "",
                               ((const VmDisk *)g_ptr_array_index(all, i))->name);
    return g_string_free(names, FALSE);
}

static void add_member(json_object *members, const char *name, BlockDiskState state)
{
    json_object *member = json_object_new_object();
    json_object_object_add(member, "name", json_object_new_string(name));
    json_object_object_add(member, "state", json_object_new_string(block_disk_state_name(state)));
    json_object_array_add(members, member);
}

void disks_describe_flag(const Disks *disks, json_object *object)
{
    gboolean active = block_activation_flag(disks->activation) == BLOCK_ACTIVE;
    json_object *members = json_object_new_array();
    json_object_object_add(object, "flag", json_object_new_string(active ? "active" : "inactive"));
    for (guint i = 0; i < disks->config->vm->disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(disks->config->vm->disks, i);
        add_member(members, disk->name, state_of(disks, IMAGES));
    }
    add_member(members, "qemu", state_of(disks, QEMU));
    json_object_object_add(object, "members", members);
}

/* Several steps of the flag may come to what is known already. */
static void on_changed(BlockActivation *activation, gpointer user_data)
{
    Disks *disks = user_data;
    gboolean active = block_activation_flag(activation) == BLOCK_ACTIVE;
    BlockDiskState images = state_of(disks, IMAGES), qemu = state_of(disks, QEMU);
    if (active == disks->told_active && images == disks->told_images && qemu == disks->told_qemu)
        return;
    disks->told_active = active;
    disks->told_images = images;
    disks->told_qemu = qemu;
    log_info("disks (%s): %s; images %s, QEMU's %s", disks->why, active ? "active" : "inactive",
             block_disk_state_name(images), block_disk_state_name(qemu));
    json_object *data = json_object_new_object();
    disks_describe_flag(disks, data);
    json_object_object_add(data, "why", json_object_new_string(disks->why));
    disks->handler.changed(data, disks->user_data);
}

/* ---- Its members ---- */

static DiskOrder *switch_new(Disks *disks, const char *name, BlockOpDone done, gpointer ticket)
{
    DiskOrder *order = disks_order_new(disks, name, 0, NULL);
    order->switched = done;
    order->ticket = ticket;
    return order;
}

static void on_switched(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    /* Of a takeover. */
    if (result)
        disks->handler.noted(result, disks->user_data);
    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        disks_fail(disks, error);
    order->switched(order->ticket, error);
}

/* The images: below QEMU's drivers. A replica becomes active by taking over. */
static void activate_images(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    if (disks->takeover.is_set)
        /* As long as the storage takes to sync: nobody else has the VM. */
        disk_server_epoch_command(disks->server, "takeover", disks->takeover.number, 0, on_switched,
                                  switch_new(disks, "takeover", done, ticket));
    else
        disk_server_command(disks->server, "activate", NULL, disks_timeout(disks), on_switched,
                            switch_new(disks, "activate", done, ticket));
}

/*
 * QEMU activates what it has given up when the VM is resumed. It doesn't resume the VM if that
 * fails. So its disks are active when the VM runs, and not before.
 */
static void activate_qemu(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    disks->resuming = switch_new(disks, "resume", done, ticket);
    disks->handler.run(disks->user_data);
}

void disks_ran(Disks *disks, const GError *error)
{
    if (!disks->resuming)
        return;
    g_autofree DiskOrder *order = disks_answered(g_steal_pointer(&disks->resuming));
    g_clear_error(&disks->qemu_failure);
    disks->qemu_failure = error ? g_error_copy(error) : NULL;
    order->switched(order->ticket, error);
}

void disks_leave_stopped(Disks *disks)
{
    g_autoptr(GError) stopped = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                                                    "QEMU opens its disks when the guest runs");
    disks->left_stopped = TRUE;
    disks_ran(disks, stopped);
}

static void note_last_mark(const DiskOrder *order, const GError *error)
{
    Disks *disks = order->disks;
    if (!error && order->session == disks->session)
        disks->marked = epoch_some(order->epoch);
    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        disks_fail(disks, error);
}

static void send_inactivate(Disks *disks, DiskOrder *order)
{
    disk_server_command(disks->server, "inactivate", NULL, disks_timeout(disks), on_switched,
                        order);
}

/* Of a guest whose QEMU had given up its disks before, and so was not asked to. */
static void on_only_mark(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    g_autoptr(GError) failed = disks_order_error(result, error);
    note_last_mark(order, failed);
    if (failed)
        order->switched(order->ticket, failed);
    else
        send_inactivate(order->disks,
                        switch_new(order->disks, "inactivate", order->switched, order->ticket));
}

/* The mark of an epoch comes before: what it ends can't be written any more. */
static void inactivate_images(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    DiskOrder *order = switch_new(disks, "inactivate", done, ticket);
    if (!disks->last_mark_due) {
        send_inactivate(disks, order);
        return;
    }
    disks->last_mark_due = FALSE;
    order->epoch = disks->giving_up.number;
    disk_server_epoch_command(disks->server, "mark", order->epoch, disks_timeout(disks),
                              on_only_mark, order);
}

/* What QEMU has written as it gave them up is the last of the epoch. */
static void on_last_mark(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    g_autoptr(GError) failed = disks_order_error(result, error);
    note_last_mark(order, failed);
    if (!failed)
        colo_fault_point("switchover-marked");
    order->switched(order->ticket, failed);
}

static void add_name(GString *names, const char *name, const char *why)
{
    g_string_append_printf(names, "%s%s%s%s", names->len ? ", " : "", name, why ? ": " : "",
                           why ? why : "");
}

/* "vda: No space left on device": what failed; "vda, vdb": the server has seen nothing fail. */
static char *name_failed(const Disks *disks, json_object *status)
{
    const GPtrArray *all = disks->config->vm->disks;
    json_object *images = json_object_object_get(status, "disks");
    GString *names = g_string_new(NULL);
    for (gsize i = 0; images && i < json_object_array_length(images); i++) {
        json_object *image = json_object_array_get_idx(images, i);
        json_object *why = json_object_object_get(image, "write-error");
        if (!why)
            why = json_object_object_get(image, "sync-error");
        if (why)
            add_name(names, json_object_get_string(json_object_object_get(image, "name")),
                     json_object_get_string(why));
    }
    gboolean seen = names->len > 0;
    for (guint i = 0; !seen && i < all->len; i++) {
        const VmDisk *disk = g_ptr_array_index(all, i);
        if (disk->format != VM_DISK_RAW)
            add_name(names, disk->name, NULL);
    }
    return g_string_free(names, FALSE);
}

/* QEMU, which could not write back what it has, doesn't say of which disk, and why. */
static void on_looked_at(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    g_autofree char *failed = name_failed(disks, result);
    g_prefix_error(&disks->qemu_failure, "QEMU can't write to them (%s): ", failed);
    g_autoptr(GError) told = g_error_copy(disks->qemu_failure);
    if (result)
        disks_note_status(disks, result);
    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        disks_fail(disks, error);
    order->switched(order->ticket, told);
}

void disks_inactivated(Disks *disks, const GError *error)
{
    DiskOrder *order = g_steal_pointer(&disks->inactivating);
    if (!order)
        return;
    g_clear_error(&disks->qemu_failure);
    if (!error) {
        colo_fault_point("switchover-released");
        disks->last_mark_due = FALSE;
        order->epoch = disks->giving_up.number;
        disk_server_epoch_command(disks->server, "mark-written", order->epoch, disks_timeout(disks),
                                  on_last_mark, order);
        return;
    }
    disks->qemu_failure = g_error_copy(error);
    if (g_error_matches(error, VM_ERROR, VM_ERROR_QMP)) {
        disk_server_command(disks->server, "status", NULL, disks_timeout(disks), on_looked_at,
                            order);
        return;
    }
    disks_answered(order);
    order->switched(order->ticket, error);
    g_free(order);
}

/* QEMU has not been told: it has its disks as before. */
static void on_watched(json_object *result, const GError *error, gpointer user_data)
{
    g_autofree DiskOrder *order = disks_answered(user_data);
    Disks *disks = order->disks;
    (void)result;
    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        disks_fail(disks, error);
    if (error) {
        order->switched(order->ticket, error);
        return;
    }
    disks->inactivating = switch_new(disks, "release", order->switched, order->ticket);
    disks->handler.inactivate(disks->user_data);
}

/*
 * Without an epoch that it would be part of, nothing that QEMU could write is of use: its VM is
 * paused, and the images take no more.
 *
 * QEMU 10 says that it has given its disks up, also if it could not write what it had of them
 * (migration_block_inactivate(), whose result qmp_xen_save_devices_state() doesn't look at). The other host
 * would get images that lack it. So the server is asked whom it has refused something since before QEMU
 * was told, and QEMU's own word is not enough, whatever its version is. It counts also if
 * QEMU has tried that again with success: the next switchover has it right, and nothing else could tell.
 * What failed earlier doesn't count: the guest has had its answer, and QEMU still has its metadata.
 */
static void inactivate_qemu(gpointer data, BlockOpDone done, gpointer ticket)
{
    Disks *disks = data;
    if (!disks->giving_up.is_set) {
        done(ticket, NULL);
        return;
    }
    disk_server_command(disks->server, "watch", NULL, disks_timeout(disks), on_watched,
                        switch_new(disks, "watch", done, ticket));
}

void disks_make_flag(Disks *disks, gboolean owner)
{
    static const BlockDiskOps images = {activate_images, inactivate_images, FALSE};
    static const BlockDiskOps qemu = {activate_qemu, inactivate_qemu, TRUE};
    /* The server doesn't say which of them an order waits for: an error names all. */
    g_autofree char *names = join_names(disks);
    disks->activation = block_activation_new(owner);
    block_activation_add(disks->activation, names, &images, disks);
    block_activation_add(disks->activation, "qemu", &qemu, disks);
    block_activation_watch(disks->activation, on_changed, disks);
    disks->told_active = owner;
    disks->told_images = state_of(disks, IMAGES);
    disks->told_qemu = state_of(disks, QEMU);
}

gboolean disks_rest_given_up(const Disks *disks)
{
    return block_activation_flag(disks->activation) == BLOCK_INACTIVE &&
           !block_activation_is_busy(disks->activation) &&
           state_of(disks, IMAGES) == BLOCK_DISK_INACTIVE &&
           state_of(disks, QEMU) != BLOCK_DISK_UNKNOWN;
}

void disks_renew_flag(Disks *disks)
{
    block_activation_free(disks->activation);
    disks_make_flag(disks, FALSE);
    disks->left_stopped = disks->last_mark_due = disks->sync_told = FALSE;
    disks->takeover = disks->giving_up = EPOCH_NONE;
}

/* ---- What is asked of it ---- */

static void on_activated(BlockActivation *activation, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    g_autoptr(GError) qemu_failure = g_steal_pointer(&disks->qemu_failure);
    gboolean left_stopped = disks->left_stopped;
    disks->left_stopped = FALSE;
    /* The disk server's end is about to be reported, or the VM has been ended. */
    if (error && (disks->failed || g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_ABANDONED)))
        return;
    if (!error)
        block_activation_resume(activation, BLOCK_RUN_ACTIVE, NULL);
    if (left_stopped) {
        disks->handler.activated(NULL, disks->user_data);
        return;
    }
    /* Of QEMU its own message, which shows whether it lives. */
    disks->handler.activated(error && qemu_failure ? qemu_failure : error, disks->user_data);
}

gboolean disks_activate(Disks *disks, OptionalEpoch takeover)
{
    if (!disks->activation || block_activation_resume(disks->activation, BLOCK_RUN_ACTIVE, NULL))
        return TRUE;
    if (!block_activation_is_activating(disks->activation)) {
        disks->takeover = takeover;
        disks->why = takeover.is_set ? "takeover" : "resume";
        block_activate(disks->activation, on_activated, disks);
        if (takeover.is_set)
            colo_fault_point("takeover-disks");
    }
    return FALSE;
}

static void on_given_up(BlockActivation *activation, const GError *error, gpointer user_data)
{
    Disks *disks = user_data;
    guint64 epoch = disks->giving_up.number;
    g_autoptr(GError) qemu_failure = g_steal_pointer(&disks->qemu_failure);
    g_autoptr(GError) unmarked = NULL;
    (void)activation;
    /* They could not be taken back since the last time: no mark can be made of what they have. */
    if (!error && disks->last_mark_due) {
        g_set_error_literal(&unmarked, BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                            "the disks have been given up before");
        error = unmarked;
    }
    disks->giving_up = EPOCH_NONE;
    disks->last_mark_due = FALSE;
    if (error && (disks->failed || g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_ABANDONED)))
        return;
    disks->given_up(epoch, error && qemu_failure ? qemu_failure : error, disks->user_data);
}

void disks_give_up(Disks *disks, guint64 epoch, DisksDone done)
{
    disks->giving_up = epoch_some(epoch);
    disks->last_mark_due = TRUE;
    disks->given_up = done;
    disks->why = "hand-over";
    block_inactivate(disks->activation, on_given_up, disks);
}

char *disks_describe_wait(const Disks *disks)
{
    g_autofree char *names = join_names(disks);
    if (!disks->giving_up.is_set)
        return g_strdup_printf("it may wait for the disks: %s", names);
    return g_strdup_printf(disks->inactivating
                               ? "QEMU has not given up its disks, which it writes to then: %s"
                               : "the images have not been synced and given up: %s",
                           names);
}

gboolean disks_are_active(const Disks *disks)
{
    return !disks->activation || block_activation_flag(disks->activation) == BLOCK_ACTIVE;
}

gboolean disks_images_are_active(const Disks *disks)
{
    return !disks->activation || state_of(disks, IMAGES) == BLOCK_DISK_ACTIVE;
}

void disks_renounce(Disks *disks)
{
    if (disks->activation) {
        disks->why = "hand-over";
        block_inactivate(disks->activation, NULL, NULL);
    }
}

gboolean disks_may_run_copy(const Disks *disks, GError **error)
{
    return !disks->activation ||
           block_activation_resume(disks->activation, BLOCK_RUN_OVERLAY, error);
}

void disks_vm_paused(Disks *disks)
{
    if (disks->activation)
        block_activation_paused(disks->activation);
}
