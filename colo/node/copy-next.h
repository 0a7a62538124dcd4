/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy (the secondary's VM): in which condition it is, and what is done to it next. Pure.
 *
 *     EMPTY     received                                      -> APPLYING
 *     APPLYING  applied, and is to be loaded                  -> TO_LOAD
 *               applied                                       -> STANDBY
 *     STANDBY   the next one is received                      -> APPLYING
 *               a takeover has to load it                     -> TO_LOAD
 *     TO_LOAD   the load begins                               -> LOADING
 *     LOADING   loaded, to show that it can be, or refused    -> STANDBY
 *               loaded                                        -> PAUSED
 *               it has written to new pages                   -> INVALID
 *     PAUSED    told to run                                   -> RUNNING
 *               the next one is received                      -> APPLYING
 *               it has stopped by itself, and can't continue  -> INVALID
 *     RUNNING   paused                                        -> PAUSED
 *               stopped by an I/O error of its overlay        -> STALLED
 *               QEMU has refused to run it                    -> STANDBY
 *               it has stopped by itself, and can't continue  -> INVALID
 *     STALLED   the next one is received                      -> APPLYING
 *               it has stopped by itself, and can't continue  -> INVALID
 *     INVALID   the next one is received                      -> APPLYING
 *     any       the end of the session, or of the VM          -> EMPTY
 *
 * The choice of the next job sees only what is (CopyFacts), not what has happened. So each function
 * that changes a fact has the choice made again, in any order and as often as it likes.
 *
 * What always holds (tests/unit/test-copy-next.c walks all facts):
 * - There is one job at a time, and none for a VM that is no copy.
 * - RAM and disks are changed, looked at or loaded only while the VM is paused.
 * - An invalid copy is neither loaded nor resumed.
 * - No load begins while the arbiter is asked, or could be. Its yes must not go to a side that
 *   can't continue, and a load may make the copy invalid.
 * - A takeover comes to its end by what this side does alone: it continues, or the VM is given up.
 */
#ifndef COLO_COLO_NODE_COPY_NEXT_H
#define COLO_COLO_NODE_COPY_NEXT_H

#include <glib.h>

/*
 * All of it is about one checkpoint: the one that was received last. LOADING lasts as long as the
 * jobs LOAD and REPAIR do.
 */
typedef enum {
    COPY_EMPTY,    /* RAM is no checkpoint's: none is complete yet, or there is no session */
    COPY_APPLYING, /* one is complete, and RAM is being made that of it */
    COPY_STANDBY,  /* RAM is that of it, and its device state is kept for a takeover */
    COPY_TO_LOAD,  /* RAM is that of it, and its device state is to be loaded */
    COPY_LOADING,  /* until RAM is right again */
    COPY_PAUSED,   /* loaded; the VM can continue where it is */
    COPY_RUNNING,  /* the same, and told to run: its output counts */
    COPY_STALLED,  /* loaded, and could continue, but QEMU has stopped it: the primary was told */
    COPY_INVALID,  /* it can neither continue nor be loaded before the next checkpoint */
    COPY_CONDITIONS
} CopyCondition;

/* What the node wants of its copy. */
typedef enum {
    COPY_UNUSED,    /* nothing: the VM is no copy */
    COPY_JOIN,      /* to become one: each checkpoint is loaded, to show that it can be */
    COPY_PROTECT,   /* to be ready for a takeover, and to run if the checkpoint asks for it */
    COPY_HAND_OVER, /* the primary waits for it: can it continue? */
    COPY_HOLD,      /* the arbiter is asked who continues: it may run, but is not loaded */
    COPY_FREEZE,    /* it isn't known who continues: paused, as no output reaches clients */
    COPY_TAKE_OVER, /* to continue, as the only one */
    COPY_DUTIES
} CopyDuty;

typedef enum {
    COPY_NO_SESSION,
    COPY_SESSION_DUE, /* begins when the VM is paused, QEMU has answered and no job is under way */
    COPY_SESSION,     /* checkpoints are received */
    COPY_SESSIONS
} CopySession;

/* The disks and the checkpoint. */
typedef enum {
    COPY_DISKS_THERE, /* they are of it; or the VM has none */
    COPY_DISKS_DUE,   /* they are to be made that, which needs a VM that has given them up */
    COPY_DISKS_BUSY,  /* they are being made that */
    COPY_DISKS
} CopyDisks;

/* PREPARE of the primary. */
typedef enum {
    COPY_NOT_ASKED,
    COPY_PREPARE_DUE, /* the pages that the VM has written are to be found */
    COPY_TELLING,     /* they are being sent */
    COPY_PREPARES
} CopyPrepare;

/* Whether the copy is fit to continue; a question of the hand-over. */
typedef enum {
    COPY_FIT_UNASKED,
    COPY_FIT_DUE,
    COPY_FIT_CHECKED, /* QEMU has answered */
    COPY_FITS
} CopyFit;

typedef enum {
    COPY_NOTHING,
    COPY_CHECK, /* it is told to pause, which it has: does QEMU answer? */
    COPY_PAUSE,
    COPY_BEGIN,  /* it gives up its disks, and the session begins */
    COPY_LOOK,   /* which pages has it written? */
    COPY_KEEP,   /* a load: the pages that it is known to write to are kept aside, */
    COPY_LOAD,   /* the device state is loaded, */
    COPY_REPAIR, /* and those pages are put back */
    COPY_RESUME,
    COPY_INACTIVATE, /* it gives up its disks, and they are made those of the checkpoint */
    COPY_TELL_FIT,
    COPY_GIVE_UP, /* it can't take over */
    COPY_JOBS
} CopyJob;

typedef struct {
    CopyJob job; /* under way */
    CopyDuty duty;
    CopyCondition condition;
    CopySession session;
    CopyDisks disks;
    CopyPrepare prepare;
    CopyFit fit;
    gboolean running;   /* the VM, whatever its condition */
    gboolean refused;   /* a step was refused, and is tried again in a while */
    gboolean check_due; /* nothing was asked of QEMU for a while, or since it may write to RAM */
    gboolean settled;   /* of a takeover: nobody writes to RAM any more */
} CopyFacts;

/* The next job; COPY_NOTHING: none, until a fact changes. Never COPY_LOAD or COPY_REPAIR, which
 * follow COPY_KEEP. */
CopyJob copy_next(const CopyFacts *facts);

/* Whether the step is in the table above. Each condition may become itself. */
gboolean copy_may_become(CopyCondition from, CopyCondition to);
/* Likewise: a job is begun when there is none, and KEEP, LOAD and REPAIR are one chain. */
gboolean copy_job_may(CopyJob from, CopyJob to);
gboolean copy_session_may(CopySession from, CopySession to);
gboolean copy_prepare_may(CopyPrepare from, CopyPrepare to);
/* It may be asked again before an answer that nobody waits for any more. */
gboolean copy_fit_may(CopyFit from, CopyFit to);

/* The VM can continue where it is: it is that of the checkpoint, and has no other past. */
gboolean copy_is_loaded(CopyCondition condition);

/* Whether a load may begin: no answer is to come that it could make wrong. */
gboolean copy_may_load(CopyDuty duty);

/* Whether a checkpoint that was applied is loaded at once. `to_run`: the primary wants it. */
gboolean copy_is_to_load(CopyDuty duty, gboolean to_run);

/* What follows from a load that has succeeded. */
typedef enum {
    COPY_LOADED_PROVEN,  /* it can be loaded: reported, and back to STANDBY */
    COPY_LOADED_INVALID, /* RAM isn't the checkpoint's: INVALID */
    COPY_LOADED_RUN,     /* PAUSED, and resumed at once */
    COPY_LOADED_PAUSED   /* PAUSED */
} CopyLoaded;

/* `wrong`: the load has written to pages that were not put back. */
CopyLoaded copy_loaded(CopyDuty duty, gboolean wrong);

/* Whether it could continue now. `to_run`: the primary wanted it to run. */
gboolean copy_is_fit(CopyCondition condition, gboolean to_run);

/* No other node may have the VM: what storage or QEMU refuses doesn't end it. */
gboolean copy_is_to_keep(CopyDuty duty);

const char *copy_condition_name(CopyCondition condition);
const char *copy_job_name(CopyJob job);
const char *copy_session_name(CopySession session);
const char *copy_prepare_name(CopyPrepare prepare);
const char *copy_fit_name(CopyFit fit);

#endif
