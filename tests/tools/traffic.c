/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the test guest that counts what it loses: traffic [OPTION...] ADDRESS
 *
 * Normally: one TCP connection, never opened again, carries numbered records to the guest's echo
 * server and back (echo-client.h), beside it go fresh HTTP requests (http-client.h). Runs for
 * --seconds or until SIGTERM or SIGINT. A first line of JSON says that it is connected; SIGUSR1
 * prints a line of JSON with the figures up to now and the longest gap since the last such line.
 * --live tells people on standard error. Ends with one JSON object on standard output, and with 0
 * if nothing was lost, 1 if something was, 2 if it could not begin. A record that is on its way at
 * the end is waited for (--drain-s).
 *
 * With --get BYTES or --put BYTES: one bulk transfer of the guest's pattern, checked; JSON too.
 *
 * All times are the monotonic clock's.
 */
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/json.h"
#include "tests/support/bulk-client.h"
#include "tests/support/echo-client.h"
#include "tests/support/http-client.h"

static struct {
    int seconds, record_bytes, window, http_threads, http_port, drain_s, tell_gap_ms;
    double every_ms, http_every_ms;
    char *http_path;
    gint64 get_bytes, put_bytes;
    gboolean live, no_echo, nagle;
} options = {.record_bytes = 64, .window = 1, .http_port = 80, .drain_s = 15, .tell_gap_ms = 40};

static const GOptionEntry entries[] = {
    {"seconds",       0, 0, G_OPTION_ARG_INT,    &options.seconds,       "run this long [until SIGTERM]",      "N"    },
    {"every-ms",      0, 0, G_OPTION_ARG_DOUBLE, &options.every_ms,
     "send a record each N ms [as soon as the window allows]",                                                 "N"    },
    {"window",        0, 0, G_OPTION_ARG_INT,    &options.window,        "records on their way at most [1]",   "N"    },
    {"record-bytes",  0, 0, G_OPTION_ARG_INT,    &options.record_bytes,  "size of a record [64]",              "N"    },
    {"nagle",         0, 0, G_OPTION_ARG_NONE,   &options.nagle,         "neither side sets TCP_NODELAY",      NULL   },
    {"no-echo",       0, 0, G_OPTION_ARG_NONE,   &options.no_echo,       "HTTP requests only",                 NULL   },
    {"http",          0, 0, G_OPTION_ARG_INT,    &options.http_threads,  "HTTP requests at a time [0]",        "N"    },
    {"http-every-ms", 0, 0, G_OPTION_ARG_DOUBLE, &options.http_every_ms,
     "pause after each HTTP request [0]",                                                                      "N"    },
    {"http-path",     0, 0, G_OPTION_ARG_STRING, &options.http_path,     "what to get [/]",                    "PATH" },
    {"http-port",     0, 0, G_OPTION_ARG_INT,    &options.http_port,     "where to get it [80]",               "PORT" },
    {"drain-s",       0, 0, G_OPTION_ARG_INT,    &options.drain_s,
     "wait this long for the last answers [15]",                                                               "N"    },
    {"live",          0, 0, G_OPTION_ARG_NONE,   &options.live,          "tell on standard error each second", NULL   },
    {"tell-gap-ms",   0, 0, G_OPTION_ARG_INT,    &options.tell_gap_ms,
     "with --live, tell gaps longer than this at once [40]",                                                   "N"    },
    {"get",           0, 0, G_OPTION_ARG_INT64,  &options.get_bytes,     "bulk transfer from the guest",       "BYTES"},
    {"put",           0, 0, G_OPTION_ARG_INT64,  &options.put_bytes,     "bulk transfer to the guest",         "BYTES"},
    {NULL,            0, 0, G_OPTION_ARG_NONE,   NULL,                   NULL,                                 NULL   },
};

/* Three decimals will do. */
static void add_double(json_object *object, const char *name, double value)
{
    char text[64];

    g_ascii_formatd(text, sizeof(text), "%.3f", value);
    json_object_object_add(object, name, json_object_new_double_s(value, text));
}

static void print_and_free(json_object *object)
{
    puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
    fflush(stdout);
    json_object_put(object);
}

static int compare_u32(const void *a, const void *b)
{
    guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;

    return (x > y) - (x < y);
}

/* Adds PREFIX_p50_us and so on of guint32 samples, which get sorted; nulls if there are none. */
static void add_percentiles(json_object *object, const char *prefix, GArray *samples)
{
    static const struct {
        const char *name;
        double share;
    } wanted[] = {
        {"p50_us", 0.5 },
        {"p99_us", 0.99},
        {"max_us", 1.0 }
    };

    qsort(samples->data, samples->len, sizeof(guint32), compare_u32);
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_autofree char *name = g_strdup_printf("%s_%s", prefix, wanted[i].name);

        if (samples->len == 0)
            json_object_object_add(object, name, NULL);
        else
            colo_json_add_int(object, name,
                              g_array_index(samples, guint32,
                                            (guint)((double)(samples->len - 1) * wanted[i].share)));
    }
}

/* ---- Echo and HTTP ---- */

typedef struct {
    const char *address;
    EchoClient *echo; /* NULL: HTTP only */
    HttpClient *http; /* NULL: none */
    int signals;
    ColoTime start, next_tell;
    guint64 told_answered, told_http_ok;
    gint64 told_gap_us;
} Run;

/* The echo figures, zeros if there is no echo. */
static EchoFigures echo_figures(const Run *run, ColoTime now)
{
    return run->echo != NULL ? *echo_client_figures(run->echo, now) : (EchoFigures){0};
}

static void http_peek(const Run *run, HttpFigures *ret_figures)
{
    memset(ret_figures, 0, sizeof(*ret_figures));
    if (run->http != NULL)
        http_client_peek(run->http, ret_figures);
}

static void add_echo(json_object *object, const EchoFigures *figures)
{
    colo_json_add_int(object, "records", figures->answered);
    colo_json_add_int(object, "lost", figures->lost);
    colo_json_add_int(object, "duplicated", figures->duplicated);
    colo_json_add_int(object, "corrupted", figures->corrupted);
    colo_json_add_string(object, "connection", figures->broken == NULL ? "kept" : "lost");
    colo_json_add_string(object, "broken_by", figures->broken);
}

static void add_http(json_object *object, const HttpFigures *figures)
{
    colo_json_add_int(object, "http_ok", figures->ok);
    colo_json_add_int(object, "http_failed", figures->failed);
    colo_json_add_int(object, "http_slow", figures->slow);
    add_double(object, "http_max_ms", (double)figures->max_us / 1000);
}

/* SIGUSR1: the figures up to now, and a new mark. */
static void print_mark(const Run *run, ColoTime now)
{
    json_object *line = json_object_new_object();
    EchoFigures echo = echo_figures(run, now);
    HttpFigures http;

    http_peek(run, &http);
    add_double(line, "mark_s", (double)colo_time_diff_us(now, run->start) / 1e6);
    add_echo(line, &echo);
    add_double(line, "gap_ms", (double)echo.gap_of_mark_us / 1000);
    add_http(line, &http);
    print_and_free(line);
    if (run->echo != NULL)
        echo_client_mark(run->echo);
}

static void tell(Run *run, ColoTime now)
{
    EchoFigures echo = echo_figures(run, now);
    HttpFigures http;
    double seconds = (double)colo_time_diff_us(now, run->start) / 1e6;

    if (echo.gap_us > run->told_gap_us && echo.gap_us >= options.tell_gap_ms * COLO_US_PER_MS &&
        echo_client_outstanding(run->echo) == 0) {
        fprintf(stderr, "%8.3f s  an answer after a gap of %.1f ms\n", seconds,
                (double)echo.gap_us / 1000);
        run->told_gap_us = echo.gap_us;
    }
    if (colo_time_diff_us(now, run->next_tell) < 0)
        return;
    http_peek(run, &http);
    fprintf(stderr,
            "%8.3f s  records %" G_GUINT64_FORMAT " (+%" G_GUINT64_FORMAT
            ")  http ok %" G_GUINT64_FORMAT " (+%" G_GUINT64_FORMAT ") failed %" G_GUINT64_FORMAT
            "%s%s\n",
            seconds, echo.answered, echo.answered - run->told_answered, http.ok,
            http.ok - run->told_http_ok, http.failed,
            echo.broken != NULL ? "  CONNECTION LOST: " : "",
            echo.broken != NULL ? echo.broken : "");
    run->told_answered = echo.answered;
    run->told_http_ok = http.ok;
    run->next_tell = colo_time_add_us(run->next_tell, G_USEC_PER_SEC);
}

/* How long poll() may wait: until something is due, or `most_us`. */
static struct timespec poll_time(const Run *run, ColoTime now, gboolean sending, gint64 most_us)
{
    gint64 due_us = sending && run->echo != NULL ? echo_client_due_us(run->echo, now) : -1;
    gint64 wait_us = MAX(0, due_us >= 0 ? MIN(due_us, most_us) : most_us);

    return (struct timespec){.tv_sec = wait_us / G_USEC_PER_SEC,
                             .tv_nsec = wait_us % G_USEC_PER_SEC * 1000};
}

/* One turn; FALSE when asked to end. */
static gboolean turn(Run *run, gboolean sending, gint64 most_us)
{
    struct pollfd fds[2] = {
        {.fd = run->signals, .events = POLLIN},
        {.fd = -1                 }
    };
    ColoTime now = colo_time_now();
    struct timespec wait = poll_time(run, now, sending, most_us);
    struct signalfd_siginfo info;

    if (run->echo != NULL) {
        fds[1].fd = echo_client_fd(run->echo);
        fds[1].events = echo_client_events(run->echo);
    }
    ppoll(fds, 2, &wait, NULL);
    now = colo_time_now();
    if (run->echo != NULL)
        echo_client_step(run->echo, now, sending);
    if (options.live)
        tell(run, now);
    if (fds[0].revents != 0 && read(run->signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGUSR1)
            return FALSE;
        print_mark(run, now);
    }
    return TRUE;
}

/* Sends for --seconds or until a signal, then waits for what is on its way. */
static void run_traffic(Run *run)
{
    const gint64 tick_us = 100 * COLO_US_PER_MS;
    ColoTime end = colo_time_add_us(run->start, options.seconds * G_USEC_PER_SEC), drain_end;

    while (turn(run, TRUE, tick_us)) {
        if (options.seconds > 0 && colo_time_diff_us(colo_time_now(), end) >= 0)
            break;
    }
    if (run->echo == NULL)
        return;
    drain_end = colo_time_add_us(colo_time_now(), options.drain_s * G_USEC_PER_SEC);
    while (echo_client_outstanding(run->echo) > 0 && echo_client_fd(run->echo) >= 0 &&
           colo_time_diff_us(drain_end, colo_time_now()) > 0)
        turn(run, FALSE, tick_us);
    echo_client_finish(run->echo, colo_time_now());
}

/* Prints the last object; TRUE if nothing was lost. */
static gboolean print_result(Run *run, ColoTime end)
{
    json_object *result = json_object_new_object();
    double seconds = (double)colo_time_diff_us(end, run->start) / 1e6;
    EchoFigures echo = echo_figures(run, end);
    HttpFigures http = {0};
    gboolean good;

    add_double(result, "seconds", seconds);
    if (run->echo != NULL) {
        add_echo(result, &echo);
        add_double(result, "gap_ms", (double)echo.gap_us / 1000);
        add_double(result, "rate", (double)echo.answered / seconds);
        add_percentiles(result, "echo", echo.latencies_us);
    }
    good = echo.lost == 0 && echo.duplicated == 0 && echo.corrupted == 0 && echo.broken == NULL;
    if (run->http != NULL) {
        http_client_stop(g_steal_pointer(&run->http), &http);
        add_http(result, &http);
        colo_json_add_string(result, "http_error", http.last_error);
        add_double(result, "http_rate", (double)http.ok / seconds);
        add_percentiles(result, "http", http.latencies_us);
        good = good && http.failed == 0;
        http_figures_clear(&http);
    }
    print_and_free(result);
    return good;
}

static int traffic_main(const char *address)
{
    EchoOptions echo = {.record_bytes = (guint)options.record_bytes,
                        .window = (guint)options.window,
                        .interval_us = (gint64)(options.every_ms * COLO_US_PER_MS),
                        .nagle = options.nagle};
    HttpOptions http = {.threads = (guint)options.http_threads,
                        .interval_us = (gint64)(options.http_every_ms * COLO_US_PER_MS),
                        .slow_us = G_USEC_PER_SEC,
                        .path = options.http_path != NULL ? options.http_path : (char *)"/"};
    Run run = {.address = address};
    g_autoptr(GError) error = NULL;
    gboolean good;
    sigset_t set;

    /* Before any thread is made, so that none of them takes a signal. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    run.signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (!options.no_echo) {
        run.echo = echo_client_new(address, options.nagle ? 8 : 7, &echo, &error);
        if (run.echo == NULL) {
            fprintf(stderr, "traffic: %s\n", error->message);
            return 2;
        }
    }
    /* From here on SIGUSR1 and SIGTERM do what they should. */
    puts("{\"connected\":true}");
    fflush(stdout);
    run.start = run.next_tell = colo_time_now();
    if (http.threads > 0)
        run.http = http_client_new(address, (guint16)options.http_port, &http);
    run_traffic(&run);
    good = print_result(&run, colo_time_now());
    echo_client_free(run.echo);
    close(run.signals);
    return good ? 0 : 1;
}

/* ---- Bulk ---- */

static int bulk_main(const char *address)
{
    guint64 bytes = (guint64)(options.get_bytes > 0 ? options.get_bytes : options.put_bytes);
    g_autoptr(GError) error = NULL;
    json_object *result = json_object_new_object();
    ColoTime start;
    double seconds;
    COLO_AUTO_FD fd = echo_connect(address, 7002, &error);

    start = colo_time_now();
    if (fd >= 0 && colo_fd_set_nonblocking(fd, FALSE, &error))
        bulk_transfer(fd, options.get_bytes > 0, bytes, NULL, NULL, &error);
    seconds = (double)colo_time_diff_us(colo_time_now(), start) / 1e6;
    colo_json_add_int(result, "bytes", bytes);
    add_double(result, "seconds", seconds);
    add_double(result, "mbit_per_s", error == NULL ? (double)bytes * 8 / 1e6 / seconds : 0);
    colo_json_add_string(result, "error", error != NULL ? error->message : NULL);
    print_and_free(result);
    return error == NULL ? 0 : 1;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("ADDRESS");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "traffic: %s\n", error->message);
        return 2;
    }
    if (argc != 2 || options.window < 1 || options.record_bytes % 8 != 0 ||
        options.record_bytes < (int)ECHO_RECORD_MIN_BYTES ||
        options.record_bytes > (int)ECHO_RECORD_MAX_BYTES) {
        fprintf(stderr, "traffic: one ADDRESS, a window of 1 or more, records of 32 to 65536 "
                        "bytes in eights\n");
        return 2;
    }
    return options.get_bytes > 0 || options.put_bytes > 0 ? bulk_main(argv[1])
                                                          : traffic_main(argv[1]);
}
