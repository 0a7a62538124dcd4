/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a secondary owes, what counts as progress with it, and how long it may be quiet. */
#include "colo/node/answer-watch.h"

#include <string.h>

#define STEP_US  100
#define SOON_US  1000
#define LIMIT_US 5000

static gboolean step(AnswerWatch *watch, const AnswerFacts *facts, const char **ret_what)
{
    return answer_step(watch, facts, STEP_US, SOON_US, LIMIT_US, ret_what);
}

/* Steps until it has been quiet for too long; 0: never, within any limit. */
static unsigned patience_with(AnswerFacts facts)
{
    AnswerWatch watch = {0};
    const char *what = NULL;
    for (unsigned steps = 1; steps <= 2 * LIMIT_US / STEP_US; steps++)
        if (step(&watch, &facts, &what)) {
            g_assert_nonnull(what);
            return steps;
        }
    g_assert_null(what);
    return 0;
}

/* All combinations of what may be owed: something is, or nothing; somebody waits, or not. */
static void test_all(void)
{
    for (unsigned bits = 0; bits < 1u << 9; bits++) {
        AnswerFacts facts = {.is_protected = bits & 1,
                             .prepares = (bits & 2) != 0,
                             .completes = (bits & 4) != 0,
                             .loads = (bits & 8) != 0,
                             .stream_under_way = (bits & 16) != 0,
                             .disks_under_way = (bits & 32) != 0,
                             .writes_wait = (bits & 64) != 0,
                             .tells = (bits & 128) != 0,
                             .joins = (bits & 256) != 0};
        gboolean owes = (bits & (2 | 4 | 8 | 16 | 32 | 128 | 256)) != 0;
        gboolean waited_for = (bits & 1) || (bits & (32 | 64)) == (32 | 64);
        unsigned expected = !owes ? 0 : (waited_for ? SOON_US : LIMIT_US) / STEP_US;
        g_assert_cmpuint(patience_with(facts), ==, expected);
    }
}

/* A sign counts anew for what it is a sign of; anything else is silence. */
static void test_progress(void)
{
    /* Which of messages, checkpoint_bytes, stream_bytes, disks_bytes and base_bytes count for each of
     * prepares, completes, loads, stream_under_way, disks_under_way and tells. */
    static const gboolean counts[6][5] = {
        {TRUE, FALSE, FALSE, FALSE, FALSE},
        {TRUE, TRUE,  FALSE, TRUE,  FALSE},
        {TRUE, FALSE, FALSE, FALSE, FALSE},
        {TRUE, FALSE, TRUE,  FALSE, FALSE},
        {TRUE, FALSE, FALSE, TRUE,  FALSE},
        {TRUE, FALSE, FALSE, FALSE, TRUE },
    };
    for (unsigned owed = 0; owed < 6; owed++)
        for (unsigned sign = 0; sign < 5; sign++) {
            AnswerWatch watch = {0};
            AnswerFacts facts = {.is_protected = TRUE,
                                 .prepares = owed == 0,
                                 .completes = owed == 1,
                                 .loads = owed == 2,
                                 .stream_under_way = owed == 3,
                                 .disks_under_way = owed == 4,
                                 .tells = owed == 5};
            const char *what = NULL;
            gboolean over = FALSE;
            for (unsigned i = 0; i < 10 * SOON_US / STEP_US && !over; i++) {
                facts.messages += sign == 0;
                facts.checkpoint_bytes += sign == 1;
                facts.stream_bytes += sign == 2;
                facts.disks_bytes += sign == 3;
                facts.base_bytes += sign == 4;
                over = step(&watch, &facts, &what);
            }
            g_assert_cmpint(over, ==, !counts[owed][sign]);
        }
}

/* A time in which nothing was owed is no silence. */
static void test_anew(void)
{
    AnswerWatch watch = {0};
    AnswerFacts facts = {.is_protected = TRUE, .completes = TRUE};
    const char *what = NULL;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < SOON_US / STEP_US - 1; k++)
            g_assert_false(step(&watch, &facts, &what));
        facts.completes = FALSE;
        g_assert_false(step(&watch, &facts, &what));
        facts.completes = TRUE;
    }
    for (unsigned k = 0; k < SOON_US / STEP_US - 1; k++)
        g_assert_false(step(&watch, &facts, &what));
    g_assert_true(step(&watch, &facts, &what));
    g_assert_nonnull(strstr(what, "not complete"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/answer/all", test_all);
    g_test_add_func("/answer/progress", test_progress);
    g_test_add_func("/answer/anew", test_anew);
    return g_test_run();
}
