/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a node's disks. disks.c has the server: its life, its failures, its events and status.
 * disks-orders.c has what it is ordered to do, disks-flag.c the activation flag.
 */
#ifndef COLO_COLO_NODE_DISKS_INTERNAL_H
#define COLO_COLO_NODE_DISKS_INTERNAL_H

#include "block/activation.h"
#include "colo/node/disks-rules.h"
#include "colo/node/disks.h"

/* An order without an answer yet, which counts in its session only. */
typedef struct {
    Disks *disks;
    guint session;
    const char *name;
    guint64 epoch;
    DisksDone done;
    DisksAnswer answer;   /* of disks_order() */
    BlockOpDone switched; /* of the activation flag */
    gpointer ticket;
} DiskOrder;

struct Disks {
    const Config *config; /* borrowed */
    DisksHandler handler;
    gpointer user_data;
    DiskServer *ending; /* the node ends: until it has, in order */

    /* As long as the VM: disks_stop() clears all from here on. */
    BlockActivation *activation; /* NULL: no disks are there */
    DiskServer *server;          /* NULL: it could not be started */
    char *socket;
    GPtrArray *orders;       /* of DiskOrder*: those without an answer */
    DiskOrder *resuming;     /* of them, the one to QEMU to run the VM; NULL: none */
    DiskOrder *inactivating; /* likewise, to give its disks up */
    GError *qemu_failure;    /* of the last of these */
    OptionalEpoch giving_up; /* the epoch that giving them up ends */
    gboolean last_mark_due;  /* of that epoch: not sent yet */
    DisksDone given_up;
    const char *why;       /* the activation under way, or the last one: static */
    gboolean left_stopped; /* there was no `cont`: the VM stays stopped */
    gboolean told_active;  /* the flag and its members, as they were told last */
    BlockDiskState told_images, told_qemu;
    OptionalEpoch takeover; /* checkpoint that the activation under way takes over from */
    gboolean failed;
    GError *failure; /* to be reported from the main loop */
    guint failure_source;
    guint status_timer;
    gboolean asking_status;
    json_object *status; /* the server's last answer */
    gboolean sync_told;  /* that what was written can't be made durable any more */

    /* The session. */
    guint session;   /* its number */
    guint detaching; /* orders to detach that have no answer yet: events are of before */
    guint lost_timer;
    GError *lost;
    gboolean synchronised; /* primary: checkpoints may be taken */
    OptionalEpoch marked;  /* primary: as the disks were given up */
    DisksApply apply;      /* secondary: its checkpoints */
    guint64 apply_epoch;   /* the one that is due */
    OptionalEpoch applied; /* the last one that was applied */
};

/* ---- disks.c ---- */

/* The disks can't continue here. Reported from the main loop. */
void disks_fail(Disks *disks, const GError *error);
/* The session can't continue: reported in a moment, unless it ends before. */
void disks_session_lost(Disks *disks, const char *why);
void disks_forget_lost(Disks *disks);
/* The server's answer to "status". */
void disks_note_status(Disks *disks, json_object *status);

/* ---- disks-orders.c ---- */

/* An order of this session, until it is answered; then the caller frees it. */
DiskOrder *disks_order_new(Disks *disks, const char *name, guint64 epoch, DisksDone done);
DiskOrder *disks_answered(gpointer order);
guint disks_timeout(const Disks *disks);
/* How an order has ended: `error`, or BLOCK_ERROR_LACKS, or NULL. The caller's. */
GError *disks_order_error(json_object *result, const GError *error);
/* The server has gone: no order will be answered any more. */
void disks_abandon_orders(Disks *disks);

/* ---- disks-flag.c ---- */

/* The flag, of `owner` or not. */
void disks_make_flag(Disks *disks, gboolean owner);
/* Whether they are given up, and nothing is being done to them; then: as of one that is no owner. */
gboolean disks_rest_given_up(const Disks *disks);
void disks_renew_flag(Disks *disks);
/* Adds the flag and its members. */
void disks_describe_flag(const Disks *disks, json_object *object);

#endif
