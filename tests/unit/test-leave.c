/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a node that is told to end ends, in each state, on a clock of our own. */
#include "colo/node/leave.h"

#include "common/log.h"
#include "tests/support/turned-clock.h"

typedef struct {
    Leave *leave;
    FsmState state;
    gboolean was_handed;
    guint handed_over, ended;
} Fixture;

static FsmState on_state(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->state;
}

static gboolean on_is_handed(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->state == FSM_P_HANDED || f->was_handed;
}

static void on_hand_over(gpointer user_data)
{
    Fixture *f = user_data;
    f->handed_over++;
    f->state = FSM_P_DEVICE;
}

static void on_end(gpointer user_data)
{
    Fixture *f = user_data;
    f->ended++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const LeaveHandler handler = {
        .state = on_state, .is_handed = on_is_handed, .hand_over = on_hand_over, .end = on_end};
    (void)data;
    f->state = FSM_P_COLO;
    f->leave = leave_new(&handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    leave_free(f->leave);
}

static void move(Fixture *f, FsmState state)
{
    f->state = state;
    leave_look(f->leave);
    turned_clock_pass_ms(0);
}

/* Only a primary of a protected VM hands over, and if it is to; the others end at once. */
static void test_begin(Fixture *f, gconstpointer data)
{
    (void)data;
    for (FsmState state = 0; state < FSM_STATES; state++) {
        f->handed_over = f->ended = 0;
        f->state = state;
        /* Also one that does already: it ends after that. */
        gboolean hands_over =
            state == FSM_P_COLO || state == FSM_P_PRE_SWITCHOVER || state == FSM_P_DEVICE;
        /* The secondary may give it back. */
        gboolean waits = hands_over || state == FSM_P_HANDED;
        leave_begin(f->leave, TRUE);
        g_assert_cmpuint(f->handed_over, ==, hands_over);
        g_assert_cmpuint(f->ended, ==, !waits);
        if (waits)
            leave_begin(f->leave, TRUE); /* a second signal */
        g_assert_cmpuint(f->ended, ==, 1);
        g_assert_false(leave_is_under_way(f->leave));
    }
    f->state = FSM_P_COLO;
    leave_begin(f->leave, FALSE);
    g_assert_cmpuint(f->handed_over, ==, 0);
    g_assert_cmpuint(f->ended, ==, 2);
}

/* What each state of a node that hands over means. */
static void test_states(Fixture *f, gconstpointer data)
{
    (void)data;
    for (FsmState state = 0; state < FSM_STATES; state++) {
        gboolean undone = state == FSM_P_DEVICE || state == FSM_P_HANDED || state == FSM_P_PAUSED ||
                          state == FSM_P_RECOVER || state == FSM_P_FROZEN || state == FSM_P_COLO;
        f->ended = 0;
        f->state = FSM_P_COLO;
        leave_begin(f->leave, TRUE);
        move(f, state);
        g_assert_cmpuint(f->ended, ==, !undone);
        if (undone)
            leave_begin(f->leave, TRUE);
        g_assert_cmpuint(f->ended, ==, 1);
    }
}

/* The VM has stayed, whoever wanted that: it is handed over once more, and no more than that. */
static void test_again(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint round = 1; round <= 2; round++) {
        f->handed_over = f->ended = 0;
        f->state = FSM_P_COLO;
        leave_begin(f->leave, TRUE);
        move(f, FSM_P_COLO);
        g_assert_cmpuint(f->handed_over, ==, 2);
        g_assert_cmpuint(f->ended, ==, 0);
        move(f, FSM_P_COLO);
        g_assert_cmpuint(f->handed_over, ==, 2);
        g_assert_cmpuint(f->ended, ==, 1);
    }
}

static void test_patience(Fixture *f, gconstpointer data)
{
    (void)data;
    leave_begin(f->leave, TRUE);
    turned_clock_pass_ms(29000);
    g_assert_cmpuint(f->ended, ==, 0);
    turned_clock_pass_ms(2000);
    g_assert_cmpuint(f->ended, ==, 1);
    turned_clock_pass_ms(60000);
    move(f, FSM_FAILED);
    g_assert_cmpuint(f->ended, ==, 1);
}

/* Nobody knows whether the other node has the VM: as long as that is so, this one keeps it. */
static void test_handed(Fixture *f, gconstpointer data)
{
    (void)data;
    f->state = FSM_P_HANDED;
    leave_begin(f->leave, TRUE);
    turned_clock_pass_ms(100000);
    g_assert_cmpuint(f->ended, ==, 0);
    /* The limit of that state is over, and the arbiter has not said whose it is. */
    f->was_handed = TRUE;
    move(f, FSM_P_PAUSED);
    g_assert_cmpuint(f->ended, ==, 0);
    turned_clock_pass_ms(5000);
    g_assert_cmpuint(f->ended, ==, 0);
    turned_clock_pass_ms(5500);
    g_assert_cmpuint(f->ended, ==, 1);
    leave_begin(f->leave, TRUE);
    g_assert_cmpuint(f->ended, ==, 1);
    move(f, FSM_P_FROZEN);
    g_assert_cmpuint(f->ended, ==, 1);
    move(f, FSM_S_STARTING);
    g_assert_cmpuint(f->ended, ==, 2);
    g_assert_cmpuint(f->handed_over, ==, 0);
}

#define ADD(name, test) g_test_add("/leave/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("begin", test_begin);
    ADD("states", test_states);
    ADD("again", test_again);
    ADD("patience", test_patience);
    ADD("handed", test_handed);
    return g_test_run();
}
