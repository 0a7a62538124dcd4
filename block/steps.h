/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may follow what in a set of disks, and at both ends of its stream. Pure: tables. The setters
 * (set.c, primary.c, replica.c) abort on a step that isn't here.
 *
 *   mode      opening --owner--> active <--> inactive --> replica --takeover--> active
 *             opening --not the owner--> replica
 *   state     owned, replica --synchronisation, takeover--> incomplete --done--> replica, owned
 *             replica --started as the owner--> owned
 *   primary   hello -> bitmaps -> streaming
 *   replica   hello -> start -> syncing -> staging
 */
#ifndef COLO_BLOCK_STEPS_H
#define COLO_BLOCK_STEPS_H

#include "block/block.h"
#include "block/state.h"

gboolean disk_mode_may(DiskMode from, DiskMode to);

/* Of the record: what the images are, whoever opens them next. */
gboolean block_state_may(BlockState from, BlockState to);
const char *block_state_name(BlockState state);
/* What the next process finds; `trusted` as of state_open(). */
BlockState block_state_found(BlockState state, gboolean trusted);

/* How far the receiver of either end is. */
typedef enum { PRIMARY_HELLO, PRIMARY_BITMAPS, PRIMARY_STREAMING, PRIMARY_PHASES } PrimaryPhase;

typedef enum {
    REPLICA_HELLO,
    REPLICA_START,
    REPLICA_SYNCING,
    REPLICA_STAGING,
    REPLICA_PHASES
} ReplicaPhase;

gboolean disk_primary_may(PrimaryPhase from, PrimaryPhase to);
gboolean disk_replica_may(ReplicaPhase from, ReplicaPhase to);
const char *disk_primary_phase_name(PrimaryPhase phase);
const char *disk_replica_phase_name(ReplicaPhase phase);
/* Whether a record of `type` may come in this phase. */
gboolean disk_primary_expects(PrimaryPhase phase, guint16 type);
gboolean disk_replica_expects(ReplicaPhase phase, guint16 type);

#endif
