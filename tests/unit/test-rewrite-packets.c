/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rewriter: what becomes of a packet, with its checksums, fragments and ICMP. */
#include <string.h>

#include "tests/support/rewrite-rig.h"

/* Every field, every checksum: full, partial, with the options at odd places, IPv4 and IPv6. */
static void test_checksums(void)
{
    for (guint i = 0; i < 32; i++) {
        RewriteOptions options;
        gboolean vnet = (i & 1) != 0, partial = vnet && (i & 2);
        CompareNote note;
        FrameSpec spec = rewrite_from_guest(TCP_ACK, 0xffff0000 + i, 5);
        Packet before, after;

        rewrite_options_init(&options);
        options.vnet_hdr = vnet;
        g_autoptr(RewriteRig) rig = rewrite_rig_new_with(&options);
        spec.vnet = vnet;
        spec.vnet_flags = partial;
        spec.v6 = (i & 4) != 0;
        spec.has_ts = TRUE;
        spec.odd_nops = i >> 3;
        spec.n_vlan = i & 1;
        spec.vlan[0] = 12;
        g_autoptr(GBytes) syn_frame = NULL, frame = netframe_new(&spec);
        spec.flags = TCP_SYN;
        spec.seq = REWRITE_ISN_S;
        syn_frame = netframe_new(&spec);
        rewrite_observe(rig->rewrite, 0, syn_frame);
        note = rewrite_note_of(1, TRUE, 0x12345678);
        rewrite_parse(frame, vnet, &before);
        note.key = before.key;
        rewrite_note(rig->rewrite, &note);
        rewrite_rig_take_over(rig);
        g_autoptr(GBytes) mapped = rewrite_map_output(rig->rewrite, 0, frame);
        gsize len;
        const guint8 *data = g_bytes_get_data(mapped, &len);
        rewrite_parse(mapped, vnet, &after);
        g_assert_cmpuint(after.seq, ==, before.seq + REWRITE_ISN_P - REWRITE_ISN_S);
        g_assert_cmpuint(after.tsval, ==, before.tsval + 0x12345678);
        if (partial)
            g_assert_cmpmem(data + after.tcp_offset + 16, 2,
                            (const guint8 *)g_bytes_get_data(frame, NULL) + after.tcp_offset + 16,
                            2);
        else
            g_assert_true(netframe_checksums_ok(data, len, vnet));
    }
}

/* A checksum that was wrong stays wrong. */
static void test_wrong_checksum_stays(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 101);
    gsize len;

    rewrite_rig_open(rig);
    g_autoptr(GBytes) good = netframe_new(&ack);
    guint8 *bytes = g_memdup2(g_bytes_get_data(good, &len), g_bytes_get_size(good));
    bytes[len - 1] ^= 1;
    g_autoptr(GBytes) bad = g_bytes_new_take(bytes, len);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, bad);
    g_assert_false(
        netframe_checksums_ok(g_bytes_get_data(rig->delivered->pdata[0], NULL), len, FALSE));
}

/* The first fragment holds header and checksum of the whole segment. */
static void test_first_fragment(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 101);

    rewrite_rig_open(rig);
    ack.fragment = ack.more_fragments = TRUE;
    g_autoptr(GBytes) first = netframe_new(&ack);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, first);
    Packet p;
    rewrite_parse(rig->delivered->pdata[0], FALSE, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 101);
}

static guint32 sum16(const guint8 *p, gsize len)
{
    guint32 s = 0;
    for (gsize i = 0; i < len; i += 2)
        s += (guint32)(p[i] << 8 | p[i + 1]);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s;
}

/* "Fragmentation needed" about a segment that the client's side knows by the PVM's number. */
static void test_icmp_error(void)
{
    guint8 error[] = {3,  4, 0,    0, 0,    0,  5,    0,    0x45, 0,    5,    0xdc,
                      0,  0, 0x40, 0, 0x40, 6,  0,    0,    10,   0,    0,    2,
                      10, 0, 0,    1, 0,    80, 0x12, 0x67, 0xff, 0xff, 0xff, 0xff};
    FrameSpec spec = {.src = 9, .dst = 2, .proto = PROTO_ICMP, .data = error, .len = sizeof(error)};
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    guint32 sum = ~sum16(error, sizeof(error));

    error[2] = (guint8)(sum >> 8);
    error[3] = (guint8)sum;
    rewrite_rig_open(rig);
    g_autoptr(GBytes) frame = netframe_new(&spec);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, frame);
    const guint8 *icmp = (const guint8 *)g_bytes_get_data(rig->delivered->pdata[0], NULL) + 34;
    g_assert_cmpuint(sum16(icmp, sizeof(error)), ==, 0xffff);
    guint32 seq;
    memcpy(&seq, icmp + 32, 4);
    g_assert_cmpuint(GUINT32_FROM_BE(seq), ==, 0xffffffff - REWRITE_ISN_P + REWRITE_ISN_S);
}

static void test_others_pass(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec udp = {.src = 1, .dst = 2, .proto = PROTO_UDP, .data = "x", .len = 1};
    FrameSpec other = rewrite_from_client(TCP_ACK, 5, 6);
    Packet p;

    rewrite_rig_open(rig);
    rewrite_rig_input(rig, &udp, &p);
    other.sport++;
    rewrite_rig_input(rig, &other, &p);
    g_assert_cmpuint(p.ack, ==, 6);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->rewritten_input, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/rewrite/" name, func)
    ADD("checksums", test_checksums);
    ADD("wrong-checksum-stays", test_wrong_checksum_stays);
    ADD("first-fragment", test_first_fragment);
    ADD("icmp-error", test_icmp_error);
    ADD("others-pass", test_others_pass);
    return g_test_run();
}
