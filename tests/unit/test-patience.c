/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What time counts for a wait, on a clock of our own. Times in milliseconds. */
#include "common/patience.h"

#define STEP_MS (PATIENCE_STEP_US / COLO_US_PER_MS)

static ColoTime at(gint64 ms)
{
    return (ColoTime){.us = 1000000 + ms * COLO_US_PER_MS};
}

static gint64 planned_ms(const Patience *patience)
{
    return colo_time_diff_us(patience->planned, at(0)) / COLO_US_PER_MS;
}

/* Steps on time until it is over; returns when that was. */
static gint64 wait_on(Patience *patience)
{
    gint64 ms;
    do
        ms = planned_ms(patience);
    while (!patience_step(patience, at(ms)));
    return ms;
}

static void test_running(void)
{
    Patience patience;
    patience_start(&patience, 1030 * COLO_US_PER_MS, at(0));
    g_assert_cmpint(planned_ms(&patience), ==, STEP_MS);
    /* To the millisecond, though that is between two steps. */
    g_assert_cmpint(wait_on(&patience), ==, 1030);
}

/* A main loop that is merely slow isn't an excuse. */
static void test_slow(void)
{
    Patience patience;
    gint64 ms = 0;
    patience_start(&patience, 1000 * COLO_US_PER_MS, at(0));
    while (!patience_step(&patience, at(ms)))
        ms = planned_ms(&patience) + STEP_MS / 2;
    g_assert_cmpint(ms, <=, 1000 + STEP_MS / 2);
}

/* Whatever moment it was stopped at: what was left is left, and a step at least. */
static void test_stopped(void)
{
    for (gint64 stop = 0; stop < 1000; stop++) {
        Patience patience;
        patience_start(&patience, 1000 * COLO_US_PER_MS, at(0));
        while (planned_ms(&patience) <= stop)
            g_assert_false(patience_step(&patience, at(planned_ms(&patience))));
        g_assert_false(patience_step(&patience, at(stop + 10000)));
        gint64 end = wait_on(&patience);
        g_assert_cmpint(end, >=, stop + 10000 + STEP_MS);
        g_assert_cmpint(end, >=, 10000 + 1000 - STEP_MS);
        g_assert_cmpint(end, <=, 10000 + 1000 + STEP_MS);
    }
}

/* Stopped again and again: the time in between counts, so there is an end. */
static void test_stopped_often(void)
{
    Patience patience;
    gint64 ms = 0;
    unsigned steps = 0;
    patience_start(&patience, 1000 * COLO_US_PER_MS, at(0));
    while (!patience_step(&patience, at(ms))) {
        ms = planned_ms(&patience) + (steps % 2 ? 5000 : 0);
        g_assert_cmpuint(++steps, <=, 20);
    }
}

/* Zero is over at the first look, unless that comes late. */
static void test_nothing(void)
{
    Patience patience;
    patience_start(&patience, 0, at(0));
    g_assert_cmpint(planned_ms(&patience), ==, 0);
    g_assert_true(patience_step(&patience, at(0)));
    patience_start(&patience, 0, at(0));
    g_assert_false(patience_step(&patience, at(5000)));
    g_assert_true(patience_step(&patience, at(5000 + STEP_MS)));
}

static gboolean count(gpointer user_data)
{
    unsigned *calls = user_data;
    return ++*calls < 3;
}

static void test_source(void)
{
    unsigned calls = 0;
    ColoTime began = colo_time_now();
    guint id = patience_add(3, count, &calls);
    GSource *source = g_source_ref(g_main_context_find_source_by_id(NULL, id));
    while (!g_source_is_destroyed(source))
        g_main_context_iteration(NULL, TRUE);
    g_source_unref(source);
    g_assert_cmpuint(calls, ==, 3);
    g_assert_cmpint(colo_time_diff_us(colo_time_now(), began), >=, 9 * COLO_US_PER_MS);
    calls = 0;
    g_source_remove(patience_add(0, count, &calls));
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(calls, ==, 0);
}

/* A blocked main loop: the clock that is looked at is the real one. */
static void test_source_blocked(void)
{
    unsigned calls = 0;
    guint id = patience_add(1, count, &calls);
    g_usleep((gulong)(2 * PATIENCE_STEP_US));
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(calls, ==, 0);
    while (calls == 0)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(id);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/patience/running", test_running);
    g_test_add_func("/patience/slow", test_slow);
    g_test_add_func("/patience/stopped", test_stopped);
    g_test_add_func("/patience/stopped-often", test_stopped_often);
    g_test_add_func("/patience/nothing", test_nothing);
    g_test_add_func("/patience/source", test_source);
    g_test_add_func("/patience/source-blocked", test_source_blocked);
    return g_test_run();
}
