/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that is not a TCP stream: datagrams, compared in the order they come, flow by flow.
 * What the PVM sent first must be what the SVM sends first, byte for byte but for a checksum over
 * the same bytes. A super-frame of UDP segmentation is the datagrams it will be cut into, so that
 * the two VMs may bundle them differently.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

/* More than this was a super-frame: no Ethernet without jumbo frames takes it. */
#define PLAIN_UDP_BYTES 1480u

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
    } else if (len >= skip_end && memcmp(a, b, skip) == 0 &&
               memcmp(a + skip_end, b + skip_end, len - skip_end) == 0) {
        return len;
    }
    for (guint32 i = 0; i < len; i++)
        if ((i < skip || i >= skip_end) && a[i] != b[i])
            return i;
    return len;
}

static void differ(Compare *compare, Flow *flow, const Held *p, const Held *s, guint32 at,
                   const char *detail, const char *field, gint64 primary, gint64 secondary)
{
    Difference d = {
        .reason = COMPARE_PAYLOAD, .detail = detail, .frames = {p, s},
                .more_offset = at
    };

    difference_add_bytes(&d, PRIMARY, p, p->done + at);
    difference_add_bytes(&d, SECONDARY, s, s->done + at);
    d.len[PRIMARY] = MIN(d.len[PRIMARY], datagram_len(p) - at);
    d.len[SECONDARY] = MIN(d.len[SECONDARY], datagram_len(s) - at);
    if (field != NULL)
        difference_set_value(&d, field, FALSE, primary, secondary);
    flow_diverge(compare, flow, &d);
}

/*
 * Offline nothing tells into which datagrams a super-frame of UDP was to be cut. Then only the
 * bytes count, and that both sides end a datagram at the same place at last.
 */
static gboolean is_bundled(Flow *flow, const Held *p, const Held *s)
{
    if (flow->offline == NULL || flow->node.key.kind != COMPARE_KIND_UDP)
        return FALSE;
    if (MAX(p->packet.body_len, s->packet.body_len) > PLAIN_UDP_BYTES)
        flow->offline->bundles = TRUE;
    return flow->offline->bundles;
}

/* Compares one datagram of each side. FALSE: they differ. */
static gboolean compare_one(Compare *compare, Flow *flow, Held *p, Held *s)
{
    guint32 p_len = datagram_len(p), s_len = datagram_len(s), len = MIN(p_len, s_len);
    guint32 have = MIN(len, MIN(held_captured(p), held_captured(s)));

    /* Same kind of flow, so the same bytes to skip. */
    guint32 at = first_difference(p, s, have);
    if (at < have) {
        differ(compare, flow, p, s, at, "the datagrams differ", NULL, 0, 0);
        return FALSE;
    }
    if (p_len != s_len && !is_bundled(flow, p, s)) {
        differ(compare, flow, p, s, len, "one datagram is longer", "length", p->packet.body_len,
               s->packet.body_len);
        return FALSE;
    }
    if (p->packet.extra != s->packet.extra) {
        gboolean fragment = flow->node.key.kind == COMPARE_KIND_FRAGMENT;
        differ(compare, flow, p, s, len, "the datagrams' headers differ",
               fragment ? "place of the fragment" : "length", p->packet.extra, s->packet.extra);
        return FALSE;
    }
    p->done += len;
    s->done += len;
    flow_count_verified(compare, flow, have);
    if (have < len)
        flow_count_unseen(flow, len - have);
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
    compare_heads(compare, flow);
}

void datagram_secondary(Compare *compare, Flow *flow, Held *held)
{
    if (flow->diverged) {
        held_free(compare, held);
        return;
    }
    held_start_timer(compare, held, TIMER_SECONDARY);
    links_push(&flow->segs[SECONDARY], &held->seg);
    held->seg_queue = &flow->segs[SECONDARY];
    compare_heads(compare, flow);
}
