/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FIRST 3 /* SD_LISTEN_FDS_START */
/* More than any program is started with; a number beyond it is nonsense. */
#define MOST 1024u

static struct {
    char **names; /* of the descriptors from FIRST on; NULL: none */
    guint n;
} inherited;

static gboolean read_number(const char *variable, guint64 max, guint64 *ret_number)
{
    const char *text = g_getenv(variable);
    return text && g_ascii_string_to_unsigned(text, 10, 0, max, ret_number, NULL);
}

void inherited_init(void)
{
    guint64 pid, n;
    g_clear_pointer(&inherited.names, g_strfreev);
    inherited.n = 0;
    if (read_number("LISTEN_PID", G_MAXINT32, &pid) && pid == (guint64)getpid() &&
        read_number("LISTEN_FDS", MOST, &n)) {
        const char *names = g_getenv("LISTEN_FDNAMES");
        inherited.names = g_strsplit(names ? names : "", ":", -1);
        inherited.n = MIN((guint)n, g_strv_length(inherited.names));
        for (int fd = FIRST; fd < FIRST + (int)n; fd++)
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
}

int inherited_fd(const char *name, GError **error)
{
    for (guint i = 0; i < inherited.n; i++) {
        if (g_strcmp0(inherited.names[i], name))
            continue;
        int fd = fcntl(FIRST + (int)i, F_DUPFD_CLOEXEC, FIRST);
        if (fd < 0)
            g_set_error(error, G_FILE_ERROR, (int)g_file_error_from_errno(errno),
                        "the descriptor '%s', %d, can't be used: %s", name, FIRST + (int)i,
                        g_strerror(errno));
        return fd;
    }
    g_autofree char *there = inherited.n ? g_strjoinv(", ", inherited.names) : NULL;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                "this process was started with no descriptor '%s' (LISTEN_FDNAMES: %s)", name,
                there ? there : "none");
    return -1;
}
