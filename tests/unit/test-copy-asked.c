/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the primary asks the copy alone: what it has written, and whether it could continue. */
#include "tests/support/copy-fixture.h"

/* ---- PREPARE ---- */

static void test_prepare(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    page_set_add_run(guard->found, 3, 2);
    page_set_add_run(guard->found, 30, 1);
    hold_vm(f, FAKE_VM_PAUSE);
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "pausing vm-pause");
    g_assert_false(copy_may_change_ram(f->copy));
    g_assert_false(copy_prepare(f->copy, 3));
    proceed(f);
    assert_reported(f, "paused drain look dirty:3:3+0 told");
    g_assert_true(page_set_contains(f->dirty, 3) && page_set_contains(f->dirty, 4) &&
                  page_set_contains(f->dirty, 30));
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_PAUSED);
    g_assert_true(copy_is_in(f->copy, 2));
    g_assert_false(copy_output_counts(f->copy));
    g_assert_true(copy_may_change_ram(f->copy));
    copy_tell_on(f->copy);
    copy_step(f->copy);
    assert_reported(f, "");
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:3 drain may-run vm-resume resumed:3");
}

/* What QEMU reads after the pause, the guest would get in the next epoch. */
static void test_prepare_unread(Fixture *f, gconstpointer data)
{
    gboolean never = data != NULL;
    run(f);
    f->unread = TRUE;
    g_assert_true(copy_prepare(f->copy, 3));
    turned_clock_pass_ms(90);
    assert_reported(f, "");
    g_assert_true(vm_is_running(f->vm));
    g_assert_false(copy_runs(f->copy)); /* it is given no more */
    f->unread = never;
    turned_clock_pass_ms(never ? 10 : 1);
    assert_reported(f, "pausing vm-pause paused drain look dirty:3:0+0 told");
}

/* A VM that ends while QEMU has not read isn't paused any more. */
static void test_unread_ends(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    f->unread = TRUE;
    g_assert_true(copy_prepare(f->copy, 3));
    turned_clock_settle();
    end_vm(f);
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
}

static void test_prepare_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    join(f);
    g_assert_false(copy_prepare(f->copy, 1));
    end_session(f);
    run(f);
    g_assert_false(copy_prepare(f->copy, 2));
    g_assert_false(copy_prepare(f->copy, 4));
    assert_reported(f, "");
    g_assert_true(copy_runs(f->copy));
}

/* While RAM is being made that of the checkpoint: what is written is known after it only. */
static void test_prepare_early(Fixture *f, gconstpointer data)
{
    gboolean to_run = data != NULL;
    protect(f);
    receive_only(f);
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "");
    copy_applied(f->copy, to_run);
    assert_reported(f, to_run ? "keep vm-load repair enter:2 drain may-run vm-resume resumed:2 "
                                "pausing vm-pause paused drain look dirty:3:0+0 told"
                              : "look dirty:3:0+0 told");
}

/* More than a message has room for, in three parts: each when the link has taken the one before. */
static void tell_many(Fixture *f)
{
    run(f);
    for (guint i = 0; i <= 2 * TOLD_RUNS_MAX; i++)
        page_set_add_run(guard->found, 2 * i, 1);
    f->fills = TRUE;
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "pausing vm-pause paused drain look dirty:3:65536+2");
    g_assert_false(copy_prepare(f->copy, 3));
}

static void test_parts(Fixture *f, gconstpointer data)
{
    (void)data;
    tell_many(f);
    copy_tell_on(f->copy);
    assert_reported(f, "");
    f->no_room = FALSE;
    copy_tell_on(f->copy);
    assert_reported(f, "dirty:3:65536+1");
    f->no_room = FALSE;
    copy_tell_on(f->copy);
    assert_reported(f, "dirty:3:1+0 told");
    f->no_room = FALSE;
    copy_tell_on(f->copy);
    assert_reported(f, "");
}

static void test_parts_forgotten(Fixture *f, gconstpointer data)
{
    (void)data;
    tell_many(f);
    end_session(f);
    f->no_room = f->fills = FALSE;
    copy_tell_on(f->copy);
    assert_reported(f, "");
    page_set_clear(f->dirty);
    run(f);
    g_assert_true(copy_prepare(f->copy, 3));
    assert_reported(f, "pausing vm-pause paused drain look dirty:3:0+0 told");
}

/* The link is lost while it is looked: nobody waits for the answer. */
static void test_not_told(Fixture *f, gconstpointer data)
{
    (void)data;
    reach(f, COPY_LOOK);
    page_set_add_run(guard->found, 3, 2);
    f->world.duty = COPY_HOLD;
    proceed(f);
    assert_reported(f, "");
}

/* ---- Whether it is fit ---- */

/* `fit` comes when it is paused, and QEMU has answered. */
static void test_fit(Fixture *f, gconstpointer data)
{
    (void)data;
    run(f);
    f->world.duty = COPY_HAND_OVER;
    copy_check_fit(f->copy);
    assert_reported(f, "pausing vm-pause paused drain pausing vm-pause fit");
    copy_step(f->copy);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
}

/* The last checkpoint isn't applied, or its disks aren't there: the answer waits. */
static void test_fit_waits(Fixture *f, gconstpointer data)
{
    gboolean to_run = data != NULL;
    run_and_pause(f);
    receive_only(f);
    f->world.duty = COPY_HAND_OVER;
    copy_check_fit(f->copy);
    assert_reported(f, "");
    f->world.disks = COPY_DISKS_DUE;
    copy_applied(f->copy, to_run);
    assert_reported(f, "vm-inactivate inactivated");
    f->world.disks = COPY_DISKS_THERE;
    copy_step(f->copy);
    assert_reported(f, to_run ? "keep vm-load repair enter:3 pausing vm-pause fit"
                              : "pausing vm-pause fit");
    g_assert_false(vm_is_running(f->vm));
}

/* Nobody has asked, or not in this session: what was checked for another reason is no answer. */
static void test_fit_unasked(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    receive_only(f);
    f->world.duty = COPY_HAND_OVER;
    copy_check_fit(f->copy);
    end_session(f);
    protect(f);
    receive(f, FALSE);
    turned_clock_pass_ms(1000);
    assert_reported(f, "pausing vm-pause");
    f->world.duty = COPY_HAND_OVER;
    copy_step(f->copy);
    turned_clock_pass_ms(2000);
    assert_reported(f, "");
}

static void make_wrong(Fixture *f)
{
    protect(f);
    receive(f, TRUE);
    page_set_add_run(guard->found, 9, 1);
    forget_reported(f);
}

static void refuse_to_run(Fixture *f)
{
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_RESUME, FAKE_VM_FAIL, 1);
    receive(f, TRUE);
    assert_reported(f, "keep vm-load repair enter:2 drain may-run vm-resume not-resumed stalled:2");
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_STANDBY);
    copy_step(f->copy);
    assert_reported(f, "");
}

/* An invalid one isn't, nor is one that should run and couldn't. */
static void test_unfit(Fixture *f, gconstpointer data)
{
    (data ? refuse_to_run : make_wrong)(f);
    f->world.duty = COPY_HAND_OVER;
    copy_check_fit(f->copy);
    assert_reported(f, "pausing vm-pause unfit");
}

static void test_fit_unanswered(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->world.duty = COPY_HAND_OVER;
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_TIMEOUT, 1);
    copy_check_fit(f->copy);
    assert_reported(f, "pausing vm-pause lost");
}

int main(int argc, char **argv)
{
    static const FixtureTest tests[] = {
        {"/copy-asked/prepare",           NULL,      test_prepare        },
        {"/copy-asked/prepare-refused",   NULL,      test_prepare_refused},
        {"/copy-asked/prepare-unread",    NULL,      test_prepare_unread },
        {"/copy-asked/never-read",        "never",   test_prepare_unread },
        {"/copy-asked/unread-ends",       NULL,      test_unread_ends    },
        {"/copy-asked/prepare-early",     NULL,      test_prepare_early  },
        {"/copy-asked/prepare-early-run", "run",     test_prepare_early  },
        {"/copy-asked/parts",             NULL,      test_parts          },
        {"/copy-asked/parts-forgotten",   NULL,      test_parts_forgotten},
        {"/copy-asked/not-told",          NULL,      test_not_told       },
        {"/copy-asked/fit",               NULL,      test_fit            },
        {"/copy-asked/fit-waits",         NULL,      test_fit_waits      },
        {"/copy-asked/fit-loads",         "run",     test_fit_waits      },
        {"/copy-asked/fit-unasked",       NULL,      test_fit_unasked    },
        {"/copy-asked/unfit",             NULL,      test_unfit          },
        {"/copy-asked/unfit-refused",     "refused", test_unfit          },
        {"/copy-asked/fit-unanswered",    NULL,      test_fit_unanswered },
    };
    g_test_init(&argc, &argv, NULL);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
