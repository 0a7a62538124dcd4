/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets and threads of the test guest's program. Everything blocks. */
#ifndef COLO_TESTS_GUEST_NET_H
#define COLO_TESTS_GUEST_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_LINE_BYTES 256

/* Ends the program with errno's text: without its servers the guest is of no use. */
void net_die(const char *what);

/* A socket bound to `port` on every address of both families; listening if it is a stream. */
int net_listen(int type, uint16_t port);

void net_set_nodelay(int fd);

/* Sends all bytes; false if the connection is broken. */
bool net_send_all(int fd, const void *data, size_t length);

/* Reads up to a newline, which is dropped; false at the end or when the line is too long. */
bool net_read_line(int fd, char line[NET_LINE_BYTES]);

/* Starts a detached thread with a small stack. */
void net_start_thread(void *(*run)(void *), void *data);

#endif
