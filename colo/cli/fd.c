/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `colo fd add` gives to colod. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/cli/cli.h"
#include "common/fd.h"

static int fail(const char *path, GError **error)
{
    g_set_error(error, CLI_ERROR, CLI_ERROR_COMMAND, "%s: %s", path, g_strerror(errno));
    return -1;
}

static int connect_to(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return fail(path, error);
    }
    COLO_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return fail(path, error);
    return colo_fd_steal(&fd);
}

int cli_fd_open(const char *source, GError **error)
{
    struct stat st;
    int fd = -1;
    if (!strcmp(source, "-"))
        fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    else if (stat(source, &st) < 0)
        return fail(source, error);
    else if (S_ISSOCK(st.st_mode))
        return connect_to(source, error);
    else
        fd = open(source, O_RDWR | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? fail(source, error) : fd;
}
