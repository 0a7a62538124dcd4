/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's frames that a takeover may need besides the last checkpoint.
 *
 * Input that the primary mirrors: while the copy runs, input of its epoch is given to it at once.
 * Input of another epoch waits. A checkpoint contains the input of the epochs before it.
 *
 * The copy's output: it goes to the primary, to be compared. It is also kept until the primary
 * confirms that it has left (SETTLED), because the primary may die before its own VM's output
 * leaves. A takeover sends, in this order:
 *
 *   1. what the checkpoint brought: the primary's output of before it, which may not have left
 *   2. what the copy has sent since, and the primary has not confirmed
 *   3. what the VM sends from then on, which is no concern of this part
 *
 * It owns the frames that wait, the numbers of those that were sent, and what is known to have
 * left. It has no link, no rewriter and no card. How checkpoints come is receiver.h's: that outlives
 * the link, and knows no frame.
 *
 * Always holds:
 * - The VM gets mirrored frames in the order in which they came, and none of an epoch that it is not
 *   in before it has taken over.
 * - Each frame waits in one place, and is given or released once.
 * - Both queues have a bound. When it is reached, the oldest frames go.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_REPLAY_H
#define COLO_COLO_NODE_REPLAY_H

#include "colo/node/backlog.h"
#include "colo/node/epoch.h"
#include "colo/node/messages.h"
#include "netcompare/compare.h"

/* What may wait in either queue: more than a client's TCP has unacknowledged. */
#define REPLAY_LIMIT_BYTES (16u * 1024 * 1024)

typedef struct Replay Replay;

/* Facts that others own, about the copy. */
typedef struct {
    OptionalEpoch epoch; /* of the checkpoint received last, in this session */
    gboolean is_in;      /* the copy was loaded from that: it is in that epoch */
    gboolean runs;       /* and takes input now */
    gboolean counts;     /* its output is that of its epoch */
    gboolean leaves;     /* it is the VM: its output leaves from here */
} ReplayWorld;

/* Called from within the functions below; nothing of it may call back. */
typedef struct {
    ReplayWorld (*look)(gpointer user_data);
    /* To the guest; or to the rewriter, about how to map its numbers. */
    void (*deliver)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    void (*note)(const CompareNote *note, gpointer user_data);
    /* The copy's, to the primary. FALSE: the link has no room for it. */
    gboolean (*send)(unsigned nic, GBytes *frame, gpointer user_data);
    /* A takeover: to the clients, with the numbers that they know. */
    void (*release)(unsigned nic, GBytes *frame, gpointer user_data);
    /* From now on the guest's numbers are mapped; and a frame that is to be mapped and released. */
    void (*begin_mapping)(gpointer user_data);
    void (*map_and_release)(unsigned nic, GBytes *frame, gpointer user_data);
} ReplayHandler;

/* `handler` is borrowed. */
Replay *replay_new(const ReplayHandler *handler, gpointer user_data);
void replay_free(Replay *replay);

/* ---- Input ---- */

/*
 * From the primary: what its guest was given in `epoch`, or (LINK_NIC_NOTE) a note. FALSE with
 * NODE_ERROR_PROTOCOL if it is no note.
 */
gboolean replay_mirrored(Replay *replay, unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                         GError **error);
/* From the network, while the VM is being taken over: after all that was mirrored. */
void replay_input(Replay *replay, unsigned nic, const guint8 *data, gsize len);
/* The VM runs: gives it what has waited for it, of epochs up to `epoch`. */
void replay_give(Replay *replay, guint64 epoch);
/* It runs, and has taken over: gives it all. */
void replay_give_all(Replay *replay);

/* ---- Output ---- */

/* The copy has sent this. */
void replay_output(Replay *replay, unsigned nic, const guint8 *data, gsize len);
void replay_settled(Replay *replay, const MessageSettled *settled);

/* ---- The session ---- */

/* Checkpoint `epoch` is complete here. */
void replay_received(Replay *replay, guint64 epoch);
/* The copy is about to enter the epoch of the last checkpoint. */
void replay_enter(Replay *replay);
/* The session is over: forgets all. */
void replay_forget(Replay *replay);

/* ---- A takeover, in this order ---- */

/* The checkpoint that is taken over from has brought `frames`, of HeldFrame: they are released. */
void replay_release_held(Replay *replay, const GPtrArray *frames);
/*
 * The VM is about to run as the only one: what it has sent is released. The notes that wait go to
 * the rewriter before, because they tell how to map that.
 */
void replay_release_output(Replay *replay);

/* ---- For status and tests; borrowed ---- */

/* The primary has released all that the last checkpoint brought. */
gboolean replay_held_left(const Replay *replay);
const Backlog *replay_input_backlog(const Replay *replay);
const Backlog *replay_output_backlog(const Replay *replay);

#endif
