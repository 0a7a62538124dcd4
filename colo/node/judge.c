/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/judge.h"

#include "colo/node/node.h"
#include "common/log.h"
#include "common/timer.h"

/* So often the secondary is told what it need not keep. */
#define SETTLED_MS            10
#define SETTLED_DATAGRAMS_MAX 8192u
/* As a count: what the checkpoint brought has yet to leave, and that is told when it has. */
#define UNTOLD G_MAXUINT64

/* An ACK may be delayed by a guest (RFC 1122: up to 500 ms; Linux: 40 to 200). */
#define ACK_TIMEOUT_MS 250

struct Judge {
    const Config *config;
    const JudgeHandler *handler;
    gpointer user_data;

    Compare *compare; /* NULL: neither the running epoch compares nor does it hold output */
    GSource *timer;   /* when the comparator is due */
    PeerVm peer_vm;
    OptionalEpoch committed; /* the last checkpoint that is complete on the secondary */

    ModePolicy policy;
    CompareWaits waits; /* as of the last checkpoint */

    struct {
        guint timer; /* while the copy runs */
        guint64 seen, told;
        GArray *datagrams; /* of guint64: numbers, not sent yet */
    } settled;

    Recorder *recorder; /* NULL: off */
    DivergenceLog divergences;
};

static gint64 timeout_us(const Judge *judge)
{
    return (gint64)judge->config->compare_timeout_ms * COLO_US_PER_MS;
}

static gint64 ack_timeout_us(const Judge *judge)
{
    return MAX(timeout_us(judge), ACK_TIMEOUT_MS * COLO_US_PER_MS);
}

static JudgeWorld look(const Judge *judge)
{
    return judge->handler->look(judge->user_data);
}

/* ---- What the comparator reports ---- */

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    const Judge *judge = user_data;
    (void)epoch;
    judge->handler->release(nic, frame, judge->user_data);
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
    Judge *judge = user_data;
    gint64 ago_us = colo_time_diff_us(colo_time_now(), divergence->when);
    json_object *event =
        divergence_log_add(&judge->divergences, divergence, g_get_real_time() - ago_us);
    if (event) {
        g_autofree char *flow = compare_key_to_string(&divergence->key);
        log_info("the VMs differ (%s): %s: %s", compare_reason_name(divergence->reason), flow,
                 divergence->detail);
        judge->handler->diverged(event, judge->user_data);
    }
    if (judge->recorder)
        recorder_diverged(judge->recorder, divergence);
    judge->handler->wanted(reasons[divergence->reason], judge->user_data);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    const Judge *judge = user_data;
    /* The secondary could map the connection wrongly: only a checkpoint makes that impossible. */
    if (!judge->handler->note(note, judge->user_data))
        judge->handler->wanted(REASON_TABLE_FULL, judge->user_data);
}

/* One that finds no room is sent again at a takeover, that is all. */
static void on_settled(guint64 epoch, guint64 number, gpointer user_data)
{
    Judge *judge = user_data;
    (void)epoch;
    if (judge->settled.datagrams->len < SETTLED_DATAGRAMS_MAX)
        g_array_append_val(judge->settled.datagrams, number);
}

/* ---- Time ---- */

static gint compare_numbers(gconstpointer a, gconstpointer b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
    return (x > y) - (x < y);
}

static void tell_settled(Judge *judge)
{
    GArray *datagrams = judge->settled.datagrams;
    g_array_sort(datagrams, compare_numbers);
    MessageSettled settled = {.epoch = judge->committed.number,
                              .count = judge->settled.seen,
                              .numbers = (const guint64 *)(gpointer)datagrams->data,
                              .n_numbers = datagrams->len};
    judge->handler->settled(&settled, judge->user_data);
    judge->settled.told = judge->settled.seen;
    g_array_set_size(datagrams, 0);
}

/* What had settled when last looked at: so an ACK that was a little ahead has left too. */
static gboolean on_settled_timer(gpointer user_data)
{
    Judge *judge = user_data;
    if (look(judge).output_waits)
        return G_SOURCE_CONTINUE;
    if (judge->settled.seen != judge->settled.told || judge->settled.datagrams->len > 0)
        tell_settled(judge);
    judge->settled.seen = compare_settled(judge->compare);
    if (judge->settled.seen != judge->settled.told)
        return G_SOURCE_CONTINUE;
    judge->settled.timer = 0;
    return G_SOURCE_REMOVE;
}

/* What settles does so when there is output of either VM, or a time limit of it has passed. */
static void watch_settled(Judge *judge)
{
    if (judge->peer_vm == PEER_VM_RUNS && !judge->settled.timer)
        judge->settled.timer = g_timeout_add(SETTLED_MS, on_settled_timer, judge);
}

static void arm(Judge *judge)
{
    gboolean waits = judge->compare && !look(judge).copy_rests;
    gint64 due = waits ? compare_next_deadline(judge->compare).us : G_MAXINT64;
    if (due == G_MAXINT64)
        due = -1;
    if (due != colo_timer_due_us(judge->timer))
        colo_timer_set_us(judge->timer, due);
    watch_settled(judge);
}

static gboolean on_timer(gpointer user_data)
{
    Judge *judge = user_data;
    if (judge->compare && !look(judge).copy_rests)
        compare_tick(judge->compare, colo_time_now());
    arm(judge);
    return G_SOURCE_CONTINUE;
}

/* Of the epoch before. */
static void forget_settled(Judge *judge)
{
    g_clear_handle_id(&judge->settled.timer, g_source_remove);
    judge->settled.seen = judge->settled.told = 0;
    g_array_set_size(judge->settled.datagrams, 0);
}

/* ---- The copy ---- */

/* The only one who sets it. FALSE: the event makes no sense. */
static gboolean step(Judge *judge, PeerVmEvent event)
{
    PeerVm before = judge->peer_vm;
    if (!peer_vm_step(before, event, &judge->peer_vm))
        return FALSE;
    if (judge->peer_vm != before)
        log_debug("the secondary's VM, of epoch %" G_GUINT64_FORMAT ": %s -> %s",
                  judge->committed.number, peer_vm_name(before), peer_vm_name(judge->peer_vm));
    if (event != PEER_VM_REBOOTED && event != PEER_VM_LOADED)
        forget_settled(judge);
    watch_settled(judge);
    return TRUE;
}

/* A message about the VM in `epoch`. */
static gboolean take_message(Judge *judge, PeerVmEvent event, guint64 epoch, const char *what,
                             GError **error)
{
    if (epoch_is(judge->committed, epoch) && step(judge, event))
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message '%s' for checkpoint %" G_GUINT64_FORMAT
                ", but the peer's VM isn't to run from it, or runs already",
                what, epoch);
    return FALSE;
}

gboolean judge_loaded(Judge *judge, guint64 epoch, GError **error)
{
    if (!take_message(judge, PEER_VM_LOADED, epoch, "loaded", error))
        return FALSE;
    compare_loaded(judge->compare, epoch, colo_time_now());
    arm(judge);
    return TRUE;
}

gboolean judge_stalled(Judge *judge, guint64 epoch, GError **error)
{
    if (!take_message(judge, PEER_VM_HAS_STALLED, epoch, "stalled", error))
        return FALSE;
    judge->handler->wanted(REASON_STALLED, judge->user_data);
    return TRUE;
}

gboolean judge_rebooted(Judge *judge, guint64 epoch, GError **error)
{
    if (!take_message(judge, PEER_VM_REBOOTED, epoch, "rebooted", error))
        return FALSE;
    judge->handler->wanted(REASON_STALLED, judge->user_data);
    return TRUE;
}

/* ---- Epochs ---- */

/* Was comparing worth it in the epoch that ends? */
static void learn(Judge *judge, Mode mode, gint64 buffered_us, ColoTime now)
{
    CompareWaits before = judge->waits, waits = compare_waits(judge->compare, now);
    ModeEpoch epoch = {.frames = waits.frames - before.frames,
                       .waited_us = waits.waited_us - before.waited_us,
                       .buffered_us = buffered_us,
                       .stalled = !peer_vm_is_fit(judge->peer_vm)};
    judge->waits = waits;
    if (mode_learn(&judge->policy, mode, &epoch, now) && mode == MODE_AUTO) {
        log_info("the VMs differ too often: buffered mode for %.0f s",
                 (double)colo_time_diff_us(judge->policy.until, now) / G_USEC_PER_SEC);
        judge->handler->mode_changed(MODE_BUFFERED, judge->user_data);
    }
}

static Compare *new_compare(Judge *judge, guint64 epoch)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .note = on_note, .settled = on_settled};
    CompareOptions options;
    compare_options_init(&options);
    options.timeout_us = timeout_us(judge);
    options.ack_timeout_us = ack_timeout_us(judge);
    /* Of both VMs, but output-limit is about the primary's. */
    options.max_held_bytes = 2 * judge->config->output_limit_bytes;
    options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
    return compare_new(&options, &actions, epoch, colo_time_now(), judge);
}

gboolean judge_pause(Judge *judge, const JudgePause *pause)
{
    Mode mode = judge->config->mode;
    ColoTime now = colo_time_now();
    if (pause->compared)
        learn(judge, mode, pause->buffered_us, now);
    gboolean pausing = judge->policy.pausing;
    gboolean compares = pause->may_compare && mode_compares(&judge->policy, mode, now);
    if (compares && pausing && mode == MODE_AUTO)
        judge->handler->mode_changed(MODE_COLO, judge->user_data);
    /* Anew: of epochs that didn't compare it knows nothing. */
    if (compares && !judge->compare) {
        judge->compare = new_compare(judge, pause->epoch - 1);
        judge->waits = (CompareWaits){0};
    }
    if (judge->compare)
        compare_checkpoint(judge->compare, pause->epoch);
    arm(judge);
    return compares;
}

/* The VMs are equal again, or not compared any more: what was recorded of differences is whole. */
static void flush_recorder(Judge *judge)
{
    if (judge->recorder)
        recorder_flush(judge->recorder);
}

void judge_committed(Judge *judge, guint64 epoch, gboolean compares)
{
    judge->committed = epoch_some(epoch);
    step(judge, compares ? PEER_VM_TO_RUN : PEER_VM_TO_WAIT);
    flush_recorder(judge);
    if (judge->compare)
        compare_committed(judge->compare, epoch, colo_time_now());
    if (!compares)
        g_clear_pointer(&judge->compare, compare_free);
    /* A takeover sends again what isn't known to have left, and datagrams would come twice. */
    if (look(judge).output_waits)
        judge->settled.told = UNTOLD;
    else
        tell_settled(judge);
    arm(judge);
}

void judge_end(Judge *judge)
{
    step(judge, PEER_VM_LEAVES);
    flush_recorder(judge);
    colo_timer_set_us(judge->timer, -1);
}

void judge_forget(Judge *judge, gboolean release)
{
    judge_end(judge);
    judge->policy = (ModePolicy){0};
    if (judge->compare && release)
        compare_release_all(judge->compare);
    g_clear_pointer(&judge->compare, compare_free);
}

void judge_tune(Judge *judge)
{
    if (!judge->compare)
        return;
    compare_set_timeouts(judge->compare, timeout_us(judge), ack_timeout_us(judge));
    arm(judge);
}

/* ---- Output ---- */

void judge_output(Judge *judge, unsigned nic, guint64 epoch, GBytes *frame)
{
    ColoTime now = colo_time_now();
    if (judge->recorder)
        recorder_primary(judge->recorder, nic, epoch, frame, now);
    if (judge->compare) {
        compare_primary(judge->compare, nic, epoch, frame, now);
        arm(judge);
    } else {
        /* The secondary has the checkpoint after it already: comparing has ended early. */
        judge->handler->release(nic, frame, judge->user_data);
    }
}

void judge_copy_output(Judge *judge, unsigned nic, guint64 epoch, guint64 taken, const guint8 *data,
                       gsize len)
{
    /*
     * Frames of an epoch may overtake the message that its checkpoint is complete: they count too.
     */
    gboolean early = epoch_is_before(judge->committed, epoch) && epoch <= taken;
    if (!judge->compare || (!early && !peer_vm_is_to_run(judge->peer_vm)))
        return;
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    ColoTime now = colo_time_now();
    if (judge->recorder)
        recorder_secondary(judge->recorder, nic, epoch, frame, now);
    compare_secondary(judge->compare, nic, epoch, frame, now);
    arm(judge);
}

void judge_foreach_held(const Judge *judge, guint64 until,
                        void (*func)(unsigned nic, GBytes *frame, gpointer user_data),
                        gpointer user_data)
{
    if (judge->compare)
        compare_foreach_held(judge->compare, until, func, user_data);
}

/* ---- What is known ---- */

PeerVm judge_peer_vm(const Judge *judge)
{
    return judge->peer_vm;
}

gboolean judge_copy_is_fit(const Judge *judge)
{
    return peer_vm_is_fit(judge->peer_vm);
}

OptionalEpoch judge_epoch(const Judge *judge)
{
    return judge->committed;
}

gboolean judge_is_pausing(const Judge *judge)
{
    return judge->policy.pausing;
}

const CompareStats *judge_stats(const Judge *judge)
{
    return judge->compare ? compare_stats(judge->compare) : NULL;
}

const DivergenceLog *judge_divergences(const Judge *judge)
{
    return &judge->divergences;
}

void judge_set_recorder(Judge *judge, Recorder *recorder)
{
    recorder_free(judge->recorder);
    judge->recorder = recorder;
}

const Recorder *judge_recorder(const Judge *judge)
{
    return judge->recorder;
}

/* ---- Life ---- */

Judge *judge_new(const Config *config, const JudgeHandler *handler, gpointer user_data)
{
    Judge *judge = g_new0(Judge, 1);
    judge->config = config;
    judge->handler = handler;
    judge->user_data = user_data;
    judge->settled.datagrams = g_array_new(FALSE, FALSE, sizeof(guint64));
    judge->timer = colo_timer_new(on_timer, judge);
    return judge;
}

void judge_free(Judge *judge)
{
    if (!judge)
        return;
    judge_forget(judge, FALSE);
    judge_set_recorder(judge, NULL);
    g_array_unref(judge->settled.datagrams);
    g_source_destroy(judge->timer);
    g_source_unref(judge->timer);
    g_free(judge);
}
