/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Announcements of a node that continues alone: in rounds, and again when a frame of the guest
 * comes from elsewhere. A node whose output may not leave never announces. The network is the
 * outside of the node's tap.
 */
#include "tests/support/host-pair.h"

#include "common/log.h"
#include "tests/support/command.h"
#include "tests/support/control-peer.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERTYPE_RARP 0x8035

typedef struct {
    int fd;
    unsigned count_received;
} Network;

static gboolean skipped(void)
{
    if (geteuid() != 0)
        g_test_skip("needs root for its taps");
    return geteuid() != 0;
}

/* It is read before a bridge takes the frames away: only who asks for all protocols sees them then. */
static void network_open(Network *network, const Host *host)
{
    const char *tap = uplink_ifname(cards_uplink(host->node->cards, 0));
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(tap)};
    *network = (Network){.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    g_assert_cmpint(network->fd, >=, 0);
    int bound = bind(network->fd, (struct sockaddr *)&address, sizeof(address));
    g_assert_cmpint(bound, ==, 0);
}

static void end(Fixture *f, const Network *network)
{
    close(network->fd);
    tear_down(f);
}

/* How many announcements have come since it was opened: a guest that sent nothing has one address. */
static unsigned count_received(Network *network)
{
    struct sockaddr_ll from;
    socklen_t len = sizeof(from);
    guint8 frame[2048];
    while (recvfrom(network->fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &len) > 0)
        network->count_received +=
            from.sll_pkttype != PACKET_OUTGOING && from.sll_protocol == htons(ETHERTYPE_RARP);
    return network->count_received;
}

/* From another host, to all. */
static void send_as(const Network *network, const guint8 mac[6])
{
    guint8 frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x88, 0xb5};
    memcpy(frame + 6, mac, 6);
    g_assert_cmpint(send(network->fd, frame, sizeof(frame), 0), ==, (ssize_t)sizeof(frame));
}

static void run_with_taps(Fixture *f)
{
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
}

static void start_with_taps(Fixture *f, const char *arbiter)
{
    set_up(f, arbiter);
    add_tap(f);
    run_with_taps(f);
}

static void take_over(Fixture *f, Network *network)
{
    start_with_taps(f, "file");
    network_open(network, &f->host[1]);
    die(&f->host[0]);
    WAIT_FOR(f->host[1].node->state == FSM_P_NONE);
}

static void test_rounds(void)
{
    Fixture f;
    Network network;
    if (skipped())
        return;
    take_over(&f, &network);
    const Node *node = f.host[1].node;
    WAIT_FOR(count_received(&network) == node->config->announce_rounds);
    g_assert_false(announce_is_planned(node->announce));
    end(&f, &network);
}

/* None comes before its time: they are timed from before the first, so that one is only ever late here. */
static void test_timed(void)
{
    static const gint64 after_ms[] = {0, 50, 50 + 150, 200 + 250, 450 + 350};
    Fixture f;
    Network network;
    if (skipped())
        return;
    take_over(&f, &network);
    const Node *node = f.host[1].node;
    const guint rounds = (guint)node->config->announce_rounds;
    g_assert_cmpuint(rounds, ==, G_N_ELEMENTS(after_ms));
    WAIT_FOR(count_received(&network) == rounds);
    f.host[1].config->announce_initial_ms = 50;
    f.host[1].config->announce_step_ms = 100;
    f.host[1].config->announce_max_ms = 550;
    gint64 began_us = g_get_monotonic_time();
    announce_start(node->announce);
    for (guint i = 0; i < rounds; i++) {
        WAIT_FOR(count_received(&network) > rounds + i);
        g_assert_cmpint(g_get_monotonic_time() - began_us, >=, after_ms[i] * 1000);
    }
    end(&f, &network);
}

/* A VM that moves as planned: the node that has it says so, the other doesn't; and again if told to. */
static void test_moved(void)
{
    Fixture f;
    Network network[2];
    guint32 id;
    if (skipped())
        return;
    start_with_taps(&f, "file");
    const Host *a = &f.host[0], *b = &f.host[1];
    for (int i = 0; i < 2; i++)
        network_open(&network[i], &f.host[i]);
    a->config->downtime_limit_ms = 0;
    g_assert_true(switchover_begin(a->node->switchover, FALSE, &id, NULL));
    const guint rounds = (guint)b->config->announce_rounds;
    WAIT_FOR(count_received(&network[1]) == rounds);
    protect(&f, 1);
    g_assert_false(announce_is_planned(b->node->announce));
    g_autofree char *answer =
        control_peer_ask(b->config->control_socket, "{\"execute\":\"announce\"}");
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
    WAIT_FOR(count_received(&network[1]) == 2 * rounds);
    g_assert_false(announce_is_planned(b->node->announce));
    g_assert_cmpuint(count_received(&network[0]), ==, 0);
    close(network[0].fd);
    close(network[1].fd);
    tear_down(&f);
}

static gboolean is_learnt(const char *tap)
{
    g_autofree char *where = g_strdup_printf("52:54:00:12:34:00 dev %s ", tap);
    g_autofree char *known = command_output("bridge fdb show br br0");
    return strstr(known, where) != NULL;
}

/* A bridge to which the first volley is lost learns by one that follows. */
static void test_first_is_lost(void)
{
    Fixture f;
    Network network;
    if (skipped())
        return;
    set_up(&f, "file");
    add_tap(&f);
    const Host *b = &f.host[1];
    b->config->announce_rounds = 1000;
    b->config->announce_initial_ms = 20;
    b->config->announce_step_ms = 0;
    run_with_taps(&f);
    network_open(&network, b);
    const char *tap = uplink_ifname(cards_uplink(b->node->cards, 0));
    command_run("ip link add br0 type bridge");
    command_run("ip link set br0 up");
    command_run("ip link set %s master br0", tap);
    command_run("bridge link set dev %s learning off", tap);
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_P_NONE && count_received(&network) > 0);
    g_assert_false(is_learnt(tap));
    command_run("bridge link set dev %s learning on", tap);
    WAIT_FOR(is_learnt(tap));
    end(&f, &network);
    command_run("ip link del br0");
}

static void test_elsewhere(void)
{
    static const guint8 guest[6] = {0x52, 0x54, 0, 0x12, 0x34, 0}, other[6] = {2, 0, 0, 0, 0, 1};
    Fixture f;
    Network network;
    if (skipped())
        return;
    take_over(&f, &network);
    const Node *node = f.host[1].node;
    const guint rounds = (guint)node->config->announce_rounds;
    WAIT_FOR(count_received(&network) == rounds);
    const UplinkStats *stats = uplink_stats(cards_uplink(node->cards, 0));
    guint64 before = stats->input_frames;
    send_as(&network, other);
    WAIT_FOR(stats->input_frames > before);
    g_assert_false(announce_is_repeated(node->announce));
    /* Twice: once is enough. */
    send_as(&network, guest);
    send_as(&network, guest);
    WAIT_FOR(count_received(&network) == 2 * rounds);
    g_assert_false(announce_is_planned(node->announce));
    end(&f, &network);
}

/* One whose output is held doesn't say where the guest is, and stops saying it. */
static void test_silenced(void)
{
    Fixture f;
    Network network;
    if (skipped())
        return;
    start_with_taps(&f, "none");
    network_open(&network, &f.host[0]);
    die(&f.host[1]);
    WAIT_FOR(f.host[0].node->state == FSM_P_PAUSED);
    g_assert_cmpint(parts_announce_right(f.host[0].node), ==, ANNOUNCE_NOT);
    announce_start(f.host[0].node->announce);
    WAIT_FOR(!announce_is_planned(f.host[0].node->announce));
    g_assert_cmpuint(count_received(&network), ==, 0);
    end(&f, &network);
}

/* What becomes due while the VM is held for a switchover comes when that is cancelled: a carrier, say. */
static void test_held(void)
{
    Fixture f;
    Network network;
    guint32 id;
    if (skipped())
        return;
    start_with_taps(&f, "file");
    const Node *node = f.host[0].node;
    network_open(&network, &f.host[0]);
    f.host[0].config->downtime_limit_ms = 0;
    g_assert_true(switchover_begin(node->switchover, TRUE, &id, NULL));
    WAIT_FOR(node->state == FSM_P_PRE_SWITCHOVER);
    announce_when_possible(node->announce);
    g_assert_false(announce_is_planned(node->announce));
    switchover_cancel(node->switchover);
    WAIT_FOR(node->state == FSM_P_COLO);
    g_assert_true(announce_is_planned(node->announce));
    WAIT_FOR(count_received(&network) == node->config->announce_rounds);
    g_assert_false(announce_is_planned(node->announce));
    end(&f, &network);
}

/*
 * The secondary may have taken over, and have announced the guest, before it died: who continues
 * after a doubt says where the guest is.
 */
static void test_in_doubt(void)
{
    Fixture f;
    Network network;
    if (skipped())
        return;
    start_with_taps(&f, "none");
    const Host *a = &f.host[0];
    network_open(&network, a);
    die(&f.host[1]);
    WAIT_FOR(a->node->state == FSM_P_PAUSED);
    g_autofree char *answer = control_peer_ask(
        a->config->control_socket, "{\"execute\":\"failover\",\"arguments\":{\"force\":true}}");
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    WAIT_FOR(count_received(&network) == a->node->config->announce_rounds);
    g_assert_false(announce_is_planned(a->node->announce));
    end(&f, &network);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* A network of its own: its bridge is nobody else's. */
    if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0)
        command_run("ip link set lo up");
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-announce/rounds", test_rounds);
    add_pair_test("/node-announce/timed", test_timed);
    add_pair_test("/node-announce/moved", test_moved);
    add_pair_test("/node-announce/first-is-lost", test_first_is_lost);
    add_pair_test("/node-announce/elsewhere", test_elsewhere);
    add_pair_test("/node-announce/silenced", test_silenced);
    add_pair_test("/node-announce/held", test_held);
    add_pair_test("/node-announce/in-doubt", test_in_doubt);
    return g_test_run();
}
