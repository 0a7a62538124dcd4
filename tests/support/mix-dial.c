/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections that the guest opens outward. The lane's thread has a connection to the guest's
 * control port and tells it to dial; a second thread is the server that is dialled: it checks that
 * what comes is the pattern, and sends it back. See mix.h.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/fd.h"
#include "tests/support/bulk-client.h"
#include "tests/support/mix_internal.h"
#include "tests/support/traffic-error.h"

#define CONTROL_PORT 7001
#define TURN_MS      50
#define SHORT_BYTES  20000u
#define LONG_BYTES   (G_GUINT64_CONSTANT(1) << 60)

typedef struct {
    MixLane *lane;
    int listener;
    gint over; /* atomic: no more is dialled */
    /* The long connection only, read when the thread has ended. */
    guint64 echoed_bytes;
} Server;

static int open_listener(guint16 *ret_port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    socklen_t length = sizeof(address);
    int zero = 0;
    COLO_AUTO_FD fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 16) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -1;
    *ret_port = ntohs(address.sin6_port);
    return colo_fd_steal(&fd);
}

static gboolean is_readable(int fd, int wait_ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    return poll(&readable, 1, wait_ms) > 0;
}

/* ---- The server ---- */

/* Ends the long connection from this side: what is on its way from the guest is let come. */
static void finish(int fd)
{
    char rest[4096];

    shutdown(fd, SHUT_WR);
    while (recv(fd, rest, sizeof(rest), 0) > 0)
        ;
}

/* Sends back what comes until the guest ends, or, the long connection, until the lane stops. */
static void serve(Server *server, int fd, GError **error)
{
    MixLane *lane = server->lane;
    gboolean is_long = lane->kind->variant;
    char buffer[4096];
    guint64 offset = 0;

    for (;;) {
        gssize n;

        if (is_long && mix_is_stopping(lane)) {
            finish(fd);
            break;
        }
        n = recv(fd, buffer, sizeof(buffer), 0);
        if (n < 0)
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "dialled: after %" G_GUINT64_FORMAT " bytes: %s", offset,
                        errno == EAGAIN ? "nothing comes any more" : g_strerror(errno));
        if (n <= 0)
            break;
        if (bulk_first_difference(buffer, (gsize)n, offset) != UINT64_MAX) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG,
                        "dialled: wrong bytes after %" G_GUINT64_FORMAT, offset);
            break;
        }
        mix_progress(lane);
        if (is_long) {
            mix_idle(lane);
            mix_pause(lane, lane->options->interval_us);
            mix_begin(lane);
        }
        if (!colo_fd_write_all(fd, buffer, (gsize)n, error))
            break;
        offset += (guint64)n;
    }
    server->echoed_bytes = offset;
}

static gpointer server_thread(gpointer data)
{
    Server *server = data;
    const struct timeval patience = {.tv_sec = server->lane->options->patience_s};
    int one = 1;

    while (!g_atomic_int_get(&server->over)) {
        g_autoptr(GError) error = NULL;
        COLO_AUTO_FD fd = -1;

        if (!is_readable(server->listener, TURN_MS))
            continue;
        fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        serve(server, fd, &error);
        if (error != NULL)
            mix_fail(server->lane, error);
    }
    return NULL;
}

/* ---- The control connection ---- */

/* The guest's word; as long as the lane does not stop it may take its time. */
static gboolean read_answer(MixLane *lane, int fd, gboolean patient, char answer[static 256],
                            GError **error)
{
    while (patient && !mix_is_stopping(lane) && !is_readable(fd, TURN_MS))
        ;
    return mix_read_line(fd, answer, 256, error);
}

/* One connection outward, of `bytes` or for as long as the lane runs; the guest's word on it. */
static gboolean dial(MixLane *lane, int control, guint16 port, guint64 bytes,
                     char answer[static 256], GError **error)
{
    g_autofree char *order =
        g_strdup_printf("dial %s %u %" G_GUINT64_FORMAT "\n", lane->self, port, bytes);

    return colo_fd_write_all(control, order, strlen(order), error) &&
           read_answer(lane, control, bytes == LONG_BYTES, answer, error);
}

static void fail_with_answer(MixLane *lane, const char *answer)
{
    g_autoptr(GError) error =
        g_error_new(G_FILE_ERROR, G_FILE_ERROR_IO, "dial: the guest says: %s", answer);

    mix_fail(lane, error);
}

static void run_short(MixLane *lane, int control, guint16 port)
{
    char answer[256];

    while (!mix_is_stopping(lane)) {
        g_autoptr(GError) error = NULL;

        mix_begin(lane);
        if (!dial(lane, control, port, SHORT_BYTES, answer, &error)) {
            mix_idle(lane);
            mix_fail(lane, error);
            return;
        }
        if (strcmp(answer, "ok 20000") == 0) {
            mix_done(lane, SHORT_BYTES);
        } else {
            mix_idle(lane);
            fail_with_answer(lane, answer);
        }
        mix_pause(lane, lane->options->interval_us);
    }
}

/* The server ends the connection; both ends must have seen the same number of bytes. */
static void run_long(MixLane *lane, int control, guint16 port, Server *server, GThread **thread)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *expected = NULL;
    char answer[256];
    gboolean answered;

    mix_begin(lane);
    answered = dial(lane, control, port, LONG_BYTES, answer, &error);
    g_atomic_int_set(&server->over, TRUE);
    g_thread_join(g_steal_pointer(thread));
    mix_idle(lane);
    if (!answered) {
        mix_fail(lane, error);
        return;
    }
    expected = g_strdup_printf("closed %" G_GUINT64_FORMAT, server->echoed_bytes);
    if (strcmp(answer, expected) == 0)
        mix_done(lane, server->echoed_bytes);
    else
        fail_with_answer(lane, answer);
}

void mix_run_dial(MixLane *lane)
{
    g_autoptr(GError) error = NULL;
    Server server = {.lane = lane};
    guint16 port = 0;
    COLO_AUTO_FD control = mix_connect(lane, CONTROL_PORT, &error);
    COLO_AUTO_FD listener = open_listener(&port);
    GThread *thread;

    if (listener < 0 && error == NULL)
        g_set_error(&error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "can't listen");
    if (error != NULL) {
        mix_fail(lane, error);
        return;
    }
    server.listener = listener;
    thread = g_thread_new("dialled", server_thread, &server);
    if (lane->kind->variant)
        run_long(lane, control, port, &server, &thread);
    else
        run_short(lane, control, port);
    g_atomic_int_set(&server.over, TRUE);
    if (thread != NULL)
        g_thread_join(thread);
}
