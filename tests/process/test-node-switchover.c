/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A planned switchover of two whole nodes with fake VMs, in both modes: to its end and back, held,
 * and refused. A fake guest counts its steps: nothing is redone.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/switchover-pair.h"

#include <string.h>

/* ---- Pairs ---- */

static void assert_not_possible(const Host *host, const char *why)
{
    g_autoptr(GError) error = NULL;
    guint32 id;
    SwitchoverPhase before = phase_of(host);
    g_assert_false(switchover_begin(host->node->switchover, FALSE, &id, &error));
    g_assert_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE);
    g_assert_nonnull(strstr(error->message, why));
    g_assert_cmpint(phase_of(host), ==, before);
}

static double figure(const Host *host, const char *name)
{
    json_object *all = switchover_describe(host->node->switchover), *value = NULL;
    g_assert_true(json_object_object_get_ex(all, name, &value) && value);
    double number = json_object_get_double(value);
    json_object_put(all);
    return number;
}

/* Of the status; -1: null. */
static double expected_ms(const Host *host)
{
    g_autofree char *answer =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"status\"}");
    json_object *all = json_tokener_parse(answer), *status = NULL, *value = NULL;
    g_assert_true(json_object_object_get_ex(all, "return", &status));
    g_assert_true(json_object_object_get_ex(status, "expected-downtime-ms", &value));
    double ms = value ? json_object_get_double(value) : -1;
    json_object_put(all);
    return ms;
}

/* What a pause would be is known of a pair that could do it, and of no other. */
static void test_expected(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    WAIT_FOR(expected_ms(a) > 0);
    g_assert_cmpfloat(expected_ms(b), ==, -1);
    cut_link(&f);
    WAIT_FOR(a->node->state != FSM_P_COLO);
    g_assert_cmpfloat(expected_ms(a), ==, -1);
    g_assert_cmpfloat(expected_ms(b), ==, -1);
    tear_down(&f);
}

/* ---- To its end ---- */

static void assert_cause(const Host *host, const char *cause)
{
    json_object *data = json_object_new_object(), *value = NULL;
    figures_describe_takeover(host->node->figures, data);
    g_assert_true(json_object_object_get_ex(data, "cause", &value));
    g_assert_cmpstr(json_object_get_string(value), ==, cause);
    json_object_put(data);
}

/* The last checkpoint is there, and the secondary's VM is about to run: nothing is redone. */
static void test_done(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    const char *session = link_session(a->node->link);
    g_autofree char *before = g_strdup(session);
    guint32 id = begin(a, FALSE);
    assert_not_possible(a, "is under way");
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    g_assert_false(vm_is_running(a->vm));
    guint64 stop = fake_vm_steps(a->vm);
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm) && b->node->state == FSM_S_TAKING);
    g_assert_cmpuint(fake_vm_steps(b->vm), ==, stop);
    g_assert_cmpuint(fake_vm_ram_digest(b->vm), ==, fake_vm_ram_digest(a->vm));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_HANDED);
    fake_vm_proceed(b->vm);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
    g_assert_cmpuint(switchover_id(b->node->switchover), ==, id);
    g_assert_true(figure(a, "downtime-ms") > 0 && figure(b, "peer-downtime-ms") > 0);
    /* The whole downtime, of which the secondary has told its part. */
    g_assert_cmpfloat(figure(a, "downtime-ms"), >=, figure(a, "peer-downtime-ms"));
    g_assert_true(figure(a, "peer-downtime-ms") > 0);
    g_assert_cmpfloat(figure(a, "total-ms"), >=, figure(a, "setup-ms") + figure(a, "downtime-ms"));
    protect(&f, 1);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    assert_cause(b, "switchover");
    g_assert_null(switchover_error(a->node->switchover));
    g_assert_cmpstr(link_session(b->node->link), !=, before);
    tear_down(&f);
}

/* What a switchover spares: of a primary that dies, all since its last checkpoint is done once more. */
static void test_redone_without(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->checkpoint_period_ms = b->config->checkpoint_period_ms = 3600 * 1000;
    guint64 epoch = a->node->epoch;
    ask_for_checkpoint(&f);
    WAIT_FOR(b->node->epoch > epoch && primary_phase(a->node->primary) == CYCLE_IDLE);
    guint64 then = fake_vm_steps(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) >= then + 20);
    guint64 stop = fake_vm_steps(a->vm);
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    die(a);
    WAIT_FOR(fake_vm_is_held(b->vm));
    g_assert_cmpuint(fake_vm_steps(b->vm), <, stop);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    tear_down(&f);
}

/* And back, ordered on either node. */
static void test_to_and_fro(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    for (int round = 0; round < 6; round++) {
        Host *a = &f.host[round % 2], *b = &f.host[(round + 1) % 2];
        guint32 id = begin(round % 3 == 2 ? b : a, FALSE);
        WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
        g_assert_cmpuint(switchover_id(a->node->switchover), ==, id);
        g_assert_cmpuint(switchover_id(b->node->switchover), ==, id);
        protect(&f, (round + 1) % 2);
    }
    g_assert_false(f.host[0].ended || f.host[1].ended);
    tear_down(&f);
}

/* A secondary that was started again counts from the beginning: its order has its number on both. */
static void test_numbers(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    for (int i = 0; i < 3; i++) {
        begin(a, FALSE);
        switchover_cancel(a->node->switchover);
    }
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    start(b, "secondary");
    protect(&f, 0);
    /* Cancelled before the primary has heard of it. */
    guint32 id = begin(b, FALSE);
    switchover_cancel(b->node->switchover);
    WAIT_FOR(phase_of(b) == SWITCHOVER_CANCELLED);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_CANCELLED);
    g_assert_cmpuint(switchover_id(a->node->switchover), ==, id);
    g_assert_cmpuint(switchover_id(b->node->switchover), ==, id);
    id = begin(b, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
    g_assert_cmpuint(switchover_id(a->node->switchover), ==, id);
    g_assert_cmpuint(switchover_id(b->node->switchover), ==, id);
    tear_down(&f);
}

/* Ordered on both nodes in the same moment. */
static void test_ordered_twice(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    guint32 here = begin(a, FALSE), there = begin(b, FALSE);
    g_assert_cmpuint(here, ==, there);
    WAIT_FOR(!switchover_is_under_way(phase_of(a)) && !switchover_is_under_way(phase_of(b)));
    g_assert_cmpstr(switchover_error(b->node->switchover), ==, NULL);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_COMPLETED);
    g_assert_cmpint(phase_of(b), ==, SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* ---- Held ---- */

static gboolean set_flag(gpointer user_data)
{
    *(gboolean *)user_data = TRUE;
    return G_SOURCE_REMOVE;
}

static void test_held(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    WAIT_FOR(phase_of(b) == SWITCHOVER_PRE);
    guint64 stop = fake_vm_steps(a->vm);
    unsigned saves = fake_vm_count(a->vm, FAKE_VM_SAVE);
    /* For longer than the limit of time, which is for what comes before. */
    gboolean passed = FALSE;
    g_timeout_add(1200, set_flag, &passed);
    WAIT_FOR(passed);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_PRE);
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_SAVE), ==, saves);
    g_autoptr(GError) wrong = NULL, there = NULL, twice = NULL;
    g_assert_false(go_on(a, "device", &wrong));
    g_assert_error(wrong, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT);
    g_assert_false(go_on(b, NULL, &there));
    g_assert_error(there, CONTROL_ERROR, CONTROL_ERROR_STATE);
    g_assert_true(go_on(a, "pre-switchover", NULL));
    g_assert_false(go_on(a, "pre-switchover", &twice));
    g_assert_error(twice, CONTROL_ERROR, CONTROL_ERROR_STATE);
    g_assert_nonnull(strstr(twice->message, "device"));
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    g_assert_cmpuint(fake_vm_steps(a->vm), ==, stop);
    protect(&f, 1);
    g_assert_cmpuint(fake_vm_steps(b->vm), >=, stop);
    tear_down(&f);
}

/* The host shuts down meanwhile: nobody is waited for. */
static void test_held_and_leaves(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    node_leave(a->node);
    WAIT_FOR(a->ended && b->node->state == FSM_P_NONE);
    g_assert_no_error(a->error);
    tear_down(&f);
}

/* No pause without the wish, which the option can be. */
static void test_held_by_option(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0];
    a->config->pause_before_switchover = TRUE;
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    tear_down(&f);
}

/* ---- Not possible ---- */

static void test_not_possible(void)
{
    Fixture f;
    g_autoptr(GError) none = NULL;
    set_up(&f, "file");
    start(&f.host[0], "primary");
    WAIT_FOR(f.host[0].node->state == FSM_P_NONE);
    assert_not_possible(&f.host[0], "state none");
    switchover_cancel(f.host[0].node->switchover);
    g_assert_false(go_on(&f.host[0], NULL, &none));
    g_assert_error(none, CONTROL_ERROR, CONTROL_ERROR_STATE);
    g_assert_null(switchover_describe(f.host[0].node->switchover));
    start(&f.host[1], "secondary");
    protect(&f, 0);
    cut_link(&f);
    WAIT_FOR(f.host[0].node->state != FSM_P_COLO);
    assert_not_possible(&f.host[0], "state ");
    tear_down(&f);
}

static void test_stalled(void)
{
    Fixture f;
    start_quiet_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "io-error");
    WAIT_FOR(judge_peer_vm(a->node->judge) == PEER_VM_STALLED && fake_vm_is_held(a->vm));
    assert_not_possible(a, "has stopped by itself");
    fake_vm_proceed(a->vm);
    tear_down(&f);
}

/* ---- The secondary approves in all its parts ---- */

static void assert_waits_for(const Host *host, const char *part)
{
    json_object *all = switchover_describe(host->node->switchover), *pending = NULL;
    g_assert_true(json_object_object_get_ex(all, "ack-pending", &pending));
    g_assert_cmpuint(json_object_array_length(pending), ==, 1);
    g_assert_cmpstr(json_object_get_string(json_object_array_get_idx(pending, 0)), ==, part);
    json_object_put(all);
}

static void test_arbiter_is_waited_for(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    WAIT_FOR(claim_trouble(b->node->claim) != NULL);
    begin(a, FALSE);
    guint64 before = fake_vm_steps(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) > before + 100);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_SETUP);
    WAIT_FOR(figure(a, "setup-ms") > 0 && phase_of(b) == SWITCHOVER_SETUP);
    assert_waits_for(a, "arbiter");
    assert_waits_for(b, "arbiter");
    set_storage(b, TRUE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* The waiting VM doesn't answer: it is held, and the primary's runs on. */
static void test_vm_is_waited_for(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(copy_is_late(b->node->copy));
    begin(a, FALSE);
    WAIT_FOR(phase_of(b) == SWITCHOVER_SETUP && phase_of(a) == SWITCHOVER_SETUP);
    json_object *all = switchover_describe(b->node->switchover), *pending = NULL;
    g_assert_true(json_object_object_get_ex(all, "ack-pending", &pending));
    g_assert_nonnull(strstr(json_object_to_json_string(pending), "\"vm\""));
    json_object_put(all);
    /* A checkpoint may pause it at this very moment. */
    guint64 before = fake_vm_steps(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) > before + 100);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_SETUP);
    fake_vm_proceed(b->vm);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* In vain: it fails, names the part, and the VM was never paused for it. */
static void test_too_late(void)
{
    Fixture f;
    start_stepping(&f, "300ms");
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    WAIT_FOR(claim_trouble(b->node->claim) != NULL);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "does not approve of: arbiter"));
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    WAIT_FOR(phase_of(b) == SWITCHOVER_FAILED);
    g_assert_cmpstr(switchover_error(b->node->switchover), ==,
                    switchover_error(a->node->switchover));
    set_storage(b, TRUE);
    WAIT_FOR(claim_trouble(b->node->claim) == NULL);
    begin(b, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* More is left than may be: it isn't begun, unless nothing is waited for. */
static void test_too_much(void)
{
    Fixture f;
    start_stepping(&f, "300ms");
    Host *a = &f.host[0];
    a->config->downtime_limit_ms = 1;
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_OK, 1);
    a->config->checkpoint_period_ms = 3600 * 1000;
    a->config->min_gap_ms = 3600 * 1000;
    /* As measured so far, this takes longer than a millisecond in any case. */
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_IDLE);
    for (int i = 0; i < 50; i++)
        figures_add_applied(a->node->figures, 5000);
    unsigned pauses = fake_vm_count(a->vm, FAKE_VM_PAUSE);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "a checkpoint alone takes"));
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_PAUSE), ==, pauses);
    a->config->downtime_limit_ms = 0;
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

/* ---- The guest ---- */

static void test_guest(gconstpointer data)
{
    VmEvent event = GPOINTER_TO_INT(data);
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    WAIT_FOR(claim_trouble(b->node->claim) != NULL);
    begin(a, FALSE);
    fake_vm_raise(a->vm, event, event == VM_EVENT_STOPPED ? "io-error" : NULL);
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "guest"));
    if (event == VM_EVENT_RESET) {
        a->config->abort_on_error = FALSE;
        begin(a, FALSE);
        fake_vm_raise(a->vm, event, NULL);
        set_storage(b, TRUE);
        WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    }
    tear_down(&f);
}

/* ---- Refused ---- */

/* The arbiter can't be asked any more when the VM is handed over: it goes on where it stood. */
static void test_refused(void)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    set_storage(b, FALSE);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED && phase_of(b) == SWITCHOVER_FAILED);
    g_assert_cmpstr(switchover_error(a->node->switchover), ==, "it could not ask the arbiter");
    g_assert_cmpstr(switchover_error(b->node->switchover), ==, "it could not ask the arbiter");
    await_way_back(&f, stop);
    tear_down(&f);
}

static void type(const Host *host, const char *command)
{
    g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\"}", command);
    g_autofree char *answer = control_peer_ask(host->config->control_socket, text);
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
}

/* Held, and then told to fail over, on either node: it goes on from where it is held. */
static void test_held_and_failed_over(gconstpointer data)
{
    Fixture f;
    start_held(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    guint64 stop = fake_vm_steps(a->vm);
    type(&f.host[GPOINTER_TO_INT(data)], "failover");
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(fake_vm_steps(b->vm), >=, stop);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    assert_cause(b, "switchover");
    protect(&f, 1);
    /* And without a switchover. */
    type(b, "failover");
    WAIT_FOR(figures_takeovers(a->node->figures) == 1);
    assert_cause(a, "failover");
    tear_down(&f);
}

/* Held, and then the link is paused there: the primary goes on, as it does without a switchover. */
static void test_held_and_paused(void)
{
    for (int round = 0; round < 3; round++) {
        Fixture f;
        start_held(&f);
        Host *a = &f.host[0], *b = &f.host[1];
        type(a, "pause");
        WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
        g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
        type(a, "recover");
        protect(&f, 0);
        tear_down(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-switchover/expected", test_expected);
    add_pair_test("/node-switchover/done", test_done);
    /* In `colo` mode the copy continues where it is. */
    add_pair_test_in("buffered", "/node-switchover/redone-without", test_redone_without);
    add_pair_test("/node-switchover/to-and-fro", test_to_and_fro);
    add_pair_test("/node-switchover/numbers", test_numbers);
    add_pair_test("/node-switchover/ordered-twice", test_ordered_twice);
    add_pair_test("/node-switchover/held", test_held);
    add_pair_data_test("/node-switchover/held-and-failed-over/here", GINT_TO_POINTER(0),
                       test_held_and_failed_over);
    add_pair_data_test("/node-switchover/held-and-failed-over/there", GINT_TO_POINTER(1),
                       test_held_and_failed_over);
    add_pair_test("/node-switchover/held-and-paused", test_held_and_paused);
    add_pair_test("/node-switchover/held-and-leaves", test_held_and_leaves);
    add_pair_test("/node-switchover/held-by-option", test_held_by_option);
    add_pair_test("/node-switchover/not-possible", test_not_possible);
    add_pair_test_in("colo", "/node-switchover/stalled", test_stalled);
    add_pair_test("/node-switchover/arbiter-is-waited-for", test_arbiter_is_waited_for);
    add_pair_test_in("buffered", "/node-switchover/vm-is-waited-for", test_vm_is_waited_for);
    add_pair_test("/node-switchover/too-late", test_too_late);
    add_pair_test("/node-switchover/too-much", test_too_much);
    add_pair_data_test("/node-switchover/guest/panicks", GINT_TO_POINTER(VM_EVENT_PANICKED),
                       test_guest);
    add_pair_data_test("/node-switchover/guest/reboots", GINT_TO_POINTER(VM_EVENT_RESET),
                       test_guest);
    add_pair_data_test("/node-switchover/guest/stops", GINT_TO_POINTER(VM_EVENT_STOPPED),
                       test_guest);
    add_pair_test("/node-switchover/refused", test_refused);
    return g_test_run();
}
