/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames through uplinks on a real bridge, and announcements to it. The whole test runs in a network
 * namespace of its own.
 */
#include <glib.h>
#include <net/if.h>
#include <string.h>

#include "common/endian.h"
#include "tests/support/command.h"
#include "tests/support/uplink-hosts.h"

/* ---- Frames ---- */

static void test_both_ways(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpstr(uplink_ifname(f->a.uplink), ==, "upa");
    g_assert_cmpstr(uplink_ifname(f->b.uplink), ==, "upb0");
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_open(f->b.uplink); /* again: nothing happens */
    for (guint32 i = 0; i < 300; i++) {
        uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, i);
        uplink_host_send(&f->b, uplink_hosts_mac_a, uplink_hosts_mac_b, 1000 + i);
    }
    uplink_host_wait(&f->a, 300);
    uplink_host_wait(&f->b, 300);
    for (guint i = 0; i < 300; i++) {
        g_assert_cmpuint(uplink_host_number(&f->b, i), ==, i);
        g_assert_cmpuint(uplink_host_number(&f->a, i), ==, 1000 + i);
    }
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_frames, ==, 300);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_bytes, ==, 300 * 60);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_dropped, ==, 0);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->input_frames, >=, 300);
}

/* Nothing leaves or comes before it is open, nor after it is closed, nor later on. */
static void test_silent(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    for (int round = 0; round < 3; round++) {
        guint seen_a = f->a.got->len, seen_b = f->b.got->len;
        uplink_host_send(&f->b, uplink_hosts_mac_all, uplink_hosts_mac_b, 666);
        uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 666);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        uplink_open(f->b.uplink);
        uplink_host_send(&f->b, uplink_hosts_mac_all, uplink_hosts_mac_b, 1);
        uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 2);
        uplink_host_wait(&f->a, seen_a + 1);
        uplink_host_wait(&f->b, seen_b + 1);
        g_assert_cmpuint(uplink_host_number(&f->a, seen_a), ==, 1);
        g_assert_cmpuint(uplink_host_number(&f->b, seen_b), ==, 2);
        uplink_close(f->b.uplink);
    }
}

/* What a silent tap has sent by the kernel's count: packets received from it. */
static void test_emits_nothing_of_its_own(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 2; i++) {
        g_autofree char *out = command_output("ip -j -s link show dev %s",
                                              uplink_ifname(i ? f->b.uplink : f->a.uplink));
        g_assert_nonnull(strstr(out, "\"rx\":{\"bytes\":0,\"packets\":0,"));
    }
    g_autofree char *addresses = command_output("ip -6 addr show dev upa");
    g_assert_cmpstr(addresses, ==, "");
}

/* TCP over IPv4, `payload` bytes as one super-frame to be cut by the kernel or the next guest. */
static gsize make_super_frame(guint8 *out, gsize payload)
{
    guint8 *ip = out + UPLINK_HOSTS_HEADER + 14, *tcp = ip + 20;
    gsize ip_bytes = 40 + payload;

    memset(out, 0, UPLINK_HOSTS_HEADER + 54);
    out[0] = 1; /* NEEDS_CSUM */
    out[1] = 1; /* GSO_TCPV4 */
    out[2] = 54;
    out[4] = 1448 & 0xff;
    out[5] = 1448 >> 8;
    out[6] = 34;
    out[8] = 16;
    memcpy(out + UPLINK_HOSTS_HEADER, uplink_hosts_mac_b, 6);
    memcpy(out + UPLINK_HOSTS_HEADER + 6, uplink_hosts_mac_a, 6);
    colo_put_be16(out + UPLINK_HOSTS_HEADER + 12, 0x0800);
    ip[0] = 0x45;
    colo_put_be16(ip + 2, (guint16)ip_bytes);
    ip[8] = 64;
    ip[9] = 6;
    colo_put_be32(ip + 12, 0x0a090001);
    colo_put_be32(ip + 16, 0x0a090002);
    guint32 sum = 0x4500 + (guint32)ip_bytes + 0x4006 + 0x0a09 + 1 + 0x0a09 + 2;
    colo_put_be16(ip + 10, (guint16) ~((sum & 0xffff) + (sum >> 16)));
    colo_put_be16(tcp, 1);
    colo_put_be16(tcp + 2, 2);
    tcp[12] = 0x50;
    tcp[13] = 0x10;
    sum = 0x0a09 + 1 + 0x0a09 + 2 + 6 + 20 + (guint32)payload;
    colo_put_be16(tcp + 16, (guint16)((sum & 0xffff) + (sum >> 16)));
    for (gsize i = 0; i < payload; i++)
        tcp[20 + i] = (guint8)(i * 7);
    return UPLINK_HOSTS_HEADER + 14 + ip_bytes;
}

static void test_super_frame(UplinkHosts *f, gconstpointer data)
{
    g_autofree guint8 *frame = g_malloc(NETCOMPARE_FRAME_MAX_BYTES);
    /* The longest that the kernel passes on whole: less than 65536 with its Ethernet header. */
    gsize len = make_super_frame(frame, 65535 - 54), got;
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_send(f->a.uplink, frame, len);
    uplink_host_wait(&f->b, 1);
    const guint8 *whole = g_bytes_get_data(g_ptr_array_index(f->b.got, 0), &got);
    g_assert_cmpmem(whole, got, frame, len); /* its virtio-net header too */
}

static guint16 tcp_sum(const guint8 *ip)
{
    guint16 len = (guint16)(colo_get_be16(ip + 2) - 20);
    guint64 sum = 6u + len;
    for (gsize i = 12; i < 20; i += 2)
        sum += colo_get_be16(ip + i);
    for (gsize i = 0; i + 1 < len; i += 2)
        sum += colo_get_be16(ip + 20 + i);
    if (len % 2)
        sum += (guint16)(ip[20 + len - 1] << 8);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)sum;
}

/* For a card without offloads the kernel cuts it up and finishes the checksums. */
static void test_without_offloads(UplinkHosts *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *frame = g_malloc(NETCOMPARE_FRAME_MAX_BYTES);
    gsize payload = 20000, len = make_super_frame(frame, payload);
    (void)data;
    g_assert_true(uplink_set_offloads(f->b.uplink, FALSE, &error));
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_send(f->a.uplink, frame, len);
    guint count = (guint)((payload + 1447) / 1448);
    uplink_host_wait(&f->b, count);
    gsize seen = 0;
    for (guint i = 0; i < count; i++) {
        gsize got;
        const guint8 *part = g_bytes_get_data(g_ptr_array_index(f->b.got, i), &got);
        gsize bytes = MIN(payload - seen, (gsize)1448);
        g_assert_cmpuint(part[0] & 1, ==, 0); /* NEEDS_CSUM */
        g_assert_cmpuint(part[1], ==, 0);
        g_assert_cmpuint(got, ==, UPLINK_HOSTS_HEADER + 54 + bytes);
        g_assert_cmpmem(part + UPLINK_HOSTS_HEADER + 54, bytes,
                        frame + UPLINK_HOSTS_HEADER + 54 + seen, bytes);
        g_assert_cmphex(tcp_sum(part + UPLINK_HOSTS_HEADER + 14), ==, 0xffff);
        seen += bytes;
    }
}

/* What a guest writes into its header is the kernel's to check; here it is counted. */
static void test_nonsense_is_dropped(UplinkHosts *f, gconstpointer data)
{
    guint8 frame[UPLINK_HOSTS_HEADER + 60];
    gsize len = uplink_hosts_make_frame(frame, uplink_hosts_mac_all, uplink_hosts_mac_a, 1);
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_send(f->a.uplink, frame, 5);
    uplink_send(f->a.uplink, frame, UPLINK_HOSTS_HEADER + 3);
    frame[1] = 99; /* no such kind of super-frame */
    uplink_send(f->a.uplink, frame, len);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_dropped, ==, 3);
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 2);
    uplink_host_wait(&f->b, 1);
    g_assert_cmpuint(uplink_host_number(&f->b, 0), ==, 2);
    g_assert_cmpuint(f->a.failures, ==, 0);
}

static void test_free_in_input(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    f->b.free_in_input = TRUE;
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 1);
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 2);
    while (f->b.uplink != NULL)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(f->b.got->len, ==, 1);
    g_assert_cmpuint(if_nametoindex("upb0"), ==, 0);
}

/* ---- Announcements ---- */

static void send_to_uplink(const guint8 *data, gsize len, gpointer user_data)
{
    uplink_send(user_data, data, len);
}

/* The guest's frames, as it would send them on the primary. */
static gsize make_arp(guint8 *out)
{
    uplink_hosts_make_frame(out, uplink_hosts_mac_all, uplink_hosts_mac_a, 0);
    guint8 *arp = out + UPLINK_HOSTS_HEADER + 14;
    colo_put_be16(arp - 2, 0x0806);
    memcpy(arp, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(arp + 8, uplink_hosts_mac_a, 6);
    colo_put_be32(arp + 14, 0x0a090002);
    colo_put_be32(arp + 24, 0x0a090001);
    return UPLINK_HOSTS_HEADER + 60;
}

/* A neighbour advertisement for fd00:9::2; only to be learned from, so without a checksum. */
static gsize make_advertisement(guint8 *out)
{
    memset(out, 0, UPLINK_HOSTS_HEADER + 14 + 72);
    uplink_hosts_make_frame(out, uplink_hosts_mac_b, uplink_hosts_mac_a, 0);
    guint8 *ip = out + UPLINK_HOSTS_HEADER + 14;
    colo_put_be16(ip - 2, 0x86dd);
    memcpy(ip, "\x60\0\0\0\0\x20\x3a\xff", 8);
    memcpy(ip + 8, "\xfd\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\2", 16);
    ip[40] = 136;
    memcpy(ip + 48, ip + 8, 16);
    return UPLINK_HOSTS_HEADER + 14 + 72;
}

/* The bridge learns the port, and its IP stack, with entries that are wrong, the MAC. */
static void test_announcements(UplinkHosts *f, gconstpointer data)
{
    guint8 frame[UPLINK_HOSTS_HEADER + 128];
    g_autoptr(Addresses) addresses = addresses_new(uplink_hosts_mac_a);
    (void)data;

    command_run("ip addr add 10.9.0.1/24 dev br0");
    command_run("ip addr add fd00:9::1/64 dev br0 nodad");
    command_run("ip neigh replace 10.9.0.2 lladdr 52:54:00:00:00:99 dev br0 nud stale");
    command_run("ip neigh replace fd00:9::2 lladdr 52:54:00:00:00:99 dev br0 nud stale");
    addresses_learn(addresses, frame, make_arp(frame));
    addresses_learn(addresses, frame, make_advertisement(frame));

    /* Before: the guest's MAC is behind upa. */
    uplink_open(f->a.uplink);
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 1);
    command_wait_for("bridge fdb show br br0", "52:54:00:00:00:0a dev upa ");
    uplink_close(f->a.uplink);

    addresses_announce(addresses, send_to_uplink, f->b.uplink); /* silent: nobody hears it */
    g_autofree char *fdb = command_output("bridge fdb show br br0");
    g_assert_nonnull(strstr(fdb, "52:54:00:00:00:0a dev upa "));

    uplink_open(f->b.uplink);
    addresses_announce(addresses, send_to_uplink, f->b.uplink);
    command_wait_for("bridge fdb show br br0", "52:54:00:00:00:0a dev upb0 ");
    command_wait_for("ip neigh show 10.9.0.2 dev br0", "52:54:00:00:00:0a");
    command_wait_for("ip neigh show fd00:9::2 dev br0", "52:54:00:00:00:0a");
}

#define ADD(name, func)                                                                            \
    g_test_add("/uplink/" name, UplinkHosts, NULL, uplink_hosts_setup, func, uplink_hosts_teardown)

int main(int argc, char **argv)
{
    const char *why = uplink_hosts_missing();
    if (why != NULL) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    ADD("both-ways", test_both_ways);
    ADD("silent", test_silent);
    ADD("emits-nothing-of-its-own", test_emits_nothing_of_its_own);
    ADD("super-frame", test_super_frame);
    ADD("without-offloads", test_without_offloads);
    ADD("nonsense-is-dropped", test_nonsense_is_dropped);
    ADD("free-in-input", test_free_in_input);
    ADD("announcements", test_announcements);
    return g_test_run();
}
