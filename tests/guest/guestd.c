/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's only service program, process 1 after init. It gives a client on the network
 * something to lose, and notices by itself when the guest's memory was not carried over exactly.
 *
 *   TCP 7, 8  echo; UDP 7 too (echo.h)
 *   TCP 13    each line is answered with the nanoseconds since the guest has started: something
 *             that two copies of the guest never say alike
 *   TCP 7001  control, a line in, a line out: status, rate PAGES_PER_SECOND, verify,
 *             dial ADDRESS PORT BYTES (an outgoing connection to an echo server: "ok BYTES",
 *             "failed ..." or, if the server ended it, "closed BYTES-ECHOED"), disk ORDER
 *             (diskio.h), forget (what is cached of disks), umount (recorder.h), clock (nanoseconds
 *             since 1970), run COMMAND (by the shell: its first line, or "done"), poweroff, crash
 *   TCP 7004  records, durable before they are acknowledged (recorder.h)
 *   TCP 7005  SQLite's shell on the database /srv/database, if the root file system has one; the
 *             first error ends the connection
 *   TCP 7006  HTTP: the same page for each request, without the time of day of a web server's answers
 *   /www/counter, for the web server: what has been echoed and dirtied, rewritten when it changes
 *   TCP 7002  bulk: "get BYTES\n" is answered with that many bytes of the pattern (pattern.h);
 *             "put BYTES\n" takes as many and answers "ok BYTES\n" or "bad OFFSET\n"
 *
 * The dirtier (dirtier.h) writes to memory at a settable rate. The ticker (ticker.h) prints the time, if
 * TICK_MS is not 0. Arguments: ARENA_MIB PAGES_PER_SECOND TICK_MS. Statically linked, no
 * configuration, no log but corruption on the console. Not for real networks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/dirtier.h"
#include "tests/guest/diskio.h"
#include "tests/guest/echo.h"
#include "tests/guest/net.h"
#include "tests/guest/pattern.h"
#include "tests/guest/recorder.h"
#include "tests/guest/ticker.h"

#define TIME_PORT     13
#define CONTROL_PORT  7001
#define BULK_PORT     7002
#define RECORDS_PORT  7004
#define DATABASE_PORT 7005
#define PAGE_PORT     7006
#define BUFFER_BYTES  (64 * 1024)

/* ---- Bulk ---- */

static void bulk_get(int fd, uint64_t bytes)
{
    for (uint64_t offset = 0; offset < bytes;) {
        size_t length;
        const char *data = pattern_at(offset, &length);

        if (length > bytes - offset)
            length = (size_t)(bytes - offset);
        if (!net_send_all(fd, data, length))
            return;
        offset += length;
    }
}

static void bulk_put(int fd, uint64_t bytes)
{
    char *buffer = malloc(BUFFER_BYTES);
    char answer[64];
    uint64_t offset = 0, bad = UINT64_MAX;

    while (buffer != NULL && offset < bytes) {
        size_t want = bytes - offset < BUFFER_BYTES ? (size_t)(bytes - offset) : BUFFER_BYTES;
        ssize_t n = recv(fd, buffer, want, 0);

        if (n <= 0)
            break;
        if (bad == UINT64_MAX)
            bad = pattern_first_difference(buffer, (size_t)n, offset);
        offset += (uint64_t)n;
    }
    free(buffer);
    if (bad != UINT64_MAX)
        snprintf(answer, sizeof(answer), "bad %llu\n", (unsigned long long)bad);
    else
        snprintf(answer, sizeof(answer), "ok %llu\n", (unsigned long long)offset);
    net_send_all(fd, answer, strlen(answer));
}

static void serve_bulk(int fd)
{
    char line[NET_LINE_BYTES];
    unsigned long long bytes;

    while (net_read_line(fd, line)) {
        if (sscanf(line, "get %llu", &bytes) == 1)
            bulk_get(fd, bytes);
        else if (sscanf(line, "put %llu", &bytes) == 1)
            bulk_put(fd, bytes);
        else
            return;
    }
}

/* ---- Time ---- */

static void serve_time(int fd)
{
    char line[NET_LINE_BYTES];
    struct timespec now;

    while (net_read_line(fd, line)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(line, sizeof(line), "%llu\n",
                 (unsigned long long)now.tv_sec * 1000000000u + (unsigned long long)now.tv_nsec);
        if (!net_send_all(fd, line, strlen(line)))
            return;
    }
}

/* ---- Control ---- */

/* A connection to a numeric address of either family; -1 if there is none. */
static int connect_to(const char *address, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    const void *to = is_v4 ? (void *)&v4 : &v6;
    int fd;

    if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
        return -1;
    fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, to, is_v4 ? sizeof(v4) : sizeof(v6)) < 0) {
        close(fd);
        return -1;
    }
    net_set_nodelay(fd);
    return fd;
}

/* Opens a connection outward, has `bytes` of the pattern echoed, and says how that went. */
static void control_dial(const char *address, uint16_t port, uint64_t bytes, char *answer,
                         size_t answer_bytes)
{
    char buffer[4096];
    uint64_t done = 0;
    int fd = connect_to(address, port);

    if (fd < 0) {
        snprintf(answer, answer_bytes, "failed cannot connect: %s", strerror(errno));
        return;
    }
    while (done < bytes) {
        size_t length;
        const char *data = pattern_at(done, &length);
        ssize_t echoed = -1;

        if (length > sizeof(buffer))
            length = sizeof(buffer);
        if (length > bytes - done)
            length = (size_t)(bytes - done);
        if (net_send_all(fd, data, length))
            echoed = recv(fd, buffer, length, MSG_WAITALL);
        if (echoed < 0 || pattern_first_difference(buffer, (size_t)echoed, done) != UINT64_MAX) {
            snprintf(answer, answer_bytes, "failed at %llu: %s", (unsigned long long)done,
                     echoed < 0 ? strerror(errno) : "wrong bytes");
            goto out;
        }
        done += (uint64_t)echoed;
        if (echoed < (ssize_t)length) {
            snprintf(answer, answer_bytes, "closed %llu", (unsigned long long)done);
            goto out;
        }
    }
    snprintf(answer, answer_bytes, "ok %llu", (unsigned long long)done);
out:
    close(fd);
}

static void control_status(char *answer, size_t answer_bytes)
{
    DirtierStatus status;
    EchoStatus echo;

    dirtier_status(&status);
    echo_status(&echo);
    snprintf(answer, answer_bytes,
             "rate=%llu arena=%p arena_pages=%llu dirtied=%llu corrupt=%llu echoed_bytes=%llu "
             "echo_connections=%llu",
             (unsigned long long)status.pages_per_second, status.arena,
             (unsigned long long)status.arena_pages, (unsigned long long)status.dirtied,
             (unsigned long long)status.corrupt, (unsigned long long)echo.bytes,
             (unsigned long long)echo.connections);
}

/* A page that changes, for the web server; replaced whole. */
static void write_counter(void)
{
    static char last[NET_LINE_BYTES];
    char text[NET_LINE_BYTES];
    FILE *file;

    control_status(text, sizeof(text));
    if (strcmp(text, last) == 0)
        return;
    strcpy(last, text);
    file = fopen("/www/counter.new", "w");
    if (file == NULL)
        return;
    fprintf(file, "%s\n", text);
    fclose(file);
    rename("/www/counter.new", "/www/counter");
}

/* Writes to a file of the kernel's; NULL or why not. */
static const char *tell_kernel(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    bool told = file != NULL && fputs(text, file) >= 0;

    if (file != NULL)
        told = fclose(file) == 0 && told;
    return told ? NULL : strerror(errno);
}

/* What is read from now on comes from the disks. */
static const char *control_forget(void)
{
    sync();
    return tell_kernel("/proc/sys/vm/drop_caches", "3");
}

static void control_verdict(const char *failed, char *answer, size_t answer_bytes)
{
    snprintf(answer, answer_bytes, "%s", failed == NULL ? "ok" : failed);
}

/* Nanoseconds since 1970, as the guest has it. */
static void control_clock(char *answer, size_t answer_bytes)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(answer, answer_bytes, "%lld", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
}

/* The first line of what the command says, when nobody can say more; "done" if it says nothing. */
static void control_run(const char *command, char *answer, int answer_bytes)
{
    int ends[2];
    FILE *output;
    char rest[NET_LINE_BYTES];

    if (pipe2(ends, O_CLOEXEC) < 0)
        net_die("pipe");
    if (fork() == 0) {
        signal(SIGCHLD, SIG_DFL); /* it waits for its children */
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(1);
    }
    close(ends[1]);
    output = fdopen(ends[0], "r");
    if (output == NULL)
        net_die("fdopen");
    if (fgets(answer, answer_bytes, output) == NULL)
        snprintf(answer, (size_t)answer_bytes, "done");
    answer[strcspn(answer, "\n")] = '\0';
    while (fgets(rest, sizeof(rest), output) != NULL)
        ;
    fclose(output);
}

static void serve_control(int fd)
{
    char line[NET_LINE_BYTES], answer[NET_LINE_BYTES], address[64];
    unsigned long long number;
    unsigned port;

    while (net_read_line(fd, line)) {
        if (strcmp(line, "status") == 0) {
            control_status(answer, sizeof(answer));
        } else if (sscanf(line, "rate %llu", &number) == 1) {
            dirtier_set_rate(number);
            snprintf(answer, sizeof(answer), "ok rate=%llu", number);
        } else if (strcmp(line, "verify") == 0) {
            uint64_t corrupt = dirtier_verify();
            snprintf(answer, sizeof(answer), "%s corrupt=%llu", corrupt == 0 ? "ok" : "CORRUPT",
                     (unsigned long long)corrupt);
        } else if (sscanf(line, "dial %63s %u %llu", address, &port, &number) == 3) {
            control_dial(address, (uint16_t)port, number, answer, sizeof(answer));
        } else if (strncmp(line, "disk ", 5) == 0) {
            diskio_run(line + 5, answer, sizeof(answer));
        } else if (strcmp(line, "forget") == 0) {
            control_verdict(control_forget(), answer, sizeof(answer));
        } else if (strcmp(line, "umount") == 0) {
            control_verdict(recorder_unmount(), answer, sizeof(answer));
        } else if (strcmp(line, "clock") == 0) {
            control_clock(answer, sizeof(answer));
        } else if (strncmp(line, "run ", 4) == 0) {
            control_run(line + 4, answer, sizeof(answer) - 1);
        } else if (strcmp(line, "poweroff") == 0) {
            reboot(RB_POWER_OFF);
        } else if (strcmp(line, "crash") == 0) {
            tell_kernel("/proc/sysrq-trigger", "c");
        } else {
            snprintf(
                answer, sizeof(answer),
                "unknown; status, rate N, verify, dial ADDRESS PORT BYTES, disk ORDER, forget, "
                "umount, clock, run COMMAND, poweroff, crash");
        }
        strcat(answer, "\n");
        if (!net_send_all(fd, answer, strlen(answer)))
            return;
    }
}

/* ---- Database ---- */

static void serve_database(int fd)
{
    if (fork() != 0)
        return;
    for (int i = 0; i <= 2; i++)
        dup2(fd, i);
    execl("/usr/bin/sqlite3", "sqlite3", "-batch", "-bail", "/srv/database", NULL);
    _exit(1);
}

/* ---- A page ---- */

static void serve_page(int fd)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\n"
                                 "Content-Length: 25\r\n"
                                 "Connection: close\r\n"
                                 "\r\n"
                                 "colo-guest: a small page\n";
    char line[NET_LINE_BYTES];

    do {
        if (!net_read_line(fd, line))
            return;
    } while (strcmp(line, "\r") != 0);
    net_send_all(fd, answer, strlen(answer));
}

/* ---- Servers with a thread for each connection ---- */

typedef struct {
    int fd;
    void (*serve)(int fd);
} Session;

static void *session_thread(void *data)
{
    Session *session = data;

    session->serve(session->fd);
    close(session->fd);
    free(session);
    return NULL;
}

/* Accepts a connection, which gets a thread of its own. */
static void accept_session(int listen_fd, void (*serve)(int fd))
{
    Session *session;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    session = malloc(sizeof(*session));
    if (session == NULL)
        net_die("malloc");
    net_set_nodelay(fd);
    session->fd = fd;
    session->serve = serve;
    net_start_thread(session_thread, session);
}

int main(int argc, char **argv)
{
    uint64_t arena_mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 32;
    uint64_t pages_per_second = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    unsigned tick_ms = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    static const struct {
        uint16_t port;
        void (*serve)(int fd);
    } servers[] = {
        {CONTROL_PORT,  serve_control },
        {BULK_PORT,     serve_bulk    },
        {TIME_PORT,     serve_time    },
        {RECORDS_PORT,  recorder_serve},
        {DATABASE_PORT, serve_database},
        {PAGE_PORT,     serve_page    },
    };
    enum { SERVERS = sizeof(servers) / sizeof(servers[0]) };
    struct pollfd listeners[SERVERS];

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    pattern_init();
    if (!dirtier_init(arena_mib * 256))
        net_die("dirtier: no memory");
    dirtier_set_rate(pages_per_second);
    for (int i = 0; i < SERVERS; i++)
        listeners[i] = (struct pollfd){net_listen(SOCK_STREAM, servers[i].port), POLLIN, 0};
    echo_start();
    net_start_thread(dirtier_thread, NULL);
    write_counter();
    printf("colo-guest: ready\n");
    fflush(stdout);
    if (tick_ms > 0)
        net_start_thread(ticker_thread, &tick_ms);
    for (;;) {
        int ready = poll(listeners, SERVERS, 1000);

        if (ready == 0)
            write_counter();
        if (ready <= 0)
            continue;
        for (int i = 0; i < SERVERS; i++)
            if (listeners[i].revents != 0)
                accept_session(listeners[i].fd, servers[i].serve);
    }
}
