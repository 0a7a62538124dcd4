/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the capture's writer to the socket. The thread waits for the socket and for commands at the
 * same time. A paused VM must not wait until a slow link has taken what was sent ahead. What the
 * socket has not taken stays in the writer, and later bytes come behind it.
 *
 * There is no timeout: a link that is dead is the link's business; capture_free() ends a wait.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint/capture_internal.h"

static gboolean is_quitting(Capture *c)
{
    g_mutex_lock(&c->lock);
    gboolean quit = c->quit;
    g_mutex_unlock(&c->lock);
    return quit;
}

/* Sends what goes without waiting; FALSE with an error. */
static gboolean send_some(Capture *c, const guint8 *bytes, gsize len, gboolean *ret_full,
                          GError **error)
{
    *ret_full = FALSE;
    ssize_t put = send(c->fd, bytes + c->out_sent, len - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) {
        c->out_sent += (gsize)put;
        c->stats.bytes += (guint64)put;
        return TRUE;
    }
    *ret_full = errno == EAGAIN;
    if (errno == EAGAIN || errno == EINTR)
        return TRUE;
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO,
                "the checkpoint connection can't be written to: %s", g_strerror(errno));
    return FALSE;
}

static void drain_wake(Capture *c)
{
    guint64 value;
    /* Non-blocking: nothing there is as good. */
    if (read(c->wake, &value, sizeof(value)) < 0)
        return;
}

Flow capture_flush(Capture *c, gboolean interruptible, GError **error)
{
    gsize len;
    const guint8 *bytes = stream_writer_bytes(c->writer, &len);
    ColoTime first_full = {0};
    gsize sent_before = 0;
    while (c->out_sent < len) {
        gboolean full;
        if (!send_some(c, bytes, len, &full, error))
            return FLOW_FAILED;
        if (!full)
            continue;
        if (!first_full.us) {
            first_full = colo_time_now();
            sent_before = c->out_sent;
        }
        struct pollfd fds[2] = {
            {.fd = c->fd,   .events = POLLOUT},
            {.fd = c->wake, .events = POLLIN }
        };
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR */
        if (fds[1].revents)
            drain_wake(c);
        if (is_quitting(c))
            return FLOW_FAILED;
        if (interruptible && capture_command_waiting(c))
            return FLOW_COMMAND;
    }
    if (first_full.us)
        capture_note_drain(c, len - sent_before, colo_time_diff_us(colo_time_now(), first_full));
    stream_writer_taken(c->writer);
    c->out_sent = 0;
    return FLOW_OK;
}

gssize capture_receive(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    Capture *c = opaque;
    while (!is_quitting(c)) {
        ssize_t got = recv(c->fd, buf, len, 0);
        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO,
                    "the checkpoint connection can't be read from: %s", g_strerror(errno));
        return -1;
    }
    return -1; /* without an error: on quit */
}

void capture_wait(Capture *c, gint64 timeout_us)
{
    struct pollfd fd = {.fd = c->wake, .events = POLLIN};
    struct timespec time = {.tv_sec = timeout_us / G_USEC_PER_SEC,
                            .tv_nsec = timeout_us % G_USEC_PER_SEC * 1000};
    if (ppoll(&fd, 1, timeout_us < 0 ? NULL : &time, NULL) > 0)
        drain_wake(c);
}
