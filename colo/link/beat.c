/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signs of life on a link that is up: heartbeats by the clock of heartbeat.c, and their echoes,
 * which prove more. A message that is read now may have waited in the socket for any time, for
 * example while this process was stopped. So it proves nothing about now. The echo of a heartbeat
 * is younger than the heartbeat: when the peer sent it, it had received our heartbeat. So it can't
 * have given us up for its heartbeat-timeout from then on. link_is_fresh() wants an echo of less
 * than LEASE_PART of that time ago, whatever the reason may be that there is none.
 *
 * Two gaps remain. The peer may find out otherwise that the link has ended (a connection was
 * reset), and the news of it be on its way. And this process may be stopped between the question
 * and what it does after it. Both take microseconds, or one way through the network.
 */
#include "colo/link/link_internal.h"
#include "common/timer.h"

#include <poll.h>

/* Of the peer's heartbeat-timeout; the rest is for what is done with the answer. */
#define LEASE_PART(timeout_us) ((timeout_us) / 4 * 3)

/* How old the look for an end of the connections may be: a system call for each frame is dear. */
#define LOOK_US 1000

/* ---- Heartbeats ---- */

static void send_beat(Link *link, ColoTime now)
{
    guint8 payload[LINK_BEAT_BYTES];
    link_build_beat(payload, &(LinkBeat){.number = link->beats_sent++, .sent = now});
    link_put_message(link, LINK_TYPE_HEARTBEAT, payload, sizeof(payload));
}

/* The peer counts as lost, unless its bytes are there and we only had no time to read them. */
static void check_timeout(Link *link)
{
    link_read_control(link);
    if (link_is_up(link) && link->heartbeat.idle_us >= link->heartbeat.timeout_us)
        link_go_down(link, g_error_new(LINK_ERROR, LINK_ERROR_TIMEOUT,
                                       "no sign of life for %" G_GINT64_FORMAT " ms",
                                       link->heartbeat.idle_us / COLO_US_PER_MS));
}

static gboolean on_beat(gpointer user_data)
{
    Link *link = link_ref(user_data);
    ColoTime now = colo_time_now();
    guint todo = heartbeat_step(&link->heartbeat, now);
    if (todo & HEARTBEAT_SEND)
        send_beat(link, now);
    if (todo & HEARTBEAT_LOST)
        check_timeout(link);
    if (link->beat_source)
        colo_timer_set_us(link->beat_source, link->heartbeat.planned.us);
    link_unref(link);
    return G_SOURCE_CONTINUE;
}

void link_start_beating(Link *link)
{
    heartbeat_start(&link->heartbeat, link->interval_ms, link->timeout_ms, colo_time_now());
    link_source_clear(&link->beat_source);
    link->beat_source = colo_timer_new(on_beat, link);
    colo_timer_set_us(link->beat_source, link->heartbeat.planned.us);
}

/* ---- Echoes ---- */

static gboolean take_beat(Link *link, const guint8 *payload, GError **error)
{
    LinkBeat beat = link_parse_beat(payload);
    if (beat.number != link->beats_received) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL,
                    "control: heartbeat %" G_GUINT64_FORMAT " where %" G_GUINT64_FORMAT " belongs",
                    beat.number, link->beats_received);
        return FALSE;
    }
    guint8 echo[LINK_ECHO_BYTES];
    link->beats_received++;
    beat.timeout_us = (guint64)link->timeout_ms * COLO_US_PER_MS;
    link_build_echo(echo, &beat);
    link_put_message(link, LINK_TYPE_ECHO, echo, sizeof(echo));
    return !link_is_overrun(link, error);
}

static gboolean lease_holds(const Link *link, ColoTime now)
{
    return colo_time_diff_us(now, link->echoed) < LEASE_PART(link->peer_timeout_us);
}

static gboolean take_echo(Link *link, const guint8 *payload, GError **error)
{
    ColoTime now = colo_time_now();
    LinkBeat echo = link_parse_echo(payload);
    if (echo.number != link->echoes_received || link->echoes_received >= link->beats_sent ||
        echo.sent.us < link->echoed.us || echo.sent.us > now.us) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL,
                    "control: the echo of a heartbeat that wasn't sent");
        return FALSE;
    }
    link->echoes_received++;
    link->echoed = echo.sent;
    link->peer_timeout_us = (gint64)MIN(echo.timeout_us, (guint64)G_MAXINT32 * 1000);
    if (link->fresh_wanted && lease_holds(link, now)) {
        link->fresh_wanted = FALSE;
        link->callbacks.fresh(link->user_data);
    }
    return TRUE;
}

gboolean link_take_sign(Link *link, const LinkParsedMessage *message, GError **error)
{
    return message->type == LINK_TYPE_ECHO ? take_echo(link, message->payload, error)
                                           : take_beat(link, message->payload, error);
}

/* Whether the kernel knows of no end, which the main loop may not know yet. */
static gboolean is_whole(Link *link, ColoTime now)
{
    struct pollfd fds[LINK_CHANNELS];
    if (colo_time_diff_us(now, link->looked) < LOOK_US)
        return TRUE;
    for (LinkChannel which = 0; which < link->channels; which++) {
        gboolean counts = !link->engines_may_end || !link_is_engines(which);
        fds[which] = (struct pollfd){.fd = counts ? channel_fd(link->pairing->channels[which]) : -1,
                                     .events = POLLRDHUP};
    }
    /* -1: a signal, for example SIGCONT. */
    if (poll(fds, link->channels, 0) != 0)
        return FALSE;
    link->looked = now;
    return TRUE;
}

gboolean link_is_fresh(Link *link)
{
    ColoTime now = colo_time_now();
    if (!link_is_up(link))
        return FALSE;
    if (is_whole(link, now) && lease_holds(link, now))
        return TRUE;
    if (!link->fresh_wanted)
        send_beat(link, now);
    link->fresh_wanted = TRUE;
    return FALSE;
}
