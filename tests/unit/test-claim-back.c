/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node may have been granted, and does not continue by: that is the peer's. */
#include "colo/node/claim_internal.h"
#include "common/log.h"
#include "tests/support/claim-host.h"
#include "tests/support/wait.h"

#include <string.h>

static void end_and_concede(ClaimHost *f)
{
    claim_host_forget(f);
    claim_host_feed(f, FSM_SHUTDOWN);
    g_assert_true(claim_concede(f->claim));
    WAIT_FOR(claim_host_reported(f, "released"));
}

/* The yes comes late, and the node ends: the primary is not to be denied for it. */
static void test_conceded(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_unanswered(f, HOLD_BEFORE);
    claim_host_let_go(f);
    WAIT_FOR(claim_host_is_decided(f, "alpha"));
    end_and_concede(f);
    claim_host_decide_for_peer(f);
}

/* It ends before that lands, and then that comes to nothing. */
static void test_conceded_before(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_unanswered(f, HOLD_BEFORE);
    hold(&claim_storage, HOLD_NOT);
    end_and_concede(f);
    claim_host_decide_for_peer(f);
    guint waiting = hold_waiting(&claim_storage);
    g_assert_cmpuint(waiting, >, 0);
    claim_host_let_go(f);
    WAIT_FOR(hold_waiting(&claim_storage) == 0);
    claim_host_decide_for_peer(f);
}

/* Storage doesn't answer: the end waits for that no longer. */
static void test_conceded_in_vain(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_unanswered(f, HOLD_BEFORE);
    end_and_concede(f);
}

/* Nothing was granted to one that has not asked, or was told no. */
static void test_nothing_to_concede(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_become_secondary(f);
    claim_host_feed(f, FSM_HANDED);
    g_assert_false(claim_concede(f->claim));
    claim_host_decide_for_peer(f);
    claim_host_feed(f, FSM_VM_FIT);
    WAIT_FOR(claim_host_reported(f, "denied"));
    g_assert_false(claim_concede(f->claim));
}

/* Storage is away, or hangs, as the primary says that it ends. */
static void lose_the_primary(ClaimHost *f)
{
    claim_host_feed(f, FSM_PEER_GOODBYE);
    g_assert_cmpint(f->state, ==, FSM_S_NONE);
    WAIT_FOR(f->trouble && strstr(f->trouble, "the VM can't be left to the primary"));
}

/* It can't be given back, for storage is away then: it is tried until it can. */
static void test_given_back_again(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_on_record(f, HOLD_BEFORE);
    claim_host_let_go(f);
    WAIT_FOR(claim_host_is_decided(f, "alpha"));
    claim_host_set_storage(f, FALSE);
    lose_the_primary(f);
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
}

/*
 * The arbiter has granted it, and this node is never told: storage went away before its question was answered.
 * Its primary ends. Nobody else knows that this node has nothing to continue with.
 */
static void test_given_back_unheard(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_on_record(f, HOLD_AFTER);
    WAIT_FOR(claim_host_is_decided(f, "alpha"));
    claim_host_set_storage(f, FALSE);
    claim_host_let_go(f);
    lose_the_primary(f);
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
}

/* Its question hangs until long after that: it comes to nothing, for the decision is there. */
static void test_given_back_before(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_on_record(f, HOLD_BEFORE);
    hold(&claim_storage, HOLD_NOT);
    claim_host_feed(f, FSM_PEER_GOODBYE);
    g_assert_cmpint(f->state, ==, FSM_S_NONE);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
    g_assert_cmpuint(hold_waiting(&claim_storage), >, 0);
    claim_host_let_go(f);
    WAIT_FOR(hold_waiting(&claim_storage) == 0);
    g_assert_true(claim_host_is_decided(f, "beta"));
}

/*
 * That hangs, and storage is there again by another way: neither it nor a question about the next session
 * waits for what hangs. What is late says nothing of another session.
 */
static void test_give_back_hangs(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_refuse_on_record(f, HOLD_BEFORE);
    claim_host_let_go(f);
    WAIT_FOR(claim_host_is_decided(f, "alpha") && !arbiter_is_asked(claim_arbiter(f->claim)));
    claim_host_hold(f, HOLD_BEFORE);
    lose_the_primary(f);
    hold(&claim_storage, HOLD_NOT);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
    g_assert_cmpuint(hold_waiting(&claim_storage), >, 0);
    f->session = S2;
    claim_host_feed(f, FSM_LINK_UP);
    claim_host_feed(f, FSM_PEER_RUNS);
    claim_host_feed(f, FSM_PROTECT);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_cmpuint(hold_waiting(&claim_storage), >, 0);
    claim_host_let_go(f);
}

/* A lost link is no hand-over. */
static void test_asked_when_lost(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_become_secondary(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_cmpuint(claim_questions(f->claim), ==, 1);
    g_assert_false(claim_has_asked_handed(f->claim));
    /* Its QEMU dies before the VM runs. */
    g_assert_true(claim_concede(f->claim));
    WAIT_FOR(claim_host_reported(f, "released"));
    claim_host_decide_for_peer(f);
}

#define ADD(name, data, func)                                                                      \
    g_test_add("/claim-back/" name, ClaimHost, data, claim_host_set_up, func, claim_host_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("conceded", NULL, test_conceded);
    ADD("conceded-before", NULL, test_conceded_before);
    ADD("conceded-in-vain", NULL, test_conceded_in_vain);
    ADD("nothing-to-concede", NULL, test_nothing_to_concede);
    ADD("given-back-again", NULL, test_given_back_again);
    ADD("given-back-unheard", NULL, test_given_back_unheard);
    ADD("given-back-before", NULL, test_given_back_before);
    ADD("give-back-hangs", NULL, test_give_back_hangs);
    ADD("asked-when-lost", NULL, test_asked_when_lost);
    return g_test_run();
}
