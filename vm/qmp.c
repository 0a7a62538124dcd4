/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/qmp.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/patience.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>

/* Deepest nesting of a reply that is accepted. */
#define DEPTH_MAX 64

typedef enum { GREETING_WANTED, NEGOTIATING, READY, CLOSED } QmpState;

struct Qmp {
    gatomicrefcount refs; /* the owner's and one per callback that is running */
    gboolean freed;
    QmpState state;
    int fd;
    const char *peer; /* "QEMU": for texts, static */
    QmpHandler handler;
    gpointer user_data;
    GByteArray *in;
    GString *out;     /* what the socket has not taken yet */
    GString *waiting; /* commands given before it was ready */
    gsize scanned;    /* bytes of `in` known to hold no newline */
    guint in_source, out_source;
    gint64 next_id;
    GHashTable *pending; /* id -> Command* */
    json_object *version;
};

typedef struct {
    Qmp *qmp;
    gint64 id;
    char *name;
    QmpReply reply;
    gpointer user_data;
    guint source; /* its timeout, or the idle callback that fails it on a closed connection */
    guint timeout_ms;
} Command;

static void command_free(gpointer data)
{
    Command *command = data;
    if (command->source)
        g_source_remove(command->source);
    g_free(command->name);
    g_free(command);
}

static void unref(Qmp *qmp)
{
    if (!g_atomic_ref_count_dec(&qmp->refs))
        return;
    g_byte_array_unref(qmp->in);
    g_string_free(qmp->out, TRUE);
    g_string_free(qmp->waiting, TRUE);
    g_hash_table_unref(qmp->pending);
    json_object_put(qmp->version);
    g_free(qmp);
}

static void close_socket(Qmp *qmp)
{
    qmp->state = CLOSED;
    if (qmp->in_source)
        g_source_remove(qmp->in_source);
    if (qmp->out_source)
        g_source_remove(qmp->out_source);
    qmp->in_source = qmp->out_source = 0;
    colo_fd_close(&qmp->fd);
}

void qmp_free(Qmp *qmp)
{
    if (!qmp)
        return;
    qmp->freed = TRUE;
    close_socket(qmp);
    g_hash_table_remove_all(qmp->pending);
    unref(qmp);
}

/* Ends a command; the client may be freed when this returns (the caller holds a reference). */
static void answer(Qmp *qmp, Command *command, json_object *result, const GError *error)
{
    QmpReply reply = command->reply;
    gpointer user_data = command->user_data;

    g_hash_table_remove(qmp->pending, &command->id);
    if (reply)
        reply(result, error, user_data);
}

/* Closes and tells everybody, with `error`. The caller holds a reference. */
static void fail(Qmp *qmp, const GError *error)
{
    close_socket(qmp);
    while (!qmp->freed && g_hash_table_size(qmp->pending) > 0) {
        GHashTableIter iter;
        gpointer command;
        g_hash_table_iter_init(&iter, qmp->pending);
        g_hash_table_iter_next(&iter, NULL, &command);
        answer(qmp, command, NULL, error);
    }
    if (!qmp->freed && qmp->handler.closed)
        qmp->handler.closed(error, qmp->user_data);
}

G_GNUC_PRINTF(3, 4)
static void fail_with(Qmp *qmp, VmError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, (int)code, text);
    fail(qmp, error);
}

/* ---- Sending ---- */

/* Sends what the socket takes now: FALSE if the connection is broken (errno). */
static gboolean flush(Qmp *qmp)
{
    while (qmp->out->len > 0) {
        ssize_t put = send(qmp->fd, qmp->out->str, qmp->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        g_string_erase(qmp->out, 0, put);
    }
    return TRUE;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer user_data)
{
    Qmp *qmp = user_data;
    (void)fd;
    (void)condition;

    /* A broken connection is found, and told, by the reading side, after what it still has. */
    if (flush(qmp) && qmp->out->len > 0)
        return G_SOURCE_CONTINUE;
    qmp->out_source = 0;
    return G_SOURCE_REMOVE;
}

static void transmit(Qmp *qmp, const char *text)
{
    g_string_append(qmp->out, text);
    if (qmp->out_source || !flush(qmp) || qmp->out->len == 0)
        return;
    qmp->out_source = g_unix_fd_add(qmp->fd, G_IO_OUT, on_writable, qmp);
}

static gboolean on_timeout(gpointer user_data)
{
    Command *command = user_data;
    Qmp *qmp = command->qmp;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "%s: %s did not answer within %.1f s",
                    command->name, qmp->peer, command->timeout_ms / 1000.0);

    command->source = 0;
    g_atomic_ref_count_inc(&qmp->refs);
    answer(qmp, command, NULL, error);
    unref(qmp);
    return G_SOURCE_REMOVE;
}

static gboolean on_closed_already(gpointer user_data)
{
    Command *command = user_data;
    Qmp *qmp = command->qmp;
    g_autoptr(GError) error = g_error_new(
        VM_ERROR, VM_ERROR_DIED, "%s: the connection to %s is closed", command->name, qmp->peer);

    command->source = 0;
    g_atomic_ref_count_inc(&qmp->refs);
    answer(qmp, command, NULL, error);
    unref(qmp);
    return G_SOURCE_REMOVE;
}

/* The line of a command. */
static char *format_command(const char *name, json_object *arguments, gint64 id)
{
    json_object *object = json_object_new_object();
    colo_json_add_string(object, "execute", name);
    if (arguments)
        json_object_object_add(object, "arguments", arguments);
    colo_json_add_int(object, "id", id);
    char *line =
        g_strconcat(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN), "\n", NULL);
    json_object_put(object);
    return line;
}

static Command *command_new(Qmp *qmp, const char *name, guint timeout_ms, QmpReply reply,
                            gpointer user_data)
{
    Command *command = g_new0(Command, 1);
    command->qmp = qmp;
    command->id = qmp->next_id++;
    command->name = g_strdup(name);
    command->reply = reply;
    command->user_data = user_data;
    command->timeout_ms = timeout_ms;
    g_hash_table_insert(qmp->pending, &command->id, command);
    return command;
}

void qmp_execute(Qmp *qmp, const char *command_name, json_object *arguments, guint timeout_ms,
                 QmpReply reply, gpointer user_data)
{
    Command *command = command_new(qmp, command_name, timeout_ms, reply, user_data);
    g_autofree char *line = format_command(command_name, arguments, command->id);

    if (qmp->state == CLOSED) {
        command->source = g_idle_add_full(G_PRIORITY_DEFAULT, on_closed_already, command, NULL);
        return;
    }
    if (timeout_ms)
        command->source = patience_add(timeout_ms, on_timeout, command);
    if (qmp->state == READY)
        transmit(qmp, line);
    else
        g_string_append(qmp->waiting, line);
}

/* ---- Receiving ---- */

static void on_negotiated(json_object *result, const GError *error, gpointer user_data)
{
    Qmp *qmp = user_data;

    if (!result) {
        if (qmp->state != CLOSED)
            fail(qmp, error);
        return;
    }
    qmp->state = READY;
    g_autofree char *waiting = g_string_free(qmp->waiting, FALSE);
    qmp->waiting = g_string_new(NULL);
    if (*waiting)
        transmit(qmp, waiting);
    if (qmp->handler.ready)
        qmp->handler.ready(qmp->version, qmp->user_data);
}

static void on_greeting(Qmp *qmp, json_object *message)
{
    json_object *greeting, *version;

    if (!json_object_object_get_ex(message, "QMP", &greeting) ||
        !json_object_object_get_ex(greeting, "version", &version)) {
        fail_with(qmp, VM_ERROR_QMP, "%s's first line is not a QMP greeting", qmp->peer);
        return;
    }
    qmp->version = json_object_get(version);
    qmp->state = NEGOTIATING;
    Command *command = command_new(qmp, "qmp_capabilities", 0, on_negotiated, qmp);
    g_autofree char *line = format_command("qmp_capabilities", NULL, command->id);
    transmit(qmp, line);
}

static const char *string_member(json_object *object, const char *key, const char *otherwise)
{
    json_object *value;
    if (json_object_object_get_ex(object, key, &value) &&
        json_object_is_type(value, json_type_string))
        return json_object_get_string(value);
    return otherwise;
}

static void on_reply(Qmp *qmp, json_object *message)
{
    json_object *id_object, *result = NULL, *failure = NULL;
    gint64 id = -1;

    if (json_object_object_get_ex(message, "id", &id_object))
        id = json_object_get_int64(id_object);
    json_object_object_get_ex(message, "error", &failure);
    if (!failure && !json_object_object_get_ex(message, "return", &result)) {
        fail_with(qmp, VM_ERROR_QMP, "%s sent an object that is no reply and no event", qmp->peer);
        return;
    }
    Command *command = g_hash_table_lookup(qmp->pending, &id);
    if (!command)
        return; /* it had timed out */
    if (!failure) {
        static const char nothing[] = "{}";
        json_object *given = result ? json_object_get(result) : json_tokener_parse(nothing);
        answer(qmp, command, given, NULL);
        json_object_put(given);
        return;
    }
    g_autoptr(GError) error = g_error_new(VM_ERROR, VM_ERROR_QMP, "%s: %s: %s", command->name,
                                          string_member(failure, "class", "GenericError"),
                                          string_member(failure, "desc", "?"));
    answer(qmp, command, NULL, error);
}

static void on_message(Qmp *qmp, json_object *message)
{
    const char *event = string_member(message, "event", NULL);
    json_object *data = NULL;

    if (qmp->state == GREETING_WANTED) {
        on_greeting(qmp, message);
    } else if (event) {
        json_object_object_get_ex(message, "data", &data);
        if (qmp->handler.event)
            qmp->handler.event(event, data, qmp->user_data);
    } else {
        on_reply(qmp, message);
    }
}

/* One line, without its end. */
static void on_line(Qmp *qmp, const char *line, gsize len)
{
    json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    json_object *message = NULL;

    while (len > 0 && g_ascii_isspace(line[len - 1]))
        len--;
    if (len > 0) {
        message = json_tokener_parse_ex(tokener, line, (int)len);
        if (json_object_is_type(message, json_type_object) &&
            json_tokener_get_parse_end(tokener) == len) {
            on_message(qmp, message);
        } else {
            g_autofree char *start = g_strndup(line, MIN(len, 60));
            g_autofree char *printable = g_strescape(start, NULL);
            fail_with(qmp, VM_ERROR_QMP, "%s sent a line that is not QMP: %s", qmp->peer,
                      printable);
        }
    }
    json_object_put(message);
    json_tokener_free(tokener);
}

/* Handles all whole lines; stops early when a callback frees or closes the client. */
static void take_lines(Qmp *qmp)
{
    gsize start = 0;

    while (!qmp->freed && qmp->state != CLOSED) {
        const guint8 *from = qmp->in->data + qmp->scanned;
        const guint8 *end = memchr(from, '\n', qmp->in->len - qmp->scanned);
        if (!end) {
            qmp->scanned = qmp->in->len;
            break;
        }
        gsize stop = (gsize)(end - qmp->in->data);
        qmp->scanned = stop + 1;
        on_line(qmp, (const char *)qmp->in->data + start, stop - start);
        start = stop + 1;
    }
    if (start > 0) {
        g_byte_array_remove_range(qmp->in, 0, (guint)start);
        qmp->scanned -= start;
    }
    if (!qmp->freed && qmp->state != CLOSED && qmp->in->len > QMP_LINE_MAX)
        fail_with(qmp, VM_ERROR_QMP, "%s sent a line of more than %u bytes", qmp->peer,
                  QMP_LINE_MAX);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    Qmp *qmp = user_data;
    guint8 buf[16384];
    (void)condition;
    ssize_t got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
        return G_SOURCE_CONTINUE;
    g_atomic_ref_count_inc(&qmp->refs);
    if (got > 0) {
        g_byte_array_append(qmp->in, buf, (guint)got);
        take_lines(qmp);
    } else {
        fail_with(qmp, VM_ERROR_DIED, "%s closed its control socket%s%s", qmp->peer,
                  got < 0 ? ": " : "", got < 0 ? g_strerror(errno) : "");
    }
    gboolean open = qmp->state != CLOSED;
    unref(qmp);
    return open ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

Qmp *qmp_new(int fd, const char *peer, const QmpHandler *handler, gpointer user_data)
{
    Qmp *qmp = g_new0(Qmp, 1);

    g_atomic_ref_count_init(&qmp->refs);
    qmp->fd = fd;
    qmp->peer = peer;
    qmp->handler = *handler;
    qmp->user_data = user_data;
    qmp->in = g_byte_array_new();
    qmp->out = g_string_new(NULL);
    qmp->waiting = g_string_new(NULL);
    qmp->next_id = 1;
    qmp->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, command_free);
    qmp->in_source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, qmp);
    return qmp;
}
