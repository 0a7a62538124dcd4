/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that the process was started with, by name, as systemd's sockets and every program
 * that speaks its protocol pass them (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES).
 */
#ifndef COLO_COMMON_INHERITED_H
#define COLO_COMMON_INHERITED_H

#include <glib.h>

/*
 * Once, before the first thread: takes note of them, so that no child gets them, by descriptor or by
 * environment. What is wrong in the environment counts as no descriptor.
 */
void inherited_init(void);

/* A duplicate of the one of that name, close-on-exec. -1 and G_FILE_ERROR: there is none. */
int inherited_fd(const char *name, GError **error);

#endif
