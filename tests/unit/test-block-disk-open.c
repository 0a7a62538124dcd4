/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which images a disk set opens, which state file it believes (docs/DISKS.md), and with which peer
 * it works. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/block-pair.h"

static void test_config(BlockPair *f, gconstpointer data)
{
    (void)data;
    f->a->configs[1].name = "a b";
    side_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "\"a b\" can't be a disk's name");
    f->a->configs[1].name = "vda";
    side_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "two disks are named vda");
    f->a->configs[1].name = "vdb";
    f->a->configs[1].path = "/nonexistent/image";
    side_open_fails(f->a, TRUE, BLOCK_ERROR_IO, "disk vdb: can't open /nonexistent/image");
    f->a->configs[1].path = "/dev/null";
    side_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "neither a regular file nor a block device");
    f->a->configs[1].path = f->a->paths[1];
    g_assert_cmpint(truncate(f->a->paths[1], 4097), ==, 0);
    f->a->configs[1].direct = TRUE;
    side_open_fails(f->a, TRUE, BLOCK_ERROR_CONFIG, "O_DIRECT needs a multiple of 4096");
}

/* A second set, in our way or QEMU's, can't have the image. */
static void test_locked(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    f->b->configs[0].path = f->a->paths[0];
    side_open_fails(f->b, FALSE, BLOCK_ERROR_LOCKED, "locked by another process");
    side_close(f->a);
    side_open_ok(f->b, FALSE);
}

/* One byte of QEMU's scheme at a time: "used for writing" and "others must not write". */
static void test_foreign_locks(BlockPair *f, gconstpointer data)
{
    static const int bytes[] = {101, 103, 201};
    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bytes); i++) {
        int fd = open(f->a->paths[0], O_RDWR | O_CLOEXEC);
        struct flock lock = {.l_type = F_RDLCK, .l_start = bytes[i], .l_len = 1};
        g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
        side_open_fails(f->a, TRUE, BLOCK_ERROR_LOCKED, f->a->paths[0]);
        close(fd);
    }
    side_open_ok(f->a, TRUE);
}

static void test_damaged_state(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    side_close(f->a);
    side_patch_state(f->a, 50, 1, FALSE);
    side_open_fails(f->a, TRUE, BLOCK_ERROR_STATE, "is damaged");
    g_autofree char *path = side_state_path(f->a);
    g_assert_cmpint(unlink(path), ==, 0); /* the way out that the message names */
    side_open_ok(f->a, TRUE);
}

static void test_foreign_state(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    side_close(f->a);
    f->a->configs[1].name = "vdc";
    side_open_fails(f->a, TRUE, BLOCK_ERROR_STATE, "belongs to disks of other names or sizes");
}

/* A synchronisation that was cut off: nobody can own these images. */
static void test_incomplete(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_true(side_synchronise(f->a, f->b));
    side_close(f->b);
    side_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
    side_open_ok(f->b, FALSE);
}

/* After another boot without a clean end, a replica is not believed; after a clean end it is. */
static void test_other_boot(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_crash(f->b);
    side_patch_state(f->b, 72, 0xff, TRUE);
    side_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
    /* The owner's image is good all the same, but its bitmap is forgotten. */
    side_crash(f->a);
    side_patch_state(f->a, 72, 0xff, TRUE);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_true(f->a->progress.full);
}

static void test_clean_end(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 1, 10, 0);
    block_pair_checkpoint(f, 2);
    side_fill(f->a, 0, 2, 10, 500000);
    side_close(f->a);
    side_close(f->b);
    side_patch_state(f->a, 72, 0xff, TRUE);
    side_patch_state(f->b, 72, 0xff, TRUE);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
    g_assert_false(f->a->progress.full);
    g_assert_cmpuint(f->a->progress.sent_bytes, ==, BLOCK_CHUNK_BYTES);
}

/* Somebody writes to an image between a clean end and the next start: nothing tells where. */
static void test_touched_image(BlockPair *f, gconstpointer data)
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
static void test_unsynced_end(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_refuse(f->b, "sync", "vda", -EIO);
    side_close(f->b);
    side_patch_state(f->b, 72, 0xff, TRUE);
    side_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
}

/* ---- Peers that don't fit ---- */

typedef enum { DIFFERENT_FORMAT, DIFFERENT_SIZE, DIFFERENT_SESSION } Difference;

static void test_mismatch(gconstpointer data)
{
    Difference difference = (Difference)GPOINTER_TO_INT(data);
    guint64 other[SIDE_DISKS] = {block_pair_sizes[0], block_pair_sizes[1]};
    if (difference == DIFFERENT_SIZE)
        other[1] += 512;
    BlockPair f = {side_new(block_pair_sizes), side_new(other)};
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
    block_pair_teardown(&f, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, before, test)                                                                    \
    g_test_add("/block/disk/" name, BlockPair, NULL, before, test, block_pair_teardown)
    ADD("config", block_pair_setup, test_config);
    ADD("locked", block_pair_setup, test_locked);
    ADD("foreign-locks", block_pair_setup, test_foreign_locks);
    ADD("damaged-state", block_pair_setup, test_damaged_state);
    ADD("foreign-state", block_pair_setup, test_foreign_state);
    ADD("incomplete", block_pair_setup_open, test_incomplete);
    ADD("other-boot", block_pair_setup_joined, test_other_boot);
    ADD("clean-end", block_pair_setup_joined, test_clean_end);
    ADD("touched-image", block_pair_setup_joined, test_touched_image);
    ADD("unsynced-end", block_pair_setup_joined, test_unsynced_end);
    g_test_add_data_func("/block/disk/mismatch/format", GINT_TO_POINTER(DIFFERENT_FORMAT),
                         test_mismatch);
    g_test_add_data_func("/block/disk/mismatch/size", GINT_TO_POINTER(DIFFERENT_SIZE),
                         test_mismatch);
    g_test_add_data_func("/block/disk/mismatch/session", GINT_TO_POINTER(DIFFERENT_SESSION),
                         test_mismatch);
    return g_test_run();
}
