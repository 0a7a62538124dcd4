/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames of the guest. Which way each goes is the node's route (route.h), which only step()
 * here moves. The primary's are in step with the checkpoint cycle (primary.c), a copy's with its
 * session (secondary.c).
 *
 * Output commit: output is guarded from the pause of a session's first checkpoint until
 * traffic_open(), when the secondary has no claim any more. While it is, primary_received()
 * releases it: on RECEIVED(e), the epochs before e. In an epoch that compares the judge releases it
 * too (judge.h).
 *
 * What comes for the guest is deferred from the moment that the VM is about to be paused until it
 * runs again. It is given to the VM in the new epoch. The VM isn't stopped before QEMU has read
 * what was given until then. So what is mirrored with epoch e is what the guest was given after
 * checkpoint e and before the next one, to the frame. (QEMU 7.2, net/net.c: what it has read and
 * the guest had no room for is dropped when it stops, what it reads while it is stopped waits.)
 *
 * The secondary makes itself ready for the checkpoint, which takes as long as its disks. Meanwhile
 * the guest gets its input: of the epoch that ends, and part of the checkpoint. The secondary's VM,
 * which is paused, isn't given it any more. The secondary keeps it, and gives it to the VM if that
 * has to continue from the epoch that ends. Answers to it wait for the checkpoint.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* Input that waits for the end of a pause, at most. */
#define DEFERRED_LIMIT_BYTES (16 * 1024 * 1024)

/* ---- The route ---- */

/* The only one who sets it. */
static void step(Node *node, RouteEvent event)
{
    Route before = node->route, next;
    if (!route_step(before, event, &next))
        g_error("output: %s on route %s in state %s (%s)", route_event_name(event),
                route_name(before), fsm_state_name(node->state), node_role(node));
    if (next == before)
        return;
    log_debug("output: %s -> %s (%s)", route_name(before), route_name(next),
              route_event_name(event));
    node->route = next;
    gate_set_open(node->gate, next == ROUTE_OPEN);
}

static void open_by(Node *node, RouteEvent event)
{
    /* In the order in which the guest has sent it: what waits for the link, for the comparator,
     * for the gate. */
    net_let_leave(node);
    comparing_forget(node, TRUE);
    primary_want_no_more(node->primary, WANTED(REASON_OUTPUT_LIMIT));
    step(node, event);
}

void traffic_open(Node *node)
{
    open_by(node, ROUTE_ALONE);
}

void traffic_take_over(Node *node)
{
    open_by(node, ROUTE_TAKES_OVER);
}

void traffic_pause(Node *node)
{
    step(node, ROUTE_PAUSED);
}

void traffic_begin_epoch(Node *node, gboolean compares)
{
    step(node, compares ? ROUTE_EPOCH_COMPARES : ROUTE_EPOCH_HOLDS);
}

void traffic_end_session(Node *node)
{
    step(node, ROUTE_SESSION_ENDS);
}

void traffic_begin_copy(Node *node)
{
    step(node, ROUTE_COPY_BEGINS);
}

void traffic_end_copy(Node *node)
{
    step(node, ROUTE_COPY_ENDS);
}

/* ---- Output ---- */

static void on_released(unsigned nic, GBytes *frame, gpointer user_data)
{
    net_send_mapped(user_data, nic, frame);
}

static void hold(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    gboolean was_waiting = gate_stats(node->gate)->frames > 0;
    GateResult result = gate_add(node->gate, nic, node->epoch, data, len);
    if (result == GATE_FULL && !primary_wants(node->primary, REASON_OUTPUT_LIMIT))
        log_warning("held output has reached output-limit: frames are dropped until the next "
                    "checkpoint is complete");
    if (result != GATE_HELD)
        primary_want(node->primary, REASON_OUTPUT_LIMIT);
    else if (!was_waiting)
        primary_reschedule(node->primary);
}

/* Of a guest whose TCP numbers may be mapped. */
static GBytes *observe(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    GBytes *frame = g_bytes_new(data, len);
    if (node->rewrite)
        rewrite_observe(node->rewrite, nic, frame);
    return frame;
}

static void send_out(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (!node->rewrite) {
        net_send(node, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = observe(node, nic, data, len);
    net_send_mapped(node, nic, frame);
}

void traffic_output(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    switch (node->route) {
    case ROUTE_DROP:
    case ROUTES:
        return;
    case ROUTE_TO_PEER:
        secondary_output(node, nic, data, len);
        return;
    case ROUTE_HOLD:
        if (node->rewrite)
            g_bytes_unref(observe(node, nic, data, len));
        hold(node, nic, data, len);
        return;
    case ROUTE_COMPARE: {
        g_autoptr(GBytes) frame = observe(node, nic, data, len);
        judge_output(node->judge, nic, node->epoch, frame);
        return;
    }
    case ROUTE_OPEN:
        send_out(node, nic, data, len);
        return;
    }
}

typedef struct {
    Node *node;
    GPtrArray *frames; /* of HeldFrame* */
} HeldFrames;

/*
 * As the clients are to see it: the sender need not know how it is mapped. What is leaving is
 * mapped already.
 */
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
    gate_foreach(node->gate, primary_epoch(node->primary), add_held_in_gate, &to);
    judge_foreach_held(node->judge, primary_epoch(node->primary), add_held, &to);
    return frames;
}

/* ---- Input ---- */

static void mirror(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    if (!route_mirrors(node->route, primary_has_session(node->primary)))
        return;
    if (link_send_packet(node->link, nic, node->epoch, data, len))
        node->mirror_sent++;
    else
        node->mirror_congested++;
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

static gboolean is_pausing(const Node *node)
{
    return cycle_defers_input(primary_phase(node->primary));
}

/* `mirrored_in`: the epoch; 0: it wasn't yet. */
static void defer(Node *node, unsigned nic, guint64 mirrored_in, const guint8 *data, gsize len)
{
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(node->deferred, nic, mirrored_in, frame);
}

void traffic_input(Node *node, unsigned nic, const guint8 *data, gsize len)
{
    switch (route_input(node->state, node->route, is_pausing(node),
                        primary_has_session(node->primary))) {
    case INPUT_DROP:
    case INPUT_ROUTES:
        return;
    case INPUT_GIVE:
        net_deliver_mapped(node, nic, data, len);
        return;
    case INPUT_MIRROR:
        net_deliver_mapped(node, nic, data, len);
        mirror(node, nic, data, len);
        return;
    case INPUT_DEFER:
        defer(node, nic, 0, data, len);
        return;
    case INPUT_DEFER_MIRRORED:
        mirror(node, nic, data, len);
        defer(node, nic, node->epoch, data, len);
        return;
    case INPUT_QUEUE:
        secondary_input(node, nic, data, len);
        return;
    }
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

void traffic_forget(Node *node)
{
    primary_want_no_more(node->primary, WANTED(REASON_OUTPUT_LIMIT));
    step(node, ROUTE_VM_GONE);
    gate_discard(node->gate);
    backlog_clear(node->outbound);
    backlog_clear(node->deferred);
}

void traffic_init(Node *node)
{
    node->gate = gate_new(node->config->output_limit_bytes, on_released, node);
    node->deferred = backlog_new(DEFERRED_LIMIT_BYTES);
}

void traffic_finalise(Node *node)
{
    gate_free(node->gate);
    backlog_free(node->deferred);
}
