/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/hold.h"

typedef struct {
    Hold *hold;
    guint detached; /* when it was attached */
} Attached;

/* Never freed, for threads may outlive all. */
static GPtrArray *all_attached;

static void stop(gboolean done, gpointer hook_data)
{
    const Attached *attached = hook_data;
    Hold *hold = attached->hold;
    g_mutex_lock(&hold->lock);
    guint round = hold->round;
    if (attached->detached == hold->detached && hold->where == (done ? HOLD_AFTER : HOLD_BEFORE)) {
        hold->waiting++;
        while (hold->round == round)
            g_cond_wait(&hold->changed, &hold->lock);
        hold->waiting--;
        g_cond_broadcast(&hold->changed);
    }
    g_mutex_unlock(&hold->lock);
}

void hold_attach(Hold *hold, Arbiter *arbiter)
{
    Attached *attached = g_new(Attached, 1);
    *attached = (Attached){.hold = hold, .detached = hold->detached};
    if (!all_attached)
        all_attached = g_ptr_array_new();
    g_ptr_array_add(all_attached, attached);
    arbiter_set_hook(arbiter, stop, attached);
}

void hold_detach(Hold *hold)
{
    g_mutex_lock(&hold->lock);
    hold->detached++;
    g_mutex_unlock(&hold->lock);
}

void hold(Hold *hold, HoldWhere where)
{
    g_mutex_lock(&hold->lock);
    hold->where = where;
    g_mutex_unlock(&hold->lock);
}

void hold_end(Hold *hold)
{
    g_mutex_lock(&hold->lock);
    hold->where = HOLD_NOT;
    hold->round++;
    g_cond_broadcast(&hold->changed);
    while (hold->waiting > 0)
        g_cond_wait(&hold->changed, &hold->lock);
    g_mutex_unlock(&hold->lock);
}

guint hold_waiting(Hold *hold)
{
    g_mutex_lock(&hold->lock);
    guint waiting = hold->waiting;
    g_mutex_unlock(&hold->lock);
    return waiting;
}
