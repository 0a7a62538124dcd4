/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `cancel` while something hangs: the primary's disks, the secondary's whole host, or the arbiter's
 * storage. It is answered while that lasts, and nothing that hangs keeps a VM from running that
 * doesn't need it.
 */
#include "tests/support/control-peer.h"
#include "tests/support/hold.h"
#include "tests/support/host-child.h"
#include "tests/support/switchover-pair.h"

#include "common/log.h"

#include <string.h>

/* Longer than a test takes. */
#define PATIENT_MS (10 * 60 * 1000)

/* As an administrator: on a connection of its own, and twice. */
static void cancel(const Host *host)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *answer =
            control_peer_ask(host->config->control_socket, "{\"execute\":\"cancel\"}");
        g_assert_cmpstr(answer, ==, "{\"return\":{}}");
    }
}

/* ---- The primary's disks ---- */

static void start_with_disks(Fixture *f)
{
    set_up(f, "file");
    set_up_disks(f, 2, VM_DISK_QCOW2);
    for (int i = 0; i < 2; i++)
        host_set(&f->host[i], "switchover", "downtime-limit", "10s");
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    fake_vm_autorun(f->host[0].vm, 1, 1);
}

/* The VM has not been paused yet: it runs on, as if there had been no switchover. */
static void test_sync_hangs(void)
{
    Fixture f;
    start_with_disks(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->checkpoint_period_ms = a->config->min_gap_ms = PATIENT_MS;
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_IDLE);
    fake_disks_hang(a->disks, "", TRUE);
    begin(a, FALSE);
    WAIT_FOR(fake_disks_is_hanging(a->disks) && primary_phase(a->node->primary) == CYCLE_SYNCING);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_STOPPING);
    cancel(a);
    g_assert_true(fake_disks_is_hanging(a->disks));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLED);
    g_assert_true(vm_is_running(a->vm));
    guint64 steps = fake_vm_steps(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) > steps + 20);
    g_assert_true(fake_disks_is_hanging(a->disks));
    fake_disks_hang(a->disks, "", FALSE);
    WAIT_FOR(phase_of(b) == SWITCHOVER_CANCELLED);
    await_way_back(&f, steps);
    tear_down(&f);
}

/* They are being given up: the VM runs when they are this side's again, and not before. */
static void test_giving_up_hangs(void)
{
    Fixture f;
    start_with_disks(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    begin(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    guint64 stop = fake_vm_steps(a->vm);
    fake_disks_hang(a->disks, "", TRUE);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(fake_disks_is_hanging(a->disks) && primary_phase(a->node->primary) == CYCLE_GIVING_UP);
    g_assert_false(disks_are_active(a->node->disks));
    cancel(a);
    g_assert_true(fake_disks_is_hanging(a->disks));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLING);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    fake_disks_hang(a->disks, "", FALSE);
    WAIT_FOR(vm_is_running(a->vm));
    g_assert_true(disks_are_active(a->node->disks));
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && phase_of(b) == SWITCHOVER_CANCELLED);
    await_way_back(&f, stop);
    tear_down(&f);
}

/* ---- The secondary's host ---- */

/* Beta is a process of its own, which alpha doesn't give up for as long as it is stopped. */
static void start_beside(Fixture *f, HostChild *beta)
{
    Host *a = &f->host[0];
    set_up(f, "file");
    a->config->heartbeat_timeout_ms = PATIENT_MS;
    host_set(a, "switchover", "downtime-limit", "10s");
    start(a, "primary");
    host_child_start(beta, f, "b");
    WAIT_FOR(a->node->state == FSM_P_COLO);
    fake_vm_autorun(a->vm, 1, 1);
}

static gboolean is_protected(const Host *a, HostChild *beta, guint64 epoch)
{
    HostReport report = host_child_ask(beta, "beta");
    return a->node->state == FSM_P_COLO && report.state == FSM_S_COLO && report.epoch > epoch;
}

/* In one phase (data) or another: it is over, and the VM runs, before the secondary has said a word. */
static void test_peer_stopped(gconstpointer data)
{
    SwitchoverPhase phase = (SwitchoverPhase)GPOINTER_TO_INT(data);
    Fixture f;
    HostChild beta = {0};
    start_beside(&f, &beta);
    const Host *a = &f.host[0];
    if (phase != SWITCHOVER_SETUP) {
        begin(a, TRUE);
        WAIT_FOR(phase_of(a) == SWITCHOVER_PRE);
    }
    host_child_stop(&beta);
    if (phase == SWITCHOVER_SETUP)
        begin(a, TRUE);
    if (phase == SWITCHOVER_DEVICE) {
        g_assert_true(go_on(a, NULL, NULL));
        WAIT_FOR(primary_phase(a->node->primary) == CYCLE_PAUSED_SENT);
    }
    g_assert_cmpint(phase_of(a), ==, phase);
    guint64 steps = fake_vm_steps(a->vm), epoch = a->node->epoch;
    cancel(a);
    g_assert_cmpint(phase_of(a), !=, phase);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && fake_vm_steps(a->vm) > steps + 20);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    host_child_continue(&beta);
    WAIT_FOR(is_protected(a, &beta, epoch + 1));
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    host_child_kill(&beta);
    tear_down(&f);
}

/* ---- The arbiter's storage ---- */

static Hold storage;

static void hang_arbiter(Fixture *f)
{
    for (int i = 0; i < 2; i++)
        hold_attach(&storage, claim_arbiter(f->host[i].node->claim));
    hold(&storage, HOLD_BEFORE);
}

static void test_arbiter_hangs_held(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    hang_arbiter(&f);
    WAIT_FOR(hold_waiting(&storage) > 0);
    cancel(a);
    g_assert_cmpint(phase_of(a), !=, SWITCHOVER_PRE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && phase_of(b) == SWITCHOVER_CANCELLED);
    await_way_back(&f, stop);
    hold_end(&storage);
    tear_down(&f);
}

/* The question is open, so it is the secondary's to decide; it is by the limit of the question. */
static void test_arbiter_hangs_handed(gconstpointer there)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    arbiter_set_limit_ms(claim_arbiter(b->node->claim), 1000);
    hang_arbiter(&f);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_HANDED && claim_doing(b->node->claim) != CLAIM_IDLE);
    cancel(there ? b : a);
    g_assert_cmpint(phase_of(there ? b : a), ==, SWITCHOVER_HANDED_CANCELLING);
    g_assert_cmpint(b->node->state, ==, FSM_S_HANDED);
    g_assert_false(vm_is_running(a->vm));
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED);
    g_assert_cmpuint(hold_waiting(&storage), >, 0);
    await_way_back(&f, stop);
    hold_end(&storage);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    host_child_main(argc, argv);
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-cancel-hangs/disks/sync", test_sync_hangs);
    add_pair_test("/node-cancel-hangs/disks/giving-up", test_giving_up_hangs);
    add_pair_data_test("/node-cancel-hangs/peer/setup", GINT_TO_POINTER(SWITCHOVER_SETUP),
                       test_peer_stopped);
    add_pair_data_test("/node-cancel-hangs/peer/held", GINT_TO_POINTER(SWITCHOVER_PRE),
                       test_peer_stopped);
    add_pair_data_test("/node-cancel-hangs/peer/device", GINT_TO_POINTER(SWITCHOVER_DEVICE),
                       test_peer_stopped);
    add_pair_test("/node-cancel-hangs/arbiter/held", test_arbiter_hangs_held);
    add_pair_data_test("/node-cancel-hangs/arbiter/handed/here", NULL, test_arbiter_hangs_handed);
    add_pair_data_test("/node-cancel-hangs/arbiter/handed/there", "there",
                       test_arbiter_hangs_handed);
    return g_test_run();
}
