/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that is the one way back to a running VM whose output may leave. It tries, waits
 * where something was refused, reports that, and tries again. resume.c has the picture.
 *
 * It owns the try under way, what was refused last, who waits for an answer to `cont`, and why the
 * guest is stopped (stops.h). It has neither a VM nor disks: it orders both by its handler.
 *
 * Always holds:
 * - One try is under way at most. Its caller is called once, unless the VM is ended or the try is
 *   given up.
 * - A guest that is to stay stopped (stops_may_run()) is not run by a try, whoever began it. What else
 *   belongs to the try is done: a takeover's disks become this side's.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_RESUME_H
#define COLO_COLO_NODE_RESUME_H

#include "colo/config/config.h"
#include "colo/control/control.h"
#include "colo/node/stops.h"
#include "vm/vm.h"

typedef struct Resume Resume;

/* Facts that others own. */
typedef struct {
    FsmState state;
    gboolean copy_is_fit;     /* a secondary could take a VM that is handed over */
    gboolean is_unsynced;     /* an image here could not be synced, which is final */
    gboolean still_runs;      /* QEMU has refused to pause it: it has not stopped */
    gboolean images_given_up; /* they take no writes: the other side's may count */
    const char *peer_name;    /* NULL: not known */
    const char *step;         /* what the try waits for now; NULL: not known. Borrowed */
} ResumeWorld;

/* NULL: the VM runs, or is left stopped. */
typedef void (*ResumeDone)(const GError *error, gpointer user_data);

/* Called on the main loop, also from within the functions below. */
typedef struct {
    ResumeWorld (*look)(gpointer user_data);
    /*
     * The disks are to be this side's. TRUE: they are, or there are none. FALSE: they will be, and
     * the VM resumed on them, if resume_begin_run(); then resume_activated().
     */
    gboolean (*activate)(gpointer user_data);
    /* QEMU is to run the VM: then resume_ran(). */
    void (*run)(gpointer user_data);
    /* The VM is this side's, and stays stopped. */
    void (*leave_stopped)(gpointer user_data);
    /* It does, or is to. TRUE: its output may leave. FALSE: it may soon; then resume_heard(). */
    gboolean (*may_be_heard)(gpointer user_data);
    /* It doesn't: the disks are to know. */
    void (*not_resumed)(gpointer user_data);
    /* A primary's VM was refused, and is tried again. */
    void (*refused)(gpointer user_data);
    /* The step of the copy that was refused is to be tried again. */
    void (*step_copy)(gpointer user_data);
    /* The guest that QEMU has stopped is to be continued, when it can be. */
    void (*continue_guest)(gpointer user_data);
    /*
     * The VM can't be resumed here for long, and the secondary could continue. The try is to be
     * given up, or the VM ended, from within.
     */
    void (*hand_over)(gpointer user_data);
    void (*trouble)(const char *what, const GError *error, gpointer user_data);
    /* For administrators: the guest is stopped, for this reason; it runs again after `stop`. */
    void (*guest_stopped)(const char *by, gpointer user_data);
    void (*guest_resumed)(gpointer user_data);
} ResumeHandler;

/* Whether an error of the VM or its disks may pass: QEMU is neither dead nor hanging. */
static inline gboolean resume_may_pass(const GError *error)
{
    return !g_error_matches(error, VM_ERROR, VM_ERROR_DIED) &&
           !g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT);
}

/* A secondary in whose state nobody else may have the VM: what is refused doesn't end it. Pure. */
gboolean resume_is_to_keep(FsmState state);

/* `config` is borrowed; `user_data` goes to each ResumeDone, too. */
Resume *resume_new(const Config *config, const ResumeHandler *handler, gpointer user_data);
/* After resume_forget(), if there was a VM. */
void resume_free(Resume *resume);

/*
 * Activates the disks, if they aren't, and resumes the VM, if it is not to stay stopped; then `done`, from
 * within for a primary's VM that stays stopped. What is refused is tried again; of a primary's VM
 * `done` is not called meanwhile. Else `done` gets the reason.
 */
void resume_vm(Resume *resume, ResumeDone done);
/* The disks are this side's: whether this try is to run the VM. */
gboolean resume_begin_run(Resume *resume);
/* What `may_be_heard` has waited for is over. */
void resume_heard(Resume *resume);
/* How `run`, and how activating the disks has ended. */
void resume_ran(Resume *resume, const GError *error);
void resume_activated(Resume *resume, const GError *error);
/* A step towards a running VM was refused: reports it, and tries again in a second. */
void resume_wait(Resume *resume, const char *what, const GError *error);
gboolean resume_is_waiting(const Resume *resume);
/* The copy takes no step now, and none was refused: there is nothing to wait for. */
void resume_copy_rests(Resume *resume);
/* Secondary: what was to be tried was of a session that is over. */
void resume_session_over(Resume *resume);
/* TRUE if the VM was to be tried again, which it is no more. */
gboolean resume_give_up(Resume *resume);

/* QEMU has stopped the guest of a VM whose output may leave; the guest is about to be continued. */
void resume_guest_stopped(Resume *resume, const char *detail);
void resume_continues(Resume *resume);
/*
 * `stop`, or a takeover from a checkpoint of a guest that was stopped so: it is not run until
 * `cont`. A try that waits ends. Its owner is to have it paused, if it runs.
 */
void resume_stop(Resume *resume);
/* The VM is paused, and no pause of colod's own is to end: reports a `stop` that is done, once. */
void resume_report_stop(Resume *resume);
/* Why it is stopped, or will be; whether by an administrator; whether the end of a pause runs it. */
Stops resume_stops(const Resume *resume);
gboolean resume_is_stopped(const Resume *resume);
gboolean resume_may_not_run(const Resume *resume);
/* It is to be continued as soon as no checkpoint is under way. */
gboolean resume_is_to_continue(const Resume *resume);

/*
 * `cont`: tries now, and answers when the try has ended; or after five seconds by an error that says what
 * the try waits for, and it goes on. FALSE: there is nothing to try.
 */
gboolean resume_now(Resume *resume, ControlRequest *request);
/* The VM is about to be ended. */
void resume_forget(Resume *resume);
/* What was refused, as it was reported; NULL: nothing is. */
const char *resume_refusal(const Resume *resume);
/* For tests: the source of the next try; 0: none. */
guint resume_next_try(const Resume *resume);

#endif
