/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Properties of the TCP comparison, with random streams (the seed is printed; -DSEED=... runs one
 * again: the first argument):
 *   - however each side cuts, repeats, overlaps, reorders and delays the same bytes, it is never a
 *     divergence, and in the end every frame of the PVM has left;
 *   - a changed, missing or added byte always is one;
 *   - no frame leaves before the SVM has sent all its bytes, its FIN and its ACK.
 * Of captures the first two, too, when the client's numbers differ.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/support/compare_rig.h"

#define MAX_STREAM 4000

typedef struct {
    guint32 isn;
    guint8 data[MAX_STREAM + 1];
    guint len;
    GArray *segments; /* of FrameSpec, in the order they will be sent */
    /* What has been sent so far, for the SVM */
    guint8 sent[MAX_STREAM + 2];
    guint32 max_ack, other_client; /* and how it is off that of the PVM's client */
} Stream;

static GRand *rnd;

static guint upto(guint n)
{
    return (guint)g_rand_int_range(rnd, 0, (gint32)n + 1);
}

/* Not MIN(), which would draw twice. */
static guint at_most(guint n, guint most)
{
    return n < most ? n : most;
}

static void stream_clear(Stream *s)
{
    g_array_unref(s->segments);
}

static void add_segment(Stream *s, guint at, guint len, gboolean fin, guint32 ack)
{
    FrameSpec spec = rig_tcp((guint8)(TCP_ACK | (fin ? TCP_FIN : 0)), s->isn + 1 + at, ack, NULL);
    spec.data = s->data + at;
    spec.len = len;
    spec.has_ts = upto(1);
    spec.tsval = upto(1000);
    spec.window = (guint16)upto(65535);
    spec.ip_id = (guint16)upto(65535);
    g_array_append_val(s->segments, spec);
}

/*
 * Cuts the whole stream with its FIN, then adds repetitions of any parts and pure ACKs, swaps
 * neighbours, and ends with the highest ACK.
 */
static void stream_cut(Stream *s, guint32 last_ack)
{
    guint max = upto(3) == 0 ? 1 + upto(8) : 1 + upto(1500);

    s->segments = g_array_new(FALSE, FALSE, sizeof(FrameSpec));
    for (guint at = 0; at < s->len;) {
        guint len = at_most(1 + upto(max), s->len - at);
        guint back = upto(4) == 0 ? upto(at_most(at, max)) : 0;
        gboolean fin = at + len == s->len && upto(1);
        add_segment(s, at - back, len + back, fin, last_ack - upto(3000));
        at += len;
    }
    add_segment(s, s->len, 0, TRUE, last_ack);
    for (guint n = upto(10); n > 0; n--) {
        guint at = upto(s->len);
        guint len = upto(s->len - at);
        add_segment(s, at, len, at + len == s->len && upto(1), last_ack - upto(100));
    }
    for (guint n = upto(s->segments->len); n > 0; n--) {
        guint i = upto(s->segments->len - 1);
        guint j = at_most(i + 1 + upto(4), s->segments->len - 1);
        FrameSpec *a = &g_array_index(s->segments, FrameSpec, i);
        FrameSpec *b = &g_array_index(s->segments, FrameSpec, j);
        FrameSpec swap = *a;
        *a = *b;
        *b = swap;
    }
    add_segment(s, s->len + 1, 0, FALSE, last_ack);
}

static void stream_fill(Stream *s, guint len)
{
    memset(s, 0, sizeof(*s));
    s->isn = g_rand_int(rnd);
    s->len = len;
    gboolean dull = upto(1); /* bytes that look alike are the harder case */
    for (guint i = 0; i < len; i++)
        s->data[i] = dull ? 0 : (guint8)upto(255);
}

/* Notes what the SVM has said; the frame is about to be given to the comparator. */
static void stream_sent(Stream *s, const FrameSpec *spec)
{
    guint at = spec->seq - s->isn - 1;
    memset(s->sent + at, 1, spec->len + !!(spec->flags & TCP_FIN));
    if (seq_diff(spec->ack, s->max_ack) > 0)
        s->max_ack = spec->ack;
}

/* All that has been released since last asked has been sent by the SVM, too. */
static void check_released(Rig *rig, const Stream *p, const Stream *s)
{
    for (guint i = 0; i < rig->released->len; i++) {
        gsize len;
        const guint8 *data = g_bytes_get_data(rig->released->pdata[i], &len);
        Packet packet;
        packet_parse(data, len, FALSE, 0, &packet);
        if (packet.flags & TCP_SYN)
            continue;
        guint at = packet.seq - p->isn - 1;
        guint n = packet.body_len + !!(packet.flags & TCP_FIN);
        g_assert_true(n == 0 || memchr(s->sent + at, 0, n) == NULL);
        g_assert_cmpint(seq_diff(packet.ack, s->max_ack - s->other_client), <=, 0);
    }
    rig_released(rig);
}

/* Sends both, interleaved at random. */
static void run(Rig *rig, Stream *p, Stream *s)
{
    guint i = 0, j = 0, lead = upto(4);

    while (i < p->segments->len || j < s->segments->len) {
        gboolean primary = j == s->segments->len || (i < p->segments->len && upto(4) >= lead);
        if (primary) {
            rig_primary(rig, &g_array_index(p->segments, FrameSpec, i++));
        } else {
            const FrameSpec *spec = &g_array_index(s->segments, FrameSpec, j++);
            stream_sent(s, spec);
            rig_secondary(rig, spec);
        }
        check_released(rig, p, s);
    }
}

/* The SYN-ACKs; of captures, of two runs. */
static void open_both(Rig *rig, const Stream *p, const Stream *s, guint32 client, guint32 other)
{
    FrameSpec p_syn = rig_tcp(TCP_SYN | TCP_ACK, p->isn, client + 1, NULL);
    FrameSpec s_syn = rig_tcp(TCP_SYN | TCP_ACK, s->isn, client + other + 1, NULL);
    rig_primary(rig, &p_syn);
    rig_secondary(rig, &s_syn);
    g_assert_cmpuint(rig_released(rig), ==, 1);
}

/* Changes one byte, takes it out or puts another before it. */
static void stream_change(Stream *stream, guint at)
{
    switch (upto(2)) {
    case 0:
        stream->data[at] ^= (guint8)(1 + upto(254));
        break;
    case 1:
        memmove(stream->data + at, stream->data + at + 1, stream->len - at - 1);
        stream->len--;
        break;
    default:
        memmove(stream->data + at + 1, stream->data + at, stream->len - at);
        stream->data[at] = (guint8)upto(255);
        stream->len++;
        break;
    }
}

static void run_seed(guint32 seed, gboolean differ, gboolean captured)
{
    static Stream p, s;
    guint32 last_ack;

    g_rand_set_seed(rnd, seed);
    CompareOptions options;
    rig_options_init(&options);
    options.offline = captured;
    guint32 other_client = captured && upto(1) ? g_rand_int(rnd) : 0;
    g_autoptr(Rig) rig = rig_new(&options);
    stream_fill(&p, 1 + upto(upto(1) ? 50 : MAX_STREAM - 1));
    s = p;
    s.isn = g_rand_int(rnd);
    last_ack = g_rand_int(rnd);
    s.max_ack = last_ack - 4000;
    guint at = upto(p.len - 1);
    if (differ)
        stream_change(&s, at);
    gboolean swapped = upto(1);
    if (swapped) {
        static Stream other;
        other = p;
        p = s;
        s = other;
        s.max_ack = last_ack - 4000;
    }
    open_both(rig, &p, &s, last_ack - 4001, other_client);
    stream_cut(&p, last_ack);
    stream_cut(&s, last_ack + other_client);
    s.max_ack += other_client;
    s.other_client = other_client;
    run(rig, &p, &s);
    if (!differ) {
        rig_agrees(rig);
        const CompareStats *stats = compare_stats(rig->compare);
        g_assert_cmpuint(stats->held_frames, ==, 0);
        g_assert_cmpuint(stats->released_by_compare, ==, stats->primary_frames);
        g_assert_cmpuint(stats->verified_bytes, ==, p.len);
    }
    if (captured)
        compare_finish(rig->compare, FALSE, FALSE, rig->now);
    else
        rig_wait_ms(rig, 10000);
    if (rig->divergences->len != (differ ? 1 : 0))
        g_error("seed %u, %s: %u divergences", seed, differ ? "different" : "equal",
                rig->divergences->len);
    stream_clear(&p);
    stream_clear(&s);
}

static guint32 first_seed;
static guint n_seeds = 1500;

static void test_equal(void)
{
    for (guint i = 0; i < n_seeds; i++)
        run_seed(first_seed + i, FALSE, FALSE);
}

static void test_different(void)
{
    for (guint i = 0; i < n_seeds; i++)
        run_seed(first_seed + i, TRUE, FALSE);
}

static void test_captures(void)
{
    for (guint i = 0; i < n_seeds; i++) {
        run_seed(first_seed + i, FALSE, TRUE);
        run_seed(first_seed + i, TRUE, TRUE);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    rnd = g_rand_new();
    first_seed = g_test_rand_int();
    if (argc > 1) {
        first_seed = (guint32)strtoul(argv[1], NULL, 10);
        n_seeds = argc > 2 ? (guint)atoi(argv[2]) : 1;
    }
    g_test_message("seeds from %u", first_seed);
    g_test_add_func("/compare-property/equal", test_equal);
    g_test_add_func("/compare-property/different", test_different);
    g_test_add_func("/compare-property/captures", test_captures);
    int status = g_test_run();
    g_rand_free(rnd);
    return status;
}
