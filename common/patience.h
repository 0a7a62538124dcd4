/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long to wait for somebody before the worst is believed. The one rule of every such timer: it
 * counts only time in which this process ran, and could have seen what it waits for.
 *
 * A process can stand still for any time (SIGSTOP, a paused hypervisor, a blocked main loop) while
 * the monotonic clock runs on; and then, most often, so did whom it waits for. So a wait looks at
 * the clock in short steps. A step that comes late counts only as long as it was planned, and ends
 * nothing: whatever is left, one more step passes first, in which what has come meanwhile is read.
 * A wait may so take longer than it was told to, never shorter.
 *
 * For every timer that ends, kills or gives up something when it fires: QEMU's and the disk
 * server's answers (vm/qmp.c, vm/qemu*.c, vm/process.c), the secondary's answer, the end of a VM,
 * what the peer may say after its disks have gone, a pairing, the time that an arbiter or a
 * secondary is given. Heartbeats follow the same rule with steps of their own
 * (patience_counted_us(), colo/link/heartbeat.c).
 *
 * Not for timers that only set a pace, where a late one does no harm: when to ask again or to look
 * again, status, the schedule of checkpoints, the comparator's deadlines (a checkpoint that wasn't
 * needed), the 5 ms in which QEMU reads its input, colo(1)'s patience with a colod.
 */
#ifndef COLO_COMMON_PATIENCE_H
#define COLO_COMMON_PATIENCE_H

#include "common/clock.h"

/* The longest step, and how late one may come that counts as it is. */
#define PATIENCE_STEP_US (100 * COLO_US_PER_MS)

/*
 * The time from `looked` until now that counts for somebody who was to look again at `planned`:
 * all of it, or, if that comes more than `slack_us` late, what was planned. Pure.
 */
gint64 patience_counted_us(ColoTime looked, ColoTime planned, gint64 slack_us, ColoTime now);

/* ---- One wait. Pure: times in, decisions out ---- */

typedef struct {
    gint64 left_us;
    ColoTime looked, planned; /* the last step, and when the next one is due */
} Patience;

void patience_start(Patience *patience, gint64 limit_us, ColoTime now);
/* To be called at `planned` or as soon after as possible: TRUE if it is over. */
gboolean patience_step(Patience *patience, ColoTime now);

/* ---- The same as a source of a main loop ---- */

/*
 * Like g_timeout_source_new() and g_timeout_add(): `func` is called once it is over, and again
 * after as long if it returns G_SOURCE_CONTINUE.
 */
GSource *patience_source_new(guint limit_ms);
guint patience_add(guint limit_ms, GSourceFunc func, gpointer user_data);

#endif
