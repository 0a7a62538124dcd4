/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that ends the node while its VM continues: SIGTERM.
 *
 * It owns the time that the hand-over may take. It doesn't hand over: it asks for that, follows the
 * node's state, and reports when the node is to end.
 *
 * Always holds: a request for the end is met half a minute after it at the latest, but not while the
 * VM is handed over, and the secondary has neither taken it nor given it back. (That state ends by
 * itself.) It is met at once if the VM can't be handed over (any more), or if the request is repeated.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_LEAVE_H
#define COLO_COLO_NODE_LEAVE_H

#include "colo/node/fsm.h"

typedef struct Leave Leave;

typedef struct {
    FsmState (*state)(gpointer user_data);
    /* The VM was handed over, and it isn't known what became of it. */
    gboolean (*is_handed)(gpointer user_data);
    void (*hand_over)(gpointer user_data);
    /* The node is to end, with the VM that it may have. */
    void (*end)(gpointer user_data);
} LeaveHandler;

Leave *leave_new(const LeaveHandler *handler, gpointer user_data);
void leave_free(Leave *leave);

/*
 * The node is to end: after a hand-over, if `hands_over` and there is a protected VM here, or one that
 * is being handed over.
 */
void leave_begin(Leave *leave, gboolean hands_over);
/* The state has changed. */
void leave_look(Leave *leave);
/* It hands over, to end after that. */
gboolean leave_is_under_way(const Leave *leave);

#endif
