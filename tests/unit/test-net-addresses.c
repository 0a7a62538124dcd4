/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Learning the guest's addresses, carrying them to the peer, announcing them. */
#include <string.h>

#include "common/endian.h"
#include "netcompare/netcompare.h"

#define HEADER NETCOMPARE_VNET_HDR_BYTES

static const guint8 own[6] = {0x52, 0x54, 0, 0, 0, 1};
static const guint8 other[6] = {0x52, 0x54, 0, 0, 0, 2};
static const guint8 everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

typedef struct {
    guint8 data[256];
    gsize len;
} Frame;

/* ---- What hosts send ---- */

/* `vlan` < 0: untagged. */
static guint8 *begin(Frame *frame, const guint8 from[6], int vlan, guint16 type, gsize payload)
{
    memset(frame, 0, sizeof(*frame));
    guint8 *at = frame->data + HEADER;
    memcpy(at, everybody, 6);
    memcpy(at + 6, from, 6);
    at += 12;
    if (vlan >= 0) {
        colo_put_be16(at, 0x8100);
        colo_put_be16(at + 2, (guint16)(0xe000 | vlan)); /* with a priority */
        at += 4;
    }
    colo_put_be16(at, type);
    frame->len = (gsize)(at + 2 - frame->data) + payload;
    return at + 2;
}

static Frame arp(const guint8 from[6], int vlan, guint32 ip)
{
    Frame frame;
    guint8 *at = begin(&frame, from, vlan, 0x0806, 28);
    memcpy(at, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(at + 8, from, 6);
    colo_put_be32(at + 14, ip);
    colo_put_be32(at + 24, 0x0a000063);
    return frame;
}

enum { RA = 134, NS = 135, NA = 136 };

/* Addresses are ::`source` with fe80 in front, and ::`target` likewise; 0 is the unspecified one.
 */
static void put_ipv6(guint8 *at, guint16 tail)
{
    memset(at, 0, 16);
    if (tail != 0)
        colo_put_be16(at, 0xfe80);
    colo_put_be16(at + 14, tail);
}

static Frame nd(const guint8 from[6], int vlan, guint8 type, guint16 source, guint16 target,
                gboolean router)
{
    Frame frame;
    gsize icmp_bytes = type == RA ? 16 : 24;
    guint8 *ip = begin(&frame, from, vlan, 0x86dd, 40 + icmp_bytes);
    ip[0] = 0x60;
    colo_put_be16(ip + 4, (guint16)icmp_bytes);
    ip[6] = 58;
    ip[7] = 255;
    put_ipv6(ip + 8, source);
    ip[40] = type;
    if (type == NA)
        ip[44] = router ? 0x80 : 0;
    if (type != RA)
        put_ipv6(ip + 48, target);
    return frame;
}

/* ---- What is announced, as text ---- */

static void append_mac(GString *out, const guint8 *mac)
{
    g_string_append_printf(out, "%02x%02x", mac[0], mac[5]);
}

/* The checksum over the pseudo-header and the message sums to ffff. */
static void assert_icmpv6_checksum(const guint8 *ip)
{
    guint16 len = colo_get_be16(ip + 4);
    guint32 sum = len + 58u;
    for (gsize i = 8; i < 40u + len; i += 2)
        sum += colo_get_be16(ip + i);
    g_assert_cmphex((sum & 0xffff) + (sum >> 16), ==, 0xffff);
}

/* One word a frame: kind@vlan:mac=address. Everything else in the frame is checked here. */
static void describe(const guint8 *data, gsize len, gpointer user_data)
{
    static const guint8 no_header[HEADER];
    GString *out = user_data;
    const guint8 *at = data + HEADER, *mac = at + 6;

    g_assert_cmpmem(data, HEADER, no_header, HEADER);
    g_assert_cmpuint(len, >=, HEADER + 60);
    at += 12;
    g_autofree char *vlan = NULL;
    if (colo_get_be16(at) == 0x8100) {
        vlan = g_strdup_printf("@%u", colo_get_be16(at + 2));
        at += 4;
    }
    guint16 type = colo_get_be16(at);
    at += 2;
    g_string_append_printf(out, "%s%s%s:", out->len > 0 ? " " : "",
                           type == 0x8035   ? "rarp"
                           : type == 0x0806 ? "arp"
                                            : "na",
                           vlan != NULL ? vlan : "");
    append_mac(out, mac);
    if (type == 0x86dd) {
        g_assert_cmpmem(data + HEADER, 6, "\x33\x33\0\0\0\1", 6);
        g_assert_cmpuint(at[7], ==, 255);
        g_assert_cmpmem(at + 8, 16, at + 48, 16); /* source and target */
        g_assert_cmpmem(at + 24, 16, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
        g_assert_cmpuint(at[40], ==, 136);
        g_assert_cmphex(at[44] & 0x7f, ==, 0x20);
        g_assert_cmpmem(at + 64, 2, "\2\1", 2);
        g_assert_cmpmem(at + 66, 6, mac, 6);
        assert_icmpv6_checksum(at);
        g_string_append_printf(out, "=%x%s", colo_get_be16(at + 62), at[44] & 0x80 ? "r" : "");
        return;
    }
    g_assert_cmpmem(data + HEADER, 6, everybody, 6);
    g_assert_cmpmem(at, 7, "\0\1\x08\0\6\4\0", 7);
    g_assert_cmpmem(at + 8, 6, mac, 6);
    if (type == 0x8035) {
        g_assert_cmpuint(at[7], ==, 3);
        g_assert_cmpmem(at + 18, 6, mac, 6);
        return;
    }
    g_assert_cmpuint(type, ==, 0x0806);
    g_assert_cmpuint(at[7], ==, 1);
    g_assert_cmpmem(at + 14, 4, at + 24, 4);
    g_string_append_printf(out, "=%x", colo_get_be32(at + 14));
}

static void assert_announces(const Addresses *addresses, const char *expected)
{
    g_autoptr(GString) got = g_string_new(NULL);
    addresses_announce(addresses, describe, got);
    g_assert_cmpstr(got->str, ==, expected);
}

static void learn(Addresses *addresses, Frame frame)
{
    addresses_learn(addresses, frame.data, frame.len);
}

static void received(Addresses *addresses, Frame frame)
{
    addresses_received(addresses, frame.data, frame.len);
}

/* ---- Tests ---- */

static void test_knows_its_own(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    assert_announces(addresses, "rarp:5201");
    addresses_free(NULL);
}

static void test_learns_ipv4(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, arp(own, -1, 0x0a000001));
    assert_announces(addresses, "rarp:5201 arp:5201=a000001");
    learn(addresses, arp(own, -1, 0x0a000001)); /* once is enough */
    learn(addresses, arp(own, -1, 0x0a000002));
    assert_announces(addresses, "rarp:5201 arp:5201=a000002 arp:5201=a000001");
}

static void test_learns_in_vlans(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, arp(own, 7, 0x0a000001));
    learn(addresses, nd(own, 8, NA, 1, 1, FALSE));
    assert_announces(addresses, "rarp:5201 rarp@8:5201 rarp@7:5201 na@8:5201=1 arp@7:5201=a000001");
}

static void test_learns_other_macs(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, arp(other, -1, 0x0a000001));
    assert_announces(addresses, "rarp:5201 rarp:5202 arp:5202=a000001");
}

static void test_learns_ipv6(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, nd(own, -1, NS, 1, 0x99, FALSE)); /* its source, not what it asks for */
    learn(addresses, nd(own, -1, NS, 0, 2, FALSE));    /* duplicate detection: the target */
    learn(addresses, nd(own, -1, NA, 3, 3, FALSE));
    assert_announces(addresses, "rarp:5201 na:5201=3 na:5201=2 na:5201=1");
}

/* A router that is announced as none is dropped from the hosts' lists. */
static void test_keeps_the_router_flag(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, nd(own, -1, NS, 1, 0x99, FALSE));
    learn(addresses, nd(own, -1, RA, 2, 0, FALSE));
    assert_announces(addresses, "rarp:5201 na:5201=2r na:5201=1r");
    learn(addresses, nd(own, -1, NS, 1, 0x99, FALSE)); /* says nothing of it */
    assert_announces(addresses, "rarp:5201 na:5201=1r na:5201=2r");
    learn(addresses, nd(own, -1, NA, 1, 1, FALSE)); /* no longer a router */
    assert_announces(addresses, "rarp:5201 na:5201=1 na:5201=2");
    learn(addresses, nd(own, -1, NA, 1, 1, TRUE));
    assert_announces(addresses, "rarp:5201 na:5201=1r na:5201=2r");
}

static void test_ignores_what_is_not_its_own(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    Frame frame = arp(own, -1, 0); /* a probe */
    learn(addresses, frame);
    learn(addresses, arp(own, -1, 0xe0000001)); /* multicast */
    frame = arp(own, -1, 0x0a000001);
    memcpy(frame.data + HEADER + 14 + 8, other, 6); /* for somebody else */
    learn(addresses, frame);
    frame = arp(own, -1, 0x0a000001);
    frame.data[HEADER + 14 + 1] = 6; /* not Ethernet */
    learn(addresses, frame);
    frame = nd(own, -1, NA, 1, 1, FALSE);
    frame.data[HEADER + 14 + 7] = 64; /* came through a router: forged */
    learn(addresses, frame);
    frame = nd(own, -1, NA, 1, 1, FALSE);
    frame.data[HEADER + 14 + 40] = 128; /* an echo request: routed packets look like this */
    learn(addresses, frame);
    frame = nd(own, -1, NA, 1, 1, FALSE);
    frame.data[HEADER + 14 + 48] = 0xff; /* multicast */
    learn(addresses, frame);
    guint8 *ip = begin(&frame, own, -1, 0x0800, 40); /* a routed packet */
    ip[0] = 0x45;
    colo_put_be32(ip + 12, 0x08080808);
    learn(addresses, frame);
    learn(addresses, arp(everybody, -1, 0x0a000001)); /* no host's MAC */
    learn(addresses, arp((const guint8[6]){0}, -1, 0x0a000001));
    assert_announces(addresses, "rarp:5201");
}

static void test_ignores_truncated(void)
{
    const Frame whole[] = {arp(own, -1, 0x0a000001), arp(own, 5, 0x0a000001),
                           nd(own, -1, NA, 1, 1, FALSE), nd(own, 5, NS, 1, 1, FALSE),
                           nd(own, 5, RA, 1, 0, FALSE)};
    for (gsize i = 0; i < G_N_ELEMENTS(whole); i++) {
        g_autoptr(Addresses) addresses = addresses_new(own);
        for (gsize len = 0; len < whole[i].len; len++) {
            g_autofree guint8 *exact = g_memdup2(whole[i].data, len); /* for the sanitizers */
            addresses_learn(addresses, exact, len);
            g_autoptr(GString) got = g_string_new(NULL);
            addresses_announce(addresses, describe, got);
            g_assert_null(strchr(got->str, '='));
        }
        addresses_learn(addresses, whole[i].data, whole[i].len);
        g_autoptr(GString) got = g_string_new(NULL);
        addresses_announce(addresses, describe, got);
        g_assert_nonnull(strchr(got->str, '='));
    }
}

/* An address that another host has taken over must not be stolen back. */
static void test_forgets_what_others_have(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, arp(own, -1, 0x0a000001));
    learn(addresses, arp(own, -1, 0x0a000002));
    learn(addresses, nd(own, -1, NA, 1, 1, FALSE));
    received(addresses, arp(other, -1, 0x0a000003));
    received(addresses, arp(other, 9, 0x0a000001));      /* in another VLAN */
    received(addresses, arp(own, -1, 0x0a000001));       /* our own, mirrored back */
    received(addresses, nd(other, -1, NS, 2, 1, FALSE)); /* asks for it only */
    assert_announces(addresses, "rarp:5201 na:5201=1 arp:5201=a000002 arp:5201=a000001");
    received(addresses, arp(other, -1, 0x0a000001));
    received(addresses, nd(other, -1, NA, 1, 1, FALSE));
    assert_announces(addresses, "rarp:5201 arp:5201=a000002");
    learn(addresses, arp(own, -1, 0x0a000001)); /* and it came back */
    assert_announces(addresses, "rarp:5201 arp:5201=a000001 arp:5201=a000002");
}

/* An address that moves between the guest's own MACs (a bond, a bridge) is announced once. */
static void test_one_owner(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    learn(addresses, arp(own, -1, 0x0a000001));
    learn(addresses, arp(other, -1, 0x0a000001));
    assert_announces(addresses, "rarp:5201 rarp:5202 arp:5202=a000001");
}

static void test_bounded(void)
{
    g_autoptr(Addresses) addresses = addresses_new(own);
    g_autoptr(GString) got = g_string_new(NULL);
    for (guint32 i = 0; i < 1000; i++)
        learn(addresses, arp(own, -1, 0x0a000001 + i));
    addresses_announce(addresses, describe, got);
    g_assert_true(g_str_has_prefix(got->str, "rarp:5201 arp:5201=a0003e8 arp:5201=a0003e7 "));
    g_assert_null(strstr(got->str, "=a000001 "));
    g_auto(GStrv) words = g_strsplit(got->str, " ", -1);
    g_assert_cmpuint(g_strv_length(words), ==, 64);
}

/* ---- To the peer and back ---- */

static Addresses *full_of_everything(void)
{
    Addresses *addresses = addresses_new(own);
    learn(addresses, nd(own, -1, RA, 2, 0, FALSE));
    learn(addresses, arp(own, 4095, 0x0a000002));
    learn(addresses, arp(other, 0, 0x0a000001));
    return addresses;
}

static const char everything[] =
    "rarp:5201 rarp@0:5202 rarp@4095:5201 arp@0:5202=a000001 arp@4095:5201=a000002 na:5201=2r";

static void test_serialise_and_merge(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Addresses) addresses = full_of_everything();
    g_autoptr(Addresses) peer = addresses_new(own);
    g_autoptr(GBytes) bytes = addresses_serialise(addresses);
    g_autoptr(GBytes) none = addresses_serialise(peer);

    assert_announces(addresses, everything);
    g_assert_true(addresses_merge(peer, bytes, &error));
    g_assert_true(addresses_merge(peer, bytes, &error));
    g_assert_true(addresses_merge(peer, none, &error));
    g_assert_no_error(error);
    assert_announces(peer, everything);
    g_autoptr(GBytes) again = addresses_serialise(peer);
    g_assert_true(g_bytes_equal(bytes, again));
}

static void assert_refused(const guint8 *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Addresses) addresses = addresses_new(own);
    g_autofree guint8 *exact = g_memdup2(data, len);
    g_autoptr(GBytes) bytes = g_bytes_new_static(exact, len);
    g_assert_false(addresses_merge(addresses, bytes, &error));
    g_assert_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_FRAME);
    assert_announces(addresses, "rarp:5201"); /* all or nothing */
}

static void test_merge_refuses(void)
{
    g_autoptr(Addresses) addresses = full_of_everything();
    g_autoptr(GBytes) bytes = addresses_serialise(addresses);
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    static const struct {
        gsize at;
        guint8 value;
    } wrong[] = {
        {0, 2   }, /* version */
        {1, 1   }, /* count */
        {2, 0   },
        {2, 200 },
        {3, 5   }, /* kind */
        {4, 2   }, /* flags */
        {5, 0x10}, /* VLAN */
        {7, 0x53}, /* MAC of a group */
    };

    for (gsize i = 0; i < len; i++)
        assert_refused(data, i);
    guint8 changed[512];
    g_assert_cmpuint(len, <, sizeof(changed));
    memset(changed, 0, sizeof(changed));
    memcpy(changed, data, len);
    assert_refused(changed, len + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        memcpy(changed, data, len);
        changed[wrong[i].at] = wrong[i].value;
        assert_refused(changed, len);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/addresses/knows-its-own", test_knows_its_own);
    g_test_add_func("/addresses/learns-ipv4", test_learns_ipv4);
    g_test_add_func("/addresses/learns-in-vlans", test_learns_in_vlans);
    g_test_add_func("/addresses/learns-other-macs", test_learns_other_macs);
    g_test_add_func("/addresses/learns-ipv6", test_learns_ipv6);
    g_test_add_func("/addresses/keeps-the-router-flag", test_keeps_the_router_flag);
    g_test_add_func("/addresses/ignores-what-is-not-its-own", test_ignores_what_is_not_its_own);
    g_test_add_func("/addresses/ignores-truncated", test_ignores_truncated);
    g_test_add_func("/addresses/forgets-what-others-have", test_forgets_what_others_have);
    g_test_add_func("/addresses/one-owner", test_one_owner);
    g_test_add_func("/addresses/bounded", test_bounded);
    g_test_add_func("/addresses/serialise-and-merge", test_serialise_and_merge);
    g_test_add_func("/addresses/merge-refuses", test_merge_refuses);
    return g_test_run();
}
