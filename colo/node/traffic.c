/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames of the primary's guest, in step with the checkpoint cycle (primary.c).
 *
 * Output commit: the gate is closed in the pause of a session's first checkpoint and opened again
 * only by primary_open_gate(), when the secondary has no claim any more. While it is closed, output
 * is released by primary_received(): on RECEIVED(e), the epochs before e; and, in an epoch that
 * compares, by the comparator (compare.c).
 *
 * From the moment that the VM is about to be paused until it runs again, what comes for the guest
 * is deferred, and given to it in the new epoch. The VM isn't stopped before QEMU has read what was
 * given until then. So what is mirrored with epoch e is what the guest was given after checkpoint e
 * and before the next one, to the frame. (QEMU 7.2, net/net.c: what it has read and the guest had
 * no room for is dropped when it stops, what it reads while it is stopped waits.)
 *
 * While the secondary makes itself ready for the checkpoint, which takes as long as its disks, the
 * guest gets its input: of the epoch that ends, and part of the checkpoint. The secondary's VM,
 * which stands still, isn't given it any more; the secondary keeps it, and gives it to the VM if it
 * has to go on from the epoch that ends. Answers to it wait for the checkpoint.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* Input that waits for the end of a pause, at most. */
#define DEFERRED_LIMIT_BYTES (16 * 1024 * 1024)

/* ---- Output ---- */

static void on_released(unsigned nic, GBytes *frame, gpointer user_data)
{
    net_send_mapped(user_data, nic, frame);
}

void primary_output(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (node->gate_open && !node->rewrite) {
        net_send(node, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    if (node->rewrite)
        rewrite_observe(node->rewrite, nic, frame);
    if (node->gate_open) {
        net_send_mapped(node, nic, frame);
        return;
    }
    if (node->compares) {
        comparing_output(node, nic, frame);
        return;
    }
    gboolean was_waiting = gate_stats(node->gate)->frames > 0;
    switch (gate_add(node->gate, nic, node->epoch, data, len)) {
    case GATE_HELD:
        break;
    case GATE_FILLING:
        node->output_filling = TRUE;
        primary_reschedule(node);
        return;
    case GATE_FULL:
        if (!node->output_filling)
            log_warning("held output has reached output-limit: frames are dropped until the next "
                        "checkpoint is complete");
        node->output_filling = TRUE;
        primary_reschedule(node);
        return;
    }
    if (!was_waiting)
        primary_reschedule(node);
}

void primary_open_gate(Node *node)
{
    net_let_leave(node);
    comparing_forget(node, TRUE);
    node->gate_open = TRUE;
    node->output_filling = FALSE;
    gate_set_open(node->gate, TRUE);
}

void primary_close_gate(Node *node)
{
    node->gate_open = FALSE;
    gate_set_open(node->gate, FALSE);
}

typedef struct {
    Node *node;
    GPtrArray *frames; /* of HeldFrame* */
} HeldFrames;

/* As the clients are to see it: whoever sends it need not know how it is mapped. What is leaving is
 * that already. */
static void add_held(unsigned nic, GBytes *frame, gpointer user_data)
{
    const HeldFrames *to = user_data;
    HeldFrame *held = g_new(HeldFrame, 1);
    *held =
        (HeldFrame){.nic = nic,
                    .data = to->node->rewrite ? rewrite_map_output(to->node->rewrite, nic, frame)
                                              : g_bytes_ref(frame)};
    g_ptr_array_add(to->frames, held);
}

static void add_held_in_gate(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)epoch;
    add_held(nic, frame, user_data);
}

static void held_frame_free(gpointer data)
{
    HeldFrame *held = data;
    g_bytes_unref(held->data);
    g_free(held);
}

GPtrArray *primary_held_frames(Node *node)
{
    GPtrArray *frames = g_ptr_array_new_with_free_func(held_frame_free);
    HeldFrames to = {.node = node, .frames = frames};
    for (const BacklogFrame *frame = backlog_first(node->outbound); frame;
         frame = backlog_next(frame)) {
        HeldFrame *held = g_new(HeldFrame, 1);
        *held = (HeldFrame){.nic = frame->nic, .data = g_bytes_ref(frame->data)};
        g_ptr_array_add(frames, held);
    }
    gate_foreach(node->gate, node->cycle.epoch, add_held_in_gate, &to);
    if (node->compare)
        compare_foreach_held(node->compare, node->cycle.epoch, add_held, &to);
    return frames;
}

/* ---- Input ---- */

static void mirror(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (node->gate_open || !node->capture)
        return;
    if (link_send_packet(node->link, nic, node->epoch, data, len))
        node->mirror_sent++;
    else
        node->mirror_congested++;
}

static void give_to_guest(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    net_deliver_mapped(node, nic, data, len);
    mirror(node, nic, data, len);
}

void primary_mirror_deferred(Node *node)
{
    for (BacklogFrame *frame = backlog_first(node->deferred); frame; frame = backlog_next(frame)) {
        gsize len;
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        if (!frame->tag)
            mirror(node, frame->nic, data, len);
        frame->tag = node->epoch;
    }
}

static gboolean is_deferred(const Node *node)
{
    return node->cycle.phase >= CYCLE_SETTLING && node->cycle.phase <= CYCLE_RESUMING;
}

void primary_input(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (!is_deferred(node)) {
        give_to_guest(node, nic, data, len);
        return;
    }
    gboolean handed = node->state == FSM_P_HANDED;
    if (handed)
        mirror(node, nic, data, len);
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(node->deferred, nic, handed ? node->epoch : 0, frame);
}

void primary_give_deferred(Node *node)
{
    while (backlog_first(node->deferred)) {
        gsize len;
        g_autoptr(BacklogFrame) frame = backlog_take(node->deferred, backlog_first(node->deferred));
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        net_deliver_mapped(node, frame->nic, data, len);
        if (!frame->tag)
            mirror(node, frame->nic, data, len);
    }
}

/* ---- */

void primary_forget_traffic(Node *node)
{
    node->output_filling = FALSE;
    primary_close_gate(node);
    gate_discard(node->gate);
    backlog_clear(node->outbound);
    backlog_clear(node->deferred);
}

void primary_init_traffic(Node *node)
{
    node->gate = gate_new(node->config->output_limit_bytes, on_released, node);
    node->deferred = backlog_new(DEFERRED_LIMIT_BYTES);
}

void primary_finalise_traffic(Node *node)
{
    gate_free(node->gate);
    backlog_free(node->deferred);
}
