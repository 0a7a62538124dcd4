/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of its copy (copy.h): what the copy is for in each state, what follows from what
 * it reports, and what the primary and administrators are told of it.
 *
 * A VM whose primary is lost continues to run while the arbiter is asked. When nobody can decide,
 * it is paused: its output doesn't reach its clients, and it shouldn't give them up.
 *
 * A copy may stop by itself: its guest has powered off or panicked, or QEMU has stopped it. It
 * can't take over until the next checkpoint, which the primary takes at once. If the link is lost
 * before that, the primary continues alone. A copy that QEMU has stopped for an I/O error of its
 * overlay continues where it is: what failed is tried again.
 */
#include "colo/node/events.h"
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"

static CopyWorld look(OptionalEpoch epoch, gpointer user_data)
{
    const Node *node = user_data;
    return (CopyWorld){.duty = events_copy_duty(node->state, claim_is_undecided(node->claim)),
                       .disks = disks_apply_is_due(node->disks)    ? COPY_DISKS_DUE
                                : disks_are_at(node->disks, epoch) ? COPY_DISKS_THERE
                                                                   : COPY_DISKS_BUSY,
                       .refused = resume_is_waiting(node->resume)};
}

/* ---- What happens to it ---- */

static void on_begin(gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!receiver_begin(node->receiver, vm_ram(machine_vm(node->machine)),
                        link_checkpoint_fd(node->link), &error)) {
        node_link_lost(node, "checkpoints can't be received", error);
        return;
    }
    traffic_begin_copy(node->traffic);
    node_attach_disks(node);
    message_send(node->link, &(Message){.type = LINK_MSG_BLANK});
    colo_fault_point("secondary-sync");
}

static gboolean on_is_delivered(gpointer user_data)
{
    const Node *node = user_data;
    return cards_are_read(node->cards);
}

static void on_drain(gpointer user_data)
{
    const Node *node = user_data;
    cards_drain(node->cards);
}

static void on_pausing(gpointer user_data)
{
    const Node *node = user_data;
    disks_let_through(node->disks);
}

static void on_paused(gpointer user_data)
{
    Node *node = user_data;
    disks_vm_paused(node->disks);
    figures_copy_paused(node->figures, colo_time_now());
}

static void on_not_resumed(gpointer user_data)
{
    const Node *node = user_data;
    disks_vm_paused(node->disks);
}

static void on_inactivated(gpointer user_data)
{
    const Node *node = user_data;
    disks_apply(node->disks);
}

/* Maps, input and output start over. */
static gboolean on_enter(const Checkpoint *checkpoint, gpointer user_data, GError **error)
{
    const Node *node = user_data;
    g_auto(Attachment) attachment = {0};
    if (!attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, error))
        return FALSE;
    if (!traffic_enter_epoch(node->traffic, checkpoint->epoch, attachment.maps, error))
        return FALSE;
    /* Frames that were given to the guest of before, and are not in its buffers. */
    cards_forget_input(node->cards);
    replay_enter(node->replay);
    return TRUE;
}

static gboolean on_may_run(gpointer user_data, GError **error)
{
    const Node *node = user_data;
    return disks_may_run_copy(node->disks, error);
}

static void on_resumed(OptionalEpoch in, gpointer user_data)
{
    Node *node = user_data;
    if (fsm_is_taking_over(node->state))
        figures_copy_resumed(node->figures);
    if (!in.is_set)
        return;
    message_send(node->link, &(Message){.type = LINK_MSG_LOADED, .epoch = in.number});
    colo_fault_point("secondary-loaded");
    if (fsm_is_taking_over(node->state))
        replay_give_all(node->replay);
    else
        replay_give(node->replay, in.number);
}

/* READY. */
static gboolean on_proven(const PageSet *pages, gpointer user_data, GError **error)
{
    Node *node = user_data;
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(MessageRun));
    MessageRun run;
    for (guint64 at = 0; page_set_next_run(pages, at, &run.first, &run.count);
         at = run.first + run.count)
        g_array_append_val(runs, run);
    if (runs->len > MESSAGE_READY_RUNS_MAX) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD,
                    "loading the device state wrote to %" G_GUINT64_FORMAT
                    " pages of RAM: too many",
                    page_set_count(pages));
        return FALSE;
    }
    log_info("the device state can be loaded; that wrote to %" G_GUINT64_FORMAT " new pages of RAM",
             page_set_count(pages));
    MessageReady ready = {.runs = (const MessageRun *)(gpointer)runs->data, .n_runs = runs->len};
    message_send(node->link, &(Message){.type = LINK_MSG_READY, .ready = ready});
    return TRUE;
}

static void on_stalled(guint64 epoch, const char *why, gpointer user_data)
{
    Node *node = user_data;
    log_warning("the VM doesn't run until the next checkpoint: %s", why);
    node_emit_stalled(node, why);
    MessageStalled stalled = {.epoch = epoch, .why = why};
    message_send(node->link, &(Message){.type = LINK_MSG_STALLED, .stalled = stalled});
}

static void on_dirty(const MessageDirty *part, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_DIRTY, .dirty = *part});
}

static gboolean on_has_room(gpointer user_data)
{
    const Node *node = user_data;
    return !link_has_unsent(node->link);
}

static void on_told(gpointer user_data)
{
    (void)user_data;
    colo_fault_point("secondary-prepared");
}

gboolean svm_is_stopped(const Node *node)
{
    g_auto(Attachment) attachment = {0};
    const Checkpoint *last = copy_checkpoint(node->copy);
    return last && attachment_unpack(last->epoch, last->attachment, &attachment, NULL) &&
           attachment.stopped;
}

void svm_rebooted(Node *node)
{
    /* Its output still counts: the primary's guest may be about to reboot, too. */
    if (node->state != FSM_S_COLO || !copy_is_in(node->copy, node->epoch))
        return;
    log_warning("the guest of this copy of the VM has rebooted");
    node_emit(node, "SECONDARY_REBOOTED", NULL);
    message_send(node->link, &(Message){.type = LINK_MSG_REBOOTED, .epoch = node->epoch});
}

static void on_fit(gboolean is_fit, gpointer user_data)
{
    Node *node = user_data;
    node_event(node, switchover_fit(is_fit, switchover_is_cancelled(node->switchover)));
}

static void on_may_ask(gpointer user_data)
{
    node_event(user_data, FSM_ASK_AGAIN);
}

/* In a hand-over the primary can have the VM back, which ends this one from within. */
static void on_refused(const char *what, const GError *error, gboolean is_load, gpointer user_data)
{
    const Node *node = user_data;
    resume_wait(node->resume, what, error);
    taking_refused(node->taking, what, error, is_load);
}

/* What was refused has been done, or is not to be done any more. In a takeover the try ends when the
 * VM runs; a primary's VM is no copy. */
static void on_rests(gpointer user_data)
{
    const Node *node = user_data;
    if (!fsm_is_primary(node->state) && !fsm_is_taking_over(node->state) &&
        !disks_are_applying(node->disks))
        resume_copy_rests(node->resume);
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    node_vm_lost(user_data, what, error);
}

static void on_ending(const char *what, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    machine_expect_end(node->machine, what, error);
}

/* ---- Takeover ---- */

static void finish_takeover(Node *node)
{
    holdings_taken_over(node->holdings);
    /* What the primary's guest was given and ours was not, and what has come here since. */
    replay_give_all(node->replay);
    gint64 took_us = figures_add_takeover(node->figures, node->epoch);
    uplinks_vm_came(node->uplinks);
    clock_taken_over(node->clock);
    primary_was_loaded(node->primary);
    log_warning("taken over from epoch %" G_GUINT64_FORMAT " in %.1f ms; the VM %s, unprotected",
                node->epoch, (double)took_us / COLO_US_PER_MS,
                resume_is_stopped(node->resume) ? "is stopped, as it was there" : "runs");
    json_object *data = json_object_new_object();
    figures_describe_takeover(node->figures, data);
    node_emit(node, "TAKEN_OVER", data);
    node_event(node, FSM_TAKEN_OVER);
    traffic_let_leave(node->traffic);
    resume_report_stop(node->resume);
    primary_continue(node->primary);
}

static void on_taken_over(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    copy_taken_over(node->copy, error);
    if (error)
        return;
    if (!resume_is_stopped(node->resume))
        figures_copy_resumed(node->figures);
    finish_takeover(node);
}

static void on_take_over(gpointer user_data)
{
    Node *node = user_data;
    /* Also of one that runs: it has been on an overlay until now, and its output did not leave. */
    if (vm_is_running(machine_vm(node->machine)))
        figures_copy_paused(node->figures, colo_time_now());
    resume_vm(node->resume, on_taken_over);
}

/* ---- Life ---- */

void svm_forget(Node *node)
{
    copy_forget(node->copy);
    memory_session_over(node->memory);
    resume_session_over(node->resume);
    if (!fsm_is_primary(node->state))
        traffic_forget_maps(node->traffic);
}

void svm_init(Node *node)
{
    static const CopyHandler handler = {.look = look,
                                        .begin = on_begin,
                                        .is_delivered = on_is_delivered,
                                        .drain = on_drain,
                                        .pausing = on_pausing,
                                        .paused = on_paused,
                                        .not_resumed = on_not_resumed,
                                        .inactivated = on_inactivated,
                                        .enter = on_enter,
                                        .may_run = on_may_run,
                                        .resumed = on_resumed,
                                        .proven = on_proven,
                                        .stalled = on_stalled,
                                        .dirty = on_dirty,
                                        .has_room = on_has_room,
                                        .told = on_told,
                                        .fit = on_fit,
                                        .may_ask = on_may_ask,
                                        .take_over = on_take_over,
                                        .refused = on_refused,
                                        .rests = on_rests,
                                        .lost = on_lost,
                                        .ending = on_ending};
    node->copy = copy_new(&handler, node);
}

void svm_finalise(Node *node)
{
    svm_forget(node);
    copy_free(node->copy);
}
