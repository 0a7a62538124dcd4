/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client of the guest agent, whose guest sends any bytes, in two pieces. Each request ends once
 * at the most, and nothing is called back after that. A byte 1 stands for the sync's number, which
 * the guest knows.
 */
#include "vm/agent.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES_MAX 16384 /* less than the client reads before it rests */

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

typedef struct {
    Agent *agent;
    gboolean busy, synced;
    guint set;
} Rig;

static void on_done(const GError *error, gpointer user_data)
{
    Rig *rig = user_data;
    g_assert_true(rig->busy);
    g_assert_false(agent_is_busy(rig->agent));
    g_assert_true(!error || error->message);
    rig->busy = FALSE;
    if (rig->synced || error)
        return;
    rig->synced = TRUE;
    rig->busy = agent_set_time(rig->agent, 1, G_MAXINT, NULL);
    rig->set += rig->busy;
}

static void on_late(gpointer user_data)
{
    const Rig *rig = user_data;
    g_assert_false(rig->busy);
}

/* The request's number as the guest reads it. */
static gint64 read_number(int fd)
{
    char text[256];
    ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    g_assert_cmpint(got, >, 0);
    text[got] = '\0';
    const char *id = strstr(text, "\"id\":");
    g_assert_nonnull(id);
    return g_ascii_strtoll(id + 5, NULL, 10);
}

static void send_part(int fd, const GString *text, gsize from, gsize until)
{
    if (from < until && send(fd, text->str + from, until - from, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const AgentHandler handler = {.done = on_done, .late = on_late};
    int pair[2];
    if (size < 1 || size > BYTES_MAX ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    Rig rig = {.agent = agent_new(pair[0], &handler, &rig)};
    rig.busy = agent_sync(rig.agent, G_MAXINT, NULL);
    gint64 number = read_number(pair[1]);
    g_autoptr(GString) text = g_string_new(NULL);
    for (gsize i = 1; i < size && text->len < BYTES_MAX; i++)
        if (data[i] == 1)
            g_string_append_printf(text, "%" G_GINT64_FORMAT, number);
        else
            g_string_append_c(text, (char)data[i]);
    gsize middle = text->len * data[0] / 256;
    send_part(pair[1], text, 0, middle);
    send_part(pair[1], text, middle, text->len);
    close(pair[1]);
    while (rig.busy)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(rig.set, <=, 1);
    agent_free(rig.agent);
    close(pair[0]);
    return 0;
}
