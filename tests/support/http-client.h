/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that make fresh HTTP/1.0 requests, each on a connection of its own, and count them. */
#ifndef COLO_TESTS_SUPPORT_HTTP_CLIENT_H
#define COLO_TESTS_SUPPORT_HTTP_CLIENT_H

#include <glib.h>

typedef struct {
    guint threads;
    gint64 interval_us; /* between the end of a request and the next of its thread */
    gint64 slow_us;     /* a request that takes longer is counted as slow, too */
    char *path;         /* "/" */
} HttpOptions;

typedef struct {
    guint64 ok;     /* status 200 and a body as long as announced */
    guint64 failed; /* anything else, one without an answer for 10 s included */
    guint64 slow;
    gint64 max_us;
    GArray *latencies_us; /* of guint32, of those that were ok; owned by the figures */
    char *last_error;     /* NULL: none has failed */
} HttpFigures;

typedef struct HttpClient HttpClient;

/* One request on a connection of its own, and its checked answer; the body, of text, belongs to the
 * caller (NULL: not wanted). TRAFFIC_ERROR_WRONG if the answer is not right,
 * G_FILE_ERROR if there is none, or none for so many seconds. Blocks. */
gboolean http_get(const char *address, guint16 port, const char *path, guint timeout_s,
                  char **ret_body, GError **error);

/* Starts the threads. Copies the options. */
HttpClient *http_client_new(const char *address, guint16 port, const HttpOptions *options);

/* The counters as they are now, without latencies and last_error. From any thread. */
void http_client_peek(HttpClient *client, HttpFigures *ret_figures);

/* Lets requests that have begun end and stops; `ret_figures` is to be cleared by the caller.
 * Blocks. */
void http_client_stop(HttpClient *client, HttpFigures *ret_figures);
void http_figures_clear(HttpFigures *figures);

#endif
