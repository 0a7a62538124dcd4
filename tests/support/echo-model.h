/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client, and the copies of a guest that echoes what it sends, over model TCP: what simulations of
 * the comparator have at both ends. The client has connections that it opens, ports that it uses
 * again, and one that the guest opens. What must hold at any moment is checked.
 */
#ifndef COLO_TESTS_ECHO_MODEL_H
#define COLO_TESTS_ECHO_MODEL_H

#include "tests/support/model_tcp.h"

#define ECHO_CLIENT_CONNS 3u
#define ECHO_CONNS        (ECHO_CLIENT_CONNS + 1) /* the last one is opened by the guest */

typedef struct {
    guint32 seed;
    GRand *rand;
    gint64 now;            /* ms */
    gboolean equal_guests; /* the guests' moods don't change */
} EchoRun;

gint32 echo_rnd(const EchoRun *run, gint32 n);
gboolean echo_chance(const EchoRun *run, gint32 per_mille);

#define ECHO_CHECK(run, what)                                                                      \
    do {                                                                                           \
        if (!(what))                                                                               \
            g_error("seed %u at %d ms: not so: %s", (run)->seed, (int)(run)->now, #what);          \
    } while (0)

typedef struct {
    ModelTcp tcp[ECHO_CONNS];
    guint32 ts_offset;
    guint8 mood; /* goes into what is echoed: where the two copies come to differ */
    guint32 random;
} EchoGuest;

typedef struct {
    ModelTcp tcp[ECHO_CONNS];
    guint rounds[ECHO_CONNS], to_send[ECHO_CONNS], finished;
    gint64 reopen_at[ECHO_CONNS];
} EchoClient;

/* Which connection; `guest`: the frame is from the guest. */
guint echo_conn_of(const Packet *packet, gboolean guest);

void echo_guest_init(const EchoRun *run, EchoGuest *guest);
/* The copy lives on with other dice, and a clock that was stopped meanwhile. */
void echo_guest_clone(const EchoRun *run, EchoGuest *to, const EchoGuest *from, gint64 stopped_ms);
/* A millisecond of either. */
void echo_guest_run(const EchoRun *run, EchoGuest *guest, void (*emit)(GBytes *, gpointer),
                    gpointer user_data);
void echo_client_run(const EchoRun *run, EchoClient *client, void (*emit)(GBytes *, gpointer),
                     gpointer user_data);

/* Opens all connections of a client that is all zeros. */
void echo_client_init(const EchoRun *run, EchoClient *client);
/* Every connection has delivered all its bytes and closed, and no port is to be used again. */
gboolean echo_client_done(const EchoClient *client);

/* The guest has every byte that the client was told is safe, and can send what the client has. */
void echo_check_survivor(const EchoRun *run, const EchoClient *client, const EchoGuest *guest);

/* Prints the state of every connection at both ends. */
void echo_describe(const EchoClient *client, const EchoGuest *guest);

#endif
