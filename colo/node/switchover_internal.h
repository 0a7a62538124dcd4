/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside a switchover: switchover.c carries it out, switchover-figures.c describes it. */
#ifndef COLO_COLO_NODE_SWITCHOVER_INTERNAL_H
#define COLO_COLO_NODE_SWITCHOVER_INTERNAL_H

#include "colo/node/switchover.h"
#include "common/clock.h"

struct Switchover {
    const Config *config;
    SwitchoverHandler handler;
    gpointer user_data;

    SwitchoverPhase phase;
    gboolean is_primary; /* when it began */
    gboolean pause;      /* the wish to hold the VM */
    guint32 id;          /* of the last one, here or at the peer; 0: none yet */
    char *pending;       /* parts that don't approve; NULL: they haven't answered yet */
    guint parts;         /* secondary: what was told of them */
    guint looks;         /* in which it was busy, one after the other, */
    guint64 seen_epoch;  /* in this epoch */
    char *reason;        /* of the refusal that is about to come */
    char *error;         /* the first */

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

/* Why its limit of time has come. The caller's. */
char *switchover_why_late(const Switchover *switchover, const SwitchoverWorld *world);

#endif
