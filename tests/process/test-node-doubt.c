/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link is lost, and a side doesn't know who continues, or that it is the other. Until somebody
 * runs the VM, neither throws away what it could continue from. Each side has a way of its own to
 * the arbiter's storage, which can be away.
 */
#include "common/log.h"
#include "tests/support/hold.h"
#include "tests/support/host-pair.h"

/* As storage has it if the asker's answer was lost. */
static void decide(Fixture *fixture, const char *winner)
{
    g_autoptr(GError) error = NULL;
    const Node *node = fixture->host[0].node;
    g_autofree char *path =
        g_strdup_printf("%s/%s.%s", fixture->dir, node->config->vm->uuid, link_session(node->link));
    g_autofree char *text = g_strdup_printf(
        "colo decision 1\ngranted-to %s\nepoch 1\nat 2026-01-01T00:00:00Z\n", winner);
    g_file_set_contents(path, text, -1, &error);
    g_assert_no_error(error);
}

/* Both are told "unknown", and the secondary has won. It learns so from the primary. */
static void test_secondary_has_won(void)
{
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    set_storage(a, FALSE);
    set_storage(b, FALSE);
    decide(&fixture, "beta");
    cut_link(&fixture);
    WAIT_FOR(a->node->state == FSM_P_RECOVER && b->node->state == FSM_S_RECOVER);
    g_assert_nonnull(copy_checkpoint(b->node->copy));
    set_storage(a, TRUE);
    WAIT_FOR(figures_takeovers(b->node->figures) == 1 && b->node->state == FSM_P_NONE);
    set_storage(b, TRUE);
    protect(&fixture, 1);
    g_assert_false(a->ended || b->ended);
    tear_down(&fixture);
}

/* The primary has won and is told "unknown": the secondary is denied, and keeps what it has. */
static void test_primary_has_won(void)
{
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    set_storage(a, FALSE);
    decide(&fixture, "alpha");
    cut_link(&fixture);
    WAIT_FOR(a->node->state == FSM_P_RECOVER && b->node->state == FSM_S_RECOVER);
    g_assert_cmpstr(claim_last_answer(b->node->claim), ==, "denied");
    g_assert_nonnull(copy_checkpoint(b->node->copy));
    g_assert_cmpint(traffic_route(a->node->traffic), !=, ROUTE_OPEN);
    set_storage(a, TRUE);
    protect(&fixture, 0);
    g_assert_false(a->ended || b->ended);
    tear_down(&fixture);
}

/* The secondary has won and dies before it knows: the primary's VM is all there is. */
static void test_denied_keeps_its_vm(void)
{
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    set_storage(b, FALSE);
    decide(&fixture, "beta");
    cut_link(&fixture);
    WAIT_FOR(a->node->state == FSM_P_FROZEN && cycle_is_committed(primary_phase(a->node->primary)));
    die(b);
    g_assert_cmpint(a->node->state, ==, FSM_P_FROZEN);
    g_assert_nonnull(machine_vm(a->node->machine));
    g_assert_false(vm_is_running(a->vm) || traffic_route(a->node->traffic) == ROUTE_OPEN);
    tear_down(&fixture);
}

/* Then an administrator, who knows that, has it go on; who won finds out when it starts again. */
static void test_denied_is_overruled(gconstpointer data)
{
    gboolean storage_is_there = GPOINTER_TO_INT(data);
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    const Vm *old = a->vm;
    set_storage(b, FALSE);
    decide(&fixture, "beta");
    cut_link(&fixture);
    WAIT_FOR(a->node->state == FSM_P_FROZEN && cycle_is_committed(primary_phase(a->node->primary)));
    die(b);
    set_storage(a, storage_is_there);
    claim_overrule(a->node->claim);
    claim_overrule(a->node->claim); /* typed twice */
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm) &&
             traffic_route(a->node->traffic) == ROUTE_OPEN);
    g_assert_true(a->vm == old);
    set_storage(a, TRUE);
    set_storage(b, TRUE);
    WAIT_FOR(storage_is_there || claim_is_recorded(a->node->claim));
    start(b, "auto");
    protect(&fixture, 0);
    g_assert_true(a->vm == old);
    tear_down(&fixture);
}

/* The primary is denied: its VM is paused as long as the secondary's doesn't run. */
static void test_frozen_until_seen(void)
{
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    const Vm *old = a->vm;
    set_storage(a, FALSE);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm));
    cut_link(&fixture);
    WAIT_FOR(b->node->state == FSM_S_DEVICE);
    set_storage(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_FROZEN && cycle_is_committed(primary_phase(a->node->primary)));
    g_assert_true(a->vm == old && !vm_is_running(a->vm));
    fake_vm_proceed(b->vm);
    protect(&fixture, 1);
    tear_down(&fixture);
}

/*
 * A VM was handed over, and the secondary left it to the primary, for the arbiter did not answer. It did
 * later, by a yes to the secondary. Long after, that is ended (data: or its QEMU dies): the primary goes on.
 */
static void test_ends_with_a_late_yes(gconstpointer data)
{
    static Hold storage;
    Fixture fixture;
    start_split_pair(&fixture);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    const Vm *old = a->vm;
    arbiter_set_limit_ms(claim_arbiter(b->node->claim), 100);
    hold_attach(&storage, claim_arbiter(b->node->claim));
    hold(&storage, HOLD_AFTER);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(a->node->state == FSM_P_COLO && primary_is_doubted(a->node->primary));
    arbiter_set_limit_ms(claim_arbiter(b->node->claim), 5000);
    hold_end(&storage);
    protect(&fixture, 0);
    if (data)
        fake_vm_die(b->vm);
    else
        node_shut_down(b->node);
    WAIT_FOR(b->ended);
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    g_assert_true(a->vm == old);
    die(b);
    start(b, "secondary");
    protect(&fixture, 0);
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-doubt/secondary-has-won", test_secondary_has_won);
    add_pair_test("/node-doubt/primary-has-won", test_primary_has_won);
    add_pair_test("/node-doubt/denied-keeps-its-vm", test_denied_keeps_its_vm);
    add_pair_data_test("/node-doubt/denied-is-overruled/stored", GINT_TO_POINTER(TRUE),
                       test_denied_is_overruled);
    add_pair_data_test("/node-doubt/denied-is-overruled/storage-is-away", GINT_TO_POINTER(FALSE),
                       test_denied_is_overruled);
    add_pair_test("/node-doubt/frozen-until-seen", test_frozen_until_seen);
    add_pair_data_test("/node-doubt/ends-with-a-late-yes", NULL, test_ends_with_a_late_yes);
    add_pair_data_test("/node-doubt/dies-with-a-late-yes", "dies", test_ends_with_a_late_yes);
    return g_test_run();
}
