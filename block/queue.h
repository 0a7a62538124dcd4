/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records on their way to the peer, in order, bounded in bytes. Guest writers wait while it is
 * full. The synchronisation waits while it is a quarter full, so that it never starves them.
 * Control records never wait, and leave at once. Changes alone are gathered for a moment, for it
 * costs both ends much less to send and receive many at once. A closed queue takes nothing any more
 * and nobody waits; what is in it may still be sent.
 */
#ifndef COLO_BLOCK_QUEUE_H
#define COLO_BLOCK_QUEUE_H

#include "block/wire.h"

typedef enum { QUEUE_CONTROL, QUEUE_WRITE, QUEUE_SYNC } QueueClass;

typedef struct {
    GMutex mutex;
    GCond room, filled;
    WireRecord *head, **tail;
    guint64 bytes, limit;
    gboolean urgent; /* what is there is not to wait for more */
    gboolean closed;
} Queue;

void queue_init(Queue *queue, guint64 limit);
void queue_clear(Queue *queue);

/* Takes the record. FALSE (and freed) if the queue is or becomes closed. Any thread. */
gboolean queue_push(Queue *queue, QueueClass class, WireRecord *record);

/* Waits until a QUEUE_SYNC record would have room: for who can't wait while it holds a range. */
void queue_wait_room(Queue *queue);

/* Waits for records and takes all that are there, as a list. NULL: closed and empty. One thread. */
WireRecord *queue_pop_all(Queue *queue);

/* The taken records count as bytes in the queue until they are gone: tells that `bytes` are. */
void queue_sent(Queue *queue, gsize bytes);

void queue_close(Queue *queue);
guint64 queue_bytes(Queue *queue);

void wire_records_free(WireRecord *list);

#endif
