/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage that fails under a disk set: who is told, what is still there, and what may be done then.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/block-pair.h"

/* The guest gets the error; what is there then is what the replica has too. */
static void test_primary_enospc(BlockPair *f, gconstpointer data)
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
static void test_flush_fails(BlockPair *f, gconstpointer data)
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
/* It is told once. From then on the other side's images are the good ones: this side gives up its. */
static void test_inactivate_fails(BlockPair *f, gconstpointer data)
{
    guint8 byte = 7;
    (void)data;
    g_autoptr(GError) error = NULL;
    side_refuse(f->a, "sync", "vdb.img", -EIO);
    g_assert_false(disk_set_inactivate(f->a->set, &error));
    g_assert_nonnull(strstr(error->message, "vdb.img"));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -EPERM);
    g_assert_true(disk_set_activate(f->a->set, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, 0);
    g_assert_true(disk_set_inactivate(f->a->set, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -EPERM);
    side_refuse(f->a, NULL, "", 0);
}

static void test_bitmap_fails(BlockPair *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->a, "write", "vda.dirty", -ENOSPC);
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -ENOSPC);
    side_refuse(f->a, NULL, "", 0);
    g_assert_cmphex(side_byte(f->a, 0, 0), ==, 0);
}

static void assert_lost(BlockPair *f, const char *text)
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

/* Opens the owner's second disk anew, as one that has metadata behind it. */
static void make_qcow2(BlockPair *f)
{
    side_close(f->a);
    side_close(f->b);
    f->a->configs[1].format = f->b->configs[1].format = "qcow2";
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    block_pair_join(f);
}

static void assert_not_written(BlockPair *f, guint64 epoch, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(disk_set_mark_written(f->a->set, epoch, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS);
    if (!strstr(error->message, text))
        g_error("\"%s\" does not contain \"%s\"", error->message, text);
}

/* What QEMU is refused counts from when it is watched on, though it may succeed the next time. */
static void test_watched(BlockPair *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->a, "write", "vda.img", -EIO);
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -EIO);
    disk_set_watch(f->a->set);
    g_assert_true(disk_set_mark_written(f->a->set, 2, NULL));
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, -EIO);
    side_refuse(f->a, "zero", "vdb.img", -ENOSPC);
    g_assert_cmpint(disk_zero(f->a->disks[1], 4096, 0, FALSE, FALSE), ==, -ENOSPC);
    side_refuse(f->a, NULL, "", 0);
    g_assert_cmpint(disk_write(f->a->disks[0], &byte, 1, 0, FALSE), ==, 0);
    assert_not_written(f, 3, "(vda: Input/output error, vdb: No space left on device)");
    g_assert_true(disk_set_mark(f->a->set, 3, NULL));
    disk_set_watch(f->a->set);
    g_assert_true(disk_set_mark_written(f->a->set, 4, NULL));
}

/* Behind a flush of qcow2's are writes that QEMU doesn't make without it. A raw image lacks nothing. */
static void test_watched_flush(BlockPair *f, gconstpointer data)
{
    (void)data;
    make_qcow2(f);
    disk_set_watch(f->a->set);
    side_refuse(f->a, "sync", "vda.img", -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[0]), ==, -EIO);
    g_assert_true(disk_set_mark_written(f->a->set, 2, NULL));
    side_refuse(f->a, "sync", "vdb.img", -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[1]), ==, -EIO);
    assert_not_written(f, 3, "(vdb: Input/output error)");
}

/*
 * Without a flush QEMU doesn't write what refers to new clusters. So an image that could not be synced, and is not
 * raw, takes part in no checkpoint any more, whatever its storage does then; nor in a session.
 */
static void test_unsynced_metadata(BlockPair *f, gconstpointer data)
{
    static const guint8 session[BLOCK_SESSION_BYTES] = {1};
    g_autoptr(GError) error = NULL;
    (void)data;
    make_qcow2(f);
    side_refuse(f->a, "sync", ".img", -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[0]), ==, -EIO);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_cmpint(disk_flush(f->a->disks[1]), ==, -EIO);
    side_refuse(f->a, NULL, "", 0);
    g_assert_false(disk_set_mark(f->a->set, 4, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS);
    g_assert_nonnull(strstr(error->message, "disk vdb: vdb.img: can't sync it: Input/output"));
    disk_set_detach(f->a->set);
    g_clear_error(&error);
    g_assert_false(disk_set_attach_primary(f->a->set, dup(0), session, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS);
}

static int write_byte(BlockPair *f, guint disk)
{
    guint8 byte = 1;
    return disk_write(f->a->disks[disk], &byte, 1, 0, FALSE);
}

static void assert_unmarked(BlockPair *f, guint64 epoch, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(disk_set_mark(f->a->set, epoch, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS);
    if (!strstr(error->message, text))
        g_error("\"%s\" does not contain \"%s\"", error->message, text);
}

/*
 * QEMU writes what it keeps of a qcow2 image in each pause, and doesn't say so if it can't. It has it still: the
 * next checkpoint is whole. What the guest was refused before the pause is no matter, and a raw image lacks nothing.
 */
static void test_unwritten_metadata(BlockPair *f, gconstpointer data)
{
    (void)data;
    make_qcow2(f);
    side_refuse(f->a, "write", ".img", -ENOSPC);
    g_assert_cmpint(write_byte(f, 1), ==, -ENOSPC);
    g_assert_true(disk_set_sync(f->a->set, NULL));
    g_assert_cmpint(write_byte(f, 0), ==, -ENOSPC);
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_cmpint(write_byte(f, 1), ==, -ENOSPC);
    side_refuse(f->a, NULL, "", 0);
    g_assert_cmpint(write_byte(f, 1), ==, 0);
    g_assert_cmpint(disk_flush(f->a->disks[1]), ==, 0);
    assert_unmarked(f, 3, "QEMU could not write all that it had to (vdb: No space left");
    g_assert_true(disk_set_sync(f->a->set, NULL));
    g_assert_true(disk_set_mark(f->a->set, 3, NULL));
}

/* What fails as the disks are given up doesn't count for the ordinary checkpoint that it becomes; and the reverse. */
static void test_unwritten_at_last(BlockPair *f, gconstpointer data)
{
    (void)data;
    make_qcow2(f);
    g_assert_true(disk_set_sync(f->a->set, NULL));
    disk_set_watch(f->a->set);
    side_refuse(f->a, "write", "vdb.img", -EIO);
    g_assert_cmpint(write_byte(f, 1), ==, -EIO);
    assert_not_written(f, 2, "(vdb: Input/output error)");
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(disk_set_sync(f->a->set, NULL));
    g_assert_cmpint(write_byte(f, 1), ==, -EIO);
    disk_set_watch(f->a->set);
    assert_unmarked(f, 3, "(vdb: Input/output error)");
    g_assert_true(disk_set_mark_written(f->a->set, 3, NULL)); /* QEMU has written it meanwhile */
    side_refuse(f->a, NULL, "", 0);
}

/* A spill file that can't grow ends protection, and only that. */
static void test_spill_fails(BlockPair *f, gconstpointer data)
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

static void test_replica_image_fails_in_sync(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 1, 1, 65536, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    side_pair(f->a, f->b);
    assert_lost(f, "vdb");
    g_assert_false(disk_set_takeover(f->b->set, 0, NULL));
}

/* Half applied: no takeover before it has been finished. */
static void test_apply_fails(BlockPair *f, gconstpointer data)
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
    g_assert_cmphex(side_byte(f->b, 0, 0), ==, 1);
    g_assert_cmphex(side_byte(f->b, 1, 0), ==, 2);
}

/* The takeover fails half-way: still a replica, nothing lost, and a later try succeeds. */
static void test_takeover_fails(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->b, 0, 0x21, 4096, 0);
    side_fill(f->b, 1, 0x22, 4096, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    g_assert_false(disk_set_takeover(f->b->set, 1, NULL));
    DiskSetStatus status;
    disk_set_status(f->b->set, &status);
    g_assert_cmpint(status.mode, ==, DISK_MODE_REPLICA);
    g_assert_cmphex(side_byte(f->b, 1, 0), ==, 0x22);
    side_refuse(f->b, NULL, "", 0);
    g_assert_true(disk_set_takeover(f->b->set, 1, NULL));
    g_assert_cmphex(side_byte(f->b, 0, 0), ==, 0x21);
    g_assert_cmphex(side_byte(f->b, 1, 0), ==, 0x22);
}

/* The same, and the process gives up: what it leaves can't be owned. */
static void test_takeover_given_up(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->b, 1, 0x22, 4096, 0);
    side_refuse(f->b, "write", "vdb.img", -EIO);
    g_assert_false(disk_set_takeover(f->b->set, 1, NULL));
    side_refuse(f->b, NULL, "", 0);
    side_close(f->b);
    side_open_fails(f->b, TRUE, BLOCK_ERROR_STATE, "incomplete replica");
}

static void test_overlay_fails(BlockPair *f, gconstpointer data)
{
    guint8 byte = 1;
    (void)data;
    side_refuse(f->b, "write", "overlay", -ENOSPC);
    g_assert_cmpint(disk_write(f->b->disks[0], &byte, 1, 0, FALSE), ==, -ENOSPC);
    side_refuse(f->b, NULL, "", 0);
    g_assert_cmphex(side_byte(f->b, 0, 0), ==, 0);
}

/* ---- What a process that could not sync leaves to the next one ---- */

#define UNSYNCED 0x31

/*
 * The owner's image could not be synced. The replica has everything, and takes over. The owner's
 * process dies.
 */
static void lose_the_owner(BlockPair *f)
{
    side_fill(f->a, 0, UNSYNCED, 4096, 0);
    side_refuse(f->a, "sync", "vda.img", -EIO);
    g_assert_cmpint(disk_flush(f->a->disks[0]), ==, -EIO);
    side_refuse(f->a, NULL, "", 0);
    block_pair_checkpoint(f, 2);
    side_crash(f->a);
    g_assert_true(disk_set_takeover(f->b->set, 2, NULL));
}

/* The page cache lets go of what has not reached the medium. */
static void evict(const Side *side)
{
    static const guint8 zeroes[4096];
    COLO_AUTO_FD fd = open(side->paths[0], O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, zeroes, sizeof(zeroes), 0), ==, sizeof(zeroes));
}

/* The owner's process is there again, as a replica. */
static void rejoin(BlockPair *f)
{
    disk_set_detach(f->b->set);
    side_open_ok(f->a, FALSE);
    g_assert_true(side_synchronise(f->b, f->a));
    g_assert_true(disk_set_mark(f->b->set, 1, NULL));
    g_assert_true(side_wait_applied(f->b, 1));
}

/* No bitmap names what was lost: it was replicated long ago. */
static void test_unsynced_is_compared(BlockPair *f, gconstpointer data)
{
    (void)data;
    lose_the_owner(f);
    evict(f->a);
    rejoin(f);
    g_assert_true(f->b->progress.full);
    block_pair_assert_same_images(f);
}

/* What can be read may be in the page cache only: it is sent, though it seems to be the same. */
static void test_unsynced_is_rewritten(BlockPair *f, gconstpointer data)
{
    (void)data;
    lose_the_owner(f);
    rejoin(f);
    g_assert_cmpuint(f->b->progress.sent_bytes, ==, BLOCK_CHUNK_BYTES);
    side_close(f->a);
    rejoin(f); /* it is known by now */
    g_assert_false(f->b->progress.full);
    g_assert_cmpuint(f->b->progress.sent_bytes, ==, 0);
}

/* After a boot the medium is read: what is the same is the same. */
static void test_unsynced_before_a_boot(BlockPair *f, gconstpointer data)
{
    (void)data;
    lose_the_owner(f);
    side_patch_state(f->a, 72, 0xff, TRUE);
    rejoin(f);
    g_assert_true(f->b->progress.full);
    g_assert_cmpuint(f->b->progress.sent_bytes, ==, 0);
}

/* The guest that is started again reads what it will read later, too. */
static void test_unsynced_owner(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(f->a->forgets, ==, 0);
    side_refuse(f->a, "sync", "vda.img", -ENOSPC);
    g_assert_false(disk_set_sync(f->a->set, NULL));
    side_refuse(f->a, NULL, "", 0);
    side_close(f->a);
    side_open_ok(f->a, TRUE);
    g_assert_cmpuint(f->a->forgets, ==, SIDE_DISKS);
}

/*
 * Handed over by a process that could not sync an image. It doesn't become a replica, whose every
 * apply would fail: the next process does, which has all of it written anew.
 */
static void test_unsynced_is_no_replica(BlockPair *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    side_refuse(f->a, "sync", "vda.img", -EIO);
    g_assert_false(disk_set_sync(f->a->set, NULL));
    side_refuse(f->a, NULL, "", 0);
    g_assert_true(disk_set_inactivate(f->a->set, NULL));
    disk_set_detach(f->a->set);
    g_assert_false(disk_set_become_replica(f->a->set, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "vda"));
    side_close(f->a);
    side_open_ok(f->a, FALSE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, before, test)                                                                    \
    g_test_add("/block/disk/" name, BlockPair, NULL, before, test, block_pair_teardown)
    ADD("primary-enospc", block_pair_setup_joined, test_primary_enospc);
    ADD("flush-fails", block_pair_setup_joined, test_flush_fails);
    ADD("inactivate-fails", block_pair_setup_joined, test_inactivate_fails);
    ADD("bitmap-fails", block_pair_setup_joined, test_bitmap_fails);
    ADD("watched", block_pair_setup_joined, test_watched);
    ADD("watched-flush", block_pair_setup_open, test_watched_flush);
    ADD("unsynced-metadata", block_pair_setup_open, test_unsynced_metadata);
    ADD("unwritten-metadata", block_pair_setup_open, test_unwritten_metadata);
    ADD("unwritten-at-last", block_pair_setup_open, test_unwritten_at_last);
    ADD("spill-fails", block_pair_setup_joined, test_spill_fails);
    ADD("replica-image-fails-in-sync", block_pair_setup_open, test_replica_image_fails_in_sync);
    ADD("apply-fails", block_pair_setup_joined, test_apply_fails);
    ADD("takeover-fails", block_pair_setup_joined, test_takeover_fails);
    ADD("takeover-given-up", block_pair_setup_joined, test_takeover_given_up);
    ADD("overlay-fails", block_pair_setup_joined, test_overlay_fails);
    ADD("unsynced-is-compared", block_pair_setup_joined, test_unsynced_is_compared);
    ADD("unsynced-is-rewritten", block_pair_setup_joined, test_unsynced_is_rewritten);
    ADD("unsynced-before-a-boot", block_pair_setup_joined, test_unsynced_before_a_boot);
    ADD("unsynced-is-no-replica", block_pair_setup_joined, test_unsynced_is_no_replica);
    ADD("unsynced-owner", block_pair_setup_joined, test_unsynced_owner);
    return g_test_run();
}
