/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/queue.h"

/* How long a change may wait for others, and how many bytes of them are enough. */
#define GATHER_US    1000
#define GATHER_BYTES (256u * 1024)

void queue_init(Queue *queue, guint64 limit)
{
    *queue = (Queue){.limit = limit};
    g_mutex_init(&queue->mutex);
    g_cond_init(&queue->room);
    g_cond_init(&queue->filled);
    queue->tail = &queue->head;
}

void wire_records_free(WireRecord *list)
{
    while (list) {
        WireRecord *next = list->next;
        g_free(list);
        list = next;
    }
}

void queue_clear(Queue *queue)
{
    wire_records_free(queue->head);
    g_mutex_clear(&queue->mutex);
    g_cond_clear(&queue->room);
    g_cond_clear(&queue->filled);
}

/* A record larger than the bound still goes, alone. */
static gboolean has_room(const Queue *queue, QueueClass class, gsize len)
{
    guint64 limit = class == QUEUE_SYNC ? queue->limit / 4 : queue->limit;
    return class == QUEUE_CONTROL || queue->bytes == 0 || queue->bytes + len <= limit;
}

static void hurry(Queue *queue)
{
    if (!queue->urgent)
        g_cond_signal(&queue->filled);
    queue->urgent = TRUE;
}

gboolean queue_push(Queue *queue, QueueClass class, WireRecord *record)
{
    g_mutex_lock(&queue->mutex);
    while (!queue->closed && !has_room(queue, class, record->len)) {
        hurry(queue);
        g_cond_wait(&queue->room, &queue->mutex);
    }
    gboolean taken = !queue->closed;
    if (taken) {
        if (!queue->head)
            g_cond_signal(&queue->filled);
        if (class == QUEUE_CONTROL || queue->bytes + record->len >= GATHER_BYTES)
            hurry(queue);
        *queue->tail = record;
        queue->tail = &record->next;
        queue->bytes += record->len;
    }
    g_mutex_unlock(&queue->mutex);
    if (!taken)
        g_free(record);
    return taken;
}

WireRecord *queue_pop_all(Queue *queue)
{
    g_mutex_lock(&queue->mutex);
    while (!queue->closed && !queue->head)
        g_cond_wait(&queue->filled, &queue->mutex);
    gint64 until_us = g_get_monotonic_time() + GATHER_US;
    while (!queue->closed && !queue->urgent &&
           g_cond_wait_until(&queue->filled, &queue->mutex, until_us))
        ;
    WireRecord *list = queue->head;
    queue->head = NULL;
    queue->urgent = FALSE;
    queue->tail = &queue->head;
    g_mutex_unlock(&queue->mutex);
    return list;
}

void queue_sent(Queue *queue, gsize bytes)
{
    g_mutex_lock(&queue->mutex);
    queue->bytes -= bytes;
    g_cond_broadcast(&queue->room);
    g_mutex_unlock(&queue->mutex);
}

void queue_close(Queue *queue)
{
    g_mutex_lock(&queue->mutex);
    queue->closed = TRUE;
    g_cond_broadcast(&queue->room);
    g_cond_broadcast(&queue->filled);
    g_mutex_unlock(&queue->mutex);
}

guint64 queue_bytes(Queue *queue)
{
    g_mutex_lock(&queue->mutex);
    guint64 bytes = queue->bytes;
    g_mutex_unlock(&queue->mutex);
    return bytes;
}

void queue_wait_room(Queue *queue)
{
    g_mutex_lock(&queue->mutex);
    while (!queue->closed && !has_room(queue, QUEUE_SYNC, 0)) {
        hurry(queue);
        g_cond_wait(&queue->room, &queue->mutex);
    }
    g_mutex_unlock(&queue->mutex);
}
