/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/hold.h"

static void stop(gboolean done, gpointer hook_data)
{
    Hold *hold = hook_data;
    g_mutex_lock(&hold->lock);
    guint round = hold->round;
    if (hold->where == (done ? HOLD_AFTER : HOLD_BEFORE)) {
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
    arbiter_set_hook(arbiter, stop, hold);
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
