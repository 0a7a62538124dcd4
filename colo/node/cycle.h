/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's checkpoint cycle: in which phase it is, what each event means in it, and what is
 * done then. Pure: a table from (phase, event) to (next phase, actions). primary.c feeds the events
 * and carries the actions out.
 *
 *     IDLE --due--> SYNCING --synced--> PREPARING --prepared--> SETTLING --settled--> PAUSING
 *                                                                                        | paused
 *             .--saved--> MARKING -------marked-----.                                    |
 *     SAVING -|                                     |--> COPYING                         v
 *             '--marked-> SAVING_MARKED --saved-----'      | taken                     SAVING
 *                                                          v
 *     IDLE <--sent and received-- SENDING <--running-- RESUMING_SENDING
 *
 * From COPYING on, the checkpoint may be received, and once it is taken also sent: in any order,
 * and before or after the VM runs. So three phases come once for each of that: the VM is resumed
 * (RESUMING_), it runs (SENDING, SENT, RECEIVED), or it stays paused (PAUSED_).
 *
 * The last checkpoint before a switchover leaves the VM paused, and may be held in its pause:
 *
 *     PAUSING --held--> HELD --go, or resume--> SAVING ... COPYING --kept--> PAUSED_SENDING
 *
 * If the VM has disks, they are given up in it when the device state is saved, and marked by that:
 *
 *     SAVING --saved-last--> GIVING_UP --given-up--> COPYING
 *                                |
 *                                '--not-given-up--> MARKING, as of an ordinary one
 *
 * Disks of which no checkpoint can be made end it: before the secondary is told of it, or in the pause, in
 * which the VM stays then.
 *
 *     SYNCING --not-synced--> IDLE
 *     SAVING  --not-marked--> SAVING_UNMARKED --saved, or refused--> PAUSED
 *     MARKING --not-marked--> PAUSED
 *
 * The end of the session cancels what is under way: the VM, if it was paused, is only resumed.
 *
 *     SYNCING, PREPARING, SETTLING, SENDING...   -> IDLE
 *     PAUSING -> PAUSING_CANCELLED   --paused--> RESUMING --running--> IDLE
 *     SAVING..., -> SAVING_CANCELLED --saved, or refused--> RESUMING
 *     GIVING_UP -> GIVING_UP_CANCELLED --given up, or not--> RESUMING
 *     HELD, MARKING, COPYING                     -> RESUMING
 *     RESUMING_..., PAUSED_...                   -> RESUMING, PAUSED
 *
 * A VM that is to be paused outside of a checkpoint (primary-pause.c):
 *
 *     IDLE --stop--> STOP_SETTLING --settled--> STOPPING --paused--> PAUSED --resume--> RESUMING
 *     RESUMING... --refused--> PAUSED...   with the checkpoint that is under way, if there is one
 *
 * What always holds (tests/unit/test-cycle.c walks all of it):
 * - The VM is told to pause only while it runs, and is resumed after each pause: at once, or when
 *   the node no longer needs the pause. Whatever the session's end cuts off, the VM doesn't stay
 *   paused.
 * - RAM is copied only when the device state is saved and the disks are marked.
 * - A checkpoint is received once, and complete when it is sent, received, and the VM runs.
 */
#ifndef COLO_COLO_NODE_CYCLE_H
#define COLO_COLO_NODE_CYCLE_H

#include <glib.h>

typedef enum {
    CYCLE_IDLE,
    CYCLE_SYNCING,           /* the VM runs; waits for the disks */
    CYCLE_PREPARING,         /* the VM runs; waits for the secondary's to be paused */
    CYCLE_SETTLING,          /* the VM runs; waits for QEMU to read what it was given */
    CYCLE_PAUSING,           /* for a checkpoint */
    CYCLE_PAUSING_CANCELLED, /* to be resumed at once */
    CYCLE_HELD,             /* the VM is paused for its last checkpoint, which waits for an order */
    CYCLE_SAVING,           /* waits for the device state, and for the disks' mark */
    CYCLE_SAVING_MARKED,    /* waits for the device state */
    CYCLE_SAVING_UNMARKED,  /* likewise, of no checkpoint any more */
    CYCLE_SAVING_CANCELLED, /* likewise, to resume the VM */
    CYCLE_MARKING,          /* the device state is saved; waits for the disks' mark */
    CYCLE_GIVING_UP, /* the device state is saved; waits for the disks to be marked and given up */
    CYCLE_GIVING_UP_CANCELLED, /* likewise, to resume the VM */
    CYCLE_COPYING,             /* the VM is paused until what has changed of RAM is copied */
    CYCLE_COPYING_RECEIVED,
    CYCLE_RESUMING, /* the VM is about to run; no checkpoint is under way */
    CYCLE_RESUMING_SENDING,
    CYCLE_RESUMING_SENT,
    CYCLE_RESUMING_RECEIVED,
    CYCLE_RESUMING_COMPLETE, /* sent and received */
    CYCLE_SENDING,           /* the VM runs; waits for the last byte, and for RECEIVED */
    CYCLE_SENT,              /* the VM runs; waits for RECEIVED */
    CYCLE_RECEIVED,          /* the VM runs; waits for the last byte */
    CYCLE_STOP_SETTLING,     /* as SETTLING, for no checkpoint */
    CYCLE_STOPPING,          /* pauses the VM, for no checkpoint */
    CYCLE_PAUSED,            /* until the pause is over; no checkpoint is under way */
    CYCLE_PAUSED_SENDING,
    CYCLE_PAUSED_SENT,
    CYCLE_PAUSED_RECEIVED,
    CYCLE_PAUSED_COMPLETE,
    CYCLE_PHASES
} CyclePhase;

typedef enum {
    CYCLE_EVENT_START,      /* the VM was just started: it is to run */
    CYCLE_EVENT_CONTINUE,   /* QEMU has stopped the guest: it is to run again */
    CYCLE_EVENT_DUE,        /* a checkpoint is to be taken */
    CYCLE_EVENT_STOP,       /* the VM is to be paused */
    CYCLE_EVENT_RESUME,     /* it is not to be paused any more */
    CYCLE_EVENT_SYNCED,     /* the disks, or they can't be */
    CYCLE_EVENT_NOT_SYNCED, /* and no checkpoint can be made of them any more */
    CYCLE_EVENT_PREPARED,   /* the secondary's VM is paused, and its pages are known */
    CYCLE_EVENT_SETTLED,
    CYCLE_EVENT_PAUSED,
    CYCLE_EVENT_HELD, /* likewise, and the checkpoint is to wait */
    CYCLE_EVENT_GO,   /* it is not to wait any more */
    CYCLE_EVENT_SAVED,
    CYCLE_EVENT_SAVED_LAST,   /* likewise, of a checkpoint that the disks are given up in */
    CYCLE_EVENT_NOT_SAVED,    /* QEMU refuses to, and is well; of no checkpoint any more */
    CYCLE_EVENT_MARKED,       /* the disks, or there are none */
    CYCLE_EVENT_NOT_MARKED,   /* and no checkpoint can be made of them as they are */
    CYCLE_EVENT_GIVEN_UP,     /* the disks, which are marked */
    CYCLE_EVENT_NOT_GIVEN_UP, /* not all of them; or nobody needs it any more */
    CYCLE_EVENT_TAKEN,        /* RAM is copied */
    CYCLE_EVENT_KEPT,         /* likewise, and the VM is to stay paused */
    CYCLE_EVENT_RUNNING,      /* the VM, again */
    CYCLE_EVENT_REFUSED,      /* QEMU refuses to run it, and it need not */
    CYCLE_EVENT_SENT,
    CYCLE_EVENT_RECEIVED, /* message */
    CYCLE_EVENT_SESSION_ENDED,
    CYCLE_EVENT_VM_GONE,
    CYCLE_EVENTS
} CycleEvent;

/* Carried out in this order, after the phase has changed. */
typedef enum {
    CYCLE_DO_START, /* has the VM resumed, once its disks know that it runs here */
    CYCLE_DO_SYNC,
    CYCLE_DO_PREPARE,
    CYCLE_DO_SETTLE,
    CYCLE_DO_PAUSE,
    CYCLE_DO_SAVE, /* the device state; and marks the disks, if they aren't given up */
    CYCLE_DO_GIVE_UP,
    CYCLE_DO_MARK,
    CYCLE_DO_COPY,
    CYCLE_DO_RESUME,
    CYCLE_DO_GIVE_INPUT,  /* what was deferred */
    CYCLE_DO_RELEASE,     /* the output that waited for the checkpoint */
    CYCLE_DO_COUNT,       /* the checkpoint, which is complete */
    CYCLE_DO_TELL_PAUSED, /* who has stopped the VM */
    CYCLE_DO_TELL_HELD,
    CYCLE_DO_COMMIT, /* likewise: the secondary has the checkpoint that the VM is paused in */
    CYCLE_DO_LOOK,   /* what is due next */
    CYCLE_ACTIONS
} CycleAction;

typedef struct {
    gboolean legal; /* if not: an error of ours, or, if it is RECEIVED, of the peer */
    CyclePhase next;
    guint actions; /* bits: 1 << CycleAction */
} CycleStep;

/* What `event` means in `phase`. */
CycleStep cycle_step(CyclePhase phase, CycleEvent event);

/* The VM runs, and no pause is near. */
gboolean cycle_is_between_pauses(CyclePhase phase);
/* What comes for the guest waits: the VM is paused, or about to be. */
gboolean cycle_defers_input(CyclePhase phase);
/* The secondary's VM is paused for a checkpoint, and not about to run from it yet. */
gboolean cycle_has_peer_paused(CyclePhase phase);
/* All of the checkpoint is sent, and RECEIVED is to come. */
gboolean cycle_is_owed_received(CyclePhase phase);
/* The VM is paused, and the secondary has the last checkpoint of it. */
gboolean cycle_is_committed(CyclePhase phase);

const char *cycle_phase_name(CyclePhase phase);
/* What it waits for, for people: "QEMU has not paused the VM"; NULL: for nothing. */
const char *cycle_waits_for(CyclePhase phase);
const char *cycle_event_name(CycleEvent event);

/* ---- Before protection is claimed ---- */

typedef enum {
    PROOF_SYNCHRONISE, /* all RAM is on its way */
    PROOF_DUE,         /* a checkpoint for the secondary to try is to be taken */
    PROOF_TAKE,        /* it is being taken */
    PROOF_LOAD,        /* the secondary loads it: READY is to come, nothing else is sent */
    PROOF_DONE,
    PROOFS
} Proof;

/* Whether a proof may follow another one. A session begins with PROOF_SYNCHRONISE. */
gboolean proof_may_become(Proof from, Proof to);
/* After `loads` loads of which the last has named `pages` runs of pages: PROOF_DUE or
 * PROOF_DONE. */
Proof proof_after_load(unsigned loads, gsize pages);
const char *proof_name(Proof proof);

/* ---- Before a switchover ---- */

/* Whether the next checkpoint is the VM's last one here. */
typedef enum {
    PLAN_NONE,
    PLAN_HELD, /* it is, and waits in its pause for an order */
    PLAN_LAST, /* it was ordered */
    PLANS
} Plan;

/* Whether a plan may follow another one. None is ordered that was not made first. */
gboolean plan_may_become(Plan from, Plan to);
const char *plan_name(Plan plan);

#endif
