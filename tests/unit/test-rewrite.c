/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rewriter: which numbers are mapped, when, and for how long. */
#include <gio/gio.h>
#include <string.h>

#include "netcompare/packet.h"
#include "netcompare/rewrite.h"
#include "tests/support/netframe.h"

#define ISN_P 0xfffffff0u /* the maps wrap */
#define ISN_S 1000u
#define ISN_C 70u

typedef struct {
    Rewrite *rewrite;
    GPtrArray *delivered; /* of GBytes: to the guest */
    gboolean active;
} Rig;

static void on_deliver(unsigned nic, GBytes *frame, gpointer user_data)
{
    Rig *rig = user_data;
    g_assert_cmpuint(nic, ==, 0);
    g_ptr_array_add(rig->delivered, g_bytes_ref(frame));
}

static Rig *rig_new(guint max_flows)
{
    RewriteOptions options;
    Rig *rig = g_new0(Rig, 1);

    rewrite_options_init(&options);
    options.vnet_hdr = FALSE;
    options.max_flows = max_flows;
    options.max_held_bytes = 200;
    rig->delivered = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    rig->rewrite = rewrite_new(&options, 1, on_deliver, rig);
    return rig;
}

static void rig_free(Rig *rig)
{
    rewrite_free(rig->rewrite);
    g_ptr_array_unref(rig->delivered);
    g_free(rig);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

static void take_over(Rig *rig)
{
    rewrite_takeover(rig->rewrite);
    rig->active = TRUE;
}

static FrameSpec from_client(guint8 flags, guint32 seq, guint32 ack)
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

static FrameSpec from_guest(guint8 flags, guint32 seq, guint32 ack)
{
    FrameSpec spec = from_client(flags, seq, ack);
    spec.src = 2;
    spec.dst = 1;
    spec.sport = 80;
    spec.dport = 4711;
    return spec;
}

static void parse(GBytes *frame, gboolean vnet, Packet *p)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, vnet, 0, p);
}

/* What the guest gets. The pointers in `p` are good until the next input. */
static void input(Rig *rig, const FrameSpec *spec, Packet *p)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, frame);
    g_assert_cmpuint(rig->delivered->len, ==, 1);
    parse(rig->delivered->pdata[0], FALSE, p);
    gsize len;
    const guint8 *data = g_bytes_get_data(rig->delivered->pdata[0], &len);
    g_assert_true(netframe_checksums_ok(data, len, FALSE));
}

static void output(Rig *rig, const FrameSpec *spec, Packet *p)
{
    g_autoptr(GBytes) frame = netframe_new(spec);
    rewrite_observe(rig->rewrite, 0, frame);
    g_autoptr(GBytes) mapped =
        rig->active ? rewrite_map_output(rig->rewrite, 0, frame) : g_bytes_ref(frame);
    gsize len;
    const guint8 *data = g_bytes_get_data(mapped, &len);
    g_assert_true(netframe_checksums_ok(data, len, FALSE));
    parse(mapped, FALSE, p);
    p->body = NULL; /* gone with the frame */
}

static CompareNote note_of(guint64 epoch, gboolean has_isn, guint32 ts_advance)
{
    FrameSpec spec = from_guest(TCP_ACK, 0, 0);
    g_autoptr(GBytes) frame = netframe_new(&spec);
    Packet p;

    parse(frame, FALSE, &p);
    return (CompareNote){.key = p.key,
                         .epoch = epoch,
                         .has_isn = has_isn,
                         .pvm_isn = ISN_P,
                         .svm_isn = ISN_S,
                         .ts_advance = ts_advance};
}

/* A connection that a client opens, up to the note about both SYN-ACKs. */
static void open_passive(Rig *rig)
{
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1);
    CompareNote note = note_of(1, TRUE, 0);
    Packet p;

    input(rig, &syn, &p);
    output(rig, &answer, &p);
    g_assert_cmpuint(p.seq, ==, ISN_S); /* the comparator gets it raw */
    rewrite_note(rig->rewrite, &note);
}

static void test_input(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    Packet p;

    open_passive(rig);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 101);
    ack.n_sack = 3;
    ack.sack[0][0] = ISN_P + 300;
    ack.sack[2][1] = ISN_P + 500;
    input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 101);
    g_assert_cmpuint(p.seq, ==, ISN_C + 1);
    const guint8 *data = g_bytes_get_data(rig->delivered->pdata[0], NULL);
    guint32 left, right;
    memcpy(&left, data + p.sack_offset, 4);
    memcpy(&right, data + p.sack_offset + 20, 4);
    g_assert_cmpuint(GUINT32_FROM_BE(left), ==, ISN_S + 300);
    g_assert_cmpuint(GUINT32_FROM_BE(right), ==, ISN_S + 500);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->rewritten_input, ==, 1);
}

static void test_output_after_takeover(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    Packet p;

    open_passive(rig);
    FrameSpec data = from_guest(TCP_ACK, ISN_S + 1, ISN_C + 1);
    output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, ISN_S + 1);
    take_over(rig);
    output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, ISN_P + 1);
    g_assert_cmpuint(p.ack, ==, ISN_C + 1);
    /* One that was kept from before the takeover. */
    g_autoptr(GBytes) kept = netframe_new(&data);
    g_autoptr(GBytes) mapped = rewrite_map_output(rig->rewrite, 0, kept);
    parse(mapped, FALSE, &p);
    g_assert_cmpuint(p.seq, ==, ISN_P + 1);
}

/* The guest opens: its SYN_SENT wants its own SYN acknowledged, with a timestamp it has sent. */
static void test_active_open(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_guest(TCP_SYN, ISN_S, 0);
    CompareNote note = note_of(1, TRUE, 25);
    Packet p;

    syn.has_ts = TRUE;
    syn.tsval = 5000;
    output(rig, &syn, &p);
    rewrite_note(rig->rewrite, &note);
    FrameSpec answer = from_client(TCP_SYN | TCP_ACK, ISN_C, ISN_P + 1);
    answer.has_ts = TRUE;
    answer.tsval = 1;
    answer.tsecr = 5025; /* the PVM's */
    input(rig, &answer, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1);
    g_assert_cmpuint(p.tsecr, ==, 5000);
    g_assert_cmpuint(p.tsval, ==, 1);
}

/* An echo is never of a timestamp that the guest has not sent. */
static void test_echo_is_clamped(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_guest(TCP_SYN, ISN_S, 0), data = from_guest(TCP_ACK, ISN_S + 1, ISN_C + 1);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 1);
    CompareNote note = note_of(1, TRUE, 100);
    Packet p;

    syn.has_ts = data.has_ts = ack.has_ts = TRUE;
    syn.tsval = 0xfffffffe;
    data.tsval = 3;
    output(rig, &syn, &p);
    output(rig, &data, &p);
    rewrite_note(rig->rewrite, &note);
    ack.tsecr = 101;
    input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 1);
    ack.tsecr = 110;
    input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 3);
    ack.tsecr = 20;
    input(rig, &ack, &p);
    g_assert_cmpuint(p.tsecr, ==, 0xfffffffe);
}

/* A connection that was there at the checkpoint: only its timestamps are behind. */
static void test_timestamps_only(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    CompareNote note = note_of(1, FALSE, 77);
    FrameSpec data = from_guest(TCP_ACK, 9, ISN_C + 1);
    Packet p;

    data.has_ts = TRUE;
    data.odd_nops = 1;
    data.tsval = 0xffffffff;
    data.tsecr = 6;
    rewrite_note(rig->rewrite, &note);
    take_over(rig);
    output(rig, &data, &p);
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
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec answer = from_client(TCP_SYN | TCP_ACK, ISN_C, ISN_P + 1);
    FrameSpec syn = from_guest(TCP_SYN, ISN_P, 0);
    CompareNote note = note_of(1, TRUE, 264);
    Packet p;

    note.svm_isn = ISN_P;
    note.has_ts = answer.has_ts = syn.has_ts = TRUE;
    note.svm_ts = 400;
    answer.tsecr = 600;
    rewrite_note(rig->rewrite, &note);
    input(rig, &answer, &p);
    g_assert_cmpuint(p.ack, ==, ISN_P + 1);
    g_assert_cmpuint(p.tsecr, ==, 400);
    syn.tsval = 580;
    output(rig, &syn, &p); /* sent again by the copy: still the same connection */
    input(rig, &answer, &p);
    g_assert_cmpuint(p.tsecr, ==, 400);
    take_over(rig);
    output(rig, &syn, &p);
    g_assert_cmpuint(p.tsval, ==, 844);
}

/* Every field, every checksum: full, partial, with the options at odd places, IPv4 and IPv6. */
static void test_checksums(void)
{
    for (guint i = 0; i < 32; i++) {
        RewriteOptions options;
        g_autoptr(Rig) rig = rig_new(8);
        gboolean vnet = (i & 1) != 0, partial = vnet && (i & 2);
        CompareNote note;
        FrameSpec spec = from_guest(TCP_ACK, 0xffff0000 + i, 5);
        Packet before, after;

        rewrite_options_init(&options);
        options.vnet_hdr = vnet;
        rewrite_free(rig->rewrite);
        rig->rewrite = rewrite_new(&options, 1, on_deliver, rig);
        spec.vnet = vnet;
        spec.vnet_flags = partial;
        spec.v6 = (i & 4) != 0;
        spec.has_ts = TRUE;
        spec.odd_nops = i >> 3;
        spec.n_vlan = i & 1;
        spec.vlan[0] = 12;
        g_autoptr(GBytes) syn_frame = NULL, frame = netframe_new(&spec);
        spec.flags = TCP_SYN;
        spec.seq = ISN_S;
        syn_frame = netframe_new(&spec);
        rewrite_observe(rig->rewrite, 0, syn_frame);
        note = note_of(1, TRUE, 0x12345678);
        parse(frame, vnet, &before);
        note.key = before.key;
        rewrite_note(rig->rewrite, &note);
        take_over(rig);
        g_autoptr(GBytes) mapped = rewrite_map_output(rig->rewrite, 0, frame);
        gsize len;
        const guint8 *data = g_bytes_get_data(mapped, &len);
        parse(mapped, vnet, &after);
        g_assert_cmpuint(after.seq, ==, before.seq + ISN_P - ISN_S);
        g_assert_cmpuint(after.tsval, ==, before.tsval + 0x12345678);
        if (partial)
            g_assert_cmpmem(data + after.tcp_offset + 16, 2,
                            (const guint8 *)g_bytes_get_data(frame, NULL) + after.tcp_offset + 16,
                            2);
        else
            g_assert_true(netframe_checksums_ok(data, len, vnet));
    }
}

/* A checksum that was wrong stays wrong. */
static void test_wrong_checksum_stays(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 101);
    gsize len;

    open_passive(rig);
    g_autoptr(GBytes) good = netframe_new(&ack);
    guint8 *bytes = g_memdup2(g_bytes_get_data(good, &len), g_bytes_get_size(good));
    bytes[len - 1] ^= 1;
    g_autoptr(GBytes) bad = g_bytes_new_take(bytes, len);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, bad);
    g_assert_false(
        netframe_checksums_ok(g_bytes_get_data(rig->delivered->pdata[0], NULL), len, FALSE));
}

/* The first fragment holds header and checksum of the whole segment. */
static void test_first_fragment(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 101);

    open_passive(rig);
    ack.fragment = ack.more_fragments = TRUE;
    g_autoptr(GBytes) first = netframe_new(&ack);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, first);
    Packet p;
    parse(rig->delivered->pdata[0], FALSE, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 101);
}

static guint32 sum16(const guint8 *p, gsize len)
{
    guint32 s = 0;
    for (gsize i = 0; i < len; i += 2)
        s += (guint32)(p[i] << 8 | p[i + 1]);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s;
}

/* "Fragmentation needed" about a segment that the client's side knows by the PVM's number. */
static void test_icmp_error(void)
{
    guint8 error[] = {3,  4, 0,    0, 0,    0,  5,    0,    0x45, 0,    5,    0xdc,
                      0,  0, 0x40, 0, 0x40, 6,  0,    0,    10,   0,    0,    2,
                      10, 0, 0,    1, 0,    80, 0x12, 0x67, 0xff, 0xff, 0xff, 0xff};
    FrameSpec spec = {.src = 9, .dst = 2, .proto = PROTO_ICMP, .data = error, .len = sizeof(error)};
    g_autoptr(Rig) rig = rig_new(8);
    guint32 sum = ~sum16(error, sizeof(error));

    error[2] = (guint8)(sum >> 8);
    error[3] = (guint8)sum;
    open_passive(rig);
    g_autoptr(GBytes) frame = netframe_new(&spec);
    g_ptr_array_set_size(rig->delivered, 0);
    rewrite_input(rig->rewrite, 0, frame);
    const guint8 *icmp = (const guint8 *)g_bytes_get_data(rig->delivered->pdata[0], NULL) + 34;
    g_assert_cmpuint(sum16(icmp, sizeof(error)), ==, 0xffff);
    guint32 seq;
    memcpy(&seq, icmp + 32, 4);
    g_assert_cmpuint(GUINT32_FROM_BE(seq), ==, 0xffffffff - ISN_P + ISN_S);
}

static void test_others_pass(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec udp = {.src = 1, .dst = 2, .proto = PROTO_UDP, .data = "x", .len = 1};
    FrameSpec other = from_client(TCP_ACK, 5, 6);
    Packet p;

    open_passive(rig);
    input(rig, &udp, &p);
    other.sport++;
    input(rig, &other, &p);
    g_assert_cmpuint(p.ack, ==, 6);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->rewritten_input, ==, 0);
}

/* Unmapped, the SVM would answer it with a reset. */
static void test_waits_for_syn_ack(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 1);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1);
    Packet p;

    input(rig, &syn, &p);
    g_autoptr(GBytes) early = netframe_new(&ack);
    for (int i = 0; i < 4; i++)
        rewrite_input(rig->rewrite, 0, early);
    g_assert_cmpuint(rig->delivered->len, ==, 1);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_frames, ==, 3);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->dropped, ==, 1); /* bounded */
    output(rig, &answer, &p);
    g_assert_cmpuint(rig->delivered->len, ==, 4);
    parse(rig->delivered->pdata[3], FALSE, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1); /* learnt from the ACK: no note had come */
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->guessed, ==, 1);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_bytes, ==, 0);
}

/* The SVM refuses the connection: what waited is its own problem again. */
static void test_waits_until_refused(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 1);
    FrameSpec rst = from_guest(TCP_RST | TCP_ACK, 0, ISN_C + 1);
    Packet p;

    input(rig, &syn, &p);
    g_autoptr(GBytes) early = netframe_new(&ack);
    rewrite_input(rig->rewrite, 0, early);
    output(rig, &rst, &p);
    g_assert_cmpuint(rig->delivered->len, ==, 2);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->held_frames, ==, 0);
}

/* The primary died between releasing its SYN-ACK and the note: the client tells. */
static void test_learns_after_takeover(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 1);
    FrameSpec data = from_guest(TCP_ACK, ISN_S + 1, ISN_C + 1);
    Packet p;

    answer.has_ts = ack.has_ts = data.has_ts = TRUE;
    answer.tsval = 400;
    ack.tsecr = 450;
    data.tsval = 401;
    input(rig, &syn, &p);
    output(rig, &answer, &p);
    take_over(rig);
    input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1);
    output(rig, &data, &p);
    g_assert_cmpuint(p.seq, ==, ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 451);
}

/* ... or it did not release it: then the client knows the SVM's own. */
static void test_learns_nothing_to_map(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_S + 1);
    Packet p;

    input(rig, &syn, &p);
    output(rig, &answer, &p);
    take_over(rig);
    output(rig, &answer, &p);
    g_assert_cmpuint(p.seq, ==, ISN_S);
    input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1);
    g_assert_null(rewrite_export(rig->rewrite));
}

static void test_checkpoint_drops(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 101);
    CompareNote stale = note_of(1, FALSE, 5);
    g_autoptr(GError) error = NULL;
    Packet p;

    open_passive(rig);
    g_assert_true(rewrite_checkpoint(rig->rewrite, 2, NULL, &error));
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
    input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_P + 101); /* the SVM has the PVM's numbers now */
    rewrite_note(rig->rewrite, &stale);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
}

/* A note about the connection before this one on the same ports. */
static void test_note_of_last_connection(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S + 9, ISN_C + 51);
    CompareNote late = note_of(1, TRUE, 0);
    Packet p;

    open_passive(rig);
    output(rig, &answer, &p);
    rewrite_note(rig->rewrite, &late);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 51, 5000);
    input(rig, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 10); /* guessed: 5000 acknowledges the PVM's SYN */
}

/* Maps live on with their connections, through a new secondary and its takeover as well. */
static void test_chain_of_takeovers(void)
{
    g_autoptr(Rig) first = rig_new(8), second = rig_new(8);
    FrameSpec data = from_guest(TCP_ACK, ISN_S + 1, ISN_C + 1);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 2);
    g_autoptr(GError) error = NULL;
    Packet p;

    open_passive(first);
    take_over(first);
    g_autoptr(GBytes) exported = rewrite_export(first->rewrite);
    g_assert_nonnull(exported);
    g_assert_true(rewrite_checkpoint(second->rewrite, 7, exported, &error));
    input(second, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 2);
    CompareNote note = note_of(7, FALSE, 30);
    rewrite_note(second->rewrite, &note);
    take_over(second);
    data.has_ts = TRUE;
    data.tsval = 1;
    output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 31);
    /* The port is used again: the client knows this guest's numbers. */
    FrameSpec syn = from_guest(TCP_SYN | TCP_ACK, 42, 99);
    output(second, &syn, &p);
    g_assert_cmpuint(p.seq, ==, 42);
    data.seq = 43;
    output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, 43);
    g_assert_cmpuint(p.tsval, ==, 1);
    g_assert_null(rewrite_export(second->rewrite));
}

/* What one survivor has yet to learn from the client, its secondary learns from the same frame. */
static void test_export_of_the_unknown(void)
{
    g_autoptr(Rig) first = rig_new(8), second = rig_new(8);
    FrameSpec syn = from_client(TCP_SYN, ISN_C, 0);
    FrameSpec answer = from_guest(TCP_SYN | TCP_ACK, ISN_S, ISN_C + 1);
    FrameSpec ack = from_client(TCP_ACK, ISN_C + 1, ISN_P + 1);
    g_autoptr(GError) error = NULL;
    Packet p;

    answer.has_ts = ack.has_ts = TRUE;
    answer.tsval = 40;
    ack.tsecr = 50;
    input(first, &syn, &p);
    output(first, &answer, &p);
    take_over(first);
    g_autoptr(GBytes) exported = rewrite_export(first->rewrite);
    g_assert_true(rewrite_checkpoint(second->rewrite, 7, exported, &error));
    input(first, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1);
    input(second, &ack, &p);
    g_assert_cmpuint(p.ack, ==, ISN_S + 1);
    CompareNote note = note_of(7, FALSE, 3);
    rewrite_note(second->rewrite, &note);
    take_over(second);
    FrameSpec data = from_guest(TCP_ACK, ISN_S + 1, ISN_C + 1);
    data.has_ts = TRUE;
    data.tsval = 41;
    output(second, &data, &p);
    g_assert_cmpuint(p.seq, ==, ISN_P + 1);
    g_assert_cmpuint(p.tsval, ==, 54);
}

/* A closed connection is forgotten, but not before its last ACK must have arrived. */
static void test_closed_is_forgotten(void)
{
    g_autoptr(Rig) rig = rig_new(8);
    FrameSpec guest_fin = from_guest(TCP_ACK | TCP_FIN, ISN_S + 1, ISN_C + 1);
    FrameSpec client_fin = from_client(TCP_ACK | TCP_FIN, ISN_C + 1, ISN_P + 1);
    Packet p;
    guint exports = 0;

    open_passive(rig);
    take_over(rig);
    output(rig, &guest_fin, &p);
    input(rig, &client_fin, &p);
    for (guint i = 0; i < 1000; i++) {
        g_autoptr(GBytes) open = rewrite_export(rig->rewrite);
        g_assert_nonnull(open); /* the guest may have to send its FIN again */
    }
    client_fin.ack = ISN_P + 5; /* "odd" and the FIN */
    input(rig, &client_fin, &p);
    for (GBytes *closed; (closed = rewrite_export(rig->rewrite)) != NULL; exports++)
        g_bytes_unref(closed);
    g_assert_cmpuint(exports, >=, 10);
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->flows, ==, 0);
}

static void test_export_malformed(void)
{
    g_autoptr(Rig) rig = rig_new(8);
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
    g_autoptr(Rig) rig = rig_new(2);
    FrameSpec rst = from_guest(TCP_RST, ISN_S + 1, 0);
    Packet p;

    for (guint16 i = 0; i < 3; i++) {
        FrameSpec syn = from_guest(TCP_SYN, ISN_S, 0);
        syn.dport += i;
        output(rig, &syn, &p);
    }
    g_assert_cmpuint(rewrite_stats(rig->rewrite)->no_room, ==, 1);
    output(rig, &rst, &p); /* a closed one makes room */
    FrameSpec syn = from_guest(TCP_SYN, ISN_S, 0);
    syn.dport += 2;
    output(rig, &syn, &p);
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
    ADD("checksums", test_checksums);
    ADD("wrong-checksum-stays", test_wrong_checksum_stays);
    ADD("first-fragment", test_first_fragment);
    ADD("icmp-error", test_icmp_error);
    ADD("others-pass", test_others_pass);
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
