/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's echo servers: TCP 7 for any number of connections, TCP 8 (the same without
 * TCP_NODELAY) and UDP 7. One thread and one epoll serve TCP, another thread serves UDP.
 */
#ifndef COLO_TESTS_GUEST_ECHO_H
#define COLO_TESTS_GUEST_ECHO_H

#include <stdint.h>

/* Since the start; connections: those that are open. Of TCP. */
typedef struct {
    uint64_t bytes, connections;
} EchoStatus;

void echo_start(void);

/* Any thread. */
void echo_status(EchoStatus *status);

#endif
