/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SIGTERM: a protected VM goes on on the other host; any other end is one for the VM, too. */
#include "common/log.h"
#include "tests/support/switchover-pair.h"

static void await_end(Host *host)
{
    WAIT_FOR(host->ended);
    g_assert_no_error(host->error);
}

/* And the host comes back, its service as it was. */
static void test_hands_over(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_leave(a->node);
    await_end(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    g_assert_true(vm_is_running(b->vm));
    die(a);
    start(a, "auto");
    protect(&fixture, 1);
    tear_down(&fixture);
}

static void test_told_to_end(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    a->config->on_sigterm = CONFIG_SIGTERM_END;
    node_leave(a->node);
    await_end(a);
    WAIT_FOR(b->node->state == FSM_S_NONE);
    tear_down(&fixture);
}

static void test_unprotected(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    start(&fixture.host[0], "primary");
    WAIT_FOR(fixture.host[0].node->state == FSM_P_NONE);
    node_leave(fixture.host[0].node);
    await_end(&fixture.host[0]);
    tear_down(&fixture);
}

static void test_secondary(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    node_leave(fixture.host[1].node);
    await_end(&fixture.host[1]);
    WAIT_FOR(fixture.host[0].node->state == FSM_P_NONE);
    tear_down(&fixture);
}

/* The arbiter can't be asked, so the secondary can't take over. */
static void test_refused(void)
{
    Fixture fixture;
    start_split_pair(&fixture);
    set_storage(&fixture.host[1], FALSE);
    node_leave(fixture.host[0].node);
    await_end(&fixture.host[0]);
    g_assert_cmpuint(figures_takeovers(fixture.host[1].node->figures), ==, 0);
    tear_down(&fixture);
}

/* Who is asked twice waits for nobody. The secondary may have the VM, or not. */
static void test_twice(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    node_leave(a->node);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    node_leave(a->node);
    /* At once, and not when its time is over. */
    for (guint turn = 0; turn < 1000 && !a->ended; turn++)
        g_main_context_iteration(NULL, FALSE);
    g_assert_true(a->ended);
    await_end(a);
    /* It was the secondary's to take. */
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    tear_down(&fixture);
}

/* A switchover waits for an administrator, who cancels it as the host shuts down: the VM goes on. */
static void test_cancelled(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    begin(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    node_leave(a->node);
    WAIT_FOR(a->node->state == FSM_P_DEVICE && fake_vm_is_held(a->vm));
    switchover_cancel(a->node->switchover);
    fake_vm_proceed(a->vm);
    await_end(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    g_assert_false(b->ended);
    tear_down(&fixture);
}

/* The secondary ends meanwhile, as when both hosts are shut down. */
static void test_both(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    node_leave(fixture.host[0].node);
    node_leave(fixture.host[1].node);
    await_end(&fixture.host[0]);
    await_end(&fixture.host[1]);
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-leave/hands-over", test_hands_over);
    add_pair_test("/node-leave/told-to-end", test_told_to_end);
    add_pair_test("/node-leave/unprotected", test_unprotected);
    add_pair_test("/node-leave/secondary", test_secondary);
    add_pair_test("/node-leave/refused", test_refused);
    add_pair_test("/node-leave/twice", test_twice);
    add_pair_test("/node-leave/cancelled", test_cancelled);
    add_pair_test("/node-leave/both", test_both);
    return g_test_run();
}
