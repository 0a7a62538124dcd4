/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node whose VM the other one runs becomes its secondary, and keeps the VM's process. This part has
 * the order of the steps, and goes back to a new process where one fails.
 *
 *     nothing --begin, if it may--> checking --QEMU answers--> switching --disks are a replica--> kept --proven--> nothing
 *        |                             |                           |                               |
 *        '--if it may not--.           '---------------------------+---------failed, or lost-------'
 *                          v                                       v
 *                         start over: the VM is ended, and another one started
 *
 * Kept, it is proven when the pair is protected: until then its QEMU or its disks may still turn out
 * not to be fit for a copy.
 *
 * RAM is whatever the guest has left: the next session tells the primary what it is (STREAM.md, "The
 * base"). So nothing here has to be known of it, but that nobody writes to it any more. Device state
 * is loaded from the next session's first checkpoint, as into any copy.
 *
 * It has neither the VM nor the disks: it orders by its handler, and is told. The handler's start_over()
 * is never called from within a function below but replica_begin(). So whoever has reported a failure
 * may be freed by it.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_REPLICA_H
#define COLO_COLO_NODE_REPLICA_H

#include <glib.h>

typedef struct {
    gboolean is_paused; /* the VM stays paused: no order to it is under way, nor a checkpoint */
    gboolean is_ending; /* there was a sign of its end */
    gboolean is_grown;  /* QEMU takes more memory than it may: this is when it gets a new one */
    gboolean
        has_disks; /* they are given up, and nothing is being done to them; or there are none */
    gboolean is_unsynced; /* what was written to an image may be lost */
    gboolean
        is_cached; /* QEMU has not given up a disk of which it caches what is about to change */
    gboolean
        has_input; /* its cards have frames that the guest has not got: the copy would get them */
    gboolean is_unread; /* what was sent to the guest's agent: it would reach the guest in a load */
} ReplicaFacts;

/* Why the VM's process is not kept: static; NULL: it may be. Pure. */
const char *replica_obstacle(const ReplicaFacts *facts);

typedef struct {
    ReplicaFacts (*look)(gpointer user_data);
    /* What belongs to a VM that was this node's is to be forgotten. It is a copy, and empty. */
    void (*forget)(gpointer user_data);
    /* QEMU is to answer that the VM is paused: replica_checked(). */
    void (*check)(gpointer user_data);
    /* The disks are to become a replica: replica_switched(), also from within. */
    void (*switch_disks)(gpointer user_data);
    /* All is done. */
    void (*kept)(gpointer user_data);
    /* The VM is to be ended, if it hasn't been, and another one to be started. */
    void (*start_over)(gpointer user_data);
} ReplicaHandler;

typedef enum {
    REPLICA_NOTHING,
    REPLICA_CHECKING,
    REPLICA_SWITCHING,
    REPLICA_KEPT,
    REPLICA_FAILED, /* start_over() is called from the main loop */
    REPLICA_PHASES
} ReplicaPhase;

typedef struct Replica Replica;

Replica *replica_new(const ReplicaHandler *handler, gpointer user_data);
/* NULL is fine. */
void replica_free(Replica *replica);

/* Ends in kept() or start_over(), unless replica_forget() comes before. */
void replica_begin(Replica *replica);
/* The answers; of one that was forgotten they mean nothing. */
void replica_checked(Replica *replica, const GError *error);
void replica_switched(Replica *replica, const GError *error);
/* The pair is protected. */
void replica_proven(Replica *replica);
/* The VM or its disks are lost. FALSE: nothing is under way, so that is the caller's to deal with. */
gboolean replica_lost(Replica *replica, const char *what, const GError *error);
/* The VM is about to be ended. */
void replica_forget(Replica *replica);

ReplicaPhase replica_phase(const Replica *replica);
gboolean replica_may(ReplicaPhase from, ReplicaPhase to);
const char *replica_phase_name(ReplicaPhase phase);

#endif
