/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uplinks on a real bridge. The whole test runs in a network namespace of its own that has no name
 * and ends with it. Children that need a worse world (fewer rights, no /dev/net/tun) make it for
 * themselves. Two uplinks on one bridge are each other's network; the bridge's own IP stack is a
 * third host.
 */
#include <errno.h>
#include <glib.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/endian.h"
#include "netcompare/netcompare.h"

#define HEADER         NETCOMPARE_VNET_HDR_BYTES
#define TEST_ETHERTYPE 0x88b5 /* for experiments: whatever else is on the bridge is not ours */

static const guint8 mac_a[6] = {0x52, 0x54, 0, 0, 0, 0xa};
static const guint8 mac_b[6] = {0x52, 0x54, 0, 0, 0, 0xb};
static const guint8 everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* ---- Commands ---- */

/* Runs a command line and returns what it prints; it must succeed. */
static char *run(const char *format, ...) G_GNUC_PRINTF(1, 2);

static char *run(const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    char *out = NULL;
    int status = -1;
    g_spawn_command_line_sync(command, &out, NULL, &status, &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("'%s' failed", command);
    return out;
}

static void sh(const char *format, ...) G_GNUC_PRINTF(1, 2);

static void sh(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    g_free(run("%s", command));
}

/* Waits until a command's output has `text` in it; the runner's time limit ends a hopeless wait. */
static void wait_for_output(const char *command, const char *text)
{
    for (;;) {
        g_autofree char *out = run("%s", command);
        if (strstr(out, text) != NULL)
            return;
    }
}

/* ---- An uplink and what came through it ---- */

typedef struct {
    Uplink *uplink;
    GPtrArray *got; /* of GBytes*: frames of TEST_ETHERTYPE or those to mac_a, mac_b */
    GError *error;
    unsigned failures;
    gboolean free_in_input;
} Host;

static gboolean is_ours(const guint8 *data)
{
    const guint8 *frame = data + HEADER;
    return colo_get_be16(frame + 12) == TEST_ETHERTYPE || memcmp(frame, mac_a, 6) == 0 ||
           memcmp(frame, mac_b, 6) == 0;
}

static void on_input(const guint8 *data, gsize len, gpointer user_data)
{
    Host *host = user_data;
    g_assert_cmpuint(len, >=, HEADER + 14);
    if (!is_ours(data))
        return;
    g_ptr_array_add(host->got, g_bytes_new(data, len));
    if (host->free_in_input)
        g_clear_pointer(&host->uplink, uplink_free);
}

static void on_failed(const GError *error, gpointer user_data)
{
    Host *host = user_data;
    host->failures++;
    g_clear_error(&host->error);
    host->error = g_error_copy(error);
}

static void host_init(Host *host, const char *ifname)
{
    g_autoptr(GError) error = NULL;
    *host = (Host){.got = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref)};
    host->uplink = uplink_new(ifname, "br0", on_input, on_failed, host, &error);
    g_assert_no_error(error);
}

static void host_clear(Host *host)
{
    uplink_free(host->uplink);
    g_ptr_array_unref(host->got);
    g_clear_error(&host->error);
}

typedef struct {
    Host a, b;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    (void)data;
    sh("ip link add br0 type bridge mcast_snooping 0");
    sh("ip link set br0 up");
    host_init(&f->a, "upa");
    host_init(&f->b, "upb%d");
}

static void teardown(Fixture *f, gconstpointer data)
{
    (void)data;
    host_clear(&f->a);
    host_clear(&f->b);
    sh("ip link del br0");
}

/* Writes a frame with a number in it. Length with the header. */
static gsize make_frame(guint8 *out, const guint8 to[6], const guint8 from[6], guint32 number)
{
    memset(out, 0, HEADER + 60);
    memcpy(out + HEADER, to, 6);
    memcpy(out + HEADER + 6, from, 6);
    colo_put_be16(out + HEADER + 12, TEST_ETHERTYPE);
    colo_put_be32(out + HEADER + 14, number);
    return HEADER + 60;
}

static void send_number(Host *host, const guint8 to[6], const guint8 from[6], guint32 number)
{
    guint8 frame[HEADER + 60];
    gsize len = make_frame(frame, to, from, number);
    uplink_send(host->uplink, frame, len);
}

static void wait_for_frames(Host *host, guint count)
{
    while (host->got->len < count)
        g_main_context_iteration(NULL, TRUE);
}

static guint32 number_at(Host *host, guint index)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(g_ptr_array_index(host->got, index), &len);
    g_assert_cmpuint(len, >=, HEADER + 18);
    return colo_get_be32(data + HEADER + 14);
}

/* ---- Frames ---- */

static void test_both_ways(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpstr(uplink_ifname(f->a.uplink), ==, "upa");
    g_assert_cmpstr(uplink_ifname(f->b.uplink), ==, "upb0");
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_open(f->b.uplink); /* again: nothing happens */
    for (guint32 i = 0; i < 300; i++) {
        send_number(&f->a, everybody, mac_a, i);
        send_number(&f->b, mac_a, mac_b, 1000 + i);
    }
    wait_for_frames(&f->a, 300);
    wait_for_frames(&f->b, 300);
    for (guint i = 0; i < 300; i++) {
        g_assert_cmpuint(number_at(&f->b, i), ==, i);
        g_assert_cmpuint(number_at(&f->a, i), ==, 1000 + i);
    }
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_frames, ==, 300);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_bytes, ==, 300 * 60);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_dropped, ==, 0);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->input_frames, >=, 300);
}

/* Nothing leaves or comes before it is open, nor after it is closed, nor later on. */
static void test_silent(Fixture *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    for (int round = 0; round < 3; round++) {
        guint seen_a = f->a.got->len, seen_b = f->b.got->len;
        send_number(&f->b, everybody, mac_b, 666);
        send_number(&f->a, everybody, mac_a, 666);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        uplink_open(f->b.uplink);
        send_number(&f->b, everybody, mac_b, 1);
        send_number(&f->a, everybody, mac_a, 2);
        wait_for_frames(&f->a, seen_a + 1);
        wait_for_frames(&f->b, seen_b + 1);
        g_assert_cmpuint(number_at(&f->a, seen_a), ==, 1);
        g_assert_cmpuint(number_at(&f->b, seen_b), ==, 2);
        uplink_close(f->b.uplink);
    }
}

/* What a silent tap has sent by the kernel's count: packets received from it. */
static void test_emits_nothing_of_its_own(Fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 2; i++) {
        g_autofree char *out =
            run("ip -j -s link show dev %s", uplink_ifname(i ? f->b.uplink : f->a.uplink));
        g_assert_nonnull(strstr(out, "\"rx\":{\"bytes\":0,\"packets\":0,"));
    }
    g_autofree char *addresses = run("ip -6 addr show dev upa");
    g_assert_cmpstr(addresses, ==, "");
}

/* TCP over IPv4, `payload` bytes as one super-frame to be cut by the kernel or the next guest. */
static gsize make_super_frame(guint8 *out, gsize payload)
{
    guint8 *ip = out + HEADER + 14, *tcp = ip + 20;
    gsize ip_bytes = 40 + payload;

    memset(out, 0, HEADER + 54);
    out[0] = 1; /* NEEDS_CSUM */
    out[1] = 1; /* GSO_TCPV4 */
    out[2] = 54;
    out[4] = 1448 & 0xff;
    out[5] = 1448 >> 8;
    out[6] = 34;
    out[8] = 16;
    memcpy(out + HEADER, mac_b, 6);
    memcpy(out + HEADER + 6, mac_a, 6);
    colo_put_be16(out + HEADER + 12, 0x0800);
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
    return HEADER + 14 + ip_bytes;
}

static void test_super_frame(Fixture *f, gconstpointer data)
{
    g_autofree guint8 *frame = g_malloc(NETCOMPARE_FRAME_MAX_BYTES);
    /* The longest that the kernel passes on whole: less than 65536 with its Ethernet header. */
    gsize len = make_super_frame(frame, 65535 - 54), got;
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_send(f->a.uplink, frame, len);
    wait_for_frames(&f->b, 1);
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
static void test_without_offloads(Fixture *f, gconstpointer data)
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
    wait_for_frames(&f->b, count);
    gsize seen = 0;
    for (guint i = 0; i < count; i++) {
        gsize got;
        const guint8 *part = g_bytes_get_data(g_ptr_array_index(f->b.got, i), &got);
        gsize bytes = MIN(payload - seen, (gsize)1448);
        g_assert_cmpuint(part[0] & 1, ==, 0); /* NEEDS_CSUM */
        g_assert_cmpuint(part[1], ==, 0);
        g_assert_cmpuint(got, ==, HEADER + 54 + bytes);
        g_assert_cmpmem(part + HEADER + 54, bytes, frame + HEADER + 54 + seen, bytes);
        g_assert_cmphex(tcp_sum(part + HEADER + 14), ==, 0xffff);
        seen += bytes;
    }
}

/* What a guest writes into its header is the kernel's to check; here it is counted. */
static void test_nonsense_is_dropped(Fixture *f, gconstpointer data)
{
    guint8 frame[HEADER + 60];
    gsize len = make_frame(frame, everybody, mac_a, 1);
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_send(f->a.uplink, frame, 5);
    uplink_send(f->a.uplink, frame, HEADER + 3);
    frame[1] = 99; /* no such kind of super-frame */
    uplink_send(f->a.uplink, frame, len);
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_dropped, ==, 3);
    send_number(&f->a, everybody, mac_a, 2);
    wait_for_frames(&f->b, 1);
    g_assert_cmpuint(number_at(&f->b, 0), ==, 2);
    g_assert_cmpuint(f->a.failures, ==, 0);
}

static void test_free_in_input(Fixture *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    f->b.free_in_input = TRUE;
    send_number(&f->a, everybody, mac_a, 1);
    send_number(&f->a, everybody, mac_a, 2);
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
    make_frame(out, everybody, mac_a, 0);
    guint8 *arp = out + HEADER + 14;
    colo_put_be16(arp - 2, 0x0806);
    memcpy(arp, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(arp + 8, mac_a, 6);
    colo_put_be32(arp + 14, 0x0a090002);
    colo_put_be32(arp + 24, 0x0a090001);
    return HEADER + 60;
}

/* A neighbour advertisement for fd00:9::2; only to be learned from, so without a checksum. */
static gsize make_advertisement(guint8 *out)
{
    memset(out, 0, HEADER + 14 + 72);
    make_frame(out, mac_b, mac_a, 0);
    guint8 *ip = out + HEADER + 14;
    colo_put_be16(ip - 2, 0x86dd);
    memcpy(ip, "\x60\0\0\0\0\x20\x3a\xff", 8);
    memcpy(ip + 8, "\xfd\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\2", 16);
    ip[40] = 136;
    memcpy(ip + 48, ip + 8, 16);
    return HEADER + 14 + 72;
}

/* The bridge learns the port, and its IP stack, with entries that are wrong, the MAC. */
static void test_announcements(Fixture *f, gconstpointer data)
{
    guint8 frame[HEADER + 128];
    g_autoptr(Addresses) addresses = addresses_new(mac_a);
    (void)data;

    sh("ip addr add 10.9.0.1/24 dev br0");
    sh("ip addr add fd00:9::1/64 dev br0 nodad");
    sh("ip neigh replace 10.9.0.2 lladdr 52:54:00:00:00:99 dev br0 nud stale");
    sh("ip neigh replace fd00:9::2 lladdr 52:54:00:00:00:99 dev br0 nud stale");
    addresses_learn(addresses, frame, make_arp(frame));
    addresses_learn(addresses, frame, make_advertisement(frame));

    /* Before: the guest's MAC is behind upa. */
    uplink_open(f->a.uplink);
    send_number(&f->a, everybody, mac_a, 1);
    wait_for_output("bridge fdb show br br0", "52:54:00:00:00:0a dev upa ");
    uplink_close(f->a.uplink);

    addresses_announce(addresses, send_to_uplink, f->b.uplink); /* silent: nobody hears it */
    g_autofree char *fdb = run("bridge fdb show br br0");
    g_assert_nonnull(strstr(fdb, "52:54:00:00:00:0a dev upa "));

    uplink_open(f->b.uplink);
    addresses_announce(addresses, send_to_uplink, f->b.uplink);
    wait_for_output("bridge fdb show br br0", "52:54:00:00:00:0a dev upb0 ");
    wait_for_output("ip neigh show 10.9.0.2 dev br0", "52:54:00:00:00:0a");
    wait_for_output("ip neigh show fd00:9::2 dev br0", "52:54:00:00:00:0a");
}

/* ---- The interface ---- */

static void test_gone_after_free(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(if_nametoindex("upa"), !=, 0);
    g_clear_pointer(&f->a.uplink, uplink_free);
    g_assert_cmpuint(if_nametoindex("upa"), ==, 0);
    uplink_free(NULL);
}

static void test_gone_after_sigkill(Fixture *f, gconstpointer data)
{
    int ready[2];
    char byte;
    (void)f;
    (void)data;
    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        Uplink *uplink = uplink_new("upc", "br0", on_input, on_failed, NULL, NULL);
        if (uplink != NULL && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    g_assert_cmpuint(if_nametoindex("upc"), !=, 0);
    kill(child, SIGKILL);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    g_assert_cmpuint(if_nametoindex("upc"), ==, 0);
}

static void test_deleted_by_somebody(Fixture *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    sh("ip link del upa");
    while (f->a.failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->a.error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_CLOSED);
    g_assert_nonnull(strstr(f->a.error->message, "upa"));
    send_number(&f->a, everybody, mac_a, 1);
    uplink_open(f->a.uplink);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    g_assert_cmpuint(f->a.failures, ==, 1);
}

static void test_keeps_the_bridges_address(Fixture *f, gconstpointer data)
{
    (void)data;
    (void)f;
    g_autoptr(GError) error = NULL;
    sh("ip tuntap add dev dum0 mode tap");
    sh("ip link set dum0 address f6:00:00:00:00:01");
    sh("ip link set dum0 master br0");
    Uplink *uplink = uplink_new("upc", "br0", on_input, on_failed, NULL, &error);
    g_assert_no_error(error);
    g_autofree char *bridge = run("ip -o link show dev br0");
    g_assert_nonnull(strstr(bridge, "link/ether f6:00:00:00:00:01"));
    uplink_free(uplink);
    sh("ip link del dum0");
}

static void test_without_bridge(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    g_autoptr(GError) error = NULL;
    g_autoptr(Uplink) uplink = uplink_new("upc", NULL, on_input, on_failed, NULL, &error);
    g_assert_no_error(error);
    g_autofree char *flags = run("ip -o link show upc");
    g_assert_nonnull(strstr(flags, "UP"));
    g_assert_null(strstr(flags, "master"));
}

/* ---- Errors ---- */

static void assert_error(const char *ifname, const char *bridge, NetcompareError code,
                         const char *says)
{
    g_autoptr(GError) error = NULL;
    Uplink *uplink = uplink_new(ifname, bridge, on_input, on_failed, NULL, &error);
    g_assert_null(uplink);
    g_assert_error(error, NETCOMPARE_ERROR, (int)code);
    if (strstr(error->message, says) == NULL)
        g_error("'%s' doesn't say '%s'", error->message, says);
}

static void test_bad_names(Fixture *f, gconstpointer data)
{
    static const char *const bad[] = {"", "sixteen-letters-", "a/b", "a b", "a:b", ".", ".."};
    (void)f;
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_error(bad[i], "br0", NETCOMPARE_ERROR_TAP, "not a name");
    assert_error("a%s", "br0", NETCOMPARE_ERROR_TAP, "pattern");
    assert_error("a%d%d", "br0", NETCOMPARE_ERROR_TAP, "pattern");
    assert_error("a%", "br0", NETCOMPARE_ERROR_TAP, "pattern");
}

static void test_name_taken(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    assert_error("upa", "br0", NETCOMPARE_ERROR_TAP, "tap 'upa': the name is taken");
    assert_error("br0", "br0", NETCOMPARE_ERROR_TAP, "tap 'br0': the name is taken");
    sh("ip tuntap add dev tap9 mode tap"); /* persistent and unused: it could be joined */
    assert_error("tap9", "br0", NETCOMPARE_ERROR_TAP, "tap 'tap9': the name is taken");
    sh("ip link del tap9");
}

static void test_bad_bridges(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    assert_error("upc", "br9", NETCOMPARE_ERROR_BRIDGE, "bridge 'br9': there is no such interface");
    assert_error("upc", "lo", NETCOMPARE_ERROR_BRIDGE, "bridge 'lo': is no bridge");
    assert_error("upc", "upa", NETCOMPARE_ERROR_BRIDGE, "an interface of type tun");
    g_assert_cmpuint(if_nametoindex("upc"), ==, 0);
}

/* Runs `worsen`, then assert_error(), in a child with mounts of its own. */
static void in_a_worse_world(void (*worsen)(void), NetcompareError code, const char *says)
{
    pid_t child = fork();
    if (child == 0) {
        worsen();
        assert_error("upc", "br0", code, says);
        _exit(0);
    }
    int status;
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void drop_net_admin(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    g_assert_cmpint(syscall(SYS_capget, &header, caps), ==, 0);
    caps[0].effective &= ~(1u << CAP_NET_ADMIN);
    caps[0].permitted &= ~(1u << CAP_NET_ADMIN);
    g_assert_cmpint(syscall(SYS_capset, &header, caps), ==, 0);
}

static void own_mounts(void)
{
    g_assert_cmpint(unshare(CLONE_NEWNS), ==, 0);
    g_assert_cmpint(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), ==, 0);
}

static void hide_tun_device(void)
{
    own_mounts();
    g_assert_cmpint(mount("none", "/dev/net", "tmpfs", 0, NULL), ==, 0);
}

static void refuse_tun_device(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    own_mounts();
    hide_tun_device();
    g_assert_true(g_file_set_contents("/dev/net/tun", "", 0, NULL));
    g_assert_cmpint(chmod("/dev/net/tun", 0), ==, 0);
    g_assert_cmpint(syscall(SYS_capset, &header, none), ==, 0);
}

static void make_proc_sys_read_only(void)
{
    own_mounts();
    g_assert_cmpint(mount("/proc/sys", "/proc/sys", NULL, MS_BIND, NULL), ==, 0);
    g_assert_cmpint(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), ==, 0);
}

static void test_no_net_admin(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(drop_net_admin, NETCOMPARE_ERROR_PERMISSION, "CAP_NET_ADMIN");
}

static void test_no_tun_device(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(hide_tun_device, NETCOMPARE_ERROR_TAP, "modprobe tun");
}

static void test_no_right_to_tun_device(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(refuse_tun_device, NETCOMPARE_ERROR_PERMISSION, "/dev/net/tun");
}

static void test_proc_sys_read_only(Fixture *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(make_proc_sys_read_only, NETCOMPARE_ERROR_TAP, "disable_ipv6");
}

/* NULL if this machine has all that is needed, else what is missing. */
static const char *missing(void)
{
    if (geteuid() != 0)
        return "needs root";
    if (access("/dev/net/tun", R_OK | W_OK) != 0)
        return "needs /dev/net/tun";
    g_autofree char *ip = g_find_program_in_path("ip"), *bridge = g_find_program_in_path("bridge");
    if (ip == NULL || bridge == NULL)
        return "needs ip and bridge (iproute2)";
    if (unshare(CLONE_NEWNET) != 0)
        return "needs the right to make a network namespace";
    return NULL;
}

#define ADD(name, func) g_test_add("/uplink/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    const char *why = missing();
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
    ADD("gone-after-free", test_gone_after_free);
    ADD("gone-after-sigkill", test_gone_after_sigkill);
    ADD("deleted-by-somebody", test_deleted_by_somebody);
    ADD("keeps-the-bridges-address", test_keeps_the_bridges_address);
    ADD("without-bridge", test_without_bridge);
    ADD("bad-names", test_bad_names);
    ADD("name-taken", test_name_taken);
    ADD("bad-bridges", test_bad_bridges);
    ADD("no-net-admin", test_no_net_admin);
    ADD("no-tun-device", test_no_tun_device);
    ADD("no-right-to-tun-device", test_no_right_to_tun_device);
    ADD("proc-sys-read-only", test_proc_sys_read_only);
    return g_test_run();
}
