/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * give-tap IFNAME NAME COMMAND...: makes a tap, up and in no bridge, and becomes the command, which
 * inherits it as systemd would pass it (sd_listen_fds(3)): as the descriptor called NAME. The tap is
 * gone with the command. IFNAME - stands for none: the descriptor is the null device then.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST 3 /* SD_LISTEN_FDS_START */

static int bring_up(struct ifreq *request)
{
    int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, request) < 0)
        return -1;
    request->ifr_flags |= IFF_UP;
    int result = ioctl(sock, SIOCSIFFLAGS, request);
    close(sock);
    return result;
}

static int open_tap(const char *ifname)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, ifname, sizeof(request.ifr_name) - 1);
    int fd = open("/dev/net/tun", O_RDWR);
    return fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || bring_up(&request) < 0 ? -1 : fd;
}

int main(int argc, char **argv)
{
    char pid[16];
    if (argc < 4)
        return 2;
    int fd = strcmp(argv[1], "-") ? open_tap(argv[1]) : open("/dev/null", O_RDWR);
    if (fd < 0 || (fd != FIRST && (dup2(fd, FIRST) < 0 || close(fd) < 0))) {
        perror("give-tap");
        return 1;
    }
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_FDNAMES", argv[2], 1);
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 127;
}
