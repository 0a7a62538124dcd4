/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/echo-model.h"

#include <string.h>

#define ROUNDS 4u /* in which a client uses a port */

gint32 echo_rnd(const EchoRun *run, gint32 n)
{
    return g_rand_int_range(run->rand, 0, n);
}

gboolean echo_chance(const EchoRun *run, gint32 per_mille)
{
    return echo_rnd(run, 1000) < per_mille;
}

guint echo_conn_of(const Packet *packet, gboolean guest)
{
    guint16 port = guest ? packet->key.dport : packet->key.sport;
    return port == 90 ? ECHO_CLIENT_CONNS : port - 5000u;
}

/* ---- Guests ---- */

void echo_guest_run(const EchoRun *run, EchoGuest *guest, void (*emit)(GBytes *, gpointer),
                    gpointer user_data)
{
    guint32 ts = (guint32)run->now + guest->ts_offset;

    guest->random = guest->random * 1103515245 + 12345;
    if (!run->equal_guests && (guest->random >> 16) % 300 == 0)
        guest->mood = (guest->random >> 8) & 15;
    for (guint i = 0; i < ECHO_CONNS; i++) {
        ModelTcp *tcp = &guest->tcp[i];
        if (i == ECHO_CLIENT_CONNS && tcp->state == MODEL_NONE && ts > 400)
            tcp->state = MODEL_SYN_SENT;
        if (model_tcp_random(tcp, 3) == 0) {
            while (tcp->out_len < tcp->in_len) {
                tcp->out[tcp->out_len] =
                    (guint8)(((tcp->in[tcp->out_len] ^ 0x5a) & 15) | guest->mood << 4);
                tcp->out_len++;
            }
            tcp->out_fin = tcp->in_fin;
        }
        model_tcp_poll(tcp, run->now, ts, emit, user_data);
        ECHO_CHECK(run, tcp->resets == 0);
        ECHO_CHECK(run, tcp->bad_acks == 0);
        ECHO_CHECK(run, tcp->contradictions == 0);
    }
}

void echo_guest_init(const EchoRun *run, EchoGuest *guest)
{
    memset(guest, 0, sizeof(*guest));
    guest->random = g_rand_int(run->rand);
    for (guint i = 0; i < ECHO_CLIENT_CONNS; i++)
        model_tcp_init(&guest->tcp[i], MODEL_LISTEN, 2, 80, 1, (guint16)(5000 + i),
                       g_rand_int(run->rand));
    model_tcp_init(&guest->tcp[ECHO_CLIENT_CONNS], MODEL_NONE, 2, 6000, 1, 90,
                   g_rand_int(run->rand));
}

void echo_guest_clone(const EchoRun *run, EchoGuest *to, const EchoGuest *from, gint64 stopped_ms)
{
    *to = *from;
    to->ts_offset -= (guint32)stopped_ms;
    to->random = g_rand_int(run->rand);
    for (guint i = 0; i < ECHO_CONNS; i++)
        to->tcp[i].random = g_rand_int(run->rand) | 1;
}

/* ---- The client ---- */

static void client_open(const EchoRun *run, EchoClient *client, guint i)
{
    gboolean passive = i == ECHO_CLIENT_CONNS;

    model_tcp_init(&client->tcp[i], passive ? MODEL_LISTEN : MODEL_SYN_SENT, 1,
                   passive ? 90 : (guint16)(5000 + i), 2, passive ? 6000 : 80,
                   g_rand_int(run->rand));
    client->to_send[i] = 1 + (guint)echo_rnd(run, MODEL_STREAM - 1);
    client->rounds[i]++;
}

static void client_finished(const EchoRun *run, EchoClient *client, guint i)
{
    ModelTcp *tcp = &client->tcp[i];

    ECHO_CHECK(run, tcp->in_len == client->to_send[i]);
    for (guint n = 0; n < tcp->in_len; n++)
        ECHO_CHECK(run, ((tcp->in[n] ^ tcp->out[n]) & 15) == (0x5a & 15));
    client->finished++;
    client->reopen_at[i] =
        i < ECHO_CLIENT_CONNS && client->rounds[i] < ROUNDS ? run->now + 150 : G_MAXINT64;
}

void echo_client_init(const EchoRun *run, EchoClient *client)
{
    for (guint i = 0; i < ECHO_CONNS; i++)
        client_open(run, client, i);
}

gboolean echo_client_done(const EchoClient *client)
{
    return client->finished == ECHO_CLIENT_CONNS * ROUNDS + 1;
}

void echo_client_run(const EchoRun *run, EchoClient *client, void (*emit)(GBytes *, gpointer),
                     gpointer user_data)
{
    for (guint i = 0; i < ECHO_CONNS; i++) {
        ModelTcp *tcp = &client->tcp[i];
        if (client->reopen_at[i] > 0 && client->reopen_at[i] <= run->now) {
            client->reopen_at[i] = 0;
            client_open(run, client, i);
        }
        if (tcp->state == MODEL_OPEN && tcp->out_len < client->to_send[i] &&
            echo_chance(run, 150)) {
            guint n = 1 + (guint)echo_rnd(run, 200);
            n = MIN(n, client->to_send[i] - tcp->out_len);
            for (; n > 0; n--)
                tcp->out[tcp->out_len++] = (guint8)echo_rnd(run, 256);
        }
        if (tcp->in_len == client->to_send[i] && tcp->out_len == tcp->in_len)
            tcp->out_fin = true;
        model_tcp_poll(tcp, run->now, (guint32)run->now, emit, user_data);
        ECHO_CHECK(run, tcp->resets == 0);
        ECHO_CHECK(run, tcp->contradictions == 0);
        if (client->reopen_at[i] == 0 && model_tcp_done(tcp))
            client_finished(run, client, i);
    }
}

void echo_check_survivor(const EchoRun *run, const EchoClient *client, const EchoGuest *guest)
{
    for (guint i = 0; i < ECHO_CONNS; i++) {
        const ModelTcp *peer = &client->tcp[i], *tcp = &guest->tcp[i];
        if (peer->state != MODEL_OPEN || model_tcp_done(peer))
            continue;
        ECHO_CHECK(run, tcp->state == MODEL_OPEN || tcp->state == MODEL_SYN_RCVD ||
                            tcp->state == MODEL_SYN_SENT);
        if (tcp->state == MODEL_SYN_SENT || tcp->irs != peer->isn) {
            ECHO_CHECK(run, model_tcp_acked(peer) == 0); /* opening: nothing was promised */
            continue;
        }
        ECHO_CHECK(run, tcp->in_len >= model_tcp_acked(peer));
        ECHO_CHECK(run, tcp->out_len >= peer->in_len);
        ECHO_CHECK(run, tcp->out_fin || !peer->in_fin);
        for (guint n = 0; n < MODEL_STREAM; n++)
            ECHO_CHECK(run, !peer->in_have[n] || (n < tcp->out_len && peer->in[n] == tcp->out[n]));
    }
}

void echo_describe(const EchoClient *client, const EchoGuest *guest)
{
    for (guint i = 0; i < ECHO_CONNS; i++) {
        const ModelTcp *c = &client->tcp[i], *g = &guest->tcp[i];
        g_printerr(
            "connection %u round %u of %u bytes: client state %d in %u out %u acked %u paws %u"
            " bad %u | guest state %d in %u out %u acked %u paws %u\n",
            i, client->rounds[i], client->to_send[i], c->state, c->in_len, c->out_len,
            model_tcp_acked(c), c->paws, c->bad_acks, g->state, g->in_len, g->out_len,
            model_tcp_acked(g), g->paws);
    }
}
