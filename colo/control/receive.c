/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes and descriptors out of a client's socket. The kernel may give in one read what was sent
 * without a descriptor and, behind it, the bytes that one was sent with. Then nobody knows to which
 * command the descriptor belongs. Looking ahead doesn't help: the kernel reports a descriptor that
 * comes anywhere behind. So where one waits, bytes are read one by one, until it comes.
 */
#include <string.h>
#include <sys/socket.h>

#include "colo/control/control_internal.h"
#include "common/fd.h"

/* For one descriptor, and a second that tells of more. */
#define ROOM 2

/* How much waits, `size` at most. The kernel tells that there was no room for a descriptor. */
static ssize_t look(int fd, char *buf, gsize size, gboolean *ret_descriptor)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t got = recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT);
    *ret_descriptor = got > 0 && msg.msg_flags & MSG_CTRUNC;
    return got;
}

static void take(struct msghdr *msg, ControlDescriptor *came)
{
    gboolean none = TRUE;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        for (gsize at = CMSG_LEN(0); at + sizeof(int) <= cmsg->cmsg_len; at += sizeof(int)) {
            ControlDescriptor one = CONTROL_NO_DESCRIPTOR;
            memcpy(&one.fd, (char *)cmsg + at, sizeof(int));
            control_descriptor_merge(came, &one);
            none = FALSE;
        }
    }
    if (none && msg->msg_flags & MSG_CTRUNC)
        came->wrong = "colod has too many files open";
}

/* Reads one byte. */
static ssize_t receive_byte(int fd, char *buf, ControlDescriptor *came)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(ROOM * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = buf, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t got = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0)
        take(&msg, came);
    return got;
}

ssize_t control_receive(int fd, char *buf, gsize size, ControlDescriptor *came)
{
    gboolean descriptor = FALSE;
    ssize_t waits = look(fd, buf, size, &descriptor);
    *came = CONTROL_NO_DESCRIPTOR;
    if (waits <= 0)
        return waits;
    /* No more: what has come since may have one. */
    if (!descriptor)
        return recv(fd, buf, (gsize)waits, MSG_DONTWAIT);
    gsize got = 0;
    while (got < size && !control_descriptor_is_there(came) &&
           receive_byte(fd, buf + got, came) > 0)
        got++;
    return (ssize_t)got;
}

gboolean control_descriptor_is_there(const ControlDescriptor *descriptor)
{
    return descriptor->fd >= 0 || descriptor->wrong;
}

void control_descriptor_merge(ControlDescriptor *into, ControlDescriptor *from)
{
    if (!control_descriptor_is_there(from))
        return;
    if (!control_descriptor_is_there(into)) {
        *into = *from;
        *from = CONTROL_NO_DESCRIPTOR;
        return;
    }
    control_descriptor_clear(from);
    control_descriptor_clear(into);
    into->wrong = "more than one came with it";
}

void control_descriptor_clear(ControlDescriptor *descriptor)
{
    colo_fd_close(&descriptor->fd);
    descriptor->wrong = NULL;
}
