/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/schedule.h"

Wanted wanted_add(Wanted wanted, CheckpointReason reason)
{
    if ((WANTED(reason) & WANTED_DIVERGENCE) && (wanted & WANTED_DIVERGENCE))
        return wanted;
    return wanted | WANTED(reason);
}

Wanted wanted_take(Wanted wanted, CheckpointReason reason)
{
    /* An administrator's wish is met by a checkpoint for no other reason. */
    Wanted answered = WANTED(REASON_OUTPUT_LIMIT) | WANTED(REASON_DISK_LIMIT) |
                      (WANTED(reason) & ~WANTED_DIVERGENCE);
    return wanted & ~answered;
}

static ScheduleDecision due(CheckpointReason reason)
{
    return (ScheduleDecision){.due = TRUE, .reason = reason};
}

ScheduleDecision schedule_decide(const ScheduleOptions *options, const ScheduleFacts *facts,
                                 ColoTime now)
{
    if (facts->wanted & WANTED(REASON_ADMIN))
        return due(REASON_ADMIN);
    if (facts->wanted & WANTED(REASON_OUTPUT_LIMIT))
        return due(REASON_OUTPUT_LIMIT);

    gint64 since_us = colo_time_diff_us(now, facts->resumed);
    gint64 period_us = MAX(options->period_us, options->min_gap_us);
    if (since_us >= period_us)
        return due(REASON_PERIOD);
    ColoTime gap_end = colo_time_add_us(facts->resumed, options->min_gap_us);
    if (since_us < options->min_gap_us)
        return (ScheduleDecision){.look_again = gap_end};
    if (facts->wanted & WANTED_DIVERGENCE)
        return due((CheckpointReason)g_bit_nth_lsf(facts->wanted & WANTED_DIVERGENCE, -1));
    if (facts->output_waits)
        return due(REASON_OUTPUT);
    if (facts->wanted & WANTED(REASON_DISK_LIMIT))
        return due(REASON_DISK_LIMIT);
    if (options->dirty_limit_pages && facts->dirty_pages >= options->dirty_limit_pages)
        return due(REASON_DIRTY_LIMIT);

    return (ScheduleDecision){.look_again = colo_time_add_us(facts->resumed, period_us)};
}

const char *schedule_reason_name(CheckpointReason reason)
{
    static const char *const names[REASONS] = {
        [REASON_INITIAL] = "initial",
        [REASON_PERIOD] = "period",
        [REASON_OUTPUT] = "output",
        [REASON_MISMATCH] = "mismatch",
        [REASON_COMPARE_TIMEOUT] = "compare-timeout",
        [REASON_STALLED] = "stalled",
        [REASON_TABLE_FULL] = "table-full",
        [REASON_DIRTY_LIMIT] = "dirty-limit",
        [REASON_OUTPUT_LIMIT] = "output-limit",
        [REASON_DISK_LIMIT] = "disk-limit",
        [REASON_ADMIN] = "admin",
    };
    return names[reason];
}
