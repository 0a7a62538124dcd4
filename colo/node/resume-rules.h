/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far the way back to a running VM has come, and what each event means then. Pure: a table from
 * (phase, event) to the next phase. resume.c does what belongs to it.
 *
 *             begin              run                done
 *     NOTHING ---------> TRYING -------> RUNNING ----------> UNHEARD --heard--> NOTHING
 *                         ^  |              |
 *                   again |  | refused      | refused
 *                         |  v              |
 *                        WAITING <----------'
 *                            '-- give up, need not --> NOTHING
 *
 *              a step of the copy is refused
 *     NOTHING -------------------------------> COPY_WAITS
 *        ^--------- again, session over -----------'
 *
 * TRYING is done, too, if the VM is to stay stopped: then UNHEARD_STOPPED. A try that fails ends. A
 * try that begins takes the place of COPY_WAITS. `forget` leads to NOTHING from everywhere.
 *
 * What always holds (tests/unit/test-resume-rules.c walks all of it):
 * - One try is under way at most. Whoever began it is told once how it ended, unless it is given up
 *   or forgotten.
 * - Something is to come for as long as a try is under way: an answer, its being heard, or the time
 *   to try again. It is one of them only.
 * - Each time it is asked anew whether the VM may run.
 * - A step of the copy that is refused during a try changes nothing: the try comes to its own end.
 */
#ifndef COLO_COLO_NODE_RESUME_RULES_H
#define COLO_COLO_NODE_RESUME_RULES_H

#include <glib.h>

typedef enum {
    RESUME_NOTHING,         /* is under way, or waits */
    RESUME_TRYING,          /* the disks are to be this side's; nobody has told the VM to run */
    RESUME_RUNNING,         /* QEMU is to run it */
    RESUME_UNHEARD,         /* it runs: until its output may leave, often at once */
    RESUME_UNHEARD_STOPPED, /* the same of a VM that stays stopped */
    RESUME_WAITING,         /* the try was refused: until it is made again */
    RESUME_COPY_WAITS,      /* a step of the copy was refused: likewise */
    RESUME_PHASES
} ResumePhase;

typedef enum {
    RESUME_EVENT_BEGIN,        /* a VM is to be resumed */
    RESUME_EVENT_RUN,          /* its disks are there: the VM is to run */
    RESUME_EVENT_KEEP,         /* its disks are there: the VM is to stay stopped */
    RESUME_EVENT_DONE,         /* it runs, or is left stopped */
    RESUME_EVENT_REFUSED,      /* it does not, which may pass */
    RESUME_EVENT_FAILED,       /* it does not, and that is told to whoever began the try */
    RESUME_EVENT_HEARD,        /* its output may leave now */
    RESUME_EVENT_COPY_REFUSED, /* a step of the copy */
    RESUME_EVENT_AGAIN,        /* a second later, or `cont` */
    RESUME_EVENT_NEED_NOT,     /* `stop`: it need not run any more */
    RESUME_EVENT_GIVE_UP,      /* the VM is to be handed over, or to stay paused */
    RESUME_EVENT_SESSION_OVER, /* whose copy it was */
    RESUME_EVENT_FORGET,       /* the VM is about to be ended */
    RESUME_EVENTS
} ResumeEvent;

typedef struct {
    gboolean legal;
    ResumePhase next;
} ResumeStep;

ResumeStep resume_step(ResumePhase phase, ResumeEvent event);

/* Somebody has begun a try, and has not been told how it ended. */
gboolean resume_has_try(ResumePhase phase);
/* How the disks or QEMU answer is to come. */
gboolean resume_is_trying(ResumePhase phase);
/* It ends when the VM's output may leave. */
gboolean resume_is_unheard(ResumePhase phase);
/* Something was refused, and is tried again. */
gboolean resume_waits(ResumePhase phase);
/* The try has told the VM to run. */
gboolean resume_runs(ResumePhase phase);

const char *resume_phase_name(ResumePhase phase);
const char *resume_event_name(ResumeEvent event);

#endif
