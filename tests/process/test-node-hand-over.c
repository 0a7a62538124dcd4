/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hand-over: the primary's VM is paused, and is ended when the secondary is seen to run it. A
 * secondary that can't go on says so, or dies: then the primary's goes on.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

/* A pair whose primary is about to hand over, and whose secondary's VM doesn't answer yet. */
static void start_held(Fixture *fixture)
{
    start_split_pair(fixture);
    if (in_colo_mode())
        quieten(fixture);
    fake_vm_inject(fixture->host[1].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    node_event(fixture->host[0].node, FSM_YIELD);
    WAIT_FOR(fixture->host[0].node->state == FSM_P_HANDED && fake_vm_is_held(fixture->host[1].vm));
    g_assert_true(cycle_is_committed(primary_phase(fixture->host[0].node->primary)));
    g_assert_false(vm_is_running(fixture->host[0].vm));
}

/* It continues where it was paused, alone or protected. */
static gboolean goes_on(const Host *host)
{
    return fsm_is_primary(host->node->state) && !primary_is_to_be_paused(host->node->primary) &&
           vm_is_running(host->vm);
}

static void test_done(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    const Vm *old = a->vm;
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_FROZEN || a->node->state == FSM_S_STARTING);
    g_assert_true(a->vm == old || b->node->state == FSM_P_NONE || b->node->state == FSM_P_SETUP);
    protect(&fixture, 1);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    g_assert_false(a->ended || b->ended);
    tear_down(&fixture);
}

/* And back, and again. */
static void test_to_and_fro(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    for (int round = 0; round < 6; round++) {
        guint64 until = fixture.host[(round + 1) % 2].node->epoch + 2;
        WAIT_FOR(fixture.host[(round + 1) % 2].node->epoch >= until);
        node_event(fixture.host[round % 2].node, FSM_YIELD);
        protect(&fixture, (round + 1) % 2);
    }
    g_assert_false(fixture.host[0].ended || fixture.host[1].ended);
    tear_down(&fixture);
}

/* Its copy had stopped by itself: a checkpoint makes it right first. */
static void test_stalled(void)
{
    Fixture fixture;
    start_quiet_pair(&fixture);
    Node *a = fixture.host[0].node;
    guint64 before = figures_checkpoints_by(a->figures, REASON_STALLED);
    fake_vm_raise(fixture.host[1].vm, VM_EVENT_STOPPED, "io-error");
    WAIT_FOR(judge_peer_vm(a->judge) == PEER_VM_STALLED);
    node_event(a, FSM_YIELD);
    WAIT_FOR(a->state == FSM_P_HANDED);
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_STALLED), >, before);
    protect(&fixture, 1);
    g_assert_cmpuint(figures_takeovers(fixture.host[1].node->figures), ==, 1);
    tear_down(&fixture);
}

/* Checkpoints wait while a copy that is to be handed to is loaded: but not after that has failed. */
static void test_loads_for_ever(void)
{
    Fixture fixture;
    start_quiet_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&fixture);
    WAIT_FOR(judge_peer_vm(a->node->judge) == PEER_VM_LOADS &&
             primary_phase(a->node->primary) == CYCLE_IDLE);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(!primary_is_scheduled(a->node->primary));
    g_assert_cmpint(a->node->state, ==, FSM_P_DEVICE);
    node_event(a->node, FSM_HAND_OVER_FAILED);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    g_assert_true(primary_is_scheduled(a->node->primary));
    WAIT_FOR(fake_vm_is_held(b->vm));
    fake_vm_proceed(b->vm);
    WAIT_FOR(judge_peer_vm(a->node->judge) == PEER_VM_RUNS);
    tear_down(&fixture);
}

/* The copy stops by itself when the primary's VM is paused already. */
static void test_refused(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO);
    g_assert_error(trouble_last(a->node->trouble), NODE_ERROR, NODE_ERROR_REFUSED);
    g_assert_false(primary_is_doubted(a->node->primary));
    WAIT_FOR(goes_on(a) && b->node->state == FSM_S_COLO && copy_is_valid(b->node->copy));
    node_event(a->node, FSM_YIELD);
    protect(&fixture, 1);
    tear_down(&fixture);
}

/* Without the arbiter nobody may take over: but the pair goes on. */
static void test_arbiter_away(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    set_storage(b, FALSE);
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && primary_is_doubted(a->node->primary));
    WAIT_FOR(goes_on(a));
    guint64 before = b->node->epoch;
    ask_for_checkpoint(&fixture);
    WAIT_FOR(b->node->epoch > before);
    /* It may have the arbiter's yes: what it says when it ends is not enough to go on. */
    guint question = claim_questions(a->node->claim);
    node_shut_down(b->node);
    WAIT_FOR(claim_questions(a->node->claim) > question);
    WAIT_FOR(a->node->state == FSM_P_NONE && goes_on(a));
    tear_down(&fixture);
}

static void test_secondary_dies(void)
{
    Fixture fixture;
    start_held(&fixture);
    die(&fixture.host[1]);
    WAIT_FOR(fixture.host[0].node->state == FSM_P_NONE && goes_on(&fixture.host[0]));
    tear_down(&fixture);
}

static void test_secondary_vm_dies(void)
{
    Fixture fixture;
    start_held(&fixture);
    fake_vm_die(fixture.host[1].vm);
    WAIT_FOR(fixture.host[0].node->state == FSM_P_NONE && goes_on(&fixture.host[0]));
    tear_down(&fixture);
}

static void test_primary_dies(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *b = &fixture.host[1];
    die(&fixture.host[0]);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    tear_down(&fixture);
}

/* It hangs: the arbiter has to decide. */
static void test_takes_too_long(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    g_assert_true(primary_is_handing_over(a->node->primary));
    node_event(a->node, FSM_HAND_OVER_FAILED);
    WAIT_FOR(a->node->state == FSM_P_NONE || a->node->state == FSM_P_FROZEN);
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state != b->node->state && fsm_is_protected(a->node->state) &&
             fsm_is_protected(b->node->state));
    tear_down(&fixture);
}

/* The primary ends before it knows that the secondary has the VM: it is the secondary's. */
static void test_ends_meanwhile(void)
{
    Fixture fixture;
    start_held(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_shut_down(a->node);
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->ended && b->node->state == FSM_P_NONE);
    g_assert_no_error(a->error);
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-hand-over/done", test_done);
    add_pair_test("/node-hand-over/to-and-fro", test_to_and_fro);
    add_pair_test_in("colo", "/node-hand-over/stalled", test_stalled);
    add_pair_test_in("colo", "/node-hand-over/loads-for-ever", test_loads_for_ever);
    add_pair_test_in("colo", "/node-hand-over/refused", test_refused);
    add_pair_test("/node-hand-over/arbiter-away", test_arbiter_away);
    add_pair_test("/node-hand-over/secondary-dies", test_secondary_dies);
    add_pair_test("/node-hand-over/secondary-vm-dies", test_secondary_vm_dies);
    add_pair_test("/node-hand-over/primary-dies", test_primary_dies);
    add_pair_test("/node-hand-over/takes-too-long", test_takes_too_long);
    add_pair_test("/node-hand-over/ends-meanwhile", test_ends_meanwhile);
    return g_test_run();
}
