/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long a hand-over may take at the secondary, and why it fails, on a clock of our own. */
#include "colo/node/taking.h"
#include "vm/vm.h"

#include "tests/support/turned-clock.h"

#include <string.h>

#define LIMIT_MS 5000

typedef struct {
    Config config;
    Taking *taking;
    gboolean is_there, is_cancelled;
    guint failed;
} Fixture;

static void on_event(FsmEvent event, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(event, ==, FSM_HAND_OVER_FAILED);
    f->failed++;
}

static gboolean on_is_there(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->is_there;
}

static gboolean on_is_cancelled(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->is_cancelled;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const TakingHandler handler = {
        .event = on_event, .is_there = on_is_there, .is_cancelled = on_is_cancelled};
    (void)data;
    f->config.disk_timeout_ms = LIMIT_MS;
    f->is_there = TRUE;
    f->taking = taking_new(&f->config, &handler, f);
    taking_moved(f->taking, FSM_S_HANDED, FSM_HANDED);
    taking_moved(f->taking, FSM_S_TAKING, FSM_GRANTED);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    taking_free(f->taking);
}

static void refuse(const Fixture *f, gboolean is_load)
{
    g_autoptr(GError) error = g_error_new_literal(g_quark_from_static_string("test"), 1, "full");
    taking_refused(f->taking, "a step", error, is_load);
}

static void test_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    turned_clock_pass_ms(LIMIT_MS - 100);
    refuse(f, FALSE);
    g_assert_cmpuint(f->failed, ==, 0);
    turned_clock_pass_ms(101);
    g_assert_cmpuint(f->failed, ==, 1);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "not taken over in time: a step: full");
    turned_clock_pass_ms(3 * LIMIT_MS);
    g_assert_cmpuint(f->failed, ==, 1);
}

/* A load that is refused is no better the next time. */
static void test_load(Fixture *f, gconstpointer data)
{
    (void)data;
    refuse(f, TRUE);
    g_assert_cmpuint(f->failed, ==, 1);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "a step: full");
    /* The next one is too late. */
    taking_moved(f->taking, FSM_S_HANDED, FSM_HANDED);
    taking_moved(f->taking, FSM_S_TAKING, FSM_GRANTED);
    turned_clock_pass_ms(LIMIT_MS + 1);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "not taken over in 5000 ms");
}

/* Nor is a QEMU that has lost a disk. */
static void test_spent(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_SPENT, "a disk is lost");
    (void)data;
    taking_refused(f->taking, "a step", error, FALSE);
    g_assert_cmpuint(f->failed, ==, 1);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "a step: a disk is lost");
}

/* Not in favour of a primary that has perhaps died: a sign of it is waited for. */
static void test_no_sign(Fixture *f, gconstpointer data)
{
    (void)data;
    f->is_there = FALSE;
    refuse(f, TRUE);
    turned_clock_pass_ms(3 * LIMIT_MS);
    g_assert_cmpuint(f->failed, ==, 0);
    f->is_there = TRUE;
    turned_clock_pass_ms(100);
    g_assert_cmpuint(f->failed, ==, 1);
}

/* It is over, or there is no way back any more: nothing fails. */
static void test_over(Fixture *f, gconstpointer data)
{
    taking_moved(f->taking, (FsmState)GPOINTER_TO_INT(data), FSM_TAKEN_OVER);
    refuse(f, TRUE);
    turned_clock_pass_ms(3 * LIMIT_MS);
    g_assert_cmpuint(f->failed, ==, 0);
}

/* A node that ends waits for the arbiter, but not for ever. */
static void test_leaving(Fixture *f, gconstpointer data)
{
    (void)data;
    f->is_there = FALSE;
    taking_moved(f->taking, FSM_S_LEAVING, FSM_SHUTDOWN);
    g_assert_cmpstr(taking_why(f->taking), ==, "the secondary ends");
    turned_clock_pass_ms(TAKING_LEAVE_MS - 100);
    g_assert_cmpuint(f->failed, ==, 0);
    turned_clock_pass_ms(200);
    g_assert_cmpuint(f->failed, ==, 1);
}

static void test_lost(Fixture *f, gconstpointer data)
{
    (void)data;
    refuse(f, FALSE);
    taking_moved(f->taking, FSM_S_GIVING, FSM_VM_LOST);
    g_assert_cmpstr(taking_why(f->taking), ==, "a step: full");
    /* The next time there is another reason. */
    taking_moved(f->taking, FSM_S_TAKING, FSM_GRANTED);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "not taken over in 5000 ms");
}

/* It was while the arbiter was asked. Later it is too late. */
static void test_cancelled(Fixture *f, gconstpointer data)
{
    (void)data;
    f->is_cancelled = TRUE;
    turned_clock_pass_ms(LIMIT_MS / 2);
    g_assert_cmpuint(f->failed, ==, 0);
    taking_moved(f->taking, FSM_S_HANDED, FSM_HANDED);
    taking_moved(f->taking, FSM_S_TAKING, FSM_GRANTED);
    g_assert_cmpuint(f->failed, ==, 0);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->failed, ==, 1);
    taking_moved(f->taking, FSM_S_GIVING, FSM_HAND_OVER_FAILED);
    g_assert_cmpstr(taking_why(f->taking), ==, "the switchover was cancelled");
}

#define ADD(name, data, test) g_test_add("/taking/" name, Fixture, (data), set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("limit", NULL, test_limit);
    ADD("load", NULL, test_load);
    ADD("spent", NULL, test_spent);
    ADD("no-sign", NULL, test_no_sign);
    ADD("taken-over", GINT_TO_POINTER(FSM_P_NONE), test_over);
    ADD("link-lost", GINT_TO_POINTER(FSM_S_DEVICE), test_over);
    ADD("leaving", NULL, test_leaving);
    ADD("lost", NULL, test_lost);
    ADD("cancelled", NULL, test_cancelled);
    return g_test_run();
}
