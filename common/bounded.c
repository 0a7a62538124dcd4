/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/bounded.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

/* Whoever reads our output must not have to wait for a child that hangs. */
static void close_output(void)
{
    COLO_AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            close(fd);
}

G_GNUC_NORETURN
static void be_child(BoundedFunc func, gconstpointer data, int out)
{
    close_output();
    g_autoptr(GString) output = g_string_new(NULL);
    func(output, data);
    _exit(colo_fd_write_all(out, output->str, output->len, NULL) ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* All until the end; FALSE if that doesn't come in time. */
static gboolean read_in_time(int fd, guint limit_ms, GString *output)
{
    ColoTime end = colo_time_add_us(colo_time_now(), (gint64)limit_ms * COLO_US_PER_MS);
    for (;;) {
        gint64 left_us = colo_time_diff_us(end, colo_time_now());
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (left_us <= 0)
            return FALSE;
        if (poll(&wait, 1, (int)(left_us / COLO_US_PER_MS) + 1) <= 0)
            continue;
        char buf[4096];
        ssize_t got = read(fd, buf, sizeof(buf));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return TRUE;
        g_string_append_len(output, buf, got);
    }
}

static BoundedEnd fail(GError **error, const char *what)
{
    int e = errno;
    g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(e), "%s: %s", what,
                g_strerror(e));
    return BOUNDED_FAILED;
}

BoundedEnd bounded_run(BoundedFunc func, gconstpointer data, guint limit_ms, GString *ret_output,
                       GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(error, "can't make a pipe");
    COLO_AUTO_FD in = ends[0];
    COLO_AUTO_FD out = ends[1];
    pid_t pid = fork();
    if (pid < 0)
        return fail(error, "can't make a process");
    if (pid == 0)
        be_child(func, data, out);
    colo_fd_close(&out);
    g_autoptr(GString) output = g_string_new(NULL);
    if (!read_in_time(in, limit_ms, output)) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, WNOHANG);
        return BOUNDED_HANGS;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "the process that looks has died (status %d)", status);
        return BOUNDED_FAILED;
    }
    g_string_append_len(ret_output, output->str, (gssize)output->len);
    return BOUNDED_DONE;
}
