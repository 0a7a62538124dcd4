/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that counts: checkpoints and what they took, how long the guest was paused,
 * takeovers. For status, for the choice of the mode and for the guest's clock.
 *
 * It decides nothing, and owns no timer.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_FIGURES_H
#define COLO_COLO_NODE_FIGURES_H

#include "checkpoint/checkpoint.h"
#include "colo/node/blocktime.h"
#include "colo/node/schedule.h"
#include "common/clock.h"

#include <json-c/json.h>

typedef struct Figures Figures;

Figures *figures_new(void);
void figures_free(Figures *figures);

/* ---- Checkpoints ---- */

/* Of a primary, complete on the secondary. */
typedef struct {
    CheckpointReason reason;
    guint64 bytes;
    guint64 plain_bytes; /* what they would be, had nothing been compressed */
    PackCodec codec;     /* that pages were packed by in the end */
    guint64 rest_bytes;  /* of the plain ones, what was not sent ahead of the pause */
    gint64 pause_us, transfer_us;
    gint64 rest_us;  /* from the end of the copy until the secondary had all of it */
    gint64 stood_us; /* of the pause: until all of the checkpoint was copied */
} FiguresCheckpoint;
void figures_add_checkpoint(Figures *figures, const FiguresCheckpoint *checkpoint);
/* Of a secondary. */
void figures_add_received(Figures *figures, guint64 bytes, guint64 plain_bytes, gint64 transfer_us);
/* Either: the secondary has put one into its VM's RAM. */
void figures_add_applied(Figures *figures, gint64 apply_us);
/* Of a primary: the secondary has loaded the one that it had put there. `resumed`: its VM runs. */
void figures_add_loaded(Figures *figures, gboolean resumed);
/* What one takes from its pause until it is complete, of half of the last ones. */
gint64 figures_checkpoint_us(const Figures *figures);

/*
 * Of a primary: as measured of late, 0: not yet (of pages, however they were compressed). And
 * medians: how long the VM stands until all of a checkpoint is copied; and then there, applying it,
 * and from there until the VM runs.
 */
gint64 figures_bytes_per_s(const Figures *figures);
gint64 figures_stood_us(const Figures *figures);
gint64 figures_land_us(const Figures *figures);

/* How many there were: of both kinds, and of a primary's for this reason. */
guint64 figures_checkpoints(const Figures *figures);
guint64 figures_checkpoints_by(const Figures *figures, CheckpointReason reason);

/* ---- Pauses ---- */

/* The guest was paused, `until` being not before what was reported last. */
void figures_add_pause(Figures *figures, ColoTime from, ColoTime until);
/* A copy is paused: since when it was, if a takeover resumes it; and it does. */
void figures_copy_paused(Figures *figures, ColoTime since);
void figures_copy_resumed(Figures *figures);
/* Borrowed: since the VM was started here or has come here. */
const Blocktime *figures_blocktime(const Figures *figures);
/* The VM is gone. */
void figures_forget_vm(Figures *figures);

/* ---- Takeovers ---- */

typedef enum {
    FIGURES_LOST,       /* the primary is: it, its VM, or the link to it */
    FIGURES_FAILOVER,   /* it hands the VM over: by order, or because this host is better */
    FIGURES_SWITCHOVER, /* likewise, in a planned switchover */
    FIGURES_CAUSES
} FiguresCause;

/* The primary is lost, or leaves the VM to this side: a takeover is measured from here. */
void figures_primary_lost(Figures *figures, FiguresCause cause);
/* The VM has been taken over from checkpoint `epoch`: how long that took. */
gint64 figures_add_takeover(Figures *figures, guint64 epoch);
/* How long the last one took; 0: there was none. */
gint64 figures_takeover_us(const Figures *figures);
/* Adds what is known of the last one: "epoch", "duration-ms", "cause". */
void figures_describe_takeover(const Figures *figures, json_object *data);
guint64 figures_takeovers(const Figures *figures);

/* ---- For status ---- */

/*
 * Adds "checkpoints" and how long their steps took; "bytes"; "takeovers", "last-takeover" and
 * "uptime-s".
 */
void figures_describe_checkpoints(const Figures *figures, json_object *status);
void figures_describe_bytes(const Figures *figures, json_object *status);
void figures_describe_life(const Figures *figures, json_object *status);
/* Adds what "blocktime" has of it. */
void figures_describe_blocktime(const Figures *figures, json_object *blocktime);

#endif
