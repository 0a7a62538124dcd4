/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Storage that fails as a test tells it to: COLO_BLOCK_FAULT=WHAT:FILE:ERRNO:FLAGFILE makes each
 * change of kind WHAT to files named FILE fail with ERRNO for as long as FLAGFILE exists; with
 * ERRNO-once one change, which removes FLAGFILE. With "hang" instead of an errno the change waits
 * until FLAGFILE is gone, and is then made. Several of these have ';' between them.
 */
#ifndef COLO_BLOCK_FAULT_H
#define COLO_BLOCK_FAULT_H

#include "block/block.h"

typedef struct BlockFault BlockFault;

/*
 * WHAT is one of a BlockFaultHook, or "any"; FILE is the base name of an image, or of a file of the
 * state folder; ERRNO is EIO, ENOSPC, EDQUOT, EPERM or a number. NULL with BLOCK_ERROR_CONFIG if
 * the text is wrong.
 */
BlockFault *block_fault_parse(const char *text, GError **error);
void block_fault_free(BlockFault *fault);

/* The hook: `fault` is a BlockFault. Any thread. May block. */
int block_fault_hook(const char *what, const char *file, guint64 offset, gsize *len,
                     gpointer fault);

#endif
