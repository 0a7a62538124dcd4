/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/throttle.h"

void throttle_init(Throttle *throttle, gint64 full_bytes_us)
{
    *throttle = (Throttle){.full_bytes_us = full_bytes_us ? full_bytes_us : G_USEC_PER_SEC};
    g_mutex_init(&throttle->mutex);
    g_cond_init(&throttle->changed);
}

void throttle_clear(Throttle *throttle)
{
    g_mutex_clear(&throttle->mutex);
    g_cond_clear(&throttle->changed);
}

static gboolean is_full(const Throttle *throttle)
{
    return throttle->limit_bytes && throttle->bytes >= throttle->limit_bytes && !throttle->open;
}

gboolean throttle_asks(Throttle *throttle, guint64 bytes)
{
    g_mutex_lock(&throttle->mutex);
    gboolean asks = throttle->limit_bytes && throttle->bytes + bytes >= throttle->limit_bytes / 2 &&
                    !throttle->asked;
    throttle->asked |= asks;
    g_mutex_unlock(&throttle->mutex);
    return asks;
}

/* When a write passes, of an epoch that is full: each after the one before. */
static gint64 take_turn(Throttle *throttle, guint64 bytes)
{
    gint64 now = g_get_monotonic_time();
    bytes = MIN(bytes, throttle->limit_bytes);
    gint64 us = (gint64)(bytes * (guint64)throttle->full_bytes_us / throttle->limit_bytes);
    throttle->next_us = MIN(MAX(throttle->next_us, now) + us, now + throttle->full_bytes_us);
    return throttle->next_us;
}

void throttle_admit(Throttle *throttle, guint64 bytes)
{
    g_mutex_lock(&throttle->mutex);
    gint64 turn = is_full(throttle) ? take_turn(throttle, bytes) : 0;
    throttle->waiting++; /* seen by others only if it waits: they need the mutex */
    while (is_full(throttle) && g_cond_wait_until(&throttle->changed, &throttle->mutex, turn))
        ;
    throttle->waiting--;
    throttle->bytes += bytes;
    g_mutex_unlock(&throttle->mutex);
}

void throttle_limit(Throttle *throttle, guint64 limit_bytes)
{
    g_mutex_lock(&throttle->mutex);
    throttle->limit_bytes = limit_bytes;
    g_cond_broadcast(&throttle->changed);
    g_mutex_unlock(&throttle->mutex);
}

void throttle_begin_epoch(Throttle *throttle)
{
    g_mutex_lock(&throttle->mutex);
    throttle->bytes = 0;
    throttle->next_us = 0;
    throttle->asked = throttle->open = FALSE;
    g_cond_broadcast(&throttle->changed);
    g_mutex_unlock(&throttle->mutex);
}

void throttle_open(Throttle *throttle)
{
    g_mutex_lock(&throttle->mutex);
    throttle->open = TRUE;
    g_cond_broadcast(&throttle->changed);
    g_mutex_unlock(&throttle->mutex);
}

void throttle_look(Throttle *throttle, guint64 *ret_limit_bytes, gboolean *ret_waits)
{
    g_mutex_lock(&throttle->mutex);
    *ret_limit_bytes = throttle->limit_bytes;
    *ret_waits = throttle->waiting > 0;
    g_mutex_unlock(&throttle->mutex);
}
