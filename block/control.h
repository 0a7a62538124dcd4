/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control connection of the nbdkit plugin: one JSON object a line in QMP's form, over a unix
 * stream socket to colod (docs/DISKS.md, "Control"). Commands run one after another on the
 * connection's thread, which is the disk set's controlling thread from then on. The set's callbacks
 * become events.
 */
#ifndef COLO_BLOCK_CONTROL_H
#define COLO_BLOCK_CONTROL_H

#include "block/block.h"

typedef struct BlockControl BlockControl;

/* For the connection `fd` and the socket `fds` on which descriptors come (colo_fd_send()); both are
 * taken over. */
BlockControl *block_control_new(int fd, int fds);

/* Sets of a control use these callbacks, with the control as user_data. */
const DiskSetCallbacks *block_control_callbacks(void);

/* Greets and starts the thread. `ended` is called on it when the other side closed the connection
 * or broke the protocol: the one who gave the orders is gone. `set` is borrowed until _free(). */
void block_control_start(BlockControl *control, DiskSet *set, void (*ended)(gpointer user_data),
                         gpointer user_data);

/* Ends the thread: no more commands, and events go nowhere. Not from `ended`. */
void block_control_stop(BlockControl *control);

/* Closes the connection. The set must be gone: it may call back until then. */
void block_control_free(BlockControl *control);

#endif
