/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/compare_rig.h"

#include <string.h>

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    Rig *rig = user_data;
    (void)nic;
    g_assert_cmpuint(epoch, <=, rig->epoch);
    g_ptr_array_add(rig->released, g_bytes_ref(frame));
    rig->notes_before_release = rig->notes->len;
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    Rig *rig = user_data;
    g_array_append_val(rig->divergences, *divergence);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    Rig *rig = user_data;
    g_array_append_val(rig->notes, *note);
}

static void on_settled(guint64 epoch, guint64 number, gpointer user_data)
{
    Rig *rig = user_data;
    g_assert_cmpuint(epoch, <=, rig->epoch);
    g_array_append_val(rig->settled, number);
}

static void on_ended(const CompareFlowInfo *info, gpointer user_data)
{
    Rig *rig = user_data;
    g_array_append_val(rig->ended, *info);
}

void rig_options_init(CompareOptions *options)
{
    compare_options_init(options);
    options->vnet_hdr = FALSE;
}

Rig *rig_new(const CompareOptions *options)
{
    static const CompareActions actions = {
        .release = on_release,
        .diverged = on_diverged,
        .note = on_note,
        .settled = on_settled,
        .flow_ended = on_ended,
    };
    CompareOptions defaults;
    Rig *rig = g_new0(Rig, 1);

    rig_options_init(&defaults);
    rig->epoch = 1;
    rig->now.us = 1000000;
    rig->released = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    rig->divergences = g_array_new(FALSE, FALSE, sizeof(CompareDivergence));
    rig->notes = g_array_new(FALSE, FALSE, sizeof(CompareNote));
    rig->settled = g_array_new(FALSE, FALSE, sizeof(guint64));
    rig->ended = g_array_new(FALSE, FALSE, sizeof(CompareFlowInfo));
    rig->compare =
        compare_new(options != NULL ? options : &defaults, &actions, rig->epoch, rig->now, rig);
    return rig;
}

void rig_free(Rig *rig)
{
    compare_free(rig->compare);
    g_ptr_array_unref(rig->released);
    g_array_unref(rig->divergences);
    g_array_unref(rig->notes);
    g_array_unref(rig->ended);
    g_array_unref(rig->settled);
    g_free(rig);
}

gboolean rig_primary(Rig *rig, const FrameSpec *spec)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    return compare_primary(rig->compare, 0, rig->epoch, frame, rig->now);
}

void rig_secondary(Rig *rig, const FrameSpec *spec)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    compare_secondary(rig->compare, 0, rig->epoch, frame, rig->now);
}

void rig_wait_ms(Rig *rig, gint64 ms)
{
    rig->now = colo_time_add_us(rig->now, ms * COLO_US_PER_MS);
    if (compare_next_deadline(rig->compare).us <= rig->now.us)
        compare_tick(rig->compare, rig->now);
    g_assert_cmpint(compare_next_deadline(rig->compare).us, >, rig->now.us);
}

void rig_checkpoint(Rig *rig)
{
    rig->epoch++;
    compare_checkpoint(rig->compare, rig->epoch);
    compare_committed(rig->compare, rig->epoch, rig->now);
    compare_loaded(rig->compare, rig->epoch, rig->now);
}

guint rig_released(Rig *rig)
{
    guint n = rig->released->len;
    g_ptr_array_set_size(rig->released, 0);
    return n;
}

const CompareDivergence *rig_diverged(Rig *rig, CompareReason reason)
{
    g_assert_cmpuint(rig->divergences->len, ==, 1);
    const CompareDivergence *d = &g_array_index(rig->divergences, CompareDivergence, 0);
    g_assert_cmpstr(compare_reason_name(d->reason), ==, compare_reason_name(reason));
    g_array_set_size(rig->divergences, 0); /* keeps the memory */
    return d;
}

void rig_agrees(Rig *rig)
{
    if (rig->divergences->len > 0) {
        const CompareDivergence *d = &g_array_index(rig->divergences, CompareDivergence, 0);
        g_error("unexpected divergence: %s, %s", compare_reason_name(d->reason), d->detail);
    }
}

FrameSpec rig_tcp(guint8 flags, guint32 seq, guint32 ack, const char *text)
{
    return (FrameSpec){
        .src = 2,
        .dst = 1,
        .proto = PROTO_TCP,
        .sport = 80,
        .dport = 4711,
        .flags = flags,
        .seq = seq,
        .ack = ack,
        .data = text,
        .len = text != NULL ? strlen(text) : 0,
    };
}

void rig_open(Rig *rig, guint32 pvm_isn, guint32 svm_isn, guint32 client_isn)
{
    FrameSpec p = rig_tcp(TCP_SYN | TCP_ACK, pvm_isn, client_isn + 1, NULL);
    FrameSpec s = rig_tcp(TCP_SYN | TCP_ACK, svm_isn, client_isn + 1, NULL);
    g_assert_true(rig_primary(rig, &p));
    g_assert_cmpuint(rig_released(rig), ==, 0);
    rig_secondary(rig, &s);
    g_assert_cmpuint(rig_released(rig), ==, 1);
    rig_agrees(rig);
}
