/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which way the guest's frames go. Pure: traffic.h holds the route, moves it and follows it.
 *
 * The guest's output has one Route, and there is one step for each thing that happens to the VM:
 *
 *                   copy begins                     takes over
 *          .------------------------> TO_PEER -----------------------.
 *          |   <----- copy ends ------                               v
 *        DROP -------------------------- alone -------------------> OPEN
 *                                                                  |   ^
 *                                       a checkpoint's first pause |   | alone
 *                                                                  v   |
 *                       COMPARE <------- epochs, as chosen ------> HOLD
 *                               -------- session ends ----------->
 *
 *     any: the VM is gone -> DROP
 *
 * What always holds, by the table in route.c:
 * - Output of a protected VM leaves only if the gate (HOLD) or the comparator (COMPARE) releases
 *   it. From these two a frame reaches OPEN by `alone` only, when no secondary can take over any
 *   more.
 * - A copy's output doesn't leave before this node has taken over: TO_PEER has one way to OPEN.
 * - An unprotected primary's output always leaves: `alone` ends in OPEN wherever it comes from.
 * - What a VM that is gone has sent is dropped.
 *
 * route_fits() states the same for the node's states; node.c checks it after each event.
 */
#ifndef COLO_COLO_NODE_ROUTE_H
#define COLO_COLO_NODE_ROUTE_H

#include "colo/node/fsm.h"

/* Of the guest's output. */
typedef enum {
    ROUTE_DROP,    /* nobody wants it: there is no VM, or it is not a copy yet */
    ROUTE_TO_PEER, /* a copy's: sent to the primary, and kept for a takeover */
    ROUTE_HOLD,    /* into the gate, until a checkpoint that was taken after it is complete */
    ROUTE_COMPARE, /* into the comparator, until the copy has sent the same, or likewise */
    ROUTE_OPEN,    /* to the clients */
    ROUTES
} Route;

typedef enum {
    ROUTE_VM_GONE,
    ROUTE_ALONE,  /* a primary runs its VM, and no secondary can take over */
    ROUTE_PAUSED, /* a primary's VM is paused for a checkpoint: the epoch that begins is guarded */
    ROUTE_EPOCH_HOLDS,    /* a primary's next epoch begins: its output is held, */
    ROUTE_EPOCH_COMPARES, /* or compared */
    ROUTE_SESSION_ENDS,   /* a primary has no secondary that receives checkpoints any more */
    ROUTE_COPY_BEGINS,    /* the VM becomes a copy */
    ROUTE_COPY_ENDS,      /* it is not to be one any more, or is the VM itself now */
    ROUTE_TAKES_OVER,     /* the copy continues as the VM, on its own disks */
    ROUTE_EVENTS
} RouteEvent;

/* FALSE if `event` can't happen on `route`: `ret_next` is untouched then. */
gboolean route_step(Route route, RouteEvent event, Route *ret_next);
/* Whether a node in `state`, which has done all that follows from its last event, may have it. */
gboolean route_fits(Route route, FsmState state);
/* Clients get this output, now or later: HOLD, COMPARE and OPEN. */
gboolean route_is_to_clients(Route route);
/* Output waits for the secondary: HOLD and COMPARE. */
gboolean route_is_guarded(Route route);
const char *route_name(Route route);
const char *route_event_name(RouteEvent event);

/* ---- The last look before a frame leaves ---- */

typedef enum {
    ROUTE_EXIT_CLOSED, /* what was released waits until it is known who continues */
    ROUTE_EXIT_FRESH,  /* it leaves while there is proof that the secondary has not taken over */
    ROUTE_EXIT_OPEN,
} RouteExit;

/* `is_held`: the output of a VM that takes over waits, for nothing of it may be heard yet. */
RouteExit route_exit(FsmState state, gboolean is_held);

/* ---- Input: a frame that has come for the guest ---- */

typedef enum {
    INPUT_DROP,           /* this node's VM is not the one that is meant */
    INPUT_GIVE,           /* to the guest */
    INPUT_MIRROR,         /* likewise, and to the copy */
    INPUT_DEFER,          /* when the VM runs in the next epoch; mirrored then */
    INPUT_DEFER_MIRRORED, /* likewise, but mirrored now: the secondary may be the one that runs it */
    INPUT_QUEUE,          /* a takeover: after all that was mirrored */
    INPUT_ROUTES
} InputRoute;

/*
 * `pausing`: from when the VM is about to be paused until it runs again. `has_session`: there is a
 * secondary that receives checkpoints.
 */
InputRoute route_input(FsmState state, Route output, gboolean pausing, gboolean has_session);
/* Whether the copy gets what the guest is given. */
gboolean route_mirrors(Route output, gboolean has_session);

#endif
