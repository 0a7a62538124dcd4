/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints whose pages are packed: RAM arrives as it is, whatever changes meanwhile, and both ends
 * count the same.
 */
#include <arpa/inet.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/capture_internal.h"
#include "tests/support/checkpoint-pair.h"

#define PAGES CHECKPOINT_PAIR_PAGES

static void check_counts(const CheckpointPair *pair)
{
    g_assert_cmpuint(pair->last->bytes, >, 0);
    g_assert_cmpuint(pair->last->plain_bytes, ==, pair->stats.plain_bytes);
}

static void synchronise(CheckpointPair *pair)
{
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
}

/* While a guest writes, with one way of packing or with all, one after another. */
static void test_busy_guest(gconstpointer data)
{
    int fixed = GPOINTER_TO_INT(data);
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = 16;
    tuning.look_interval_us = tuning.round_interval_us = 500;
    capture_set_tuning(pair->capture, &tuning);
    capture_set_packing(pair->capture, fixed < 0 ? CAPTURE_PACK_LZ4 : (CapturePack)fixed);
    checkpoint_pair_fill(pair->primary);
    checkpoint_pair_run_guest(pair, 300);
    synchronise(pair);
    for (int i = 0; i < 150; i++) {
        checkpoint_pair_take(pair);
        check_counts(pair);
        if (fixed < 0)
            capture_set_packing(pair->capture, (CapturePack)g_test_rand_int_range(0, 4));
    }
    g_assert_no_error(pair->capture_error);
    g_assert_no_error(pair->apply_error);
}

/* A guest that changes a word in each of many scattered pages: few bytes, once they are known. */
static void test_small_changes(gconstpointer data)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    capture_set_packing(pair->capture, (CapturePack)GPOINTER_TO_INT(data));
    for (gsize i = 0; i < PAGES * VM_PAGE_SIZE; i += 2)
        pair->primary->guest[i] = (guint8)g_test_rand_int();
    synchronise(pair);
    checkpoint_pair_take(pair);
    for (guint8 round = 1; round < 4; round++) {
        for (guint page = 0; page < 200; page += 2)
            pair->primary->guest[page * VM_PAGE_SIZE + 8] = round;
        checkpoint_pair_take(pair);
        check_counts(pair);
        g_assert_cmpuint(pair->stats.dirty_pages, ==, 100);
        g_assert_cmpuint(pair->stats.plain_bytes, >, 100 * VM_PAGE_SIZE);
        if (round > 1)
            g_assert_cmpuint(pair->stats.bytes, <, 20 * VM_PAGE_SIZE);
    }
    /* The link is lost: nothing is known of the other end any more. */
    checkpoint_pair_again(pair);
    capture_set_packing(pair->capture, (CapturePack)GPOINTER_TO_INT(data));
    synchronise(pair);
    memset(pair->primary->guest + 5 * VM_PAGE_SIZE, 7, 50);
    checkpoint_pair_take(pair);
    memset(pair->primary->guest + 5 * VM_PAGE_SIZE, 8, 50);
    checkpoint_pair_take(pair);
}

/* Nothing is packed for a peer that nothing is known of. */
static void test_at_first(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    synchronise(pair);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.bytes, ==, pair->stats.plain_bytes);
    g_assert_cmpuint(pair->last->bytes, ==, pair->last->plain_bytes);
    g_assert_cmpint(pair->stats.codec, ==, PACK_PLAIN);
}

/* Two ends of a connection over loopback. */
static void connect_tcp(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&at, len), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&at, &len), ==, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fds[0], (struct sockaddr *)&at, len), ==, 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(fds[1], >=, 0);
    close(listener);
}

/* The kernel tells what a TCP connection's link takes. */
static void test_rate(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_cut(pair);
    close(pair->fds[0]);
    close(pair->fds[1]);
    connect_tcp(pair->fds);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    pair->apply = checkpoint_pair_apply_new(pair, pair->fds[1]);
    capture_set_packing(pair->capture, CAPTURE_PACK_AUTO);
    checkpoint_pair_fill(pair->primary);
    synchronise(pair);
    checkpoint_pair_take(pair);
    memset(pair->primary->guest, 9, 500 * VM_PAGE_SIZE);
    checkpoint_pair_take(pair);
    g_assert_false(pair->capture->no_tcp);
    /* Between a byte a second and a petabyte: it is no other field. */
    g_assert_cmpfloat(pack_rule_rate(&pair->capture->pack_rule), >, 1e3);
    g_assert_cmpfloat(pack_rule_rate(&pair->capture->pack_rule), <, 1e12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name;
        int packing;
    } ways[] = {
        {"auto", CAPTURE_PACK_AUTO},
        {"lz4",  CAPTURE_PACK_LZ4 },
        {"zstd", CAPTURE_PACK_ZSTD},
        {"any",  -1               }
    };
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *busy = g_strdup_printf("/packed/busy-guest/%s", ways[i].name);
        g_autofree char *small = g_strdup_printf("/packed/small-changes/%s", ways[i].name);
        g_test_add_data_func(busy, GINT_TO_POINTER(ways[i].packing), test_busy_guest);
        if (ways[i].packing > 0)
            g_test_add_data_func(small, GINT_TO_POINTER(ways[i].packing), test_small_changes);
    }
    g_test_add_func("/packed/at-first", test_at_first);
    g_test_add_func("/packed/rate", test_rate);
    return g_test_run();
}
