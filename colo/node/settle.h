/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Before a pause: QEMU is to have read the input that it was given. What it reads later it keeps, and
 * gives to the guest when that runs again. By then the guest may be that of another checkpoint, which
 * has got that input already; or it runs on the other host, and never gets it.
 */
#ifndef COLO_COLO_NODE_SETTLE_H
#define COLO_COLO_NODE_SETTLE_H

#include <glib.h>

typedef struct Settle Settle;

/* Whether all was read; and: it was, or the limit has passed. */
typedef gboolean (*SettleIsReadFunc)(gpointer user_data);
typedef void (*SettledFunc)(gpointer user_data);

Settle *settle_new(SettleIsReadFunc is_read, SettledFunc settled, gpointer user_data);
/* Ends what is under way. NULL is fine. */
void settle_free(Settle *settle);

/* Calls settled() once, perhaps before this returns. Nothing may be under way. A time in which this process
 * didn't run counts little. */
void settle_begin(Settle *settle, gint64 limit_us);
/* settled() isn't called any more. */
void settle_end(Settle *settle);

#endif
