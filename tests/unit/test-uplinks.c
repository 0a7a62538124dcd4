/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node is told of its uplinks and the peer's, on carriers and a clock of our own. */
#include "colo/node/uplinks.h"

#include "colo/link/link.h"
#include "colo/node/uplinks-watch.h"
#include "common/log.h"
#include "tests/support/turned-clock.h"

#include <string.h>

#define CARDS 2

/* ---- The host's interfaces ---- */

static struct {
    UplinkCarrier carriers[CARDS];
    void (*changed)(gpointer user_data);
    gpointer user_data;
} host;

CarrierWatch *carrier_watch_new(void (*changed)(gpointer user_data), gpointer user_data,
                                GError **error)
{
    (void)error;
    host.changed = changed;
    host.user_data = user_data;
    return (CarrierWatch *)(gpointer)&host;
}

void carrier_watch_free(CarrierWatch *watch)
{
    (void)watch;
    host.changed = NULL;
}

gboolean carrier_watch_is_port(const CarrierWatch *watch, const char *ifname, const char *bridge)
{
    (void)watch;
    return !g_strcmp0(ifname, "colo0") && !g_strcmp0(bridge, "br0");
}

UplinkCarrier carrier_watch_look(const CarrierWatch *watch, const char *bridge, const char *ifname)
{
    (void)watch;
    (void)bridge;
    return host.carriers[strcmp(ifname, "eth0") ? 1 : 0];
}

/* By the name that the test gives it. */
UplinkCarrier carrier_watch_look_tap(const CarrierWatch *watch, const char *ifname)
{
    (void)watch;
    g_assert_cmpstr(ifname, ==, "given1");
    return host.carriers[1];
}

static void plug(guint card, gboolean in)
{
    host.carriers[card] = in ? UPLINK_CARRIER_YES : UPLINK_CARRIER_NO;
    host.changed(host.user_data);
}

/* ---- The node ---- */

typedef struct {
    Config config;
    ConfigNic nics[CARDS];
    Uplinks *uplinks;
    UplinksWorld world;
    guint64 told; /* to the peer */
    guint tellings, changes, plugged_in, handed_over;
} Fixture;

static UplinksWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static const char *on_tap(guint card, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_nonnull(f->nics[card].tap);
    return "given1";
}

static void on_send(guint64 cut, gpointer user_data)
{
    Fixture *f = user_data;
    f->told = cut;
    f->tellings++;
}

static void on_changed(guint card, gboolean has_carrier, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(has_carrier, ==, host.carriers[card] != UPLINK_CARRIER_NO);
    f->changes++;
}

static void on_plugged_in(gpointer user_data)
{
    Fixture *f = user_data;
    f->plugged_in++;
}

static void on_hand_over(gpointer user_data)
{
    Fixture *f = user_data;
    f->handed_over++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const UplinksHandler handler = {.look = on_look,
                                           .tap = on_tap,
                                           .send = on_send,
                                           .changed = on_changed,
                                           .plugged_in = on_plugged_in,
                                           .hand_over = on_hand_over};
    (void)data;
    host.carriers[0] = host.carriers[1] = UPLINK_CARRIER_YES;
    f->config.heartbeat_interval_ms = 100;
    f->config.nics = g_ptr_array_new();
    f->nics[0] = (ConfigNic){.name = "lan0", .uplink = "eth0"};
    f->nics[1] = (ConfigNic){.name = "lan1", .uplink = "eth1"};
    for (guint i = 0; i < CARDS; i++)
        g_ptr_array_add(f->config.nics, &f->nics[i]);
    f->world = (UplinksWorld){.state = FSM_P_COLO, .copy_is_fit = TRUE};
    f->uplinks = uplinks_new(&f->config, &handler, f, NULL);
    turned_clock_pass_ms(60000);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    uplinks_free(f->uplinks);
    g_ptr_array_unref(f->config.nics);
}

/* Its own interface tells, unless another one is named. */
static void test_given_tap(Fixture *f, gconstpointer data)
{
    (void)data;
    f->nics[1].tap = (char *)g_intern_string("fd:lan1");
    f->nics[1].uplink = NULL;
    plug(1, FALSE);
    g_assert_cmpuint(f->told, ==, 2);
    f->nics[0].tap = (char *)g_intern_string("fd:lan0");
    plug(0, FALSE);
    g_assert_cmpuint(f->told, ==, 3);
}

static void test_told(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(f->tellings + f->changes, ==, 0);
    plug(1, FALSE);
    g_assert_cmpuint(f->told, ==, 2);
    plug(0, FALSE);
    g_assert_cmpuint(f->told, ==, 3);
    g_assert_cmpint(uplinks_carrier(f->uplinks, 0), ==, UPLINK_CARRIER_NO);
    g_assert_cmpuint(f->plugged_in, ==, 0);
    plug(1, TRUE);
    g_assert_cmpuint(f->told, ==, 1);
    g_assert_cmpuint(f->plugged_in, ==, 1);
    g_assert_cmpuint(f->changes, ==, 3);
    /* An interface that has changed, but not in this. */
    plug(1, TRUE);
    g_assert_cmpuint(f->tellings, ==, 3);
    /* A peer that is new knows nothing. */
    uplinks_link_up(f->uplinks);
    g_assert_cmpuint(f->tellings, ==, 4);
    g_assert_cmpuint(f->told, ==, 1);
}

/* What the peer has said counts until there is a link again. */
static void test_peer(Fixture *f, gconstpointer data)
{
    (void)data;
    uplinks_received(f->uplinks, 2);
    g_assert_true(uplinks_peer_has_carrier(f->uplinks, 0));
    g_assert_false(uplinks_peer_has_carrier(f->uplinks, 1));
    uplinks_link_lost(f->uplinks, NULL);
    g_assert_cmpuint(uplinks_peer_cut(f->uplinks), ==, 2);
    uplinks_link_up(f->uplinks);
    g_assert_true(uplinks_peer_has_carrier(f->uplinks, 1));
}

/* After it has been so for a while, and as soon as the copy can take it. */
static void test_hand_over(Fixture *f, gconstpointer data)
{
    (void)data;
    plug(0, FALSE);
    turned_clock_pass_ms(UPLINKS_SETTLE_US / 1000 - 1);
    g_assert_cmpuint(f->handed_over, ==, 0);
    f->world.copy_is_fit = FALSE;
    turned_clock_pass_ms(1500);
    g_assert_cmpuint(f->handed_over, ==, 0);
    g_assert_true(uplinks_is_deciding(f->uplinks));
    f->world.copy_is_fit = TRUE;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->handed_over, ==, 1);
}

static void test_stays(Fixture *f, gconstpointer data)
{
    (void)data;
    uplinks_received(f->uplinks, 1);
    plug(0, FALSE);
    turned_clock_pass_ms(60000);
    g_assert_cmpuint(f->handed_over, ==, 0);
    g_assert_false(uplinks_is_deciding(f->uplinks));
    /* The peer's is mended, and this VM has only just come. */
    uplinks_vm_came(f->uplinks);
    uplinks_received(f->uplinks, 0);
    turned_clock_pass_ms(UPLINKS_REST_US / 1000 - 1);
    g_assert_cmpuint(f->handed_over, ==, 0);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->handed_over, ==, 1);
}

/* Who waits before it asks the arbiter: the side that is worse, of a pair that was protected. */
static void test_wait(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) silence = g_error_new(LINK_ERROR, LINK_ERROR_TIMEOUT, "silent");
    g_autoptr(GError) end = g_error_new(LINK_ERROR, LINK_ERROR_CLOSED, "closed");
    (void)data;
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, silence), ==, 0);
    f->world.state = FSM_S_COLO;
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, silence), ==, 200);
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, end), ==, 0);
    plug(0, FALSE);
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, end), ==, UPLINKS_ASK_WAIT_MS);
    f->world.state = FSM_P_COLO;
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, end), ==, UPLINKS_ASK_WAIT_MS);
    f->world.state = FSM_P_ACTIVE;
    g_assert_cmpuint(uplinks_link_lost(f->uplinks, end), ==, 0);
}

#define ADD(name, test) g_test_add("/uplinks/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("told", test_told);
    ADD("given-tap", test_given_tap);
    ADD("peer", test_peer);
    ADD("hand-over", test_hand_over);
    ADD("stays", test_stays);
    ADD("wait", test_wait);
    return g_test_run();
}
