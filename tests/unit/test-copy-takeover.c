/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The copy alone when its primary is lost: from each condition it continues, or is given up. */
#include "common/log.h"
#include "tests/support/copy-fixture.h"

/* ---- Before it is known who continues ---- */

/* Nobody can decide, or the arbiter is asked: no load begins, also if its pages are kept already. */
static void test_no_load(Fixture *f, gconstpointer data)
{
    CopyDuty duty = data ? COPY_FREEZE : COPY_HOLD;
    reach(f, COPY_KEEP);
    f->world.duty = duty;
    proceed(f);
    assert_reported(f, "");
    copy_step(f->copy);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_TO_LOAD);
    f->world.duty = COPY_PROTECT;
    copy_step(f->copy);
    assert_reported(f, "keep vm-load repair enter:2 drain may-run vm-resume resumed:2");
}

/* The one that runs isn't paused while the arbiter is asked, but is if nobody can decide. */
static void test_hold(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    f->world.duty = COPY_HOLD;
    copy_step(f->copy);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
    f->world.duty = COPY_FREEZE;
    copy_step(f->copy);
    assert_reported(f, "pausing vm-pause paused drain");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_PAUSED);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
}

/* ---- It continues where it is ---- */

/* The link is lost, the arbiter asked, and this side is to continue. */
static void take_over(Fixture *f)
{
    f->world.duty = COPY_HOLD;
    copy_step(f->copy);
    f->world.duty = COPY_TAKE_OVER;
    copy_step(f->copy);
    turned_clock_settle();
    g_assert_false(copy_is_settled(f->copy));
}

/* It continues as the only one, and no job of a copy is left to do. */
static void assert_alone(Fixture *f)
{
    g_assert_true(vm_is_running(f->vm));
    g_assert_cmpint(copy_job(f->copy), ==, COPY_NOTHING);
    turned_clock_pass_ms(3000);
    assert_reported(f, "");
}

/* It has sent all that clients have received: it isn't paused, and nothing is loaded. */
static void test_runs(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    take_over(f);
    assert_reported(f, "");
    copy_settled(f->copy);
    g_assert_true(copy_is_settled(f->copy));
    g_assert_cmpint(copy_job(f->copy), ==, COPY_RESUME);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
    f->session_epoch = EPOCH_NONE;
    copy_forget(f->copy);
    g_assert_false(copy_is_settled(f->copy));
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_EMPTY);
}

/* It has told what it has written, and the checkpoint didn't come. */
static void test_paused(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    g_assert_true(copy_prepare(f->copy, 3));
    forget_reported(f);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* What failed on its overlay is tried again. */
static void test_io_error(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    fake_vm_raise(f->vm, VM_EVENT_STOPPED, "io-error");
    assert_reported(f, "stalled:2");
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* Its disks are not those of the checkpoint yet: QEMU gives them up first. */
static void test_disks(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    f->world.disks = COPY_DISKS_DUE;
    take_over(f);
    assert_reported(f, "");
    copy_settled(f->copy);
    assert_reported(f, "pausing vm-pause paused drain vm-inactivate inactivated");
    f->world.disks = COPY_DISKS_THERE;
    copy_step(f->copy);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* ---- It is loaded first ---- */

#define LAST_LOAD_OF(epoch)                                                                        \
    "keep-last vm-load repair enter:" epoch " take-over vm-resume taken-over"
#define LAST_LOAD LAST_LOAD_OF("2")

/* A checkpoint that wasn't to be run from: every page that this load writes to is put back. */
static void test_waits(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive(f, FALSE);
    take_over(f);
    assert_reported(f, "");
    copy_settled(f->copy);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* The load was about to begin when the link was lost. */
static void test_to_load(Fixture *f, gconstpointer data)
{
    (void)data;
    reach(f, COPY_KEEP);
    f->world.duty = COPY_HOLD;
    proceed(f);
    take_over(f);
    assert_reported(f, "");
    copy_settled(f->copy);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* RAM is still being made that of the checkpoint: nothing begins before that is settled. */
static void test_not_applied(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive_only(f);
    take_over(f);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_APPLYING);
    if (data)
        copy_applied(f->copy, TRUE);
    assert_reported(f, "");
    copy_settled(f->copy);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* The load that is under way is the one. A page that it has made wrong then has no remedy. */
static void test_loading(Fixture *f, gconstpointer data)
{
    gboolean wrong = data != NULL;
    reach(f, COPY_LOAD);
    page_set_add_run(guard->found, 9, wrong);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "");
    proceed(f);
    assert_reported(f, "repair enter:2 take-over vm-resume taken-over");
    assert_alone(f);
}

/* QEMU has refused to run it from the checkpoint: it has no other past, so that is loaded again. */
static void test_stalled(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_RESUME, FAKE_VM_FAIL, 1);
    receive(f, TRUE);
    forget_reported(f);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* ---- It can't ---- */

/* It had stopped by itself, and no checkpoint has come since: only giving up is left. */
static void test_invalid(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    fake_vm_raise(f->vm, VM_EVENT_SHUTDOWN, "powered off");
    take_over(f);
    forget_reported(f);
    f->ends_vm = TRUE;
    copy_settled(f->copy);
    assert_reported(f, "lost");
}

/* QEMU that doesn't answer is not asked again. */
static void test_lost(Fixture *f, gconstpointer data)
{
    static const FakeVmOperation operations[] = {FAKE_VM_LOAD, FAKE_VM_INACTIVATE, FAKE_VM_RESUME};
    FakeVmOperation operation = operations[GPOINTER_TO_UINT(data)];
    run_and_pause(f);
    receive(f, FALSE);
    f->world.disks = operation == FAKE_VM_INACTIVATE ? COPY_DISKS_DUE : COPY_DISKS_THERE;
    fake_vm_inject(f->vm, operation, FAKE_VM_TIMEOUT, 1);
    f->world.duty = COPY_TAKE_OVER;
    f->ends_vm = TRUE;
    copy_settled(f->copy);
    turned_clock_settle();
    note_orders(f);
    g_assert_true(g_str_has_suffix(f->reported->str, " lost"));
    g_assert_null(strstr(f->reported->str, "refused"));
}

static void test_maps(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive(f, FALSE);
    f->cant_enter = f->ends_vm = TRUE;
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "keep-last vm-load repair enter:2 lost");
}

/* ---- Refused, and tried again ---- */

/* RAM is put right after each try. */
static void test_load_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive(f, FALSE);
    fake_vm_refuse(f->vm, FAKE_VM_LOAD, TRUE);
    take_over(f);
    copy_settled(f->copy);
    for (guint i = 0; i < 3; i++) {
        assert_reported(f, "keep-last vm-load repair refused-load");
        copy_step(f->copy);
        turned_clock_pass_ms(2000);
        assert_reported(f, "");
        again(f);
    }
    forget_reported(f);
    fake_vm_refuse(f->vm, FAKE_VM_LOAD, FALSE);
    again(f);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* Without another load: it is where it was. */
static void test_resume_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive(f, FALSE);
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, TRUE);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f,
                    "keep-last vm-load repair enter:2 take-over vm-resume not-taken-over refused");
    for (guint i = 0; i < 3; i++) {
        copy_step(f->copy);
        turned_clock_pass_ms(2000);
        assert_reported(f, "");
        again(f);
        assert_reported(f, "take-over vm-resume not-taken-over refused");
    }
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, FALSE);
    again(f);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* One that runs is paused meanwhile: its clients get nothing of what it sends. */
static void test_refused_running(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, TRUE);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "take-over vm-resume not-taken-over refused pausing vm-pause paused drain");
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, FALSE);
    again(f);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* QEMU is told only once to give its disks up, and says since that it can't: nothing is lost. */
static void test_release_refused(Fixture *f, gconstpointer data)
{
    CopyDuty duty = data ? COPY_HOLD : COPY_TAKE_OVER;
    run_and_pause(f);
    receive_only(f);
    f->world.disks = COPY_DISKS_DUE;
    f->world.duty = duty;
    fake_vm_inject(f->vm, FAKE_VM_INACTIVATE, FAKE_VM_FAIL, 1);
    copy_settled(f->copy);
    assert_reported(f, "vm-inactivate refused");
    copy_step(f->copy);
    assert_reported(f, "");
    again(f);
    assert_reported(f, "refused");
    /* A disk server that has done without it. */
    f->world.disks = COPY_DISKS_THERE;
    f->world.duty = COPY_TAKE_OVER;
    again(f);
    assert_reported(f, LAST_LOAD_OF("3"));
    assert_alone(f);
}

/* Another node may have the VM: a copy that QEMU refuses something is of no use. */
static void test_refused_protecting(Fixture *f, gconstpointer data)
{
    gboolean disks = data != NULL;
    run_and_pause(f);
    receive_only(f);
    fake_vm_inject(f->vm, disks ? FAKE_VM_INACTIVATE : FAKE_VM_LOAD, FAKE_VM_FAIL, 1);
    f->world.disks = disks ? COPY_DISKS_DUE : COPY_DISKS_THERE;
    f->ends_vm = TRUE;
    copy_applied(f->copy, TRUE);
    assert_reported(f, disks ? "vm-inactivate lost" : "keep vm-load lost");
}

/* While the arbiter is asked it isn't the only one yet: it stays paused, and can continue. */
static void test_resume_refused_held(Fixture *f, gconstpointer data)
{
    (void)data;
    reach(f, COPY_RESUME);
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, TRUE);
    f->world.duty = COPY_HOLD;
    proceed(f);
    assert_reported(f, "not-resumed");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_PAUSED);
    fake_vm_refuse(f->vm, FAKE_VM_RESUME, FALSE);
    take_over(f);
    copy_settled(f->copy);
    assert_reported(f, "take-over vm-resume taken-over");
    assert_alone(f);
}

/* ---- The arbiter is asked when the load is over ---- */

static void test_may_ask(Fixture *f, gconstpointer data)
{
    gboolean wrong = data != NULL;
    reach(f, COPY_LOAD);
    page_set_add_run(guard->found, 9, wrong);
    f->world.duty = COPY_HOLD;
    copy_ask_when_loaded(f->copy);
    guard_script.held = "repair";
    proceed(f);
    assert_reported(f, "repair");
    proceed(f);
    assert_reported(f, wrong ? "may-ask-invalid" : "enter:2 may-ask");
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
    f->world.duty = COPY_PROTECT;
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:3 drain may-run vm-resume resumed:3");
}

/* It was refused: RAM is right again, so the question may be put. */
static void test_may_ask_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    reach(f, COPY_LOAD);
    fake_vm_refuse(f->vm, FAKE_VM_LOAD, TRUE);
    f->world.duty = COPY_HOLD;
    copy_ask_when_loaded(f->copy);
    proceed(f);
    assert_reported(f, "repair refused-load may-ask");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_STANDBY);
    fake_vm_refuse(f->vm, FAKE_VM_LOAD, FALSE);
    f->world.duty = COPY_TAKE_OVER;
    copy_settled(f->copy);
    assert_reported(f, "");
    again(f);
    assert_reported(f, LAST_LOAD);
    assert_alone(f);
}

/* The link is lost, and the arbiter says yes, while pages are kept for a load of the session. */
static void keep_for_the_session(Fixture *f)
{
    reach(f, COPY_KEEP);
    f->world.duty = COPY_HOLD;
    copy_step(f->copy);
    f->world.duty = COPY_TAKE_OVER;
    copy_step(f->copy);
}

/* Its guard is not enough for a load that no checkpoint will correct. */
static void test_kept_for_the_session(Fixture *f, gconstpointer data)
{
    (void)data;
    keep_for_the_session(f);
    copy_settled(f->copy);
    proceed(f);
    assert_reported(f, "keep-last vm-load repair enter:2 take-over vm-resume taken-over");
}

/* Nor is it loaded before it is known which checkpoint that is. */
static void test_kept_unsettled(Fixture *f, gconstpointer data)
{
    (void)data;
    keep_for_the_session(f);
    proceed(f);
    assert_reported(f, "");
}

int main(int argc, char **argv)
{
    static const FixtureTest tests[] = {
        {"/copy-takeover/no-load-held",               NULL,                test_no_load             },
        {"/copy-takeover/no-load-frozen",             "frozen",            test_no_load             },
        {"/copy-takeover/hold",                       NULL,                test_hold                },
        {"/copy-takeover/runs",                       NULL,                test_runs                },
        {"/copy-takeover/paused",                     NULL,                test_paused              },
        {"/copy-takeover/io-error",                   NULL,                test_io_error            },
        {"/copy-takeover/disks",                      NULL,                test_disks               },
        {"/copy-takeover/waits",                      NULL,                test_waits               },
        {"/copy-takeover/to-load",                    NULL,                test_to_load             },
        {"/copy-takeover/not-applied",                NULL,                test_not_applied         },
        {"/copy-takeover/just-applied",               "applied",           test_not_applied         },
        {"/copy-takeover/loading",                    NULL,                test_loading             },
        {"/copy-takeover/loading-wrong",              "wrong",             test_loading             },
        {"/copy-takeover/stalled",                    NULL,                test_stalled             },
        {"/copy-takeover/invalid",                    NULL,                test_invalid             },
        {"/copy-takeover/load-unanswered",            GUINT_TO_POINTER(0), test_lost                },
        {"/copy-takeover/release-unanswered",         GUINT_TO_POINTER(1), test_lost                },
        {"/copy-takeover/resume-unanswered",          GUINT_TO_POINTER(2), test_lost                },
        {"/copy-takeover/maps",                       NULL,                test_maps                },
        {"/copy-takeover/load-refused",               NULL,                test_load_refused        },
        {"/copy-takeover/resume-refused",             NULL,                test_resume_refused      },
        {"/copy-takeover/refused-running",            NULL,                test_refused_running     },
        {"/copy-takeover/release-refused",            NULL,                test_release_refused     },
        {"/copy-takeover/release-refused-held",       "held",              test_release_refused     },
        {"/copy-takeover/load-refused-protecting",    NULL,                test_refused_protecting  },
        {"/copy-takeover/release-refused-protecting", "disks",             test_refused_protecting  },
        {"/copy-takeover/resume-refused-held",        NULL,                test_resume_refused_held },
        {"/copy-takeover/kept-for-the-session",       NULL,                test_kept_for_the_session},
        {"/copy-takeover/kept-unsettled",             NULL,                test_kept_unsettled      },
        {"/copy-takeover/may-ask",                    NULL,                test_may_ask             },
        {"/copy-takeover/may-ask-wrong",              "wrong",             test_may_ask             },
        {"/copy-takeover/may-ask-refused",            NULL,                test_may_ask_refused     },
    };
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
