/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one way back to a running VM whose output may leave. First its disks are this side's, then it
 * is told to run. Starts, checkpoints, takeovers, the io-retry and `cont` all end in resume_vm().
 * resume-rules.h has the picture and the table of it. What was refused is reported, and tried again
 * every second, or by `cont`: meanwhile the VM and all it needs are kept.
 *
 * What storage or QEMU refuses may pass: no room, an I/O error, a `cont` that doesn't open the
 * disks again. And the VM may be the only one there is. So it is never given up for that. A primary
 * that is protected has another side that could continue: after resume-patience it hands the VM
 * over. Only a QEMU that is dead or hangs, or a disk server that is gone, is the end of the VM.
 *
 * The steps of a takeover (copy.h) wait here in the same way, this one too: then copy_step() is
 * called again. A primary's caller is not called before its VM runs.
 *
 * A guest that is to stay stopped is not run by any of these: stops.h has the rule, and
 * resume_begin_run() asks it last. QEMU has stopped it for an I/O error (on-error): it is continued
 * every io-retry, or by `cont`. Or an administrator has, by `stop`: only `cont` continues it. To
 * continue is to forget the reasons and then to try like anybody else, as soon as no checkpoint is
 * under way.
 */
#include "colo/node/resume.h"

#include "colo/node/node.h"
#include "colo/node/resume-rules.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* How long until what was refused is tried again. */
#define AGAIN_MS 1000
/* A try may hang for as long as storage does. Who has typed `cont` is told so, and not kept. */
#define ANSWER_S 5

struct Resume {
    const Config *config; /* borrowed */
    ResumeHandler handler;
    gpointer user_data;
    ResumePhase phase;
    ResumeDone done;     /* of the try: called when the VM runs; NULL: there is none */
    guint again_timer;   /* while the phase waits: until what was refused is tried again */
    char *refused;       /* what was reported of it; NULL: nothing is */
    guint refused_waits; /* of a second, since then */

    guint activated_source; /* how activating the disks has ended is to be reported */
    GError *activation_error;
    GPtrArray *requests; /* of ControlRequest*: to be answered by the try under way, */
    guint answer_timer;  /* but by then at the latest; 0: there are none */

    Stops stops;            /* why the guest is stopped, or is to be */
    gboolean stop_reported; /* that it does by `stop` */
    gboolean continue_due;
    ColoTime io_stopped_at; /* the last time */
    guint io_timer;
};

gboolean resume_is_to_keep(FsmState state)
{
    return state == FSM_S_PAUSED || state == FSM_S_RECOVER || fsm_is_taking_over(state);
}

static ResumeWorld look(const Resume *resume)
{
    return resume->handler.look(resume->user_data);
}

static const char *peer_called(const ResumeWorld *world)
{
    return world->peer_name ? world->peer_name : "the other node";
}

/* ---- Who is told how a try ends ---- */

static void answer(Resume *resume, const GError *error)
{
    g_autoptr(GPtrArray) requests = resume->requests;
    resume->requests = g_ptr_array_new();
    g_clear_handle_id(&resume->answer_timer, g_source_remove);
    for (guint i = 0; i < requests->len; i++)
        if (error)
            control_fail(requests->pdata[i], error);
        else
            control_reply(requests->pdata[i], NULL);
}

static gboolean on_answer_limit(gpointer user_data)
{
    Resume *resume = user_data;
    ResumeWorld world = look(resume);
    g_autofree char *step = world.step ? g_strdup_printf(" (%s)", world.step) : g_strdup("");
    g_autoptr(GError) late =
        g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "not done after %d s%s: the try goes on, and 'colo status' shows how it ends",
                    ANSWER_S, step);
    resume->answer_timer = 0;
    answer(resume, late);
    return G_SOURCE_REMOVE;
}

/* What was to be tried is not this node's any more. */
static void answer_gone(Resume *resume, const char *what)
{
    if (!resume->requests->len)
        return;
    ResumeWorld world = look(resume);
    g_autofree char *can = stops_way_out(world.state, FALSE, peer_called(&world));
    g_autoptr(GError) gone = g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE, "%s (%s)", what,
                                         can ? can : "'colo status' shows what is here now");
    answer(resume, gone);
}

/* ---- The phase ---- */

static gboolean on_again(gpointer user_data);

static void step(Resume *resume, ResumeEvent event)
{
    ResumePhase before = resume->phase;
    ResumeStep step = resume_step(before, event);
    if (!step.legal)
        g_error("resume: %s in %s", resume_event_name(event), resume_phase_name(before));
    if (step.next != before)
        log_debug("resume: %s -> %s (%s)", resume_phase_name(before), resume_phase_name(step.next),
                  resume_event_name(event));
    resume->phase = step.next;
    if (!resume_waits(step.next))
        g_clear_handle_id(&resume->again_timer, g_source_remove);
    else if (!resume->again_timer)
        resume->again_timer = g_timeout_add(AGAIN_MS, on_again, resume);
}

/* Whoever began the try is to be told that it has ended. */
static ResumeDone end_with(Resume *resume, ResumeEvent event)
{
    ResumeDone done = resume->done;
    resume->done = NULL;
    step(resume, event);
    return done;
}

/* ---- Waiting ---- */

static void try_again(Resume *resume);

/*
 * No side would have output for as long as this lasts: the other side, which can, is to continue.
 */
static gboolean is_to_yield(const Resume *resume)
{
    guint64 patience_ms = resume->config->resume_patience_ms;
    /* In waits: time in which this process was stopped doesn't count (common/patience.h). */
    ResumeWorld world = look(resume);
    return world.state == FSM_P_COLO && world.copy_is_fit && patience_ms > 0 &&
           (guint64)resume->refused_waits * AGAIN_MS >= patience_ms;
}

static gboolean on_again(gpointer user_data)
{
    Resume *resume = user_data;
    resume->refused_waits++;
    if (is_to_yield(resume)) {
        guint timer = resume->again_timer;
        log_warning("the VM can't be resumed here: it is handed over to the secondary");
        /* Ends this waiting if it can be, and begins it again if the secondary refuses. */
        resume->handler.hand_over(resume->user_data);
        return resume->again_timer == timer ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
    }
    resume->again_timer = 0;
    try_again(resume);
    return G_SOURCE_REMOVE;
}

gboolean resume_is_waiting(const Resume *resume)
{
    return resume_waits(resume->phase);
}

/*
 * What an administrator can do. Most of it may pass. There are two cases that another try doesn't
 * mend. A QEMU that has not given up its disks has given up an unknown part of them. An image that
 * could not be synced has lost unknown data. Before a takeover is done none of the VM's output has
 * left here, and the other host's disks have all.
 */
static char *way_out(const ResumeWorld *world, gboolean is_final)
{
    if (!is_final)
        return g_strdup_printf(
            "the VM is kept, and it is tried again every second and by 'colo cont'%s",
            world->state == FSM_P_COLO ? "; 'colo failover' hands it over" : "");
    if (world->state == FSM_P_COLO)
        return g_strdup(
            "that can't be mended here: the VM is kept, and goes to the secondary after "
            "resume-patience; 'colo failover' hands it over");
    if (fsm_is_primary(world->state))
        return g_strdup(
            "that can't be mended here: 'colo quit', and start colod again, which starts "
            "the VM from its disks");
    return g_strdup_printf("that can't be mended here: 'colo quit' here gives the VM back to %s, "
                           "which starts it from its disks; or, if it is paused there, 'colo "
                           "failover --force' there continues it",
                           peer_called(world));
}

/* Each reason once: it is tried every second, perhaps for hours. */
static void tell(Resume *resume, const char *what, const GError *error)
{
    ResumeWorld world = look(resume);
    gboolean is_spent = g_error_matches(error, VM_ERROR, VM_ERROR_SPENT);
    gboolean is_final = world.state == FSM_S_DEVICE ? is_spent || world.is_unsynced
                                                    : is_spent && fsm_is_primary(world.state);
    g_autofree char *can = way_out(&world, is_final);
    g_autofree char *text = g_strdup_printf("%s: %s (%s)", what, error->message, can);
    if (!g_strcmp0(text, resume->refused)) {
        log_debug("still: %s", text);
        return;
    }
    g_free(resume->refused);
    resume->refused = g_steal_pointer(&text);
    g_autoptr(GError) told =
        g_error_new(error->domain, error->code, "%s (%s)", error->message, can);
    resume->handler.trouble(what, told, resume->user_data);
}

static void wait_after(Resume *resume, ResumeEvent event, const char *what, const GError *error)
{
    if (!resume->refused)
        resume->refused_waits = 0;
    tell(resume, what, error);
    step(resume, event);
    answer(resume, error);
}

void resume_wait(Resume *resume, const char *what, const GError *error)
{
    wait_after(resume, RESUME_EVENT_COPY_REFUSED, what, error);
}

void resume_copy_rests(Resume *resume)
{
    if (resume->phase != RESUME_NOTHING)
        return;
    g_clear_pointer(&resume->refused, g_free);
    answer(resume, NULL);
}

void resume_session_over(Resume *resume)
{
    step(resume, RESUME_EVENT_SESSION_OVER);
    g_clear_pointer(&resume->refused, g_free);
    /* A guest that is to be continued is this side's by now. */
    if (!resume->continue_due)
        answer_gone(resume, "the copy of the VM is made anew meanwhile");
}

/* ---- Resuming ---- */

static void report_resumed(Resume *resume)
{
    if (!resume->stop_reported)
        return;
    resume->stop_reported = FALSE;
    log_info("the guest runs again by order");
    resume->handler.guest_resumed(resume->user_data);
}

static void succeed(Resume *resume, ResumeEvent event)
{
    gboolean runs = resume_runs(resume->phase);
    ResumeDone done = end_with(resume, event);
    if (resume->refused)
        log_info("%s", runs ? "the VM runs again" : "the VM is stopped, and need not run");
    g_clear_pointer(&resume->refused, g_free);
    if (runs)
        report_resumed(resume);
    /* Else who waits wants the guest to run, and that is tried next. */
    if (!resume->continue_due)
        answer(resume, NULL);
    done(NULL, resume->user_data);
}

static void end_try(Resume *resume, const GError *error)
{
    ResumeWorld world = look(resume);
    gboolean passes = fsm_is_primary(world.state) && error && resume_may_pass(error);
    if (!error || (passes && world.still_runs)) {
        step(resume, RESUME_EVENT_DONE);
        if (resume->handler.may_be_heard(resume->user_data))
            succeed(resume, RESUME_EVENT_HEARD);
        return;
    }
    resume->handler.not_resumed(resume->user_data);
    if (passes) {
        wait_after(resume, RESUME_EVENT_REFUSED, "the VM can't be resumed", error);
        resume->handler.refused(resume->user_data);
        return;
    }
    ResumeDone done = end_with(resume, RESUME_EVENT_FAILED);
    done(error, resume->user_data);
}

void resume_heard(Resume *resume)
{
    if (resume_is_unheard(resume->phase))
        succeed(resume, RESUME_EVENT_HEARD);
}

void resume_ran(Resume *resume, const GError *error)
{
    end_try(resume, error);
}

static gboolean on_activated(gpointer user_data)
{
    Resume *resume = user_data;
    g_autoptr(GError) error = g_steal_pointer(&resume->activation_error);
    resume->activated_source = 0;
    end_try(resume, error);
    return G_SOURCE_REMOVE;
}

/* From the main loop: a handler that gets an error may end the VM and its disks. */
void resume_activated(Resume *resume, const GError *error)
{
    if (!resume_is_trying(resume->phase))
        return;
    resume->activation_error = error ? g_error_copy(error) : NULL;
    resume->activated_source = g_idle_add_full(G_PRIORITY_HIGH, on_activated, resume, NULL);
}

gboolean resume_may_not_run(const Resume *resume)
{
    return !stops_may_run(resume->stops, STOP_END_OF_PAUSE);
}

gboolean resume_begin_run(Resume *resume)
{
    gboolean runs = !resume_may_not_run(resume);
    step(resume, runs ? RESUME_EVENT_RUN : RESUME_EVENT_KEEP);
    return runs;
}

static void go_on(Resume *resume)
{
    if (resume_begin_run(resume)) {
        resume->handler.run(resume->user_data);
        return;
    }
    resume->handler.leave_stopped(resume->user_data);
    resume_activated(resume, NULL);
}

static void try_resume(Resume *resume)
{
    if (resume->handler.activate(resume->user_data))
        go_on(resume);
}

/* Nothing is to be done for a VM that stays stopped, unless its disks are the other side's by now. */
void resume_vm(Resume *resume, ResumeDone done)
{
    ResumeWorld world = look(resume);
    g_assert(!resume_has_try(resume->phase));
    if (resume_may_not_run(resume) && !fsm_is_taking_over(world.state) && !world.images_given_up) {
        done(NULL, resume->user_data);
        return;
    }
    /* What else has stopped it ends here. */
    resume->stops &= STOPS(ADMIN) | STOPS(IO_ERROR);
    step(resume, RESUME_EVENT_BEGIN);
    resume->done = done;
    try_resume(resume);
}

gboolean resume_give_up(Resume *resume)
{
    if (resume->phase != RESUME_WAITING)
        return FALSE;
    end_with(resume, RESUME_EVENT_GIVE_UP);
    g_clear_pointer(&resume->refused, g_free);
    return TRUE;
}

static void try_again(Resume *resume)
{
    step(resume, RESUME_EVENT_AGAIN);
    if (resume_has_try(resume->phase))
        try_resume(resume);
    else
        resume->handler.step_copy(resume->user_data);
}

/* ---- A guest that an I/O error has stopped ---- */

/*
 * It stops again at each try for as long as the error lasts. That is reported once, until it has
 * run so long.
 */
#define SAME_STOP_US (2 * G_USEC_PER_SEC)

static gboolean on_io_retry(gpointer user_data)
{
    Resume *resume = user_data;
    resume->io_timer = 0;
    /* `cont` or `stop` may have come before. */
    if ((resume->stops & STOPS(IO_ERROR)) && stops_may_run(resume->stops, STOP_IO_RETRY)) {
        resume->continue_due = TRUE;
        resume->handler.continue_guest(resume->user_data);
    }
    return G_SOURCE_REMOVE;
}

void resume_guest_stopped(Resume *resume, const char *detail)
{
    guint64 retry_ms = resume->config->io_retry_ms;
    ColoTime now = colo_time_now();
    gint64 same_us = (gint64)retry_ms * COLO_US_PER_MS + SAME_STOP_US;
    StopReason reason = stops_of_qemu(detail);
    gboolean io_error = reason == STOP_IO_ERROR;
    gboolean is_new = !io_error || colo_time_diff_us(now, resume->io_stopped_at) > same_us;
    resume->stops |= 1u << reason;
    if (is_new) {
        log_warning("QEMU has stopped the guest: %s", detail);
        resume->handler.guest_stopped(stops_name(1u << reason), resume->user_data);
    }
    if (!io_error)
        return;
    if (is_new) {
        g_autoptr(GError) error =
            g_error_new(VM_ERROR, VM_ERROR_QMP, "'colo cont' continues it%s",
                        retry_ms ? ", and colod tries it every io-retry" : "");
        resume->handler.trouble("the guest is stopped by an I/O error of a disk", error,
                                resume->user_data);
    }
    resume->io_stopped_at = now;
    if (retry_ms && !resume->io_timer)
        resume->io_timer = g_timeout_add((guint)retry_ms, on_io_retry, resume);
}

void resume_continues(Resume *resume)
{
    resume->stops = 0;
    resume->continue_due = FALSE;
}

static void forget_stops(Resume *resume)
{
    resume_continues(resume);
    resume->stop_reported = FALSE;
    g_clear_handle_id(&resume->io_timer, g_source_remove);
}

/* ---- A guest that an administrator has stopped ---- */

void resume_stop(Resume *resume)
{
    g_autoptr(GError) stopped = g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE,
                                            "the guest has been stopped by 'stop' meanwhile "
                                            "(another 'cont' continues it)");
    resume->stops |= STOPS(ADMIN);
    resume->continue_due = FALSE;
    answer(resume, stopped);
    /* It need not run any more: the pause that the try was to end is over. But its disks, if they
     * were given up, are to be this side's again. */
    if (resume->phase == RESUME_WAITING && !look(resume).images_given_up)
        succeed(resume, RESUME_EVENT_NEED_NOT);
}

void resume_report_stop(Resume *resume)
{
    if (!resume_is_stopped(resume) || resume->stop_reported || resume_has_try(resume->phase))
        return;
    resume->stop_reported = TRUE;
    log_info("the guest is stopped by order, until 'cont'");
    resume->handler.guest_stopped(stops_name(STOPS(ADMIN)), resume->user_data);
}

gboolean resume_is_stopped(const Resume *resume)
{
    return stops_are_carried(resume->stops);
}

Stops resume_stops(const Resume *resume)
{
    return resume->stops;
}

/* ---- The end ---- */

void resume_forget(Resume *resume)
{
    end_with(resume, RESUME_EVENT_FORGET);
    g_clear_handle_id(&resume->activated_source, g_source_remove);
    g_clear_error(&resume->activation_error);
    g_clear_pointer(&resume->refused, g_free);
    forget_stops(resume);
    answer_gone(resume, "the VM has been ended here, or has moved, meanwhile");
}

/* ---- The command ---- */

gboolean resume_now(Resume *resume, ControlRequest *request)
{
    if (!resume->stops && resume->phase == RESUME_NOTHING)
        return FALSE;
    g_assert(stops_may_run(resume->stops, STOP_CONT));
    g_ptr_array_add(resume->requests, request);
    if (!resume->answer_timer)
        resume->answer_timer = patience_add(ANSWER_S * 1000, on_answer_limit, resume);
    resume->continue_due |= resume->stops != 0;
    if (resume_waits(resume->phase))
        try_again(resume);
    else if (resume->continue_due && !resume_has_try(resume->phase))
        resume->handler.continue_guest(resume->user_data);
    return TRUE;
}

/* ---- Status and life ---- */

gboolean resume_is_to_continue(const Resume *resume)
{
    return resume->continue_due;
}

guint resume_next_try(const Resume *resume)
{
    return resume->again_timer;
}

const char *resume_refusal(const Resume *resume)
{
    return resume->refused;
}

Resume *resume_new(const Config *config, const ResumeHandler *handler, gpointer user_data)
{
    Resume *resume = g_new0(Resume, 1);
    resume->config = config;
    resume->handler = *handler;
    resume->user_data = user_data;
    resume->requests = g_ptr_array_new();
    return resume;
}

void resume_free(Resume *resume)
{
    if (!resume)
        return;
    resume_forget(resume);
    g_ptr_array_unref(resume->requests);
    g_free(resume);
}
