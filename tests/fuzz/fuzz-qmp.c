/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client whose server sends any bytes, in two pieces. When the connection has closed every
 * command has been answered exactly once, and nothing is called back after that.
 */
#include "vm/qmp.h"

#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

typedef struct {
    unsigned replies, closed;
} Counts;

static void on_closed(const GError *error, gpointer user_data)
{
    Counts *counts = user_data;
    g_assert(error);
    counts->closed++;
}

static void on_reply(json_object *result, const GError *error, gpointer user_data)
{
    Counts *counts = user_data;
    g_assert(!result == !!error);
    g_assert(!counts->closed);
    counts->replies++;
}

static void send_all(int fd, const guint8 *data, gsize size)
{
    while (size > 0) {
        ssize_t put = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (g_main_context_iteration(NULL, FALSE))
            ;
        if (put <= 0)
            return;
        data += put;
        size -= (gsize)put;
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const QmpHandler handler = {.closed = on_closed};
    Counts counts = {0};
    int pair[2];

    if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    Qmp *qmp = qmp_new(pair[0], "QEMU", &handler, &counts);
    qmp_execute(qmp, "a", NULL, G_MAXUINT, on_reply, &counts);
    qmp_execute(qmp, "b", NULL, G_MAXUINT, on_reply, &counts);
    gsize first = MIN((gsize)data[0], size - 1);
    send_all(pair[1], data + 1, first);
    send_all(pair[1], data + 1 + first, size - 1 - first);
    close(pair[1]);
    while (!counts.closed)
        g_main_context_iteration(NULL, TRUE);
    g_assert(counts.replies == 2 && counts.closed == 1);
    qmp_free(qmp);
    return 0;
}
