/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that an administrator has stopped takes no step until `cont`: over checkpoints, the death
 * of its host, hand-overs, and whatever else ends a pause. The fake guest counts its steps, and the
 * count is part of its device state.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

#include <errno.h>
#include <string.h>

/* ---- Commands ---- */

static char *say(const Host *host, const char *command)
{
    g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\"}\n", command);
    return control_peer_ask(host->config->control_socket, text);
}

static void order(const Host *host, const char *command)
{
    g_autofree char *answer = say(host, command);
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
}

static void assert_refused(const Host *host, const char *command, const char *why)
{
    g_autofree char *answer = say(host, command);
    if (!g_str_has_prefix(answer, "{\"error\"") || !strstr(answer, why))
        g_error("'%s' is not why %s is refused: %s", why, command, answer);
}

static void assert_status(const Host *host, const char *part)
{
    g_autofree char *answer = say(host, "status");
    if (!strstr(answer, part))
        g_error("'%s' is not in the status: %s", part, answer);
}

static gboolean has_status(const Host *host, const char *part)
{
    g_autofree char *answer = say(host, "status");
    return strstr(answer, part) != NULL;
}

static guint events(const Host *host, const char *name)
{
    g_autofree char *answer = say(host, "query-events");
    guint n = 0;
    for (const char *at = answer; (at = strstr(at, name)); at++)
        n++;
    return n;
}

#define STOPPED_EVENT "\"GUEST_STOPPED\",\"data\":{\"by\":\"admin\"}"
#define RESUMED_EVENT "\"GUEST_RESUMED\""

/* ---- A stopped guest ---- */

/* The last checkpoint that the secondary has tells. */
static gboolean knows(const Host *secondary)
{
    return svm_is_stopped(secondary->node) && copy_condition(secondary->node->copy) == COPY_STANDBY;
}

/* Stops the guest of `a`, and returns its steps when `b` knows. */
static guint64 stop(const Host *a, const Host *b)
{
    order(a, "stop");
    WAIT_FOR(!vm_is_running(a->vm) && knows(b));
    assert_status(a, "\"state\":\"stopped\",\"stopped-by\":\"admin\"");
    return fake_vm_steps(a->vm);
}

static void pass_checkpoints(const Host *a)
{
    guint64 until = a->node->epoch + 5;
    WAIT_FOR(a->node->epoch >= until);
}

/* It is where it was stopped, and runs on from there. */
static void assert_continues(const Host *a, guint64 steps)
{
    assert_status(a, "\"state\":\"stopped\",\"stopped-by\":\"admin\"");
    g_assert_false(vm_is_running(a->vm));
    g_assert_cmpuint(fake_vm_steps(a->vm), ==, steps);
    order(a, "cont");
    WAIT_FOR(fake_vm_steps(a->vm) > steps);
    g_assert_cmpuint(resume_stops(a->node->resume), ==, 0);
    WAIT_FOR(has_status(a, "\"state\":\"running\",\"stopped-by\":null"));
}

/* ---- Checkpoints ---- */

static void test_checkpoints(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 steps = stop(a, b);
    gint64 blocked_us = figures_blocktime(a->node->figures)->total_us;
    order(a, "stop"); /* typed twice */
    pass_checkpoints(a);
    g_assert_true(knows(b) && !vm_is_running(b->vm));
    assert_status(b, "\"state\":\"paused\",\"stopped-by\":\"admin\"");
    assert_status(a, "\"protected\":true");
    g_assert_cmpint(figures_blocktime(a->node->figures)->total_us, ==, blocked_us);
    g_assert_cmpuint(events(a, STOPPED_EVENT), ==, 1);
    assert_continues(a, steps);
    order(a, "cont"); /* likewise */
    g_assert_cmpuint(events(a, STOPPED_EVENT), ==, 1);
    g_assert_cmpuint(events(a, RESUMED_EVENT), ==, 1);
    WAIT_FOR(!svm_is_stopped(b->node));
    if (in_colo_mode())
        WAIT_FOR(pair_is_settled(&f));
    assert_status(a, "\"protected\":true");
    tear_down(&f);
}

/* Each answer comes at once, in whatever the node or its QEMU is. The last word counts. */
static void test_typed_fast(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm)); /* for a checkpoint */
    order(a, "stop");
    g_assert_true(fake_vm_is_held(a->vm));
    g_autoptr(ControlPeer) waits = control_peer_greeted(a->config->control_socket);
    control_peer_send_text(waits, "{\"execute\":\"cont\",\"id\":1}\n");
    for (int i = 0; i < 20; i++)
        g_main_context_iteration(NULL, FALSE);
    order(a, "stop");
    char *line = NULL;
    do {
        g_free(line);
        line = control_peer_line(waits);
    } while (!strstr(line, "\"id\":1"));
    g_assert_nonnull(strstr(line, "stopped by 'stop' meanwhile"));
    g_free(line);
    g_assert_true(fake_vm_is_held(a->vm));
    fake_vm_proceed(a->vm);
    WAIT_FOR(!vm_is_running(a->vm) && knows(b));
    guint64 steps = fake_vm_steps(a->vm);
    pass_checkpoints(a);
    assert_continues(a, steps);
    tear_down(&f);
}

/* In a pause of colod's own the guest is not stopped: there is nothing to continue. */
static void test_cont_in_a_pause(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0];
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    guint64 steps = fake_vm_steps(a->vm);
    g_assert_false(vm_is_running(a->vm));
    order(a, "cont");
    g_assert_true(fake_vm_is_held(a->vm));
    g_assert_cmpuint(fake_vm_steps(a->vm), ==, steps);
    fake_vm_proceed(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) > steps);
    tear_down(&f);
}

/* ---- The death of its host ---- */

static void dies(Fixture *f)
{
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    Host *a = &f->host[0], *b = &f->host[1];
    guint64 steps = stop(a, b);
    pass_checkpoints(a);
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpint(traffic_route(b->node->traffic), ==, ROUTE_OPEN);
    g_assert_cmpuint(events(b, STOPPED_EVENT), ==, 1);
    assert_status(b, "\"cause\":\"lost\"");
    if (b->disks) {
        WAIT_FOR(has_status(b, "\"mode\":\"active\""));
        /* QEMU opens them when the guest runs. */
        assert_status(b,
                      "\"flag\":\"inactive\",\"members\":[{\"name\":\"vda\",\"state\":\"active\"}");
        assert_status(b, "{\"name\":\"qemu\",\"state\":\"inactive\"}");
    }
    /* A secondary that joins doesn't run it either. */
    start(a, "auto");
    protect(f, 1);
    WAIT_FOR(knows(a));
    pass_checkpoints(b);
    /* And back: it has never run here. */
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    assert_continues(a, steps);
    if (a->disks)
        assert_status(a, "\"flag\":\"active\"");
    start(b, "auto");
    protect(f, 0);
    tear_down(f);
}

static void test_death(void)
{
    Fixture f;
    set_up(&f, "file");
    dies(&f);
}

static void test_death_disks(gconstpointer format)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 2, (VmDiskFormat)GPOINTER_TO_INT(format));
    dies(&f);
}

/* `cont` here, before a checkpoint has told: the other one's guest stays stopped. */
static void test_death_after_cont(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 steps = stop(a, b);
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm)); /* the next checkpoint, which still says that it is stopped */
    fake_vm_proceed(a->vm);
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->node->primary)));
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    order(a, "cont");
    WAIT_FOR(fake_vm_is_held(a->vm));
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    assert_continues(b, steps);
    tear_down(&f);
}

/* ---- Hand-overs ---- */

static void test_hand_over(void)
{
    Fixture f;
    start_pair(&f, "file");
    /* In the same breath: the secondary has to be told first. */
    order(&f.host[0], "stop");
    order(&f.host[0], "failover");
    protect(&f, 1);
    guint64 steps = fake_vm_steps(f.host[1].vm);
    for (int round = 1; round < 4; round++) {
        Host *a = &f.host[round % 2], *b = &f.host[(round + 1) % 2];
        WAIT_FOR(knows(b));
        g_assert_cmpuint(fake_vm_steps(a->vm), ==, steps);
        order(a, "failover");
        protect(&f, (round + 1) % 2);
    }
    WAIT_FOR(knows(&f.host[1]));
    /* Continued and handed over in the same breath, it runs there. */
    order(&f.host[0], "cont");
    order(&f.host[0], "failover");
    protect(&f, 1);
    WAIT_FOR(vm_is_running(f.host[1].vm) && fake_vm_steps(f.host[1].vm) > steps);
    assert_status(&f.host[1], "\"stopped-by\":null");
    assert_status(&f.host[1], "\"cause\":\"failover\"");
    tear_down(&f);
}

/* While it is handed over neither command is possible; when that has failed, it is as it was. */
static void test_refused_hand_over(void)
{
    Fixture f;
    start_split_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 steps = stop(a, b);
    set_storage(b, FALSE);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    order(a, "failover");
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    assert_refused(a, "stop", "is being handed over: ask beta");
    assert_refused(a, "cont", "is being handed over: ask beta");
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO);
    pass_checkpoints(a);
    assert_continues(a, steps);
    tear_down(&f);
}

/* The other side is to continue, and dies before it does: the way back doesn't run it either. */
static void test_frozen(void)
{
    Fixture f;
    start_split_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 steps = stop(a, b);
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    order(a, "failover");
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    /* The arbiter has said yes to the other side, which does not run it yet. */
    g_autoptr(GError) cut = g_error_new_literal(LINK_ERROR, LINK_ERROR_CLOSED, "cut");
    link_break(a->node->link, cut);
    WAIT_FOR(a->node->state == FSM_P_FROZEN && b->node->state == FSM_S_DEVICE);
    assert_refused(b, "stop", "wait for state none");
    assert_refused(a, "stop", "beta is to continue");
    assert_refused(a, "cont", "beta is to continue");
    die(b);
    claim_overrule(a->node->claim);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    assert_continues(a, steps);
    tear_down(&f);
}

/* ---- The link and the arbiter ---- */

static void test_lost_link(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 steps = stop(a, b);
    die(b);
    WAIT_FOR(a->node->state == FSM_P_PAUSED && claim_is_undecided(a->node->claim));
    /* Its output is held: what it does is still this node's. */
    assert_continues(a, steps);
    order(a, "stop");
    WAIT_FOR(!vm_is_running(a->vm));
    steps = fake_vm_steps(a->vm);
    claim_order(a->node->claim, TRUE);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    assert_continues(a, steps);
    tear_down(&f);
}

static void test_wrong_side(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *a = &f.host[0], *b = &f.host[1];
    assert_refused(b, "stop", "the VM is the primary's: ask alpha");
    g_assert_true(vm_is_running(a->vm) ||
                  !cycle_is_between_pauses(primary_phase(a->node->primary)));
    die(a);
    WAIT_FOR(b->node->state == FSM_S_PAUSED && claim_is_undecided(b->node->claim));
    assert_refused(b, "stop", "which node continues");
    tear_down(&f);
}

/* ---- QEMU and disks ---- */

static void test_cont_refused(void)
{
    Fixture f;
    set_up(&f, "none");
    Host *a = &f.host[0];
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    order(a, "stop");
    WAIT_FOR(!vm_is_running(a->vm));
    guint64 steps = fake_vm_steps(a->vm);
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    for (int i = 0; i < 2; i++) {
        assert_refused(a, "cont", "injected failure");
        assert_status(a, "\"state\":\"inactive\"");
    }
    /* It is not to run any more. */
    order(a, "stop");
    assert_status(a, "\"state\":\"stopped\",\"stopped-by\":\"admin\"");
    g_assert_false(resume_is_waiting(a->node->resume));
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, FALSE);
    assert_continues(a, steps);
    tear_down(&f);
}

/* A pair's pause is refused, too: the link is lost for it, and the guest is stopped as soon as it can. */
static void test_stop_refused(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->node->primary)));
    fake_vm_refuse(a->vm, FAKE_VM_PAUSE, TRUE);
    order(a, "stop");
    WAIT_FOR(trouble_last(a->node->trouble));
    g_assert_true(vm_is_running(a->vm));
    fake_vm_refuse(a->vm, FAKE_VM_PAUSE, FALSE);
    WAIT_FOR(!vm_is_running(a->vm));
    guint64 steps = fake_vm_steps(a->vm);
    protect(&f, 0);
    WAIT_FOR(knows(b));
    assert_continues(a, steps);
    tear_down(&f);
}

/* Both reasons at once: io-retry leaves it alone, `cont` ends both. */
static void test_io_error(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->io_retry_ms = 5;
    order(a, "stop");
    WAIT_FOR(!vm_is_running(a->vm) && knows(b));
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    guint64 steps = fake_vm_steps(a->vm);
    pass_checkpoints(a);
    assert_continues(a, steps);
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->node->primary)));
    a->config->io_retry_ms = 0;
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    assert_status(a, "\"state\":\"io-error\",\"stopped-by\":\"io-error\"");
    steps = stop(a, b);
    g_assert_cmpuint(events(a, STOPPED_EVENT), ==, 2);
    assert_continues(a, steps);
    tear_down(&f);
}

/* What QEMU has stopped for another reason is continued by order, too, and not only by a checkpoint. */
static void test_watchdog(void)
{
    Fixture f;
    set_up(&f, "none");
    Host *a = &f.host[0];
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "watchdog");
    assert_status(a, "\"state\":\"paused\",\"stopped-by\":\"watchdog\"");
    guint64 steps = fake_vm_steps(a->vm);
    order(a, "cont");
    WAIT_FOR(fake_vm_steps(a->vm) > steps);
    assert_status(a, "\"state\":\"running\",\"stopped-by\":null");
    tear_down(&f);
}

/* The VM ends: nothing of it is left for the next one, and `cont` is answered. */
static void test_quit(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    start(&f.host[0], "primary");
    start(&f.host[1], "secondary");
    protect(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    stop(a, b);
    fake_disks_hang(b->disks, "", TRUE);
    order(a, "quit");
    assert_refused(a, "stop", "about to end");
    assert_refused(a, "cont", "about to end");
    fake_disks_hang(b->disks, "", FALSE);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-stop/checkpoints", test_checkpoints);
    add_pair_test("/node-stop/typed-fast", test_typed_fast);
    add_pair_test("/node-stop/cont-in-a-pause", test_cont_in_a_pause);
    add_pair_test("/node-stop/death", test_death);
    add_pair_data_test("/node-stop/death/raw", GINT_TO_POINTER(VM_DISK_RAW), test_death_disks);
    add_pair_data_test("/node-stop/death/qcow2", GINT_TO_POINTER(VM_DISK_QCOW2), test_death_disks);
    add_pair_test("/node-stop/death-after-cont", test_death_after_cont);
    add_pair_test("/node-stop/hand-over", test_hand_over);
    add_pair_test("/node-stop/refused-hand-over", test_refused_hand_over);
    add_pair_test("/node-stop/frozen", test_frozen);
    add_pair_test("/node-stop/lost-link", test_lost_link);
    add_pair_test("/node-stop/wrong-side", test_wrong_side);
    add_pair_test("/node-stop/cont-refused", test_cont_refused);
    add_pair_test("/node-stop/stop-refused", test_stop_refused);
    add_pair_test("/node-stop/io-error", test_io_error);
    add_pair_test("/node-stop/watchdog", test_watchdog);
    add_pair_test("/node-stop/quit", test_quit);
    return g_test_run();
}
