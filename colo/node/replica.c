/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/replica.h"

#include "common/log.h"

struct Replica {
    ReplicaHandler handler;
    gpointer user_data;
    ReplicaPhase phase;
    guint failure_source; /* in REPLICA_FAILED */
};

const char *replica_obstacle(const ReplicaFacts *facts)
{
    if (!facts->is_paused)
        return "the VM is not paused yet";
    if (facts->is_ending)
        return "the VM's process seems to end";
    if (facts->is_grown)
        return "QEMU has grown";
    if (!facts->has_disks)
        return "the disks are not given up yet";
    if (facts->is_unsynced)
        return "a disk can't be made durable any more";
    if (facts->is_cached)
        return "QEMU has its disks open";
    if (facts->has_input)
        return "QEMU has not read the guest's input";
    if (facts->is_unread)
        return "the guest's agent has not read what was sent to it";
    return NULL;
}

#define TO(phase) (1u << (phase))

gboolean replica_may(ReplicaPhase from, ReplicaPhase to)
{
    static const guint may[REPLICA_PHASES] = {
        [REPLICA_NOTHING] = TO(REPLICA_CHECKING),
        [REPLICA_CHECKING] = TO(REPLICA_SWITCHING) | TO(REPLICA_FAILED),
        [REPLICA_SWITCHING] = TO(REPLICA_KEPT) | TO(REPLICA_FAILED),
        [REPLICA_KEPT] = TO(REPLICA_FAILED),
    };
    g_assert((guint)from < REPLICA_PHASES && (guint)to < REPLICA_PHASES);
    return to == REPLICA_NOTHING || (may[from] & TO(to)) != 0;
}

const char *replica_phase_name(ReplicaPhase phase)
{
    static const char *const names[REPLICA_PHASES] = {[REPLICA_NOTHING] = "nothing",
                                                      [REPLICA_CHECKING] = "checking",
                                                      [REPLICA_SWITCHING] = "switching",
                                                      [REPLICA_KEPT] = "kept",
                                                      [REPLICA_FAILED] = "failed"};
    return names[phase];
}

static void set_phase(Replica *replica, ReplicaPhase next)
{
    if (!replica_may(replica->phase, next))
        g_error("a VM that is to be kept can't become %s from %s", replica_phase_name(next),
                replica_phase_name(replica->phase));
    if (next != replica->phase)
        log_debug("the VM is to be kept: %s -> %s", replica_phase_name(replica->phase),
                  replica_phase_name(next));
    replica->phase = next;
}

static gboolean on_failure(gpointer user_data)
{
    Replica *replica = user_data;
    replica->failure_source = 0;
    set_phase(replica, REPLICA_NOTHING);
    replica->handler.start_over(replica->user_data);
    return G_SOURCE_REMOVE;
}

static void fail(Replica *replica, const char *what, const GError *error)
{
    log_warning("%s (%s): a new QEMU is started", what, error->message);
    set_phase(replica, REPLICA_FAILED);
    replica->failure_source = g_idle_add_full(G_PRIORITY_HIGH, on_failure, replica, NULL);
}

void replica_begin(Replica *replica)
{
    ReplicaFacts facts = replica->handler.look(replica->user_data);
    const char *obstacle = replica_obstacle(&facts);
    if (obstacle) {
        log_info("a new QEMU is started for the copy: %s", obstacle);
        replica->handler.start_over(replica->user_data);
        return;
    }
    set_phase(replica, REPLICA_CHECKING);
    replica->handler.forget(replica->user_data);
    replica->handler.check(replica->user_data);
}

void replica_checked(Replica *replica, const GError *error)
{
    if (replica->phase != REPLICA_CHECKING)
        return;
    if (error) {
        fail(replica, "the VM's process can't be kept", error);
        return;
    }
    set_phase(replica, REPLICA_SWITCHING);
    replica->handler.switch_disks(replica->user_data);
}

void replica_switched(Replica *replica, const GError *error)
{
    if (replica->phase != REPLICA_SWITCHING)
        return;
    if (error) {
        fail(replica, "the VM's disks can't become a replica as they are", error);
        return;
    }
    set_phase(replica, REPLICA_KEPT);
    log_info("the VM's process is kept: it is the copy from now on");
    replica->handler.kept(replica->user_data);
}

void replica_proven(Replica *replica)
{
    if (replica->phase == REPLICA_KEPT)
        set_phase(replica, REPLICA_NOTHING);
}

gboolean replica_lost(Replica *replica, const char *what, const GError *error)
{
    if (replica->phase == REPLICA_NOTHING)
        return FALSE;
    if (replica->phase != REPLICA_FAILED)
        fail(replica, what, error);
    return TRUE;
}

void replica_forget(Replica *replica)
{
    g_clear_handle_id(&replica->failure_source, g_source_remove);
    set_phase(replica, REPLICA_NOTHING);
}

ReplicaPhase replica_phase(const Replica *replica)
{
    return replica->phase;
}

Replica *replica_new(const ReplicaHandler *handler, gpointer user_data)
{
    Replica *replica = g_new0(Replica, 1);
    replica->handler = *handler;
    replica->user_data = user_data;
    return replica;
}

void replica_free(Replica *replica)
{
    if (!replica)
        return;
    replica_forget(replica);
    g_free(replica);
}
