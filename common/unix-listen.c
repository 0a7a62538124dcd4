/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/unix-listen.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"

G_GNUC_PRINTF(2, 3)
static gboolean fail(GError **error, const char *format, ...)
{
    int code = errno;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(code), text);
    return FALSE;
}

/* Takes away the socket of a process that is gone. */
static gboolean clear_path(const char *path, const struct sockaddr_un *address, const char *option,
                           GError **error)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT || fail(error, "%s", g_strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(error, "there is something that is no socket");
    COLO_AUTO_FD probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return fail(error, "socket: %s", g_strerror(errno));
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return fail(error, "another colod serves it: end that, or choose another path (%s)",
                    option);
    if (errno != ECONNREFUSED)
        return fail(error, "%s", g_strerror(errno));
    if (unlink(path) < 0 && errno != ENOENT)
        return fail(error, "can't remove what an earlier colod left: %s", g_strerror(errno));
    return TRUE;
}

static int lock_folder(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    if (g_mkdir(folder, 0755) < 0 && errno != EEXIST) {
        fail(error, "can't make the folder %s: %s", folder, g_strerror(errno));
        return -1;
    }
    COLO_AUTO_FD lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) {
        fail(error, "%s: %s", folder, g_strerror(errno));
        return -1;
    }
    if (flock(lock, LOCK_EX) < 0) {
        fail(error, "%s can't be locked: %s", folder, g_strerror(errno));
        return -1;
    }
    return colo_fd_steal(&lock);
}

gboolean unix_listen_begin(UnixListen *ret_listen, const char *path, const char *option,
                           GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return fail(error, "the path is too long for a socket (at most %zu bytes)",
                    sizeof(address.sun_path) - 1);
    }
    COLO_AUTO_FD lock = lock_folder(path, error);
    if (lock < 0 || !clear_path(path, &address, option, error))
        return FALSE;
    COLO_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the socket before bind() is that of the file: there is no moment with another. */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return fail(error, "%s", g_strerror(errno));
    if (listen(fd, SOMAXCONN) < 0 || lstat(path, &st) < 0) {
        fail(error, "%s", g_strerror(errno));
        unlink(path);
        return FALSE;
    }
    *ret_listen = (UnixListen){
        .fd = colo_fd_steal(&fd), .path = g_strdup(path), .device = st.st_dev, .inode = st.st_ino};
    return TRUE;
}

void unix_listen_end(UnixListen *listen)
{
    struct stat st;
    /* Only our own: somebody may have put another in its place. */
    if (listen->path && lstat(listen->path, &st) == 0 && st.st_ino == listen->inode &&
        st.st_dev == listen->device)
        unlink(listen->path);
    colo_fd_close(&listen->fd);
    g_clear_pointer(&listen->path, g_free);
}
