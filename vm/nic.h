/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a card's frames leave and enter QEMU (internal to vm/). One that is attached by vhost-user has its
 * backend here (vhost-card.h), and only messages go through QEMU. All others:
 *
 *     guest's card <-> tap that nobody reads <-> two filter-redirectors <-> one unix stream socket
 *
 * The tap exists only because no other kind of netdev tells the card that virtio-net headers (and
 * so checksum and segmentation offloads) are understood. It is never up, on no bridge, and gone
 * with QEMU. Both redirectors act before it. The first takes what the card sends, which does not
 * reach the tap. The second hands what colod sends to the card.
 *
 * On the socket, both ways: be32 length of what follows the second word, be32 length of the
 * virtio-net header, header, frame. QEMU gives the header's length with each frame. What colod
 * sends must have the length that the card's netdev has then: 12 with virtio-net (10 without
 * MRG_RXBUF and VERSION_1), 10 with e1000e, 0 with e1000. Each frame of the card tells it.
 */
#ifndef COLO_VM_NIC_H
#define COLO_VM_NIC_H

#include "vm/vm.h"

/* Which of them there are depends on how the card is attached; the others are -1. */
typedef struct {
    int tap;       /* QEMU's; -1 once given away */
    int theirs;    /* QEMU's end of the socket, for what the card sends */
    int theirs_in; /* the same socket again, for what the card receives */
    int ours;      /* our end, non-blocking */
    int address;   /* QEMU's: of a vhost-user card (vm/vhost-card.h) */
} NicFds;

/*
 * Makes the descriptors of a card that is attached by redirectors. VM_ERROR_PERMISSION if no tap
 * can be made: names what is missing.
 */
gboolean nic_open(NicFds *ret_fds, GError **error);

/* Closes what is still there. */
void nic_close(NicFds *fds);

/* Adds card `index` to QEMU's arguments, and QEMU's descriptors to `inherited` (of int). */
void nic_add_arguments(GPtrArray *argv, GArray *inherited, guint index, const VmNic *nic,
                       const NicFds *fds, const char *accel);

#endif
