/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything that is not a TCP stream: equal payload, in order, flow by flow. */
#include <string.h>

#include "tests/support/compare_rig.h"

static FrameSpec datagram(guint8 proto, const char *data, gsize len)
{
    return (FrameSpec){
        .src = 2, .dst = 1, .proto = proto, .sport = 53, .dport = 99, .data = data, .len = len};
}

static void expect(Rig *rig, guint released)
{
    rig_agrees(rig);
    g_assert_cmpuint(rig_released(rig), ==, released);
}

/* What must not matter, for any protocol: network headers, checksums filled in or not. */
static void test_equal(void)
{
    static const guint8 protos[] = {PROTO_UDP, PROTO_ICMP, PROTO_SCTP, 47 /* GRE */, 253};
    static const char data[] = "\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c";

    for (guint i = 0; i < G_N_ELEMENTS(protos); i++) {
        for (int v6 = 0; v6 <= 1; v6++) {
            g_autoptr(Rig) rig = rig_new(NULL);
            FrameSpec p = datagram(protos[i], data, sizeof(data)), s;
            p.v6 = v6;
            s = p;
            s.ip_id = 77;
            rig_primary(rig, &p);
            expect(rig, 0);
            rig_secondary(rig, &s);
            expect(rig, 1);
            rig_secondary(rig, &s);
            rig_primary(rig, &p);
            expect(rig, 1);
        }
    }
}

/* Any byte of the payload matters, wherever it is, but for the checksums. */
static void test_every_byte_counts(void)
{
    static const struct {
        guint8 proto;
        guint skip, skip_len;
    } cases[] = {
        {PROTO_UDP,  0, 0},
        {PROTO_ICMP, 2, 2},
        {PROTO_SCTP, 8, 4},
        {47,         0, 0}
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (guint at = 0; at < 20; at++) {
            char a[20] = {3, 1}, b[20]; /* ICMP: unreachable; has no identifier */
            memcpy(b, a, sizeof(a));
            b[at] ^= 0x40;
            g_autoptr(Rig) rig = rig_new(NULL);
            FrameSpec p = datagram(cases[i].proto, a, sizeof(a));
            FrameSpec s = datagram(cases[i].proto, b, sizeof(b));
            rig_primary(rig, &p);
            rig_secondary(rig, &s);
            if (at - cases[i].skip < cases[i].skip_len) {
                expect(rig, 1);
                continue;
            }
            g_assert_cmpuint(rig_released(rig), ==, 0);
            if (rig->divergences->len == 0)
                rig_wait_ms(rig, 1000); /* it has become another flow: ports, types */
            g_assert_cmpuint(rig->divergences->len, >=, 1);
        }
    }
}

static void test_difference_is_shown(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = datagram(PROTO_UDP, "12:00:01 ok", 11),
              s = datagram(PROTO_UDP, "12:00:02 ok", 11);

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    const CompareDivergence *d = rig_diverged(rig, COMPARE_PAYLOAD);
    g_assert_cmpuint(d->offset, ==, 7);
    g_assert_cmpmem(d->primary, d->primary_len, "1 ok", 4);
    g_assert_cmpmem(d->secondary, d->secondary_len, "2 ok", 4);
}

static void test_length_differs(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = datagram(PROTO_UDP, "abcd", 4), s = datagram(PROTO_UDP, "abc", 3);

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    const CompareDivergence *d = rig_diverged(rig, COMPARE_PAYLOAD);
    g_assert_cmpuint(d->primary_len, ==, 1);
    g_assert_cmpuint(d->secondary_len, ==, 0);
}

static void test_empty(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = datagram(PROTO_UDP, "", 0);

    rig_primary(rig, &p);
    rig_primary(rig, &p);
    expect(rig, 0);
    rig_secondary(rig, &p);
    expect(rig, 1);
    rig_secondary(rig, &p);
    expect(rig, 1);
}

static void test_order_counts(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = datagram(PROTO_UDP, "a", 1), b = datagram(PROTO_UDP, "b", 1);

    rig_primary(rig, &a);
    rig_primary(rig, &b);
    rig_secondary(rig, &b);
    rig_diverged(rig, COMPARE_PAYLOAD);
}

/* Pings and flows don't wait for each other. */
static void test_flows_are_independent(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = datagram(PROTO_ICMP, "\x00\x00\x11\x11\x00\x01\x00\x01ping", 12);
    FrameSpec b = datagram(PROTO_ICMP, "\x00\x00\x22\x22\x00\x02\x00\x01ping", 12);

    rig_primary(rig, &a);
    rig_primary(rig, &b);
    rig_secondary(rig, &b);
    expect(rig, 1);
    rig_secondary(rig, &a);
    expect(rig, 1);
}

static void test_fragments(void)
{
    for (int v6 = 0; v6 <= 1; v6++) {
        g_autoptr(Rig) rig = rig_new(NULL);
        FrameSpec first = datagram(PROTO_UDP, "0123456701234567", 16);
        first.v6 = v6;
        first.fragment = first.more_fragments = TRUE;
        FrameSpec last = first;
        last.more_fragments = FALSE;
        last.fragment_offset = 24;

        rig_primary(rig, &first);
        rig_primary(rig, &last);
        first.ip_id = last.ip_id = 5;
        rig_secondary(rig, &first);
        expect(rig, 1);
        rig_secondary(rig, &last);
        expect(rig, 1);
        rig_primary(rig, &last);
        last.fragment_offset = 32; /* the same bytes, elsewhere */
        rig_secondary(rig, &last);
        rig_diverged(rig, COMPARE_PAYLOAD);
    }
}

static void test_arp(void)
{
    static const char *const request = "ffffffffffff 525400000002 0806 0001 0800 06 04 0001"
                                       "525400000002 0a000002 000000000000 0a000001";
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autoptr(GBytes) arp = netframe_from_hex(request);
    g_autofree char *padded = g_strconcat(request, "0000000000000000", NULL);
    g_autoptr(GBytes) same = netframe_from_hex(padded);

    compare_primary(rig->compare, 0, 1, arp, rig->now);
    compare_secondary(rig->compare, 0, 1, same, rig->now);
    expect(rig, 1);
    /* Another network card's is another matter. */
    compare_primary(rig->compare, 0, 1, arp, rig->now);
    compare_secondary(rig->compare, 1, 1, same, rig->now);
    expect(rig, 0);
}

/* Malformed frames: byte for byte. */
static void test_opaque(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autoptr(GBytes) a = netframe_from_hex("525400000001 525400000002 0800 45000100 aa");
    g_autoptr(GBytes) b = netframe_from_hex("525400000001 525400000002 0800 45000100 ab");
    g_autoptr(GBytes) tiny = netframe_from_hex("00");

    compare_primary(rig->compare, 0, 1, a, rig->now);
    compare_secondary(rig->compare, 0, 1, a, rig->now);
    expect(rig, 1);
    compare_primary(rig->compare, 0, 1, tiny, rig->now);
    compare_secondary(rig->compare, 0, 1, tiny, rig->now);
    expect(rig, 1);
    compare_primary(rig->compare, 0, 1, a, rig->now);
    compare_secondary(rig->compare, 0, 1, b, rig->now);
    rig_diverged(rig, COMPARE_PAYLOAD);
}

/* UDP segmentation offload: the two VMs bundle the same datagrams differently. */
static void test_udp_bundles(void)
{
    CompareOptions options;
    compare_options_init(&options);
    g_autoptr(Rig) rig = rig_new(&options);
    FrameSpec p = datagram(PROTO_UDP, "aaaabbbbcccc", 12), s = datagram(PROTO_UDP, "aaaabbbb", 8);

    p.vnet = s.vnet = TRUE;
    p.vnet_flags = s.vnet_flags = 1;
    p.gso_type = s.gso_type = 5;
    p.gso_size = s.gso_size = 4;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 0);
    s = datagram(PROTO_UDP, "cccc", 4);
    s.vnet = TRUE;
    rig_secondary(rig, &s);
    expect(rig, 1);
    /* The same bytes in other datagrams are something else. */
    rig_primary(rig, &p);
    s.data = "aaaabbbbcccc";
    s.len = 12;
    rig_secondary(rig, &s);
    rig_diverged(rig, COMPARE_PAYLOAD);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-datagram/" name, func)
    ADD("equal", test_equal);
    ADD("every-byte-counts", test_every_byte_counts);
    ADD("difference-is-shown", test_difference_is_shown);
    ADD("length-differs", test_length_differs);
    ADD("empty", test_empty);
    ADD("order-counts", test_order_counts);
    ADD("flows-are-independent", test_flows_are_independent);
    ADD("fragments", test_fragments);
    ADD("arp", test_arp);
    ADD("opaque", test_opaque);
    ADD("udp-bundles", test_udp_bundles);
    return g_test_run();
}
