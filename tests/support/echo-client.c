/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See echo-client.h. A record on the wire, of record_bytes, big-endian: be64 number from 1, be64
 * time of sending in microseconds, filler (be64 words of the number), be64 xxh3 of all before.
 *
 * Invariants: sent - answered - lost records are on their way; `next` is the number expected. After
 * `broken` is set nothing is sent or read.
 */
#include "tests/support/echo-client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/endian.h"
#include "common/fd.h"

#define CONNECT_TIMEOUT_MS 10000

struct EchoClient {
    EchoOptions options;
    int fd;
    EchoFigures figures;
    guint64 next;         /* number of the next answer */
    ColoTime last_answer; /* or the first send */
    ColoTime due;         /* when the next record may be sent */
    GByteArray *out;      /* begun but not yet given to the kernel */
    guint8 *in;           /* one record */
    gsize in_bytes;
};

int echo_connect(const char *address, guint16 port, GError **error)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    char service[8];
    int one = 1, failure = 0;
    socklen_t length = sizeof(failure);

    g_snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(address, service, &hints, &found) != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no IP address", address);
        return -1;
    }
    COLO_AUTO_FD fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS)) {
        failure = errno;
    } else {
        struct pollfd connected = {.fd = fd, .events = POLLOUT};
        if (poll(&connected, 1, CONNECT_TIMEOUT_MS) == 0)
            failure = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length);
    }
    freeaddrinfo(found);
    if (failure != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failure),
                    "can't connect to %s port %u: %s", address, port, g_strerror(failure));
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return colo_fd_steal(&fd);
}

EchoClient *echo_client_new(const char *address, guint16 port, const EchoOptions *options,
                            GError **error)
{
    g_autoptr(EchoClient) client = g_new0(EchoClient, 1);
    int zero = 0;

    g_assert(options->record_bytes >= ECHO_RECORD_MIN_BYTES && options->record_bytes % 8 == 0);
    client->options = *options;
    client->next = 1;
    client->out = g_byte_array_new();
    client->in = g_malloc(options->record_bytes);
    client->figures.latencies_us = g_array_new(FALSE, FALSE, sizeof(guint32));
    client->fd = echo_connect(address, port, error);
    if (options->nagle)
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &zero, sizeof(zero));
    return client->fd >= 0 ? g_steal_pointer(&client) : NULL;
}

void echo_client_free(EchoClient *client)
{
    if (client == NULL)
        return;
    colo_fd_close(&client->fd);
    g_byte_array_unref(client->out);
    g_array_unref(client->figures.latencies_us);
    g_free(client->in);
    g_free(client);
}

static void lose_connection(EchoClient *client, const char *why)
{
    if (client->figures.broken == NULL)
        client->figures.broken = why;
}

static void note_gap(EchoFigures *figures, gint64 gap_us)
{
    figures->gap_us = MAX(figures->gap_us, gap_us);
    figures->gap_of_mark_us = MAX(figures->gap_of_mark_us, gap_us);
}

/* ---- Sending ---- */

static void begin_record(EchoClient *client, ColoTime now)
{
    gsize start = client->out->len, length = client->options.record_bytes;
    guint64 number = ++client->figures.sent;
    guint8 *record;

    g_byte_array_set_size(client->out, (guint)(start + length));
    record = client->out->data + start;
    for (gsize at = 0; at < length - 8; at += 8)
        colo_put_be64(record + at, number);
    colo_put_be64(record + 8, (guint64)now.us);
    colo_put_be64(record + length - 8, XXH3_64bits(record, length - 8));
    if (number == 1)
        client->last_answer = now;
}

static void flush(EchoClient *client)
{
    while (client->out->len > 0) {
        gssize n = send(client->fd, client->out->data, client->out->len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN)
                lose_connection(client, g_strerror(errno));
            return;
        }
        g_byte_array_remove_range(client->out, 0, (guint)n);
    }
}

static void send_due(EchoClient *client, ColoTime now)
{
    const EchoOptions *options = &client->options;

    while (echo_client_outstanding(client) < options->window &&
           (options->interval_us == 0 || colo_time_diff_us(now, client->due) >= 0)) {
        begin_record(client, now);
        if (options->interval_us > 0)
            client->due = colo_time_add_us(now, options->interval_us);
    }
    flush(client);
}

/* ---- Receiving ---- */

static void take_record(EchoClient *client, ColoTime now)
{
    EchoFigures *figures = &client->figures;
    gsize length = client->options.record_bytes;
    guint64 number = colo_get_be64(client->in);
    guint32 latency_us;

    if (colo_get_be64(client->in + length - 8) != XXH3_64bits(client->in, length - 8)) {
        figures->corrupted++;
        lose_connection(client, "a record came back changed");
        return;
    }
    if (number < client->next) {
        figures->duplicated++;
        return;
    }
    figures->lost += number - client->next;
    client->next = number + 1;
    figures->answered++;
    latency_us = (guint32)(now.us - (gint64)colo_get_be64(client->in + 8));
    g_array_append_val(figures->latencies_us, latency_us);
    note_gap(figures, colo_time_diff_us(now, client->last_answer));
    client->last_answer = now;
}

static void receive(EchoClient *client, ColoTime now)
{
    gsize length = client->options.record_bytes;

    while (client->figures.broken == NULL) {
        gssize n = recv(client->fd, client->in + client->in_bytes, length - client->in_bytes, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            lose_connection(client, n < 0 ? g_strerror(errno) : "closed by the server");
            return;
        }
        client->in_bytes += (gsize)n;
        if (client->in_bytes == length) {
            take_record(client, now);
            client->in_bytes = 0;
        }
    }
}

void echo_client_step(EchoClient *client, ColoTime now, gboolean sending)
{
    receive(client, now);
    if (client->figures.broken != NULL)
        return;
    if (sending)
        send_due(client, now);
    else
        flush(client);
}

/* ---- Looking ---- */

int echo_client_fd(const EchoClient *client)
{
    return client->figures.broken == NULL ? client->fd : -1;
}

short echo_client_events(const EchoClient *client)
{
    return client->out->len > 0 ? POLLIN | POLLOUT : POLLIN;
}

gint64 echo_client_due_us(const EchoClient *client, ColoTime now)
{
    if (client->figures.broken != NULL || echo_client_outstanding(client) >= client->options.window)
        return -1;
    return MAX(0, colo_time_diff_us(client->due, now));
}

guint64 echo_client_outstanding(const EchoClient *client)
{
    return client->figures.sent - client->figures.answered - client->figures.lost;
}

const EchoFigures *echo_client_figures(EchoClient *client, ColoTime now)
{
    if (echo_client_outstanding(client) > 0)
        note_gap(&client->figures, colo_time_diff_us(now, client->last_answer));
    return &client->figures;
}

void echo_client_mark(EchoClient *client)
{
    client->figures.gap_of_mark_us = 0;
}

void echo_client_finish(EchoClient *client, ColoTime now)
{
    echo_client_figures(client, now);
    client->figures.lost += echo_client_outstanding(client);
}
