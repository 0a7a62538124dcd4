/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who goes on when links of hosts are cut: the clients count, and who is well stays. Each node's
 * uplink is a veth in a network namespace of this test's own, whose other end is the plug.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"
#include "tests/support/proxy.h"
#include "tests/support/uplink-hosts.h"

#define ROUNDS 3

static void run(const char *format, int host)
{
    int status = 0;
    g_autoptr(GError) error = NULL;
    g_autofree char *number = g_strdup_printf("%d", host);
    g_auto(GStrv) parts = g_strsplit(format, "%d", -1);
    g_autofree char *command = g_strjoinv(number, parts);
    g_spawn_command_line_sync(command, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    if (status)
        g_error("'%s' has failed", command);
}

typedef struct {
    Fixture f;
    Proxy *proxy;
} World;

static void set_up_world(World *world)
{
    g_autoptr(GError) error = NULL;
    set_up(&world->f, "file");
    add_tap(&world->f);
    for (int i = 0; i < 2; i++) {
        Config *config = world->f.host[i].config;
        ConfigNic *nic = g_ptr_array_index(config->nics, 0);
        run("ip link add lan%d type veth peer name plug%d", i);
        run("ip link set lan%d up", i);
        run("ip link set plug%d up", i);
        nic->uplink = g_strdup_printf("lan%d", i);
        config->heartbeat_interval_ms = 100;
        config->heartbeat_timeout_ms = 1500;
    }
    Config *dialler = world->f.host[1].config;
    world->proxy = proxy_new("127.0.0.1:0", dialler->peer, &error);
    g_assert_no_error(error);
    g_free(dialler->peer);
    dialler->peer = g_strdup_printf("127.0.0.1:%u", proxy_port(world->proxy));
    start(&world->f.host[0], "primary");
    start(&world->f.host[1], "secondary");
    protect(&world->f, 0);
}

static void tear_down_world(World *world)
{
    tear_down(&world->f);
    proxy_free(world->proxy);
    for (int i = 0; i < 2; i++)
        run("ip link del lan%d", i);
}

/* The hosts hear nothing of each other any more. */
static void cut_sync_link(World *world)
{
    proxy_do(world->proxy, "blackhole all");
}

static void goes_on(const World *world, int host)
{
    const Host *winner = &world->f.host[host], *loser = &world->f.host[!host];
    WAIT_FOR(winner->node->state == FSM_P_NONE);
    g_assert_cmpint(loser->node->state, !=, FSM_P_NONE);
    g_assert_cmpstr(claim_last_answer(winner->node->claim), ==, "granted");
    g_assert_false(winner->ended || loser->ended);
}

/* Nobody moves without need: the primary goes on, however close their clocks are. */
static void test_sync_cut(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        World world;
        set_up_world(&world);
        cut_sync_link(&world);
        goes_on(&world, 0);
        tear_down_world(&world);
    }
}

/* All links of the primary's host, but for the one to the arbiter. */
static void test_isolated(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        World world;
        set_up_world(&world);
        run("ip link set plug%d down", 0);
        cut_sync_link(&world);
        goes_on(&world, 1);
        tear_down_world(&world);
    }
}

/* The isolated one is alone in the world: it waits, but not for ever. */
static void test_isolated_and_alone(void)
{
    World world;
    set_up_world(&world);
    run("ip link set plug%d down", 0);
    WAIT_FOR(uplinks_cut(world.f.host[0].node->uplinks));
    die(&world.f.host[1]);
    WAIT_FOR(world.f.host[0].node->state == FSM_P_NONE);
    tear_down_world(&world);
}

/* A secondary whose clients can't reach it leaves the VM where it is. */
static void test_secondary_isolated(void)
{
    World world;
    set_up_world(&world);
    run("ip link set plug%d down", 1);
    WAIT_FOR(uplinks_peer_cut(world.f.host[0].node->uplinks) == 1);
    cut_sync_link(&world);
    goes_on(&world, 0);
    tear_down_world(&world);
}

/* Only the LAN of the primary's host: handed over, and protected again. */
static void test_lan_cut(void)
{
    World world;
    set_up_world(&world);
    Node *a = world.f.host[0].node, *b = world.f.host[1].node;
    /* Not because one has received nothing from the other. */
    link_set_heartbeat(a->link, 100, 600000);
    link_set_heartbeat(b->link, 100, 600000);
    run("ip link set plug%d down", 0);
    WAIT_FOR(fsm_is_primary(b->state) && figures_takeovers(b->figures) == 1);
    WAIT_FOR(b->state == FSM_P_COLO && a->state == FSM_S_COLO);
    g_assert_cmpuint(uplinks_peer_cut(b->uplinks), ==, 1);
    g_assert_cmpuint(uplinks_cut(b->uplinks), ==, 0);
    tear_down_world(&world);
}

/* Neither is better. */
static void test_both_cut(void)
{
    World world;
    set_up_world(&world);
    Node *a = world.f.host[0].node, *b = world.f.host[1].node;
    run("ip link set plug%d down", 1);
    WAIT_FOR(uplinks_peer_cut(a->uplinks) == 1);
    run("ip link set plug%d down", 0);
    WAIT_FOR(uplinks_cut(a->uplinks) == 1 && uplinks_peer_cut(b->uplinks) == 1);
    guint64 epoch = a->epoch;
    WAIT_FOR(a->epoch > epoch && !uplinks_is_deciding(a->uplinks));
    /* One is mended, and it is the primary's. */
    run("ip link set plug%d up", 0);
    WAIT_FOR(uplinks_cut(a->uplinks) == 0 && uplinks_peer_cut(b->uplinks) == 0);
    g_assert_cmpint(a->state, ==, FSM_P_COLO);
    tear_down_world(&world);
}

int main(int argc, char **argv)
{
    const char *why = uplink_hosts_missing();
    if (why) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    run("ip link set lo up", 0);
    add_pair_test("/node-uplinks/sync-cut", test_sync_cut);
    add_pair_test("/node-uplinks/isolated", test_isolated);
    add_pair_test("/node-uplinks/isolated-and-alone", test_isolated_and_alone);
    add_pair_test("/node-uplinks/secondary-isolated", test_secondary_isolated);
    add_pair_test("/node-uplinks/lan-cut", test_lan_cut);
    add_pair_test("/node-uplinks/both-cut", test_both_cut);
    return g_test_run();
}
