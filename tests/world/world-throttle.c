/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes that wait for the next epoch: block/throttle.h, with a write as its unit, and what a node
 * owes to them. When half of what an epoch may have is written, that is reported (FILLING). A
 * protected primary then takes a checkpoint. A node that can't, and a node that pauses a VM, let
 * all writes through. QEMU's pause waits for the writes that are under way, however the guest has
 * stopped.
 */
#include <string.h>

#include "colo/node/node_internal.h"
#include "tests/world/world-disk.h"

/* The time in which a node learns of what fills, and acts. */
#define OWED_US 2000
/* A full epoch's write passes by then all the same. */
#define TURN_US G_USEC_PER_SEC
/* QEMU looks again whether it is drained. */
#define DRAIN_US 500

static gboolean is_full(const DiskThrottle *throttle)
{
    return throttle->limit && throttle->written >= throttle->limit && !throttle->open;
}

static DiskServer *server_of(const SimVm *vm)
{
    DiskServer *server = vm->host->disk_server;
    return server && !server->ended ? server : NULL;
}

/* ---- The epoch ---- */

static void release(DiskServer *server)
{
    SimVm *vm = server->host->vm;
    if (is_full(&server->throttle) || !vm)
        return;
    vm->others_wait = FALSE;
    sim_vm_let_through(vm);
}

void disk_throttle_limit(DiskServer *server, guint limit)
{
    server->throttle.limit = limit;
    release(server);
}

void disk_throttle_begin_epoch(DiskServer *server)
{
    server->throttle =
        (DiskThrottle){.limit = server->throttle.limit, .filling = server->throttle.filling};
    release(server);
}

void disk_throttle_open(DiskServer *server)
{
    server->throttle.open = TRUE;
    release(server);
}

/* ---- What is owed to writes that wait ---- */

/* They are about to pass. */
static gboolean is_let_through(const DiskServer *server)
{
    return !is_full(&server->throttle) || disk_has_order(server, "let-through") ||
           disk_has_order(server, "detach") || disk_has_order(server, "takeover");
}

/* The guest is paused, or has stopped: nothing comes that would begin the next epoch. */
static void check_let_through(const SimVm *vm, const char *what)
{
    const DiskServer *server = server_of(vm);
    if (server && !is_let_through(server))
        world_fail("%s: %s, and QEMU waits for writes that nobody lets through", vm->host->name,
                   what);
}

static gboolean is_hurried(const Node *node)
{
    return primary_wants(node->primary, REASON_DISK_LIMIT) ||
           primary_phase(node->primary) != CYCLE_IDLE;
}

/* Of the guest of a primary that no pause is meant for. */
static void check_guest(const WorldHost *host, const DiskServer *server)
{
    const Node *node = host->node;
    switch (node->state) {
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        if (!is_let_through(server))
            world_fail("%s: writes of an unprotected guest wait for an epoch", host->name);
        world_sometimes("the writes of a guest that is not protected yet are let through");
        break;
    case FSM_P_COLO:
        if (!is_let_through(server) && !is_hurried(node))
            world_fail("%s: writes wait for the next epoch, and no checkpoint is taken",
                       host->name);
        break;
    default:
        break;
    }
}

static gboolean on_owed(gpointer data)
{
    const WorldHost *host = data;
    const SimVm *vm = host->vm;
    if (!vm || host->ended || !server_of(vm))
        return G_SOURCE_REMOVE;
    if (vm->others_wait)
        check_let_through(vm, "the guest has stopped by itself");
    else if (vm->turn_us)
        check_guest(host, server_of(vm));
    return G_SOURCE_REMOVE;
}

/* ---- Writes ---- */

static gboolean on_filling(gpointer data)
{
    DiskServer *server = data;
    world_source_clear(&server->throttle.filling);
    json_object *nothing = json_object_new_object();
    world_sometimes("an epoch fills");
    server->callbacks.event("FILLING", nothing, server->user_data);
    json_object_put(nothing);
    return G_SOURCE_REMOVE;
}

gboolean world_disk_admits(SimVm *vm)
{
    DiskServer *server = server_of(vm);
    if (!server || !server->throttle.limit) {
        vm->turn_us = 0;
        return TRUE;
    }
    DiskThrottle *throttle = &server->throttle;
    /* What it writes besides. */
    guint writes = world_chance(100) ? (guint)world_between(1, 12) : 1;
    if (!throttle->asked && throttle->written + writes >= throttle->limit / 2) {
        throttle->asked = TRUE;
        if (!throttle->filling)
            throttle->filling = world_after(vm->host, world_between(50, 500), on_filling, server);
    }
    if (is_full(throttle) && !vm->turn_us) {
        world_sometimes("a write waits for the next epoch");
        vm->turn_us = world.now_us + world_between(1000, TURN_US);
        world_later(vm->host, OWED_US, on_owed, vm->host);
    }
    if (is_full(throttle) && world.now_us < vm->turn_us)
        return FALSE;
    vm->turn_us = 0;
    throttle->written += writes;
    return TRUE;
}

gint64 world_disk_drains_us(const SimVm *vm)
{
    const DiskServer *server = server_of(vm);
    if (!server || !(vm->turn_us || vm->others_wait) || !is_full(&server->throttle))
        return 0;
    check_let_through(vm, "the guest is to be paused");
    world_sometimes("a pause waits for writes that are being let through");
    return DRAIN_US;
}

void world_disk_stops(SimVm *vm)
{
    DiskServer *server = server_of(vm);
    if (!server || !server->throttle.limit || server->throttle.open || world_chance(500))
        return;
    server->throttle.written = server->throttle.limit;
    vm->others_wait = TRUE;
    world_sometimes("a guest stops while others of its writes wait");
    world_later(vm->host, OWED_US, on_owed, vm->host);
}
