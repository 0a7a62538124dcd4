/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the primary takes its next checkpoint, and why. Pure: facts and the time in, a decision out.
 *
 * Some output can be released only by a checkpoint. In `buffered` mode that is all output. In
 * `colo` mode it is the output of a connection in which the VMs differ. Such output asks for a
 * checkpoint as soon as min-gap allows. So a client's latency is about min-gap plus the transfer. A
 * VM without such output runs undisturbed for checkpoint-period.
 */
#ifndef COLO_COLO_NODE_SCHEDULE_H
#define COLO_COLO_NODE_SCHEDULE_H

#include "common/clock.h"

typedef enum {
    REASON_INITIAL,         /* the first ones, until the VM is protected */
    REASON_PERIOD,          /* checkpoint-period has passed */
    REASON_OUTPUT,          /* output waits for a checkpoint and min-gap has passed */
    REASON_MISMATCH,        /* the VMs' outputs differ */
    REASON_COMPARE_TIMEOUT, /* the secondary VM has not sent in time what the primary's has */
    REASON_STALLED,         /* the secondary VM has stopped or rebooted by itself */
    REASON_TABLE_FULL,      /* no room to continue comparing */
    REASON_DIRTY_LIMIT,     /* more dirty pages than dirty-limit */
    REASON_OUTPUT_LIMIT,    /* the held output has nearly reached output-limit */
    REASON_DISK_LIMIT,      /* the guest has written half of what an epoch may have */
    REASON_ADMIN,           /* an administrator asked for it */
    REASONS
} CheckpointReason;

/*
 * A set of reasons that somebody has named: WANTED() bits. Several may say why the VMs are not
 * equal any more; of these the first one counts.
 */
typedef guint Wanted;
#define WANTED(reason) (1u << (reason))
#define WANTED_DIVERGENCE                                                                          \
    (WANTED(REASON_MISMATCH) | WANTED(REASON_COMPARE_TIMEOUT) | WANTED(REASON_STALLED) |           \
     WANTED(REASON_TABLE_FULL))

Wanted wanted_add(Wanted wanted, CheckpointReason reason);
/*
 * What is left when a checkpoint for `reason` begins. A divergence is over when the secondary has
 * the checkpoint, and not before.
 */
Wanted wanted_take(Wanted wanted, CheckpointReason reason);

typedef struct {
    gint64 period_us;
    gint64 min_gap_us;
    guint64 dirty_limit_pages; /* 0: none */
} ScheduleOptions;

typedef struct {
    ColoTime resumed;      /* when the VM last resumed from a checkpoint */
    gboolean output_waits; /* for a checkpoint */
    Wanted wanted;
    guint64 dirty_pages;
} ScheduleFacts;

typedef struct {
    gboolean due;
    CheckpointReason reason; /* if due */
    ColoTime look_again;     /* if not: the latest moment to ask again if no fact changes */
} ScheduleDecision;

/*
 * Decides for a primary that has no checkpoint under way. Invariants: never due within min-gap of
 * the last resume, but for output-limit and admin, which can't wait; always due after period.
 */
ScheduleDecision schedule_decide(const ScheduleOptions *options, const ScheduleFacts *facts,
                                 ColoTime now);

/* "period", "output", ... */
const char *schedule_reason_name(CheckpointReason reason);

#endif
