/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each test runs the logging in a child whose stderr is a pipe or a terminal, and reads that. */
#include "common/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

typedef void (*Body)(void);

static void child(Body body, int stderr_fd)
{
    dup2(stderr_fd, STDERR_FILENO);
    body();
    _exit(0);
}

/* What `body` writes to stderr, which is `write_fd` there; closes it. */
static char *output_of(Body body, int read_fd, int write_fd)
{
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        child(body, write_fd);
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    close(write_fd);
    /* To the end: 0 on a pipe, EIO on a terminal. A terminal gives what was written in parts, and
     * late. */
    g_autoptr(GString) text = g_string_new(NULL);
    char buf[4096];
    for (ssize_t got; (got = read(read_fd, buf, sizeof(buf))) > 0;)
        g_string_append_len(text, buf, got);
    return g_strdup(text->str);
}

static char *piped(Body body)
{
    int fds[2];
    g_assert_cmpint(pipe(fds), ==, 0);
    char *text = output_of(body, fds[0], fds[1]);
    close(fds[0]);
    return text;
}

static char *on_terminal(Body body)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    g_assert_cmpint(master, >=, 0);
    g_assert_cmpint(grantpt(master), ==, 0);
    g_assert_cmpint(unlockpt(master), ==, 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    g_assert_cmpint(slave, >=, 0);
    char *text = output_of(body, master, slave);
    close(master);
    return text;
}

static void four_levels(void)
{
    log_init("web", LOG_LEVEL_DEBUG);
    log_set_epoch(12);
    log_error("one %d", 1);
    log_warning("two");
    log_info("three");
    log_debug("four");
}

static void test_journald_form(void)
{
    g_autofree char *text = piped(four_levels);
    g_assert_cmpstr(text, ==,
                    "<3>vm=web epoch=12 one 1\n<4>vm=web epoch=12 two\n"
                    "<6>vm=web epoch=12 three\n<7>vm=web epoch=12 four\n");
}

static void test_terminal_form(void)
{
    g_autofree char *text = on_terminal(four_levels);
    g_assert_true(
        g_regex_match_simple("^\\d\\d:\\d\\d:\\d\\d\\.\\d{3} error   vm=web epoch=12 one 1\r\n"
                             "\\d\\d:\\d\\d:\\d\\d\\.\\d{3} warning vm=web epoch=12 two\r\n",
                             text, 0, 0));
    g_assert_null(strstr(text, "<3>"));
}

static void level_changes(void)
{
    log_init("web", LOG_LEVEL_WARNING);
    log_info("hidden");
    log_debug("hidden");
    log_warning("shown");
    log_set_level(LOG_LEVEL_INFO);
    log_info("shown");
    log_debug("hidden");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("hidden");
    log_error("shown");
}

static void test_level_is_live(void)
{
    g_autofree char *text = piped(level_changes);
    g_assert_cmpstr(text, ==,
                    "<4>vm=web epoch=0 shown\n<6>vm=web epoch=0 shown\n"
                    "<3>vm=web epoch=0 shown\n");
}

static void hostile_text(void)
{
    log_init("web", LOG_LEVEL_INFO);
    log_info("%s", "QEMU said:\n<3>vm=web epoch=9 forged\t\033[2Jü\x7f");
}

static void test_message_stays_one_line(void)
{
    g_autofree char *text = piped(hostile_text);
    g_assert_cmpstr(text, ==,
                    "<6>vm=web epoch=0 QEMU said:\\n<3>vm=web epoch=9 forged\\x09\\x1b[2Jü\\x7f\n");
}

static void libraries(void)
{
    log_init("web", LOG_LEVEL_INFO);
    log_init("web", LOG_LEVEL_INFO); /* once more is harmless */
    g_warning("from a library");
    g_message("a note");
    g_debug("hidden");
}

static void test_library_lines_have_the_form(void)
{
    g_autofree char *text = piped(libraries);
    g_assert_cmpstr(text, ==, "<4>vm=web epoch=0 from a library\n<6>vm=web epoch=0 a note\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* The children log warnings on purpose. */
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    g_test_add_func("/log/journald-form", test_journald_form);
    g_test_add_func("/log/terminal-form", test_terminal_form);
    g_test_add_func("/log/level-is-live", test_level_is_live);
    g_test_add_func("/log/one-line", test_message_stays_one_line);
    g_test_add_func("/log/libraries", test_library_lines_have_the_form);
    return g_test_run();
}
