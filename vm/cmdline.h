/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's command line from a description (internal to vm/). Pure. */
#ifndef COLO_VM_CMDLINE_H
#define COLO_VM_CMDLINE_H

#include "vm/nic.h"

/* The RAM block's name that QEMU itself would give on this machine ("pc,option=..."). */
const char *cmdline_ram_id(const char *machine);

/* The machine's name without its options. Free with g_free(). */
char *cmdline_machine_name(const char *machine);

/*
 * Everything but the cards: `accel` is "kvm" or "tcg", `ram_fd` the memfd of RAM and `qmp_fd`
 * QEMU's end of the control socket. The result holds char*, and is not NULL-terminated yet.
 */
GPtrArray *cmdline_build(const VmDescription *description, const char *accel, int ram_fd,
                         int qmp_fd);

/*
 * The guest agent's port, with `fd` as QEMU's end of its socket. It comes behind all other devices:
 * they keep their places when a VM gets it.
 */
void cmdline_add_agent(GPtrArray *argv, const VmDescription *description, int fd);

#endif
