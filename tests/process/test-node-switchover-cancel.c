/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A planned switchover that is cancelled in each phase, by either node; or cut, or a node dies. */
#include "common/log.h"
#include "tests/support/switchover-pair.h"

#include <string.h>

/* ---- Cancelled ---- */

/* Answered within the call, whatever hangs; and twice is once. */
static void cancel(const Host *host)
{
    switchover_cancel(host->node->switchover);
    SwitchoverPhase phase = phase_of(host);
    switchover_cancel(host->node->switchover);
    g_assert_cmpint(phase_of(host), ==, phase);
}

/* By the primary, or (data) by the secondary: the VM was never paused. */
static void test_cancel_setup(gconstpointer data)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    WAIT_FOR(claim_trouble(b->node->claim) != NULL);
    begin(a, FALSE);
    WAIT_FOR(phase_of(b) == SWITCHOVER_SETUP);
    cancel(data ? b : a);
    if (!data)
        g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLED);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && phase_of(b) == SWITCHOVER_CANCELLED);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    set_storage(b, TRUE);
    WAIT_FOR(claim_trouble(b->node->claim) == NULL);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

static void test_cancel_active(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->downtime_limit_ms = 1;
    for (int i = 0; i < 2000; i++)
        figures_add_applied(a->node->figures, 5000);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_ACTIVE);
    cancel(a);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLED);
    WAIT_FOR(phase_of(b) == SWITCHOVER_CANCELLED);
    WAIT_FOR(vm_is_running(a->vm)); /* else a checkpoint pauses it just now */
    tear_down(&f);
}

static void test_cancel_held(gconstpointer data)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    g_autofree char *session = g_strdup(link_session(a->node->link));
    cancel(data ? b : a);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && phase_of(b) == SWITCHOVER_CANCELLED);
    await_way_back(&f, stop);
    g_assert_cmpstr(link_session(a->node->link), ==, session);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* QEMU hangs in one of its operations, or the secondary does: the answer doesn't wait for it. */
static void test_cancel_device(gconstpointer data)
{
    Fixture f;
    FakeVmOperation hangs = (FakeVmOperation)GPOINTER_TO_INT(data);
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    fake_vm_inject(a->vm, hangs, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    if (hangs == FAKE_VM_SAVE)
        WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_DEVICE);
    cancel(a);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLING);
    WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLING);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    fake_vm_proceed(a->vm);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED && phase_of(b) == SWITCHOVER_CANCELLED);
    await_way_back(&f, stop);
    tear_down(&f);
}

/* It is the secondary's, which has not asked the arbiter: it leaves the VM to the primary. */
static void test_cancel_handed(gconstpointer data)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(b->node->state == FSM_S_HANDED && fake_vm_is_held(b->vm));
    cancel(data ? b : a);
    if (!data)
        g_assert_cmpint(phase_of(a), ==, SWITCHOVER_HANDED_CANCELLING);
    WAIT_FOR(switchover_is_cancelled(b->node->switchover));
    fake_vm_proceed(b->vm);
    WAIT_FOR(phase_of(b) == SWITCHOVER_CANCELLED);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED);
    await_way_back(&f, stop);
    g_assert_false(primary_is_doubted(a->node->primary));
    tear_down(&f);
}

/* It has asked, and has no answer yet: when it has, it gives the VM back. */
static void test_cancel_asked(gconstpointer data)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_HANDED && claim_has_asked_handed(b->node->claim));
    cancel(data ? b : a);
    if (!data)
        /* Its word may come after the answer: then the VM moves. */
        while (b->node->state == FSM_S_HANDED && !switchover_is_cancelled(b->node->switchover))
            g_main_context_iteration(NULL, TRUE);
    if (!switchover_is_cancelled(b->node->switchover)) {
        tear_down(&f);
        return;
    }
    WAIT_FOR(phase_of(b) == SWITCHOVER_CANCELLED && phase_of(a) == SWITCHOVER_CANCELLED);
    WAIT_FOR(vm_is_running(a->vm) && fake_vm_steps(a->vm) > stop);
    protect(&f, 0);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
    tear_down(&f);
}

/* The secondary is back before the VM runs that it has given back: its storage is slow, say. That is no failure. */
static void test_cancel_slow_way_back(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    g_assert_true(go_on(a, NULL, NULL));
    fake_vm_inject(a->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    WAIT_FOR(b->node->state == FSM_S_HANDED && claim_has_asked_handed(b->node->claim));
    cancel(b);
    WAIT_FOR(a->node->state == FSM_P_SETUP || a->node->state == FSM_P_ACTIVE);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLING);
    fake_vm_proceed(a->vm);
    WAIT_FOR(phase_of(a) == SWITCHOVER_CANCELLED);
    protect(&f, 0);
    tear_down(&f);
}

/* It has its answer: the VM moves. */
static void test_cancel_too_late(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING);
    cancel(a);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    cancel(a);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_COMPLETED);
    protect(&f, 1);
    tear_down(&f);
}

/* At random moments, all the time: the VM never stays paused, and the pair protected. */
static void test_cancel_any_time(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    guint cancelled = 0;
    for (guint round = 0; round < 40 && a->node->state == FSM_P_COLO; round++) {
        g_autoptr(GError) error = NULL;
        guint32 id;
        if (!switchover_begin(a->node->switchover, round % 3 == 0, &id, &error))
            continue;
        for (gint turns = g_test_rand_int_range(0, 60); turns > 0; turns--)
            g_main_context_iteration(NULL, TRUE);
        cancel(a);
        WAIT_FOR(!switchover_is_under_way(phase_of(a)));
        cancelled += phase_of(a) == SWITCHOVER_CANCELLED;
    }
    g_assert_cmpuint(cancelled, >, 0);
    WAIT_FOR((a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO) ||
             (b->node->state == FSM_P_COLO && a->node->state == FSM_S_COLO));
    const Host *primary = a->node->state == FSM_P_COLO ? a : b;
    guint64 steps = fake_vm_steps(primary->vm);
    WAIT_FOR(fake_vm_steps(primary->vm) > steps + 100);
    tear_down(&f);
}

/* ---- Cut ---- */

static void start_phase(Fixture *f, SwitchoverPhase phase)
{
    start_held(f);
    Host *a = &f->host[0], *b = &f->host[1];
    if (phase == SWITCHOVER_PRE)
        return;
    if (phase == SWITCHOVER_DEVICE)
        fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    if (phase == SWITCHOVER_DEVICE)
        WAIT_FOR(fake_vm_is_held(a->vm));
    if (phase == SWITCHOVER_DEVICE)
        return;
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(b->node->state == FSM_S_HANDED && fake_vm_is_held(b->vm));
}

/* Exactly one continues, and the other becomes its secondary. */
static void test_cut(gconstpointer data)
{
    SwitchoverPhase phase = (SwitchoverPhase)GPOINTER_TO_INT(data);
    Fixture f;
    start_phase(&f, phase);
    Host *a = &f.host[0], *b = &f.host[1];
    cut_link(&f);
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "link"));
    for (int i = 0; i < 2; i++)
        if (fake_vm_is_held(f.host[i].vm))
            fake_vm_proceed(f.host[i].vm);
    WAIT_FOR((a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO) ||
             (b->node->state == FSM_P_COLO && a->node->state == FSM_S_COLO));
    WAIT_FOR(!switchover_is_under_way(phase_of(b)));
    g_assert_false(a->ended || b->ended);
    tear_down(&f);
}

static void test_secondary_dies(gconstpointer data)
{
    SwitchoverPhase phase = (SwitchoverPhase)GPOINTER_TO_INT(data);
    Fixture f;
    start_phase(&f, phase);
    Host *a = &f.host[0];
    guint64 stop = fake_vm_steps(a->vm);
    die(&f.host[1]);
    if (fake_vm_is_held(a->vm))
        fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_NONE && fake_vm_steps(a->vm) > stop);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
    tear_down(&f);
}

static void test_primary_dies(gconstpointer data)
{
    SwitchoverPhase phase = (SwitchoverPhase)GPOINTER_TO_INT(data);
    Fixture f;
    start_phase(&f, phase);
    Host *b = &f.host[1];
    die(&f.host[0]);
    if (fake_vm_is_held(b->vm))
        fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    g_assert_false(switchover_is_under_way(phase_of(b)));
    tear_down(&f);
}

static void add_phases(const char *name, void (*test)(gconstpointer data))
{
    static const SwitchoverPhase phases[] = {SWITCHOVER_PRE, SWITCHOVER_DEVICE, SWITCHOVER_HANDED};
    for (gsize i = 0; i < G_N_ELEMENTS(phases); i++) {
        g_autofree char *path = g_strdup_printf("/node-switchover-cancel/%s/%s", name,
                                                switchover_phase_name(phases[i]));
        add_pair_data_test(path, GINT_TO_POINTER(phases[i]), test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_data_test("/node-switchover-cancel/cancel/setup/here", NULL, test_cancel_setup);
    add_pair_data_test("/node-switchover-cancel/cancel/setup/there", "there", test_cancel_setup);
    add_pair_test("/node-switchover-cancel/cancel/active", test_cancel_active);
    add_pair_data_test("/node-switchover-cancel/cancel/held/here", NULL, test_cancel_held);
    add_pair_data_test("/node-switchover-cancel/cancel/held/there", "there", test_cancel_held);
    add_pair_data_test("/node-switchover-cancel/cancel/device/save", GINT_TO_POINTER(FAKE_VM_SAVE),
                       test_cancel_device);
    add_pair_data_test("/node-switchover-cancel/cancel/device/resume",
                       GINT_TO_POINTER(FAKE_VM_RESUME), test_cancel_device);
    add_pair_data_test("/node-switchover-cancel/cancel/handed/here", NULL, test_cancel_handed);
    add_pair_data_test("/node-switchover-cancel/cancel/handed/there", "there", test_cancel_handed);
    add_pair_data_test("/node-switchover-cancel/cancel/asked/here", NULL, test_cancel_asked);
    add_pair_test("/node-switchover-cancel/cancel/slow-way-back", test_cancel_slow_way_back);
    add_pair_data_test("/node-switchover-cancel/cancel/asked/there", "there", test_cancel_asked);
    add_pair_test("/node-switchover-cancel/cancel/too-late", test_cancel_too_late);
    add_pair_test("/node-switchover-cancel/cancel/any-time", test_cancel_any_time);
    add_phases("cut", test_cut);
    add_phases("secondary-dies", test_secondary_dies);
    add_phases("primary-dies", test_primary_dies);
    return g_test_run();
}
