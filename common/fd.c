/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gboolean fail_errno(const char *what, GError **error)
{
    int saved = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved), "%s: %s", what,
                g_strerror(saved));
    return FALSE;
}

void colo_fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    *fd = -1;
    errno = saved;
}

void colo_fd_cleanup(int *fd)
{
    colo_fd_close(fd);
}

GSource *colo_fd_watch_new(int fd, GIOCondition condition)
{
    GSource *source = g_unix_fd_source_new(fd, condition);
    g_source_set_can_recurse(source, TRUE);
    return source;
}

gboolean colo_fd_set_nonblocking(int fd, gboolean nonblocking, GError **error)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return fail_errno("fcntl(F_GETFL)", error);
    flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (fcntl(fd, F_SETFL, flags) < 0)
        return fail_errno("fcntl(F_SETFL)", error);
    return TRUE;
}

gboolean colo_fd_read_all(int fd, void *buf, size_t len, GError **error)
{
    guint8 *at = buf;
    while (len > 0) {
        ssize_t got = read(fd, at, len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("read", error);
        if (got == 0) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE,
                        "end of stream with %zu bytes missing", len);
            return FALSE;
        }
        at += got;
        len -= (size_t)got;
    }
    return TRUE;
}

gboolean colo_fd_write_all(int fd, const void *buf, size_t len, GError **error)
{
    const guint8 *at = buf;
    while (len > 0) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);
        if (put < 0 && errno == ENOTSOCK)
            put = write(fd, at, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno("write", error);
        at += put;
        len -= (size_t)put;
    }
    return TRUE;
}

gboolean colo_fd_send(int sock, int fd, GError **error)
{
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    for (;;) {
        if (sendmsg(sock, &msg, MSG_NOSIGNAL) == 1)
            return TRUE;
        if (errno != EINTR)
            return fail_errno("sendmsg(SCM_RIGHTS)", error);
    }
}

int colo_fd_receive(int sock, GError **error)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t got;
    do {
        got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        fail_errno("recvmsg(SCM_RIGHTS)", error);
        return -1;
    }
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    if (got == 0 || !cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS ||
        cmsg->cmsg_len != CMSG_LEN(sizeof(int))) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "the peer sent no file descriptor");
        return -1;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
    return fd;
}
