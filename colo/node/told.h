/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the secondary answers to PREPARE: the pages that the next checkpoint has to carry, because
 * the copy has written them (DIRTY). There may be many, so they are sent in parts. The next part is
 * not sent before the kernel has taken those before, so that the node's own messages don't overrun
 * the control connection. Heartbeats find room between them.
 *
 * It owns the pages that are left to send. It has no link, and doesn't know which pages the copy
 * has written: copy.h, which has one of these.
 *
 * Always holds: each answer has at least one part, `follow` counts those after it, and each page is
 * in one of them. What is forgotten is never sent.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_TOLD_H
#define COLO_COLO_NODE_TOLD_H

#include "checkpoint/checkpoint.h"
#include "colo/node/messages.h"

/* Runs of pages in one part: half of what a message may have. */
#define TOLD_RUNS_MAX 65536u
G_STATIC_ASSERT(TOLD_RUNS_MAX <= MESSAGE_DIRTY_RUNS_MAX);

typedef struct Told Told;

/* Called from within the functions below. */
typedef struct {
    /* Nothing that was sent waits for the kernel. If something does, told_send_more() follows. */
    gboolean (*has_room)(gpointer user_data);
    /* DIRTY; it may end the session. */
    void (*send)(const MessageDirty *part, gpointer user_data);
    /* The last part was sent. */
    void (*done)(gpointer user_data);
} ToldHandler;

/* `handler` is borrowed. */
Told *told_new(const ToldHandler *handler, gpointer user_data);
void told_free(Told *told);

/* Checkpoint `epoch` has to carry `pages`. What was left of an earlier answer is forgotten. */
void told_begin(Told *told, guint64 epoch, const PageSet *pages);
/* Sends more, if there is more and the link has room. */
void told_send_more(Told *told);
void told_forget(Told *told);

#endif
