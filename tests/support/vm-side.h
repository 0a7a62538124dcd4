/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One of two real QEMUs with the Linux guest, for tests of the engines without a node. From the environment:
 * QEMU (the binary), COLO_GUEST (default: the build folder's), COLO_ACCEL (default: tcg).
 */
#ifndef COLO_TESTS_VM_SIDE_H
#define COLO_TESTS_VM_SIDE_H

#include "checkpoint/checkpoint.h"
#include "vm/vm.h"

typedef struct {
    VmAttach attach; /* of its first card; before it is started */
    Vm *vm;
    DirtyTracker *tracker;
    char *serial;  /* path of what its console has printed */
    char *monitor; /* path of the socket of QEMU's monitor for people */
} VmSide;

/* What a test of VMs can't go on without; NULL: all is there. */
const char *vm_side_missing(void);

/*
 * Starts QEMU and, once it is up, a tracker of its RAM. It stays paused. `machine` as QEMU's -machine has it;
 * `append` is added to the kernel's command line. An error, or an event of the VM, ends the test.
 */
void vm_side_start(VmSide *side, const char *name, const char *machine, unsigned cpus,
                   const char *append);
void vm_side_stop(VmSide *side);

/* Each ends the test if it fails. */
void vm_side_pause(VmSide *side);
void vm_side_resume(VmSide *side);
GBytes *vm_side_save(VmSide *side);
void vm_side_load(VmSide *side, GBytes *state);

/* All that its console has printed; g_free() it. */
char *vm_side_console(const VmSide *side);
gboolean vm_side_is_ready(const VmSide *side);

/* Prints what QEMU's own monitor says of the state of its processors, timers and interrupts. */
void vm_side_diagnose(const VmSide *side);

#endif
