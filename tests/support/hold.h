/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage of the arbiter that hangs: holds up the threads that answer its questions. */
#ifndef COLO_TESTS_HOLD_H
#define COLO_TESTS_HOLD_H

#include "colo/arbiter/arbiter_internal.h"

typedef enum {
    HOLD_NOT,
    HOLD_BEFORE, /* what is asked has not been done */
    HOLD_AFTER,  /* it has been, and the answer hangs */
} HoldWhere;

/* Static, for threads may outlive whatever asked; zero at first. */
typedef struct {
    GMutex lock;
    GCond changed;
    HoldWhere where;
    guint round; /* of releases */
    guint waiting;
    guint detached; /* so often */
} Hold;

void hold_attach(Hold *hold, Arbiter *arbiter);
/* Questions of arbiters that were attached until now, which may outlive these, aren't stopped any more. */
void hold_detach(Hold *hold);
/* Where questions stop from now on; those that have stopped already stay. */
void hold(Hold *hold, HoldWhere where);
/* Lets all go, and stops none any more. */
void hold_end(Hold *hold);
/* How many questions stand still. */
guint hold_waiting(Hold *hold);

#endif
