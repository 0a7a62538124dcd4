/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PREPARE and DIRTY: the copy is paused for a checkpoint. It names the pages that the checkpoint
 * has to carry because the copy has written them. There may be many, so they are sent in parts. The
 * next part is not sent before the kernel has taken those before, so that our own messages don't
 * overrun the control connection. Heartbeats find room between them.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"

/* Runs in one DIRTY message: half of what a message may have. */
#define DIRTY_RUNS_MAX 65536u
G_STATIC_ASSERT(DIRTY_RUNS_MAX <= MESSAGE_DIRTY_RUNS_MAX);

gboolean svm_prepare(Node *node, guint64 epoch, GError **error)
{
    if (node->state == FSM_S_COLO && copy_prepare(node->copy, epoch))
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'prepare' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                fsm_state_name(node->state));
    return FALSE;
}

static guint64 count_runs(const PageSet *pages)
{
    guint64 runs = 0, first, count;
    for (guint64 at = 0; page_set_next_run(pages, at, &first, &count); at = first + count)
        runs++;
    return runs;
}

static void send_part(Node *node)
{
    Dirty *dirty = &node->dirty;
    guint runs = (guint)MIN(dirty->runs, DIRTY_RUNS_MAX);
    g_autofree MessageRun *part = g_new0(MessageRun, runs);
    dirty->runs -= runs;
    for (guint i = 0; i < runs; i++) {
        page_set_next_run(dirty->pages, dirty->at, &part[i].first, &part[i].count);
        dirty->at = part[i].first + part[i].count;
    }
    MessageDirty told = {.epoch = dirty->epoch,
                         .follow = (guint32)((dirty->runs + DIRTY_RUNS_MAX - 1) / DIRTY_RUNS_MAX),
                         .runs = part,
                         .n_runs = runs};
    message_send(node->link, &(Message){.type = LINK_MSG_DIRTY, .dirty = told});
}

void svm_send_dirty(Node *node)
{
    if (!node->dirty.pages)
        return;
    do {
        if (link_has_unsent(node->link))
            return; /* called again when the kernel has taken it */
        send_part(node);
    } while (node->dirty.runs > 0);
    svm_forget_dirty(node);
    copy_has_told(node->copy);
    colo_fault_point("secondary-prepared");
}

void svm_written(guint64 epoch, const PageSet *pages, gpointer user_data)
{
    Node *node = user_data;
    node->dirty = (Dirty){.pages = page_set_copy(pages), .epoch = epoch, .runs = count_runs(pages)};
    svm_send_dirty(node);
}

void svm_forget_dirty(Node *node)
{
    g_clear_pointer(&node->dirty.pages, page_set_free);
}
