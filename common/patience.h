/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long to wait for somebody before giving up. Every such timer has one rule: it counts only
 * time in which this process ran, and could have seen what it waits for.
 *
 * A process can be stopped for any time (SIGSTOP, a paused hypervisor, a blocked main loop) while
 * the monotonic clock runs on. Most often the one that it waits for was stopped too. So a wait
 * looks at the clock in short steps. A step that comes late counts only as long as it was planned,
 * and ends nothing. Whatever is left, one more step passes first, in which what has come meanwhile
 * is read. So a wait may take longer than it was set to, never shorter.
 *
 * It is for every timer that ends, kills or gives up something when it fires. Such timers wait for
 * answers of QEMU and the disk server (vm/qmp.c, vm/qemu*.c, vm/process.c), of the secondary and of
 * the arbiter. Others wait for the end of a VM, for a pairing, or for a peer's message after its
 * disks have gone. Heartbeats follow the same rule with steps of their own (patience_counted_us(),
 * colo/link/heartbeat.c).
 *
 * It is not for timers that only set a pace, where a late one does no harm. They repeat a question
 * or a look, update status, and schedule checkpoints. They limit the comparator (a checkpoint that
 * wasn't needed), the 5 ms in which QEMU reads its input, and colo(1)'s wait for a colod.
 */
#ifndef COLO_COMMON_PATIENCE_H
#define COLO_COMMON_PATIENCE_H

#include "common/clock.h"

/* The longest step, and how late one may come that counts as it is. */
#define PATIENCE_STEP_US (100 * COLO_US_PER_MS)

/*
 * The time from `looked` until now that counts for somebody who was to look again at `planned`.
 * That is all of it; if the look is more than `slack_us` late, what was planned. Pure.
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
