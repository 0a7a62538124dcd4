/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel tells of plugs, in a network namespace of this test's own. */
#include <stdlib.h>

#include "netcompare/netcompare.h"
#include "tests/support/command.h"
#include "tests/support/uplink-hosts.h"
#include "tests/support/wait.h"

typedef struct {
    CarrierWatch *watch;
    unsigned changes;
} Fixture;

static void on_changed(gpointer user_data)
{
    ((Fixture *)user_data)->changes++;
}

static UplinkCarrier look(const Fixture *f)
{
    return carrier_watch_look(f->watch, "br0", NULL);
}

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    command_run("ip link add br0 type bridge");
    command_run("ip link set br0 up");
    command_run("ip tuntap add tap0 mode tap");
    command_run("ip link set tap0 master br0 up");
    f->watch = carrier_watch_new(on_changed, f, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    carrier_watch_free(f->watch);
    command_run("ip link del tap0");
    command_run("ip link del br0");
}

/* Only guests: nothing is known. */
static void test_leads_nowhere(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(look(f), ==, UPLINK_CARRIER_UNKNOWN);
    g_assert_cmpint(carrier_watch_look(f->watch, NULL, NULL), ==, UPLINK_CARRIER_UNKNOWN);
    g_assert_cmpint(carrier_watch_look(f->watch, "br7", NULL), ==, UPLINK_CARRIER_UNKNOWN);
    /* But an interface that is named has to be there. */
    g_assert_cmpint(carrier_watch_look(f->watch, "br0", "lan7"), ==, UPLINK_CARRIER_NO);
}

/* Ports come, lose what is at their other end, get it back, are switched off, and go. */
static void test_ports(Fixture *f, gconstpointer data)
{
    (void)data;
    command_run("ip link add lan0 type veth peer name plug0");
    command_run("ip link add lan1 type veth peer name plug1");
    command_run("ip link set lan0 master br0 up");
    WAIT_FOR(look(f) == UPLINK_CARRIER_NO);
    g_assert_true(carrier_watch_is_port(f->watch, "lan0", "br0"));
    g_assert_true(carrier_watch_is_port(f->watch, "lan0", NULL));
    g_assert_false(carrier_watch_is_port(f->watch, "lan0", "br7"));
    g_assert_false(carrier_watch_is_port(f->watch, "lan7", NULL));
    command_run("ip link set plug0 up");
    WAIT_FOR(look(f) == UPLINK_CARRIER_YES);
    g_assert_cmpuint(f->changes, >, 0);
    command_run("ip link set lan1 master br0 up");
    command_run("ip link set plug1 up");
    WAIT_FOR(carrier_watch_look(f->watch, NULL, "lan1") == UPLINK_CARRIER_YES);
    /* One is enough. */
    command_run("ip link set plug0 down");
    WAIT_FOR(carrier_watch_look(f->watch, NULL, "lan0") == UPLINK_CARRIER_NO);
    g_assert_cmpint(look(f), ==, UPLINK_CARRIER_YES);
    command_run("ip link set lan1 nomaster");
    WAIT_FOR(look(f) == UPLINK_CARRIER_NO);
    g_assert_false(carrier_watch_is_port(f->watch, "lan1", "br0"));
    command_run("ip link set plug0 up");
    WAIT_FOR(look(f) == UPLINK_CARRIER_YES);
    command_run("ip link set lan0 down");
    WAIT_FOR(look(f) == UPLINK_CARRIER_NO);
    command_run("ip link del lan0");
    WAIT_FOR(look(f) == UPLINK_CARRIER_UNKNOWN);
    command_run("ip link del lan1");
}

/* Where there is a real way out, a container's port doesn't stand for it. */
static void test_containers(Fixture *f, gconstpointer data)
{
    (void)data;
    /* Neither tap nor veth: what a network card is, here. */
    command_run("ip link add lan0 type ifb");
    command_run("ip link add box0 type veth peer name plug1");
    command_run("ip link set lan0 master br0 up");
    command_run("ip link set box0 master br0 up");
    command_run("ip link set plug1 up");
    WAIT_FOR(look(f) == UPLINK_CARRIER_YES);
    command_run("ip link set lan0 down");
    WAIT_FOR(look(f) == UPLINK_CARRIER_NO);
    command_run("ip link set lan0 up");
    WAIT_FOR(look(f) == UPLINK_CARRIER_YES);
    command_run("ip link del box0");
    command_run("ip link del lan0");
}

static UplinkCarrier look_tap(const Fixture *f)
{
    return carrier_watch_look_tap(f->watch, "tap0");
}

/* A tap of somebody else's: of the bridge that it happens to be in. */
static void test_given_tap(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(look_tap(f), ==, UPLINK_CARRIER_UNKNOWN);
    g_assert_cmpint(carrier_watch_look_tap(f->watch, "tap7"), ==, UPLINK_CARRIER_NO);
    command_run("ip link add lan0 type veth peer name plug0");
    command_run("ip link set lan0 master br0 up");
    WAIT_FOR(look_tap(f) == UPLINK_CARRIER_NO);
    command_run("ip link set plug0 up");
    WAIT_FOR(look_tap(f) == UPLINK_CARRIER_YES);
    command_run("ip link set tap0 nomaster");
    WAIT_FOR(look_tap(f) == UPLINK_CARRIER_UNKNOWN);
    command_run("ip link set tap0 down");
    WAIT_FOR(look_tap(f) == UPLINK_CARRIER_NO);
    command_run("ip link del lan0");
}

/* It is on a card, not in a bridge. */
static void test_macvtap(Fixture *f, gconstpointer data)
{
    (void)data;
    command_run("ip link add lan0 type veth peer name plug0");
    command_run("ip link set lan0 up");
    command_run("ip link set plug0 up");
    if (system("ip link add link lan0 name mac0 type macvtap") == 0) { // NOLINT(cert-env33-c)
        WAIT_FOR(carrier_watch_look_tap(f->watch, "mac0") == UPLINK_CARRIER_NO);
        command_run("ip link set mac0 up");
        WAIT_FOR(carrier_watch_look_tap(f->watch, "mac0") == UPLINK_CARRIER_YES);
        command_run("ip link set plug0 down");
        WAIT_FOR(carrier_watch_look_tap(f->watch, "mac0") == UPLINK_CARRIER_NO);
    } else {
        g_test_skip("no macvtap here");
    }
    command_run("ip link del lan0");
}

#define ADD(name, func) g_test_add("/uplink-carrier/" name, Fixture, NULL, set_up, func, tear_down)

int main(int argc, char **argv)
{
    const char *why = uplink_hosts_missing();
    if (why) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    ADD("leads-nowhere", test_leads_nowhere);
    ADD("ports", test_ports);
    ADD("containers", test_containers);
    ADD("given-tap", test_given_tap);
    ADD("macvtap", test_macvtap);
    return g_test_run();
}
