/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connections that a client of the guest opens: echo, HTTP, bulk. See mix.h. */
#include <poll.h>
#include <string.h>

#include "common/fd.h"
#include "tests/support/bulk-client.h"
#include "tests/support/echo-client.h"
#include "tests/support/http-client.h"
#include "tests/support/mix_internal.h"
#include "tests/support/traffic-error.h"

#define ECHO_PORT       7
#define ECHO_NAGLE_PORT 8
#define HTTP_PORT       80
#define TIME_PORT       13
#define ECHO_WINDOW     4

/* How long a lane sleeps at most before it looks whether to stop. */
#define TURN_US (50 * COLO_US_PER_MS)

/* ---- Echo ---- */

static void take_echo_figures(MixLane *lane, EchoClient *client)
{
    const EchoFigures *echo = echo_client_figures(client, colo_time_now());
    gboolean progress;

    g_mutex_lock(&lane->lock);
    progress = echo->answered > lane->figures.done;
    lane->figures.done = echo->answered;
    lane->figures.bytes = echo->answered * lane->options->record_bytes;
    lane->figures.lost = echo->lost;
    lane->figures.duplicated = echo->duplicated;
    lane->figures.corrupted = echo->corrupted;
    if (echo->broken != NULL) {
        lane->figures.failed = 1;
        g_strlcpy(lane->figures.error, echo->broken, sizeof(lane->figures.error));
    }
    g_mutex_unlock(&lane->lock);
    if (progress)
        mix_progress(lane);
    if (echo_client_outstanding(client) == 0 || echo->broken != NULL)
        mix_idle(lane);
    else
        mix_begin(lane);
}

static void echo_turn(MixLane *lane, EchoClient *client, gboolean sending)
{
    struct pollfd fd = {.fd = echo_client_fd(client), .events = echo_client_events(client)};
    gint64 due_us = sending ? echo_client_due_us(client, colo_time_now()) : -1;
    struct timespec wait = {.tv_nsec = 1000 * (due_us >= 0 ? MIN(due_us, TURN_US) : TURN_US)};

    ppoll(&fd, 1, &wait, NULL);
    echo_client_step(client, colo_time_now(), sending);
    take_echo_figures(lane, client);
}

void mix_run_echo(MixLane *lane)
{
    EchoOptions options = {.record_bytes = lane->options->record_bytes,
                           .window = ECHO_WINDOW,
                           .interval_us = lane->options->interval_us,
                           .nagle = lane->kind->variant};
    g_autoptr(GError) error = NULL;
    g_autoptr(EchoClient) client =
        echo_client_new(lane->guest, options.nagle ? ECHO_NAGLE_PORT : ECHO_PORT, &options, &error);
    ColoTime end;

    if (client == NULL) {
        mix_fail(lane, error);
        return;
    }
    while (!mix_is_stopping(lane) && echo_client_fd(client) >= 0)
        echo_turn(lane, client, TRUE);
    end = colo_time_add_us(colo_time_now(), lane->options->patience_s * G_USEC_PER_SEC);
    while (echo_client_outstanding(client) > 0 && echo_client_fd(client) >= 0 &&
           colo_time_diff_us(end, colo_time_now()) > 0)
        echo_turn(lane, client, FALSE);
    echo_client_finish(client, colo_time_now());
    take_echo_figures(lane, client);
}

/* ---- HTTP ---- */

/* The page doesn't change: all answers must be the first one. */
void mix_run_http(MixLane *lane)
{
    g_autofree char *page = NULL;

    while (!mix_is_stopping(lane)) {
        g_autoptr(GError) error = NULL;
        g_autofree char *body = NULL;

        mix_begin(lane);
        if (http_get(lane->guest, HTTP_PORT, "/", lane->options->patience_s, &body, &error)) {
            if (page == NULL)
                page = g_strdup(body);
            if (strcmp(page, body) == 0)
                mix_done(lane, strlen(body));
            else
                g_set_error(&error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG, "HTTP: another page");
        }
        if (error != NULL) {
            mix_idle(lane);
            mix_fail(lane, error);
        }
        mix_pause(lane, lane->options->interval_us);
    }
}

/* ---- Time ---- */

/*
 * One question; its answer must be a later time than the last one. Not by g_ascii_string_to_unsigned(): that refuses
 * any number when two threads call it at once for the first time (GLib 2.74).
 */
static gboolean ask_time(int fd, guint64 *last_ns, GError **error)
{
    char line[64], *end;
    guint64 ns;

    if (!colo_fd_write_all(fd, "time\n", 5, error) || !mix_read_line(fd, line, sizeof(line), error))
        return FALSE;
    ns = g_ascii_strtoull(line, &end, 10);
    if (*end != '\0' || ns <= *last_ns) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG,
                    "time: '%s' after %" G_GUINT64_FORMAT, line, *last_ns);
        return FALSE;
    }
    *last_ns = ns;
    return TRUE;
}

void mix_run_time(MixLane *lane)
{
    g_autoptr(GError) error = NULL;
    guint64 last_ns = 0;
    COLO_AUTO_FD fd = mix_connect(lane, TIME_PORT, &error);

    while (error == NULL && !mix_is_stopping(lane)) {
        mix_begin(lane);
        if (ask_time(fd, &last_ns, &error))
            mix_done(lane, 0);
        mix_pause(lane, lane->options->interval_us);
    }
    mix_idle(lane);
    if (error != NULL)
        mix_fail(lane, error);
}

/* ---- Bulk ---- */

typedef struct {
    MixLane *lane;
    ColoTime start;
    guint64 done_bytes;
} Transfer;

/* Lets it not be faster than it should. */
static void bulk_progress(gsize bytes, gpointer user_data)
{
    Transfer *transfer = user_data;
    MixLane *lane = transfer->lane;
    guint64 rate = lane->options->bulk_rate;
    gint64 early_us;

    mix_progress(lane);
    transfer->done_bytes += bytes;
    if (rate == 0)
        return;
    early_us = (gint64)(transfer->done_bytes * G_USEC_PER_SEC / rate) -
               colo_time_diff_us(colo_time_now(), transfer->start);
    if (early_us <= 0)
        return;
    mix_idle(lane);
    mix_pause(lane, early_us);
    mix_begin(lane);
}

static void make_transfer(MixLane *lane, GError **error)
{
    Transfer transfer = {.lane = lane, .start = colo_time_now()};
    COLO_AUTO_FD fd = -1;

    mix_begin(lane);
    fd = mix_connect(lane, BULK_PORT, error);
    if (fd >= 0 && bulk_transfer(fd, !lane->kind->variant, lane->options->bulk_bytes, bulk_progress,
                                 &transfer, error))
        mix_done(lane, lane->options->bulk_bytes);
    else
        mix_idle(lane);
}

void mix_run_bulk(MixLane *lane)
{
    while (!mix_is_stopping(lane)) {
        g_autoptr(GError) error = NULL;

        make_transfer(lane, &error);
        if (error != NULL) {
            mix_fail(lane, error);
            mix_pause(lane, G_USEC_PER_SEC);
        }
    }
}
