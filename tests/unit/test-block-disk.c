/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk sets: one behaviour or one error a test. The random comparison with a model is
 * test-block-sim. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/endian.h"
#include "tests/support/block-pair.h"

static const guint64 sizes[SIDE_DISKS] = {1u << 20, 200 * 1024};

typedef BlockPair Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    (void)data;
    block_pair_new(f, sizes);
}

static void setup_open(Fixture *f, gconstpointer data)
{
    setup(f, data);
    block_pair_open(f);
}

static void setup_joined(Fixture *f, gconstpointer data)
{
    setup_open(f, data);
    block_pair_join(f);
    g_assert_true(side_wait_applied(f->a, 1));
}

static void teardown(Fixture *f, gconstpointer data)
{
    (void)data;
    block_pair_free(f);
}

static guint8 byte_at(Side *side, guint disk, guint64 offset)
{
    guint8 byte = 0;
    g_assert_cmpint(disk_read(side->disks[disk], &byte, 1, offset), ==, 0);
    return byte;
}

/* ---- Configuration, locks, state ---- */

static void assert_open_fails(Side *side, gboolean owner, BlockError code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(side_open(side, owner, &error));
    g_assert_error(error, BLOCK_ERROR, (gint)code);
    if (!strstr(error->message, text))
        g_error("\"%s\" does not contain \"%s\"", error->message, text);
}

static void test_config(Fixture *f, gconstpointer data)
{
    (void)data;
    f->a->configs[1].name = "a b";
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "\"a b\" can't be a disk's name");
    f->a->configs[1].name = "vda";
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "two disks are named vda");
    f->a->configs[1].name = "vdb";
    f->a->configs[1].path = "/nonexistent/image";
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_IO, "disk vdb: can't open /nonexistent/image");
    f->a->configs[1].path = "/dev/null";
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "neither a regular file nor a block device");
    f->a->configs[1].path = f->a->paths[1];
    g_assert_cmpint(truncate(f->a->paths[1], 4097), ==, 0);
    f->a->configs[1].direct = TRUE;
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "O_DIRECT needs a multiple of 4096");
}

/* A second set, in our way or QEMU's, can't have the image. */
static void test_locked(Fixture *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    f->b->configs[0].path = f->a->paths[0];
    assert_open_fails(f->b, FALSE, BLOCK_ERROR_LOCKED, "locked by another process");
    side_close(f->a);
    side_open_ok(f->b, FALSE);
}

/* One byte of QEMU's scheme at a time: "used for writing" and "others must not write". */
static void test_foreign_locks(Fixture *f, gconstpointer data)
{
    static const int bytes[] = {101, 103, 201};
    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bytes); i++) {
        int fd = open(f->a->paths[0], O_RDWR | O_CLOEXEC);
        struct flock lock = {.l_type = F_RDLCK, .l_start = bytes[i], .l_len = 1};
        g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
        assert_open_fails(f->a, TRUE, BLOCK_ERROR_LOCKED, f->a->paths[0]);
        close(fd);
    }
    side_open_ok(f->a, TRUE);
}

static char *state_path(const Side *side)
{
    return g_build_filename(side->dir, "state", NULL);
}

/* Changes the state file; `resign`: with a right checksum. */
static void patch_state(const Side *side, gsize at, guint8 xor, gboolean resign)
{
    g_autofree char *path = state_path(side);
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_cmpuint(len, ==, 256);
    bytes[at] = (char)(bytes[at] ^ xor);
    if (resign)
        colo_put_be64(bytes + 248, XXH3_64bits(bytes, 248));
    g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

static void test_damaged_state(Fixture *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    side_close(f->a);
    patch_state(f->a, 50, 1, FALSE);
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_STATE, "is damaged");
    g_autofree char *path = state_path(f->a);
    g_assert_cmpint(unlink(path), ==, 0); /* the way out that the message names */
    side_open_ok(f->a, TRUE);
}

static void test_foreign_state(Fixture *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    side_close(f->a);
    f->a->configs[1].name = "vdc";
    assert_open_fails(f->a, TRUE, BLOCK_ERROR_STATE, "belongs to disks of other names or sizes");
}

/* A synchronisation that was cut off: nobody can own these images. */
static void test_incomplete(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_true(side_synchronise(f->a, f->b));
    side_close(f->b);
    assert_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
    side_open_ok(f->b, FALSE);
}

/* After another boot without a clean end, a replica is not believed; after a clean end it is. */
static void test_other_boot(Fixture *f, gconstpointer data)
{
    (void)data;
    side_crash(f->b);
    patch_state(f->b, 72, 0xff, TRUE);
    assert_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
    /* The owner's image is good all the same, but its bitmap is forgotten. */
    side_crash(f->a);
    patch_state(f->a, 72, 0xff, TRUE);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_true(f->a->progress.full);
}

static void test_clean_end(Fixture *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 1, 10, 0);
    block_pair_checkpoint(f, 2);
    side_fill(f->a, 0, 2, 10, 500000);
    side_close(f->a);
    side_close(f->b);
    patch_state(f->a, 72, 0xff, TRUE);
    patch_state(f->b, 72, 0xff, TRUE);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_false(f->a->progress.full);
    g_assert_cmpuint(f->a->progress.sent_bytes, ==, BLOCK_CHUNK_BYTES);
}

/* Somebody writes to an image between a clean end and the next start: nothing tells where. */
static void test_touched_image(Fixture *f, gconstpointer data)
{
    (void)data;
    side_close(f->a);
    side_close(f->b);
    int fd = open(f->b->paths[0], O_WRONLY | O_CLOEXEC);
    static const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    g_assert_cmpint(pwrite(fd, "x", 1, 300000), ==, 1);
    g_assert_cmpint(futimens(fd, times), ==, 0); /* the clock of files may be too coarse */
    close(fd);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_true(f->a->progress.full);
    block_pair_checkpoint(f, 2);
    block_pair_assert_same_images(f);
}

/* What could not be synced is not called clean. */
static void test_unsynced_end(Fixture *f, gconstpointer data)
{
    (void)data;
    side_refuse(f->b, "sync", "vda", -EIO);
    side_close(f->b);
    patch_state(f->b, 72, 0xff, TRUE);
    assert_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
}

/* ---- Data path ---- */

static void test_bounds(Fixture *f, gconstpointer data)
{
    guint8 buf[16] = {0};
    (void)data;
    g_assert_cmpint(disk_write(f->a->disks[0], buf, 16, sizes[0] - 8, FALSE), ==, -ENOSPC);
    g_assert_cmpint(disk_read(f->a->disks[0], buf, 16, sizes[0] - 8), ==, -EINVAL);
    g_assert_cmpint(disk_read(f->a->disks[0], buf, 16, G_MAXUINT64 - 4), ==, -EINVAL);
    g_assert_cmpint(disk_zero(f->a->disks[0], G_MAXUINT32, 0, TRUE, FALSE), ==, -EINVAL);
    g_assert_cmpint(disk_write(f->a->disks[0], buf, 0, sizes[0], FALSE), ==, 0);
    g_assert_null(disk_set_find(f->a->set, "vdz"));
}

static void test_direct(Fixture *f, gconstpointer data)
{
    (void)data;
    f->a->configs[0].direct = f->a->configs[1].direct = TRUE;
    g_autoptr(GError) error = NULL;
    if (!side_open(f->a, TRUE, &error)) {
        g_test_skip(error->message);
        return;
    }
    g_autofree guint8 *model = g_malloc0(sizes[0]), *buf = g_malloc(50000);
    for (guint i = 0; i < 300; i++) {
        guint32 len = (guint32)g_test_rand_int_range(1, i % 3 ? 600 : 50000);
        guint64 at = (guint64)g_test_rand_int_range(0, (gint32)(sizes[0] - len + 1));
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
    g_assert_cmpmem(all, sizes[0], model, sizes[0]);
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

static void test_extents(Fixture *f, gconstpointer data)
{
    Extents e = {0};
    (void)data;
    side_fill(f->a, 0, 1, 65536, 131072);
    g_assert_cmpint(disk_extents(f->a->disks[0], (guint32)sizes[0], 0, add_extent, &e), ==, 0);
    g_assert_cmpuint(e.data, ==, 65536);
    g_assert_cmpuint(e.holes, ==, sizes[0] - 65536);
    /* What a replica's guest sees may come from the overlay: nothing is promised to be a hole. */
    e = (Extents){0};
    g_assert_cmpint(disk_extents(f->b->disks[0], (guint32)sizes[0], 0, add_extent, &e), ==, 0);
    g_assert_cmpuint(e.data, ==, sizes[0]);
}

/* The replica's guest: sees its own writes, and never touches the image. */
static void test_overlay(Fixture *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 0xaa, 8192, 4096);
    block_pair_checkpoint(f, 2);
    side_fill(f->b, 0, 0xbb, 100, 5000);
    g_assert_cmphex(byte_at(f->b, 0, 4999), ==, 0xaa);
    g_assert_cmphex(byte_at(f->b, 0, 5000), ==, 0xbb);
    g_assert_cmphex(byte_at(f->b, 0, 5100), ==, 0xaa);
    g_assert_cmpint(disk_zero(f->b->disks[0], 3, 9000, TRUE, TRUE), ==, 0);
    g_assert_cmphex(byte_at(f->b, 0, 9001), ==, 0);
    g_assert_cmphex(byte_at(f->b, 0, 9003), ==, 0xaa);
    g_assert_cmpint(disk_flush(f->b->disks[0]), ==, 0);
    block_pair_assert_same_images(f);
    DiskStatus status;
    disk_set_disk_status(f->b->set, 0, &status);
    g_assert_cmpuint(status.overlay_bytes, ==, 2 * 4096);
    block_pair_checkpoint(f, 3);
    g_assert_cmphex(byte_at(f->b, 0, 5000), ==, 0xaa);
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

static void test_overlapping_writers(Fixture *f, gconstpointer data)
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
static void test_writers_during_sync(Fixture *f, gconstpointer data)
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
static void test_bitmap_covers_unapplied(Fixture *f, gconstpointer data)
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

static void test_modes(Fixture *f, gconstpointer data)
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
    g_assert_cmphex(byte_at(f->a, 0, 0), ==, 0);
    for (guint i = 0; i < 2; i++)
        g_assert_true(disk_set_activate(f->a->set, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, 0);
    g_assert_true(disk_set_inactivate(f->b->set, NULL)); /* never active: nothing to do */
}

/* Epochs rise; a stage that waits to be applied is applied by its own name only. */
static void test_epochs(Fixture *f, gconstpointer data)
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
static void test_takeover_drops_stage(Fixture *f, gconstpointer data)
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
    g_assert_cmphex(byte_at(f->b, 0, 0), ==, 0x11);
    g_assert_cmphex(byte_at(f->b, 1, 70005), ==, 0x33);
    g_autofree guint8 *image = side_image(f->b, 1);
    g_assert_cmphex(image[70005], ==, 0x33);
}

/* Planned handover and back: roles swap without a full comparison. */
static void test_handover(Fixture *f, gconstpointer data)
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

static void test_backpressure(Fixture *f, gconstpointer data)
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

static void setup_backpressure(Fixture *f, gconstpointer data)
{
    setup(f, data);
    f->a->options.queue_bytes = 1u << 20;
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_true(disk_set_mark(f->a->set, 1, NULL));
    g_assert_true(side_wait_marked(f->b, 1));
}

/* The peer hangs with a full queue: detaching frees the writer, who goes on unprotected. */
static void test_detach_frees_writers(Fixture *f, gconstpointer data)
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

static void test_rate_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    disk_set_limit_sync_rate(f->a->set, 4u << 20);
    gint64 before = g_get_monotonic_time();
    g_assert_true(side_synchronise(f->a, f->b));
    /* All but the first piece has to wait for its turn: at least so long. */
    gint64 least = (gint64)((sizes[0] + sizes[1] - (1u << 20)) * G_USEC_PER_SEC / (4u << 20));
    g_assert_cmpint(g_get_monotonic_time() - before, >=, least);
    g_assert_cmpuint(f->a->progress.total_bytes, ==, sizes[0] + sizes[1]);
    g_assert_cmpuint(f->a->progress.sent_bytes, ==, 0); /* equal already */
}

/* ---- Storage that fails ---- */

/* The guest gets the error; what is there then is what the replica has too. */
static void test_primary_enospc(Fixture *f, gconstpointer data)
{
    guint8 buf[5000] = {1};
    (void)data;
    side_fill(f->a, 0, 0x12, 8192, 0);
    side_refuse(f->a, "write", "vda.img", -ENOSPC);
    g_assert_cmpint(disk_write(f->a->disks[0], buf, sizeof(buf), 1000, FALSE), ==, -ENOSPC);
    side_refuse(f->a, "zero", "vda.img", -EIO);
    g_assert_cmpint(disk_zero(f->a->disks[0], 5000, 1000, TRUE, FALSE), ==, -EIO);
    side_refuse(f->a, NULL, "", 0);
    block_pair_checkpoint(f, 2);
    block_pair_assert_same_images(f);
    side_fill(f->a, 0, 0x13, 100, 1000);
    block_pair_checkpoint(f, 3);
    block_pair_assert_same_images(f);
}

/* After a failed fdatasync nothing is known to be durable any more. */
static void test_flush_fails(Fixture *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->a, "sync", "vda.img", -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[0]), ==, -EIO);
    side_refuse(f->a, NULL, "", 0);
    g_assert_cmpint(disk_flush(f->a->disks[0]), ==, -EIO);
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, TRUE), ==, -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[1]), ==, 0);
}

/* The dirty bitmap can't be written: the write must not happen. */
static void test_bitmap_fails(Fixture *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->a, "write", "vda.dirty", -ENOSPC);
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -ENOSPC);
    side_refuse(f->a, NULL, "", 0);
    g_assert_cmphex(byte_at(f->a, 0, 0), ==, 0);
}

static void assert_lost(Fixture *f, const char *text)
{
    side_wait_lost(f->a);
    side_wait_lost(f->b);
    if (!strstr(f->b->lost_message, text) || !strstr(f->a->lost_message, text))
        g_error("\"%s\" or \"%s\" does not contain \"%s\"", f->a->lost_message, f->b->lost_message,
                text);
    disk_set_detach(f->a->set);
    side_fill(f->a, 0, 0x99, 4096, 4096); /* the guest goes on */
    DiskSetStatus status;
    disk_set_status(f->a->set, &status);
    g_assert_false(status.attached);
}

/* A spill file that can't grow ends protection, and only that. */
static void test_spill_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    side_refuse(f->b, "write", "vda.journal", -ENOSPC);
    side_fill(f->a, 0, 1, 65536, 0);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    assert_lost(f, "vda");
    g_assert_cmpuint(f->b->marked, ==, 1);
    side_refuse(f->b, NULL, "", 0);
    g_assert_true(disk_set_takeover(f->b->set, 1, NULL)); /* the last checkpoint is intact */
}

static void test_replica_image_fails_in_sync(Fixture *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 1, 1, 65536, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    side_pair(f->a, f->b);
    assert_lost(f, "vdb");
    g_assert_false(disk_set_takeover(f->b->set, 0, NULL));
}

/* Half applied: no takeover before it has been finished. */
static void test_apply_fails(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    side_fill(f->a, 0, 1, 4096, 0);
    side_fill(f->a, 1, 2, 4096, 0);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    side_refuse(f->b, "write", "vdb.img", -EIO);
    g_assert_false(disk_set_apply(f->b->set, 2, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "vdb"));
    for (guint64 epoch = 1; epoch < 3; epoch++)
        g_assert_false(disk_set_takeover(f->b->set, epoch, NULL));
    side_refuse(f->b, NULL, "", 0);
    g_assert_true(disk_set_apply(f->b->set, 2, NULL));
    g_assert_true(disk_set_takeover(f->b->set, 2, NULL));
    g_assert_cmphex(byte_at(f->b, 0, 0), ==, 1);
    g_assert_cmphex(byte_at(f->b, 1, 0), ==, 2);
}

/* The takeover fails half-way: still a replica, nothing lost, and a later try succeeds. */
static void test_takeover_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    side_fill(f->b, 0, 0x21, 4096, 0);
    side_fill(f->b, 1, 0x22, 4096, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    g_assert_false(disk_set_takeover(f->b->set, 1, NULL));
    DiskSetStatus status;
    disk_set_status(f->b->set, &status);
    g_assert_cmpint(status.mode, ==, DISK_MODE_REPLICA);
    g_assert_cmphex(byte_at(f->b, 1, 0), ==, 0x22);
    side_refuse(f->b, NULL, "", 0);
    g_assert_true(disk_set_takeover(f->b->set, 1, NULL));
    g_assert_cmphex(byte_at(f->b, 0, 0), ==, 0x21);
    g_assert_cmphex(byte_at(f->b, 1, 0), ==, 0x22);
}

/* The same, and the process gives up: what it leaves can't be owned. */
static void test_takeover_given_up(Fixture *f, gconstpointer data)
{
    (void)data;
    side_fill(f->b, 1, 0x22, 4096, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    g_assert_false(disk_set_takeover(f->b->set, 1, NULL));
    side_refuse(f->b, NULL, "", 0);
    side_close(f->b);
    assert_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
}

static void test_overlay_fails(Fixture *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->b, "write", "overlay", -ENOSPC);
    g_assert_cmpint(disk_write(f->b->disks[0], &byte, 1, 0, FALSE), ==, -ENOSPC);
    side_refuse(f->b, NULL, "", 0);
    g_assert_cmphex(byte_at(f->b, 0, 0), ==, 0);
}

/* ---- Peers that don't fit ---- */

typedef enum { DIFFERENT_FORMAT, DIFFERENT_SIZE, DIFFERENT_SESSION } Difference;

static void test_mismatch(gconstpointer data)
{
    Difference difference = (Difference)GPOINTER_TO_INT(data);
    guint64 other[SIDE_DISKS] = {sizes[0], sizes[1]};
    if (difference == DIFFERENT_SIZE)
        other[1] += 512;
    Fixture f = {side_new(sizes), side_new(other)};
    if (difference == DIFFERENT_FORMAT)
        f.b->configs[1].format = "qcow2";
    side_open_ok(f.a, TRUE);
    side_open_ok(f.b, FALSE);
    if (difference == DIFFERENT_SESSION) {
        int fds[2];
        guint8 one[BLOCK_SESSION_BYTES] = {1}, two[BLOCK_SESSION_BYTES] = {2};
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
        g_assert_true(disk_set_attach_replica(f.b->set, fds[0], one, NULL));
        g_assert_true(disk_set_attach_primary(f.a->set, fds[1], two, NULL));
    } else {
        side_pair(f.a, f.b);
    }
    side_wait_lost(f.a);
    side_wait_lost(f.b);
    const char *expected = difference == DIFFERENT_FORMAT ? "disk vdb: format"
                           : difference == DIFFERENT_SIZE ? "disk vdb: 20"
                                                          : "another session";
    if (!strstr(f.a->lost_message, expected) && !strstr(f.b->lost_message, expected))
        g_error("neither \"%s\" nor \"%s\"", f.a->lost_message, f.b->lost_message);
    /* Nothing has happened to the replica's images or their state. */
    side_close(f.b);
    side_open_ok(f.b, TRUE);
    teardown(&f, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, before, test)                                                                    \
    g_test_add("/block/disk/" name, Fixture, NULL, before, test, teardown)
    ADD("config", setup, test_config);
    ADD("locked", setup, test_locked);
    ADD("foreign-locks", setup, test_foreign_locks);
    ADD("damaged-state", setup, test_damaged_state);
    ADD("foreign-state", setup, test_foreign_state);
    ADD("incomplete", setup_open, test_incomplete);
    ADD("other-boot", setup_joined, test_other_boot);
    ADD("clean-end", setup_joined, test_clean_end);
    ADD("touched-image", setup_joined, test_touched_image);
    ADD("unsynced-end", setup_joined, test_unsynced_end);
    ADD("bounds", setup_open, test_bounds);
    ADD("direct", setup, test_direct);
    ADD("extents", setup_open, test_extents);
    ADD("overlay", setup_joined, test_overlay);
    ADD("overlapping-writers", setup_joined, test_overlapping_writers);
    ADD("writers-during-sync", setup_open, test_writers_during_sync);
    ADD("bitmap-covers-unapplied", setup_joined, test_bitmap_covers_unapplied);
    ADD("modes", setup_open, test_modes);
    ADD("epochs", setup_joined, test_epochs);
    ADD("takeover-drops-stage", setup_joined, test_takeover_drops_stage);
    ADD("handover", setup_joined, test_handover);
    ADD("backpressure", setup_backpressure, test_backpressure);
    ADD("detach-frees-writers", setup_backpressure, test_detach_frees_writers);
    ADD("rate-limit", setup_open, test_rate_limit);
    ADD("primary-enospc", setup_joined, test_primary_enospc);
    ADD("flush-fails", setup_joined, test_flush_fails);
    ADD("bitmap-fails", setup_joined, test_bitmap_fails);
    ADD("spill-fails", setup_joined, test_spill_fails);
    ADD("replica-image-fails-in-sync", setup_open, test_replica_image_fails_in_sync);
    ADD("apply-fails", setup_joined, test_apply_fails);
    ADD("takeover-fails", setup_joined, test_takeover_fails);
    ADD("takeover-given-up", setup_joined, test_takeover_given_up);
    ADD("overlay-fails", setup_joined, test_overlay_fails);
    g_test_add_data_func("/block/disk/mismatch/format", GINT_TO_POINTER(DIFFERENT_FORMAT),
                         test_mismatch);
    g_test_add_data_func("/block/disk/mismatch/size", GINT_TO_POINTER(DIFFERENT_SIZE),
                         test_mismatch);
    g_test_add_data_func("/block/disk/mismatch/session", GINT_TO_POINTER(DIFFERENT_SESSION),
                         test_mismatch);
    return g_test_run();
}
