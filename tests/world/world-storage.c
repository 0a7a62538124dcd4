/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host's storage that fails: for a while, or until it is mended. And what must be true then,
 * because the error may pass. A node that perhaps has the only VM reports what it is refused. It
 * tries again, and keeps the VM meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

/* A full file system is full; a medium that fails does not fail each time. */
#define EIO_PER_MILLE 700u

/* A refusal is reported and has been tried again by then (of a second, in resume.c). */
#define TOLD_US  (50 * 1000)
#define TRIED_US (3 * G_USEC_PER_SEC)

/* By then a node knows that its peer has died. */
#define NOTICED_US (3 * G_USEC_PER_SEC)

void world_storage_fail(WorldHost *host, int error, gint64 us)
{
    host->storage_errno = error;
    host->storage_fails_until_us = us == G_MAXINT64 ? us : world.now_us + us;
    world_tell("%s: the disks' storage fails (%s) %s", host->name, g_strerror(error),
               us == G_MAXINT64 ? "until it is mended" : "for a while");
}

gboolean world_storage_mend(void)
{
    gboolean some = FALSE;
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        some |= world.host[i].storage_fails_until_us == G_MAXINT64;
        world.host[i].storage_fails_until_us = 0;
        world.host[i].syncs_fail_until_us = 0;
    }
    return some;
}

void world_storage_hang(WorldHost *host, gint64 until_us)
{
    host->storage_hangs_until_us = until_us;
    host->storage_is_another = world_chance(500);
    host->storage_bad_until_us = world.now_us + 2 * WORLD_HEAL_US;
}

int world_storage_error(const WorldHost *host, StorageUse use)
{
    if (world.now_us >= host->storage_fails_until_us)
        return 0;
    if (host->storage_errno == ENOSPC)
        return use == STORAGE_NEEDS_ROOM ? ENOSPC : 0;
    return world_chance(EIO_PER_MILLE) ? host->storage_errno : 0;
}

/* ---- fdatasync ---- */

void world_storage_fail_syncs(WorldHost *host, int error, gint64 us)
{
    host->syncs_errno = error;
    host->syncs_fail_once = us == 0;
    host->syncs_fail_until_us = world.now_us + (us ? us : WORLD_HEAL_US);
    world_tell("%s: fdatasync fails (%s) %s", host->name, g_strerror(error),
               us ? "for a while" : "once");
}

int world_storage_sync_error(WorldHost *host)
{
    if (world.now_us >= host->syncs_fail_until_us ||
        (!host->syncs_fail_once && host->syncs_errno == EIO && !world_chance(EIO_PER_MILLE)))
        return 0;
    if (host->syncs_fail_once)
        host->syncs_fail_until_us = 0;
    return host->syncs_errno;
}

int world_storage_state_error(WorldHost *host)
{
    int failed = world_storage_sync_error(host);
    if (failed)
        world_sometimes("fdatasync fails: a state file");
    return failed;
}

/* The node asks its disks twice a second, unless it or they stand still. */
#define UNSYNCED_US (2 * G_USEC_PER_SEC)

typedef struct {
    WorldHost *host;
    guint starts, disk_starts; /* then */
} Unsynced;

static gboolean on_unsynced(gpointer data)
{
    Unsynced *unsynced = data;
    const WorldHost *host = unsynced->host;
    gboolean over = !host->lives || host->ended || host->starts != unsynced->starts ||
                    host->disk_starts != unsynced->disk_starts ||
                    !fsm_is_primary(host->node->state) || !host->vm || host->vm->vm.dead ||
                    !world_disk_serves(host);
    if (!over && !host->unsynced_told) {
        if (MAX(host->frozen_until_us, host->disk_hangs_until_us) + UNSYNCED_US > world.now_us) {
            world_later(NULL, UNSYNCED_US, on_unsynced, unsynced);
            return G_SOURCE_REMOVE;
        }
        world_fail("%s: what its guest wrote may be lost, and nobody is told", host->name);
    }
    g_free(unsynced);
    return G_SOURCE_REMOVE;
}

void world_storage_unsynced(WorldHost *host)
{
    Unsynced *unsynced = g_new(Unsynced, 1);
    *unsynced = (Unsynced){host, host->starts, host->disk_starts};
    world_later(NULL, UNSYNCED_US, on_unsynced, unsynced);
}

/* ---- What a refusal must lead to ---- */

typedef struct {
    WorldHost *host;
    guint starts, tries; /* then */
    FsmState state;
    const char *what;
} Refusal;

static gboolean is_over(const Refusal *refusal)
{
    const WorldHost *host = refusal->host;
    return !host->lives || host->ended || host->starts != refusal->starts ||
           host->node->state != refusal->state || host->guest_stopped || !host->vm ||
           host->vm->vm.dead || !host->disk_server;
}

static gboolean on_tried(gpointer data)
{
    Refusal *refusal = data;
    const WorldHost *host = refusal->host;
    if (!is_over(refusal) && host->tries == refusal->tries && !host->vm->vm.running) {
        if (host->frozen_until_us + TRIED_US > world.now_us ||
            host->disk_hangs_until_us + TRIED_US > world.now_us) {
            world_later(NULL, TRIED_US, on_tried, refusal);
            return G_SOURCE_REMOVE;
        }
        world_fail("%s: %s was refused by storage, and is not tried again", host->name,
                   refusal->what);
    }
    g_free(refusal);
    return G_SOURCE_REMOVE;
}

static gboolean on_told(gpointer data)
{
    Refusal *refusal = data;
    WorldHost *host = refusal->host;
    if (!is_over(refusal) && host->tries == refusal->tries && !host->trouble)
        world_fail("%s: %s was refused by storage, and nobody is told", host->name, refusal->what);
    world_later(NULL, TRIED_US, on_tried, refusal);
    return G_SOURCE_REMOVE;
}

void world_storage_tried(WorldHost *host)
{
    host->tries++;
}

void world_storage_refused(WorldHost *host, const char *what)
{
    static const struct {
        FsmState state;
        const char *when;
    } kept[] = {
        {FSM_S_PAUSED,  "storage refuses what a copy needs while it is open who goes on"    },
        {FSM_S_RECOVER, "storage refuses what a copy needs that has found its primary again"},
        {FSM_S_DEVICE,  "storage refuses what a takeover needs"                             },
        {FSM_S_TAKING,  "storage refuses what a hand-over needs"                            },
        {FSM_P_NONE,    "storage refuses to resume an unprotected VM"                       },
        {FSM_P_COLO,    "storage refuses to resume a protected VM"                          },
    };
    if (!host->lives || host->ended)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (host->node->state != kept[i].state)
            continue;
        world_sometimes(kept[i].when);
        Refusal *refusal = g_new(Refusal, 1);
        *refusal = (Refusal){host, host->starts, host->tries, host->node->state, what};
        world_later(host, TOLD_US, on_told, refusal);
    }
}

/* ---- Disks are not both sides' ---- */

/* A secondary that was handed the VM has its disks, or gives them back: they are not the primary's then. */
static void check_taking(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    FsmState state = host->node->state;
    if ((state != FSM_S_TAKING && state != FSM_S_GIVING) || !peer->lives || !peer->node)
        return;
    FsmState there = peer->node->state;
    if (!fsm_is_primary(there) || there == FSM_P_ASKING || there == FSM_P_STARTING)
        return;
    /* The arbiter has it as the primary's again, and the answer is still on its way. */
    if (state == FSM_S_GIVING && !fsm_is_contested(there))
        return;
    world_sometimes("a secondary takes what it was handed, and its primary lives");
    if (disks_are_there(peer->node->disks) && disks_are_active(peer->node->disks))
        world_fail("%s: takes the VM, and the disks count as %s's too", host->name, peer->name);
}

void world_storage_check_disks(const WorldHost *host)
{
    const Node *node = host->node;
    gboolean away = node->state == FSM_P_HANDED ||
                    (node->state == FSM_P_FROZEN && primary_phase(node->primary) == CYCLE_PAUSED);
    if (world.disks)
        check_taking(host);
    if (!world.disks || !away || !disks_are_there(node->disks))
        return;
    if (disks_are_active(node->disks))
        world_fail("%s: the VM is the other side's, and the disks count as this side's too",
                   host->name);
    if (host->vm && host->vm->vm.running)
        world_fail("%s: the VM is the other side's, and runs here", host->name);
}

/* ---- No VM is given up ---- */

/* A node has given up its VM, though QEMU and the disk server live. */
void world_storage_check_given_up(const WorldHost *host, guint before)
{
    const WorldHost *peer = &world.host[!host->index];
    if (!host->vm || host->vm->vm.dead || host->vm->stuck || !world_disk_serves(host) ||
        !world_holds_the_vm(host, before))
        return;
    if (peer->lives && world_holds_the_vm(peer, peer->node->state))
        return;
    if (world.lied && !fsm_is_primary((FsmState)before))
        return;
    /* Limits that docs/ARCHITECTURE.md describes. */
    if (!fsm_is_primary((FsmState)before) && !copy_is_valid(host->node->copy)) {
        world_sometimes("the primary's VM dies while its copy is invalid");
        return;
    }
    if ((before == FSM_S_COLO || before == FSM_S_HANDED || before == FSM_S_PAUSED) &&
        world.now_us < MAX(peer->gone_us, host->frozen_until_us) + NOTICED_US) {
        world_sometimes("a secondary's storage fails before it knows that its primary has died");
        return;
    }
    world_fail("%s gives up the only copy of the VM (%s): %s", host->name,
               fsm_state_name((FsmState)before),
               host->trouble ? host->trouble : "without a reason");
}
