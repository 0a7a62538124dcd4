/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All kinds of traffic with the test guest at the same time, every byte checked. A lane is one kind
 * at work, in a thread of its own:
 *
 *   echo, echo-nagle   records over one connection that is never opened again (echo-client.h)
 *   http               a new connection for each request
 *   time               questions over one connection whose answers two copies of the guest never
 * give alike, but which never go backwards get, put           bulk transfers, a new connection for
 * each dial               connections that the guest opens outward, one after the other dial-long
 * one connection that the guest opens outward, for the whole run udp, ping          datagrams that
 * are to come back, some of them in fragments
 *
 * and each again over IPv6, with a 6 at its end. What is lost of TCP is lost; of datagrams those
 * that are lost or come twice around a takeover are counted apart, as excused (mix_event()).
 */
#ifndef COLO_TESTS_SUPPORT_MIX_H
#define COLO_TESTS_SUPPORT_MIX_H

#include <glib.h>

typedef struct {
    const char *guest, *guest6; /* the guest's addresses */
    const char *self, *self6;   /* ours, for the connections that the guest opens */
    gint64 interval_us;         /* between two records, requests, datagrams of a lane; 0: none */
    guint64 bulk_bytes;         /* of one transfer */
    guint64 bulk_rate;          /* bytes a second and lane; 0: as many as there are */
    guint record_bytes;         /* of the echo lanes; the window is 4 records */
    guint patience_s;           /* what does not go on for so long has failed */
    gint64 excuse_us;           /* how long after mix_watch() datagrams may be lost */
} MixOptions;

typedef struct {
    const char *kind;
    gboolean datagrams;
    guint64 done;             /* records, requests, transfers, connections, datagrams */
    guint64 bytes;            /* that came back or were transferred, for bulk and dial-long */
    guint64 lost, duplicated; /* records or datagrams */
    guint64 corrupted;        /* of anything: wrong bytes */
    guint64 failed;           /* connections that did not come about, broke, or stood still */
    guint64 excused_lost, excused_duplicated; /* datagrams, around an event */
    gint64 gap_us;                            /* longest wait for something to go on */
    gint64 gap_since_us;                      /* the same, since the last mix_event() */
    gboolean went_on;                         /* since mix_watch() */
    char error[160];                          /* of the first failure; "" */
} MixFigures;

typedef struct Mix Mix;

/* Copies the options; their strings stay the caller's and must live as long as the mix. */
Mix *mix_new(const MixOptions *options);
/* After mix_stop(). */
void mix_free(Mix *mix);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Mix, mix_free)

/* The names of all kinds, NULL at the end; static. */
const char *const *mix_kinds(void);

/* Starts a lane. FALSE if there is no such kind. */
gboolean mix_start_lane(Mix *mix, const char *kind);

/* How many lanes there are, and the figures of one as they are now. */
guint mix_lanes(const Mix *mix);
void mix_peek(const Mix *mix, guint lane, MixFigures *ret_figures);

/* Something happens now that datagrams may be lost in, until mix_watch(): begins gap_since_us anew.
 */
void mix_event(Mix *mix);

/* It is over: begins went_on anew; what goes on from here on has got over it. */
void mix_watch(Mix *mix);

/* Lets all that has begun come to its end, as fast as it can, and stops. Blocks. */
void mix_stop(Mix *mix);

#endif
