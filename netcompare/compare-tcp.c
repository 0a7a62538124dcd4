/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One TCP connection's output, compared as a byte stream. FIN counts as a byte after the last one.
 *
 * `verified` is the sequence number (as the PVM counts) up to which the SVM has produced the same
 * bytes. A frame of the PVM leaves, in its turn, when
 *   - its bytes and its FIN end at or before `verified`,
 *   - its ACK is at most the highest ACK the SVM has sent,
 *   - its SYN, RST and urgent pointer have been sent by the SVM too, a SYN with the same options.
 * How the bytes are cut into segments, windows, timestamps and SACK blocks don't matter; but a
 * frame leaves with the smaller of both VMs' receive windows.
 *
 * The SVM's sequence numbers are the PVM's for connections that the last checkpoint contains, and
 * differ by `delta` for those opened since, which is known when both SYNs have been seen. For one
 * seen from the middle they are taken to be the same: after a checkpoint that is true, and where it
 * is not, nothing matches and the flow diverges.
 *
 * Ports may be used again within an epoch, on each side at another moment. A SYN with a new initial
 * sequence number and all after it wait (`later`) until the PVM's frames of the last connection
 * are gone; then both sides turn the page. The SVM may still be saying its last words on the old
 * one: until its own new SYN it is not listened to (`await_syn`).
 */
#include "netcompare/compare_internal.h"
#include "netcompare/rewrite_internal.h"

#include <string.h>

/* Extra room added to a timestamp advance that has to grow, so that it rarely has to. */
#define TS_ADVANCE_SLACK 64u

/* ---- Where both sides stand ---- */

static void track(Flow *flow, const Packet *p)
{
    TcpTrack *t = &flow->track;
    guint32 end = packet_tcp_end(p);

    if (p->flags & TCP_RST)
        return;
    if ((p->flags & TCP_SYN) && (!t->has_isn || t->isn != p->seq)) {
        *t = (TcpTrack){.has_isn = TRUE, .isn = p->seq, .has_end = TRUE, .end = end};
        t->syn_options = p->syn_options;
    }
    t->seen = TRUE;
    if ((p->body_len > 0 || (p->flags & TCP_FIN)) && (!t->has_end || seq_diff(end, t->end) > 0)) {
        t->has_end = TRUE;
        t->end = end;
    }
    if ((p->flags & TCP_ACK) && (!t->has_ack || seq_diff(p->ack, t->ack) > 0)) {
        t->has_ack = TRUE;
        t->ack = p->ack;
    }
    if ((p->flags & (TCP_ACK | TCP_SYN)) == TCP_ACK) {
        t->has_window = TRUE;
        t->window = p->window;
    }
    if (p->flags & TCP_URG) {
        t->has_urg = TRUE;
        t->urg = p->seq + p->urgent;
    }
    if (p->ts_offset != 0 && (!t->has_ts || seq_diff(p->tsval, t->ts) > 0)) {
        t->has_ts = TRUE;
        t->ts = p->tsval;
    }
}

void tcp_begin_epoch(Flow *flow)
{
    const TcpTrack *t = &flow->track;
    TcpSide side = {
        .seen = t->seen,
        .syn = t->has_isn,
        .isn = t->isn,
        .syn_options = t->syn_options,
        .has_ack = t->has_ack,
        .ack = t->ack,
        .has_urg = t->has_urg,
        .urg = t->urg,
        .has_ts = t->has_ts,
        .ts = t->ts,
        .has_window = t->has_window,
        .window = t->window,
    };

    flow->tcp[PRIMARY] = flow->tcp[SECONDARY] = side;
    flow->based = t->has_end;
    flow->verified = t->end;
    flow->delta = 0;
    flow->opened = flow->noted = flow->await_syn = flow->closed = FALSE;
    flow->ts_advance = 0;
}

static gboolean may_compare(const Flow *flow)
{
    return flow->based && flow->tcp[PRIMARY].syn == flow->tcp[SECONDARY].syn;
}

/* A sequence number of `side` as the PVM counts. */
static guint32 to_primary(const Flow *flow, Side side, guint32 seq)
{
    return side == PRIMARY ? seq : seq + flow->delta;
}

static void diverge(Compare *compare, Flow *flow, CompareReason reason, const char *detail)
{
    flow_diverge(compare, flow, &(Difference){.reason = reason, .detail = detail});
}

static void too_many(Compare *compare, Flow *flow)
{
    diverge(compare, flow, COMPARE_TABLE_FULL, "too many frames of this flow are waiting");
}

/* ---- Bytes that wait ---- */

static void set_range(Held *held)
{
    const Packet *p = &held->packet;

    held->first = p->seq + !!(p->flags & TCP_SYN);
    held->data_end = held->first + p->body_len;
    held->end = held->data_end + !!(p->flags & TCP_FIN);
}

/* The PVM's frame stays in the fifo; the SVM's is not needed any more. */
static void leave_stream(Compare *compare, Held *held)
{
    if (held->side == SECONDARY)
        held_free(compare, held);
    else
        held_leave_seg(held);
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
    return memcmp(a->packet.body + (from - a->first), b->packet.body + (from - b->first),
                  to - from) == 0;
}

/*
 * Puts a segment in its place among those that wait. One within another is not kept, so that starts
 * and ends both ascend. FALSE: it contradicts what the same side has sent before.
 */
static gboolean insert(Compare *compare, GQueue *segs, Held *held)
{
    GList *after = segs->tail; /* the last one that begins at or before ours */
    GList *next;

    while (after != NULL && seq_diff(((Held *)after->data)->first, held->first) > 0)
        after = after->prev;
    for (GList *l = after; l != NULL; l = l->prev) {
        Held *before = l->data;
        if (seq_diff(before->end, held->first) <= 0)
            break;
        if (!agree(before, held))
            return FALSE;
        if (seq_diff(before->end, held->end) >= 0) {
            leave_stream(compare, held);
            return TRUE;
        }
    }
    for (GList *l = after != NULL ? after->next : segs->head; l != NULL; l = next) {
        Held *behind = l->data;
        next = l->next;
        if (seq_diff(behind->first, held->end) >= 0)
            break;
        if (!agree(behind, held))
            return FALSE;
        if (seq_diff(behind->end, held->end) <= 0)
            leave_stream(compare, behind);
    }
    if (after != NULL && ((Held *)after->data)->first == held->first) {
        Held *same = after->data; /* and shorter */
        after = after->prev;
        leave_stream(compare, same);
    }
    g_queue_insert_after_link(segs, after, &held->seg);
    held->seg_queue = segs;
    return TRUE;
}

/* The segment of `side` that has the byte (or FIN) at `verified`; NULL: not there yet. */
static Held *segment_at_verified(Compare *compare, Flow *flow, Side side)
{
    GQueue *segs = &flow->segs[side];

    while (segs->head != NULL) {
        Held *held = segs->head->data;
        if (seq_diff(to_primary(flow, side, held->end), flow->verified) > 0) {
            gint32 done = seq_diff(flow->verified, to_primary(flow, side, held->first));
            held->done = done < 0 ? 0 : (guint32)done;
            return done < 0 ? NULL : held;
        }
        leave_stream(compare, held);
    }
    return NULL;
}

static Difference difference_at(const Held *p, const Held *s, guint32 more)
{
    return (Difference){
        .primary = p->packet.body + p->done + more,
        .primary_len = p->packet.body_len - p->done - more,
        .secondary = s->packet.body + s->done + more,
        .secondary_len = s->packet.body_len - s->done - more,
        .more_offset = more,
    };
}

/* Compares what both sides have, from `verified` on. */
static void advance(Compare *compare, Flow *flow)
{
    if (!may_compare(flow) || flow->diverged)
        return;
    for (;;) {
        Held *p = segment_at_verified(compare, flow, PRIMARY);
        Held *s = segment_at_verified(compare, flow, SECONDARY);
        if (p == NULL || s == NULL)
            return;
        guint32 p_left = p->packet.body_len - p->done, s_left = s->packet.body_len - s->done;
        if (p_left == 0 && s_left == 0) { /* both FIN */
            flow->verified++;
            flow->closed = TRUE;
            continue;
        }
        if (p_left == 0 || s_left == 0) {
            Difference d = difference_at(p, s, 0);
            d.reason = COMPARE_FLAG;
            d.detail = p_left == 0 ? "the primary ends the stream where the secondary goes on"
                                   : "the secondary ends the stream where the primary goes on";
            flow_diverge(compare, flow, &d);
            return;
        }
        guint32 n = MIN(p_left, s_left), same = 0;
        const guint8 *a = p->packet.body + p->done, *b = s->packet.body + s->done;
        if (memcmp(a, b, n) != 0) {
            while (a[same] == b[same])
                same++;
            Difference d = difference_at(p, s, same);
            d.reason = COMPARE_PAYLOAD;
            d.detail = "the streams differ";
            flow_diverge(compare, flow, &d);
            return;
        }
        flow->verified += n;
        flow_count_verified(compare, flow, n);
    }
}

/* ---- Notes for the secondary host ---- */

/*
 * The SVM's timestamps must not be behind those released, or after a takeover the client drops its
 * segments (PAWS, RFC 7323). The SVM's clock only goes on from the last timestamp seen of it.
 */
static void note(Compare *compare, Flow *flow, const Packet *p)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];
    gboolean first = flow->opened && !flow->noted;
    gint32 behind = 0;

    if (p->ts_offset != 0 && svm->has_ts)
        behind = seq_diff(p->tsval, svm->ts + flow->ts_advance);
    if (first) /* exact: a guest takes no answer to a SYN that it has not sent */
        flow->ts_advance += (guint32)behind;
    else if (behind > 0)
        flow->ts_advance += (guint32)behind + TS_ADVANCE_SLACK;
    else
        return;
    flow->noted = TRUE;
    if (compare->actions.note == NULL)
        return;
    CompareNote n = {
        .key = flow->node.key,
        .epoch = flow->epoch,
        .has_isn = flow->tcp[PRIMARY].syn && svm->syn,
        .pvm_isn = flow->tcp[PRIMARY].isn,
        .svm_isn = svm->isn,
        .ts_advance = flow->ts_advance,
        .has_ts = svm->has_ts,
        .svm_ts = svm->ts,
    };
    compare->stats.notes++;
    compare->actions.note(&n, compare->user_data);
}

/* ---- What both sides say ---- */

/* A SYN that is not this connection's. */
static gboolean is_next_connection(const TcpSide *side, const Packet *p)
{
    return (p->flags & TCP_SYN) && !(p->flags & TCP_RST) &&
           (side->syn ? side->isn != p->seq : side->seen);
}

/* The SVM's SYN and RST that the PVM has now sent too need no watching any more. */
static void settle_markers(Compare *compare, Flow *flow)
{
    const TcpSide *pvm = &flow->tcp[PRIMARY];
    GList *next;

    for (GList *l = flow->markers.head; l != NULL; l = next) {
        Held *held = l->data;
        next = l->next;
        gboolean rst = (held->packet.flags & TCP_RST) != 0;
        if (rst ? pvm->rst : pvm->syn)
            held_free(compare, held);
    }
}

/* Both SYNs are known: the numbers can be mapped. */
static void match_syns(Compare *compare, Flow *flow)
{
    const TcpSide *pvm = &flow->tcp[PRIMARY], *svm = &flow->tcp[SECONDARY];

    if (!pvm->syn || !svm->syn)
        return;
    flow->delta = pvm->isn - svm->isn;
    flow->opened = TRUE;
    if (memcmp(&pvm->syn_options, &svm->syn_options, sizeof(pvm->syn_options)) != 0)
        diverge(compare, flow, COMPARE_FLAG, "the options of the SYNs differ");
}

/* What any frame of a side says, apart from its bytes. */
static void hear(Compare *compare, Flow *flow, Side which, const Packet *p)
{
    TcpSide *side = &flow->tcp[which];
    gboolean syn = FALSE;

    if ((p->flags & TCP_SYN) && !(p->flags & TCP_RST) && !side->syn) {
        side->syn = TRUE;
        side->isn = p->seq;
        side->syn_options = p->syn_options;
        syn = TRUE;
    }
    side->seen = TRUE;
    if (p->flags & TCP_RST)
        side->rst = TRUE;
    if ((p->flags & TCP_ACK) && (!side->has_ack || seq_diff(p->ack, side->ack) > 0)) {
        side->has_ack = TRUE;
        side->ack = p->ack;
    }
    if ((p->flags & (TCP_ACK | TCP_SYN)) == TCP_ACK) {
        side->has_window = TRUE;
        side->window = p->window;
    }
    if (p->flags & TCP_URG) {
        side->has_urg = TRUE;
        side->urg = p->seq + p->urgent;
    }
    if (p->ts_offset != 0 && (!side->has_ts || seq_diff(p->tsval, side->ts) > 0)) {
        side->has_ts = TRUE;
        side->ts = p->tsval;
    }
    if (syn)
        match_syns(compare, flow); /* last: offline it may free the frame */
}

static gboolean has_bytes(const Packet *p)
{
    return !(p->flags & TCP_RST) && (p->body_len > 0 || (p->flags & TCP_FIN));
}

static void contradicts_itself(Compare *compare, Flow *flow)
{
    diverge(compare, flow, COMPARE_PAYLOAD, "a retransmission carries other bytes than before");
}

/* A connection that the guest opens. */
static gboolean opens(const Packet *p)
{
    return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* A frame of the PVM that is in the fifo, and of the present connection unless marked `later`. */
static void take_primary(Compare *compare, Flow *flow, Held *held)
{
    const Packet *p = &held->packet;
    Held *last = flow->fifo.length > 1 ? held->fifo.prev->data : NULL;

    if ((last != NULL && last->later) || is_next_connection(&flow->tcp[PRIMARY], p)) {
        held->later = TRUE;
        return;
    }
    hear(compare, flow, PRIMARY, p);
    settle_markers(compare, flow);
    if (flow->diverged)
        return;
    if (opens(p) && !flow->tcp[SECONDARY].syn && !held->is_opening)
        held_opens(compare, held);
    set_range(held);
    if ((p->flags & TCP_SYN) && !(p->flags & TCP_RST) && !flow->based) {
        flow->based = TRUE;
        flow->verified = p->seq + 1;
    }
    if (has_bytes(p)) {
        if (!flow->based) { /* seen from the middle: all before has left earlier */
            flow->based = TRUE;
            flow->verified = held->first;
        }
        if (seq_diff(held->end, flow->verified) > 0 &&
            !insert(compare, &flow->segs[PRIMARY], held)) {
            contradicts_itself(compare, flow);
            return;
        }
    }
    advance(compare, flow);
}

/* A frame of the SVM: kept in the stream, as a marker or for later, or freed. */
static void take_secondary(Compare *compare, Flow *flow, Held *held)
{
    TcpSide *svm = &flow->tcp[SECONDARY];
    const TcpSide *pvm = &flow->tcp[PRIMARY];
    const Packet *p = &held->packet;

    if (flow->await_syn) {
        if (!(p->flags & TCP_SYN) || (flow->await_isn_known && p->seq == flow->await_isn)) {
            held_free(compare, held);
            return;
        }
        flow->await_syn = FALSE;
    }
    if (flow->later.length > 0 || is_next_connection(svm, p)) {
        held_start_timer(compare, held, TIMER_SECONDARY);
        held_push_fifo(held, &flow->later);
        if (flow->later.length > FLOW_MAX_LATER)
            too_many(compare, flow);
        return;
    }
    gboolean first_syn = (p->flags & TCP_SYN) && !svm->syn;
    gboolean first_rst = (p->flags & TCP_RST) && !svm->rst;
    hear(compare, flow, SECONDARY, p);
    if (flow->diverged) {
        held_free(compare, held);
        return;
    }
    if (!has_bytes(p)) {
        if ((first_syn && !pvm->syn) || (first_rst && !pvm->rst)) {
            held_start_timer(compare, held, TIMER_SECONDARY);
            held_push_fifo(held, &flow->markers);
            if (opens(p))
                held_opens(compare, held);
        } else {
            held_free(compare, held);
        }
        advance(compare, flow);
        return;
    }
    set_range(held);
    if (may_compare(flow) &&
        seq_diff(to_primary(flow, SECONDARY, held->end), flow->verified) <= 0) {
        held_free(compare, held); /* nothing new: a retransmission */
        return;
    }
    held_start_timer(compare, held, TIMER_SECONDARY);
    if (!insert(compare, &flow->segs[SECONDARY], held)) {
        held_free(compare, held);
        contradicts_itself(compare, flow);
        return;
    }
    advance(compare, flow);
}

/* ---- Release ---- */

static gboolean urgent_matches(Compare *compare, Flow *flow, const Held *held)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];
    const Packet *p = &held->packet;
    guint32 theirs = to_primary(flow, SECONDARY, svm->urg);

    if (p->flags & TCP_URG)
        return svm->has_urg && theirs == p->seq + p->urgent;
    if (svm->has_urg && p->body_len > 0 && seq_diff(theirs, held->first) > 0 &&
        seq_diff(theirs, held->end) <= 0) {
        diverge(compare, flow, COMPARE_FLAG, "only the secondary calls these bytes urgent");
        return FALSE;
    }
    return TRUE;
}

/* Does what the SVM has sent imply this frame? */
static gboolean is_implied(Compare *compare, Flow *flow, const Held *held)
{
    const TcpSide *pvm = &flow->tcp[PRIMARY], *svm = &flow->tcp[SECONDARY];
    const Packet *p = &held->packet;

    if ((p->flags & TCP_RST) && (!svm->rst || p->body_len > 0))
        return FALSE;
    if ((p->flags & TCP_SYN) && !(pvm->syn && svm->syn))
        return FALSE;
    if (has_bytes(p) && (!may_compare(flow) || seq_diff(held->end, flow->verified) > 0))
        return FALSE;
    if ((p->flags & TCP_ACK) && !(svm->has_ack && seq_diff(p->ack, svm->ack) <= 0))
        return FALSE;
    return urgent_matches(compare, flow, held);
}

gboolean tcp_lacks_ack_only(const Flow *flow, const Held *held)
{
    const Packet *p = &held->packet;

    return !held->later && (p->flags & (TCP_ACK | TCP_SYN | TCP_RST | TCP_URG)) == TCP_ACK &&
           may_compare(flow) && seq_diff(held->end, flow->verified) <= 0;
}

/* The PVM's next connection on these ports is at the head of the fifo: begin it on both sides. */
static void turn_page(Compare *compare, Flow *flow)
{
    TcpSide *svm = &flow->tcp[SECONDARY];
    GQueue primary = G_QUEUE_INIT, secondary = G_QUEUE_INIT;
    Held *held;

    while ((held = g_queue_peek_head(&flow->segs[SECONDARY])) != NULL)
        held_free(compare, held);
    while ((held = g_queue_peek_head(&flow->markers)) != NULL)
        held_free(compare, held);
    while ((held = g_queue_peek_head(&flow->later)) != NULL) {
        held_leave_fifo(held);
        g_queue_push_tail_link(&secondary, &held->fifo);
    }
    while ((held = g_queue_peek_head(&flow->fifo)) != NULL) {
        held_leave_fifo(held);
        g_queue_push_tail_link(&primary, &held->fifo);
    }
    tcp_forget_narrowed(compare, flow);
    flow->await_isn_known = flow->await_syn ? flow->await_isn_known : svm->syn;
    flow->await_isn = flow->await_syn ? flow->await_isn : svm->isn;
    flow->await_syn = TRUE;
    flow->tcp[PRIMARY] = flow->tcp[SECONDARY] = (TcpSide){0};
    flow->based = flow->opened = flow->noted = flow->closed = FALSE;
    flow->delta = flow->ts_advance = 0;

    /* Links first: comparing may give the flow up and free what it holds. */
    for (GList *l = g_queue_pop_head_link(&primary); l != NULL;
         l = g_queue_pop_head_link(&primary)) {
        held = l->data;
        held->later = FALSE;
        if (flow->diverged && compare->options.offline) {
            held_free(compare, held);
            continue;
        }
        held_push_fifo(held, &flow->fifo);
        if (!flow->diverged)
            take_primary(compare, flow, held);
    }
    for (GList *l = g_queue_pop_head_link(&secondary); l != NULL;
         l = g_queue_pop_head_link(&secondary)) {
        held = l->data;
        if (flow->diverged)
            held_free(compare, held);
        else
            take_secondary(compare, flow, held);
    }
}

/*
 * A client that is told the PVM's window, where the SVM's is smaller, sends what the SVM has no
 * room for and drops: the SVM falls behind, and the client, whose segment has arrived at the PVM,
 * sends it again only when its timer expires. So a frame leaves with the smaller window; raw ones
 * are compared, for both sides scale alike and the SVM's edge is at least as far as its ACK, which
 * is not behind the frame's. When the SVM's window has grown and no frame comes that could say so,
 * the last one is sent again.
 */
void tcp_forget_narrowed(Compare *compare, Flow *flow)
{
    if (flow->narrowed == NULL)
        return;
    g_queue_unlink(&compare->narrowed, &flow->narrowed_link);
    g_clear_pointer(&flow->narrowed, g_bytes_unref);
}

static void narrow(Compare *compare, Flow *flow, Held *held)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];
    const Packet *p = &held->packet;

    if ((p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) != TCP_ACK)
        return;
    tcp_forget_narrowed(compare, flow);
    if (!svm->has_window || p->window <= svm->window || compare->options.offline)
        return;
    flow->narrowed = held->frame;
    flow->narrowed_to = svm->window;
    flow->narrowed_nic = p->key.nic;
    flow->narrowed_link = (GList){.data = flow};
    g_queue_push_tail_link(&compare->narrowed, &flow->narrowed_link);
    held->frame = rewrite_frame_window(flow->narrowed, p, svm->window);
}

static void widen(Compare *compare, Flow *flow, guint16 to)
{
    g_autoptr(GBytes) frame = g_bytes_ref(flow->narrowed);
    Packet p;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);

    packet_parse(data, len, compare->options.vnet_hdr, flow->narrowed_nic, &p);
    flow->narrowed_to = MIN(to, p.window);
    g_autoptr(GBytes) widened = rewrite_frame_window(frame, &p, flow->narrowed_to);
    if (flow->narrowed_to == p.window)
        tcp_forget_narrowed(compare, flow);
    compare->actions.release(p.key.nic, flow->epoch, widened, compare->user_data);
}

static void widen_if_grown(Compare *compare, Flow *flow)
{
    guint16 window = flow->tcp[SECONDARY].window;

    if (flow->narrowed != NULL && !flow->diverged && flow->fifo.length == 0 &&
        window > flow->narrowed_to + flow->narrowed_to / 2)
        widen(compare, flow, window);
}

void tcp_widen_all(Compare *compare)
{
    while (compare->narrowed.head != NULL)
        widen(compare, compare->narrowed.head->data, G_MAXUINT16);
}

static void release_implied(Compare *compare, Flow *flow)
{
    Held *held;

    while (!flow->diverged && (held = g_queue_peek_head(&flow->fifo)) != NULL) {
        if (held->later) {
            turn_page(compare, flow);
            continue;
        }
        if (!is_implied(compare, flow, held))
            return;
        if (held->packet.flags & TCP_RST)
            flow->closed = TRUE;
        note(compare, flow, &held->packet);
        narrow(compare, flow, held);
        held_release(compare, held);
    }
}

/* ---- In ---- */

void tcp_primary(Compare *compare, Flow *flow, Held *held)
{
    const Packet *p = &held->packet;
    gboolean pure_ack = p->body_len == 0 && !(p->flags & (TCP_SYN | TCP_FIN | TCP_RST));

    track(flow, p);
    if (flow->diverged) {
        if (compare->options.offline)
            held_free(compare, held);
        else
            held_push_fifo(held, &flow->fifo);
        return;
    }
    held_push_fifo(held, &flow->fifo);
    held_start_timer(compare, held, pure_ack ? TIMER_PRIMARY_ACK : TIMER_PRIMARY);
    if (flow->fifo.length > FLOW_MAX_FRAMES) {
        too_many(compare, flow);
        return;
    }
    take_primary(compare, flow, held);
    release_implied(compare, flow);
    const Held *last = g_queue_peek_tail(&flow->fifo);
    if (!flow->diverged && last != NULL && last->later && flow->fifo.length > FLOW_MAX_LATER)
        too_many(compare, flow);
}

void tcp_secondary(Compare *compare, Flow *flow, Held *held)
{
    if (flow->diverged) {
        held_free(compare, held);
        return;
    }
    if (flow->held_secondary > FLOW_MAX_FRAMES) {
        held_free(compare, held);
        too_many(compare, flow);
        return;
    }
    take_secondary(compare, flow, held);
    release_implied(compare, flow);
    widen_if_grown(compare, flow);
}
