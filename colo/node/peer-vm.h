/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy, as far as the primary knows of it. Pure; judge.c holds it.
 *
 *                to run          LOADED
 *     any ----------------> LOADS ------> RUNS ---.
 *         ----> PAUSED        |                   | STALLED
 *         to wait             '-------------------+---------> STALLED
 *
 * "To run" and "to wait" is what a checkpoint that is complete there says. The end of the session
 * leads to PAUSED.
 */
#ifndef COLO_COLO_NODE_PEER_VM_H
#define COLO_COLO_NODE_PEER_VM_H

#include <glib.h>

typedef enum {
    PEER_VM_PAUSED,  /* as in `buffered` mode; also: there is none */
    PEER_VM_LOADS,   /* told to run from the checkpoint that is complete there */
    PEER_VM_RUNS,    /* and does */
    PEER_VM_STALLED, /* should run and doesn't, until the next checkpoint */
    PEER_VMS
} PeerVm;

typedef enum {
    PEER_VM_TO_WAIT, /* a checkpoint is complete there, and the epoch that it begins is held, */
    PEER_VM_TO_RUN,  /* or compared */
    PEER_VM_LOADED,  /* messages: it runs; it doesn't; its guest has rebooted, and it runs on */
    PEER_VM_HAS_STALLED,
    PEER_VM_REBOOTED,
    PEER_VM_LEAVES, /* the session is over */
    PEER_VM_EVENTS
} PeerVmEvent;

/* FALSE, with `ret_next` untouched, if `event` makes no sense: only of a message it may. */
gboolean peer_vm_step(PeerVm vm, PeerVmEvent event, PeerVm *ret_next);
/* It is to run, as far as is known: what it sends counts. */
gboolean peer_vm_is_to_run(PeerVm vm);
/* The secondary could continue: it takes a VM that is handed over. */
gboolean peer_vm_is_fit(PeerVm vm);
/* "stands", "loads", "runs", "stalled": as status has it (docs/CONTROL.md). */
const char *peer_vm_name(PeerVm vm);

#endif
