/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Differences between the two VMs, for people: as JSON, as a memory of the last ones, and as events
 * that a storm doesn't turn into a flood. Pure: times are given.
 */
#ifndef COLO_COLO_NODE_DIVERGENCE_H
#define COLO_COLO_NODE_DIVERGENCE_H

#include <json-c/json.h>

#include "netcompare/compare.h"

/*
 * An object of "reason", "flow", "epoch", "when", "offset", "detail", "primary" and "secondary".
 * `when` is ISO 8601 in UTC of `wall_us` (microseconds since 1970). The bytes are hex ("48 54"),
 * null where that side has none. `flow` is null where no single flow is meant. A difference that is
 * no byte also has "field", its name, and "primary-value", "secondary-value". Returns a new
 * reference.
 */
json_object *divergence_to_json(const CompareDivergence *divergence, gint64 wall_us);

#define DIVERGENCE_LAST              8u
#define DIVERGENCE_EVENTS_PER_SECOND 5u

/* Zeroed: empty. */
typedef struct {
    CompareDivergence last[DIVERGENCE_LAST]; /* a ring: number n is at n % DIVERGENCE_LAST */
    gint64 wall_us[DIVERGENCE_LAST];
    guint64 total, by_reason[COMPARE_REASONS];
    ColoTime second; /* in which events are counted; its begin */
    guint in_second;
    guint64 left_out;
} DivergenceLog;

/*
 * Remembers `divergence`. Returns the data of the event (a new reference), or NULL if there were
 * enough in this second. The next event then has `left-out`, their number.
 */
json_object *divergence_log_add(DivergenceLog *log, const CompareDivergence *divergence,
                                gint64 wall_us);

/* Adds `divergences` (reason: count) and `last` (oldest first) to `object`. */
void divergence_log_describe(const DivergenceLog *log, json_object *object);

#endif
