/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a VM is, by what is on record: the decisions of owner.c, which says why they are right.
 * Pure: it reads and writes nothing. What is found is told as the node that asks sees it.
 */
#ifndef COLO_COLO_ARBITER_OWNER_RULES_H
#define COLO_COLO_ARBITER_OWNER_RULES_H

#include "colo/arbiter/arbiter.h"

typedef enum { OWNER_NOBODY, OWNER_SELF, OWNER_OTHER } OwnerWho;

typedef struct {
    gboolean rests;       /* nobody runs the VM */
    gboolean has_session; /* the record names one */
    OwnerWho writer;      /* who runs the VM, or was the last to */
    OwnerWho winner;      /* of that session; NOBODY: it isn't decided, or there is none */
    OwnerWho in_step;     /* whose disks are the same as the writer's */
    gboolean
        is_newer; /* a VM that the asker ran alone has, or may have, been heard or written since */
    gboolean is_unrun; /* for certain none has: what the asker has is the writer's */
} OwnerFacts;

typedef enum {
    OWNER_GRANTS,
    OWNER_WRITES,     /* writes the asker down, if nobody was faster; then it is judged again */
    OWNER_DECIDES,    /* decides the session for the asker, likewise */
    OWNER_RECORDS,    /* writes the asker down, who took the VM over: its storage was away then */
    OWNER_WAITS,      /* it is the asker's to decide, but the secondary may be taking over */
    OWNER_RESTS,      /* writes that nobody runs the VM, and that the asker was the last to */
    OWNER_GIVES_BACK, /* writes that nobody runs the VM, and that the writer was the last to */
    OWNER_RETURNS, /* makes the session that the asker has won the writer's, who may hold the VM */
    OWNER_DENIES,  /* the VM is somebody else's */
    OWNER_DENIES_UNRUN, /* nobody has run it yet */
    OWNER_DENIES_ENDED, /* somebody else has ended it on purpose */
    OWNER_DENIES_DISKS, /* others' disks are newer */
    OWNER_VERDICTS
} OwnerVerdict;

/* Whose the VM is. GRANTED: the asker's. OPEN: that is to be decided, and the asker may. */
ArbiterAnswer owner_judge(const OwnerFacts *facts);
/* The VM's last writer may be the asker by a decision: its disks are looked at as the owner's. */
gboolean owner_is_asker(const OwnerFacts *facts);
/* The asker would run the VM. `facts` NULL: there is no record. Not for OVERRULE. */
OwnerVerdict owner_judge_claim(const OwnerFacts *facts, ArbiterClaim claim,
                               gboolean disks_are_good);
/* The asker has ended the VM, or (`has_run` FALSE) was granted it and can't run it. */
OwnerVerdict owner_judge_end(const OwnerFacts *facts, gboolean has_run);
/* Whether the record of a VM that is given back goes on naming who is in step with the writer. */
gboolean owner_keeps_in_step(const OwnerFacts *facts);

#endif
