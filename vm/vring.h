/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A split virtqueue of the guest's network card, from the device's side (virtio 1.2, 2.7): takes the
 * frames that the guest sends, and puts frames into the buffers that it has made available. It knows
 * nothing of QEMU, descriptors or time: its owner says when to look, and notifies the guest.
 *
 * What is in the guest's memory is the guest's doing, and changes at any time. So each word is read
 * once. Index, length, chain, table, address and direction are checked before they are used. A frame
 * that is taken is a copy. A ring that breaks a rule rests until it is started again: the guest's driver
 * is at fault, and only the guest suffers.
 *
 * Bounds: a ring has a power of two of descriptors, VRING_SIZE_MAX at most; a frame VRING_PIECES_MAX
 * pieces of memory, none of them empty; a chain no more descriptors than its table. So a call ends after
 * 2 * (VRING_SIZE_MAX + VRING_PIECES_MAX) steps at most, whatever is in memory, and mostly after three.
 *
 * Pages that are written are marked in the RamLog, after the write.
 *
 * Order (the guest's driver runs on other processors meanwhile):
 * - A buffer is read after the index that names it: the index is loaded with acquire semantics, and the
 *   driver stores it with release semantics.
 * - The used index is stored, with release semantics, after the buffers and the used elements.
 * - Whether to notify: vring_publish() stores the used index, vring_ask() the wish for a kick. Then
 *   comes a full barrier, and then the load of what the driver wishes, or has added. The driver does the
 *   same with store and load exchanged. So at least one of the two sees the other's store.
 *
 * A ring belongs to one thread. Nothing blocks.
 */
#ifndef COLO_VM_VRING_H
#define COLO_VM_VRING_H

#include <glib.h>

#include "vm/ram-log.h"

#define VRING_ERROR vring_error_quark()
GQuark vring_error_quark(void);

typedef enum {
    VRING_ERROR_PLACE,  /* its size or its addresses are impossible */
    VRING_ERROR_BROKEN, /* the guest's driver has broken a rule */
} VringError;

#define VRING_SIZE_MAX   1024u
#define VRING_PIECES_MAX 1024u
/* Of the header of a frame, as this interface has it (virtio 1.2, 5.1.6: struct virtio_net_hdr). */
#define VRING_HEADER_BYTES 12u
/* The largest frame, header included: what a guest may send, and be given. */
#define VRING_FRAME_MAX (VRING_HEADER_BYTES + 65536u + 22u)

/* ---- The guest's memory ---- */

#define VRING_REGIONS_MAX 8u

typedef struct {
    guint64 guest;  /* address in the guest */
    guint64 size;   /* bytes */
    guint64 offset; /* in RAM */
} VringRegion;

/* Regions lie in RAM and don't overlap in the guest. */
typedef struct {
    guint8 *base; /* of RAM */
    RamLog *log;
    guint count;
    VringRegion regions[VRING_REGIONS_MAX];
} VringMemory;

/* ---- Life ---- */

typedef struct Vring Vring;

/* `to_guest`: the guest receives by it. `memory` is borrowed; its owner may change it at any time. */
Vring *vring_new(const VringMemory *memory, gboolean to_guest);
void vring_free(Vring *ring);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vring, vring_free)

typedef struct {
    guint size;                /* descriptors */
    guint64 desc, avail, used; /* offsets in RAM of the three parts, which lie whole in it */
    guint16 next;              /* of the available ring: all before it have been used */
    gboolean event_index;      /* VIRTIO_RING_F_EVENT_IDX is negotiated */
    gboolean indirect;         /* VIRTIO_RING_F_INDIRECT_DESC */
    gboolean mergeable;        /* VIRTIO_NET_F_MRG_RXBUF */
    guint header_bytes;        /* of a frame in the guest's buffers: 10 or 12 */
} VringPlace;

/* Bytes of each part: for whoever finds its place. */
guint64 vring_desc_bytes(guint size);
guint64 vring_avail_bytes(guint size, gboolean event_index);
guint64 vring_used_bytes(guint size, gboolean event_index);

/*
 * Starts a ring, or starts it over. VRING_ERROR_PLACE if size or alignment is wrong. The offsets are
 * the caller's promise.
 */
gboolean vring_start(Vring *ring, const VringPlace *place, GError **error);
/* What was used is published; nothing is read or written any more. Returns the `next` for its start. */
guint16 vring_stop(Vring *ring);
gboolean vring_is_started(const Vring *ring);
/* It has been started, and no rule is broken. */
gboolean vring_runs(const Vring *ring);
/*
 * The rule that was broken (VRING_ERROR_BROKEN): once for each start, by the first call after it. NULL:
 * none. Free with g_error_free().
 */
GError *vring_steal_error(Vring *ring);

/* ---- Frames ---- */

typedef enum {
    VRING_DONE,
    VRING_EMPTY, /* it doesn't run, or has no buffer, or not enough */
    VRING_UNFIT, /* a frame that the guest's buffers can't hold; from the guest: none was sent */
} VringResult;

/*
 * To the guest: a header of VRING_HEADER_BYTES and an Ethernet frame. VRING_UNFIT: no number of buffers
 * of this ring would hold it, or it is longer than VRING_FRAME_MAX.
 */
VringResult vring_put(Vring *ring, const guint8 *frame, gsize len);

/* Whether vring_put() of a frame of `len` bytes would not be VRING_EMPTY now. Nothing is used. */
gboolean vring_has_room(Vring *ring, gsize len);

/*
 * From the guest: copies the next frame to `frame` (VRING_FRAME_MAX bytes), its header made
 * VRING_HEADER_BYTES long. VRING_UNFIT: what the guest has sent is no frame (too short, too long); its
 * buffers are used.
 */
VringResult vring_take(Vring *ring, guint8 *frame, gsize *ret_len);
/*
 * The same, and the frame stays in the ring, uncopied. What vring_take() gives then may be of another
 * length: a hostile driver changes it.
 */
VringResult vring_look(Vring *ring, gsize *ret_len);

/* Buffers that wait in it. */
guint vring_waiting(Vring *ring);
/* Lets the guest see what was used. TRUE if it wants to be interrupted for that. */
gboolean vring_publish(Vring *ring);
/*
 * Asks for a kick when more than `known` buffers wait: as many as the caller has seen, and can't use. TRUE
 * if more wait already: then no kick may come for them.
 */
gboolean vring_ask(Vring *ring, guint known);

#endif
