/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the secondary VM is to run in the next epoch, or to wait. If it runs, output is compared
 * (`colo`). If it waits, output leaves with checkpoints only (`buffered`). Pure: what an epoch
 * brought and the time in, an answer out.
 *
 * An epoch of comparing was in vain if its output waited longer, on average, than it would have for
 * checkpoints in `buffered` mode. The reason is that the VMs differ, or that the secondary's is
 * slow. It was also in vain if the secondary's VM stopped by itself, because a guest that panics in
 * it would do so again and again. After two such epochs in a row comparing pauses, each time twice
 * as long, until an epoch was worth it:
 *
 *     colo:  20 ms to 1 s    a storm of divergences costs little more than `buffered` does
 *     auto:  1 s to 1 min    and the change is reported (hysteresis)
 */
#ifndef COLO_COLO_NODE_MODE_H
#define COLO_COLO_NODE_MODE_H

#include "colo/config/config.h"
#include "common/clock.h"

/* As the option has it: "colo", "buffered", "auto". */
const char *mode_name(Mode mode);

typedef struct {
    Mode mode;        /* in which what follows was learnt */
    guint in_vain;    /* epochs in a row */
    gboolean pausing; /* comparing pauses until `until` */
    ColoTime until;
} ModePolicy;

typedef struct {
    guint64 frames;     /* of output in the epoch */
    gint64 waited_us;   /* all of them together */
    gint64 buffered_us; /* what one waits in `buffered` mode */
    gboolean stalled;   /* the secondary VM has stopped by itself */
} ModeEpoch;

/* Whether the epoch that is about to begin compares. */
gboolean mode_compares(ModePolicy *policy, Mode mode, ColoTime now);

/* An epoch that compared is over. Returns TRUE if comparing pauses from now on. */
gboolean mode_learn(ModePolicy *policy, Mode mode, const ModeEpoch *epoch, ColoTime now);

#endif
