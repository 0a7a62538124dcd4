/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of a VhostCard: vhost-card.c has its connection, vhost-frames.c its frames. */
#ifndef COLO_VM_VHOST_INTERNAL_H
#define COLO_VM_VHOST_INTERNAL_H

#include "vm/vhost-card.h"

typedef enum {
    VHOST_LISTENING, /* for QEMU */
    VHOST_CONNECTED,
    VHOST_DEAD, /* nothing is read or written any more */
} VhostPhase;

typedef struct {
    VhostCard *card;
    Vring *vring;
    guint64 size, next;
    guint64 desc, avail, used; /* addresses in QEMU */
    VringPlace place;          /* of the last start */
    gboolean enabled;
    int kick, call; /* -1: none */
    GSource *kicked;
} VhostRing;

struct VhostCard {
    int references; /* one for the owner, one for each call on the stack */
    gboolean freed;
    gboolean busy;    /* frames are being taken: `frame` is in use */
    gboolean reading; /* messages are being read */
    VhostPhase phase; /* set_phase() sets it */
    GError *failure;  /* that nobody was told of */
    const VmRam *ram;
    int listener, fd;
    GSource *source; /* of the listener, or of the socket */
    GSource *turn;   /* ready when there is work left */

    guint8 bytes[VHOST_HEADER_BYTES + VHOST_PAYLOAD_MAX]; /* of a message */
    gsize have;
    int fds[VHOST_FDS_MAX];
    guint fd_count;

    guint64 features;
    VringMemory memory;
    guint64 users[VRING_REGIONS_MAX]; /* addresses of the regions in QEMU */
    VhostRing rings[VHOST_RINGS];

    GQueue waiting; /* of GBytes*: frames for the guest */
    gboolean wants_room;
    guint8 frame[VRING_FRAME_MAX]; /* from the guest */
    gboolean has_handler;
    VhostHandler handler;
    gpointer user_data;
    VhostStats stats;
};

/* virtio 1.2, 5.1.3, 6; and vhost-user */
#define VHOST_FEATURE(n) (G_GUINT64_CONSTANT(1) << (n))
enum {
    VIRTIO_NET_CSUM = 0,
    VIRTIO_NET_GUEST_CSUM = 1,
    VIRTIO_NET_GUEST_TSO4 = 7,
    VIRTIO_NET_GUEST_TSO6 = 8,
    VIRTIO_NET_GUEST_ECN = 9,
    VIRTIO_NET_HOST_TSO4 = 11,
    VIRTIO_NET_HOST_TSO6 = 12,
    VIRTIO_NET_HOST_ECN = 13,
    VIRTIO_NET_MRG_RXBUF = 15,
    VHOST_LOG_ALL = 26,
    VIRTIO_ANY_LAYOUT = 27,
    VIRTIO_RING_INDIRECT_DESC = 28,
    VIRTIO_RING_EVENT_IDX = 29,
    VHOST_PROTOCOL_FEATURES = 30,
    VIRTIO_VERSION_1 = 32,
};
enum { VHOST_PROTOCOL_LOG_SHMFD = 1, VHOST_PROTOCOL_REPLY_ACK = 3 };

static inline gboolean vhost_has(const VhostCard *card, guint feature)
{
    return !!(card->features & VHOST_FEATURE(feature));
}

/* Around calls into user code. The card may be freed by the second. */
void vhost_ref(VhostCard *card);
void vhost_unref(VhostCard *card);
/* Neither freed nor dead. */
gboolean vhost_lives(const VhostCard *card);

/* vhost-card.c: reads the messages that are there. */
void vhost_read_messages(VhostCard *card);

/* vhost-rings.c */

/* Takes what the message says, and its descriptors of card->fds. */
void vhost_set_memory(VhostCard *card, const VhostMessage *message);
/* The first starts the ring. */
gboolean vhost_set_kick(VhostRing *ring, const VhostMessage *message, GError **error);
gboolean vhost_set_call(VhostRing *ring, const VhostMessage *message, GError **error);
/* What the guest has sent until here is handed out before. Returns the index for the next start. */
guint64 vhost_stop_ring(VhostRing *ring);
/* Closes its descriptors. */
void vhost_drop_ring(VhostRing *ring);

/* vhost-frames.c */

/* The ring was started and is enabled, no rule is broken. */
gboolean vhost_ring_runs(const VhostRing *ring);
/* Tells the owner of a rule that was broken. */
void vhost_tell_broken(VhostRing *ring);
/* Interrupts the guest, if there is something new that it wants to know of. */
void vhost_publish(VhostRing *ring);
/* A ring was started or enabled, or kicked. */
void vhost_run_ring(VhostRing *ring);
/* The last of the frames that the guest has sent, before the ring is stopped. */
void vhost_run_last(VhostRing *ring);
/* The next turn of the main loop. */
void vhost_take_turn(VhostCard *card);

#endif
