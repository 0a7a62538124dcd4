/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-uffd.so: preloaded into QEMU. Before main() it makes a userfaultfd, which belongs to QEMU's
 * memory, and passes it to colod over the unix socket whose number is in COLO_UFFD_SOCKET. It sends
 * one byte 'u' with the descriptor (and a second one, below). If it can't get any, it sends the
 * reason as text. Then it takes itself out of the environment. It does nothing else, needs libc
 * only, and never ends the process.
 *
 * Which userfaultfd: the dirty tracker uses asynchronous write protection, where the kernel
 * resolves each fault itself and no fault is ever reported. So a descriptor limited to faults from
 * user mode (which needs no privilege) serves as well. KVM and system calls do write to RAM from
 * kernel mode, but the kernel checks the limit only where it would report a fault
 * (mm/userfaultfd.c, Linux 6.7).
 *
 * A second one, only if faults from kernel mode can be had as well, is for synchronous write
 * protection (checkpoint/page-keeper.c): a write that can't be reported would fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKET_VARIABLE "COLO_UFFD_SOCKET"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static void send_fds(int sock, const int *fds, size_t count)
{
    char byte = 'u';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = CMSG_SPACE(count * sizeof(int))};

    memset(&control, 0, sizeof(control));
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
    while (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR)
        ;
}

static void send_reason(int sock, int reason)
{
    char text[256];
    int len;

    if (reason == ENOSYS)
        len = snprintf(text, sizeof(text), "the kernel has no userfaultfd (CONFIG_USERFAULTFD)");
    else if (reason == EPERM || reason == EACCES)
        len = snprintf(text, sizeof(text),
                       "userfaultfd is not permitted: it needs CAP_SYS_PTRACE, or "
                       "sysctl vm.unprivileged_userfaultfd=1, or a seccomp policy that allows it");
    else
        len = snprintf(text, sizeof(text), "userfaultfd: %s", strerror(reason));
    if (len > 0)
        (void)!send(sock, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

__attribute__((constructor)) static void pass_userfaultfd(void)
{
    const char *variable = getenv(SOCKET_VARIABLE);
    int saved_errno = errno;

    if (!variable)
        return;
    int sock = atoi(variable);
    unsetenv(SOCKET_VARIABLE);
    unsetenv("LD_PRELOAD");
    if (sock > 2) {
        int fds[2] = {(int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), -1};
        if (fds[0] >= 0)
            fds[1] = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        else if (errno == EPERM)
            fds[0] = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        if (fds[0] >= 0) {
            send_fds(sock, fds, fds[1] >= 0 ? 2 : 1);
            close(fds[0]);
            if (fds[1] >= 0)
                close(fds[1]);
        } else {
            send_reason(sock, errno);
        }
        close(sock);
    }
    errno = saved_errno;
}
