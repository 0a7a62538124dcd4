/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of its judge (judge.h). It reports to the judge the checkpoint cycle, the guest's
 * frames and the secondary's messages. It reports the judge's results to the secondary, clients and
 * administrators.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* ---- What the judge reports ---- */

static JudgeWorld on_look(gpointer user_data)
{
    const Node *node = user_data;
    return (JudgeWorld){.copy_rests = cycle_has_peer_paused(primary_phase(node->primary)),
                        .output_waits = traffic_awaits_link(node->traffic)};
}

static void on_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Node *node = user_data;
    traffic_release(node->traffic, nic, frame);
}

static void on_wanted(CheckpointReason reason, gpointer user_data)
{
    const Node *node = user_data;
    primary_want(node->primary, reason);
}

static gboolean on_note(const CompareNote *note, gpointer user_data)
{
    Node *node = user_data;
    guint8 bytes[COMPARE_NOTE_BYTES];
    compare_note_pack(note, bytes);
    return link_send_packet(node->link, LINK_NIC_NOTE, note->epoch, bytes, sizeof(bytes));
}

static void on_settled(const MessageSettled *settled, gpointer user_data)
{
    Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_SETTLED, .settled = *settled});
}

static void on_diverged(json_object *event, gpointer user_data)
{
    node_emit(user_data, "DIVERGED", event);
}

static void on_mode_changed(Mode mode, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "mode", json_object_new_string(mode_name(mode)));
    node_emit(user_data, "MODE_CHANGED", data);
}

/* ---- The cycle ---- */

/* What a frame waits in `buffered` mode: for the gap's end, the pause and the transfer. */
static gint64 buffered_wait_us(const Node *node)
{
    return (gint64)node->config->min_gap_ms * COLO_US_PER_MS + figures_checkpoint_us(node->figures);
}

gboolean comparing_pause(Node *node, guint64 epoch, gboolean last)
{
    JudgePause pause = {.epoch = epoch,
                        .compared = traffic_route(node->traffic) == ROUTE_COMPARE,
                        /* The copy of a guest that is stopped must not run ahead of it. */
                        .may_compare = fsm_is_protected(node->state) && !last &&
                                       !resume_is_stopped(node->resume),
                        .buffered_us = buffered_wait_us(node)};
    return judge_pause(node->judge, &pause);
}

void comparing_committed(Node *node, guint64 epoch, gboolean compares)
{
    primary_want_no_more(node->primary, WANTED_DIVERGENCE);
    judge_committed(node->judge, epoch, compares);
}

void comparing_end(Node *node)
{
    primary_want_no_more(node->primary, WANTED_DIVERGENCE);
    judge_end(node->judge);
    traffic_end_session(node->traffic);
}

void comparing_forget(Node *node, gboolean release)
{
    primary_want_no_more(node->primary, WANTED_DIVERGENCE);
    judge_forget(node->judge, release);
}

/* ---- Messages of the secondary ---- */

gboolean comparing_loaded(Node *node, guint64 epoch, GError **error)
{
    if (!judge_loaded(node->judge, epoch, error))
        return FALSE;
    primary_reschedule(node->primary);
    return TRUE;
}

gboolean comparing_stalled(Node *node, const MessageStalled *stalled, GError **error)
{
    if (!judge_stalled(node->judge, stalled->epoch, error))
        return FALSE;
    log_warning("the secondary's VM doesn't run until the next checkpoint: %s", stalled->why);
    node_emit_stalled(node, stalled->why);
    /* Nothing waits for the copy to be loaded any more, whatever else is wanted already. */
    primary_reschedule(node->primary);
    return TRUE;
}

gboolean comparing_rebooted(Node *node, guint64 epoch, GError **error)
{
    if (!judge_rebooted(node->judge, epoch, error))
        return FALSE;
    log_warning("the guest of the secondary's VM has rebooted");
    node_emit(node, "SECONDARY_REBOOTED", NULL);
    return TRUE;
}

/* ---- Life ---- */

void comparing_init(Node *node)
{
    static const JudgeHandler handler = {.look = on_look,
                                         .release = on_release,
                                         .wanted = on_wanted,
                                         .note = on_note,
                                         .settled = on_settled,
                                         .diverged = on_diverged,
                                         .mode_changed = on_mode_changed};
    node->judge = judge_new(node->config, &handler, node);
}
