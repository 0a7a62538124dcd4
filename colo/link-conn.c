/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One TCP connection on the main loop: non-blocking, with a queue for what the kernel doesn't take.
 * All bytes of a link pass conn_send() and conn_read(), but for the checkpoint connection after its
 * hello, which an engine's thread uses.
 *
 * A callback may free the Conn: each function that calls back holds a reference and looks at
 * `freed` before it goes on.
 */
#include "colo/link_internal.h"
#include "common/fd.h"

#include <errno.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
/* Reads per turn of the main loop, so that one connection can't starve the others. */
#define READS_PER_TURN 4

struct Conn {
    int fd;
    gboolean freed;
    const ConnCallbacks *callbacks;
    gpointer user_data;
    const LinkAddress *connecting; /* NULL: connected */
    guint in_source, out_source;
    GByteArray *in; /* received and not used yet */
    GByteArray *out;
    gsize out_sent;
    ColoTime last_heard;
};

static void conn_clear(Conn *conn)
{
    if (conn->in_source)
        g_source_remove(conn->in_source);
    if (conn->out_source)
        g_source_remove(conn->out_source);
    conn->in_source = conn->out_source = 0;
    colo_fd_close(&conn->fd);
}

static void conn_release(gpointer data)
{
    Conn *conn = data;
    conn_clear(conn);
    g_byte_array_unref(conn->in);
    g_byte_array_unref(conn->out);
}

static void conn_unref(Conn *conn)
{
    g_rc_box_release_full(conn, conn_release);
}

void conn_free(Conn *conn)
{
    if (!conn)
        return;
    conn->freed = TRUE;
    conn_clear(conn);
    conn_unref(conn);
}

static void tell_closed(Conn *conn, int code)
{
    g_autoptr(GError) why = NULL;
    if (code)
        why = g_error_new(LINK_ERROR, LINK_ERROR_CLOSED, "the connection failed: %s",
                          g_strerror(code));
    else
        why = g_error_new(LINK_ERROR, LINK_ERROR_CLOSED, "the peer has closed the connection");
    conn_clear(conn);
    conn->callbacks->closed(conn, why, conn->user_data);
}

/* Offers what has come to the owner, until it can use no more of it. */
static void offer(Conn *conn)
{
    while (!conn->freed && conn->in->len > 0) {
        gsize used = conn->callbacks->data(conn, conn->in->data, conn->in->len, conn->user_data);
        if (conn->freed || used == 0)
            return;
        g_byte_array_remove_range(conn->in, 0, (guint)used);
    }
}

void conn_read(Conn *conn)
{
    g_rc_box_acquire(conn);
    offer(conn); /* what the owner could not use before */
    for (int i = 0; i < READS_PER_TURN && !conn->freed && conn->fd >= 0; i++) {
        guint before = conn->in->len;
        g_byte_array_set_size(conn->in, before + READ_BYTES);
        ssize_t got = recv(conn->fd, conn->in->data + before, READ_BYTES, MSG_DONTWAIT);
        int code = errno;
        g_byte_array_set_size(conn->in, before + (guint)MAX(got, 0));
        if (got < 0 && (code == EAGAIN || code == EINTR))
            break;
        if (got <= 0) {
            tell_closed(conn, got < 0 ? code : 0);
            break;
        }
        conn->last_heard = colo_time_now();
        offer(conn);
        if (got < READ_BYTES)
            break;
    }
    conn_unref(conn);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)fd;
    (void)condition;
    conn_read(user_data);
    return G_SOURCE_CONTINUE;
}

static void flush_queue(Conn *conn)
{
    while (conn->out_sent < conn->out->len) {
        ssize_t put = send(conn->fd, conn->out->data + conn->out_sent,
                           conn->out->len - conn->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0)
            return; /* full, or broken: then reading will tell */
        conn->out_sent += (gsize)put;
    }
    g_byte_array_set_size(conn->out, 0);
    conn->out_sent = 0;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)condition;
    Conn *conn = user_data;
    if (conn->connecting) {
        g_autoptr(GError) error = NULL;
        const LinkAddress *address = g_steal_pointer(&conn->connecting);
        conn->out_source = 0;
        if (!link_address_connected(fd, address, &error)) {
            conn_clear(conn);
            conn->callbacks->closed(conn, error, conn->user_data);
            return G_SOURCE_REMOVE;
        }
        conn->in_source = g_unix_fd_add_full(G_PRIORITY_HIGH, fd, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                             on_readable, conn, NULL);
        conn->callbacks->connected(conn, conn->user_data);
        return G_SOURCE_REMOVE;
    }
    flush_queue(conn);
    if (conn->out->len > 0)
        return G_SOURCE_CONTINUE;
    conn->out_source = 0;
    return G_SOURCE_REMOVE;
}

Conn *conn_new(int fd, const LinkAddress *address, const ConnCallbacks *callbacks,
               gpointer user_data)
{
    Conn *conn = g_rc_box_new0(Conn);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    *conn = (Conn){.fd = fd,
                   .callbacks = callbacks,
                   .user_data = user_data,
                   .connecting = address,
                   .in = g_byte_array_new(),
                   .out = g_byte_array_new(),
                   .last_heard = colo_time_now()};
    if (address)
        conn->out_source = g_unix_fd_add_full(G_PRIORITY_HIGH, fd, G_IO_OUT | G_IO_HUP | G_IO_ERR,
                                              on_writable, conn, NULL);
    else
        conn->in_source = g_unix_fd_add_full(G_PRIORITY_HIGH, fd, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                             on_readable, conn, NULL);
    return conn;
}

void conn_set_user_data(Conn *conn, const ConnCallbacks *callbacks, gpointer user_data)
{
    conn->callbacks = callbacks;
    conn->user_data = user_data;
}

void conn_send(Conn *conn, const void *head, gsize head_len, const void *body, gsize body_len)
{
    if (conn->fd < 0)
        return;
    gsize put = 0;
    if (conn->out->len == 0) {
        struct iovec parts[2] = {
            {.iov_base = (void *)head, .iov_len = head_len},
            {.iov_base = (void *)body, .iov_len = body_len}
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        put = (gsize)MAX(sent, 0);
    }
    if (put == head_len + body_len)
        return;
    if (put < head_len)
        g_byte_array_append(conn->out, (const guint8 *)head + put, (guint)(head_len - put));
    gsize body_put = put > head_len ? put - head_len : 0;
    if (body_len > body_put)
        g_byte_array_append(conn->out, (const guint8 *)body + body_put,
                            (guint)(body_len - body_put));
    if (!conn->out_source)
        conn->out_source =
            g_unix_fd_add_full(G_PRIORITY_HIGH, conn->fd, G_IO_OUT, on_writable, conn, NULL);
}

gsize conn_queued(const Conn *conn)
{
    return conn->out->len - conn->out_sent;
}

ColoTime conn_last_heard(const Conn *conn)
{
    return conn->last_heard;
}

int conn_steal_fd(Conn *conn)
{
    int fd = colo_fd_steal(&conn->fd);
    conn_clear(conn);
    colo_fd_set_nonblocking(fd, FALSE, NULL);
    return fd;
}
