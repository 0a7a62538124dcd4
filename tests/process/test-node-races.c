/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs of nodes at bad moments: links that break and come back while the VM or the arbiter is
 * busy. What one session leaves behind must not reach the next.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void inject(Host *host, FakeVmOperation operation, FakeVmFault fault, unsigned nth)
{
    host->faulty_operation = operation;
    host->fault = fault;
    host->nth = nth;
}

/* An administrator's "force" is for one question, not for the next lost link. */
static void test_force_is_not_kept(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Node *b = fixture.host[1].node;
    die(&fixture.host[0]);
    WAIT_FOR(b->state == FSM_S_PAUSED);
    claim_order(b->claim, TRUE);
    WAIT_FOR(b->state == FSM_P_NONE);
    g_assert_false(claim_is_forced(b->claim));
    tear_down(&fixture);
}

/*
 * The arbiter can't be asked, and the link is back before it would be asked again. The secondary
 * could have gone on and been started again: output stays held until the arbiter can say.
 */
static void test_link_before_arbiter(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Node *a = fixture.host[0].node, *b = fixture.host[1].node;
    g_autofree char *session = g_strdup(link_session(a->link));
    g_autofree char *path = g_strdup_printf("%s/%s.%s", fixture.dir, a->config->vm->uuid, session);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    cut_link(&fixture);
    WAIT_FOR(a->state == FSM_P_PAUSED && claim_doing(a->claim) == CLAIM_UNDECIDED);
    WAIT_FOR(a->state == FSM_P_RECOVER && claim_doing(a->claim) == CLAIM_AGAIN);
    g_assert_cmpint(traffic_route(a->traffic), !=, ROUTE_OPEN);
    g_assert_cmpint(g_rmdir(path), ==, 0);
    WAIT_FOR(fsm_is_protected(a->state) && fsm_is_protected(b->state));
    g_assert_cmpint(claim_doing(a->claim), ==, CLAIM_IDLE);
    g_assert_cmpint(claim_doing(b->claim), ==, CLAIM_IDLE);
    g_assert_cmpstr(link_session(a->link), !=, session);
    tear_down(&fixture);
}

/* A secondary is there and synchronised before QEMU has answered to the first resume. */
static void test_slow_start(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0];
    inject(a, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    start(a, "primary");
    start(&fixture.host[1], "secondary");
    WAIT_FOR(a->node->state == FSM_P_ACTIVE && primary_proof(a->node->primary) == PROOF_DUE);
    g_main_context_iteration(NULL, FALSE);
    fake_vm_proceed(a->vm);
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* The link breaks and comes back while the secondary's QEMU is loading for the session before. */
static void test_slow_proof(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    inject(b, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(b->vm && fake_vm_is_held(b->vm));
    g_autofree char *session = g_strdup(link_session(b->node->link));
    cut_link(&fixture);
    WAIT_FOR(link_is_up(b->node->link) && strcmp(session, link_session(b->node->link)) != 0);
    /* Nothing may touch RAM while it loads. */
    g_assert_false(receiver_is_receiving(b->node->receiver));
    fake_vm_proceed(b->vm);
    protect(&fixture, 0);
    g_assert_cmpuint(fake_vm_count(b->vm, FAKE_VM_LOAD), >=, 1 + 2);
    tear_down(&fixture);
}

/* A primary that claims protection before it was shown that the secondary can load. */
static void test_early_protect(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    inject(b, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(b->vm && fake_vm_is_held(b->vm));
    link_send(a->node->link, LINK_MSG_PROTECT, NULL, 0);
    link_send(a->node->link, LINK_MSG_YIELDED, NULL, 0);
    WAIT_FOR(b->node->state != FSM_S_ACTIVE);
    g_assert_cmpint(b->node->state, ==, FSM_S_NONE);
    g_assert_nonnull(strstr(trouble_last(b->node->trouble)->message, "protect"));
    fake_vm_proceed(b->vm);
    protect(&fixture, 0);
    tear_down(&fixture);
}

/* A message that only the other side may send, though nothing else is wrong with it. */
static void test_wrong_side(gconstpointer data)
{
    int from = GPOINTER_TO_INT(data);
    Fixture fixture;
    start_pair(&fixture, "file");
    message_send(fixture.host[from].node->link,
                 &(Message){.type = from ? LINK_MSG_SETTLED : LINK_MSG_BUSY});
    Node *other = fixture.host[!from].node;
    WAIT_FOR(trouble_last(other->trouble) &&
             strstr(trouble_last(other->trouble)->message, "broke the protocol"));
    g_assert_nonnull(
        strstr(trouble_last(other->trouble)->message,
               from ? "message 'settled' from a secondary" : "message 'busy' from a primary"));
    tear_down(&fixture);
}

/* A VM that can't be saved is not protected; that is no reason to end it. */
static void test_first_save_fails(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0];
    inject(a, FAKE_VM_SAVE, FAKE_VM_FAIL, 1);
    start(a, "primary");
    start(&fixture.host[1], "secondary");
    WAIT_FOR(trouble_last(a->node->trouble));
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, "saved"));
    protect(&fixture, 0);
    g_assert_false(a->ended);
    tear_down(&fixture);
}

/* The node goes before it could say that it has ended. */
static void test_freed_at_the_end(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    node_shut_down(fixture.host[0].node);
    g_assert_cmpint(fixture.host[0].node->state, ==, FSM_COMPLETED);
    die(&fixture.host[0]);
    WAIT_FOR(fixture.host[1].node->state == FSM_S_NONE);
    g_assert_false(fixture.host[0].ended);
    tear_down(&fixture);
}

static GError *dying(void)
{
    return g_error_new(VM_ERROR, VM_ERROR_DIED, "QEMU is about to be seen to be dead");
}

/* The link breaks while QEMU dies: that VM is not one to ask the arbiter for. */
static void test_dying_does_not_ask(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    g_autoptr(GError) sign = dying();
    machine_expect_end(a->node->machine, "the VM", sign);
    cut_link(&fixture);
    WAIT_FOR(a->ended);
    g_assert_null(claim_last_answer(a->node->claim));
    WAIT_FOR(b->node->state == FSM_P_NONE);
    tear_down(&fixture);
}

/* QEMU dies between its answer to `stop` and the reading of what its guest has sent. */
static void test_dies_in_the_pause(void)
{
    Fixture fixture;
    if (geteuid() != 0) {
        g_test_skip("needs root for its taps");
        return;
    }
    set_up(&fixture, "file");
    add_tap(&fixture);
    start(&fixture.host[0], "primary");
    start(&fixture.host[1], "secondary");
    protect(&fixture, 0);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    shutdown(vm_nic_fd(a->vm, 0), SHUT_RDWR);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->ended);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    tear_down(&fixture);
}

/* A packet of a card that the VM doesn't have is believed by neither side. */
static void test_no_such_card(void)
{
    static const guint8 frame[60];
    for (int from = 0; from < 2; from++) {
        Fixture fixture;
        start_pair(&fixture, "file");
        Node *to = fixture.host[!from].node, *node = fixture.host[from].node;
        guint32 question = claim_questions(to->claim);
        g_assert_true(link_send_packet(node->link, 0x7ffffff0, node->epoch, frame, sizeof(frame)));
        WAIT_FOR(claim_questions(to->claim) > question);
        g_assert_nonnull(strstr(trouble_last(to->trouble)->message, "card"));
        tear_down(&fixture);
    }
}

static void set_mode(Host *host, Mode mode)
{
    host->config->mode = mode;
}

/* Each load shows that RAM is right (fake-vm.h), whatever the mode was when it was written. */
static void test_mode_changes(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    int primary = 0;
    for (int round = 0; round < 300; round++) {
        Host *a = &fixture.host[primary], *b = &fixture.host[!primary];
        guint64 until = b->node->epoch + (guint64)g_test_rand_int_range(0, 4);
        WAIT_FOR(b->ended || b->node->epoch >= until);
        set_mode(a, (Mode)g_test_rand_int_range(0, 3));
        for (int turns = g_test_rand_int_range(0, 50); turns > 0; turns--)
            g_main_context_iteration(NULL, FALSE);
        if (g_test_rand_int_range(0, 4))
            continue;
        die(a);
        WAIT_FOR(b->ended || b->node->state == FSM_P_NONE);
        g_assert_no_error(b->error);
        start(a, "secondary");
        primary = !primary;
        protect(&fixture, primary);
    }
    tear_down(&fixture);
}

/* The next checkpoint is due as soon as the last one is received, and not applied yet. */
static void test_no_gap(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    for (int i = 0; i < 2; i++) {
        fixture.host[i].config->checkpoint_period_ms = 1;
        fixture.host[i].config->min_gap_ms = 0;
    }
    start(&fixture.host[0], "primary");
    start(&fixture.host[1], "secondary");
    protect(&fixture, 0);
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    fake_vm_autorun(a->vm, 1, 4000);
    guint64 until = b->node->epoch + 300;
    WAIT_FOR(b->node->epoch >= until || trouble_last(a->node->trouble) || b->ended);
    g_assert_null(trouble_last(a->node->trouble));
    g_assert_false(b->ended);
    tear_down(&fixture);
}

/* ---- Storms ---- */

#define STORM_ROUNDS 200

static gboolean is_active(const Host *host)
{
    return host->node && machine_vm(host->node->machine) && vm_is_running(host->vm) &&
           traffic_route(host->node->traffic) == ROUTE_OPEN;
}

/* Some turns of the main loop, after each of which at most one side may be active. */
static void turn(Fixture *fixture, int turns)
{
    while (turns-- > 0) {
        g_main_context_iteration(NULL, FALSE);
        g_assert_false(is_active(&fixture->host[0]) && is_active(&fixture->host[1]));
    }
}

/* The end of the last hold, so that the pair can come together again. */
static void release(Host *host)
{
    if (host->node && machine_vm(host->node->machine) && fake_vm_is_held(host->vm))
        fake_vm_proceed(host->vm);
}

/* Both again, in whatever roles they have now; the one that has ended comes back as secondary. */
static gboolean is_settled(Fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        Host *host = &fixture->host[i];
        release(host);
        if (host->ended)
            die(host);
        if (!host->node)
            start(host, "secondary");
    }
    turn(fixture, 1);
    const Node *a = fixture->host[0].node, *b = fixture->host[1].node;
    return a->state != b->state && fsm_is_protected(a->state) && fsm_is_protected(b->state);
}

static void one_bad_thing(Fixture *fixture)
{
    Host *host = &fixture->host[g_test_rand_int_range(0, 2)];
    switch (g_test_rand_int_range(0, 5)) {
    case 0:
        cut_link(fixture);
        break;
    case 1:
        die(host);
        break;
    case 2:
        if (host->node->state == FSM_P_COLO)
            node_event(host->node, FSM_YIELD);
        break;
    case 3:
        fake_vm_die(host->vm);
        break;
    case 4: /* in mid-checkpoint, or mid-check */
        fake_vm_inject(host->vm,
                       (FakeVmOperation)g_test_rand_int_range(FAKE_VM_PAUSE, FAKE_VM_LOAD),
                       FAKE_VM_HOLD, 1);
        turn(fixture, g_test_rand_int_range(1, 200));
        cut_link(fixture);
        break;
    }
}

/* Anything, at any moment, again and again: the VM survives, on one side at a time. */
static void test_storm(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    for (int round = 0; round < STORM_ROUNDS; round++) {
        turn(&fixture, g_test_rand_int_range(1, 400));
        if (!is_settled(&fixture))
            continue;
        one_bad_thing(&fixture);
        turn(&fixture, g_test_rand_int_range(1, 100));
        WAIT_FOR(is_settled(&fixture));
    }
    tear_down(&fixture);
}

/* Nobody needs the pause any more that QEMU then refuses: the VM is well. */
static void test_needless_pause_refused(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    const Vm *before = a->vm;
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    die(b);
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_PAUSING_CANCELLED &&
             a->node->state == FSM_P_NONE);
    fake_vm_refuse(a->vm, FAKE_VM_PAUSE, TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->ended || primary_phase(a->node->primary) == CYCLE_IDLE);
    g_assert_false(a->ended);
    g_assert_true(a->vm == before && vm_is_running(a->vm));
    fake_vm_refuse(a->vm, FAKE_VM_PAUSE, FALSE);
    start(b, "secondary");
    protect(&fixture, 0);
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-races/force-is-not-kept", test_force_is_not_kept);
    add_pair_test("/node-races/link-before-arbiter", test_link_before_arbiter);
    add_pair_test("/node-races/freed-at-the-end", test_freed_at_the_end);
    add_pair_test("/node-races/slow-start", test_slow_start);
    add_pair_test("/node-races/slow-proof", test_slow_proof);
    add_pair_test("/node-races/early-protect", test_early_protect);
    add_pair_data_test("/node-races/wrong-side/primary", GINT_TO_POINTER(0), test_wrong_side);
    add_pair_data_test("/node-races/wrong-side/secondary", GINT_TO_POINTER(1), test_wrong_side);
    add_pair_test("/node-races/first-save-fails", test_first_save_fails);
    add_pair_test("/node-races/no-such-card", test_no_such_card);
    add_pair_test("/node-races/dying-does-not-ask", test_dying_does_not_ask);
    add_pair_test("/node-races/dies-in-the-pause", test_dies_in_the_pause);
    add_pair_test("/node-races/mode-changes", test_mode_changes);
    add_pair_test("/node-races/no-gap", test_no_gap);
    add_pair_test("/node-races/needless-pause-refused", test_needless_pause_refused);
    add_pair_test("/node-races/storm", test_storm);
    return g_test_run();
}
