/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a secondary owes, and how long it may be quiet meanwhile. */
#include "colo/answer.h"

#define STEP_US  100
#define SOON_US  1000
#define LIMIT_US 5000

/* Steps until it has been quiet for too long; 0: never, within any limit. */
static unsigned patience_with(AnswerFacts facts)
{
    AnswerWatch watch = {0};
    for (unsigned steps = 1; steps <= 2 * LIMIT_US / STEP_US; steps++)
        if (answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US))
            return steps;
    return 0;
}

/* All combinations of what may be owed: something is, or nothing; somebody waits, or not. */
static void test_all(void)
{
    for (unsigned bits = 0; bits < 1u << 7; bits++) {
        AnswerFacts facts = {.is_protected = bits & 1,
                             .prepares = (bits & 2) != 0,
                             .completes = (bits & 4) != 0,
                             .loads = (bits & 8) != 0,
                             .stream_under_way = (bits & 16) != 0,
                             .disks_under_way = (bits & 32) != 0,
                             .writes_wait = (bits & 64) != 0};
        gboolean owes = (bits & (2 | 4 | 8 | 16 | 32)) != 0;
        gboolean waited_for = (bits & 1) || (bits & (32 | 64)) == (32 | 64);
        unsigned expected = !owes ? 0 : (waited_for ? SOON_US : LIMIT_US) / STEP_US;
        g_assert_cmpuint(patience_with(facts), ==, expected);
        g_assert_cmpint(g_str_equal(answer_what(&facts), "nothing is owed"), ==, !owes);
    }
}

/* Any sign counts anew, and so does a time in which nothing was owed. */
static void test_progress(void)
{
    AnswerWatch watch = {0};
    AnswerFacts facts = {.is_protected = TRUE, .completes = TRUE};
    for (unsigned i = 0; i < 10 * SOON_US / STEP_US; i++) {
        gboolean sign = i % (SOON_US / STEP_US - 1) == 0;
        facts.messages += sign && i % 2;
        facts.bytes += sign && !(i % 2);
        g_assert_false(answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US));
    }
    watch.quiet_us = SOON_US - STEP_US;
    facts.completes = FALSE;
    g_assert_false(answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US));
    facts.completes = TRUE;
    g_assert_false(answer_step(&watch, &facts, SOON_US - STEP_US, SOON_US, LIMIT_US));
    g_assert_true(answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US));
}

/* Pages of the next checkpoint are on their way while the VM is to stop: no sign that it does. */
static void test_bytes_are_no_dirty(void)
{
    AnswerWatch watch = {0};
    AnswerFacts facts = {.is_protected = TRUE, .prepares = TRUE, .stream_under_way = TRUE};
    unsigned steps = 0;
    do {
        facts.bytes += 4096;
        steps++;
    } while (!answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US));
    g_assert_cmpuint(steps, ==, SOON_US / STEP_US);
    facts.messages++;
    g_assert_false(answer_step(&watch, &facts, STEP_US, SOON_US, LIMIT_US));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/answer/all", test_all);
    g_test_add_func("/answer/progress", test_progress);
    g_test_add_func("/answer/bytes-are-no-dirty", test_bytes_are_no_dirty);
    return g_test_run();
}
