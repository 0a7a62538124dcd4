/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks in the last checkpoint before a switchover: a primary alone
 * (tests/support/primary-fixture.h).
 */
#include "block/block.h"
#include "common/log.h"
#include "tests/support/primary-fixture.h"

/* A protected VM with disks, by its last checkpoint. */
static void hand_over(Fixture *f)
{
    f->world.has_disks = TRUE;
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
}

/* The last checkpoint of a VM with disks, until it gives them up. */
static void begin(Fixture *f)
{
    protect(f);
    hand_over(f);
    turned_clock_settle();
    assert_reported(f, "sync:3");
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    /* Not before the device state is saved: what QEMU writes then is part of the epoch. */
    assert_reported(f, "pausing paused decide:3:last give-up:3");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_GIVING_UP);
}

static void fail(Fixture *f)
{
    g_autoptr(GError) error = g_error_new(BLOCK_ERROR, BLOCK_ERROR_DISK, "disk vda: no room");
    primary_given_up(f->primary, error);
}

/* RAM isn't copied before they are: then nothing of the VM changes any more. */
static void test_given_up(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
    primary_given_up(f->primary, NULL);
    assert_reported(f, "content:3");
    taken();
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "taken:3 sent release:3 renounce event:committed");
    g_assert_false(vm_is_running(f->vm));
}

/* The disks get their own time, and what hangs is named. */
static void test_slow(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    turned_clock_pass_ms(29000);
    assert_reported(f, "");
    primary_given_up(f->primary, NULL);
    turned_clock_pass_ms(9000);
    assert_reported(f, "content:3");
    taken();
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "taken:3 sent release:3 renounce event:committed");
    g_assert_null(f->late);
}

static void test_hangs(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    turned_clock_pass_ms(29900);
    assert_reported(f, "");
    turned_clock_pass_ms(200);
    assert_reported(f, "event:hand-over-failed trouble");
    g_assert_cmpstr(f->late, ==, "not done after 30.0 s: the images hang: vda");
}

/* QEMU flushes the disks before it saves the device state: that, too, takes as long as they do. */
static void test_save_hangs(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    hand_over(f);
    turned_clock_settle();
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    g_assert_true(fake_vm_is_held(f->vm));
    g_string_truncate(f->reported, 0);
    turned_clock_pass_ms(29900);
    assert_reported(f, "");
    turned_clock_pass_ms(200);
    assert_reported(f, "event:hand-over-failed trouble");
    g_assert_true(g_str_has_prefix(f->late, "not done after 30.0 s: QEMU has not saved"));
    g_assert_true(g_str_has_suffix(f->late, "; the images hang: vda"));
    fake_vm_proceed(f->vm);
}

/* Before the VM stands. */
static void test_sync_hangs(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    hand_over(f);
    turned_clock_pass_ms(29000);
    assert_reported(f, "sync:3");
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:3:last give-up:3");
}

/* What comes after it has all of its own time. */
static void test_sync_is_slow(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    hand_over(f);
    turned_clock_pass_ms(29000);
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    primary_synced(f->primary, NULL);
    turned_clock_pass_ms(29000);
    assert_reported(f, "sync:3 pausing");
    turned_clock_pass_ms(2000);
    assert_reported(f, "event:hand-over-failed trouble");
    g_assert_nonnull(strstr(f->late, "QEMU has not paused the VM"));
}

/* The VM stands while its last checkpoint is sent: an administrator says whether that may be long. */
static void test_sends(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    primary_given_up(f->primary, NULL);
    taken();
    g_string_truncate(f->reported, 0);
    f->config.downtime_limit_ms = 0;
    turned_clock_pass_ms(60000);
    assert_reported(f, "");
    f->config.downtime_limit_ms = 100;
    turned_clock_pass_ms(11000);
    assert_reported(f, "event:hand-over-failed trouble");
    g_assert_nonnull(strstr(f->late, "still on its way"));
}

/* An ordinary checkpoint is what it becomes; the disks' mark may be missing. */
static void test_not_given_up(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    fail(f);
    assert_reported(f, "event:hand-over-failed trouble mark:3");
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    primary_marked(f->primary, NULL);
    assert_reported(f, "content:3");
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3 resume running-again");
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "sent release:3 complete:admin");
    /* It can be tried again. */
    primary_plan(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    primary_hand_over(f->primary);
    turned_clock_settle();
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    g_assert_true(g_str_has_suffix(f->reported->str, "decide:4:last give-up:4"));
}

/* Nobody needs it any more before the storage has answered. The VM runs when it has. */
static void test_cancelled(Fixture *f, gconstpointer given_up)
{
    begin(f);
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "");
    if (given_up) {
        primary_given_up(f->primary, NULL);
    } else {
        fail(f);
        assert_reported(f, "trouble mark:3");
        primary_marked(f->primary, NULL);
    }
    assert_reported(f, "content:3");
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3 resume running-again");
}

/* Nothing else is asked of QEMU before it has answered. */
static void test_cut(Fixture *f, gconstpointer given_up)
{
    begin(f);
    primary_moved(f->primary, f->world.state = FSM_P_PAUSED);
    primary_end_session(f->primary);
    turned_clock_settle();
    assert_reported(f, "ended");
    if (given_up)
        primary_given_up(f->primary, NULL);
    else
        fail(f);
    turned_clock_settle();
    assert_reported(f, "resume running-again");
}

/* It is an ordinary one before the device state is saved: the disks are only marked. */
static void test_cancelled_early(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    hand_over(f);
    turned_clock_settle();
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    g_string_truncate(f->reported, 0);
    fake_vm_proceed(f->vm);
    turned_clock_settle();
    assert_reported(f, "mark:3");
    primary_marked(f->primary, NULL);
    assert_reported(f, "content:3");
}

static void lacks_as(Fixture *f, void (*answered)(Primary *, const GError *))
{
    f->follows = TRUE;
    g_autoptr(GError) error =
        g_error_new(BLOCK_ERROR, BLOCK_ERROR_LACKS, "disk vda: it lacks that");
    answered(f->primary, error);
}

static void lacks(Fixture *f)
{
    lacks_as(f, primary_synced);
}

static void begin_checkpoint(Fixture *f)
{
    protect(f);
    f->world.has_disks = TRUE;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "sync:3");
}

/* The secondary has not been told of it: the VM is handed over by the checkpoint that there is. */
static void test_lacks(Fixture *f, gconstpointer data)
{
    (void)data;
    begin_checkpoint(f);
    lacks(f);
    assert_reported(f, "event:yield trouble");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    g_assert_cmpuint(f->world.epoch, ==, 2);
}

/* It could go on after another checkpoint only. */
static void test_lacks_alone(Fixture *f, gconstpointer stopped)
{
    begin_checkpoint(f);
    if (stopped)
        f->world.is_stopped = TRUE;
    else
        f->world.copy_is_fit = FALSE;
    lacks(f);
    assert_reported(f, "stream-lost");
    end_vm(f);
}

/* Until the pause, in which the disks are to be marked. `saves`: QEMU takes its time to save the device state. */
static void begin_pause(Fixture *f, gboolean saves)
{
    begin_checkpoint(f);
    if (saves)
        fake_vm_inject(f->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:3 mark:3");
}

/* It stands already, and is handed over by the checkpoint before. */
static void test_lacks_in_pause(Fixture *f, gconstpointer data)
{
    (void)data;
    begin_pause(f, FALSE);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_MARKING);
    lacks_as(f, primary_marked);
    assert_reported(f, "event:yield trouble renounce event:committed");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_PAUSED);
    g_assert_cmpuint(f->world.epoch, ==, 2);
    g_assert_false(vm_is_running(f->vm));
    /* It isn't taken there. The VMs have gone apart, and a checkpoint is needed: the same one. */
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "resume running-again sync:3");
}

/* QEMU has not saved the device state: nothing else is asked of it before, and whether it can doesn't matter. */
static void test_lacks_in_save(Fixture *f, gconstpointer refused)
{
    begin_pause(f, TRUE);
    lacks_as(f, primary_marked);
    assert_reported(f, "event:yield trouble");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_SAVING_UNMARKED);
    fake_vm_refuse(f->vm, FAKE_VM_SAVE, refused != NULL);
    fake_vm_proceed(f->vm);
    turned_clock_settle();
    assert_reported(f, "renounce event:committed");
}

static void test_lacks_in_save_and_cut(Fixture *f, gconstpointer data)
{
    (void)data;
    begin_pause(f, TRUE);
    lacks_as(f, primary_marked);
    primary_moved(f->primary, f->world.state = FSM_P_PAUSED);
    primary_end_session(f->primary);
    primary_resume(f->primary);
    fake_vm_proceed(f->vm);
    turned_clock_settle();
    assert_reported(f, "event:yield trouble ended resume running-again");
}

/* The checkpoint would have told the secondary that the guest is stopped. */
static void test_lacks_untold(Fixture *f, gconstpointer data)
{
    (void)data;
    begin_checkpoint(f);
    f->world.is_stopped = TRUE;
    primary_synced(f->primary, NULL);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:3 mark:3");
    lacks_as(f, primary_marked);
    assert_reported(f, "stream-lost");
    end_vm(f);
}

/* The last one, which has become an ordinary one. */
static void test_lacks_at_last(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f);
    f->follows = TRUE;
    fail(f);
    assert_reported(f, "event:hand-over-failed trouble mark:3");
    lacks_as(f, primary_marked);
    assert_reported(f, "event:yield trouble renounce event:committed");
}

/* A planned one is told that it has failed. */
static void test_lacks_planned(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    hand_over(f);
    turned_clock_settle();
    assert_reported(f, "sync:3");
    lacks(f);
    g_assert_cmpstr(f->late, ==, "disk vda: it lacks that");
    assert_reported(f, "event:hand-over-failed event:yield trouble");
}

/* A QEMU that is gone or hangs can't be resumed either. */
static void test_dies(Fixture *f, gconstpointer code)
{
    g_autoptr(GError) error = g_error_new(VM_ERROR, GPOINTER_TO_INT(code), "a trial");
    begin(f);
    primary_given_up(f->primary, error);
    assert_reported(f, "lost");
    end_vm(f);
}

#define ADD(name, data, test)                                                                      \
    g_test_add("/primary-gives-up/" name, Fixture, GINT_TO_POINTER(data), set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("slow", 0, test_slow);
    ADD("disks-hang", 0, test_hangs);
    ADD("sync-hangs", 0, test_sync_hangs);
    ADD("sync-is-slow", 0, test_sync_is_slow);
    ADD("save-hangs", 0, test_save_hangs);
    ADD("sends", 0, test_sends);
    ADD("given-up", 0, test_given_up);
    ADD("not-given-up", 0, test_not_given_up);
    ADD("cancelled/given-up", TRUE, test_cancelled);
    ADD("cancelled/refused", FALSE, test_cancelled);
    ADD("cancelled-early", 0, test_cancelled_early);
    ADD("cut/given-up", TRUE, test_cut);
    ADD("cut/refused", FALSE, test_cut);
    ADD("lacks", 0, test_lacks);
    ADD("lacks-alone/unfit", FALSE, test_lacks_alone);
    ADD("lacks-alone/stopped", TRUE, test_lacks_alone);
    ADD("lacks-in-pause", 0, test_lacks_in_pause);
    ADD("lacks-in-save/saved", FALSE, test_lacks_in_save);
    ADD("lacks-in-save/refused", TRUE, test_lacks_in_save);
    ADD("lacks-in-save/cut", 0, test_lacks_in_save_and_cut);
    ADD("lacks-untold", 0, test_lacks_untold);
    ADD("lacks-at-last", 0, test_lacks_at_last);
    ADD("lacks-planned", 0, test_lacks_planned);
    ADD("dies", VM_ERROR_DIED, test_dies);
    ADD("hangs", VM_ERROR_TIMEOUT, test_dies);
    return g_test_run();
}
