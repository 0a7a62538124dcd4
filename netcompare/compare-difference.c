/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How differences are reported: which bytes or values, where in the flow, in which frames. */
#include "netcompare/compare_internal.h"

#include <string.h>

const char *compare_reason_name(CompareReason reason)
{
    static const char *const names[COMPARE_REASONS] = {
        [COMPARE_PAYLOAD] = "payload",
        [COMPARE_FLAG] = "flag",
        [COMPARE_EXTRA_OUTPUT] = "extra-output",
        [COMPARE_MISSING_OUTPUT] = "missing-output",
        [COMPARE_SECONDARY_SILENT] = "secondary-silent",
        [COMPARE_TABLE_FULL] = "table-full",
    };
    return names[reason];
}

void flow_count_verified(Compare *compare, Flow *flow, guint64 bytes)
{
    flow->verified_bytes += bytes;
    compare->stats.verified_bytes += bytes;
}

void flow_count_unseen(Flow *flow, guint64 bytes)
{
    flow->offline->unseen_bytes += bytes;
    flow->offline->passed += bytes;
}

guint64 flow_offset(const Flow *flow)
{
    guint64 passed = flow->offline != NULL ? flow->offline->passed : 0;
    return flow->verified_bytes - flow->before_connection + passed;
}

void difference_add_bytes(Difference *difference, Side side, const Held *held, guint32 from)
{
    const Packet *p = &held->packet;

    if (from >= p->body_have)
        return;
    difference->bytes[side] = p->body + from;
    difference->len[side] = p->body_have - from;
}

void difference_set_value(Difference *difference, const char *field, gboolean is_flag,
                          gint64 primary, gint64 secondary)
{
    difference->field = field;
    difference->is_flag = is_flag;
    difference->value[PRIMARY] = primary;
    difference->value[SECONDARY] = secondary;
}

static guint sample(guint8 to[COMPARE_SAMPLE_BYTES], const guint8 *from, gsize len)
{
    guint n = (guint)MIN(len, COMPARE_SAMPLE_BYTES);
    if (n > 0)
        memcpy(to, from, n);
    return n;
}

/* Where in the captures: a difference is found when the later of two frames comes, or at the end.
 */
static void add_origins(const Flow *flow, const Difference *difference, CompareDivergence *d)
{
    CompareOrigin *origins[] = {&d->primary_origin, &d->secondary_origin};
    gboolean *before[] = {&d->primary_before, &d->secondary_before};
    ColoTime when = {.us = G_MININT64};

    for (Side side = PRIMARY; side <= SECONDARY; side++) {
        const Held *held = difference->frames[side];
        *before[side] = held == NULL;
        *origins[side] =
            held != NULL && held->origin != NULL ? *held->origin : flow->offline->last[side];
        if (held != NULL)
            when.us = MAX(when.us, held->came.us);
    }
    if (when.us != G_MININT64)
        d->when = when;
}

void difference_report(Compare *compare, CompareDivergence *divergence)
{
    if (compare->checkpointing)
        return; /* what would help is on its way */
    compare->stats.divergences[divergence->reason]++;
    compare->actions.diverged(divergence, compare->user_data);
}

void flow_diverge(Compare *compare, Flow *flow, const Difference *difference)
{
    flow->diverged = TRUE;
    if (!compare->checkpointing)
        flow->diverged_for[difference->reason]++;
    CompareDivergence divergence = {
        .reason = difference->reason,
        .key = flow->node.key,
        .epoch = flow->epoch,
        .when = compare->now,
        .offset = flow_offset(flow) + difference->more_offset,
        .connection = flow->connection + 1,
        .detail = difference->detail,
        .field = difference->field,
        .is_flag = difference->is_flag,
        .primary_value = difference->value[PRIMARY],
        .secondary_value = difference->value[SECONDARY],
    };
    divergence.primary_len =
        sample(divergence.primary, difference->bytes[PRIMARY], difference->len[PRIMARY]);
    divergence.secondary_len =
        sample(divergence.secondary, difference->bytes[SECONDARY], difference->len[SECONDARY]);
    if (difference->on_last) {
        divergence.offset = flow->last.bytes;
        divergence.connection--;
    }
    if (flow->offline != NULL)
        add_origins(flow, difference, &divergence);
    difference_report(compare, &divergence);
    if (compare->options.offline)
        flow_drop_held(compare, flow); /* nothing will ever release it */
}
