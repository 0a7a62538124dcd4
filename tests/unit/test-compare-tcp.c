/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of TCP for what a connection carries: what is released when, and what is a divergence. */
#include "tests/support/compare_tcp.h"

static void test_equal(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "hello");
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 0, 0, "hello");
    expect(rig, 1);
    send_from(rig, S, TCP_ACK, 5, 0, " world"); /* the SVM is ahead */
    expect(rig, 0);
    send_from(rig, P, TCP_ACK, 5, 0, " world");
    expect(rig, 1);
    g_assert_cmpuint(compare_stats(rig->compare)->verified_bytes, ==, 11);
    g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
}

static void test_segmentation(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "hel");
    send_from(rig, P, TCP_ACK, 3, 0, "lo world");
    send_from(rig, S, TCP_ACK, 0, 0, "hello");
    expect(rig, 1);
    send_from(rig, S, TCP_ACK, 5, 0, " wor");
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 9, 0, "ldly");
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 11, 0, "ly");
    expect(rig, 1);
}

static void test_payload_differs(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "same");
    send_from(rig, S, TCP_ACK, 0, 0, "same and then this");
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 4, 0, " and thus");
    const CompareDivergence *d = rig_diverged(rig, COMPARE_PAYLOAD);
    g_assert_cmpuint(d->offset, ==, 11);
    g_assert_cmpmem(d->primary, d->primary_len, "us", 2);
    g_assert_cmpmem(d->secondary, d->secondary_len, "en this", 7);
    /* Nothing of the flow leaves any more, and it is reported once. */
    send_from(rig, P, TCP_ACK, 0, 0, "same");
    send_from(rig, P, TCP_ACK, 13, 0, "more");
    send_from(rig, S, TCP_ACK, 18, 0, "other");
    rig_wait_ms(rig, 1000);
    expect(rig, 0);
    rig_checkpoint(rig);
    expect(rig, 3);
}

static void test_overlap_and_retransmission(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "abcdef");
    send_from(rig, P, TCP_ACK, 3, 0, "defghi");
    send_from(rig, P, TCP_ACK, 0, 0, "abcdef");
    send_from(rig, S, TCP_ACK, 0, 0, "abcd");
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 2, 0, "cdefgh");
    expect(rig, 1);
    send_from(rig, S, TCP_ACK, 8, 0, "i");
    expect(rig, 2);
    send_from(rig, P, TCP_ACK, 0, 0, "abc"); /* known to be the SVM's too */
    expect(rig, 1);
}

static void test_reordering(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 6, 0, "ghi");
    send_from(rig, P, TCP_ACK, 0, 0, "abc");
    send_from(rig, S, TCP_ACK, 3, 0, "def");
    send_from(rig, S, TCP_ACK, 0, 0, "abc");
    expect(rig, 0); /* in its turn */
    send_from(rig, P, TCP_ACK, 3, 0, "def");
    send_from(rig, S, TCP_ACK, 6, 0, "ghi");
    expect(rig, 3);
}

/* A side that contradicts itself before it has been compared is noticed as well. */
static void test_retransmission_differs(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_ACK, 0, 0, "abcdef");
        send_from(rig, side, TCP_ACK, 2, 0, "cdEf");
        rig_diverged(rig, COMPARE_PAYLOAD);
        rig_checkpoint(rig);
        FrameSpec first = rig_tcp(TCP_ACK, ISN_P + 21, ISN_C + 1, "cd");
        FrameSpec around = rig_tcp(TCP_ACK, ISN_P + 20, ISN_C + 1, "bXde");
        if (side == P) {
            rig_primary(rig, &first);
            rig_primary(rig, &around);
        } else {
            rig_secondary(rig, &first);
            rig_secondary(rig, &around);
        }
        rig_diverged(rig, COMPARE_PAYLOAD);
    }
}

/* In-tree COLO releases pure ACKs unchecked: what a client was told is safe, dies with the host. */
static void test_ack_waits_for_secondary(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 100, NULL);
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 0, 99, NULL);
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 0, 100, NULL);
    expect(rig, 1);
    send_from(rig, S, TCP_ACK, 0, 300, NULL);
    send_from(rig, P, TCP_ACK, 0, 200, NULL);
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 0, 301, "data does not make it better");
    send_from(rig, S, TCP_ACK, 0, 300, "data does not make it better");
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 28, 301, NULL);
    expect(rig, 1);
}

/* The SVM acknowledges with its answer what the PVM acknowledged at once: nobody waits 40 ms. */
static void test_ack_with_data(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 10, NULL);
    send_from(rig, P, TCP_ACK, 0, 10, "answer");
    send_from(rig, S, TCP_ACK, 0, 10, "answer");
    expect(rig, 2);
}

/* A delayed ACK of the SVM is no divergence after compare-timeout; a missing one is, later. */
static void test_ack_timeout(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 10, NULL);
    rig_wait_ms(rig, 200);
    expect(rig, 0);
    rig_wait_ms(rig, 51);
    rig_diverged(rig, COMPARE_MISSING_OUTPUT);
}

/* Likewise when the ACK travels with data that the SVM has sent, with an older ACK. */
static void test_ack_timeout_with_data(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 20, "answer");
    send_from(rig, S, TCP_ACK, 0, 10, "answer");
    rig_wait_ms(rig, 100);
    send_from(rig, P, TCP_ACK, 6, 20, NULL); /* has waited less, and is due later */
    rig_wait_ms(rig, 100);
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 6, 20, NULL);
    expect(rig, 2);
    send_from(rig, P, TCP_ACK, 6, 30, "more");
    send_from(rig, S, TCP_ACK, 6, 20, "more");
    rig_wait_ms(rig, 249);
    expect(rig, 0);
    rig_wait_ms(rig, 2);
    rig_diverged(rig, COMPARE_MISSING_OUTPUT);
}

static void test_ack_wraps(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig_open(rig, ISN_P, ISN_S, 0xfffffffe);
    FrameSpec p = rig_tcp(TCP_ACK, ISN_P + 1, 5, NULL), s = rig_tcp(TCP_ACK, ISN_S + 1, 4, NULL);
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 0);
    s.ack = 5;
    rig_secondary(rig, &s);
    expect(rig, 1);
}

static void test_sequence_wraps(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig_open(rig, 0xfffffffb, 0x7ffffffb, ISN_C);
    FrameSpec p = rig_tcp(TCP_ACK, 0xfffffffc, ISN_C + 1, "0123456789");
    FrameSpec s = rig_tcp(TCP_ACK, 0x7ffffffc, ISN_C + 1, "01234");
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    s.seq += 5;
    s.data = "56789";
    rig_secondary(rig, &s);
    expect(rig, 1);
    p.seq += 10;
    p.data = "abcdefghij";
    s.seq += 5;
    s.data = "abcdE";
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    g_assert_cmpuint(rig_diverged(rig, COMPARE_PAYLOAD)->offset, ==, 14);
}

static void test_zero_window_and_keepalive(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "abc");
    send_from(rig, S, TCP_ACK, 0, 0, "abc");
    expect(rig, 1);
    FrameSpec p = rig_tcp(TCP_ACK, ISN_P + 4, ISN_C + 1, NULL);
    p.window = 0;
    rig_primary(rig, &p); /* a closed window is the side's own business, */
    p.window = 1000;
    rig_primary(rig, &p); /* as is opening it again */
    expect(rig, 2);
    send_from(rig, P, TCP_ACK, 2, 0, NULL); /* a keep-alive, or a window probe of Linux */
    send_from(rig, P, TCP_ACK, 2, 0, "c");  /* an old one with a byte of garbage */
    expect(rig, 2);
    send_from(rig, P, TCP_ACK, 3, 0, "d"); /* a window probe with the next byte */
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 3, 0, "def");
    expect(rig, 1);
}

static void urgent(Rig *rig, int side, guint32 at, guint16 pointer, const char *text)
{
    FrameSpec spec = rig_tcp(TCP_ACK | (pointer != 0 ? TCP_URG : 0),
                             (side == P ? ISN_P : ISN_S) + 1 + at, ISN_C + 1, text);
    spec.urgent = pointer;
    if (side == P)
        rig_primary(rig, &spec);
    else
        rig_secondary(rig, &spec);
}

static void test_urgent(void)
{
    g_autoptr(Rig) rig = opened();

    urgent(rig, P, 0, 4, "abc!");
    urgent(rig, S, 0, 0, "ab");
    urgent(rig, S, 2, 2, "c!"); /* points at the same byte */
    expect(rig, 1);
}

/* One side has said several before the other says its first; and says some again. */
static void test_urgent_in_flight(void)
{
    for (int ahead = P; ahead <= S; ahead++) {
        g_autoptr(Rig) rig = opened();
        for (int i = 0; i < 2; i++) {
            int side = i == 0 ? ahead : !ahead;
            for (guint32 at = 0; at < 40; at += 4) {
                urgent(rig, side, at, 4, "abc!");
                urgent(rig, side, at, 4, "abc!");
            }
            if (i == 0)
                expect(rig, 0);
        }
        expect(rig, 20);
    }
}

static void test_urgent_differs(void)
{
    g_autoptr(Rig) primary_only = opened();
    urgent(primary_only, P, 0, 4, "abc!");
    urgent(primary_only, S, 0, 0, "abc!");
    expect(primary_only, 0);
    rig_wait_ms(primary_only, 61);
    rig_diverged(primary_only, COMPARE_MISSING_OUTPUT);

    g_autoptr(Rig) secondary_only = opened();
    urgent(secondary_only, P, 0, 0, "abc!");
    urgent(secondary_only, S, 0, 4, "abc!");
    rig_diverged(secondary_only, COMPARE_FLAG);
    expect(secondary_only, 0);
}

/* Timestamps, windows, IP ids and TTLs may differ. */
static void test_headers_may_differ(void)
{
    g_autoptr(Rig) rig = opened();
    FrameSpec p = rig_tcp(TCP_ACK | TCP_PSH, ISN_P + 1, ISN_C + 1, "x");
    FrameSpec s = rig_tcp(TCP_ACK, ISN_S + 1, ISN_C + 1, "x");

    p.ip_id = 7;
    p.window = 9;
    p.has_ts = s.has_ts = TRUE;
    p.tsval = 100;
    s.tsval = 200;
    s.n_sack = 1;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
}

/* However far one side is ahead: what waits is bounded by its bytes, not by how many frames it is.
 */
static void test_far_ahead(void)
{
    const gint32 n = 20000;

    for (int ahead = P; ahead <= S; ahead++) {
        g_autoptr(Rig) rig = opened();
        for (gint32 at = 0; at < n; at++)
            send_from(rig, ahead, TCP_ACK, at, 0, "x");
        /* Retransmissions, from the begin. */
        for (gint32 at = 0; at < 100; at++)
            send_from(rig, ahead, TCP_ACK, at, 0, "x");
        expect(rig, 0);
        for (gint32 at = 0; at < n; at++)
            send_from(rig, !ahead, TCP_ACK, at, 0, "x");
        expect(rig, (guint)n + (ahead == P ? 100 : 0));
        g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    }
}

/* Likewise for datagrams. */
static void test_datagrams_far_ahead(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec spec = {.src = 2, .dst = 1, .proto = PROTO_UDP, .data = "x", .len = 1};

    for (guint i = 0; i < 10000; i++)
        rig_primary(rig, &spec);
    for (guint i = 0; i < 20000; i++)
        rig_secondary(rig, &spec);
    expect(rig, 10000);
    for (guint i = 0; i < 10000; i++)
        rig_primary(rig, &spec);
    expect(rig, 10000);
}

/* More disorder than can be sorted quickly: given up, not slow. */
static void test_too_much_disorder(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        for (gint32 at = 4; at <= 4 * 9000; at += 4)
            send_from(rig, side, TCP_ACK, at, 0, "x");
        rig_agrees(rig);
        send_from(rig, side, TCP_ACK, 4 * 4500 + 2, 0, "x");
        rig_diverged(rig, COMPARE_TABLE_FULL);
        rig_checkpoint(rig);
        g_assert_cmpuint(rig_released(rig), ==, side == P ? 9001 : 0);
    }
}

static void send_window(Rig *rig, int side, guint32 acked, guint16 window, const char *text)
{
    FrameSpec spec = rig_tcp(TCP_ACK, (side == P ? ISN_P : ISN_S) + 1, ISN_C + 1 + acked, text);
    spec.window = window;
    if (side == P)
        g_assert_true(rig_primary(rig, &spec));
    else
        rig_secondary(rig, &spec);
}

/* Exactly one frame has left, with this window and a right checksum. */
static void expect_window(Rig *rig, guint16 window)
{
    Packet packet;
    gsize len;

    g_assert_cmpuint(rig->released->len, ==, 1);
    const guint8 *data = g_bytes_get_data(rig->released->pdata[0], &len);
    g_assert_true(netframe_checksums_ok(data, len, FALSE));
    packet_parse(data, len, FALSE, 0, &packet);
    g_assert_cmpuint(packet.window, ==, window);
    expect(rig, 1);
}

/* A client never sends more than both VMs can take. */
static void test_smaller_window(void)
{
    g_autoptr(Rig) rig = opened();

    send_window(rig, S, 100, 50, NULL);
    send_window(rig, P, 100, 900, NULL);
    expect_window(rig, 50);
    send_window(rig, P, 100, 20, NULL); /* the PVM's is smaller */
    expect_window(rig, 20);
    send_window(rig, P, 200, 901, "abc");
    expect(rig, 0);
    send_window(rig, S, 200, 51, "abc");
    expect_window(rig, 51);
}

/* When the SVM has room again the client hears it, though the PVM has nothing more to say. */
static void test_window_grows(void)
{
    g_autoptr(Rig) rig = opened();

    send_window(rig, S, 100, 0, NULL);
    send_window(rig, P, 100, 900, NULL);
    expect_window(rig, 0);
    send_window(rig, S, 100, 100, NULL);
    expect_window(rig, 100);
    send_window(rig, S, 100, 120, NULL); /* not worth a frame */
    expect(rig, 0);
    send_window(rig, S, 100, 2000, NULL);
    expect_window(rig, 900);
    send_window(rig, S, 100, 4000, NULL); /* all has been said */
    expect(rig, 0);
}

/* A checkpoint makes the SVM's window the PVM's: the client hears that, once. */
static void test_window_at_checkpoint(void)
{
    g_autoptr(Rig) rig = opened();

    send_window(rig, S, 100, 50, NULL);
    send_window(rig, P, 100, 900, NULL);
    expect_window(rig, 50);
    rig_checkpoint(rig);
    expect_window(rig, 900);
    /* And it counts as what the SVM has said. */
    send_window(rig, P, 100, 1000, NULL);
    expect_window(rig, 900);
    rig_checkpoint(rig);
    expect_window(rig, 1000);
    rig_checkpoint(rig);
    expect(rig, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-tcp/" name, func)
    ADD("equal", test_equal);
    ADD("segmentation", test_segmentation);
    ADD("payload-differs", test_payload_differs);
    ADD("overlap-and-retransmission", test_overlap_and_retransmission);
    ADD("reordering", test_reordering);
    ADD("retransmission-differs", test_retransmission_differs);
    ADD("ack-waits-for-secondary", test_ack_waits_for_secondary);
    ADD("ack-with-data", test_ack_with_data);
    ADD("ack-timeout", test_ack_timeout);
    ADD("ack-timeout-with-data", test_ack_timeout_with_data);
    ADD("ack-wraps", test_ack_wraps);
    ADD("sequence-wraps", test_sequence_wraps);
    ADD("zero-window-and-keepalive", test_zero_window_and_keepalive);
    ADD("urgent", test_urgent);
    ADD("urgent-in-flight", test_urgent_in_flight);
    ADD("urgent-differs", test_urgent_differs);
    ADD("headers-may-differ", test_headers_may_differ);
    ADD("far-ahead", test_far_ahead);
    ADD("datagrams-far-ahead", test_datagrams_far_ahead);
    ADD("too-much-disorder", test_too_much_disorder);
    ADD("smaller-window", test_smaller_window);
    ADD("window-grows", test_window_grows);
    ADD("window-at-checkpoint", test_window_at_checkpoint);
    return g_test_run();
}
