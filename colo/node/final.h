/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part for the ordered end of a protected VM with disks: the last mark on either side.
 * What events mean once it has begun is events_final()'s.
 *
 * It owns whether the end has begun or was announced, and the time that it may take. It doesn't
 * pause the VM, and it doesn't end it: that is fsm.h, by FSM_SHUTDOWN.
 *
 * Always holds: a primary whose end has begun ends, after FinalHandler.pause in ten seconds at the
 * latest. Only FINISHED of its last mark makes it final_is_in_step().
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_FINAL_H
#define COLO_COLO_NODE_FINAL_H

#include "colo/node/fsm.h"

typedef struct Final Final;

/* Facts that others own. */
typedef struct {
    FsmState state;
    gboolean has_disks;
    guint64 epoch; /* of the last checkpoint, or mark */
} FinalWorld;

/* Called on the main loop, also from within the functions below. */
typedef struct {
    FinalWorld (*look)(gpointer user_data);
    void (*event)(FsmEvent event, gpointer user_data);
    void (*trouble)(const char *what, const GError *error, gpointer user_data);
    /* Primary: the VM is to be paused for good: then final_paused(). */
    void (*pause)(gpointer user_data);
    /* Primary: the disks are to end `epoch`: then final_mark_made(). */
    void (*mark)(guint64 epoch, gpointer user_data);
    /* Primary: the last mark is on its way: FINAL. */
    void (*announce)(guint64 epoch, gpointer user_data);
    /* Secondary: all that it has is to be made durable: then final_durable(). */
    void (*finish)(guint64 epoch, gpointer user_data);
    /* Secondary: it is, FINISHED; or can't be, FAILED. */
    void (*finished)(guint64 epoch, const GError *error, gpointer user_data);
} FinalHandler;

Final *final_new(const FinalHandler *handler, gpointer user_data);
void final_free(Final *final);

/* The VM is to end: FSM_SHUTDOWN, if it is protected after a last mark of its disks. */
void final_begin(Final *final);
/* It has begun (primary), or was announced. */
gboolean final_has_begun(const Final *final);
/* Primary: the secondary's disks have everything. */
gboolean final_is_in_step(const Final *final);

/* Primary: the VM is paused; the mark is made, or not. */
void final_paused(Final *final);
void final_mark_made(Final *final, guint64 epoch, const GError *error);
/* Secondary: a mark has come; what was asked for by `finish` is done, or not. */
void final_marked(Final *final, guint64 epoch);
void final_durable(Final *final, const GError *error);
/* Secondary: the end that was announced was of a session that is over. */
void final_session_over(Final *final);

/* Messages of the peer; FALSE with NODE_ERROR_PROTOCOL if one makes no sense. */
gboolean final_received(Final *final, guint64 epoch, GError **error);
gboolean final_finished(Final *final, guint64 epoch, GError **error);

#endif
