/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two links with a bad network between them. */
#include <string.h>

#include "tests/support/link-end.h"
#include "tests/support/proxy.h"

typedef struct {
    LinkEnd *primary, *secondary;
    Proxy *proxy;
} Net;

/* Both ends and the network; they are looking for each other. */
static void net_open(Net *net, const LinkEndOptions *options)
{
    g_autoptr(GError) error = NULL;
    net->primary = link_end_new(options, 0);
    g_autofree char *target = link_end_address(link_end_port(net->primary));
    guint16 number = link_end_number();
    g_autofree char *listen = link_end_address(number);
    net->proxy = proxy_new(listen, target, &error);
    g_assert_no_error(error);
    net->secondary = link_end_new(options, number ? number : proxy_port(net->proxy));
    link_end_accept(net->primary, "alpha");
    link_end_dial(net->secondary, "beta");
}

static void net_up(Net *net, const LinkEndOptions *options)
{
    net_open(net, options);
    link_end_wait(net->primary->ups == 1 && net->secondary->ups == 1);
}

static void net_close(Net *net)
{
    link_end_free(net->primary);
    link_end_free(net->secondary);
    proxy_free(net->proxy);
}

static void wait_both_down(Net *net)
{
    link_end_wait(net->primary->downs == 1 && net->secondary->downs == 1);
}

/* They find each other again. */
static void expect_again(Net *net)
{
    unsigned ups = net->primary->ups;
    link_end_accept(net->primary, "alpha");
    link_end_dial(net->secondary, "beta");
    link_end_wait(net->primary->ups > ups && link_is_up(net->primary->link) &&
                  link_is_up(net->secondary->link));
}

/* ---- Ends ---- */

static void test_cut(gconstpointer channel)
{
    Net net;
    net_up(&net, NULL);
    g_assert_cmpuint(proxy_open(net.proxy, channel), ==, strcmp(channel, "all") ? 1 : 3);
    proxy_do(net.proxy, "cut %s", (const char *)channel);
    wait_both_down(&net);
    g_assert_error(net.primary->down, LINK_ERROR, LINK_ERROR_CLOSED);
    g_assert_error(net.secondary->down, LINK_ERROR, LINK_ERROR_CLOSED);
    expect_again(&net);
    net_close(&net);
}

static void test_close(gconstpointer channel)
{
    Net net;
    net_up(&net, NULL);
    proxy_do(net.proxy, "close %s", (const char *)channel);
    wait_both_down(&net);
    expect_again(&net);
    net_close(&net);
}

/* One direction of one connection: the other end learns it from this end's going. */
static void test_half_close(gconstpointer channel)
{
    for (int up = 0; up < 2; up++) {
        Net net;
        net_up(&net, NULL);
        proxy_do(net.proxy, "half-close %s %s", (const char *)channel, up ? "up" : "down");
        wait_both_down(&net);
        expect_again(&net);
        net_close(&net);
    }
}

/* ---- Silence ---- */

static void test_blackhole(gconstpointer channel)
{
    Net net;
    net_up(&net, &(LinkEndOptions){.interval_ms = 10, .timeout_ms = 100});
    proxy_do(net.proxy, "blackhole %s", (const char *)channel);
    wait_both_down(&net);
    /* Who finds out first ends the connections that pass, and the other may see that first. */
    gboolean primary = g_error_matches(net.primary->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    gboolean secondary = g_error_matches(net.secondary->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    g_assert_true(primary || secondary);
    g_assert_true((primary && secondary) || strcmp(channel, "all") != 0);
    proxy_do(net.proxy, "pass all");
    expect_again(&net);
    net_close(&net);
}

/* Only one side hears nothing: it says so, and the other learns it from the end. */
static void test_deaf(void)
{
    Net net;
    net_up(&net, &(LinkEndOptions){.interval_ms = 10, .timeout_ms = 100});
    proxy_do(net.proxy, "blackhole control down");
    wait_both_down(&net);
    g_assert_error(net.secondary->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    g_assert_error(net.primary->down, LINK_ERROR, LINK_ERROR_CLOSED);
    net_close(&net);
}

/* A peer that answers nothing while it is dialled, and comes back. */
static void test_blackhole_at_handshake(void)
{
    Net net;
    net_open(&net, &(LinkEndOptions){.handshake_ms = 50});
    proxy_do(net.proxy, "blackhole all");
    link_end_wait(link_end_has_reason(net.secondary, LINK_ERROR_TIMEOUT, "no link within 50 ms"));
    proxy_do(net.proxy, "pass all");
    link_end_wait(link_is_up(net.primary->link) && link_is_up(net.secondary->link));
    net_close(&net);
}

static void test_refused_and_back(void)
{
    Net net;
    net_open(&net, NULL);
    proxy_do(net.proxy, "refuse");
    proxy_do(net.proxy, "cut all");
    link_end_wait(link_end_has_reason(net.secondary, LINK_ERROR_ADDRESS, link_end_absence()));
    proxy_do(net.proxy, "accept");
    link_end_wait(net.primary->ups && net.secondary->ups);
    net_close(&net);
}

/* Slow isn't dead: a delay longer than the interval. (The timeout must be longer than a round trip:
 * the accepting side is up that much earlier.) */
static void test_delay(void)
{
    Net net;
    net_open(&net, &(LinkEndOptions){.interval_ms = 10, .timeout_ms = 1000});
    proxy_do(net.proxy, "delay all 100");
    link_end_wait(net.primary->ups == 1 && net.secondary->ups == 1);
    link_send(net.primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(net.secondary->messages->len == 1);
    link_send(net.secondary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(net.primary->messages->len == 1);
    g_assert_cmpuint(net.primary->downs + net.secondary->downs, ==, 0);
    net_close(&net);
}

/* ---- Last words ---- */

/* The end of the other connections may overtake what was sent on control. But this side keeps them
 * open until its last messages have arrived. */
static void test_last_words_are_slow(void)
{
    Net net;
    net_up(&net, NULL);
    proxy_do(net.proxy, "delay control 100");
    link_send(net.primary->link, LINK_MSG_GOODBYE, "bye", 3);
    link_close(net.primary->link);
    link_end_wait(net.secondary->downs == 1);
    g_assert_cmpuint(net.secondary->messages->len, ==, 1);
    g_assert_cmpuint(net.primary->downs, ==, 0);
    net_close(&net);
}

/* ---- Damage ---- */

/* A flipped bit anywhere in the handshake: an attempt fails or a name differs, but in the end they
 * are linked, with nothing wrong between them. */
static void test_flip_in_handshake(gconstpointer direction)
{
    for (unsigned offset = 0; offset < 330; offset += offset < 40 ? 3 : 23) {
        Net net;
        net_open(&net, &(LinkEndOptions){.handshake_ms = 300});
        proxy_do(net.proxy, "flip control %s %u", (const char *)direction, offset);
        link_end_wait(net.primary->ups && net.secondary->ups);
        if (link_is_up(net.primary->link) && link_is_up(net.secondary->link)) {
            link_send(net.primary->link, LINK_MSG_BLANK, NULL, 0);
            link_end_wait(net.secondary->messages->len || net.secondary->downs);
        }
        net_close(&net);
    }
}

/* Cut at each of many bytes of the handshake: never half up for good. */
static void test_cut_in_handshake(gconstpointer channel)
{
    for (unsigned offset = 0; offset < 330; offset += offset < 20 ? 5 : 61)
        for (int up = 0; up < 2; up++) {
            Net net;
            net_open(&net, NULL);
            /* As the accepting side may be up before the last answer is lost. */
            proxy_do(net.proxy, "cut-at %s %s %u", (const char *)channel, up ? "up" : "down",
                     offset);
            while (!(link_is_up(net.primary->link) && link_is_up(net.secondary->link))) {
                g_main_context_iteration(NULL, TRUE);
                if (net.primary->downs && !link_is_up(net.primary->link)) {
                    net.primary->downs = 0;
                    link_end_accept(net.primary, "alpha");
                }
                if (net.secondary->downs) {
                    net.secondary->downs = 0;
                    link_end_dial(net.secondary, "beta");
                }
            }
            net_close(&net);
        }
}

/* ---- Packets ---- */

typedef struct {
    GRand *rand;
    guint64 sent, frames;
} Traffic;

/* Sends frames until the queue is full, in sizes from 1 byte to the longest. */
static void fill(LinkEnd *end, Traffic *traffic, GPtrArray *sent)
{
    static guint8 frame[LINK_PACKET_MAX];
    while (traffic->sent < traffic->frames) {
        gsize len = traffic->sent % 50
                        ? (gsize)g_rand_int_range(traffic->rand, 1, 1600)
                        : (gsize)g_rand_int_range(traffic->rand, 1, LINK_PACKET_MAX + 1);
        memset(frame, (int)traffic->sent, len);
        if (!link_send_packet(end->link, (unsigned)traffic->sent % 3, traffic->sent, frame, len))
            return;
        g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_MD5, frame, len);
        g_ptr_array_add(sent,
                        g_strdup_printf("%u:%" G_GUINT64_FORMAT ":%zu:%s",
                                        (unsigned)traffic->sent % 3, traffic->sent, len, sum));
        traffic->sent++;
    }
}

static void expect_same(const GPtrArray *sent, const GPtrArray *received)
{
    g_assert_cmpuint(sent->len, ==, received->len);
    for (guint i = 0; i < sent->len; i++)
        g_assert_cmpstr(g_ptr_array_index(sent, i), ==, g_ptr_array_index(received, i));
}

/* Both ways at once, whole and in order, however the bytes are cut into pieces on the way. */
static void test_packets(void)
{
    Net net;
    Traffic up = {.rand = g_rand_new_with_seed(1), .frames = 3000};
    Traffic down = {.rand = g_rand_new_with_seed(2), .frames = 3000};
    g_autoptr(GPtrArray) up_sent = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) down_sent = g_ptr_array_new_with_free_func(g_free);
    net_up(&net, NULL);
    net.primary->keep_packets = net.secondary->keep_packets = TRUE;
    while (net.primary->packet_frames < up.frames || net.secondary->packet_frames < down.frames) {
        fill(net.secondary, &up, up_sent);
        fill(net.primary, &down, down_sent);
        g_main_context_iteration(NULL, FALSE);
    }
    expect_same(up_sent, net.primary->packets);
    expect_same(down_sent, net.secondary->packets);
    g_assert_cmpuint(link_packet_stats(net.primary->link)->received_frames, ==, up.frames);
    g_assert_cmpuint(link_packet_stats(net.primary->link)->sent_frames, ==, down.frames);
    g_rand_free(up.rand);
    g_rand_free(down.rand);
    net_close(&net);
}

/* A peer that takes no frames costs frames, counted, and nothing else: not memory, not the link. */
static void test_congestion(void)
{
    static guint8 frame[60000];
    Net net;
    net_up(&net, NULL);
    net.secondary->keep_packets = TRUE;
    proxy_do(net.proxy, "blackhole packets");
    guint64 sent = 0, dropped = 0;
    while (dropped < 1000) {
        if (link_send_packet(net.primary->link, 0, sent, frame, sizeof(frame)))
            sent++;
        else
            dropped++;
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpuint(link_packet_stats(net.primary->link)->dropped_frames, ==, dropped);
    g_assert_cmpuint(link_packet_stats(net.primary->link)->sent_frames, ==, sent);
    link_send(net.primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(net.secondary->messages->len == 1);
    /* What was taken arrives whole, later. */
    proxy_do(net.proxy, "pass packets");
    link_end_wait(net.secondary->packet_frames == sent);
    for (guint i = 0; i < net.secondary->packets->len; i++) {
        g_autofree char *begin = g_strdup_printf("0:%u:60000:", i);
        g_assert_true(g_str_has_prefix(g_ptr_array_index(net.secondary->packets, i), begin));
    }
    g_assert_cmpuint(net.primary->downs + net.secondary->downs, ==, 0);
    net_close(&net);
}

static void test_impossible_frames(void)
{
    static guint8 frame[LINK_PACKET_MAX + 1];
    Net net;
    net_up(&net, NULL);
    g_assert_false(link_send_packet(net.primary->link, 0, 0, frame, 0));
    g_assert_false(link_send_packet(net.primary->link, 0, 0, frame, sizeof(frame)));
    g_assert_true(
        link_send_packet(net.primary->link, G_MAXUINT32, G_MAXUINT64, frame, LINK_PACKET_MAX));
    link_end_wait(net.secondary->packet_frames == 1);
    g_assert_cmpuint(link_packet_stats(net.primary->link)->dropped_frames, ==, 2);
    net_close(&net);
}

/* Control goes before packets: a queue of frames doesn't hold a message up. */
static void test_control_beside_packets(void)
{
    static guint8 frame[60000];
    Net net;
    net_up(&net, NULL);
    proxy_do(net.proxy, "rate packets 100000");
    while (link_send_packet(net.primary->link, 0, 0, frame, sizeof(frame)))
        g_main_context_iteration(NULL, FALSE);
    link_send(net.primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(net.secondary->messages->len == 1);
    g_assert_cmpuint(net.secondary->packet_frames, <,
                     link_packet_stats(net.primary->link)->sent_frames);
    net_close(&net);
}

/* ---- The proxy's own language ---- */

static void test_commands(void)
{
    static const char *const bad[] = {
        "",
        "cut",
        "cut video",
        "cut all up",
        "half-close all",
        "half-close all sideways",
        "flip all up",
        "flip all 3",
        "flip all up x",
        "delay all",
        "delay all -1",
        "delay all 1 2",
        "refuse all",
        "explode all",
        "cut 'all",
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(Proxy) proxy = proxy_new("127.0.0.1:0", "127.0.0.1:1", &error);
    g_assert_no_error(error);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(proxy_command(proxy, bad[i], &error));
        g_assert_nonnull(error);
        g_clear_error(&error);
    }
}

static void add(const char *name, GTestDataFunc func)
{
    static const char *const channels[] = {"control", "checkpoint", "packets", "all"};
    for (gsize i = 0; i < G_N_ELEMENTS(channels); i++) {
        g_autofree char *path = g_strdup_printf("/link-network/%s/%s", name, channels[i]);
        link_end_add_data_test(path, channels[i], func);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("cut", test_cut);
    add("close", test_close);
    add("half-close", test_half_close);
    add("cut-in-handshake", test_cut_in_handshake);
    link_end_add_data_test("/link-network/blackhole/control", "control", test_blackhole);
    link_end_add_data_test("/link-network/blackhole/all", "all", test_blackhole);
    link_end_add_data_test("/link-network/flip-in-handshake/up", "up", test_flip_in_handshake);
    link_end_add_data_test("/link-network/flip-in-handshake/down", "down", test_flip_in_handshake);
    link_end_add_test("/link-network/deaf", test_deaf);
    link_end_add_test("/link-network/blackhole-at-handshake", test_blackhole_at_handshake);
    link_end_add_test("/link-network/refused-and-back", test_refused_and_back);
    link_end_add_test("/link-network/delay", test_delay);
    link_end_add_test("/link-network/last-words-are-slow", test_last_words_are_slow);
    link_end_add_test("/link-network/packets", test_packets);
    link_end_add_test("/link-network/congestion", test_congestion);
    link_end_add_test("/link-network/impossible-frames", test_impossible_frames);
    link_end_add_test("/link-network/control-beside-packets", test_control_beside_packets);
    g_test_add_func("/link-network/commands", test_commands);
    return g_test_run();
}
