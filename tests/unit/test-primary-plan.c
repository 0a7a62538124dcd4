/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last checkpoint before a switchover: a primary alone (tests/support/primary-fixture.h). */
#include "common/log.h"
#include "tests/support/primary-fixture.h"

/* As node.c does at FSM_CONTINUE, without a wish to hold it. */
static void go(Fixture *f)
{
    protect(f);
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    assert_reported(f, "");
    turned_clock_settle();
}

/* The VM stays paused in it, and the secondary's is not to run from it. */
static void test_goes(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f);
    assert_reported(f, "pausing paused decide:3:last content:3");
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3");
    sent();
    assert_reported(f, "sent");
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "release:3 renounce event:committed");
    g_assert_false(vm_is_running(f->vm));
    primary_moved(f->primary, f->world.state = FSM_P_HANDED);
    primary_send_handed(f->primary);
    assert_reported(f, "handed:3 mirror");
    /* It goes on where it stood; the secondary's VM runs after the next checkpoint only. */
    g_assert_true(primary_refused(f->primary, &(MessageRefused){.why = "a trial"}, NULL));
    assert_reported(f, "event:refused trouble");
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "resume running-again complete:admin pausing paused decide:4 content:4");
}

/* What QEMU reads after this pause, no guest would ever get. */
static void test_settles_longer(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->delivered = FALSE;
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_pass_ms(90);
    assert_reported(f, "");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_SETTLING);
    turned_clock_pass_ms(11);
    assert_reported(f, "pausing paused decide:3:last content:3");
}

/* A checkpoint that was under way when it was ordered is an ordinary one: the next is the last. */
static void test_follows_another(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:3 content:3");
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    complete(f);
    assert_reported(f, "taken:3 resume running-again sent release:3 complete:admin");
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:4:last content:4");
}

static void hold(Fixture *f)
{
    protect(f);
    f->world.peer_vm = PEER_VM_RUNS;
    primary_plan(f->primary);
    turned_clock_settle();
    assert_reported(f, "prepare:3");
    g_assert_true(primary_dirty(f->primary, &(MessageDirty){.epoch = 3}, NULL));
    turned_clock_settle();
    assert_reported(f, "pausing paused held");
    primary_moved(f->primary, f->world.state = FSM_P_PRE_SWITCHOVER);
    /* For as long as it takes. */
    turned_clock_pass_ms(3600 * 1000);
    assert_reported(f, "");
    g_assert_cmpuint(fake_vm_count(f->vm, FAKE_VM_SAVE), ==, 2);
}

static void test_held(Fixture *f, gconstpointer data)
{
    (void)data;
    GError *error = NULL;
    hold(f);
    /* Nothing has been sent that could have been received. */
    assert_refused(primary_received(f->primary, 3, &error), &error);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_settle();
    assert_reported(f, "decide:3:last content:3");
    taken();
    turned_clock_settle();
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "taken:3 sent release:3 renounce event:committed");
}

/* The VM runs, and the checkpoint that the secondary has prepared itself for comes. */
static void test_held_and_cancelled(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "decide:3 content:3");
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3 resume running-again");
    g_assert_true(vm_is_running(f->vm));
}

static void test_held_and_cut(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    primary_moved(f->primary, f->world.state = FSM_P_PAUSED);
    primary_end_session(f->primary);
    turned_clock_settle();
    assert_reported(f, "ended resume running-again");
    g_assert_true(vm_is_running(f->vm));
}

/* Ordered by another way meanwhile, SIGTERM say: it isn't held any more. */
static void test_hurried(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->delivered = FALSE;
    primary_plan(f->primary);
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_SETTLING);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    f->delivered = TRUE;
    turned_clock_pass_ms(1);
    assert_reported(f, "pausing paused decide:3:last content:3");
}

/*
 * Planned while QEMU refuses to resume the VM after a checkpoint, and ordered for that: the
 * secondary gets that checkpoint, and none can follow.
 */
static void test_not_resumed(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->waits = TRUE;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    taken();
    turned_clock_settle();
    primary_plan(f->primary);
    assert_reported(f, "pausing paused decide:3 content:3 taken:3 resume");
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_settle();
    assert_reported(f, "");
    g_assert_false(f->waits);
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "sent release:3 renounce event:committed");
    /* It is refused: here the VM waits again, and no checkpoint is the last. */
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "resume running-again complete:admin");
}

/* The same of a guest that had been stopped between checkpoints: it has done more than the last one has. */
static void test_not_continued(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->stopped = f->waits = TRUE;
    primary_continue(f->primary);
    assert_reported(f, "resume");
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_settle();
    assert_reported(f, "");
    f->waits = FALSE;
    primary_ran(f->primary, NULL);
    turned_clock_settle();
    assert_reported(f, "running pausing paused decide:3:last content:3");
}

/* At each step of the last checkpoint: it becomes an ordinary one. */
static void test_cancelled(Fixture *f, gconstpointer data)
{
    CyclePhase phase = GPOINTER_TO_UINT(data);
    protect(f);
    f->delivered = phase != CYCLE_SETTLING;
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, phase == CYCLE_PAUSING ? FAKE_VM_HOLD : FAKE_VM_OK, 1);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, phase == CYCLE_SAVING_MARKED ? FAKE_VM_HOLD : FAKE_VM_OK,
                   1);
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_settle();
    if (phase >= CYCLE_PAUSED_SENDING) {
        taken();
        turned_clock_settle();
        if (phase != CYCLE_PAUSED_SENDING)
            sent();
    }
    g_assert_cmpint(primary_phase(f->primary), ==, phase);
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    f->delivered = TRUE;
    turned_clock_pass_ms(1);
    if (fake_vm_is_held(f->vm))
        fake_vm_proceed(f->vm);
    turned_clock_settle();
    if (phase <= CYCLE_COPYING)
        taken();
    turned_clock_settle();
    g_assert_true(vm_is_running(f->vm));
    if (phase <= CYCLE_PAUSED_SENDING)
        sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    turned_clock_settle();
    g_assert_null(strstr(f->reported->str, "event:"));
    /* And the secondary's VM runs again soon. */
    g_assert_nonnull(strstr(f->reported->str, "complete:admin pausing paused decide:4 "));
}

#define ADD(name, test) g_test_add("/primary-plan/" name, Fixture, NULL, set_up, test, tear_down)
#define ADD_PHASE(phase)                                                                           \
    g_test_add("/primary-plan/cancelled/" #phase, Fixture, GUINT_TO_POINTER(CYCLE_##phase),        \
               set_up, test_cancelled, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("goes", test_goes);
    ADD("settles-longer", test_settles_longer);
    ADD("follows-another", test_follows_another);
    ADD("held", test_held);
    ADD("held-and-cancelled", test_held_and_cancelled);
    ADD("held-and-cut", test_held_and_cut);
    ADD("hurried", test_hurried);
    ADD("not-resumed", test_not_resumed);
    ADD("not-continued", test_not_continued);
    ADD_PHASE(SETTLING);
    ADD_PHASE(PAUSING);
    ADD_PHASE(SAVING_MARKED);
    ADD_PHASE(COPYING);
    ADD_PHASE(PAUSED_SENDING);
    ADD_PHASE(PAUSED_SENT);
    return g_test_run();
}
