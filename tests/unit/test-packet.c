/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frame parser: each header, and each way of not being one. */
#include <string.h>

#include "netcompare/netcompare.h"
#include "netcompare/packet.h"
#include "tests/support/netframe.h"

static void parse_vnet(GBytes *frame, gboolean vnet, Packet *p)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, vnet, 3, p);
}

static GBytes *kept; /* so that the last packet's pointers stay good */

static void parse_spec(const FrameSpec *spec, Packet *p)
{
    g_clear_pointer(&kept, g_bytes_unref);
    kept = netframe_new(spec);
    parse_vnet(kept, spec->vnet, p);
}

static void assert_key(const Packet *p, const char *expected)
{
    g_autofree char *text = compare_key_to_string(&p->key);
    g_assert_cmpstr(text, ==, expected);
}

static FrameSpec tcp_spec(void)
{
    return (FrameSpec){.src = 2,
                       .dst = 1,
                       .proto = PROTO_TCP,
                       .sport = 80,
                       .dport = 4711,
                       .seq = 0xfffffff0,
                       .ack = 99,
                       .flags = TCP_ACK | TCP_PSH,
                       .window = 512,
                       .data = "hello",
                       .len = 5};
}

static void test_tcp(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.has_ts = TRUE;
    spec.tsval = 7;
    spec.tsecr = 8;
    spec.n_sack = 2;
    spec.sack[1][1] = 5;
    parse_spec(&spec, &p);
    assert_key(&p, "tcp 10.0.0.2:80 -> 10.0.0.1:4711 nic 3");
    g_assert_true(p.has_tcp);
    g_assert_cmpuint(p.seq, ==, 0xfffffff0);
    g_assert_cmpuint(p.ack, ==, 99);
    g_assert_cmpuint(p.flags, ==, TCP_ACK | TCP_PSH);
    g_assert_cmpuint(p.window, ==, 512);
    g_assert_cmpuint(p.tsval, ==, 7);
    g_assert_cmpuint(p.tsecr, ==, 8);
    g_assert_cmpuint(p.sack_blocks, ==, 2);
    g_assert_cmpmem(p.body, p.body_len, "hello", 5);
    g_assert_cmpuint(packet_tcp_end(&p), ==, 0xfffffff5);
}

static void test_tcp_syn(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.flags = TCP_SYN | TCP_FIN;
    spec.mss = 1460;
    spec.wscale = 7;
    parse_spec(&spec, &p);
    g_assert_cmpuint(p.syn_options.mss, ==, 1460);
    g_assert_cmpuint(p.syn_options.wscale, ==, 8);
    g_assert_cmpuint(p.syn_options.ts, ==, 0);
    g_assert_cmpuint(packet_tcp_end(&p), ==, 0xfffffff0 + 7);
}

/* Ethernet pads short frames: the padding is no payload. */
static void test_padding(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.len = 0;
    g_autoptr(GBytes) bare = netframe_new(&spec);
    guint8 padded[60] = {0};
    memcpy(padded, g_bytes_get_data(bare, NULL), g_bytes_get_size(bare));
    packet_parse(padded, sizeof(padded), FALSE, 0, &p);
    g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_TCP);
    g_assert_cmpuint(p.body_len, ==, 0);
}

static void test_vlan(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.n_vlan = 2;
    spec.vlan_type = 0x88a8;
    spec.vlan[0] = 0xe007; /* the priority does not make another flow */
    spec.vlan[1] = 100;
    parse_spec(&spec, &p);
    assert_key(&p, "tcp 10.0.0.2:80 -> 10.0.0.1:4711 vlan 7 vlan 100 nic 3");
    spec.n_vlan = 3;
    parse_spec(&spec, &p);
    assert_key(&p, "ethernet 52:54:00:00:00:02 -> 52:54:00:00:00:01 ethertype 0x8100 vlan 7 "
                   "vlan 100 nic 3");
}

static void test_ipv4_options(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.ip_option_bytes = 40;
    parse_spec(&spec, &p);
    g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_TCP);
    g_assert_cmpmem(p.body, p.body_len, "hello", 5);
}

static void test_ipv6(void)
{
    static const guint8 ext[] = {
        PROTO_DSTOPTS, 0, 1, 4,  0, 0, 0, 0,                         /* hop-by-hop: padding */
        PROTO_ROUTING, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* destination options */
        PROTO_AH,      0, 0, 0,  0, 0, 0, 0,                         /* routing, nothing left */
        PROTO_TCP,     1, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,             /* authentication */
    };
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.v6 = TRUE;
    parse_spec(&spec, &p);
    assert_key(&p, "tcp [fd00::2]:80 -> [fd00::1]:4711 nic 3");
    spec.ext = ext;
    spec.ext_len = sizeof(ext);
    spec.ext_first = PROTO_HOPOPTS;
    parse_spec(&spec, &p);
    assert_key(&p, "tcp [fd00::2]:80 -> [fd00::1]:4711 nic 3");
    g_assert_cmpmem(p.body, p.body_len, "hello", 5);
}

static void test_fragments(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    for (int v6 = 0; v6 <= 1; v6++) {
        spec.v6 = v6;
        spec.fragment = spec.more_fragments = TRUE;
        spec.fragment_offset = 0;
        parse_spec(&spec, &p);
        g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_FRAGMENT);
        g_assert_true(p.has_tcp); /* the rewriter finds the header */
        g_assert_cmpuint(p.seq, ==, 0xfffffff0);
        g_assert_cmpuint(p.extra, ==, 1);
        spec.fragment_offset = 1480;
        spec.more_fragments = FALSE;
        parse_spec(&spec, &p);
        g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_FRAGMENT);
        g_assert_false(p.has_tcp);
        g_assert_cmpuint(p.extra, ==, 1480);
    }
}

/* A fragment header that fragments nothing is a whole packet. */
static void test_atomic_fragment(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.v6 = spec.fragment = TRUE;
    parse_spec(&spec, &p);
    g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_TCP);
}

static void test_udp(void)
{
    FrameSpec spec = tcp_spec();
    Packet p;

    spec.proto = PROTO_UDP;
    parse_spec(&spec, &p);
    assert_key(&p, "udp 10.0.0.2:80 -> 10.0.0.1:4711 nic 3");
    g_assert_cmpmem(p.body, p.body_len, "hello", 5);
    g_assert_cmpuint(p.unit, ==, 0);
    spec.vnet = TRUE;
    spec.vnet_flags = 1;
    spec.gso_type = 5;
    spec.gso_size = 2;
    parse_spec(&spec, &p);
    g_assert_cmpuint(p.unit, ==, 2);
    g_assert_true(p.partial_csum);
}

static void test_icmp(void)
{
    FrameSpec spec = {.src = 2, .dst = 1, .proto = PROTO_ICMP};
    Packet p;

    spec.data = "\x08\x00\xaa\xbb\x12\x34\x00\x01ping";
    spec.len = 12;
    parse_spec(&spec, &p);
    assert_key(&p, "icmp 10.0.0.2 -> 10.0.0.1 type 8 code 0 id 4660 nic 3");
    g_assert_cmpuint(p.skip, ==, 2);
    g_assert_cmpuint(p.skip_len, ==, 2);
    spec.v6 = TRUE;
    spec.proto = PROTO_ICMPV6;
    spec.data = "\x88\x00\xaa\xbb\x12\x34\x00\x01ping";
    parse_spec(&spec, &p);
    assert_key(&p, "icmp6 fd00::2 -> fd00::1 type 136 code 0 id 0 nic 3");
}

static gboolean quotes(const FrameSpec *spec, CompareKey *key, guint32 *seq_offset)
{
    Packet p;
    parse_spec(spec, &p);
    return packet_quoted_tcp(g_bytes_get_data(kept, NULL), &p, key, seq_offset);
}

/* An error about a segment of the guest's; cut anywhere before its sequence number, it quotes none.
 */
static void test_icmp_quotes(void)
{
    static const guint8 v4[] = {3,  4, 0,    0, 0,    0,  5,    0,    0x45, 0, 5, 0xdc,
                                0,  0, 0x40, 0, 0x40, 6,  0,    0,    10,   0, 0, 2,
                                10, 0, 0,    1, 0,    80, 0x12, 0x67, 1,    2, 3, 4};
    static const guint8 v6[8 + 40 + 8] = {2,
                                          [8] = 0x60,
                                          [8 + 6] = PROTO_TCP,
                                          [8 + 23] = 2,
                                          [8 + 39] = 1,
                                          [8 + 41] = 80,
                                          [8 + 43] = 99};
    FrameSpec spec = {.src = 1, .dst = 2, .proto = PROTO_ICMP, .data = v4};
    Packet p = {0};
    guint32 seq_offset;

    for (spec.len = 0; spec.len < sizeof(v4); spec.len++)
        g_assert_false(quotes(&spec, &p.key, &seq_offset));
    g_assert_true(quotes(&spec, &p.key, &seq_offset));
    g_assert_cmpuint(seq_offset, ==, 14 + 20 + 8 + 20 + 4);
    assert_key(&p, "tcp 10.0.0.2:80 -> 10.0.0.1:4711 nic 3");
    spec.v6 = TRUE;
    spec.proto = PROTO_ICMPV6;
    spec.data = v6;
    spec.len = sizeof(v6);
    g_assert_true(quotes(&spec, &p.key, &seq_offset));
    g_assert_cmpuint(seq_offset, ==, 14 + 40 + 8 + 40 + 4);
    g_assert_cmpuint(p.key.dport, ==, 99);
    spec.len--;
    g_assert_false(quotes(&spec, &p.key, &seq_offset));
}

static void test_other_ip(void)
{
    FrameSpec spec = {.src = 2, .dst = 1, .proto = 47, .data = "GRE?", .len = 4};
    Packet p;

    parse_spec(&spec, &p);
    assert_key(&p, "ip 10.0.0.2 -> 10.0.0.1 protocol 47 nic 3");
    g_assert_cmpmem(p.body, p.body_len, "GRE?", 4);
    spec.proto = PROTO_SCTP;
    spec.data = "\0\1\0\2vtagcsumchunk";
    spec.len = 17;
    parse_spec(&spec, &p);
    assert_key(&p, "sctp 10.0.0.2:1 -> 10.0.0.1:2 nic 3");
    g_assert_cmpuint(p.skip, ==, 8);
}

static void test_arp(void)
{
    Packet p;
    g_autoptr(GBytes) arp = netframe_from_hex("ffffffffffff 525400000002 0806"
                                              "0001 0800 06 04 0001 525400000002 0a000002"
                                              "000000000000 0a000001 0000");
    parse_vnet(arp, FALSE, &p);
    assert_key(&p, "arp 10.0.0.2 -> 10.0.0.1 operation 1 nic 3");
    g_assert_cmpuint(p.body_len, ==, 28);
}

static void test_llc(void)
{
    Packet p;
    g_autoptr(GBytes) stp = netframe_from_hex("0180c2000000 525400000002 0007 42420300000000");
    parse_vnet(stp, FALSE, &p);
    assert_key(&p, "ethernet 52:54:00:00:00:02 -> 01:80:c2:00:00:00 ethertype 0x0000 nic 3");
    g_assert_cmpuint(p.extra, ==, 7);
}

/* A frame cut short anywhere is opaque and compared whole; it is never read past its end. */
static void test_truncated(void)
{
    FrameSpec spec = tcp_spec();
    spec.has_ts = TRUE;

    for (int v6 = 0; v6 <= 1; v6++) {
        for (int vnet = 0; vnet <= 1; vnet++) {
            spec.v6 = v6;
            spec.vnet = vnet;
            g_autoptr(GBytes) whole = netframe_new(&spec);
            for (gsize len = 0; len < g_bytes_get_size(whole); len++) {
                g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(whole, NULL), len);
                Packet p;
                packet_parse(copy, len, vnet, 0, &p);
                g_assert_cmpint(p.key.kind, ==, COMPARE_KIND_OPAQUE);
                gsize vnet_bytes = vnet && len >= NETCOMPARE_VNET_HDR_BYTES ? 12 : 0;
                g_assert_cmpuint(p.body_len, ==, len - vnet_bytes);
                g_assert_false(p.has_tcp);
            }
        }
    }
}

/* Each header field that can contradict the rest makes the frame opaque. */
static void test_malformed(void)
{
    static const struct {
        gboolean v6;
        guint8 proto;
        guint at;
        guint8 value;
    } cases[] = {
        {FALSE, PROTO_TCP, 14,      0x44         }, /* header length below 20 */
        {FALSE, PROTO_TCP, 14,      0x65         }, /* version */
        {FALSE, PROTO_TCP, 16,      0xff         }, /* total length beyond the frame */
        {FALSE, PROTO_TCP, 17,      19           }, /* total length below the header's */
        {FALSE, PROTO_TCP, 14 + 32, 0x40         }, /* TCP header below 20 */
        {FALSE, PROTO_TCP, 14 + 32, 0xf0         }, /* TCP header beyond the end */
        {FALSE, PROTO_UDP, 14 + 25, 7            }, /* UDP length below its header */
        {FALSE, PROTO_UDP, 14 + 24, 0xff         }, /* UDP length beyond the end */
        {TRUE,  PROTO_TCP, 14,      0x40         }, /* version */
        {TRUE,  PROTO_TCP, 14 + 4,  0xff         }, /* payload length beyond the frame */
        {TRUE,  PROTO_TCP, 14 + 6,  PROTO_HOPOPTS}, /* an extension header that does not fit */
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        FrameSpec spec = tcp_spec();
        Packet p;
        spec.v6 = cases[i].v6;
        spec.proto = cases[i].proto;
        spec.sport = 0x06ff; /* as an extension header: 2048 bytes */
        g_autoptr(GBytes) good = netframe_new(&spec);
        gsize len = g_bytes_get_size(good);
        g_autofree guint8 *bad = g_memdup2(g_bytes_get_data(good, NULL), len);
        bad[cases[i].at] = cases[i].value;
        packet_parse(bad, len, FALSE, 0, &p);
        if (p.key.kind != COMPARE_KIND_OPAQUE)
            g_error("case %u was taken for kind %d", i, p.key.kind);
        g_assert_cmpuint(p.body_len, ==, len);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/packet/tcp", test_tcp);
    g_test_add_func("/packet/tcp-syn", test_tcp_syn);
    g_test_add_func("/packet/padding", test_padding);
    g_test_add_func("/packet/vlan", test_vlan);
    g_test_add_func("/packet/ipv4-options", test_ipv4_options);
    g_test_add_func("/packet/ipv6-extensions", test_ipv6);
    g_test_add_func("/packet/fragments", test_fragments);
    g_test_add_func("/packet/atomic-fragment", test_atomic_fragment);
    g_test_add_func("/packet/udp", test_udp);
    g_test_add_func("/packet/icmp", test_icmp);
    g_test_add_func("/packet/icmp-quotes", test_icmp_quotes);
    g_test_add_func("/packet/other-ip", test_other_ip);
    g_test_add_func("/packet/arp", test_arp);
    g_test_add_func("/packet/llc", test_llc);
    g_test_add_func("/packet/truncated", test_truncated);
    g_test_add_func("/packet/malformed", test_malformed);
    int status = g_test_run();
    g_clear_pointer(&kept, g_bytes_unref);
    return status;
}
