/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long we have paused a guest's CPUs: for each checkpoint, and for a takeover. Its clock was
 * paused too, so this is how far it is behind if nobody has set it (docs/CLOCK.md). All CPUs are
 * paused together, so there is one figure. Pure: times in.
 */
#ifndef COLO_COLO_NODE_BLOCKTIME_H
#define COLO_COLO_NODE_BLOCKTIME_H

#include "common/clock.h"

#define BLOCKTIME_WINDOW_US (10 * G_USEC_PER_SEC)
#define BLOCKTIME_SLOT_US   (100 * COLO_US_PER_MS)
#define BLOCKTIME_SLOTS     (BLOCKTIME_WINDOW_US / BLOCKTIME_SLOT_US)

typedef struct {
    gint64 total_us, longest_us;
    struct {
        gint64 number; /* of BLOCKTIME_SLOT_US since the clock's 0 */
        gint64 paused_us;
    } slots[BLOCKTIME_SLOTS]; /* a ring */
} Blocktime;

/* They were paused from `from` until `until`, which is not before what was added last. */
void blocktime_add(Blocktime *blocktime, ColoTime from, ColoTime until);

/* The part of the last 10 s that they were paused, 0 to 1, to a tenth of a second. */
double blocktime_share(const Blocktime *blocktime, ColoTime now);

#endif
