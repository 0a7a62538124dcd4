/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator's frame: what is held, which epoch is compared, which timer runs.
 *
 * Invariants:
 *  - A frame of the PVM is released once: by held_release() (a flow's rule: the SVM implies it), or
 *    because its epoch is older than a committed one.
 *  - Only frames of Compare.epoch are in flows. Frames of the PVM's next epoch wait in the order
 *    queue until that epoch is committed: before that, the SVM can't have sent anything in it.
 *  - Flows are brought into an epoch when they are next used (flow_enter), not when it begins, so
 *    that a checkpoint costs nothing for flows that are quiet.
 *  - A flow that can't be forgotten without losing correctness is never evicted. A flow that finds
 *    no room is not compared: its frames wait for the next checkpoint. So do those of all unknown
 *    flows from then on, because they may be that flow's. That is reported, and such frames are
 *    counted.
 *  - Memory: options.max_held_bytes for the frames of all flows, COMPARE_FLOW_BYTES for each of at
 *    most options.max_flows flows. No flow has a limit of its own.
 */
#include "netcompare/compare_internal.h"

#define EVICT_TRIES 64u

G_STATIC_ASSERT(sizeof(Flow) + 2 * 64 + 2 * sizeof(void *) <= COMPARE_FLOW_BYTES);

void compare_options_init(CompareOptions *options)
{
    *options = (CompareOptions){
        .timeout_us = COMPARE_TIMEOUT_DEFAULT_US,
        .ack_timeout_us = COMPARE_ACK_TIMEOUT_DEFAULT_US,
        .max_flows = COMPARE_MAX_FLOWS_DEFAULT,
        .max_held_bytes = COMPARE_MAX_HELD_BYTES_DEFAULT,
        .vnet_hdr = TRUE,
    };
}

/* ---- Frames out ---- */

static void hand_out(Compare *compare, Held *held)
{
    g_autoptr(GBytes) frame = g_bytes_ref(held->frame);
    guint64 epoch = held->epoch;
    unsigned nic = held->packet.key.nic;

    compare->waited_us += colo_time_diff_us(compare->now, held->came);
    held_free(compare, held);
    compare->actions.release(nic, epoch, frame, compare->user_data);
}

void held_release(Compare *compare, Held *held)
{
    compare->stats.released_by_compare++;
    held->flow->released_frames++;
    hand_out(compare, held);
    if (!compare->caught_up && compare->order[PRIMARY].head == NULL)
        wait_caught_up(compare);
}

/* ---- Flows ---- */

static Flow *flow_of(FlowNode *node)
{
    return (Flow *)node; /* its first member */
}

static CompareFlowInfo flow_info(const Flow *flow)
{
    CompareFlowInfo info = {
        .key = flow->node.key,
        .primary_frames = flow->primary_frames,
        .secondary_frames = flow->secondary_frames,
        .verified_bytes = flow->verified_bytes,
        .released_frames = flow->released_frames,
        .waiting = flow->fifo.length > 0 || flow->held_secondary > 0,
    };
    if (flow->offline != NULL) {
        info.unseen_bytes = flow->offline->unseen_bytes;
        info.skipped_bytes = flow->offline->skipped_bytes;
        info.unfinished = flow->offline->unfinished;
    }
    for (guint i = 0; i < COMPARE_REASONS; i++) {
        info.diverged[i] = flow->diverged_for[i];
        info.divergences += flow->diverged_for[i];
    }
    return info;
}

static void flow_remove(Compare *compare, Flow *flow)
{
    if (compare->actions.flow_ended != NULL) {
        CompareFlowInfo info = flow_info(flow);
        compare->actions.flow_ended(&info, compare->user_data);
    }
    tcp_forget(compare, flow);
    g_free(flow->offline);
    flow_table_remove(&compare->flows, &flow->node);
    compare->stats.flows--;
    g_aligned_free(flow);
}

/*
 * A quiet flow may be forgotten if nothing is lost with it: no frame waits, the sequence numbers of
 * both sides are the same, and it has not been given up. (All its bytes that were sent have left,
 * so that a retransmission may leave too: see tcp_primary() about flows seen from the middle.)
 */
static gboolean flow_may_be_forgotten(const FlowNode *node, gpointer user_data)
{
    const Flow *flow = (const Flow *)node;
    const Compare *compare = user_data;

    if (flow->fifo.length > 0 || flow->held_secondary > 0 || (flow->narrowed && !flow->closed))
        return FALSE;
    if (compare->options.offline && flow->node.key.kind == COMPARE_KIND_TCP)
        return flow->closed;
    return flow->epoch != compare->epoch || (!flow->opened && !flow->await_syn && !flow->diverged);
}

/* There is no room for what came with `key`: asks for a checkpoint, once per epoch. */
static void ask_for_room(Compare *compare, const CompareKey *key, ColoTime now, const char *detail)
{
    if (compare->asked_for_room || compare->checkpointing)
        return;
    compare->asked_for_room = TRUE;
    CompareDivergence divergence = {
        .reason = COMPARE_TABLE_FULL,
        .key = *key,
        .epoch = compare->epoch,
        .when = now,
        .detail = detail,
    };
    difference_report(compare, &divergence);
}

/* Brings the flow into the running epoch; its frames of older ones are all gone. */
static void flow_enter(Compare *compare, Flow *flow)
{
    if (flow->epoch == compare->epoch)
        return;
    flow->epoch = compare->epoch;
    flow->diverged = FALSE;
    if (flow->node.key.kind == COMPARE_KIND_TCP)
        tcp_begin_epoch(flow);
}

/* The flow of `key`, made if it is not there. NULL: no room, or it can't be known any more. */
static Flow *flow_get(Compare *compare, const CompareKey *key, ColoTime now)
{
    guint64 hash = flow_hash(&compare->flows, key);
    FlowNode *node = flow_table_find(&compare->flows, key, hash);

    if (node != NULL) {
        flow_enter(compare, flow_of(node));
        return flow_of(node);
    }
    if (compare->overflowed)
        return NULL;
    if (compare->flows.n_flows >= compare->options.max_flows) {
        FlowNode *oldest =
            flow_table_oldest(&compare->flows, EVICT_TRIES, flow_may_be_forgotten, compare);
        if (oldest == NULL) {
            compare->overflowed = TRUE;
            ask_for_room(compare, key, now, "no room for another flow before the next checkpoint");
            return NULL;
        }
        compare->stats.evicted_flows++;
        flow_remove(compare, flow_of(oldest));
    }
    Flow *flow = g_aligned_alloc0(1, sizeof(Flow), 64);
    flow->epoch = compare->epoch;
    if (compare->options.offline)
        flow->offline = g_new0(FlowOffline, 1);
    flow_table_insert(&compare->flows, &flow->node, key, hash);
    compare->stats.flows++;
    compare->stats.max_flows = MAX(compare->stats.max_flows, compare->stats.flows);
    return flow;
}

void flow_drop_held(Compare *compare, Flow *flow)
{
    Held *held;
    GQueue *queues[] = {&flow->fifo, &flow->markers, &flow->later};

    for (guint i = 0; i < G_N_ELEMENTS(queues); i++)
        while ((held = g_queue_peek_head(queues[i])) != NULL)
            held_free(compare, held);
    while ((held = g_queue_peek_head(&flow->segs[SECONDARY])) != NULL)
        held_free(compare, held);
}

/* ---- The object ---- */

Compare *compare_new(const CompareOptions *options, const CompareActions *actions, guint64 epoch,
                     ColoTime now, gpointer user_data)
{
    Compare *compare = g_new0(Compare, 1);

    compare->options = *options;
    compare->options.max_flows = MAX(options->max_flows, 1);
    compare->actions = *actions;
    compare->user_data = user_data;
    compare->epoch = epoch;
    compare->running = compare->caught_up = TRUE;
    compare->running_since = compare->last_secondary = compare->now = now;
    flow_table_init(&compare->flows, options->hash_seed);
    return compare;
}

static void drop_all_flows(Compare *compare)
{
    while (compare->flows.ages.head != NULL)
        flow_remove(compare, compare->flows.ages.head->data);
}

void compare_free(Compare *compare)
{
    if (compare == NULL)
        return;
    for (Side side = PRIMARY; side <= SECONDARY; side++)
        while (compare->order[side].head != NULL)
            held_free(compare, compare->order[side].head->data);
    drop_all_flows(compare);
    flow_table_clear(&compare->flows);
    held_free_spares(compare);
    g_free(compare);
}

void compare_set_timeouts(Compare *compare, gint64 timeout_us, gint64 ack_timeout_us)
{
    compare->options.timeout_us = timeout_us;
    compare->options.ack_timeout_us = ack_timeout_us;
}

const CompareStats *compare_stats(const Compare *compare)
{
    return &compare->stats;
}

void compare_foreach_flow(const Compare *compare,
                          void (*func)(const CompareFlowInfo *info, gpointer user_data),
                          gpointer user_data)
{
    for (GList *l = compare->flows.ages.head; l != NULL; l = l->next) {
        CompareFlowInfo info = flow_info(flow_of(l->data));
        func(&info, user_data);
    }
}

/* ---- Frames in ---- */

static void process(Compare *compare, Held *held)
{
    Flow *flow = flow_get(compare, &held->packet.key, held->arrival);
    gboolean tcp = held->packet.key.kind == COMPARE_KIND_TCP;

    if (flow == NULL) {
        /* The PVM's waits for the checkpoint; of the SVM's nothing will be compared. */
        compare->stats.uncompared_frames++;
        if (held->side == SECONDARY || compare->options.offline)
            held_free(compare, held);
        return;
    }
    held->flow = flow;
    if (held->origin != NULL)
        flow->offline->last[held->side] = *held->origin;
    if (held->side == PRIMARY) {
        flow->primary_frames++;
        (tcp ? tcp_primary : datagram_primary)(compare, flow, held);
    } else {
        flow->held_secondary++;
        flow->secondary_frames++;
        (tcp ? tcp_secondary : datagram_secondary)(compare, flow, held);
    }
}

static gboolean has_room(const Compare *compare, gsize bytes, gsize limit)
{
    return compare->stats.held_bytes + bytes + sizeof(Held) <= limit;
}

static void parse(Compare *compare, Held *held, unsigned nic)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(held->frame, &len);
    packet_parse(data, len, compare->options.vnet_hdr, nic, &held->packet);
    if (G_UNLIKELY(held->packet.key.kind == COMPARE_KIND_OPAQUE))
        compare->stats.unparsed_frames[held->side]++;
}

gboolean compare_primary(Compare *compare, unsigned nic, guint64 epoch, GBytes *frame, ColoTime now)
{
    gsize bytes = g_bytes_get_size(frame), limit = compare->options.max_held_bytes;

    compare->now = now;
    compare->stats.primary_frames++;
    compare->primary_since_secondary++;
    if (epoch < compare->epoch) { /* committed already */
        compare->stats.released_by_checkpoint++;
        compare->actions.release(nic, epoch, frame, compare->user_data);
        return TRUE;
    }
    if (!has_room(compare, bytes, limit - limit / 4)) {
        CompareKey nothing = {
            .nic = nic, .vlan = {COMPARE_NO_VLAN, COMPARE_NO_VLAN}
        };
        ask_for_room(compare, &nothing, now, "too much output is waiting");
    }
    if (!has_room(compare, bytes, limit)) {
        compare->stats.dropped++;
        return FALSE;
    }
    Held *held = held_new(compare, PRIMARY, epoch, frame, now);
    parse(compare, held, nic);
    if (epoch == compare->epoch)
        process(compare, held);
    return TRUE;
}

void compare_secondary(Compare *compare, unsigned nic, guint64 epoch, GBytes *frame, ColoTime now)
{
    compare->now = now;
    compare->stats.secondary_frames++;
    if (epoch < compare->epoch) {
        compare->stats.stale_secondary++;
        return;
    }
    compare->last_secondary = now;
    compare->primary_since_secondary = 0;
    /* Without room it is as if the SVM had not sent it: the PVM's waits, and that gets noticed. */
    if (!has_room(compare, g_bytes_get_size(frame), compare->options.max_held_bytes)) {
        CompareKey nothing = {
            .nic = nic, .vlan = {COMPARE_NO_VLAN, COMPARE_NO_VLAN}
        };
        ask_for_room(compare, &nothing, now, "too much output is waiting");
        return;
    }
    Held *held = held_new(compare, SECONDARY, epoch, frame, now);
    compare->secondary_in_epoch += epoch == compare->epoch;
    parse(compare, held, nic);
    if (epoch == compare->epoch)
        process(compare, held);
}

void compare_captured(Compare *compare, gboolean secondary, unsigned nic, GBytes *frame,
                      gsize wire_len, const CompareOrigin *origin, ColoTime now)
{
    Side side = secondary ? SECONDARY : PRIMARY;
    CompareStats *stats = &compare->stats;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);

    g_assert(compare->options.offline);
    compare->now = now;
    (*(secondary ? &stats->secondary_frames : &stats->primary_frames))++;
    if (secondary) {
        compare->last_secondary = now;
        compare->primary_since_secondary = 0;
        compare->secondary_in_epoch++;
    } else {
        compare->primary_since_secondary++;
    }
    Held *held = held_new(compare, side, compare->epoch, frame, now);
    packet_parse_captured(data, len, wire_len, nic, &held->packet);
    held->origin = g_memdup2(origin, sizeof(*origin));
    if (held->packet.key.kind == COMPARE_KIND_OPAQUE) {
        stats->unparsed_frames[side]++;
        if (wire_len > len) { /* what was cut off would tell which flow it is of, and more */
            stats->beheaded_frames[side]++;
            held_free(compare, held);
            return;
        }
    }
    process(compare, held);
}

/* ---- Epochs ---- */

void compare_checkpoint(Compare *compare, guint64 epoch)
{
    g_assert(epoch > compare->epoch);
    compare->checkpointing = TRUE;
}

/* Frames of the epoch that begins now came early: they have waited outside their flows. */
static void process_waiting(Compare *compare, Side side)
{
    GList *next;

    for (GList *l = compare->order[side].head; l != NULL; l = next) {
        Held *held = l->data;
        next = l->next; /* is in no flow yet, and stays */
        if (held->epoch != compare->epoch)
            break;
        held->arrival = compare->now;
        held->secondary_before = compare->secondary_in_epoch;
        if (side == SECONDARY)
            compare->secondary_in_epoch++;
        process(compare, held);
    }
}

void compare_committed(Compare *compare, guint64 epoch, ColoTime now)
{
    Held *held;

    g_assert(epoch > compare->epoch);
    compare->now = now;
    compare->epoch = epoch;
    tcp_widen_all(compare);
    compare->checkpointing = compare->running = FALSE;
    compare->overflowed = compare->asked_for_room = FALSE;
    compare->secondary_in_epoch = 0;
    while ((held = g_queue_peek_head(&compare->order[SECONDARY])) != NULL && held->epoch < epoch)
        held_free(compare, held);
    while ((held = g_queue_peek_head(&compare->order[PRIMARY])) != NULL && held->epoch < epoch) {
        compare->stats.released_by_checkpoint++;
        hand_out(compare, held);
    }
    process_waiting(compare, PRIMARY);
    process_waiting(compare, SECONDARY);
}

void compare_loaded(Compare *compare, guint64 epoch, ColoTime now)
{
    if (epoch != compare->epoch)
        return;
    compare->running = TRUE;
    compare->running_since = compare->last_secondary = compare->now = compare->loaded = now;
    compare->primary_since_secondary = 0;
    compare->caught_up = FALSE;
}

void compare_release_all(Compare *compare)
{
    while (compare->order[SECONDARY].head != NULL)
        held_free(compare, compare->order[SECONDARY].head->data);
    tcp_widen_all(compare);
    while (compare->order[PRIMARY].head != NULL)
        hand_out(compare, compare->order[PRIMARY].head->data);
    drop_all_flows(compare);
}

void compare_foreach_held(const Compare *compare, guint64 until,
                          void (*func)(unsigned nic, GBytes *frame, gpointer user_data),
                          gpointer user_data)
{
    for (GList *l = compare->order[PRIMARY].head; l != NULL; l = l->next) {
        const Held *held = l->data;
        if (held->epoch >= until)
            break;
        func(held->packet.key.nic, held->frame, user_data);
    }
}

CompareWaits compare_waits(const Compare *compare, ColoTime now)
{
    const CompareStats *stats = &compare->stats;
    CompareWaits waits = {.frames = stats->released_by_compare + stats->released_by_checkpoint,
                          .waited_us = compare->waited_us};

    for (GList *l = compare->order[PRIMARY].head; l != NULL; l = l->next) {
        const Held *held = l->data;
        waits.frames++;
        waits.waited_us += colo_time_diff_us(now, held->came);
    }
    return waits;
}

guint64 compare_settled(const Compare *compare)
{
    guint64 settled = compare->secondary_in_epoch;

    for (Side side = PRIMARY; side <= SECONDARY; side++) {
        const Held *oldest =
            compare->order[side].head != NULL ? compare->order[side].head->data : NULL;
        if (oldest != NULL && oldest->epoch == compare->epoch)
            settled = MIN(settled, oldest->secondary_before);
    }
    return settled;
}
