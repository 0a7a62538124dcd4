/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one way back to a running VM whose output may leave: first its disks are this side's, then
 * it is told to run. Starts, checkpoints, takeovers, the io-retry and `cont` all end in
 * resume_vm().
 *
 *             resume_vm()               disks active, QEMU runs it
 *     nothing -----------> under way ---------------------------------> nothing
 *                           |     ^                                     (done)
 *                   refused |     | every second, or `cont`
 *                           v     |
 *                          waiting: told, the VM and all it needs are kept
 *
 * What storage or QEMU refuses (no room, an I/O error, a `cont` that doesn't open the disks again)
 * may pass, and the VM may be the only one there is: so it is never given up for that. A primary
 * that is protected has another side that could go on: after resume-patience it hands the VM over.
 * Only a QEMU that is dead or hangs, or a disk server that is gone, is the end of the VM.
 *
 * The steps of a takeover (copy.h) wait here in the same way, this one too: then copy_step() is
 * called again. A primary's caller is not called before its VM runs.
 *
 * A guest that QEMU has stopped for an I/O error (on-error) is continued every io-retry, or by
 * `cont`, in every state; a checkpoint leaves it as it is.
 */
#include "colo/node/resume.h"

#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

/* How long until what was refused is tried again. */
#define AGAIN_MS 1000

gboolean resume_is_to_keep(const Node *node)
{
    return node->state == FSM_S_PAUSED || node->state == FSM_S_RECOVER ||
           node->state == FSM_S_DEVICE;
}

/* ---- Who is told how a try ends ---- */

static void answer(Node *node, const GError *error)
{
    g_autoptr(GPtrArray) requests = node->cont_requests;
    node->cont_requests = g_ptr_array_new();
    for (guint i = 0; i < requests->len; i++)
        if (error)
            control_fail(requests->pdata[i], error);
        else
            control_reply(requests->pdata[i], NULL);
}

/* ---- Waiting ---- */

static void try_again(Node *node);

/* No side would have output for as long as this lasts: the other side, which can, is to go on. */
static gboolean is_to_yield(const Node *node)
{
    guint64 patience_ms = node->config->resume_patience_ms;
    /* In waits: time in which this process was stopped doesn't count (common/patience.h). */
    return node->state == FSM_P_COLO && judge_copy_is_fit(node->judge) && patience_ms > 0 &&
           (guint64)node->refused_waits * AGAIN_MS >= patience_ms;
}

static gboolean on_again(gpointer user_data)
{
    Node *node = user_data;
    node->refused_waits++;
    if (is_to_yield(node)) {
        log_warning("the VM can't be resumed here: it is handed over to the secondary");
        /* Ends this waiting, and begins it again if the secondary refuses. */
        node_event(node, FSM_YIELD);
        return G_SOURCE_REMOVE;
    }
    node->again_timer = 0;
    try_again(node);
    return G_SOURCE_REMOVE;
}

gboolean resume_is_waiting(const Node *node)
{
    return node->again_timer != 0;
}

/*
 * What an administrator can do. Most of it may pass. But a QEMU that has not given up its disks has
 * given up nobody knows which of them, and an image that could not be synced has lost nobody knows
 * what: neither is mended by trying again. Before a takeover is done none of the VM's output has
 * left here, and the other host's disks have all.
 */
static char *way_out(const Node *node, gboolean is_final)
{
    const char *peer = node->peer_name ? node->peer_name : "the other node";
    if (!is_final)
        return g_strdup_printf(
            "the VM is kept, and it is tried again every second and by 'colo cont'%s",
            node->state == FSM_P_COLO ? "; 'colo failover' hands it over" : "");
    return g_strdup_printf("that can't be mended here: 'colo quit' here gives the VM back to %s, "
                           "which starts it from its disks; or, if it is paused there, 'colo "
                           "failover --force' there continues it",
                           peer);
}

/* Each reason once: it is tried every second, perhaps for hours. */
static void tell(Node *node, const char *what, const GError *error, gboolean is_final)
{
    g_autofree char *can = way_out(node, is_final);
    g_autofree char *text = g_strdup_printf("%s: %s (%s)", what, error->message, can);
    if (!g_strcmp0(text, node->refused)) {
        log_debug("still: %s", text);
        return;
    }
    g_free(node->refused);
    node->refused = g_steal_pointer(&text);
    g_autoptr(GError) told =
        g_error_new(error->domain, error->code, "%s (%s)", error->message, can);
    node_report(node, what, told);
}

void resume_wait(Node *node, const char *what, const GError *error)
{
    if (!node->refused)
        node->refused_waits = 0;
    tell(node, what, error,
         node->state == FSM_S_DEVICE &&
             (g_error_matches(error, VM_ERROR, VM_ERROR_SPENT) || disks_are_unsynced(node)));
    if (!node->again_timer)
        node->again_timer = g_timeout_add(AGAIN_MS, on_again, node);
    answer(node, error);
}

void resume_forget_waiting(Node *node)
{
    if (node->again_timer)
        g_source_remove(node->again_timer);
    node->again_timer = 0;
    g_clear_pointer(&node->refused, g_free);
}

/* ---- Resuming ---- */

static void succeed(Node *node)
{
    VmDone done = node->resume_done;
    node->resume_done = NULL;
    if (node->refused)
        log_info("the VM runs again");
    resume_forget_waiting(node);
    answer(node, NULL);
    done(node->vm, NULL, node);
}

static void end_try(Node *node, const GError *error)
{
    VmDone done = node->resume_done;
    if (!error) {
        succeed(node);
        return;
    }
    disks_vm_paused(node);
    if (fsm_is_primary(node->state) && resume_may_pass(error)) {
        resume_wait(node, "the VM can't be resumed", error);
        primary_stay_paused(node);
        return;
    }
    node->resume_done = NULL;
    done(node->vm, error, node);
}

static void on_resumed(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    (void)vm;
    end_try(node, error);
}

void resume_run(Node *node, VmDone done, gpointer user_data)
{
    /* Its output may leave from here on: the disks are those that it was produced on. */
    if (node->state == FSM_S_DEVICE && node->route != ROUTE_OPEN)
        secondary_release_output(node);
    vm_resume(node->vm, done, user_data);
}

static gboolean on_activated(gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = g_steal_pointer(&node->activation_error);
    node->activated_source = 0;
    end_try(node, error);
    return G_SOURCE_REMOVE;
}

/* From the main loop: whoever is told of an error may end the VM and its disks. */
void resume_activated(Node *node, const GError *error)
{
    if (!node->resume_done)
        return;
    node->activation_error = error ? g_error_copy(error) : NULL;
    node->activated_source = g_idle_add_full(G_PRIORITY_HIGH, on_activated, node, NULL);
}

static void try_resume(Node *node)
{
    if (disks_activate(node))
        resume_run(node, on_resumed, node);
}

void resume_vm(Node *node, VmDone done)
{
    g_assert(!node->resume_done);
    node->resume_done = done;
    try_resume(node);
}

gboolean resume_give_up(Node *node)
{
    if (!node->resume_done || !node->again_timer)
        return FALSE;
    node->resume_done = NULL;
    resume_forget_waiting(node);
    return TRUE;
}

static void try_again(Node *node)
{
    if (node->again_timer)
        g_source_remove(node->again_timer);
    node->again_timer = 0;
    if (node->resume_done)
        try_resume(node);
    else
        copy_step(node->copy);
}

/* ---- A guest that an I/O error has stopped ---- */

/* It stops again at each try for as long as the error lasts: told once, until it has run so long.
 */
#define SAME_STOP_US (2 * G_USEC_PER_SEC)

static gboolean on_io_retry(gpointer user_data)
{
    Node *node = user_data;
    node->io_timer = 0;
    node->continue_due = TRUE;
    primary_continue(node);
    return G_SOURCE_REMOVE;
}

void resume_guest_stopped(Node *node, const char *detail)
{
    guint64 retry_ms = node->config->io_retry_ms;
    ColoTime now = colo_time_now();
    gint64 same_us = (gint64)retry_ms * COLO_US_PER_MS + SAME_STOP_US;
    gboolean io_error = !strcmp(detail, "io-error");
    if (!io_error || colo_time_diff_us(now, node->io_stopped_at) > same_us) {
        log_warning("QEMU has stopped the guest: %s", detail);
        node_emit(node, "GUEST_STOPPED", NULL);
    }
    if (!io_error)
        return;
    if (colo_time_diff_us(now, node->io_stopped_at) > same_us) {
        g_autoptr(GError) error =
            g_error_new(VM_ERROR, VM_ERROR_QMP, "'colo cont' continues it%s",
                        retry_ms ? ", and colod tries it every io-retry" : "");
        node_report(node, "the guest is stopped by an I/O error of a disk", error);
    }
    node->io_stopped = TRUE;
    node->io_stopped_at = now;
    if (retry_ms && !node->io_timer)
        node->io_timer = g_timeout_add((guint)retry_ms, on_io_retry, node);
}

void resume_continues(Node *node)
{
    node->io_stopped = node->continue_due = FALSE;
}

static void forget_io(Node *node)
{
    resume_continues(node);
    if (node->io_timer)
        g_source_remove(node->io_timer);
    node->io_timer = 0;
}

/* ---- The end ---- */

void resume_forget(Node *node)
{
    g_autoptr(GError) gone =
        g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE, "the VM has been ended meanwhile");
    node->resume_done = NULL;
    if (node->activated_source)
        g_source_remove(node->activated_source);
    node->activated_source = 0;
    g_clear_error(&node->activation_error);
    resume_forget_waiting(node);
    forget_io(node);
    answer(node, gone);
}

/* ---- The command ---- */

gboolean resume_now(Node *node, ControlRequest *request)
{
    if (!node->io_stopped && !node->again_timer && !node->resume_done)
        return FALSE;
    g_ptr_array_add(node->cont_requests, request);
    if (node->again_timer) {
        try_again(node);
    } else if (node->io_stopped && !node->resume_done) {
        node->continue_due = TRUE;
        primary_continue(node);
    }
    return TRUE;
}
