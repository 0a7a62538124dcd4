/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the secondary may leave the primary without a sign, when it owes one. Pure: facts in,
 * decisions out.
 *
 * A secondary that sends heartbeats and nothing else (its storage hangs, say, or its QEMU) would
 * hold the clients' answers for ever. So, while it owes something, it has to show progress. Any of
 * these is progress: a message of it (each of its steps ends with one: DIRTY in parts, RECEIVED,
 * APPLIED, LOADED, READY; within a long apply of disks BUSY comes), and each byte of the checkpoint
 * or of the disks' stream that its host acknowledges: a big checkpoint over a slow link, or behind
 * a full send buffer, is no silence. But bytes are none for DIRTY, which doesn't wait for them: the
 * pages of the next checkpoint are on their way already. What it owes, and how much silence is
 * allowed meanwhile:
 *
 *   protected     DIRTY after PREPARE, RECEIVED after the        the guest's output waits for it:
 *                 last byte of a checkpoint, to take what is     answer-timeout
 *                 on its way on either stream
 *   unprotected   to take the disks' stream, when so much        the guest's writes wait for it:
 *                 waits that the guest's own writes do           answer-timeout
 *                 READY, RECEIVED, to take what is on its way    nobody waits, and the loads that
 *                                                                show that it can load may take
 *                                                                long: as long as its own orders to
 *                                                                QEMU and disks may
 *
 * Not owed, for that is this side's own work: the bytes of a checkpoint that are not on their way
 * yet, and all before PREPARE.
 */
#ifndef COLO_COLO_ANSWER_H
#define COLO_COLO_ANSWER_H

#include <glib.h>

typedef struct {
    gboolean is_protected;
    gboolean prepares;         /* the last part of DIRTY is to come */
    gboolean completes;        /* all of a checkpoint is sent, RECEIVED is to come */
    gboolean loads;            /* READY is to come */
    gboolean stream_under_way; /* of the checkpoint stream: bytes not acknowledged by its host */
    gboolean disks_under_way;  /* of the disks' stream */
    gboolean writes_wait;      /* the guest's, for room in that */
    guint64 messages;          /* of it; rises with each */
    guint64 bytes;             /* of either stream, acknowledged by its host */
} AnswerFacts;

typedef enum {
    ANSWER_NOT_OWED,
    ANSWER_OWED_SOON, /* somebody waits for it */
    ANSWER_OWED,
} AnswerOwed;

typedef struct {
    guint64 messages, bytes; /* the last seen */
    gint64 quiet_us;
} AnswerWatch;

AnswerOwed answer_owed(const AnswerFacts *facts);

/* What is owed, in words. */
const char *answer_what(const AnswerFacts *facts);

/*
 * `passed_us` more have passed: TRUE if it has been quiet for too long. `soon_us` and `limit_us`
 * are the limits of the two ways to owe.
 */
gboolean answer_step(AnswerWatch *watch, const AnswerFacts *facts, gint64 passed_us, gint64 soon_us,
                     gint64 limit_us);

#endif
