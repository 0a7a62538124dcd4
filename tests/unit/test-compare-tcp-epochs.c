/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of TCP for connections over checkpoints, from their middle, and on ports used again; notes
 * for the rewriter.
 */
#include "tests/support/compare_tcp.h"

/* A connection that was there before anyone looked: the numbers are the same on both sides. */
static void test_from_the_middle(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec spec = rig_tcp(TCP_ACK, 77, 1, NULL);

    rig_primary(rig, &spec); /* a keep-alive's answer: no place in the stream is known from it */
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
    spec.seq = 78;
    spec.data = "mid";
    spec.len = 3;
    rig_primary(rig, &spec);
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
}

static void test_from_the_middle_differs(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_ACK, 100, 1, "abc"), s = rig_tcp(TCP_ACK, 100, 1, "abd");

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    g_assert_cmpuint(rig_diverged(rig, COMPARE_PAYLOAD)->offset, ==, 2);
}

/* After a checkpoint the SVM has the PVM's numbers, whatever it had before. */
static void test_open_at_checkpoint(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 0, "before");
    rig_checkpoint(rig);
    expect(rig, 1);
    FrameSpec spec = rig_tcp(TCP_ACK, ISN_P + 7, ISN_C + 1, "after");
    rig_primary(rig, &spec);
    expect(rig, 0);
    rig_secondary(rig, &spec);
    expect(rig, 1);
}

/*
 * In-tree COLO starts a checkpoint storm here: the SVM resumes first, and its TCP sends once more
 * what the PVM's had sent, and released, before the checkpoint.
 */
static void test_retransmission_after_checkpoint(void)
{
    g_autoptr(Rig) rig = opened();

    send_from(rig, P, TCP_ACK, 0, 3, "reply");
    rig_checkpoint(rig);
    expect(rig, 1);
    FrameSpec again = rig_tcp(TCP_ACK, ISN_P + 1, ISN_C + 4, "reply");
    rig_secondary(rig, &again);
    rig_wait_ms(rig, 1000);
    expect(rig, 0);
    rig_primary(rig, &again); /* the PVM's own needs no proof: it has left before */
    expect(rig, 1);
    rig_checkpoint(rig);
    rig_primary(rig, &again);
    expect(rig, 1);
    rig_secondary(rig, &again);
    FrameSpec fin = rig_tcp(TCP_ACK | TCP_FIN, ISN_P + 6, ISN_C + 4, NULL);
    rig_secondary(rig, &fin);
    rig_primary(rig, &fin);
    expect(rig, 1);
    rig_wait_ms(rig, 1000);
    rig_agrees(rig);
}

/* The client's answer to a SYN-ACK that left with a checkpoint. */
static void test_syn_over_checkpoint(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec syn = rig_tcp(TCP_SYN | TCP_ACK, ISN_P, ISN_C + 1, NULL);

    rig_primary(rig, &syn);
    rig_checkpoint(rig);
    expect(rig, 1);
    rig_secondary(rig, &syn); /* retransmitted by the copy */
    rig_primary(rig, &syn);
    expect(rig, 1);
    send_from(rig, P, TCP_ACK, 0, 9, "200 OK");
    FrameSpec reply = rig_tcp(TCP_ACK, ISN_P + 1, ISN_C + 10, "200 OK");
    rig_secondary(rig, &reply);
    expect(rig, 1);
    rig_wait_ms(rig, 1000);
    rig_agrees(rig);
    g_assert_cmpuint(rig->notes->len, ==, 0);
}

/* A client uses its port again; the SVM is still busy with the last connection, or already new. */
static void test_port_reused(void)
{
    for (int order = 0; order < 2; order++) {
        g_autoptr(Rig) rig = opened();
        FrameSpec p_syn = rig_tcp(TCP_SYN | TCP_ACK, ISN_P + 9999, 70001, NULL);
        FrameSpec s_syn = rig_tcp(TCP_SYN | TCP_ACK, 4, 70001, NULL);
        FrameSpec p_data = rig_tcp(TCP_ACK, ISN_P + 10000, 70001, "new");
        FrameSpec s_data = rig_tcp(TCP_ACK, 5, 70001, "new");

        send_from(rig, P, TCP_ACK | TCP_FIN, 0, 1, "old");
        if (order == 0) { /* the PVM first */
            rig_primary(rig, &p_syn);
            rig_primary(rig, &p_data);
            send_from(rig, S, TCP_ACK | TCP_FIN, 0, 1, "old");
            expect(rig, 1);
            send_from(rig, S, TCP_ACK, 4, 1, NULL); /* the SVM's last words */
            rig_secondary(rig, &s_syn);
            expect(rig, 1);
            rig_secondary(rig, &s_data);
            expect(rig, 1);
        } else { /* the SVM first */
            send_from(rig, S, TCP_ACK | TCP_FIN, 0, 1, "old");
            expect(rig, 1);
            rig_secondary(rig, &s_syn);
            rig_secondary(rig, &s_data);
            send_from(rig, P, TCP_ACK, 4, 1, NULL);
            expect(rig, 1);
            rig_primary(rig, &p_syn);
            expect(rig, 1);
            rig_primary(rig, &p_data);
            expect(rig, 1);
        }
        rig_wait_ms(rig, 1000);
        rig_agrees(rig);
        g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    }
}

/* The second connection's bytes are not taken for the first one's. */
static void test_port_reused_differs(void)
{
    g_autoptr(Rig) rig = opened();
    FrameSpec p = rig_tcp(TCP_SYN | TCP_ACK, ISN_P + 9999, 70001, NULL);
    FrameSpec s = rig_tcp(TCP_SYN | TCP_ACK, 4, 70001, NULL);

    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
    p = rig_tcp(TCP_ACK, ISN_P + 10000, 70001, "one");
    s = rig_tcp(TCP_ACK, 5, 70001, "two");
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    rig_diverged(rig, COMPARE_PAYLOAD);
}

/* The note comes before the frame that makes it needed. */
static void test_note_isn(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_SYN, ISN_P, 0, NULL), s = rig_tcp(TCP_SYN, ISN_S, 0, NULL);

    p.has_ts = s.has_ts = TRUE;
    p.tsval = 500;
    s.tsval = 507;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 1);
    g_assert_cmpuint(rig->notes->len, ==, 1);
    g_assert_cmpuint(rig->notes_before_release, ==, 1);
    const CompareNote *note = &g_array_index(rig->notes, CompareNote, 0);
    g_assert_true(note->has_isn);
    g_assert_cmpuint(note->pvm_isn, ==, ISN_P);
    g_assert_cmpuint(note->svm_isn, ==, ISN_S);
    g_assert_cmpint((gint32)note->ts_advance, ==, -7); /* exact */
    guint8 bytes[COMPARE_NOTE_BYTES];
    CompareNote back;
    compare_note_pack(note, bytes);
    g_assert_true(compare_note_unpack(bytes, sizeof(bytes), &back));
    g_assert_cmpmem(&back.key, sizeof(back.key), &note->key, sizeof(note->key));
    g_assert_cmpuint(back.svm_isn, ==, note->svm_isn);
    g_assert_cmpuint(back.ts_advance, ==, note->ts_advance);
    g_assert_cmpuint(back.epoch, ==, 1);
    g_assert_true(back.has_ts);
    g_assert_cmpuint(back.svm_ts, ==, 507);
    g_assert_false(compare_note_unpack(bytes, sizeof(bytes) - 1, &back));
    bytes[52] = 9;
    g_assert_false(compare_note_unpack(bytes, sizeof(bytes), &back));
}

/* At each release the SVM's last timestamp, mapped, is not behind what the client gets. */
static void test_note_timestamps(void)
{
    g_autoptr(Rig) rig = opened();
    guint32 advance = 0;
    guint n_notes = rig->notes->len;

    for (guint i = 0; i < 100; i++) {
        FrameSpec p = rig_tcp(TCP_ACK, ISN_P + 1 + i, ISN_C + 1, "x");
        FrameSpec s = rig_tcp(TCP_ACK, ISN_S + 1 + i, ISN_C + 1, "x");
        p.has_ts = s.has_ts = TRUE;
        p.tsval = 0xfffffff0 + 3 * i;
        s.tsval = 0xffffff00 + 2 * i; /* its clock runs behind, more and more */
        rig_primary(rig, &p);
        rig_secondary(rig, &s);
        expect(rig, 1);
        if (rig->notes_before_release > 0)
            advance = g_array_index(rig->notes, CompareNote, rig->notes->len - 1).ts_advance;
        g_assert_cmpint(seq_diff(s.tsval + advance, p.tsval), >=, 0);
    }
    g_assert_cmpuint(rig->notes->len - n_notes, <, 6);
}

static void test_ipv6_and_vlan_are_other_flows(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    FrameSpec p = rig_tcp(TCP_ACK, 1, 1, "x"), s = p;

    s.n_vlan = 1;
    s.vlan[0] = 5;
    rig_primary(rig, &p);
    rig_secondary(rig, &s);
    expect(rig, 0);
    p.n_vlan = 1;
    p.vlan[0] = 5;
    rig_primary(rig, &p);
    expect(rig, 1);
    p.v6 = TRUE;
    rig_primary(rig, &p);
    expect(rig, 0);
    s.v6 = TRUE;
    rig_secondary(rig, &s);
    expect(rig, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-tcp-epochs/" name, func)
    ADD("from-the-middle", test_from_the_middle);
    ADD("from-the-middle-differs", test_from_the_middle_differs);
    ADD("open-at-checkpoint", test_open_at_checkpoint);
    ADD("retransmission-after-checkpoint", test_retransmission_after_checkpoint);
    ADD("syn-over-checkpoint", test_syn_over_checkpoint);
    ADD("port-reused", test_port_reused);
    ADD("port-reused-differs", test_port_reused_differs);
    ADD("note-isn", test_note_isn);
    ADD("note-timestamps", test_note_timestamps);
    ADD("vlan-and-ipv6-are-other-flows", test_ipv6_and_vlan_are_other_flows);
    return g_test_run();
}
