/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One TCP connection to an echo server that carries numbered, checksummed records and counts what
 * does not come back as it was sent. It is never opened again. Not thread-safe; nothing blocks but
 * echo_client_new(). The caller polls.
 */
#ifndef COLO_TESTS_SUPPORT_ECHO_CLIENT_H
#define COLO_TESTS_SUPPORT_ECHO_CLIENT_H

#include <glib.h>

#include "common/clock.h"

/* Sequence, time of sending, filler, checksum. */
#define ECHO_RECORD_MIN_BYTES 32u
#define ECHO_RECORD_MAX_BYTES 65536u

typedef struct {
    guint record_bytes; /* a multiple of 8 */
    guint window;       /* records on their way at most */
    gint64 interval_us; /* between two sends at least; 0: as the window allows */
    gboolean nagle;     /* without TCP_NODELAY */
} EchoOptions;

typedef struct {
    guint64 sent, answered;
    guint64 lost;          /* numbers that were passed over, or had not come back in the end */
    guint64 duplicated;    /* numbers that came again */
    guint64 corrupted;     /* records with a wrong checksum */
    gint64 gap_us;         /* longest time between an answer, or the first send, and the next */
    gint64 gap_of_mark_us; /* the same, since the last echo_client_mark() */
    GArray *latencies_us;  /* of guint32, one for each answer */
    const char *broken;    /* why the connection is lost; NULL: it is kept */
} EchoFigures;

typedef struct EchoClient EchoClient;

/* A connected socket to a numeric address with TCP_NODELAY. Waits 10 s at most. -1 on error. */
int echo_connect(const char *address, guint16 port, GError **error);

/* Connects like echo_connect(). */
EchoClient *echo_client_new(const char *address, guint16 port, const EchoOptions *options,
                            GError **error);
void echo_client_free(EchoClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EchoClient, echo_client_free)

/* Reads and, if `sending`, begins as many records as are due. */
void echo_client_step(EchoClient *client, ColoTime now, gboolean sending);

/* For poll(): descriptor, events, and microseconds until the next step is due (-1: none). */
int echo_client_fd(const EchoClient *client);
short echo_client_events(const EchoClient *client);
gint64 echo_client_due_us(const EchoClient *client, ColoTime now);

/* Records that are on their way. */
guint64 echo_client_outstanding(const EchoClient *client);

/* The figures up to now, borrowed; a gap that lasts is in them. */
const EchoFigures *echo_client_figures(EchoClient *client, ColoTime now);

/* Begins a new gap_of_mark_us. */
void echo_client_mark(EchoClient *client);

/* The end: what has not come back is lost. */
void echo_client_finish(EchoClient *client, ColoTime now);

#endif
