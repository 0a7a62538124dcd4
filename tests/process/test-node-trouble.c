/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What went wrong is told on both nodes, until it is over; what is in order is no error. */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

#include <string.h>

/* The primary knows why its secondary has failed; a secondary that can do it ends the trouble. */
static void test_secondary_fails(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    b->faulty_operation = FAKE_VM_LOAD;
    b->fault = FAKE_VM_FAIL;
    b->nth = 1;
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(b->ended && a->node->state == FSM_P_NONE);
    g_assert_nonnull(trouble_of_peer(a->node->trouble));
    g_assert_cmpstr(trouble_of_peer(a->node->trouble), ==, b->error->message);
    die(b);
    start(b, "secondary");
    protect(&fixture, 0);
    g_assert_null(trouble_of_peer(a->node->trouble));
    g_assert_null(trouble_last(a->node->trouble));
    tear_down(&fixture);
}

/* What fails on one of a pair, and ends nothing, is known on the other. */
static void test_told(void)
{
    for (int from = 0; from < 2; from++) {
        Fixture fixture;
        start_pair(&fixture, "file");
        Node *here = fixture.host[from].node, *there = fixture.host[!from].node;
        g_autofree char *longest = g_strnfill(600, 'x');
        g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_PROTOCOL, longest);
        node_report(here, "a trial", error);
        WAIT_FOR(trouble_of_peer(there->trouble));
        g_assert_true(g_str_has_prefix(trouble_of_peer(there->trouble), "a trial: xxx"));
        g_assert_cmpuint(strlen(trouble_of_peer(there->trouble)), ==, 512);
        g_assert_null(trouble_last(there->trouble));
        g_assert_true(fsm_is_protected(there->state));
        tear_down(&fixture);
    }
}

/* The other one is seen to be gone, and may be refused while it goes: that is no error. */
static void test_ordered_end(gconstpointer data)
{
    int ends = GPOINTER_TO_INT(data);
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *one = &fixture.host[ends], *other = &fixture.host[!ends];
    node_shut_down(one->node);
    WAIT_FOR(one->ended && !fsm_is_protected(other->node->state));
    /* A secondary dials a node that is there still, and ends. */
    for (int i = 0; i < 20; i++)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(trouble_last(other->node->trouble));
    g_assert_null(trouble_of_peer(other->node->trouble));
    g_assert_null(trouble_last(one->node->trouble));
    tear_down(&fixture);
}

static void assert_answer(const Host *host, const char *command, const char *part)
{
    g_autofree char *answer = control_peer_ask(host->config->control_socket, command);
    if (!strstr(answer, part))
        g_error("'%s' is not in the answer to %s: %s", part, command, answer);
}

/* A node that waits says for what, and what can be done; so does a failover that can't be. */
static void test_waiting(void)
{
    static const char status[] = "{\"execute\":\"status\"}\n";
    static const char force[] = "{\"execute\":\"failover\",\"arguments\":{\"force\":true}}\n";
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    start(b, "secondary");
    WAIT_FOR(b->node->state == FSM_S_NONE);
    assert_answer(b, status, "\"waiting\":{\"for\":\"a primary: looks for 127.0.0.1:");
    assert_answer(b, force, "--role primary --overrule-arbiter");
    assert_answer(b, force, "off for certain");
    start(a, "primary");
    protect(&fixture, 0);
    assert_answer(b, status, "\"waiting\":null");
    tear_down(&fixture);

    start_pair(&fixture, "none");
    a = &fixture.host[0], b = &fixture.host[1];
    die(a);
    WAIT_FOR(b->node->state == FSM_S_PAUSED && claim_is_undecided(b->node->claim));
    assert_answer(b, status, "there is no arbiter: you decide");
    assert_answer(b, status, "a copy of the VM is here");
    assert_answer(b, status, "'colo failover --force' here");
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-trouble/secondary-fails", test_secondary_fails);
    add_pair_test("/node-trouble/told", test_told);
    add_pair_data_test("/node-trouble/ordered-end/primary", GINT_TO_POINTER(0), test_ordered_end);
    add_pair_data_test("/node-trouble/ordered-end/secondary", GINT_TO_POINTER(1), test_ordered_end);
    add_pair_test("/node-trouble/waiting", test_waiting);
    return g_test_run();
}
