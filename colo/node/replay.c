/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two queues of frames: for the copy, and of the copy. */
#include "colo/node/replay.h"

#include "checkpoint/checkpoint.h"
#include "colo/node/node.h"

/* Of input that has come here: after all that was mirrored, whatever its epoch. */
#define OF_NO_EPOCH G_MAXUINT64

struct Replay {
    const ReplayHandler *handler;
    gpointer user_data;
    Backlog *input;  /* what the primary's guest was given since the checkpoint; tag: its epoch */
    Backlog *output; /* the copy's, which may not have left; tag: number in the epoch */
    guint64 sent;    /* frames that the primary was sent in this epoch */
    gboolean held_left; /* what the last checkpoint brought: the primary has sent it */
};

static ReplayWorld look(const Replay *replay)
{
    return replay->handler->look(replay->user_data);
}

/* ---- Input ---- */

static void give(Replay *replay, unsigned nic, const guint8 *data, gsize len)
{
    CompareNote note;
    if (nic != LINK_NIC_NOTE)
        replay->handler->deliver(nic, data, len, replay->user_data);
    else if (compare_note_unpack(data, len, &note)) /* it was checked when it came */
        replay->handler->note(&note, replay->user_data);
}

/* Of what waits; `frame` goes. */
static void give_waiting(Replay *replay, BacklogFrame *frame)
{
    gsize len;
    g_autoptr(BacklogFrame) taken = backlog_take(replay->input, frame);
    const guint8 *data = g_bytes_get_data(taken->data, &len);
    give(replay, taken->nic, data, len);
}

static void give_or_keep(Replay *replay, unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                         gboolean is_due)
{
    if (is_due && !backlog_first(replay->input)) {
        give(replay, nic, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(replay->input, nic, epoch, frame);
}

gboolean replay_mirrored(Replay *replay, unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                         GError **error)
{
    ReplayWorld world = look(replay);
    CompareNote note;
    if (nic == LINK_NIC_NOTE && !compare_note_unpack(data, len, &note)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "%zu bytes that are no note", len);
        return FALSE;
    }
    if (world.epoch.is_set && epoch >= world.epoch.number)
        give_or_keep(replay, nic, epoch, data, len,
                     world.runs && world.is_in && epoch == world.epoch.number);
    return TRUE;
}

void replay_input(Replay *replay, unsigned nic, const guint8 *data, gsize len)
{
    ReplayWorld world = look(replay);
    if (world.epoch.is_set)
        give_or_keep(replay, nic, OF_NO_EPOCH, data, len, world.leaves && world.runs);
}

void replay_give(Replay *replay, guint64 epoch)
{
    for (BacklogFrame *first; (first = backlog_first(replay->input)) && first->tag <= epoch;)
        give_waiting(replay, first);
}

void replay_give_all(Replay *replay)
{
    replay_give(replay, OF_NO_EPOCH);
}

/* ---- Output ---- */

static void forget_output(Replay *replay)
{
    backlog_clear(replay->output);
    replay->sent = 0;
}

void replay_output(Replay *replay, unsigned nic, const guint8 *data, gsize len)
{
    if (!look(replay).counts)
        return;
    guint64 number = replay->sent + 1;
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    /* One that doesn't get there is numbered, and so settles, with the next one that does. */
    if (replay->handler->send(nic, frame, replay->user_data))
        replay->sent++;
    backlog_add(replay->output, nic, number, frame);
}

void replay_settled(Replay *replay, const MessageSettled *settled)
{
    ReplayWorld world = look(replay);
    if (!epoch_is(world.epoch, settled->epoch))
        return; /* of an epoch that is over here */
    replay->held_left = TRUE;
    if (!world.is_in)
        return; /* what waits is of the epoch before */
    for (BacklogFrame *first;
         (first = backlog_first(replay->output)) && first->tag <= settled->count;)
        backlog_drop(replay->output, first);
    /* Then single ones, ascending as ours are. */
    gsize i = 0;
    for (BacklogFrame *frame = backlog_first(replay->output), *next;
         frame && i < settled->n_numbers; frame = next) {
        next = backlog_next(frame);
        while (i < settled->n_numbers && settled->numbers[i] < frame->tag)
            i++;
        if (i < settled->n_numbers && settled->numbers[i] == frame->tag)
            backlog_drop(replay->output, frame);
    }
}

/* ---- The session ---- */

void replay_received(Replay *replay, guint64 epoch)
{
    replay->held_left = FALSE;
    for (BacklogFrame *first; (first = backlog_first(replay->input)) && first->tag < epoch;)
        backlog_drop(replay->input, first);
}

void replay_enter(Replay *replay)
{
    forget_output(replay);
}

void replay_forget(Replay *replay)
{
    backlog_clear(replay->input);
    forget_output(replay);
    replay->held_left = FALSE;
}

/* ---- A takeover ---- */

/*
 * The old primary may or may not have released these: a client knows them by their numbers. They
 * come before anything that our VM has sent since.
 */
void replay_release_held(Replay *replay, const GPtrArray *frames)
{
    if (replay->held_left)
        return;
    replay->held_left = TRUE;
    for (guint i = 0; i < frames->len; i++) {
        const HeldFrame *held = g_ptr_array_index(frames, i);
        replay->handler->release(held->nic, held->data, replay->user_data);
    }
}

static void take_notes(Replay *replay)
{
    for (BacklogFrame *frame = backlog_first(replay->input), *next; frame; frame = next) {
        next = backlog_next(frame);
        if (frame->nic == LINK_NIC_NOTE)
            give_waiting(replay, frame);
    }
}

void replay_release_output(Replay *replay)
{
    take_notes(replay);
    replay->handler->begin_mapping(replay->user_data);
    for (BacklogFrame *first; (first = backlog_first(replay->output));) {
        g_autoptr(BacklogFrame) taken = backlog_take(replay->output, first);
        replay->handler->map_and_release(taken->nic, taken->data, replay->user_data);
    }
}

/* ---- Life ---- */

gboolean replay_held_left(const Replay *replay)
{
    return replay->held_left;
}

const Backlog *replay_input_backlog(const Replay *replay)
{
    return replay->input;
}

const Backlog *replay_output_backlog(const Replay *replay)
{
    return replay->output;
}

Replay *replay_new(const ReplayHandler *handler, gpointer user_data)
{
    Replay *replay = g_new0(Replay, 1);
    replay->handler = handler;
    replay->user_data = user_data;
    replay->input = backlog_new(REPLAY_LIMIT_BYTES);
    replay->output = backlog_new(REPLAY_LIMIT_BYTES);
    return replay;
}

void replay_free(Replay *replay)
{
    if (!replay)
        return;
    backlog_free(replay->input);
    backlog_free(replay->output);
    g_free(replay);
}
