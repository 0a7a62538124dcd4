/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epochs, timers, room: what the comparator does with any kind of frame. */
#include <malloc.h>
#include <string.h>

#include "tests/support/compare_rig.h"

static FrameSpec udp(guint16 dport, const char *text)
{
    return (FrameSpec){.src = 2,
                       .dst = 1,
                       .proto = PROTO_UDP,
                       .sport = 53,
                       .dport = dport,
                       .data = text,
                       .len = strlen(text)};
}

static void expect(Rig *rig, guint released)
{
    rig_agrees(rig);
    g_assert_cmpuint(rig_released(rig), ==, released);
}

/* Output commit: only a committed epoch's end lets through what was not compared, and in order. */
static void test_commit_releases_older(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a"), b = udp(2, "b"), c = udp(1, "c");

    rig_primary(rig, &a);
    rig_primary(rig, &b);
    rig->epoch = 2;
    compare_checkpoint(rig->compare, 2);
    rig_primary(rig, &c);
    expect(rig, 0);
    compare_committed(rig->compare, 2, rig->now);
    g_assert_cmpuint(rig->released->len, ==, 2);
    g_autoptr(GBytes) first = netframe_new(&a), second = netframe_new(&b);
    g_assert_true(g_bytes_equal(rig->released->pdata[0], first));
    g_assert_true(g_bytes_equal(rig->released->pdata[1], second));
    expect(rig, 2);
    compare_loaded(rig->compare, 2, rig->now);
    rig_secondary(rig, &c);
    expect(rig, 1);
}

/* While the checkpoint travels, the SVM's old output still frees the PVM's old output. */
static void test_old_epoch_continues(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a"), b = udp(1, "b");

    rig_primary(rig, &a);
    compare_checkpoint(rig->compare, 2);
    rig->epoch = 2;
    rig_primary(rig, &b);
    rig->epoch = 1;
    rig_secondary(rig, &a);
    expect(rig, 1);
    rig_secondary(rig, &b); /* the old SVM's "b" says nothing about the new PVM's */
    expect(rig, 0);
    rig->epoch = 2;
    compare_committed(rig->compare, 2, rig->now);
    expect(rig, 0);
    rig_secondary(rig, &b);
    expect(rig, 1);
}

static void test_stale_secondary(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    rig_checkpoint(rig);
    rig_primary(rig, &a);
    g_autoptr(GBytes) frame = netframe_new(&a);
    compare_secondary(rig->compare, 0, 1, frame, rig->now);
    expect(rig, 0);
    g_assert_cmpuint(compare_stats(rig->compare)->stale_secondary, ==, 1);
}

/* RECEIVED and the first frame of the new epoch come over two connections. */
static void test_secondary_before_received(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    compare_checkpoint(rig->compare, 2);
    rig->epoch = 2;
    rig_secondary(rig, &a);
    rig_primary(rig, &a);
    expect(rig, 0);
    compare_committed(rig->compare, 2, rig->now);
    expect(rig, 1);
}

static void test_primary_after_commit(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    rig_checkpoint(rig);
    g_autoptr(GBytes) frame = netframe_new(&a);
    g_assert_true(compare_primary(rig->compare, 0, 1, frame, rig->now));
    expect(rig, 1);
}

/* The SVM's silence counts from when it runs. */
static void test_timeout_waits_for_loaded(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    rig->epoch = 2;
    compare_checkpoint(rig->compare, 2);
    rig_primary(rig, &a);
    rig_wait_ms(rig, 500);
    compare_committed(rig->compare, 2, rig->now);
    rig_wait_ms(rig, 500);
    expect(rig, 0);
    compare_loaded(rig->compare, 2, rig->now);
    rig_wait_ms(rig, 59);
    expect(rig, 0);
    rig_wait_ms(rig, 2);
    rig_diverged(rig, COMPARE_MISSING_OUTPUT);
}

/* A checkpoint after which the SVM answers the first frame `ms` after it was loaded. */
static void slow_start(Rig *rig, gint64 ms)
{
    FrameSpec a = udp(1, "a");
    rig_checkpoint(rig);
    rig_primary(rig, &a);
    rig_wait_ms(rig, ms);
    rig_secondary(rig, &a);
    expect(rig, 1);
}

/* An SVM that needs time after each load gets it, and no more than before once it has caught up. */
static void test_slow_after_load(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    slow_start(rig, 50);
    slow_start(rig, 100);
    slow_start(rig, 150);
    rig_primary(rig, &a);
    rig_wait_ms(rig, 61);
    rig_diverged(rig, COMPARE_MISSING_OUTPUT);

    /* However slow it was, and for however long: there is a limit. */
    for (int i = 0; i < 100; i++) {
        rig_checkpoint(rig);
        g_ptr_array_set_size(rig->released, 0);
        rig_primary(rig, &a);
        gint64 left_us = colo_time_diff_us(compare_next_deadline(rig->compare), rig->now);
        if (i >= 10)
            g_assert_cmpint(left_us, ==, 4 * 60 * COLO_US_PER_MS);
        rig_wait_ms(rig, 4 * 60 + 1);
        rig_diverged(rig, COMPARE_MISSING_OUTPUT);
    }
}

/* No checkpoint is asked for while one is on its way; afterwards all is well. */
static void test_no_request_while_checkpointing(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a"), b = udp(1, "b");

    compare_checkpoint(rig->compare, 2);
    rig_primary(rig, &a);
    rig_secondary(rig, &b);
    rig_wait_ms(rig, 1000);
    expect(rig, 0);
    rig->epoch = 2;
    compare_committed(rig->compare, 2, rig->now);
    compare_loaded(rig->compare, 2, rig->now);
    expect(rig, 1);
    rig_primary(rig, &a);
    rig_secondary(rig, &a);
    expect(rig, 1);
}

static void test_missing_and_extra(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "missing"), b = udp(2, "extra");

    rig_primary(rig, &a);
    rig_wait_ms(rig, 30);
    rig_secondary(rig, &b);
    rig_wait_ms(rig, 31);
    const CompareDivergence *d = rig_diverged(rig, COMPARE_MISSING_OUTPUT);
    g_assert_cmpmem(d->primary, d->primary_len, "missing", 7);
    g_assert_cmpuint(d->secondary_len, ==, 0);
    rig_wait_ms(rig, 30);
    d = rig_diverged(rig, COMPARE_EXTRA_OUTPUT);
    g_assert_cmpmem(d->secondary, d->secondary_len, "extra", 5);
    g_assert_cmpint(compare_next_deadline(rig->compare).us, ==, G_MAXINT64);
    g_assert_cmpuint(compare_stats(rig->compare)->divergences[COMPARE_EXTRA_OUTPUT], ==, 1);
}

/* A hung or panicked SVM is told from one that thinks otherwise; a checkpoint mends both. */
static void test_secondary_silent(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    for (guint16 i = 0; i < 10; i++) {
        FrameSpec a = udp(i, "anybody there?");
        rig_primary(rig, &a);
    }
    rig_wait_ms(rig, 61);
    g_assert_cmpuint(rig->divergences->len, ==, 10);
    for (guint i = 0; i < 10; i++)
        g_assert_cmpint(g_array_index(rig->divergences, CompareDivergence, i).reason, ==,
                        COMPARE_SECONDARY_SILENT);
    g_array_set_size(rig->divergences, 0);
    rig_checkpoint(rig);
    expect(rig, 10);
    FrameSpec a = udp(1, "yes");
    rig_primary(rig, &a);
    rig_secondary(rig, &a);
    expect(rig, 1);
}

static void test_timeouts_tunable(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a");

    rig_primary(rig, &a);
    gint64 due = compare_next_deadline(rig->compare).us;
    compare_set_timeouts(rig->compare, 5000, 7000);
    g_assert_cmpint(compare_next_deadline(rig->compare).us, ==, due - 55000);
    compare_set_timeouts(rig->compare, 0, 0);
    g_assert_cmpint(compare_next_deadline(rig->compare).us, ==, G_MAXINT64);
    FrameSpec ack = rig_tcp(TCP_ACK, 1, 1, NULL);
    rig_primary(rig, &ack);
    compare_set_timeouts(rig->compare, 0, 7000);
    rig_wait_ms(rig, 8);
    rig_diverged(rig, COMPARE_MISSING_OUTPUT);
}

static void test_bytes_full(void)
{
    CompareOptions options;
    rig_options_init(&options);
    options.max_held_bytes = 8192;
    g_autoptr(Rig) rig = rig_new(&options);
    FrameSpec a = udp(1, "0123456789");
    guint taken = 0;

    while (rig_primary(rig, &a))
        taken++;
    g_assert_cmpuint(taken, >, 4);
    rig_diverged(rig, COMPARE_TABLE_FULL); /* asked for before it was too late, and once */
    g_assert_cmpuint(compare_stats(rig->compare)->dropped, ==, 1);
    g_assert_cmpuint(compare_stats(rig->compare)->max_held_bytes, <=, 8192);
    rig_secondary(rig, &a); /* no room for the SVM's either, so it proves nothing */
    expect(rig, 0);
    rig_checkpoint(rig);
    expect(rig, taken);
    g_assert_true(rig_primary(rig, &a));
    rig_secondary(rig, &a);
    expect(rig, 1);
}

static CompareOptions few_flows(void)
{
    CompareOptions options;
    rig_options_init(&options);
    options.max_flows = 3;
    return options;
}

static void exchange(Rig *rig, guint16 port)
{
    FrameSpec a = udp(port, "a");
    rig_primary(rig, &a);
    rig_secondary(rig, &a);
    expect(rig, 1);
}

/* Quiet flows make room, the oldest first; one that has been used since the last look is spared. */
static void test_eviction(void)
{
    CompareOptions options = few_flows();
    g_autoptr(Rig) rig = rig_new(&options);

    for (guint16 port = 0; port < 4; port++)
        exchange(rig, port);
    exchange(rig, 1);
    exchange(rig, 4);
    g_assert_cmpuint(compare_stats(rig->compare)->flows, ==, 3);
    g_assert_cmpuint(compare_stats(rig->compare)->evicted_flows, ==, 2);
    g_assert_cmpuint(g_array_index(rig->ended, CompareFlowInfo, 0).key.dport, ==, 0);
    g_assert_cmpuint(g_array_index(rig->ended, CompareFlowInfo, 1).key.dport, ==, 2);
    g_assert_cmpuint(g_array_index(rig->ended, CompareFlowInfo, 1).verified_bytes, ==, 1);
}

/* A flow whose numbers are mapped, or whose frames wait, can't be forgotten: a checkpoint helps. */
static void test_table_full(void)
{
    CompareOptions options = few_flows();
    g_autoptr(Rig) rig = rig_new(&options);
    FrameSpec waiting = udp(1, "waits"), more = udp(2, "no room"), p, s;

    rig_open(rig, 100, 200, 300);
    p = rig_tcp(TCP_SYN | TCP_ACK, 100, 1, NULL);
    p.sport = 81;
    s = p;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    rig_primary(rig, &waiting);
    expect(rig, 1);
    rig_primary(rig, &more);
    rig_diverged(rig, COMPARE_TABLE_FULL);
    rig_secondary(rig, &more); /* even so: its flow is not known */
    expect(rig, 0);
    rig_secondary(rig, &waiting); /* the others go on */
    expect(rig, 1);
    rig_primary(rig, &more); /* and this must not overtake the first */
    rig_secondary(rig, &more);
    expect(rig, 0);
    rig_checkpoint(rig);
    expect(rig, 2);
    rig_primary(rig, &more);
    rig_secondary(rig, &more);
    expect(rig, 1);
}

/* A table of flows that were all used lately: one that can be forgotten makes room. */
static void test_eviction_of_used(void)
{
    CompareOptions options;
    rig_options_init(&options);
    options.max_flows = 100;
    g_autoptr(Rig) rig = rig_new(&options);
    FrameSpec waiting = udp(999, "waits");

    rig_primary(rig, &waiting);
    for (guint16 port = 0; port < 200; port++)
        exchange(rig, port);
    g_assert_cmpuint(compare_stats(rig->compare)->evicted_flows, ==, 101);
    rig_secondary(rig, &waiting);
    expect(rig, 1);
}

/* What isn't compared is said, counted, and leaves with the checkpoint that was asked for. */
static void test_uncompared_is_counted(void)
{
    CompareOptions options = few_flows();
    g_autoptr(Rig) rig = rig_new(&options);

    for (guint16 port = 0; port < 5; port++) {
        FrameSpec a = udp(port, "a");
        rig_primary(rig, &a);
    }
    const CompareDivergence *d = rig_diverged(rig, COMPARE_TABLE_FULL);
    g_assert_cmpuint(d->key.dport, ==, 3);
    g_assert_cmpuint(compare_stats(rig->compare)->uncompared_frames, ==, 2);
    FrameSpec b = udp(7, "b");
    rig_secondary(rig, &b);
    g_assert_cmpuint(compare_stats(rig->compare)->uncompared_frames, ==, 3);
    rig_checkpoint(rig);
    expect(rig, 5);
    exchange(rig, 4);
    g_assert_cmpuint(compare_stats(rig->compare)->uncompared_frames, ==, 3);
}

/* The documented memory of a flow is enough for one, live and offline. */
static void test_flow_memory(void)
{
    const guint n = 40000; /* buckets for 65,536: not the best case */

    for (int offline = 0; offline < 2; offline++) {
        CompareOptions options;
        rig_options_init(&options);
        options.offline = offline;
        g_autoptr(Rig) rig = rig_new(&options);
        size_t before = mallinfo2().uordblks;
        for (guint i = 0; i < n; i++) {
            FrameSpec p = rig_tcp(TCP_SYN | TCP_ACK, 100, 1, NULL), s = p;
            p.dport = s.dport = (guint16)i;
            rig_primary(rig, &p);
            rig_secondary(rig, &s);
            rig_released(rig);
        }
        rig_agrees(rig);
        g_assert_cmpuint(compare_stats(rig->compare)->flows, ==, n);
        g_assert_cmpuint((mallinfo2().uordblks - before) / n, <=, COMPARE_FLOW_BYTES);
    }
}

static void test_release_all(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a"), b = udp(2, "b");

    rig_primary(rig, &a);
    rig_primary(rig, &b);
    rig_secondary(rig, &b);
    rig_primary(rig, &b);
    compare_release_all(rig->compare);
    expect(rig, 3);
    g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    g_assert_cmpuint(compare_stats(rig->compare)->held_bytes, ==, 0);
    g_assert_cmpuint(compare_stats(rig->compare)->flows, ==, 0);
}

static void count_reasons(const CompareFlowInfo *info, gpointer user_data)
{
    guint64 *counts = user_data;
    for (int i = 0; i < COMPARE_REASONS; i++)
        counts[i] += info->diverged[i];
}

static void test_reasons_per_flow(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = udp(1, "a"), b = udp(1, "b");
    guint64 counts[COMPARE_REASONS] = {0};

    for (int i = 0; i < 3; i++) {
        rig_primary(rig, &a);
        rig_secondary(rig, &b);
        rig_diverged(rig, COMPARE_PAYLOAD);
        rig_checkpoint(rig);
    }
    compare_foreach_flow(rig->compare, count_reasons, counts);
    g_assert_cmpuint(counts[COMPARE_PAYLOAD], ==, 3);
    g_assert_cmpuint(counts[COMPARE_FLAG], ==, 0);
}

/* Offline: what has differed is given up and takes no more room. */
static void test_offline(void)
{
    CompareOptions options;
    rig_options_init(&options);
    options.offline = TRUE;
    options.timeout_us = options.ack_timeout_us = 0;
    g_autoptr(Rig) rig = rig_new(&options);
    FrameSpec a = udp(1, "a"), b = udp(1, "b"), c = udp(2, "c"), d = udp(3, "d");

    rig_primary(rig, &a);
    rig_primary(rig, &a);
    rig_secondary(rig, &b);
    rig_diverged(rig, COMPARE_PAYLOAD);
    g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    rig_secondary(rig, &a);
    rig_primary(rig, &a);
    rig_agrees(rig);
    rig_wait_ms(rig, 1);
    rig_primary(rig, &c);
    rig_wait_ms(rig, 1);
    rig_secondary(rig, &d);
    compare_finish(rig->compare, FALSE, FALSE, rig->now);
    g_assert_cmpuint(rig->divergences->len, ==, 2);
    g_assert_cmpint(g_array_index(rig->divergences, CompareDivergence, 0).reason, ==,
                    COMPARE_MISSING_OUTPUT);
    g_assert_cmpint(g_array_index(rig->divergences, CompareDivergence, 1).reason, ==,
                    COMPARE_EXTRA_OUTPUT);
    g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
}

static void count_frame(unsigned nic, GBytes *frame, gpointer user_data)
{
    g_assert_cmpuint(nic, ==, 0);
    g_assert_nonnull(frame);
    (*(guint *)user_data)++;
}

static guint held_until(const Rig *rig, guint64 until)
{
    guint count = 0;
    compare_foreach_held(rig->compare, until, count_frame, &count);
    return count;
}

/* What the SVM has sent counts as settled up to the oldest frame that waits, of either side. */
static void test_settled(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec a = rig_tcp(TCP_ACK, 100, 1, "aaaa"), b = rig_tcp(TCP_ACK, 104, 1, "bbbb");

    g_assert_cmpuint(compare_settled(rig->compare), ==, 0);
    rig_primary(rig, &a);
    g_assert_cmpuint(held_until(rig, 1), ==, 0);
    g_assert_cmpuint(held_until(rig, 2), ==, 1);
    rig_secondary(rig, &a);
    g_assert_cmpuint(rig_released(rig), ==, 1);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 1);
    g_assert_cmpuint(held_until(rig, 2), ==, 0);

    /* The SVM is ahead: its frame is not settled before the PVM's has left. */
    rig_secondary(rig, &b);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 1);
    rig_primary(rig, &b);
    g_assert_cmpuint(rig_released(rig), ==, 1);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 2);

    rig_checkpoint(rig);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 0);
}

/* A datagram settles by itself, whatever came before it; segments don't. */
static void test_datagram_settles(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec segment = rig_tcp(TCP_ACK, 100, 1, "aaaa"), a = udp(1, "a"), b = udp(2, "b");

    rig_secondary(rig, &segment);
    rig_secondary(rig, &a);
    rig_secondary(rig, &b);
    g_assert_cmpuint(rig->settled->len, ==, 0);
    rig_primary(rig, &b);
    g_assert_cmpuint(rig->settled->len, ==, 1);
    g_assert_cmpuint(g_array_index(rig->settled, guint64, 0), ==, 3);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 0);
    rig_primary(rig, &segment);
    g_assert_cmpuint(rig->settled->len, ==, 1);
    g_assert_cmpuint(compare_settled(rig->compare), ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-epoch/" name, func)
    ADD("commit-releases-older", test_commit_releases_older);
    ADD("old-epoch-continues", test_old_epoch_continues);
    ADD("stale-secondary", test_stale_secondary);
    ADD("secondary-before-received", test_secondary_before_received);
    ADD("primary-after-commit", test_primary_after_commit);
    ADD("timeout-waits-for-loaded", test_timeout_waits_for_loaded);
    ADD("no-request-while-checkpointing", test_no_request_while_checkpointing);
    ADD("missing-and-extra", test_missing_and_extra);
    ADD("secondary-silent", test_secondary_silent);
    ADD("timeouts-tunable", test_timeouts_tunable);
    ADD("bytes-full", test_bytes_full);
    ADD("eviction", test_eviction);
    ADD("table-full", test_table_full);
    ADD("eviction-of-used", test_eviction_of_used);
    ADD("uncompared-is-counted", test_uncompared_is_counted);
    ADD("flow-memory", test_flow_memory);
    ADD("release-all", test_release_all);
    ADD("reasons-per-flow", test_reasons_per_flow);
    ADD("slow-after-load", test_slow_after_load);
    ADD("settled", test_settled);
    ADD("datagram-settles", test_datagram_settles);
    ADD("offline", test_offline);
    return g_test_run();
}
