/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A Vm run by a stock QEMU: shared by qemu.c (its life) and qemu_state.c (its device state). */
#ifndef COLO_VM_QEMU_INTERNAL_H
#define COLO_VM_QEMU_INTERNAL_H

#include "vm/nic.h"
#include "vm/process.h"
#include "vm/qmp.h"
#include "vm/vm_internal.h"

typedef struct {
    Vm vm;
    char *preload;
    guint timeout_ms;
    Process *process;
    Qmp *qmp;
    GArray *nics; /* of NicFds: QEMU's ends, until it has them */
    int uffd_sock;
    guint lost_source; /* gives a QEMU whose socket has closed a moment to end */
    gboolean stuck;    /* it did not answer in time: nothing more is asked of it */

    /* The start: answers that are still wanted, and the first thing that was wrong. */
    guint outstanding;
    GError *failure;

    /* Device state. Both files are memfds that QEMU has under the same numbers. */
    int saved_fd, carrier_fd;
    guint loads;
    char *job;              /* id of the load that runs */
    gboolean job_accepted;  /* QEMU has answered snapshot-load */
    gboolean job_concluded; /* the job's event has come */
    guint job_timer;
    gboolean needs_reset; /* e.g. the guest has powered off: QEMU won't run it again without */
    gboolean resetting;   /* for the load that runs, which has not begun */
    gboolean asleep;      /* the guest is, in ACPI S3 */
    gboolean stop_seen;   /* the event, since the pause was asked for */
} QemuVm;

static inline QemuVm *qemu_vm(Vm *vm)
{
    return (QemuVm *)vm;
}

/*
 * Ends the operation after a failed command. A QEMU that is gone is left to the end of the process,
 * which knows more; one that did not answer is not asked again.
 */
void qemu_fail(QemuVm *self, const GError *error);

/* Runs `command` for the operation at hand; takes `arguments`. */
void qemu_execute(QemuVm *self, const char *command, json_object *arguments, QmpReply reply);

/* qemu_state.c */
void qemu_save(Vm *vm);
void qemu_load(Vm *vm, GBytes *state);
void qemu_inactivate(Vm *vm, gboolean of_copy);
/* The event RESET, while a load runs. */
void qemu_was_reset(QemuVm *self);
/* The event JOB_STATUS_CHANGE. */
void qemu_job_changed(QemuVm *self, json_object *data);
/* Forgets a load that can't continue. */
void qemu_load_clear(QemuVm *self);

#endif
