/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pace.h"

void pace_sent(Pace *pace, guint64 bytes)
{
    pace->debt_bytes += (double)bytes;
}

gint64 pace_wait_us(Pace *pace, guint64 bytes_per_s, ColoTime now)
{
    double since_us = (double)colo_time_diff_us(now, pace->at);
    double paid = since_us * (double)bytes_per_s / G_USEC_PER_SEC;
    pace->at = now;
    pace->debt_bytes = bytes_per_s ? MAX(pace->debt_bytes - paid, 0) : 0;
    if (pace->debt_bytes <= 0)
        return 0;
    double wait_us = pace->debt_bytes * G_USEC_PER_SEC / (double)bytes_per_s;
    return (gint64)MIN(wait_us, 3600.0 * G_USEC_PER_SEC) + 1;
}
