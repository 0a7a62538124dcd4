/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One screen, drawn again every second and at every event. Invariant: whatever ends the loop, the
 * terminal gets back its modes, its cursor and what was on it: all ways out pass leave().
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "colo/cli/cli.h"

#define REDRAW_MS 1000

static volatile sig_atomic_t asked_to_end;

static void on_end_signal(int number)
{
    (void)number;
    asked_to_end = 1;
}

static void on_resize(int number)
{
    (void)number; /* it only ends the wait, so that the page is drawn for the new size */
}

typedef struct {
    gboolean screen, keys; /* stdout, stdin is a terminal */
    struct termios modes;
    sigset_t signals; /* the mask to wait with */
    char *last;       /* the page that was printed, if it is no screen */
} Watch;

static void set_signal(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(number, &action, NULL);
}

/* Signals arrive in ppoll() only. */
static void enter(Watch *watch)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (gsize i = 0; i < G_N_ELEMENTS(ends); i++) {
        set_signal(ends[i], on_end_signal);
        sigaddset(&blocked, ends[i]);
    }
    set_signal(SIGWINCH, on_resize);
    set_signal(SIGTSTP, SIG_IGN);
    sigaddset(&blocked, SIGWINCH);
    sigprocmask(SIG_BLOCK, &blocked, &watch->signals);
    for (gsize i = 0; i < G_N_ELEMENTS(ends); i++)
        sigdelset(&watch->signals, ends[i]);
    sigdelset(&watch->signals, SIGWINCH);
    watch->screen = isatty(STDOUT_FILENO);
    watch->keys = watch->screen && tcgetattr(STDIN_FILENO, &watch->modes) == 0;
    if (watch->keys) {
        struct termios modes = watch->modes;
        modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &modes);
    }
    if (watch->screen)
        fputs("\033[?1049h\033[?25l", stdout);
}

static void leave(Watch *watch)
{
    if (watch->screen)
        fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (watch->keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &watch->modes);
    g_free(watch->last);
}

/*
 * A line without what is beyond the screen's width, whatever its colours: a terminal that wraps
 * would scroll. Free with g_free().
 */
static char *cut(const char *line, guint columns)
{
    GString *out = g_string_new(NULL);
    guint used = 0;
    for (const char *c = line; *c; c = g_utf8_next_char(c)) {
        gsize len = (gsize)(g_utf8_next_char(c) - c);
        if (*c == '\033') {
            len = strcspn(c, "m") + 1; /* of cli_status_page(), which uses no others */
            g_string_append_len(out, c, (gssize)len);
            c += len - 1;
            continue;
        }
        used += g_unichar_iswide(g_utf8_get_char(c)) ? 2 : 1;
        if (used <= columns)
            g_string_append_len(out, c, (gssize)len);
    }
    return g_string_free(out, FALSE);
}

/* As many lines as fit, each cleared to its end; the last one tells how many don't. */
static void draw_screen(const char *page)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    g_auto(GStrv) lines = g_strsplit(page, "\n", -1);
    guint n = g_strv_length(lines);
    if (n > 0 && !*lines[n - 1])
        n--; /* behind the last line's end */
    fputs("\033[H", stdout);
    for (guint row = 0; row < size.ws_row && row < n; row++) {
        g_autofree char *more = row + 1 == size.ws_row && n > size.ws_row
                                    ? g_strdup_printf("(%u lines more: colo status)", n - row)
                                    : NULL;
        g_autofree char *line = cut(more ? more : lines[row], size.ws_col);
        printf("%s%s\033[K", row > 0 ? "\r\n" : "", line);
    }
    fputs("\033[J", stdout);
}

static void draw(Watch *watch, const char *page)
{
    if (watch->screen) {
        draw_screen(page);
    } else if (g_strcmp0(watch->last, page)) {
        printf("%s%s", watch->last ? "\n" : "", page);
        g_free(watch->last);
        watch->last = g_strdup(page);
    }
    fflush(stdout);
}

/* Waits for a second, an event, a key or a signal. FALSE if that means the end. */
static gboolean wait_for_change(const Watch *watch, const CliConnection *connection)
{
    struct pollfd fds[] = {
        {.fd = connection ? cli_connection_fd(connection) : -1, .events = POLLIN},
        {.fd = watch->keys ? STDIN_FILENO : -1,                 .events = POLLIN},
    };
    const struct timespec wait = {.tv_sec = REDRAW_MS / 1000};
    if (asked_to_end ||
        (ppoll(fds, G_N_ELEMENTS(fds), &wait, &watch->signals) < 0 && errno != EINTR))
        return FALSE;
    char key = 0;
    if (fds[1].revents && read(STDIN_FILENO, &key, 1) != 1)
        return FALSE;
    return !asked_to_end && key != 'q' && !ferror(stdout);
}

/* The page to be shown now; a lost connection is tried again. Takes and gives *connection. */
static char *next_page(const Watch *watch, const char *path, CliConnection **connection)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = FALSE;
    json_object *status = NULL;
    if (!*connection)
        *connection = cli_connect(path, &error);
    if (*connection)
        status = cli_execute(*connection, "status", NULL, &ok, &error);
    if (!ok) {
        g_clear_pointer(connection, cli_connection_free);
        return g_strdup_printf("%s\n", error->message);
    }
    for (json_object *event; (event = cli_next_event(*connection, 0, NULL));)
        json_object_put(event); /* they did their work by waking us */
    char *page = cli_status_page(status, watch->screen);
    json_object_put(status);
    return page;
}

gboolean cli_watch(const char *path, GError **error)
{
    Watch watch = {0};
    g_autoptr(CliConnection) connection = cli_connect(path, error);
    if (!connection)
        return FALSE;
    enter(&watch);
    do {
        g_autofree char *page = next_page(&watch, path, &connection);
        draw(&watch, page);
    } while (wait_for_change(&watch, connection));
    leave(&watch);
    return TRUE;
}
