/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One end of a link and all that it reports, for tests; and a raw socket that plays a stranger. */
#ifndef COLO_TESTS_SUPPORT_LINK_END_H
#define COLO_TESTS_SUPPORT_LINK_END_H

#include "colo/link/link.h"
#include "tests/support/wait.h"

typedef struct LinkEnd LinkEnd;

struct LinkEnd {
    Link *link;
    guint16 number; /* of its unix socket; 0: it has none */
    unsigned ups, downs, failures, freshes;
    char *peer_name;     /* of the last up() */
    GError *down;        /* of the last down() */
    GPtrArray *reasons;  /* of GError*: all attempt_failed() */
    GPtrArray *messages; /* of char*: "TYPE:TEXT" */
    GPtrArray *packets;  /* of char*: "NIC:EPOCH:LENGTH:CHECKSUM" if `keep_packets` */
    gboolean keep_packets;
    guint64 packet_frames, late_frames;
    /* Called after what happened was noted; may be NULL. */
    void (*on_up)(LinkEnd *side);
    void (*on_down)(LinkEnd *side);
    void (*on_message)(LinkEnd *side);
    void (*on_packet)(LinkEnd *side);
    void (*on_failure)(LinkEnd *side);
    void (*on_sent)(LinkEnd *side);
    void (*on_fresh)(LinkEnd *side);
    gpointer user_data;
};

#define LINK_END_UUID "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"

/*
 * Adds a test twice: over TCP, and over unix sockets. There a number stands for a socket where it
 * would be a port with TCP, and a listening address that a test gives is TCP all the same.
 */
void link_end_add_test(const char *path, void (*test)(void));
void link_end_add_data_test(const char *path, gconstpointer data, void (*test)(gconstpointer data));
/* What a message calls the other end: its address, or this process. Borrowed. */
const char *link_end_stranger(void);
/* What a message says where nobody listens. */
const char *link_end_absence(void);
/* A number for a unix socket; 0: the test is over TCP, any port will do. */
guint16 link_end_number(void);

/* What a side may be made with other than the default; 0 and NULL are the defaults. */
typedef struct {
    const char *listen; /* any port of 127.0.0.1, or any unix socket */
    const char *peer;
    guint interval_ms, timeout_ms, handshake_ms; /* 20, 10000, 10000 */
    gboolean disks;                              /* no: three connections */
    int (*descriptor)(int fdset, const char *what, gpointer end, GError **error);
} LinkEndOptions;

/* `peer_port` is where it will dial; 0: nowhere. */
LinkEnd *link_end_new(const LinkEndOptions *options, guint16 peer_port);
/* One that listens there, where another one has. */
LinkEnd *link_end_new_at(guint16 port);
/* One that is 'alpha' and waits for its peer. */
LinkEnd *link_end_new_accepting(const LinkEndOptions *options);
void link_end_free(LinkEnd *side);
/* Where it listens, as a number; and as an address, for a peer or a proxy. */
guint16 link_end_port(const LinkEnd *side);
char *link_end_address(guint16 port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkEnd, link_end_free)

/* A hello of node `name` and a VM; new reference. */
json_object *link_end_hello(const char *name, const char *uuid);

void link_end_accept(LinkEnd *side, const char *name);
void link_end_dial(LinkEnd *side, const char *name);

/* Iterates the main loop until the condition holds; aborts the test if that takes too long. */
#define link_end_wait(condition) WAIT_FOR(condition)

/* Two new sides, linked. */
void link_end_pair(const LinkEndOptions *options, LinkEnd **ret_primary, LinkEnd **ret_secondary);

/*
 * Whether one of the reasons has this code and text in it. Over unix sockets link_end_stranger()
 * stands there for 127.0.0.1.
 */
gboolean link_end_has_reason(const LinkEnd *side, LinkError code, const char *text);

/* ---- Strangers: sockets whose functions run the main loop while they wait ---- */

int stranger_connect(guint16 port);
/* A hello as bytes; kind 1 hello, 2 answer, 3 refusal. */
GBytes *stranger_hello(unsigned version, unsigned kind, const char *body);
void stranger_send(int fd, const void *data, gsize len);
void stranger_send_bytes(int fd, GBytes *bytes); /* takes the reference */
/* Reads until the end of the connection; what came, as text. Free with g_free(). */
char *stranger_read_to_end(int fd);
/* Reads one hello, answer or refusal: its body. New reference. */
json_object *stranger_read_hello(int fd, unsigned *ret_kind);

/* What a proper secondary says first on control: its name is eve. */
#define STRANGER_HELLO                                                                             \
    "{\"channel\":\"control\",\"role\":\"secondary\",\"colo\":\"" COLO_VERSION                     \
    "\",\"name\":\"eve\",\"identity\":{\"uuid\":\"" LINK_END_UUID                                  \
    "\",\"machine\":\"pc-i440fx-7.2\"}}"
/* Says it to 'alpha' and reads the answer; the session that it names. Free with g_free(). */
char *stranger_begin_pairing(int fd);

#endif
