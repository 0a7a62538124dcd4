/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that is not a TCP stream: datagrams, compared in the order they come, flow by flow.
 * What the PVM sent first must be what the SVM sends first, byte for byte but for a checksum over
 * the same bytes. A super-frame of UDP segmentation is the datagrams it will be cut into, so that
 * the two VMs may bundle them differently.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

/* The datagram at hand: `unit` bytes of a super-frame, or all. */
static guint32 datagram_len(const Held *held)
{
    guint32 left = held->packet.body_len - held->done;
    return held->packet.unit != 0 ? MIN(held->packet.unit, left) : left;
}

/* Offset of the first difference, not counting the checksum; `len` if there is none. */
static guint32 first_difference(const Held *p, const Held *s, guint32 len)
{
    const guint8 *a = p->packet.body + p->done, *b = s->packet.body + s->done;
    guint32 skip = p->packet.skip, skip_end = skip + p->packet.skip_len;

    if (p->packet.skip_len == 0) {
        if (memcmp(a, b, len) == 0)
            return len;
    } else if (memcmp(a, b, skip) == 0 && memcmp(a + skip_end, b + skip_end, len - skip_end) == 0) {
        return len;
    }
    guint32 i = 0;
    while (a[i] == b[i] || (i >= skip && i < skip_end))
        i++;
    return i;
}

static void differ(Compare *compare, Flow *flow, const Held *p, const Held *s, guint32 at,
                   const char *detail)
{
    guint32 p_len = datagram_len(p), s_len = datagram_len(s);
    Difference d = {
        .reason = COMPARE_PAYLOAD,
        .detail = detail,
        .primary = p->packet.body + p->done + at,
        .primary_len = p_len - at,
        .secondary = s->packet.body + s->done + at,
        .secondary_len = s_len - at,
        .more_offset = at,
    };
    flow_diverge(compare, flow, &d);
}

/* Compares one datagram of each side. FALSE: they differ. */
static gboolean compare_one(Compare *compare, Flow *flow, Held *p, Held *s)
{
    guint32 p_len = datagram_len(p), s_len = datagram_len(s), len = MIN(p_len, s_len);

    /* Same kind of flow, so the same bytes to skip, which are within both. */
    guint32 at = first_difference(p, s, len);
    if (at < len) {
        differ(compare, flow, p, s, at, "the datagrams differ");
        return FALSE;
    }
    if (p_len != s_len) {
        differ(compare, flow, p, s, len, "one datagram is longer");
        return FALSE;
    }
    if (p->packet.extra != s->packet.extra) {
        differ(compare, flow, p, s, len, "the datagrams' headers differ");
        return FALSE;
    }
    p->done += len;
    s->done += len;
    flow_count_verified(compare, flow, len);
    return TRUE;
}

static void compare_heads(Compare *compare, Flow *flow)
{
    GQueue *theirs = &flow->segs[SECONDARY];

    while (!flow->diverged && flow->fifo.head != NULL && theirs->head != NULL) {
        Held *p = flow->fifo.head->data, *s = theirs->head->data;
        if (!compare_one(compare, flow, p, s))
            return;
        guint64 settled = s->done == s->packet.body_len ? s->secondary_before + 1 : 0;
        if (settled)
            held_free(compare, s);
        if (p->done == p->packet.body_len)
            held_release(compare, p);
        if (settled && compare->actions.settled)
            compare->actions.settled(compare->epoch, settled, compare->user_data);
    }
}

static void too_many(Compare *compare, Flow *flow)
{
    flow_diverge(compare, flow,
                 &(Difference){.reason = COMPARE_TABLE_FULL,
                               .detail = "too many frames of this flow are waiting"});
}

void datagram_primary(Compare *compare, Flow *flow, Held *held)
{
    if (flow->diverged && compare->options.offline) {
        held_free(compare, held);
        return;
    }
    held_push_fifo(held, &flow->fifo);
    if (flow->diverged)
        return;
    held_start_timer(compare, held, TIMER_PRIMARY);
    if (flow->fifo.length > FLOW_MAX_FRAMES)
        too_many(compare, flow);
    compare_heads(compare, flow);
}

void datagram_secondary(Compare *compare, Flow *flow, Held *held)
{
    if (flow->diverged || flow->held_secondary > FLOW_MAX_FRAMES) {
        held_free(compare, held);
        if (!flow->diverged)
            too_many(compare, flow);
        return;
    }
    held_start_timer(compare, held, TIMER_SECONDARY);
    g_queue_push_tail_link(&flow->segs[SECONDARY], &held->seg);
    held->seg_queue = &flow->segs[SECONDARY];
    compare_heads(compare, flow);
}
