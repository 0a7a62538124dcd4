/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/block-server.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/json.h"
#include "tests/support/folder.h"

char *block_server_plugin(void)
{
    const char *build = g_getenv("COLO_BUILD");
    if (build)
        return g_build_filename(build, "colo-disk.so", NULL);
    /* BUILD/tests/KIND/test-x */
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *kind = g_path_get_dirname(self), *tests = g_path_get_dirname(kind);
    g_autofree char *root = g_path_get_dirname(tests);
    return g_build_filename(root, "colo-disk.so", NULL);
}

const char *block_server_missing(void)
{
    g_autofree char *nbdkit = g_find_program_in_path("nbdkit"), *plugin = block_server_plugin();
    if (!nbdkit)
        return "nbdkit is not installed";
    return g_file_test(plugin, G_FILE_TEST_EXISTS) ? NULL : "colo-disk.so is not built";
}

char *block_server_image(const BlockServer *server, guint disk)
{
    return g_strdup_printf("%s/vd%c.img", server->dir, 'a' + (char)disk);
}

guint8 *block_server_bytes(const BlockServer *server, guint disk, gsize *ret_len)
{
    g_autofree char *path = block_server_image(server, disk);
    char *bytes = NULL;
    g_assert_true(g_file_get_contents(path, &bytes, ret_len, NULL));
    return (guint8 *)bytes;
}

static void object_put(gpointer object)
{
    json_object_put(object);
}

BlockServer *block_server_new(const guint64 *sizes, guint n)
{
    BlockServer *server = g_new0(BlockServer, 1);
    server->control = server->fds = -1;
    server->dir = g_dir_make_tmp("colo-nbdkit-XXXXXX", NULL);
    g_assert_nonnull(server->dir);
    server->socket = g_build_filename(server->dir, "socket", NULL);
    server->line = g_string_new(NULL);
    server->events = g_ptr_array_new_with_free_func(object_put);
    for (guint i = 0; i < n; i++) {
        g_autofree char *path = block_server_image(server, i);
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
        g_assert_cmpint(truncate(path, (off_t)sizes[i]), ==, 0);
    }
    return server;
}

static GPtrArray *command_line(BlockServer *server, gboolean owner, int control, int fds_fd,
                               const char *const *arguments)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("nbdkit"));
    g_ptr_array_add(argv, g_strdup("--foreground"));
    g_ptr_array_add(argv, g_strdup("--exit-with-parent"));
    g_ptr_array_add(argv, g_strdup("--unix"));
    g_ptr_array_add(argv, g_strdup(server->socket));
    g_ptr_array_add(argv, g_strdup("--pidfile"));
    g_ptr_array_add(argv, g_strconcat(server->socket, ".pid", NULL));
    for (guint i = 0; arguments && arguments[i] && g_str_has_prefix(arguments[i], "--"); i++)
        g_ptr_array_add(argv, g_strdup(arguments[i]));
    g_ptr_array_add(argv, block_server_plugin());
    g_ptr_array_add(argv, g_strdup_printf("control-fd=%d", control));
    g_ptr_array_add(argv, g_strdup_printf("fds-fd=%d", fds_fd));
    g_ptr_array_add(argv, g_strdup_printf("state-dir=%s", server->dir));
    g_ptr_array_add(argv, g_strdup_printf("owner=%s", owner ? "yes" : "no"));
    for (guint i = 0; i < 26; i++) {
        g_autofree char *path = block_server_image(server, i);
        if (!g_file_test(path, G_FILE_TEST_EXISTS))
            break;
        g_ptr_array_add(argv, g_strdup_printf("disk=vd%c,%s,%s", 'a' + (char)i,
                                              server->format ? server->format : "raw", path));
    }
    for (guint i = 0; arguments && arguments[i]; i++)
        if (!g_str_has_prefix(arguments[i], "--"))
            g_ptr_array_add(argv, g_strdup(arguments[i]));
    g_ptr_array_add(argv, NULL);
    return argv;
}

static void keep_sockets(gpointer data)
{
    const int *fds = data;
    fcntl(fds[0], F_SETFD, 0);
    fcntl(fds[1], F_SETFD, 0);
}

/* nbdkit writes its pid file when it listens. */
static gboolean wait_until_listening(BlockServer *server)
{
    g_autofree char *pidfile = g_strconcat(server->socket, ".pid", NULL);
    while (!g_file_test(pidfile, G_FILE_TEST_EXISTS)) {
        int status;
        if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
            server->pid = 0;
            return FALSE;
        }
        g_usleep(2000); /* there is nothing to wait on but the file */
    }
    return TRUE;
}

/* The next object from the server; NULL at the end. */
static json_object *read_object(BlockServer *server)
{
    char *newline;
    while (!(newline = memchr(server->line->str, '\n', server->line->len))) {
        char buf[4096];
        ssize_t got = read(server->control, buf, sizeof(buf));
        if (got <= 0)
            return NULL;
        g_string_append_len(server->line, buf, got);
    }
    *newline = 0;
    json_object *object = json_tokener_parse(server->line->str);
    g_string_erase(server->line, 0, newline + 1 - server->line->str);
    g_assert_nonnull(object);
    return object;
}

gboolean block_server_start(BlockServer *server, gboolean owner, const char *const *arguments,
                            char **ret_stderr)
{
    int control[2], fds[2], stderr_fd = -1;
    g_autoptr(GError) error = NULL;
    g_autofree char *pidfile = g_strconcat(server->socket, ".pid", NULL);
    g_unlink(pidfile);
    g_unlink(server->socket);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    int kept[2] = {control[1], fds[1]};
    g_autoptr(GPtrArray) argv = command_line(server, owner, kept[0], kept[1], arguments);
    g_spawn_async_with_pipes(NULL, (char **)argv->pdata, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, keep_sockets, kept,
                             &server->pid, NULL, NULL, ret_stderr ? &stderr_fd : NULL, &error);
    g_assert_no_error(error);
    close(kept[0]);
    close(kept[1]);
    server->control = control[0];
    server->fds = fds[0];
    gboolean ok = wait_until_listening(server);
    if (!ok && ret_stderr) {
        char text[4096];
        ssize_t got = read(stderr_fd, text, sizeof(text) - 1);
        *ret_stderr = g_strndup(text, got > 0 ? (gsize)got : 0);
    }
    if (stderr_fd >= 0)
        close(stderr_fd);
    if (!ok) {
        colo_fd_close(&server->control);
        colo_fd_close(&server->fds);
        return FALSE;
    }
    json_object_put(read_object(server)); /* the greeting */
    return TRUE;
}

static void reap(BlockServer *server)
{
    if (server->pid)
        g_assert_cmpint(waitpid(server->pid, NULL, 0), ==, server->pid);
    server->pid = 0;
    colo_fd_close(&server->control);
    colo_fd_close(&server->fds);
    g_string_truncate(server->line, 0);
    g_ptr_array_set_size(server->events, 0);
}

void block_server_kill(BlockServer *server)
{
    if (server->pid)
        kill(server->pid, SIGKILL);
    reap(server);
}

void block_server_stop(BlockServer *server)
{
    shutdown(server->control, SHUT_RDWR);
    reap(server);
}

void block_server_free(BlockServer *server)
{
    block_server_kill(server);
    folder_remove(server->dir);
    g_free(server->dir);
    g_free(server->socket);
    g_string_free(server->line, TRUE);
    g_ptr_array_unref(server->events);
    g_free(server);
}

json_object *block_server_command(BlockServer *server, const char *name, json_object *arguments,
                                  int fd)
{
    json_object *request = json_object_new_object(), *id;
    int wanted = (int)++server->next_id;
    colo_json_add_string(request, "execute", name);
    if (arguments)
        json_object_object_add(request, "arguments", arguments);
    colo_json_add_int(request, "id", wanted);
    g_autofree char *line = g_strconcat(json_object_to_json_string(request), "\n", NULL);
    json_object_put(request);
    if (fd >= 0) {
        g_assert_true(colo_fd_send(server->fds, fd, NULL));
        close(fd);
    }
    g_assert_true(colo_fd_write_all(server->control, line, strlen(line), NULL));
    for (;;) {
        json_object *object = read_object(server);
        g_assert_nonnull(object);
        if (json_object_object_get_ex(object, "id", &id)) {
            g_assert_cmpint(json_object_get_int(id), ==, wanted);
            /* What was said of a connection that has ended is of no interest any more. */
            if (!strcmp(name, "takeover") || !strcmp(name, "detach"))
                g_ptr_array_set_size(server->events, 0);
            return object;
        }
        g_ptr_array_add(server->events, object);
    }
}

void block_server_ok(BlockServer *server, const char *name, json_object *arguments)
{
    json_object *reply = block_server_command(server, name, arguments, -1);
    if (!json_object_object_get_ex(reply, "return", NULL))
        g_error("%s: %s", name, json_object_to_json_string(reply));
    json_object_put(reply);
}

json_object *block_server_epoch(guint64 epoch)
{
    json_object *arguments = json_object_new_object();
    colo_json_add_uint(arguments, "epoch", epoch);
    return arguments;
}

json_object *block_server_wait(BlockServer *server, const char *event)
{
    for (;;) {
        json_object *object, *name, *data;
        if (server->events->len > 0)
            object = g_ptr_array_steal_index(server->events, 0);
        else if (!(object = read_object(server)))
            return NULL;
        g_assert_true(json_object_object_get_ex(object, "event", &name));
        gboolean found = !strcmp(json_object_get_string(name), event);
        if (!found && !strcmp(json_object_get_string(name), "LOST"))
            g_error("%s instead of %s", json_object_to_json_string(object), event);
        data = found ? json_object_get(json_object_object_get(object, "data")) : NULL;
        json_object_put(object);
        if (found)
            return data;
    }
}

static void attach(BlockServer *server, const char *role, const char *session, int fd)
{
    json_object *arguments = json_object_new_object();
    colo_json_add_string(arguments, "role", role);
    colo_json_add_string(arguments, "session", session);
    json_object *reply = block_server_command(server, "attach", arguments, fd);
    if (!json_object_object_get_ex(reply, "return", NULL))
        g_error("attach: %s", json_object_to_json_string(reply));
    json_object_put(reply);
}

void block_server_pair(BlockServer *primary, BlockServer *replica)
{
    int fds[2];
    g_autofree char *session = g_strdup_printf("%08x%08x%08x%08x", g_random_int(), g_random_int(),
                                               g_random_int(), g_random_int());
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    attach(replica, "replica", session, fds[0]);
    attach(primary, "primary", session, fds[1]);
}

struct nbd_handle *block_server_connect(BlockServer *server, const char *disk)
{
    struct nbd_handle *nbd = nbd_create();
    g_assert_nonnull(nbd);
    nbd_set_strict_mode(nbd, 0); /* what a careless client sends must not harm the server */
    nbd_set_export_name(nbd, disk);
    if (nbd_connect_unix(nbd, server->socket) < 0)
        g_error("%s", nbd_get_error());
    return nbd;
}
