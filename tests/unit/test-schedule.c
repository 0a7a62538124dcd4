/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/schedule.h"

static const ScheduleOptions options = {
    .period_us = 100000, .min_gap_us = 10000, .dirty_limit_pages = 5000};

static const ColoTime resumed = {.us = 1000000};

static ScheduleDecision decide(ScheduleFacts facts, gint64 after_us)
{
    facts.resumed = resumed;
    return schedule_decide(&options, &facts, colo_time_add_us(resumed, after_us));
}

static void assert_due(ScheduleDecision decision, CheckpointReason reason)
{
    g_assert_true(decision.due);
    g_assert_cmpstr(schedule_reason_name(decision.reason), ==, schedule_reason_name(reason));
}

static void test_reasons(void)
{
    ScheduleFacts idle = {0};
    g_assert_false(decide(idle, 99999).due);
    assert_due(decide(idle, 100000), REASON_PERIOD);
    assert_due(decide((ScheduleFacts){.output_waits = TRUE}, 10000), REASON_OUTPUT);
    assert_due(decide((ScheduleFacts){.dirty_pages = 5000}, 10000), REASON_DIRTY_LIMIT);
    assert_due(decide((ScheduleFacts){.wanted = WANTED(REASON_DISK_LIMIT)}, 10000),
               REASON_DISK_LIMIT);
    assert_due(
        decide((ScheduleFacts){.wanted = WANTED(REASON_COMPARE_TIMEOUT), .output_waits = TRUE},
               10000),
        REASON_COMPARE_TIMEOUT);
    g_assert_false(decide((ScheduleFacts){.dirty_pages = 4999}, 10000).due);
}

static void test_min_gap_holds_back(void)
{
    ScheduleFacts busy = {.output_waits = TRUE,
                          .wanted = WANTED(REASON_MISMATCH) | WANTED(REASON_DISK_LIMIT),
                          .dirty_pages = G_MAXUINT64};
    ScheduleDecision decision = decide(busy, 9999);
    g_assert_false(decision.due);
    g_assert_cmpint(decision.look_again.us, ==, resumed.us + options.min_gap_us);
}

static void test_what_cannot_wait(void)
{
    assert_due(decide((ScheduleFacts){.wanted = WANTED(REASON_ADMIN)}, 0), REASON_ADMIN);
    assert_due(decide((ScheduleFacts){.wanted = WANTED(REASON_OUTPUT_LIMIT)}, 0),
               REASON_OUTPUT_LIMIT);
}

static void test_no_dirty_limit(void)
{
    ScheduleOptions none = options;
    none.dirty_limit_pages = 0;
    ScheduleFacts facts = {.resumed = resumed, .dirty_pages = G_MAXUINT64};
    ScheduleDecision decision =
        schedule_decide(&none, &facts, colo_time_add_us(resumed, none.min_gap_us));
    g_assert_false(decision.due);
    g_assert_cmpint(decision.look_again.us, ==, resumed.us + none.period_us);
}

/* Whatever the facts: following look_again never sleeps past the period, nor spins. */
static void test_always_wakes(void)
{
    for (int i = 0; i < 100000; i++) {
        ScheduleOptions any = {.period_us = g_test_rand_int_range(0, 300000),
                               .min_gap_us = g_test_rand_int_range(0, 300000),
                               .dirty_limit_pages = (guint64)g_test_rand_int_range(0, 3)};
        ScheduleFacts facts = {.resumed = resumed,
                               .output_waits = g_test_rand_bit(),
                               .wanted = (g_test_rand_bit() ? WANTED(REASON_MISMATCH) : 0) |
                                         (g_test_rand_bit() ? WANTED(REASON_DISK_LIMIT) : 0),
                               .dirty_pages = (guint64)g_test_rand_int_range(0, 4)};
        ColoTime now = colo_time_add_us(resumed, g_test_rand_int_range(0, 400000));
        ScheduleDecision decision = schedule_decide(&any, &facts, now);
        gint64 since_us = colo_time_diff_us(now, resumed);
        if (decision.due) {
            g_assert_cmpint(since_us, >=, any.min_gap_us);
            continue;
        }
        g_assert_cmpint(decision.look_again.us, >, now.us);
        g_assert_cmpint(decision.look_again.us, <=,
                        resumed.us + MAX(any.period_us, any.min_gap_us));
    }
}

/* An administrator's word stays until it is taken for itself, a divergence until it is over. */
static void test_wanted(void)
{
    for (CheckpointReason taken = 0; taken < REASONS; taken++) {
        Wanted all = WANTED(REASON_ADMIN) | WANTED(REASON_OUTPUT_LIMIT) |
                     WANTED(REASON_DISK_LIMIT) | WANTED(REASON_STALLED);
        Wanted left = WANTED(REASON_STALLED);
        if (taken != REASON_ADMIN)
            left |= WANTED(REASON_ADMIN);
        g_assert_cmphex(wanted_take(all, taken), ==, left);
    }
    Wanted wanted = wanted_add(0, REASON_TABLE_FULL);
    g_assert_cmphex(wanted_add(wanted, REASON_MISMATCH), ==, wanted);
    g_assert_cmphex(wanted_add(wanted, REASON_ADMIN), ==, wanted | WANTED(REASON_ADMIN));
    assert_due(decide((ScheduleFacts){.wanted = wanted}, 10000), REASON_TABLE_FULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/schedule/reasons", test_reasons);
    g_test_add_func("/schedule/min-gap-holds-back", test_min_gap_holds_back);
    g_test_add_func("/schedule/what-cannot-wait", test_what_cannot_wait);
    g_test_add_func("/schedule/no-dirty-limit", test_no_dirty_limit);
    g_test_add_func("/schedule/always-wakes", test_always_wakes);
    g_test_add_func("/schedule/wanted", test_wanted);
    return g_test_run();
}
