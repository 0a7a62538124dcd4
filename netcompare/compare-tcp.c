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
 * The SVM's sequence numbers are the PVM's for connections that the last checkpoint contains. For
 * those opened since they differ by `delta`, which is known when both SYNs have been seen. For one
 * seen from the middle they are taken to be the same. After a checkpoint that is true; where it is
 * not, nothing matches and the flow diverges.
 *
 * Ports may be used again within an epoch, on each side at another moment. A SYN with a new initial
 * sequence number and all after it wait (`later`) until the PVM's frames of the last connection are
 * gone; then both sides turn the page. The SVM may still send on the old one, until its own new SYN
 * (`await_syn`). It may send only what the PVM has sent (`last`), and nothing of the old one may be
 * left when the page is turned.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

/* Extra room added to a timestamp advance that has to grow, so that it rarely has to. */
#define TS_ADVANCE_SLACK 64u

/* ---- Where both sides are ---- */

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
    flow->ts_advance = flow->ack_delta = 0;
    rare_free(flow);
}

void tcp_forget(Compare *compare, Flow *flow)
{
    tcp_forget_narrowed(compare, flow);
    rare_free(flow);
}

/* ---- Notes for the secondary host ---- */

/*
 * The SVM's timestamps must not be behind those released, or after a takeover the client drops its
 * segments (PAWS, RFC 7323). The SVM's clock only advances from the last timestamp seen of it.
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

/* ---- What both sides send ---- */

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

static void compare_syn_options(Compare *compare, Flow *flow, const Held *syn)
{
    const PacketSynOptions *p = &flow->tcp[PRIMARY].syn_options;
    const PacketSynOptions *s = &flow->tcp[SECONDARY].syn_options;
    Difference d = {.reason = COMPARE_FLAG, .detail = "the options of the SYNs differ"};

    if (memcmp(p, s, sizeof(*p)) == 0)
        return;
    d.frames[syn->side] = syn;
    if (p->mss != s->mss)
        difference_set_value(&d, "MSS", FALSE, p->mss ? p->mss : -1, s->mss ? s->mss : -1);
    else if (p->wscale != s->wscale)
        difference_set_value(&d, "window scale", FALSE, p->wscale - 1, s->wscale - 1);
    else if (p->sack_ok != s->sack_ok)
        difference_set_value(&d, "SACK permitted", TRUE, p->sack_ok, s->sack_ok);
    else
        difference_set_value(&d, "timestamps", TRUE, p->ts, s->ts);
    flow_diverge(compare, flow, &d);
}

/* Both SYNs are known: the numbers can be mapped. `syn` is the second one. */
static void match_syns(Compare *compare, Flow *flow, const Held *syn)
{
    const TcpSide *pvm = &flow->tcp[PRIMARY], *svm = &flow->tcp[SECONDARY];

    if (!pvm->syn || !svm->syn)
        return;
    flow->delta = pvm->isn - svm->isn;
    flow->opened = TRUE;
    compare_syn_options(compare, flow, syn);
}

/* What any frame of a side carries apart from its bytes. */
static void note_values(Compare *compare, Flow *flow, Side which, const Held *held)
{
    const Packet *p = &held->packet;
    TcpSide *side = &flow->tcp[which];
    gboolean syn = FALSE;

    if ((p->flags & TCP_SYN) && !(p->flags & TCP_RST) && !side->syn) {
        side->syn = TRUE;
        side->isn = p->seq;
        side->syn_options = p->syn_options;
        syn = TRUE;
    }
    if (G_UNLIKELY(compare->options.offline))
        captured_note(compare, flow, which, p);
    side->seen = TRUE;
    if (tcp_acknowledges(flow, p) && (!side->has_ack || seq_diff(p->ack, side->ack) > 0)) {
        side->has_ack = TRUE;
        side->ack = p->ack;
    }
    if ((p->flags & (TCP_ACK | TCP_SYN)) == TCP_ACK) {
        side->has_window = TRUE;
        side->window = p->window;
    }
    if (p->flags & TCP_URG) {
        if (which == SECONDARY && side->has_urg && side->urg != p->seq + p->urgent)
            urgent_remember(flow, side->urg);
        side->has_urg = TRUE;
        side->urg = p->seq + p->urgent;
    }
    if (p->ts_offset != 0 && (!side->has_ts || seq_diff(p->tsval, side->ts) > 0)) {
        side->has_ts = TRUE;
        side->ts = p->tsval;
    }
    /* Last: offline these may free what the flow holds. */
    if ((p->flags & TCP_RST) && reset_note(compare, flow, which, held))
        side->rst = TRUE;
    if (syn)
        match_syns(compare, flow, held);
}

static gboolean has_bytes(const Packet *p)
{
    return !(p->flags & TCP_RST) && (p->body_len > 0 || (p->flags & TCP_FIN));
}

static void differ_in_place(Compare *compare, Flow *flow, const Held *held, gboolean too_far)
{
    Difference d = {.reason = COMPARE_PAYLOAD,
                    .detail = "a retransmission carries other bytes than before"};

    if (too_far) {
        d.reason = COMPARE_TABLE_FULL;
        d.detail = "frames of this flow wait in too much disorder";
    } else {
        d.frames[held->side] = held;
        difference_add_bytes(&d, held->side, held, 0);
    }
    flow_diverge(compare, flow, &d);
}

/* Puts a segment in its place. FALSE: the flow differs, and the segment is in none. */
static gboolean place(Compare *compare, Flow *flow, Held *held)
{
    SegmentPlaced placed = segment_insert(compare, &flow->segs[held->side], held);
    if (placed == SEGMENT_PLACED)
        return TRUE;
    differ_in_place(compare, flow, held, placed == SEGMENT_TOO_FAR);
    return FALSE;
}

/* A connection that the guest opens. */
static gboolean opens(const Packet *p)
{
    return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* The PVM's first bytes, seen from the middle: all before has left earlier. */
static void begin_stream(Flow *flow, const Held *held)
{
    gboolean before = captured_before_begin(flow, PRIMARY, held);

    flow->based = TRUE;
    flow->verified = before ? held->end : held->first;
    if (flow->offline != NULL)
        flow->offline->maybe_probe = !before && held->packet.body_len == 1;
}

/* A frame of the PVM that is in the fifo, and of the present connection unless marked `later`. */
static void take_primary(Compare *compare, Flow *flow, Held *held)
{
    const Packet *p = &held->packet;
    const Held *last = held->fifo.prev != NULL ? held->fifo.prev->data : NULL;

    if ((last != NULL && last->later) || is_next_connection(&flow->tcp[PRIMARY], p)) {
        held->later = TRUE;
        return;
    }
    note_values(compare, flow, PRIMARY, held);
    if (flow->diverged)
        return;
    settle_markers(compare, flow);
    if (opens(p) && !flow->tcp[SECONDARY].syn && !held->is_opening)
        held_opens(compare, held);
    segment_set_range(held);
    if ((p->flags & TCP_SYN) && !(p->flags & TCP_RST) && !flow->based) {
        flow->based = TRUE;
        flow->verified = p->seq + 1;
    }
    if (has_bytes(p)) {
        if (!flow->based)
            begin_stream(flow, held);
        if (seq_diff(held->end, flow->verified) > 0 && !place(compare, flow, held))
            return;
    }
    segments_advance(compare, flow);
}

/* The SVM's SYN or RST that the PVM has not sent waits for it; any other one is done with. */
static void take_marker(Compare *compare, Flow *flow, Held *held, gboolean waits)
{
    if (waits) {
        held_start_timer(compare, held, TIMER_SECONDARY);
        held_push_fifo(held, &flow->markers);
        if (opens(&held->packet))
            held_opens(compare, held);
    } else {
        held_free(compare, held);
    }
    segments_advance(compare, flow);
}

/* A frame of the SVM, of the present connection: kept in the stream, as a marker, or freed. */
static void take_secondary(Compare *compare, Flow *flow, Held *held)
{
    TcpSide *svm = &flow->tcp[SECONDARY];
    const TcpSide *pvm = &flow->tcp[PRIMARY];
    const Packet *p = &held->packet;

    gboolean first_syn = (p->flags & TCP_SYN) && !svm->syn;
    gboolean first_rst = (p->flags & TCP_RST) && !svm->rst;
    segment_set_range(held);
    gboolean before =
        G_UNLIKELY(compare->options.offline) && captured_before_begin(flow, SECONDARY, held);
    note_values(compare, flow, SECONDARY, held);
    if (flow->diverged) {
        held_free(compare, held);
        return;
    }
    if (!has_bytes(p)) {
        take_marker(compare, flow, held, (first_syn && !pvm->syn) || (first_rst && !pvm->rst));
        return;
    }
    if (before ||
        (G_UNLIKELY(compare->options.offline) && captured_before_begin(flow, PRIMARY, held)) ||
        (tcp_may_compare(flow) &&
         seq_diff(tcp_to_primary(flow, SECONDARY, held->end), flow->verified) <= 0)) {
        held_free(compare, held); /* nothing new: a retransmission */
        return;
    }
    held_start_timer(compare, held, TIMER_SECONDARY);
    if (!place(compare, flow, held)) {
        held_free(compare, held);
        return;
    }
    segments_advance(compare, flow);
}

/* ---- Ports that are used again ---- */

#define ON_THE_LAST                                                                                \
    "the secondary has sent what the primary has not, on the connection before this one"

/* `turned`: the page has been. */
static void differ_on_last(Compare *compare, Flow *flow, const Held *held, guint32 from,
                           gboolean turned)
{
    const Packet *p = &held->packet;
    Difference d = {.reason = COMPARE_EXTRA_OUTPUT, .detail = ON_THE_LAST, .on_last = turned};

    d.frames[SECONDARY] = held;
    difference_add_bytes(&d, SECONDARY, held, from);
    if (d.len[SECONDARY] == 0)
        difference_set_value(&d,
                             p->flags & TCP_RST   ? "RST"
                             : p->flags & TCP_FIN ? "FIN"
                                                  : "SYN",
                             TRUE, 0, 1);
    flow_diverge(compare, flow, &d);
}

/* The SVM's late words on the connection before: there may be nothing new in them. */
static void take_last_words(Compare *compare, Flow *flow, Held *held)
{
    const Packet *p = &held->packet;
    const TcpLast *last = &flow->last;

    segment_set_range(held);
    gboolean new_bytes = has_bytes(p) && (!last->comparable ||
                                          seq_diff(held->end + last->delta, last->verified) > 0);
    gint32 behind = last->comparable ? seq_diff(last->verified, held->first + last->delta) : 0;
    guint32 sent = new_bytes && behind > 0 ? (guint32)behind : 0;
    gboolean new_reset = (p->flags & TCP_RST) && (!last->rst || !reset_is_last(flow, p));
    if (new_bytes || new_reset)
        differ_on_last(compare, flow, held, sent, TRUE);
    held_free(compare, held);
}

/* What the PVM has never sent on the connection that is over, it won't send any more. */
static gboolean is_all_sent(Compare *compare, Flow *flow)
{
    guint32 gap;
    const Held *more = tcp_may_compare(flow) ? segment_next(compare, flow, SECONDARY, &gap)
                                             : g_queue_peek_head(&flow->segs[SECONDARY]);
    const Held *marker = g_queue_peek_head(&flow->markers);

    if (more != NULL)
        differ_on_last(compare, flow, more, more->done, FALSE);
    else if (marker != NULL)
        differ_on_last(compare, flow, marker, 0, FALSE);
    return more == NULL && marker == NULL;
}

static void close_page(Compare *compare, Flow *flow)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];

    if (!flow->await_syn) {
        flow->await_isn_known = svm->syn;
        flow->await_isn = svm->isn;
    }
    flow->last = (TcpLast){.bytes = flow_offset(flow),
                           .verified = flow->verified,
                           .delta = flow->delta,
                           .comparable = tcp_may_compare(flow),
                           .rst = flow->tcp[PRIMARY].rst};
    flow->await_syn = TRUE;
    tcp_forget_narrowed(compare, flow);
    rare_turn_page(flow);
    flow->tcp[PRIMARY] = flow->tcp[SECONDARY] = (TcpSide){0};
    flow->based = flow->opened = flow->noted = flow->closed = FALSE;
    flow->delta = flow->ts_advance = flow->ack_delta = 0;
    flow->before_connection = flow->verified_bytes;
    flow->connection++;
    if (flow->offline != NULL) {
        FlowOffline *offline = flow->offline;
        offline->passed = 0;
        offline->has_begin[PRIMARY] = offline->has_begin[SECONDARY] = FALSE;
        offline->has_first_ack[PRIMARY] = offline->has_first_ack[SECONDARY] = FALSE;
        offline->maybe_probe = FALSE;
    }
}

/*
 * The PVM's next connection on these ports is at the head of the fifo: begin it on both sides. Of
 * what waits, each side's frames up to its next connection after that are taken.
 */
static void turn_page(Compare *compare, Flow *flow)
{
    Held *held;

    if (!is_all_sent(compare, flow))
        return;
    close_page(compare, flow);
    for (GList *l = flow->fifo.head; l != NULL; l = l->next) {
        held = l->data;
        held->later = FALSE;
        take_primary(compare, flow, held);
        if (flow->diverged) /* offline, the frame has gone */
            return;
        if (held->later)
            break;
    }
    if (flow->later.length > 0)
        flow->await_syn = FALSE;
    while ((held = g_queue_peek_head(&flow->later)) != NULL) {
        if (flow->diverged) {
            held_free(compare, held);
            continue;
        }
        if (is_next_connection(&flow->tcp[SECONDARY], &held->packet))
            return;
        held_leave_fifo(held);
        take_secondary(compare, flow, held);
    }
}

/* ---- Release ---- */

static gboolean urgent_matches(Compare *compare, Flow *flow, const Held *held)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];
    const Packet *p = &held->packet;
    guint32 theirs = tcp_to_primary(flow, SECONDARY, svm->urg);

    if (p->flags & TCP_URG)
        return urgent_was_sent(flow, p->seq + p->urgent);
    if (svm->has_urg && p->body_len > 0 && seq_diff(theirs, held->first) > 0 &&
        seq_diff(theirs, held->end) <= 0) {
        Difference d = {.reason = COMPARE_FLAG,
                        .detail = "only the secondary calls these bytes urgent"};
        d.frames[PRIMARY] = held;
        difference_set_value(&d, "urgent pointer", FALSE, -1, svm->urg);
        flow_diverge(compare, flow, &d);
        return FALSE;
    }
    return TRUE;
}

/* Does what the SVM has sent imply this frame? */
static gboolean is_implied(Compare *compare, Flow *flow, const Held *held)
{
    const Packet *p = &held->packet;

    if (has_bytes(p) && (!tcp_may_compare(flow) || seq_diff(held->end, flow->verified) > 0))
        return FALSE;
    return tcp_lacks(flow, p) == NULL && urgent_matches(compare, flow, held);
}

gboolean tcp_lacks_ack_only(const Flow *flow, const Held *held)
{
    const Packet *p = &held->packet;

    return !held->later && (p->flags & (TCP_ACK | TCP_SYN | TCP_RST | TCP_URG)) == TCP_ACK &&
           tcp_may_compare(flow) && seq_diff(held->end, flow->verified) <= 0;
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
        if (held->packet.flags & TCP_URG)
            urgent_forget(flow, held->packet.seq + held->packet.urgent);
        note(compare, flow, &held->packet);
        tcp_narrow(compare, flow, held);
        held_release(compare, held);
    }
}

gboolean tcp_skip_gap(Compare *compare, Flow *flow)
{
    if (!segments_skip_gap(compare, flow))
        return FALSE;
    release_implied(compare, flow);
    return TRUE;
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
    take_primary(compare, flow, held);
    release_implied(compare, flow);
}

void tcp_secondary(Compare *compare, Flow *flow, Held *held)
{
    const Packet *p = &held->packet;

    if (flow->diverged) {
        held_free(compare, held);
        return;
    }
    if (flow->await_syn) {
        if (!(p->flags & TCP_SYN) || (flow->await_isn_known && p->seq == flow->await_isn)) {
            take_last_words(compare, flow, held);
            return;
        }
        flow->await_syn = FALSE;
    }
    if (flow->later.length > 0 || is_next_connection(&flow->tcp[SECONDARY], p)) {
        held_start_timer(compare, held, TIMER_SECONDARY);
        held_push_fifo(held, &flow->later);
        return;
    }
    take_secondary(compare, flow, held);
    release_implied(compare, flow);
    if (flow->narrowed != NULL)
        tcp_widen_if_grown(compare, flow);
}
