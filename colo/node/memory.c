/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's own memory. Each load of device state leaves some behind, so a secondary's QEMU grows for
 * as long as it lives. Above [vm] qemu-growth-limit a new one is started, in order:
 *
 *     secondary: LEAVE     may I?
 *     primary:   LEAVE     my VM lives, you may
 *     secondary: GOODBYE   drops what it holds, and joins again with a new QEMU
 *     primary              goes on alone, as for any secondary that ends on purpose
 *
 * The question, because a primary that is dead and not yet known to be is all that the secondary
 * is for. Until GOODBYE both are what they were: a link that is lost before goes its usual way.
 *
 * A primary's QEMU has grown if it was a secondary's before. It can't be replaced under its guest:
 * it is told, and over when this node is the secondary the next time.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#define LOOK_MS 1000

#define MIB (1024.0 * 1024.0)

gboolean memory_is_grown(guint64 base, guint64 now, guint64 limit)
{
    return base > 0 && limit > 0 && now > base && now - base > limit;
}

void memory_look(Node *node)
{
    guint64 limit = node->config->qemu_growth_limit_bytes;
    node->private_bytes = node->vm ? vm_private_bytes(node->vm) : 0;
    /* What it takes to run and to load is there when the VM is protected. */
    if (node->private_base == 0 && fsm_is_protected(node->state))
        node->private_base = node->private_bytes;
    if (!memory_is_grown(node->private_base, node->private_bytes, limit))
        return;
    double grown_mib = (double)(node->private_bytes - node->private_base) / MIB;
    if (node->state == FSM_S_COLO) {
        if (!node->leaving)
            log_warning("QEMU has grown by %.0f MiB: a new one is started if the primary's VM is "
                        "well",
                        grown_mib);
        node->leaving = TRUE;
        message_send(node->link, &(Message){.type = LINK_MSG_LEAVE});
    } else if (fsm_is_primary(node->state) && !node->growth_told) {
        node->growth_told = TRUE;
        log_warning("QEMU has grown by %.0f MiB: this node's next one is a new one, when it is the "
                    "secondary again",
                    grown_mib);
    }
}

void memory_leave(Node *node)
{
    if (node->state == FSM_S_COLO && node->leaving)
        node_event(node, FSM_RECYCLE);
    /* One whose end is expected has nobody to run the VM but the secondary, and one that may have
     * lost the arbiter's yes to it may not go on without it. */
    else if (node->state == FSM_P_COLO && !node->ending_timer && !node->doubted)
        message_send(node->link, &(Message){.type = LINK_MSG_LEAVE});
    /* Else it is busy with more, and is asked again. */
}

void memory_forget(Node *node)
{
    node->private_base = node->private_bytes = 0;
    node->growth_told = FALSE;
}

static gboolean on_look(gpointer user_data)
{
    memory_look(user_data);
    return G_SOURCE_CONTINUE;
}

void memory_init(Node *node)
{
    node->memory_timer = g_timeout_add(LOOK_MS, on_look, node);
}

void memory_finalise(Node *node)
{
    if (node->memory_timer)
        g_source_remove(node->memory_timer);
    node->memory_timer = 0;
}
