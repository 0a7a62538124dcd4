/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far the secondary's disks are with the checkpoints of a session. Pure: a table from (phase,
 * event) to the next phase. disks-orders.c does what belongs to it.
 *
 *                 received             ask                received
 *     NOTHING ---------------> DUE ----------> ASKED ---------------> ASKED_DUE
 *        ^                     ^ ^               | |                      |
 *        |                     | '--- refused ---' |                      |
 *        |                     '----------- done, refused ----------------'
 *        '---------------------- done -------------'
 *
 * A session that begins or ends leads to NOTHING. What an earlier one has asked for is no event.
 *
 * What always holds (tests/unit/test-disks-rules.c walks all of it):
 * - The server is asked to apply one checkpoint at a time.
 * - What is due is the last one that was received: the server has applied the one before by then.
 */
#ifndef COLO_COLO_NODE_DISKS_RULES_H
#define COLO_COLO_NODE_DISKS_RULES_H

#include <glib.h>

typedef enum {
    DISKS_APPLY_NOTHING,   /* is to be applied */
    DISKS_APPLY_DUE,       /* as soon as the VM has given the disks up */
    DISKS_APPLY_ASKED,     /* the server is at it */
    DISKS_APPLY_ASKED_DUE, /* the same, and the next one is due after it */
    DISKS_APPLY_PHASES
} DisksApply;

typedef enum {
    DISKS_APPLY_RECEIVED, /* a checkpoint is complete */
    DISKS_APPLY_ASK,      /* the server is to apply what is due */
    DISKS_APPLY_DONE,     /* it has; or it can't, which is the end of the disks */
    DISKS_APPLY_REFUSED,  /* it has not, which may pass: it is asked again */
    DISKS_APPLY_SESSION,  /* begins, or is over */
    DISKS_APPLY_EVENTS
} DisksApplyEvent;

typedef struct {
    gboolean legal;
    DisksApply next;
} DisksApplyStep;

DisksApplyStep disks_apply_step(DisksApply phase, DisksApplyEvent event);

/* The server has been asked, and has not answered. */
gboolean disks_apply_is_asked(DisksApply phase);

const char *disks_apply_name(DisksApply phase);
const char *disks_apply_event_name(DisksApplyEvent event);

#endif
