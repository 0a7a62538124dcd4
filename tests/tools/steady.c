/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the test guest whose traffic never waits for an answer: steady [OPTION...] ADDRESS
 *
 * Numbered datagrams go to the guest's UDP echo at a fixed rate, and beside them records on one TCP
 * connection (echo-client.h), one at a time. Each datagram has to come back, once; a network that loses
 * none is assumed. Of TCP what counts is what the kernel has sent again. That may have been needless,
 * because an answer took long: then the guest says that it had the bytes (a duplicate SACK, RFC 2883).
 * What was sent again and was not needless has been lost.
 *
 * Runs for --seconds or until SIGTERM, then waits for what is on its way (--drain-s). A first line of
 * JSON says that it has begun; SIGUSR1 prints the figures up to now, and so does its end. Ends with 0
 * if nothing was lost or doubled, 1 if something was, 2 if it could not begin.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <linux/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/fd.h"
#include "common/json.h"
#include "tests/support/echo-client.h"

#define UDP_PORT 7
#define BYTES    64u
/* Datagrams that are sent at once after this process was kept from running. */
#define CATCH_UP 64u
#define RCVBUF   (8 * 1024 * 1024)

static int seconds, per_second = 1000, drain_s = 15;

static const GOptionEntry entries[] = {
    {"seconds",    0, 0, G_OPTION_ARG_INT,  &seconds,    "run this long [until SIGTERM]",            "N" },
    {"per-second", 0, 0, G_OPTION_ARG_INT,  &per_second, "datagrams [1000]",                         "N" },
    {"drain-s",    0, 0, G_OPTION_ARG_INT,  &drain_s,    "wait this long for the last answers [15]", "N" },
    {NULL,         0, 0, G_OPTION_ARG_NONE, NULL,        NULL,                                       NULL},
};

typedef struct {
    int udp, signals;
    EchoClient *echo;
    GByteArray *answers; /* of each datagram: how many have come, 255 at most */
    guint64 answered, duplicated, strange;
    json_object *again; /* numbers of the first duplicates */
    ColoTime due;
} Run;

/* ---- Datagrams ---- */

static void send_one(Run *run, ColoTime now)
{
    guint8 bytes[BYTES] = {0};
    guint64 number = run->answers->len;
    g_byte_array_append(run->answers, (const guint8 *)"", 1);
    colo_put_be64(bytes, number);
    colo_put_be64(bytes + BYTES - 8, ~number);
    /* The guest's answers must not depend on where it is: a refusal is a loss like others. */
    (void)send(run->udp, bytes, BYTES, MSG_NOSIGNAL);
    run->due = colo_time_add_us(run->due, G_USEC_PER_SEC / per_second);
    if (colo_time_diff_us(now, run->due) > CATCH_UP * G_USEC_PER_SEC / per_second)
        run->due = now;
}

static void receive(Run *run)
{
    guint8 bytes[BYTES + 1];
    ssize_t got;
    while ((got = recv(run->udp, bytes, sizeof(bytes), MSG_DONTWAIT)) >= 0 ||
           errno == ECONNREFUSED) {
        if (got < 0)
            continue;
        guint64 number = got == BYTES ? colo_get_be64(bytes) : G_MAXUINT64;
        if (number >= run->answers->len || colo_get_be64(bytes + BYTES - 8) != ~number) {
            run->strange++;
        } else if (run->answers->data[number]) {
            run->duplicated++;
            if (json_object_array_length(run->again) < 16)
                json_object_array_add(run->again, json_object_new_int64((gint64)number));
        } else {
            run->answers->data[number] = 1;
            run->answered++;
        }
    }
}

static int open_udp(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT)};
    int bytes = RCVBUF;
    COLO_AUTO_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    return colo_fd_steal(&fd);
}

/* ---- Figures ---- */

static struct tcp_info look_at_tcp(const Run *run)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (echo_client_fd(run->echo) >= 0)
        getsockopt(echo_client_fd(run->echo), IPPROTO_TCP, TCP_INFO, &info, &len);
    return info;
}

/* The first runs of those that have not come back, for whoever looks for the reason. */
static json_object *missing(const Run *run)
{
    json_object *list = json_object_new_array();
    guint end;
    for (guint i = 0; i < run->answers->len && json_object_array_length(list) < 16; i = end) {
        gboolean there = run->answers->data[i];
        for (end = i + 1; end < run->answers->len && run->answers->data[end] == there; end++)
            ;
        g_autofree char *text = g_strdup_printf("%u-%u", i, end - 1);
        if (!there)
            json_object_array_add(list, json_object_new_string(text));
    }
    return list;
}

/* TRUE if all is well so far. */
static gboolean print_figures(const Run *run, gboolean is_end)
{
    json_object *line = json_object_new_object();
    struct tcp_info tcp = look_at_tcp(run);
    const EchoFigures *echo = echo_client_figures(run->echo, colo_time_now());
    guint64 away = run->answers->len - run->answered;
    guint32 again = tcp.tcpi_total_retrans, needless = tcp.tcpi_dsack_dups;
    colo_json_add_int(line, "datagrams", run->answers->len);
    colo_json_add_int(line, is_end ? "lost" : "away", away);
    colo_json_add_int(line, "duplicated", run->duplicated + echo->duplicated);
    colo_json_add_int(line, "strange", run->strange + echo->corrupted);
    colo_json_add_int(line, "records", echo->answered);
    colo_json_add_string(line, "connection", echo->broken ? "lost" : "kept");
    colo_json_add_int(line, "sent_again", again);
    colo_json_add_int(line, "needless", needless);
    if (is_end) {
        json_object_object_add(line, "missing", missing(run));
        json_object_object_add(line, "again", json_object_get(run->again));
    }
    puts(json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
    fflush(stdout);
    json_object_put(line);
    return !echo->broken && run->duplicated + echo->duplicated + run->strange == 0 &&
           (!is_end || away == 0) && again <= needless;
}

/* ---- Running ---- */

/* FALSE when asked to end. */
static gboolean turn(Run *run, gboolean sending)
{
    ColoTime now = colo_time_now();
    gint64 wait_us = sending ? CLAMP(colo_time_diff_us(run->due, now), 0, 10000) : 10000;
    struct pollfd fds[] = {
        {.fd = run->signals,              .events = POLLIN                       },
        {.fd = run->udp,                  .events = POLLIN                       },
        {.fd = echo_client_fd(run->echo), .events = echo_client_events(run->echo)},
    };
    struct timespec wait = {.tv_nsec = wait_us * 1000};
    struct signalfd_siginfo info;
    ppoll(fds, G_N_ELEMENTS(fds), &wait, NULL);
    receive(run);
    now = colo_time_now();
    while (sending && colo_time_diff_us(now, run->due) >= 0)
        send_one(run, now);
    echo_client_step(run->echo, now, sending);
    if (!fds[0].revents || read(run->signals, &info, sizeof(info)) != sizeof(info))
        return TRUE;
    if (info.ssi_signo == SIGUSR1)
        print_figures(run, FALSE);
    return info.ssi_signo == SIGUSR1;
}

/* That something was sent again for nothing is told after the answer to it. */
static gboolean is_all_back(const Run *run)
{
    struct tcp_info tcp = look_at_tcp(run);
    return run->answered == run->answers->len && echo_client_outstanding(run->echo) == 0 &&
           tcp.tcpi_total_retrans <= tcp.tcpi_dsack_dups;
}

static gboolean run_traffic(Run *run)
{
    ColoTime end = colo_time_add_us(colo_time_now(), seconds * G_USEC_PER_SEC);
    run->due = colo_time_now();
    while (turn(run, TRUE) && (!seconds || colo_time_diff_us(end, colo_time_now()) > 0))
        ;
    end = colo_time_add_us(colo_time_now(), drain_s * G_USEC_PER_SEC);
    while (!is_all_back(run) && colo_time_diff_us(end, colo_time_now()) > 0)
        turn(run, FALSE);
    return print_figures(run, TRUE);
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("ADDRESS");
    g_autoptr(GError) error = NULL;
    EchoOptions tcp = {
        .record_bytes = ECHO_RECORD_MIN_BYTES, .window = 1, .interval_us = 2 * COLO_US_PER_MS};
    sigset_t set;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 2 || per_second < 1) {
        fprintf(stderr, "steady: %s\n",
                error ? error->message : "one ADDRESS, 1 per second at least");
        return 2;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    Run run = {.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .udp = open_udp(argv[1])};
    run.echo = run.udp >= 0 ? echo_client_new(argv[1], 7, &tcp, &error) : NULL;
    if (!run.echo) {
        fprintf(stderr, "steady: %s\n", error ? error->message : "no UDP socket to that address");
        return 2;
    }
    run.answers = g_byte_array_new();
    run.again = json_object_new_array();
    puts("{\"connected\":true}");
    fflush(stdout);
    gboolean good = run_traffic(&run);
    echo_client_free(run.echo);
    g_byte_array_unref(run.answers);
    json_object_put(run.again);
    close(run.udp);
    close(run.signals);
    return good ? 0 : 1;
}
