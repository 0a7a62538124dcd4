/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/netframe.h"

#include <string.h>

#include "common/endian.h"
#include "netcompare/netcompare.h"
#include "netcompare/packet.h"

static void add(GByteArray *a, const void *data, gsize len)
{
    if (len > 0)
        g_byte_array_append(a, data, (guint)len);
}

static void add8(GByteArray *a, guint8 v)
{
    add(a, &v, 1);
}

static void add16(GByteArray *a, guint16 v)
{
    guint8 b[2];
    colo_put_be16(b, v);
    add(a, b, 2);
}

static void add32(GByteArray *a, guint32 v)
{
    guint8 b[4];
    colo_put_be32(b, v);
    add(a, b, 4);
}

static guint32 sum(guint32 s, const guint8 *p, gsize len)
{
    for (gsize i = 0; i + 1 < len; i += 2)
        s += colo_get_be16(p + i);
    if (len & 1)
        s += (guint32)p[len - 1] << 8;
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s;
}

static void addresses(const FrameSpec *spec, guint8 out[32], gsize *ret_len)
{
    memset(out, 0, 32);
    *ret_len = spec->v6 ? 32 : 8;
    if (spec->v6) {
        out[0] = out[16] = 0xfd;
        out[15] = spec->src;
        out[31] = spec->dst;
    } else {
        out[0] = out[4] = 10;
        out[3] = spec->src;
        out[7] = spec->dst;
    }
}

static void tcp_options(const FrameSpec *spec, GByteArray *a)
{
    if (spec->mss != 0) {
        add16(a, 0x0204);
        add16(a, spec->mss);
    }
    if (spec->wscale != 0) {
        add16(a, 0x0303);
        add8(a, spec->wscale);
    }
    for (guint i = 0; i < spec->odd_nops; i++)
        add8(a, 1);
    if (spec->has_ts) {
        add16(a, 0x080a);
        add32(a, spec->tsval);
        add32(a, spec->tsecr);
    }
    if (spec->n_sack > 0) {
        add8(a, 5);
        add8(a, (guint8)(2 + 8 * spec->n_sack));
        for (int i = 0; i < spec->n_sack; i++) {
            add32(a, spec->sack[i][0]);
            add32(a, spec->sack[i][1]);
        }
    }
    while (a->len % 4 != 0)
        add8(a, 1);
}

static GByteArray *transport(const FrameSpec *spec, guint *ret_csum_at)
{
    GByteArray *a = g_byte_array_new();
    gboolean starts = !spec->fragment || spec->fragment_offset == 0;

    *ret_csum_at = 0;
    if (starts && spec->proto == PROTO_TCP) {
        g_autoptr(GByteArray) options = g_byte_array_new();
        tcp_options(spec, options);
        add16(a, spec->sport);
        add16(a, spec->dport);
        add32(a, spec->seq);
        add32(a, spec->ack);
        add8(a, (guint8)((20 + options->len) / 4 << 4));
        add8(a, spec->flags);
        add16(a, spec->window);
        *ret_csum_at = a->len;
        add16(a, 0);
        add16(a, spec->urgent);
        add(a, options->data, options->len);
    } else if (starts && spec->proto == PROTO_UDP) {
        add16(a, spec->sport);
        add16(a, spec->dport);
        add16(a, (guint16)(8 + spec->len));
        *ret_csum_at = a->len;
        add16(a, 0);
    }
    add(a, spec->data, spec->len);
    return a;
}

static void network(const FrameSpec *spec, GByteArray *a, gsize payload)
{
    guint8 both[32];
    gsize n;

    addresses(spec, both, &n);
    if (spec->v6) {
        gsize frag = spec->fragment ? 8 : 0;
        add32(a, 0x60000000);
        add16(a, (guint16)(spec->ext_len + frag + payload));
        add8(a, spec->ext_len > 0 ? spec->ext_first
                : spec->fragment  ? PROTO_FRAGMENT
                                  : spec->proto);
        add8(a, 64);
        add(a, both, n);
        add(a, spec->ext, spec->ext_len);
        if (spec->fragment) {
            add8(a, spec->proto);
            add8(a, 0);
            add16(a, (guint16)(spec->fragment_offset | !!spec->more_fragments));
            add32(a, spec->ip_id);
        }
        return;
    }
    guint at = a->len, header = 20 + spec->ip_option_bytes;
    add8(a, (guint8)(0x40 | header / 4));
    add8(a, 0);
    add16(a, (guint16)(header + payload));
    add16(a, spec->ip_id);
    add16(a, (guint16)(spec->fragment_offset / 8 | (spec->more_fragments ? 0x2000 : 0)));
    add8(a, 64);
    add8(a, spec->proto);
    add16(a, 0);
    add(a, both, n);
    for (guint i = 0; i < spec->ip_option_bytes; i++)
        add8(a, 1);
    colo_put_be16(a->data + at + 10, (guint16)~sum(0, a->data + at, header));
}

GBytes *netframe_new(const FrameSpec *spec)
{
    const guint8 macs[12] = {0x52, 0x54, 0, 0, 0, spec->dst, 0x52, 0x54, 0, 0, 0, spec->src};
    GByteArray *a = g_byte_array_new();
    guint csum_at;
    g_autoptr(GByteArray) l4 = transport(spec, &csum_at);

    if (spec->vnet) {
        guint8 header[NETCOMPARE_VNET_HDR_BYTES] = {spec->vnet_flags, spec->gso_type};
        header[4] = (guint8)spec->gso_size;
        header[5] = (guint8)(spec->gso_size >> 8);
        add(a, header, sizeof(header));
    }
    add(a, macs, sizeof(macs));
    for (int i = 0; i < spec->n_vlan; i++) {
        add16(a, i == 0 && spec->vlan_type != 0 ? spec->vlan_type : 0x8100);
        add16(a, spec->vlan[i]);
    }
    add16(a, spec->v6 ? 0x86dd : 0x0800);
    if (csum_at != 0) {
        guint8 both[32], tail[4] = {0, spec->proto, (guint8)(l4->len >> 8), (guint8)l4->len};
        gsize n;
        addresses(spec, both, &n);
        guint32 s = sum(sum(0, both, n), tail, sizeof(tail));
        gboolean partial = spec->vnet && (spec->vnet_flags & 1);
        colo_put_be16(l4->data + csum_at,
                      partial ? (guint16)s : (guint16)~sum(s, l4->data, l4->len));
    }
    network(spec, a, l4->len);
    add(a, l4->data, l4->len);
    return g_byte_array_free_to_bytes(a);
}

gboolean netframe_checksums_ok(const guint8 *frame, gsize len, gboolean vnet)
{
    Packet p;

    packet_parse(frame, len, vnet, 0, &p);
    if (p.l4_offset == 0 || (p.key.kind != COMPARE_KIND_TCP && p.key.kind != COMPARE_KIND_UDP))
        return FALSE;
    gboolean v6 = p.key.ethertype == 0x86dd;
    const guint8 *ip = frame + p.l3_offset, *l4 = frame + p.l4_offset;
    gsize l4_len = (gsize)(p.body + p.body_len - l4);
    if (!v6 && sum(0, ip, (gsize)(ip[0] & 15) * 4) != 0xffff)
        return FALSE;
    guint8 tail[4] = {0, p.key.proto, (guint8)(l4_len >> 8), (guint8)l4_len};
    guint32 s = v6 ? sum(0, ip + 8, 32) : sum(0, ip + 12, 8);
    return sum(sum(s, tail, sizeof(tail)), l4, l4_len) == 0xffff;
}

GBytes *netframe_from_hex(const char *hex)
{
    GByteArray *a = g_byte_array_new();
    int high = -1;

    for (; *hex != '\0'; hex++) {
        int digit = g_ascii_xdigit_value(*hex);
        if (digit < 0)
            continue;
        if (high >= 0)
            add8(a, (guint8)(high << 4 | digit));
        high = high >= 0 ? -1 : digit;
    }
    return g_byte_array_free_to_bytes(a);
}
