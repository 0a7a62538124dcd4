/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums of pauses, against a list of them. */
#include "colo/node/blocktime.h"

#include <math.h>

static ColoTime at_ms(double ms)
{
    return (ColoTime){.us = G_GINT64_CONSTANT(1000000) * G_USEC_PER_SEC +
                            (gint64)(ms * COLO_US_PER_MS)};
}

static void assert_share(const Blocktime *blocktime, double now_ms, double expected)
{
    double share = blocktime_share(blocktime, at_ms(now_ms));
    if (fabs(share - expected) > 1e-9)
        g_error("share %f at %f ms, not %f", share, now_ms, expected);
}

static void test_sums(void)
{
    Blocktime b = {0};
    assert_share(&b, 0, 0);
    blocktime_add(&b, at_ms(0), at_ms(5));
    blocktime_add(&b, at_ms(1000), at_ms(1020));
    blocktime_add(&b, at_ms(2000), at_ms(2005));
    g_assert_cmpint(b.total_us, ==, 30 * COLO_US_PER_MS);
    g_assert_cmpint(b.longest_us, ==, 20 * COLO_US_PER_MS);
    assert_share(&b, 2005, 0.003);
    /* The first has gone out of the window, then all. */
    assert_share(&b, 10001, 0.0025);
    assert_share(&b, 20000, 0);
    g_assert_cmpint(b.total_us, ==, 30 * COLO_US_PER_MS);
}

/* One pause that is longer than the window is all of it. */
static void test_long(void)
{
    Blocktime b = {0};
    blocktime_add(&b, at_ms(50), at_ms(60000));
    g_assert_cmpint(b.total_us, ==, 59950 * COLO_US_PER_MS);
    assert_share(&b, 59999, 1);
    assert_share(&b, 65000, 0.49);
    blocktime_add(&b, at_ms(70000), at_ms(70000));
    blocktime_add(&b, at_ms(70000), at_ms(69000));
    g_assert_cmpint(b.total_us, ==, 59950 * COLO_US_PER_MS);
}

static void test_random(void)
{
    Blocktime b = {0};
    gint64 total = 0, longest = 0;
    double now = 0;
    for (int i = 0; i < 10000; i++) {
        double from = now + g_test_rand_int_range(0, 300),
               until = from + g_test_rand_int_range(0, 200);
        blocktime_add(&b, at_ms(from), at_ms(until));
        gint64 us = (gint64)((until - from) * COLO_US_PER_MS);
        total += us;
        longest = MAX(longest, us);
        now = until;
        double share = blocktime_share(&b, at_ms(now));
        g_assert_cmpfloat(share, >=, 0);
        g_assert_cmpfloat(share, <=, 1);
    }
    g_assert_cmpint(b.total_us, ==, total);
    g_assert_cmpint(b.longest_us, ==, longest);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/blocktime/sums", test_sums);
    g_test_add_func("/blocktime/long", test_long);
    g_test_add_func("/blocktime/random", test_random);
    return g_test_run();
}
