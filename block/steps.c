/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/steps.h"

#include "block/wire.h"

#define TO(name) (1u << (name))

/* ---- The set ---- */

gboolean disk_mode_may(DiskMode from, DiskMode to)
{
    static const guint may[DISK_MODES] = {
        [DISK_MODE_OPENING] = TO(DISK_MODE_ACTIVE) | TO(DISK_MODE_REPLICA),
        [DISK_MODE_ACTIVE] = TO(DISK_MODE_INACTIVE),
        [DISK_MODE_INACTIVE] = TO(DISK_MODE_ACTIVE) | TO(DISK_MODE_REPLICA),
        [DISK_MODE_REPLICA] = TO(DISK_MODE_ACTIVE),
    };
    g_assert((guint)from < DISK_MODES && (guint)to < DISK_MODES);
    return from == to || (may[from] & TO(to)) != 0;
}

const char *disk_mode_name(DiskMode mode)
{
    static const char *const names[DISK_MODES] = {
        [DISK_MODE_OPENING] = "opening",
        [DISK_MODE_ACTIVE] = "active",
        [DISK_MODE_INACTIVE] = "inactive",
        [DISK_MODE_REPLICA] = "replica",
    };
    return names[mode];
}

gboolean block_state_may(BlockState from, BlockState to)
{
    static const guint may[] = {
        [BLOCK_STATE_OWNED] = TO(BLOCK_STATE_INCOMPLETE),
        [BLOCK_STATE_INCOMPLETE] = TO(BLOCK_STATE_OWNED) | TO(BLOCK_STATE_REPLICA),
        [BLOCK_STATE_REPLICA] = TO(BLOCK_STATE_INCOMPLETE) | TO(BLOCK_STATE_OWNED),
    };
    g_assert((guint)from < G_N_ELEMENTS(may) && (guint)to < G_N_ELEMENTS(may));
    return from == to || (may[from] & TO(to)) != 0;
}

const char *block_state_name(BlockState state)
{
    static const char *const names[] = {
        [BLOCK_STATE_OWNED] = "owned",
        [BLOCK_STATE_INCOMPLETE] = "incomplete",
        [BLOCK_STATE_REPLICA] = "replica",
    };
    return names[state];
}

BlockState block_state_found(BlockState state, gboolean trusted)
{
    return state == BLOCK_STATE_REPLICA && !trusted ? BLOCK_STATE_INCOMPLETE : state;
}

/* ---- The ends of the stream ---- */

/* The phases come in their order, each once. */
gboolean disk_primary_may(PrimaryPhase from, PrimaryPhase to)
{
    return to == from + 1 && to < PRIMARY_PHASES;
}

gboolean disk_replica_may(ReplicaPhase from, ReplicaPhase to)
{
    return to == from + 1 && to < REPLICA_PHASES;
}

const char *disk_primary_phase_name(PrimaryPhase phase)
{
    static const char *const names[PRIMARY_PHASES] = {
        [PRIMARY_HELLO] = "hello",
        [PRIMARY_BITMAPS] = "bitmaps",
        [PRIMARY_STREAMING] = "streaming",
    };
    return names[phase];
}

const char *disk_replica_phase_name(ReplicaPhase phase)
{
    static const char *const names[REPLICA_PHASES] = {
        [REPLICA_HELLO] = "hello",
        [REPLICA_START] = "start",
        [REPLICA_SYNCING] = "syncing",
        [REPLICA_STAGING] = "staging",
    };
    return names[phase];
}

gboolean disk_primary_expects(PrimaryPhase phase, guint16 type)
{
    switch (type) {
    case WIRE_HELLO:
        return phase == PRIMARY_HELLO;
    case WIRE_BITMAP:
    case WIRE_READY:
        return phase == PRIMARY_BITMAPS;
    case WIRE_NEED:
    case WIRE_SYNCED:
    case WIRE_APPLIED:
        return phase == PRIMARY_STREAMING;
    default:
        return FALSE;
    }
}

gboolean disk_replica_expects(ReplicaPhase phase, guint16 type)
{
    switch (type) {
    case WIRE_HELLO:
        return phase == REPLICA_HELLO;
    case WIRE_START:
        return phase == REPLICA_START;
    case WIRE_HASH:
    case WIRE_SYNC_END:
        return phase == REPLICA_SYNCING;
    case WIRE_WRITE:
    case WIRE_ZERO:
    case WIRE_MARK:
        return phase == REPLICA_SYNCING || phase == REPLICA_STAGING;
    default:
        return FALSE;
    }
}
