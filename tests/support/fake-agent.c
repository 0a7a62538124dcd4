/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/fake-agent.h"

#include "vm/agent.h"

#include <errno.h>
#include <glib-unix.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/socket.h>

void fake_agent_send(FakeAgent *agent, const char *bytes, gsize len)
{
    ssize_t put = send(agent->fd, bytes, len, MSG_NOSIGNAL);
    g_assert_cmpint(put, ==, (gssize)len);
}

static void send_text(FakeAgent *agent, const char *text)
{
    fake_agent_send(agent, text, strlen(text));
}

static void answer_set_time(FakeAgent *agent)
{
    g_autofree char *endless = g_strnfill(AGENT_ANSWER_MAX + 1, 'x');
    switch (agent->mood) {
    case FAKE_AGENT_NO_ANSWER:
    case FAKE_AGENT_SLOW:
        return;
    case FAKE_AGENT_REFUSES:
        send_text(agent,
                  "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\\nclock\\u001b\"}}\n");
        return;
    case FAKE_AGENT_GARBAGE:
        send_text(agent, "\x1b[2Jlogin:\n");
        return;
    case FAKE_AGENT_ENDLESS:
        send_text(agent, endless);
        return;
    case FAKE_AGENT_WELL:
        send_text(agent, "{\"return\": {}}\n");
    }
}

static void answer(FakeAgent *agent)
{
    json_object *request = json_tokener_parse(agent->line->str), *name, *arguments, *value;
    const char *command =
        json_object_object_get_ex(request, "execute", &name) ? json_object_get_string(name) : "";
    if (!json_object_object_get_ex(request, "arguments", &arguments)) {
        agent->others++;
    } else if (!strcmp(command, "guest-sync-delimited") &&
               json_object_object_get_ex(arguments, "id", &value)) {
        agent->syncs++;
        agent->sync_id = json_object_get_int64(value);
        g_autofree char *text =
            g_strdup_printf("\xff{\"return\": %" G_GINT64_FORMAT "}\n", agent->sync_id);
        if (agent->mood != FAKE_AGENT_NO_ANSWER)
            send_text(agent, text);
    } else if (!strcmp(command, "guest-set-time") &&
               json_object_object_get_ex(arguments, "time", &value)) {
        agent->set_times++;
        agent->time_ns = json_object_get_int64(value);
        answer_set_time(agent);
    } else {
        agent->others++;
    }
    json_object_put(request);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    FakeAgent *agent = user_data;
    char bytes[4096];
    (void)condition;
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return G_SOURCE_CONTINUE;
    if (got <= 0) {
        agent->ended = TRUE;
        agent->source = 0;
        return G_SOURCE_REMOVE;
    }
    for (gssize i = 0; i < got; i++) {
        if ((guint8)bytes[i] == 0xff) {
            g_string_truncate(agent->line, 0);
        } else if (bytes[i] == '\n') {
            answer(agent);
            g_string_truncate(agent->line, 0);
        } else {
            g_string_append_c(agent->line, bytes[i]);
        }
    }
    return G_SOURCE_CONTINUE;
}

FakeAgent *fake_agent_new(int fd)
{
    FakeAgent *agent = g_new0(FakeAgent, 1);
    agent->fd = fd;
    agent->line = g_string_new(NULL);
    agent->source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP, on_readable, agent);
    return agent;
}

void fake_agent_free(FakeAgent *agent)
{
    if (!agent)
        return;
    if (agent->source)
        g_source_remove(agent->source);
    g_string_free(agent->line, TRUE);
    g_free(agent);
}
