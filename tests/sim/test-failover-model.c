/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every state of a pair of nodes: tests/model/model.h says what is checked in each of them. Here is
 * how such pairs begin, and what has to be reached. Here is also what holds for the table of fsm.h
 * itself.
 */
#include "tests/model/model.h"

#include <string.h>

typedef struct {
    gboolean second_took_over, first_took_back, overtaken_came_back, overtaken_refused;
    gboolean reached[FSM_STATES];
    gboolean moved[FSM_STATES][FSM_EVENTS];
    gboolean left_as_cancelled;
    gboolean switched_back;
} Sights;

static Sights see(Search *search)
{
    Sights sights = {0};
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, search->seen);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Pair *pair = &((const Known *)key)->pair;
        const Side *a = &pair->side[0], *b = &pair->side[1];
        sights.reached[a->state] = sights.reached[b->state] = TRUE;
        sights.second_took_over |= b->state == FSM_P_NONE;
        sights.first_took_back |=
            a->state == FSM_P_NONE && pair->session == SESSIONS && b->state == FSM_P_FROZEN;
        /* Of role auto, and it is a secondary of the one that has overtaken it. */
        sights.overtaken_came_back |=
            pair->restarts > 0 && a->is_auto && a->state == FSM_S_COLO && b->state == FSM_P_COLO;
        sights.overtaken_refused |= pair->restarts > 0 && !a->is_auto && !a->claim &&
                                    a->state == FSM_FAILED && b->state == FSM_P_NONE;
    }
    memcpy(sights.moved, search->moved, sizeof(sights.moved));
    sights.left_as_cancelled = search->left_as_cancelled;
    sights.switched_back = search->switched[0] && search->switched[1];
    model_finish(search);
    return sights;
}

/* Each way that a switchover can go was gone: done, refused, cancelled, cut, in each phase. */
static void check_switchovers(const Sights *sights)
{
    static const struct {
        FsmState state;
        FsmEvent event;
    } steps[] = {
        {FSM_P_COLO,           FSM_HOLD            },
        {FSM_P_COLO,           FSM_CONTINUE        },
        {FSM_P_PRE_SWITCHOVER, FSM_CONTINUE        },
        {FSM_P_PRE_SWITCHOVER, FSM_YIELD           },
        {FSM_P_DEVICE,         FSM_COMMITTED       },
        {FSM_P_HANDED,         FSM_TAKEN           },
        {FSM_P_HANDED,         FSM_REFUSED         },
        {FSM_P_PRE_SWITCHOVER, FSM_CANCEL          },
        {FSM_P_DEVICE,         FSM_CANCEL          },
        {FSM_P_DEVICE,         FSM_HAND_OVER_FAILED},
        {FSM_P_HANDED,         FSM_HAND_OVER_FAILED},
        {FSM_P_PRE_SWITCHOVER, FSM_LINK_DOWN       },
        {FSM_P_DEVICE,         FSM_LINK_DOWN       },
        {FSM_P_HANDED,         FSM_LINK_DOWN       },
        {FSM_S_HANDED,         FSM_LINK_DOWN       },
        {FSM_P_HANDED,         FSM_GIVEN_BACK      },
        {FSM_S_TAKING,         FSM_TAKEN_OVER      },
        {FSM_S_TAKING,         FSM_HAND_OVER_FAILED},
        {FSM_S_TAKING,         FSM_VM_LOST         },
        {FSM_S_TAKING,         FSM_SHUTDOWN        },
        {FSM_S_TAKING,         FSM_LINK_DOWN       },
        {FSM_S_TAKING,         FSM_YIELDED         },
        {FSM_S_GIVING,         FSM_GIVEN_BACK      },
        {FSM_S_GIVING,         FSM_LINK_DOWN       },
        {FSM_S_LEAVING,        FSM_GIVEN_BACK      },
        {FSM_S_LEAVING,        FSM_LINK_DOWN       },
        {FSM_P_PRE_SWITCHOVER, FSM_VM_LOST         },
        {FSM_P_PRE_SWITCHOVER, FSM_PEER_GOODBYE    },
        {FSM_P_PRE_SWITCHOVER, FSM_SHUTDOWN        },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++)
        if (!sights->moved[steps[i].state][steps[i].event])
            g_error("the model never meets event %s in state %s", fsm_event_name(steps[i].event),
                    fsm_state_name(steps[i].state));
    g_assert_true(sights->left_as_cancelled && sights->switched_back);
}

static const Side as_secondary = {.state = FSM_S_STARTING};

static void test_without_arbiter(void)
{
    static const Side as_primary = {.state = FSM_P_STARTING};
    Search search = {0};
    model_explore(&search, FALSE, &as_primary, &as_secondary);
    Sights sights = see(&search);
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (!sights.reached[state] && state != FSM_P_ASKING)
            g_error("the model never reaches state %s", fsm_state_name(state));
    g_assert_true(sights.second_took_over && sights.first_took_back);
    check_switchovers(&sights);
}

static void test_with_arbiter(void)
{
    static const Side as_primary = {.state = FSM_P_ASKING};
    Search search = {.restarts = 2};
    model_explore(&search, TRUE, &as_primary, &as_secondary);
    Sights sights = see(&search);
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (!sights.reached[state])
            g_error("the model never reaches state %s", fsm_state_name(state));
    g_assert_true(sights.second_took_over && sights.first_took_back);
    g_assert_true(sights.overtaken_came_back && sights.overtaken_refused);
    check_switchovers(&sights);
}

/* Two that are started alike find out who is what. */
static void test_both_auto(void)
{
    static const Side as_auto = {.state = FSM_P_ASKING, .is_auto = TRUE};
    Search search = {.restarts = 1};
    model_explore(&search, TRUE, &as_auto, &as_auto);
    Sights sights = see(&search);
    g_assert_true(sights.reached[FSM_P_COLO] && sights.reached[FSM_S_COLO]);
    g_assert_true(sights.second_took_over && sights.overtaken_came_back);
}

/* What an administrator may type at any moment, or where the node lets it through, is no bug of ours. */
static gboolean is_order(FsmState state, FsmEvent event)
{
    switch (event) {
    case FSM_CONTINUE:
    case FSM_CANCEL:
    case FSM_SHUTDOWN:
        return TRUE;
    case FSM_YIELD:
        return events_takes_yield(state, TRUE);
    case FSM_HOLD:
        return state == FSM_P_COLO;
    default:
        return FALSE;
    }
}

static void test_table_is_whole(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_assert_nonnull(fsm_state_name(state));
        for (FsmEvent event_ = 0; event_ < FSM_EVENTS; event_++) {
            g_assert_nonnull(fsm_event_name(event_));
            FsmStep step = fsm_step(state, event_);
            if (is_order(state, event_))
                g_assert_cmpint(step.verdict, !=, FSM_BUG);
            if (step.verdict != FSM_MOVE)
                continue;
            /* Output is released only by a primary, and only where no other can have a claim. */
            if (step.actions & FSM_DO_OPEN_GATE)
                g_assert_true(step.next == FSM_P_NONE || step.next == FSM_P_SETUP);
            if ((state == FSM_P_PAUSED || state == FSM_P_RECOVER || state == FSM_P_FROZEN) &&
                (step.actions & FSM_DO_OPEN_GATE))
                g_assert_cmpint(event_, ==, FSM_GRANTED);
            if (step.actions & FSM_DO_TAKE_OVER)
                g_assert_true(event_ == FSM_GRANTED || event_ == FSM_PEER_PAUSED);
            if (step.actions & FSM_DO_TAKE_OVER)
                g_assert_true(fsm_is_taking_over(step.next));
            /* Who opens them has the VM for good. Who gives it back has not opened them. */
            if (step.actions & FSM_DO_OPEN_UPLINKS)
                g_assert_true(step.next == FSM_S_DEVICE || step.next == FSM_P_NONE);
            if (step.actions & FSM_DO_GIVE_BACK)
                g_assert_true(state == FSM_S_TAKING && (step.actions & FSM_DO_KILL_VM));
            if (step.actions & FSM_DO_SEND_TAKEN)
                g_assert_cmpint(event_, ==, FSM_TAKEN_OVER);
            /* These may find the link broken and feed that from within: nothing may come after. */
            if (step.actions & FSM_DO_START_APPLY)
                g_assert_cmpuint(step.actions, <, FSM_DO_START_APPLY << 1);
            if (step.actions & FSM_DO_SYNCHRONISE)
                g_assert_cmpuint(step.actions, <, FSM_DO_SYNCHRONISE << 1);
            /* Likewise where a secondary finds that it has nothing to ask for. */
            if ((step.actions & FSM_DO_ASK_ARBITER) && step.next == FSM_S_PAUSED)
                g_assert_cmpuint(step.actions, <, FSM_DO_ASK_ARBITER << 1);
            /* A VM that must not continue is dead before anything else happens; or it was fenced
             * before, and another side runs it. */
            if (fsm_is_primary(state) && state != FSM_P_ASKING && step.next == FSM_S_STARTING) {
                g_assert_cmpint(state, ==, FSM_P_FROZEN);
                g_assert_true(step.actions & FSM_DO_BECOME_REPLICA);
            }
            /* A copy that is kept is a frozen primary's, and it feeds VM_STARTED later. */
            if (step.actions & FSM_DO_BECOME_REPLICA)
                g_assert_true(state == FSM_P_FROZEN && event_ == FSM_LINK_UP &&
                              step.next == FSM_S_STARTING && !(step.actions & FSM_DO_DIAL));
            if (step.next == FSM_FAILED || step.next == FSM_COMPLETED)
                g_assert_true((step.actions & FSM_DO_KILL_VM) && (step.actions & FSM_DO_EXIT));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/failover-model/table-is-whole", test_table_is_whole);
    g_test_add_func("/failover-model/without-arbiter", test_without_arbiter);
    g_test_add_func("/failover-model/with-arbiter", test_with_arbiter);
    g_test_add_func("/failover-model/both-auto", test_both_auto);
    return g_test_run();
}
