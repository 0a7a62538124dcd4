/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk sets: reads and writes, and the order of checkpoints and takeovers; one behaviour or one
 * error a test. The random comparison with a model is test-block-sim. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/block-pair.h"

/* ---- Data path ---- */

static void test_bounds(BlockPair *f, gconstpointer data)
{
    guint8 buf[16] = {0};
    (void)data;
    g_assert_cmpint(disk_write(f->a->disks[0], buf, 16, block_pair_sizes[0] - 8, FALSE), ==,
                    -ENOSPC);
    g_assert_cmpint(disk_read(f->a->disks[0], buf, 16, block_pair_sizes[0] - 8), ==, -EINVAL);
    g_assert_cmpint(disk_read(f->a->disks[0], buf, 16, G_MAXUINT64 - 4), ==, -EINVAL);
    g_assert_cmpint(disk_zero(f->a->disks[0], G_MAXUINT32, 0, TRUE, FALSE), ==, -EINVAL);
    g_assert_cmpint(disk_write(f->a->disks[0], buf, 0, block_pair_sizes[0], FALSE), ==, 0);
    g_assert_null(disk_set_find(f->a->set, "vdz"));
}

static void test_direct(BlockPair *f, gconstpointer data)
{
    (void)data;
    f->a->configs[0].direct = f->a->configs[1].direct = TRUE;
    g_autoptr(GError) error = NULL;
    if (!side_open(f->a, TRUE, &error)) {
        g_test_skip(error->message);
        return;
    }
    g_autofree guint8 *model = g_malloc0(block_pair_sizes[0]), *buf = g_malloc(50000);
    for (guint i = 0; i < 300; i++) {
        guint32 len = (guint32)g_test_rand_int_range(1, i % 3 ? 600 : 50000);
        guint64 at = (guint64)g_test_rand_int_range(0, (gint32)(block_pair_sizes[0] - len + 1));
        memset(buf, (int)i, len);
        if (i % 7 == 0) {
            g_assert_cmpint(disk_zero(f->a->disks[0], len, at, i % 2, FALSE), ==, 0);
            memset(model + at, 0, len);
        } else {
            g_assert_cmpint(disk_write(f->a->disks[0], buf, len, at, FALSE), ==, 0);
            memcpy(model + at, buf, len);
        }
        g_assert_cmpint(disk_read(f->a->disks[0], buf, len, at), ==, 0);
        g_assert_cmpmem(buf, len, model + at, len);
    }
    g_autofree guint8 *all = side_read(f->a, 0);
    g_assert_cmpmem(all, block_pair_sizes[0], model, block_pair_sizes[0]);
}

typedef struct {
    guint64 holes, data;
} Extents;

static int add_extent(guint64 offset, guint64 length, gboolean hole, gpointer data)
{
    Extents *e = data;
    (void)offset;
    *(hole ? &e->holes : &e->data) += length;
    return 0;
}

static void test_extents(BlockPair *f, gconstpointer data)
{
    Extents e = {0};
    (void)data;
    side_fill(f->a, 0, 1, 65536, 131072);
    g_assert_cmpint(disk_extents(f->a->disks[0], (guint32)block_pair_sizes[0], 0, add_extent, &e),
                    ==, 0);
    g_assert_cmpuint(e.data, ==, 65536);
    g_assert_cmpuint(e.holes, ==, block_pair_sizes[0] - 65536);
    /* What a replica's guest sees may come from the overlay: nothing is promised to be a hole. */
    e = (Extents){0};
    g_assert_cmpint(disk_extents(f->b->disks[0], (guint32)block_pair_sizes[0], 0, add_extent, &e),
                    ==, 0);
    g_assert_cmpuint(e.data, ==, block_pair_sizes[0]);
}

/* The replica's guest: sees its own writes, and never touches the image. */
static void test_overlay(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 0xaa, 8192, 4096);
    block_pair_checkpoint(f, 2);
    side_fill(f->b, 0, 0xbb, 100, 5000);
    g_assert_cmphex(side_byte(f->b, 0, 4999), ==, 0xaa);
    g_assert_cmphex(side_byte(f->b, 0, 5000), ==, 0xbb);
    g_assert_cmphex(side_byte(f->b, 0, 5100), ==, 0xaa);
    g_assert_cmpint(disk_zero(f->b->disks[0], 3, 9000, TRUE, TRUE), ==, 0);
    g_assert_cmphex(side_byte(f->b, 0, 9001), ==, 0);
    g_assert_cmphex(side_byte(f->b, 0, 9003), ==, 0xaa);
    g_assert_cmpint(disk_flush(f->b->disks[0]), ==, 0);
    block_pair_assert_same_images(f);
    DiskStatus status;
    disk_set_disk_status(f->b->set, 0, &status);
    g_assert_cmpuint(status.overlay_bytes, ==, 2 * 4096);
    block_pair_checkpoint(f, 3);
    g_assert_cmphex(side_byte(f->b, 0, 5000), ==, 0xaa);
    disk_set_disk_status(f->b->set, 0, &status);
    g_assert_cmpuint(status.overlay_bytes, ==, 0);
}

/* Overlapping writes from many threads: whatever their order was, it is the same on both sides.
 * They are long, so that there is time to get between a write to the image and its place in the
 * stream. */
#define LONG_WRITE 100000u

static gpointer write_much(gpointer data)
{
    Side *side = data;
    g_autofree guint8 *buf = g_malloc(LONG_WRITE);
    GRand *rand = g_rand_new();
    for (guint i = 0; i < 300; i++) {
        memset(buf, (int)g_rand_int(rand), LONG_WRITE);
        guint64 at = (guint64)g_rand_int_range(rand, 0, 200000);
        g_assert_cmpint(disk_write(side->disks[0], buf, LONG_WRITE, at, FALSE), ==, 0);
    }
    g_rand_free(rand);
    return NULL;
}

static void test_overlapping_writers(BlockPair *f, gconstpointer data)
{
    GThread *threads[6];
    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("writer", write_much, f->a);
    for (guint64 epoch = 2; epoch < 8; epoch++)
        block_pair_checkpoint(f, epoch);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    block_pair_checkpoint(f, 8);
    block_pair_assert_same_images(f);
}

/* The same while everything is being synchronised underneath, again and again. */
static void test_writers_during_sync(BlockPair *f, gconstpointer data)
{
    GThread *threads[4];
    (void)data;
    for (guint round = 0; round < 8; round++) {
        side_fill(f->b, 0, 0, 1, 0);
        side_fill(f->a, 0, (guint8)round, 300000, 0);
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("writer", write_much, f->a);
        g_assert_true(side_synchronise(f->a, f->b));
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            g_thread_join(threads[i]);
        block_pair_checkpoint(f, 1);
        block_pair_assert_same_images(f);
        disk_set_detach(f->a->set);
        disk_set_detach(f->b->set);
    }
}

/* The bitmap forgets a write only when the peer has applied the mark after it, also when several
 * marks are on their way. */
static void test_bitmap_covers_unapplied(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    side_fill(f->a, 0, 3, 100, 0);
    g_assert_true(disk_set_mark(f->a->set, 3, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_assert_true(side_wait_applied(f->a, 2));
    g_assert_true(side_wait_marked(f->b, 3));
    side_fill(f->a, 0, 4, 100, 500000);
    g_assert_true(disk_set_mark(f->a->set, 4, NULL));
    g_assert_true(disk_set_apply(f->b->set, 3, NULL));
    g_assert_true(side_wait_applied(f->a, 3));
    side_crash(f->a);
    g_assert_true(disk_set_takeover(f->b->set, 3, NULL));
    side_open_ok(f->a, FALSE);
    g_assert_true(side_synchronise(f->b, f->a));
    g_assert_false(f->b->progress.full);
    g_assert_true(disk_set_mark(f->b->set, 1, NULL));
    g_assert_true(side_wait_marked(f->a, 1));
    block_pair_assert_same_images(f);
}

/* ---- Order of things ---- */

static void test_modes(BlockPair *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    guint8 session[BLOCK_SESSION_BYTES] = {0}, byte = 1;
    (void)data;
    g_assert_false(disk_set_mark(f->a->set, 1, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE);
    g_clear_error(&error);
    g_assert_false(disk_set_apply(f->b->set, 1, NULL));
    g_assert_false(disk_set_takeover(f->b->set, 0, &error)); /* never synchronised */
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE);
    g_assert_false(disk_set_takeover(f->a->set, 0, NULL));
    g_assert_false(disk_set_activate(f->b->set, NULL));
    g_assert_false(disk_set_become_replica(f->a->set, NULL));
    g_assert_false(disk_set_attach_primary(f->b->set, dup(0), session, NULL));
    g_assert_false(disk_set_attach_replica(f->a->set, dup(0), session, NULL));
    /* Inactivating: idempotent, nothing can be written, and back. */
    for (guint i = 0; i < 2; i++)
        g_assert_true(disk_set_inactivate(f->a->set, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -EPERM);
    g_assert_cmphex(side_byte(f->a, 0, 0), ==, 0);
    for (guint i = 0; i < 2; i++)
        g_assert_true(disk_set_activate(f->a->set, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, 0);
    g_assert_true(disk_set_inactivate(f->b->set, NULL)); /* never active: nothing to do */
}

/* Epochs rise; a stage that waits to be applied is applied by its own name only. */
static void test_epochs(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_false(disk_set_mark(f->a->set, 1, NULL));
    g_assert_true(disk_set_mark(f->a->set, 5, NULL));
    g_assert_true(side_wait_marked(f->b, 5));
    g_assert_false(disk_set_apply(f->b->set, 4, NULL));
    g_assert_true(disk_set_apply(f->b->set, 5, NULL));
    g_assert_true(disk_set_apply(f->b->set, 5, NULL));
    g_assert_false(disk_set_takeover(f->b->set, 1, NULL));
    g_assert_true(disk_set_takeover(f->b->set, 5, NULL));
}

/* A complete stage whose checkpoint never became complete as a whole is dropped. */
static void test_takeover_drops_stage(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 0x11, 4096, 0);
    block_pair_checkpoint(f, 2);
    side_fill(f->a, 0, 0x22, 4096, 0);
    side_fill(f->b, 1, 0x33, 10, 70000);
    g_assert_true(disk_set_mark(f->a->set, 3, NULL));
    side_fill(f->a, 0, 0x44, 4096, 0);
    g_assert_true(side_wait_marked(f->b, 3));
    g_assert_true(disk_set_takeover(f->b->set, 2, NULL));
    g_assert_cmphex(side_byte(f->b, 0, 0), ==, 0x11);
    g_assert_cmphex(side_byte(f->b, 1, 70005), ==, 0x33);
    g_autofree guint8 *image = side_image(f->b, 1);
    g_assert_cmphex(image[70005], ==, 0x33);
}

/* Planned handover and back: roles swap without a full comparison. */
static void test_handover(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 0x55, 100, 100);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(disk_set_inactivate(f->a->set, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_assert_true(disk_set_takeover(f->b->set, 2, NULL));
    disk_set_detach(f->a->set);
    g_assert_true(disk_set_become_replica(f->a->set, NULL));
    side_fill(f->b, 0, 0x66, 100, 100);
    g_assert_true(side_synchronise(f->b, f->a));
    g_assert_false(f->b->progress.full);
    g_assert_cmpuint(f->b->progress.sent_bytes, ==, BLOCK_CHUNK_BYTES);
    g_assert_true(disk_set_mark(f->b->set, 1, NULL));
    g_assert_true(side_wait_marked(f->a, 1));
    block_pair_assert_same_images(f);
}

/* To and fro in the same processes: each synchronisation sends what was written since, and no more. */
static void test_handover_to_and_fro(BlockPair *f, gconstpointer data)
{
    Side *owner = f->a, *other = f->b;
    (void)data;
    for (guint round = 1; round <= 6; round++) {
        guint64 epoch = 2 * round;
        side_fill(owner, 0, (guint8)round, 100, 100);
        g_assert_true(disk_set_mark(owner->set, epoch, NULL));
        g_assert_true(side_wait_marked(other, epoch));
        g_assert_true(disk_set_apply(other->set, epoch, NULL));
        /* Its guest runs as a copy does, on the overlay. */
        side_fill(other, 1, (guint8)(round + 100), 100, 200000);
        g_assert_true(disk_set_mark(owner->set, epoch + 1, NULL));
        g_assert_true(disk_set_inactivate(owner->set, NULL));
        g_assert_true(side_wait_marked(other, epoch + 1));
        g_assert_true(disk_set_apply(other->set, epoch + 1, NULL));
        g_assert_true(disk_set_takeover(other->set, epoch + 1, NULL));
        disk_set_detach(owner->set);
        g_assert_true(disk_set_become_replica(owner->set, NULL));
        Side *before = owner;
        owner = other;
        other = before;
        side_fill(owner, 0, (guint8)(round + 50), 100, 300000);
        g_assert_true(side_synchronise(owner, other));
        g_assert_false(owner->progress.full);
        g_assert_cmpuint(owner->progress.sent_bytes, <=, 2 * BLOCK_CHUNK_BYTES);
        g_assert_true(disk_set_mark(owner->set, 1, NULL));
        g_assert_true(side_wait_marked(other, 1));
        block_pair_assert_same_images(f);
    }
}

/* At most one complete and one incomplete epoch: then the replica stops reading, the queue fills up
 * to its bound, and a writer waits. */
typedef struct {
    Side *side;
    gint written;
} Writer;

static gpointer write_until_told(gpointer data)
{
    Writer *w = data;
    g_autofree guint8 *buf = g_malloc0(65536);
    for (guint i = 0; i < 200; i++) {
        g_assert_cmpint(disk_write(w->side->disks[0], buf, 65536, 0, FALSE), ==, 0);
        g_atomic_int_inc(&w->written);
    }
    return NULL;
}

static void test_backpressure(BlockPair *f, gconstpointer data)
{
    DiskSetStatus status;
    Writer writer = {.side = f->a};
    (void)data;
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_mark(f->a->set, 3, NULL)); /* not reported: 2 is not applied */
    GThread *thread = g_thread_new("writer", write_until_told, &writer);
    do { /* 200 writes are 12 MiB; the socket and the queue take far less */
        disk_set_status(f->a->set, &status);
        g_thread_yield();
    } while (status.queue_bytes < f->a->options.queue_bytes / 2);
    g_assert_cmpuint(status.queue_bytes, <=, f->a->options.queue_bytes + 65536 + 64);
    g_assert_cmpint(g_atomic_int_get(&writer.written), <, 200);
    g_assert_cmpuint(f->b->marked, ==, 2);
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 3));
    g_assert_true(disk_set_apply(f->b->set, 3, NULL));
    g_thread_join(thread);
    block_pair_checkpoint(f, 4);
    block_pair_assert_same_images(f);
}

static void setup_backpressure(BlockPair *f, gconstpointer data)
{
    block_pair_setup(f, data);
    f->a->options.queue_bytes = 1u << 20;
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_true(disk_set_mark(f->a->set, 1, NULL));
    g_assert_true(side_wait_marked(f->b, 1));
}

/* The peer hangs with a full queue: detaching frees the writer, who goes on unprotected. */
static void test_detach_frees_writers(BlockPair *f, gconstpointer data)
{
    DiskSetStatus status;
    Writer writer = {.side = f->a};
    (void)data;
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(disk_set_mark(f->a->set, 3, NULL));
    GThread *thread = g_thread_new("writer", write_until_told, &writer);
    do {
        disk_set_status(f->a->set, &status);
        g_thread_yield();
    } while (status.queue_bytes < f->a->options.queue_bytes / 2);
    disk_set_detach(f->a->set);
    g_thread_join(thread);
    g_assert_cmpint(writer.written, ==, 200);
}

static void test_rate_limit(BlockPair *f, gconstpointer data)
{
    (void)data;
    disk_set_limit_sync_rate(f->a->set, 4u << 20);
    gint64 before = g_get_monotonic_time();
    g_assert_true(side_synchronise(f->a, f->b));
    /* All but the first piece has to wait for its turn: at least so long. */
    gint64 least = (gint64)((block_pair_sizes[0] + block_pair_sizes[1] - (1u << 20)) *
                            G_USEC_PER_SEC / (4u << 20));
    g_assert_cmpint(g_get_monotonic_time() - before, >=, least);
    g_assert_cmpuint(f->a->progress.total_bytes, ==, block_pair_sizes[0] + block_pair_sizes[1]);
    g_assert_cmpuint(f->a->progress.sent_bytes, ==, 0); /* equal already */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, before, test)                                                                    \
    g_test_add("/block/disk/" name, BlockPair, NULL, before, test, block_pair_teardown)
    ADD("bounds", block_pair_setup_open, test_bounds);
    ADD("direct", block_pair_setup, test_direct);
    ADD("extents", block_pair_setup_open, test_extents);
    ADD("overlay", block_pair_setup_joined, test_overlay);
    ADD("overlapping-writers", block_pair_setup_joined, test_overlapping_writers);
    ADD("writers-during-sync", block_pair_setup_open, test_writers_during_sync);
    ADD("bitmap-covers-unapplied", block_pair_setup_joined, test_bitmap_covers_unapplied);
    ADD("modes", block_pair_setup_open, test_modes);
    ADD("epochs", block_pair_setup_joined, test_epochs);
    ADD("takeover-drops-stage", block_pair_setup_joined, test_takeover_drops_stage);
    ADD("handover", block_pair_setup_joined, test_handover);
    ADD("handover-to-and-fro", block_pair_setup_joined, test_handover_to_and_fro);
    ADD("backpressure", setup_backpressure, test_backpressure);
    ADD("detach-frees-writers", setup_backpressure, test_detach_frees_writers);
    ADD("rate-limit", block_pair_setup_open, test_rate_limit);
    return g_test_run();
}
