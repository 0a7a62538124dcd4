/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/backlog.h"

#include <malloc.h>
#include <string.h>

#define LIMIT_BYTES (1024 * 1024)

static void add(Backlog *backlog, guint64 tag, gsize len)
{
    g_autofree guint8 *bytes = g_malloc0(len + 1);
    bytes[0] = (guint8)tag;
    g_autoptr(GBytes) data = g_bytes_new(bytes, len);
    backlog_add(backlog, (unsigned)tag % 3, tag, data);
}

/* The tags that are there, in order; the counters are those of the frames. */
static void expect(const Backlog *backlog, const char *tags, guint64 dropped)
{
    g_autoptr(GString) found = g_string_new(NULL);
    guint64 frames = 0, bytes = 0;
    for (BacklogFrame *frame = backlog_first(backlog); frame; frame = backlog_next(frame)) {
        g_string_append_printf(found, "%s%" G_GUINT64_FORMAT, frames ? " " : "", frame->tag);
        g_assert_cmpuint(frame->nic, ==, frame->tag % 3);
        frames++;
        bytes += g_bytes_get_size(frame->data) + BACKLOG_FRAME_BYTES;
    }
    g_assert_cmpstr(found->str, ==, tags);
    g_assert_cmpuint(backlog_stats(backlog)->frames, ==, frames);
    g_assert_cmpuint(backlog_stats(backlog)->bytes, ==, bytes);
    g_assert_cmpuint(backlog_stats(backlog)->dropped, ==, dropped);
}

static void test_order(void)
{
    g_autoptr(Backlog) backlog = backlog_new(LIMIT_BYTES);
    expect(backlog, "", 0);
    g_assert_null(backlog_take(backlog, backlog_first(backlog)));
    for (guint64 tag = 1; tag <= 6; tag++)
        add(backlog, tag, 10 * tag);
    expect(backlog, "1 2 3 4 5 6", 0);
    /* The first, one from within, the last. */
    g_autoptr(BacklogFrame) first = backlog_take(backlog, backlog_first(backlog));
    g_assert_cmpuint(first->tag, ==, 1);
    g_assert_cmpuint(g_bytes_get_size(first->data), ==, 10);
    backlog_drop(backlog, backlog_next(backlog_first(backlog)));
    expect(backlog, "2 4 5 6", 0);
    for (BacklogFrame *frame = backlog_first(backlog), *next; frame; frame = next) {
        next = backlog_next(frame);
        if (frame->tag == 2 || frame->tag == 6)
            backlog_drop(backlog, frame);
    }
    expect(backlog, "4 5", 0);
    /* A tag may change while it waits. */
    backlog_first(backlog)->tag = 7;
    backlog_first(backlog)->nic = 1;
    expect(backlog, "7 5", 0);
    backlog_clear(backlog);
    expect(backlog, "", 0);
    add(backlog, 8, 0);
    expect(backlog, "8", 0);
}

/* The bytes stay with who else has them. */
static void test_references(void)
{
    g_autoptr(GBytes) data = g_bytes_new("frame", 5);
    Backlog *backlog = backlog_new(0);
    backlog_add(backlog, 0, 1, data);
    backlog_add(backlog, 0, 2, data);
    g_assert_true(backlog_first(backlog)->data == data);
    g_autoptr(BacklogFrame) taken = backlog_take(backlog, backlog_first(backlog));
    backlog_free(backlog);
    g_assert_true(taken->data == data);
    g_assert_cmpmem(g_bytes_get_data(data, NULL), 5, "frame", 5);
    backlog_free(NULL);
}

/* At the limit the oldest go. */
static void test_limit(void)
{
    const gsize each = 1000 - BACKLOG_FRAME_BYTES;
    g_autoptr(Backlog) backlog = backlog_new(3000);
    for (guint64 tag = 1; tag <= 3; tag++)
        add(backlog, tag, each);
    expect(backlog, "1 2 3", 0); /* to the byte */
    add(backlog, 4, each);
    expect(backlog, "2 3 4", 1);
    add(backlog, 5, 0);
    expect(backlog, "3 4 5", 2);
    add(backlog, 6, each + 1000);
    expect(backlog, "5 6", 4);
    /* Larger than the limit: nothing is left. */
    add(backlog, 7, 3000);
    expect(backlog, "", 7);
    add(backlog, 8, each);
    expect(backlog, "8", 7);
    /* What its user drops is not counted. */
    backlog_clear(backlog);
    expect(backlog, "", 7);
}

static void test_no_limit(void)
{
    g_autoptr(Backlog) backlog = backlog_new(0);
    for (guint64 tag = 0; tag < 100; tag++)
        add(backlog, tag, LIMIT_BYTES);
    g_assert_cmpuint(backlog_stats(backlog)->frames, ==, 100);
    g_assert_cmpuint(backlog_stats(backlog)->dropped, ==, 0);
}

/* A flood of frames that are nearly nothing takes no more memory than the limit. */
static void test_small_frames(void)
{
    const guint64 fit = LIMIT_BYTES / (BACKLOG_FRAME_BYTES + 1);
    g_autoptr(Backlog) backlog = backlog_new(LIMIT_BYTES);
    struct mallinfo2 before = mallinfo2();
    for (guint64 tag = 0; tag < 10 * fit; tag++)
        add(backlog, tag, 1);
    struct mallinfo2 after = mallinfo2();
    g_assert_cmpuint(backlog_stats(backlog)->frames, ==, fit);
    g_assert_cmpuint(backlog_stats(backlog)->dropped, ==, 9 * fit);
    g_assert_cmpuint(backlog_first(backlog)->tag, ==, 9 * fit);
    /* A sanitizer's allocator tells nothing: 0 both times. */
    g_test_message("%zu bytes for %" G_GUINT64_FORMAT " frames", after.uordblks - before.uordblks,
                   fit);
    g_assert_cmpuint(after.uordblks - before.uordblks, <=, LIMIT_BYTES);
}

/* Anything in any order: never above the limit, and always the newest. */
static void test_random(void)
{
    for (int round = 0; round < 200; round++) {
        gsize limit = (gsize)g_test_rand_int_range(BACKLOG_FRAME_BYTES, 4000);
        g_autoptr(Backlog) backlog = backlog_new(limit);
        for (guint64 tag = 1; tag <= 100; tag++) {
            gsize len = (gsize)g_test_rand_int_range(0, 500);
            guint64 before = backlog_stats(backlog)->bytes;
            guint64 dropped = backlog_stats(backlog)->dropped;
            guint64 cost = len + BACKLOG_FRAME_BYTES;
            add(backlog, tag, len);
            g_assert_cmpuint(backlog_stats(backlog)->bytes, <=, limit);
            /* None goes without need. */
            g_assert_cmpint(backlog_stats(backlog)->dropped > dropped, ==, before + cost > limit);
            guint64 last = 0;
            for (BacklogFrame *f = backlog_first(backlog); f; last = f->tag, f = backlog_next(f))
                g_assert_cmpuint(f->tag, >, last);
            g_assert_cmpuint(last, ==, cost <= limit ? tag : 0);
            if (g_test_rand_bit() && backlog_first(backlog))
                backlog_drop(backlog, backlog_first(backlog));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backlog/order", test_order);
    g_test_add_func("/backlog/references", test_references);
    g_test_add_func("/backlog/limit", test_limit);
    g_test_add_func("/backlog/no-limit", test_no_limit);
    g_test_add_func("/backlog/small-frames", test_small_frames);
    g_test_add_func("/backlog/random", test_random);
    return g_test_run();
}
