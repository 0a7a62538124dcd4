/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PREPARE and DIRTY: the secondary's VM stands still for a checkpoint, and names the pages that the
 * checkpoint has to carry because it has written them. There may be many: they are sent in parts,
 * and the next one not before the kernel has taken those before, so that the control connection is
 * not overrun by our own words. Heartbeats find room between them.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"

/* Runs in one DIRTY message: half of what a message may have. */
#define DIRTY_RUNS_MAX 65536u
G_STATIC_ASSERT(DIRTY_RUNS_MAX <= MESSAGE_DIRTY_RUNS_MAX);

gboolean svm_prepare(Node *node, guint64 epoch, GError **error)
{
    if (node->state != FSM_S_COLO || node->prepare_epoch || !node->last ||
        epoch != node->last->epoch + 1) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'prepare' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                    fsm_state_name(node->state));
        return FALSE;
    }
    node->prepare_epoch = epoch;
    svm_step(node);
    return TRUE;
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
    guint runs = (guint)MIN(node->dirty_runs, DIRTY_RUNS_MAX);
    g_autofree MessageRun *part = g_new0(MessageRun, runs);
    node->dirty_runs -= runs;
    for (guint i = 0; i < runs; i++) {
        page_set_next_run(node->dirty, node->dirty_at, &part[i].first, &part[i].count);
        node->dirty_at = part[i].first + part[i].count;
    }
    MessageDirty dirty = {.epoch = node->prepare_epoch,
                          .follow =
                              (guint32)((node->dirty_runs + DIRTY_RUNS_MAX - 1) / DIRTY_RUNS_MAX),
                          .runs = part,
                          .n_runs = runs};
    message_send(node->link, &(Message){.type = LINK_MSG_DIRTY, .dirty = dirty});
}

void svm_send_dirty(Node *node)
{
    if (!node->dirty)
        return;
    do {
        if (link_has_unsent(node->link))
            return; /* called again when the kernel has taken it */
        send_part(node);
    } while (node->dirty_runs > 0);
    g_clear_pointer(&node->dirty, page_set_free);
    node->prepare_epoch = 0;
    colo_fault_point("secondary-prepared");
}

static void on_written(const PageSet *pages, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    node->svm_job = SVM_IDLE;
    if (error) {
        node_vm_ending(node, "dirty pages of the secondary can't be seen", error);
        return;
    }
    if (node->prepare_epoch && node->state == FSM_S_COLO) {
        node->dirty = page_set_copy(pages);
        node->dirty_at = 0;
        node->dirty_runs = count_runs(pages);
        svm_send_dirty(node);
    } else {
        node->prepare_epoch = 0; /* the session is over */
    }
    svm_step(node);
}

void svm_answer_prepare(Node *node)
{
    node->svm_job = SVM_LOOKING;
    load_guard_written(node->guard, on_written, node);
}
