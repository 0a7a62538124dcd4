/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the primary: primary.c has the cycle, primary-session.c the session, primary-pause.c the
 * pause without a checkpoint.
 */
#ifndef COLO_COLO_NODE_PRIMARY_INTERNAL_H
#define COLO_COLO_NODE_PRIMARY_INTERNAL_H

#include "colo/node/primary.h"
#include "colo/node/settle.h"

/* The checkpoint cycle. The phase is changed by primary_step() only. */
typedef struct {
    CyclePhase phase;
    guint64 epoch; /* of the checkpoint: under way, or the last one */
    CheckpointReason reason;
    gboolean compares;    /* the epoch that it begins */
    gboolean last;        /* the VM stays paused in it */
    gboolean stopped;     /* the guest, as the checkpoint has it: by an administrator's order */
    gboolean was_stopped; /* ... as the one before has it */
    gboolean gives_up;    /* the last one: the disks are marked as they are given up */
    GBytes *state;        /* device state, saved and not on its way yet; else NULL */
    CaptureStats stats;
    ColoTime copied;                      /* RAM, into the checkpoint: from then on it is sent, */
    guint64 ahead_bytes;                  /* but for these, which were before */
    ColoTime pause_started;               /* 0: the VM runs, or never did */
    gboolean pause_refused, refusal_told; /* no answer is to come: it is tried again */
    gint64 pause_us;                      /* the last one, */
    gint64 stood_us;                      /* and until all was copied */
    ColoTime resumed;                     /* the last time, from a pause */
} Cycle;

struct Primary {
    const Config *config;
    const PrimaryHandler *handler;
    gpointer user_data;

    Vm *vm; /* NULL: none that has been started */
    DirtyTracker *tracker;

    Cycle cycle;
    Settle *settle;       /* CYCLE_SETTLING, CYCLE_STOP_SETTLING */
    GSource *again_timer; /* of a pause that is tried again */

    ColoTime warm;     /* before it, RAM isn't looked at: the guest was just loaded */
    Capture *capture;  /* NULL: there is no session */
    gboolean may_pack; /* of the session: the secondary reads packed pages */
    Proof proof;
    unsigned proofs; /* loads that READY has reported */
    gboolean has_progress;
    SyncProgress progress;
    Wanted wanted; /* reasons for a checkpoint */
    GSource *schedule_timer;

    gboolean pause_wanted; /* as soon as no cycle is under way */
    gboolean frozen;       /* and its uplinks are closed */
    gboolean doubted;      /* the secondary may have the arbiter's yes but not have continued */
    guint hand_over_timer, hand_over_limit_ms;
    Plan plan; /* changed by primary_set_plan() only */
};

PrimaryWorld primary_look(const Primary *primary);

/* ---- primary.c ---- */

/* Feeds an event to the cycle and carries out what follows. */
void primary_step(Primary *primary, CycleEvent event);
/* A checkpoint is due. */
void primary_take(Primary *primary, CheckpointReason reason);

/* ---- primary-session.c ---- */

void primary_session_init(Primary *primary);
void primary_session_finalise(Primary *primary);
/* The secondary has named pages that the next checkpoint is to carry. */
gboolean primary_add_pages(Primary *primary, const char *message, const MessageRun *runs, gsize n,
                           GError **error);
/* The checkpoint that the secondary is to try is complete there. */
void primary_try_load(Primary *primary);
void primary_taken(const CaptureStats *stats, gpointer primary);
void primary_sent(const CaptureStats *stats, gpointer primary);

/* ---- primary-pause.c ---- */

void primary_set_plan(Primary *primary, Plan next);
/* Actions of the cycle: the VM is paused; the checkpoint that it is paused in is complete. */
void primary_paused(Primary *primary);
/* Of a checkpoint that waits for the disks: there will be none of them as they are. `event` ends the cycle for it. */
void primary_cannot_go_on(Primary *primary, CycleEvent event, const GError *error);
void primary_committed(Primary *primary);
/* It is paused for its last checkpoint, which is held. */
void primary_held(Primary *primary);
/* No checkpoint is under way. TRUE: none is to be taken, for the VM is paused, or will. */
gboolean primary_is_to_pause(Primary *primary);
/* The secondary doesn't know yet whether an administrator has stopped the guest. */
gboolean primary_owes_stop(const Primary *primary);
/* The disks are being given up in the last checkpoint, which gets time for it; and are. */
void primary_gives_up_disks(Primary *primary);
void primary_gave_up_disks(Primary *primary);
/* It is being handed over, and the cycle is in a phase that others limit: the next has its own time. */
gboolean primary_has_own_limit(const Primary *primary);
void primary_end_own_limit(Primary *primary);
/* It is handed over, or not to be any more. */
void primary_end_hand_over(Primary *primary);

#endif
