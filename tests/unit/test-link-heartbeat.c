/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a peer counts as lost, on a clock of our own. Times in milliseconds. */
#include "colo/link/link_internal.h"

static ColoTime at(gint64 ms)
{
    return (ColoTime){.us = 1000000 + ms * COLO_US_PER_MS};
}

static gint64 planned_ms(const Heartbeat *heartbeat)
{
    return colo_time_diff_us(heartbeat->planned, at(0)) / COLO_US_PER_MS;
}

static void test_sends_by_interval(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 100, 500, at(0));
    g_assert_cmpint(planned_ms(&heartbeat), ==, 0);
    for (gint64 ms = 0; ms < 400; ms += 100) {
        g_assert_cmpuint(heartbeat_step(&heartbeat, at(ms)), ==, HEARTBEAT_SEND);
        g_assert_cmpint(planned_ms(&heartbeat), ==, ms + 100);
    }
    /* Called early, there is nothing to do. */
    g_assert_cmpuint(heartbeat_step(&heartbeat, at(350)), ==, 0);
}

static void test_silence(void)
{
    Heartbeat heartbeat;
    unsigned sent = 0;
    heartbeat_start(&heartbeat, 100, 450, at(0));
    for (;;) {
        gint64 ms = planned_ms(&heartbeat);
        guint todo = heartbeat_step(&heartbeat, at(ms));
        if (todo & HEARTBEAT_SEND)
            sent++;
        if (todo & HEARTBEAT_LOST) {
            /* To the millisecond, though that is between two beats. */
            g_assert_cmpint(ms, ==, 450);
            break;
        }
        g_assert_cmpint(ms, <, 450);
    }
    g_assert_cmpuint(sent, ==, 5);
}

static void test_sign_of_life(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 100, 300, at(0));
    for (gint64 ms = 0; ms < 10000; ms += 100) {
        if (ms % 200 == 100)
            heartbeat_received(&heartbeat, at(ms - 1));
        g_assert_false(heartbeat_step(&heartbeat, at(ms)) & HEARTBEAT_LOST);
    }
}

/* Stopped for ten seconds, and nothing waits to be read: what was left of the timeout counts. */
static void test_stopped(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 100, 500, at(0));
    heartbeat_step(&heartbeat, at(0));
    heartbeat_step(&heartbeat, at(100));
    g_assert_cmpuint(heartbeat_step(&heartbeat, at(10100)), ==, HEARTBEAT_SEND);
    g_assert_cmpint(heartbeat.idle_us, ==, 200 * COLO_US_PER_MS);
    g_assert_cmpint(planned_ms(&heartbeat), ==, 10200);
    g_assert_false(heartbeat_step(&heartbeat, at(10200)) & HEARTBEAT_LOST);
    g_assert_false(heartbeat_step(&heartbeat, at(10300)) & HEARTBEAT_LOST);
    g_assert_true(heartbeat_step(&heartbeat, at(10400)) & HEARTBEAT_LOST);
}

/* Stopped, and bytes waited: read before the step, or after it. */
static void test_stopped_and_received(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 100, 500, at(0));
    heartbeat_step(&heartbeat, at(0));
    heartbeat_received(&heartbeat, at(10050));
    g_assert_cmpuint(heartbeat_step(&heartbeat, at(10051)), ==, HEARTBEAT_SEND);
    g_assert_cmpint(heartbeat.idle_us, ==, 0);
    heartbeat_step(&heartbeat, at(30000));
    heartbeat_received(&heartbeat, at(30001));
    g_assert_cmpint(heartbeat.idle_us, ==, 0);
}

/* Stopped again and again: the time in between counts, so a dead peer is noticed in the end. */
static void test_stopped_often(void)
{
    Heartbeat heartbeat;
    gint64 ms = 0;
    unsigned steps = 0;
    heartbeat_start(&heartbeat, 100, 500, at(0));
    while (!(heartbeat_step(&heartbeat, at(ms)) & HEARTBEAT_LOST)) {
        ms = planned_ms(&heartbeat) + (steps % 2 ? 5000 : 0);
        g_assert_cmpuint(++steps, <=, 6);
    }
}

/* A main loop that is merely slow isn't an excuse: all of that time was ours to look. */
static void test_slow(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 100, 500, at(0));
    heartbeat_step(&heartbeat, at(0));
    heartbeat_step(&heartbeat, at(190));
    g_assert_cmpint(heartbeat.idle_us, ==, 190 * COLO_US_PER_MS);
    heartbeat_step(&heartbeat, at(380));
    g_assert_true(heartbeat_step(&heartbeat, at(500)) & HEARTBEAT_LOST);
}

/* An interval longer than the timeout, and zeros, are no reason to spin or to hang. */
static void test_odd_settings(void)
{
    Heartbeat heartbeat;
    heartbeat_start(&heartbeat, 1000, 100, at(0));
    heartbeat_step(&heartbeat, at(0));
    g_assert_cmpint(planned_ms(&heartbeat), ==, 100);
    g_assert_true(heartbeat_step(&heartbeat, at(100)) & HEARTBEAT_LOST);
    heartbeat_start(&heartbeat, 0, 0, at(0));
    heartbeat_step(&heartbeat, at(0));
    g_assert_cmpint(planned_ms(&heartbeat), ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/heartbeat/sends-by-interval", test_sends_by_interval);
    g_test_add_func("/heartbeat/silence", test_silence);
    g_test_add_func("/heartbeat/sign-of-life", test_sign_of_life);
    g_test_add_func("/heartbeat/stopped", test_stopped);
    g_test_add_func("/heartbeat/stopped-and-received", test_stopped_and_received);
    g_test_add_func("/heartbeat/stopped-often", test_stopped_often);
    g_test_add_func("/heartbeat/slow", test_slow);
    g_test_add_func("/heartbeat/odd-settings", test_odd_settings);
    return g_test_run();
}
