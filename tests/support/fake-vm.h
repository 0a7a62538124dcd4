/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM without QEMU, behind the same operations (vm/vm.h). Its "guest" is a deterministic machine
 * that lives in this process: RAM is a memfd mapped twice, once for us (vm_ram()->base) and once
 * for the guest (remote_base, pid is our own), with a userfaultfd of this process if the kernel
 * gives one. Two fakes with the same seed that take the same steps have the same RAM; so has one
 * that was loaded with the other's state and RAM.
 *
 * Device state holds the guest's generator, its step count and a digest of all RAM. A load checks
 * the digest: it fails with VM_ERROR_DEVICE_STATE unless RAM is that of the same moment. So does
 * the resume after it: what the load itself has written must have been put right until then.
 */
#ifndef COLO_TESTS_FAKE_VM_H
#define COLO_TESTS_FAKE_VM_H

#include "vm/vm.h"

/* A valid description of such a VM, for tests to change. Free with vm_description_free(). */
VmDescription *fake_vm_description(guint64 memory_bytes, unsigned nics);

/* A fake of `description`, not started yet; `seed` decides what its guest does. */
Vm *fake_vm_new(const VmDescription *description, guint64 seed, const VmHandler *handler);

/* ---- The guest ---- */

/*
 * Takes `steps` steps: each writes to one page of RAM (mostly data, sometimes zeroes). The VM must
 * run. The pages are those fake_vm_on_write() tells of.
 */
void fake_vm_step(Vm *vm, unsigned steps);

/* Calls `wrote` with each page number that a step, or a load, writes to; NULL ends it. */
void fake_vm_on_write(Vm *vm, void (*wrote)(guint64 page, gpointer user_data), gpointer user_data);

/* Takes `steps` steps every `interval_ms` from the main loop while the VM runs; 0 ends it. */
void fake_vm_autorun(Vm *vm, unsigned interval_ms, unsigned steps);

typedef enum {
    FAKE_VM_GONE, /* not started, or ended */
    FAKE_VM_STANDS,
    FAKE_VM_RUNS,
} FakeVmGuest;

/*
 * Calls `changed` with what the guest does from now on, as it changes; NULL ends it. From the thread of all other
 * calls, before the operation's end is told. GONE is told while what the VM has is there for the last time.
 */
void fake_vm_on_guest(Vm *vm, void (*changed)(FakeVmGuest guest, gpointer user_data),
                      gpointer user_data);

/* Steps taken since the guest was powered on; part of the device state. */
guint64 fake_vm_steps(const Vm *vm);

/* A digest of all RAM; unpopulated pages count as zeroes and stay unpopulated. */
guint64 fake_vm_ram_digest(const Vm *vm);

/* ---- The network: the guest's end of card `nic` ---- */

/* Sends a frame as the guest would: 12 zero bytes of virtio-net header, then `data`. */
void fake_vm_send_frame(Vm *vm, unsigned nic, const void *data, gsize len);

/* The next frame that reached the guest, without its header; NULL if none has arrived whole. */
GBytes *fake_vm_receive_frame(Vm *vm, unsigned nic);

/* The guest's end of card `nic`: a stream socket, borrowed; -1: the VM isn't started. */
int fake_vm_card_fd(const Vm *vm, unsigned nic);

/* The guest's end of the agent's port: a stream socket, borrowed; -1: there is none. */
int fake_vm_agent_fd(const Vm *vm);

/* ---- Bad days ---- */

typedef enum {
    FAKE_VM_START,
    FAKE_VM_PAUSE,
    FAKE_VM_RESUME,
    FAKE_VM_SAVE,
    FAKE_VM_LOAD,
    FAKE_VM_INACTIVATE, /* of a VM with a qcow2 disk: twice without a resume ends the test, as it does
                        QEMU */
    FAKE_VM_OPERATIONS
} FakeVmOperation;

typedef enum {
    FAKE_VM_OK,
    FAKE_VM_DIE,     /* the process ends in the middle: VM_ERROR_DIED */
    FAKE_VM_FAIL,    /* VM_ERROR_QMP; after a failed load the device state is undefined */
    FAKE_VM_TIMEOUT, /* VM_ERROR_TIMEOUT */
    FAKE_VM_SPEND,   /* VM_ERROR_SPENT: of a resume, a disk is lost for good */
    FAKE_VM_HOLD,    /* no answer until fake_vm_proceed(), kill or free */
} FakeVmFault;

/* The `nth` next `operation` (1: the very next) meets `fault`; the ones around it don't. */
void fake_vm_inject(Vm *vm, FakeVmOperation operation, FakeVmFault fault, unsigned nth);

/* Every `operation` fails (VM_ERROR_QMP) until told otherwise. */
void fake_vm_refuse(Vm *vm, FakeVmOperation operation, gboolean refuse);

/* How often `operation` was begun. */
unsigned fake_vm_count(const Vm *vm, FakeVmOperation operation);

/* Lets a held operation go on, or fail if it is refused by now; asserts that one is held. */
void fake_vm_proceed(Vm *vm);
gboolean fake_vm_is_held(const Vm *vm);

/* Every successful load from now on writes to `pages` pages of RAM, always the same, as QEMU's may.
 */
void fake_vm_set_load_writes(Vm *vm, unsigned pages);

/* What vm_private_bytes() says; at first it can't be seen. */
void fake_vm_set_private_bytes(Vm *vm, guint64 bytes);

/* The process ends unasked, now. */
void fake_vm_die(Vm *vm);

/* Raises an event, as if QEMU had. */
void fake_vm_raise(Vm *vm, VmEvent event, const char *detail);

#endif
