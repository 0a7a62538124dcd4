/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/mode.h"

#define MS(n) ((ColoTime){.us = (n)*COLO_US_PER_MS})

#define BUFFERED_US 13000

static const ModeEpoch in_vain = {.frames = 2, .waited_us = 26002, .buffered_us = BUFFERED_US};
/* A few frames waited for a checkpoint, many did not wait. */
static const ModeEpoch worth = {.frames = 53, .waited_us = 400000, .buffered_us = BUFFERED_US};
static const ModeEpoch equal = {.frames = 10, .waited_us = 5000, .buffered_us = BUFFERED_US};
static const ModeEpoch silent = {.buffered_us = BUFFERED_US};

static void test_buffered(void)
{
    ModePolicy policy = {0};
    g_assert_false(mode_compares(&policy, MODE_BUFFERED, MS(0)));
    g_assert_false(mode_learn(&policy, MODE_BUFFERED, &in_vain, MS(0)));
    g_assert_true(mode_compares(&policy, MODE_COLO, MS(1)));
}

/* Runs epochs of 1 ms; how many of `ms` compared. */
static guint storm(ModePolicy *policy, Mode mode, gint64 from_ms, gint64 ms)
{
    guint compared = 0;
    for (gint64 t = from_ms; t < from_ms + ms; t++)
        if (mode_compares(policy, mode, MS(t))) {
            compared++;
            mode_learn(policy, mode, &in_vain, MS(t));
        }
    return compared;
}

/* Under permanent divergence nearly all epochs are those of `buffered`. */
static void test_storm(void)
{
    ModePolicy policy = {0};
    g_assert_cmpuint(storm(&policy, MODE_COLO, 0, 10000), <=, 20);
    g_assert_cmpuint(storm(&policy, MODE_COLO, 10000, 100000), <=, 101);
    policy = (ModePolicy){0};
    g_assert_cmpuint(storm(&policy, MODE_AUTO, 0, 600000), <=, 20);
}

/* Whatever has been, an epoch that was worth it ends the doubling. */
static void test_recovers(void)
{
    ModePolicy policy = {0};
    storm(&policy, MODE_AUTO, 0, 600000);
    gint64 t = 600000;
    while (!mode_compares(&policy, MODE_AUTO, MS(t)))
        t++;
    g_assert_cmpint(t, <=, 660000);
    g_assert_false(mode_learn(&policy, MODE_AUTO, &worth, MS(t)));
    g_assert_true(mode_compares(&policy, MODE_AUTO, MS(t)));
    g_assert_false(mode_learn(&policy, MODE_AUTO, &in_vain, MS(t)));
    g_assert_true(mode_learn(&policy, MODE_AUTO, &in_vain, MS(t)));
    g_assert_false(mode_compares(&policy, MODE_AUTO, MS(t + 999)));
    g_assert_true(mode_compares(&policy, MODE_AUTO, MS(t + 1000)));
}

/* An administrator who asks for another mode gets it now. */
static void test_change(void)
{
    ModePolicy policy = {0};
    storm(&policy, MODE_AUTO, 0, 600000);
    g_assert_false(mode_compares(&policy, MODE_AUTO, MS(600001)));
    g_assert_true(mode_compares(&policy, MODE_COLO, MS(600002)));
    g_assert_true(mode_compares(&policy, MODE_AUTO, MS(600003)));
}

/* A copy that stops by itself proves more than its silence. */
static void test_stalled(void)
{
    static const ModeEpoch stalled = {.buffered_us = BUFFERED_US, .stalled = TRUE};
    ModePolicy policy = {0};
    g_assert_true(mode_compares(&policy, MODE_COLO, MS(0)));
    g_assert_false(mode_learn(&policy, MODE_COLO, &stalled, MS(0)));
    g_assert_true(mode_learn(&policy, MODE_COLO, &stalled, MS(1)));
    g_assert_false(mode_compares(&policy, MODE_COLO, MS(2)));
}

static void test_not_in_vain(void)
{
    static const ModeEpoch *const fine[] = {&worth, &equal, &silent};
    ModePolicy policy = {0};
    for (guint i = 0; i < 300; i++) {
        g_assert_true(mode_compares(&policy, MODE_COLO, MS(i)));
        g_assert_false(mode_learn(&policy, MODE_COLO, fine[i % 3], MS(i)));
    }
    /* Silence between two epochs in vain does not part them. */
    g_assert_false(mode_learn(&policy, MODE_COLO, &in_vain, MS(300)));
    g_assert_false(mode_learn(&policy, MODE_COLO, &silent, MS(301)));
    g_assert_true(mode_learn(&policy, MODE_COLO, &in_vain, MS(302)));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mode/buffered", test_buffered);
    g_test_add_func("/mode/storm", test_storm);
    g_test_add_func("/mode/recovers", test_recovers);
    g_test_add_func("/mode/not-in-vain", test_not_in_vain);
    g_test_add_func("/mode/change", test_change);
    g_test_add_func("/mode/stalled", test_stalled);
    return g_test_run();
}
