/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A secondary's VM that stops by itself. That is reported once, and a checkpoint corrects it. While
 * it can't continue it doesn't compete with the primary, which can.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <string.h>

#define TRIALS 10

/* The primary, which is well, keeps the VM, whatever moment the link is cut at. */
static void test_stopped_then_cut(void)
{
    for (int i = 0; i < TRIALS; i++) {
        Fixture f;
        start_quiet_pair(&f);
        Host *a = &f.host[0], *b = &f.host[1];
        /* No checkpoint may come before the cut. */
        a->config->min_gap_ms = 3600 * 1000;
        fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
        g_assert_false(copy_is_valid(b->node->copy));
        cut_link(&f);
        WAIT_FOR(a->node->state == FSM_P_NONE);
        WAIT_FOR(b->node->state == FSM_S_NONE || b->node->state == FSM_S_ACTIVE);
        g_assert_false(a->ended || b->ended);
        g_assert_true(vm_is_running(a->vm));
        tear_down(&f);
    }
}

/*
 * QEMU says that the guest powers off before it has stopped it, and before reads of the disks that
 * are under way have ended: these write to RAM. What is there is told when QEMU has answered.
 */
static void test_powers_off_slowly(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->min_gap_ms = 3600 * 1000;
    fake_vm_raise(b->vm, VM_EVENT_SHUTDOWN, "guest-shutdown");
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    cut_link(&f);
    WAIT_FOR(b->node->state == FSM_S_ACTIVE &&
             (fake_vm_is_held(b->vm) || receiver_is_receiving(b->node->receiver)));
    g_assert_false(receiver_is_receiving(b->node->receiver));
    memset(vm_ram(b->vm)->base, 0x5a, 16 * VM_PAGE_SIZE);
    fake_vm_proceed(b->vm);
    protect(&f, 0);
    g_assert_true(b->vm == machine_vm(b->node->machine) && !b->ended);
    tear_down(&f);
}

/* The same in a session: which pages it has written is told when QEMU has answered. */
static void test_powers_off_slowly_linked(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 before = a->node->epoch;
    fake_vm_raise(b->vm, VM_EVENT_SHUTDOWN, "guest-shutdown");
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm) || a->node->epoch > before);
    g_assert_cmpuint(a->node->epoch, ==, before);
    memset((guint8 *)(guintptr)vm_ram(b->vm)->remote_base, 0x5a, 16 * VM_PAGE_SIZE);
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->epoch > before && pair_is_settled(&f));
    g_assert_cmpuint(a->node->epoch, ==, before + 1);
    g_assert_null(trouble_last(a->node->trouble));
    tear_down(&f);
}

/* QEMU tells a panic twice: the guest's word, then that it has stopped the VM. */
static void test_panic(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node, *b = f.host[1].node;
    guint64 before = a->epoch;
    fake_vm_step(f.host[1].vm, 500);
    fake_vm_raise(f.host[1].vm, VM_EVENT_PANICKED, "pause");
    fake_vm_raise(f.host[1].vm, VM_EVENT_STOPPED, "guest-panicked");
    g_assert_false(copy_is_valid(b->copy));
    WAIT_FOR(a->epoch > before && pair_is_settled(&f));
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_STALLED), ==, 1);
    g_assert_true(copy_is_valid(b->copy));
    g_assert_null(trouble_last(a->trouble));
    g_assert_null(trouble_last(b->trouble));
    tear_down(&f);
}

/* It reboots alone: it runs on, and could take over, until a checkpoint makes it a copy again. */
static void test_reboot(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node, *b = f.host[1].node;
    guint64 before = a->epoch;
    fake_vm_raise(f.host[1].vm, VM_EVENT_RESET, "guest-reset");
    g_assert_true(copy_is_valid(b->copy));
    g_assert_true(vm_is_running(f.host[1].vm));
    WAIT_FOR(a->epoch > before && pair_is_settled(&f));
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_STALLED), ==, 1);
    g_assert_null(trouble_last(a->trouble));
    g_assert_null(trouble_last(b->trouble));
    tear_down(&f);
}

/* A copy that is paused, because the mode has changed: it isn't to run, and nothing is wrong. */
static void test_paused_powers_off(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node, *b = f.host[1].node;
    g_autofree char *session = g_strdup(link_session(a->link));
    f.host[0].config->mode = MODE_BUFFERED;
    for (int i = 0; i < 2; i++) {
        guint64 before = judge_epoch(a->judge).number;
        primary_want(a->primary, REASON_ADMIN);
        WAIT_FOR(judge_epoch(a->judge).number > before && primary_phase(a->primary) == CYCLE_IDLE);
        g_assert_cmpint(judge_peer_vm(a->judge), ==, PEER_VM_PAUSED);
        WAIT_FOR(copy_condition(b->copy) == COPY_STANDBY && copy_job(b->copy) == COPY_NOTHING);
        fake_vm_raise(f.host[1].vm, i ? VM_EVENT_SHUTDOWN : VM_EVENT_RESET, "guest");
    }
    guint64 before = judge_epoch(a->judge).number;
    primary_want(a->primary, REASON_ADMIN);
    WAIT_FOR(judge_epoch(a->judge).number > before || a->state != FSM_P_COLO);
    g_assert_cmpstr(link_session(a->link), ==, session);
    g_assert_null(trouble_last(a->trouble));
    tear_down(&f);
}

/* Nothing is left to take over from: certainly not RAM that is no checkpoint's. */
static void test_panic_and_death(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *b = &f.host[1];
    fake_vm_step(b->vm, 500);
    fake_vm_raise(b->vm, VM_EVENT_PANICKED, "pause");
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "guest-panicked");
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_S_NONE);
    g_assert_false(b->ended);
    tear_down(&f);
}

/* QEMU stops it between the order to run and its answer. */
static void test_stopped_while_resuming(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node;
    fake_vm_inject(f.host[1].vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    primary_want(a->primary, REASON_ADMIN);
    WAIT_FOR(fake_vm_is_held(f.host[1].vm));
    guint64 before = a->epoch;
    fake_vm_raise(f.host[1].vm, VM_EVENT_STOPPED, "io-error");
    fake_vm_proceed(f.host[1].vm);
    WAIT_FOR(a->epoch > before && pair_is_settled(&f));
    g_assert_null(trouble_last(a->trouble));
    tear_down(&f);
}

/* An I/O error of the copy's overlay takes nothing from it: it may be the only one. */
static void test_io_error_and_death(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *b = &f.host[1];
    f.host[0].config->min_gap_ms = 3600 * 1000; /* no checkpoint comes before the death */
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "io-error");
    guint64 steps = fake_vm_steps(b->vm);
    WAIT_FOR(judge_peer_vm(f.host[0].node->judge) == PEER_VM_STALLED);
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_cmpuint(fake_vm_steps(b->vm), >=, steps);
    tear_down(&f);
}

/* After an I/O error it is powered off, too: the primary has one thing to do, and is told once. */
static void test_io_error_and_power_off(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node;
    guint64 before = a->epoch;
    g_autofree char *session = g_strdup(link_session(a->link));
    f.host[0].config->min_gap_ms = 3600 * 1000; /* no checkpoint comes in between */
    fake_vm_raise(f.host[1].vm, VM_EVENT_STOPPED, "io-error");
    WAIT_FOR(judge_peer_vm(a->judge) == PEER_VM_STALLED);
    fake_vm_raise(f.host[1].vm, VM_EVENT_SHUTDOWN, "guest-shutdown");
    g_assert_false(copy_is_valid(f.host[1].node->copy));
    f.host[0].config->min_gap_ms = 1;
    primary_reschedule(a->primary);
    WAIT_FOR(a->epoch > before && pair_is_settled(&f));
    g_assert_cmpstr(link_session(a->link), ==, session);
    g_assert_null(trouble_last(a->trouble));
    tear_down(&f);
}

/* A copy that stops again and again is left alone for a while, each time longer. */
static void test_again_and_again(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node;
    f.host[0].config->checkpoint_period_ms = 20;
    for (int i = 0; i < 3 && !judge_is_pausing(a->judge); i++) {
        WAIT_FOR(judge_is_pausing(a->judge) || pair_is_settled(&f));
        if (!judge_is_pausing(a->judge))
            fake_vm_raise(f.host[1].vm, VM_EVENT_STOPPED, "internal-error");
        WAIT_FOR(judge_is_pausing(a->judge) || judge_peer_vm(a->judge) == PEER_VM_LOADS);
    }
    g_assert_true(judge_is_pausing(a->judge));
    WAIT_FOR(judge_peer_vm(a->judge) == PEER_VM_PAUSED);
    WAIT_FOR(pair_is_settled(&f));
    tear_down(&f);
}

/* What a checkpoint brought is not sent a second time at a takeover: it is known to have left. */
static void test_released_is_known(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *b = f.host[1].node;
    WAIT_FOR(replay_held_left(b->replay));
    primary_want(f.host[0].node->primary, REASON_ADMIN);
    guint64 before = b->epoch;
    WAIT_FOR(b->epoch > before && replay_held_left(b->replay));
    tear_down(&f);
}

/* The VM of a secondary that asks the arbiter goes on where it stopped. */
static void test_stopped_while_asking(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *b = &f.host[1];
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_S_PAUSED || b->node->state == FSM_S_DEVICE);
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "io-error");
    WAIT_FOR(b->node->state == FSM_P_NONE || b->ended);
    g_assert_false(b->ended);
    WAIT_FOR(vm_is_running(b->vm));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_in("colo", "/node-stalls/stopped-then-cut", test_stopped_then_cut);
    add_pair_test_in("colo", "/node-stalls/reboot", test_reboot);
    add_pair_test_in("colo", "/node-stalls/panic", test_panic);
    add_pair_test_in("colo", "/node-stalls/paused-powers-off", test_paused_powers_off);
    add_pair_test_in("colo", "/node-stalls/panic-and-death", test_panic_and_death);
    add_pair_test_in("colo", "/node-stalls/stopped-while-resuming", test_stopped_while_resuming);
    add_pair_test_in("colo", "/node-stalls/io-error-and-death", test_io_error_and_death);
    add_pair_test_in("colo", "/node-stalls/powers-off-slowly", test_powers_off_slowly);
    add_pair_test_in("colo", "/node-stalls/powers-off-slowly-linked",
                     test_powers_off_slowly_linked);
    add_pair_test_in("colo", "/node-stalls/io-error-and-power-off", test_io_error_and_power_off);
    add_pair_test_in("colo", "/node-stalls/again-and-again", test_again_and_again);
    add_pair_test_in("colo", "/node-stalls/released-is-known", test_released_is_known);
    add_pair_test_in("colo", "/node-stalls/stopped-while-asking", test_stopped_while_asking);
    return g_test_run();
}
