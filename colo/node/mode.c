/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/mode.h"

/* Epochs in vain before comparing pauses: one may be bad luck. */
#define PATIENCE 2

static const struct {
    gint64 first_us, longest_us;
} pauses[] = {
    [MODE_COLO] = {20 * COLO_US_PER_MS,   1000 * COLO_US_PER_MS },
    [MODE_BUFFERED] = {0,                     0                     },
    [MODE_AUTO] = {1000 * COLO_US_PER_MS, 60000 * COLO_US_PER_MS},
};

const char *mode_name(Mode mode)
{
    static const char *const names[] = {
        [MODE_COLO] = "colo", [MODE_BUFFERED] = "buffered", [MODE_AUTO] = "auto"};
    return names[mode];
}

gboolean mode_compares(ModePolicy *policy, Mode mode, ColoTime now)
{
    if (policy->mode != mode)
        *policy = (ModePolicy){.mode = mode};
    if (mode == MODE_BUFFERED)
        return FALSE;
    if (policy->pausing && now.us >= policy->until.us)
        policy->pausing = FALSE;
    return !policy->pausing;
}

gboolean mode_learn(ModePolicy *policy, Mode mode, const ModeEpoch *epoch, ColoTime now)
{
    if (mode == MODE_BUFFERED)
        return FALSE;
    if (epoch->frames == 0 && !epoch->stalled)
        return FALSE; /* silence proves nothing */
    if (!epoch->stalled && epoch->waited_us / (gint64)epoch->frames <= epoch->buffered_us) {
        policy->in_vain = 0;
        return FALSE;
    }
    if (++policy->in_vain < PATIENCE)
        return FALSE;
    guint doublings = MIN(policy->in_vain - PATIENCE, 16);
    policy->pausing = TRUE;
    policy->until =
        colo_time_add_us(now, MIN(pauses[mode].first_us << doublings, pauses[mode].longest_us));
    return TRUE;
}
