/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An uplink's interface on a real bridge: how it comes and goes, and why it can't be made. The whole
 * test runs in a network namespace of its own. Children that need a worse world (fewer rights, no
 * /dev/net/tun) make it for themselves.
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

#include "tests/support/command.h"
#include "tests/support/uplink-hosts.h"

/* ---- The interface ---- */

static void test_gone_after_free(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(if_nametoindex("upa"), !=, 0);
    g_clear_pointer(&f->a.uplink, uplink_free);
    g_assert_cmpuint(if_nametoindex("upa"), ==, 0);
    uplink_free(NULL);
}

static void test_gone_after_sigkill(UplinkHosts *f, gconstpointer data)
{
    int ready[2];
    char byte;
    (void)f;
    (void)data;
    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        Uplink *uplink = uplink_hosts_new_other("upc", "br0", NULL);
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

static void test_deleted_by_somebody(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    uplink_open(f->a.uplink);
    command_run("ip link del upa");
    while (f->a.failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->a.error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_CLOSED);
    g_assert_nonnull(strstr(f->a.error->message, "upa"));
    uplink_host_send(&f->a, uplink_hosts_mac_all, uplink_hosts_mac_a, 1);
    uplink_open(f->a.uplink);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    g_assert_cmpuint(f->a.failures, ==, 1);
}

static void test_keeps_the_bridges_address(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    (void)f;
    g_autoptr(GError) error = NULL;
    command_run("ip tuntap add dev dum0 mode tap");
    command_run("ip link set dum0 address f6:00:00:00:00:01");
    command_run("ip link set dum0 master br0");
    Uplink *uplink = uplink_hosts_new_other("upc", "br0", &error);
    g_assert_no_error(error);
    g_autofree char *bridge = command_output("ip -o link show dev br0");
    g_assert_nonnull(strstr(bridge, "link/ether f6:00:00:00:00:01"));
    uplink_free(uplink);
    command_run("ip link del dum0");
}

static void test_without_bridge(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    g_autoptr(GError) error = NULL;
    g_autoptr(Uplink) uplink = uplink_hosts_new_other("upc", NULL, &error);
    g_assert_no_error(error);
    g_autofree char *flags = command_output("ip -o link show upc");
    g_assert_nonnull(strstr(flags, "UP"));
    g_assert_null(strstr(flags, "master"));
}

/* ---- Errors ---- */

static void assert_error(const char *ifname, const char *bridge, NetcompareError code,
                         const char *text)
{
    g_autoptr(GError) error = NULL;
    Uplink *uplink = uplink_hosts_new_other(ifname, bridge, &error);
    g_assert_null(uplink);
    g_assert_error(error, NETCOMPARE_ERROR, (int)code);
    if (strstr(error->message, text) == NULL)
        g_error("'%s' doesn't say '%s'", error->message, text);
}

static void test_bad_names(UplinkHosts *f, gconstpointer data)
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

static void test_name_taken(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    assert_error("upa", "br0", NETCOMPARE_ERROR_TAP, "tap 'upa': the name is taken");
    assert_error("br0", "br0", NETCOMPARE_ERROR_TAP, "tap 'br0': the name is taken");
    command_run("ip tuntap add dev tap9 mode tap"); /* persistent and unused: it could be joined */
    assert_error("tap9", "br0", NETCOMPARE_ERROR_TAP, "tap 'tap9': the name is taken");
    command_run("ip link del tap9");
}

static void test_bad_bridges(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    assert_error("upc", "br9", NETCOMPARE_ERROR_BRIDGE, "bridge 'br9': there is no such interface");
    assert_error("upc", "lo", NETCOMPARE_ERROR_BRIDGE, "bridge 'lo': is no bridge");
    assert_error("upc", "upa", NETCOMPARE_ERROR_BRIDGE, "an interface of type tun");
    g_assert_cmpuint(if_nametoindex("upc"), ==, 0);
}

/* Runs `worsen`, then assert_error(), in a child with mounts of its own. */
static void in_a_worse_world(void (*worsen)(void), NetcompareError code, const char *text)
{
    pid_t child = fork();
    if (child == 0) {
        worsen();
        assert_error("upc", "br0", code, text);
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

static void test_no_net_admin(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(drop_net_admin, NETCOMPARE_ERROR_PERMISSION, "CAP_NET_ADMIN");
}

static void test_no_tun_device(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(hide_tun_device, NETCOMPARE_ERROR_TAP, "modprobe tun");
}

static void test_no_right_to_tun_device(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(refuse_tun_device, NETCOMPARE_ERROR_PERMISSION, "/dev/net/tun");
}

static void test_proc_sys_read_only(UplinkHosts *f, gconstpointer data)
{
    (void)f;
    (void)data;
    in_a_worse_world(make_proc_sys_read_only, NETCOMPARE_ERROR_TAP, "disable_ipv6");
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
