/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which event it is. What comes of these in a pair: tests/sim/test-failover-model. */
#include "colo/node/events.h"

/* Only who could be let go on leaves it to the other; any event that comes of it has an answer. */
static void test_link_lost(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_assert_cmpint(events_link_lost(state, TRUE), ==, FSM_LINK_DOWN);
        FsmEvent event = events_link_lost(state, FALSE);
        g_assert_true((event == FSM_INVALID) == (state == FSM_S_COLO || state == FSM_S_HANDED));
        if (event == FSM_INVALID)
            g_assert_cmpint(fsm_step(state, event).next, ==, FSM_S_NONE);
    }
}

static void test_ask(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (CopyCondition copy = 0; copy < COPY_CONDITIONS; copy++)
            for (int yielded = 0; yielded < 2; yielded++) {
                EventsAsk ask = events_ask(state, copy, yielded);
                gboolean waits = state == FSM_S_PAUSED && copy == COPY_LOADING;
                gboolean leaves = state == FSM_S_PAUSED && copy == COPY_INVALID && !yielded;
                g_assert_cmpint(ask, ==,
                                waits    ? EVENTS_ASK_WAITS
                                : leaves ? EVENTS_ASK_LEAVES
                                         : EVENTS_ASK_NOW);
            }
    g_assert_cmpint(fsm_step(FSM_S_PAUSED, FSM_INVALID).next, ==, FSM_S_NONE);
}

/* A load is begun only where no answer can come that it could make wrong. */
static void test_copy_duty(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (int undecided = 0; undecided < 2; undecided++) {
            CopyDuty duty = events_copy_duty(state, undecided);
            g_assert_false(fsm_is_primary(state) && duty != COPY_UNUSED);
            if (state == FSM_S_PAUSED || state == FSM_S_RECOVER)
                g_assert_false(copy_may_load(duty));
        }
    g_assert_cmpint(events_copy_duty(FSM_S_ACTIVE, FALSE), ==, COPY_JOIN);
    g_assert_cmpint(events_copy_duty(FSM_S_COLO, FALSE), ==, COPY_PROTECT);
    g_assert_cmpint(events_copy_duty(FSM_S_HANDED, FALSE), ==, COPY_HAND_OVER);
    g_assert_cmpint(events_copy_duty(FSM_S_PAUSED, FALSE), ==, COPY_HOLD);
    g_assert_cmpint(events_copy_duty(FSM_S_PAUSED, TRUE), ==, COPY_FREEZE);
    g_assert_cmpint(events_copy_duty(FSM_S_DEVICE, FALSE), ==, COPY_TAKE_OVER);
    g_assert_cmpint(events_copy_duty(FSM_S_STARTING, FALSE), ==, COPY_UNUSED);
    g_assert_cmpint(events_copy_duty(FSM_FAILED, FALSE), ==, COPY_UNUSED);
}

static void test_peer(void)
{
    g_assert_cmpint(events_unfit(TRUE), ==, FSM_UNFIT);
    g_assert_cmpint(events_unfit(FALSE), ==, FSM_INVALID);
    g_assert_cmpint(events_peer_ends(FSM_PEER_GOODBYE, FALSE), ==, FSM_PEER_GOODBYE);
    g_assert_cmpint(events_peer_ends(FSM_PEER_FAILED, FALSE), ==, FSM_PEER_FAILED);
    g_assert_cmpint(events_peer_ends(FSM_PEER_GOODBYE, TRUE), ==, FSM_LINK_DOWN);
    g_assert_cmpint(events_peer_ends(FSM_PEER_FAILED, TRUE), ==, FSM_LINK_DOWN);
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_assert_false(events_takes_yield(state, FALSE));
        g_assert_true(events_takes_yield(state, TRUE) ==
                      (state == FSM_P_COLO || state == FSM_P_PRE_SWITCHOVER));
    }
}

static void test_leave(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (guint bits = 0; bits < 4; bits++) {
            gboolean leaving = bits & 1, may_do_without = (bits & 2) != 0;
            EventsLeave leave = events_leave(state, leaving, may_do_without);
            g_assert_true((leave == EVENTS_LEAVE_GOES) == (state == FSM_S_COLO && leaving));
            g_assert_true((leave == EVENTS_LEAVE_MAY) == (state == FSM_P_COLO && may_do_without));
        }
}

/* On both sides of a VM that ends, whatever would end its protection ends it. */
static void test_final(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (FsmEvent event = 0; event < FSM_EVENTS; event++) {
            g_assert_cmpint(events_final(state, FALSE, event), ==, event);
            FsmEvent final = events_final(state, TRUE, event);
            if (state != FSM_P_COLO && state != FSM_S_COLO)
                g_assert_cmpint(final, ==, event);
        }
    static const FsmEvent over[] = {FSM_LINK_DOWN, FSM_PEER_FAILED, FSM_PEER_GOODBYE, FSM_YIELD,
                                    FSM_VM_LOST};
    for (gsize i = 0; i < G_N_ELEMENTS(over); i++)
        g_assert_cmpint(events_final(FSM_P_COLO, TRUE, over[i]), ==, FSM_SHUTDOWN);
    static const FsmEvent lost[] = {FSM_LINK_DOWN, FSM_YIELDED, FSM_INVALID};
    for (gsize i = 0; i < G_N_ELEMENTS(lost); i++)
        g_assert_cmpint(events_final(FSM_S_COLO, TRUE, lost[i]), ==, FSM_PEER_GOODBYE);
    g_assert_cmpint(events_final(FSM_S_COLO, TRUE, FSM_VM_LOST), ==, FSM_VM_LOST);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/link-lost", test_link_lost);
    g_test_add_func("/events/ask", test_ask);
    g_test_add_func("/events/copy-duty", test_copy_duty);
    g_test_add_func("/events/peer", test_peer);
    g_test_add_func("/events/leave", test_leave);
    g_test_add_func("/events/final", test_final);
    return g_test_run();
}
