/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An uplink on a tap that somebody else has made. All is in a network namespace of the test's own. The
 * bridge and one end of the network are those of the other uplinks' tests.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/command.h"
#include "tests/support/uplink-hosts.h"

#define GOOD (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* In the bridge by the test's hand; host a's uplink is on it then. */
static int give(UplinkHosts *f)
{
    g_autoptr(GError) error = NULL;
    int fd = uplink_hosts_open_tap("given0", GOOD);
    command_run("ip link set given0 address 02:00:00:00:00:07 txqueuelen 77");
    command_run("ip link set given0 master br0 up");
    uplink_free(f->a.uplink);
    f->a.uplink = uplink_host_take(&f->a, duplicate(fd), &error);
    g_assert_no_error(error);
    return fd;
}

static void test_both_ways(UplinkHosts *f, gconstpointer data)
{
    COLO_AUTO_FD fd = give(f);
    (void)data;
    g_assert_cmpstr(uplink_ifname(f->a.uplink), ==, "given0");
    g_assert_cmpint(fcntl(fd, F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
    uplink_open(f->b.uplink);
    /* Closed: nothing leaves, and what comes is not kept. */
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 666);
    uplink_host_send(&f->b, uplink_hosts_mac_all, uplink_hosts_mac_b, 666);
    uplink_open(f->a.uplink);
    for (guint32 i = 0; i < 50; i++) {
        uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, i);
        uplink_host_send(&f->b, uplink_hosts_mac_a, uplink_hosts_mac_b, 1000 + i);
    }
    uplink_host_wait(&f->a, 50);
    uplink_host_wait(&f->b, 50);
    for (guint i = 0; i < 50; i++) {
        g_assert_cmpuint(uplink_host_number(&f->b, i), ==, i);
        g_assert_cmpuint(uplink_host_number(&f->a, i), ==, 1000 + i);
    }
    g_assert_cmpuint(uplink_stats(f->a.uplink)->output_bytes, ==, 50 * 60);
}

/* Address, queue and bridge are as they were; and it outlives the uplink, and serves the next one. */
static void test_left_as_it_is(UplinkHosts *f, gconstpointer data)
{
    COLO_AUTO_FD fd = give(f);
    (void)data;
    g_clear_pointer(&f->a.uplink, uplink_free);
    g_autofree char *shown = command_output("ip -o link show dev given0");
    g_assert_nonnull(strstr(shown, "master br0"));
    g_assert_nonnull(strstr(shown, "qlen 77"));
    g_assert_nonnull(strstr(shown, "link/ether 02:00:00:00:00:07"));
    f->a.uplink = uplink_host_take(&f->a, duplicate(fd), NULL);
    uplink_open(f->a.uplink);
    uplink_open(f->b.uplink);
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 1);
    uplink_host_wait(&f->b, 1);
}

static void test_deleted(UplinkHosts *f, gconstpointer data)
{
    COLO_AUTO_FD fd = give(f);
    (void)data;
    uplink_open(f->a.uplink);
    command_run("ip link del given0");
    while (f->a.failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->a.error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_CLOSED);
    g_assert_nonnull(strstr(f->a.error->message, "tap 'given0': somebody has deleted it"));
}

/* ---- What won't do ---- */

/* `fd` is used up. */
static void assert_refused(UplinkHosts *f, int fd, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("the descriptor 'lan' %s", why);
    g_assert_cmpint(fd, >=, 0);
    g_assert_null(uplink_host_take(&f->a, fd, &error));
    g_assert_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_TAP);
    g_assert_cmpstr(error->message, ==, text);
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
}

static void test_refused(UplinkHosts *f, gconstpointer data)
{
    int ends[2];
    (void)data;
    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    assert_refused(f, ends[0], "is no tap");
    assert_refused(f, ends[1], "is no tap");
    assert_refused(f, open("/dev/net/tun", O_RDWR | O_CLOEXEC),
                   "has no interface: open it with TUNSETIFF");
    assert_refused(f, uplink_hosts_open_tap("given0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR),
                   "is a tun, which has no Ethernet frames: open it with IFF_TAP");
    assert_refused(f, uplink_hosts_open_tap("given0", IFF_TAP | IFF_NO_PI),
                   "has frames without virtio-net headers: open it with IFF_VNET_HDR");
    assert_refused(f, uplink_hosts_open_tap("given0", IFF_TAP | IFF_VNET_HDR),
                   "has frames with packet information: open it with IFF_NO_PI");
}

/* Whatever has its name here. */
static void test_other_namespace(UplinkHosts *f, gconstpointer data)
{
    COLO_AUTO_FD here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)data;
    g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    COLO_AUTO_FD fd = uplink_hosts_open_tap("given0", GOOD);
    g_assert_cmpint(setns(here, CLONE_NEWNET), ==, 0);
    const char *why = "has its interface in another network namespace: run colod in that one";
    assert_refused(f, duplicate(fd), why);
    COLO_AUTO_FD same_name = uplink_hosts_open_tap("given0", GOOD);
    assert_refused(f, duplicate(fd), why);
}

#define ADD(name, func)                                                                            \
    g_test_add("/uplink-given/" name, UplinkHosts, NULL, uplink_hosts_setup, func,                 \
               uplink_hosts_teardown)

int main(int argc, char **argv)
{
    const char *why = uplink_hosts_missing();
    if (why != NULL) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    /* The namespace's own, which tells how a tap was opened. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/sys", "sysfs", 0, NULL) != 0) {
        g_print("1..0 # SKIP needs the right to mount\n");
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    ADD("both-ways", test_both_ways);
    ADD("left-as-it-is", test_left_as_it_is);
    ADD("deleted", test_deleted);
    ADD("refused", test_refused);
    ADD("other-namespace", test_other_namespace);
    return g_test_run();
}
