/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary's VM that is paused though no checkpoint is taken (fsm.h). The reason may be a
 * hand-over, or its end (final.c). Or the other side is to continue and has not been seen to
 * (frozen). The VM keeps all that it would need to continue itself.
 *
 * The VM is paused when no checkpoint is under way, or stays paused if QEMU refuses to run it:
 * cycle.h.
 *
 * Handing over: the cycle under way is completed. The node waits for a secondary's VM that is being
 * loaded, or was stalled. When ours is paused, none of its output leaves any more: the secondary
 * has what is held, or will send the same itself. What comes for the guest meanwhile is kept, and
 * mirrored, so that the side that continues has it.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/patience.h"

/* How long clients may wait for the end of a hand-over before the arbiter has to decide. */
#define HAND_OVER_MS 10000

/* ---- Paused ---- */

void primary_committed(Node *node)
{
    if (node->state == FSM_P_DEVICE && cycle_is_committed(node->cycle.phase))
        node_event(node, FSM_COMMITTED);
}

void primary_paused(Node *node)
{
    if (final_has_begun(node->final))
        final_paused(node->final);
    else
        primary_committed(node);
}

void primary_stay_paused(Node *node)
{
    if (node->pause_wanted && resume_give_up(node->resume))
        primary_step(node, CYCLE_EVENT_REFUSED);
}

gboolean primary_is_to_pause(Node *node)
{
    /* A hand-over needs a secondary that can continue: a stalled one takes a checkpoint first. */
    if (!node->pause_wanted || (!judge_copy_is_fit(node->judge) && !final_has_begun(node->final)))
        return FALSE;
    if (judge_peer_vm(node->judge) == PEER_VM_LOADS && !final_has_begun(node->final))
        return TRUE;
    primary_step(node, CYCLE_EVENT_STOP);
    return TRUE;
}

void primary_resume(Node *node)
{
    node->pause_wanted = FALSE;
    if (node->frozen) {
        net_set_open(node, TRUE);
        announce_start(node->announce);
    }
    node->frozen = FALSE;
    primary_step(node, CYCLE_EVENT_LET_GO);
    /* While it was to be paused, nothing was scheduled. */
    primary_reschedule(node);
}

void primary_pause(Node *node)
{
    node->pause_wanted = TRUE;
    primary_stay_paused(node);
    primary_reschedule(node);
}

void primary_freeze(Node *node)
{
    net_set_open(node, FALSE);
    node->frozen = TRUE;
    primary_pause(node);
}

/* ---- Handing over ---- */

static gboolean on_hand_over_timer(gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = g_error_new(NODE_ERROR, NODE_ERROR_REFUSED,
                                          "not done after %d seconds", HAND_OVER_MS / 1000);
    node->hand_over_timer = 0;
    node_event(node, FSM_HAND_OVER_FAILED);
    /* Not before: what was wrong is over when a pair is protected. */
    node_report(node, "the VM can't be handed over", error);
    return G_SOURCE_REMOVE;
}

void primary_hand_over(Node *node)
{
    node->hand_over_timer = patience_add(HAND_OVER_MS, on_hand_over_timer, node);
    primary_pause(node);
}

void primary_end_hand_over(Node *node)
{
    if (node->hand_over_timer)
        g_source_remove(node->hand_over_timer);
    node->hand_over_timer = 0;
}

void primary_send_handed(Node *node)
{
    colo_fault_point("handed-paused");
    message_send(node->link, &(Message){.type = LINK_MSG_HANDED, .epoch = node->epoch});
    primary_mirror_deferred(node);
    colo_fault_point("handed-sent");
}

gboolean primary_refused(Node *node, const MessageRefused *refused, GError **error)
{
    if (node->state != FSM_P_HANDED) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message 'refused' in state %s",
                    fsm_state_name(node->state));
        return FALSE;
    }
    g_autoptr(GError) why = g_error_new_literal(NODE_ERROR, NODE_ERROR_REFUSED, refused->why);
    node->doubted |= refused->asked;
    /* Its VM is paused, and ours is no more. */
    primary_want(node, REASON_ADMIN);
    node_event(node, FSM_REFUSED);
    /* Not before: what was wrong is over when a pair is protected. */
    node_report(node, "the secondary does not take over", why);
    return TRUE;
}
