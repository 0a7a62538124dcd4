/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guest/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void net_die(const char *what)
{
    fprintf(stderr, "colo-guest: FATAL %s: %s\n", what, strerror(errno));
    exit(1);
}

int net_listen(int type, uint16_t port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int one = 1, zero = 0;
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

    if (fd < 0)
        net_die("socket");
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        net_die("bind");
    if ((type & SOCK_STREAM) != 0 && listen(fd, 1024) < 0)
        net_die("listen");
    return fd;
}

void net_set_nodelay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

bool net_send_all(int fd, const void *data, size_t length)
{
    const char *at = data;

    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

bool net_read_line(int fd, char line[NET_LINE_BYTES])
{
    for (size_t i = 0; i < NET_LINE_BYTES; i++) {
        if (recv(fd, line + i, 1, 0) != 1)
            return false;
        if (line[i] == '\n') {
            line[i] = '\0';
            return true;
        }
    }
    return false;
}

void net_start_thread(void *(*run)(void *), void *data)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    error = pthread_create(&thread, &attributes, run, data);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        errno = error;
        net_die("pthread_create");
    }
}
