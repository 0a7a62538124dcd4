/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a switchover: switchover.c carries it out, switchover-secondary.c tells what happens to a
 * secondary's, and switchover-figures.c describes it.
 */
#ifndef COLO_COLO_NODE_SWITCHOVER_INTERNAL_H
#define COLO_COLO_NODE_SWITCHOVER_INTERNAL_H

#include "colo/node/switchover.h"
#include "common/clock.h"

/* The flags of SWITCHOVER_PHASE. */
enum { SWITCHOVER_TOLD_HELD = 1, SWITCHOVER_TOLD_GOES = 2 };

struct Switchover {
    const Config *config;
    SwitchoverHandler handler;
    gpointer user_data;

    SwitchoverPhase phase;
    gboolean is_primary;  /* when it began */
    gboolean pause;       /* the wish to hold the VM */
    gboolean wants_pause; /* secondary: the same, as it was ordered here */
    guint32 id;           /* of the last one, here or at the peer; 0: none yet */
    char *pending;        /* parts that don't approve; NULL: they haven't answered yet */
    guint parts;          /* secondary: what was told of them */
    guint looks;          /* in which it was busy, one after the other, */
    guint64 seen_epoch;   /* in this epoch */
    char *reason;         /* of the refusal that is about to come */
    char *error;          /* the first */

    GSource *look_timer;
    guint limit_timer;

    char *started;                /* for people */
    ColoTime began, ready, ended; /* 0: not yet */
    ColoTime stopped, handed,
        resumed;         /* the VM, primary; secondary: the message; and its VM runs */
    gint64 expected_us;  /* -1: not known */
    gint64 peer_took_us; /* primary: from HANDED until it ran there, as told; -1: not yet */
    SwitchoverLoad load;
    ColoTime ran;   /* primary: when the VM did, after its last pause; 0: never */
    gint64 last_us; /* primary: see SwitchoverLoad */
    guint ahead;    /* checkpoints that were complete in `active` */
};

/* ---- switchover.c ---- */

/* What `event` means by the table of this side is done. `why`: the error if it fails by it, or NULL. */
void switchover_feed(Switchover *switchover, SwitchoverEvent event, const char *why);
/* Forgets the one before, which has ended. */
void switchover_reset(Switchover *switchover, gboolean is_primary, guint32 id, gboolean pause);
/* Why the change of the node to `next` by `event` ends it. */
const char *switchover_why_over(FsmState next, FsmEvent event);

/* ---- switchover-secondary.c ---- */

/* The parts that don't approve; the primary is told if they have changed. */
void switchover_look_at_parts(Switchover *switchover, const SwitchoverWorld *world);
void switchover_moved_secondary(Switchover *switchover, FsmState next, FsmEvent event);
/* The primary's messages: ASK, CANCEL with its text, PHASE with its flags. */
void switchover_asked(Switchover *switchover, guint32 id);
void switchover_cancelled_there(Switchover *switchover, const char *why);
void switchover_told(Switchover *switchover, guint32 flags);

/* ---- switchover-figures.c ---- */

/* Why its limit of time has come. The caller's. */
char *switchover_why_late(const Switchover *switchover, const SwitchoverWorld *world);

#endif
