/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/agent.h"
#include "common/json.h"

#include "common/patience.h"

#include <errno.h>
#include <glib-unix.h>
#include <json-c/json.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Deepest nesting of an answer that is accepted. */
#define DEPTH_MAX 8
/* Longest text of the guest that an error quotes, in bytes. */
#define QUOTE_MAX 200
/* After so many bytes nothing is read for so long; nor while the guest is paused. */
#define BURST_BYTES (32 * 1024)
#define REST_MS     50
/* Begins the answer to a sync, and has the agent forget half a request; no JSON has it. */
#define DELIMITER 0xff

typedef enum { IDLE, SYNCING, SETTING } AgentState;

struct Agent {
    int fd;
    gboolean closed;
    AgentState state;
    AgentHandler handler;
    gpointer user_data;
    guint in_source, timer, rest_timer;
    gsize burst; /* bytes left of it */
    guint timeout_ms;
    gint64 id;           /* of the sync */
    gboolean collecting; /* `line` is the answer; else what comes is dropped until a delimiter */
    GString *line;
};

G_DEFINE_QUARK(agent_error, agent_error)

/* ---- Answers ---- */

/* What the guest has sent, for people: one line, printable. */
static char *quote(const char *text)
{
    g_autofree char *cut = g_strndup(text ? text : "?", QUOTE_MAX);
    g_autofree char *valid = g_utf8_make_valid(cut, -1);
    return g_strescape(valid, NULL);
}

/* An object of JSON; NULL if it is none. */
static json_object *parse(const GString *line)
{
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    json_object *object = json_tokener_parse_ex(tokener, line->str, (int)line->len);
    gboolean whole = json_tokener_get_error(tokener) == json_tokener_success;
    json_tokener_free(tokener);
    if (whole && json_object_is_type(object, json_type_object))
        return object;
    json_object_put(object);
    return NULL;
}

static gboolean is_our_sync(const Agent *agent)
{
    json_object *answer = parse(agent->line), *id;
    gboolean ours = answer && json_object_object_get_ex(answer, "return", &id) &&
                    json_object_is_type(id, json_type_int) &&
                    json_object_get_int64(id) == agent->id;
    json_object_put(answer);
    return ours;
}

static gboolean judge_set_time(const Agent *agent, GError **error)
{
    json_object *answer = parse(agent->line), *value, *text;
    gboolean good = FALSE;
    if (answer && json_object_object_get_ex(answer, "return", NULL)) {
        good = TRUE;
    } else if (answer && json_object_object_get_ex(answer, "error", &value) &&
               json_object_is_type(value, json_type_object)) {
        g_autofree char *quoted = quote(
            json_object_object_get_ex(value, "desc", &text) ? json_object_get_string(text) : NULL);
        g_set_error(error, AGENT_ERROR, AGENT_ERROR_REFUSED, "the guest agent refused: %s", quoted);
    } else {
        g_autofree char *quoted = quote(agent->line->str);
        g_set_error(error, AGENT_ERROR, AGENT_ERROR_GARBAGE,
                    "the guest agent's answer makes no sense: %s", quoted);
    }
    json_object_put(answer);
    return good;
}

/* One byte while an answer is wanted: TRUE if the request has ended, with an error or without. */
static gboolean take(Agent *agent, guint8 byte, GError **error)
{
    GString *line = agent->line;
    if (byte == DELIMITER) {
        agent->collecting = TRUE;
        g_string_truncate(line, 0);
    } else if (!agent->collecting) {
        return FALSE;
    } else if (byte != '\n') {
        if (line->len < AGENT_ANSWER_MAX) {
            g_string_append_c(line, (char)byte);
            return FALSE;
        }
        agent->collecting = FALSE;
        if (agent->state == SYNCING)
            return FALSE; /* another one may come */
        g_set_error(error, AGENT_ERROR, AGENT_ERROR_GARBAGE,
                    "the guest agent's answer is longer than %u bytes", AGENT_ANSWER_MAX);
        return TRUE;
    } else if (agent->state == SETTING) {
        judge_set_time(agent, error);
        return TRUE;
    } else {
        agent->collecting = FALSE;
        return is_our_sync(agent);
    }
    return FALSE;
}

/* ---- The socket ---- */

static void stop_reading(Agent *agent)
{
    if (agent->in_source)
        g_source_remove(agent->in_source);
    if (agent->rest_timer)
        g_source_remove(agent->rest_timer);
    agent->in_source = agent->rest_timer = 0;
}

/* The request is over. The client may be freed when this returns. */
static void finish(Agent *agent, const GError *error)
{
    if (agent->timer)
        g_source_remove(agent->timer);
    agent->timer = 0;
    agent->state = IDLE;
    agent->handler.done(error, agent->user_data);
}

static void on_closed(Agent *agent)
{
    g_autoptr(GError) error = g_error_new(AGENT_ERROR, AGENT_ERROR_CLOSED,
                                          "QEMU has closed the socket of the agent's port");
    agent->closed = TRUE;
    stop_reading(agent);
    if (agent->state != IDLE)
        finish(agent, error);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data);

static void start_reading(Agent *agent)
{
    agent->burst = BURST_BYTES;
    agent->in_source = g_unix_fd_add_full(G_PRIORITY_DEFAULT_IDLE, agent->fd, G_IO_IN | G_IO_HUP,
                                          on_readable, agent, NULL);
}

static gboolean on_rested(gpointer user_data)
{
    Agent *agent = user_data;
    agent->rest_timer = 0;
    start_reading(agent);
    return G_SOURCE_REMOVE;
}

/* From within on_readable(), whose source goes by itself. */
static void rest(Agent *agent)
{
    agent->in_source = 0;
    agent->rest_timer = g_timeout_add(REST_MS, on_rested, agent);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    Agent *agent = user_data;
    guint8 bytes[4096];
    (void)condition;
    if (agent->handler.runs && !agent->handler.runs(agent->user_data)) {
        rest(agent);
        return G_SOURCE_REMOVE;
    }
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (got <= 0) {
        on_closed(agent);
        return G_SOURCE_REMOVE;
    }
    /* First: the client may be freed below. */
    gboolean rests = (gsize)got >= agent->burst;
    if (rests)
        rest(agent);
    else
        agent->burst -= (gsize)got;
    if (agent->state == IDLE) {
        agent->handler.late(agent->user_data);
        return rests ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
    }
    for (gssize i = 0; i < got; i++) {
        g_autoptr(GError) error = NULL;
        if (take(agent, bytes[i], &error)) {
            /* What is left was not asked for. */
            finish(agent, error);
            break;
        }
    }
    return rests ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

/* QEMU reads for an agent that is there only. */
gboolean agent_is_unread(const Agent *agent)
{
    int bytes = 0;
    return ioctl(agent->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static void set_unread_error(GError **error)
{
    g_set_error(error, AGENT_ERROR, AGENT_ERROR_NO_ANSWER,
                "nobody in the guest reads the agent's port (does qemu-guest-agent run there?)");
}

static gboolean on_timeout(gpointer user_data)
{
    Agent *agent = user_data;
    g_autoptr(GError) error = NULL;
    agent->timer = 0;
    if (agent_is_unread(agent))
        set_unread_error(&error);
    else
        g_set_error(&error, AGENT_ERROR, AGENT_ERROR_NO_ANSWER,
                    "the guest agent did not answer within %.1f s", agent->timeout_ms / 1000.0);
    finish(agent, error);
    return G_SOURCE_REMOVE;
}

/* Takes `arguments`. */
static gboolean request(Agent *agent, AgentState state, const char *command, json_object *arguments,
                        guint timeout_ms, GError **error)
{
    g_assert(agent->state == IDLE);
    json_object *object = json_object_new_object();
    colo_json_add_string(object, "execute", command);
    json_object_object_add(object, "arguments", arguments);
    g_autoptr(GString) text = g_string_new(NULL);
    if (state == SYNCING)
        g_string_append_c(text, (char)DELIMITER);
    g_string_append(text, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
    g_string_append_c(text, '\n');
    json_object_put(object);

    if (!agent->closed && agent_is_unread(agent)) {
        set_unread_error(error);
        return FALSE;
    }
    /* A request that goes in part only is forgotten by the agent at the next sync. */
    if (agent->closed ||
        send(agent->fd, text->str, text->len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)text->len) {
        g_set_error(error, AGENT_ERROR, AGENT_ERROR_CLOSED,
                    "the socket of the agent's port is closed or broken");
        return FALSE;
    }
    agent->state = state;
    agent->collecting = state == SETTING;
    g_string_truncate(agent->line, 0);
    agent->timeout_ms = timeout_ms;
    agent->timer = patience_add(timeout_ms, on_timeout, agent);
    return TRUE;
}

/* ---- For the owner ---- */

Agent *agent_new(int fd, const AgentHandler *handler, gpointer user_data)
{
    Agent *agent = g_new0(Agent, 1);
    *agent =
        (Agent){.fd = fd, .handler = *handler, .user_data = user_data, .line = g_string_new(NULL)};
    start_reading(agent);
    return agent;
}

void agent_free(Agent *agent)
{
    if (!agent)
        return;
    stop_reading(agent);
    if (agent->timer)
        g_source_remove(agent->timer);
    g_string_free(agent->line, TRUE);
    g_free(agent);
}

gboolean agent_sync(Agent *agent, guint timeout_ms, GError **error)
{
    json_object *arguments = json_object_new_object();
    agent->id = g_random_int();
    colo_json_add_int(arguments, "id", agent->id);
    return request(agent, SYNCING, "guest-sync-delimited", arguments, timeout_ms, error);
}

gboolean agent_set_time(Agent *agent, gint64 time_ns, guint timeout_ms, GError **error)
{
    json_object *arguments = json_object_new_object();
    colo_json_add_int(arguments, "time", time_ns);
    return request(agent, SETTING, "guest-set-time", arguments, timeout_ms, error);
}

gboolean agent_is_busy(const Agent *agent)
{
    return agent->state != IDLE;
}
