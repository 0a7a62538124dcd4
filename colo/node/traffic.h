/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that answers where a frame of the guest goes, and keeps those that wait.
 *
 * It owns the Route (route.h) and moves it. It owns the gate, the input that waits for the end of a
 * pause, the output that waits for the link, and the rewriter. It has neither cards nor a
 * connection. It doesn't compare, nor decide when a checkpoint is taken. The copy's two queues
 * aren't here either: what the primary's guest was given, and what ours has sent (replay.h).
 *
 *     guest -> output -+- DROP
 *                      +- TO_PEER -> to_peer()
 *                      +- HOLD ----> the gate ------- traffic_release_before() -+
 *                      +- COMPARE -> compare() ------ traffic_release() --------+-> leaving
 *                      `- OPEN ------------------------------------------------'      |
 *                                                                            the last look: send()
 *
 *     network -> input -+- DROP
 *                       +- GIVE, MIRROR --> give(), and mirror()
 *                       +- DEFER ---------> waits; give() and mirror() in the next epoch
 *                       `- QUEUE ---------> queue(), until the copy that takes over runs
 *
 * Output commit: output is guarded from the pause of a session's first checkpoint until
 * traffic_open(), when the secondary has no claim any more. While it is, two calls release it. One
 * is traffic_release_before(): on RECEIVED(e), the epochs before e. The other is traffic_release(),
 * in an epoch that compares (judge.h).
 *
 * The last look (docs/ARCHITECTURE.md, "A host that was stopped"): messages of the secondary have
 * released the frame. If this process was stopped, these may have waited for any time. So the frame
 * waits here, in order, until there is new proof of the secondary. What the arbiter or the
 * secondary itself has decided for good needs no such proof: then the state is another.
 *
 * What waits for the last look is bounded, for a peer may go on releasing and prove nothing. The
 * limit is twice output-limit: all that the gate or the comparator releases at once has room. The
 * oldest are dropped beyond it and counted, as a full switch would do. That loses no data of TCP. A
 * frame that has not left is acknowledged by no client. So the guest still has its data, here and
 * in each copy of it, and sends them again.
 *
 * What comes for the guest is deferred from the moment that the VM is about to be paused until it
 * runs again. It is given to the VM in the new epoch. The VM isn't stopped before QEMU has read
 * what was given until then. So what is mirrored with epoch e is what the guest was given after
 * checkpoint e and before the next one, to the frame. (QEMU 7.2, net/net.c: what it has read and
 * the guest had no room for is dropped when it stops, what it reads while it is stopped waits.)
 *
 * A guest that sends more than the gate holds: its card may be able to leave the rest in the guest's ring
 * (vhost-user), so that the guest's own queues push back. Another card's frames are dropped and counted.
 * What is left in the ring is output of the epoch in which it is taken from there, also if checkpoints
 * are taken meanwhile: these have it in RAM.
 *
 * A card may know that the guest has no room for a frame (vhost-user). Then the frame waits here, and so
 * do all that come after it for this card, up to ROOM_LIMIT_BYTES. It is mirrored when it is given, so
 * with the epoch in which the guest gets it: also if checkpoints are taken meanwhile.
 *
 * The secondary makes itself ready for the checkpoint, which takes as long as its disks. Meanwhile
 * the guest gets its input: of the epoch that ends, and part of the checkpoint. The secondary's VM,
 * which is paused, isn't given it any more. The secondary keeps it, and gives it to the VM if that
 * has to continue from the epoch that ends. Answers to it wait for the checkpoint.
 *
 * Always holds:
 * - Frames leave in the order in which the guest has sent them: what waits for the last look, then
 *   what the gate holds of epochs before this one, then what the comparator holds, then the rest of
 *   the gate, then what is sent now.
 * - Nothing is sent in a state in which nothing may leave (route_exit()), whatever has released it.
 * - A deferred frame, or one that has waited for room, is given once. It is mirrored once at most with
 *   an epoch, and with that in which the guest is given it.
 * - Clients see the numbers that they know: what is sent or put into a checkpoint is mapped, once.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_TRAFFIC_H
#define COLO_COLO_NODE_TRAFFIC_H

#include "checkpoint/checkpoint.h"
#include "colo/node/backlog.h"
#include "colo/node/route.h"
#include "colo/node/schedule.h"
#include "netcompare/netcompare.h"
#include "netcompare/rewrite.h"

typedef struct Traffic Traffic;

/* Facts that others own. */
typedef struct {
    FsmState state;
    gboolean is_held;      /* the output of a takeover waits: nothing may be heard yet */
    guint64 epoch;         /* of the last checkpoint: taken (primary) or received (secondary) */
    gboolean defers_input; /* from when the VM is about to be paused until it runs again */
    gboolean has_session;  /* there is a secondary that receives checkpoints */
    gboolean limit_wanted; /* a checkpoint for output-limit is wanted already */
} TrafficWorld;

/* `frame` is borrowed. */
typedef void (*TrafficFrameFunc)(unsigned nic, GBytes *frame, gpointer user_data);

/* Called on the main loop, also from within the functions below. Frames are borrowed. */
typedef struct {
    TrafficWorld (*look)(gpointer user_data);
    /*
     * There is proof that the secondary was there a moment ago. Asked only when a frame is about to
     * leave: a link without it asks the peer for it.
     */
    gboolean (*is_fresh)(gpointer user_data);

    /* To the network; to the guest. */
    void (*send)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    void (*give)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    /* What is given to the guest now gets into its memory. If not, traffic_room() is called later. */
    gboolean (*has_room)(unsigned nic, gsize len, gpointer user_data);
    /* What the guest is given, to the copy. FALSE: there was no room. */
    gboolean (*mirror)(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                       gpointer user_data);
    /* A copy's output, to the primary. */
    void (*to_peer)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    /* Input of a VM that takes over: after all that was mirrored. */
    void (*queue)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);

    /* Output for the comparator. */
    void (*compare)(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data);
    /* Calls `func` for what the comparator holds of epochs before `until`, oldest first. */
    void (*each_compared)(guint64 until, TrafficFrameFunc func, gpointer data, gpointer user_data);
    /*
     * No output waits for the secondary any more. The comparator gives up what it holds, by
     * traffic_release(), and no checkpoint is wanted for output's sake.
     */
    void (*opening)(gpointer user_data);

    /* A checkpoint is wanted. */
    void (*wanted)(CheckpointReason reason, gpointer user_data);
    /* Output waits for a checkpoint, and none did before. */
    void (*held)(gpointer user_data);
    /* traffic_takes_output() was FALSE and may be TRUE now. Nothing is to be sent from within. */
    void (*takes_again)(gpointer user_data);
} TrafficHandler;

/* `output_limit_bytes`: the option. */
Traffic *traffic_new(gsize output_limit_bytes, const TrafficHandler *handler, gpointer user_data);
/* Drops what waits. */
void traffic_free(Traffic *traffic);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Traffic, traffic_free)

/* ---- The route of the guest's output ---- */

Route traffic_route(const Traffic *traffic);
/*
 * A primary's VM runs, and no secondary can take over: all output leaves at once, also what was
 * held.
 */
void traffic_open(Traffic *traffic);
/* It is paused for a checkpoint, all of its output of the epoch that ends has been read. */
void traffic_pause(Traffic *traffic);
/* The checkpoint is taken: the VM's output is of the epoch that begins. */
void traffic_begin_epoch(Traffic *traffic, gboolean compares);
/* Its secondary receives no checkpoints any more. */
void traffic_end_session(Traffic *traffic);
/* The VM becomes a copy; is none any more. */
void traffic_begin_copy(Traffic *traffic);
void traffic_end_copy(Traffic *traffic);
/* The copy has taken over: its output leaves from here. */
void traffic_take_over(Traffic *traffic);
/* Before the VM is freed: nothing of its output leaves, no input waits for it, nothing is mapped. */
void traffic_forget(Traffic *traffic);

/* ---- Output ---- */

/*
 * Whether a frame of `len` bytes would be kept or leave if the guest sent it now. If FALSE, it is to
 * stay in the guest: a checkpoint is wanted that makes room. TRUE also if it would never be kept.
 */
gboolean traffic_takes_output(Traffic *traffic, gsize len);
/* The guest has sent this. */
void traffic_output(Traffic *traffic, unsigned nic, const guint8 *data, gsize len);
/* The secondary has a checkpoint: what the gate holds of epochs before `epoch` leaves. */
void traffic_release_before(Traffic *traffic, guint64 epoch);
/* The guest has sent this before; it leaves now. */
void traffic_release(Traffic *traffic, unsigned nic, GBytes *frame);
/* Likewise a frame that is as clients are to see it: of a checkpoint that is taken over from. */
void traffic_release_mapped(Traffic *traffic, unsigned nic, GBytes *frame);
/* The link is fresh again: releases what waits for that, if it may. */
void traffic_let_leave(Traffic *traffic);
/*
 * Output that has not left before the checkpoint that begins `epoch` is complete: HeldFrame*, as
 * clients are to see it, to be freed. The secondary sends it if it takes over from there.
 */
GPtrArray *traffic_held_frames(const Traffic *traffic, guint64 epoch);
/* Some of the output waits for a checkpoint; for the link. */
gboolean traffic_awaits_checkpoint(const Traffic *traffic);
gboolean traffic_awaits_link(const Traffic *traffic);

/* ---- Input ---- */

/* This has come for the guest from the network. */
void traffic_input(Traffic *traffic, unsigned nic, const guint8 *data, gsize len);
/* Gives it to the guest now. */
void traffic_give(Traffic *traffic, unsigned nic, const guint8 *data, gsize len);
/* A card of the guest has room again, or may have. */
void traffic_room(Traffic *traffic, unsigned nic);
/* The VM runs again: gives it what has come meanwhile. */
void traffic_give_deferred(Traffic *traffic);
/* The VM is handed over: the secondary gets what has come meanwhile, too. */
void traffic_mirror_deferred(Traffic *traffic);

/* ---- The rewriter: TCP's numbers (netcompare/rewrite.h) ---- */

/*
 * The copy enters the epoch of a checkpoint, which came with `maps` (NULL: none). From the first on
 * there is a rewriter: until the copy is none any more, or after a takeover as long as there is a
 * connection to map. FALSE if the bytes are no maps.
 */
gboolean traffic_enter_epoch(Traffic *traffic, guint64 epoch, GBytes *maps, GError **error);
/* The copy has sent this. */
void traffic_observe(Traffic *traffic, unsigned nic, GBytes *frame);
/* From the primary's comparator. */
void traffic_note(Traffic *traffic, const CompareNote *note);
/* The copy is about to take over: from now on what leaves is mapped. */
void traffic_begin_mapping(Traffic *traffic);
/* The maps for the next secondary; NULL: nothing is mapped. */
GBytes *traffic_export_maps(Traffic *traffic);
/* Nothing is mapped any more: there is neither a copy, nor a VM that was one. */
void traffic_forget_maps(Traffic *traffic);

/* ---- Status ---- */

typedef struct {
    GateStats held;
    BacklogStats leaving;               /* waits for the last look */
    BacklogStats deferred;              /* input */
    guint64 mirrored, mirror_congested; /* frames of input: sent to the peer, or no room */
} TrafficStats;

TrafficStats traffic_stats(const Traffic *traffic);

#endif
