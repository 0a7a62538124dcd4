/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of what the secondary receives: checkpoints (receiver.h), the frames that a
 * takeover needs besides them (replay.h), and the messages about its copy. What the copy reports
 * goes to svm.c, which this file calls; svm.c doesn't call back. It has no state of its own.
 *
 * RECEIVED(e) is sent when checkpoint e is complete and verified in this process's memory: from
 * then on this node can finish it alone.
 *
 * Clients and the guest know other TCP numbers once the copy has run. Mirrored input is mapped by
 * the rewriter. The copy's output goes to the primary as it is, to be compared, and is mapped when
 * it leaves at a takeover.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"

/* ---- Frames that a takeover may need ---- */

static ReplayWorld on_look(gpointer user_data)
{
    const Node *node = user_data;
    OptionalEpoch epoch = copy_epoch(node->copy);
    return (ReplayWorld){.epoch = epoch,
                         .is_in = epoch.is_set && copy_is_in(node->copy, epoch.number),
                         .runs = copy_runs(node->copy),
                         .counts = copy_output_counts(node->copy),
                         .leaves = traffic_route(node->traffic) == ROUTE_OPEN};
}

static void on_deliver(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Node *node = user_data;
    traffic_give(node->traffic, nic, data, len);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    const Node *node = user_data;
    traffic_note(node->traffic, note);
}

static gboolean on_send(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Node *node = user_data;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    traffic_observe(node->traffic, nic, frame);
    return link_send_packet(node->link, nic, node->epoch, data, len);
}

static void on_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Node *node = user_data;
    traffic_release_mapped(node->traffic, nic, frame);
}

static void on_begin_mapping(gpointer user_data)
{
    const Node *node = user_data;
    traffic_begin_mapping(node->traffic);
}

static void on_map_and_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Node *node = user_data;
    traffic_release(node->traffic, nic, frame);
}

/* ---- Receiving ---- */

static gboolean on_may_change_ram(gpointer user_data)
{
    const Node *node = user_data;
    return copy_may_change_ram(node->copy);
}

static void on_intruded(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /* A VM that has run is lost: its memory has been changed under it. */
    (node->state == FSM_S_ACTIVE ? node_link_lost
                                 : node_vm_lost)(node, "the peer broke the protocol", error);
}

static void on_received(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    gboolean is_first = !copy_epoch(node->copy).is_set;
    copy_received(node->copy, checkpoint);
    replay_received(node->replay, checkpoint->epoch);
    figures_copy_paused(node->figures, colo_time_add_us(colo_time_now(), -checkpoint->transfer_us));
    node_set_epoch(node, checkpoint->epoch, is_first);
    message_send(node->link, &(Message){.type = LINK_MSG_RECEIVED, .epoch = checkpoint->epoch});
    colo_fault_point("secondary-received");
    disks_received(node->disks, checkpoint->epoch);
    figures_add_received(node->figures, checkpoint->bytes, checkpoint->plain_bytes,
                         checkpoint->transfer_us);
}

static void on_applied(Checkpoint *checkpoint, gboolean to_run, gpointer user_data)
{
    Node *node = user_data;
    MessageApplied applied = {.epoch = checkpoint->epoch,
                              .apply_us = (guint64)checkpoint->apply_us};
    message_send(node->link, &(Message){.type = LINK_MSG_APPLIED, .applied = applied});
    figures_add_applied(node->figures, checkpoint->apply_us);
    log_debug("checkpoint applied pages=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT
              " transfer_us=%" G_GINT64_FORMAT " apply_us=%" G_GINT64_FORMAT,
              checkpoint->pages, checkpoint->bytes, checkpoint->transfer_us, checkpoint->apply_us);
    copy_applied(node->copy, to_run);
}

static void on_failed(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    /* While taking over, the end of the stream is no news. */
    if (node->state == FSM_S_ACTIVE || node->state == FSM_S_COLO || node->state == FSM_S_HANDED)
        node_stream_lost(node, "the checkpoint stream from the primary has failed", error);
}

void secondary_start_apply(Node *node)
{
    g_autoptr(GError) error = NULL;
    if (!copy_start(node->copy, &error))
        node_vm_lost(node, "the VM can't be protected", error);
}

void secondary_drop_apply(Node *node)
{
    receiver_end(node->receiver);
    disks_detach(node->disks);
    replay_forget(node->replay);
    final_session_over(node->final);
    traffic_end_copy(node->traffic);
    svm_forget(node);
    copy_step(node->copy);
}

/* ---- Messages of the primary ---- */

/* The guest has been paused since the primary paused it. */
static void note_handed(Node *node, guint64 paused_us)
{
    ColoTime now = colo_time_now();
    gboolean planned = switchover_is_under_way(switchover_phase(node->switchover));
    figures_primary_lost(node->figures, planned ? FIGURES_SWITCHOVER : FIGURES_FAILOVER);
    figures_copy_paused(node->figures,
                        colo_time_add_us(now, -(gint64)MIN(paused_us, (guint64)now.us)));
}

gboolean secondary_handed(Node *node, const MessageMoved *handed, GError **error)
{
    const Checkpoint *last = copy_checkpoint(node->copy);
    if (node->state == FSM_S_COLO && last && last->epoch == handed->epoch) {
        note_handed(node, handed->us);
        colo_fault_point("handed-received");
        node_event(node, FSM_HANDED);
        return TRUE;
    }
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'handed' after checkpoint %" G_GUINT64_FORMAT " in state %s",
                handed->epoch, fsm_state_name(node->state));
    return FALSE;
}

gboolean secondary_prepare(Node *node, guint64 epoch, GError **error)
{
    if (node->state == FSM_S_COLO && copy_prepare(node->copy, epoch))
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'prepare' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                fsm_state_name(node->state));
    return FALSE;
}

gboolean secondary_may_protect(const Node *node, GError **error)
{
    if (copy_is_proven(node->copy))
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'protect' before a checkpoint was READY");
    return FALSE;
}

/* ---- The takeover ---- */

static void on_finished(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    if (!checkpoint) {
        g_autoptr(GError) error =
            g_error_new(NODE_ERROR, NODE_ERROR_LOAD, "no complete checkpoint is here");
        node_vm_lost(node, "can't take over", error);
        return;
    }
    /*
     * It may be a later one than the last RECEIVED that was sent: as good, and nothing of it is
     * lost.
     */
    node_set_epoch(node, checkpoint->epoch, FALSE);
    replay_release_held(node->replay, checkpoint->frames);
    if (svm_is_stopped(node))
        resume_stop(node->resume);
    copy_settled(node->copy);
}

/*
 * If the primary is lost, the network is told at once where the guest is now, before the VM can run.
 * What clients send until then would go to the dead host. It would be missed for as long as TCP
 * waits before it sends it again. A primary that has handed the VM over forwards it, and may have
 * the VM back: the network is told when the VM runs here (FSM_DO_OPEN_UPLINKS).
 */
void secondary_take_over(Node *node)
{
    colo_fault_point(node->state == FSM_S_TAKING ? "handed-granted" : "takeover-granted");
    receiver_finish(node->receiver);
}

void secondary_send_taken(Node *node)
{
    MessageMoved taken = {.epoch = node->epoch, .us = (guint64)figures_takeover_us(node->figures)};
    colo_fault_point("handed-activated");
    message_send(node->link, &(Message){.type = LINK_MSG_TAKEN, .moved = taken});
    colo_fault_point("handed-taken");
    link_let_packets_follow(node->link);
}

/* The VM has ended here, and so has its disk server. */
void secondary_give_back(Node *node)
{
    claim_return(node->claim);
}

void secondary_release_output(Node *node)
{
    replay_release_output(node->replay);
    traffic_take_over(node->traffic);
}

/* ---- Life ---- */

void secondary_init(Node *node)
{
    static const ReplayHandler handler = {.look = on_look,
                                          .deliver = on_deliver,
                                          .note = on_note,
                                          .send = on_send,
                                          .release = on_release,
                                          .begin_mapping = on_begin_mapping,
                                          .map_and_release = on_map_and_release};
    static const ReceiverHandler receiving = {.may_change_ram = on_may_change_ram,
                                              .received = on_received,
                                              .applied = on_applied,
                                              .intruded = on_intruded,
                                              .failed = on_failed,
                                              .finished = on_finished};
    node->replay = replay_new(&handler, node);
    node->receiver = receiver_new(&receiving, node);
}

void secondary_finalise(Node *node)
{
    receiver_free(node->receiver);
    replay_free(node->replay);
}
