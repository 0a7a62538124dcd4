/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File descriptors: ownership by attribute, whole reads and writes, passing them to a neighbour. */
#ifndef COLO_COMMON_FD_H
#define COLO_COMMON_FD_H

#include <glib.h>
#include <sys/types.h>

/* A variable that closes what it holds when it leaves its scope; -1 holds nothing. */
#define COLO_AUTO_FD __attribute__((cleanup(colo_fd_cleanup))) int

/* Closes *fd if it is open and sets it to -1; errno stays as it was. */
void colo_fd_close(int *fd);

/* For COLO_AUTO_FD only. */
void colo_fd_cleanup(int *fd);

/* Gives up ownership: returns *fd and sets it to -1. */
static inline int colo_fd_steal(int *fd)
{
    int out = *fd;
    *fd = -1;
    return out;
}

/*
 * A source for what is read often: as g_unix_fd_source_new(), but GLib leaves it in the loop's set while it
 * is called. To take it out and in again costs four system calls and a turn for each call. A main loop that
 * is run within its callback calls that again.
 */
GSource *colo_fd_watch_new(int fd, GIOCondition condition);

/* Sets or clears O_NONBLOCK. Error: G_FILE_ERROR. */
gboolean colo_fd_set_nonblocking(int fd, gboolean nonblocking, GError **error);

/*
 * Reads exactly `len` bytes from a blocking fd. FALSE with G_FILE_ERROR if reading fails, and with
 * G_FILE_ERROR_PIPE if the end comes first. May block.
 */
gboolean colo_fd_read_all(int fd, void *buf, size_t len, GError **error);

/* Writes all `len` bytes to a blocking fd. Never raises SIGPIPE on sockets. May block. */
gboolean colo_fd_write_all(int fd, const void *buf, size_t len, GError **error);

/* Sends `fd` with one byte over the unix socket `sock` (SCM_RIGHTS). The caller keeps `fd`. */
gboolean colo_fd_send(int sock, int fd, GError **error);

/* Receives one descriptor (close-on-exec) sent by colo_fd_send(). May block. -1 on error. */
int colo_fd_receive(int sock, GError **error);

#endif
