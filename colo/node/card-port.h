/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's end of a network card, however it is attached: by QEMU's redirectors (Port, netcompare.h)
 * or by vhost-user (VhostCard, vm/vhost-card.h). It is what is common to the two, and no more.
 *
 * What differs is what a FALSE of card_port_has_room() is for. A redirector takes all that is sent, and
 * QEMU keeps what the guest has no room for, or drops it: it always has room. With vhost-user it is known
 * whether the guest has buffers. A frame that is given when there is room is in the guest's memory when
 * card_port_give() returns.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_CARD_PORT_H
#define COLO_COLO_NODE_CARD_PORT_H

#include "netcompare/netcompare.h"
#include "vm/vhost-card.h"
#include "vm/vm.h"

typedef struct CardPort CardPort;

/*
 * Of card `index` of a VM that has started, from now until it is freed, which is before the VM is. Frames
 * begin with a header of NETCOMPARE_VNET_HDR_BYTES. Only vhost-user calls takes(), room() and broken().
 */
CardPort *card_port_new(Vm *vm, unsigned index, const VhostHandler *handler, gpointer user_data);
void card_port_free(CardPort *port);

/* Whether the guest gets a frame of `len` bytes at once. If not, room() is called when it may. */
gboolean card_port_has_room(const CardPort *port, gsize len);
/* To the guest: what there is no room for waits, or is dropped. */
void card_port_give(const CardPort *port, const guint8 *data, gsize len);
/* Reads all that the guest has sent until now. */
void card_port_drain(const CardPort *port);
/* Output may be taken again (takes()). */
void card_port_take_output(const CardPort *port);
/* Whether frames for a VM that stands stay in its QEMU, until it runs. */
gboolean card_port_keeps(const CardPort *port);
/*
 * Nothing that was given waits for QEMU's reading. With vhost-user that is always so: what the guest has
 * no room for waits in this process, and no pause loses it.
 */
gboolean card_port_is_read(const CardPort *port);
/* Frames for the guest that were dropped, as far as it is known. */
guint64 card_port_dropped(const CardPort *port);
/* What waits, as far as it is here, was for a guest that there is no more. */
void card_port_forget(const CardPort *port);

#endif
