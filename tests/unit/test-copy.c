/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The copy alone, in a session: its start, checkpoints, the primary's questions, and ends. */
#include "tests/support/copy-fixture.h"

/* ---- The start ---- */

/* It begins when QEMU has answered, for reads of its disks may still write to RAM. */
static void test_start(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.duty = COPY_JOIN;
    hold_vm(f, FAKE_VM_PAUSE);
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "pausing vm-pause");
    proceed(f);
    assert_reported(f, "vm-inactivate reset begin");
    turned_clock_pass_ms(5000);
    assert_reported(f, "");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_EMPTY);
    g_assert_null(copy_checkpoint(f->copy));
    g_assert_true(copy_may_change_ram(f->copy));
    g_assert_false(copy_is_proven(f->copy));
}

/* Of the session before: it is paused first, and asked no second time. */
static void test_start_running(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    end_session(f);
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "pausing vm-pause paused drain vm-inactivate reset begin");
    g_assert_false(vm_is_running(f->vm));
}

/* What it can't give up must not change under it. */
static void test_keeps_its_disks(Fixture *f, gconstpointer data)
{
    (void)data;
    fake_vm_inject(f->vm, FAKE_VM_INACTIVATE, FAKE_VM_FAIL, 1);
    f->world.duty = COPY_JOIN;
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "pausing vm-pause vm-inactivate lost");
}

/* The session is over before it gave them up: the next one begins with that done. */
static void test_over_before_it_began(Fixture *f, gconstpointer data)
{
    (void)data;
    hold_vm(f, FAKE_VM_INACTIVATE);
    f->world.duty = COPY_JOIN;
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "pausing vm-pause vm-inactivate");
    end_session(f);
    proceed(f);
    assert_reported(f, "");
    turned_clock_pass_ms(2000);
    g_assert_true(copy_start(f->copy, NULL));
    forget_reported(f);
    receive(f, FALSE);
    assert_reported(f, "keep vm-load repair proven:0");
}

static void test_no_guard(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    f->world.duty = COPY_JOIN;
    guard_script.none = TRUE;
    g_assert_false(copy_start(f->copy, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING);
    assert_reported(f, "");
    guard_script.none = FALSE;
    join(f);
}

/* A VM that doesn't answer is none that could be protected. */
static void test_no_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_TIMEOUT, 1);
    f->world.duty = COPY_JOIN;
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "pausing vm-pause lost");
}

/* ---- Joining ---- */

/* Each checkpoint is loaded, to show that it can be, and none is run from. */
static void test_proof(Fixture *f, gconstpointer data)
{
    (void)data;
    join(f);
    receive(f, TRUE);
    page_set_add_run(guard->found, 7, 2);
    g_assert_false(copy_is_proven(f->copy));
    assert_reported(f, "keep vm-load repair proven:2");
    g_assert_true(copy_is_proven(f->copy));
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_STANDBY);
    g_assert_cmpuint(copy_checkpoint(f->copy)->epoch, ==, 1);
    g_assert_false(copy_is_in(f->copy, 1));
    guard_script.held = "repair";
    receive(f, FALSE);
    assert_reported(f, "keep vm-load repair");
    g_assert_false(copy_is_proven(f->copy));
    g_assert_false(copy_may_change_ram(f->copy));
    proceed(f);
    assert_reported(f, "proven:0");
    g_assert_true(copy_is_proven(f->copy));
    end_session(f);
    g_assert_false(copy_is_proven(f->copy));
    assert_reported(f, "");
}

/* Sixteen loads have to be enough to know all pages that a load writes to. */
static void test_proof_ends(Fixture *f, gconstpointer data)
{
    gboolean still_new = data != NULL;
    join(f);
    for (guint i = 1; i < 16; i++) {
        receive(f, FALSE);
        page_set_add_run(guard->found, i, 1);
        assert_reported(f, "keep vm-load repair proven:1");
    }
    receive(f, FALSE);
    page_set_add_run(guard->found, 16, still_new);
    assert_reported(f, still_new ? "keep vm-load repair lost" : "keep vm-load repair proven:0");
}

static void test_not_proven(Fixture *f, gconstpointer data)
{
    (void)data;
    join(f);
    f->cant_prove = TRUE;
    receive(f, FALSE);
    assert_reported(f, "keep vm-load repair proven:0 lost");
}

/* ---- A checkpoint ---- */

/* Received, applied, loaded, and run from: each waits for the one before. */
static void test_runs(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive_only(f);
    assert_reported(f, "");
    guard_script.held = "keep";
    hold_vm(f, FAKE_VM_LOAD);
    hold_vm(f, FAKE_VM_RESUME);
    copy_applied(f->copy, TRUE);
    assert_reported(f, "keep");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_TO_LOAD);
    g_assert_false(copy_may_change_ram(f->copy));
    guard_proceed();
    assert_reported(f, "vm-load");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_LOADING);
    g_assert_false(copy_may_change_ram(f->copy));
    guard_script.held = "repair";
    fake_vm_proceed(f->vm);
    assert_reported(f, "repair");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_LOADING);
    g_assert_false(copy_is_in(f->copy, 2));
    proceed(f);
    assert_reported(f, "enter:2 drain may-run vm-resume");
    g_assert_true(copy_is_in(f->copy, 2));
    g_assert_false(copy_runs(f->copy));
    proceed(f);
    assert_reported(f, "resumed:2");
    g_assert_true(copy_runs(f->copy));
    g_assert_true(copy_output_counts(f->copy));
    g_assert_true(copy_is_in(f->copy, 2));
    g_assert_false(copy_is_in(f->copy, 1));
    g_assert_false(copy_may_change_ram(f->copy));
    turned_clock_pass_ms(5000);
    assert_reported(f, "");
}

/* Its device state is kept for a takeover, and its RAM may be changed again. */
static void test_not_to_run(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "pausing vm-pause paused drain look dirty:3:0+0 told");
    f->rests = 0;
    receive(f, FALSE);
    assert_reported(f, "");
    g_assert_cmpuint(f->rests, >, 0);
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_STANDBY);
    g_assert_false(copy_is_in(f->copy, 3));
    g_assert_false(copy_output_counts(f->copy));
    g_assert_true(copy_is_valid(f->copy));
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:4 drain may-run vm-resume resumed:4");
}

/* It waits for its disks, which are those of the checkpoint only when QEMU has given them up. */
static void test_disks(Fixture *f, gconstpointer data)
{
    (void)data;
    run_and_pause(f);
    receive_only(f);
    f->world.disks = COPY_DISKS_DUE;
    hold_vm(f, FAKE_VM_INACTIVATE);
    copy_applied(f->copy, TRUE);
    assert_reported(f, "vm-inactivate");
    proceed(f);
    assert_reported(f, "inactivated");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_TO_LOAD);
    f->world.disks = COPY_DISKS_THERE;
    copy_step(f->copy);
    assert_reported(f, "keep vm-load repair enter:3 drain may-run vm-resume resumed:3");
}

/* Maps that can't be used, or disks that may not: it isn't run from. */
static void test_may_not(Fixture *f, gconstpointer data)
{
    gboolean disks = data != NULL;
    protect(f);
    f->cant_enter = !disks;
    f->cant_run = disks;
    receive(f, TRUE);
    assert_reported(f, disks ? "keep vm-load repair enter:2 drain may-run lost"
                             : "keep vm-load repair enter:2 lost");
    g_assert_false(vm_is_running(f->vm));
}

/* RAM that a load has made wrong is no checkpoint's: only the next one mends it. */
static void test_wrong(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive(f, TRUE);
    page_set_add_run(guard->found, 9, 1);
    assert_reported(f, "keep vm-load repair stalled:2");
    g_assert_false(copy_is_valid(f->copy));
    turned_clock_pass_ms(500);
    assert_reported(f, "");
    g_assert_true(copy_prepare(f->copy, 3));
    page_set_add_run(guard->found, 9, 1);
    assert_reported(f, "look dirty:3:1+0 told");
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:3 drain may-run vm-resume resumed:3");
    g_assert_true(copy_is_valid(f->copy));
}

/* The tracker fails when QEMU does, which reports its end by itself. */
static void test_ending(Fixture *f, gconstpointer data)
{
    CopyJob job = GPOINTER_TO_UINT(data);
    reach(f, job);
    guard_script.broken = guard->order;
    proceed(f);
    assert_reported(f, "ending");
    g_assert_cmpint(copy_is_valid(f->copy), ==, job != COPY_REPAIR);
}

/* ---- It waits, or stops by itself ---- */

/* One that waits is asked every second whether it is there; that keeps no checkpoint out. */
static void test_check(Fixture *f, gconstpointer data)
{
    (void)data;
    reach(f, COPY_CHECK);
    g_assert_true(copy_may_change_ram(f->copy));
    proceed(f);
    assert_reported(f, "");
    turned_clock_pass_ms(3000);
    assert_reported(f, "pausing vm-pause pausing vm-pause pausing vm-pause");
    f->world.duty = COPY_HOLD;
    turned_clock_pass_ms(3000);
    assert_reported(f, "");
    f->world.duty = COPY_PROTECT;
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_TIMEOUT, 1);
    turned_clock_pass_ms(1000);
    assert_reported(f, "pausing vm-pause lost");
}

/* The primary is told once; then its RAM is looked at only after QEMU has answered. */
static void test_stops(Fixture *f, gconstpointer data)
{
    gboolean io_error_first = data != NULL;
    run(f);
    if (io_error_first) {
        fake_vm_raise(f->vm, VM_EVENT_STOPPED, "io-error");
        assert_reported(f, "stalled:2");
        g_assert_true(copy_is_valid(f->copy) && copy_is_in(f->copy, 2));
    }
    fake_vm_raise(f->vm, VM_EVENT_SHUTDOWN, "powered off");
    assert_reported(f, io_error_first ? "" : "stalled:2");
    g_assert_false(copy_is_valid(f->copy) || copy_is_in(f->copy, 2));
    fake_vm_raise(f->vm, VM_EVENT_PANICKED, "again");
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "pausing vm-pause look dirty:3:0+0 told");
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:3 drain may-run vm-resume resumed:3");
}

/* One that isn't to run, by its monitor: the next load mends it, and nobody needs to know. */
static void test_stops_paused(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    fake_vm_raise(f->vm, VM_EVENT_STOPPED, "io-error");
    fake_vm_raise(f->vm, VM_EVENT_SHUTDOWN, "powered off");
    assert_reported(f, "");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_STANDBY);
}

/* As it is being resumed: it isn't said to run. */
static void test_stops_resuming(Fixture *f, gconstpointer data)
{
    VmEvent event = data ? VM_EVENT_STOPPED : VM_EVENT_SHUTDOWN;
    reach(f, COPY_RESUME);
    fake_vm_raise(f->vm, event, "while resuming");
    assert_reported(f, "stalled:2");
    proceed(f);
    /* One that is invalid is asked whether it answers, before its RAM is looked at. */
    assert_reported(f, data ? "resumed-for-nothing" : "resumed-for-nothing pausing vm-pause");
    g_assert_false(copy_output_counts(f->copy));
}

/* ---- Ends ---- */

/* A job that is under way comes to its end, and nothing follows from it. */
static void test_forgotten(Fixture *f, gconstpointer data)
{
    static const char *const left[COPY_JOBS] = {
        [COPY_CHECK] = "",
        [COPY_PAUSE] = "paused drain",
        [COPY_LOOK] = "",
        [COPY_KEEP] = "",
        [COPY_LOAD] = "",
        [COPY_REPAIR] = "",
        [COPY_RESUME] = "resumed-for-nothing pausing vm-pause paused drain",
        [COPY_INACTIVATE] = "inactivated",
    };
    CopyJob job = GPOINTER_TO_UINT(data);
    reach(f, job);
    /* A check changes nothing, and keeps no checkpoint out. */
    g_assert_cmpint(copy_may_change_ram(f->copy), ==, job == COPY_CHECK);
    copy_ask_when_loaded(f->copy);
    end_session(f);
    g_assert_null(copy_checkpoint(f->copy));
    g_assert_cmpuint(checkpoints, ==, 0);
    g_assert_cmpint(copy_job(f->copy), ==, job);
    assert_reported(f, "");
    proceed(f);
    assert_reported(f, left[job]);
    turned_clock_pass_ms(3000);
    assert_reported(f, "");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_EMPTY);
    g_assert_false(copy_is_settled(f->copy));
    run(f);
}

/* One that is over before it has begun doesn't begin. */
static void test_forgotten_start(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.duty = COPY_JOIN;
    hold_vm(f, FAKE_VM_PAUSE);
    g_assert_true(copy_start(f->copy, NULL));
    end_session(f);
    proceed(f);
    turned_clock_pass_ms(3000);
    assert_reported(f, "pausing vm-pause");
    run(f);
}

/* A look at QEMU that was due is none for a session that is over. */
static void test_forgotten_stop(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    fake_vm_raise(f->vm, VM_EVENT_SHUTDOWN, "powered off");
    assert_reported(f, "stalled:2");
    end_session(f);
    turned_clock_pass_ms(3000);
    assert_reported(f, "");
}

/* A session that is due meanwhile waits for the job. */
static void test_forgotten_and_due(Fixture *f, gconstpointer data)
{
    CopyJob job = GPOINTER_TO_UINT(data);
    reach(f, job);
    end_session(f);
    g_assert_true(copy_start(f->copy, NULL));
    assert_reported(f, "");
    proceed(f);
    g_assert_true(g_str_has_suffix(f->reported->str, "reset begin"));
    g_assert_false(vm_is_running(f->vm));
    forget_reported(f);
    receive(f, FALSE);
    assert_reported(f, "keep vm-load repair proven:0");
}

/* Whatever was under way: nothing of it is reported, and the next VM begins anew. */
static void test_killed(Fixture *f, gconstpointer data)
{
    reach(f, GPOINTER_TO_UINT(data));
    copy_ask_when_loaded(f->copy);
    end_vm(f);
    g_assert_cmpint(copy_job(f->copy), ==, COPY_NOTHING);
    g_assert_null(guard);
    turned_clock_pass_ms(3000);
    assert_reported(f, "");
    guard_script.held = NULL;
    start_vm(f);
    forget_reported(f);
    run(f);
}

/* A handler ends the VM as it is told that it is lost. */
static void test_ends_within(Fixture *f, gconstpointer data)
{
    const char *where = data;
    gboolean disks = !strcmp(where, "vm-inactivate");
    (disks ? run_and_pause : join)(f);
    f->ends_vm = TRUE;
    f->world.duty = strcmp(where, "proven:0") ? COPY_PROTECT : COPY_JOIN;
    f->cant_prove = f->cant_enter = TRUE;
    if (!strcmp(where, "may-run")) {
        f->cant_enter = FALSE;
        f->cant_run = TRUE;
    } else if (!strcmp(where, "vm-load")) {
        fake_vm_inject(f->vm, FAKE_VM_LOAD, FAKE_VM_FAIL, 1);
    } else if (disks) {
        fake_vm_inject(f->vm, FAKE_VM_INACTIVATE, FAKE_VM_FAIL, 1);
        f->world.disks = COPY_DISKS_DUE;
    }
    receive(f, TRUE);
    copy_ask_when_loaded(f->copy);
    turned_clock_settle();
    g_autofree char *last = g_strconcat(where, " lost", NULL);
    g_assert_true(g_str_has_suffix(f->reported->str, last));
    forget_reported(f);
    g_assert_null(f->vm);
    g_assert_null(guard);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
}

#define JOB(job) GUINT_TO_POINTER(job)

static const FixtureTest tests[] = {
    {"/copy/start",                  NULL,             test_start               },
    {"/copy/start-running",          NULL,             test_start_running       },
    {"/copy/keeps-its-disks",        NULL,             test_keeps_its_disks     },
    {"/copy/over-before-it-began",   NULL,             test_over_before_it_began},
    {"/copy/no-guard",               NULL,             test_no_guard            },
    {"/copy/no-answer",              NULL,             test_no_answer           },
    {"/copy/proof",                  NULL,             test_proof               },
    {"/copy/proof-ends",             NULL,             test_proof_ends          },
    {"/copy/proof-ends-not",         "new",            test_proof_ends          },
    {"/copy/not-proven",             NULL,             test_not_proven          },
    {"/copy/runs",                   NULL,             test_runs                },
    {"/copy/not-to-run",             NULL,             test_not_to_run          },
    {"/copy/disks",                  NULL,             test_disks               },
    {"/copy/may-not-enter",          NULL,             test_may_not             },
    {"/copy/may-not-run",            "disks",          test_may_not             },
    {"/copy/wrong",                  NULL,             test_wrong               },
    {"/copy/ending-keep",            JOB(COPY_KEEP),   test_ending              },
    {"/copy/ending-repair",          JOB(COPY_REPAIR), test_ending              },
    {"/copy/ending-look",            JOB(COPY_LOOK),   test_ending              },
    {"/copy/check",                  NULL,             test_check               },
    {"/copy/stops",                  NULL,             test_stops               },
    {"/copy/stops-twice",            "io-error",       test_stops               },
    {"/copy/stops-paused",           NULL,             test_stops_paused        },
    {"/copy/stops-resuming",         NULL,             test_stops_resuming      },
    {"/copy/io-error-resuming",      "io-error",       test_stops_resuming      },
    {"/copy/forgotten-start",        NULL,             test_forgotten_start     },
    {"/copy/forgotten-stop",         NULL,             test_forgotten_stop      },
    {"/copy/ends-within-proof",      "proven:0",       test_ends_within         },
    {"/copy/ends-within-enter",      "enter:1",        test_ends_within         },
    {"/copy/ends-within-run",        "may-run",        test_ends_within         },
    {"/copy/ends-within-load",       "vm-load",        test_ends_within         },
    {"/copy/ends-within-inactivate", "vm-inactivate",  test_ends_within         },
};

static void add_for_jobs(const char *name, void (*test)(Fixture *, gconstpointer))
{
    static const struct {
        const char *name;
        CopyJob job;
    } jobs[] = {
        {"check",      COPY_CHECK     },
        {"pause",      COPY_PAUSE     },
        {"look",       COPY_LOOK      },
        {"keep",       COPY_KEEP      },
        {"load",       COPY_LOAD      },
        {"repair",     COPY_REPAIR    },
        {"resume",     COPY_RESUME    },
        {"inactivate", COPY_INACTIVATE}
    };
    for (guint i = 0; i < G_N_ELEMENTS(jobs); i++) {
        g_autofree char *path = g_strdup_printf("/copy/%s-%s", name, jobs[i].name);
        g_test_add(path, Fixture, JOB(jobs[i].job), set_up, test, tear_down);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests(tests, G_N_ELEMENTS(tests));
    add_for_jobs("forgotten", test_forgotten);
    add_for_jobs("forgotten-and-due", test_forgotten_and_due);
    add_for_jobs("killed", test_killed);
    return g_test_run();
}
