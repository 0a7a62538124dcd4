/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A frame that waits: the queues, timers and lists that it is in. Which of them, and until when, is
 * decided elsewhere. A frame is in the order queue of its side from held_new() to held_free(); what
 * frames are made of is kept for the next ones.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

#define SPARE_MAX     4096u
#define OPENING_TRIES 64u

Held *held_new(Compare *compare, Side side, guint64 epoch, GBytes *frame, ColoTime now)
{
    Held *held = compare->spare;

    if (held != NULL) {
        compare->spare = held->order.data;
        compare->n_spare--;
    } else {
        held = g_new0(Held, 1);
    }
    held->frame = g_bytes_ref(frame);
    held->flow = NULL;
    held->origin = NULL;
    held->epoch = epoch;
    held->came = held->arrival = now;
    held->secondary_before = compare->secondary_in_epoch;
    held->bytes = g_bytes_get_size(frame) + sizeof(*held);
    held->side = side;
    held->timer_class = TIMER_OFF;
    held->order = held->timer = held->fifo = held->seg = held->opening = (GList){.data = held};
    held->fifo_queue = held->seg_queue = NULL;
    held->later = held->is_opening = FALSE;
    held->done = 0;
    links_push(&compare->order[side], &held->order);

    CompareStats *stats = &compare->stats;
    stats->held_frames++;
    stats->held_bytes += held->bytes;
    stats->max_held_bytes = MAX(stats->max_held_bytes, stats->held_bytes);
    return held;
}

void held_push_fifo(Held *held, GQueue *queue)
{
    links_push(queue, &held->fifo);
    held->fifo_queue = queue;
}

void held_leave_fifo(Held *held)
{
    if (held->fifo_queue != NULL)
        links_remove(held->fifo_queue, &held->fifo);
    held->fifo_queue = NULL;
}

void held_leave_seg(Held *held)
{
    if (held->seg_queue != NULL)
        links_remove(held->seg_queue, &held->seg);
    held->seg_queue = NULL;
}

void held_stop_timer(Compare *compare, Held *held)
{
    if (held->timer_class != TIMER_OFF)
        links_remove(&compare->timers[held->timer_class], &held->timer);
    held->timer_class = TIMER_OFF;
}

void held_start_timer(Compare *compare, Held *held, TimerClass timer_class)
{
    if (held->timer_class == timer_class)
        return; /* keeps its place, which is by its arrival */
    held_stop_timer(compare, held);
    held->timer_class = timer_class;
    links_push(&compare->timers[timer_class], &held->timer);
}

/*
 * A guest picks the source port of a connection that it opens partly by chance, so the VMs open
 * different ones. Each would be missed for the whole timeout. A SYN of the SVM to the same place
 * that the PVM hasn't sent either shows it sooner. (Not at once: two connections may be opened in
 * another order.)
 */
static gboolean same_place(const CompareKey *a, const CompareKey *b)
{
    return a->dport == b->dport && a->nic == b->nic && memcmp(a->dst, b->dst, 16) == 0 &&
           memcmp(a->vlan, b->vlan, sizeof(a->vlan)) == 0;
}

void held_opens(Compare *compare, Held *held)
{
    guint tries = OPENING_TRIES;

    links_push(&compare->opening[held->side], &held->opening);
    held->is_opening = TRUE;
    for (GList *l = compare->opening[!held->side].tail; l != NULL && tries-- > 0; l = l->prev) {
        Held *other = l->data, *primary = held->side == PRIMARY ? held : other;
        if (primary->timer_class == TIMER_SUSPECT ||
            !same_place(&held->packet.key, &other->packet.key))
            continue;
        primary->arrival = compare->now;
        held_start_timer(compare, primary, TIMER_SUSPECT);
        return;
    }
}

static void held_leave_opening(Compare *compare, Held *held)
{
    if (held->is_opening)
        links_remove(&compare->opening[held->side], &held->opening);
    held->is_opening = FALSE;
}

static void held_leave_flow(Held *held)
{
    held_leave_fifo(held);
    held_leave_seg(held);
    if (held->flow != NULL && held->side == SECONDARY)
        held->flow->held_secondary--;
    held->flow = NULL;
}

void held_free(Compare *compare, Held *held)
{
    held_leave_flow(held);
    held_leave_opening(compare, held);
    held_stop_timer(compare, held);
    links_remove(&compare->order[held->side], &held->order);
    compare->stats.held_frames--;
    compare->stats.held_bytes -= held->bytes;
    g_bytes_unref(held->frame);
    held->frame = NULL;
    if (held->origin != NULL)
        g_clear_pointer(&held->origin, g_free);
    if (compare->n_spare == SPARE_MAX) {
        g_free(held);
        return;
    }
    held->order.data = compare->spare;
    compare->spare = held;
    compare->n_spare++;
}

void held_free_spares(Compare *compare)
{
    while (compare->spare != NULL) {
        Held *held = compare->spare;
        compare->spare = held->order.data;
        g_free(held);
    }
}
