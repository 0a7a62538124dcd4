/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the secondary may leave the primary without a sign, when it owes one. Pure: facts in,
 * decisions out.
 *
 * A secondary that sends only heartbeats would hold the clients' answers for ever: its storage or
 * its QEMU hangs, say. So it has to show progress with each thing that it owes. A message of it
 * always is progress. Each of its steps ends with a message (DIRTY in parts, RECEIVED, APPLIED,
 * LOADED, READY), and BUSY comes within a long apply of its disks. The bytes that its host
 * acknowledges are progress too, in the stream that the thing waits for. So a big checkpoint over a
 * slow link, or behind a full send buffer, is no silence. Other bytes show nothing: while its disks
 * hang, pages of RAM may still be acknowledged for ever.
 *
 *     owed                                               progress, besides messages
 *     BLANK: to be ready for a session                   -
 *     its base, as a session begins                      its bytes
 *     DIRTY after PREPARE                                -
 *     RECEIVED after the last byte of a checkpoint       its bytes, and the disks' stream
 *     READY: the loads that show that it can load        -
 *     to take what is on its way of the checkpoints      the checkpoint stream
 *     to take what is on its way of the disks            the disks' stream
 *
 * It may show no progress for answer-timeout if something waits for it. That is the guest's output
 * when the guest is protected. It is also the guest's writes, when so much is on its way to the
 * disks that the writes wait. Otherwise nothing waits, and it gets as long as its own orders to
 * QEMU and disks may take.
 *
 * Two things are not owed, because they are this side's own work. One is the bytes of a checkpoint
 * that are not on their way yet. The other is all before PREPARE.
 */
#ifndef COLO_COLO_NODE_ANSWER_WATCH_H
#define COLO_COLO_NODE_ANSWER_WATCH_H

#include <glib.h>

typedef struct {
    gboolean is_protected;
    gboolean joins;            /* it was told that the VM runs, BLANK is to come */
    gboolean tells;            /* the base is to come: what its RAM holds as a session begins */
    gboolean prepares;         /* the last part of DIRTY is to come */
    gboolean completes;        /* all of a checkpoint is sent, RECEIVED is to come */
    gboolean loads;            /* READY is to come */
    gboolean stream_under_way; /* of the checkpoint stream: bytes not acknowledged by its host */
    gboolean disks_under_way;  /* of the disks' stream */
    gboolean writes_wait;      /* the guest's, for room in that */
    guint64 messages;          /* of it; this and these rise */
    guint64 checkpoint_bytes;  /* acknowledged of the checkpoint that it has to complete */
    guint64 stream_bytes;      /* of all that goes over that connection */
    guint64 disks_bytes;
    guint64 base_bytes; /* that have come from it over the checkpoint connection */
} AnswerFacts;

typedef enum {
    ANSWER_BLANK,
    ANSWER_BASE,
    ANSWER_DIRTY,
    ANSWER_RECEIVED,
    ANSWER_READY,
    ANSWER_STREAM,
    ANSWER_DISKS,
    ANSWERS
} Answer;

typedef struct {
    struct {
        guint64 progress;
        gint64 quiet_us;
    } owed[ANSWERS];
} AnswerWatch;

/*
 * `passed_us` more have passed. TRUE if it has been quiet for too long about something, which
 * *ret_what then names. `soon_us` is the limit where somebody waits, `limit_us` the other.
 */
gboolean answer_step(AnswerWatch *watch, const AnswerFacts *facts, gint64 passed_us, gint64 soon_us,
                     gint64 limit_us, const char **ret_what);

#endif
