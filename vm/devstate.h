/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state as bytes: from what QEMU saves to what QEMU loads (internal to vm/).
 *
 * QEMU's `xen-save-devices-state` writes (migration/savevm.c, qemu_save_device_state):
 *
 *     be32 "QEVM"  be32 3  section...  u8 0 (end)
 *
 * and a load of a snapshot wants (qemu_loadvm_state):
 *
 *     be32 "QEVM"  be32 3  u8 7 be32 length, machine name  section...  u8 0  u8 6 be32 length, json
 *
 * Sections have no length, only QEMU can read them: what is checked here is all around them. That
 * the bytes between are those that were saved is the checkpoint stream's promise (its hash).
 */
#ifndef COLO_VM_DEVSTATE_H
#define COLO_VM_DEVSTATE_H

#include "vm/vm.h"

/* The largest device state that is accepted; usual is 100 KiB. */
#define DEVSTATE_MAX_BYTES (64u * 1024u * 1024u)

/*
 * What QEMU saved, made loadable for a machine of this versioned name ("pc-i440fx-7.2"). NULL with
 * VM_ERROR_DEVICE_STATE if it isn't a device state.
 */
GBytes *devstate_from_saved(const guint8 *saved, gsize len, const char *machine_name,
                            GError **error);

/* Checks a loadable state from anywhere, and that it is of this machine. VM_ERROR_DEVICE_STATE. */
gboolean devstate_check(const guint8 *state, gsize len, const char *machine_name, GError **error);

#endif
