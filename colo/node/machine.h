/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that has the VM's process: it makes and starts it, ends it, and knows when it is
 * about to end by itself.
 *
 * It owns the Vm, the tracker of its dirty pages, the RAM that a secondary keeps for its next VM,
 * and the signs of the VM's end. It doesn't order a VM that has started, nor decides what its
 * events mean: machine_vm() and machine_tracker() lend both to the parts that do.
 *
 * Always holds:
 * - A VM that was killed reports nothing any more. Its RAM stays until machine_drop(), for the
 *   engines use it.
 * - What is lost is reported once per VM: by its process, by its start, or by a sign alone.
 * - Only a secondary's VM begins with RAM of another one, and only with that of the one before it.
 *
 * All of it runs on the main thread. Nothing blocks.
 */
#ifndef COLO_COLO_NODE_MACHINE_H
#define COLO_COLO_NODE_MACHINE_H

#include "checkpoint/checkpoint.h"
#include "colo/config/config.h"
#include "vm/vm.h"

typedef struct Machine Machine;

/* Called on the main loop. A handler may kill and drop the VM at once. */
typedef struct {
    /* A Vm of `handler`, not started. */
    Vm *(*make)(const VmHandler *handler, gpointer user_data);
    /* It is there, paused. */
    void (*started)(gpointer user_data);
    /* What QEMU reports of the guest: any event but VM_EVENT_DIED. */
    void (*event)(VmEvent event, const char *detail, gpointer user_data);
    /* It can't be started, its process has ended, or that was expected and not reported. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
} MachineHandler;

/* `config` is borrowed. */
Machine *machine_new(const Config *config, const MachineHandler *handler, gpointer user_data);
/* Kills and drops the VM, if there is one. */
void machine_free(Machine *machine);

/*
 * Makes and starts a VM: then `started` or `lost`. A copy gets its RAM from the primary, which
 * sends what differs from the RAM kept. A VM that boots finds its RAM empty.
 */
void machine_start(Machine *machine, gboolean is_copy);
/*
 * A sign that the VM's process is ending. The process will report how, and better than the sign
 * does. If it doesn't in a moment, the VM is lost all the same.
 */
void machine_expect_end(Machine *machine, const char *what, const GError *sign);
/* The first sign since the VM was started; NULL: its end is not expected. */
const GError *machine_ending_sign(const Machine *machine);

/* Ends the VM's process. */
void machine_kill(Machine *machine);
/* After machine_kill() and the end of all that uses its RAM. `keep_ram`: for a copy after it. */
void machine_drop(Machine *machine, gboolean keep_ram);

/* From machine_start() to machine_drop(), and from `started` on; else NULL. */
Vm *machine_vm(const Machine *machine);
DirtyTracker *machine_tracker(const Machine *machine);
/*
 * vm_identity() of the last VM that was started, for hellos. NULL: none was yet. Borrowed; the
 * caller may add to it.
 */
json_object *machine_identity(const Machine *machine);

#endif
