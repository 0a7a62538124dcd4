/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of a split virtqueue (virtio 1.2, 2.7), in a piece of memory that the test has. It
 * does what it is told, right or wrong. Offsets are in RAM; the guest's addresses begin at `guest`.
 */
#ifndef COLO_TESTS_SUPPORT_RING_DRIVER_H
#define COLO_TESTS_SUPPORT_RING_DRIVER_H

#include <glib.h>

enum { RING_NEXT = 1, RING_WRITE = 2, RING_INDIRECT = 4 };

typedef struct {
    guint8 *ram; /* borrowed */
    guint64 guest;
    guint size;
    guint64 desc, avail, used;
    gboolean event_index;
    guint16 available, seen; /* indexes */
} RingDriver;

/* Lays out an empty ring from `offset` on, a multiple of 4096. Returns the first offset after it. */
guint64 ring_driver_init(RingDriver *driver, guint8 *ram, guint64 guest, guint64 offset, guint size,
                         gboolean event_index);
/* Writes descriptor `i` of the table at `table` (driver->desc, or an indirect one). */
void ring_driver_describe(const RingDriver *driver, guint64 table, guint i, guint64 offset,
                          guint32 len, guint16 flags, guint16 next);
/* Makes a chain available, without a kick. */
void ring_driver_offer(RingDriver *driver, guint16 head);
/* The same, of one descriptor: `head` itself. */
void ring_driver_offer_buffer(RingDriver *driver, guint16 head, guint64 offset, guint32 len,
                              gboolean write);
/* The next buffer that was used. FALSE: none. */
gboolean ring_driver_used(RingDriver *driver, guint32 *ret_head, guint32 *ret_len);
/* Whether the device wants a kick for what was offered since `old` (an available index). */
gboolean ring_driver_must_kick(const RingDriver *driver, guint16 old);
/* Wants an interrupt at the next used buffer. TRUE if there is one already. */
gboolean ring_driver_ask(RingDriver *driver);

#endif
