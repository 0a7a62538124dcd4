/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary that was stopped, overtaken meanwhile and continued: it must not release a frame. What the
 * secondary had sent before waits in its sockets, RECEIVED among it, and its guest's output in its
 * gate. The primary is a process of its own, which is stopped; the secondary is here, behind a
 * network that takes ten milliseconds each way.
 */
#include "tests/support/host-child.h"
#include "tests/support/proxy.h"

#include "common/log.h"

#include <unistd.h>

#define DELAY_MS 10
#define ROUNDS   4

/* Longer than a loaded machine keeps a process waiting. */
#define LONG_ROUNDS     2
#define LONG_TIMEOUT_MS 4000

/* The secondary's way to the primary. */
static Proxy *slow_way(Fixture *f, guint timeout_ms)
{
    g_autoptr(GError) error = NULL;
    Config *config = f->host[1].config;
    Proxy *proxy = proxy_new("127.0.0.1:0", config->peer, &error);
    g_assert_no_error(error);
    proxy_do(proxy, "delay all %d", DELAY_MS);
    g_free(config->peer);
    config->peer = g_strdup_printf("127.0.0.1:%u", proxy_port(proxy));
    config->heartbeat_timeout_ms = timeout_ms;
    return proxy;
}

static gboolean is_secondary(HostChild *child)
{
    FsmState state = host_child_ask(child, "alpha").state;
    return state == FSM_S_NONE || state == FSM_S_ACTIVE || state == FSM_S_COLO;
}

/* In its sockets and behind them, before anything of it has been read. */
static gboolean sends(HostChild *child, guint64 frames)
{
    return host_child_ask(child, "alpha").frames > frames;
}

/* The kernel counts what is written to a tap, whatever the process is able to tell. */
static guint64 count_frames(const HostChild *child)
{
    g_autofree char *path =
        g_strdup_printf("/sys/class/net/%s/statistics/rx_packets", child->ifname);
    g_autofree char *text = NULL;
    gboolean read = g_file_get_contents(path, &text, NULL, NULL);
    g_assert_true(read);
    return g_ascii_strtoull(text, NULL, 10);
}

static void overtake(void)
{
    Fixture f;
    HostChild alpha = {0};
    Host *beta = &f.host[1];
    set_up(&f, "file");
    add_tap(&f);
    Proxy *proxy = slow_way(&f, HOST_CHILD_HEARTBEAT_TIMEOUT_MS);
    host_child_start_sending(&alpha, &f, "a");
    start(beta, "secondary");
    WAIT_FOR(beta->node->state == FSM_S_COLO);
    WAIT_FOR(sends(&alpha, host_child_ask(&alpha, "alpha").frames + 20));
    g_usleep((gulong)g_test_rand_int_range(0, 30000));
    host_child_stop(&alpha);
    guint64 sent = count_frames(&alpha);
    g_assert_cmpuint(sent, >, 0);
    WAIT_FOR(beta->node->state == FSM_P_NONE);
    host_child_continue(&alpha);
    WAIT_FOR(is_secondary(&alpha));
    g_assert_cmpuint(count_frames(&alpha), ==, sent);
    host_child_kill(&alpha);
    proxy_free(proxy);
    tear_down(&f);
}

static void test_overtaken(void)
{
    if (geteuid() != 0) {
        g_test_skip("needs root for its taps");
        return;
    }
    for (int round = 0; round < ROUNDS; round++)
        overtake();
}

/* Not overtaken: what waited for the proof leaves, and the pair goes on. */
static void test_not_overtaken(void)
{
    if (geteuid() != 0) {
        g_test_skip("needs root for its taps");
        return;
    }
    Fixture f;
    HostChild alpha = {0};
    Host *beta = &f.host[1];
    set_up(&f, "file");
    add_tap(&f);
    Proxy *proxy = slow_way(&f, LONG_TIMEOUT_MS);
    host_child_start_sending(&alpha, &f, "a");
    start(beta, "secondary");
    WAIT_FOR(beta->node->state == FSM_S_COLO);
    for (int round = 0; round < LONG_ROUNDS; round++) {
        g_usleep((gulong)g_test_rand_int_range(0, 30000));
        host_child_stop(&alpha);
        /* Longer than the proof lasts, which the secondary is not to take for its death. */
        link_set_heartbeat(beta->node->link, 100, 60000);
        g_usleep(LONG_TIMEOUT_MS * 1000);
        host_child_continue(&alpha);
        WAIT_FOR(sends(&alpha, host_child_ask(&alpha, "alpha").frames + 20));
        g_assert_cmpint(beta->node->state, ==, FSM_S_COLO);
        link_set_heartbeat(beta->node->link, 100, LONG_TIMEOUT_MS);
    }
    host_child_kill(&alpha);
    proxy_free(proxy);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    host_child_main(argc, argv);
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-overtaken/overtaken", test_overtaken);
    add_pair_test("/node-overtaken/not-overtaken", test_not_overtaken);
    return g_test_run();
}
