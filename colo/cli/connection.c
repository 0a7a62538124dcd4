/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client, as simple as one that may block can be. colod is trusted here but not to be alive:
 * it has ANSWER_TIMEOUT_MS for a greeting and for each answer.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/cli/cli.h"
#include "common/clock.h"
#include "common/json.h"

G_DEFINE_QUARK(cli_error, cli_error)

#define ANSWER_TIMEOUT_MS 10000
#define LINE_MAX_BYTES    (16u << 20)

struct CliConnection {
    char *path;
    int fd;
    GString *input;
    GQueue events; /* of json_object*, that came before they were asked for */
};

/* ---- Which socket ---- */

char *cli_find_socket(const char *folder, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *found = NULL;
    guint count = 0;
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        if (!g_str_has_suffix(name, ".sock"))
            continue;
        g_free(found);
        found = g_build_filename(folder, name, NULL);
        g_string_append_printf(names, "%s%s", count++ > 0 ? ", " : "", found);
    }
    if (count == 1)
        return g_steal_pointer(&found);
    if (count == 0)
        g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD,
                    "no colod runs here: there is no socket in %s (--socket names one elsewhere)",
                    folder);
    else
        g_set_error(error, CLI_ERROR, CLI_ERROR_AMBIGUOUS,
                    "there is more than one colod here, choose one with --socket: %s", names->str);
    return NULL;
}

/* ---- Lines ---- */

static void fail_gone(const CliConnection *c, GError **error)
{
    g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD, "the colod that served %s has ended",
                c->path);
}

/* One line out of the input, without its end; NULL if there is none yet. */
static char *take_line(CliConnection *c)
{
    char *end = memchr(c->input->str, '\n', c->input->len);
    if (!end)
        return NULL;
    char *line = g_strndup(c->input->str, (gsize)(end - c->input->str));
    g_string_erase(c->input, 0, end + 1 - c->input->str);
    return line;
}

/* Waits until there is more input. FALSE without an error: in time there was none, or a signal. */
static gboolean read_more(CliConnection *c, int timeout_ms, GError **error)
{
    struct pollfd wait = {.fd = c->fd, .events = POLLIN};
    int ready = poll(&wait, 1, timeout_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR))
        return FALSE;
    char buf[16384];
    ssize_t got = recv(c->fd, buf, sizeof(buf), 0);
    if (got <= 0 || c->input->len > LINE_MAX_BYTES) {
        fail_gone(c, error);
        return FALSE;
    }
    g_string_append_len(c->input, buf, got);
    return TRUE;
}

/* The next message within `timeout_ms` (-1: no limit); NULL without an error if there is none. */
static json_object *read_message(CliConnection *c, int timeout_ms, GError **error)
{
    ColoTime end = colo_time_add_us(colo_time_now(), timeout_ms * COLO_US_PER_MS);
    for (;;) {
        g_autofree char *line = take_line(c);
        json_object *message = line ? json_tokener_parse(line) : NULL;
        if (message)
            return message;
        if (line)
            continue;
        gint64 left_ms = colo_time_diff_us(end, colo_time_now()) / COLO_US_PER_MS;
        if (!read_more(c, timeout_ms < 0 ? -1 : (int)MAX(left_ms, 0), error))
            return NULL;
    }
}

/* Like read_message(), but having none in time is an error. Signals don't shorten the time. */
static json_object *read_answer(CliConnection *c, const char *what, GError **error)
{
    ColoTime end = colo_time_add_us(colo_time_now(), ANSWER_TIMEOUT_MS * COLO_US_PER_MS);
    for (;;) {
        g_autoptr(GError) gone = NULL;
        gint64 left_ms = colo_time_diff_us(end, colo_time_now()) / COLO_US_PER_MS;
        json_object *message = read_message(c, (int)MAX(left_ms, 0), &gone);
        if (message)
            return message;
        if (gone) {
            g_propagate_error(error, g_steal_pointer(&gone));
            return NULL;
        }
        if (left_ms > 0)
            continue;
        g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD,
                    "the colod that serves %s does not answer (%s): is it stopped?", c->path, what);
        return NULL;
    }
}

/* ---- Connecting ---- */

static gboolean connect_to(CliConnection *c, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, c->path, sizeof(address.sun_path)) >=
        sizeof(address.sun_path)) {
        g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD, "%s: too long for a socket's path",
                    c->path);
        return FALSE;
    }
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return TRUE;
    if (errno == EACCES || errno == EPERM)
        g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD,
                    "no right to use %s: only its owner (mostly root) has", c->path);
    else
        g_set_error(
            error, CLI_ERROR, CLI_ERROR_NO_COLOD,
            "no colod serves %s (%s): is it running? colod --config FILE starts it, --socket "
            "names another",
            c->path, g_strerror(errno));
    return FALSE;
}

/* The text of {"error": {"desc": ...}}, borrowed; NULL if the message is none. */
static const char *error_text(json_object *message)
{
    json_object *inner, *text;
    if (!json_object_object_get_ex(message, "error", &inner))
        return NULL;
    return json_object_object_get_ex(inner, "desc", &text) ? json_object_get_string(text) : "";
}

CliConnection *cli_connect(const char *path, GError **error)
{
    g_autoptr(CliConnection) c = g_new0(CliConnection, 1);
    c->path = g_strdup(path);
    c->fd = -1;
    c->input = g_string_new(NULL);
    g_queue_init(&c->events);
    json_object *greeting = connect_to(c, error) ? read_answer(c, "greeting", error) : NULL;
    if (!greeting)
        return NULL;
    const char *text = error_text(greeting);
    gboolean good = json_object_object_get_ex(greeting, "QMP", NULL);
    if (text)
        g_set_error(error, CLI_ERROR, CLI_ERROR_COMMAND, "%s", text);
    else if (!good)
        g_set_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD, "%s is served by something else", path);
    json_object_put(greeting);
    return good ? g_steal_pointer(&c) : NULL;
}

static void drop_event(gpointer data)
{
    json_object_put(data);
}

void cli_connection_free(CliConnection *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    g_queue_clear_full(&c->events, drop_event);
    g_string_free(c->input, TRUE);
    g_free(c->path);
    g_free(c);
}

int cli_connection_fd(const CliConnection *c)
{
    return c->fd;
}

/* ---- Commands and events ---- */

/* send(); `fd` goes with the bytes. -1: none does. */
static ssize_t send_some(int sock, const char *text, gsize len, int fd)
{
    struct iovec iov = {.iov_base = (char *)text, .iov_len = len};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof(control.space);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_NOSIGNAL);
}

static gboolean send_command(CliConnection *c, const char *command, json_object *arguments, int fd,
                             GError **error)
{
    json_object *message = json_object_new_object();
    colo_json_add_string(message, "execute", command);
    if (arguments)
        json_object_object_add(message, "arguments", arguments);
    g_autofree char *text =
        g_strconcat(json_object_to_json_string_ext(message, JSON_C_TO_STRING_PLAIN), "\n", NULL);
    json_object_put(message);
    for (gsize sent = 0, len = strlen(text); sent < len;) {
        ssize_t put = send_some(c->fd, text + sent, len - sent, sent == 0 ? fd : -1);
        if (put < 0 && errno != EINTR) {
            fail_gone(c, error);
            return FALSE;
        }
        sent += put > 0 ? (gsize)put : 0;
    }
    return TRUE;
}

json_object *cli_execute(CliConnection *c, const char *command, json_object *arguments,
                         gboolean *ret_ok, GError **error)
{
    return cli_execute_fd(c, command, arguments, -1, ret_ok, error);
}

json_object *cli_execute_fd(CliConnection *c, const char *command, json_object *arguments, int fd,
                            gboolean *ret_ok, GError **error)
{
    *ret_ok = FALSE;
    if (!send_command(c, command, arguments, fd, error))
        return NULL;
    for (;;) {
        json_object *message = read_answer(c, command, error), *result = NULL;
        if (!message)
            return NULL;
        if (json_object_object_get_ex(message, "event", NULL)) {
            g_queue_push_tail(&c->events, message);
            continue;
        }
        *ret_ok = json_object_object_get_ex(message, "return", &result);
        json_object_get(result);
        if (!*ret_ok) {
            const char *text = error_text(message);
            g_set_error(error, CLI_ERROR, CLI_ERROR_COMMAND, "%s",
                        text ? text : "colod's answer is none");
        }
        json_object_put(message);
        return result;
    }
}

json_object *cli_next_event(CliConnection *c, int timeout_ms, GError **error)
{
    json_object *event = g_queue_pop_head(&c->events);
    return event ? event : read_message(c, timeout_ms, error);
}
