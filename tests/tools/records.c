/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client of the test guest's recorder (tests/guest/recorder.h), and its judge.
 *
 *   records write ADDRESS      commits record 1, 2, ... over one connection, each as soon as the
 * one before is acknowledged, whose number it prints; until SIGTERM, and the answer that is due
 * then. Ends with 1 if the guest says that it failed, or the connection is lost. records check DIR
 * NUMBER   looks at what the guest has written (a copy of its file system): records 1 to NUMBER
 * have to be there, whole and in order, and at most one more. Ends with 1 if not, saying what is
 * wrong.
 */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/guest/record.h"
#include "tests/support/echo-client.h"

#define PORT 7004

static volatile sig_atomic_t ending;

static void on_term(int number)
{
    (void)number;
    ending = 1;
}

static int write_records(const char *address)
{
    struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    g_autoptr(GError) error = NULL;
    COLO_AUTO_FD fd = echo_connect(address, PORT, &error);
    if (fd < 0 || !colo_fd_set_nonblocking(fd, FALSE, &error)) {
        fprintf(stderr, "records: %s\n", error->message);
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (guint64 number = 1; !ending; number++) {
        char line[160], answer[160], expected[160];
        gsize len = 0;
        g_snprintf(line, sizeof(line), "commit %" G_GUINT64_FORMAT "\n", number);
        g_snprintf(expected, sizeof(expected), "ok %" G_GUINT64_FORMAT, number);
        if (!colo_fd_write_all(fd, line, strlen(line), &error)) {
            fprintf(stderr, "records: %s\n", error->message);
            return 1;
        }
        while (len < sizeof(answer) - 1 && recv(fd, answer + len, 1, 0) == 1)
            if (answer[len++] == '\n')
                break;
        answer[len > 0 ? len - 1 : 0] = '\0';
        if (strcmp(answer, expected) != 0) {
            fprintf(stderr, "records: '%s' where '%s' belongs\n", answer, expected);
            return 1;
        }
        printf("%" G_GUINT64_FORMAT "\n", number);
    }
    return 0;
}

static int wrong(const char *format, ...) G_GNUC_PRINTF(1, 2);
static int wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    return 1;
}

static int check_file(const char *dir, guint64 number, guint64 *ret_found)
{
    static guint64 contents[RECORD_FILE_MAX / 8];
    g_autofree char *path = g_strdup_printf("%s/file-%u", dir, (unsigned)(number % RECORD_FILES));
    g_autofree char *data = NULL;
    gsize len;
    if (!g_file_get_contents(path, &data, &len, NULL))
        return wrong("%s is missing", path);
    /* That of the record, or of the one after the last that was acknowledged. */
    for (guint64 candidate = number; candidate <= number + RECORD_FILES; candidate += RECORD_FILES)
        if (len == record_file(candidate, contents) && memcmp(data, contents, len) == 0) {
            *ret_found = candidate;
            return 0;
        }
    return wrong("%s is not what record %" G_GUINT64_FORMAT " wrote", path, number);
}

static int check(const char *dir, guint64 acknowledged)
{
    g_autofree char *path = g_build_filename(dir, "log", NULL);
    g_autofree char *log = NULL;
    gsize len;
    if (!g_file_get_contents(path, &log, &len, NULL))
        return wrong("%s is missing", path);
    guint64 count = len / RECORD_LINE_BYTES;
    if (len % RECORD_LINE_BYTES || count < acknowledged || count > acknowledged + 1)
        return wrong("%zu bytes of log where %" G_GUINT64_FORMAT " records were acknowledged", len,
                     acknowledged);
    for (guint64 number = 1; number <= count; number++) {
        char line[RECORD_LINE_BYTES];
        record_line(number, line);
        if (memcmp(log + (number - 1) * RECORD_LINE_BYTES, line, sizeof(line)) != 0)
            return wrong("record %" G_GUINT64_FORMAT " is damaged in the log", number);
    }
    for (guint64 back = 0; back < MIN(RECORD_FILES, acknowledged); back++) {
        guint64 number = acknowledged - back, found = 0;
        if (check_file(dir, number, &found))
            return 1;
        if (found != number && found != acknowledged + 1)
            return wrong("record %" G_GUINT64_FORMAT " was never asked for", found);
    }
    printf("%" G_GUINT64_FORMAT " records\n", count);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "write"))
        return write_records(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "check"))
        return check(argv[2], g_ascii_strtoull(argv[3], NULL, 10));
    fprintf(stderr, "usage: records write ADDRESS | records check DIR NUMBER\n");
    return 2;
}
