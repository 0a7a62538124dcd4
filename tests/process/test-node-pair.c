/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pair of nodes is for: it protects, fails over, hands over, and ends well on bad days. */
#include "checkpoint/checkpoint_internal.h"
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <glib/gstdio.h>
#include <string.h>

static void test_protects(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Node *a = fixture.host[0].node, *b = fixture.host[1].node;
    guint64 from = b->epoch;
    WAIT_FOR(b->epoch >= from + 50);
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_INITIAL), ==, 2);
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_PERIOD), >=, 40);
    WAIT_FOR(vm_is_running(fixture.host[0].vm));
    if (in_colo_mode())
        WAIT_FOR(vm_is_running(fixture.host[1].vm) && judge_peer_vm(a->judge) == PEER_VM_RUNS);
    else
        g_assert_false(vm_is_running(fixture.host[1].vm));
    tear_down(&fixture);
}

/* The slowest way to find dirty pages is as right as the others. */
static void test_compares_pages(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    for (int i = 0; i < 2; i++) {
        fixture.host[i].config->dirty_method = CONFIG_DIRTY_COMPARE;
    }
    start(&fixture.host[0], "primary");
    start(&fixture.host[1], "secondary");
    protect(&fixture, 0);
    Node *b = fixture.host[1].node;
    /* What a load of the fake VM writes to, and nothing else, is known as that. */
    WAIT_FOR(copy_job(b->copy) == COPY_NOTHING);
    g_assert_cmpuint(page_set_count(load_guard_known(copy_guard(b->copy))), ==, LOAD_WRITES);
    guint64 from = b->epoch;
    WAIT_FOR(b->epoch >= from + 10);
    die(&fixture.host[0]);
    WAIT_FOR(b->state == FSM_P_NONE);
    tear_down(&fixture);
}

/* Kill, rejoin, kill the other, at moments that the seed chooses. */
static void test_kill_and_rejoin(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    int primary = 0;
    guint64 steps = 0;
    for (int round = 0; round < 10; round++) {
        Host *a = &fixture.host[primary], *b = &fixture.host[!primary];
        guint64 until = b->node->epoch + (guint64)g_test_rand_int_range(1, 20);
        WAIT_FOR(b->node->epoch >= until);
        die(a);
        WAIT_FOR(b->node->state == FSM_P_NONE);
        g_assert_true(vm_is_running(b->vm));
        g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
        /* The guest's life goes on; it never starts anew. */
        g_assert_cmpuint(fake_vm_steps(b->vm), >, steps);
        steps = fake_vm_steps(b->vm);
        start(a, "secondary");
        primary = !primary;
        protect(&fixture, primary);
    }
    tear_down(&fixture);
}

/* A service manager starts an overtaken primary again, as it was: it must not start the VM. */
static void test_overtaken_comes_back(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    start(a, "primary");
    WAIT_FOR(a->ended);
    g_assert_error(a->error, ARBITER_ERROR, ARBITER_ERROR_OWNER);
    g_assert_nonnull(strstr(a->error->message, "node beta"));
    g_assert_null(a->vm);
    die(a);
    /* Role auto does what is right, whoever was the last. */
    start(a, "auto");
    protect(&fixture, 1);
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    start(b, "auto");
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* A primary that yields, too, has been overtaken. */
static void test_yielded_comes_back(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_die(a->vm);
    WAIT_FOR(a->ended && b->node->state == FSM_P_NONE);
    die(a);
    start(a, "auto");
    protect(&fixture, 1);
    tear_down(&fixture);
}

/* Both are lost at once: who ran the VM does so again, once nobody else can have it. */
static void test_both_come_back(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    for (int i = 0; i < 2; i++)
        fixture.host[i].config->heartbeat_timeout_ms = 500;
    start(&fixture.host[0], "auto");
    start(&fixture.host[1], "auto");
    protect(&fixture, 0);
    die(&fixture.host[1]);
    die(&fixture.host[0]);
    start(&fixture.host[1], "auto");
    g_assert_false(fsm_is_primary(fixture.host[1].node->state));
    start(&fixture.host[0], "primary");
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* After an end on purpose the VM is nobody's: the other node may start it. */
static void test_ended_then_other(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_shut_down(a->node);
    WAIT_FOR(a->ended && b->node->state == FSM_S_NONE);
    die(a);
    die(b);
    start(b, "primary");
    start(a, "auto");
    protect(&fixture, 1);
    tear_down(&fixture);
}

/* An administrator knows that the other node is gone for good. */
static void test_overrules(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    die(a);
    /* A write on its way to the arbiter would outlive a host that dies here, as it doesn't in life.
     */
    WAIT_FOR(b->node->state == FSM_P_NONE && claim_is_recorded(b->node->claim));
    die(b);
    a->config->overrule = TRUE;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    start(b, "auto");
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* Storage that can't be asked: nothing is started until it can. */
static void test_starts_when_asked(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0];
    g_autofree char *path = g_strdup_printf("%s/%s.owner", fixture.dir, a->config->vm->uuid);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    a->is_to_ask = TRUE;
    start(a, "primary");
    WAIT_FOR(claim_starting(a->node->claim) == CLAIM_START_AGAIN);
    g_assert_cmpint(a->node->state, ==, FSM_P_ASKING);
    g_assert_null(a->vm);
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, path));
    g_assert_cmpint(g_rmdir(path), ==, 0);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    die(a);
    /* Ended while it asks. */
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    start(a, "primary");
    WAIT_FOR(claim_starting(a->node->claim) == CLAIM_START_AGAIN);
    node_shut_down(a->node);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    g_assert_cmpint(g_rmdir(path), ==, 0);
    tear_down(&fixture);
}

static void test_secondary_dies(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0];
    die(&fixture.host[1]);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_IDLE && vm_is_running(a->vm));
    start(&fixture.host[1], "secondary");
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* Its VM is gone for certain, so nobody has to be asked, even without an arbiter. */
static void test_primary_vm_dies(void)
{
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_die(a->vm);
    WAIT_FOR(a->ended && b->node->state == FSM_P_NONE);
    g_assert_error(a->error, VM_ERROR, VM_ERROR_DIED);
    g_assert_true(vm_is_running(b->vm));
    tear_down(&fixture);
}

typedef struct {
    FakeVmOperation operation;
    FakeVmFault fault;
} BadDay;

/* Whatever goes wrong in the primary's checkpoint, the secondary has the one before. */
static void test_primary_checkpoint_fails(gconstpointer data)
{
    const BadDay *bad = data;
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_inject(a->vm, bad->operation, bad->fault, 3);
    WAIT_FOR(a->ended && b->node->state == FSM_P_NONE);
    g_assert_nonnull(a->error);
    g_assert_true(vm_is_running(b->vm));
    tear_down(&fixture);
}

/* QEMU won't save a device now: one of the sides goes on, and the pair is protected again. */
static void test_save_refused(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    const Node *a = fixture.host[0].node, *b = fixture.host[1].node;
    fake_vm_inject(fixture.host[0].vm, FAKE_VM_SAVE, FAKE_VM_FAIL, 3);
    WAIT_FOR(trouble_last(a->trouble));
    g_assert_nonnull(strstr(trouble_last(a->trouble)->message, "can't be saved"));
    WAIT_FOR(fixture.host[0].ended ||
             (fsm_is_protected(a->state) && fsm_is_protected(b->state) && a->state != b->state));
    g_assert_false(fixture.host[0].ended);
    tear_down(&fixture);
}

/* The same when the secondary has died, which the primary doesn't know yet. */
static void test_refused_alone(gconstpointer op)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0];
    const Vm *before = a->vm;
    fake_vm_inject(a->vm, (FakeVmOperation)GPOINTER_TO_INT(op), FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    die(&fixture.host[1]);
    fake_vm_refuse(a->vm, (FakeVmOperation)GPOINTER_TO_INT(op), TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->ended || a->node->state == FSM_P_NONE);
    g_assert_false(a->ended);
    WAIT_FOR(vm_is_running(a->vm));
    g_assert_true(a->vm == before);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    tear_down(&fixture);
}

/* And when the VM is about to be handed over. */
static void test_save_refused_handing_over(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0];
    const Node *b = fixture.host[1].node;
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    node_event(a->node, FSM_YIELD);
    g_assert_cmpint(a->node->state, ==, FSM_P_DEVICE);
    fake_vm_refuse(a->vm, FAKE_VM_SAVE, TRUE);
    fake_vm_proceed(a->vm);
    g_assert_false(a->node->state == FSM_FAILED);
    fake_vm_refuse(a->vm, FAKE_VM_SAVE, FALSE);
    WAIT_FOR(fsm_is_protected(a->node->state) && fsm_is_protected(b->state) &&
             a->node->state != b->state);
    g_assert_false(a->ended);
    tear_down(&fixture);
}

/* A secondary whose QEMU hangs is none: found out before it is needed. */
static void test_secondary_hangs(void)
{
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_TIMEOUT, 1);
    WAIT_FOR(b->ended && a->node->state == FSM_P_NONE);
    g_assert_error(b->error, VM_ERROR, VM_ERROR_TIMEOUT);
    g_assert_true(vm_is_running(a->vm));
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    tear_down(&fixture);
}

/* A takeover that meets a check under way waits for its answer. */
static void test_takeover_during_check(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *b = &fixture.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(copy_job(b->node->copy) == COPY_CHECK || copy_job(b->node->copy) == COPY_PAUSE);
    die(&fixture.host[0]);
    WAIT_FOR(copy_is_settled(b->node->copy));
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_true(vm_is_running(b->vm));
    tear_down(&fixture);
}

/* A VM that can't be loaded is never called protected. */
static void test_secondary_cannot_load(gconstpointer data)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    b->faulty_operation = FAKE_VM_LOAD;
    b->fault = FAKE_VM_FAIL;
    b->nth = GPOINTER_TO_UINT(data);
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(b->ended);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    g_assert_nonnull(b->error);
    g_assert_true(vm_is_running(a->vm));
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    tear_down(&fixture);
}

static void test_without_arbiter(void)
{
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *b = &fixture.host[1];
    die(&fixture.host[0]);
    WAIT_FOR(b->node->state == FSM_S_PAUSED);
    g_assert_cmpint(traffic_route(b->node->traffic), !=, ROUTE_OPEN);
    claim_order(b->node->claim, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_true(vm_is_running(b->vm));
    tear_down(&fixture);
}

static void test_hand_over(void)
{
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_event(a->node, FSM_YIELD);
    protect(&fixture, 1);
    WAIT_FOR(vm_is_running(b->vm));
    g_assert_false(vm_is_running(a->vm));
    tear_down(&fixture);
}

static void test_primary_ends_on_purpose(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_shut_down(a->node);
    WAIT_FOR(a->ended && b->node->state == FSM_S_NONE);
    g_assert_no_error(a->error);
    g_assert_false(vm_is_running(b->vm));
    tear_down(&fixture);
}

static void test_secondary_ends_on_purpose(void)
{
    Fixture fixture;
    start_pair(&fixture, "none");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    node_shut_down(b->node);
    WAIT_FOR(b->ended && a->node->state == FSM_P_NONE);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    tear_down(&fixture);
}

static void test_other_vm_is_refused(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    b->config->vm->cpus = a->config->vm->cpus + 1;
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(trouble_last(a->node->trouble) && trouble_last(b->node->trouble));
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, "cpus"));
    g_assert_nonnull(strstr(trouble_last(b->node->trouble)->message, "cpus"));
    g_assert_cmpint(a->node->state, ==, FSM_P_NONE);
    tear_down(&fixture);
}

/* Two arbiters would both say yes. */
static void test_other_arbiter_is_refused(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    b->config->arbiter = CONFIG_ARBITER_NONE;
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(trouble_last(a->node->trouble) && trouble_last(b->node->trouble));
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, "arbiter"));
    g_assert_nonnull(strstr(trouble_last(b->node->trouble)->message, "arbiter"));
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    static const BadDay bad_days[] = {
        {FAKE_VM_PAUSE,  FAKE_VM_DIE    },
        {FAKE_VM_PAUSE,  FAKE_VM_TIMEOUT},
        {FAKE_VM_SAVE,   FAKE_VM_DIE    },
        {FAKE_VM_SAVE,   FAKE_VM_TIMEOUT},
        {FAKE_VM_RESUME, FAKE_VM_DIE    },
        {FAKE_VM_RESUME, FAKE_VM_TIMEOUT}
    };

    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_with_unix("/node-pair/protects", test_protects);
    add_pair_test_with_unix("/node-pair/compares-pages", test_compares_pages);
    add_pair_test_with_unix("/node-pair/kill-and-rejoin", test_kill_and_rejoin);
    add_pair_test_with_unix("/node-pair/overtaken-comes-back", test_overtaken_comes_back);
    add_pair_test_with_unix("/node-pair/yielded-comes-back", test_yielded_comes_back);
    add_pair_test_with_unix("/node-pair/both-come-back", test_both_come_back);
    add_pair_test_with_unix("/node-pair/ended-then-other", test_ended_then_other);
    add_pair_test_with_unix("/node-pair/overrules", test_overrules);
    add_pair_test_with_unix("/node-pair/starts-when-asked", test_starts_when_asked);
    add_pair_test_with_unix("/node-pair/secondary-dies", test_secondary_dies);
    add_pair_test_with_unix("/node-pair/primary-vm-dies", test_primary_vm_dies);
    for (guint i = 0; i < G_N_ELEMENTS(bad_days); i++) {
        g_autofree char *path = g_strdup_printf("/node-pair/primary-checkpoint-fails/%u", i);
        add_pair_data_test(path, &bad_days[i], test_primary_checkpoint_fails);
    }
    add_pair_test_with_unix("/node-pair/save-refused", test_save_refused);
    add_pair_data_test("/node-pair/save-refused-alone", GINT_TO_POINTER(FAKE_VM_SAVE),
                       test_refused_alone);
    add_pair_data_test("/node-pair/pause-refused-alone", GINT_TO_POINTER(FAKE_VM_PAUSE),
                       test_refused_alone);
    add_pair_test_with_unix("/node-pair/save-refused-handing-over", test_save_refused_handing_over);
    add_pair_data_test("/node-pair/secondary-cannot-load/first", GUINT_TO_POINTER(1),
                       test_secondary_cannot_load);
    add_pair_data_test("/node-pair/secondary-cannot-load/second", GUINT_TO_POINTER(2),
                       test_secondary_cannot_load);
    add_pair_test_with_unix("/node-pair/secondary-hangs", test_secondary_hangs);
    add_pair_test_with_unix("/node-pair/takeover-during-check", test_takeover_during_check);
    add_pair_test_with_unix("/node-pair/without-arbiter", test_without_arbiter);
    add_pair_test_with_unix("/node-pair/hand-over", test_hand_over);
    add_pair_test_with_unix("/node-pair/primary-ends-on-purpose", test_primary_ends_on_purpose);
    add_pair_test_with_unix("/node-pair/secondary-ends-on-purpose", test_secondary_ends_on_purpose);
    add_pair_test_with_unix("/node-pair/other-vm-is-refused", test_other_vm_is_refused);
    add_pair_test_with_unix("/node-pair/other-arbiter-is-refused", test_other_arbiter_is_refused);
    return g_test_run();
}
