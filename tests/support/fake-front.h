/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's end of a vhost-user network card, and the guest's driver behind it: both do what the test says.
 * RAM is a memfd. The main loop runs while the front end waits for an answer.
 */
#ifndef COLO_TESTS_SUPPORT_FAKE_FRONT_H
#define COLO_TESTS_SUPPORT_FAKE_FRONT_H

#include "tests/support/ring-driver.h"
#include "vm/vhost-card.h"

#define FRONT_RAM_BYTES (4u << 20)
#define FRONT_GUEST     0x100000u       /* address of RAM in the guest, */
#define FRONT_USER      0x7f1234500000u /* and in QEMU */
#define FRONT_RING      16u

typedef struct {
    VmRam ram;
    VhostCard *card; /* NULL: the test has freed it */
    int fd;
    guint64 features; /* that the guest's driver has accepted */
    RingDriver drivers[VHOST_RINGS];
    int kicks[VHOST_RINGS], calls[VHOST_RINGS]; /* ours; -1: none */
    guint64 free;                               /* from here on RAM has no ring */

    GPtrArray *got; /* of GBytes*: what the guest has sent */
    guint takes;    /* so many frames yet */
    guint rooms;
    GPtrArray *broken; /* of char*: messages */
    GError *failure;
    gsize asked_for; /* bytes, last */
    gboolean free_in_output, free_in_takes, drain_in_output, free_in_failed;
} FakeFront;

/* A card on a socketpair; nothing was said. */
void fake_front_init(FakeFront *front);
void fake_front_clear(FakeFront *front);
void fake_front_attach(FakeFront *front);

/* Sends a message with `count` descriptors. */
void fake_front_send(FakeFront *front, guint32 request, guint32 flags, gconstpointer payload,
                     gsize len, const int *fds, guint count);
/* Waits for the answer to `request`: its value. */
guint64 fake_front_answer(FakeFront *front, guint32 request);
/* A message with one number, and its answer. */
void fake_front_set(FakeFront *front, guint32 request, guint64 value);
guint64 fake_front_ask(FakeFront *front, guint32 request);
void fake_front_set_ring(FakeFront *front, guint32 request, guint ring, guint32 value);
void fake_front_set_ring_fd(FakeFront *front, guint32 request, guint ring, int fd);

/* All that QEMU says when it connects, and when a driver starts: both rings, from these indexes on. */
void fake_front_greet(FakeFront *front);
void fake_front_set_memory(FakeFront *front);
void fake_front_start(FakeFront *front, guint16 to_guest, guint16 from_guest);
void fake_front_start_ring(FakeFront *front, guint ring, guint16 next);
/* GET_VRING_BASE. */
guint16 fake_front_stop_ring(FakeFront *front, guint ring);
/* The driver's memory is empty again: it was reset. */
void fake_front_reset_driver(FakeFront *front);

/* The driver: sends a frame of `len` bytes (header included) of `fill`, kicks if it should. */
void fake_front_guest_sends(FakeFront *front, guint16 n, gsize len, guint8 fill);
/* Makes buffer `n` (of 2,048 bytes) available to receive by. */
void fake_front_guest_offers(FakeFront *front, guint16 n);
/* The next frame that the guest has received; NULL: none. In one buffer. */
GBytes *fake_front_guest_got(FakeFront *front);
/* Whether an interrupt came since the last time. */
gboolean fake_front_interrupted(FakeFront *front, guint ring);
/* Runs what is ready in the main loop. */
void fake_front_settle(void);

#endif
