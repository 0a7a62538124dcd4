/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chaos-proxy LISTEN TARGET: a bad network between two colods. Reads commands (those of
 * tests/support/proxy.h, and "status") from stdin, one per line; answers each with "ok" or
 * "error: TEXT" as the last line. Says "listening PORT" first; ends at the end of stdin, so that it
 * doesn't outlive the script that feeds it.
 */
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/proxy.h"

typedef struct {
    Proxy *proxy;
    GMainLoop *loop;
    GString *input;
} Tool;

static void answer(Tool *tool, const char *line)
{
    g_autoptr(GError) error = NULL;
    if (!strcmp(line, "status")) {
        g_autofree char *status = proxy_status(tool->proxy);
        printf("%sok\n", status);
    } else if (proxy_command(tool->proxy, line, &error)) {
        printf("ok\n");
    } else {
        printf("error: %s\n", error->message);
    }
    fflush(stdout);
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer user_data)
{
    Tool *tool = user_data;
    char buffer[4096], *end;
    (void)condition;
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0) {
        g_main_loop_quit(tool->loop);
        return G_SOURCE_REMOVE;
    }
    g_string_append_len(tool->input, buffer, got);
    while ((end = strchr(tool->input->str, '\n'))) {
        g_autofree char *line = g_strndup(tool->input->str, (gsize)(end - tool->input->str));
        g_string_erase(tool->input, 0, end + 1 - tool->input->str);
        answer(tool, line);
    }
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (argc != 3) {
        fprintf(stderr, "Usage: %s LISTEN TARGET\n", argv[0]);
        return 2;
    }
    g_autoptr(Proxy) proxy = proxy_new(argv[1], argv[2], &error);
    if (!proxy) {
        fprintf(stderr, "%s: %s\n", argv[0], error->message);
        return 1;
    }
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GString) input = g_string_new(NULL);
    Tool tool = {proxy, loop, input};
    g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &tool);
    printf("listening %u\n", proxy_port(proxy));
    fflush(stdout);
    g_main_loop_run(loop);
    return 0;
}
