/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long output waits for the other side's, and what is reported when it has waited in vain. Live
 * that is when its time is over; offline when the captures are, or when too much of them waits.
 */
#include "netcompare/compare_internal.h"

#define NO_OUTPUT_FRAMES 4u
#define GRACE_MAX        3
#define SUSPECT_US       (10 * COLO_US_PER_MS)

/*
 * A VM that has just been loaded is slow at first (a TCG one has to translate all its code again).
 * Until it has sent all that the PVM has, it gets twice what it took the last times, at most
 * GRACE_MAX times the timeout more.
 */
void wait_caught_up(Compare *compare)
{
    gint64 took = colo_time_diff_us(compare->now, compare->loaded);
    compare->caught_up = TRUE;
    compare->grace_us = (compare->grace_us + 2 * took) / 2;
}

static gint64 grace_max_us(const Compare *compare)
{
    return GRACE_MAX * compare->options.timeout_us;
}

static void stay_behind(Compare *compare)
{
    compare->caught_up = TRUE;
    /* More is never given, and one that has stayed behind for long is to be forgiven soon. */
    compare->grace_us =
        MIN(2 * compare->grace_us + compare->options.timeout_us, grace_max_us(compare));
}

static gint64 grace_us(const Compare *compare)
{
    return compare->caught_up ? 0 : MIN(compare->grace_us, grace_max_us(compare));
}

static gint64 timeout_us(const Compare *compare, TimerClass timer_class)
{
    gboolean ack = timer_class == TIMER_PRIMARY_ACK || timer_class == TIMER_PRIMARY_LATE;
    return ack ? compare->options.ack_timeout_us : compare->options.timeout_us;
}

/* When the head of this class is due; G_MAXINT64: never. */
static gint64 deadline_us(const Compare *compare, TimerClass timer_class)
{
    const GList *head = compare->timers[timer_class].head;
    gint64 timeout = timeout_us(compare, timer_class);

    if (head == NULL || timeout == 0)
        return G_MAXINT64;
    gint64 since = ((const Held *)head->data)->arrival.us;
    if (timer_class == TIMER_SUSPECT)
        return since + MIN(timeout, SUSPECT_US);
    return MAX(since, compare->running_since.us) + timeout + grace_us(compare);
}

ColoTime compare_next_deadline(const Compare *compare)
{
    gint64 next = G_MAXINT64;

    if (compare->running && !compare->checkpointing)
        for (TimerClass c = 0; c < TIMERS; c++)
            next = MIN(next, deadline_us(compare, c));
    return (ColoTime){.us = next};
}

/* ---- In vain ---- */

static gboolean is_tcp(const Flow *flow)
{
    return flow->node.key.kind == COMPARE_KIND_TCP;
}

/* A datagram that the other side has not sent. */
static void explain_datagram(const Held *held, Difference *d)
{
    gboolean primary = held->side == PRIMARY;

    d->reason = primary ? COMPARE_MISSING_OUTPUT : COMPARE_EXTRA_OUTPUT;
    d->detail = primary ? "the secondary has not sent what the primary has sent"
                        : "the secondary has sent what the primary has not";
    d->frames[held->side] = held;
    difference_add_bytes(d, held->side, held, held->done);
}

static Difference explain(Compare *compare, Held *held)
{
    Difference d = {0};
    gboolean no_output = held->side == PRIMARY && compare->last_secondary.us <= held->arrival.us &&
                         compare->primary_since_secondary >= NO_OUTPUT_FRAMES;

    if (!is_tcp(held->flow) || !tcp_explain(compare, held->flow, &d))
        explain_datagram(held, &d);
    if (no_output && d.reason == COMPARE_MISSING_OUTPUT) {
        d.reason = COMPARE_SECONDARY_SILENT;
        d.detail = "the secondary has sent nothing at all for as long: is its guest hung?";
    }
    return d;
}

/* The flow of `held` has waited for the other side in vain. */
static void give_up(Compare *compare, Held *held, gboolean suspected)
{
    Flow *flow = held->flow;
    Difference d = {0};

    if (suspected) {
        d.reason = COMPARE_FLAG;
        d.detail = "the secondary has opened another connection to the same address and port";
        d.frames[PRIMARY] = held;
    } else {
        d = explain(compare, held);
    }
    flow_diverge(compare, flow, &d);
}

void compare_tick(Compare *compare, ColoTime now)
{
    compare->now = now;
    if (!compare->running || compare->checkpointing)
        return;
    for (TimerClass c = 0; c < TIMERS; c++) {
        while (deadline_us(compare, c) <= now.us) {
            Held *held = compare->timers[c].head->data;
            Flow *flow = held->flow;
            if (is_tcp(flow) && !flow->diverged && segments_drop_passed(compare, flow))
                continue;
            if (c == TIMER_PRIMARY && !flow->diverged && is_tcp(flow) &&
                tcp_lacks_ack_only(flow, held)) {
                held_start_timer(compare, held, TIMER_PRIMARY_LATE);
                continue;
            }
            held_stop_timer(compare, held);
            if (flow->diverged)
                continue;
            if (!compare->caught_up && c != TIMER_SUSPECT)
                stay_behind(compare);
            give_up(compare, held, c == TIMER_SUSPECT);
        }
    }
}

/* ---- Offline ---- */

/* The frame that has waited longest; NULL: none. Bytes that neither side has are passed first. */
static Held *oldest(Compare *compare)
{
    for (;;) {
        Held *p = g_queue_peek_head(&compare->order[PRIMARY]);
        Held *s = g_queue_peek_head(&compare->order[SECONDARY]);
        Held *held = p == NULL || (s != NULL && s->arrival.us < p->arrival.us) ? s : p;
        if (held == NULL || !is_tcp(held->flow) ||
            (!segments_drop_passed(compare, held->flow) && !tcp_skip_gap(compare, held->flow)))
            return held;
    }
}

gboolean compare_give_up_oldest(Compare *compare, ColoTime now)
{
    g_assert(compare->options.offline);
    compare->now = now;
    Held *held = oldest(compare);
    if (held == NULL)
        return FALSE;
    Difference d = explain(compare, held);
    if (!d.continues) { /* what is lacking may still come */
        d.reason = COMPARE_TABLE_FULL;
        d.detail = "too much was waiting for the other capture";
    }
    flow_diverge(compare, held->flow, &d);
    return TRUE;
}

void compare_finish(Compare *compare, gboolean primary_cut, gboolean secondary_cut, ColoTime now)
{
    Held *held;

    g_assert(compare->options.offline);
    compare->now = now;
    while ((held = oldest(compare)) != NULL) {
        Flow *flow = held->flow;
        Difference d = explain(compare, held);
        gboolean cut = d.reason == COMPARE_EXTRA_OUTPUT ? primary_cut : secondary_cut;
        if (cut && !d.continues) {
            flow->offline->unfinished = TRUE;
            flow_drop_held(compare, flow);
        } else {
            flow_diverge(compare, flow, &d);
        }
    }
}
