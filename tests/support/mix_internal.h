/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kinds of traffic use of a mix. All of it from the lane's own threads. */
#ifndef COLO_TESTS_SUPPORT_MIX_INTERNAL_H
#define COLO_TESTS_SUPPORT_MIX_INTERNAL_H

#include "common/clock.h"
#include "tests/support/mix.h"

typedef struct MixLane MixLane;

typedef struct {
    const char *name;
    void (*run)(
        MixLane *lane); /* until mix_is_stopping(), or the first failure it can't go on from */
    gboolean ip6;
    gboolean datagrams;
    gboolean variant; /* echo: with Nagle's algorithm; bulk: to the guest; dial: long; ICMP */
} MixKind;

struct MixLane {
    const MixKind *kind;
    const MixOptions *options;
    const char *guest, *self; /* the addresses of the kind's family */
    Mix *mix;
    GThread *thread;
    GMutex lock; /* of all below */
    MixFigures figures;
    gboolean waiting; /* something is to come since `last`, or goes on since then */
    ColoTime last;
};

void mix_run_echo(MixLane *lane);
void mix_run_http(MixLane *lane);
void mix_run_time(MixLane *lane);
void mix_run_bulk(MixLane *lane);
void mix_run_dial(MixLane *lane);
void mix_run_datagrams(MixLane *lane);

gboolean mix_is_stopping(const MixLane *lane);

/* Waits; at most until mix_stop(). */
void mix_pause(MixLane *lane, gint64 us);

/* Whether a moment is around an event, so that a datagram may be lost. */
gboolean mix_is_excused(const MixLane *lane, ColoTime sent);

/* Microseconds since the last event before that moment; -1: there was none. */
gint64 mix_since_event_us(const MixLane *lane, ColoTime moment);

/* The wait for something begins, unless it has; something has come, and more may; nothing is due.
 */
void mix_begin(MixLane *lane);
void mix_progress(MixLane *lane);
void mix_idle(MixLane *lane);

/* One whole thing of `bytes` is done, and nothing is due. */
void mix_done(MixLane *lane, guint64 bytes);

/* Counts as failed, or as corrupted if it is TRAFFIC_ERROR_WRONG. Keeps the first message. */
void mix_fail(MixLane *lane, const GError *error);

/* Reads a line into `line`, without its newline. FALSE with G_FILE_ERROR if it doesn't come. */
gboolean mix_read_line(int fd, char *line, gsize line_bytes, GError **error);

/* A connected TCP socket, blocking, with the patience as its timeouts. -1 on error. */
int mix_connect(const MixLane *lane, guint16 port, GError **error);

#endif
