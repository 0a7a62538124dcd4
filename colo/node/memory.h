/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that watches QEMU's own memory: what a secondary does when it has grown too much,
 * and what a primary answers.
 *
 * It owns the timer of the look, and what the VM had when it was first protected. It doesn't end a
 * VM: fsm.h does, by FSM_RECYCLE.
 *
 * Always holds: a secondary recycles its VM only after the primary has permitted it, in the session
 * in which it has asked.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_MEMORY_H
#define COLO_COLO_NODE_MEMORY_H

#include "colo/config/config.h"
#include "colo/node/fsm.h"

typedef struct Memory Memory;

/* Called on the main loop, and from within memory_look() and memory_leave(). */
typedef struct {
    FsmState (*state)(gpointer user_data);
    /* Of QEMU, in bytes; 0: there is no VM. */
    guint64 (*measure)(gpointer user_data);
    /* A primary's VM is well for certain: it needs no secondary. */
    gboolean (*may_do_without)(gpointer user_data);
    /* LEAVE to the peer: the question, or its answer. */
    void (*leave)(gpointer user_data);
    /* The VM of this secondary is to be replaced. */
    void (*recycle)(gpointer user_data);
} MemoryHandler;

/* Pure. `limit` 0: there is none. */
gboolean memory_is_grown(guint64 base, guint64 now, guint64 limit);

/* `config` is borrowed, and read at each look. */
Memory *memory_new(const Config *config, const MemoryHandler *handler, gpointer user_data);
void memory_free(Memory *memory);

/* Looks at it now, and does what follows. */
void memory_look(Memory *memory);
/* LEAVE of the peer: a question or its answer. */
void memory_leave(Memory *memory);
/* The session is over: what was asked in it is answered no more. */
void memory_session_over(Memory *memory);
/* The VM is gone. */
void memory_forget(Memory *memory);

/* ---- For status and tests ---- */

/* At the last look, and when the VM was first protected; 0: not known. */
guint64 memory_bytes(const Memory *memory);
guint64 memory_base(const Memory *memory);
/* The primary has been asked. */
gboolean memory_is_leaving(const Memory *memory);
/* A primary's VM has grown, and that was logged. */
gboolean memory_is_told(const Memory *memory);

#endif
