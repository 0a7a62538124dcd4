/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See mix.h: the lanes and what they have in common. */
#include "tests/support/mix_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/fd.h"
#include "tests/support/echo-client.h"
#include "tests/support/traffic-error.h"

/* What may be lost before an event: it was on its way, or waited for a checkpoint. */
#define EXCUSED_BEFORE_US G_USEC_PER_SEC

static const MixKind kinds[] = {
    {"echo",        mix_run_echo,      FALSE, FALSE, FALSE},
    {"echo-nagle",  mix_run_echo,      FALSE, FALSE, TRUE },
    {"http",        mix_run_http,      FALSE, FALSE, FALSE},
    {"time",        mix_run_time,      FALSE, FALSE, FALSE},
    {"get",         mix_run_bulk,      FALSE, FALSE, FALSE},
    {"put",         mix_run_bulk,      FALSE, FALSE, TRUE },
    {"dial",        mix_run_dial,      FALSE, FALSE, FALSE},
    {"dial-long",   mix_run_dial,      FALSE, FALSE, TRUE },
    {"udp",         mix_run_datagrams, FALSE, TRUE,  FALSE},
    {"ping",        mix_run_datagrams, FALSE, TRUE,  TRUE },
    {"echo6",       mix_run_echo,      TRUE,  FALSE, FALSE},
    {"echo-nagle6", mix_run_echo,      TRUE,  FALSE, TRUE },
    {"http6",       mix_run_http,      TRUE,  FALSE, FALSE},
    {"time6",       mix_run_time,      TRUE,  FALSE, FALSE},
    {"get6",        mix_run_bulk,      TRUE,  FALSE, FALSE},
    {"put6",        mix_run_bulk,      TRUE,  FALSE, TRUE },
    {"dial6",       mix_run_dial,      TRUE,  FALSE, FALSE},
    {"dial-long6",  mix_run_dial,      TRUE,  FALSE, TRUE },
    {"udp6",        mix_run_datagrams, TRUE,  TRUE,  FALSE},
    {"ping6",       mix_run_datagrams, TRUE,  TRUE,  TRUE },
};

typedef struct {
    ColoTime begin, end;
} Event;

struct Mix {
    MixOptions options;
    GPtrArray *lanes; /* of MixLane */
    GMutex lock;      /* of all below */
    GCond stopped;
    gboolean stopping;
    GArray *events; /* of Event */
};

Mix *mix_new(const MixOptions *options)
{
    Mix *mix = g_new0(Mix, 1);

    mix->options = *options;
    mix->lanes = g_ptr_array_new_with_free_func(g_free);
    mix->events = g_array_new(FALSE, FALSE, sizeof(Event));
    g_mutex_init(&mix->lock);
    g_cond_init(&mix->stopped);
    return mix;
}

void mix_free(Mix *mix)
{
    if (mix == NULL)
        return;
    for (guint i = 0; i < mix->lanes->len; i++) {
        MixLane *lane = mix->lanes->pdata[i];
        g_assert(lane->thread == NULL);
        g_mutex_clear(&lane->lock);
    }
    g_ptr_array_unref(mix->lanes);
    g_array_unref(mix->events);
    g_mutex_clear(&mix->lock);
    g_cond_clear(&mix->stopped);
    g_free(mix);
}

const char *const *mix_kinds(void)
{
    static const char *names[G_N_ELEMENTS(kinds) + 1];

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        names[i] = kinds[i].name;
    return names;
}

static gpointer lane_thread(gpointer data)
{
    MixLane *lane = data;

    lane->kind->run(lane);
    return NULL;
}

gboolean mix_start_lane(Mix *mix, const char *kind)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        MixLane *lane;

        if (strcmp(kinds[i].name, kind) != 0)
            continue;
        lane = g_new0(MixLane, 1);
        lane->kind = &kinds[i];
        lane->options = &mix->options;
        lane->guest = kinds[i].ip6 ? mix->options.guest6 : mix->options.guest;
        lane->self = kinds[i].ip6 ? mix->options.self6 : mix->options.self;
        lane->mix = mix;
        lane->figures.kind = kinds[i].name;
        lane->figures.datagrams = kinds[i].datagrams;
        g_mutex_init(&lane->lock);
        g_ptr_array_add(mix->lanes, lane);
        lane->thread = g_thread_new(kinds[i].name, lane_thread, lane);
        return TRUE;
    }
    return FALSE;
}

guint mix_lanes(const Mix *mix)
{
    return mix->lanes->len;
}

/* With the lane's lock. */
static void note_gap(MixLane *lane, ColoTime now)
{
    gint64 gap_us = colo_time_diff_us(now, lane->last);

    lane->figures.gap_us = MAX(lane->figures.gap_us, gap_us);
    lane->figures.gap_since_us = MAX(lane->figures.gap_since_us, gap_us);
}

void mix_peek(const Mix *mix, guint index, MixFigures *ret_figures)
{
    MixLane *lane = mix->lanes->pdata[index];

    g_mutex_lock(&lane->lock);
    if (lane->waiting)
        note_gap(lane, colo_time_now());
    *ret_figures = lane->figures;
    g_mutex_unlock(&lane->lock);
}

void mix_event(Mix *mix)
{
    ColoTime now = colo_time_now();
    Event event = {.begin = now, .end = {.us = G_MAXINT64}};

    g_mutex_lock(&mix->lock);
    g_array_append_val(mix->events, event);
    g_mutex_unlock(&mix->lock);
    for (guint i = 0; i < mix->lanes->len; i++) {
        MixLane *lane = mix->lanes->pdata[i];
        g_mutex_lock(&lane->lock);
        if (lane->waiting)
            note_gap(lane, now);
        lane->figures.gap_since_us = 0;
        g_mutex_unlock(&lane->lock);
    }
}

void mix_watch(Mix *mix)
{
    g_mutex_lock(&mix->lock);
    if (mix->events->len > 0) {
        Event *event = &g_array_index(mix->events, Event, mix->events->len - 1);
        if (event->end.us == G_MAXINT64)
            event->end = colo_time_add_us(colo_time_now(), mix->options.excuse_us);
    }
    g_mutex_unlock(&mix->lock);
    for (guint i = 0; i < mix->lanes->len; i++) {
        MixLane *lane = mix->lanes->pdata[i];
        g_mutex_lock(&lane->lock);
        lane->figures.went_on = FALSE;
        g_mutex_unlock(&lane->lock);
    }
}

void mix_stop(Mix *mix)
{
    g_mutex_lock(&mix->lock);
    mix->stopping = TRUE;
    g_cond_broadcast(&mix->stopped);
    g_mutex_unlock(&mix->lock);
    for (guint i = 0; i < mix->lanes->len; i++) {
        MixLane *lane = mix->lanes->pdata[i];
        g_thread_join(g_steal_pointer(&lane->thread));
        mix_idle(lane);
    }
}

/* ---- For the kinds ---- */

gboolean mix_is_stopping(const MixLane *lane)
{
    gboolean stopping;

    g_mutex_lock(&lane->mix->lock);
    stopping = lane->mix->stopping;
    g_mutex_unlock(&lane->mix->lock);
    return stopping;
}

void mix_pause(MixLane *lane, gint64 us)
{
    Mix *mix = lane->mix;
    gint64 end_us = colo_time_now().us + us;

    g_mutex_lock(&mix->lock);
    while (!mix->stopping && g_cond_wait_until(&mix->stopped, &mix->lock, end_us))
        ;
    g_mutex_unlock(&mix->lock);
}

gboolean mix_is_excused(const MixLane *lane, ColoTime sent)
{
    gboolean excused = FALSE;

    g_mutex_lock(&lane->mix->lock);
    for (guint i = 0; i < lane->mix->events->len && !excused; i++) {
        const Event *event = &g_array_index(lane->mix->events, Event, i);
        excused =
            colo_time_diff_us(sent, event->begin) >= -EXCUSED_BEFORE_US && sent.us <= event->end.us;
    }
    g_mutex_unlock(&lane->mix->lock);
    return excused;
}

gint64 mix_since_event_us(const MixLane *lane, ColoTime moment)
{
    gint64 since_us = -1;

    g_mutex_lock(&lane->mix->lock);
    for (guint i = 0; i < lane->mix->events->len; i++) {
        gint64 us = colo_time_diff_us(moment, g_array_index(lane->mix->events, Event, i).begin);
        if (us >= 0)
            since_us = us;
    }
    g_mutex_unlock(&lane->mix->lock);
    return since_us;
}

void mix_begin(MixLane *lane)
{
    g_mutex_lock(&lane->lock);
    if (!lane->waiting)
        lane->last = colo_time_now();
    lane->waiting = TRUE;
    g_mutex_unlock(&lane->lock);
}

void mix_progress(MixLane *lane)
{
    ColoTime now = colo_time_now();

    g_mutex_lock(&lane->lock);
    if (lane->waiting)
        note_gap(lane, now);
    lane->waiting = TRUE;
    lane->last = now;
    lane->figures.went_on = TRUE;
    g_mutex_unlock(&lane->lock);
}

void mix_idle(MixLane *lane)
{
    g_mutex_lock(&lane->lock);
    lane->waiting = FALSE;
    g_mutex_unlock(&lane->lock);
}

void mix_done(MixLane *lane, guint64 bytes)
{
    mix_progress(lane);
    g_mutex_lock(&lane->lock);
    lane->waiting = FALSE;
    lane->figures.done++;
    lane->figures.bytes += bytes;
    g_mutex_unlock(&lane->lock);
}

void mix_fail(MixLane *lane, const GError *error)
{
    MixFigures *figures = &lane->figures;

    g_mutex_lock(&lane->lock);
    if (g_error_matches(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG))
        figures->corrupted++;
    else
        figures->failed++;
    if (figures->error[0] == '\0')
        g_strlcpy(figures->error, error->message, sizeof(figures->error));
    g_mutex_unlock(&lane->lock);
}

gboolean mix_read_line(int fd, char *line, gsize line_bytes, GError **error)
{
    for (gsize length = 0; length < line_bytes; length++) {
        gssize n = recv(fd, line + length, 1, 0);

        if (n <= 0) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "a line was to come: %s",
                        n == 0            ? "the connection has ended"
                        : errno == EAGAIN ? "nothing comes"
                                          : g_strerror(errno));
            return FALSE;
        }
        if (line[length] == '\n') {
            line[length] = '\0';
            return TRUE;
        }
    }
    g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG, "a line has no end");
    return FALSE;
}

int mix_connect(const MixLane *lane, guint16 port, GError **error)
{
    const struct timeval patience = {.tv_sec = lane->options->patience_s};
    COLO_AUTO_FD fd = echo_connect(lane->guest, port, error);

    if (fd < 0 || !colo_fd_set_nonblocking(fd, FALSE, error))
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return colo_fd_steal(&fd);
}
