/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small TCP for simulations: plain data, so that a copy is a checkpoint. It has what can go wrong
 * between two copies of a host: initial sequence numbers, segmentation, timestamps and PAWS,
 * delayed ACKs, retransmission; no congestion control, windows fixed. It is as strict as Linux
 * where that matters: a SYN-ACK that echoes a timestamp never sent is answered with a reset.
 */
#ifndef COLO_TESTS_MODEL_TCP_H
#define COLO_TESTS_MODEL_TCP_H

#include <stdbool.h>

#include "netcompare/packet.h"
#include "tests/support/netframe.h"

#define MODEL_STREAM 1600u

typedef enum { MODEL_NONE, MODEL_LISTEN, MODEL_SYN_SENT, MODEL_SYN_RCVD, MODEL_OPEN } ModelState;

typedef struct {
    ModelState state;
    guint16 sport, dport;
    guint8 src, dst;
    guint32 isn, snd_una, snd_nxt, snd_max; /* SYN and FIN count */
    guint32 irs, rcv_nxt;
    guint8 out[MODEL_STREAM], in[MODEL_STREAM];
    bool in_have[MODEL_STREAM + 1]; /* FIN's place included */
    guint out_len, in_len;          /* written by the application; received in order */
    bool out_fin, in_fin, fin_known;
    guint32 fin_at; /* offset of the peer's FIN */
    guint32 ts_recent, first_ts;
    bool has_ts_recent;
    gint64 rto_at, ack_at; /* ms; G_MAXINT64: not set */
    guint32 random;
    /* What must not happen */
    guint resets, bad_acks, contradictions;
    guint paws; /* may happen */
} ModelTcp;

void model_tcp_init(ModelTcp *tcp, ModelState state, guint8 src, guint16 sport, guint8 dst,
                    guint16 dport, guint32 random);
guint32 model_tcp_random(ModelTcp *tcp, guint32 n); /* 0 .. n - 1 */

void model_tcp_input(ModelTcp *tcp, const Packet *packet, gint64 now_ms, guint32 ts_now);
/* Calls `emit` for what is due now. */
void model_tcp_poll(ModelTcp *tcp, gint64 now_ms, guint32 ts_now,
                    void (*emit)(GBytes *frame, gpointer user_data), gpointer user_data);

/* Both FINs are sent, received and acknowledged. */
bool model_tcp_done(const ModelTcp *tcp);
/* How many bytes of `out` the peer has acknowledged. */
guint model_tcp_acked(const ModelTcp *tcp);

#endif
