/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary alone, whose guest an administrator stops and continues at each moment. */
#include "common/log.h"
#include "tests/support/primary-fixture.h"

static void stop(Fixture *f)
{
    f->kept_stopped = f->world.is_stopped = TRUE;
    primary_reschedule(f->primary);
    turned_clock_settle();
}

static void cont(Fixture *f)
{
    f->stopped = TRUE;
    primary_continue(f->primary);
    turned_clock_settle();
}

/* Alone: it is paused at once, and nothing but `cont` runs it. */
static void test_stops(Fixture *f, gconstpointer data)
{
    (void)data;
    stop(f);
    assert_reported(f, "pausing paused left-stopped running-again");
    g_assert_false(vm_is_running(f->vm));
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    stop(f);
    assert_reported(f, "");
    cont(f);
    assert_reported(f, "resume running");
    g_assert_true(vm_is_running(f->vm));
}

/* A pair: it is paused, and a checkpoint that says so follows at once; likewise after `cont`. */
static void test_stop_is_told(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    stop(f);
    g_assert_false(vm_is_running(f->vm));
    assert_reported(f, "pausing paused left-stopped running-again "
                       "pausing paused decide:3 content-stopped:3");
    complete(f);
    assert_reported(f, "taken:3 left-stopped running-again sent release:3 complete:admin");
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
    primary_want(f->primary, REASON_PERIOD);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:4 content-stopped:4");
    complete(f);
    g_assert_false(vm_is_running(f->vm));
    g_string_truncate(f->reported, 0);
    cont(f);
    assert_reported(f, "resume running pausing paused decide:5 content:5");
    complete(f);
    assert_reported(f, "taken:5 resume running-again sent release:5 complete:admin");
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
}

/* In each phase of a checkpoint: it ends, the guest is stopped, and it or the next one tells that. */
static void test_stop_in_a_checkpoint(Fixture *f, gconstpointer data)
{
    CyclePhase phase = (CyclePhase)GPOINTER_TO_INT(data);
    gboolean in_time = phase == CYCLE_SYNCING || phase == CYCLE_PREPARING ||
                       phase == CYCLE_SETTLING || phase == CYCLE_PAUSING;
    advance(f, phase);
    stop(f);
    g_assert_cmpint(primary_phase(f->primary), ==, phase);
    while (primary_phase(f->primary) != CYCLE_IDLE && primary_epoch(f->primary) == 3) {
        if (primary_phase(f->primary) == CYCLE_SENT)
            g_assert_true(primary_received(f->primary, 3, NULL));
        else if (primary_phase(f->primary) == CYCLE_RECEIVED)
            sent();
        else
            go_on(f, CYCLE_SENT);
        turned_clock_settle();
    }
    g_assert_false(vm_is_running(f->vm));
    g_assert_null(strstr(f->reported->str, "lost"));
    if (in_time)
        g_assert_nonnull(strstr(f->reported->str, "content-stopped:3"));
    g_assert_cmpuint(primary_epoch(f->primary), ==, in_time ? 3 : 4);
}

/* A hand-over waits for a checkpoint that says what the guest does, be it stopped or continued. */
static void test_stop_and_hand_over(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    for (int round = 0; round < 2; round++) {
        fake_vm_inject(f->vm, round ? FAKE_VM_RESUME : FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
        if (round)
            cont(f);
        else
            stop(f);
        g_assert_true(fake_vm_is_held(f->vm));
        f->world.state = FSM_P_DEVICE;
        primary_hand_over(f->primary);
        proceed(f);
        g_assert_null(strstr(f->reported->str, "committed"));
        g_assert_nonnull(strstr(f->reported->str, round ? "content:4" : "content-stopped:3"));
        complete(f);
        turned_clock_settle();
        g_assert_true(g_str_has_suffix(f->reported->str, "event:committed"));
        g_string_truncate(f->reported, 0);
        /* It fails: the guest is as it was. */
        f->world.state = FSM_P_COLO;
        primary_moved(f->primary, FSM_P_COLO);
        primary_resume(f->primary);
        turned_clock_settle();
        assert_reported(f, round ? "resume running-again" : "left-stopped running-again");
        g_assert_cmpint(vm_is_running(f->vm), ==, round);
    }
}

/* QEMU refuses to pause it: that is tried until it does, or until `cont`. */
static void test_stop_is_refused(Fixture *f, gconstpointer continues)
{
    fake_vm_refuse(f->vm, FAKE_VM_PAUSE, TRUE);
    stop(f);
    turned_clock_pass_ms(5000);
    g_assert_cmpuint(fake_vm_count(f->vm, FAKE_VM_PAUSE), ==, 6);
    g_assert_true(vm_is_running(f->vm));
    if (continues)
        cont(f);
    else
        fake_vm_refuse(f->vm, FAKE_VM_PAUSE, FALSE);
    turned_clock_pass_ms(1000);
    g_assert_cmpint(vm_is_running(f->vm), ==, continues != NULL);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    g_assert_null(strstr(f->reported->str, "lost"));
}

#define ADD_DATA(name, data, test)                                                                 \
    g_test_add("/primary-stop/" name, Fixture, GINT_TO_POINTER(data), set_up, test, tear_down)
#define ADD(name, test) ADD_DATA(name, 0, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("alone", test_stops);
    ADD("told", test_stop_is_told);
    add_for_each_phase("/primary-stop/in", test_stop_in_a_checkpoint);
    ADD("hand-over", test_stop_and_hand_over);
    ADD("refused", test_stop_is_refused);
    ADD_DATA("refused-cont", TRUE, test_stop_is_refused);
    return g_test_run();
}
