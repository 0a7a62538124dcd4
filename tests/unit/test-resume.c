/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way back to a running VM, on a clock of our own: what is tried, when, and who is told. */
#include "colo/node/resume.h"

#include "colo/node/node.h"
#include "common/log.h"
#include "tests/support/turned-clock.h"

#include <string.h>

typedef struct {
    Config config;
    Resume *resume;
    ResumeWorld world;
    gboolean activates; /* the disks are this side's */
    gboolean keeps;     /* the try: a hand-over is ordered, and needs it */
    guint tries, runs, left_stopped, not_resumed, refused, copy_steps, continued, handed_over,
        stopped, resumed, done;
    char *stopped_by;
    gboolean is_unknown; /* that the VM runs */
    gboolean is_taken;   /* and is known before the question for it is answered */
    gboolean failed;     /* what `done` was told */
    char *trouble;
    guint troubles;
} Fixture;

/* ---- Who types `cont` ---- */

struct ControlRequest {
    guint answers;
    char *error; /* NULL: it has succeeded */
};

G_DEFINE_QUARK(control_error, control_error)

void control_reply(ControlRequest *request, json_object *result)
{
    g_assert_null(result);
    request->answers++;
}

void control_fail(ControlRequest *request, const GError *error)
{
    request->answers++;
    g_free(request->error);
    request->error = g_strdup(error->message);
}

/* ---- The handler ---- */

static ResumeWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static gboolean on_activate(gpointer user_data)
{
    Fixture *f = user_data;
    f->tries++;
    return f->activates;
}

static void on_run(gpointer user_data)
{
    Fixture *f = user_data;
    f->runs++;
}

static void on_leave_stopped(gpointer user_data)
{
    Fixture *f = user_data;
    f->left_stopped++;
}

static gboolean on_may_be_heard(gpointer user_data)
{
    const Fixture *f = user_data;
    if (f->is_taken)
        resume_heard(f->resume);
    return !f->is_unknown;
}

static void on_not_resumed(gpointer user_data)
{
    Fixture *f = user_data;
    f->not_resumed++;
}

static void on_refused(gpointer user_data)
{
    Fixture *f = user_data;
    f->refused++;
}

static void on_step_copy(gpointer user_data)
{
    Fixture *f = user_data;
    f->copy_steps++;
}

static void on_continue_guest(gpointer user_data)
{
    Fixture *f = user_data;
    f->continued++;
}

static void on_hand_over(gpointer user_data)
{
    Fixture *f = user_data;
    f->handed_over++;
    if (!f->keeps)
        g_assert_true(resume_give_up(f->resume));
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->trouble);
    f->trouble = g_strdup_printf("%s: %s", what, error->message);
    f->troubles++;
}

static void on_guest_stopped(const char *by, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->stopped_by);
    f->stopped_by = g_strdup(by);
    f->stopped++;
}

static void on_guest_resumed(gpointer user_data)
{
    Fixture *f = user_data;
    f->resumed++;
}

static void on_done(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    f->failed = error != NULL;
    f->done++;
}

static void set_up(Fixture *f, gconstpointer state)
{
    static const ResumeHandler handler = {.look = on_look,
                                          .activate = on_activate,
                                          .run = on_run,
                                          .leave_stopped = on_leave_stopped,
                                          .may_be_heard = on_may_be_heard,
                                          .not_resumed = on_not_resumed,
                                          .refused = on_refused,
                                          .step_copy = on_step_copy,
                                          .continue_guest = on_continue_guest,
                                          .hand_over = on_hand_over,
                                          .trouble = on_trouble,
                                          .guest_stopped = on_guest_stopped,
                                          .guest_resumed = on_guest_resumed};
    f->world = (ResumeWorld){.state = (FsmState)GPOINTER_TO_INT(state), .copy_is_fit = TRUE};
    f->config.io_retry_ms = 5000;
    f->activates = TRUE;
    f->resume = resume_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_free(f->resume);
    g_free(f->trouble);
    g_free(f->stopped_by);
}

static void refuse(Fixture *f, int code)
{
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, code, "a trial");
    resume_ran(f->resume, error);
}

static void test_runs(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_vm(f->resume, on_done);
    g_assert_cmpuint(f->runs, ==, 1);
    g_assert_cmpuint(f->done, ==, 0);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_false(f->failed);
}

/* Whoever is told of the end of an activation may end the VM: so it is told from the main loop. */
static void test_activated(Fixture *f, gconstpointer state)
{
    (void)state;
    f->activates = FALSE;
    resume_vm(f->resume, on_done);
    g_assert_cmpuint(f->runs, ==, 0);
    resume_activated(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 0);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->done, ==, 1);
    /* Of a try that is over. */
    resume_activated(f->resume, NULL);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->done, ==, 1);
}

/* The VM runs, or stays stopped, and may not be heard yet: whoever waits for it waits. */
static void test_heard(Fixture *f, gconstpointer state)
{
    (void)state;
    f->is_unknown = TRUE;
    resume_heard(f->resume);
    resume_vm(f->resume, on_done);
    g_assert_cmpuint(f->runs, ==, 1);
    resume_ran(f->resume, NULL);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->done, ==, 0);
    g_assert_cmpuint(f->tries, ==, 1);
    resume_heard(f->resume);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_false(f->failed);
    resume_heard(f->resume);
    g_assert_cmpuint(f->done, ==, 1);
}

/* What is waited for may be over at once. */
static void test_heard_within(Fixture *f, gconstpointer state)
{
    (void)state;
    f->is_unknown = f->is_taken = TRUE;
    resume_vm(f->resume, on_done);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_false(f->failed);
}

/* What may pass is tried each second, told once, and its caller hears nothing but that it runs. */
static void test_again(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_vm(f->resume, on_done);
    for (guint i = 1; i <= 3; i++) {
        refuse(f, VM_ERROR_QMP);
        g_assert_true(resume_is_waiting(f->resume));
        g_assert_cmpuint(f->refused, ==, i);
        g_assert_cmpuint(f->not_resumed, ==, i);
        turned_clock_pass_ms(999);
        g_assert_cmpuint(f->tries, ==, i);
        turned_clock_pass_ms(1);
        g_assert_cmpuint(f->tries, ==, i + 1);
    }
    g_assert_cmpuint(f->troubles, ==, 1);
    g_assert_nonnull(resume_refusal(f->resume));
    g_assert_cmpuint(f->done, ==, 0);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_null(resume_refusal(f->resume));
}

/* A QEMU that has lost a disk won't have it back. The VM is kept all the same. */
static void test_spent(Fixture *f, gconstpointer state)
{
    static const struct {
        FsmState state;
        const char *way_out;
    } cases[] = {
        {FSM_P_COLO, "goes to the secondary after resume-patience"},
        {FSM_P_NONE, "which starts the VM from its disks"         },
    };
    (void)state;
    resume_vm(f->resume, on_done);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        f->world.state = cases[i].state;
        for (guint again = 0; again < 2; again++) {
            refuse(f, VM_ERROR_SPENT);
            g_assert_true(resume_is_waiting(f->resume));
            g_assert_cmpuint(f->troubles, ==, i + 1);
            turned_clock_pass_ms(1000);
        }
        g_assert_nonnull(strstr(f->trouble, "can't be mended here"));
        g_assert_nonnull(strstr(f->trouble, cases[i].way_out));
    }
    g_assert_cmpuint(f->done, ==, 0);
}

/*
 * QEMU has refused the pause, too: a primary's VM has never stopped, and a refused `cont` is no loss. A dead
 * QEMU is, and a copy that runs isn't the VM yet.
 */
static void test_still_runs(Fixture *f, gconstpointer state)
{
    gboolean primary = fsm_is_primary((FsmState)GPOINTER_TO_INT(state));
    f->world.still_runs = TRUE;
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_QMP);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_true(f->failed == !primary);
    g_assert_cmpuint(f->not_resumed, ==, !primary);
    g_assert_cmpuint(f->refused + f->troubles, ==, 0);
    g_assert_false(resume_is_waiting(f->resume));
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_DIED);
    g_assert_cmpuint(f->done, ==, 2);
    g_assert_true(f->failed);
}

/* A QEMU that is dead or hangs is the end, and so is any refusal to who is no primary. */
static void test_final(Fixture *f, gconstpointer state)
{
    gboolean primary = fsm_is_primary((FsmState)GPOINTER_TO_INT(state));
    const int codes[] = {VM_ERROR_DIED, VM_ERROR_TIMEOUT, VM_ERROR_QMP};
    for (guint i = 0; i < G_N_ELEMENTS(codes) - primary; i++) {
        resume_vm(f->resume, on_done);
        refuse(f, codes[i]);
        g_assert_cmpuint(f->done, ==, i + 1);
        g_assert_true(f->failed);
        g_assert_false(resume_is_waiting(f->resume));
    }
}

/* After resume-patience, if there is a side that can. */
static void test_hand_over(Fixture *f, gconstpointer state)
{
    (void)state;
    f->config.resume_patience_ms = 3000;
    f->world.copy_is_fit = FALSE;
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_QMP);
    for (guint i = 0; i < 5; i++) {
        turned_clock_pass_ms(1000);
        refuse(f, VM_ERROR_QMP);
    }
    g_assert_cmpuint(f->handed_over, ==, 0);
    f->world.copy_is_fit = TRUE;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->handed_over, ==, 1);
    /* It was given up for that: nobody is told any more. */
    g_assert_false(resume_give_up(f->resume));
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->done, ==, 0);
}

/* One that needs the VM to run first. */
static void test_hand_over_waits(Fixture *f, gconstpointer state)
{
    (void)state;
    f->config.resume_patience_ms = 1000;
    f->keeps = TRUE;
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_QMP);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->handed_over, ==, 1);
    g_assert_cmpuint(f->tries, ==, 1);
    f->world.state = FSM_P_DEVICE;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->tries, ==, 2);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_false(f->failed);
}

/* The steps of a copy wait in the same way. */
static void test_copy(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "a trial");
    resume_wait(f->resume, "a step", error);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->copy_steps, ==, 1);
    g_assert_cmpuint(f->tries, ==, 0);
    resume_wait(f->resume, "a step", error);
    g_assert_nonnull(resume_refusal(f->resume));
    resume_copy_rests(f->resume);
    g_assert_true(resume_is_waiting(f->resume));
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->copy_steps, ==, 2);
    resume_copy_rests(f->resume);
    g_assert_null(resume_refusal(f->resume));
    resume_wait(f->resume, "a step", error);
    resume_session_over(f->resume);
    g_assert_null(resume_refusal(f->resume));
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->copy_steps, ==, 2);
}

/* During a try there is one of them, as before: it ends by itself. */
static void test_copy_in_a_try(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "a trial");
    resume_vm(f->resume, on_done);
    resume_wait(f->resume, "a step", error);
    g_assert_nonnull(resume_refusal(f->resume));
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->tries, ==, 1);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_null(resume_refusal(f->resume));
    g_assert_cmpuint(f->copy_steps, ==, 0);
}

/* Storage may hang for hours, and the try with it. Who has typed `cont` learns what it waits for. */
static void test_cont_is_answered(Fixture *f, gconstpointer state)
{
    ControlRequest late = {0}, second = {0};
    (void)state;
    f->activates = FALSE;
    f->world.step = "takeover";
    resume_vm(f->resume, on_done);
    g_assert_true(resume_now(f->resume, &late));
    turned_clock_pass_ms(4000);
    g_assert_cmpuint(late.answers, ==, 0);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(late.answers, ==, 1);
    g_assert_nonnull(strstr(late.error, "not done after 5 s (takeover)"));
    g_assert_cmpuint(f->tries, ==, 1);
    /* The try goes on, and has another one who waits for its end. */
    g_assert_true(resume_now(f->resume, &second));
    resume_activated(f->resume, NULL);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(second.answers, ==, 1);
    g_assert_null(second.error);
    g_assert_cmpuint(late.answers, ==, 1);
    g_assert_cmpuint(f->done, ==, 1);
    g_free(late.error);
}

/* Told once for as long as it stops again at each try; only an I/O error is tried. */
static void test_io(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_guest_stopped(f->resume, "watchdog");
    g_assert_cmpuint(f->stopped, ==, 1);
    g_assert_cmpstr(f->stopped_by, ==, "watchdog");
    g_assert_false(resume_may_not_run(f->resume));
    turned_clock_pass_ms(10000);
    for (guint i = 1; i <= 3; i++) {
        resume_guest_stopped(f->resume, "io-error");
        g_assert_true(resume_may_not_run(f->resume));
        g_assert_cmpstr(stops_name(resume_stops(f->resume)), ==, "io-error");
        g_assert_false(resume_is_to_continue(f->resume));
        turned_clock_pass_ms(5000);
        g_assert_cmpuint(f->continued, ==, i);
        g_assert_true(resume_is_to_continue(f->resume));
        resume_continues(f->resume);
    }
    g_assert_cmpuint(f->stopped, ==, 2);
    g_assert_cmpuint(f->troubles, ==, 1);
    resume_guest_stopped(f->resume, "io-error");
    resume_forget(f->resume);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->continued, ==, 3);
}

/* Nobody runs it but who was told to continue it; and that is a try like any other. */
static void test_stop(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_stop(f->resume);
    g_assert_true(resume_is_stopped(f->resume));
    for (guint i = 1; i <= 2; i++) {
        resume_vm(f->resume, on_done);
        g_assert_cmpuint(f->done, ==, i);
        g_assert_false(f->failed);
        resume_report_stop(f->resume);
        g_assert_cmpuint(f->stopped, ==, 1);
    }
    g_assert_cmpstr(f->stopped_by, ==, "admin");
    g_assert_cmpuint(f->tries, ==, 0);
    resume_stop(f->resume);
    resume_report_stop(f->resume);
    g_assert_cmpuint(f->stopped, ==, 1);
    resume_continues(f->resume);
    resume_vm(f->resume, on_done);
    g_assert_cmpuint(f->runs, ==, 1);
    g_assert_cmpuint(f->resumed, ==, 0);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->resumed, ==, 1);
    g_assert_cmpuint(f->done, ==, 3);
}

/* In a takeover the disks become this side's, also after they had refused; the guest stays stopped. */
static void test_stop_takes_over(Fixture *f, gconstpointer disks)
{
    f->world.state = FSM_S_DEVICE;
    f->activates = !disks;
    resume_stop(f->resume);
    resume_vm(f->resume, on_done);
    g_assert_cmpuint(f->tries, ==, 1);
    if (disks) {
        g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "a trial");
        resume_activated(f->resume, error);
        turned_clock_pass_ms(0);
        g_assert_true(f->done == 1 && f->failed);
        resume_vm(f->resume, on_done);
        g_assert_false(resume_begin_run(f->resume));
        resume_activated(f->resume, NULL);
    } else {
        g_assert_cmpuint(f->left_stopped, ==, 1);
    }
    resume_report_stop(f->resume);
    g_assert_cmpuint(f->stopped, ==, 0); /* not yet */
    turned_clock_pass_ms(0);
    g_assert_false(f->failed);
    g_assert_cmpuint(f->done, ==, disks ? 2 : 1);
    g_assert_cmpuint(f->runs, ==, 0);
    resume_report_stop(f->resume);
    g_assert_cmpuint(f->stopped, ==, 1);
}

/* But its disks, which were given up, are to be this side's again: that is tried until they are. */
static void test_stop_takes_disks_back(Fixture *f, gconstpointer state)
{
    (void)state;
    f->world.images_given_up = TRUE;
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_QMP);
    resume_stop(f->resume);
    g_assert_cmpuint(f->done, ==, 0);
    g_assert_cmpuint(resume_next_try(f->resume), !=, 0);
}

/* QEMU refuses to run it: it need not any more. While it is told to, it does first. */
static void test_stop_ends_a_try(Fixture *f, gconstpointer state)
{
    (void)state;
    resume_vm(f->resume, on_done);
    resume_stop(f->resume);
    g_assert_cmpuint(f->done, ==, 0);
    resume_ran(f->resume, NULL);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_true(resume_is_stopped(f->resume));
    resume_continues(f->resume);
    resume_vm(f->resume, on_done);
    refuse(f, VM_ERROR_QMP);
    g_assert_cmpuint(f->done, ==, 1);
    resume_stop(f->resume);
    g_assert_cmpuint(f->done, ==, 2);
    g_assert_null(resume_refusal(f->resume));
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->runs, ==, 2);
    /* It never stood: there is nothing to report. */
    g_assert_cmpuint(f->resumed, ==, 0);
}

/* io-retry leaves alone what an administrator has stopped, before or after the error. */
static void test_stop_and_io(Fixture *f, gconstpointer first)
{
    if (first)
        resume_stop(f->resume);
    resume_guest_stopped(f->resume, "io-error");
    if (!first)
        resume_stop(f->resume);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->continued, ==, 0);
    g_assert_false(resume_is_to_continue(f->resume));
    /* What is due by io-retry is not any more. */
    resume_continues(f->resume);
    resume_guest_stopped(f->resume, "io-error");
    turned_clock_pass_ms(5000);
    g_assert_true(resume_is_to_continue(f->resume));
    resume_stop(f->resume);
    g_assert_false(resume_is_to_continue(f->resume));
    /* The next VM knows nothing of it. */
    resume_forget(f->resume);
    g_assert_cmpuint(resume_stops(f->resume), ==, 0);
}

#define ADD(name, state, test)                                                                     \
    g_test_add("/resume/" name, Fixture, GINT_TO_POINTER(state), set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("runs", FSM_P_COLO, test_runs);
    ADD("activated", FSM_P_COLO, test_activated);
    ADD("heard", FSM_S_DEVICE, test_heard);
    ADD("heard-within", FSM_S_DEVICE, test_heard_within);
    ADD("again", FSM_P_NONE, test_again);
    ADD("still-runs", FSM_P_COLO, test_still_runs);
    ADD("still-runs-copy", FSM_S_DEVICE, test_still_runs);
    ADD("spent", FSM_P_COLO, test_spent);
    ADD("final-primary", FSM_P_COLO, test_final);
    ADD("final-secondary", FSM_S_DEVICE, test_final);
    ADD("hand-over", FSM_P_COLO, test_hand_over);
    ADD("hand-over-waits", FSM_P_COLO, test_hand_over_waits);
    ADD("copy", FSM_S_DEVICE, test_copy);
    ADD("copy-in-a-try", FSM_S_DEVICE, test_copy_in_a_try);
    ADD("cont-is-answered", FSM_S_DEVICE, test_cont_is_answered);
    ADD("io", FSM_P_NONE, test_io);
    ADD("stop", FSM_P_COLO, test_stop);
    ADD("stop-takes-over", FALSE, test_stop_takes_over);
    ADD("stop-takes-over/disks", TRUE, test_stop_takes_over);
    ADD("stop-ends-a-try", FSM_P_COLO, test_stop_ends_a_try);
    ADD("stop-takes-disks-back", FSM_P_NONE, test_stop_takes_disks_back);
    ADD("stop-and-io", TRUE, test_stop_and_io);
    ADD("io-and-stop", FALSE, test_stop_and_io);
    return g_test_run();
}
