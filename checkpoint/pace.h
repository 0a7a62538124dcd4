/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast bytes may be sent, if that is limited. What was sent is a debt, which the rate pays
 * off; nothing more is to be sent until there is none. So in any time the rate's share of it is
 * sent, and what was sent at once before: a chunk. Pure: times in.
 */
#ifndef COLO_CHECKPOINT_PACE_H
#define COLO_CHECKPOINT_PACE_H

#include "common/clock.h"

typedef struct {
    ColoTime at;
    double debt_bytes; /* then */
} Pace;

/* So many bytes have been sent by now. */
void pace_sent(Pace *pace, guint64 bytes);
/* For how long nothing more is to be sent, at this rate since it was asked last. 0: no limit. */
gint64 pace_wait_us(Pace *pace, guint64 bytes_per_s, ColoTime now);

#endif
