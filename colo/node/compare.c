/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary between two checkpoints in `colo` mode: its guest's output goes through the
 * comparator (netcompare/compare.h), which lets it go when the secondary's VM has said the same.
 *
 * An epoch either compares (output is in `compare`) or does not (output is in the gate): decided in
 * the pause that begins it, told to the secondary by the checkpoint's attachment. A checkpoint is
 * complete before the next one begins, so what is held of epochs before it is all in one of the
 * two, and leaves in order. When the link is lost the gate takes over: behind what the comparator
 * holds, and whatever of it was proven, nothing leaves until it is known who goes on.
 *
 * Output commit: the comparator releases by itself only in an epoch that the secondary's VM runs
 * in, whose frames it is given here and nowhere else; and on RECEIVED.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

/* The secondary hears this often what it need not keep. */
#define SETTLED_MS            10
#define SETTLED_DATAGRAMS_MAX 8192u

/* An ACK may be delayed by a guest (RFC 1122: up to 500 ms; Linux: 40 to 200). */
#define ACK_TIMEOUT_MS 250

static gint64 compare_timeout_us(const Node *node)
{
    return (gint64)node->config->compare_timeout_ms * COLO_US_PER_MS;
}

static gint64 ack_timeout_us(const Node *node)
{
    return MAX(compare_timeout_us(node), ACK_TIMEOUT_MS * COLO_US_PER_MS);
}

/* ---- What the comparator says ---- */

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)epoch;
    net_send_mapped(user_data, nic, frame);
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    static const CheckpointReason reasons[] = {
        [COMPARE_PAYLOAD] = REASON_MISMATCH,
        [COMPARE_FLAG] = REASON_MISMATCH,
        [COMPARE_EXTRA_OUTPUT] = REASON_MISMATCH,
        [COMPARE_MISSING_OUTPUT] = REASON_COMPARE_TIMEOUT,
        [COMPARE_SECONDARY_SILENT] = REASON_COMPARE_TIMEOUT,
        [COMPARE_TABLE_FULL] = REASON_TABLE_FULL,
    };
    Node *node = user_data;
    node_divergence(node, divergence);
    primary_want(node, reasons[divergence->reason]);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    Node *node = user_data;
    guint8 bytes[COMPARE_NOTE_BYTES];
    compare_note_pack(note, bytes);
    /* The secondary could map the connection wrongly: only a checkpoint makes that impossible. */
    if (!link_send_packet(node->link, LINK_NIC_NOTE, note->epoch, bytes, sizeof(bytes)))
        primary_want(node, REASON_TABLE_FULL);
}

/* One that finds no room is sent again at a takeover, that is all. */
static void on_settled(guint64 epoch, guint64 number, gpointer user_data)
{
    Node *node = user_data;
    (void)epoch;
    if (node->settled_datagrams->len < SETTLED_DATAGRAMS_MAX)
        g_array_append_val(node->settled_datagrams, number);
}

/* ---- Time ---- */

/* The secondary's VM stands still for the checkpoint at hand: that it says nothing means nothing.
 */
static gboolean is_at_rest(const Node *node)
{
    return cycle_has_peer_paused(node->cycle.phase);
}

static void arm(Node *node)
{
    gboolean waits = node->compare && !is_at_rest(node);
    gint64 due = waits ? compare_next_deadline(node->compare).us : G_MAXINT64;
    if (due == G_MAXINT64)
        due = -1;
    if (due != g_source_get_ready_time(node->compare_timer))
        g_source_set_ready_time(node->compare_timer, due);
}

static gboolean on_compare_timer(gpointer user_data)
{
    Node *node = user_data;
    if (node->compare && !is_at_rest(node))
        compare_tick(node->compare, colo_time_now());
    arm(node);
    return G_SOURCE_CONTINUE;
}

static gint compare_numbers(gconstpointer a, gconstpointer b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
    return (x > y) - (x < y);
}

static void say_settled(Node *node)
{
    GArray *datagrams = node->settled_datagrams;
    g_array_sort(datagrams, compare_numbers);
    MessageSettled settled = {.epoch = node->committed,
                              .count = node->settled_seen,
                              .numbers = (const guint64 *)(gpointer)datagrams->data,
                              .n_numbers = datagrams->len};
    message_send(node->link, &(Message){.type = LINK_MSG_SETTLED, .settled = settled});
    node->settled_said = node->settled_seen;
    g_array_set_size(datagrams, 0);
}

/* What had settled when last looked at: so an ACK that was a little ahead has left too. */
static gboolean on_settled_timer(gpointer user_data)
{
    Node *node = user_data;
    if (backlog_first(node->outbound))
        return G_SOURCE_CONTINUE; /* it was let go, but has not left */
    if (node->settled_seen != node->settled_said || node->settled_datagrams->len > 0)
        say_settled(node);
    node->settled_seen = compare_settled(node->compare);
    return G_SOURCE_CONTINUE;
}

/* Of the epoch before. */
static void forget_settled(Node *node)
{
    if (node->settled_timer)
        g_source_remove(node->settled_timer);
    node->settled_timer = 0;
    node->settled_seen = node->settled_said = 0;
    g_array_set_size(node->settled_datagrams, 0);
}

/* The only one who sets it. FALSE: the event makes no sense. */
static gboolean step_peer_vm(Node *node, PeerVmEvent event)
{
    PeerVm before = node->peer_vm;
    if (!peer_vm_step(before, event, &node->peer_vm))
        return FALSE;
    if (node->peer_vm != before)
        log_debug("the secondary's VM, of epoch %" G_GUINT64_FORMAT ": %s -> %s", node->committed,
                  peer_vm_name(before), peer_vm_name(node->peer_vm));
    if (event != PEER_VM_REBOOTED)
        forget_settled(node);
    if (event == PEER_VM_LOADED)
        node->settled_timer = g_timeout_add(SETTLED_MS, on_settled_timer, node);
    return TRUE;
}

/* ---- Epochs ---- */

/* What a frame waits in `buffered` mode: for the gap's end, the pause and the transfer. */
static gint64 buffered_wait_us(const Node *node)
{
    double ms = (double)node->config->min_gap_ms + stats_p50_ms(node->pause_stats) +
                stats_p50_ms(node->transfer_stats);
    return (gint64)(ms * COLO_US_PER_MS);
}

/* Was comparing worth it in the epoch that ends? */
static void learn(Node *node, Mode mode, ColoTime now)
{
    CompareWaits before = node->waits, waits = compare_waits(node->compare, now);
    ModeEpoch epoch = {.frames = waits.frames - before.frames,
                       .waited_us = waits.waited_us - before.waited_us,
                       .buffered_us = buffered_wait_us(node),
                       .stalled = !peer_vm_is_fit(node->peer_vm)};
    node->waits = waits;
    if (mode_learn(&node->mode_policy, mode, &epoch, now) && mode == MODE_AUTO) {
        log_info("the VMs differ too often: buffered mode for %.0f s",
                 (double)colo_time_diff_us(node->mode_policy.until, now) / G_USEC_PER_SEC);
        node_mode_changed(node, MODE_BUFFERED);
    }
}

static Compare *new_compare(Node *node, guint64 epoch)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .note = on_note, .settled = on_settled};
    CompareOptions options;
    compare_options_init(&options);
    options.timeout_us = compare_timeout_us(node);
    options.ack_timeout_us = ack_timeout_us(node);
    /* Of both VMs, but output-limit is about the primary's. */
    options.max_held_bytes = 2 * node->config->output_limit_bytes;
    options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
    return compare_new(&options, &actions, epoch, colo_time_now(), node);
}

void comparing_pause(Node *node)
{
    Cycle *cycle = &node->cycle;
    Mode mode = mode_parse(node->config->mode);
    ColoTime now = colo_time_now();
    if (node->route == ROUTE_COMPARE)
        learn(node, mode, now);
    gboolean pausing = node->mode_policy.pausing;
    cycle->compares = fsm_is_protected(node->state) && mode_compares(&node->mode_policy, mode, now);
    if (cycle->compares && pausing && mode == MODE_AUTO)
        node_mode_changed(node, MODE_COLO);
    /* Anew: of epochs that didn't compare it knows nothing. */
    if (cycle->compares && !node->compare) {
        node->compare = new_compare(node, cycle->epoch - 1);
        node->waits = (CompareWaits){0};
    }
    if (node->compare)
        compare_checkpoint(node->compare, cycle->epoch);
    arm(node);
}

void comparing_committed(Node *node)
{
    const Cycle *cycle = &node->cycle;
    primary_want_no_more(node, WANTED_DIVERGENCE);
    node->committed = cycle->epoch;
    step_peer_vm(node, cycle->compares ? PEER_VM_TO_RUN : PEER_VM_TO_WAIT);
    recording_flush(node);
    if (!node->compare)
        return;
    compare_committed(node->compare, cycle->epoch, colo_time_now());
    if (!cycle->compares)
        g_clear_pointer(&node->compare, compare_free);
    arm(node);
}

void comparing_output(Node *node, unsigned nic, GBytes *frame)
{
    ColoTime now = colo_time_now();
    if (node->recorder)
        recorder_primary(node->recorder, nic, node->epoch, frame, now);
    compare_primary(node->compare, nic, node->epoch, frame, now);
    arm(node);
}

void comparing_secondary_output(Node *node, unsigned nic, guint64 epoch, const guint8 *data,
                                gsize len)
{
    /* Frames of an epoch may overtake the word that its checkpoint is complete: they count too. */
    gboolean early = epoch > node->committed && epoch <= node->epoch;
    if (!node->compare || (!early && !peer_vm_is_to_run(node->peer_vm)))
        return;
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    ColoTime now = colo_time_now();
    if (node->recorder)
        recorder_secondary(node->recorder, nic, epoch, frame, now);
    compare_secondary(node->compare, nic, epoch, frame, now);
    arm(node);
}

gboolean comparing_loaded(Node *node, guint64 epoch, GError **error)
{
    if (epoch != node->committed || !step_peer_vm(node, PEER_VM_LOADED)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "the peer says that its VM runs from checkpoint %" G_GUINT64_FORMAT
                    ", which it wasn't told to",
                    epoch);
        return FALSE;
    }
    if (!backlog_first(node->outbound))
        say_settled(node); /* what the checkpoint released has left */
    else
        node->settled_said = G_MAXUINT64; /* the timer says it once it has */
    compare_loaded(node->compare, epoch, colo_time_now());
    arm(node);
    primary_reschedule(node);
    return TRUE;
}

gboolean comparing_stalled(Node *node, const MessageStalled *stalled, GError **error)
{
    if (stalled->epoch != node->committed || !step_peer_vm(node, PEER_VM_HAS_STALLED)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'stalled', but the peer's VM isn't to run");
        return FALSE;
    }
    log_warning("the secondary's VM doesn't run until the next checkpoint: %s", stalled->why);
    node_emit_stalled(node, stalled->why);
    primary_want(node, REASON_STALLED);
    return TRUE;
}

gboolean comparing_rebooted(Node *node, guint64 epoch, GError **error)
{
    if (epoch != node->committed || !step_peer_vm(node, PEER_VM_REBOOTED)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'rebooted', but the peer's VM isn't to run");
        return FALSE;
    }
    log_warning("the guest of the secondary's VM has rebooted");
    node_emit(node, "SECONDARY_REBOOTED", NULL);
    primary_want(node, REASON_STALLED);
    return TRUE;
}

static void stop_comparing(Node *node)
{
    step_peer_vm(node, PEER_VM_LEAVES);
    primary_want_no_more(node, WANTED_DIVERGENCE);
    recording_flush(node);
    g_source_set_ready_time(node->compare_timer, -1);
}

void comparing_end(Node *node)
{
    stop_comparing(node);
    traffic_end_session(node);
}

void comparing_forget(Node *node, gboolean release)
{
    stop_comparing(node);
    node->mode_policy = (ModePolicy){0};
    if (node->compare && release)
        compare_release_all(node->compare);
    g_clear_pointer(&node->compare, compare_free);
}

void comparing_tune(Node *node)
{
    if (!node->compare)
        return;
    compare_set_timeouts(node->compare, compare_timeout_us(node), ack_timeout_us(node));
    arm(node);
}

void comparing_init(Node *node)
{
    node->settled_datagrams = g_array_new(FALSE, FALSE, sizeof(guint64));
    node->compare_timer = node_timer_new(on_compare_timer, node);
}

void comparing_finalise(Node *node)
{
    comparing_forget(node, FALSE);
    g_array_unref(node->settled_datagrams);
    g_source_destroy(node->compare_timer);
    g_source_unref(node->compare_timer);
}
