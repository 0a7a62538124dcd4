/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node that waits tells an administrator: what it waits for, what runs where as far as it
 * knows, and what can be done. Pure: a table of the states.
 */
#ifndef COLO_COLO_NODE_ADVICE_H
#define COLO_COLO_NODE_ADVICE_H

#include "colo/node/fsm.h"

typedef struct {
    FsmState state;
    const char *peer;    /* its name or address */
    gboolean no_arbiter; /* administrators decide */
    gboolean undecided;  /* it was asked, and can't be */
    gboolean handed;     /* a primary whose VM was handed over when the link was lost */
    /* Why nothing is started, or the VM not recorded; what a hand-over or a takeover waits for now.
     * NULL: nothing is known. Borrowed. */
    const char *arbiter, *step;
    const char *refusal; /* why the VM, which is here, does not run; NULL: nothing prevents it */
    gboolean ends;       /* protected, and about to end */
} AdviceFacts;

typedef struct {
    char *waits; /* for what */
    char *runs;  /* what runs where */
    char *can;   /* what an administrator can do, and when it is right */
} Advice;

/* FALSE if a node in that state waits for nothing. */
gboolean advice_of(const AdviceFacts *facts, Advice *ret_advice);
void advice_clear(Advice *advice);

#endif
