/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests that reboot, panic and power off by themselves, as they are asked for something. Two copies
 * of one past mostly do that alike: so it follows from the past. Now and then one does it alone.
 *
 * Each is part of the guest's history. A reboot writes to all of RAM, and the guest runs on. One that
 * has panicked is stopped by QEMU, and can go on. One that has powered off can't, until it is loaded: a
 * primary's VM ends soon, and a copy is made again from the next checkpoint.
 */
#include <xxhash.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

/* Of so many things that a guest is asked for, both copies do one of these at one; and one alone. */
#define BOTH_EACH  300u
#define ALONE_EACH 600u

/* Nobody but this host can have the VM, or will. */
static gboolean is_the_vm(const WorldHost *host)
{
    return fsm_is_primary(host->node->state) || fsm_is_taking_over(host->node->state);
}

static WorldGuest reboot(SimVm *vm)
{
    world_sometimes(is_the_vm(vm->host) ? "a guest reboots" : "a copy's guest reboots");
    for (guint page = 0; page < WORLD_PAGES; page++)
        sim_vm_write(vm, page, (guint32)vm->history->id + page);
    vm_emit(&vm->vm, VM_EVENT_RESET, "guest-reset");
    return WORLD_GUEST_BOOTS;
}

static WorldGuest panic(SimVm *vm)
{
    world_sometimes(is_the_vm(vm->host) ? "a guest panics" : "a copy's guest panics");
    sim_vm_stops(vm);
    world_guest_stalls(vm->host);
    vm_emit(&vm->vm, VM_EVENT_PANICKED, "pause");
    vm_emit(&vm->vm, VM_EVENT_STOPPED, "guest-panicked");
    return WORLD_GUEST_STOPS;
}

/* The ordered end has a limit, and QEMU and the arbiter have theirs. */
#define ENDS_US (40 * G_USEC_PER_SEC)

static gboolean look_at_end(gpointer data)
{
    const WorldHost *host = data;
    if (!host->ended && host->vm && host->vm->off && is_the_vm(host))
        world_fail("%s: its guest has powered off, and the VM has not ended", host->name);
    return G_SOURCE_REMOVE;
}

static WorldGuest power_off(SimVm *vm)
{
    gboolean ends = is_the_vm(vm->host);
    world_sometimes(ends ? "a guest powers off" : "a copy's guest powers off");
    vm->host->told_to_end |= ends;
    if (ends)
        world_later(vm->host, ENDS_US, look_at_end, vm->host);
    vm->off = TRUE;
    sim_vm_stops(vm);
    world_guest_stalls(vm->host);
    vm_emit(&vm->vm, VM_EVENT_SHUTDOWN, "guest-shutdown");
    return WORLD_GUEST_STOPS;
}

WorldGuest world_power_next(SimVm *vm)
{
    guint64 past[] = {world.seed, vm->history->id};
    guint64 number = XXH3_64bits(past, sizeof(past));
    if (world.is_case || world.guests_are_calm)
        return WORLD_GUEST_WORKS;
    gboolean alone = world_random(ALONE_EACH) == 0;
    gboolean both = vm->history->position > 0 && number % BOTH_EACH == 0;
    if (!both && !alone)
        return WORLD_GUEST_WORKS;
    guint64 which = alone ? world_random(10) : number / BOTH_EACH % 10;
    world_tell("%s: the guest %s", vm->host->name,
               which < 6   ? "reboots"
               : which < 8 ? "panics"
                           : "powers off");
    world_guest_acts(vm);
    return which < 6 ? reboot(vm) : which < 8 ? panic(vm) : power_off(vm);
}
