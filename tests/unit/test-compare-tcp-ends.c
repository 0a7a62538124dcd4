/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of TCP for how connections begin and end: SYN, FIN, RST. */
#include "tests/support/compare_tcp.h"

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
    expect(rig, 0); /* the SVM has not received the client's SYN yet */
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-tcp-ends/" name, func)
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
    ADD("half-open", test_half_open);
    ADD("other-port", test_other_port);
    ADD("other-order", test_other_order);
    return g_test_run();
}
