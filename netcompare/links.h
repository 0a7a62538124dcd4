/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GQueue's functions for links that are part of what they hold, inline: each frame goes through
 * five queues, and GLib's are calls with checks. What is done by others stays right: the queues are
 * whole GQueues.
 */
#ifndef COLO_NETCOMPARE_LINKS_H
#define COLO_NETCOMPARE_LINKS_H

#include <glib.h>

/* g_queue_push_tail_link(). */
static inline void links_push(GQueue *queue, GList *link)
{
    link->prev = queue->tail;
    link->next = NULL;
    if (queue->tail != NULL)
        queue->tail->next = link;
    else
        queue->head = link;
    queue->tail = link;
    queue->length++;
}

/* g_queue_insert_after_link(): `after` NULL is before the first. */
static inline void links_insert_after(GQueue *queue, GList *after, GList *link)
{
    GList *next = after != NULL ? after->next : queue->head;
    link->prev = after;
    link->next = next;
    *(after != NULL ? &after->next : &queue->head) = link;
    *(next != NULL ? &next->prev : &queue->tail) = link;
    queue->length++;
}

/* g_queue_unlink(). */
static inline void links_remove(GQueue *queue, GList *link)
{
    *(link->prev != NULL ? &link->prev->next : &queue->head) = link->next;
    *(link->next != NULL ? &link->next->prev : &queue->tail) = link->prev;
    link->prev = link->next = NULL;
    queue->length--;
}

#endif
