/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk servers as the service runs them, on a main loop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/server.h"
#include "common/fd.h"
#include "tests/support/block-server.h"

#define TIMEOUT_MS 60000u

/* One host: a folder with an image (borrowed from the other test support), and the server. */
typedef struct {
    BlockServer *folder;
    DiskServer *server;
    gboolean ready, replied;
    char *died, *error;
    guint64 marked, applied;
    gboolean synchronised, lost;
} Host;

static void on_ready(gpointer data)
{
    ((Host *)data)->ready = TRUE;
}

static void on_event(const char *name, json_object *data, gpointer user_data)
{
    Host *host = user_data;
    guint64 epoch = json_object_get_uint64(json_object_object_get(data, "epoch"));
    if (!strcmp(name, "MARKED"))
        host->marked = epoch;
    else if (!strcmp(name, "APPLIED"))
        host->applied = epoch;
    else if (!strcmp(name, "SYNCHRONISED"))
        host->synchronised = TRUE;
    else if (!strcmp(name, "LOST"))
        host->lost = TRUE;
}

static void on_died(const GError *error, gpointer data)
{
    Host *host = data;
    g_assert_null(host->died);
    host->died = g_strdup(error->message);
}

static void on_done(json_object *result, const GError *error, gpointer data)
{
    Host *host = data;
    g_assert_true(!result == !!error);
    host->replied = TRUE;
    g_free(host->error);
    host->error = error ? g_strdup(error->message) : NULL;
}

#define WAIT_FOR(condition)                                                                        \
    while (!(condition))                                                                           \
    g_main_context_iteration(NULL, TRUE)

static void start(Host *host, gboolean owner)
{
    static const DiskServerCallbacks callbacks = {on_ready, on_event, on_died};
    g_autofree char *image = block_server_image(host->folder, 0);
    g_autofree char *plugin = block_server_plugin();
    g_autoptr(GError) error = NULL;
    DiskConfig disk = {.name = "vda", .path = image, .format = "raw"};
    DiskServerOptions options = {.plugin = plugin,
                                 .socket = host->folder->socket,
                                 .state_dir = host->folder->dir,
                                 .owner = owner};
    unlink(host->folder->socket);
    host->ready = FALSE;
    host->server = disk_server_start(&options, &disk, 1, &callbacks, host, &error);
    g_assert_no_error(error);
}

static Host *host_new(gboolean owner)
{
    static const guint64 sizes[] = {1u << 20};
    Host *host = g_new0(Host, 1);
    host->folder = block_server_new(sizes, 1);
    start(host, owner);
    WAIT_FOR(host->ready || host->died);
    g_assert_null(host->died);
    return host;
}

static void host_free(Host *host)
{
    disk_server_free(host->server);
    block_server_free(host->folder);
    g_free(host->died);
    g_free(host->error);
    g_free(host);
}

static void command_ok(Host *host, const char *name, guint64 epoch)
{
    host->replied = FALSE;
    disk_server_epoch_command(host->server, name, epoch, TIMEOUT_MS, on_done, host);
    WAIT_FOR(host->replied);
    g_assert_cmpstr(host->error, ==, NULL);
}

static void pair(Host *primary, Host *replica)
{
    static const char session[] = "00112233445566778899aabbccddeeff";
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    disk_server_attach(replica->server, FALSE, session, fds[0], FALSE, TIMEOUT_MS, on_done,
                       replica);
    disk_server_attach(primary->server, TRUE, session, fds[1], FALSE, TIMEOUT_MS, on_done, primary);
    close(fds[0]);
    close(fds[1]);
    WAIT_FOR(primary->synchronised);
}

/* ready() means that a client can connect; a checkpoint and a takeover by callbacks alone. */
static void test_pair(void)
{
    Host *primary = host_new(TRUE), *replica = host_new(FALSE);
    struct nbd_handle *nbd = block_server_connect(primary->folder, "vda");
    guint8 byte = 0x42;
    pair(primary, replica);
    g_assert_cmpint(nbd_pwrite(nbd, &byte, 1, 77, 0), ==, 0);
    command_ok(primary, "mark", 1);
    WAIT_FOR(replica->marked == 1);
    command_ok(replica, "apply", 1);
    WAIT_FOR(primary->applied == 1);
    nbd_close(nbd);
    disk_server_free(primary->server); /* the host is gone */
    primary->server = NULL;
    WAIT_FOR(replica->lost);
    command_ok(replica, "takeover", 1);
    nbd = block_server_connect(replica->folder, "vda");
    byte = 0;
    g_assert_cmpint(nbd_pread(nbd, &byte, 1, 77, 0), ==, 0);
    g_assert_cmphex(byte, ==, 0x42);
    nbd_close(nbd);
    host_free(primary);
    host_free(replica);
}

static void test_command_fails(void)
{
    Host *host = host_new(TRUE);
    disk_server_epoch_command(host->server, "mark", 1, TIMEOUT_MS, on_done, host);
    WAIT_FOR(host->replied);
    g_assert_nonnull(strstr(host->error, "no peer"));
    host_free(host);
}

/* The one child of this test. */
static pid_t server_pid(void)
{
    g_autofree char *children = NULL;
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", getpid());
    g_assert_true(g_file_get_contents(path, &children, NULL, NULL));
    return (pid_t)g_ascii_strtoll(children, NULL, 10);
}

/* nbdkit is killed: died() says so, and a command that waited has failed before. */
static void test_killed(void)
{
    Host *host = host_new(TRUE);
    struct nbd_handle *nbd = block_server_connect(host->folder, "vda");
    kill(server_pid(), SIGKILL);
    disk_server_command(host->server, "status", NULL, TIMEOUT_MS, on_done, host);
    WAIT_FOR(host->died);
    g_assert_nonnull(strstr(host->died, "killed by signal 9"));
    g_assert_true(host->replied);
    g_assert_nonnull(host->error);
    nbd_close(nbd);
    host_free(host);
}

static char *state_of(const Host *host)
{
    g_autofree char *path = g_build_filename(host->folder->dir, "state", NULL);
    char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_cmpuint(len, ==, 256);
    return bytes;
}

/* docs/DISKS.md: bit 0 of the state's flags. */
static gboolean says_clean(const Host *host)
{
    g_autofree char *bytes = state_of(host);
    return bytes[15] & 1;
}

/* Asked to end, it syncs and says so; while it runs, and killed, it doesn't. */
static void test_ordered_end(void)
{
    Host *host = host_new(TRUE);
    struct nbd_handle *nbd = block_server_connect(host->folder, "vda");
    guint8 byte = 0x42;
    g_assert_cmpint(nbd_pwrite(nbd, &byte, 1, 77, 0), ==, 0);
    nbd_close(nbd);
    g_assert_false(says_clean(host));
    disk_server_end(host->server);
    g_assert_true(disk_server_wait(host->server, TIMEOUT_MS));
    disk_server_free(host->server);
    g_assert_true(says_clean(host));
    start(host, TRUE);
    WAIT_FOR(host->ready);
    disk_server_free(host->server);
    host->server = NULL;
    g_assert_false(says_clean(host));
    g_assert_null(host->died);
    host_free(host);
}

/* A server that doesn't end is waited for no longer than was said. */
static void test_end_takes_too_long(void)
{
    Host *host = host_new(TRUE);
    kill(server_pid(), SIGSTOP);
    disk_server_end(host->server);
    g_assert_false(disk_server_wait(host->server, 20));
    disk_server_free(host->server);
    host->server = NULL;
    g_assert_false(says_clean(host));
    host_free(host);
}

/* What is wrong with a disk comes with nbdkit's last words. */
static void test_bad_disk(void)
{
    static const guint64 sizes[] = {1u << 20};
    Host *host = g_new0(Host, 1);
    host->folder = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(host->folder, 0);
    /* Another VM has it. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    COLO_AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &whole), ==, 0);
    start(host, TRUE);
    WAIT_FOR(host->died);
    g_assert_false(host->ready);
    g_assert_nonnull(strstr(host->died, "disk vda: "));
    g_assert_nonnull(strstr(host->died, "locked"));
    host_free(host);
}

/* An image that is none, or not what it is said to be, isn't touched at all. */
static void test_no_image(void)
{
    static const guint64 sizes[] = {1u << 20};
    static const DiskServerCallbacks callbacks = {on_ready, on_event, on_died};
    static const guint8 qcow2[] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    BlockServer *folder = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(folder, 0);
    g_autofree char *plugin = block_server_plugin();
    DiskServerOptions options = {
        .plugin = plugin, .socket = folder->socket, .state_dir = folder->dir};
    const struct {
        const char *format, *message;
        gboolean there;
    } cases[] = {
        {"raw",   "write format = qcow2", TRUE },
        {NULL,    "write format = qcow2", TRUE },
        {"raw",   "No such file",         FALSE},
        {"qcow2", "No such file",         FALSE}
    };
    COLO_AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, qcow2, sizeof(qcow2), 0), ==, sizeof(qcow2));
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        DiskConfig disk = {.name = "vda", .path = image, .format = cases[i].format};
        if (!cases[i].there)
            unlink(image);
        g_assert_null(disk_server_start(&options, &disk, 1, &callbacks, NULL, &error));
        g_assert_nonnull(strstr(error->message, "disk vda: image "));
        g_assert_nonnull(strstr(error->message, cases[i].message));
    }
    block_server_free(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (block_server_missing()) {
        g_print("1..0 # SKIP %s\n", block_server_missing());
        return 0;
    }
    g_test_add_func("/nbdkit/server/pair", test_pair);
    g_test_add_func("/nbdkit/server/command-fails", test_command_fails);
    g_test_add_func("/nbdkit/server/killed", test_killed);
    g_test_add_func("/nbdkit/server/ordered-end", test_ordered_end);
    g_test_add_func("/nbdkit/server/end-takes-too-long", test_end_takes_too_long);
    g_test_add_func("/nbdkit/server/bad-disk", test_bad_disk);
    g_test_add_func("/nbdkit/server/no-image", test_no_image);
    return g_test_run();
}
