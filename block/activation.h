/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The activation flag: one per service, for all its disks, for the service's whole life. It answers
 * one question, "do the disks here belong to this side?", and it is asked before every resume.
 *
 *     new(owner)          new(!owner)
 *         |                    |
 *         v     inactivate     v
 *      ACTIVE -------------> INACTIVE
 *         ^----- activate -----'
 *
 *   - inactivate: INACTIVE is set before the first disk is touched
 *   - activate: ACTIVE is set after the last disk is active
 *
 * What holds at all times:
 *  - ACTIVE means that every disk is active. INACTIVE promises nothing about a single disk: after a
 *    failed or abandoned inactivation some are active, some are not, one may be unknown.
 *  - A disk known to be inactive is never inactivated again, one known to be active is never
 *    activated again. A disk whose last operation failed is unknown, and is activated before
 *    anything else is done to it: that is the one operation every storage takes in any state. There
 *    is one exception: what is activated by letting the VM run (`runs`) is activated for that only,
 *    when all else is active.
 *  - The VM runs either on active disks (flag ACTIVE) or on a replica's volatile overlay (flag
 *    INACTIVE since the start); nothing is inactivated under a VM that runs on it.
 *  - The one way back from a failed inactivation is block_activate().
 *
 * Threads: one thread. Nothing blocks: operations on disks call back when they are done, at once or
 * later. Storage that never answers holds up the transition but not the caller; the operation's
 * owner gives it a time limit. A callback may ask for the next transition, but not free the
 * activation.
 */
#ifndef COLO_BLOCK_ACTIVATION_H
#define COLO_BLOCK_ACTIVATION_H

#include <glib.h>

typedef enum { BLOCK_INACTIVE, BLOCK_ACTIVE } BlockFlag;

typedef enum {
    BLOCK_DISK_ACTIVE,
    BLOCK_DISK_INACTIVE,
    BLOCK_DISK_UNKNOWN, /* an operation on it failed or has not answered yet */
    BLOCK_DISK_STATES
} BlockDiskState;

/* What a VM that is about to run writes to. */
typedef enum {
    BLOCK_RUN_ACTIVE,  /* the disks themselves: its output may reach a client */
    BLOCK_RUN_OVERLAY, /* a volatile overlay over inactive disks: a secondary before its takeover */
} BlockRun;

/* Ends an operation on a disk; to be called exactly once. `error` is NULL or borrowed. */
typedef void (*BlockOpDone)(gpointer ticket, const GError *error);

/*
 * What can be done to a disk, or to a group that can only be switched as a whole (all disks of one
 * QEMU). Each starts the operation and makes sure that `done` is called with `ticket`, at once or
 * later. That is also so when the storage has to be given up. An activation that ends with
 * BLOCK_ERROR_INACTIVE has not touched the disk: it stays what it was, and the flag INACTIVE.
 */
typedef struct {
    void (*activate)(gpointer disk, BlockOpDone done, gpointer ticket);
    void (*inactivate)(gpointer disk, BlockOpDone done, gpointer ticket);
    gboolean runs; /* activating it lets the VM run; to be added last */
} BlockDiskOps;

typedef struct BlockActivation BlockActivation;

/* Ends a transition: `error` is NULL if it succeeded, else borrowed. */
typedef void (*BlockActivationDone)(BlockActivation *activation, const GError *error,
                                    gpointer user_data);

/* The flag, or what is known of a disk, has changed. No transition may be asked for from within. */
typedef void (*BlockActivationChanged)(BlockActivation *activation, gpointer user_data);

/* The flag of a service that starts: as a fresh primary it owns its disks, as a secondary not. */
BlockActivation *block_activation_new(gboolean owner);

/* Ends waiting transitions with BLOCK_ERROR_ABANDONED; operations in flight may still call back. */
void block_activation_free(BlockActivation *activation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlockActivation, block_activation_free)

/*
 * Adds a disk, which starts in the flag's state, before the first transition. Disks are activated
 * in the order in which they were added and inactivated in the opposite one: add what is below
 * first. `ops` and `disk` are borrowed until the activation is freed and no operation is in flight.
 */
void block_activation_add(BlockActivation *activation, const char *name, const BlockDiskOps *ops,
                          gpointer disk);

/* Has `changed` called from now on; for one watcher. */
void block_activation_watch(BlockActivation *activation, BlockActivationChanged changed,
                            gpointer user_data);

/*
 * Activates every disk that is not known to be active, then sets ACTIVE and calls `done`. If one
 * fails, the rest is left alone, the flag stays INACTIVE and `done` gets BLOCK_ERROR_DISK, naming
 * it; it can be tried again. Abandons an inactivation in progress as soon as its current disk has
 * answered. Already ACTIVE: succeeds at once.
 */
void block_activate(BlockActivation *activation, BlockActivationDone done, gpointer user_data);

/*
 * Sets INACTIVE, then inactivates every disk that is not known to be inactive. The VM must be
 * paused, else BLOCK_ERROR_RUNNING and nothing has changed. If one fails: BLOCK_ERROR_DISK; the way
 * back is block_activate(), and trying again is safe too. All inactive already: succeeds at once.
 */
void block_inactivate(BlockActivation *activation, BlockActivationDone done, gpointer user_data);

/*
 * To be asked before every resume of the VM: TRUE means that it may run now as `run`, and is taken
 * as running until block_activation_paused(). FALSE with BLOCK_ERROR_INACTIVE saying why not.
 */
gboolean block_activation_resume(BlockActivation *activation, BlockRun run, GError **error);

/* The VM is paused (or gone). */
void block_activation_paused(BlockActivation *activation);

BlockFlag block_activation_flag(const BlockActivation *activation);

/* A transition is in progress. */
gboolean block_activation_is_activating(const BlockActivation *activation);
gboolean block_activation_is_busy(const BlockActivation *activation);

/* How many disks there are, and one of them. `ret_name` (may be NULL) is borrowed. */
guint block_activation_disks(const BlockActivation *activation);
BlockDiskState block_activation_disk(const BlockActivation *activation, guint index,
                                     const char **ret_name);

/* Whether one may follow the other: what is done to a disk passes through UNKNOWN. Pure. */
gboolean block_disk_may(BlockDiskState from, BlockDiskState to);
/* "active", "inactive", "unknown". */
const char *block_disk_state_name(BlockDiskState state);

#endif
