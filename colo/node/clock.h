/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that sets the guest's clock (docs/CLOCK.md), by the agent in the guest.
 *
 * It owns the connection to the agent, and what the agent was told. It doesn't count how far the
 * clock is behind, and it takes no checkpoint: it asks for one.
 *
 * Always holds: only a VM that clock_may_be_set() permits is told the time. Nothing waits for it.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_CLOCK_H
#define COLO_COLO_NODE_CLOCK_H

#include "colo/config/config.h"
#include "colo/node/cycle.h"
#include "colo/node/fsm.h"

typedef struct GuestClock GuestClock;

/* Facts that others own. */
typedef struct {
    FsmState state;
    CyclePhase phase;
    gboolean runs;    /* the VM does now */
    gint64 behind_us; /* for how long the guest was paused, in all */
} GuestClockWorld;

/* Called on the main loop. */
typedef struct {
    GuestClockWorld (*look)(gpointer user_data);
    /* The VM runs, and is not about to be paused. */
    gboolean (*stays_running)(gpointer user_data);
    /* The guest was told the time, or may have been. */
    void (*told)(gpointer user_data);
} GuestClockHandler;

/*
 * Pure: whether it is to be set; and whether it may. `not_made_up_us` is how far it is behind since
 * it was set last.
 */
gboolean clock_is_due(gboolean taken_over, gint64 not_made_up_us, guint64 step_ms);
gboolean clock_may_be_set(FsmState state, CyclePhase phase, gboolean runs);

/* `config` is borrowed. */
GuestClock *clock_new(const Config *config, const GuestClockHandler *handler, gpointer user_data);
void clock_free(GuestClock *clock);

/*
 * The VM has been started, and its agent's port is `fd` (borrowed; -1: it has none). Or the VM is
 * about to be ended.
 */
void clock_attach(GuestClock *clock, int fd);
void clock_forget(GuestClock *clock);
/* It may be due, or possible, now. */
void clock_look(GuestClock *clock);
void clock_taken_over(GuestClock *clock);

/* ---- For status and tests ---- */

/* There is a port for an agent. */
gboolean clock_has_agent(const GuestClock *clock);
/* Whether the agent has not read something that was sent to it. */
gboolean clock_is_unread(const GuestClock *clock);
/* The last try has failed. */
gboolean clock_has_failed(const GuestClock *clock);
guint64 clock_corrections(const GuestClock *clock);
/* The agent has answered the last sync. */
gboolean clock_is_synced(const GuestClock *clock);

#endif
