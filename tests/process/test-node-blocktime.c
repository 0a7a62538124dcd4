/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time that the guest is paused is counted where it is paused: not less than it was. */
#include "common/log.h"
#include "tests/support/host-pair.h"

static gboolean wait_over(gpointer user_data)
{
    *(gboolean *)user_data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Has an operation take 50 ms at least. */
#define HOLD_MS 50

static void wait_for_a_while(void)
{
    gboolean over = FALSE;
    g_timeout_add(HOLD_MS, wait_over, &over);
    WAIT_FOR(over);
}

static void hold_for_a_while(Vm *vm)
{
    WAIT_FOR(fake_vm_is_held(vm));
    wait_for_a_while();
    fake_vm_proceed(vm);
}

static void test_pauses(void)
{
    static const FakeVmOperation operations[] = {FAKE_VM_SAVE, FAKE_VM_RESUME};
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    const Blocktime *blocktime = figures_blocktime(a->node->figures);
    g_assert_cmpint(blocktime->total_us, >, 0); /* of the first synchronisation */
    for (guint i = 0; i < G_N_ELEMENTS(operations); i++) {
        gint64 before = blocktime->total_us;
        fake_vm_inject(a->vm, operations[i], FAKE_VM_HOLD, 1);
        hold_for_a_while(a->vm);
        WAIT_FOR(blocktime->total_us >= before + HOLD_MS * COLO_US_PER_MS);
        g_assert_cmpint(blocktime->longest_us, >=, HOLD_MS * COLO_US_PER_MS);
    }
    g_assert_cmpfloat(blocktime_share(blocktime, colo_time_now()), >=, 0.01);
    /* The copy is nobody's clock. */
    g_assert_cmpint(figures_blocktime(b->node->figures)->total_us, ==, 0);
    tear_down(&f);
}

/* From the checkpoint on that it goes on from, or since it was stopped. */
static void test_takeover(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    FakeVmOperation operation = in_colo_mode() ? FAKE_VM_PAUSE : FAKE_VM_LOAD;
    fake_vm_inject(b->vm, operation, FAKE_VM_HOLD, 1);
    if (in_colo_mode()) {
        WAIT_FOR(fake_vm_is_held(b->vm));
        die(a);
        fake_vm_proceed(b->vm);
        fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    } else {
        die(a);
    }
    hold_for_a_while(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpint(figures_blocktime(b->node->figures)->total_us, >=, HOLD_MS * COLO_US_PER_MS);
    tear_down(&f);
}

/* Paused for a handover that is refused: since then, and not since the last checkpoint. */
static void test_not_handed_over(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Node *a = f.host[0].node;
    Vm *copy = f.host[1].vm;
    fake_vm_inject(copy, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    wait_for_a_while();
    gint64 before = figures_blocktime(a->figures)->total_us;
    ColoTime began = colo_time_now();
    node_event(a, FSM_YIELD);
    WAIT_FOR(a->state == FSM_P_HANDED && fake_vm_is_held(copy));
    fake_vm_raise(copy, VM_EVENT_STOPPED, "internal-error");
    hold_for_a_while(copy);
    WAIT_FOR(a->state == FSM_P_COLO && cycle_is_between_pauses(primary_phase(a->primary)));
    gint64 paused_us = figures_blocktime(a->figures)->total_us - before;
    g_assert_cmpint(paused_us, >=, HOLD_MS * COLO_US_PER_MS);
    g_assert_cmpint(paused_us, <=, colo_time_diff_us(colo_time_now(), began));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-blocktime/pauses", test_pauses);
    add_pair_test("/node-blocktime/takeover", test_takeover);
    add_pair_test_in("colo", "/node-blocktime/not-handed-over", test_not_handed_over);
    return g_test_run();
}
