/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of one TCP connection that wait to be compared: each side's segments, sorted. Their
 * first and their last sequence numbers both ascend strictly, so none is within another.
 *
 * Segments come in order, nearly: a place is looked for from both ends, at most SEARCH_MAX steps,
 * so that no guest can make this slow. Memory is bounded by what the comparator holds in all.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

#define SEARCH_MAX 4096u

/* The PVM's frame stays in the fifo; the SVM's is not needed any more. */
static void leave_stream(Compare *compare, Held *held)
{
    if (held->side == SECONDARY)
        held_free(compare, held);
    else
        held_leave_seg(held);
}

/* ---- In their place ---- */

/* How much of `held` from sequence number `from` on was captured. */
static guint32 captured_from(const Held *held, guint32 from)
{
    gint32 have = seq_diff(held->first + held->packet.body_have, from);
    return have > 0 ? (guint32)have : 0;
}

/* Do two segments of one side agree where they overlap? */
static gboolean agree(const Held *a, const Held *b)
{
    guint32 from = seq_diff(a->first, b->first) > 0 ? a->first : b->first;
    guint32 to = seq_diff(a->data_end, b->data_end) < 0 ? a->data_end : b->data_end;

    if (a->end != a->data_end && seq_diff(b->data_end, a->data_end) > 0)
        return FALSE;
    if (b->end != b->data_end && seq_diff(a->data_end, b->data_end) > 0)
        return FALSE;
    if (seq_diff(to, from) <= 0)
        return TRUE;
    guint32 n = MIN(to - from, MIN(captured_from(a, from), captured_from(b, from)));
    return memcmp(a->packet.body + (from - a->first), b->packet.body + (from - b->first), n) == 0;
}

static guint32 first_of(const GList *link)
{
    return ((const Held *)link->data)->first;
}

/* The last segment that begins at or before `first`; NULL: none does. FALSE: too far from both
 * ends. */
static gboolean find_place(const GQueue *segs, guint32 first, GList **ret_after)
{
    GList *back = segs->tail, *front = segs->head;

    if (G_LIKELY(back == NULL || seq_diff(first_of(back), first) <= 0)) {
        *ret_after = back;
        return TRUE;
    }
    for (guint i = 0; i < SEARCH_MAX; i++) {
        if (back == NULL || seq_diff(first_of(back), first) <= 0) {
            *ret_after = back;
            return TRUE;
        }
        if (seq_diff(first_of(front), first) > 0) {
            *ret_after = front->prev;
            return TRUE;
        }
        back = back->prev;
        front = front->next;
    }
    return FALSE;
}

/*
 * Offline: a keepalive of an old TCP repeats the last byte with garbage in it. (Live, it can't be
 * among the bytes that wait: it comes when all has been acknowledged.)
 */
static gboolean is_garbage(const Compare *compare, const GQueue *segs, const Held *held)
{
    const Held *last = segs->tail->data;

    return compare->options.offline && held->packet.body_len == 1 && held->end == held->data_end &&
           held->end == last->data_end;
}

SegmentPlaced segment_insert(Compare *compare, GQueue *segs, Held *held)
{
    GList *after, *next;

    if (!find_place(segs, held->first, &after))
        return SEGMENT_TOO_FAR;
    for (GList *l = after; l != NULL; l = l->prev) {
        Held *before = l->data;
        if (seq_diff(before->end, held->first) <= 0)
            break;
        gboolean agreed = agree(before, held);
        if (!agreed && !is_garbage(compare, segs, held))
            return SEGMENT_CONTRADICTS;
        if (!agreed || seq_diff(before->end, held->end) >= 0) {
            leave_stream(compare, held);
            return SEGMENT_PLACED;
        }
    }
    for (GList *l = after != NULL ? after->next : segs->head; l != NULL; l = next) {
        Held *behind = l->data;
        next = l->next;
        if (seq_diff(behind->first, held->end) >= 0)
            break;
        if (!agree(behind, held))
            return SEGMENT_CONTRADICTS;
        if (seq_diff(behind->end, held->end) <= 0)
            leave_stream(compare, behind);
    }
    if (after != NULL && ((Held *)after->data)->first == held->first) {
        Held *same = after->data; /* and shorter */
        after = after->prev;
        leave_stream(compare, same);
    }
    links_insert_after(segs, after, &held->seg);
    held->seg_queue = segs;
    return SEGMENT_PLACED;
}

static inline Held *next_of(Compare *compare, Flow *flow, Side side, guint32 *ret_gap)
{
    GQueue *segs = &flow->segs[side];

    while (segs->head != NULL) {
        Held *held = segs->head->data;
        if (seq_diff(tcp_to_primary(flow, side, held->end), flow->verified) > 0) {
            gint32 done = seq_diff(flow->verified, tcp_to_primary(flow, side, held->first));
            held->done = done < 0 ? 0 : (guint32)done;
            *ret_gap = done < 0 ? (guint32)-done : 0;
            return held;
        }
        leave_stream(compare, held);
    }
    *ret_gap = 0;
    return NULL;
}

Held *segment_next(Compare *compare, Flow *flow, Side side, guint32 *ret_gap)
{
    return next_of(compare, flow, side, ret_gap);
}

gboolean segments_drop_passed(Compare *compare, Flow *flow)
{
    guint64 before = compare->stats.held_frames;
    guint32 gap;

    if (tcp_may_compare(flow))
        segment_next(compare, flow, SECONDARY, &gap);
    return compare->stats.held_frames != before;
}

/* ---- Compared ---- */

/* From `more` bytes behind the place where both are. */
static Difference difference_at(const Held *p, const Held *s, guint32 more)
{
    Difference d = {
        .frames = {p, s},
          .more_offset = more
    };
    difference_add_bytes(&d, PRIMARY, p, p->done + more);
    difference_add_bytes(&d, SECONDARY, s, s->done + more);
    return d;
}

/* One side ends its stream here, the other doesn't. */
static void differ_in_fin(Compare *compare, Flow *flow, const Held *p, const Held *s,
                          gboolean primary_ends)
{
    Difference d = difference_at(p, s, 0);
    d.reason = COMPARE_FLAG;
    d.detail = primary_ends ? "the primary ends the stream where the secondary continues"
                            : "the secondary ends the stream where the primary continues";
    difference_set_value(&d, "FIN", TRUE, primary_ends, !primary_ends);
    flow_diverge(compare, flow, &d);
}

/* Both have these `n` bytes, or have had them before they were cut. FALSE: they differ. */
static gboolean compare_bytes(Compare *compare, Flow *flow, const Held *p, const Held *s, guint32 n)
{
    const guint8 *a = p->packet.body + p->done, *b = s->packet.body + s->done;
    guint32 have = MIN(n, MIN(held_captured(p), held_captured(s))), same = 0;

    if (memcmp(a, b, have) != 0) {
        while (a[same] == b[same])
            same++;
        Difference d = difference_at(p, s, same);
        d.reason = COMPARE_PAYLOAD;
        d.detail = "the streams differ";
        flow_diverge(compare, flow, &d);
        return FALSE;
    }
    flow->verified += n;
    flow_count_verified(compare, flow, have);
    if (have < n)
        flow_count_unseen(flow, n - have);
    return TRUE;
}

/*
 * Offline, from the middle: if the PVM begins with one byte that the SVM has never sent, that is a
 * keepalive's, sent at another moment.
 */
static gboolean skip_probe(Flow *flow, const Held *p, guint32 s_gap)
{
    if (flow->offline == NULL || !flow->offline->maybe_probe || s_gap != 1 ||
        p->packet.body_len != 1)
        return FALSE;
    flow->offline->maybe_probe = FALSE;
    flow->verified++;
    return TRUE;
}

void segments_advance(Compare *compare, Flow *flow)
{
    guint32 p_gap, s_gap;

    /* Most often one side has nothing that waits; of the other's, all is beyond `verified` then. */
    if (flow->segs[PRIMARY].head == NULL || flow->segs[SECONDARY].head == NULL ||
        !tcp_may_compare(flow) || flow->diverged)
        return;
    for (;;) {
        Held *p = next_of(compare, flow, PRIMARY, &p_gap);
        Held *s = next_of(compare, flow, SECONDARY, &s_gap);
        if (p == NULL || s == NULL || p_gap > 0)
            return;
        if (s_gap > 0) {
            if (skip_probe(flow, p, s_gap))
                continue;
            return;
        }
        guint32 p_left = p->packet.body_len - p->done, s_left = s->packet.body_len - s->done;
        if (p_left == 0 && s_left == 0) { /* both FIN */
            flow->verified++;
            flow->closed = TRUE;
            continue;
        }
        if (p_left == 0 || s_left == 0) {
            differ_in_fin(compare, flow, p, s, p_left == 0);
            return;
        }
        if (!compare_bytes(compare, flow, p, s, MIN(p_left, s_left)))
            return;
    }
}

gboolean segments_skip_gap(Compare *compare, Flow *flow)
{
    guint32 p_gap, s_gap;

    if (flow->diverged || !tcp_may_compare(flow) ||
        segment_next(compare, flow, PRIMARY, &p_gap) == NULL ||
        segment_next(compare, flow, SECONDARY, &s_gap) == NULL || p_gap == 0 || s_gap == 0)
        return FALSE;
    flow->verified += MIN(p_gap, s_gap);
    flow->offline->skipped_bytes += MIN(p_gap, s_gap);
    flow->offline->passed += MIN(p_gap, s_gap);
    segments_advance(compare, flow);
    return TRUE;
}
