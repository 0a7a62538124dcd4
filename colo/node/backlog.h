/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue of frames that wait: for the guest, for a client, for a message of the peer.
 *
 * Owns: the frames, their order and the bound. Doesn't: know what they wait for. Always holds: the
 * frames' cost is the sum of what each costs, and not above the limit. When one more would exceed
 * it, the oldest are dropped and counted. TCP sends again what is missing of input and output, and
 * the newest is the most useful.
 *
 * A frame costs its bytes and BACKLOG_FRAME_BYTES, so that a flood of tiny frames is bounded, too.
 */
#ifndef COLO_COLO_NODE_BACKLOG_H
#define COLO_COLO_NODE_BACKLOG_H

#include <glib.h>

/* What a frame takes besides its bytes: its structs and what the allocator adds, rounded up. */
#define BACKLOG_FRAME_BYTES 176u

typedef struct {
    GList link; /* the backlog's */
    unsigned nic;
    guint64 tag; /* its user's: an epoch, or the frame's number in one */
    GBytes *data;
} BacklogFrame;

typedef struct {
    guint64 frames, bytes; /* now; what they cost */
    guint64 dropped;       /* by the limit, so far */
} BacklogStats;

typedef struct Backlog Backlog;

/* `limit_bytes` 0: none. */
Backlog *backlog_new(gsize limit_bytes);
void backlog_free(Backlog *backlog);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Backlog, backlog_free)

/*
 * Adds a reference to `data` at the end. The oldest frames may be dropped. This one is dropped too
 * if it costs more than the limit.
 */
void backlog_add(Backlog *backlog, unsigned nic, guint64 tag, GBytes *data);

/* From the oldest to the newest; NULL at the end. Borrowed until taken, dropped, or more is added. */
BacklogFrame *backlog_first(const Backlog *backlog);
BacklogFrame *backlog_next(const BacklogFrame *frame);

/* Removes a frame of the backlog: to be freed with backlog_frame_free(). NULL gives NULL. */
BacklogFrame *backlog_take(Backlog *backlog, BacklogFrame *frame);
void backlog_frame_free(BacklogFrame *frame);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BacklogFrame, backlog_frame_free)

/* Removes and frees a frame, or all; that isn't counted. */
void backlog_drop(Backlog *backlog, BacklogFrame *frame);
void backlog_clear(Backlog *backlog);

/* Borrowed. */
const BacklogStats *backlog_stats(const Backlog *backlog);

#endif
