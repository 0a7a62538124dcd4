/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pcapng reader on any bytes: what it gives lies in its block, it ends, and it says why. */
#include "netcompare/pcapng.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    PcapngPacket packet;
    gsize packets = 0;

    if (size == 0)
        return 0;
    g_autoptr(PcapngReader) reader = pcapng_reader_new(fmemopen((void *)data, size, "rb"), "fuzz");
    for (;;) {
        g_autoptr(GError) error = NULL;
        if (!pcapng_reader_next(reader, &packet, &error)) {
            g_assert(error->domain == PCAPNG_ERROR);
            return 0;
        }
        if (packet.data == NULL)
            return 0;
        guint sum = 0;
        for (gsize i = 0; i < packet.len; i++)
            sum += packet.data[i];
        g_assert(sum <= packet.len * 255 && packet.len <= packet.wire_len);
        g_assert(packet.interface != NULL);
        g_assert(++packets * 32 <= size);
    }
}
