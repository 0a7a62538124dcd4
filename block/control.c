/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/control.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/wire.h"
#include "common/fd.h"
#include "common/json.h"

/* A longer line is an error: nothing we are asked is anywhere near. */
#define LINE_MAX_BYTES 65536u

struct BlockControl {
    int fd;
    DiskSet *set;
    GThread *thread;
    GMutex send_mutex;
    void (*ended)(gpointer user_data);
    gpointer user_data;
    int fds;
    char *line; /* what has been read of the next lines */
    gsize line_len;
};

/* ---- Sending ---- */

/* One object, one line. If it can't be sent, the reader finds the connection ended. Consumes it. */
static void send_object(BlockControl *control, json_object *object)
{
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    g_mutex_lock(&control->send_mutex);
    colo_fd_write_all(control->fd, line, strlen(line), NULL);
    g_mutex_unlock(&control->send_mutex);
    json_object_put(object);
}

static void send_event(BlockControl *control, const char *name, json_object *data)
{
    json_object *event = json_object_new_object();
    colo_json_add_string(event, "event", name);
    json_object_object_add(event, "data", data);
    send_object(control, event);
}

static json_object *sync_object(const DiskSyncProgress *progress)
{
    json_object *object = json_object_new_object();
    colo_json_add_uint(object, "total-bytes", progress->total_bytes);
    colo_json_add_uint(object, "done-bytes", progress->done_bytes);
    colo_json_add_uint(object, "sent-bytes", progress->sent_bytes);
    colo_json_add_uint(object, "elapsed-ms", progress->elapsed_ms);
    colo_json_add_bool(object, "full", progress->full);
    return object;
}

static json_object *epoch_object(guint64 epoch)
{
    json_object *object = json_object_new_object();
    colo_json_add_uint(object, "epoch", epoch);
    return object;
}

static void on_progress(const DiskSyncProgress *progress, gpointer control)
{
    send_event(control, "SYNC_PROGRESS", sync_object(progress));
}

static void on_synchronised(const DiskSyncProgress *progress, gpointer control)
{
    send_event(control, "SYNCHRONISED", sync_object(progress));
}

static void on_marked(guint64 epoch, gpointer control)
{
    send_event(control, "MARKED", epoch_object(epoch));
}

static void on_applying(guint64 epoch, gpointer control)
{
    send_event(control, "APPLYING", epoch_object(epoch));
}

static void on_filling(gpointer control)
{
    send_event(control, "FILLING", json_object_new_object());
}

static void on_applied(guint64 epoch, gpointer control)
{
    send_event(control, "APPLIED", epoch_object(epoch));
}

static void on_lost(const GError *error, gpointer control)
{
    json_object *data = json_object_new_object();
    colo_json_add_string(data, "reason", error->message);
    /* Our own storage, and not the peer or the way to it. */
    colo_json_add_bool(data, "failed", g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_IO));
    colo_json_add_bool(data, "refused",
                       g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_GENERATION));
    send_event(control, "LOST", data);
}

const DiskSetCallbacks *block_control_callbacks(void)
{
    static const DiskSetCallbacks callbacks = {.progress = on_progress,
                                               .synchronised = on_synchronised,
                                               .marked = on_marked,
                                               .applying = on_applying,
                                               .filling = on_filling,
                                               .applied = on_applied,
                                               .lost = on_lost};
    return &callbacks;
}

/* ---- Commands: each returns its result, or NULL with an error ---- */

static json_object *done(gboolean ok)
{
    return ok ? json_object_new_object() : NULL;
}

static gboolean bad_argument(const char *name, const char *wanted, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG, "argument \"%s\" must be %s", name, wanted);
    return FALSE;
}

static gboolean get_uint(json_object *arguments, const char *name, guint64 *ret_value,
                         GError **error)
{
    json_object *value;
    if (!json_object_object_get_ex(arguments, name, &value) ||
        !json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0)
        return bad_argument(name, "a number", error);
    *ret_value = json_object_get_uint64(value);
    return TRUE;
}

static const char *get_string(json_object *arguments, const char *name)
{
    json_object *value;
    if (!json_object_object_get_ex(arguments, name, &value) ||
        !json_object_is_type(value, json_type_string))
        return "";
    return json_object_get_string(value);
}

/* The descriptor that was sent before the command: it is there, or it will not come. */
static int take_fd(BlockControl *control, GError **error)
{
    struct pollfd poll_fd = {.fd = control->fds, .events = POLLIN};
    g_autoptr(GError) why = NULL;
    int fd = poll(&poll_fd, 1, 0) == 1 ? colo_fd_receive(control->fds, &why) : -1;
    if (fd < 0)
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "attach needs a connected socket, sent before it: %s",
                    why ? why->message : "nothing was sent");
    return fd;
}

static json_object *do_attach(BlockControl *control, json_object *arguments, GError **error)
{
    guint8 session[BLOCK_SESSION_BYTES];
    const char *role = get_string(arguments, "role");
    gboolean primary = !strcmp(role, "primary");
    if (!wire_session_parse(json_object_object_get(arguments, "session"), session)) {
        bad_argument("session", "32 hexadecimal digits", error);
        return NULL;
    }
    if (!primary && strcmp(role, "replica")) {
        bad_argument("role", "\"primary\" or \"replica\"", error);
        return NULL;
    }
    int fd = take_fd(control, error);
    if (fd < 0)
        return NULL;
    if (!primary && json_object_get_boolean(json_object_object_get(arguments, "discard")))
        disk_set_discard(control->set);
    if (primary)
        return done(disk_set_attach_primary(control->set, fd, session, error));
    return done(disk_set_attach_replica(control->set, fd, session, error));
}

static json_object *do_detach(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments, (void)error;
    disk_set_detach(control->set);
    return done(TRUE);
}

static json_object *with_epoch(BlockControl *control, json_object *arguments,
                               gboolean (*run)(DiskSet *, guint64, GError **), GError **error)
{
    guint64 epoch;
    return done(get_uint(arguments, "epoch", &epoch, error) && run(control->set, epoch, error));
}

/*
 * Of an order for a checkpoint that can't be made of these images any more. That is an answer, not an error: nothing
 * was wrong with the session or the order. Consumes `failed`.
 */
static json_object *refusable(gboolean ok, GError *failed, GError **error)
{
    if (!g_error_matches(failed, BLOCK_ERROR, BLOCK_ERROR_LACKS)) {
        if (failed)
            g_propagate_error(error, failed);
        return done(ok);
    }
    json_object *result = json_object_new_object();
    colo_json_add_string(result, "refused", failed->message);
    g_error_free(failed);
    return result;
}

static json_object *mark(BlockControl *control, json_object *arguments,
                         gboolean (*run)(DiskSet *, guint64, GError **), GError **error)
{
    GError *failed = NULL;
    guint64 epoch;
    gboolean ok =
        get_uint(arguments, "epoch", &epoch, &failed) && run(control->set, epoch, &failed);
    return refusable(ok, failed, error);
}

static json_object *do_mark(BlockControl *control, json_object *arguments, GError **error)
{
    return mark(control, arguments, disk_set_mark, error);
}

static json_object *do_mark_written(BlockControl *control, json_object *arguments, GError **error)
{
    return mark(control, arguments, disk_set_mark_written, error);
}

static json_object *do_watch(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments, (void)error;
    disk_set_watch(control->set);
    return done(TRUE);
}

static json_object *do_apply(BlockControl *control, json_object *arguments, GError **error)
{
    return with_epoch(control, arguments, disk_set_apply, error);
}

static json_object *generation_object(BlockControl *control)
{
    DiskSetStatus status;
    disk_set_status(control->set, &status);
    json_object *object = json_object_new_object();
    json_object_object_add(object, "generation", wire_generation_object(&status.generation));
    return object;
}

static json_object *do_takeover(BlockControl *control, json_object *arguments, GError **error)
{
    guint64 epoch;
    if (!get_uint(arguments, "epoch", &epoch, error) ||
        !disk_set_takeover(control->set, epoch, error))
        return NULL;
    return generation_object(control);
}

static json_object *do_activate(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments;
    return done(disk_set_activate(control->set, error));
}

static json_object *do_inactivate(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments;
    return done(disk_set_inactivate(control->set, error));
}

static json_object *do_become_replica(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments;
    return done(disk_set_become_replica(control->set, error));
}

static json_object *do_write_alone(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments;
    return disk_set_write_alone(control->set, error) ? generation_object(control) : NULL;
}

static json_object *do_finish(BlockControl *control, json_object *arguments, GError **error)
{
    return with_epoch(control, arguments, disk_set_finish, error);
}

static json_object *do_sync(BlockControl *control, json_object *arguments, GError **error)
{
    GError *failed = NULL;
    (void)arguments;
    gboolean ok = disk_set_sync(control->set, &failed);
    return refusable(ok, failed, error);
}

static json_object *do_let_through(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments, (void)error;
    disk_set_let_through(control->set);
    return done(TRUE);
}

static json_object *do_limit(BlockControl *control, json_object *arguments, GError **error)
{
    guint64 rate;
    if (!get_uint(arguments, "bytes-per-second", &rate, error))
        return NULL;
    disk_set_limit_sync_rate(control->set, rate);
    return done(TRUE);
}

/* null: there was none. */
static void add_error(json_object *object, const char *name, int negative_errno)
{
    json_object_object_add(
        object, name, negative_errno ? json_object_new_string(g_strerror(-negative_errno)) : NULL);
}

static json_object *do_status(BlockControl *control, json_object *arguments, GError **error)
{
    (void)arguments, (void)error;
    DiskSetStatus status;
    disk_set_status(control->set, &status);
    json_object *object = json_object_new_object();
    colo_json_add_string(object, "mode", disk_mode_name(status.mode));
    colo_json_add_bool(object, "attached", status.attached);
    colo_json_add_bool(object, "in-sync", status.in_sync);
    colo_json_add_uint(object, "epoch", status.epoch);
    colo_json_add_uint(object, "queue-bytes", status.queue_bytes);
    colo_json_add_uint(object, "epoch-limit-bytes", status.epoch_limit);
    colo_json_add_bool(object, "writes-wait", status.waits);
    json_object_object_add(object, "sync", sync_object(&status.sync));
    json_object_object_add(object, "generation", wire_generation_object(&status.generation));
    json_object_object_add(object, "peer-generation",
                           status.knows_peer ? wire_generation_object(&status.peer_generation)
                                             : NULL);
    json_object *disks = json_object_new_array();
    for (guint i = 0; i < status.n_disks; i++) {
        DiskStatus disk;
        disk_set_disk_status(control->set, i, &disk);
        json_object *entry = json_object_new_object();
        colo_json_add_string(entry, "name", disk.name);
        colo_json_add_uint(entry, "size-bytes", disk.size_bytes);
        colo_json_add_uint(entry, "dirty-bytes", disk.dirty_bytes);
        colo_json_add_uint(entry, "staged-bytes", disk.staged_bytes);
        colo_json_add_uint(entry, "overlay-bytes", disk.overlay_bytes);
        add_error(entry, "write-error", disk.write_error);
        add_error(entry, "sync-error", disk.sync_error);
        json_object_array_add(disks, entry);
    }
    json_object_object_add(object, "disks", disks);
    return object;
}

static json_object *do_nothing(BlockControl *control, json_object *arguments, GError **error)
{
    (void)control, (void)arguments, (void)error;
    return done(TRUE);
}

static const struct {
    const char *name;
    json_object *(*run)(BlockControl *control, json_object *arguments, GError **error);
} commands[] = {
    {"qmp_capabilities", do_nothing       },
    {"status",           do_status        },
    {"attach",           do_attach        },
    {"detach",           do_detach        },
    {"watch",            do_watch         },
    {"mark",             do_mark          },
    {"mark-written",     do_mark_written  },
    {"apply",            do_apply         },
    {"takeover",         do_takeover      },
    {"activate",         do_activate      },
    {"inactivate",       do_inactivate    },
    {"become-replica",   do_become_replica},
    {"write-alone",      do_write_alone   },
    {"finish",           do_finish        },
    {"sync",             do_sync          },
    {"let-through",      do_let_through   },
    {"limit-sync-rate",  do_limit         },
};

static json_object *run_command(BlockControl *control, json_object *request, GError **error)
{
    json_object *execute, *arguments = NULL;
    if (!json_object_object_get_ex(request, "execute", &execute) ||
        !json_object_is_type(execute, json_type_string)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "expected a line with {\"execute\": NAME, ...}");
        return NULL;
    }
    json_object_object_get_ex(request, "arguments", &arguments);
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        if (!strcmp(json_object_get_string(execute), commands[i].name))
            return commands[i].run(control, arguments, error);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG, "no command \"%s\"",
                json_object_get_string(execute));
    return NULL;
}

static void handle_line(BlockControl *control, const char *line, gsize len)
{
    g_autoptr(GError) error = NULL;
    json_tokener *tokener = json_tokener_new_ex(8);
    json_object *request = json_tokener_parse_ex(tokener, line, (int)len);
    json_object *result = run_command(control, request, &error), *id, *reply;
    reply = json_object_new_object();
    if (result) {
        json_object_object_add(reply, "return", result);
    } else {
        json_object *object = json_object_new_object();
        colo_json_add_string(object, "class", "GenericError");
        colo_json_add_string(object, "desc", error->message);
        json_object_object_add(reply, "error", object);
    }
    if (json_object_object_get_ex(request, "id", &id))
        json_object_object_add(reply, "id", json_object_get(id));
    send_object(control, reply);
    json_object_put(request);
    json_tokener_free(tokener);
}

/* ---- Receiving ---- */

static gpointer control_thread(gpointer data)
{
    BlockControl *control = data;
    while (control->line_len < LINE_MAX_BYTES) {
        ssize_t got;
        do {
            got = read(control->fd, control->line + control->line_len,
                       LINE_MAX_BYTES - control->line_len);
        } while (got < 0 && errno == EINTR);
        if (got <= 0)
            break;
        control->line_len += (gsize)got;
        char *newline;
        while ((newline = memchr(control->line, '\n', control->line_len))) {
            gsize len = (gsize)(newline - control->line);
            handle_line(control, control->line, len);
            control->line_len -= len + 1;
            memmove(control->line, newline + 1, control->line_len);
        }
    }
    if (control->ended)
        control->ended(control->user_data);
    return NULL;
}

static void greet(BlockControl *control)
{
    json_object *object = json_object_new_object(), *greeting = json_object_new_object();
    json_object *version = json_object_new_object();
    colo_json_add_int(version, "stream", WIRE_VERSION);
    json_object_object_add(greeting, "version", version);
    json_object_object_add(greeting, "capabilities", json_object_new_array());
    json_object_object_add(object, "QMP", greeting);
    send_object(control, object);
}

BlockControl *block_control_new(int fd, int fds)
{
    BlockControl *control = g_new0(BlockControl, 1);
    control->fd = fd;
    control->fds = fds;
    control->line = g_malloc(LINE_MAX_BYTES);
    g_mutex_init(&control->send_mutex);
    return control;
}

void block_control_start(BlockControl *control, DiskSet *set, void (*ended)(gpointer),
                         gpointer user_data)
{
    control->set = set;
    control->ended = ended;
    control->user_data = user_data;
    greet(control);
    control->thread = g_thread_new("disk-control", control_thread, control);
}

void block_control_stop(BlockControl *control)
{
    shutdown(control->fd, SHUT_RDWR);
    if (control->thread)
        g_thread_join(control->thread);
    control->thread = NULL;
}

void block_control_free(BlockControl *control)
{
    if (!control)
        return;
    block_control_stop(control);
    close(control->fds);
    close(control->fd);
    g_free(control->line);
    g_mutex_clear(&control->send_mutex);
    g_free(control);
}
