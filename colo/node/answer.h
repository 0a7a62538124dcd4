/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that is the primary's patience with its secondary. It looks at intervals whether
 * what is owed (answer-watch.h) makes progress, and reports when it doesn't.
 *
 * It owns the timer of the look and what has been seen. It doesn't end the link.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_ANSWER_H
#define COLO_COLO_NODE_ANSWER_H

#include "colo/config/config.h"
#include "colo/node/cycle.h"
#include "colo/node/fsm.h"

typedef struct Answering Answering;

/* Facts that others own. */
typedef struct {
    FsmState state;
    CyclePhase phase;
    gboolean tells;       /* what is in its RAM is to come */
    gboolean loads;       /* READY is to come */
    gboolean has_disks;   /* the VM has */
    gboolean writes_wait; /* the guest's, for room in the disks' stream */
    int stream, disks;    /* the connections; -1: none */
    guint64 epoch;        /* of the last checkpoint, for the message */
} AnsweringWorld;

/* Called on the main loop. */
typedef struct {
    AnsweringWorld (*look)(gpointer user_data);
    /* The secondary has shown no progress for too long; `was_protected`: it is to be told so. */
    void (*unfit)(const GError *error, gboolean was_protected, gpointer user_data);
} AnsweringHandler;

/* `config` is borrowed, and read at each look. */
Answering *answering_new(const Config *config, const AnsweringHandler *handler, gpointer user_data);
void answering_free(Answering *answering);

/* A secondary is to begin a session, a session begins, or has ended. */
void answering_watch(Answering *answering);
void answering_forget(Answering *answering);
/* A message of the secondary has come. */
void answering_received(Answering *answering);
/* All of a checkpoint has been given to the connection. */
void answering_sent(Answering *answering);

#endif
