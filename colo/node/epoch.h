/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The epoch of a checkpoint, or none. Numbers of epochs come from the peer and the disk server, so
 * no number means that there is none.
 */
#ifndef COLO_COLO_NODE_EPOCH_H
#define COLO_COLO_NODE_EPOCH_H

#include <glib.h>

typedef struct {
    gboolean is_set;
    guint64 number; /* if it is set */
} OptionalEpoch;

#define EPOCH_NONE ((OptionalEpoch){FALSE, 0})

static inline OptionalEpoch epoch_some(guint64 number)
{
    return (OptionalEpoch){TRUE, number};
}

static inline gboolean epoch_is(OptionalEpoch epoch, guint64 number)
{
    return epoch.is_set && epoch.number == number;
}

/* The same one, or none both. */
static inline gboolean epoch_equal(OptionalEpoch a, OptionalEpoch b)
{
    return a.is_set ? epoch_is(b, a.number) : !b.is_set;
}

/* There is none, or an earlier one. */
static inline gboolean epoch_is_before(OptionalEpoch epoch, guint64 number)
{
    return !epoch.is_set || epoch.number < number;
}

#endif
