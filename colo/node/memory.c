/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's own memory. Each load of device state leaves some behind, so a secondary's QEMU grows for
 * as long as it lives. Above [vm] qemu-growth-limit a new one is started, in order:
 *
 *     secondary: LEAVE     may I?
 *     primary:   LEAVE     my VM lives, you may
 *     secondary: GOODBYE   drops what it holds, and joins again with a new QEMU
 *     primary              continues alone, as for any secondary that ends on purpose
 *
 * The secondary asks because the primary may be dead without its knowledge, and that is the case
 * that a secondary is for. Until GOODBYE both are what they were: if the link is lost before, the
 * usual rules apply.
 *
 * A primary's QEMU has grown if it was a secondary's before. It can't be replaced under its guest.
 * That is reported, and is over when this node is the secondary the next time.
 */
#include "colo/node/memory.h"

#include "colo/node/events.h"
#include "common/log.h"

#define LOOK_MS 1000

#define MIB (1024.0 * 1024.0)

struct Memory {
    const Config *config; /* borrowed */
    MemoryHandler handler;
    gpointer user_data;
    guint timer;
    guint64 bytes, base; /* now, and when the VM was first protected; 0: unknown */
    gboolean told;
    gboolean leaving; /* secondary: has sent LEAVE in this session */
};

gboolean memory_is_grown(guint64 base, guint64 now, guint64 limit)
{
    return base > 0 && limit > 0 && now > base && now - base > limit;
}

void memory_look(Memory *memory)
{
    const MemoryHandler *handler = &memory->handler;
    FsmState state = handler->state(memory->user_data);
    memory->bytes = handler->measure(memory->user_data);
    /* What it takes to run and to load is there when the VM is protected. */
    if (memory->base == 0 && fsm_is_protected(state))
        memory->base = memory->bytes;
    if (!memory_is_grown(memory->base, memory->bytes, memory->config->qemu_growth_limit_bytes))
        return;
    double grown_mib = (double)(memory->bytes - memory->base) / MIB;
    if (state == FSM_S_COLO) {
        if (!memory->leaving)
            log_warning("QEMU has grown by %.0f MiB: a new one is started if the primary's VM is "
                        "well",
                        grown_mib);
        memory->leaving = TRUE;
        handler->leave(memory->user_data);
    } else if (fsm_is_primary(state) && !memory->told) {
        memory->told = TRUE;
        log_warning("QEMU has grown by %.0f MiB: this node's next one is a new one, when it is the "
                    "secondary again",
                    grown_mib);
    }
}

void memory_leave(Memory *memory)
{
    const MemoryHandler *handler = &memory->handler;
    switch (events_leave(handler->state(memory->user_data), memory->leaving,
                         handler->may_do_without(memory->user_data))) {
    case EVENTS_LEAVE_NOTHING:
        return;
    case EVENTS_LEAVE_MAY:
        handler->leave(memory->user_data);
        return;
    case EVENTS_LEAVE_GOES:
        handler->recycle(memory->user_data);
    }
}

void memory_session_over(Memory *memory)
{
    memory->leaving = FALSE;
}

void memory_forget(Memory *memory)
{
    memory->base = memory->bytes = 0;
    memory->told = FALSE;
}

guint64 memory_bytes(const Memory *memory)
{
    return memory->bytes;
}

guint64 memory_base(const Memory *memory)
{
    return memory->base;
}

gboolean memory_is_leaving(const Memory *memory)
{
    return memory->leaving;
}

gboolean memory_is_told(const Memory *memory)
{
    return memory->told;
}

static gboolean on_look(gpointer user_data)
{
    memory_look(user_data);
    return G_SOURCE_CONTINUE;
}

Memory *memory_new(const Config *config, const MemoryHandler *handler, gpointer user_data)
{
    Memory *memory = g_new0(Memory, 1);
    memory->config = config;
    memory->handler = *handler;
    memory->user_data = user_data;
    memory->timer = g_timeout_add(LOOK_MS, on_look, memory);
    return memory;
}

void memory_free(Memory *memory)
{
    if (!memory)
        return;
    g_source_remove(memory->timer);
    g_free(memory);
}
