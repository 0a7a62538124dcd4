/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ordered end of a protected VM with disks (an administrator's order, the guest's own
 * power-off): before it, a last mark makes both hosts' disks the same, and the record says so. So
 * either host may start the VM next.
 *
 *   primary    the cycle ends, the VM is paused --mark(e), FINAL(e)--> waits --FINISHED(e)--> ends
 *   secondary  FINAL(e), marked(e) --finish(e): all of it is durable--> FINISHED(e)
 *
 * Whatever else happens meanwhile, the primary ends: after FINAL_MS at the latest, and at once if
 * it is told to once more. Without FINISHED only its own disks count, and the record says that. A
 * secondary that has heard FINAL doesn't take over: its disks may have gone beyond its RAM.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"
#include "common/patience.h"

/* What a service manager waits for is longer, and so is what a disk needs that is well. */
#define FINAL_MS 10000

void final_forget(Node *node)
{
    if (node->final_timer)
        g_source_remove(node->final_timer);
    node->final_timer = 0;
}

/* ---- Primary ---- */

static gboolean on_patience_over(gpointer user_data)
{
    Node *node = user_data;
    node->final_timer = 0;
    log_warning("the secondary's disks are not known to have everything: only this node can start "
                "the VM next");
    node_event(node, FSM_SHUTDOWN);
    return G_SOURCE_REMOVE;
}

void final_begin(Node *node)
{
    if (node->state != FSM_P_COLO || !node->disks || node->final) {
        node_event(node, FSM_SHUTDOWN);
        return;
    }
    log_info("the VM ends: its last writes go to the secondary");
    node->final = TRUE;
    node->final_timer = patience_add(FINAL_MS, on_patience_over, node);
    primary_pause(node);
}

static void on_marked(Node *node, guint64 epoch, const GError *error)
{
    if (error) {
        node_report(node, "the disks' last mark can't be made", error);
        node_event(node, FSM_SHUTDOWN);
        return;
    }
    node->epoch = epoch;
    message_send(node->link, &(Message){.type = LINK_MSG_FINAL, .epoch = epoch});
}

void final_paused(Node *node)
{
    if (node->state == FSM_P_COLO)
        disks_mark(node, node->epoch + 1, on_marked);
}

gboolean final_finished(Node *node, guint64 epoch, GError **error)
{
    if (!node->final || node->state != FSM_P_COLO || epoch != node->epoch) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'finished' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                    fsm_state_name(node->state));
        return FALSE;
    }
    log_info("the secondary's disks have everything");
    node->in_step = TRUE;
    node_event(node, FSM_SHUTDOWN);
    return TRUE;
}

/* ---- Secondary ---- */

static void on_finished(Node *node, json_object *result, const GError *error)
{
    (void)result;
    if (error) {
        node_report(node, "these disks don't have everything", error);
        /* The primary need not wait. */
        message_send(node->link, &(Message){.type = LINK_MSG_FAILED, .text = error->message});
        return;
    }
    if (node->state != FSM_S_COLO)
        return;
    message_send(node->link, &(Message){.type = LINK_MSG_FINISHED, .epoch = node->final_epoch});
}

void final_marked(Node *node, guint64 epoch)
{
    node->final_marked = epoch;
    if (!node->final || node->final_epoch != epoch || node->state != FSM_S_COLO)
        return;
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "epoch", json_object_new_uint64(epoch));
    disks_order(node, "finish", arguments, on_finished);
}

gboolean final_received(Node *node, guint64 epoch, GError **error)
{
    if (node->state != FSM_S_COLO || !node->disks || node->final) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'final' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                    fsm_state_name(node->state));
        return FALSE;
    }
    node->final = TRUE;
    node->final_epoch = epoch;
    if (node->final_marked == epoch)
        final_marked(node, epoch);
    return TRUE;
}

void final_session_over(Node *node)
{
    if (fsm_is_primary(node->state))
        return;
    node->final = FALSE;
    node->final_epoch = node->final_marked = 0;
}
