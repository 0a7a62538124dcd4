/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plugin in a real nbdkit, spoken to by libnbd and qemu-img, and killed for real. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/block-server.h"

static const guint64 sizes[] = {4u << 20, 1u << 20};

static BlockServer *start(gboolean owner)
{
    BlockServer *server = block_server_new(sizes, 2);
    g_assert_true(block_server_start(server, owner, NULL, NULL));
    return server;
}

static void write_byte(struct nbd_handle *nbd, guint8 value, gsize len, guint64 offset)
{
    g_autofree guint8 *buf = g_malloc(len);
    memset(buf, value, len);
    g_assert_cmpint(nbd_pwrite(nbd, buf, len, offset, 0), ==, 0);
}

static guint8 read_byte(struct nbd_handle *nbd, guint64 offset)
{
    guint8 byte = 0;
    g_assert_cmpint(nbd_pread(nbd, &byte, 1, offset, 0), ==, 0);
    return byte;
}

static int on_export(void *data, const char *name, const char *description)
{
    g_string_append_printf(data, "%s=%s ", name, description);
    return 0;
}

static void test_exports(void)
{
    BlockServer *server = start(TRUE);
    struct nbd_handle *nbd = nbd_create();
    g_autoptr(GString) exports = g_string_new(NULL);
    nbd_set_opt_mode(nbd, true);
    g_assert_cmpint(nbd_connect_unix(nbd, server->socket), ==, 0);
    g_assert_cmpint(
        nbd_opt_list(nbd, (nbd_list_callback){.callback = on_export, .user_data = exports}), ==, 2);
    g_assert_cmpstr(exports->str, ==, "vda=raw vdb=raw ");
    nbd_set_export_name(nbd, "vdc");
    g_assert_cmpint(nbd_opt_go(nbd), ==, -1);
    nbd_close(nbd);
    nbd = block_server_connect(server, "vdb");
    g_assert_cmpint(nbd_get_size(nbd), ==, (gint64)sizes[1]);
    g_assert_cmpint(nbd_can_multi_conn(nbd), ==, 1);
    g_assert_cmpint(nbd_can_fua(nbd), ==, 1);
    g_assert_cmpint(nbd_can_trim(nbd), ==, 1);
    g_assert_cmpint(nbd_can_zero(nbd), ==, 1);
    nbd_close(nbd);
    block_server_free(server);
}

static void test_io(void)
{
    BlockServer *server = start(TRUE);
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    write_byte(nbd, 0xaa, 70001, 12345);
    guint8 byte = 0xbb;
    g_assert_cmpint(nbd_pwrite(nbd, &byte, 1, 20000, LIBNBD_CMD_FLAG_FUA), ==, 0);
    g_assert_cmpint(nbd_trim(nbd, 4096, 32768, 0), ==, 0);
    g_assert_cmpint(nbd_zero(nbd, 10, 40000, LIBNBD_CMD_FLAG_FUA), ==, 0);
    g_assert_cmpint(nbd_flush(nbd, 0), ==, 0);
    g_assert_cmphex(read_byte(nbd, 12345), ==, 0xaa);
    g_assert_cmphex(read_byte(nbd, 20000), ==, 0xbb);
    g_assert_cmphex(read_byte(nbd, 32768), ==, 0);
    g_assert_cmphex(read_byte(nbd, 40009), ==, 0);
    g_assert_cmphex(read_byte(nbd, 40010), ==, 0xaa);
    gsize len;
    g_autofree guint8 *image = block_server_bytes(server, 0, &len);
    g_assert_cmphex(image[12344], ==, 0);
    g_assert_cmphex(image[82345], ==, 0xaa);
    nbd_close(nbd);
    block_server_free(server);
}

/* Runs a program and returns whether it succeeded; its words in *ret_text. */
static gboolean run(const char *program, const char *a, const char *b, const char *c,
                    char **ret_text)
{
    const char *argv[] = {program, a, b, c, NULL};
    int status;
    g_autofree char *out = NULL, *err = NULL;
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                               &err, &status, NULL));
    *ret_text = g_strconcat(out, err, NULL);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* QEMU's tools refuse an image that we have, and we refuse one that they have. */
static void test_qemu_locks(void)
{
    g_autofree char *qemu_io = g_find_program_in_path("qemu-io");
    if (!qemu_io) {
        g_test_skip("qemu-io is not installed");
        return;
    }
    BlockServer *server = start(TRUE);
    g_autofree char *path = block_server_image(server, 0), *text = NULL, *info = NULL;
    g_assert_false(run("qemu-io", "-c", "write 0 512", path, &text));
    g_assert_nonnull(strstr(text, "lock"));
    g_autofree char *resize = g_strconcat("exec qemu-img resize -f raw ", path, " 8M", NULL);
    g_assert_false(run("sh", "-c", resize, NULL, &info));
    g_assert_nonnull(strstr(info, "lock"));
    g_autofree char *convert =
        g_strconcat("exec qemu-img convert -f raw ", path, " /dev/null", NULL);
    g_free(g_steal_pointer(&info));
    g_assert_false(run("sh", "-c", convert, NULL, &info));
    g_assert_nonnull(strstr(info, "lock"));
    block_server_stop(server);
    g_free(g_steal_pointer(&text));
    g_assert_true(run("qemu-io", "-c", "write 0 512", path, &text));

    /* qemu-io waits for its input with the image open. */
    const char *argv[] = {"qemu-io", "-f", "raw", path, NULL};
    GPid pid;
    int in, out;
    g_autofree char *output = NULL;
    g_assert_true(g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                           G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                           NULL, &pid, &in, &out, NULL, NULL));
    char prompt;
    g_assert_cmpint(read(out, &prompt, 1), ==, 1); /* its prompt: the image is open */
    g_assert_false(block_server_start(server, TRUE, NULL, &output));
    g_assert_nonnull(strstr(output, "is locked by another process"));
    close(in);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    close(out);
    g_assert_true(block_server_start(server, TRUE, NULL, NULL));
    block_server_free(server);
}

static guint64 number(json_object *object, const char *key)
{
    return json_object_get_uint64(json_object_object_get(object, key));
}

/* Takes checkpoint `epoch` of a pair. */
static void checkpoint(BlockServer *primary, BlockServer *replica, guint64 epoch)
{
    block_server_ok(primary, "mark", block_server_epoch(epoch));
    json_object *marked = block_server_wait(replica, "MARKED");
    g_assert_cmpuint(number(marked, "epoch"), ==, epoch);
    json_object_put(marked);
    block_server_ok(replica, "apply", block_server_epoch(epoch));
    json_object_put(block_server_wait(primary, "APPLIED"));
}

static json_object *synchronise(BlockServer *primary, BlockServer *replica)
{
    block_server_pair(primary, replica);
    json_object *progress = block_server_wait(primary, "SYNCHRONISED");
    g_assert_nonnull(progress);
    checkpoint(primary, replica, 1);
    return progress;
}

static void assert_same_images(BlockServer *a, BlockServer *b)
{
    for (guint i = 0; i < 2; i++) {
        gsize len_a, len_b;
        g_autofree guint8 *bytes_a = block_server_bytes(a, i, &len_a);
        g_autofree guint8 *bytes_b = block_server_bytes(b, i, &len_b);
        g_assert_cmpmem(bytes_a, len_a, bytes_b, len_b);
    }
}

/* SIGKILL of one side after the other: takeover, rejoin with what differs only, over and over. */
static void test_kills(void)
{
    BlockServer *primary = start(TRUE), *replica = start(FALSE);
    struct nbd_handle *nbd = block_server_connect(primary, "vda");
    write_byte(nbd, 1, 1u << 20, 0);
    json_object_put(synchronise(primary, replica));
    for (guint8 round = 2; round < 8; round++) {
        write_byte(nbd, round, 300000, round * 1000);
        checkpoint(primary, replica, 2);
        struct nbd_handle *other = block_server_connect(replica, "vda");
        write_byte(nbd, 0xee, 4096, 3u << 20); /* lost with the primary */
        write_byte(other, 0xdd, 4096, 2u << 20);
        block_server_kill(primary);
        nbd_close(nbd);
        block_server_ok(replica, "takeover", block_server_epoch(2));
        g_assert_cmphex(read_byte(other, 2u << 20), ==, 0xdd);
        g_assert_cmphex(read_byte(other, 3u << 20), !=, 0xee);
        g_assert_cmphex(read_byte(other, round * 1000 + 299999), ==, round);
        BlockServer *dead = primary;
        primary = replica;
        replica = dead;
        nbd = other;
        g_assert_true(block_server_start(replica, FALSE, NULL, NULL));
        json_object *progress = synchronise(primary, replica);
        g_assert_cmpuint(number(progress, "sent-bytes"), <=, 2 * 65536);
        g_assert_false(json_object_get_boolean(json_object_object_get(progress, "full")));
        json_object_put(progress);
        assert_same_images(primary, replica);
    }
    nbd_close(nbd);
    block_server_free(primary);
    block_server_free(replica);
}

/* SIGKILL of a replica anywhere in a stream of checkpoints: what it leaves is a checkpoint. */
typedef struct {
    BlockServer *server;
    gint stop;
} Load;

static gpointer write_load(gpointer data)
{
    Load *load = data;
    struct nbd_handle *nbd = block_server_connect(load->server, "vda");
    g_autofree guint8 *buf = g_malloc(200000);
    for (guint i = 0; !g_atomic_int_get(&load->stop); i++) {
        memset(buf, (int)i, 200000);
        g_assert_cmpint(nbd_pwrite(nbd, buf, 200000, i % 16 * 200000, 0), ==, 0);
    }
    nbd_close(nbd);
    return NULL;
}

static void test_replica_killed(void)
{
    BlockServer *primary = start(TRUE), *replica = start(FALSE);
    Load load = {.server = primary};
    json_object_put(synchronise(primary, replica));
    GThread *thread = g_thread_new("load", write_load, &load);
    for (guint round = 0; round < 8; round++) {
        guint64 epoch = 1;
        for (guint i = 0; i < 3 + round; i++)
            checkpoint(primary, replica, ++epoch);
        block_server_ok(primary, "mark", block_server_epoch(++epoch));
        block_server_kill(replica);
        json_object_put(block_server_wait(primary, "LOST"));
        block_server_ok(primary, "detach", NULL);
        /* Owned once, to see that it is usable; then it is a replica again. */
        g_assert_true(block_server_start(replica, TRUE, NULL, NULL));
        block_server_stop(replica);
        g_assert_true(block_server_start(replica, FALSE, NULL, NULL));
        json_object *progress = synchronise(primary, replica);
        g_assert_false(json_object_get_boolean(json_object_object_get(progress, "full")));
        json_object_put(progress);
    }
    g_atomic_int_set(&load.stop, TRUE);
    g_thread_join(thread);
    checkpoint(primary, replica, 2);
    assert_same_images(primary, replica);
    block_server_free(primary);
    block_server_free(replica);
}

static void assert_error(BlockServer *server, const char *command, json_object *arguments,
                         const char *text)
{
    json_object *reply = block_server_command(server, command, arguments, -1), *error;
    g_assert_true(json_object_object_get_ex(reply, "error", &error));
    const char *desc = json_object_get_string(json_object_object_get(error, "desc"));
    if (!strstr(desc, text))
        g_error("\"%s\" does not contain \"%s\"", desc, text);
    json_object_put(reply);
}

static void test_control(void)
{
    BlockServer *server = start(TRUE);
    assert_error(server, "explode", NULL, "no command \"explode\"");
    assert_error(server, "mark", NULL, "\"epoch\" must be a number");
    assert_error(server, "mark", block_server_epoch(1), "no peer");
    block_server_ok(server, "watch", NULL);
    assert_error(server, "mark-written", block_server_epoch(1), "no peer");
    assert_error(server, "attach", NULL, "\"session\" must be 32 hexadecimal digits");
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "session",
                           json_object_new_string("00112233445566778899aabbccddeeff"));
    json_object_object_add(arguments, "role", json_object_new_string("primary"));
    assert_error(server, "attach", arguments, "nothing was sent");
    block_server_ok(server, "inactivate", NULL);
    json_object *reply = block_server_command(server, "status", NULL, -1);
    json_object *status = json_object_object_get(reply, "return");
    g_assert_cmpstr(json_object_get_string(json_object_object_get(status, "mode")), ==, "inactive");
    json_object *disks = json_object_object_get(status, "disks");
    g_assert_cmpuint(json_object_array_length(disks), ==, 2);
    g_assert_cmpuint(number(json_object_array_get_idx(disks, 0), "size-bytes"), ==, sizes[0]);
    json_object_put(reply);
    struct nbd_handle *nbd = block_server_connect(server, "vda");
    guint8 byte = 0;
    g_assert_cmpint(nbd_pwrite(nbd, &byte, 1, 0, 0), ==, -1);
    g_assert_cmpint(nbd_get_errno(), ==, EPERM);
    block_server_ok(server, "activate", NULL);
    g_assert_cmpint(nbd_pwrite(nbd, &byte, 1, 0, 0), ==, 0);
    nbd_close(nbd);
    block_server_free(server);
}

/* Garbage is answered, an endless line ends the connection, and with it the server. */
static void test_garbage(void)
{
    BlockServer *server = start(TRUE);
    static const char *const lines[] = {"\n",
                                        "{\n",
                                        "[]\n",
                                        "7\n",
                                        "{\"execute\": 3}\n",
                                        "{\"execute\": \"status\", \"arguments\": 9}\n"};
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        char reply[4096];
        g_assert_cmpint(write(server->control, lines[i], strlen(lines[i])), ==,
                        (ssize_t)strlen(lines[i]));
        g_assert_cmpint(read(server->control, reply, sizeof(reply)), >, 0);
        g_assert_true(g_str_has_prefix(reply, i < 5 ? "{\"error\"" : "{\"return\""));
    }
    g_autofree char *endless = g_strnfill(70000, 'x');
    if (write(server->control, endless, 70000) < 0)
        g_assert_cmpint(errno, ==, EPIPE);
    int status;
    g_assert_cmpint(waitpid(server->pid, &status, 0), ==, server->pid);
    server->pid = 0;
    g_assert_true(WIFEXITED(status));
    block_server_free(server);
}

/* What nbdkit says at the start when something is wrong. */
static void test_bad_start(void)
{
    static const struct {
        const char *argument, *text;
    } bad[] = {
        {"disk=x",                    "expected NAME,FORMAT,PATH"        },
        {"disk=vdz,raw,/nonexistent", "disk vdz: can't open /nonexistent"},
        {"owner=perhaps",             "perhaps"                          },
        {"colour=blue",               "unknown parameter colour"         }
    };
    BlockServer *server = block_server_new(sizes, 2);
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *arguments[] = {bad[i].argument, NULL};
        g_autofree char *output = NULL;
        g_assert_false(block_server_start(server, TRUE, arguments, &output));
        if (!strstr(output, bad[i].text))
            g_error("\"%s\" does not contain \"%s\"", output, bad[i].text);
    }
    block_server_free(server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (block_server_missing()) {
        g_print("1..0 # SKIP %s\n", block_server_missing());
        return 0;
    }
    g_test_add_func("/nbdkit/exports", test_exports);
    g_test_add_func("/nbdkit/io", test_io);
    g_test_add_func("/nbdkit/qemu-locks", test_qemu_locks);
    g_test_add_func("/nbdkit/kills", test_kills);
    g_test_add_func("/nbdkit/replica-killed", test_replica_killed);
    g_test_add_func("/nbdkit/control", test_control);
    g_test_add_func("/nbdkit/garbage", test_garbage);
    g_test_add_func("/nbdkit/bad-start", test_bad_start);
    return g_test_run();
}
