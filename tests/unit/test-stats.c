/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "common/stats.h"

static void test_empty(void)
{
    g_autoptr(Stats) stats = stats_new();
    g_assert_cmpuint(stats_count(stats), ==, 0);
    g_assert_cmpfloat(stats_p50_ms(stats), ==, 0);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 0);
    stats_free(NULL);
}

static void test_one(void)
{
    g_autoptr(Stats) stats = stats_new();
    stats_add(stats, 2500);
    g_assert_cmpfloat(stats_p50_ms(stats), ==, 2.5);
    g_assert_cmpfloat(stats_p99_ms(stats), ==, 2.5);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 2.5);
    g_assert_cmpint(stats_percentile_us(stats, 0), ==, 2500);
}

/* 1..100 ms in an order that isn't theirs: the nearest ranks are known. */
static void test_ranks(void)
{
    g_autoptr(Stats) stats = stats_new();
    for (int i = 0; i < 100; i++)
        stats_add(stats, (i * 37 % 100 + 1) * 1000);
    g_assert_cmpfloat(stats_p50_ms(stats), ==, 50);
    g_assert_cmpfloat(stats_p99_ms(stats), ==, 99);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 100);
    g_assert_cmpint(stats_percentile_us(stats, 1), ==, 1000);
}

static void test_negative_counts_as_zero(void)
{
    g_autoptr(Stats) stats = stats_new();
    stats_add(stats, -5);
    g_assert_cmpuint(stats_count(stats), ==, 1);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 0);
}

/* Only the last STATS_SAMPLES matter; the count goes on. */
static void test_window(void)
{
    g_autoptr(Stats) stats = stats_new();
    stats_add(stats, 1000000);
    for (guint i = 1; i < STATS_SAMPLES; i++)
        stats_add(stats, 1000);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 1000);
    stats_add(stats, 3000);
    g_assert_cmpfloat(stats_max_ms(stats), ==, 3);
    for (guint i = 0; i < STATS_SAMPLES - 1; i++)
        stats_add(stats, 2000);
    g_assert_cmpint(stats_percentile_us(stats, 0), ==, 2000);
    g_assert_cmpuint(stats_count(stats), ==, 2 * STATS_SAMPLES);
}

static int compare_us(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

/* Whatever comes, many of them equal: the ranks are those of the last samples, sorted. */
static void test_any(void)
{
    g_autoptr(Stats) stats = stats_new();
    gint64 all_us[3 * STATS_SAMPLES], last_us[STATS_SAMPLES];
    for (guint i = 0; i < G_N_ELEMENTS(all_us); i++) {
        all_us[i] = g_test_rand_int_range(0, i < STATS_SAMPLES ? 20 : 5000);
        stats_add(stats, all_us[i]);
        guint n = MIN(i + 1, STATS_SAMPLES);
        if (i % 61 != 0)
            continue;
        memcpy(last_us, &all_us[i + 1 - n], n * sizeof(*last_us));
        qsort(last_us, n, sizeof(*last_us), compare_us);
        for (guint percent = 1; percent <= 100; percent++)
            g_assert_cmpint(stats_percentile_us(stats, percent), ==,
                            last_us[(n * percent + 99) / 100 - 1]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stats/empty", test_empty);
    g_test_add_func("/stats/one", test_one);
    g_test_add_func("/stats/ranks", test_ranks);
    g_test_add_func("/stats/negative", test_negative_counts_as_zero);
    g_test_add_func("/stats/window", test_window);
    g_test_add_func("/stats/any", test_any);
    return g_test_run();
}
