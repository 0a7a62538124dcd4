/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine seen from outside: its description, its process, its RAM, its device state and
 * the sockets of its network cards. One implementation runs a stock QEMU (vm_qemu_new), one is a
 * fake for tests (tests/support/fake-vm.h). Both have the same operations.
 *
 * Threads: a Vm belongs to the thread that made it and calls back on that thread's default
 * GMainContext. Nothing here blocks. VmRam is plain memory and may be read by any thread.
 *
 * Operations are asynchronous: each returns at once and calls `done` exactly once, later, from the
 * main loop. It does so also when QEMU dies or the Vm is freed in between, but not once it is
 * abandoned. At most one operation runs at a time per Vm. Starting another is a bug of the caller
 * (assertion), except vm_kill() and vm_abandon().
 */
#ifndef COLO_VM_VM_H
#define COLO_VM_VM_H

#include <glib.h>
#include <json-c/json.h>
#include <sys/types.h>

#include "vm/ram-log.h"

#define VM_ERROR vm_error_quark()
GQuark vm_error_quark(void);

typedef enum {
    VM_ERROR_DESCRIPTION,  /* the description is wrong: the message names the field */
    VM_ERROR_NO_QEMU,      /* the QEMU binary is missing or can't be run */
    VM_ERROR_TOO_OLD,      /* older than VM_QEMU_MINIMUM */
    VM_ERROR_START,        /* QEMU ended or did not answer while starting; has its stderr */
    VM_ERROR_PERMISSION,   /* a right is missing: names the capability or sysctl */
    VM_ERROR_UNSUPPORTED,  /* something in this VM can't be checkpointed: names it */
    VM_ERROR_DIED,         /* the process is gone */
    VM_ERROR_TIMEOUT,      /* QEMU did not answer in time */
    VM_ERROR_QMP,          /* QEMU answered with an error: "Class: text" */
    VM_ERROR_DEVICE_STATE, /* device state that isn't one */
    VM_ERROR_SPENT,        /* this QEMU can't do it any more, however often it is asked */
} VmError;

/* The oldest QEMU that has all we use. */
#define VM_QEMU_MINIMUM "6.2"

/* ---- The description: what both hosts must agree on, and what is this host's own. ---- */

/* How frames leave and enter QEMU; AUTO: vm_nic_attach() says. */
typedef enum { VM_ATTACH_AUTO, VM_ATTACH_VHOST_USER, VM_ATTACH_REDIRECTOR } VmAttach;

typedef struct {
    char *model; /* QEMU device model without "-pci" guessing: "virtio-net-pci", "e1000", ... */
    char *mac;   /* "52:54:00:12:34:56" */
    VmAttach attach;
} VmNic;

/* VHOST_USER: by a vhost-user backend of ours (vm/vhost-card.h); REDIRECTOR: by a socket (vm/nic.h). */
VmAttach vm_nic_attach(const VmNic *nic);
const char *vm_attach_name(VmAttach attach);

typedef enum { VM_DISK_RAW, VM_DISK_QCOW2 } VmDiskFormat;
const char *vm_disk_format_name(VmDiskFormat format);

/* What an I/O error does to the guest: tells it, stops it, stops it if the image has no room. */
typedef enum { VM_DISK_REPORT, VM_DISK_STOP, VM_DISK_ENOSPC } VmDiskOnError;

/* AUTO: KVM if usable, else TCG. */
typedef enum { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_TCG } VmAccel;

typedef struct {
    char *name; /* "vda": of the NBD export, and the serial number that the guest sees */
    VmDiskFormat format;
    char *model; /* QEMU device: "virtio-blk-pci", "ide-hd", ... */
    /* This host's own: not compared with the peer. */
    char *path; /* the image: absolute */
    VmDiskOnError on_error;
} VmDisk;

typedef struct {
    char *name;    /* for people and logs */
    char *uuid;    /* identity of the VM, both hosts */
    char *machine; /* "pc", "q35", "microvm" or a versioned name, with options after a comma */
    char *cpu;     /* -cpu, NULL: QEMU's default */
    unsigned cpus; /* -smp */
    guint64 memory_bytes;
    char *kernel;         /* path or NULL */
    char *initrd;         /* path or NULL */
    char *append;         /* kernel command line or NULL */
    GPtrArray *nics;      /* of VmNic* */
    GPtrArray *disks;     /* of VmDisk* */
    GPtrArray *extra;     /* of char*: further QEMU arguments, the same on both hosts */
    gboolean guest_agent; /* a port for qemu-ga (vm/agent.h) */
    gboolean other_qemu;  /* the peer's QEMU may be of another version */
    /* This host's own: not compared with the peer. */
    char *qemu;        /* binary: path or name; NULL: qemu-system-x86_64 */
    VmAccel accel;     /* what AUTO comes to is compared */
    char *serial;      /* "none", "file:PATH" or "unix:PATH" */
    char *disk_socket; /* the unix socket of the disks' NBD server; needed when there are any */
} VmDescription;

VmDescription *vm_description_new(void);
VmDescription *vm_description_copy(const VmDescription *description);
void vm_description_free(VmDescription *description);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmDescription, vm_description_free)

/* Adds a card; copies the strings. */
VmNic *vm_description_add_nic(VmDescription *description, const char *model, const char *mac);

/* Adds a disk with the defaults of a raw one; copies the string. */
VmDisk *vm_description_add_disk(VmDescription *description, const char *name);

/* What is wrong in a description. */
typedef struct {
    enum {
        VM_PART_MACHINE,
        VM_PART_NIC,
        VM_PART_DISK
    } part;          /* MACHINE: neither a nic nor a disk */
    guint index;     /* of the nic or the disk */
    const char *key; /* the option's name in colod.conf: static */
} VmFault;

/*
 * Checks every field. FALSE with VM_ERROR_DESCRIPTION for the first wrong one; the message begins
 * with its key, and only `ret_fault` tells of which nic or disk it is.
 */
gboolean vm_description_find_fault(const VmDescription *description, VmFault *ret_fault,
                                   GError **error);
/* The same; the message begins with "nic N: " or "disk N: " where it is one's. */
gboolean vm_description_check(const VmDescription *description, GError **error);

/* Whether `extra` has a device that is refused, by name, once QEMU runs: VM_ERROR_UNSUPPORTED. */
gboolean vm_description_check_devices(const VmDescription *description, GError **error);

/* Checks a text like "QEMU emulator version 7.2.22 ...". FALSE with VM_ERROR_TOO_OLD, or
 * VM_ERROR_NO_QEMU if it is no version of QEMU. */
gboolean vm_check_version_text(const char *text, GError **error);

/* What to do if there is no QEMU. */
#define VM_QEMU_WAY_OUT "on Debian: the package qemu-system-x86; or set its path with 'qemu'"

/*
 * Compares two identities (vm_identity() of each host). NULL if they may run as a pair, else a
 * text that names what differs and both values: "machine: pc-i440fx-7.2 here, pc-q35-7.2 there".
 * `theirs` comes from a peer and is not trusted. Free with g_free().
 */
char *vm_identity_difference(json_object *ours, json_object *theirs);

/* ---- RAM ---- */

/*
 * The guest's RAM: one memfd that QEMU and we map shared. `base` is our mapping; `pid` maps it at
 * `remote_base`, and its writes there are what a dirty tracker sees. The page size is 4096.
 */
typedef struct {
    const char *id; /* QEMU's RAM block name, e.g. "pc.ram" */
    guint8 *base;
    guint64 size_bytes; /* whole pages */
    int memfd;
    pid_t pid;
    guint64 remote_base;
    int uffd;            /* userfaultfd made inside pid; -1: not available */
    const char *no_uffd; /* why not, for people; NULL if there is one */
    int uffd_sync;       /* another one, which reports faults of the kernel too; -1: none */
    gboolean by_kvm;     /* KVM has mappings of it, besides those of pid */
    RamLog *log;         /* what we write while the VM runs; NULL: nothing */
} VmRam;

#define VM_PAGE_SIZE 4096u

/* ---- The VM ---- */

typedef struct Vm Vm;

typedef void (*VmDone)(Vm *vm, const GError *error, gpointer user_data);
typedef void (*VmStateDone)(Vm *vm, GBytes *state, const GError *error, gpointer user_data);

typedef enum {
    VM_EVENT_DIED,     /* the process ended unasked; detail: how, and its last words on stderr */
    VM_EVENT_SHUTDOWN, /* the guest powered off; the VM is stopped */
    VM_EVENT_RESET,    /* the guest rebooted; it runs on */
    VM_EVENT_PANICKED, /* the guest reported a panic */
    VM_EVENT_STOPPED,  /* QEMU stopped the guest unasked (I/O error); detail: the run state */
} VmEvent;

typedef void (*VmEventFunc)(Vm *vm, VmEvent event, const char *detail, gpointer user_data);

typedef struct {
    VmEventFunc event;
    gpointer user_data;
} VmHandler;

/*
 * A VM run by a stock QEMU, not started yet. `preload` is the path of colo-uffd.so, or NULL to do
 * without userfaultfd. Copies the description. Never NULL; errors come from vm_start().
 */
Vm *vm_qemu_new(const VmDescription *description, const char *preload, const VmHandler *handler);

/*
 * How long a QEMU VM may take to answer one command (10 s unless set). After VM_ERROR_TIMEOUT it is
 * not asked again: every operation fails in the same way, and only vm_kill() and vm_free() are
 * left.
 */
void vm_qemu_set_timeout_ms(Vm *vm, unsigned timeout_ms);

/* Kills the process if it lives, waits for it, calls back what is pending (VM_ERROR_DIED). */
void vm_free(Vm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)

/*
 * The memory of the VM's RAM, which outlives the VM: a descriptor for the caller to close, -1 if
 * there is none.
 */
int vm_keep_ram(const Vm *vm);
/*
 * Before vm_start(): the VM's RAM begins with what was kept of another VM, if that had as much of
 * it. For a VM whose device state is loaded before it runs. Takes `kept_ram`, which may be -1.
 */
void vm_use_ram(Vm *vm, int kept_ram);

/*
 * Starts the process, paused before its first instruction (-S). Checks that it can be checkpointed
 * at all (version, migration blockers, devices known to break, RAM outside the memfd).
 */
void vm_start(Vm *vm, VmDone done, gpointer user_data);

/*
 * Stops and continues the virtual CPUs (QMP stop, cont). Idempotent. A resume opens the disks again that
 * were inactivated. If one can't be opened this QEMU has lost it: this and each later resume fails
 * (VM_ERROR_SPENT).
 */
void vm_pause(Vm *vm, VmDone done, gpointer user_data);
void vm_resume(Vm *vm, VmDone done, gpointer user_data);

/* Device state of a paused VM, ready for vm_load_device_state() elsewhere. `state` is borrowed. */
void vm_save_device_state(Vm *vm, VmStateDone done, gpointer user_data);

/*
 * Loads device state into a paused VM; repeatable. RAM must already be that of the same moment, and
 * a load may write to it: harvest afterwards. If it fails, the VM's device state is undefined and
 * only another load can mend it.
 */
void vm_load_device_state(Vm *vm, GBytes *state, VmDone done, gpointer user_data);

/*
 * Inactivates the disks of a paused VM. QEMU writes back and forgets what it has cached of them
 * (the metadata of qcow2), so that they may change under it. The next resume activates them and
 * reads the metadata again; if it can't, it fails. There is nothing to do for raw disks, or if it
 * was done already. If it fails, so does each further try before the next resume that succeeds
 * (VM_ERROR_SPENT), for QEMU aborts at a second command.
 *
 * A copy's disks change under it, and what it writes back is dropped (`of_copy`). So what QEMU keeps in its
 * own memory of a qcow2 disk while that is inactive, must not be there any more when it opens the disk
 * again: bitmaps that it has found in use.
 */
void vm_inactivate_disks(Vm *vm, gboolean of_copy, VmDone done, gpointer user_data);

/* What QEMU has of its disks: this is the one place that knows. */
typedef enum {
    VM_DISKS_ACTIVE,   /* it may write to them, and what it has cached of them counts */
    VM_DISKS_INACTIVE, /* it has given them up */
    VM_DISKS_UNKNOWN,  /* an order that would have changed it has failed, or isn't answered yet */
} VmDisks;
VmDisks vm_disks(const Vm *vm);
/* Whether QEMU caches of a disk what another host may change: the metadata of qcow2. */
gboolean vm_caches_disks(const Vm *vm);

/*
 * Whether QEMU has kept bitmaps of disks that it gave up as its own: those that it had found in use. It can't open
 * an image again that has one of that name which is whole, as another host may make one. Known with the
 * answer to the next order.
 */
gboolean vm_keeps_bitmaps(const Vm *vm);

/* SIGKILL, at once; no event and no way back. Returns when the process is reaped (it is quick). */
void vm_kill(Vm *vm);

/*
 * Kills a Vm that its owner no longer needs: from now on there are no callbacks, not of what is
 * pending and not from vm_free(). Only its RAM and vm_free() are left.
 */
void vm_abandon(Vm *vm);

/* Valid from vm_start()'s success until vm_free(). Borrowed. */
const VmRam *vm_ram(const Vm *vm);

/* Memory that the process has for itself, so without the guest's RAM; 0 if it can't be seen. */
guint64 vm_private_bytes(const Vm *vm);

/* True between a resume and a pause that succeeded. */
gboolean vm_is_running(const Vm *vm);
/* The same, and no operation is under way, which may have stopped it already. */
gboolean vm_stays_running(const Vm *vm);
/* It lives and doesn't run, and no operation is under way that may change that. */
gboolean vm_stays_paused(const Vm *vm);

struct VhostCard;
/* Card `index`, borrowed, valid like vm_ram(). NULL: it is attached by vm_nic_fd(). */
struct VhostCard *vm_nic_card(const Vm *vm, unsigned index);

/* What QEMU was told and has not answered yet: "pause", "load device state"; NULL: nothing. */
const char *vm_busy_with(const Vm *vm);

/*
 * The stream socket of card `index` (non-blocking), borrowed, valid like vm_ram(); -1: it is attached by
 * vm_nic_card(). Both directions
 * carry QEMU's filter-redirector framing with virtio-net headers: be32 length of the frame,
 * be32 length of the virtio-net header, header, frame.
 */
int vm_nic_fd(const Vm *vm, unsigned index);

/* The stream socket of the guest agent's port (vm/agent.h), borrowed, valid like vm_ram(); -1: the
 * VM has none. */
int vm_agent_fd(const Vm *vm);

/* The VmDescription this VM was made from, borrowed. */
const VmDescription *vm_description(const Vm *vm);

/*
 * What both hosts must have in common, as JSON for the handshake. It is the description's common
 * part and what the start found out (QEMU version, versioned machine name, accelerator). New
 * reference.
 */
json_object *vm_identity(const Vm *vm);

#endif
