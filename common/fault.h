/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Named fault points, for tests that kill a host at a chosen step. COLO_FAULT=name kills this
 * process with SIGKILL when it first reaches that point, COLO_FAULT=name:N at the N-th time; with
 * COLO_FAULT=name:N:stop it is stopped there until SIGCONT, so that something can be done to it. Every
 * name is one of the table in fault.c, with what must be true after it; unset, a point costs one
 * comparison.
 */
#ifndef COLO_COMMON_FAULT_H
#define COLO_COMMON_FAULT_H

#include <glib.h>

/* Dies, or stops, here if COLO_FAULT names this point. `name` must be in the table. Any thread. */
void colo_fault_point(const char *name);

/* Checks COLO_FAULT once at start: FALSE and an error listing the names if it names no point. */
gboolean colo_fault_init(GError **error);

/* The table, NULL-terminated: name, then what must hold when a process died there. */
typedef struct {
    const char *name;
    const char *afterwards;
} ColoFaultPoint;
const ColoFaultPoint *colo_fault_points(void);

#endif
