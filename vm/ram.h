/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's RAM: a memfd of ours, and where QEMU has mapped it (internal to vm/). */
#ifndef COLO_VM_RAM_H
#define COLO_VM_RAM_H

#include "vm/vm.h"

/*
 * Maps *kept if it is a memfd of `size_bytes`, which is taken then; else makes one. The rest of
 * `ret_ram` is empty. VM_ERROR_START.
 */
gboolean vm_ram_make(VmRam *ret_ram, const char *id, guint64 size_bytes, int *kept, GError **error);

/*
 * Finds the mapping of ram->memfd in process `pid` and fills in pid and remote_base. Error:
 * VM_ERROR_PERMISSION if /proc may not be read, VM_ERROR_START if it is not mapped whole.
 */
gboolean vm_ram_find_remote(VmRam *ram, pid_t pid, GError **error);

/*
 * Takes what colo-uffd.so has sent to `sock` (non-blocking): fills in uffd and uffd_sync, or
 * no_uffd with a text from g_intern_string().
 */
void vm_ram_receive_uffd(VmRam *ram, int sock);

/* Unmaps and closes. */
void vm_ram_clear(VmRam *ram);

#endif
