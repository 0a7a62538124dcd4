/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate: the protected VM's output waits here until its epoch is committed (output commit).
 *
 * A plain queue in the order of adding. Only its head ever leaves, so order can't be broken. A
 * frame that waits behind one of a later epoch waits too: late is safe, early is not. The memory
 * held is bounded: every frame is charged its own bytes plus GATE_FRAME_OVERHEAD_BYTES.
 *
 * No clock, no I/O. `release` may call back into the gate: what it adds goes behind what is
 * leaving, and a nested release or opening is finished by the outermost one.
 */
#include "netcompare/netcompare.h"

/* What the queue's entry and the allocator cost besides a frame's bytes: about this. */
#define GATE_FRAME_OVERHEAD_BYTES 128u

typedef struct {
    guint64 epoch;
    GBytes *frame;
    unsigned nic;
} GateEntry;

struct Gate {
    GQueue held; /* of GateEntry* */
    gsize limit_bytes;
    gsize charged_bytes; /* what counts against the limit */
    guint64 until;       /* all of epochs < until may leave now; 0 outside let_leave() */
    gboolean open;
    gboolean leaving; /* inside let_leave(): nested calls only change what it looks at */
    GateStats stats;
    void (*release)(unsigned nic, GBytes *frame, gpointer user_data);
    gpointer user_data;
};

Gate *gate_new(gsize limit_bytes, void (*release)(unsigned nic, GBytes *frame, gpointer user_data),
               gpointer user_data)
{
    Gate *gate = g_new0(Gate, 1);
    g_queue_init(&gate->held);
    gate->limit_bytes = limit_bytes;
    gate->release = release;
    gate->user_data = user_data;
    return gate;
}

static gsize entry_charge(const GateEntry *entry)
{
    return g_bytes_get_size(entry->frame) + GATE_FRAME_OVERHEAD_BYTES;
}

/* Takes the oldest frame out of the queue and the accounts; the caller frees the entry. */
static GateEntry *pop_oldest(Gate *gate)
{
    GateEntry *entry = g_queue_pop_head(&gate->held);
    gate->charged_bytes -= entry_charge(entry);
    gate->stats.frames--;
    gate->stats.bytes -= g_bytes_get_size(entry->frame);
    return entry;
}

static void entry_free(GateEntry *entry)
{
    g_bytes_unref(entry->frame);
    g_free(entry);
}

void gate_free(Gate *gate)
{
    if (gate == NULL)
        return;
    g_assert(!gate->leaving);
    while (!g_queue_is_empty(&gate->held))
        entry_free(pop_oldest(gate));
    g_free(gate);
}

/* The only place where a frame leaves. */
static void let_leave(Gate *gate)
{
    if (gate->leaving)
        return;
    gate->leaving = TRUE;
    const GateEntry *head;
    while ((head = g_queue_peek_head(&gate->held)) != NULL &&
           (gate->open || head->epoch < gate->until)) {
        GateEntry *entry = pop_oldest(gate);
        gate->stats.released_frames++;
        gate->release(entry->nic, entry->frame, gate->user_data);
        entry_free(entry);
    }
    gate->until = 0; /* a permit is for what was held when it was given */
    gate->leaving = FALSE;
}

static void hold(Gate *gate, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    GateEntry *entry = g_new(GateEntry, 1);
    *entry = (GateEntry){.epoch = epoch, .nic = nic, .frame = g_bytes_new(data, len)};
    g_queue_push_tail(&gate->held, entry);
    gate->charged_bytes += entry_charge(entry);
    gate->stats.frames++;
    gate->stats.bytes += len;
    gate->stats.max_frames = MAX(gate->stats.max_frames, gate->stats.frames);
    gate->stats.max_bytes = MAX(gate->stats.max_bytes, gate->stats.bytes);
}

static gboolean is_within(gsize room, gsize len)
{
    return room >= GATE_FRAME_OVERHEAD_BYTES && room - GATE_FRAME_OVERHEAD_BYTES >= len;
}

static gboolean has_room(const Gate *gate, gsize len)
{
    return gate->open ||
           is_within(gate->limit_bytes - MIN(gate->charged_bytes, gate->limit_bytes), len);
}

gboolean gate_fits(const Gate *gate, gsize len)
{
    return has_room(gate, len) || !is_within(gate->limit_bytes, len);
}

GateResult gate_add(Gate *gate, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    if (!has_room(gate, len)) {
        gate->stats.dropped_frames++;
        return GATE_FULL;
    }
    hold(gate, nic, epoch, data, len);
    if (gate->open) {
        let_leave(gate);
        return GATE_HELD;
    }
    return gate->charged_bytes > gate->limit_bytes / 4 * 3 ? GATE_FILLING : GATE_HELD;
}

void gate_release(Gate *gate, guint64 until)
{
    gate->until = MAX(gate->until, until);
    let_leave(gate);
}

void gate_set_open(Gate *gate, gboolean open)
{
    gate->open = open;
    if (open)
        let_leave(gate);
}

void gate_discard(Gate *gate)
{
    while (!g_queue_is_empty(&gate->held)) {
        entry_free(pop_oldest(gate));
        gate->stats.discarded_frames++;
    }
}

void gate_foreach(Gate *gate, guint64 until,
                  void (*func)(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data),
                  gpointer user_data)
{
    for (const GList *link = gate->held.head; link != NULL; link = link->next) {
        const GateEntry *entry = link->data;
        if (entry->epoch < until)
            func(entry->nic, entry->epoch, entry->frame, user_data);
    }
}

const GateStats *gate_stats(const Gate *gate)
{
    return &gate->stats;
}
