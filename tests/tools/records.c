/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client of what the test guest writes to its disks, and its judge.
 *
 * records write ADDRESS
 *     Commits record 1, 2, ... with the recorder (tests/guest/recorder.h) over one connection, each
 *     as soon as the one before is acknowledged, whose number it prints; until SIGTERM, and the
 *     answer that is due then. Ends with 1 if the guest says that it failed, or the connection is
 *     lost.
 * records sql ADDRESS JOURNAL
 *     The same with transactions of the database, whose journal_mode JOURNAL becomes. The answer to
 *     each carries what an earlier one has written. In the end the guest checks its database.
 * records check DIR NUMBER
 *     Looks at what the recorder has written (a copy of its folder): records 1 to NUMBER have to be
 *     there, whole and in order, and at most one more. Ends with 1 if not, saying what is wrong.
 * records check-sql NUMBER
 *     The same for the database: "NUMBER|HEX" lines on stdin, its rows as they were inserted.
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

#define RECORDER_PORT 7004
#define DATABASE_PORT 7005

static volatile sig_atomic_t ending;

static void on_term(int number)
{
    (void)number;
    ending = 1;
}

/* Sends a line and reads one, which has to be as expected; FALSE after saying what is wrong. */
static gboolean exchange(int fd, const char *request, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) answer = g_string_new(NULL);
    char buffer[4096];
    ssize_t n = 0;
    if (!colo_fd_write_all(fd, request, strlen(request), &error)) {
        fprintf(stderr, "records: %s\n", error->message);
        return FALSE;
    }
    while ((answer->len == 0 || answer->str[answer->len - 1] != '\n') &&
           (n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
        g_string_append_len(answer, buffer, n);
    if (n > 0)
        g_string_truncate(answer, answer->len - 1);
    if (n > 0 && !strcmp(answer->str, expected))
        return TRUE;
    fprintf(stderr, "records: '%.200s' where '%.200s' belongs%s%s\n", answer->str, expected,
            n < 0 ? ": " : "", n < 0 ? g_strerror(errno) : "");
    return FALSE;
}

static gboolean commit_record(int fd, guint64 number)
{
    g_autofree char *request = g_strdup_printf("commit %" G_GUINT64_FORMAT "\n", number);
    g_autofree char *expected = g_strdup_printf("ok %" G_GUINT64_FORMAT, number);
    return exchange(fd, request, expected);
}

/* What transaction `number` writes: what that record's file begins with, in hex. */
static char *row_content(guint64 number)
{
    static guint64 contents[RECORD_FILE_MAX / 8];
    gsize len = record_file(number, contents) / 4;
    GString *hex = g_string_sized_new(2 * len);
    for (gsize i = 0; i < len; i++)
        g_string_append_printf(hex, "%02X", ((const guint8 *)contents)[i]);
    return g_string_free(hex, FALSE);
}

/* No column is unique, so that a transaction that is done twice shows: in the count. */
static gboolean commit_transaction(int fd, guint64 number)
{
    guint64 earlier = 1 + record_mix(number) % number;
    g_autofree char *content = row_content(number);
    g_autofree char *earlier_content = row_content(earlier);
    g_autofree char *request =
        g_strdup_printf("BEGIN; INSERT INTO entry VALUES(%" G_GUINT64_FORMAT ", x'%s');"
                        "UPDATE total SET entries = entries + 1, bytes = bytes + %zu; COMMIT;"
                        "SELECT 'ok ' || entries || ' ' || (SELECT hex(content) FROM entry"
                        " WHERE number = %" G_GUINT64_FORMAT ") FROM total;\n",
                        number, content, strlen(content) / 2, earlier);
    g_autofree char *expected =
        g_strdup_printf("ok %" G_GUINT64_FORMAT " %s", number, earlier_content);
    return exchange(fd, request, expected);
}

/* EXTRA: with FULL, a rollback journal whose removal isn't durable yet undoes what was
 * acknowledged. */
static gboolean create_database(int fd, const char *journal)
{
    g_autofree char *request = g_strdup_printf("PRAGMA journal_mode = %s;\n", journal);
    return exchange(fd, request, journal) &&
           exchange(fd,
                    "PRAGMA synchronous = EXTRA; CREATE TABLE entry(number INTEGER, content BLOB);"
                    "CREATE INDEX entry_number ON entry(number);"
                    "CREATE TABLE total(entries INTEGER, bytes INTEGER);"
                    "INSERT INTO total VALUES(0, 0); SELECT 'created';\n",
                    "created");
}

static gboolean check_integrity(int fd)
{
    return exchange(fd, "PRAGMA integrity_check;\n", "ok") &&
           exchange(fd,
                    "SELECT entries = count(number) AND bytes = sum(length(content))"
                    " FROM total, entry;\n",
                    "1");
}

/* To the recorder, or to the database if there is a journal mode. */
static int write_all(const char *address, const char *journal)
{
    struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    g_autoptr(GError) error = NULL;
    COLO_AUTO_FD fd = echo_connect(address, journal ? DATABASE_PORT : RECORDER_PORT, &error);
    if (fd < 0 || !colo_fd_set_nonblocking(fd, FALSE, &error)) {
        fprintf(stderr, "records: %s\n", error->message);
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (journal && !create_database(fd, journal))
        return 1;
    for (guint64 number = 1; !ending; number++) {
        if (!(journal ? commit_transaction(fd, number) : commit_record(fd, number)))
            return 1;
        printf("%" G_GUINT64_FORMAT "\n", number);
    }
    return !journal || check_integrity(fd) ? 0 : 1;
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

static int check_records(const char *dir, guint64 acknowledged)
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

static int check_rows(guint64 acknowledged)
{
    g_autofree char *line = NULL;
    gsize size = 0;
    guint64 count = 0;
    while (getline(&line, &size, stdin) > 0) {
        g_autofree char *content = row_content(++count);
        g_autofree char *expected = g_strdup_printf("%" G_GUINT64_FORMAT "|%s\n", count, content);
        if (strcmp(line, expected) != 0)
            return wrong("'%.100s...' where row %" G_GUINT64_FORMAT " belongs", line, count);
    }
    if (count < acknowledged || count > acknowledged + 1)
        return wrong("%" G_GUINT64_FORMAT " rows where %" G_GUINT64_FORMAT " were acknowledged",
                     count, acknowledged);
    printf("%" G_GUINT64_FORMAT " rows\n", count);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "write"))
        return write_all(argv[2], NULL);
    if (argc == 4 && !strcmp(argv[1], "sql"))
        return write_all(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "check"))
        return check_records(argv[2], g_ascii_strtoull(argv[3], NULL, 10));
    if (argc == 3 && !strcmp(argv[1], "check-sql"))
        return check_rows(g_ascii_strtoull(argv[2], NULL, 10));
    fprintf(stderr, "usage: records write ADDRESS | records sql ADDRESS wal|delete |\n"
                    "       records check DIR NUMBER | records check-sql NUMBER\n");
    return 2;
}
