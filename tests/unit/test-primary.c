/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary alone: the cycle and its end at each phase, the proof, the schedule, and pauses. */
#include "common/log.h"
#include "tests/support/primary-fixture.h"

/* ---- The cycle ---- */

/* All its steps, of a VM with disks and a copy that runs: each waits for the one before. */
static void test_cycle(Fixture *f, gconstpointer data)
{
    MessageRun run = {.first = 3, .count = 2};
    GError *error = NULL;
    (void)data;
    protect(f);
    f->world.has_disks = f->compares = TRUE;
    f->world.peer_vm = PEER_VM_RUNS;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "sync:3");
    primary_synced(f->primary, NULL);
    assert_reported(f, "prepare:3");
    MessageDirty dirty = {.epoch = 3, .follow = 1, .runs = &run, .n_runs = 1};
    g_assert_true(primary_dirty(f->primary, &dirty, NULL));
    dirty.follow = 0;
    f->delivered = FALSE;
    g_assert_true(primary_dirty(f->primary, &dirty, NULL));
    g_assert_cmpuint(capture->added, ==, 4);
    turned_clock_pass_ms(4);
    assert_reported(f, "");
    f->delivered = TRUE;
    turned_clock_pass_ms(1);
    assert_reported(f, "pausing paused decide:3 mark:3");
    primary_marked(f->primary, NULL);
    assert_reported(f, "content:3");
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3 resume running-again");
    assert_refused(primary_received(f->primary, 2, &error), &error);
    g_assert_true(primary_received(f->primary, 3, NULL));
    assert_reported(f, "release:3");
    assert_refused(primary_received(f->primary, 3, &error), &error);
    sent();
    assert_reported(f, "sent complete:admin");
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
}

/* QEMU that reads nothing is paused all the same: input may not wait for it. */
static void test_settles_at_last(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->delivered = FALSE;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_pass_ms(4);
    assert_reported(f, "");
    turned_clock_pass_ms(2);
    g_assert_true(g_str_has_prefix(f->reported->str, "pausing paused"));
}

/* What ends the cycle can't take back a timer that is due in the same turn of the main loop. */
static void test_late_settle_timer(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->delivered = FALSE;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_SETTLING);
    g_source_set_ready_time(f->interrupt, turned_clock_us + 1000);
    turned_clock_us += 1000;
    turned_clock_settle();
    assert_reported(f, "ended running");
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    turned_clock_pass_ms(10);
    assert_reported(f, "");
}

/* ---- Cancelled ---- */

/* Wherever the session ends: the VM runs, which was not lost, and nothing of the checkpoint goes on. */
static void test_cancelled(Fixture *f, gconstpointer phase)
{
    advance(f, (CyclePhase)GPOINTER_TO_INT(phase));
    primary_end_session(f->primary);
    f->world.state = FSM_P_NONE;
    for (int i = 0; i < 3; i++) {
        if (fake_vm_is_held(f->vm))
            proceed(f);
        turned_clock_pass_ms(10);
    }
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    g_assert_true(vm_is_running(f->vm));
    g_assert_true(g_str_has_prefix(f->reported->str, "ended"));
    for (const char *const *not =
             (const char *[]){"lost", "content", "taken", "release", "complete", NULL};
         *not ; not ++)
        g_assert_null(strstr(f->reported->str, *not ));
    g_assert_nonnull(strstr(f->reported->str, "running"));
    /* And a new one can begin. */
    g_string_truncate(f->reported, 0);
    f->world.has_disks = FALSE;
    f->world.peer_vm = PEER_VM_PAUSED;
    f->delivered = TRUE;
    for (FakeVmOperation operation = 0; operation < FAKE_VM_OPERATIONS; operation++)
        fake_vm_inject(f->vm, operation, FAKE_VM_OK, 1);
    join(f);
    complete(f);
    g_assert_nonnull(strstr(f->reported->str, "complete:initial"));
}

/* The VM may end at any time: nothing of the cycle is left, and no timer is. */
static void test_forgotten(Fixture *f, gconstpointer phase)
{
    advance(f, (CyclePhase)GPOINTER_TO_INT(phase));
    end_vm(f);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    g_assert_false(primary_is_to_be_paused(f->primary));
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
}

/* ---- What QEMU refuses ---- */

/* A refusal may pass, and the VM is well: it is not given up, the session is. */
static void test_save_refused(Fixture *f, gconstpointer state)
{
    if (GPOINTER_TO_INT(state) == FSM_P_ACTIVE)
        join(f);
    else
        protect(f);
    f->world.state = (FsmState)GPOINTER_TO_INT(state);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, FAKE_VM_FAIL, 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    g_assert_true(g_str_has_prefix(f->reported->str, "pausing paused decide:"));
    g_assert_true(g_str_has_suffix(f->reported->str, " link-lost ended resume running-again"));
    g_assert_true(vm_is_running(f->vm));
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
}

/* Likewise of a pause. */
static void test_pause_refused(Fixture *f, gconstpointer state)
{
    if (GPOINTER_TO_INT(state) == FSM_P_ACTIVE)
        join(f);
    else
        protect(f);
    f->world.state = (FsmState)GPOINTER_TO_INT(state);
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_FAIL, 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "pausing link-lost ended paused resume running-again");
    g_assert_true(vm_is_running(f->vm));
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
}

static void test_pause_fails(Fixture *f, gconstpointer fault)
{
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, (FakeVmFault)GPOINTER_TO_INT(fault), 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "pausing lost");
}

/* A QEMU that is dead or hangs is the VM's end. */
static void test_save_fails(Fixture *f, gconstpointer fault)
{
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, (FakeVmFault)GPOINTER_TO_INT(fault), 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:3 lost");
}

/* Nobody needs what QEMU then refuses. */
static void test_refused_in_vain(Fixture *f, gconstpointer data)
{
    FakeVmOperation operation = (FakeVmOperation)GPOINTER_TO_INT(data);
    advance(f, operation == FAKE_VM_PAUSE ? CYCLE_PAUSING : CYCLE_SAVING);
    primary_end_session(f->primary);
    fake_vm_refuse(f->vm, operation, TRUE);
    proceed(f);
    proceed(f);
    g_assert_true(vm_is_running(f->vm));
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    g_assert_null(strstr(f->reported->str, "lost"));
}

/* An I/O error has stopped the guest: no checkpoint resumes it. */
static void test_io_stopped(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->kept_stopped = TRUE;
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    g_string_truncate(f->reported, 0);
    taken();
    turned_clock_settle();
    assert_reported(f, "taken:3 left-stopped running-again");
    f->stopped = TRUE;
    primary_continue(f->primary);
    assert_reported(f, ""); /* a checkpoint is under way */
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    turned_clock_settle();
    assert_reported(f, "sent release:3 complete:admin resume running");
}

/* ---- The schedule ---- */

/* What changes a fact may be in the middle of something: the cycle begins from the main loop. */
static void test_from_the_main_loop(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->config.min_gap_ms = 1;
    turned_clock_pass_ms(2);
    f->world.output_waits = TRUE;
    primary_reschedule(f->primary);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    primary_want(f->primary, REASON_ADMIN);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    assert_reported(f, "");
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), !=, CYCLE_IDLE);
}

/* The capture tells when the limit is reached. Nobody looks meanwhile. */
static void test_dirty_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.checkpoint_period_ms = 3600 * 1000;
    f->config.min_gap_ms = 1;
    f->config.dirty_limit_pages = 5;
    protect(f);
    g_assert_cmpuint(capture->dirty_limit, ==, 5);
    turned_clock_pass_ms(2);
    capture->dirty = 5;
    turned_clock_pass_ms(1000);
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_IDLE);
    capture->callbacks.dirty_limit(capture->user_data);
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), !=, CYCLE_IDLE);
    assert_reported(f, "pausing paused decide:3 content:3");
}

/* A limit that is lowered below what is dirty counts at once. */
static void test_dirty_limit_is_lowered(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.checkpoint_period_ms = 3600 * 1000;
    f->config.min_gap_ms = 1;
    f->config.dirty_limit_pages = 0;
    protect(f);
    turned_clock_pass_ms(2);
    capture->dirty = 5;
    f->config.dirty_limit_pages = 4;
    f->config.ram_sync_bytes_per_s = 7;
    f->config.compress = CONFIG_COMPRESS_ZSTD;
    g_assert_cmpint(capture->packing, ==, CAPTURE_PACK_AUTO);
    g_assert_cmpuint(capture->sync_rate, ==, 0);
    primary_tune(f->primary);
    g_assert_cmpuint(capture->sync_rate, ==, 7);
    g_assert_cmpint(capture->packing, ==, CAPTURE_PACK_ZSTD);
    g_assert_cmpuint(capture->dirty_limit, ==, 4);
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), !=, CYCLE_IDLE);
}

/* A secondary of an older colo gets pages as they are, whatever the option says. */
static void test_may_not_pack(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.compress = CONFIG_COMPRESS_LZ4;
    primary_synchronise(f->primary, -1, FALSE);
    assert_reported(f, "began");
    g_assert_cmpint(capture->packing, ==, CAPTURE_PACK_OFF);
    primary_tune(f->primary);
    g_assert_cmpint(capture->packing, ==, CAPTURE_PACK_OFF);
    /* The next one may be another. */
    primary_end_session(f->primary);
    assert_reported(f, "ended");
    primary_synchronise(f->primary, -1, TRUE);
    assert_reported(f, "began");
    g_assert_cmpint(capture->packing, ==, CAPTURE_PACK_LZ4);
}

/* Of all synchronisations, that of a guest that was just loaded spares it. */
static void test_warms_up(Fixture *f, gconstpointer data)
{
    (void)data;
    primary_synchronise(f->primary, -1, TRUE);
    assert_reported(f, "began");
    g_assert_cmpint(colo_time_diff_us(colo_time_now(), capture->start), >=, 0);
    primary_end_session(f->primary);
    assert_reported(f, "ended");
    primary_was_loaded(f->primary);
    turned_clock_pass_ms(10);
    primary_synchronise(f->primary, -1, TRUE);
    assert_reported(f, "began");
    g_assert_cmpint(colo_time_diff_us(capture->start, colo_time_now()), ==, 40 * COLO_US_PER_MS);
}

/* No pause before the session is on record and the disks are in step. */
static void test_first(Fixture *f, gconstpointer data)
{
    (void)data;
    join(f);
    f->world.is_recorded = FALSE;
    turned_clock_pass_ms(10);
    assert_reported(f, "");
    f->world.is_recorded = TRUE;
    f->world.disks_in_step = FALSE;
    primary_reschedule(f->primary);
    turned_clock_pass_ms(10);
    assert_reported(f, "");
    f->world.disks_in_step = TRUE;
    primary_reschedule(f->primary);
    turned_clock_settle();
    assert_reported(f, "pausing paused decide:1 content:1");
}

/*
 * How fast the link is, is seen by what is sent after the copy, and from then until the secondary has it:
 * a socket takes more than a link.
 */
static void test_measured(Fixture *f, gconstpointer data)
{
    (void)data;
    join(f);
    turned_clock_settle();
    capture->ahead_bytes = 1024;
    taken();
    turned_clock_settle();
    sent();
    turned_clock_pass_ms(300);
    g_assert_true(primary_received(f->primary, f->world.epoch, NULL));
    g_assert_nonnull(strstr(f->reported->str, "complete:initial"));
    g_assert_cmpuint(f->completed.plain_bytes, ==, 8192);
    g_assert_cmpuint(f->completed.rest_bytes, ==, 6144);
    g_assert_cmpint(f->completed.rest_us, >=, 300 * 1000);
    g_assert_cmpint(f->completed.rest_us, <, 310 * 1000);
}

/* The last of two loads must name no page: what was named is carried by the next checkpoint. */
static void test_proof(Fixture *f, gconstpointer data)
{
    MessageRun run = {.first = RAM_PAGES - 1, .count = 1}, outside = {.first = 255, .count = 2};
    MessageReady named = {.runs = &run, .n_runs = 1}, none = {.n_runs = 0};
    MessageReady wrong = {.runs = &outside, .n_runs = 1};
    GError *error = NULL;
    (void)data;
    join(f);
    assert_refused(primary_ready(f->primary, &none, &error), &error);
    complete(f);
    assert_refused(primary_ready(f->primary, &wrong, &error), &error);
    g_assert_true(primary_ready(f->primary, &named, NULL));
    g_assert_cmpuint(capture->added, ==, 1);
    complete(f);
    g_assert_true(primary_ready(f->primary, &named, NULL));
    complete(f);
    g_assert_null(strstr(f->reported->str, "proven"));
    g_assert_true(primary_ready(f->primary, &none, NULL));
    g_assert_nonnull(strstr(f->reported->str, "event:proven proven"));
    assert_refused(primary_ready(f->primary, &none, &error), &error);
}

/* ---- The pause without a checkpoint ---- */

static void test_hands_over(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->world.state = FSM_P_DEVICE;
    primary_hand_over(f->primary);
    assert_reported(f, "");
    turned_clock_settle();
    assert_reported(f, "pausing paused renounce event:committed");
    primary_moved(f->primary, f->world.state = FSM_P_HANDED);
    primary_send_handed(f->primary);
    assert_reported(f, "handed:2 mirror");
    MessageRefused refused = {.kind = MESSAGE_REFUSED_ASKED, .why = "a trial"};
    g_assert_true(primary_refused(f->primary, &refused, NULL));
    assert_reported(f, "event:refused trouble");
    g_assert_true(primary_is_doubted(f->primary));
    primary_moved(f->primary, f->world.state = FSM_P_COLO);
    primary_resume(f->primary);
    turned_clock_settle();
    g_assert_true(g_str_has_prefix(f->reported->str, "resume running-again"));
    g_assert_true(primary_is_doubted(f->primary));
    primary_moved(f->primary, f->world.state = FSM_P_NONE);
    g_assert_false(primary_is_doubted(f->primary));
    GError *error = NULL;
    assert_refused(primary_refused(f->primary, &refused, &error), &error);
}

/* A copy that has stalled takes a checkpoint first; one that loads is waited for. */
static void test_waits_for_the_copy(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->world.state = FSM_P_DEVICE;
    f->world.peer_vm = PEER_VM_STALLED;
    f->world.copy_is_fit = FALSE;
    primary_want(f->primary, REASON_ADMIN);
    primary_hand_over(f->primary);
    turned_clock_settle();
    assert_reported(f, "prepare:3");
    g_assert_true(primary_dirty(f->primary, &(MessageDirty){.epoch = 3}, NULL));
    f->world.peer_vm = PEER_VM_LOADS;
    f->world.copy_is_fit = TRUE;
    complete(f);
    g_string_truncate(f->reported, 0);
    turned_clock_pass_ms(10);
    assert_reported(f, "");
    f->world.peer_vm = PEER_VM_RUNS;
    primary_reschedule(f->primary);
    turned_clock_settle();
    assert_reported(f, "pausing paused renounce event:committed");
}

/* Clients don't wait for longer, whatever holds it up. */
static void test_hand_over_ends(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
    f->world.peer_vm = PEER_VM_LOADS;
    primary_hand_over(f->primary);
    turned_clock_pass_ms(9999);
    assert_reported(f, "");
    turned_clock_pass_ms(200);
    assert_reported(f, "event:hand-over-failed trouble");
    primary_hand_over(f->primary);
    primary_moved(f->primary, f->world.state = FSM_P_PAUSED);
    turned_clock_pass_ms(20000);
    assert_reported(f, "");
}

static void test_frozen(Fixture *f, gconstpointer data)
{
    (void)data;
    primary_freeze(f->primary);
    assert_reported(f, "closed");
    turned_clock_settle();
    assert_reported(f, "pausing paused renounce");
    g_assert_false(vm_is_running(f->vm));
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "open resume running-again");
    primary_pause(f->primary);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, ""); /* neither paused nor fenced */
}

/* A primary that stands may be the copy next: QEMU is to have read what it was given by then. */
static void test_frozen_unread(Fixture *f, gconstpointer data)
{
    (void)data;
    f->delivered = FALSE;
    primary_freeze(f->primary);
    turned_clock_pass_ms(50);
    assert_reported(f, "closed");
    g_assert_true(vm_is_running(f->vm));
    f->delivered = TRUE;
    turned_clock_pass_ms(1);
    assert_reported(f, "pausing paused renounce");
    /* It doesn't wait for a QEMU that hangs; nor does it pause when nobody needs it any more. */
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "open resume running-again");
    f->delivered = FALSE;
    primary_freeze(f->primary);
    turned_clock_pass_ms(50);
    primary_resume(f->primary);
    turned_clock_pass_ms(500);
    assert_reported(f, "closed open running");
    primary_freeze(f->primary);
    turned_clock_pass_ms(101);
    assert_reported(f, "closed pausing paused renounce");
    f->delivered = TRUE;
}

/* A pause that is no checkpoint's is tried again, and told once. */
static void test_stop_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    fake_vm_refuse(f->vm, FAKE_VM_PAUSE, TRUE);
    primary_freeze(f->primary);
    turned_clock_settle();
    assert_reported(f, "closed pausing trouble");
    turned_clock_pass_ms(1000);
    assert_reported(f, "pausing");
    fake_vm_refuse(f->vm, FAKE_VM_PAUSE, FALSE);
    turned_clock_pass_ms(1000);
    assert_reported(f, "pausing paused renounce");
    g_assert_false(vm_is_running(f->vm));
    turned_clock_pass_ms(5000);
    primary_resume(f->primary);
    turned_clock_settle();
    assert_reported(f, "open resume running-again");
}

/* Nobody needs it any more before it is tried again. */
static void test_stop_refused_in_vain(Fixture *f, gconstpointer data)
{
    (void)data;
    fake_vm_refuse(f->vm, FAKE_VM_PAUSE, TRUE);
    primary_freeze(f->primary);
    turned_clock_settle();
    assert_reported(f, "closed pausing trouble");
    primary_resume(f->primary);
    turned_clock_pass_ms(1000);
    assert_reported(f, "open paused resume running-again");
    g_assert_true(vm_is_running(f->vm));
    /* The VM is ended while a pause waits to be tried again. */
    primary_freeze(f->primary);
    turned_clock_settle();
    assert_reported(f, "closed pausing trouble");
    primary_forget(f->primary);
    turned_clock_pass_ms(5000);
    assert_reported(f, "");
}

/* A VM that is to be paused, and that QEMU refuses to run, is. */
static void test_stays_paused(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    fake_vm_inject(f->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    taken();
    sent();
    g_assert_true(primary_received(f->primary, 3, NULL));
    g_string_truncate(f->reported, 0);
    f->waits = TRUE;
    primary_stay_paused(f->primary);
    g_assert_true(f->waits); /* it is to run */
    f->world.state = FSM_P_DEVICE;
    primary_hand_over(f->primary);
    assert_reported(f, "renounce event:committed");
    g_assert_false(f->waits);
}

static void test_ends(Fixture *f, gconstpointer data)
{
    (void)data;
    protect(f);
    f->world.ends = TRUE;
    f->world.copy_is_fit = FALSE;
    primary_pause(f->primary);
    turned_clock_settle();
    assert_reported(f, "pausing paused ready-to-end");
}

#define ADD_DATA(name, data, test)                                                                 \
    g_test_add("/primary/" name, Fixture, GINT_TO_POINTER(data), set_up, test, tear_down)
#define ADD(name, test) ADD_DATA(name, 0, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("cycle", test_cycle);
    ADD("settles-at-last", test_settles_at_last);
    ADD("late-settle-timer", test_late_settle_timer);
    add_for_each_phase("/primary/cancelled", test_cancelled);
    add_for_each_phase("/primary/forgotten", test_forgotten);
    ADD_DATA("save-refused/active", FSM_P_ACTIVE, test_save_refused);
    ADD_DATA("save-refused/colo", FSM_P_COLO, test_save_refused);
    ADD_DATA("save-refused/device", FSM_P_DEVICE, test_save_refused);
    ADD_DATA("pause-refused/active", FSM_P_ACTIVE, test_pause_refused);
    ADD_DATA("pause-refused/colo", FSM_P_COLO, test_pause_refused);
    ADD_DATA("pause-refused/device", FSM_P_DEVICE, test_pause_refused);
    ADD_DATA("pause-fails/dies", FAKE_VM_DIE, test_pause_fails);
    ADD_DATA("pause-fails/hangs", FAKE_VM_TIMEOUT, test_pause_fails);
    ADD_DATA("save-fails/dies", FAKE_VM_DIE, test_save_fails);
    ADD_DATA("save-fails/hangs", FAKE_VM_TIMEOUT, test_save_fails);
    ADD_DATA("refused-in-vain/pause", FAKE_VM_PAUSE, test_refused_in_vain);
    ADD_DATA("refused-in-vain/save", FAKE_VM_SAVE, test_refused_in_vain);
    ADD("io-stopped", test_io_stopped);
    ADD("from-the-main-loop", test_from_the_main_loop);
    ADD("dirty-limit", test_dirty_limit);
    ADD("dirty-limit-is-lowered", test_dirty_limit_is_lowered);
    ADD("may-not-pack", test_may_not_pack);
    ADD("warms-up", test_warms_up);
    ADD("first", test_first);
    ADD("measured", test_measured);
    ADD("proof", test_proof);
    ADD("hands-over", test_hands_over);
    ADD("waits-for-the-copy", test_waits_for_the_copy);
    ADD("hand-over-ends", test_hand_over_ends);
    ADD("frozen", test_frozen);
    ADD("frozen-unread", test_frozen_unread);
    ADD("stop-refused", test_stop_refused);
    ADD("stop-refused-in-vain", test_stop_refused_in_vain);
    ADD("stays-paused", test_stays_paused);
    ADD("ends", test_ends);
    return g_test_run();
}
