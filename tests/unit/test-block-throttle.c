/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest may write within one epoch: little more than the secondary's medium takes in half a
 * second, so that a takeover doesn't sync for long.
 */
#include <string.h>

#include "block/throttle.h"
#include "tests/support/block-pair.h"

#define DISK_BYTES (4u << 20)
#define LIMIT      (1u << 20)

/* ---- Alone ---- */

static void test_no_limit(void)
{
    Throttle throttle;
    throttle_init(&throttle, 0);
    for (guint i = 0; i < 100; i++) {
        g_assert_false(throttle_asks(&throttle, G_MAXUINT32));
        throttle_admit(&throttle, G_MAXUINT32);
    }
    throttle_clear(&throttle);
}

static void test_asks_once_in_an_epoch(void)
{
    Throttle throttle;
    throttle_init(&throttle, 0);
    throttle_limit(&throttle, 100);
    for (guint epoch = 0; epoch < 3; epoch++) {
        g_assert_false(throttle_asks(&throttle, 49));
        throttle_admit(&throttle, 49);
        g_assert_true(throttle_asks(&throttle, 1)); /* before it may have to wait */
        throttle_admit(&throttle, 1);
        g_assert_false(throttle_asks(&throttle, 49));
        throttle_begin_epoch(&throttle);
    }
    throttle_clear(&throttle);
}

/* What QEMU does when it drains its disks must end, though nobody has said that it may: a small write
 * waits by its size. If each waited for as long as a full epoch's, this would take months. */
static void test_small_writes_pass(void)
{
    Throttle throttle;
    throttle_init(&throttle, G_GINT64_CONSTANT(1000000) * G_USEC_PER_SEC);
    throttle_limit(&throttle, G_GUINT64_CONSTANT(1) << 40);
    throttle_admit(&throttle, G_GUINT64_CONSTANT(1) << 40);
    gint64 before = g_get_monotonic_time();
    for (guint i = 0; i < 16; i++)
        throttle_admit(&throttle, 4096);
    /* 4 ms each: it does wait. */
    g_assert_cmpint(g_get_monotonic_time() - before, >=, 16 * 3700);
    throttle_clear(&throttle);
}

/* ---- In a pair ---- */

typedef BlockPair Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    static const guint64 sizes[SIDE_DISKS] = {DISK_BYTES, DISK_BYTES};
    block_pair_new(f, sizes);
    f->b->options.settle_bytes = GPOINTER_TO_UINT(data);
    f->a->options.throttle_us = f->b->options.throttle_us =
        G_GINT64_CONSTANT(100000) * G_USEC_PER_SEC;
    block_pair_open(f);
    block_pair_join(f);
    g_assert_true(disk_set_apply(f->b->set, 1, NULL));
    g_assert_true(side_wait_applied(f->a, 1));
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    block_pair_free(f);
}

static DiskSetStatus status_of(const Side *side)
{
    DiskSetStatus status;
    disk_set_status(side->set, &status);
    return status;
}

static void write_bytes(const Side *side, guint64 offset, guint32 bytes)
{
    g_autofree guint8 *buf = g_malloc(bytes);
    memset(buf, 0x77, bytes);
    g_assert_cmpint(disk_write(side->disks[0], buf, bytes, offset, FALSE), ==, 0);
}

typedef struct {
    const Side *side;
    gint done; /* atomic */
} Writer;

static gpointer write_on(gpointer data)
{
    Writer *writer = data;
    write_bytes(writer->side, LIMIT, 4096);
    g_atomic_int_set(&writer->done, TRUE);
    return NULL;
}

/* A full epoch, and one more write, which waits. */
static GThread *fill(Writer *writer)
{
    write_bytes(writer->side, 0, LIMIT);
    GThread *thread = g_thread_new("writer", write_on, writer);
    while (!status_of(writer->side).waits && !g_atomic_int_get(&writer->done))
        g_usleep(100);
    return thread;
}

static void test_told(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(status_of(f->a).epoch_limit, ==, LIMIT);
    g_assert_cmpuint(status_of(f->b).epoch_limit, ==, LIMIT);
    write_bytes(f->a, 0, LIMIT / 2 - 512);
    g_assert_cmpuint(f->a->fillings, ==, 0);
    write_bytes(f->a, 0, 512);
    g_assert_cmpuint(f->a->fillings, ==, 1);
}

/* A peer that says next to nothing can't stop the guest: the largest write passes whole. */
static void test_told_nonsense(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(status_of(f->b).epoch_limit, ==, 1);
    g_assert_cmpuint(status_of(f->a).epoch_limit, ==, 1 << 20);
    write_bytes(f->a, 0, 4096);
    write_bytes(f->a, 0, 4096);
    g_assert_cmpuint(f->a->fillings, ==, 0);
}

/* The wait ends at the mark; the write is of the next epoch then. */
static void test_mark_ends_it(Fixture *f, gconstpointer data)
{
    (void)data;
    Writer writer = {.side = f->a};
    GThread *thread = fill(&writer);
    g_assert_false(g_atomic_int_get(&writer.done));
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_thread_join(thread);
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_autofree guint8 *image = side_image(f->b, 0);
    g_assert_cmpuint(image[LIMIT - 1], ==, 0x77);
    g_assert_cmpuint(image[LIMIT], ==, 0);
}

/* Who pauses the VM must not wait for a mark that comes only in the pause. */
static void test_let_through(Fixture *f, gconstpointer data)
{
    (void)data;
    Writer writer = {.side = f->a};
    GThread *thread = fill(&writer);
    g_assert_false(g_atomic_int_get(&writer.done));
    disk_set_let_through(f->a->set);
    g_thread_join(thread);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_autofree guint8 *image = side_image(f->b, 0);
    g_assert_cmpuint(image[LIMIT], ==, 0x77);
    /* And the next epoch has its limit again. */
    writer.done = FALSE;
    thread = fill(&writer);
    g_assert_false(g_atomic_int_get(&writer.done));
    disk_set_detach(f->a->set);
    g_thread_join(thread);
}

/* A guest that is not protected any more writes as it likes. */
static void test_detached(Fixture *f, gconstpointer data)
{
    (void)data;
    disk_set_detach(f->a->set);
    g_assert_cmpuint(status_of(f->a).epoch_limit, ==, 0);
    for (guint i = 0; i < 4; i++)
        write_bytes(f->a, 0, LIMIT);
    g_assert_cmpuint(f->a->fillings, ==, 0);
}

/* A copy that runs writes to its overlay, which a takeover has to bring to the medium too. */
static void test_overlay(Fixture *f, gconstpointer data)
{
    (void)data;
    Writer writer = {.side = f->b};
    GThread *thread = fill(&writer);
    g_assert_false(g_atomic_int_get(&writer.done));
    disk_set_let_through(f->b->set);
    g_thread_join(thread);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    writer.done = FALSE;
    thread = fill(&writer);
    g_assert_false(g_atomic_int_get(&writer.done));
    g_assert_true(disk_set_takeover(f->b->set, 2, NULL));
    g_thread_join(thread);
    g_assert_cmpuint(status_of(f->b).epoch_limit, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/throttle/no-limit", test_no_limit);
    g_test_add_func("/block/throttle/asks-once-in-an-epoch", test_asks_once_in_an_epoch);
    g_test_add_func("/block/throttle/small-writes-pass", test_small_writes_pass);
#define ADD(name, test)                                                                            \
    g_test_add("/block/throttle/" name, Fixture, GUINT_TO_POINTER(LIMIT), set_up, test, tear_down)
    ADD("told", test_told);
    ADD("mark-ends-it", test_mark_ends_it);
    ADD("let-through", test_let_through);
    ADD("detached", test_detached);
    ADD("overlay", test_overlay);
    g_test_add("/block/throttle/told-nonsense", Fixture, GUINT_TO_POINTER(1), set_up,
               test_told_nonsense, tear_down);
    return g_test_run();
}
