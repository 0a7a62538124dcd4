/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The activation flag against the real QEMU: first each failure that it exists for, done to QEMU
 * directly, then the same through the flag. QEMU's disks can only be switched together: inactivated
 * by xen-save-devices-state of a stopped VM (live=true), activated by cont. Storage that fails or
 * does not answer is nbdkit's file plugin behind its error and pause filters.
 *
 * And what has to be done to a qcow2 driver when the bytes under it have changed.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block.h"
#include "common/fd.h"
#include "tests/support/block-server.h"

/* The installed QEMU, whatever $QEMU says: from 10 on disks are switched by blockdev-set-active,
 * and the ways to fail that are shown here are those of the ones before. */
static const char installed_qemu[] = "qemu-system-x86_64";
/* The one at hand: $QEMU where nothing fails. */
static const char *binary = installed_qemu;

typedef struct {
    char *dir;
    GPid storage, qemu;
    int control, stdout_fd, stderr_fd;
    FILE *in; /* of control */
    BlockActivation *activation;
    BlockOpDone op_done; /* of the operation that QEMU has not answered yet */
    gpointer op_ticket;
    gboolean op_activate;
    gboolean failed;
    char *message;
    int version; /* QEMU's major one */
} Fixture;

static void sh(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void sh(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    int status;
    g_assert_true(g_spawn_command_line_sync(line, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

static void wait_for_file(const char *path)
{
    while (!g_file_test(path, G_FILE_TEST_EXISTS))
        g_usleep(2000);
}

/* ---- Storage ---- */

static void storage_start(Fixture *f)
{
    g_autofree char *socket = g_build_filename(f->dir, "nbd", NULL);
    g_autofree char *pid = g_build_filename(f->dir, "nbd.pid", NULL);
    g_autofree char *image = g_build_filename(f->dir, "d1.qcow2", NULL);
    g_autofree char *broken = g_strdup_printf("error-pwrite-file=%s/broken", f->dir);
    g_autofree char *pause = g_strdup_printf("pause-control=%s/pause", f->dir);
    char *argv[] = {"nbdkit",
                    "-f",
                    "-U",
                    socket,
                    "-P",
                    pid,
                    "--filter=error",
                    "--filter=pause",
                    "file",
                    image,
                    "error-pwrite-rate=100%",
                    broken,
                    pause,
                    NULL};
    g_unlink(socket);
    g_unlink(pid);
    g_assert_true(
        g_spawn_async(NULL, argv, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                      NULL, NULL, &f->storage, NULL));
    wait_for_file(pid);
}

static void storage_kill(Fixture *f)
{
    kill(f->storage, SIGKILL);
    waitpid(f->storage, NULL, 0);
    f->storage = 0;
}

static void storage_break(Fixture *f, gboolean broken)
{
    g_autofree char *path = g_build_filename(f->dir, "broken", NULL);
    if (broken)
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
    else
        g_unlink(path);
}

/* 'p': requests are no longer answered; 'r': again. */
static void storage_pause(Fixture *f, char what)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char answer;
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/pause", f->dir);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(write(fd, &what, 1), ==, 1);
    g_assert_cmpint(read(fd, &answer, 1), ==, 1);
    g_assert_cmpint(answer, ==, g_ascii_toupper(what));
    close(fd);
}

/* ---- QEMU ---- */

static void send_line(Fixture *f, const char *line)
{
    g_assert_true(colo_fd_write_all(f->control, line, strlen(line), NULL));
}

/* The reply to the command sent last; NULL if QEMU has died. */
static json_object *receive(Fixture *f)
{
    char line[16384];
    while (fgets(line, sizeof(line), f->in)) {
        json_object *object = json_tokener_parse(line);
        g_assert_nonnull(object);
        if (!json_object_object_get_ex(object, "event", NULL))
            return object;
        json_object_put(object);
    }
    return NULL;
}

static json_object *qmp(Fixture *f, const char *line)
{
    send_line(f, line);
    return receive(f);
}

static void qmp_ok(Fixture *f, const char *line)
{
    json_object *reply = qmp(f, line);
    if (!json_object_object_get_ex(reply, "return", NULL))
        g_error("%s: %s", line, json_object_to_json_string(reply));
    json_object_put(reply);
}

#define INACTIVATE                                                                                 \
    "{\"execute\": \"xen-save-devices-state\", \"arguments\": {\"filename\": \"/dev/null\"}}\n"
#define CONT "{\"execute\": \"cont\"}\n"
#define STOP "{\"execute\": \"stop\"}\n"

static void keep_fd(gpointer data)
{
    fcntl(GPOINTER_TO_INT(data), F_SETFD, 0);
}

/* A stopped QEMU with the disks d0, a raw file, and d1, as told; NULL-terminated further arguments.
 */
static void qemu_start(Fixture *f, const char *d1, const char *const *more)
{
    int fds[2];
    char greeting[4096];
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    g_autofree char *line = g_strdup_printf(
        "stdbuf -oL %s -nodefaults -display none -m 32 -M pc,accel=tcg -S "
        "-chardev socket,id=q,fd=%d -mon chardev=q,mode=control "
        "-blockdev file,filename=%s/d0.img,node-name=f0 -blockdev raw,file=f0,node-name=d0 "
        "-device virtio-blk,drive=d0,share-rw=on "
        "-blockdev nbd,server.type=unix,%s,node-name=f1 -blockdev qcow2,file=f1,node-name=d1 "
        "-device virtio-blk,drive=d1,share-rw=on",
        binary, fds[1], f->dir, d1);
    g_auto(GStrv) base = g_strsplit(line, " ", -1);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    for (guint i = 0; base[i]; i++)
        g_ptr_array_add(argv, base[i]);
    for (guint i = 0; more && more[i]; i++)
        g_ptr_array_add(argv, (char *)more[i]);
    g_ptr_array_add(argv, NULL);
    g_spawn_async_with_pipes(
        NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, keep_fd,
        GINT_TO_POINTER(fds[1]), &f->qemu, NULL, &f->stdout_fd, &f->stderr_fd, &error);
    g_assert_no_error(error);
    close(fds[1]);
    g_assert_true(colo_fd_set_nonblocking(f->stdout_fd, TRUE, NULL));
    f->control = fds[0];
    f->in = fdopen(fds[0], "r");
    g_assert_nonnull(fgets(greeting, sizeof(greeting), f->in));
    const char *major = strstr(greeting, "\"major\": ");
    g_assert_nonnull(major);
    f->version = atoi(major + strlen("\"major\": "));
    qmp_ok(f, "{\"execute\": \"qmp_capabilities\"}\n");
}

static void qemu_close(Fixture *f)
{
    kill(f->qemu, SIGKILL);
    waitpid(f->qemu, NULL, 0);
    fclose(f->in);
    close(f->stdout_fd);
    close(f->stderr_fd);
}

/* QEMU 7 has died of the assertion. Later ones may have learned to survive. */
static void expect_abort(Fixture *f, json_object *reply)
{
    if (reply && f->version > 7) {
        g_test_message("QEMU %d survives it", f->version);
        json_object_put(reply);
        return;
    }
    g_assert_null(reply);
    char text[8192];
    gsize len = 0;
    ssize_t got;
    while (len < sizeof(text) - 1 &&
           (got = read(f->stderr_fd, text + len, sizeof(text) - 1 - len)) > 0)
        len += (gsize)got;
    text[len] = 0;
    g_assert_nonnull(strstr(text, "bdrv_inactivate_recurse: Assertion"));
}

/* What QEMU's own I/O tool says, over the monitor. */
static char *qemu_io(Fixture *f, const char *node, const char *what)
{
    g_autofree char *line = g_strdup_printf(
        "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
        "\"qemu-io %s \\\"%s\\\"\"}}\n",
        node, what);
    json_object *reply = qmp(f, line);
    g_assert_nonnull(reply);
    char *text = g_strdup(json_object_get_string(json_object_object_get(reply, "return")));
    json_object_put(reply);
    return text;
}

static gboolean is_writable(Fixture *f, const char *node)
{
    g_autofree char *text = qemu_io(f, node, "write 0 512");
    return !strstr(text, "read-only");
}

/* What it has printed to QEMU's standard output. */
static gboolean reads_pattern(Fixture *f, const char *what)
{
    char printed[4096];
    while (read(f->stdout_fd, printed, sizeof(printed)) > 0)
        continue;
    g_autofree char *text = qemu_io(f, "d1", what);
    g_assert_cmpstr(text, ==, "");
    ssize_t got = read(f->stdout_fd, printed, sizeof(printed) - 1);
    g_assert_cmpint(got, >, 0);
    printed[got] = 0;
    g_assert_nonnull(strstr(printed, "bytes at offset"));
    return !strstr(printed, "Pattern verification failed");
}

static gboolean is_running(Fixture *f)
{
    json_object *reply = qmp(f, "{\"execute\": \"query-status\"}\n");
    g_assert_nonnull(reply);
    json_object *status = json_object_object_get(reply, "return");
    gboolean running = json_object_get_boolean(json_object_object_get(status, "running"));
    json_object_put(reply);
    return running;
}

/* ---- The flag over it ---- */

static void op_start(Fixture *f, gboolean activate, BlockOpDone done, gpointer ticket)
{
    g_assert_null(f->op_done);
    f->op_done = done;
    f->op_ticket = ticket;
    f->op_activate = activate;
    send_line(f, activate ? CONT : INACTIVATE);
}

static void op_activate(gpointer data, BlockOpDone done, gpointer ticket)
{
    op_start(data, TRUE, done, ticket);
}

static void op_inactivate(gpointer data, BlockOpDone done, gpointer ticket)
{
    op_start(data, FALSE, done, ticket);
}

/* Takes QEMU's answers until nothing is in flight. */
static void settle(Fixture *f)
{
    while (f->op_done) {
        json_object *reply = receive(f), *error;
        g_assert_nonnull(reply); /* through the flag, QEMU never dies */
        g_autoptr(GError) why = NULL;
        if (json_object_object_get_ex(reply, "error", &error))
            why =
                g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO,
                                    json_object_get_string(json_object_object_get(error, "desc")));
        json_object_put(reply);
        if (!why && f->op_activate)
            qmp_ok(f, STOP); /* cont has activated the disks; running is the resume's business */
        BlockOpDone done = f->op_done;
        f->op_done = NULL;
        done(f->op_ticket, why);
    }
}

static void on_done(BlockActivation *activation, const GError *error, gpointer data)
{
    Fixture *f = data;
    (void)activation;
    f->failed = error != NULL;
    g_free(f->message);
    f->message = error ? g_strdup(error->message) : NULL;
}

static gboolean activate(Fixture *f)
{
    block_activate(f->activation, on_done, f);
    settle(f);
    return !f->failed;
}

static gboolean inactivate(Fixture *f)
{
    block_inactivate(f->activation, on_done, f);
    settle(f);
    return !f->failed;
}

/* The guarded resume: what runs has both disks. */
static gboolean resume(Fixture *f)
{
    if (!block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, NULL))
        return FALSE;
    qmp_ok(f, CONT);
    g_assert_true(is_writable(f, "d0"));
    g_assert_true(is_writable(f, "d1"));
    qmp_ok(f, STOP);
    block_activation_paused(f->activation);
    return TRUE;
}

static void use_flag(Fixture *f, gboolean owner)
{
    static const BlockDiskOps ops = {op_activate, op_inactivate, FALSE};
    f->activation = block_activation_new(owner);
    block_activation_add(f->activation, "qemu", &ops, f);
}

/* ---- Tests ---- */

static void setup(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("colo-activation-XXXXXX", NULL);
    sh("truncate -s 4M %s/d0.img", f->dir);
    /* A persistent bitmap is what an inactivation has to write. */
    sh("qemu-img create -q -f qcow2 %s/d1.qcow2 4M", f->dir);
    sh("qemu-img bitmap --add %s/d1.qcow2 b0", f->dir);
    sh("truncate -s 16M %s/d1.qcow2", f->dir);
    storage_start(f);
    g_autofree char *d1 = g_strdup_printf("server.path=%s/nbd", f->dir);
    qemu_start(f, d1, data);
}

static void teardown(Fixture *f, gconstpointer data)
{
    (void)data;
    block_activation_free(f->activation);
    if (f->storage)
        storage_kill(f);
    qemu_close(f);
    sh("rm -rf %s", f->dir);
    g_free(f->dir);
    g_free(f->message);
}

static void test_twice_qemu(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_ok(f, INACTIVATE);
    expect_abort(f, qmp(f, INACTIVATE));
}

static void test_twice_flag(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, TRUE);
    for (guint i = 0; i < 40; i++) {
        g_assert_true(g_test_rand_bit() ? inactivate(f) : activate(f));
        g_assert_cmpint(is_writable(f, "d0"), ==,
                        block_activation_flag(f->activation) == BLOCK_ACTIVE);
        g_assert_cmpint(resume(f), ==, block_activation_flag(f->activation) == BLOCK_ACTIVE);
    }
    g_assert_true(activate(f));
    g_assert_true(resume(f));
}

/* One disk is inactive, the other failed: QEMU survives no second try. */
static void test_half_way_qemu(Fixture *f, gconstpointer data)
{
    (void)data;
    storage_break(f, TRUE);
    json_object *reply = qmp(f, INACTIVATE);
    g_assert_nonnull(reply);
    g_assert_true(json_object_object_get_ex(reply, "error", NULL));
    json_object_put(reply);
    g_assert_false(is_writable(f, "d0"));
    storage_break(f, FALSE);
    expect_abort(f, qmp(f, INACTIVATE));
}

static void test_half_way_flag(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, TRUE);
    storage_break(f, TRUE);
    g_assert_false(inactivate(f));
    g_assert_nonnull(strstr(f->message, "inactivate"));
    g_assert_false(is_writable(f, "d0"));
    g_assert_false(resume(f));
    g_assert_false(is_running(f));
    storage_break(f, FALSE);
    g_assert_true(inactivate(f)); /* a later try succeeds */
    g_assert_false(is_writable(f, "d0"));
    g_assert_false(resume(f));
    g_assert_true(activate(f));
    g_assert_true(resume(f));
}

/* The same, but the way back is taken at once. */
static void test_way_back(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, TRUE);
    storage_break(f, TRUE);
    g_assert_false(inactivate(f));
    storage_break(f, FALSE);
    g_assert_true(activate(f));
    g_assert_true(resume(f));
}

/* The way back fails: the VM stays stopped, with the reason; with the storage back it succeeds. */
static void test_way_back_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, TRUE);
    g_assert_true(inactivate(f));
    storage_kill(f);
    g_assert_false(activate(f));
    g_assert_nonnull(strstr(f->message, "can't activate"));
    g_assert_false(is_running(f));
    g_assert_false(resume(f));
    storage_start(f);
    while (!activate(f)) /* QEMU's NBD client reconnects when it is used again */
        g_assert_false(is_running(f));
    g_assert_true(resume(f));
}

/* Storage that does not answer: INACTIVE from the start, no run, and an abandoned inactivation ends
 * in the same way back. */
static void test_no_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, TRUE);
    storage_pause(f, 'p');
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpint(block_activation_flag(f->activation), ==, BLOCK_INACTIVE);
    g_assert_true(block_activation_is_busy(f->activation));
    g_assert_false(block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, NULL));
    block_activate(f->activation, on_done, f); /* cancel: does not wait */
    g_assert_false(block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, NULL));
    storage_pause(f, 'r');
    settle(f);
    g_assert_false(f->failed);
    g_assert_true(resume(f));
}

static const char *const incoming[] = {"-incoming", "defer", NULL};

static void test_secondary_qemu(Fixture *f, gconstpointer data)
{
    (void)data;
    expect_abort(f, qmp(f, INACTIVATE));
}

static void test_secondary_flag(Fixture *f, gconstpointer data)
{
    (void)data;
    use_flag(f, FALSE);
    for (guint i = 0; i < 3; i++)
        g_assert_true(inactivate(f));
    g_assert_false(is_running(f)); /* and alive */
    g_assert_false(resume(f));
}

/* ---- qcow2 on a replica ---- */

static void checkpoint(BlockServer *primary, BlockServer *replica, guint64 epoch)
{
    block_server_ok(primary, "mark", block_server_epoch(epoch));
    json_object_put(block_server_wait(replica, "MARKED"));
    block_server_ok(replica, "apply", block_server_epoch(epoch));
}

/*
 * The primary's QEMU allocates clusters; the replica's has the image's metadata cached. After the
 * checkpoint its reads go wrong until the metadata has been thrown away by inactivating and
 * activating.
 */
static void test_qcow2_metadata(void)
{
    static const guint64 sizes[] = {16u << 20};
    Fixture f = {.dir = g_dir_make_tmp("colo-activation-XXXXXX", NULL)};
    BlockServer *primary = block_server_new(sizes, 1), *replica = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(primary, 0);
    sh("qemu-img create -q -f qcow2 %s 4M", image);
    sh("qemu-io -f qcow2 -c 'write -P 1 0 64k' %s", image);
    sh("truncate -s 16M %s", image);
    sh("truncate -s 4M %s/d0.img", f.dir);
    g_assert_true(block_server_start(primary, TRUE, NULL, NULL));
    g_assert_true(block_server_start(replica, FALSE, NULL, NULL));
    block_server_pair(primary, replica);
    json_object_put(block_server_wait(primary, "SYNCHRONISED"));
    checkpoint(primary, replica, 1);
    g_autofree char *d1 = g_strdup_printf("server.path=%s,export=vda", replica->socket);
    qemu_start(&f, d1, NULL);
    g_assert_true(reads_pattern(&f, "read -P 1 0 64k"));
    g_assert_true(reads_pattern(&f, "read -P 0 1M 64k"));
    /* The primary's guest writes elsewhere: a new cluster, a changed L2 table. */
    sh("qemu-io -c 'write -P 2 1M 64k' --image-opts driver=qcow2,file.driver=nbd,"
       "file.export=vda,file.server.type=unix,file.server.path=%s",
       primary->socket);
    checkpoint(primary, replica, 2);
    g_assert_false(
        reads_pattern(&f, "read -P 2 1M 64k")); /* the cached L2 table says: nothing there */
    qmp_ok(&f, INACTIVATE);
    qmp_ok(&f, CONT);
    qmp_ok(&f, STOP);
    g_assert_true(reads_pattern(&f, "read -P 2 1M 64k"));
    g_assert_true(reads_pattern(&f, "read -P 1 0 64k"));
    qemu_close(&f);
    sh("rm -rf %s", f.dir);
    g_free(f.dir);
    block_server_free(primary);
    block_server_free(replica);
}

/* ---- qcow2 that is handed over ---- */

/* What qemu-img says of a disk's image, which the server has locked; asserts that it succeeds. */
static char *qemu_img(const BlockServer *server, const char *what)
{
    int status;
    char *text = NULL;
    g_autofree char *image = block_server_image(server, 0);
    g_autofree char *line = g_strdup_printf("qemu-img %s -U -f qcow2 %s", what, image);
    g_assert_true(g_spawn_command_line_sync(line, &text, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    return text;
}

static gboolean has_bitmap_in_use(const BlockServer *server)
{
    g_autofree char *info = qemu_img(server, "info --output=json");
    g_assert_nonnull(strstr(info, "\"b0\""));
    return strstr(info, "\"in-use\"") != NULL;
}

static void give_up_twice(Fixture *f)
{
    use_flag(f, TRUE);
    block_activation_paused(f->activation);
    /* The guest never runs between them: nothing is sent twice, and no QEMU dies. */
    for (guint i = 0; i < 2; i++) {
        g_assert_true(inactivate(f));
        g_assert_false(is_running(f));
    }
    /* It does: `cont` first, then it can be given up once more. */
    g_assert_true(activate(f));
    g_assert_true(resume(f));
    g_assert_true(inactivate(f));
    g_clear_pointer(&f->activation, block_activation_free);
}

/*
 * As long as QEMU has it open, a persistent bitmap is "in-use" in the image. QEMU writes it when it
 * gives its disks up. So a mark before that leaves the other side a bitmap that is lost, and one
 * after it a bitmap that is whole.
 */
static void test_bitmap(gconstpointer data)
{
    static const guint64 sizes[] = {16u << 20};
    Fixture f = {.dir = g_dir_make_tmp("colo-activation-XXXXXX", NULL)};
    BlockServer *primary = block_server_new(sizes, 1), *replica = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(primary, 0);
    binary = data;
    sh("qemu-img create -q -f qcow2 %s 4M", image);
    sh("qemu-img bitmap --add %s b0", image);
    sh("truncate -s 16M %s", image);
    sh("truncate -s 4M %s/d0.img", f.dir);
    g_assert_true(block_server_start(primary, TRUE, NULL, NULL));
    g_assert_true(block_server_start(replica, FALSE, NULL, NULL));
    block_server_pair(primary, replica);
    json_object_put(block_server_wait(primary, "SYNCHRONISED"));
    checkpoint(primary, replica, 1);
    g_assert_false(has_bitmap_in_use(replica));
    g_autofree char *d1 = g_strdup_printf("server.path=%s,export=vda", primary->socket);
    qemu_start(&f, d1, NULL);
    g_assert_true(is_writable(&f, "d1"));
    checkpoint(primary, replica, 2);
    g_assert_true(has_bitmap_in_use(replica));
    give_up_twice(&f);
    checkpoint(primary, replica, 3);
    block_server_ok(primary, "inactivate", NULL);
    block_server_ok(replica, "takeover", block_server_epoch(3));
    g_assert_false(has_bitmap_in_use(replica));
    g_autofree char *checked = qemu_img(replica, "check");
    gsize len, other_len;
    g_autofree guint8 *ours = block_server_bytes(primary, 0, &len);
    g_autofree guint8 *theirs = block_server_bytes(replica, 0, &other_len);
    g_assert_cmpmem(ours, len, theirs, other_len);
    qemu_close(&f);
    sh("rm -rf %s", f.dir);
    g_free(f.dir);
    g_free(f.message);
    block_server_free(primary);
    block_server_free(replica);
    binary = installed_qemu;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    const char *programs[] = {binary, "qemu-img", "qemu-io", "nbdkit"};
    for (guint i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *path = g_find_program_in_path(programs[i]);
        if (!path) {
            g_print("1..0 # SKIP %s is not installed\n", programs[i]);
            return 0;
        }
    }
#define ADD(name, data, test)                                                                      \
    g_test_add("/activation/qemu/" name, Fixture, data, setup, test, teardown)
    ADD("twice/qemu-aborts", NULL, test_twice_qemu);
    ADD("twice/flag", NULL, test_twice_flag);
    ADD("half-way/qemu-aborts", NULL, test_half_way_qemu);
    ADD("half-way/flag", NULL, test_half_way_flag);
    ADD("way-back", NULL, test_way_back);
    ADD("way-back-fails", NULL, test_way_back_fails);
    ADD("no-answer", NULL, test_no_answer);
    ADD("secondary/qemu-aborts", incoming, test_secondary_qemu);
    ADD("secondary/flag", incoming, test_secondary_flag);
    g_test_add_func("/activation/qcow2-metadata", test_qcow2_metadata);
    const char *qemu = g_getenv("QEMU");
    g_test_add_data_func("/activation/qcow2-bitmap", qemu && *qemu ? qemu : installed_qemu,
                         test_bitmap);
    return g_test_run();
}
