/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A listening unix socket at a path. What a process that is gone has left there is removed: a
 * socket that nobody listens on, and nothing else.
 */
#ifndef COLO_COMMON_UNIX_LISTEN_H
#define COLO_COMMON_UNIX_LISTEN_H

#include <glib.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct {
    int fd; /* -1: it doesn't listen */
    char *path;
    dev_t device; /* of the file, as it was made */
    ino_t inode;
} UnixListen;

#define UNIX_LISTEN_NONE ((UnixListen){.fd = -1})

/*
 * Listens, non-blocking, mode 0600; makes the last folder of the path if it is missing. Waits for a
 * lock on that folder, so that of two that start at once one sees the other. Error: G_FILE_ERROR,
 * without the path; `option` is where another one can be chosen.
 */
gboolean unix_listen_begin(UnixListen *ret_listen, const char *path, const char *option,
                           GError **error);

/* Ends it, and removes the file if it still is the one that was made. Takes one that doesn't listen. */
void unix_listen_end(UnixListen *listen);

#endif
