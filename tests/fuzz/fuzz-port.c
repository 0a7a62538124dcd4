/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU writes to a port: anything, in pieces of any length. Each input is pieces: a length
 * byte, then that many bytes. Whatever comes out must be a frame, and is sent back in.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "netcompare/netcompare.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    Port **port = user_data;
    g_assert(len >= NETCOMPARE_VNET_HDR_BYTES + 14 && len <= NETCOMPARE_FRAME_MAX_BYTES);
    port_send(*port, data, len);
}

static void on_failed(const GError *error, gpointer user_data)
{
    (void)user_data;
    g_assert(error->domain == NETCOMPARE_ERROR);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    int pair[2];
    Port *port = NULL;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return 0;
    port = port_new(pair[0], on_output, on_failed, &port);
    if (size > 0)
        port_set_model(port, data[0] & 1 ? "e1000" : "virtio-net-pci");
    while (size > 0) {
        gsize piece = MIN((gsize)data[0], size - 1);
        if (write(pair[1], data + 1, piece) != (ssize_t)piece)
            break;
        port_drain(port);
        data += 1 + piece;
        size -= 1 + piece;
    }
    port_free(port);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
