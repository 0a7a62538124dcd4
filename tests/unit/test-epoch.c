/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An epoch or none: no number is like none, not even the lowest and the highest. */
#include "colo/node/epoch.h"

static void test_none(void)
{
    static const guint64 numbers[] = {0, 1, 7, G_MAXUINT64};
    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_assert_false(epoch_is(EPOCH_NONE, numbers[i]));
        g_assert_false(epoch_equal(EPOCH_NONE, epoch_some(numbers[i])));
        g_assert_false(epoch_equal(epoch_some(numbers[i]), EPOCH_NONE));
        g_assert_true(epoch_is_before(EPOCH_NONE, numbers[i]));
    }
    g_assert_true(epoch_equal(EPOCH_NONE, EPOCH_NONE));
}

static void test_numbers(void)
{
    for (guint64 a = 0; a < 3; a++)
        for (guint64 b = 0; b < 3; b++) {
            g_assert_true(epoch_is(epoch_some(a), b) == (a == b));
            g_assert_true(epoch_equal(epoch_some(a), epoch_some(b)) == (a == b));
            g_assert_true(epoch_is_before(epoch_some(a), b) == (a < b));
        }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/epoch/none", test_none);
    g_test_add_func("/epoch/numbers", test_numbers);
    return g_test_run();
}
