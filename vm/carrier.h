/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The carrier: a qcow2 image whose only purpose is to bring device state into a running QEMU
 * (internal to vm/). Its disk is one empty cluster; its one internal snapshot has the device state
 * as VM state, which `snapshot-load` loads. Format: docs/interop/qcow2.txt in QEMU's sources.
 */
#ifndef COLO_VM_CARRIER_H
#define COLO_VM_CARRIER_H

#include <glib.h>

/* The snapshot's tag. */
#define CARRIER_TAG "colo"

/*
 * Makes the file `fd` (a memfd) such an image, whatever it held before. Parts that are zero stay
 * holes. Error: G_FILE_ERROR. `len` is 1 to DEVSTATE_MAX_BYTES.
 */
gboolean vm_carrier_write(int fd, const void *state, gsize len, GError **error);

#endif
