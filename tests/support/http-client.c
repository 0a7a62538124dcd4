/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See http-client.h. The figures are the only thing shared; the lock is held for counting only. */
#include "tests/support/http-client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/clock.h"
#include "common/fd.h"
#include "tests/support/echo-client.h"
#include "tests/support/traffic-error.h"

#define TIMEOUT_S      10
#define RESPONSE_BYTES 65536

struct HttpClient {
    char *address;
    guint16 port;
    HttpOptions options;
    GPtrArray *threads;
    GMutex lock;
    GCond stopping;
    gboolean stop;
    HttpFigures figures;
};

/* Whether a whole response says 200 and is as long as it says. */
static gboolean check_response(char *response, gsize length, GError **error)
{
    const char *body = strstr(response, "\r\n\r\n"), *announced;

    if (!g_str_has_prefix(response, "HTTP/1.") || body == NULL ||
        strncmp(response + 8, " 200", 4) != 0) {
        g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG, "answered: %.40s",
                    length > 0 ? response : "nothing");
        return FALSE;
    }
    announced = strcasestr(response, "\r\nContent-Length:");
    if (announced != NULL && announced < body) {
        guint64 bytes = g_ascii_strtoull(announced + 17, NULL, 10);
        gsize got = length - (gsize)(body + 4 - response);
        if (bytes != got) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG,
                        "body of %" G_GUINT64_FORMAT " bytes has %zu", bytes, got);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean http_get(const char *address, guint16 port, const char *path, guint timeout_s,
                  char **ret_body, GError **error)
{
    const struct timeval timeout = {.tv_sec = timeout_s};
    g_autofree char *request = g_strdup_printf("GET %s HTTP/1.0\r\n\r\n", path);
    g_autofree char *response = g_malloc(RESPONSE_BYTES + 1);
    gsize length = 0;
    COLO_AUTO_FD fd = echo_connect(address, port, error);

    if (fd < 0 || !colo_fd_set_nonblocking(fd, FALSE, error))
        return FALSE;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (!colo_fd_write_all(fd, request, strlen(request), error))
        return FALSE;
    while (length < RESPONSE_BYTES) {
        gssize n = recv(fd, response + length, RESPONSE_BYTES - length, 0);
        if (n < 0) {
            int failure = errno;
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failure), "reading: %s",
                        failure == EAGAIN ? "no answer" : g_strerror(failure));
            return FALSE;
        }
        if (n == 0)
            break;
        length += (gsize)n;
    }
    response[length] = '\0';
    if (!check_response(response, length, error))
        return FALSE;
    if (ret_body != NULL)
        *ret_body = g_strdup(strstr(response, "\r\n\r\n") + 4);
    return TRUE;
}

static void count_request(HttpClient *client, gint64 duration_us, const GError *error)
{
    HttpFigures *figures = &client->figures;
    guint32 latency_us = (guint32)MIN(duration_us, G_MAXUINT32);

    figures->max_us = MAX(figures->max_us, duration_us);
    figures->slow += duration_us > client->options.slow_us;
    if (error == NULL) {
        figures->ok++;
        g_array_append_val(figures->latencies_us, latency_us);
    } else {
        figures->failed++;
        g_free(figures->last_error);
        figures->last_error = g_strdup(error->message);
    }
}

static gpointer request_thread(gpointer data)
{
    HttpClient *client = data;

    g_mutex_lock(&client->lock);
    while (!client->stop) {
        g_autoptr(GError) error = NULL;
        ColoTime start = colo_time_now(), end;

        g_mutex_unlock(&client->lock);
        http_get(client->address, client->port, client->options.path, TIMEOUT_S, NULL, &error);
        end = colo_time_now();
        g_mutex_lock(&client->lock);
        count_request(client, colo_time_diff_us(end, start), error);
        if (client->options.interval_us > 0) {
            gint64 next_us = end.us + client->options.interval_us;
            while (!client->stop && g_cond_wait_until(&client->stopping, &client->lock, next_us))
                ;
        }
    }
    g_mutex_unlock(&client->lock);
    return NULL;
}

HttpClient *http_client_new(const char *address, guint16 port, const HttpOptions *options)
{
    HttpClient *client = g_new0(HttpClient, 1);

    client->address = g_strdup(address);
    client->port = port;
    client->options = *options;
    client->options.path = g_strdup(options->path);
    client->figures.latencies_us = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_mutex_init(&client->lock);
    g_cond_init(&client->stopping);
    client->threads = g_ptr_array_new();
    for (guint i = 0; i < options->threads; i++)
        g_ptr_array_add(client->threads, g_thread_new("http", request_thread, client));
    return client;
}

void http_client_peek(HttpClient *client, HttpFigures *ret_figures)
{
    g_mutex_lock(&client->lock);
    *ret_figures = client->figures;
    ret_figures->latencies_us = NULL;
    ret_figures->last_error = NULL;
    g_mutex_unlock(&client->lock);
}

void http_client_stop(HttpClient *client, HttpFigures *ret_figures)
{
    g_mutex_lock(&client->lock);
    client->stop = TRUE;
    g_cond_broadcast(&client->stopping);
    g_mutex_unlock(&client->lock);
    for (guint i = 0; i < client->threads->len; i++)
        g_thread_join(client->threads->pdata[i]);
    *ret_figures = client->figures;
    g_ptr_array_unref(client->threads);
    g_cond_clear(&client->stopping);
    g_mutex_clear(&client->lock);
    g_free(client->options.path);
    g_free(client->address);
    g_free(client);
}

void http_figures_clear(HttpFigures *figures)
{
    g_array_unref(figures->latencies_us);
    g_free(figures->last_error);
}
