/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generations in disk sets: which synchronisation is let begin, and what is on record after it. */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "common/endian.h"
#include "tests/support/block-pair.h"

static Generation generation_of(const Side *side)
{
    DiskSetStatus status;
    disk_set_status(side->set, &status);
    return status.generation;
}

/* What is found before anything is opened is what an opened set says. */
static void assert_examined(const Side *side, GenerationData data)
{
    g_autoptr(GError) error = NULL;
    Generation found;
    disk_set_examine(side->configs, SIDE_DISKS, side->dir, &found, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(generation_data_name(found.data), ==, generation_data_name(data));
}

static void write_alone(Side *side)
{
    g_autoptr(GError) error = NULL;
    disk_set_write_alone(side->set, &error);
    g_assert_no_error(error);
}

/* Neither side lets it begin, both say why, and nothing is changed. */
static void assert_refused(Side *primary, Side *replica, const char *why)
{
    g_autofree guint8 *before = side_image(replica, 0);
    Generation generation = generation_of(replica);
    g_assert_false(side_synchronise(primary, replica));
    side_wait_lost(replica);
    const char *messages[] = {primary->lost_message, replica->lost_message};
    for (guint i = 0; i < 2; i++)
        if (!strstr(messages[i], why) || !strstr(messages[i], "--discard-this-side"))
            g_error("\"%s\" does not contain \"%s\"", messages[i], why);
    disk_set_detach(primary->set);
    disk_set_detach(replica->set);
    g_autofree guint8 *after = side_image(replica, 0);
    g_assert_cmpmem(before, block_pair_sizes[0], after, block_pair_sizes[0]);
    Generation now = generation_of(replica);
    g_assert_cmpmem(&generation, sizeof(generation), &now, sizeof(now));
}

static void test_generation_taken_over(BlockPair *f, gconstpointer data)
{
    (void)data;
    Generation a = generation_of(f->a), b = generation_of(f->b);
    g_assert_cmpuint(a.current, ==, b.current);
    g_assert_cmpint(a.data, ==, GENERATION_WRITER);
    g_assert_cmpint(b.data, ==, GENERATION_BEHIND);
    side_close(f->b);
    assert_examined(f->b, GENERATION_BEHIND);
    /* What the replica said in the handshake is known. */
    DiskSetStatus status;
    disk_set_status(f->a->set, &status);
    g_assert_true(status.knows_peer);
    g_assert_cmpuint(status.peer_generation.current, ==, 0);
}

/* The replica has taken over: who was overtaken can't overwrite it, but the other way round. */
static void test_overtaken_is_older(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_crash(f->a);
    g_assert_true(disk_set_takeover(f->b->set, 1, NULL));
    side_fill(f->b, 0, 7, 4096, 0);
    side_close(f->b);
    side_open_ok(f->a, TRUE);
    side_open_ok(f->b, FALSE);
    assert_refused(f->a, f->b, "are newer than the primary's");
    side_close(f->a);
    side_close(f->b);
    side_open_ok(f->b, TRUE);
    side_open_ok(f->a, FALSE);
    g_assert_true(side_synchronise(f->b, f->a));
}

static void test_split_is_refused(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_crash(f->a);
    g_assert_true(disk_set_takeover(f->b->set, 1, NULL));
    side_open_ok(f->a, TRUE);
    write_alone(f->a);
    side_fill(f->a, 0, 5, 4096, 0);
    side_fill(f->b, 0, 7, 4096, 0);
    side_close(f->b);
    side_open_ok(f->b, FALSE);
    assert_refused(f->a, f->b, "were both written to since they were equal");
    /* Unless that is said where the data is lost, and then it holds for once. */
    disk_set_discard(f->b->set);
    g_assert_true(side_synchronise(f->a, f->b));
    block_pair_checkpoint(f, 1);
    block_pair_assert_same_images(f);
    disk_set_detach(f->a->set);
    side_close(f->b);
    side_open_ok(f->b, TRUE);
    write_alone(f->b);
    side_close(f->b);
    side_open_ok(f->b, FALSE);
    assert_refused(f->a, f->b, "were both written to since they were equal");
}

static void test_strangers_are_refused(BlockPair *f, gconstpointer data)
{
    (void)data;
    write_alone(f->a);
    side_close(f->b);
    side_open_ok(f->b, TRUE);
    write_alone(f->b);
    side_close(f->b);
    side_open_ok(f->b, FALSE);
    assert_refused(f->a, f->b, "have nothing in common");
}

/* A replica that an administrator has started is no descendant of what its writer went on with. */
static void test_replica_alone_is_split(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_fill(f->a, 0, 5, 4096, 0);
    side_crash(f->a);
    side_close(f->b);
    side_open_ok(f->b, TRUE);
    write_alone(f->b);
    side_open_ok(f->a, FALSE);
    assert_refused(f->b, f->a, "have nothing in common");
}

static void test_broken_is_overwritten(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_true(side_synchronise(f->a, f->b));
    side_close(f->b);
    assert_examined(f->b, GENERATION_BROKEN);
    disk_set_detach(f->a->set);
    side_open_ok(f->b, FALSE);
    g_assert_true(side_synchronise(f->a, f->b));
}

/* A last mark: from then on either side holds everything, also after another boot. */
static void test_finish(BlockPair *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    side_fill(f->a, 0, 9, 4096, 8192);
    side_fill(f->b, 0, 8, 4096, 0); /* of the copy that ends */
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    disk_set_finish(f->b->set, 2, &error);
    g_assert_no_error(error);
    g_assert_cmpint(generation_of(f->b).data, ==, GENERATION_IN_STEP);
    side_crash(f->b);
    side_close(f->a);
    block_pair_assert_same_images(f);
    side_patch_state(f->b, 72, 0xff, TRUE);
    assert_examined(f->b, GENERATION_IN_STEP);
    side_open_ok(f->b, TRUE);
    write_alone(f->b);
    side_fill(f->b, 0, 7, 4096, 0);
    side_open_ok(f->a, FALSE);
    g_assert_true(side_synchronise(f->b, f->a));
}

/* It counts only if all of it is durable. */
static void test_finish_unsynced(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_true(disk_set_mark(f->a->set, 2, NULL));
    g_assert_true(side_wait_marked(f->b, 2));
    side_refuse(f->b, "sync", "vda", -EIO);
    g_assert_false(disk_set_finish(f->b->set, 2, NULL));
    g_assert_cmpint(generation_of(f->b).data, ==, GENERATION_BEHIND);
    side_crash(f->b);
    /* Nobody knows what the medium has lost. */
    assert_examined(f->b, GENERATION_BROKEN);
}

/* A primary that dies before it hears that the replica is complete: what it writes next is newer.
 */
static void test_exposed(BlockPair *f, gconstpointer data)
{
    (void)data;
    g_assert_true(side_synchronise(f->a, f->b));
    Generation before = generation_of(f->a);
    side_crash(f->a);
    side_close(f->b);
    side_open_ok(f->a, TRUE);
    write_alone(f->a);
    g_assert_cmpuint(generation_of(f->a).bitmap, ==, before.current);
    /* Nobody has seen this one: it lasts. */
    Generation now = generation_of(f->a);
    side_close(f->a);
    side_open_ok(f->a, TRUE);
    write_alone(f->a);
    g_assert_cmpuint(generation_of(f->a).current, ==, now.current);
}

/* A state file of version 1 says nothing of generations. */
static void test_old_state(BlockPair *f, gconstpointer data)
{
    (void)data;
    side_open_ok(f->a, TRUE);
    side_close(f->a);
    g_autofree char *path = side_state_path(f->a);
    g_autofree char *bytes = NULL;
    g_assert_true(g_file_get_contents(path, &bytes, NULL, NULL));
    colo_put_be32(bytes + 8, 1);
    colo_put_be64(bytes + 88, XXH3_64bits(bytes, 88));
    g_assert_true(g_file_set_contents(path, bytes, 96, NULL));
    assert_examined(f->a, GENERATION_WRITER);
    side_open_ok(f->a, TRUE);
    g_assert_cmpuint(generation_of(f->a).current, ==, 0);
    write_alone(f->a);
    g_assert_cmpuint(generation_of(f->a).current, !=, 0);
}

static void test_examine_errors(BlockPair *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    Generation found;
    (void)data;
    side_open_ok(f->a, TRUE);
    g_assert_false(disk_set_examine(f->a->configs, SIDE_DISKS, f->a->dir, &found, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_LOCKED);
    g_clear_error(&error);
    side_close(f->a);
    f->a->configs[1].path = "/nonexistent/image";
    g_assert_false(disk_set_examine(f->a->configs, SIDE_DISKS, f->a->dir, &found, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "disk vdb"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, before, test)                                                                    \
    g_test_add("/block/disk-generation/" name, BlockPair, NULL, before, test, block_pair_teardown)
    ADD("taken-over", block_pair_setup_joined, test_generation_taken_over);
    ADD("overtaken-is-older", block_pair_setup_joined, test_overtaken_is_older);
    ADD("split", block_pair_setup_joined, test_split_is_refused);
    ADD("strangers", block_pair_setup_open, test_strangers_are_refused);
    ADD("replica-alone", block_pair_setup_joined, test_replica_alone_is_split);
    ADD("broken", block_pair_setup_open, test_broken_is_overwritten);
    ADD("finish", block_pair_setup_joined, test_finish);
    ADD("finish-unsynced", block_pair_setup_joined, test_finish_unsynced);
    ADD("exposed", block_pair_setup_open, test_exposed);
    ADD("old-state", block_pair_setup, test_old_state);
    ADD("examine-errors", block_pair_setup, test_examine_errors);
    return g_test_run();
}
