/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the copy: copy.c has its facts, copy-jobs.c the jobs. */
#ifndef COLO_COLO_NODE_COPY_INTERNAL_H
#define COLO_COLO_NODE_COPY_INTERNAL_H

#include "colo/node/copy.h"
#include "colo/node/settle.h"
#include "colo/node/told.h"

struct Copy {
    const CopyHandler *handler;
    gpointer user_data;

    Vm *vm; /* NULL: none that has been started */
    DirtyTracker *tracker;
    LoadGuard *guard; /* of the VM, from its first session on */

    CopyJob job;
    CopyCondition condition;
    CopySession session;
    CopyPrepare prepare;
    guint64 prepare_epoch; /* the checkpoint that is prepared, if one is */
    Told *told;            /* the answer */
    CopyFit fit;
    gboolean check_due, settled;
    ColoTime job_began; /* the one under way */
    Settle *settle;     /* COPY_PAUSE, until QEMU is told to */

    Checkpoint *checkpoint; /* received last; NULL only when empty */
    gboolean to_run;        /* the primary wants it to run from that */
    gboolean is_last_load;  /* pages are kept for one that no checkpoint will correct */
    GError *load_error;     /* of a load that is to be tried again, once RAM is right again */
    gboolean ask_when_loaded;
    unsigned proofs; /* loads that were to show that it can be loaded, in this session */
    guint check_timer;
};

/* Of the checkpoint; 0 when there is none. */
CopyWorld copy_look(const Copy *copy);
/* The only ones who set these. */
void copy_set_condition(Copy *copy, CopyCondition next);
void copy_set_job(Copy *copy, CopyJob next);
void copy_set_session(Copy *copy, CopySession next);
void copy_set_prepare(Copy *copy, CopyPrepare next);
void copy_set_fit(Copy *copy, CopyFit next);
/* Sets the condition, and the primary is told that it should run and doesn't. */
void copy_stall(Copy *copy, CopyCondition next, const char *why);
/* Begins a job that copy_next() has chosen. */
void copy_begin_job(Copy *copy, CopyJob job);
/* QEMU has read the copy's input, and is to pause it. */
void copy_pause_settled(gpointer user_data);

#endif
