/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/rewrite-rig.h"

static void on_deliver(unsigned nic, GBytes *frame, gpointer user_data)
{
    RewriteRig *rig = user_data;
    g_assert_cmpuint(nic, ==, 0);
    g_ptr_array_add(rig->delivered, g_bytes_ref(frame));
}

RewriteRig *rewrite_rig_new_with(const RewriteOptions *options)
{
    RewriteRig *rig = g_new0(RewriteRig, 1);
    rig->delivered = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    rig->rewrite = rewrite_new(options, 1, on_deliver, rig);
    return rig;
}

RewriteRig *rewrite_rig_new(guint max_flows)
{
    RewriteOptions options;

    rewrite_options_init(&options);
    options.vnet_hdr = FALSE;
    options.max_flows = max_flows;
    options.max_held_bytes = 200;
    return rewrite_rig_new_with(&options);
}

void rewrite_rig_free(RewriteRig *rig)
{
    rewrite_free(rig->rewrite);
    g_ptr_array_unref(rig->delivered);
    g_free(rig);
}

void rewrite_rig_take_over(RewriteRig *rig)
{
    rewrite_takeover(rig->rewrite);
    rig->active = TRUE;
}

FrameSpec rewrite_from_client(guint8 flags, guint32 seq, guint32 ack)
{
    return (FrameSpec){.src = 1,
                       .dst = 2,
                       .proto = PROTO_TCP,
                       .sport = 4711,
                       .dport = 80,
                       .flags = flags,
                       .seq = seq,
                       .ack = ack,
                       .data = "odd",
                       .len = flags & TCP_SYN ? 0 : 3};
}

FrameSpec rewrite_from_guest(guint8 flags, guint32 seq, guint32 ack)
{
    FrameSpec spec = rewrite_from_client(flags, seq, ack);
    spec.src = 2;
    spec.dst = 1;
    spec.sport = 80;
    spec.dport = 4711;
    return spec;
}

void rewrite_parse(GBytes *frame, gboolean vnet, Packet *p)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, vnet, 0, p);
}

void rewrite_rig_input(RewriteRig *rig, const FrameSpec *spec, Packet *p)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, frame);
    g_assert_cmpuint(rig->delivered->len, ==, 1);
    rewrite_parse(rig->delivered->pdata[0], FALSE, p);
    gsize len;
    const guint8 *data = g_bytes_get_data(rig->delivered->pdata[0], &len);
    g_assert_true(netframe_checksums_ok(data, len, FALSE));
}

void rewrite_rig_output(RewriteRig *rig, const FrameSpec *spec, Packet *p)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    rewrite_observe(rig->rewrite, 0, frame);
    g_autoptr(GBytes) mapped =
        rig->active ? rewrite_map_output(rig->rewrite, 0, frame) : g_bytes_ref(frame);
    gsize len;
    const guint8 *data = g_bytes_get_data(mapped, &len);
    g_assert_true(netframe_checksums_ok(data, len, FALSE));
    rewrite_parse(mapped, FALSE, p);
    p->body = NULL; /* gone with the frame */
}

CompareNote rewrite_note_of(guint64 epoch, gboolean has_isn, guint32 ts_advance)
{
    FrameSpec spec = rewrite_from_guest(TCP_ACK, 0, 0);
    g_autoptr(GBytes) frame = netframe_new(&spec);
    Packet p;

    rewrite_parse(frame, FALSE, &p);
    return (CompareNote){.key = p.key,
                         .epoch = epoch,
                         .has_isn = has_isn,
                         .pvm_isn = REWRITE_ISN_P,
                         .svm_isn = REWRITE_ISN_S,
                         .ts_advance = ts_advance};
}

void rewrite_rig_open(RewriteRig *rig)
{
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S, REWRITE_ISN_C + 1);
    CompareNote note = rewrite_note_of(1, TRUE, 0);
    Packet p;

    rewrite_rig_input(rig, &syn, &p);
    rewrite_rig_output(rig, &answer, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_S); /* the comparator gets it raw */
    rewrite_note(rig->rewrite, &note);
}
