/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real storage that fails. Full file systems (a small tmpfs in a mount namespace of our own) are
 * under the image, the journal and the overlay. nbdkit's own error and delay filters are in front.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/block-server.h"

#define MIB (1u << 20)

static const guint64 sizes[] = {8 * MIB};

/* A server on a file system of `mib` MiB. */
static BlockServer *server_on_small_fs(guint mib)
{
    BlockServer *server = block_server_new(sizes, 0);
    g_autofree char *options = g_strdup_printf("size=%um", mib);
    g_assert_cmpint(mount("none", server->dir, "tmpfs", 0, options), ==, 0);
    g_autofree char *path = block_server_image(server, 0);
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_cmpint(truncate(path, (off_t)sizes[0]), ==, 0);
    return server;
}

static void free_with_fs(BlockServer *server)
{
    block_server_kill(server);
    g_assert_cmpint(umount(server->dir), ==, 0);
    block_server_free(server);
}

static int write_mib(struct nbd_handle *nbd, guint8 value, guint mib)
{
    g_autofree guint8 *buf = g_malloc(MIB);
    memset(buf, value, MIB);
    return nbd_pwrite(nbd, buf, MIB, (guint64)mib * MIB, 0) < 0 ? -nbd_get_errno() : 0;
}

static guint8 byte_of_mib(struct nbd_handle *nbd, guint mib)
{
    guint8 byte = 0;
    g_assert_cmpint(nbd_pread(nbd, &byte, 1, (guint64)mib * MIB + 5, 0), ==, 0);
    return byte;
}

/* Writes until the file system is full; returns how many succeeded. */
static guint write_until_full(struct nbd_handle *nbd)
{
    for (guint i = 0; i < 8; i++) {
        int r = write_mib(nbd, (guint8)(i + 1), i);
        if (r == 0)
            continue;
        g_assert_cmpint(r, ==, -ENOSPC);
        return i;
    }
    g_assert_not_reached();
}

/* The guest gets ENOSPC, as it would from any disk; what it wrote before is there; trimming helps.
 */
static void test_image_full(void)
{
    BlockServer *server = server_on_small_fs(4);
    g_assert_true(block_server_start(server, TRUE, NULL, NULL));
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    guint written = write_until_full(nbd);
    g_assert_cmpuint(written, >, 1);
    for (guint i = 0; i < written; i++)
        g_assert_cmphex(byte_of_mib(nbd, i), ==, i + 1);
    g_assert_cmpint(nbd_trim(nbd, 2 * MIB, 0, 0), ==, 0);
    g_assert_cmpint(write_mib(nbd, 0x55, 7), ==, 0);
    g_assert_cmphex(byte_of_mib(nbd, 7), ==, 0x55);
    nbd_close(nbd);
    free_with_fs(server);
}

static void pair(BlockServer *primary, BlockServer *replica)
{
    static const char *const small[] = {"stage-memory=64K", NULL};
    g_assert_true(block_server_start(primary, TRUE, NULL, NULL));
    g_assert_true(block_server_start(replica, FALSE, small, NULL));
    block_server_pair(primary, replica);
    json_object_put(block_server_wait(primary, "SYNCHRONISED"));
    block_server_ok(primary, "mark", block_server_epoch(1));
    json_object_put(block_server_wait(replica, "MARKED"));
    block_server_ok(replica, "apply", block_server_epoch(1));
}

/* The stage outgrows its file system: protection ends with the reason on both sides, the primary's
 * guest notices nothing, and the replica is still the last checkpoint. */
static void test_spill_full(void)
{
    BlockServer *primary = block_server_new(sizes, 1), *replica = server_on_small_fs(2);
    pair(primary, replica);
    struct nbd_handle *nbd = block_server_connect(primary, "vda");
    for (guint i = 0; i < 6; i++)
        g_assert_cmpint(write_mib(nbd, (guint8)(i + 1), i), ==, 0);
    json_object *lost = block_server_wait(primary, "LOST");
    const char *reason = json_object_get_string(json_object_object_get(lost, "reason"));
    g_assert_nonnull(strstr(reason, "vda"));
    g_assert_nonnull(strstr(reason, g_strerror(ENOSPC)));
    json_object_put(lost);
    json_object_put(block_server_wait(replica, "LOST"));
    block_server_ok(primary, "detach", NULL);
    g_assert_cmpint(write_mib(nbd, 9, 7), ==, 0);
    block_server_ok(replica, "takeover", block_server_epoch(1));
    struct nbd_handle *other = block_server_connect(replica, "vda");
    g_assert_cmphex(byte_of_mib(other, 0), ==, 0);
    nbd_close(other);
    nbd_close(nbd);
    block_server_free(primary);
    free_with_fs(replica);
}

/* The replica's guest outgrows the overlay: it gets the error, the image is not touched. */
static void test_overlay_full(void)
{
    BlockServer *primary = block_server_new(sizes, 1), *replica = server_on_small_fs(4);
    pair(primary, replica);
    struct nbd_handle *nbd = block_server_connect(replica, "vda");
    guint written = write_until_full(nbd);
    for (guint i = 0; i < written; i++)
        g_assert_cmphex(byte_of_mib(nbd, i), ==, i + 1);
    gsize len;
    g_autofree guint8 *image = block_server_bytes(replica, 0, &len);
    g_assert_cmphex(image[5], ==, 0);
    /* The journal of the next checkpoint has no room either: protection ends. And the takeover,
     * which needs room for the overlay in the image, says so and leaves a replica that can try
     * again. */
    block_server_ok(primary, "mark", block_server_epoch(2));
    json_object_put(block_server_wait(replica, "LOST"));
    json_object *reply = block_server_command(replica, "takeover", block_server_epoch(1), -1);
    g_assert_nonnull(strstr(json_object_to_json_string(reply), g_strerror(ENOSPC)));
    json_object_put(reply);
    g_assert_cmphex(byte_of_mib(nbd, 1), ==, 2);
    g_assert_cmpint(mount("none", replica->dir, "tmpfs", MS_REMOUNT, "size=16m"), ==, 0);
    block_server_ok(replica, "takeover", block_server_epoch(1));
    g_assert_cmphex(byte_of_mib(nbd, 1), ==, 2);
    nbd_close(nbd);
    block_server_free(primary);
    free_with_fs(replica);
}

/* A slow and failing front: errors are the client's alone, both images stay equal. */
static void test_filters(void)
{
    static const char *const broken[] = {"--filter=error", "--filter=delay",
                                         "error-pwrite-rate=40%", "delay-write=1ms", NULL};
    BlockServer *primary = block_server_new(sizes, 1), *replica = block_server_new(sizes, 1);
    g_assert_true(block_server_start(primary, TRUE, broken, NULL));
    g_assert_true(block_server_start(replica, FALSE, NULL, NULL));
    block_server_pair(primary, replica);
    json_object_put(block_server_wait(primary, "SYNCHRONISED"));
    struct nbd_handle *nbd = block_server_connect(primary, "vda");
    guint failed = 0;
    for (guint i = 0; i < 64; i++)
        failed += write_mib(nbd, (guint8)(i + 1), i % 8) < 0;
    g_assert_cmpuint(failed, >, 0);
    g_assert_cmpuint(failed, <, 64);
    block_server_ok(primary, "mark", block_server_epoch(1));
    json_object_put(block_server_wait(replica, "MARKED"));
    gsize len;
    g_autofree guint8 *a = block_server_bytes(primary, 0, &len);
    g_autofree guint8 *b = block_server_bytes(replica, 0, &len);
    g_assert_cmpmem(a, len, b, len);
    nbd_close(nbd);
    block_server_free(primary);
    block_server_free(replica);
}

/* What the last command was refused with; NULL: it wasn't. */
static char *refusal(BlockServer *server, const char *command)
{
    json_object *reply = block_server_command(server, command, NULL, -1);
    json_object *error = json_object_object_get(reply, "error");
    char *text =
        error ? g_strdup(json_object_get_string(json_object_object_get(error, "desc"))) : NULL;
    json_object_put(reply);
    return text;
}

static BlockServer *server_with_fault(const char *what, char **ret_flag_file)
{
    BlockServer *server = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(server, 0), *name = g_path_get_basename(image);
    *ret_flag_file = g_build_filename(server->dir, "faulty", NULL);
    g_autofree char *fault = g_strdup_printf(what, name, *ret_flag_file);
    g_setenv("COLO_BLOCK_FAULT", fault, TRUE);
    g_assert_true(block_server_start(server, TRUE, NULL, NULL));
    g_unsetenv("COLO_BLOCK_FAULT");
    return server;
}

/* A fault that a test turns on and off: of that kind of change to that file, and of no other. */
static void test_fault(void)
{
    g_autofree char *flag_file = NULL;
    BlockServer *server = server_with_fault("write:%s:ENOSPC:%s", &flag_file);
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    g_assert_cmpint(write_mib(nbd, 1, 0), ==, 0);
    g_assert_true(g_file_set_contents(flag_file, "", 0, NULL));
    g_assert_cmpint(write_mib(nbd, 2, 0), ==, -ENOSPC);
    g_assert_cmphex(byte_of_mib(nbd, 0), ==, 1);
    g_assert_null(refusal(server, "sync"));
    g_assert_cmpint(g_unlink(flag_file), ==, 0);
    g_assert_cmpint(write_mib(nbd, 3, 0), ==, 0);
    g_assert_cmphex(byte_of_mib(nbd, 0), ==, 3);
    nbd_close(nbd);
    block_server_free(server);
}

/* One that is over by itself. */
static void test_fault_once(void)
{
    g_autofree char *flag_file = NULL;
    BlockServer *server = server_with_fault("write:%s:EIO-once:%s", &flag_file);
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    for (guint8 i = 1; i <= 2; i++) {
        g_assert_true(g_file_set_contents(flag_file, "", 0, NULL));
        g_assert_cmpint(write_mib(nbd, i, 0), ==, -EIO);
        g_assert_false(g_file_test(flag_file, G_FILE_TEST_EXISTS));
        g_assert_cmpint(write_mib(nbd, i, 0), ==, 0);
        g_assert_cmphex(byte_of_mib(nbd, 0), ==, i);
    }
    nbd_close(nbd);
    block_server_free(server);
}

/* One that hangs is made when the fault is over. Nothing has answered it before. */
static void test_fault_hangs(void)
{
    g_autofree char *flag_file = NULL;
    BlockServer *server = server_with_fault("sync:%s:hang:%s", &flag_file);
    g_assert_null(refusal(server, "sync"));
    g_assert_true(g_file_set_contents(flag_file, "", 0, NULL));
    static const char sync[] = "{\"execute\": \"sync\", \"id\": 900}\n";
    g_assert_true(colo_fd_write_all(server->control, sync, sizeof(sync) - 1, NULL));
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    g_assert_cmpint(write_mib(nbd, 1, 0), ==, 0);
    char byte;
    g_assert_cmpint(recv(server->control, &byte, 1, MSG_DONTWAIT | MSG_PEEK), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_cmpint(g_unlink(flag_file), ==, 0);
    g_assert_cmpint(recv(server->control, &byte, 1, MSG_PEEK), ==, 1);
    nbd_close(nbd);
    block_server_free(server);
}

/* Several of them: each has its own kind, file and flag file. */
static void test_faults(void)
{
    static const guint64 two[] = {8 * MIB, 8 * MIB};
    BlockServer *server = block_server_new(two, 2);
    g_autofree char *fault = g_strdup_printf("write:vda.img:EIO:%s/a;write:vdb.img:ENOSPC:%s/b;"
                                             "any:vdb.img:EPERM:%s/c",
                                             server->dir, server->dir, server->dir);
    g_setenv("COLO_BLOCK_FAULT", fault, TRUE);
    g_assert_true(block_server_start(server, TRUE, NULL, NULL));
    g_unsetenv("COLO_BLOCK_FAULT");
    struct nbd_handle *vda = block_server_connect(server, "vda");
    struct nbd_handle *vdb = block_server_connect(server, "vdb");
    static const struct {
        const char *flag;
        int vda, vdb;
    } cases[] = {
        {"a", -EIO, 0      },
        {"b", 0,    -ENOSPC},
        {"c", 0,    -EPERM },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *flag_file = g_build_filename(server->dir, cases[i].flag, NULL);
        g_assert_cmpint(write_mib(vda, 1, 0), ==, 0);
        g_assert_cmpint(write_mib(vdb, 1, 0), ==, 0);
        g_assert_true(g_file_set_contents(flag_file, "", 0, NULL));
        g_assert_cmpint(write_mib(vda, 2, 0), ==, cases[i].vda);
        g_assert_cmpint(write_mib(vdb, 2, 0), ==, cases[i].vdb);
        g_assert_cmpint(g_unlink(flag_file), ==, 0);
    }
    nbd_close(vda);
    nbd_close(vdb);
    block_server_free(server);
}

/* A mistake in it is told, and nothing is served as if there were no fault. */
static void test_fault_wrong(void)
{
    static const char *const wrong[] = {"",
                                        "sync",
                                        "sync:a:EIO",
                                        "sync:a:EIO:relative",
                                        "read:a:EIO:/f",
                                        "sync::EIO:/f",
                                        "sync:a:EWHAT:/f",
                                        "sync:a:0:/f",
                                        "sync:a:hang-once:/f",
                                        "sync:a:-once:/f",
                                        "sync:a:EIO:/f;",
                                        "sync:a:EIO:/f;sync"};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *said = NULL;
        BlockServer *server = block_server_new(sizes, 1);
        g_setenv("COLO_BLOCK_FAULT", wrong[i], TRUE);
        g_assert_false(block_server_start(server, TRUE, NULL, &said));
        g_unsetenv("COLO_BLOCK_FAULT");
        g_assert_nonnull(strstr(said, "expected WHAT:FILE:ERRNO:/FLAGFILE"));
        block_server_free(server);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (block_server_missing()) {
        g_print("1..0 # SKIP %s\n", block_server_missing());
        return 0;
    }
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        g_print("1..0 # SKIP no mount namespace of our own: %s\n", g_strerror(errno));
        return 0;
    }
    g_test_add_func("/nbdkit/storage/image-full", test_image_full);
    g_test_add_func("/nbdkit/storage/spill-full", test_spill_full);
    g_test_add_func("/nbdkit/storage/overlay-full", test_overlay_full);
    g_test_add_func("/nbdkit/storage/filters", test_filters);
    g_test_add_func("/nbdkit/storage/fault", test_fault);
    g_test_add_func("/nbdkit/storage/fault-once", test_fault_once);
    g_test_add_func("/nbdkit/storage/fault-hangs", test_fault_hangs);
    g_test_add_func("/nbdkit/storage/faults", test_faults);
    g_test_add_func("/nbdkit/storage/fault-wrong", test_fault_wrong);
    return g_test_run();
}
