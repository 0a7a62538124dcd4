/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why the guest of a VM is stopped, and who may have it run again. Pure.
 *
 * A guest may be stopped for several reasons at once. They are apart from the pauses that colod makes
 * for itself (a checkpoint, a hand-over, a freeze): the end of such a pause is only one of those
 * that may want it to run. resume.c holds the reasons and asks here, before each try.
 *
 *                   | the end of a pause | io-retry | `cont`
 *     admin         | no                 | no       | yes
 *     io-error      | no                 | yes      | yes
 *     other reasons | yes                | yes      | yes
 *
 * What always holds (tests/unit/test-stops.c walks all of it):
 * - What an administrator has stopped runs again by `cont` only, on whichever node it is then.
 * - One reason more never lets a guest run that would not run without it.
 */
#ifndef COLO_COLO_NODE_STOPS_H
#define COLO_COLO_NODE_STOPS_H

#include "colo/node/fsm.h"

typedef enum {
    STOP_ADMIN,    /* `stop`; a survivor learns it from its checkpoint */
    STOP_IO_ERROR, /* QEMU: of a disk (on-error) */
    STOP_PANIC,    /* QEMU: the guest has panicked */
    STOP_WATCHDOG,
    STOP_INTERNAL_ERROR,
    STOP_OTHER, /* QEMU, for what it has another word for */
    STOP_REASONS
} StopReason;

/* A set of them: bits 1 << StopReason. */
typedef guint Stops;
#define STOPS(reason) (1u << STOP_##reason)

/* Who wants the guest to run. */
typedef enum {
    STOP_END_OF_PAUSE, /* of colod's own: a start, a checkpoint, a hand-over, a takeover */
    STOP_IO_RETRY,
    STOP_CONT,
    STOP_ENDERS
} StopEnder;

gboolean stops_may_run(Stops stops, StopEnder ender);
/* A checkpoint of it has the flag STOPPED: so the side that continues from there keeps it so. */
gboolean stops_are_carried(Stops stops);

/* What QEMU calls the run state. */
StopReason stops_of_qemu(const char *run_state);
/* The word for status: of the reason that only the latest of the enders may end. NULL: none. */
const char *stops_name(Stops stops);

/*
 * Whether `stop` is possible, and `cont` of a guest that is stopped: NULL; else what can be done
 * instead, for administrators. `ends`: the VM's ordered end has begun. `peer`: the other node.
 */
char *stops_way_out(FsmState state, gboolean ends, const char *peer);

#endif
