/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/blocktime.h"

static void add_to_slot(Blocktime *blocktime, gint64 number, gint64 stood_us)
{
    gint64 at = number % BLOCKTIME_SLOTS;
    if (blocktime->slots[at].number != number)
        blocktime->slots[at].stood_us = 0;
    blocktime->slots[at].number = number;
    blocktime->slots[at].stood_us += stood_us;
}

void blocktime_add(Blocktime *blocktime, ColoTime from, ColoTime until)
{
    gint64 stood_us = colo_time_diff_us(until, from);
    if (stood_us <= 0)
        return;
    blocktime->total_us += stood_us;
    blocktime->longest_us = MAX(blocktime->longest_us, stood_us);
    for (gint64 at = MAX(from.us, until.us - BLOCKTIME_WINDOW_US); at < until.us;) {
        gint64 number = at / BLOCKTIME_SLOT_US;
        gint64 end = MIN((number + 1) * BLOCKTIME_SLOT_US, until.us);
        add_to_slot(blocktime, number, end - at);
        at = end;
    }
}

double blocktime_share(const Blocktime *blocktime, ColoTime now)
{
    gint64 last = now.us / BLOCKTIME_SLOT_US, stood_us = 0;
    for (gsize i = 0; i < BLOCKTIME_SLOTS; i++)
        if (blocktime->slots[i].number > last - BLOCKTIME_SLOTS &&
            blocktime->slots[i].number <= last)
            stood_us += blocktime->slots[i].stood_us;
    return (double)stood_us / (double)BLOCKTIME_WINDOW_US;
}
