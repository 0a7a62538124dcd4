/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's only service program, process 1 after init. It gives a client on the network
 * something to lose, and notices by itself when the guest's memory was not carried over exactly.
 *
 *   TCP 7     echo, any number of connections; 8 is the same without TCP_NODELAY
 *   UDP 7     echo
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
 *   /www/counter, for the web server: what has been echoed and dirtied, rewritten when it changes
 *   TCP 7002  bulk: "get BYTES\n" is answered with that many bytes of the pattern (pattern.h);
 *             "put BYTES\n" takes as many and answers "ok BYTES\n" or "bad OFFSET\n"
 *
 * The dirtier (dirtier.h) writes to memory at a settable rate. Arguments: ARENA_MIB
 * PAGES_PER_SECOND. Statically linked, no configuration, no log but corruption on the console. Not
 * for real networks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/dirtier.h"
#include "tests/guest/diskio.h"
#include "tests/guest/pattern.h"
#include "tests/guest/recorder.h"

#define ECHO_PORT       7
#define ECHO_NAGLE_PORT 8
#define TIME_PORT       13
#define CONTROL_PORT    7001
#define BULK_PORT       7002
#define RECORDS_PORT    7004
#define DATABASE_PORT   7005
#define BUFFER_BYTES    (64 * 1024)
#define LINE_BYTES      256
/* Datagrams wait here while the guest's kernel leaves its programs no time. */
#define UDP_BUFFER_BYTES (4 * 1024 * 1024)

static atomic_uint_fast64_t echoed_bytes;
static atomic_uint_fast64_t echo_connections;

static void die(const char *what)
{
    fprintf(stderr, "colo-guest: FATAL %s: %s\n", what, strerror(errno));
    exit(1);
}

/* A socket bound to `port` on every address of both families; listening if it is a stream. */
static int open_server(int type, uint16_t port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int one = 1, zero = 0;
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket");
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("bind");
    if ((type & SOCK_STREAM) != 0 && listen(fd, 1024) < 0)
        die("listen");
    return fd;
}

static void set_nodelay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* ---- Echo: one thread, one epoll ---- */

typedef struct {
    int fd;
    bool nodelay;      /* of listening ones: for those that they accept */
    size_t start, end; /* what is still to be sent back: buffer[start..end) */
    char *buffer;      /* BUFFER_BYTES; NULL: it listens */
} EchoConnection;

static void echo_watch(int epoll_fd, int operation, EchoConnection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};

    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        die("epoll_ctl");
}

static void echo_accept(int epoll_fd, const EchoConnection *listener)
{
    EchoConnection *connection;
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    connection = malloc(sizeof(*connection) + BUFFER_BYTES);
    if (connection == NULL) {
        close(fd);
        return;
    }
    if (listener->nodelay)
        set_nodelay(fd);
    *connection = (EchoConnection){.fd = fd, .buffer = (char *)(connection + 1)};
    atomic_fetch_add(&echo_connections, 1);
    echo_watch(epoll_fd, EPOLL_CTL_ADD, connection, EPOLLIN);
}

static void echo_close(EchoConnection *connection)
{
    close(connection->fd);
    free(connection);
    atomic_fetch_sub(&echo_connections, 1);
}

/* Sends what is pending; FALSE if the connection is broken. */
static bool echo_flush(EchoConnection *connection)
{
    while (connection->start < connection->end) {
        ssize_t n = send(connection->fd, connection->buffer + connection->start,
                         connection->end - connection->start, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        connection->start += (size_t)n;
        atomic_fetch_add(&echoed_bytes, (uint_fast64_t)n);
    }
    return true;
}

/* Reads only when everything read before has been sent back, so that a slow reader slows itself. */
static void echo_step(int epoll_fd, EchoConnection *connection)
{
    if (connection->start == connection->end) {
        ssize_t n = recv(connection->fd, connection->buffer, BUFFER_BYTES, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            echo_close(connection);
            return;
        }
        connection->start = 0;
        connection->end = (size_t)n;
        if (!echo_flush(connection)) {
            echo_close(connection);
            return;
        }
        if (connection->start < connection->end)
            echo_watch(epoll_fd, EPOLL_CTL_MOD, connection, EPOLLOUT);
        return;
    }
    if (!echo_flush(connection))
        echo_close(connection);
    else if (connection->start == connection->end)
        echo_watch(epoll_fd, EPOLL_CTL_MOD, connection, EPOLLIN);
}

static void *echo_tcp_thread(void *unused)
{
    static EchoConnection listeners[2] = {{.nodelay = true}, {.nodelay = false}};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[64];

    (void)unused;
    if (epoll_fd < 0)
        die("epoll");
    for (int i = 0; i < 2; i++) {
        listeners[i].fd = open_server(SOCK_STREAM | SOCK_NONBLOCK,
                                      listeners[i].nodelay ? ECHO_PORT : ECHO_NAGLE_PORT);
        echo_watch(epoll_fd, EPOLL_CTL_ADD, &listeners[i], EPOLLIN);
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 64, -1);

        for (int i = 0; i < count; i++) {
            EchoConnection *connection = events[i].data.ptr;

            if (connection->buffer == NULL)
                echo_accept(epoll_fd, connection);
            else
                echo_step(epoll_fd, connection);
        }
    }
    return NULL;
}

static void *echo_udp_thread(void *unused)
{
    static char datagram[BUFFER_BYTES];
    int fd = open_server(SOCK_DGRAM, ECHO_PORT);
    int bytes = UDP_BUFFER_BYTES;

    (void)unused;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_length = sizeof(from);
        ssize_t n =
            recvfrom(fd, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &from_length);
        if (n >= 0)
            sendto(fd, datagram, (size_t)n, 0, (struct sockaddr *)&from, from_length);
    }
    return NULL;
}

/* ---- Bulk ---- */

/* Sends all bytes; FALSE if the connection is broken. */
static bool send_all(int fd, const void *data, size_t length)
{
    const char *at = data;

    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

/* Reads up to a newline, which is dropped; FALSE at the end or when the line is too long. */
static bool read_line(int fd, char line[LINE_BYTES])
{
    for (size_t i = 0; i < LINE_BYTES; i++) {
        if (recv(fd, line + i, 1, 0) != 1)
            return false;
        if (line[i] == '\n') {
            line[i] = '\0';
            return true;
        }
    }
    return false;
}

static void bulk_get(int fd, uint64_t bytes)
{
    for (uint64_t offset = 0; offset < bytes;) {
        size_t length;
        const char *data = pattern_at(offset, &length);

        if (length > bytes - offset)
            length = (size_t)(bytes - offset);
        if (!send_all(fd, data, length))
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
    send_all(fd, answer, strlen(answer));
}

static void serve_bulk(int fd)
{
    char line[LINE_BYTES];
    unsigned long long bytes;

    while (read_line(fd, line)) {
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
    char line[LINE_BYTES];
    struct timespec now;

    while (read_line(fd, line)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(line, sizeof(line), "%llu\n",
                 (unsigned long long)now.tv_sec * 1000000000u + (unsigned long long)now.tv_nsec);
        if (!send_all(fd, line, strlen(line)))
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
    set_nodelay(fd);
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
        if (send_all(fd, data, length))
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

    dirtier_status(&status);
    snprintf(answer, answer_bytes,
             "rate=%llu arena=%p arena_pages=%llu dirtied=%llu corrupt=%llu echoed_bytes=%llu "
             "echo_connections=%llu",
             (unsigned long long)status.pages_per_second, status.arena,
             (unsigned long long)status.arena_pages, (unsigned long long)status.dirtied,
             (unsigned long long)status.corrupt, (unsigned long long)atomic_load(&echoed_bytes),
             (unsigned long long)atomic_load(&echo_connections));
}

/* A page that changes, for the web server; replaced whole. */
static void write_counter(void)
{
    static char last[LINE_BYTES];
    char text[LINE_BYTES];
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
    char rest[LINE_BYTES];

    if (pipe2(ends, O_CLOEXEC) < 0)
        die("pipe");
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
        die("fdopen");
    if (fgets(answer, answer_bytes, output) == NULL)
        snprintf(answer, (size_t)answer_bytes, "done");
    answer[strcspn(answer, "\n")] = '\0';
    while (fgets(rest, sizeof(rest), output) != NULL)
        ;
    fclose(output);
}

static void serve_control(int fd)
{
    char line[LINE_BYTES], answer[LINE_BYTES], address[64];
    unsigned long long number;
    unsigned port;

    while (read_line(fd, line)) {
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
        if (!send_all(fd, answer, strlen(answer)))
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

static void start_thread(void *(*run)(void *), void *data)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    error = pthread_create(&thread, &attributes, run, data);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        errno = error;
        die("pthread_create");
    }
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
        die("malloc");
    set_nodelay(fd);
    session->fd = fd;
    session->serve = serve;
    start_thread(session_thread, session);
}

int main(int argc, char **argv)
{
    uint64_t arena_mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 32;
    uint64_t pages_per_second = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    static const struct {
        uint16_t port;
        void (*serve)(int fd);
    } servers[] = {
        {CONTROL_PORT,  serve_control },
        {BULK_PORT,     serve_bulk    },
        {TIME_PORT,     serve_time    },
        {RECORDS_PORT,  recorder_serve},
        {DATABASE_PORT, serve_database},
    };
    enum { SERVERS = sizeof(servers) / sizeof(servers[0]) };
    struct pollfd listeners[SERVERS];

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    pattern_init();
    if (!dirtier_init(arena_mib * 256))
        die("dirtier: no memory");
    dirtier_set_rate(pages_per_second);
    for (int i = 0; i < SERVERS; i++)
        listeners[i] = (struct pollfd){open_server(SOCK_STREAM, servers[i].port), POLLIN, 0};
    start_thread(echo_tcp_thread, NULL);
    start_thread(echo_udp_thread, NULL);
    start_thread(dirtier_thread, NULL);
    write_counter();
    printf("colo-guest: ready\n");
    fflush(stdout);
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
