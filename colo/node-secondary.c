/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary: receives and applies checkpoints, keeps what the primary's guest was given since,
 * and takes over.
 *
 * RECEIVED(e) is said when checkpoint e is complete and verified in this process's memory: from
 * then on this node can finish it alone. Mirrored input of epochs before e is part of it and
 * forgotten.
 *
 * A load of device state may write to RAM, for QEMU resets the machine first. The pages that loads
 * are known to write to are kept aside before each, and put back after it, so that RAM is that of
 * the checkpoint to the byte. They are learnt before protection is claimed: each checkpoint of that
 * time is loaded, to know that it can be, and READY names the pages that were written and not known
 * before, which the primary then sends again.
 */
#include "colo/log.h"
#include "colo/node_internal.h"
#include "common/endian.h"
#include "common/fault.h"
#include "common/fd.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHECK_MS 1000

/* Loads after which the pages they write to must be known. */
#define PROOFS_MAX 16

/* Mirrored input kept at most. Beyond it the oldest is dropped: TCP sends it again. */
#define MIRRORED_LIMIT_BYTES (16 * 1024 * 1024)
/* What a frame costs besides its bytes: about this. */
#define INPUT_OVERHEAD_BYTES 128

/* ---- Mirrored input ---- */

static void drop_oldest_input(Node *node)
{
    Input *input = g_queue_pop_head(node->mirrored);
    node->mirrored_bytes -= g_bytes_get_size(input->data) + INPUT_OVERHEAD_BYTES;
    input_free(input);
}

void secondary_mirrored(Node *node, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    if (!node->last || epoch < node->last->epoch)
        return;
    g_queue_push_tail(node->mirrored, input_new(nic, epoch, data, len));
    node->mirrored_bytes += len + INPUT_OVERHEAD_BYTES;
    while (node->mirrored_bytes > MIRRORED_LIMIT_BYTES) {
        drop_oldest_input(node);
        node->mirror_dropped++;
    }
}

void secondary_input(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    /* After all that was mirrored, whatever its epoch. */
    secondary_mirrored(node, nic, G_MAXUINT64, data, len);
}

static void forget_input_before(Node *node, guint64 epoch)
{
    for (Input *input; (input = g_queue_peek_head(node->mirrored)) && input->epoch < epoch;)
        drop_oldest_input(node);
}

/* ---- Receiving ---- */

static void on_progress(guint64 received_bytes, guint64 total_bytes, gpointer user_data)
{
    Node *node = user_data;
    node->has_progress = TRUE;
    node->progress = (SyncProgress){
        .total_bytes = total_bytes,
        .sent_bytes = received_bytes,
        .left_us = -1,
        .percent =
            total_bytes ? MIN(100.0, 100.0 * (double)received_bytes / (double)total_bytes) : 0};
}

static void on_received(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    guint8 payload[8];
    g_clear_pointer(&node->last, checkpoint_unref);
    node->last = checkpoint_ref(checkpoint);
    node->epoch = checkpoint->epoch;
    log_set_epoch(node->epoch);
    colo_put_be64(payload, checkpoint->epoch);
    link_send(node->link, LINK_MSG_RECEIVED, payload, sizeof(payload));
    colo_fault_point("secondary-received");
    forget_input_before(node, checkpoint->epoch);
    node->checkpoints++;
    node->bytes_last = checkpoint->bytes;
    node->bytes_total += checkpoint->bytes;
    stats_add(node->transfer_stats, checkpoint->transfer_us);
}

/* ---- The waiting QEMU ---- */

/*
 * Nothing else is asked of a secondary's QEMU for days, and one that hangs is found out too late:
 * so it is told to stop, which it has done long since, every CHECK_MS.
 */
static void on_checked(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    node->checking = FALSE;
    if (error) {
        node_vm_lost(node, "the waiting VM does not answer", error);
        return;
    }
    g_autoptr(GBytes) state = g_steal_pointer(&node->waiting_load);
    if (state)
        vm_load_device_state(vm, state, node->waiting_done, node);
}

static gboolean on_check_timer(gpointer user_data)
{
    Node *node = user_data;
    if (node->state == FSM_S_COLO && !node->checking) {
        node->checking = TRUE;
        vm_pause(node->vm, on_checked, node);
    }
    return G_SOURCE_CONTINUE;
}

static void load_device_state(Node *node, GBytes *state, VmDone done)
{
    if (!node->checking) {
        vm_load_device_state(node->vm, state, done, node);
        return;
    }
    node->waiting_load = g_bytes_ref(state);
    node->waiting_done = done;
}

void secondary_forget_vm(Node *node)
{
    node->checking = node->loading = FALSE;
    g_clear_pointer(&node->waiting_load, g_bytes_unref);
}

/* ---- Loading ---- */

/* Copies the pages that loads are known to write to, in order, or puts the copy back. */
static void copy_touched(Node *node, gboolean put_back)
{
    guint8 *kept = node->kept;
    guint64 count;
    for (guint64 first = 0; page_set_next_run(node->touched, first, &first, &count);
         first += count) {
        guint8 *ram = vm_ram(node->vm)->base + first * VM_PAGE_SIZE;
        gsize len = count * VM_PAGE_SIZE;
        if (put_back)
            memcpy(ram, kept, len);
        else
            memcpy(kept, ram, len);
        kept += len;
    }
}

/* The pages written since the last call; the caller frees the set. */
static PageSet *harvest(Node *node, GError **error)
{
    const VmRam *ram = vm_ram(node->vm);
    g_autoptr(PageSet) written = page_set_new(ram->size_bytes / VM_PAGE_SIZE);
    if (!dirty_tracker_harvest(node->tracker, written, error))
        return NULL;
    if (dirty_tracker_method(node->tracker) == DIRTY_METHOD_COMPARE) {
        /* It compares with what it was told last. */
        guint64 count;
        for (guint64 first = 0; page_set_next_run(written, first, &first, &count); first += count)
            for (guint64 page = first; page < first + count; page++)
                dirty_tracker_copied(node->tracker, page, ram->base + page * VM_PAGE_SIZE);
    }
    return g_steal_pointer(&written);
}

/* Before a load: pages written until now don't count, and the known ones are kept aside. */
static gboolean prepare_load(Node *node, GError **error)
{
    g_autoptr(PageSet) before = harvest(node, error);
    if (!before)
        return FALSE;
    node->kept = g_realloc(node->kept, page_set_count(node->touched) * VM_PAGE_SIZE);
    copy_touched(node, FALSE);
    return TRUE;
}

/*
 * After a load: puts back what was kept, and tells which other pages the load wrote to as runs of
 * be64 first, be64 count. They are known from now on.
 */
static GByteArray *repair_load(Node *node, GError **error)
{
    g_autoptr(PageSet) written = harvest(node, error);
    if (!written)
        return NULL;
    copy_touched(node, TRUE);
    GByteArray *runs = g_byte_array_new();
    guint64 count;
    for (guint64 first = 0; page_set_next_run(written, first, &first, &count); first += count)
        for (guint64 page = first; page < first + count; page++) {
            if (page_set_contains(node->touched, page))
                continue;
            guint8 run[16];
            colo_put_be64(run, page);
            colo_put_be64(run + 8, 1);
            g_byte_array_append(runs, run, sizeof(run));
            page_set_add_run(node->touched, page, 1);
        }
    return runs;
}

static void on_proof_loaded(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    node->loading = FALSE;
    if (error) {
        node_vm_lost(node, "the device state of this VM can't be loaded on this host", error);
        return;
    }
    /* The link may have gone meanwhile: then nobody waits for the proof. */
    if (!node->apply) {
        if (node->state == FSM_S_ACTIVE)
            secondary_start_apply(node);
        return;
    }
    g_autoptr(GError) failed = NULL;
    g_autoptr(GByteArray) runs = repair_load(node, &failed);
    if (!runs) {
        node_vm_lost(node, "dirty pages of the secondary can't be seen", failed);
        return;
    }
    if (++node->proofs_tried == PROOFS_MAX && runs->len > 0)
        failed = g_error_new(NODE_ERROR, NODE_ERROR_LOAD,
                             "after %u loads the device state still writes to new pages of RAM",
                             PROOFS_MAX);
    if (runs && runs->len > LINK_MESSAGE_MAX && !failed)
        failed = g_error_new(NODE_ERROR, NODE_ERROR_LOAD,
                             "loading the device state wrote to %u pages of RAM: too many",
                             runs->len / 16);
    if (failed) {
        node_vm_lost(node, "the VM can't be protected", failed);
        return;
    }
    log_info("the device state can be loaded; that wrote to %u new pages of RAM", runs->len / 16);
    link_send(node->link, LINK_MSG_READY, runs->data, runs->len);
}

static void start_proof(Node *node)
{
    g_autoptr(GError) error = NULL;
    if (node->loading) {
        error = g_error_new(NODE_ERROR, NODE_ERROR_PROTOCOL,
                            "checkpoint %" G_GUINT64_FORMAT " came before the one before was READY",
                            node->epoch);
        node_link_lost(node, "the peer broke the protocol", error);
        return;
    }
    if (!prepare_load(node, &error)) {
        node_vm_lost(node, "the VM can't be protected", error);
        return;
    }
    node->loading = TRUE;
    load_device_state(node, node->last->device_state, on_proof_loaded);
}

gboolean secondary_may_protect(const Node *node, GError **error)
{
    if (!node->loading && node->proofs_tried > 0)
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'protect' before a checkpoint was READY");
    return FALSE;
}

static void on_applied(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    guint8 payload[16];
    colo_put_be64(payload, checkpoint->epoch);
    colo_put_be64(payload + 8, (guint64)checkpoint->apply_us);
    link_send(node->link, LINK_MSG_APPLIED, payload, sizeof(payload));
    stats_add(node->apply_stats, checkpoint->apply_us);
    log_debug("checkpoint applied pages=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT
              " transfer_us=%" G_GINT64_FORMAT " apply_us=%" G_GINT64_FORMAT,
              checkpoint->pages, checkpoint->bytes, checkpoint->transfer_us, checkpoint->apply_us);
    if (node->state == FSM_S_ACTIVE)
        start_proof(node);
}

static void on_apply_failed(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /* While taking over, the end of the stream is no news. */
    if (node->state == FSM_S_ACTIVE || node->state == FSM_S_COLO)
        node_stream_lost(node, "the checkpoint stream from the primary has failed", error);
}

void secondary_start_apply(Node *node)
{
    static const ApplyCallbacks callbacks = {.progress = on_progress,
                                             .received = on_received,
                                             .applied = on_applied,
                                             .failed = on_apply_failed};
    g_autoptr(GError) error = NULL;
    node->proofs_tried = 0;
    node->has_progress = FALSE;
    /* The load of a session before this one may write to RAM: its end calls this again. */
    if (node->loading)
        return;
    node->touched = page_set_new(vm_ram(node->vm)->size_bytes / VM_PAGE_SIZE);
    /* Our own descriptor: what is complete is finished after the link is closed. */
    node->apply_fd = fcntl(link_checkpoint_fd(node->link), F_DUPFD_CLOEXEC, 0);
    node->apply = apply_new(vm_ram(node->vm), node->apply_fd, &callbacks, node, &error);
    if (!node->apply) {
        node_link_lost(node, "checkpoints can't be received", error);
        return;
    }
    link_send(node->link, LINK_MSG_BLANK, NULL, 0);
    colo_fault_point("secondary-sync");
}

void secondary_drop_apply(Node *node)
{
    g_clear_pointer(&node->apply, apply_free);
    colo_fd_close(&node->apply_fd);
    g_clear_pointer(&node->last, checkpoint_unref);
    g_clear_pointer(&node->touched, page_set_free);
    g_clear_pointer(&node->kept, g_free);
    node->has_progress = FALSE;
    while (!g_queue_is_empty(node->mirrored))
        drop_oldest_input(node);
}

/* ---- Takeover ---- */

static void on_taken_over(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    if (error) {
        node_vm_lost(node, "the VM can't be resumed after the takeover", error);
        return;
    }
    /* What the primary's guest was given after this checkpoint, and what has come here since. */
    for (GList *at = node->mirrored->head; at; at = at->next) {
        const Input *input = at->data;
        gsize len;
        const guint8 *data = g_bytes_get_data(input->data, &len);
        net_deliver(node, input->nic, data, len);
    }
    node->takeovers++;
    log_warning("taken over from epoch %" G_GUINT64_FORMAT " in %.1f ms; the VM runs unprotected",
                node->epoch,
                (double)colo_time_diff_us(colo_time_now(), node->link_lost) / COLO_US_PER_MS);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "epoch", json_object_new_int64((gint64)node->epoch));
    node_emit(node, "TAKEN_OVER", data);
    node_event(node, FSM_TAKEN_OVER);
}

static void on_loaded(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    if (error) {
        node_vm_lost(node, "the device state can't be loaded for the takeover", error);
        return;
    }
    g_autoptr(GError) failed = NULL;
    g_autoptr(GByteArray) runs = repair_load(node, &failed);
    if (!runs) {
        node_vm_lost(node, "RAM can't be checked after the takeover", failed);
        return;
    }
    if (runs->len > 0)
        log_warning("loading the device state wrote to %u pages of RAM, which it had not done "
                    "before",
                    runs->len / 16);
    primary_open_gate(node);
    vm_resume(vm, on_taken_over, node);
}

/* The old primary may or may not have let these go: a client knows them by their numbers. */
static void send_held_frames(Node *node)
{
    for (guint i = 0; i < node->last->frames->len; i++) {
        const HeldFrame *held = g_ptr_array_index(node->last->frames, i);
        gsize len;
        const guint8 *data = g_bytes_get_data(held->data, &len);
        net_send(node, held->nic, data, len);
    }
}

static void on_finished(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    if (!checkpoint) {
        g_autoptr(GError) error =
            g_error_new(NODE_ERROR, NODE_ERROR_LOAD, "no complete checkpoint is here");
        node_vm_lost(node, "can't take over", error);
        return;
    }
    /* It may be a later one than was last said to be RECEIVED: as good, and nothing of it is lost.
     */
    checkpoint_ref(checkpoint);
    checkpoint_unref(node->last);
    node->last = checkpoint;
    node->epoch = checkpoint->epoch;
    log_set_epoch(node->epoch);
    forget_input_before(node, checkpoint->epoch);
    send_held_frames(node);
    g_autoptr(GError) error = NULL;
    if (prepare_load(node, &error))
        load_device_state(node, checkpoint->device_state, on_loaded);
    else
        node_vm_lost(node, "can't take over", error);
}

/*
 * The network is told at once where the guest is now, before the VM can run: what clients send
 * until then would go to the dead host, and be missed for as long as TCP waits before it sends it
 * again.
 */
void secondary_take_over(Node *node)
{
    colo_fault_point("takeover-granted");
    net_set_open(node, TRUE);
    net_announce(node);
    apply_finish(node->apply, on_finished, node);
}

void secondary_init(Node *node)
{
    node->mirrored = g_queue_new();
    node->apply_fd = -1;
    node->check_timer = g_timeout_add(CHECK_MS, on_check_timer, node);
}

void secondary_finalise(Node *node)
{
    g_source_remove(node->check_timer);
    secondary_drop_apply(node);
    g_queue_free(node->mirrored);
}
