/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs of nodes whose arbiter's storage hangs: nothing that an administrator says is refused for
 * that, and what storage says later counts.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/hold.h"
#include "tests/support/host-pair.h"

#include <glib/gstdio.h>
#include <string.h>

static Hold storage;

static void protect_slow(Fixture *pair)
{
    start_pair(pair, "file");
    for (int i = 0; i < 2; i++) {
        arbiter_set_limit_ms(claim_arbiter(pair->host[i].node->claim), 100);
        hold_attach(&storage, claim_arbiter(pair->host[i].node->claim));
    }
}

static gboolean is_told(const Node *node, const char *word)
{
    return trouble_last(node->trouble) && strstr(trouble_last(node->trouble)->message, word);
}

static void failover(const Host *host, gboolean force)
{
    g_autoptr(ControlPeer) peer = control_peer_greeted(host->config->control_socket);
    control_peer_expect(peer,
                        force
                            ? "{\"execute\":\"failover\",\"arguments\":{\"force\":true},\"id\":1}\n"
                            : "{\"execute\":\"failover\",\"id\":1}\n",
                        "{\"return\":{},\"id\":1}");
}

static Arbiter *ask_for(const Fixture *pair, const Node *node, const char *who);

static gboolean is_decided_for(const Fixture *pair, const char *session, const char *who)
{
    g_autofree char *text = NULL;
    g_autofree char *path =
        g_strdup_printf("%s/%s.%s", pair->dir, pair->host[0].config->vm->uuid, session);
    g_autofree char *line = g_strdup_printf("\ngranted-to %s\n", who);
    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, line);
}

/* The primary's host dies together with the server of the arbiter's storage. */
static void test_secondary_is_forced(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *b = &pair.host[1];
    hold(&storage, HOLD_BEFORE);
    die(&pair.host[0]);
    WAIT_FOR(b->node->state == FSM_S_PAUSED && is_told(b->node, "doesn't answer"));
    failover(b, FALSE);
    WAIT_FOR(claim_is_undecided(b->node->claim));
    g_assert_cmpint(b->node->state, ==, FSM_S_PAUSED);
    failover(b, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE && traffic_route(b->node->traffic) == ROUTE_OPEN);
    g_assert_cmpint(claim_doing(b->node->claim), !=, CLAIM_IDLE);
    g_autofree char *session = g_strdup(claim_session(b->node->claim));
    g_assert_false(is_decided_for(&pair, session, "beta"));
    /* The question is still open: with its answer it is as if there had been no force. */
    hold_end(&storage);
    WAIT_FOR(claim_doing(b->node->claim) == CLAIM_IDLE && claim_is_recorded(b->node->claim));
    g_assert_true(is_decided_for(&pair, session, "beta"));
    g_assert_false(is_told(b->node, "contradicts"));
    tear_down(&pair);
}

/* The order comes while the answer may still come in time. */
static void test_force_while_asking(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *b = &pair.host[1];
    arbiter_set_limit_ms(claim_arbiter(b->node->claim), 2000);
    hold(&storage, HOLD_BEFORE);
    die(&pair.host[0]);
    WAIT_FOR(arbiter_is_asked(claim_arbiter(b->node->claim)));
    guint questions = claim_questions(b->node->claim);
    failover(b, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(claim_questions(b->node->claim), ==, questions);
    hold_end(&storage);
    tear_down(&pair);
}

/* A clear no is not overruled: the question was open, and its answer comes in time. */
static void test_force_is_denied(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *b = &pair.host[1];
    arbiter_set_limit_ms(claim_arbiter(b->node->claim), 0);
    hold(&storage, HOLD_BEFORE);
    die(&pair.host[0]);
    WAIT_FOR(hold_waiting(&storage) > 0);
    failover(b, TRUE);
    g_autoptr(Arbiter) alpha = ask_for(&pair, b->node, "alpha");
    hold_end(&storage);
    WAIT_FOR(!g_strcmp0(claim_last_answer(b->node->claim), "denied"));
    g_assert_cmpint(b->node->state, ==, FSM_S_PAUSED);
    g_assert_false(claim_is_forced(b->node->claim));
    tear_down(&pair);
}

static void count(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    guint *answers = user_data;
    g_assert_no_error(error);
    g_assert_cmpint(answer, ==, ARBITER_GRANTED);
    (*answers)++;
}

/* Has the session decided for somebody, by another way to storage. */
static Arbiter *ask_for(const Fixture *pair, const Node *node, const char *who)
{
    guint answers = 0;
    Arbiter *arbiter = arbiter_new(pair->dir, NULL, NULL);
    arbiter_ask(arbiter, node->config->vm->uuid, claim_session(node->claim), who, 1, count,
                &answers);
    WAIT_FOR(answers == 1);
    return arbiter;
}

/* It was the other that had been told yes. The administrator has to know. */
static void test_contradicted(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *b = &pair.host[1];
    hold(&storage, HOLD_BEFORE);
    die(&pair.host[0]);
    WAIT_FOR(is_told(b->node, "doesn't answer"));
    g_autoptr(Arbiter) alpha = ask_for(&pair, b->node, "alpha");
    failover(b, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    hold_end(&storage);
    WAIT_FOR(is_told(b->node, "contradicts the administrator"));
    /* Only one who can see both may say which one is to end. */
    g_assert_cmpint(b->node->state, ==, FSM_P_NONE);
    tear_down(&pair);
}

/* Storage fails instead of hanging: it is asked again until the decision is there. */
static void test_asked_after_force(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *b = &pair.host[1];
    g_autofree char *there = g_build_filename(pair.dir, "colo-arbiter-id", NULL);
    g_autofree char *away = g_build_filename(pair.dir, "away", NULL);
    g_assert_cmpint(g_rename(there, away), ==, 0);
    die(&pair.host[0]);
    WAIT_FOR(is_told(b->node, "has no name"));
    failover(b, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_autofree char *session = g_strdup(claim_session(b->node->claim));
    g_assert_cmpint(g_rename(away, there), ==, 0);
    WAIT_FOR(claim_doing(b->node->claim) == CLAIM_IDLE);
    g_assert_true(is_decided_for(&pair, session, "beta"));
    tear_down(&pair);
}

/* The link is back, and the primary can't find out what the secondary has done meanwhile. */
static void test_recover_is_forced(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *a = &pair.host[0];
    hold(&storage, HOLD_BEFORE);
    cut_link(&pair);
    WAIT_FOR(a->node->state == FSM_P_RECOVER && is_told(a->node, "doesn't answer"));
    failover(a, TRUE);
    WAIT_FOR(a->node->state != FSM_P_RECOVER && a->node->state != FSM_P_PAUSED);
    WAIT_FOR(traffic_route(a->node->traffic) == ROUTE_OPEN);
    g_assert_true(fsm_is_primary(a->node->state));
    hold_end(&storage);
    WAIT_FOR(fsm_is_protected(a->node->state) && fsm_is_protected(pair.host[1].node->state));
    tear_down(&pair);
}

/* Nobody says anything, but storage does, late: the secondary goes on. */
static void test_late_yes(void)
{
    static const HoldWhere places[] = {HOLD_BEFORE, HOLD_AFTER};
    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        Fixture pair;
        protect_slow(&pair);
        Host *b = &pair.host[1];
        hold(&storage, places[i]);
        die(&pair.host[0]);
        WAIT_FOR(is_told(b->node, "doesn't answer") && claim_is_undecided(b->node->claim));
        hold_end(&storage);
        WAIT_FOR(b->node->state == FSM_P_NONE);
        tear_down(&pair);
    }
}

/* An end is not held up by what can't be written. */
static void test_ends(void)
{
    Fixture pair;
    protect_slow(&pair);
    Host *a = &pair.host[0], *b = &pair.host[1];
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    hold(&storage, HOLD_BEFORE);
    start(b, "secondary");
    WAIT_FOR(hold_waiting(&storage) > 0); /* the session's record */
    node_shut_down(a->node);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    hold_end(&storage);
    tear_down(&pair);
}

/* A node that may not start the VM because nobody can be asked, until it is told to. */
static void test_overruled(void)
{
    Fixture pair;
    start_pair(&pair, "file");
    Host *a = &pair.host[0];
    g_autofree char *there = g_build_filename(pair.dir, "colo-arbiter-id", NULL);
    g_autofree char *away = g_build_filename(pair.dir, "away", NULL);
    die(a);
    die(&pair.host[1]);
    g_assert_cmpint(g_rename(there, away), ==, 0);
    a->is_to_ask = TRUE;
    start(a, "primary");
    WAIT_FOR(is_told(a->node, "waiting for the arbiter"));
    die(a);
    a->config->overrule = TRUE;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && traffic_route(a->node->traffic) == ROUTE_OPEN);
    WAIT_FOR(is_told(a->node, "can't record"));
    g_assert_cmpint(g_rename(away, there), ==, 0);
    WAIT_FOR(claim_is_recorded(a->node->claim));
    tear_down(&pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-arbiter-hangs/secondary-is-forced", test_secondary_is_forced);
    add_pair_test("/node-arbiter-hangs/force-while-asking", test_force_while_asking);
    add_pair_test("/node-arbiter-hangs/force-is-denied", test_force_is_denied);
    add_pair_test("/node-arbiter-hangs/contradicted", test_contradicted);
    add_pair_test("/node-arbiter-hangs/asked-after-force", test_asked_after_force);
    add_pair_test("/node-arbiter-hangs/recover-is-forced", test_recover_is_forced);
    add_pair_test("/node-arbiter-hangs/late-yes", test_late_yes);
    add_pair_test("/node-arbiter-hangs/ends", test_ends);
    add_pair_test("/node-arbiter-hangs/overruled", test_overruled);
    return g_test_run();
}
