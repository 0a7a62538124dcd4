/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a Vm: the operations of an implementation, and the parts all of them share. vm.c
 * upholds the promises of vm.h: one operation at a time, its callback exactly once, never from
 * within the call that started it. An implementation only has to call vm_finish() once for each
 * operation, from anywhere on the Vm's thread.
 */
#ifndef COLO_VM_VM_INTERNAL_H
#define COLO_VM_VM_INTERNAL_H

#include "vm/vm.h"

typedef enum {
    VM_OP_NONE,
    VM_OP_START,
    VM_OP_PAUSE,
    VM_OP_RESUME,
    VM_OP_SAVE,
    VM_OP_LOAD,
    VM_OP_INACTIVATE,
} VmOp;

typedef struct {
    /* Each begins an operation that ends in vm_finish(), at once or later. */
    void (*start)(Vm *vm);
    void (*pause)(Vm *vm);
    void (*resume)(Vm *vm);
    void (*save)(Vm *vm);
    void (*load)(Vm *vm, GBytes *state);
    /* Asked of a VM with cached disks only; NULL: never caches anything. */
    void (*inactivate)(Vm *vm, gboolean of_copy);
    /* See vm_private_bytes(). NULL: that of ram.pid. */
    guint64 (*private_bytes)(const Vm *vm);
    /* Ends the process and reaps it; called at most once. The RAM stays mapped here. */
    void (*kill)(Vm *vm);
    /* Frees what the implementation owns, the structure itself included; kill() came before. */
    void (*free)(Vm *vm);
} VmOps;

/* The first member of every implementation's structure. */
struct Vm {
    const VmOps *ops;
    VmDescription *description;
    VmHandler handler;
    VmRam ram;
    int kept_ram;     /* to begin with; -1: none */
    GArray *nic_fds;  /* of int, our ends, or -1; closed by vm_free() */
    int agent_fd;     /* likewise; -1: none */
    GPtrArray *cards; /* of VhostCard*, for the nics before its length; NULL: it has a descriptor */
    gboolean started, running, dead;
    gboolean stopped; /* by itself, since it was last told to run */
    /*
     * QEMU has got a command to inactivate its disks since the VM ran last, or would have if it had
     * cached anything of them. Set before the try:
     * after one that failed, some disks may be inactive. QEMU (7.2 at least) aborts at a command to
     * inactivate such a disk again. Only a `cont` that succeeds makes all of them active for
     * certain. After one that failed, too, some are active and some are not.
     */
    gboolean inactivated, inactivate_failed;
    gboolean keeps_bitmaps; /* in memory, of disks that it gave up as its own */
    GError *disk_lost;      /* by a resume: this QEMU can't open it any more; NULL: none is */

    /* What was found out at start, for the identity. */
    char *qemu_version; /* "7.2.22" */
    char *machine_name; /* versioned: "pc-i440fx-7.2" */
    char *accel;        /* "kvm" or "tcg" */
    char *host_cpu;     /* of this host, if the guest sees it ("-cpu host"), else NULL */

    /* The operation that runs; only vm.c touches these. */
    VmOp op;
    gboolean in_call;
    union {
        VmDone done;
        VmStateDone state_done;
    };
    gpointer user_data;
    GBytes *later_state;
    GError *later_error;
    guint later_source;
};

/* Fills the common part; `vm` is zeroed memory. */
void vm_init(Vm *vm, const VmOps *ops, const VmDescription *description, const VmHandler *handler);

/*
 * Ends the running operation: successfully with `error` NULL, and for a save with its `state`. The
 * caller may have freed the Vm when this returns: don't touch it afterwards.
 */
void vm_finish(Vm *vm, GBytes *state, const GError *error);

/* The operation that runs, VM_OP_NONE if none does; its name for messages ("pause"). */
VmOp vm_operation(const Vm *vm);
const char *vm_op_name(VmOp op);

/* ---- memory.c ---- */

/* Anonymous memory of a process, in RAM or swapped out; 0 if it can't be seen. */
guint64 vm_process_private_bytes(pid_t pid);

/*
 * The process has ended unasked: ends the running operation with VM_ERROR_DIED, or, if none runs,
 * emits VM_EVENT_DIED with `detail`. The Vm may be gone afterwards.
 */
void vm_died(Vm *vm, const char *detail);

/* Tells the owner; keeps vm->running true to the event. The Vm may be gone afterwards. */
void vm_emit(Vm *vm, VmEvent event, const char *detail);

#endif
