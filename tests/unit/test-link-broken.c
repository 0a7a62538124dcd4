/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that breaks the protocol once it is up, or says nothing: the link goes down with a reason,
 * and what it said before counts.
 */
#include <string.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"
#include "tests/support/link-end.h"

typedef struct {
    int control, checkpoint, packets;
} FakePeer;

static void open_other(LinkEnd *end, int *ret_fd, const char *channel, const char *session)
{
    unsigned kind;
    g_autofree char *body =
        g_strdup_printf("{\"channel\":\"%s\",\"session\":\"%s\"}", channel, session);
    *ret_fd = stranger_connect(link_end_port(end));
    stranger_send_bytes(*ret_fd, stranger_hello(LINK_PROTOCOL, 1, body));
    json_object_put(stranger_read_hello(*ret_fd, &kind));
    g_assert_cmpuint(kind, ==, 2);
}

static void fake_peer_open(LinkEnd *end, FakePeer *ret_peer)
{
    ret_peer->control = stranger_connect(link_end_port(end));
    g_autofree char *session = stranger_begin_pairing(ret_peer->control);
    open_other(end, &ret_peer->packets, "packets", session);
    open_other(end, &ret_peer->checkpoint, "checkpoint", session);
    link_end_wait(end->ups == 1);
}

static void fake_peer_close(FakePeer *peer)
{
    close(peer->control);
    close(peer->checkpoint);
    close(peer->packets);
}

static void expect_down(gboolean on_control, const void *bytes, gsize len, const char *why)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    FakePeer peer;
    fake_peer_open(end, &peer);
    stranger_send(on_control ? peer.control : peer.packets, bytes, len);
    link_end_wait(end->downs == 1);
    g_assert_error(end->down, LINK_ERROR, LINK_ERROR_PROTOCOL);
    g_autofree char *who = g_strdup_printf("eve (%s): ", link_end_stranger());
    if (!strstr(end->down->message, why) || !g_str_has_prefix(end->down->message, who))
        g_error("'%s' doesn't say '%s'", end->down->message, why);
    g_assert_cmpuint(end->messages->len, ==, 0);
    fake_peer_close(&peer);
}

#define NOTHING "\0\0\0\0\0\0\0\0"

static void test_broken_protocol(void)
{
    expect_down(TRUE, "\xff\xff\xff\xff\0\x11\0\0", 8, "4294967295 bytes");
    expect_down(TRUE, "\0\0\0\0\0\x03\0\0", 8, "unknown type 3");
    expect_down(TRUE, "GET / HTTP/1.1\r\n", 16, "control: ");
    expect_down(TRUE, "\0\0\0\x10\0\x01\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0", 24,
                "heartbeat 5 where 0 belongs");
    /* Of what was sent or not: with another number, and from the future. */
    expect_down(TRUE, "\0\0\0\x18\0\x02\0\0\0\0\0\0\0\0\x27\0" NOTHING NOTHING, 32,
                "the echo of a heartbeat that wasn't sent");
    expect_down(TRUE, "\0\0\0\x18\0\x02\0\0\0\0\0\0\0\0\0\0\x7f\0\0\0\0\0\0\0" NOTHING, 32,
                "the echo of a heartbeat that wasn't sent");
    expect_down(FALSE, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0", 16, "packets: a frame");
    expect_down(FALSE, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "packets: a frame of 0");
}

/* What came in order before the broken bytes counts. */
static void test_broken_after_good(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    FakePeer peer;
    fake_peer_open(end, &peer);
    stranger_send(peer.control, "\0\0\0\x02\0\x20\0\0hi\0\0\0\0\0\x02\0\0", 18);
    link_end_wait(end->downs == 1);
    g_assert_cmpuint(end->messages->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(end->messages, 0), ==, "32:hi");
    fake_peer_close(&peer);
}

/* The end of one connection doesn't overtake what was said on control before. */
static void test_control_first(void)
{
    for (int i = 0; i < 50; i++) {
        g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
        FakePeer peer;
        fake_peer_open(end, &peer);
        stranger_send(peer.control, "\0\0\0\x03\0\x18\0\0bye", 11);
        colo_fd_close(i % 2 ? &peer.packets : &peer.checkpoint);
        link_end_wait(end->downs == 1);
        g_assert_cmpuint(end->messages->len, ==, 1);
        fake_peer_close(&peer);
    }
}

/* Silence on control, though everything else is well and packets flow. */
static void test_silence(void)
{
    g_autoptr(LinkEnd) end =
        link_end_new_accepting(&(LinkEndOptions){.interval_ms = 10, .timeout_ms = 60});
    FakePeer peer;
    fake_peer_open(end, &peer);
    while (!end->downs)
        stranger_send(peer.packets, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0x", 17);
    g_assert_error(end->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(end->down->message, "no sign of life for"));
    fake_peer_close(&peer);
}

/* Any byte on control is a sign of life, also those of a message that isn't whole. */
static void test_slow_message_is_life(void)
{
    g_autoptr(LinkEnd) end =
        link_end_new_accepting(&(LinkEndOptions){.interval_ms = 10, .timeout_ms = 1000});
    FakePeer peer;
    fake_peer_open(end, &peer);
    static const char message[] = "\0\0\0\x28\0\x18\0\0and here forty bytes come one at a time.";
    gint64 begin = g_get_monotonic_time();
    for (gsize i = 0; i < 48; i++) {
        stranger_send(peer.control, message + i, 1);
        while (g_get_monotonic_time() < begin + (gint64)(i + 1) * 50000 && !end->downs)
            g_main_context_iteration(NULL, TRUE);
    }
    link_end_wait(end->messages->len == 1);
    g_assert_cmpuint(end->downs, ==, 0);
    fake_peer_close(&peer);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    link_end_add_test("/link-refuse/broken-protocol", test_broken_protocol);
    link_end_add_test("/link-refuse/broken-after-good", test_broken_after_good);
    link_end_add_test("/link-refuse/control-first", test_control_first);
    link_end_add_test("/link-refuse/silence", test_silence);
    link_end_add_test("/link-refuse/slow-message-is-life", test_slow_message_is_life);
    return g_test_run();
}
