/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/blocktime.h"

static void add_to_slot(Blocktime *blocktime, gint64 number, gint64 paused_us)
{
    gint64 at = number % BLOCKTIME_SLOTS;
    if (blocktime->slots[at].number != number)
        blocktime->slots[at].paused_us = 0;
    blocktime->slots[at].number = number;
    blocktime->slots[at].paused_us += paused_us;
}

void blocktime_add(Blocktime *blocktime, ColoTime from, ColoTime until)
{
    gint64 paused_us = colo_time_diff_us(until, from);
    if (paused_us <= 0)
        return;
    blocktime->total_us += paused_us;
    blocktime->longest_us = MAX(blocktime->longest_us, paused_us);
    for (gint64 at = MAX(from.us, until.us - BLOCKTIME_WINDOW_US); at < until.us;) {
        gint64 number = at / BLOCKTIME_SLOT_US;
        gint64 end = MIN((number + 1) * BLOCKTIME_SLOT_US, until.us);
        add_to_slot(blocktime, number, end - at);
        at = end;
    }
}

double blocktime_share(const Blocktime *blocktime, ColoTime now)
{
    gint64 last = now.us / BLOCKTIME_SLOT_US, paused_us = 0;
    for (gsize i = 0; i < BLOCKTIME_SLOTS; i++)
        if (blocktime->slots[i].number > last - BLOCKTIME_SLOTS &&
            blocktime->slots[i].number <= last)
            paused_us += blocktime->slots[i].paused_us;
    return (double)paused_us / (double)BLOCKTIME_WINDOW_US;
}
