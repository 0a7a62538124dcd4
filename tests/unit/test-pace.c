/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A rate bounds what is sent in any window of time, and nothing else waits for it. */
#include "checkpoint/pace.h"

#define CHUNK (256u << 10)

static ColoTime at_us(gint64 us)
{
    return (ColoTime){.us = G_USEC_PER_SEC + us};
}

/* In any window that begins when nothing may be sent: the rate's share, and one chunk. */
static void test_window(void)
{
    for (guint run = 0; run < 200; run++) {
        Pace pace = {.at = at_us(0)};
        guint64 rate = 1 + (guint64)g_test_rand_int_range(0, 1 << 28);
        gint64 now_us = 0, began_us = 0;
        guint64 in_window = 0;
        for (guint i = 0; i < 500; i++) {
            gint64 wait_us = pace_wait_us(&pace, rate, at_us(now_us));
            now_us += wait_us;
            if (wait_us > 0)
                g_assert_cmpint(pace_wait_us(&pace, rate, at_us(now_us)), <=, 1);
            now_us += g_test_rand_int_range(0, 3) ? 0 : g_test_rand_int_range(0, 20000);
            if (g_test_rand_int_range(0, 50) == 0) {
                began_us = now_us;
                in_window = 0;
            }
            guint64 bytes = (guint64)g_test_rand_int_range(1, CHUNK);
            g_assert_cmpfloat((double)in_window, <=,
                              (double)rate * (double)(now_us - began_us) / G_USEC_PER_SEC + CHUNK);
            pace_sent(&pace, bytes);
            in_window += bytes;
        }
    }
}

/* It waits no longer than it has to: so much is sent in a second, if there is always something. */
static void test_is_used(void)
{
    Pace pace = {.at = at_us(0)};
    guint64 sent = 0, rate = 10 << 20;
    for (gint64 now_us = 0; now_us < G_USEC_PER_SEC;) {
        pace_sent(&pace, CHUNK);
        sent += CHUNK;
        now_us += pace_wait_us(&pace, rate, at_us(now_us));
    }
    g_assert_cmpuint(sent, >=, rate);
    g_assert_cmpuint(sent, <=, rate + CHUNK);
}

/* What is still owed is paid at the new rate; no rate, no debt. */
static void test_changes(void)
{
    Pace pace = {.at = at_us(0)};
    pace_sent(&pace, CHUNK);
    g_assert_cmpint(pace_wait_us(&pace, CHUNK, at_us(0)), ==, G_USEC_PER_SEC + 1);
    g_assert_cmpint(pace_wait_us(&pace, CHUNK, at_us(500000)), ==, 500001);
    g_assert_cmpint(pace_wait_us(&pace, CHUNK / 2, at_us(500000)), ==, G_USEC_PER_SEC + 1);
    g_assert_cmpint(pace_wait_us(&pace, 10 * CHUNK, at_us(500000)), ==, 50001);
    g_assert_cmpint(pace_wait_us(&pace, 0, at_us(500000)), ==, 0);
    g_assert_cmpint(pace_wait_us(&pace, 1, at_us(500000)), ==, 0);
    /* A debt that is never paid off is looked at again. */
    pace_sent(&pace, G_MAXUINT32);
    g_assert_cmpint(pace_wait_us(&pace, 1, at_us(500000)), >, 1000 * G_USEC_PER_SEC);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/window", test_window);
    g_test_add_func("/pace/is-used", test_is_used);
    g_test_add_func("/pace/changes", test_changes);
    return g_test_run();
}
