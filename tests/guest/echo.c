/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guest/echo.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/guest/net.h"

#define ECHO_PORT       7
#define ECHO_NAGLE_PORT 8
#define BUFFER_BYTES    (64 * 1024)
/* Datagrams wait here while the guest's kernel leaves its programs no time. */
#define UDP_BUFFER_BYTES (4 * 1024 * 1024)

static atomic_uint_fast64_t echoed_bytes;
static atomic_uint_fast64_t echo_connections;

typedef struct {
    int fd;
    bool nodelay;      /* of listening ones: for those that they accept */
    size_t start, end; /* what is still to be sent back: buffer[start..end) */
    char *buffer;      /* BUFFER_BYTES; NULL: it listens */
} EchoConnection;

static void echo_watch(int epoll_fd, int operation, EchoConnection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};

    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        net_die("epoll_ctl");
}

static void echo_accept(int epoll_fd, const EchoConnection *listener)
{
    EchoConnection *connection;
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    connection = malloc(sizeof(*connection) + BUFFER_BYTES);
    if (connection == NULL) {
        close(fd);
        return;
    }
    if (listener->nodelay)
        net_set_nodelay(fd);
    *connection = (EchoConnection){.fd = fd, .buffer = (char *)(connection + 1)};
    atomic_fetch_add(&echo_connections, 1);
    echo_watch(epoll_fd, EPOLL_CTL_ADD, connection, EPOLLIN);
}

static void echo_close(EchoConnection *connection)
{
    close(connection->fd);
    free(connection);
    atomic_fetch_sub(&echo_connections, 1);
}

/* Sends what is pending; false if the connection is broken. */
static bool echo_flush(EchoConnection *connection)
{
    while (connection->start < connection->end) {
        ssize_t n = send(connection->fd, connection->buffer + connection->start,
                         connection->end - connection->start, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        connection->start += (size_t)n;
        atomic_fetch_add(&echoed_bytes, (uint_fast64_t)n);
    }
    return true;
}

/* Reads only when everything read before has been sent back, so that a slow reader slows itself. */
static void echo_step(int epoll_fd, EchoConnection *connection)
{
    if (connection->start == connection->end) {
        ssize_t n = recv(connection->fd, connection->buffer, BUFFER_BYTES, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            echo_close(connection);
            return;
        }
        connection->start = 0;
        connection->end = (size_t)n;
        if (!echo_flush(connection)) {
            echo_close(connection);
            return;
        }
        if (connection->start < connection->end)
            echo_watch(epoll_fd, EPOLL_CTL_MOD, connection, EPOLLOUT);
        return;
    }
    if (!echo_flush(connection))
        echo_close(connection);
    else if (connection->start == connection->end)
        echo_watch(epoll_fd, EPOLL_CTL_MOD, connection, EPOLLIN);
}

static void *echo_tcp_thread(void *unused)
{
    static EchoConnection listeners[2] = {{.nodelay = true}, {.nodelay = false}};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[64];

    (void)unused;
    if (epoll_fd < 0)
        net_die("epoll");
    for (int i = 0; i < 2; i++) {
        listeners[i].fd = net_listen(SOCK_STREAM | SOCK_NONBLOCK,
                                     listeners[i].nodelay ? ECHO_PORT : ECHO_NAGLE_PORT);
        echo_watch(epoll_fd, EPOLL_CTL_ADD, &listeners[i], EPOLLIN);
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 64, -1);

        for (int i = 0; i < count; i++) {
            EchoConnection *connection = events[i].data.ptr;

            if (connection->buffer == NULL)
                echo_accept(epoll_fd, connection);
            else
                echo_step(epoll_fd, connection);
        }
    }
    return NULL;
}

static void *echo_udp_thread(void *unused)
{
    static char datagram[BUFFER_BYTES];
    int fd = net_listen(SOCK_DGRAM, ECHO_PORT);
    int bytes = UDP_BUFFER_BYTES;

    (void)unused;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_length = sizeof(from);
        ssize_t n =
            recvfrom(fd, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &from_length);
        if (n >= 0)
            sendto(fd, datagram, (size_t)n, 0, (struct sockaddr *)&from, from_length);
    }
    return NULL;
}

void echo_start(void)
{
    net_start_thread(echo_tcp_thread, NULL);
    net_start_thread(echo_udp_thread, NULL);
}

void echo_status(EchoStatus *status)
{
    status->bytes = atomic_load(&echoed_bytes);
    status->connections = atomic_load(&echo_connections);
}
