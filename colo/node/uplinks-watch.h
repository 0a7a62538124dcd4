/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which host the clients can reach, and what follows from it for who continues. Pure: facts and
 * times in, decisions out.
 *
 * A side's `cut` is a set of the VM's network cards, a bit each: those whose uplink has no carrier
 * there. The other side is better if it has carrier where this one has none, and none less. So one
 * of them is better at most, and neither if both have lost the same: then the VM doesn't move for
 * it.
 */
#ifndef COLO_COLO_NODE_UPLINKS_WATCH_H
#define COLO_COLO_NODE_UPLINKS_WATCH_H

#include "common/clock.h"

/* Cards beyond these count as having carrier. */
#define UPLINKS_CARDS_MAX 64u

gboolean uplinks_other_is_better(guint64 cut_here, guint64 cut_there);

/*
 * How long a side that has lost the other waits before it asks who continues, so that the one that
 * should continue asks first. `timed_out`: nothing came from the other. A cut link looks like that,
 * and so does a host that has lost its power. It is not set if connections have ended, as they do
 * when processes die. `interval_ms` is heartbeat-interval: both notice the timeout within about one.
 *
 * A side whose uplinks are worse waits UPLINKS_ASK_WAIT_MS: bounded, because the other may be dead.
 * If both are as good, the secondary waits two intervals after the timeout: a healthy primary
 * continues where it is. So after a host's sudden death the takeover comes that much later.
 */
#define UPLINKS_ASK_WAIT_MS 3000
guint uplinks_ask_wait_ms(gboolean is_primary, gboolean timed_out, guint64 cut_here,
                          guint64 cut_there, guint interval_ms);

/*
 * When a protected primary hands the VM over because the secondary is better. That must have been
 * so for UPLINKS_SETTLE_US without a break. It is never within UPLINKS_REST_US of the last time
 * that the VM moved here. So a loose plug moves it six times a minute at most.
 */
#define UPLINKS_SETTLE_US (2 * G_USEC_PER_SEC)
#define UPLINKS_REST_US   (10 * G_USEC_PER_SEC)

typedef struct {
    gboolean worse; /* as of the last look */
    ColoTime since;
} UplinksWatch;

typedef struct {
    gboolean hand_over;
    ColoTime look_again; /* G_MAXINT64: not before a fact changes */
} UplinksDecision;

/* `may`: the pair is protected. `moved`: when the VM came here; 0: it was started here. */
UplinksDecision uplinks_decide(UplinksWatch *watch, gboolean may, guint64 cut_here,
                               guint64 cut_there, ColoTime moved, ColoTime now);

#endif
