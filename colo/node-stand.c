/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary's VM that stands still though no checkpoint is taken: frozen, because the other side is
 * to go on and has not been seen to (fsm.h). It keeps all that it would need to go on itself. Or
 * because it ends, and has to stand still for that (node-final.c).
 *
 *     any phase of the cycle --its end--> standing: pause, read what the guest has said --> stands
 *                                                     |                                      |
 *     resuming -> idle <--- not to stand any more ----+--------------------------------------'
 */
#include "colo/log.h"
#include "colo/node_internal.h"

static void on_stood(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    if (error) {
        node_vm_lost(node, "the VM can't be paused", error);
        return;
    }
    disks_vm_paused(node);
    net_drain(node);
    if (vm != node->vm)
        return; /* a card of it has failed */
    node->stood = TRUE;
    if (!node->stands)
        primary_let_go(node);
    else if (node->final)
        final_stood(node);
}

void primary_stand(Node *node)
{
    node->cycle.phase = CYCLE_STANDING;
    node->stood = FALSE;
    vm_pause(node->vm, on_stood, node);
}

void primary_stand_still(Node *node)
{
    node->stands = TRUE;
    if (node->cycle.phase == CYCLE_IDLE) {
        primary_stand(node);
    } else if (resume_give_up(node)) {
        node->cycle.phase = CYCLE_STANDING;
        node->stood = TRUE;
        if (node->final)
            final_stood(node);
    }
}

void primary_freeze(Node *node)
{
    net_set_open(node, FALSE);
    primary_stand_still(node);
}

void primary_unfreeze(Node *node)
{
    node->stands = FALSE;
    net_set_open(node, TRUE);
    net_announce(node);
    /* Else it runs, or will at the end of the cycle or of the pause. */
    if (node->cycle.phase == CYCLE_STANDING && node->stood)
        primary_let_go(node);
}
