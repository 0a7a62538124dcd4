/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the link: its connections (link-conn.c), its hellos (link-hello.c), its addresses. */
#ifndef COLO_COLO_LINK_INTERNAL_H
#define COLO_COLO_LINK_INTERNAL_H

#include "colo/link.h"
#include "common/clock.h"

#include <sys/socket.h>

typedef enum { CHANNEL_CONTROL, CHANNEL_CHECKPOINT, CHANNEL_PACKETS, CHANNELS } Channel;

/* ---- Addresses (link-address.c): may block in name resolution ---- */

typedef struct {
    struct sockaddr_storage addr;
    socklen_t len;
    char *text; /* as configured */
} LinkAddress;

/* "HOST:PORT" or "[V6]:PORT". Error: LINK_ERROR_ADDRESS. */
gboolean link_address_resolve(const char *text, LinkAddress *ret_address, GError **error);
void link_address_clear(LinkAddress *address);
/* A listening, non-blocking socket. */
int link_address_listen(const LinkAddress *address, GError **error);
/* Begins to connect; the socket becomes writable when that has ended. */
int link_address_connect(const LinkAddress *address, GError **error);
/* How a connect ended: TRUE, or FALSE with LINK_ERROR_ADDRESS. */
gboolean link_address_connected(int fd, const LinkAddress *address, GError **error);

/* ---- Hellos (link-hello.c): pure ---- */

#define HELLO_PREFIX_BYTES 16
#define HELLO_MAX_BYTES    (64 * 1024)

/* A hello on the wire: docs/PROTOCOL.md. */
GByteArray *hello_build(json_object *object);

typedef enum { HELLO_SHORT, HELLO_WHOLE, HELLO_BAD } HelloResult;

/*
 * Reads a hello from the start of `data`. WHOLE: `ret_object` is a new reference and `ret_used` its
 * bytes. SHORT: more bytes are needed. BAD: LINK_ERROR_PROTOCOL.
 */
HelloResult hello_parse(const guint8 *data, gsize len, json_object **ret_object, gsize *ret_used,
                        GError **error);

/* A string member, NULL if it is missing or no string. Borrowed. */
const char *hello_string(json_object *object, const char *member);

/* ---- Connections (link-conn.c) ---- */

typedef struct Conn Conn;

typedef struct {
    /* Bytes have come; returns how many of them were used up. The Conn may be gone afterwards. */
    gsize (*data)(Conn *conn, const guint8 *data, gsize len, gpointer user_data);
    /* Ended or failed: nothing more comes. The Conn may be gone afterwards. */
    void (*closed)(Conn *conn, const GError *why, gpointer user_data);
    /* A connect has succeeded. */
    void (*connected)(Conn *conn, gpointer user_data);
} ConnCallbacks;

/* Takes over the non-blocking `fd`. With `address` it is still connecting. */
Conn *conn_new(int fd, const LinkAddress *address, const ConnCallbacks *callbacks,
               gpointer user_data);
void conn_free(Conn *conn);
/* Sends now what the kernel takes, and the rest later. */
void conn_send(Conn *conn, const void *head, gsize head_len, const void *body, gsize body_len);
/* Bytes that are waiting to be sent. */
gsize conn_queued(const Conn *conn);
/* Reads what has come, now. */
void conn_read(Conn *conn);
/* When bytes last came. */
ColoTime conn_last_heard(const Conn *conn);
/* Gives up the descriptor, blocking; what was received beyond `used` must be nothing. */
int conn_steal_fd(Conn *conn);
void conn_set_user_data(Conn *conn, const ConnCallbacks *callbacks, gpointer user_data);

#endif
