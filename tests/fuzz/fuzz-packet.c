/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame parser on any bytes: what it says lies within the frame, and it says it twice. */
#include <string.h>

#include "netcompare/netcompare.h"
#include "netcompare/packet.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void check(const guint8 *frame, gsize len, gboolean vnet)
{
    Packet p, again;

    packet_parse(frame, len, vnet, 1, &p);
    packet_parse(frame, len, vnet, 1, &again);
    g_assert(memcmp(&p, &again, sizeof(p)) == 0);
    g_assert(p.body >= frame && p.body_len <= len && p.body + p.body_len <= frame + len);
    g_assert(p.skip_len == 0 || p.skip + p.skip_len <= p.body_len);
    g_assert(p.key.kind <= COMPARE_KIND_TCP && p.key.nic == 1);
    if (p.has_tcp) {
        g_assert(p.tcp_offset + 20 <= len && p.tcp_offset >= p.l4_offset);
        g_assert(p.ts_offset == 0 || p.ts_offset + 8 <= len);
        g_assert(p.sack_blocks == 0 || p.sack_offset + 8u * p.sack_blocks <= len);
    } else {
        g_assert(p.key.kind != COMPARE_KIND_TCP);
    }
    CompareKey quoted;
    guint32 seq_offset;
    if (packet_quoted_tcp(frame, &p, &quoted, &seq_offset))
        g_assert(seq_offset > p.l4_offset && seq_offset + 4 <= len);
    if (p.key.kind == COMPARE_KIND_OPAQUE)
        g_assert(p.body + p.body_len == frame + len);
    g_autofree char *text = compare_key_to_string(&p.key);
    g_assert(text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    /* A copy of just that size, so that a read past the end is noticed. */
    g_autofree guint8 *frame = g_memdup2(data, size);

    if (size == 0 || size > NETCOMPARE_FRAME_MAX_BYTES)
        return 0;
    check(frame, size, FALSE);
    check(frame, size, TRUE);
    return 0;
}
