/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of its primary (primary.h): what the checkpoint cycle knows of the other parts,
 * and what it has them do.
 */
#include "colo/node/node_internal.h"

/* ---- What it asks for ---- */

static PrimaryWorld on_look(gpointer user_data)
{
    const Node *node = user_data;
    return (PrimaryWorld){.state = node->state,
                          .epoch = node->epoch,
                          .peer_vm = judge_peer_vm(node->judge),
                          .copy_is_fit = judge_copy_is_fit(node->judge),
                          .is_recorded = claim_is_recorded(node->claim),
                          .disks_in_step = disks_may_checkpoint(node->disks),
                          .has_disks = disks_are_there(node->disks),
                          .output_waits = traffic_awaits_checkpoint(node->traffic),
                          .is_stopped = resume_is_stopped(node->resume),
                          .ends = final_has_begun(node->final)};
}

static gboolean on_is_delivered(gpointer user_data)
{
    const Node *node = user_data;
    return cards_are_read(node->cards);
}

/* ---- What it reports ---- */

static void on_event(FsmEvent event, gpointer user_data)
{
    node_event(user_data, event);
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    node_report(user_data, what, error);
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

static void on_link_lost(const char *what, const GError *error, gpointer user_data)
{
    node_link_lost(user_data, what, error);
}

static void on_stream_lost(const char *what, const GError *error, gpointer user_data)
{
    node_stream_lost(user_data, what, error);
}

static void on_send(const Message *message, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, message);
}

/* ---- The session ---- */

static void on_session_began(gpointer user_data)
{
    Node *node = user_data;
    answering_watch(node->answering);
    node_attach_disks(node);
    net_send_addresses(node);
}

static void on_session_ended(gpointer user_data)
{
    Node *node = user_data;
    disks_detach(node->disks);
    answering_forget(node->answering);
    comparing_end(node);
}

static void on_proven(gpointer user_data)
{
    const Node *node = user_data;
    claim_tidy(node->claim);
}

/* ---- The VM ---- */

static void on_begin_run(gpointer user_data)
{
    const Node *node = user_data;
    holdings_begin_run(node->holdings);
}

static void on_ran(const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    primary_ran(node->primary, error);
}

static void on_resume(gpointer user_data)
{
    const Node *node = user_data;
    resume_vm(node->resume, on_ran);
}

static void on_running(ColoTime paused, ColoTime now, gpointer user_data)
{
    Node *node = user_data;
    /* A guest that is stopped misses nothing by our doing. */
    if (paused.us && !resume_may_not_run(node->resume))
        figures_add_pause(node->figures, paused, now);
    if (!vm_is_running(machine_vm(node->machine)))
        resume_report_stop(node->resume);
    clock_look(node->clock);
    traffic_give_deferred(node->traffic);
    switchover_runs(node->switchover);
}

static gboolean on_continues(gpointer user_data)
{
    const Node *node = user_data;
    if (!resume_is_to_continue(node->resume))
        return FALSE;
    resume_continues(node->resume);
    return TRUE;
}

static gboolean on_give_up(gpointer user_data)
{
    const Node *node = user_data;
    return resume_give_up(node->resume);
}

static void on_ready_to_end(gpointer user_data)
{
    const Node *node = user_data;
    final_paused(node->final);
}

static void on_fence(gboolean closed, gpointer user_data)
{
    Node *node = user_data;
    net_set_open(node, !closed);
    if (!closed)
        announce_start(node->announce);
}

/* ---- The checkpoint ---- */

static void on_synced(guint64 epoch, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)epoch;
    primary_synced(node->primary, error);
}

static void on_sync(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    disks_sync(node->disks, epoch, on_synced);
}

static void on_pausing(gpointer user_data)
{
    const Node *node = user_data;
    disks_let_through(node->disks);
}

static void on_paused(ColoTime since, gpointer user_data)
{
    Node *node = user_data;
    disks_vm_paused(node->disks);
    cards_drain(node->cards);
    switchover_paused(node->switchover, since);
}

static gboolean on_decide(guint64 epoch, gboolean last, gpointer user_data)
{
    Node *node = user_data;
    /* The first pause of a session: what left before it is part of this checkpoint. */
    traffic_pause(node->traffic);
    return comparing_pause(node, epoch, last);
}

static void on_held(gpointer user_data)
{
    const Node *node = user_data;
    switchover_held(node->switchover);
}

static void on_marked(guint64 epoch, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)epoch;
    primary_marked(node->primary, error);
}

static void on_mark(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    disks_mark(node->disks, epoch, on_marked);
}

static void on_given_up(guint64 epoch, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)epoch;
    if (error) {
        g_autofree char *why = g_strdup_printf("the disks can't be given up: %s", error->message);
        switchover_refused(node->switchover, why);
    }
    primary_given_up(node->primary, error);
}

static void on_give_up_disks(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    disks_give_up(node->disks, epoch, on_given_up);
}

static void on_renounce_disks(gpointer user_data)
{
    const Node *node = user_data;
    disks_renounce(node->disks);
}

static char *on_disks_wait_for(gpointer user_data)
{
    const Node *node = user_data;
    return disks_describe_wait(node->disks);
}

static void on_late(const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    g_autofree char *why = g_strdup_printf("the VM could not be handed over: %s", error->message);
    switchover_cannot(node->switchover, why);
}

static void on_content(guint64 epoch, gboolean compares, gboolean stopped, GPtrArray **ret_frames,
                       GBytes **ret_attachment, gpointer user_data)
{
    Node *node = user_data;
    *ret_frames = traffic_held_frames(node->traffic, epoch);
    g_auto(Attachment) attachment = {
        .runs = compares, .stopped = stopped, .maps = traffic_export_maps(node->traffic)};
    *ret_attachment = attachment_pack(&attachment);
}

static void on_taken(guint64 epoch, gboolean compares, gpointer user_data)
{
    Node *node = user_data;
    node_set_epoch(node, epoch, FALSE);
    traffic_begin_epoch(node->traffic, compares);
}

static void on_sent(gpointer user_data)
{
    Node *node = user_data;
    answering_sent(node->answering);
}

static void on_release(guint64 epoch, gboolean compares, gpointer user_data)
{
    Node *node = user_data;
    traffic_release_before(node->traffic, epoch);
    comparing_committed(node, epoch, compares);
}

static void on_complete(const FiguresCheckpoint *checkpoint, gpointer user_data)
{
    const Node *node = user_data;
    figures_add_checkpoint(node->figures, checkpoint);
    switchover_checkpoint(node->switchover);
}

static void on_mirror(gpointer user_data)
{
    const Node *node = user_data;
    traffic_mirror_deferred(node->traffic);
}

/* ---- Life ---- */

void checkpoints_forget_vm(Node *node)
{
    primary_forget(node->primary);
    answering_forget(node->answering);
    comparing_forget(node, FALSE);
    primary_want_no_more(node->primary, WANTED(REASON_OUTPUT_LIMIT));
    traffic_forget(node->traffic);
}

void checkpoints_init(Node *node)
{
    static const PrimaryHandler handler = {.look = on_look,
                                           .is_delivered = on_is_delivered,
                                           .event = on_event,
                                           .trouble = on_trouble,
                                           .lost = on_lost,
                                           .ending = on_ending,
                                           .link_lost = on_link_lost,
                                           .stream_lost = on_stream_lost,
                                           .send = on_send,
                                           .session_began = on_session_began,
                                           .session_ended = on_session_ended,
                                           .proven = on_proven,
                                           .begin_run = on_begin_run,
                                           .resume = on_resume,
                                           .running = on_running,
                                           .continues = on_continues,
                                           .give_up = on_give_up,
                                           .ready_to_end = on_ready_to_end,
                                           .fence = on_fence,
                                           .sync = on_sync,
                                           .pausing = on_pausing,
                                           .paused = on_paused,
                                           .decide = on_decide,
                                           .held = on_held,
                                           .mark = on_mark,
                                           .give_up_disks = on_give_up_disks,
                                           .renounce_disks = on_renounce_disks,
                                           .disks_wait_for = on_disks_wait_for,
                                           .late = on_late,
                                           .content = on_content,
                                           .taken = on_taken,
                                           .sent = on_sent,
                                           .release = on_release,
                                           .complete = on_complete,
                                           .mirror = on_mirror};
    node->primary = primary_new(node->config, &handler, node);
}
