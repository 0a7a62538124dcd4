/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses: the first byte says what the rest is: a guest's frame, one from the network, or what a
 * peer sent. Whatever was learned must go to a peer and back unchanged, and be announced in frames
 * of a legal length.
 */
#include "netcompare/netcompare.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void check_frame(const guint8 *data, gsize len, gpointer user_data)
{
    (void)user_data;
    g_assert(data != NULL && len >= NETCOMPARE_VNET_HDR_BYTES + 60 &&
             len <= NETCOMPARE_VNET_HDR_BYTES + 1518);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint8 mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    g_autoptr(Addresses) addresses = addresses_new(mac);
    g_autoptr(Addresses) peer = addresses_new(mac);

    if (size == 0)
        return 0;
    g_autoptr(GBytes) input = g_bytes_new(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        addresses_merge(addresses, input, NULL);
        break;
    case 1:
        addresses_learn(addresses, data + 1, size - 1);
        addresses_received(addresses, data + 1, size - 1);
        break;
    default: /* two frames of one guest, or one of each side */
        addresses_learn(addresses, data + 1, (size - 1) / 2);
        if (data[0] % 4 == 2)
            addresses_learn(addresses, data + 1 + (size - 1) / 2, size - 1 - (size - 1) / 2);
        else
            addresses_received(addresses, data + 1 + (size - 1) / 2, size - 1 - (size - 1) / 2);
        break;
    }
    g_autoptr(GBytes) bytes = addresses_serialise(addresses);
    g_assert(addresses_merge(peer, bytes, NULL));
    g_autoptr(GBytes) again = addresses_serialise(peer);
    g_assert(g_bytes_equal(bytes, again));
    addresses_announce(addresses, check_frame, NULL);
    return 0;
}
