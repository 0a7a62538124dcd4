/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/server.h"

#include <errno.h>
#include <sys/socket.h>

#include "block/wire.h"
#include "common/fd.h"
#include "vm/process.h"
#include "vm/qmp.h"

struct DiskServer {
    DiskServerCallbacks callbacks;
    gpointer user_data;
    Process *process; /* NULL: another's */
    Qmp *qmp;
    int fds;
    gboolean closed; /* the connection has ended, and all commands on it have failed */
    char *ended;     /* how the process has ended */
    gboolean dead;   /* died() has been called */
};

static void die(DiskServer *server, const char *why)
{
    if (server->dead)
        return;
    server->dead = TRUE;
    g_autoptr(GError) error =
        g_error_new(BLOCK_ERROR, BLOCK_ERROR_IO, "the disk server (nbdkit) %s", why);
    server->callbacks.died(error, server->user_data);
}

static void on_ready(json_object *version, gpointer data)
{
    DiskServer *server = data;
    (void)version;
    server->callbacks.ready(server->user_data);
}

static void on_event(const char *name, json_object *event_data, gpointer data)
{
    DiskServer *server = data;
    server->callbacks.event(name, event_data, server->user_data);
}

/* nbdkit's end is noticed twice, as the end of the process and of the connection, in either order.
 * It is reported when both are known: the one knows why, the other has let all commands fail. */
static void on_closed(const GError *error, gpointer data)
{
    DiskServer *server = data;
    server->closed = TRUE;
    if (server->ended)
        die(server, server->ended);
    else if (!server->process || !g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        die(server, error->message); /* alive, but it can't be reached */
}

static void on_ended(const char *how, gpointer data)
{
    DiskServer *server = data;
    server->ended = g_strdup(how);
    if (server->closed)
        die(server, how);
}

static void add_argument(GPtrArray *argv, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_argument(GPtrArray *argv, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, args));
    va_end(args);
}

static GPtrArray *command_line(const DiskServerOptions *o, const DiskConfig *disks, guint n_disks,
                               const int *fds)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    add_argument(argv, "%s", o->nbdkit ? o->nbdkit : "nbdkit");
    add_argument(argv, "--foreground");
    add_argument(argv, "--exit-with-parent");
    add_argument(argv, "--unix");
    add_argument(argv, "%s", o->socket);
    add_argument(argv, "%s", o->plugin);
    add_argument(argv, "control-fd=%d", fds[0]);
    add_argument(argv, "fds-fd=%d", fds[1]);
    add_argument(argv, "state-dir=%s", o->state_dir);
    add_argument(argv, "owner=%s", o->owner ? "yes" : "no");
    add_argument(argv, "stage-memory=%" G_GUINT64_FORMAT, o->stage_memory_bytes);
    add_argument(argv, "queue=%" G_GUINT64_FORMAT, o->queue_bytes);
    add_argument(argv, "sync-rate=%" G_GUINT64_FORMAT, o->sync_rate_bytes);
    if (n_disks > 0)
        add_argument(argv, "direct=%s", disks[0].direct ? "yes" : "no");
    for (guint i = 0; i < n_disks; i++)
        add_argument(argv, "disk=%s,%s,%s", disks[i].name,
                     disks[i].format ? disks[i].format : "raw", disks[i].path);
    g_ptr_array_add(argv, NULL);
    return argv;
}

static gboolean make_pair(int *ret_fds, GError **error)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds) == 0)
        return TRUE;
    int saved = errno;
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "socketpair: %s", g_strerror(saved));
    return FALSE;
}

static DiskServer *server_new(const DiskServerCallbacks *callbacks, gpointer user_data)
{
    DiskServer *server = g_new0(DiskServer, 1);
    server->callbacks = *callbacks;
    server->user_data = user_data;
    server->fds = -1;
    return server;
}

static void attach_control(DiskServer *server, int control, int fds)
{
    static const QmpHandler handler = {on_ready, on_event, on_closed};
    server->fds = fds;
    server->qmp = qmp_new(control, "the disk server", &handler, server);
}

DiskServer *disk_server_start(const DiskServerOptions *options, const DiskConfig *disks,
                              guint n_disks, const DiskServerCallbacks *callbacks,
                              gpointer user_data, GError **error)
{
    int control[2], fds[2];
    for (guint i = 0; i < n_disks; i++)
        if (!disk_image_check(disks[i].name, disks[i].path, disks[i].format, error))
            return NULL;
    if (!make_pair(control, error))
        return NULL;
    COLO_AUTO_FD ours = control[0], theirs = control[1];
    if (!make_pair(fds, error))
        return NULL;
    COLO_AUTO_FD our_fds = fds[0], their_fds = fds[1];
    const int inherited[] = {theirs, their_fds};
    g_autoptr(GPtrArray) argv = command_line(options, disks, n_disks, inherited);
    g_autoptr(GArray) keep = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_vals(keep, inherited, G_N_ELEMENTS(inherited));
    g_auto(GStrv) envp = g_get_environ();
    DiskServer *server = server_new(callbacks, user_data);
    server->process = process_start((char **)argv->pdata, DISK_SERVER_WAY_OUT, envp, keep, on_ended,
                                    server, error);
    if (!server->process) {
        g_free(server);
        return NULL;
    }
    attach_control(server, colo_fd_steal(&ours), colo_fd_steal(&our_fds));
    return server;
}

DiskServer *disk_server_adopt(int control, int fds, const DiskServerCallbacks *callbacks,
                              gpointer user_data)
{
    DiskServer *server = server_new(callbacks, user_data);
    attach_control(server, control, fds);
    return server;
}

void disk_server_end(DiskServer *server)
{
    server->dead = TRUE;
    g_clear_pointer(&server->qmp, qmp_free);
    colo_fd_close(&server->fds);
}

gboolean disk_server_wait(DiskServer *server, guint timeout_ms)
{
    return !server->process || process_wait(server->process, timeout_ms);
}

void disk_server_free(DiskServer *server)
{
    if (!server)
        return;
    disk_server_end(server);
    process_free(server->process);
    g_free(server->ended);
    g_free(server);
}

void disk_server_command(DiskServer *server, const char *name, json_object *arguments,
                         guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    qmp_execute(server->qmp, name, arguments, timeout_ms, done, user_data);
}

gboolean disk_server_generation(json_object *object, Generation *ret_generation)
{
    return wire_generation_parse(object, ret_generation);
}

void disk_server_attach(DiskServer *server, gboolean primary, const char *session, int fd,
                        gboolean discard, guint timeout_ms, DiskServerDone done, gpointer user_data)
{
    json_object *arguments = json_object_new_object();
    colo_json_add_string(arguments, "role", primary ? "primary" : "replica");
    colo_json_add_string(arguments, "session", session);
    if (discard)
        colo_json_add_bool(arguments, "discard", TRUE);
    /* If it can't be sent, the command fails and reports that nothing came. */
    colo_fd_send(server->fds, fd, NULL);
    disk_server_command(server, "attach", arguments, timeout_ms, done, user_data);
}
