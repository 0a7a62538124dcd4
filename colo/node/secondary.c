/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary: receives checkpoints, and keeps what a takeover will need besides them.
 *
 * RECEIVED(e) is sent when checkpoint e is complete and verified in this process's memory: from
 * then on this node can finish it alone. Mirrored input of epochs before e is part of it and
 * dropped.
 *
 * While our VM runs (`colo` mode), mirrored input of its epoch is given to it, mapped by the
 * rewriter; input of another waits. Its output goes to the primary as it is, to be compared. The
 * output is also kept until the primary confirms that it has left (SETTLED). At a takeover it is
 * sent first, because the primary may have died before its own VM's output left.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/fd.h"
#include "common/log.h"

#include <fcntl.h>
#include <string.h>

/* Mirrored input kept at most. */
#define MIRRORED_LIMIT_BYTES (16 * 1024 * 1024)
/* Our VM's output kept at most: more than a client's TCP has unacknowledged. */
#define UNCONFIRMED_LIMIT_BYTES (16 * 1024 * 1024)

/* ---- Mirrored input ---- */

static void give(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (nic != LINK_NIC_NOTE) {
        net_deliver_mapped(node, nic, data, len);
        return;
    }
    CompareNote note;
    if (compare_note_unpack(data, len, &note)) {
        rewrite_note(node->rewrite, &note);
        return;
    }
    g_autoptr(GError) error =
        g_error_new(NODE_ERROR, NODE_ERROR_PROTOCOL, "%zu bytes that are no note", len);
    node_stream_lost(node, "the peer broke the protocol", error);
}

/* Of what waits; `frame` goes. */
static void give_waiting(Node *node, BacklogFrame *frame)
{
    gsize len;
    g_autoptr(BacklogFrame) taken = backlog_take(node->mirrored, frame);
    const guint8 *data = g_bytes_get_data(taken->data, &len);
    give(node, taken->nic, data, len);
}

/* The VM runs in the epoch that this belongs to, and nothing that came before it waits. */
static gboolean may_give(const Node *node, guint64 epoch)
{
    return copy_runs(node->copy) && copy_is_in(node->copy, epoch);
}

void secondary_mirrored(Node *node, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    const Checkpoint *last = copy_checkpoint(node->copy);
    if (!last || epoch < last->epoch)
        return;
    if (may_give(node, epoch) && !backlog_first(node->mirrored)) {
        give(node, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(node->mirrored, nic, epoch, frame);
}

void secondary_input(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    /* After all that was mirrored, whatever its epoch. */
    if (node->route == ROUTE_OPEN && copy_runs(node->copy) && !backlog_first(node->mirrored))
        net_deliver_mapped(node, nic, data, len);
    else
        secondary_mirrored(node, nic, G_MAXUINT64, data, len);
}

static void forget_input_before(Node *node, guint64 epoch)
{
    for (BacklogFrame *first; (first = backlog_first(node->mirrored)) && first->tag < epoch;)
        backlog_drop(node->mirrored, first);
}

void secondary_give_mirrored(Node *node)
{
    gboolean all = node->state == FSM_S_DEVICE;
    for (BacklogFrame *first;
         (first = backlog_first(node->mirrored)) && (all || first->tag <= node->epoch);)
        give_waiting(node, first);
}

/* ---- Output of our VM ---- */

static void forget_output(Node *node)
{
    backlog_clear(node->unconfirmed_output);
    node->output_count = 0;
}

void secondary_output(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (!copy_output_counts(node->copy))
        return;
    guint64 number = node->output_count + 1;
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    rewrite_observe(node->rewrite, nic, frame);
    /* One that doesn't get there is numbered, and so settles, with the next one that does. */
    if (link_send_packet(node->link, nic, node->epoch, data, len))
        node->output_count++;
    backlog_add(node->unconfirmed_output, nic, number, frame);
}

void secondary_settled(Node *node, const MessageSettled *settled)
{
    if (!copy_is_in(node->copy, settled->epoch))
        return; /* of an epoch that is over here */
    node->checkpoint_output_left = TRUE;
    for (BacklogFrame *first;
         (first = backlog_first(node->unconfirmed_output)) && first->tag <= settled->count;)
        backlog_drop(node->unconfirmed_output, first);
    /* Then single ones, ascending as ours are. */
    gsize i = 0;
    for (BacklogFrame *frame = backlog_first(node->unconfirmed_output), *next;
         frame && i < settled->n_numbers; frame = next) {
        next = backlog_next(frame);
        while (i < settled->n_numbers && settled->numbers[i] < frame->tag)
            i++;
        if (i < settled->n_numbers && settled->numbers[i] == frame->tag)
            backlog_drop(node->unconfirmed_output, frame);
    }
}

gboolean secondary_handed(Node *node, guint64 epoch, GError **error)
{
    const Checkpoint *last = copy_checkpoint(node->copy);
    if (node->state == FSM_S_COLO && last && last->epoch == epoch) {
        figures_primary_lost(node->figures);
        colo_fault_point("handed-received");
        node_event(node, FSM_HANDED);
        return TRUE;
    }
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'handed' after checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                fsm_state_name(node->state));
    return FALSE;
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

static gboolean check_attachment(const Checkpoint *checkpoint, GError **error)
{
    g_auto(Attachment) attachment = {0};
    return attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, error);
}

static gboolean is_to_run(const Checkpoint *checkpoint)
{
    g_auto(Attachment) attachment = {0};
    attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, NULL);
    return attachment.runs;
}

static void on_received(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!copy_may_change_ram(node->copy)) {
        g_set_error(&error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "a checkpoint came while the VM was running or being loaded");
        /* A VM that has run is lost: its memory has been changed under it. */
        (node->state == FSM_S_ACTIVE ? node_link_lost
                                     : node_vm_lost)(node, "the peer broke the protocol", error);
        return;
    }
    copy_received(node->copy, checkpoint);
    node->checkpoint_output_left = FALSE;
    figures_copy_paused(node->figures, colo_time_add_us(colo_time_now(), -checkpoint->transfer_us));
    node->epoch = checkpoint->epoch;
    log_set_epoch(node->epoch);
    message_send(node->link, &(Message){.type = LINK_MSG_RECEIVED, .epoch = checkpoint->epoch});
    colo_fault_point("secondary-received");
    disks_received(node->disks, checkpoint->epoch);
    forget_input_before(node, checkpoint->epoch);
    figures_add_received(node->figures, checkpoint->bytes, checkpoint->transfer_us);
}

static void on_applied(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    MessageApplied applied = {.epoch = checkpoint->epoch,
                              .apply_us = (guint64)checkpoint->apply_us};
    message_send(node->link, &(Message){.type = LINK_MSG_APPLIED, .applied = applied});
    figures_add_applied(node->figures, checkpoint->apply_us);
    log_debug("checkpoint applied pages=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT
              " transfer_us=%" G_GINT64_FORMAT " apply_us=%" G_GINT64_FORMAT,
              checkpoint->pages, checkpoint->bytes, checkpoint->transfer_us, checkpoint->apply_us);
    copy_applied(node->copy, is_to_run(checkpoint));
}

static void on_apply_failed(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /* While taking over, the end of the stream is no news. */
    if (node->state == FSM_S_ACTIVE || node->state == FSM_S_COLO || node->state == FSM_S_HANDED)
        node_stream_lost(node, "the checkpoint stream from the primary has failed", error);
}

void secondary_begin(Node *node)
{
    static const ApplyCallbacks callbacks = {.check = check_attachment,
                                             .progress = on_progress,
                                             .received = on_received,
                                             .applied = on_applied,
                                             .failed = on_apply_failed};
    g_autoptr(GError) error = NULL;
    node->has_progress = FALSE;
    /* Our own descriptor: what is complete is finished after the link is closed. */
    node->apply_fd = fcntl(link_checkpoint_fd(node->link), F_DUPFD_CLOEXEC, 0);
    node->apply = apply_new(vm_ram(node->vm), node->apply_fd, &callbacks, node, &error);
    if (!node->apply) {
        node_link_lost(node, "checkpoints can't be received", error);
        return;
    }
    traffic_begin_copy(node);
    node_attach_disks(node);
    message_send(node->link, &(Message){.type = LINK_MSG_BLANK});
    colo_fault_point("secondary-sync");
}

void secondary_drop_apply(Node *node)
{
    g_clear_pointer(&node->apply, apply_free);
    disks_detach(node->disks);
    colo_fd_close(&node->apply_fd);
    node->has_progress = FALSE;
    backlog_clear(node->mirrored);
    forget_output(node);
    final_session_over(node->final);
    traffic_end_copy(node);
    svm_forget(node);
    copy_step(node->copy);
}

/* ---- Epochs of our VM ---- */

gboolean secondary_enter_epoch(Node *node, const Checkpoint *checkpoint, GError **error)
{
    g_auto(Attachment) attachment = {0};
    if (!attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, error))
        return FALSE;
    if (!node->rewrite)
        node->rewrite = net_new_rewrite(node, checkpoint->epoch);
    if (!rewrite_checkpoint(node->rewrite, checkpoint->epoch, attachment.maps, error))
        return FALSE;
    forget_output(node);
    return TRUE;
}

/* Notes tell how to map what is about to be sent. */
static void take_notes(Node *node)
{
    for (BacklogFrame *frame = backlog_first(node->mirrored), *next; frame; frame = next) {
        next = backlog_next(frame);
        if (frame->nic == LINK_NIC_NOTE)
            give_waiting(node, frame);
    }
}

void secondary_release_output(Node *node)
{
    take_notes(node);
    rewrite_takeover(node->rewrite);
    for (const BacklogFrame *frame = backlog_first(node->unconfirmed_output); frame;
         frame = backlog_next(frame))
        net_send_mapped(node, frame->nic, frame->data);
    traffic_take_over(node);
}

/* ---- Life ---- */

void secondary_init(Node *node)
{
    node->mirrored = backlog_new(MIRRORED_LIMIT_BYTES);
    node->unconfirmed_output = backlog_new(UNCONFIRMED_LIMIT_BYTES);
}

void secondary_finalise(Node *node)
{
    backlog_free(node->mirrored);
    backlog_free(node->unconfirmed_output);
}
