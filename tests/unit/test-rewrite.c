/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rewriter: which numbers are mapped, when, and for how long. */
#include <gio/gio.h>
#include <string.h>

#include "tests/support/rewrite-rig.h"

static void test_input(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    Packet p;

    rewrite_rig_open(rig);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 101);
    ack.n_sack = 3;
    ack.sack[0][0] = REWRITE_ISN_P + 300;
    ack.sack[2][1] = REWRITE_ISN_P + 500;
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 101);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_C + 1);
    const guint8 *data = g_bytes_get_data(rig->delivered->pdata[0], NULL);
    guint32 left, right;
    memcpy(&left, data + p.sack_offset, 4);
    memcpy(&right, data + p.sack_offset + 20, 4);
    g_assert_cmpuint(GUINT32_FROM_BE(left), ==, REWRITE_ISN_S + 300);
    g_assert_cmpuint(GUINT32_FROM_BE(right), ==, REWRITE_ISN_S + 500);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->rewritten_input, ==, 1);
}

static void test_output_after_takeover(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    Packet p;

    rewrite_rig_open(rig);
    FrameSpec data = rewrite_from_guest(TCP_ACK, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    rewrite_rig_output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_S + 1);
    rewrite_rig_take_over(rig);
    rewrite_rig_output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_P + 1);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_C + 1);
    /* One that was kept from before the takeover. */
    g_autoptr(GBytes) kept = netframe_new(&data);
    g_autoptr(GBytes) mapped = rewrite_map_output(rig->rewrite, 0, kept);
    rewrite_parse(mapped, FALSE, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_P + 1);
}

/* The guest opens: its SYN_SENT wants its own SYN acknowledged, with a timestamp it has sent. */
static void test_active_open(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_guest(TCP_SYN, REWRITE_ISN_S, 0);
    CompareNote note = rewrite_note_of(1, TRUE, 25);
    Packet p;

    syn.has_ts = TRUE;
    syn.tsval = 5000;
    rewrite_rig_output(rig, &syn, &p);
    rewrite_note(rig->rewrite, &note);
    FrameSpec answer = rewrite_from_client(TCP_SYN | TCP_ACK, REWRITE_ISN_C, REWRITE_ISN_P + 1);
    answer.has_ts = TRUE;
    answer.tsval = 1;
    answer.tsecr = 5025; /* the PVM's */
    rewrite_rig_input(rig, &answer, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1);
    g_assert_cmpuint(p.tsecr, ==, 5000);
    g_assert_cmpuint(p.tsval, ==, 1);
}

/* An echo is never of a timestamp that the guest has not sent. */
static void test_echo_is_clamped(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_guest(TCP_SYN, REWRITE_ISN_S, 0),
              data = rewrite_from_guest(TCP_ACK, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    CompareNote note = rewrite_note_of(1, TRUE, 100);
    Packet p;

    syn.has_ts = data.has_ts = ack.has_ts = TRUE;
    syn.tsval = 0xfffffffe;
    data.tsval = 3;
    rewrite_rig_output(rig, &syn, &p);
    rewrite_rig_output(rig, &data, &p);
    rewrite_note(rig->rewrite, &note);
    ack.tsecr = 101;
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 1);
    ack.tsecr = 110;
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 3);
    ack.tsecr = 20;
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 0xfffffffe);
}

/* A connection that was there at the checkpoint: only its timestamps are behind. */
static void test_timestamps_only(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    CompareNote note = rewrite_note_of(1, FALSE, 77);
    FrameSpec data = rewrite_from_guest(TCP_ACK, 9, REWRITE_ISN_C + 1);
    Packet p;

    data.has_ts = TRUE;
    data.odd_nops = 1;
    data.tsval = 0xffffffff;
    data.tsecr = 6;
    rewrite_note(rig->rewrite, &note);
    rewrite_rig_take_over(rig);
    rewrite_rig_output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, 9);
    g_assert_cmpuint(p.tsval, ==, 76);
    g_assert_cmpuint(p.tsecr, ==, 6);
}

/*
 * The guest's SYN left before the checkpoint; its copy waits for the answer. The answer echoes the
 * PVM's second SYN, which the copy has not sent, and must echo the first one instead.
 */
static void test_syn_sent_over_checkpoint(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec answer = rewrite_from_client(TCP_SYN | TCP_ACK, REWRITE_ISN_C, REWRITE_ISN_P + 1);
    FrameSpec syn = rewrite_from_guest(TCP_SYN, REWRITE_ISN_P, 0);
    CompareNote note = rewrite_note_of(1, TRUE, 264);
    Packet p;

    note.svm_isn = REWRITE_ISN_P;
    note.has_ts = answer.has_ts = syn.has_ts = TRUE;
    note.svm_ts = 400;
    answer.tsecr = 600;
    rewrite_note(rig->rewrite, &note);
    rewrite_rig_input(rig, &answer, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_P + 1);
    g_assert_cmpuint(p.tsecr, ==, 400);
    syn.tsval = 580;
    rewrite_rig_output(rig, &syn, &p); /* sent again by the copy: still the same connection */
    rewrite_rig_input(rig, &answer, &p);
    g_assert_cmpuint(p.tsecr, ==, 400);
    rewrite_rig_take_over(rig);
    rewrite_rig_output(rig, &syn, &p);
    g_assert_cmpuint(p.tsval, ==, 844);
}

/* Unmapped, the SVM would answer it with a reset. */
static void test_waits_for_syn_ack(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S, REWRITE_ISN_C + 1);
    Packet p;

    rewrite_rig_input(rig, &syn, &p);
    g_autoptr(GBytes) early = netframe_new(&ack);
    for (int i = 0; i < 4; i++)
        rewrite_input(rig->rewrite, 0, early);
    g_assert_cmpuint(rig->delivered->len, ==, 1);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_frames, ==, 3);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->dropped, ==, 1); /* bounded */
    rewrite_rig_output(rig, &answer, &p);
    g_assert_cmpuint(rig->delivered->len, ==, 4);
    rewrite_parse(rig->delivered->pdata[3], FALSE, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1); /* learnt from the ACK: no note had come */
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->guessed, ==, 1);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_bytes, ==, 0);
}

/* The SVM refuses the connection: what waited is its own problem again. */
static void test_waits_until_refused(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    FrameSpec rst = rewrite_from_guest(TCP_RST | TCP_ACK, 0, REWRITE_ISN_C + 1);
    Packet p;

    rewrite_rig_input(rig, &syn, &p);
    g_autoptr(GBytes) early = netframe_new(&ack);
    rewrite_input(rig->rewrite, 0, early);
    rewrite_rig_output(rig, &rst, &p);
    g_assert_cmpuint(rig->delivered->len, ==, 2);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_frames, ==, 0);
}

/* The primary died between releasing its SYN-ACK and the note: the client tells. */
static void test_learns_after_takeover(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S, REWRITE_ISN_C + 1);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    FrameSpec data = rewrite_from_guest(TCP_ACK, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    Packet p;

    answer.has_ts = ack.has_ts = data.has_ts = TRUE;
    answer.tsval = 400;
    ack.tsecr = 450;
    data.tsval = 401;
    rewrite_rig_input(rig, &syn, &p);
    rewrite_rig_output(rig, &answer, &p);
    rewrite_rig_take_over(rig);
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1);
    rewrite_rig_output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 451);
}

/* ... or it did not release it: then the client knows the SVM's own. */
static void test_learns_nothing_to_map(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S, REWRITE_ISN_C + 1);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_S + 1);
    Packet p;

    rewrite_rig_input(rig, &syn, &p);
    rewrite_rig_output(rig, &answer, &p);
    rewrite_rig_take_over(rig);
    rewrite_rig_output(rig, &answer, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_S);
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1);
    g_assert_null(rewrite_export(rig->rewrite));
}

static void test_checkpoint_drops(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 101);
    CompareNote stale = rewrite_note_of(1, FALSE, 5);
    g_autoptr(GError) error = NULL;
    Packet p;

    rewrite_rig_open(rig);
    g_assert_true(rewrite_checkpoint(rig->rewrite, 2, NULL, &error));
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_P + 101); /* the SVM has the PVM's numbers now */
    rewrite_note(rig->rewrite, &stale);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
}

/* A note about the connection before this one on the same ports. */
static void test_note_of_last_connection(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S + 9, REWRITE_ISN_C + 51);
    CompareNote late = rewrite_note_of(1, TRUE, 0);
    Packet p;

    rewrite_rig_open(rig);
    rewrite_rig_output(rig, &answer, &p);
    rewrite_note(rig->rewrite, &late);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 51, 5000);
    rewrite_rig_input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 10); /* guessed: 5000 acknowledges the PVM's SYN */
}

/* Maps live on with their connections, through a new secondary and its takeover as well. */
static void test_chain_of_takeovers(void)
{
    g_autoptr(RewriteRig) first = rewrite_rig_new(8), second = rewrite_rig_new(8);
    FrameSpec data = rewrite_from_guest(TCP_ACK, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 2);
    g_autoptr(GError) error = NULL;
    Packet p;

    rewrite_rig_open(first);
    rewrite_rig_take_over(first);
    g_autoptr(GBytes) exported = rewrite_export(first->rewrite);
    g_assert_nonnull(exported);
    g_assert_true(rewrite_checkpoint(second->rewrite, 7, exported, &error));
    rewrite_rig_input(second, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 2);
    CompareNote note = rewrite_note_of(7, FALSE, 30);
    rewrite_note(second->rewrite, &note);
    rewrite_rig_take_over(second);
    data.has_ts = TRUE;
    data.tsval = 1;
    rewrite_rig_output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 31);
    /* The port is used again: the client knows this guest's numbers. */
    FrameSpec syn = rewrite_from_guest(TCP_SYN | TCP_ACK, 42, 99);
    rewrite_rig_output(second, &syn, &p);
    g_assert_cmpuint(p.seq, ==, 42);
    data.seq = 43;
    rewrite_rig_output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, 43);
    g_assert_cmpuint(p.tsval, ==, 1);
    g_assert_null(rewrite_export(second->rewrite));
}

/* What one survivor has yet to learn from the client, its secondary learns from the same frame. */
static void test_export_of_the_unknown(void)
{
    g_autoptr(RewriteRig) first = rewrite_rig_new(8), second = rewrite_rig_new(8);
    FrameSpec syn = rewrite_from_client(TCP_SYN, REWRITE_ISN_C, 0);
    FrameSpec answer = rewrite_from_guest(TCP_SYN | TCP_ACK, REWRITE_ISN_S, REWRITE_ISN_C + 1);
    FrameSpec ack = rewrite_from_client(TCP_ACK, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    g_autoptr(GError) error = NULL;
    Packet p;

    answer.has_ts = ack.has_ts = TRUE;
    answer.tsval = 40;
    ack.tsecr = 50;
    rewrite_rig_input(first, &syn, &p);
    rewrite_rig_output(first, &answer, &p);
    rewrite_rig_take_over(first);
    g_autoptr(GBytes) exported = rewrite_export(first->rewrite);
    g_assert_true(rewrite_checkpoint(second->rewrite, 7, exported, &error));
    rewrite_rig_input(first, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1);
    rewrite_rig_input(second, &ack, &p);
    g_assert_cmpuint(p.ack, ==, REWRITE_ISN_S + 1);
    CompareNote note = rewrite_note_of(7, FALSE, 3);
    rewrite_note(second->rewrite, &note);
    rewrite_rig_take_over(second);
    FrameSpec data = rewrite_from_guest(TCP_ACK, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    data.has_ts = TRUE;
    data.tsval = 41;
    rewrite_rig_output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, REWRITE_ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 54);
}

/* A closed connection is forgotten, but not before its last ACK must have arrived. */
static void test_closed_is_forgotten(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    FrameSpec guest_fin =
        rewrite_from_guest(TCP_ACK | TCP_FIN, REWRITE_ISN_S + 1, REWRITE_ISN_C + 1);
    FrameSpec client_fin =
        rewrite_from_client(TCP_ACK | TCP_FIN, REWRITE_ISN_C + 1, REWRITE_ISN_P + 1);
    Packet p;
    guint exports = 0;

    rewrite_rig_open(rig);
    rewrite_rig_take_over(rig);
    rewrite_rig_output(rig, &guest_fin, &p);
    rewrite_rig_input(rig, &client_fin, &p);
    for (guint i = 0; i < 1000; i++) {
        g_autoptr(GBytes) open = rewrite_export(rig->rewrite);
        g_assert_nonnull(open); /* the guest may have to send its FIN again */
    }
    client_fin.ack = REWRITE_ISN_P + 5; /* "odd" and the FIN */
    rewrite_rig_input(rig, &client_fin, &p);
    for (GBytes *closed; (closed = rewrite_export(rig->rewrite)) != NULL; exports++)
        g_bytes_unref(closed);
    g_assert_cmpuint(exports, >=, 10);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
}

static void test_export_malformed(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(8);
    static const guint8 bytes[66] = {1};
    const gsize bad[] = {0, 2, 64, 66};

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GBytes) exported = g_bytes_new_static(bytes, bad[i]);
        g_autoptr(GError) error = NULL;
        g_assert_false(rewrite_checkpoint(rig->rewrite, 2, exported, &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
    }
}

static void test_table_full(void)
{
    g_autoptr(RewriteRig) rig = rewrite_rig_new(2);
    FrameSpec rst = rewrite_from_guest(TCP_RST, REWRITE_ISN_S + 1, 0);
    Packet p;

    for (guint16 i = 0; i < 3; i++) {
        FrameSpec syn = rewrite_from_guest(TCP_SYN, REWRITE_ISN_S, 0);
        syn.dport += i;
        rewrite_rig_output(rig, &syn, &p);
    }
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->no_room, ==, 1);
    rewrite_rig_output(rig, &rst, &p); /* a closed one makes room */
    FrameSpec syn = rewrite_from_guest(TCP_SYN, REWRITE_ISN_S, 0);
    syn.dport += 2;
    rewrite_rig_output(rig, &syn, &p);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->no_room, ==, 1);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/rewrite/" name, func)
    ADD("input", test_input);
    ADD("output-after-takeover", test_output_after_takeover);
    ADD("active-open", test_active_open);
    ADD("echo-is-clamped", test_echo_is_clamped);
    ADD("timestamps-only", test_timestamps_only);
    ADD("syn-sent-over-checkpoint", test_syn_sent_over_checkpoint);
    ADD("waits-for-syn-ack", test_waits_for_syn_ack);
    ADD("waits-until-refused", test_waits_until_refused);
    ADD("learns-after-takeover", test_learns_after_takeover);
    ADD("learns-nothing-to-map", test_learns_nothing_to_map);
    ADD("checkpoint-drops", test_checkpoint_drops);
    ADD("note-of-last-connection", test_note_of_last_connection);
    ADD("chain-of-takeovers", test_chain_of_takeovers);
    ADD("export-of-the-unknown", test_export_of_the_unknown);
    ADD("closed-is-forgotten", test_closed_is_forgotten);
    ADD("export-malformed", test_export_malformed);
    ADD("table-full", test_table_full);
    return g_test_run();
}
