/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures of real life, with colo-compare: lag, losses, other runs, other offloads. What must be
 * equal is tried in both directions; what differs is told where it does.
 */
#include <stdio.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/support/capture_run.h"

/* Frames to be captured. */
typedef struct {
    FrameSpec specs[24];
    guint n;
} Side;

static void add(Side *side, FrameSpec spec)
{
    g_assert_cmpuint(side->n, <, G_N_ELEMENTS(side->specs));
    side->specs[side->n++] = spec;
}

static void send_segment(Side *side, guint8 flags, guint32 seq, guint32 ack, const char *text)
{
    FrameSpec spec = capture_tcp(flags, seq, text);
    spec.ack = ack;
    add(side, spec);
}

/* Captures both, one by so many frames later, with a datagram of both at the begin. */
static void run_lagging(Run *run, const Side *p, const Side *s, int lags, guint lag)
{
    const FrameSpec mark = capture_udp("begin", 5);
    const Side *sides[] = {p, s};

    for (int i = 0; i < 2; i++) {
        g_autoptr(GArray) specs = g_array_new(FALSE, FALSE, sizeof(FrameSpec));
        for (guint n = 0; n <= (i == lags ? lag : 0); n++)
            g_array_append_val(specs, mark);
        g_array_append_vals(specs, sides[i]->specs, sides[i]->n);
        for (guint n = 0; n < (i == lags ? 0 : lag); n++)
            g_array_append_val(specs, mark);
        capture(i == 0 ? run->primary : run->secondary, &g_array_index(specs, FrameSpec, 0),
                specs->len);
    }
    run_it(run, NULL, NULL);
}

/* Equal in both directions, whoever lags. */
static void assert_equal(const Side *p, const Side *s)
{
    g_autoptr(Run) run = run_new();

    for (int lags = 0; lags < 2; lags++) {
        for (guint lag = 0; lag <= 30; lag += 30) {
            run_lagging(run, p, s, lags, lag);
            assert_status(run, 0);
            run_lagging(run, s, p, lags, lag);
            assert_status(run, 0);
        }
    }
}

static void assert_different(const Side *p, const Side *s)
{
    g_autoptr(Run) run = run_new();

    run_lagging(run, p, s, 0, 0);
    assert_status(run, 1);
    run_lagging(run, s, p, 0, 0);
    assert_status(run, 1);
}

/* 60 ms at 100,000 packets a second, and the next connection on the same ports as well. */
static void test_lag(void)
{
    g_autoptr(Run) run = run_new();
    const guint n = 12000;
    g_autofree FrameSpec *frames = g_new(FrameSpec, n);

    for (guint pass = 0; pass < 3; pass++) {
        frames[0] = capture_udp("begin", 5);
        for (guint i = 1; i < n; i++) {
            if (pass == 0)
                frames[i] = capture_tcp(TCP_ACK, 101 + 4 * i, "same");
            else if (pass == 1)
                frames[i] = capture_udp("same", 4);
            else if (i % 400 == 1)
                frames[i] = capture_tcp(TCP_SYN | TCP_ACK, 100000 * i, NULL);
            else
                frames[i] = capture_tcp(TCP_ACK, 100000 * (i - (i - 1) % 400) + i, NULL);
        }
        capture_styled(run->primary, &(CaptureStyle){.gap_us = 10}, frames, n);
        /* The first frame, and the others 110 ms later. */
        capture_styled(run->secondary, &(CaptureStyle){.gap_us = 10}, frames, n);
        g_autofree char *head = NULL;
        gsize len;
        g_assert_true(g_file_get_contents(run->secondary, &head, &len, NULL));
        capture_styled(run->secondary, &(CaptureStyle){.gap_us = 10, .start_us = 110000},
                       frames + 1, n - 1);
        g_autofree char *rest = NULL;
        gsize rest_len, first = 24 + 16 + 14 + 20 + 8 + 5;
        g_assert_true(g_file_get_contents(run->secondary, &rest, &rest_len, NULL));
        g_autoptr(GString) joined = g_string_new_len(head, (gssize)first);
        g_string_append_len(joined, rest + 24, (gssize)(rest_len - 24));
        g_assert_true(g_file_set_contents(run->secondary, joined->str, (gssize)joined->len, NULL));
        run_it(run, NULL, NULL);
        assert_status(run, 0);
    }
}

static void test_rst_with_data(void)
{
    Side p = {0}, s = {0}, other = {0}, none = {0};

    for (int i = 0; i < 2; i++)
        send_segment(i == 0 ? &p : &s, TCP_RST | TCP_ACK, 101, 9, "why");
    send_segment(&other, TCP_RST | TCP_ACK, 101, 9, "not");
    send_segment(&none, TCP_RST | TCP_ACK, 101, 9, NULL);
    assert_equal(&p, &s);
    assert_different(&p, &other);
    assert_different(&p, &none);
}

/* A segment that both captures have lost. */
static void test_missing_in_both(void)
{
    g_autoptr(Run) run = run_new();
    Side p = {0}, s = {0};

    send_segment(&p, TCP_ACK, 101, 9, "same");
    send_segment(&p, TCP_ACK, 109, 9, "then");
    send_segment(&p, TCP_ACK | TCP_FIN, 117, 9, "that");
    send_segment(&s, TCP_ACK, 101, 9, "same");
    send_segment(&s, TCP_ACK, 109, 9, "th");
    send_segment(&s, TCP_ACK, 111, 9, "en");
    send_segment(&s, TCP_ACK | TCP_FIN, 117, 9, "that");
    assert_equal(&p, &s);
    run_lagging(run, &p, &s, 0, 0);
    assert_err(run, "8 bytes are in neither capture");
    /* What comes behind is compared. */
    s.specs[2].data = "eN";
    assert_different(&p, &s);
    /* And what only one has lost is a difference. */
    s.specs[2] = capture_tcp(TCP_ACK, 105, "mid.then");
    assert_different(&p, &s);
}

/* Another run, with another client: its numbers are others. */
static void client_opens(Side *side, guint32 isn, guint32 client)
{
    send_segment(side, TCP_SYN | TCP_ACK, isn, client + 1, NULL);
    send_segment(side, TCP_ACK, isn + 1, client + 11, NULL);
    send_segment(side, TCP_ACK | TCP_FIN, isn + 1, client + 11, "answer");
    send_segment(side, TCP_ACK, isn + 8, client + 12, NULL);
}

static void guest_opens(Side *side, guint32 isn, guint32 peer)
{
    send_segment(side, TCP_SYN, isn, 0, NULL);
    send_segment(side, TCP_ACK, isn + 1, peer + 1, NULL);
    send_segment(side, TCP_ACK, isn + 1, peer + 1, "question");
    send_segment(side, TCP_ACK | TCP_FIN, isn + 9, peer + 100, NULL);
}

static void guest_refuses(Side *side, guint32 isn, guint32 peer)
{
    (void)isn;
    send_segment(side, TCP_RST | TCP_ACK, 0, peer + 1, NULL);
}

/* Then the client tries again, with another number, and is let in at last. */
static void guest_refuses_twice(Side *side, guint32 isn, guint32 peer)
{
    guest_refuses(side, isn, peer);
    guest_refuses(side, isn, peer * 3 + 7);
    client_opens(side, isn, peer + isn);
}

static void test_other_client(void)
{
    static void (*const kinds[])(Side *, guint32, guint32) = {client_opens, guest_opens,
                                                              guest_refuses, guest_refuses_twice};

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        Side p = {0}, s = {0};
        kinds[i](&p, 1000, 5000);
        kinds[i](&s, 0xfffffff0, 0x80000000);
        assert_equal(&p, &s);
    }
    /* Who acknowledges less still does. */
    g_autoptr(Run) run = run_new();
    Side p = {0}, s = {0};
    client_opens(&p, 1000, 5000);
    client_opens(&s, 2000, 9000);
    s.n--;
    s.specs[1].ack = s.specs[2].ack = 9000 + 10;
    run_lagging(run, &p, &s, 0, 0);
    assert_status(run, 1);
    assert_out(run, "ACK: primary 5011, secondary 9010");
}

/* Both directions of a tap: the client's frames, whose ACKs have the guest's numbers. */
static void both_ways(Side *side, guint32 isn, guint32 client)
{
    FrameSpec frames[] = {
        capture_tcp(TCP_SYN, client, NULL),
        capture_tcp(TCP_ACK, client + 1, NULL),
        capture_tcp(TCP_ACK, client + 1, "GET /"),
        capture_tcp(TCP_ACK | TCP_FIN, client + 6, NULL),
    };
    const guint32 acks[] = {0, isn + 1, isn + 1, isn + 8};

    client_opens(side, isn, client);
    for (guint i = 0; i < G_N_ELEMENTS(frames); i++) {
        frames[i].src = 1;
        frames[i].dst = 2;
        frames[i].sport = 4711;
        frames[i].dport = 80;
        frames[i].ack = acks[i];
        add(side, frames[i]);
    }
}

static void test_unfiltered_tap(void)
{
    g_autoptr(Run) run = run_new();
    Side p = {0}, s = {0};

    both_ways(&p, 1000, 5000);
    both_ways(&s, 0xfffffff0, 0x80000000);
    assert_equal(&p, &s);
    run_lagging(run, &p, &s, 0, 0);
    assert_err(run, "frames of both directions: --guest-mac");
    run_it(run, "--guest-mac", "52:54:00:00:00:02");
    assert_status(run, 0);
    g_assert_cmpstr(run->err, ==, "");
}

static void set_length(guint8 *frame, gsize at, guint16 length)
{
    frame[at] = (guint8)(length >> 8);
    frame[at + 1] = (guint8)length;
}

/* A super-frame whose length field has no room for it: 0, and in IPv6 perhaps an option. */
static GBytes *big_frame(const guint8 *body, gsize len, gboolean v6, gboolean jumbo)
{
    static const guint8 hop_by_hop[8] = {PROTO_TCP, 0, 0xc2, 4};
    FrameSpec spec = capture_tcp(TCP_ACK, 101, NULL);

    spec.data = body;
    spec.len = len;
    spec.v6 = v6;
    if (jumbo) {
        spec.ext = hop_by_hop;
        spec.ext_len = sizeof(hop_by_hop);
        spec.ext_first = PROTO_HOPOPTS;
    }
    gsize size;
    guint8 *bytes = g_bytes_unref_to_data(netframe_new(&spec), &size);
    set_length(bytes, 14 + (v6 ? 4 : 2), 0);
    return g_bytes_new_take(bytes, size);
}

static void test_big_tcp(void)
{
    const gsize len = 180000, part = 1000;
    g_autofree guint8 *body = g_malloc(len);

    for (gsize i = 0; i < len; i++)
        body[i] = (guint8)(i * 7 >> 3);
    for (int kind = 0; kind < 3; kind++) {
        g_autoptr(Run) run = run_new();
        g_autofree FrameSpec *parts = g_new(FrameSpec, len / part);
        g_autoptr(GBytes) big = big_frame(body, len, kind > 0, kind == 2);
        GBytes *const frames[] = {big};
        for (gsize i = 0; i < len / part; i++) {
            parts[i] = capture_tcp(TCP_ACK, (guint32)(101 + part * i), NULL);
            parts[i].v6 = kind > 0;
            parts[i].data = body + part * i;
            parts[i].len = part;
        }
        capture_raw(run->primary, &(CaptureStyle){0}, frames, 1);
        capture(run->secondary, parts, (guint)(len / part));
        run_it(run, NULL, NULL);
        assert_status(run, 0);
        run_shell(run, "$TOOL $S $P");
        assert_status(run, 0);
        static const guint8 other[1000];
        parts[150].data = other;
        capture(run->secondary, parts, (guint)(len / part));
        run_it(run, NULL, NULL);
        assert_status(run, 1);
    }
}

static void test_udp_bundles(void)
{
    static const gsize cuts[][5] = {
        {5000 },
        {     1200, 1200, 1200, 1200, 200},
        { 2400,  2400, 200},
        {      3600,1400},
    };
    guint8 body[5000];

    for (gsize i = 0; i < sizeof(body); i++)
        body[i] = (guint8)(i * 5 >> 2);
    for (guint i = 0; i < G_N_ELEMENTS(cuts); i++) {
        for (guint j = i; j < G_N_ELEMENTS(cuts); j++) {
            Side p = {0}, s = {0};
            const guint which[] = {i, j};
            for (int side = 0; side < 2; side++) {
                gsize at = 0;
                for (guint k = 0; k < 5 && cuts[which[side]][k] > 0; k++) {
                    FrameSpec spec = capture_udp(body + at, cuts[which[side]][k]);
                    spec.sport = 443;
                    add(side == 0 ? &p : &s, spec);
                    at += spec.len;
                }
            }
            assert_equal(&p, &s);
            static const guint8 zeros[5000];
            s.specs[s.n - 1].data = zeros;
            assert_different(&p, &s);
        }
    }
    /* Small datagrams are what they are. */
    Side p = {0}, s = {0};
    FrameSpec spec = capture_udp("aaaabbbb", 8);
    spec.sport = 443;
    add(&p, spec);
    spec.len = 4;
    add(&s, spec);
    spec.data = "bbbb";
    add(&s, spec);
    assert_different(&p, &s);
}

static void urgent(Side *side, guint32 at, guint16 pointer)
{
    FrameSpec spec = capture_tcp(TCP_ACK | TCP_URG, 101 + at, "abc!");
    spec.urgent = pointer;
    add(side, spec);
}

static void test_urgent(void)
{
    Side p = {0}, s = {0};

    for (guint32 at = 0; at < 40; at += 4) {
        urgent(&p, at, 4);
        urgent(&s, at, 4);
    }
    assert_equal(&p, &s);
    s.specs[3].urgent = 3;
    assert_different(&p, &s);
}

/* A keepalive that repeats the last byte, with garbage in it, in other places on each side. */
static void test_keepalive_garbage(void)
{
    static const struct {
        guint32 p[4], s[4]; /* 100: the garbage before 101; 101: data; 1: a pure ACK */
    } cases[] = {
        {{1, 100, 101},      {1, 101, 100}     },
        {{1, 101, 100},      {1, 101}          },
        {{100, 101},         {1, 101, 100, 100}},
        {{100, 101, 100},    {101}             },
        {{1, 100},           {1}               },
        {{1, 101, 104, 104}, {1, 101, 104}     },
        {{101, 104},         {101}             },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Side sides[2] = {0};
        for (int side = 0; side < 2; side++) {
            const guint32 *seqs = side == 0 ? cases[i].p : cases[i].s;
            for (guint k = 0; k < 4 && seqs[k] != 0; k++)
                send_segment(&sides[side], TCP_ACK, seqs[k] == 1 ? 101 : seqs[k], 9,
                             seqs[k] == 1     ? NULL
                             : seqs[k] == 101 ? "data"
                                              : "?");
        }
        assert_equal(&sides[0], &sides[1]);
    }
    /* One byte is compared like any other. */
    Side p = {0}, s = {0};
    send_segment(&p, TCP_ACK, 101, 9, NULL);
    send_segment(&p, TCP_ACK, 101, 9, "a");
    send_segment(&s, TCP_ACK, 101, 9, NULL);
    send_segment(&s, TCP_ACK, 101, 9, "b");
    assert_different(&p, &s);
}

/* ---- In the right place ---- */

/* Frames 1 to 3, of which `lost` is not there; ends 5 ms after that. */
static void three(Side *side, guint lost)
{
    static const char *const texts[] = {"one.", "two.", "tri."};

    for (guint32 i = 0; i < 3; i++)
        if (i + 1 != lost)
            send_segment(side, TCP_ACK, 101 + 4 * i, 9, texts[i]);
    for (guint i = 0; i < 5; i++)
        add(side, capture_udp("x", 1));
}

static void test_who_lacks_it(void)
{
    g_autoptr(Run) run = run_new();
    Side whole = {0}, gap = {0};

    three(&whole, 0);
    three(&gap, 2);
    capture(run->primary, gap.specs, gap.n);
    capture(run->secondary, whole.specs, whole.n);
    run_it(run, NULL, NULL);
    assert_status(run, 1);
    assert_out(run, "(extra-output) at 0.001000 s, offset 4: the primary lacks bytes here");
    assert_out(run, "primary   frame 2, ");
    assert_out(run, "secondary frame 2, ");
    assert_out(run, "secondary 74 77 6f 2e");
    assert_out(run, "primary   nothing");
    run_shell(run, "$TOOL $S $P");
    assert_status(run, 1);
    assert_out(run, "(missing-output) at 0.001000 s, offset 4: the secondary lacks bytes here");
    assert_out(run, "primary   74 77 6f 2e");
}

/* The time is that of the frame, not of the capture's end. */
static void test_when(void)
{
    g_autoptr(Run) run = run_new();
    Side whole = {0}, less = {0};

    three(&whole, 0);
    three(&less, 3);
    capture(run->primary, whole.specs, whole.n);
    capture(run->secondary, less.specs, less.n);
    run_it(run, NULL, NULL);
    assert_status(run, 1);
    assert_out(run, "(missing-output) at 0.002000 s, offset 8");
    assert_out(run, "secondary no such frame; its last was frame 2, ");
    run_shell(run, "$TOOL $S $P");
    assert_out(run, "(extra-output) at 0.002000 s, offset 8");
    assert_out(run, "primary   no such frame; its last was frame 2, ");
}

/* Each connection on the same ports has its own offsets; and its own last words. */
static void test_reused_ports(void)
{
    g_autoptr(Run) run = run_new();
    Side p = {0}, s = {0};

    for (guint32 i = 0; i < 2; i++) {
        for (int side = 0; side < 2; side++) {
            Side *to = side == 0 ? &p : &s;
            send_segment(to, TCP_SYN | TCP_ACK, 1000 + 7000 * i, 9, NULL);
            send_segment(to, TCP_ACK, 1001 + 7000 * i, 9, "first");
            send_segment(to, TCP_ACK, 1006 + 7000 * i, 9, i == 1 && side == 1 ? "thEn" : "then");
        }
    }
    run_lagging(run, &p, &s, 0, 0);
    assert_status(run, 1);
    assert_out(run, "connection 2 on these ports, offset 7: the streams differ");

    p.n = s.n = 0;
    for (guint32 i = 0; i < 2; i++) {
        for (int side = 0; side < 2; side++) {
            Side *to = side == 0 ? &p : &s;
            send_segment(to, TCP_SYN | TCP_ACK, 1000 + 7000 * i, 9, NULL);
            send_segment(to, TCP_ACK, 1001 + 7000 * i, 9, "first");
            if (i == 0 && side == 1)
                send_segment(to, TCP_ACK, 1006, 9, "more");
        }
    }
    run_lagging(run, &p, &s, 0, 0);
    assert_status(run, 1);
    assert_out(run, "(extra-output)");
    assert_out(run, "offset 5: the secondary has sent what the primary has not, on the connection "
                    "before");
    run_lagging(run, &s, &p, 0, 0);
    assert_status(run, 1);
    assert_out(run, "(missing-output)");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("COLO_BUILD") == NULL) {
        puts("1..0 # SKIP COLO_BUILD is not set: run me by tests/run");
        return 0;
    }
#define ADD(name, func) g_test_add_func("/colo-compare-captures/" name, func)
    ADD("lag", test_lag);
    ADD("rst-with-data", test_rst_with_data);
    ADD("missing-in-both", test_missing_in_both);
    ADD("other-client", test_other_client);
    ADD("unfiltered-tap", test_unfiltered_tap);
    ADD("big-tcp", test_big_tcp);
    ADD("udp-bundles", test_udp_bundles);
    ADD("urgent", test_urgent);
    ADD("keepalive-garbage", test_keepalive_garbage);
    ADD("who-lacks-it", test_who_lacks_it);
    ADD("when", test_when);
    ADD("reused-ports", test_reused_ports);
    return g_test_run();
}
