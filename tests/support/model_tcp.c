/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/model_tcp.h"

#include <string.h>

#define WINDOW   800u
#define RTO_MS   200
#define DELAY_MS 40

void model_tcp_init(ModelTcp *tcp, ModelState state, guint8 src, guint16 sport, guint8 dst,
                    guint16 dport, guint32 random)
{
    memset(tcp, 0, sizeof(*tcp));
    tcp->state = state;
    tcp->src = src;
    tcp->sport = sport;
    tcp->dst = dst;
    tcp->dport = dport;
    tcp->random = random | 1;
    tcp->ack_at = G_MAXINT64;
    tcp->rto_at = 0;
}

guint32 model_tcp_random(ModelTcp *tcp, guint32 n)
{
    tcp->random ^= tcp->random << 13;
    tcp->random ^= tcp->random >> 17;
    tcp->random ^= tcp->random << 5;
    return n > 0 ? tcp->random % n : 0;
}

static void start(ModelTcp *tcp, ModelState state)
{
    tcp->state = state;
    tcp->isn = model_tcp_random(tcp, G_MAXUINT32);
    tcp->snd_una = tcp->snd_nxt = tcp->snd_max = tcp->isn;
    tcp->rto_at = 0;
}

static void ack_soon(ModelTcp *tcp, gint64 now_ms)
{
    if (tcp->ack_at == G_MAXINT64)
        tcp->ack_at = now_ms + model_tcp_random(tcp, DELAY_MS);
}

static void take_ack(ModelTcp *tcp, const Packet *p, gint64 now_ms)
{
    if (model_tcp_done(tcp))
        return;
    if (seq_diff(p->ack, tcp->snd_max) > 0) {
        tcp->bad_acks++;
        return;
    }
    if (seq_diff(p->ack, tcp->snd_una) <= 0)
        return;
    tcp->snd_una = p->ack;
    if (seq_diff(tcp->snd_nxt, tcp->snd_una) < 0)
        tcp->snd_nxt = tcp->snd_una;
    tcp->rto_at = now_ms + RTO_MS;
    if (tcp->state == MODEL_SYN_RCVD)
        tcp->state = MODEL_OPEN;
}

static void take_data(ModelTcp *tcp, const Packet *p, gint64 now_ms)
{
    gint32 at = seq_diff(p->seq, tcp->irs + 1);

    if (p->body_len == 0 && !(p->flags & TCP_FIN)) {
        if (at + (gint32)1 < (gint32)tcp->in_len)
            ack_soon(tcp, now_ms); /* a keep-alive or the like */
        return;
    }
    ack_soon(tcp, now_ms);
    for (guint i = 0; i < p->body_len; i++) {
        gint32 place = at + (gint32)i;
        if (place < 0 || place >= (gint32)MODEL_STREAM)
            continue;
        if (!tcp->in_have[place])
            tcp->in[place] = p->body[i];
        else if (tcp->in[place] != p->body[i])
            tcp->contradictions++;
        tcp->in_have[place] = true;
    }
    if ((p->flags & TCP_FIN) && at >= 0) {
        tcp->fin_known = true;
        tcp->fin_at = (guint32)at + p->body_len;
    }
    while (tcp->in_len < MODEL_STREAM && tcp->in_have[tcp->in_len])
        tcp->in_len++;
    tcp->in_fin = tcp->fin_known && tcp->in_len == tcp->fin_at;
    tcp->rcv_nxt = tcp->irs + 1 + tcp->in_len + tcp->in_fin;
}

/* A SYN-ACK in SYN_SENT; Linux: tcp_rcv_synsent_state_process(). */
static void take_syn_ack(ModelTcp *tcp, const Packet *p, guint32 ts_now, gint64 now_ms)
{
    if (!(p->flags & TCP_SYN) || !(p->flags & TCP_ACK))
        return;
    if (p->ack != tcp->isn + 1) {
        tcp->bad_acks++; /* of an older connection: the reset that answers it hits nobody */
        return;
    }
    if (seq_diff(p->tsecr, tcp->first_ts) < 0 || seq_diff(p->tsecr, ts_now) > 0) {
        tcp->resets++;
        return;
    }
    tcp->irs = p->seq;
    tcp->rcv_nxt = p->seq + 1;
    tcp->state = MODEL_OPEN;
    take_ack(tcp, p, now_ms);
    tcp->ack_at = now_ms;
}

void model_tcp_input(ModelTcp *tcp, const Packet *p, gint64 now_ms, guint32 ts_now)
{
    gboolean syn = (p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;

    if (p->flags & TCP_RST) {
        tcp->resets++;
        return;
    }
    if (syn && (tcp->state == MODEL_LISTEN || (tcp->in_fin && p->seq != tcp->irs))) {
        guint32 random = tcp->random;
        model_tcp_init(tcp, MODEL_LISTEN, tcp->src, tcp->sport, tcp->dst, tcp->dport, random);
        start(tcp, MODEL_SYN_RCVD);
        tcp->irs = p->seq;
        tcp->rcv_nxt = p->seq + 1;
        tcp->ts_recent = p->tsval;
        tcp->has_ts_recent = true;
        return;
    }
    if (tcp->state == MODEL_NONE || tcp->state == MODEL_LISTEN)
        return;
    if (tcp->has_ts_recent && seq_diff(p->tsval, tcp->ts_recent) < 0) {
        tcp->paws++;
        ack_soon(tcp, now_ms);
        return;
    }
    if (tcp->state == MODEL_SYN_SENT) {
        take_syn_ack(tcp, p, ts_now, now_ms);
    } else if (p->flags & TCP_SYN) {
        ack_soon(tcp, now_ms);
        return;
    } else {
        take_ack(tcp, p, now_ms);
        take_data(tcp, p, now_ms);
    }
    if (tcp->state != MODEL_SYN_SENT && seq_diff(p->seq, tcp->rcv_nxt) <= 0) {
        tcp->ts_recent = p->tsval;
        tcp->has_ts_recent = true;
    }
}

typedef struct {
    ModelTcp *tcp;
    guint32 ts_now;
    void (*emit)(GBytes *frame, gpointer user_data);
    gpointer user_data;
} Out;

static void send(const Out *out, guint8 flags, guint32 seq, const guint8 *data, guint len)
{
    ModelTcp *tcp = out->tcp;
    gboolean ack = tcp->state != MODEL_SYN_SENT;
    FrameSpec spec = {
        .src = tcp->src,
        .dst = tcp->dst,
        .proto = PROTO_TCP,
        .sport = tcp->sport,
        .dport = tcp->dport,
        .flags = (guint8)(flags | (ack ? TCP_ACK : 0)),
        .seq = seq,
        .ack = ack ? tcp->rcv_nxt : 0,
        .window = 1000,
        .has_ts = TRUE,
        .tsval = out->ts_now,
        .tsecr = tcp->ts_recent,
        .mss = flags & TCP_SYN ? 1460 : 0,
        .data = data,
        .len = len,
    };
    g_autoptr(GBytes) frame = netframe_new(&spec);
    tcp->ack_at = G_MAXINT64;
    out->emit(frame, out->user_data);
}

static void poll_syn(const Out *out, gint64 now_ms)
{
    ModelTcp *tcp = out->tcp;

    if (now_ms < tcp->rto_at && tcp->snd_max != tcp->isn)
        return;
    if (tcp->snd_max == tcp->isn)
        tcp->first_ts = out->ts_now;
    tcp->rto_at = now_ms + RTO_MS;
    tcp->snd_nxt = tcp->snd_max = tcp->isn + 1;
    send(out, TCP_SYN, tcp->isn, NULL, 0);
}

static void poll_data(const Out *out, gint64 now_ms)
{
    ModelTcp *tcp = out->tcp;

    if (tcp->snd_una != tcp->snd_nxt && now_ms >= tcp->rto_at) {
        tcp->snd_nxt = tcp->snd_una;
        tcp->rto_at = now_ms + RTO_MS;
    }
    for (;;) {
        guint at = tcp->snd_nxt - tcp->isn - 1;
        guint left = at < tcp->out_len ? tcp->out_len - at : 0;
        guint room = WINDOW - (tcp->snd_nxt - tcp->snd_una);
        bool fin_left = tcp->out_fin && at <= tcp->out_len;
        if ((left == 0 && !fin_left) || room == 0)
            return;
        guint len = MIN(left, room);
        if (len > 0)
            len = 1 + model_tcp_random(tcp, MIN(len, 300));
        bool fin = fin_left && len == left && (len == 0 || model_tcp_random(tcp, 2));
        if (tcp->snd_una == tcp->snd_nxt)
            tcp->rto_at = now_ms + RTO_MS;
        send(out, fin ? TCP_FIN : 0, tcp->snd_nxt, tcp->out + at, len);
        tcp->snd_nxt += len + fin;
        if (seq_diff(tcp->snd_nxt, tcp->snd_max) > 0)
            tcp->snd_max = tcp->snd_nxt;
    }
}

void model_tcp_poll(ModelTcp *tcp, gint64 now_ms, guint32 ts_now,
                    void (*emit)(GBytes *frame, gpointer user_data), gpointer user_data)
{
    Out out = {.tcp = tcp, .ts_now = ts_now, .emit = emit, .user_data = user_data};

    if (tcp->state == MODEL_SYN_SENT && tcp->isn == 0)
        start(tcp, MODEL_SYN_SENT);
    if (tcp->state == MODEL_SYN_SENT || tcp->state == MODEL_SYN_RCVD) {
        poll_syn(&out, now_ms);
    } else if (tcp->state == MODEL_OPEN) {
        poll_data(&out, now_ms);
        if (now_ms >= tcp->ack_at)
            send(&out, 0, tcp->snd_nxt, NULL, 0);
    }
}

guint model_tcp_acked(const ModelTcp *tcp)
{
    guint32 acked = tcp->snd_una - tcp->isn;
    return acked == 0 ? 0 : MIN(acked - 1, tcp->out_len);
}

bool model_tcp_done(const ModelTcp *tcp)
{
    return tcp->state == MODEL_OPEN && tcp->in_fin && tcp->out_fin &&
           tcp->snd_una == tcp->isn + 1 + tcp->out_len + 1;
}
