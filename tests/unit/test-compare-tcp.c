/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of TCP, one by one: what is released when, and what is a divergence. */
#include "tests/support/compare_rig.h"

#define ISN_P 1000u
#define ISN_S 0x80000000u /* half the sequence space away */
#define ISN_C 5000u

enum { P, S };

/* `at`: the offset in the stream after the SYN; `heard`: bytes acknowledged. */
static void send_from(Rig *rig, int side, guint8 flags, gint32 at, guint32 heard, const char *text)
{
    FrameSpec spec =
        rig_tcp(flags, (side == P ? ISN_P : ISN_S) + 1 + (guint32)at, ISN_C + 1 + heard, text);
    if (side == P)
        g_assert_true(rig_primary(rig, &spec));
    else
        rig_secondary(rig, &spec);
}

static Rig *opened(void)
{
    Rig *rig = rig_new(NULL);
    rig_open(rig, ISN_P, ISN_S, ISN_C);
    return rig;
}

static void expect(Rig *rig, guint released)
{
    rig_agrees(rig);
    g_assert_cmpuint(rig_released(rig), ==, released);
}

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

/* In-tree COLO holds this until a 200 ms retransmission. */
static void test_fin_apart(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_ACK | TCP_FIN, 0, 0, "bye");
        send_from(rig, !side, TCP_ACK, 0, 0, "bye");
        send_from(rig, !side, TCP_ACK | TCP_FIN, 3, 0, NULL);
        expect(rig, side == P ? 1 : 2);
        g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    }
}

static void test_fin_alone(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_ACK | TCP_FIN, 0, 0, NULL);
        expect(rig, 0);
        send_from(rig, !side, TCP_ACK, 0, 0, "more");
        const CompareDivergence *d = rig_diverged(rig, COMPARE_FLAG);
        g_assert_cmpuint(d->primary_len, ==, side == P ? 0 : 4);
        g_assert_cmpuint(rig_released(rig), ==, 0);
    }
}

static void test_fin_missing(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_ACK | TCP_FIN, 0, 0, "x");
        send_from(rig, !side, TCP_ACK, 0, 0, "x");
        rig_agrees(rig);
        rig_wait_ms(rig, 61);
        rig_diverged(rig, side == P ? COMPARE_MISSING_OUTPUT : COMPARE_EXTRA_OUTPUT);
    }
}

static void test_fin_retransmitted(void)
{
    g_autoptr(Rig) rig = opened();

    for (int i = 0; i < 2; i++) {
        send_from(rig, P, TCP_ACK | TCP_FIN, 0, 0, "bye");
        send_from(rig, S, TCP_ACK | TCP_FIN, 0, 0, "bye");
        send_from(rig, S, TCP_ACK | TCP_FIN, 3, 0, NULL);
        expect(rig, 1);
    }
    send_from(rig, P, TCP_ACK, 4, 1, NULL); /* acknowledges the client's FIN */
    send_from(rig, S, TCP_ACK, 4, 1, NULL);
    expect(rig, 1);
}

static void test_rst(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_RST | TCP_ACK, 0, 0, NULL);
        expect(rig, 0);
        send_from(rig, !side, TCP_RST | TCP_ACK, 0, 0, NULL);
        expect(rig, 1);
        rig_wait_ms(rig, 1000);
        rig_agrees(rig);
    }
}

static void test_rst_alone(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, side, TCP_RST, 0, 0, NULL);
        send_from(rig, !side, TCP_ACK, 0, 0, NULL);
        rig_agrees(rig);
        rig_wait_ms(rig, 61);
        rig_diverged(rig, side == P ? COMPARE_MISSING_OUTPUT : COMPARE_EXTRA_OUTPUT);
    }
}

/* A port where nobody listens. */
static void test_rst_refuses(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec spec = rig_tcp(TCP_RST | TCP_ACK, 0, ISN_C + 1, NULL);

    rig_primary(rig, &spec);
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
}

/* A reset's text is compared, whoever comes first; no text is another one. */
static void test_rst_with_data(void)
{
    static const char *const texts[] = {"why", "not", NULL};

    for (int first = P; first <= S; first++) {
        for (guint p = 0; p < G_N_ELEMENTS(texts); p++) {
            for (guint q = 0; q < G_N_ELEMENTS(texts); q++) {
                g_autoptr(Rig) rig = opened();
                send_from(rig, first, TCP_RST, 0, 0, texts[p]);
                expect(rig, 0);
                send_from(rig, !first, TCP_RST, 0, 0, texts[q]);
                if (p == q) {
                    expect(rig, 1);
                    rig_wait_ms(rig, 1000);
                    expect(rig, 0);
                } else {
                    rig_diverged(rig, COMPARE_PAYLOAD);
                    g_assert_cmpuint(rig_released(rig), ==, 0);
                }
            }
        }
    }
}

/* A reset that comes again has the same text, or none. */
static void test_rst_repeated(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = opened();
        send_from(rig, P, TCP_RST, 0, 0, "why");
        send_from(rig, S, TCP_RST, 0, 0, "why");
        send_from(rig, side, TCP_RST, 0, 0, "why");
        send_from(rig, side, TCP_RST, 0, 0, NULL);
        rig_agrees(rig);
        rig_released(rig);
        send_from(rig, side, TCP_RST, 0, 0, "not");
        rig_diverged(rig, COMPARE_PAYLOAD);
        g_assert_cmpuint(rig_released(rig), ==, 0);
    }
}

static void test_syn_waits(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, NULL), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    rig_primary(rig, &p);
    rig_primary(rig, &p); /* retransmitted */
    expect(rig, 0);
    rig_secondary(rig, &s);
    expect(rig, 2);
    rig_secondary(rig, &s);
    rig_primary(rig, &p);
    expect(rig, 1);
}

static void test_syn_alone(void)
{
    for (int side = P; side <= S; side++) {
        g_autoptr(Rig) rig = rig_new(NULL);
        FrameSpec spec = rig_tcp(TCP_SYN, ISN_P, 0, NULL);
        if (side == P)
            rig_primary(rig, &spec);
        else
            rig_secondary(rig, &spec);
        rig_wait_ms(rig, 61);
        rig_diverged(rig, side == P ? COMPARE_MISSING_OUTPUT : COMPARE_EXTRA_OUTPUT);
    }
}

static void test_syn_options_differ(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, NULL), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    p.mss = s.mss = 1460;
    p.wscale = 7;
    s.wscale = 8;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    rig_diverged(rig, COMPARE_FLAG);
    expect(rig, 0);
}

/* Both ends open at once: SYN, then SYN-ACK with the same initial sequence number. */
static void test_simultaneous_open(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, NULL), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
    p.flags = s.flags = TCP_SYN | TCP_ACK;
    p.ack = s.ack = ISN_C + 1;
    rig_primary(rig, &p);
    expect(rig, 0); /* the SVM has not heard the client's SYN yet */
    rig_secondary(rig, &s);
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 0, 0, "hi");
    send_from(rig, S, TCP_ACK, 0, 0, "hi");
    expect(rig, 1);
}

/* Both ends close at once: FIN, then an ACK of the other's. */
static void test_simultaneous_close(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK | TCP_FIN, 0, 0, NULL);
    send_from(rig, S, TCP_ACK | TCP_FIN, 0, 1, NULL); /* hears the client's FIN first */
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 1, 1, NULL);
    expect(rig, 1);
}

static void test_data_with_syn(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, "early"), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    rig_secondary(rig, &s);
    rig_primary(rig, &p);
    expect(rig, 0);
    send_from(rig, S, TCP_ACK, 0, 0, "early");
    expect(rig, 1);
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

/* A connection that was there before anyone looked: the numbers are the same on both sides. */
static void test_from_the_middle(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec spec = rig_tcp(TCP_ACK, 77, 1, NULL);

    rig_primary(rig, &spec); /* a keep-alive's answer: no place in the stream is known from it */
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
    spec.seq = 78;
    spec.data = "mid";
    spec.len = 3;
    rig_primary(rig, &spec);
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
}

static void test_from_the_middle_differs(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_ACK, 100, 1, "abc"), s = rig_tcp(TCP_ACK, 100, 1, "abd");

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    g_assert_cmpuint(rig_diverged(rig, COMPARE_PAYLOAD)->offset, ==, 2);
}

/* After a checkpoint the SVM has the PVM's numbers, whatever it had before. */
static void test_open_at_checkpoint(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "before");
    rig_checkpoint(rig);
    expect(rig, 1);
    FrameSpec spec = rig_tcp(TCP_ACK, ISN_P + 7, ISN_C + 1, "after");
    rig_primary(rig, &spec);
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
}

/*
 * In-tree COLO starts a checkpoint storm here: the SVM resumes first, and its TCP sends once more
 * what the PVM's had sent, and released, before the checkpoint.
 */
static void test_retransmission_after_checkpoint(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 3, "reply");
    rig_checkpoint(rig);
    expect(rig, 1);
    FrameSpec again = rig_tcp(TCP_ACK, ISN_P + 1, ISN_C + 4, "reply");
    rig_secondary(rig, &again);
    rig_wait_ms(rig, 1000);
    expect(rig, 0);
    rig_primary(rig, &again); /* the PVM's own needs no proof: it has left before */
    expect(rig, 1);
    rig_checkpoint(rig);
    rig_primary(rig, &again);
    expect(rig, 1);
    rig_secondary(rig, &again);
    FrameSpec fin = rig_tcp(TCP_ACK | TCP_FIN, ISN_P + 6, ISN_C + 4, NULL);
    rig_secondary(rig, &fin);
    rig_primary(rig, &fin);
    expect(rig, 1);
    rig_wait_ms(rig, 1000);
    rig_agrees(rig);
}

/* The client's answer to a SYN-ACK that left with a checkpoint. */
static void test_syn_over_checkpoint(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec syn = rig_tcp(TCP_SYN | TCP_ACK, ISN_P, ISN_C + 1, NULL);

    rig_primary(rig, &syn);
    rig_checkpoint(rig);
    expect(rig, 1);
    rig_secondary(rig, &syn); /* retransmitted by the copy */
    rig_primary(rig, &syn);
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 0, 9, "200 OK");
    FrameSpec reply = rig_tcp(TCP_ACK, ISN_P + 1, ISN_C + 10, "200 OK");
    rig_secondary(rig, &reply);
    expect(rig, 1);
    rig_wait_ms(rig, 1000);
    rig_agrees(rig);
    g_assert_cmpuint(rig->notes->len, ==, 0);
}

/* A client uses its port again; the SVM is still busy with the last connection, or already new. */
static void test_port_reused(void)
{
    for (int order = 0; order < 2; order++) {
        g_autoptr(Rig) rig = opened();
        FrameSpec p_syn = rig_tcp(TCP_SYN | TCP_ACK, ISN_P + 9999, 70001, NULL);
        FrameSpec s_syn = rig_tcp(TCP_SYN | TCP_ACK, 4, 70001, NULL);
        FrameSpec p_data = rig_tcp(TCP_ACK, ISN_P + 10000, 70001, "new");
        FrameSpec s_data = rig_tcp(TCP_ACK, 5, 70001, "new");

        send_from(rig, P, TCP_ACK | TCP_FIN, 0, 1, "old");
        if (order == 0) { /* the PVM first */
            rig_primary(rig, &p_syn);
            rig_primary(rig, &p_data);
            send_from(rig, S, TCP_ACK | TCP_FIN, 0, 1, "old");
            expect(rig, 1);
            send_from(rig, S, TCP_ACK, 4, 1, NULL); /* the SVM's last words */
            rig_secondary(rig, &s_syn);
            expect(rig, 1);
            rig_secondary(rig, &s_data);
            expect(rig, 1);
        } else { /* the SVM first */
            send_from(rig, S, TCP_ACK | TCP_FIN, 0, 1, "old");
            expect(rig, 1);
            rig_secondary(rig, &s_syn);
            rig_secondary(rig, &s_data);
            send_from(rig, P, TCP_ACK, 4, 1, NULL);
            expect(rig, 1);
            rig_primary(rig, &p_syn);
            expect(rig, 1);
            rig_primary(rig, &p_data);
            expect(rig, 1);
        }
        rig_wait_ms(rig, 1000);
        rig_agrees(rig);
        g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    }
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

/* The second connection's bytes are not taken for the first one's. */
static void test_port_reused_differs(void)
{
    g_autoptr(Rig) rig = opened();
    FrameSpec p = rig_tcp(TCP_SYN | TCP_ACK, ISN_P + 9999, 70001, NULL);
    FrameSpec s = rig_tcp(TCP_SYN | TCP_ACK, 4, 70001, NULL);

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
    p = rig_tcp(TCP_ACK, ISN_P + 10000, 70001, "one");
    s = rig_tcp(TCP_ACK, 5, 70001, "two");
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    rig_diverged(rig, COMPARE_PAYLOAD);
}

/* A connection never answered: SYN-ACKs are sent again and again, on both sides. */
static void test_half_open(void)
{
    g_autoptr(Rig) rig = opened();

    for (int i = 0; i < 5; i++) {
        FrameSpec p = rig_tcp(TCP_SYN | TCP_ACK, ISN_P, ISN_C + 1, NULL);
        FrameSpec s = rig_tcp(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1, NULL);
        rig_wait_ms(rig, 1000);
        rig_secondary(rig, &s);
        rig_primary(rig, &p);
        expect(rig, 1);
    }
}

/* The note comes before the frame that makes it needed. */
static void test_note_isn(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, NULL), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    p.has_ts = s.has_ts = TRUE;
    p.tsval = 500;
    s.tsval = 507;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
    g_assert_cmpuint(rig->notes->len, ==, 1);
    g_assert_cmpuint(rig->notes_before_release, ==, 1);
    const CompareNote *note = &g_array_index(rig->notes, CompareNote, 0);
    g_assert_true(note->has_isn);
    g_assert_cmpuint(note->pvm_isn, ==, ISN_P);
    g_assert_cmpuint(note->svm_isn, ==, ISN_S);
    g_assert_cmpint((gint32)note->ts_advance, ==, -7); /* exact */
    guint8 bytes[COMPARE_NOTE_BYTES];
    CompareNote back;
    compare_note_pack(note, bytes);
    g_assert_true(compare_note_unpack(bytes, sizeof(bytes), &back));
    g_assert_cmpmem(&back.key, sizeof(back.key), &note->key, sizeof(note->key));
    g_assert_cmpuint(back.svm_isn, ==, note->svm_isn);
    g_assert_cmpuint(back.ts_advance, ==, note->ts_advance);
    g_assert_cmpuint(back.epoch, ==, 1);
    g_assert_true(back.has_ts);
    g_assert_cmpuint(back.svm_ts, ==, 507);
    g_assert_false(compare_note_unpack(bytes, sizeof(bytes) - 1, &back));
    bytes[52] = 9;
    g_assert_false(compare_note_unpack(bytes, sizeof(bytes), &back));
}

/* At each release the SVM's last timestamp, mapped, is not behind what the client gets. */
static void test_note_timestamps(void)
{
    g_autoptr(Rig) rig = opened();
    guint32 advance = 0;
    guint n_notes = rig->notes->len;

    for (guint i = 0; i < 100; i++) {
        FrameSpec p = rig_tcp(TCP_ACK, ISN_P + 1 + i, ISN_C + 1, "x");
        FrameSpec s = rig_tcp(TCP_ACK, ISN_S + 1 + i, ISN_C + 1, "x");
        p.has_ts = s.has_ts = TRUE;
        p.tsval = 0xfffffff0 + 3 * i;
        s.tsval = 0xffffff00 + 2 * i; /* its clock runs behind, more and more */
        rig_primary(rig, &p);
        rig_secondary(rig, &s);
        expect(rig, 1);
        if (rig->notes_before_release > 0)
            advance = g_array_index(rig->notes, CompareNote, rig->notes->len - 1).ts_advance;
        g_assert_cmpint(seq_diff(s.tsval + advance, p.tsval), >=, 0);
    }
    g_assert_cmpuint(rig->notes->len - n_notes, <, 6);
}

static void test_ipv6_and_vlan_are_other_flows(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_ACK, 1, 1, "x"), s = p;

    s.n_vlan = 1;
    s.vlan[0] = 5;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 0);
    p.n_vlan = 1;
    p.vlan[0] = 5;
    rig_primary(rig, &p);
    expect(rig, 1);
    p.v6 = TRUE;
    rig_primary(rig, &p);
    expect(rig, 0);
    s.v6 = TRUE;
    rig_secondary(rig, &s);
    expect(rig, 1);
}

/* ---- Connections that the guest opens ---- */

static void send_syn(Rig *rig, int side, guint16 sport)
{
    FrameSpec spec = rig_tcp(TCP_SYN, 100u * sport + (side == P ? 0 : 7), 0, NULL);
    spec.sport = sport;
    spec.dport = 5432;
    if (side == P)
        g_assert_true(rig_primary(rig, &spec));
    else
        rig_secondary(rig, &spec);
}

/* The VMs take different ports: that is noticed long before the timeout, whoever was first. */
static void test_other_port(void)
{
    for (int first = P; first <= S; first++) {
        g_autoptr(Rig) rig = rig_new(NULL);
        send_syn(rig, first, first == P ? 40000 : 40002);
        send_syn(rig, !first, first == P ? 40002 : 40000);
        rig_wait_ms(rig, 9);
        expect(rig, 0);
        rig_wait_ms(rig, 2);
        const CompareDivergence *d = rig_diverged(rig, COMPARE_FLAG);
        g_assert_cmpuint(d->key.sport, ==, 40000);
        g_assert_nonnull(strstr(d->detail, "another connection"));
    }
}

/* Two connections opened in another order are the same two. */
static void test_other_order(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    send_syn(rig, P, 40000);
    send_syn(rig, S, 40002);
    rig_wait_ms(rig, 5);
    send_syn(rig, P, 40002);
    send_syn(rig, S, 40000);
    rig_wait_ms(rig, 500);
    expect(rig, 2);
}

/* ---- Windows ---- */

static void send_window(Rig *rig, int side, guint32 heard, guint16 window, const char *text)
{
    FrameSpec spec = rig_tcp(TCP_ACK, (side == P ? ISN_P : ISN_S) + 1, ISN_C + 1 + heard, text);
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
    ADD("fin-apart", test_fin_apart);
    ADD("fin-alone", test_fin_alone);
    ADD("fin-missing", test_fin_missing);
    ADD("fin-retransmitted", test_fin_retransmitted);
    ADD("rst", test_rst);
    ADD("rst-alone", test_rst_alone);
    ADD("rst-refuses", test_rst_refuses);
    ADD("rst-with-data", test_rst_with_data);
    ADD("rst-repeated", test_rst_repeated);
    ADD("syn-waits", test_syn_waits);
    ADD("syn-alone", test_syn_alone);
    ADD("syn-options-differ", test_syn_options_differ);
    ADD("simultaneous-open", test_simultaneous_open);
    ADD("simultaneous-close", test_simultaneous_close);
    ADD("data-with-syn", test_data_with_syn);
    ADD("zero-window-and-keepalive", test_zero_window_and_keepalive);
    ADD("urgent", test_urgent);
    ADD("urgent-in-flight", test_urgent_in_flight);
    ADD("urgent-differs", test_urgent_differs);
    ADD("headers-may-differ", test_headers_may_differ);
    ADD("from-the-middle", test_from_the_middle);
    ADD("from-the-middle-differs", test_from_the_middle_differs);
    ADD("open-at-checkpoint", test_open_at_checkpoint);
    ADD("retransmission-after-checkpoint", test_retransmission_after_checkpoint);
    ADD("syn-over-checkpoint", test_syn_over_checkpoint);
    ADD("port-reused", test_port_reused);
    ADD("far-ahead", test_far_ahead);
    ADD("datagrams-far-ahead", test_datagrams_far_ahead);
    ADD("too-much-disorder", test_too_much_disorder);
    ADD("port-reused-differs", test_port_reused_differs);
    ADD("half-open", test_half_open);
    ADD("note-isn", test_note_isn);
    ADD("note-timestamps", test_note_timestamps);
    ADD("other-port", test_other_port);
    ADD("other-order", test_other_order);
    ADD("smaller-window", test_smaller_window);
    ADD("window-grows", test_window_grows);
    ADD("window-at-checkpoint", test_window_at_checkpoint);
    ADD("vlan-and-ipv6-are-other-flows", test_ipv6_and_vlan_are_other_flows);
    return g_test_run();
}
