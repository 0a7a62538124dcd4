/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network card whose backend is this process: QEMU's -netdev vhost-user connects to it, and then the
 * guest's frames are read from the guest's memory, and written there. No frame goes through QEMU.
 *
 *     guest's driver <-- rings in RAM --> VhostCard <-- frames --> owner
 *                                             ^
 *     QEMU  ---- vhost-user messages ---------'   features, memory, where the rings are; start and stop
 *
 * QEMU waits for the answers of some messages, so it waits for this process. Nothing here waits for QEMU.
 * QEMU ends the rings (GET_VRING_BASE) before it has paused the VM, and starts them after it has resumed
 * it. So of a VM that is paused no page is written here, nor is there a frame in QEMU:
 *
 * - What the guest has sent before the pause is handed to the owner before QEMU is answered, so before
 *   the pause is complete. What the owner doesn't take yet stays in the ring, as if not sent: whoever
 *   continues the VM finds it there.
 * - What the guest was given is in its buffers, in RAM, which the checkpoint has. What it has had no room
 *   for is still here.
 *
 * A new QEMU that loads the device state begins with the same indexes; the rings are in RAM.
 *
 * Who writes what: the rings are the guest's, so hostile (vring.h). The messages are QEMU's, and are
 * checked, for a QEMU may have been taken over by its guest. They can name only memory of this VM's RAM.
 *
 * Threads: all on one thread and its default GMainContext. Nothing blocks.
 */
#ifndef COLO_VM_VHOST_CARD_H
#define COLO_VM_VHOST_CARD_H

#include "vm/vhost-message.h"
#include "vm/vm.h"

typedef struct VhostCard VhostCard;

/* Called on the main loop. `data` is borrowed. Each may free the card. */
typedef struct {
    /* The guest has sent this: a virtio-net header of VRING_HEADER_BYTES and an Ethernet frame. */
    void (*output)(const guint8 *data, gsize len, gpointer user_data);
    /*
     * Whether output() of a frame of `len` bytes (as there) is wanted now. If FALSE, it and all that the
     * guest has sent after it stay in the ring until vhost_card_take_output(). NULL: always TRUE.
     */
    gboolean (*takes)(gsize len, gpointer user_data);
    /* vhost_card_has_room() was FALSE and may be TRUE now. */
    void (*room)(gpointer user_data);
    /* VHOST_ERROR_RING: the driver has broken a rule; the ring rests until QEMU starts it again. */
    void (*broken)(const GError *error, gpointer user_data);
    /* Once: VHOST_ERROR_CLOSED or VHOST_ERROR_MESSAGE. The card is dead after it. */
    void (*failed)(const GError *error, gpointer user_data);
} VhostHandler;

/*
 * Makes a card of a VM with `ram` (borrowed, has a log). `ret_address` is a descriptor, for QEMU, of the
 * socket to connect to: its path is /proc/self/fd/N there. VHOST_ERROR_SOCKET.
 */
VhostCard *vhost_card_new(const VmRam *ram, int *ret_address, GError **error);
/* The same on a socket to a front end, non-blocking, which is the card's then. */
VhostCard *vhost_card_new_connected(const VmRam *ram, int fd);
/* Nothing is called any more. */
void vhost_card_free(VhostCard *card);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VhostCard, vhost_card_free)

/*
 * Frames go to `handler` (copied) from now on. NULL: to nobody; what the guest sends then stays in its
 * ring. A failure that came before is reported at once, from within.
 */
void vhost_card_set_handler(VhostCard *card, const VhostHandler *handler, gpointer user_data);
/* QEMU is gone, or about to be: no page is written from now on, and no failure is reported. */
void vhost_card_stop(VhostCard *card);

/*
 * Whether a frame of `len` bytes would get into the guest's buffers now, so that the guest has it. TRUE
 * also if it would be dropped for good. If FALSE, room() is called later.
 */
gboolean vhost_card_has_room(VhostCard *card, gsize len);
/*
 * Gives a frame to the guest. What it has no room for waits, in order and up to 4 MiB; then frames are
 * dropped and counted, and FALSE returned. So is what is no frame. It is the newest that is dropped, as
 * by a card whose ring is full: the frames before it were said to be taken, and are part of what the
 * guest has got.
 */
gboolean vhost_card_give(VhostCard *card, const guint8 *data, gsize len);
/* Hands out all that the guest has sent until now. Calls output(). No effect from inside it. */
void vhost_card_drain(VhostCard *card);
/* takes() may be TRUE again: it is asked soon, not from within. */
void vhost_card_take_output(VhostCard *card);
/* Drops what waits here: it was for a guest that there is no more. */
void vhost_card_forget(VhostCard *card);

typedef struct {
    guint64 output_frames, output_bytes; /* from the guest, bytes without virtio-net headers */
    guint64 input_frames, input_bytes;   /* to the guest */
    guint64 output_dropped;              /* no frames */
    guint64 input_dropped;               /* see vhost_card_give() */
    guint64 queued_bytes;                /* that wait */
    guint64 starts;                      /* of rings */
} VhostStats;
const VhostStats *vhost_card_stats(const VhostCard *card);

#endif
