/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Administrators who stop the guest and continue it, at any moment and on any host. From a `stop` that
 * was accepted until a `cont`, QEMU is not told to run that VM: not by the node that accepted it, and
 * not by one that continues from a checkpoint of a guest that is stopped. A copy in the epoch of such a
 * checkpoint doesn't run either. A hand-over never loses a `stop`; the death of a primary may, until
 * its next checkpoint is complete.
 */
#include <string.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

/* ---- What is true of a VM ---- */

void world_stop_new_vm(WorldHost *host)
{
    host->guest_stopped = host->copy_stopped = FALSE;
}

void world_stop_received(WorldHost *host, GBytes *attachment)
{
    g_auto(Attachment) read = {0};
    host->copy_stopped = attachment_unpack(1, attachment, &read, NULL) && read.stopped;
    if (host->copy_stopped)
        world_sometimes("a secondary is told that the guest is stopped");
}

void world_stop_check_run(const WorldHost *host)
{
    if ((host->guest_stopped || host->copy_stopped) && !world.lied)
        world_fail("%s: QEMU is told to run a guest that is stopped", host->name);
}

void world_stop_check_takeover(const WorldHost *host, guint before)
{
    const WorldHost *peer = &world.host[!host->index];
    gboolean handed = before == FSM_S_HANDED && peer->lives && peer->node->state == FSM_P_HANDED;
    if (handed && peer->guest_stopped && !host->copy_stopped && !world.lied)
        world_fail("%s: the order to stop the guest is lost in a hand-over", host->name);
    if (host->copy_stopped)
        world_sometimes(handed ? "a guest that is stopped is handed over"
                               : "a guest that is stopped is taken over");
}

/* ---- Who orders it ---- */

static gboolean order(WorldHost *host, const char *name)
{
    gboolean done = world_command(host, name, json_object_new_object());
    world_tell("%s: command %s: %s", host->name, name, done ? "done" : host->refusal);
    return done;
}

/* A guest that has not booted has no past to keep. */
static gboolean may_be_asked(const WorldHost *host)
{
    return host->lives && !host->ended && world_is_awake(host) && host->vm && host->vm->booted;
}

void world_stop_guest(WorldHost *host)
{
    if (!may_be_asked(host))
        return;
    gboolean pauses =
        host->node->is_primary && !cycle_is_between_pauses(primary_phase(host->node->primary));
    if (!order(host, "stop") || !host->vm)
        return;
    host->guest_stopped = TRUE;
    world_sometimes(pauses ? "a guest is stopped during a checkpoint" : "a guest is stopped");
}

/* Nobody else is about to have the VM. */
static gboolean is_its_own(const Node *node)
{
    g_autofree char *way_out = stops_way_out(node->state, final_has_begun(node->final), "");
    return !way_out && node->state != FSM_P_PAUSED && node->state != FSM_P_RECOVER;
}

void world_continue_guest(WorldHost *host)
{
    if (!may_be_asked(host))
        return;
    gboolean guest = host->guest_stopped, copy = host->copy_stopped;
    gboolean own = is_its_own(host->node);
    host->guest_stopped = host->copy_stopped = FALSE;
    if (!order(host, "cont") && host->refusal && strstr(host->refusal, "is not possible")) {
        if (own)
            world_fail("%s: the VM is its own, and it refuses to continue it: %s", host->name,
                       host->refusal);
        host->guest_stopped = guest;
        host->copy_stopped = copy;
    } else if (copy) {
        world_sometimes("a guest is continued where it was not stopped");
    }
}

void world_continue_the_stopped(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (host->lives && host->node->is_primary && resume_is_stopped(host->node->resume))
            world_continue_guest(host);
    }
}
