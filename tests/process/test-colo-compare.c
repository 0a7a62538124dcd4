/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-compare as a user runs it: captures in, text or JSON and an exit status out. */
#include <glib/gstdio.h>
#include <json-c/json.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>

#include "netcompare/packet.h"
#include "netcompare/pcapng.h"
#include "tests/support/capture_run.h"

static FrameSpec tcp(guint8 flags, guint32 seq, const char *text)
{
    return capture_tcp(flags, seq, text);
}

static void test_equal(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 200 OK");
    run_it(run, "--verbose", NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "tcp 10.0.0.2:80 -> 10.0.0.1:4711: 3 packets, secondary 3, 15 bytes equal\n");
    assert_out(run, "equal: 0 of 1 flows differ, 15 bytes equal\n");
}

static void test_different(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 404 No");
    run_it(run, "--explain", NULL);
    g_assert_cmpint(run->status, ==, 1);
    assert_out(run, "DIFFERENT (payload) at 0.002000 s, offset 9: the streams differ\n");
    assert_out(run, "primary   32 30 30 20 4f 4b");
    assert_out(run, "secondary 34 30 34 20 4e 6f");
    assert_out(run, "have computed different answers");
    assert_out(run, "different: 1 of 1 flows differ");
}

static void test_json(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 404 No");
    run_it(run, "--json", NULL);
    g_assert_cmpint(run->status, ==, 1);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(run->out), "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 2);
    json_object *flow = json_tokener_parse(lines[0]), *summary = json_tokener_parse(lines[1]), *d;
    g_assert_true(json_object_object_get_ex(flow, "divergence", &d));
    g_assert_cmpstr(json_object_get_string(json_object_object_get(d, "reason")), ==, "payload");
    g_assert_cmpint(json_object_get_int(json_object_object_get(d, "offset")), ==, 9);
    g_assert_false(json_object_get_boolean(json_object_object_get(summary, "equal")));
    json_object_put(flow);
    json_object_put(summary);
}

/* What is missing at the end of a capture is told as such. */
static void test_missing(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 ");
    const FrameSpec shorter[] = {tcp(TCP_SYN | TCP_ACK, 5000, NULL),
                                 tcp(TCP_ACK, 5001, "HTTP/1.1 ")};
    capture(run->secondary, shorter, G_N_ELEMENTS(shorter));
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 1);
    assert_out(run, "DIFFERENT (missing-output)");
    assert_out(run, "secondary nothing");
}

/* Only what the guest has sent is compared; clients see to their own. */
static void test_guest_only(void)
{
    static const char *const options[][2] = {
        {"--guest-ip", "10.0.0.2"         },
        {"--filter",   "src host 10.0.0.2"}
    };
    g_autoptr(Run) run = run_new();
    FrameSpec frames[] = {tcp(TCP_ACK, 101, "same"), tcp(TCP_ACK, 7, "client")};

    frames[1].src = 1;
    frames[1].dst = 2;
    capture(run->primary, frames, 2);
    frames[1].data = "CLIENT";
    capture(run->secondary, frames, 2);
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 1);
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        run_it(run, options[i][0], options[i][1]);
        g_assert_cmpint(run->status, ==, 0);
        assert_out(run, "equal: 0 of 1 flows");
    }
}

static void add32(GByteArray *a, guint32 v)
{
    g_byte_array_append(a, (const guint8 *)&v, sizeof(v));
}

/* The same frame in a pcapng file, written by hand: section, interface, enhanced packet. */
static void capture_ng(const char *path, const FrameSpec *spec)
{
    static const guint32 section[] = {0x0a0d0d0a, 28, 0x1a2b3c4d, 1, G_MAXUINT32, G_MAXUINT32, 28};
    static const guint32 interface[] = {1, 20, DLT_EN10MB, 65536, 20};
    g_autoptr(GByteArray) a = g_byte_array_new();
    g_autoptr(GBytes) frame = netframe_new(spec);
    gsize len = g_bytes_get_size(frame), padded = (len + 3) & ~(gsize)3;
    g_autofree guint8 *data = g_malloc0(padded);

    memcpy(data, g_bytes_get_data(frame, NULL), len);
    g_byte_array_append(a, (const guint8 *)section, sizeof(section));
    g_byte_array_append(a, (const guint8 *)interface, sizeof(interface));
    const guint32 packet[] = {6, (guint32)(32 + padded), 0, 0, 1000, (guint32)len, (guint32)len};
    for (guint i = 0; i < G_N_ELEMENTS(packet); i++)
        add32(a, packet[i]);
    g_byte_array_append(a, data, (guint)padded);
    add32(a, (guint32)(32 + padded));
    g_assert_true(g_file_set_contents(path, (const char *)a->data, a->len, NULL));
}

static void test_pcapng(void)
{
    g_autoptr(Run) run = run_new();
    FrameSpec frame = tcp(TCP_ACK, 101, "same");

    capture(run->primary, &frame, 1);
    capture_ng(run->secondary, &frame);
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "equal: 0 of 1 flows differ, 4 bytes equal");
}

/* Nothing isn't equal to nothing. */
static void test_nothing(void)
{
    g_autoptr(Run) run = run_new();
    const FrameSpec frame = tcp(TCP_ACK, 101, "same");

    capture(run->primary, &frame, 1);
    capture(run->secondary, &frame, 1);
    assert_bad(run, "--guest-mac", "52:54:00:00:00:03",
               "none passes --guest-mac '52:54:00:00:00:03'");
    assert_bad(run, "--guest-ip", "10.0.0.3", "none passes --guest-ip '10.0.0.3'");
    assert_bad(run, "--filter", "port 81", "none passes --filter 'port 81'");
    g_assert_cmpstr(run->out, ==, "");
    capture(run->primary, NULL, 0);
    run_it(run, NULL, NULL); /* one side has something to say */
    assert_status(run, 1);
    assert_err(run, "primary.pcap has no frames");
    capture(run->secondary, NULL, 0);
    assert_bad(run, NULL, NULL, "secondary.pcap has no frames");
}

/* What was cut off when captured may be equal or not. */
static void test_cut_frames(void)
{
    /* 54 bytes of headers and 4 of text; whole; within the headers */
    static const struct {
        guint snaplen;
        const char *second;
        int status;
    } cases[] = {
        {58, "text and this", 2},
        {58, "text and that", 2},
        {58, "tExt and this", 1},
        {40, "tExt and this", 2},
        {0,  "text and this", 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Run) run = run_new();
        const CaptureStyle style = {.gap_us = 1000, .snaplen = cases[i].snaplen};
        const FrameSpec p[] = {tcp(TCP_ACK, 101, "text and this"), tcp(TCP_ACK, 114, "more")};
        const FrameSpec s[] = {tcp(TCP_ACK, 101, cases[i].second), tcp(TCP_ACK, 114, "more")};
        capture_styled(run->primary, &style, p, 2);
        capture_styled(run->secondary, &style, s, 2);
        run_it(run, "--json", NULL);
        assert_status(run, cases[i].status);
        json_object *summary = json_summary(run);
        int cut = cases[i].snaplen == 58 ? 1 : cases[i].snaplen == 40 ? 2 : 0;
        assert_json_pair(summary, "cut-frames", cut, cut);
        assert_json_pair(summary, "unparsed-frames", cut == 2 ? 2 : 0, cut == 2 ? 2 : 0);
        g_assert_cmpstr(json_object_get_string(json_member(summary, "result")), ==,
                        cases[i].status == 2   ? "cut-off"
                        : cases[i].status == 1 ? "different"
                                               : "equal");
        g_assert_cmpint(json_object_get_boolean(json_member(summary, "equal")), ==,
                        cases[i].status == 0);
        json_object_put(summary);
        run_it(run, NULL, NULL);
        assert_status(run, cases[i].status);
        if (cut > 0)
            assert_err(run, "capture whole frames (tcpdump -s 0)");
    }
}

/* Cut in another place on each side: what both have is compared, and datagrams' lengths. */
static void test_cut_frames_apart(void)
{
    g_autoptr(Run) run = run_new();
    const CaptureStyle style = {.gap_us = 1000, .snaplen = 60};
    FrameSpec whole = tcp(TCP_ACK, 101, "text and this"), udp = capture_udp("text and this", 13);
    const FrameSpec parts[] = {tcp(TCP_ACK, 101, "text an"), tcp(TCP_ACK, 108, "d this")};

    capture_styled(run->primary, &style, &whole, 1);
    capture(run->secondary, parts, 2);
    run_it(run, NULL, NULL);
    assert_status(run, 2);
    assert_out(run, "7 bytes were cut off when captured");
    capture_styled(run->primary, &style, &udp, 1);
    udp.len = 12;
    capture_styled(run->secondary, &style, &udp, 1);
    run_it(run, NULL, NULL);
    assert_status(run, 1);
    assert_out(run, "length: primary 13, secondary 12");
}

static void cut_file(const char *path, gsize bytes)
{
    g_autofree char *contents = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &contents, &len, NULL));
    g_assert_true(g_file_set_contents(path, contents, (gssize)(len - bytes), NULL));
}

/* A capture that was cut at its end says nothing about what would come. */
static void test_cut_file(void)
{
    g_autoptr(Run) run = run_new();
    const FrameSpec p[] = {tcp(TCP_ACK, 101, "same"), tcp(TCP_ACK, 105, "more"),
                           capture_udp("x", 1)};

    for (int side = 0; side < 2; side++) {
        const char *const paths[] = {run->primary, run->secondary};
        capture(run->primary, p, 3);
        capture(run->secondary, p, 3);
        cut_file(paths[side], 100); /* within the second frame */
        run_it(run, "--json", NULL);
        assert_status(run, 0);
        assert_err(run, "is cut short after frame 1: compared as far as it goes");
        json_object *summary = json_summary(run);
        json_object *cut = json_member(summary, "cut-short");
        g_assert_cmpint(json_object_get_boolean(json_member(cut, "primary")), ==, side == 0);
        g_assert_cmpint(json_object_get_boolean(json_member(cut, "secondary")), ==, side == 1);
        json_object_put(summary);
        /* What it has and the other has not is a difference. */
        capture(paths[!side], p + 2, 1);
        run_it(run, NULL, NULL);
        assert_status(run, 1);
    }
}

/* A capture that was cut before its first frame has nothing to be compared. */
static void test_cut_before_frames(void)
{
    g_autoptr(Run) run = run_new();
    const FrameSpec frames[] = {tcp(TCP_ACK, 101, "same"), capture_udp("x", 1)};
    const char *const paths[] = {run->primary, run->secondary};

    for (int side = 0; side < 2; side++) {
        capture(run->primary, frames, 2);
        capture(run->secondary, frames, 2);
        cut_file(paths[side], 100); /* within the first frame */
        assert_bad(run, NULL, NULL, "has no frames, and is cut short");
        capture(paths[side], frames, 2);
        cut_file(paths[side], 1);
        assert_bad(run, "--filter", "udp", "none passes --filter 'udp', and is cut short");
    }
}

/* More than the memory for it: neither equal nor different. */
static void test_unknown(void)
{
    g_autoptr(Run) run = run_new();
    const guint n = 3000;
    g_autofree FrameSpec *frames = g_new(FrameSpec, n + 1);

    /* Flows: 512 KiB have room for 682. */
    for (guint i = 0; i < n; i++) {
        frames[i] = tcp(TCP_SYN | TCP_ACK, 100, NULL);
        frames[i].dport = (guint16)(1000 + i);
    }
    capture(run->primary, frames, n);
    capture(run->secondary, frames, n);
    run_it(run, "--memory-limit=1", NULL);
    assert_status(run, 3);
    assert_out(run, "not known: 0 of 682 flows differ");
    assert_err(run, "4636 frames were not compared, for want of room");
    run_it(run, "--memory-limit=1", "--json");
    assert_out(run, "\"equal\":false,\"result\":\"unknown\"");
    run_it(run, NULL, NULL);
    assert_status(run, 0);
    assert_bad(run, "--memory-limit=0", NULL, "--memory-limit");

    /* Frames that wait: the secondary's come later. */
    static guint8 zeros[1000];
    for (guint i = 0; i <= n; i++) {
        frames[i] = tcp(TCP_ACK, 101 + 1000 * i, NULL);
        frames[i].data = zeros;
        frames[i].len = sizeof(zeros);
    }
    capture_styled(run->primary, &(CaptureStyle){.gap_us = 10}, frames, n);
    capture_styled(run->secondary, &(CaptureStyle){.gap_us = 1000}, frames, n);
    run_it(run, "--memory-limit=1", NULL);
    assert_status(run, 3);
    assert_out(run, "NOT KNOWN (table-full)");
    run_it(run, NULL, NULL);
    assert_status(run, 0);
    /* What differs, differs, however little room there is. */
    capture(run->secondary, frames, 1);
    frames[0].dport = 1;
    capture(run->secondary, frames, 1);
    run_it(run, "--memory-limit=1", NULL);
    assert_status(run, 1);
}

static void test_bad_input(void)
{
    g_autoptr(Run) run = run_new();
    FrameSpec frame = tcp(TCP_ACK, 101, "same");
    g_autofree char *bytes = NULL;
    gsize len;

    assert_bad(run, NULL, NULL, "can't be opened");
    capture(run->primary, &frame, 1);
    capture_styled(run->secondary, &(CaptureStyle){.link = DLT_RAW}, &frame, 1);
    assert_bad(run, NULL, NULL, "has link type RAW, not Ethernet");
    capture(run->secondary, &frame, 1);
    assert_bad(run, "--filter", "no such thing", "filter 'no such thing'");
    assert_bad(run, "--guest-mac", "52:54", "not a MAC address");
    assert_bad(run, "--guest-ip", "10.0.0", "neither an IPv4 nor an IPv6 address");
    assert_bad(run, "--nonsense", NULL, "--nonsense");
    assert_bad(run, "third.pcap", NULL, "two captures are needed");
    g_assert_true(g_file_get_contents(run->secondary, &bytes, &len, NULL));
    memset(bytes + 24 + 8, 0xff, 4); /* a frame of 4 GiB */
    g_assert_true(g_file_set_contents(run->secondary, bytes, (gssize)len, NULL));
    assert_bad(run, NULL, NULL, "is damaged after frame 0");
    g_assert_true(g_file_set_contents(run->secondary, "not a capture at all, really", -1, NULL));
    assert_bad(run, NULL, NULL, "a pcap or pcapng file is expected");
}

static void test_one_file(void)
{
    g_autoptr(Run) run = run_new();
    char *other = g_steal_pointer(&run->secondary);

    capture_both(run, "HTTP/1.1 200 OK");
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "equal: 0 of 2 flows differ, 30 bytes equal\n");
    capture_both(run, "HTTP/1.1 404 NO");
    run_it(run, "--explain", NULL);
    g_assert_cmpint(run->status, ==, 1);
    assert_out(run, "DIFFERENT (payload) at 0.002000 s, offset 9: ");
    assert_out(run, "different: 1 of 2 flows differ");
    run_it(run, "--filter", "port 80");
    g_assert_cmpint(run->status, ==, 1);
    assert_bad(run, "--filter", "port 81", "no frame to be compared");
    assert_bad(run, "--filter", "no such thing", "filter 'no such thing'");

    char *bytes;
    gsize len;
    g_assert_true(g_file_get_contents(run->primary, &bytes, &len, NULL));
    g_assert_true(g_file_set_contents(run->primary, bytes, (gssize)len - 3, NULL));
    g_free(bytes);
    run_it(run, NULL, NULL);
    assert_status(run, 0); /* what differed was behind that */
    assert_err(run, "is cut short after frame 5: compared as far as it goes");
    const FrameSpec frame = tcp(TCP_ACK, 101, "x");
    capture(run->primary, &frame, 1);
    assert_bad(run, NULL, NULL, "this is no pcapng file");
    g_unlink(run->primary);
    assert_bad(run, NULL, NULL, "No such file");
    run->secondary = other;
}

/* Much more than may wait, and the other side's has it later: bounded memory, all equal. */
static void test_many_frames(void)
{
    g_autoptr(Run) run = run_new();
    const guint n = 20000;
    g_autofree FrameSpec *frames = g_new(FrameSpec, n);

    for (guint i = 0; i < n; i++) {
        frames[i] = tcp(TCP_ACK, 101 + 4 * (i / 7), "same");
        frames[i].dport = (guint16)(1000 + i % 7);
    }
    capture(run->primary, frames, n);
    capture(run->secondary, frames, n);
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "equal: 0 of 7 flows differ, 80000 bytes equal");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("COLO_BUILD") == NULL) {
        puts("1..0 # SKIP COLO_BUILD is not set: run me by tests/run");
        return 0;
    }
    g_test_add_func("/colo-compare/equal", test_equal);
    g_test_add_func("/colo-compare/different", test_different);
    g_test_add_func("/colo-compare/json", test_json);
    g_test_add_func("/colo-compare/missing", test_missing);
    g_test_add_func("/colo-compare/guest-only", test_guest_only);
    g_test_add_func("/colo-compare/pcapng", test_pcapng);
    g_test_add_func("/colo-compare/one-file", test_one_file);
    g_test_add_func("/colo-compare/bad-input", test_bad_input);
    g_test_add_func("/colo-compare/nothing", test_nothing);
    g_test_add_func("/colo-compare/cut-frames", test_cut_frames);
    g_test_add_func("/colo-compare/cut-frames-apart", test_cut_frames_apart);
    g_test_add_func("/colo-compare/cut-file", test_cut_file);
    g_test_add_func("/colo-compare/cut-before-frames", test_cut_before_frames);
    g_test_add_func("/colo-compare/unknown", test_unknown);
    g_test_add_func("/colo-compare/many-frames", test_many_frames);
    return g_test_run();
}
