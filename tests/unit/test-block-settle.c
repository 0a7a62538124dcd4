/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A replica's images are on their medium soon after each apply: a takeover, which clients wait for,
 * has no more than one epoch to sync.
 */
#include <errno.h>
#include <string.h>

#include "tests/support/block-pair.h"

#define DISK_BYTES (64u << 20)
#define LIMIT      65536u

typedef struct {
    BlockPair pair;
    gint released;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    static const guint64 sizes[SIDE_DISKS] = {DISK_BYTES, DISK_BYTES};
    block_pair_new(&f->pair, sizes);
    f->pair.b->options.settle_bytes = GPOINTER_TO_UINT(data);
    block_pair_open(&f->pair);
    block_pair_join(&f->pair);
    g_assert_true(disk_set_apply(f->pair.b->set, 1, NULL));
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    block_pair_free(&f->pair);
}

static void write_epoch(Fixture *f, guint64 epoch, guint32 bytes)
{
    g_autofree guint8 *buf = g_malloc(bytes);
    memset(buf, (int)epoch, bytes);
    g_assert_cmpint(disk_write(f->pair.a->disks[0], buf, bytes, 0, FALSE), ==, 0);
    g_assert_true(disk_set_mark(f->pair.a->set, epoch, NULL));
    g_assert_true(side_wait_marked(f->pair.b, epoch));
}

/* Nobody asks for it, and no takeover. */
static void test_by_itself(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint64 epoch = 2; epoch < 6; epoch++) {
        guint64 before = f->pair.b->image_syncs;
        write_epoch(f, epoch, 4096);
        g_assert_true(disk_set_apply(f->pair.b->set, epoch, NULL));
        side_wait_image_syncs(f->pair.b, before + 1);
    }
}

static gpointer release(gpointer data)
{
    Fixture *f = data;
    g_usleep(200000); /* long enough for an apply that doesn't wait to end before */
    g_atomic_int_set(&f->released, TRUE);
    side_hold_settling(f->pair.b, FALSE);
    return NULL;
}

/* An epoch of any size is applied at once; the next one when most of it has reached the medium. */
static void test_at_most_one_epoch(Fixture *f, gconstpointer data)
{
    (void)data;
    side_hold_settling(f->pair.b, TRUE);
    write_epoch(f, 2, 4 * LIMIT);
    g_assert_true(disk_set_apply(f->pair.b->set, 2, NULL));
    write_epoch(f, 3, 4096);
    GThread *thread = g_thread_new("release", release, f);
    g_assert_true(disk_set_apply(f->pair.b->set, 3, NULL));
    g_assert_true(g_atomic_int_get(&f->released));
    g_thread_join(thread);
}

/* A trim of any length is no work for the medium: else its rate would seem to be enormous. */
static void test_zeroes_are_no_work(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(disk_trim(f->pair.a->disks[0], DISK_BYTES, 0, FALSE), ==, 0);
    g_assert_true(disk_set_mark(f->pair.a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->pair.b, 2));
    guint64 syncs = f->pair.b->image_syncs, settles = f->pair.b->settles;
    g_assert_true(disk_set_apply(f->pair.b->set, 2, NULL));
    side_wait_image_syncs(f->pair.b, syncs + 1);
    g_assert_cmpuint(f->pair.b->settles - settles, <=, 1);
}

static void settle_epoch(Fixture *f, guint64 epoch, guint32 bytes)
{
    guint64 syncs = f->pair.b->image_syncs;
    write_epoch(f, epoch, bytes);
    g_assert_true(disk_set_apply(f->pair.b->set, epoch, NULL));
    side_wait_image_syncs(f->pair.b, syncs + 1);
}

static guint64 epoch_limit(const Side *side)
{
    DiskSetStatus status;
    disk_set_status(side->set, &status);
    return status.epoch_limit;
}

/*
 * A medium that was very slow once is found to be faster again. Epochs are small then: a checkpoint
 * is taken when half of the least limit is written.
 */
static void test_leaves_the_floor(Fixture *f, gconstpointer data)
{
    guint64 epoch = 2, assumed = epoch_limit(f->pair.b);
    (void)data;
    side_slow_settling(f->pair.b, 1000000);
    while (epoch_limit(f->pair.b) >= assumed / 2)
        settle_epoch(f, epoch++, 8 << 20);
    guint64 least = epoch_limit(f->pair.b);
    side_slow_settling(f->pair.b, 50000);
    for (guint64 end = epoch + 100; epoch_limit(f->pair.b) <= least; epoch++) {
        g_assert_cmpuint(epoch, <, end);
        settle_epoch(f, epoch, (guint32)least / 2);
    }
}

/* Small epochs don't wait for storage that hangs: it may be well again before it matters. */
static void test_small_epochs_continue(Fixture *f, gconstpointer data)
{
    (void)data;
    side_hold_settling(f->pair.b, TRUE);
    for (guint64 epoch = 2; epoch < 2 + LIMIT / 4096; epoch++) {
        write_epoch(f, epoch, 4096);
        g_assert_true(disk_set_apply(f->pair.b->set, epoch, NULL));
    }
    side_hold_settling(f->pair.b, FALSE);
}

/* What the medium has not taken can't be taken over, and that is found out before it matters. */
static void test_failure(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    side_refuse(f->pair.b, "settle", "vda.img", -EIO);
    /* It is noticed by one of the next applies, however soon the thread gets to it: they wait for it
     * when there is more on its way than the limit. */
    for (guint64 epoch = 2; !error; epoch++) {
        g_assert_cmpuint(epoch, <, 4 * LIMIT / 4096);
        write_epoch(f, epoch, 4096);
        disk_set_apply(f->pair.b->set, epoch, &error);
    }
    side_refuse(f->pair.b, NULL, "", 0);
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "vda"));
    g_assert_false(disk_set_takeover(f->pair.b->set, 2, NULL));
    /* Nor by the next process, however this one ends. */
    side_crash(f->pair.b);
    side_open_fails(f->pair.b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test)                                                                            \
    g_test_add("/block/settle/" name, Fixture, GUINT_TO_POINTER(LIMIT), set_up, test, tear_down)
    ADD("by-itself", test_by_itself);
    ADD("at-most-one-epoch", test_at_most_one_epoch);
    ADD("small-epochs-continue", test_small_epochs_continue);
    ADD("zeroes-are-no-work", test_zeroes_are_no_work);
    ADD("failure", test_failure);
    g_test_add("/block/settle/leaves-the-floor", Fixture, NULL, set_up, test_leaves_the_floor,
               tear_down);
    return g_test_run();
}
