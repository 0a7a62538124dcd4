/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The comparator and the rewriter, driven by the input as a script of steps. Steps are frames of
 * both VMs, whole or made from a few bytes, epochs, time, notes, takeovers. Whatever happens, every
 * frame of the PVM leaves once or is counted as dropped, nothing leaves early, and memory stays
 * bounded. Or the script is of two captures, with frames that were cut: nothing is held at the end.
 */
#include <string.h>

#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "netcompare/rewrite.h"
#include "tests/support/netframe.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

typedef struct {
    const guint8 *at, *end;
    Compare *compare;
    Rewrite *rewrite;
    gboolean active, checkpointing;
    guint64 epoch, committed;
    guint64 released;
    ColoTime now;
} Script;

static guint8 take(Script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    Script *s = user_data;
    (void)nic;
    g_assert(epoch <= s->epoch && g_bytes_get_size(frame) > 0);
    s->released++;
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    g_autofree char *key = compare_key_to_string(&divergence->key);
    (void)user_data;
    g_assert(divergence->reason < COMPARE_REASONS && divergence->detail != NULL && key != NULL);
    g_assert(divergence->primary_len <= COMPARE_SAMPLE_BYTES);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    Script *s = user_data;
    guint8 bytes[COMPARE_NOTE_BYTES];
    CompareNote back;

    compare_note_pack(note, bytes);
    g_assert(compare_note_unpack(bytes, sizeof(bytes), &back));
    g_assert(memcmp(&back.key, &note->key, sizeof(back.key)) == 0);
    rewrite_note(s->rewrite, &back);
}

static void on_captured_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)epoch;
    (void)frame;
    (void)user_data;
}

static void on_deliver(unsigned nic, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)user_data;
    g_assert(g_bytes_get_size(frame) > 0);
}

/* A TCP segment whose numbers are near to each other, so that something happens. */
static GBytes *made_frame(Script *s, gboolean to_guest)
{
    static const char text[] = "aaaaaaaabbbbbbbbccccccccdddddddd";
    guint8 seq = take(s), ack = take(s), shape = take(s);
    FrameSpec spec = {
        .src = to_guest ? 1 : 2,
        .dst = to_guest ? 2 : 1,
        .proto = PROTO_TCP,
        .sport = to_guest ? 90 : 80,
        .dport = to_guest ? 80 : 90,
        .flags = take(s),
        .seq = seq + (shape & 1 ? 0xffffff80u : 0) + (shape & 2 ? 0x80000000u : 0),
        .ack = ack + (shape & 4 ? 0x80000000u : 0),
        .urgent = shape & 7,
        .has_ts = (shape & 8) != 0,
        .tsval = seq,
        .tsecr = ack,
        .v6 = (shape & 128) != 0,
        .data = text + (seq & 7),
        .len = (shape >> 4) & 7,
    };
    return netframe_new(&spec);
}

static GBytes *raw_frame(Script *s)
{
    gsize len = (gsize)take(s) + 1;
    len = MIN(len, (gsize)(s->end - s->at));
    if (len == 0)
        return g_bytes_new_static("\0", 1);
    GBytes *frame = g_bytes_new(s->at, len);
    s->at += len;
    return frame;
}

static void from_guest(Script *s, gboolean primary, GBytes *frame)
{
    rewrite_observe(s->rewrite, 0, frame);
    if (s->active)
        g_bytes_unref(rewrite_map_output(s->rewrite, 0, frame));
    if (primary)
        compare_primary(s->compare, 0, s->epoch, frame, s->now);
    else
        compare_secondary(s->compare, 0, s->committed, frame, s->now);
}

static void next_epoch(Script *s)
{
    if (!s->checkpointing) {
        compare_checkpoint(s->compare, ++s->epoch);
    } else {
        g_autoptr(GBytes) exported = raw_frame(s);
        s->committed = s->epoch;
        compare_committed(s->compare, s->epoch, s->now);
        if (!s->active && !rewrite_checkpoint(s->rewrite, s->epoch, exported, NULL))
            rewrite_checkpoint(s->rewrite, s->epoch, NULL, NULL);
    }
    s->checkpointing = !s->checkpointing;
}

static void step(Script *s)
{
    guint8 op = take(s);
    g_autoptr(GBytes) frame = NULL;

    switch (op & 15) {
    case 0:
    case 1:
        frame = raw_frame(s);
        from_guest(s, (op & 1) != 0, frame);
        break;
    case 2:
        frame = raw_frame(s);
        rewrite_input(s->rewrite, 0, frame);
        break;
    case 3:
        frame = made_frame(s, TRUE);
        rewrite_input(s->rewrite, 0, frame);
        break;
    case 4:
        next_epoch(s);
        break;
    case 5:
        compare_loaded(s->compare, s->epoch, s->now);
        break;
    case 6:
        s->now = colo_time_add_us(s->now, (gint64)take(s) * 1000);
        compare_tick(s->compare, s->now);
        break;
    case 7:
        if (op & 16 && !s->active) {
            s->active = TRUE;
            rewrite_takeover(s->rewrite);
        } else if (s->active) {
            frame = rewrite_export(s->rewrite);
        }
        break;
    default:
        frame = made_frame(s, FALSE);
        from_guest(s, (op & 1) != 0, frame);
        break;
    }
}

/* A frame of a capture; some are cut, and some steps make room. */
static void captured_step(Script *s)
{
    guint8 op = take(s);
    g_autoptr(GBytes) frame = op & 4 ? raw_frame(s) : made_frame(s, FALSE);
    gsize len = g_bytes_get_size(frame);
    CompareOrigin origin = {.number = ++s->released, .time_us = s->now.us};

    s->now = colo_time_add_us(s->now, op >> 4);
    if (op & 2) {
        guint8 most = take(s);
        gsize have = MIN(len, most);
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(frame, 0, have);
        compare_captured(s->compare, (op & 1) != 0, 0, cut, len, &origin, s->now);
    } else {
        compare_captured(s->compare, (op & 1) != 0, 0, frame, len, &origin, s->now);
    }
    if ((op & 0xf8) == 8)
        compare_give_up_oldest(s->compare, s->now);
}

static void run_captured(Script *s, CompareOptions *options, guint8 mode)
{
    static const CompareActions actions = {.release = on_captured_release, .diverged = on_diverged};

    options->offline = TRUE;
    options->vnet_hdr = FALSE;
    options->timeout_us = options->ack_timeout_us = 0;
    s->compare = compare_new(options, &actions, 0, s->now, s);
    while (s->at < s->end)
        captured_step(s);
    compare_finish(s->compare, (mode & 8) != 0, (mode & 16) != 0, s->now);
    g_assert(compare_stats(s->compare)->held_frames == 0);
    compare_free(s->compare);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .note = on_note};
    Script s = {.at = data, .end = data + size, .epoch = 1, .committed = 1};
    CompareOptions options;
    RewriteOptions rewrite_options;
    guint8 mode = take(&s);

    compare_options_init(&options);
    rewrite_options_init(&rewrite_options);
    options.vnet_hdr = rewrite_options.vnet_hdr = (mode & 1) != 0;
    options.max_flows = rewrite_options.max_flows = mode & 2 ? 2 : 100;
    options.max_held_bytes = mode & 4 ? 4096 : 1 << 20;
    rewrite_options.max_held_bytes = 200;
    if (mode & 128) {
        run_captured(&s, &options, mode);
        return 0;
    }
    s.compare = compare_new(&options, &actions, s.epoch, s.now, &s);
    s.rewrite = rewrite_new(&rewrite_options, s.epoch, on_deliver, &s);
    while (s.at < s.end)
        step(&s);
    const CompareStats *stats = compare_stats(s.compare);
    g_assert(s.released == stats->released_by_compare + stats->released_by_checkpoint);
    g_assert(stats->max_held_bytes <= options.max_held_bytes);
    g_assert(stats->max_flows <= options.max_flows);
    guint64 frames = stats->primary_frames, dropped = stats->dropped;
    compare_release_all(s.compare);
    g_assert(s.released + dropped == frames);
    g_assert(stats->held_frames == 0 && stats->held_bytes == 0);
    compare_free(s.compare);
    rewrite_free(s.rewrite);
    return 0;
}
