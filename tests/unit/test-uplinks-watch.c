/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is better by the carrier of its uplinks, and what follows. Times in milliseconds. */
#include "colo/node/uplinks-watch.h"

#define INTERVAL_MS 100
#define SETTLE_MS   (UPLINKS_SETTLE_US / 1000)
#define REST_MS     (UPLINKS_REST_US / 1000)

static ColoTime at(gint64 ms)
{
    return (ColoTime){.us = 1000000 + ms * COLO_US_PER_MS};
}

/* All sets of two cards on both sides: one side is better at most, and none among equals. */
static void test_better(void)
{
    unsigned better = 0;
    for (guint64 here = 0; here < 4; here++)
        for (guint64 there = 0; there < 4; there++) {
            gboolean other = uplinks_other_is_better(here, there);
            g_assert_false(other && uplinks_other_is_better(there, here));
            if (other)
                g_assert_true(here != there && (here | there) == here);
            better += other;
        }
    /* 1, 2 and 3 against 0; 3 against 1 and 2. */
    g_assert_cmpuint(better, ==, 5);
}

/* Whoever should go on asks first, by an interval at least; and everybody asks. */
static void test_ask(void)
{
    for (guint64 primary = 0; primary < 4; primary++)
        for (guint64 secondary = 0; secondary < 4; secondary++)
            for (int timed_out = 0; timed_out < 2; timed_out++) {
                guint p = uplinks_ask_wait_ms(TRUE, timed_out, primary, secondary, INTERVAL_MS);
                guint s = uplinks_ask_wait_ms(FALSE, timed_out, secondary, primary, INTERVAL_MS);
                g_assert_cmpuint(MAX(p, s), <=, UPLINKS_ASK_WAIT_MS);
                if (uplinks_other_is_better(primary, secondary))
                    g_assert_cmpuint(s + INTERVAL_MS, <, p);
                else if (timed_out || uplinks_other_is_better(secondary, primary))
                    g_assert_cmpuint(p + INTERVAL_MS, <, s);
                else
                    /* Processes that have died: nobody else will ask. */
                    g_assert_cmpuint(s, ==, 0);
            }
}

static void test_hand_over(void)
{
    UplinksWatch watch = {0};
    UplinksDecision decision = uplinks_decide(&watch, TRUE, 0, 0, (ColoTime){0}, at(0));
    g_assert_false(decision.hand_over);
    g_assert_cmpint(decision.look_again.us, ==, G_MAXINT64);
    decision = uplinks_decide(&watch, TRUE, 1, 0, (ColoTime){0}, at(10));
    g_assert_false(decision.hand_over);
    g_assert_cmpint(decision.look_again.us, ==, at(10 + SETTLE_MS).us);
    /* Whatever else makes it look. */
    decision = uplinks_decide(&watch, TRUE, 1, 0, (ColoTime){0}, at(9 + SETTLE_MS));
    g_assert_false(decision.hand_over);
    decision = uplinks_decide(&watch, TRUE, 1, 0, (ColoTime){0}, at(10 + SETTLE_MS));
    g_assert_true(decision.hand_over);
}

/* Nobody moves if neither has carrier, if it is the secondary's that is gone, or unprotected. */
static void test_stays(void)
{
    UplinksWatch watch = {0};
    for (gint64 ms = 0; ms < 10 * SETTLE_MS; ms += SETTLE_MS) {
        g_assert_false(uplinks_decide(&watch, TRUE, 1, 1, (ColoTime){0}, at(ms)).hand_over);
        g_assert_false(uplinks_decide(&watch, TRUE, 1, 2, (ColoTime){0}, at(ms)).hand_over);
        g_assert_false(uplinks_decide(&watch, TRUE, 0, 1, (ColoTime){0}, at(ms)).hand_over);
        g_assert_false(uplinks_decide(&watch, FALSE, 1, 0, (ColoTime){0}, at(ms)).hand_over);
    }
}

/* A loose plug: each time that it is back, the time begins anew. */
static void test_flapping(void)
{
    UplinksWatch watch = {0};
    for (gint64 ms = 0; ms < 100 * SETTLE_MS; ms += SETTLE_MS) {
        g_assert_false(uplinks_decide(&watch, TRUE, 1, 0, (ColoTime){0}, at(ms)).hand_over);
        g_assert_false(
            uplinks_decide(&watch, TRUE, 0, 0, (ColoTime){0}, at(ms + SETTLE_MS - 1)).hand_over);
    }
}

/* The VM has just come here: it rests a while, and goes then. */
static void test_rest(void)
{
    UplinksWatch watch = {0};
    ColoTime moved = at(1000);
    UplinksDecision decision = uplinks_decide(&watch, TRUE, 1, 0, moved, at(2000));
    g_assert_cmpint(decision.look_again.us, ==, at(1000 + REST_MS).us);
    g_assert_false(uplinks_decide(&watch, TRUE, 1, 0, moved, at(999 + REST_MS)).hand_over);
    g_assert_true(uplinks_decide(&watch, TRUE, 1, 0, moved, at(1000 + REST_MS)).hand_over);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/uplinks/better", test_better);
    g_test_add_func("/uplinks/ask", test_ask);
    g_test_add_func("/uplinks/hand-over", test_hand_over);
    g_test_add_func("/uplinks/stays", test_stays);
    g_test_add_func("/uplinks/flapping", test_flapping);
    g_test_add_func("/uplinks/rest", test_rest);
    return g_test_run();
}
