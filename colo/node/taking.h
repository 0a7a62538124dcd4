/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that keeps a hand-over from hanging at the secondary. From the arbiter's yes on the
 * VM stands on both hosts. The primary could run it at once. So a secondary that can't, gives it
 * back: if the device state can't be loaded, if QEMU has lost a disk, or if all of it takes longer
 * than disk-timeout. So does one that was told to cancel the switchover while the arbiter had not
 * answered yet.
 *
 * It owns that limit, the reason, and how long a node that ends waits for the arbiter. It decides
 * nothing else: fsm.h has what follows.
 *
 * Always holds: in the state S_TAKING or S_LEAVING, FSM_HAND_OVER_FAILED is reported in the end. In
 * no other state it is; nor in S_TAKING while there is no sign of the primary: it may have died.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_TAKING_H
#define COLO_COLO_NODE_TAKING_H

#include "colo/config/config.h"
#include "colo/node/fsm.h"

typedef struct Taking Taking;

/* How long a node that ends waits until the arbiter has the primary as the VM's owner. */
#define TAKING_LEAVE_MS 10000

typedef struct {
    /* FSM_HAND_OVER_FAILED; from the main loop, and by taking_refused() from within. */
    void (*event)(FsmEvent event, gpointer user_data);
    /* The primary has shown of late that it lives. */
    gboolean (*is_there)(gpointer user_data);
    /* The switchover by which the VM was handed over: an administrator wants it back. */
    gboolean (*is_cancelled)(gpointer user_data);
} TakingHandler;

/* `config` is borrowed. */
Taking *taking_new(const Config *config, const TakingHandler *handler, gpointer user_data);
void taking_free(Taking *taking);

/* The node is in `state`, which it has reached by `event`. */
void taking_moved(Taking *taking, FsmState state, FsmEvent event);
/* A step of the takeover was refused, or the VM is lost. `is_load`: another try doesn't mend it. */
void taking_refused(Taking *taking, const char *what, const GError *error, gboolean is_load);
/* Why the VM was given back the last time. Borrowed. */
const char *taking_why(const Taking *taking);

#endif
