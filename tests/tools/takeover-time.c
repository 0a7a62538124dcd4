/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a takeover takes, on the wire: takeover-time INTERFACE MAC PID... kills the processes
 * (SIGKILL, at once) and prints the milliseconds until INTERFACE sees the announcement of MAC: the
 * first RARP frame (ethertype 0x8035) from it, which only a survivor's announcement sends. Ends
 * with 1 if there is none within 10 s, 2 if it could not begin.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/fd.h"

#define WAIT_MS 10000

static int open_listener(const char *interface)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_REVARP)};
    COLO_AUTO_FD fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    address.sll_ifindex = (int)if_nametoindex(interface);
    if (fd < 0 || address.sll_ifindex == 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    return colo_fd_steal(&fd);
}

/* Waits for a frame from `mac`; its time. FALSE if there is none in time. */
static gboolean wait_for_frame(int fd, const struct ether_addr *mac, ColoTime *ret_time)
{
    ColoTime end = colo_time_add_us(colo_time_now(), WAIT_MS * COLO_US_PER_MS);
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    struct ether_header header;
    gint64 left_us;

    while ((left_us = colo_time_diff_us(end, colo_time_now())) > 0) {
        if (poll(&readable, 1, (int)(left_us / COLO_US_PER_MS) + 1) <= 0)
            continue;
        if (recv(fd, &header, sizeof(header), 0) == (gssize)sizeof(header) &&
            memcmp(header.ether_shost, mac, ETH_ALEN) == 0) {
            *ret_time = colo_time_now();
            return TRUE;
        }
    }
    return FALSE;
}

int main(int argc, char **argv)
{
    const struct ether_addr *mac = argc > 3 ? ether_aton(argv[2]) : NULL;
    ColoTime start, seen;
    COLO_AUTO_FD fd = mac != NULL ? open_listener(argv[1]) : -1;

    if (fd < 0) {
        fprintf(stderr, "usage: takeover-time INTERFACE MAC PID... (as root)\n");
        return 2;
    }
    start = colo_time_now();
    for (int i = 3; i < argc; i++) {
        guint64 pid;
        if (g_ascii_string_to_unsigned(argv[i], 10, 2, G_MAXINT, &pid, NULL))
            kill((pid_t)pid, SIGKILL);
    }
    if (!wait_for_frame(fd, mac, &seen))
        return 1;
    printf("%.3f\n", (double)colo_time_diff_us(seen, start) / 1000);
    return 0;
}
