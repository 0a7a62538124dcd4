/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes on the control connection of a disk set with two small disks. */
#include <sys/socket.h>
#include <unistd.h>

#include "block/control.h"
#include "tests/support/block-pair.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static GMutex mutex;
static GCond changed;
static gboolean ended;

static void on_ended(gpointer data)
{
    (void)data;
    g_mutex_lock(&mutex);
    ended = TRUE;
    g_cond_signal(&changed);
    g_mutex_unlock(&mutex);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint64 sizes[SIDE_DISKS] = {70000, 4096};
    static Side *side;
    if (!side)
        side = side_new(sizes);
    g_assert(side_open(side, TRUE, NULL));
    int fds[2];
    g_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    /* The answers are not read: those to so short an input fit in the socket. */
    size = MIN(size, 1000);
    g_assert(size == 0 || write(fds[0], data, size) == (gssize)size);
    shutdown(fds[0], SHUT_WR);
    BlockControl *control = block_control_new(fds[1], dup(fds[0]));
    ended = FALSE;
    block_control_start(control, side->set, on_ended, NULL);
    g_mutex_lock(&mutex);
    while (!ended)
        g_cond_wait(&changed, &mutex);
    g_mutex_unlock(&mutex);
    block_control_stop(control);
    side_close(side);
    block_control_free(control);
    close(fds[0]);
    return 0;
}
