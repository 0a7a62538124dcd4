/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-compare as a user runs it: captures in, text or JSON and an exit status out. */
#include <glib/gstdio.h>
#include <json-c/json.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "netcompare/packet.h"
#include "netcompare/pcapng.h"
#include "tests/support/netframe.h"

typedef struct {
    char *dir, *primary, *secondary;
    char *out, *err;
    int status;
} Run;

static Run *run_new(void)
{
    Run *run = g_new0(Run, 1);
    run->dir = g_dir_make_tmp("colo-compare-XXXXXX", NULL);
    run->primary = g_build_filename(run->dir, "primary.pcap", NULL);
    run->secondary = g_build_filename(run->dir, "secondary.pcap", NULL);
    return run;
}

static void run_free(Run *run)
{
    g_unlink(run->primary);
    g_unlink(run->secondary);
    g_rmdir(run->dir);
    g_free(run->dir);
    g_free(run->primary);
    g_free(run->secondary);
    g_free(run->out);
    g_free(run->err);
    g_free(run);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Run, run_free)

/* Frames a millisecond apart. */
static void capture(const char *path, int link, const FrameSpec *specs, guint n)
{
    pcap_t *pcap = pcap_open_dead(link, 65536);
    pcap_dumper_t *dumper = pcap_dump_open(pcap, path);

    g_assert_nonnull(dumper);
    for (guint i = 0; i < n; i++) {
        g_autoptr(GBytes) frame = netframe_new(&specs[i]);
        gsize len;
        const guint8 *data = g_bytes_get_data(frame, &len);
        struct pcap_pkthdr header = {
            .ts = {1700000000, i * 1000},
              .caplen = (guint)len, .len = (guint)len
        };
        pcap_dump((u_char *)dumper, &header, data);
    }
    pcap_dump_close(dumper);
    pcap_close(pcap);
}

static FrameSpec tcp(guint8 flags, guint32 seq, const char *text)
{
    return (FrameSpec){.src = 2,
                       .dst = 1,
                       .proto = PROTO_TCP,
                       .sport = 80,
                       .dport = 4711,
                       .flags = flags,
                       .seq = seq,
                       .ack = 9,
                       .data = text,
                       .len = text != NULL ? strlen(text) : 0};
}

/* `option`s up to NULL come first. */
static void run_it(Run *run, const char *option, const char *value)
{
    g_autofree char *program = g_build_filename(g_getenv("COLO_BUILD"), "colo-compare", NULL);
    const char *argv[7] = {program};
    int argc = 1, wait_status;
    g_autoptr(GError) error = NULL;

    if (option != NULL)
        argv[argc++] = option;
    if (value != NULL)
        argv[argc++] = value;
    argv[argc++] = run->primary;
    argv[argc++] = run->secondary; /* may be NULL: one capture of both */
    g_clear_pointer(&run->out, g_free);
    g_clear_pointer(&run->err, g_free);
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &run->out,
                               &run->err, &wait_status, &error));
    g_assert_true(WIFEXITED(wait_status));
    run->status = WEXITSTATUS(wait_status);
}

static void assert_out(const Run *run, const char *part)
{
    if (strstr(run->out, part) == NULL)
        g_error("'%s' is not in:\n%s%s", part, run->out, run->err);
}

/* One VM's connection: with its own initial sequence number and its own cuts. */
static void two_captures(Run *run, const char *second_answer)
{
    const FrameSpec primary[] = {tcp(TCP_SYN | TCP_ACK, 100, NULL), tcp(TCP_ACK, 101, "HTTP/1.1 "),
                                 tcp(TCP_ACK | TCP_FIN, 110, "200 OK")};
    const FrameSpec secondary[] = {
        tcp(TCP_SYN | TCP_ACK, 5000, NULL), tcp(TCP_ACK, 5001, second_answer),
        tcp(TCP_ACK | TCP_FIN, 5001 + (guint32)strlen(second_answer), NULL)};
    capture(run->primary, DLT_EN10MB, primary, G_N_ELEMENTS(primary));
    capture(run->secondary, DLT_EN10MB, secondary, G_N_ELEMENTS(secondary));
}

static void test_equal(void)
{
    g_autoptr(Run) run = run_new();

    two_captures(run, "HTTP/1.1 200 OK");
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "tcp 10.0.0.2:80 -> 10.0.0.1:4711: 3 packets, secondary 3, 15 bytes equal\n");
    assert_out(run, "equal: 0 of 1 flows differ, 15 bytes equal\n");
}

static void test_different(void)
{
    g_autoptr(Run) run = run_new();

    two_captures(run, "HTTP/1.1 404 No");
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

    two_captures(run, "HTTP/1.1 404 No");
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

    two_captures(run, "HTTP/1.1 ");
    const FrameSpec shorter[] = {tcp(TCP_SYN | TCP_ACK, 5000, NULL),
                                 tcp(TCP_ACK, 5001, "HTTP/1.1 ")};
    capture(run->secondary, DLT_EN10MB, shorter, G_N_ELEMENTS(shorter));
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
    capture(run->primary, DLT_EN10MB, frames, 2);
    frames[1].data = "CLIENT";
    capture(run->secondary, DLT_EN10MB, frames, 2);
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 1);
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        run_it(run, options[i][0], options[i][1]);
        g_assert_cmpint(run->status, ==, 0);
        assert_out(run, "equal: 0 of 1 flows");
    }
    run_it(run, "--guest-mac", "52:54:00:00:00:03");
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "equal: 0 of 0 flows");
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

    capture(run->primary, DLT_EN10MB, &frame, 1);
    capture_ng(run->secondary, &frame);
    run_it(run, NULL, NULL);
    g_assert_cmpint(run->status, ==, 0);
    assert_out(run, "equal: 0 of 1 flows differ, 4 bytes equal");
}

static void assert_bad(Run *run, const char *option, const char *value, const char *message)
{
    run_it(run, option, value);
    g_assert_cmpint(run->status, ==, 2);
    g_assert_nonnull(strstr(run->err, message));
}

static void test_bad_input(void)
{
    g_autoptr(Run) run = run_new();
    FrameSpec frame = tcp(TCP_ACK, 101, "same");
    g_autofree char *bytes = NULL;
    gsize len;

    assert_bad(run, NULL, NULL, "can't be opened");
    capture(run->primary, DLT_EN10MB, &frame, 1);
    capture(run->secondary, DLT_RAW, &frame, 1);
    assert_bad(run, NULL, NULL, "has link type RAW, not Ethernet");
    capture(run->secondary, DLT_EN10MB, &frame, 1);
    assert_bad(run, "--filter", "no such thing", "filter 'no such thing'");
    assert_bad(run, "--guest-mac", "52:54", "not a MAC address");
    assert_bad(run, "--guest-ip", "10.0.0", "neither an IPv4 nor an IPv6 address");
    assert_bad(run, "--nonsense", NULL, "--nonsense");
    assert_bad(run, "third.pcap", NULL, "two captures are needed");
    g_assert_true(g_file_get_contents(run->secondary, &bytes, &len, NULL));
    g_assert_true(g_file_set_contents(run->secondary, bytes, (gssize)len - 3, NULL));
    assert_bad(run, NULL, NULL, "is damaged after frame 0");
    g_assert_true(g_file_set_contents(run->secondary, "not a capture at all, really", -1, NULL));
    assert_bad(run, NULL, NULL, "a pcap or pcapng file is expected");
}

static void add_frame(GByteArray *out, guint32 interface, gint64 ms, FrameSpec spec)
{
    g_autoptr(GBytes) frame = netframe_new(&spec);
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    pcapng_packet(out, interface, G_GINT64_CONSTANT(1700000000000000) + ms * 1000, data, len,
                  interface == 1 ? "a comment" : NULL);
}

/* What `colo capture` writes: both VMs in one file, of two cards with the same flow. */
static void capture_both(const Run *run, const char *second_answer)
{
    static const char *const names[] = {"PVM nic 0", "SVM nic 0", "PVM nic 1", "SVM nic 1"};
    g_autoptr(GByteArray) out = g_byte_array_new();
    pcapng_section(out, "why");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        pcapng_interface(out, names[i]);
    for (guint32 nic = 0; nic < 2; nic++) {
        const char *answer = nic == 0 ? "HTTP/1.1 200 OK" : second_answer;
        add_frame(out, 2 * nic, 1, tcp(TCP_ACK, 101, "HTTP/1.1 "));
        add_frame(out, 2 * nic, 2, tcp(TCP_ACK, 110, "200 OK"));
        add_frame(out, 2 * nic + 1, 3, tcp(TCP_ACK, 101, answer));
    }
    g_assert_true(g_file_set_contents(run->primary, (char *)out->data, (gssize)out->len, NULL));
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
    assert_bad(run, NULL, NULL, "the file is cut short");
    const FrameSpec frame = tcp(TCP_ACK, 101, "x");
    capture(run->primary, DLT_EN10MB, &frame, 1);
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
    capture(run->primary, DLT_EN10MB, frames, n);
    capture(run->secondary, DLT_EN10MB, frames, n);
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
    g_test_add_func("/colo-compare/many-frames", test_many_frames);
    return g_test_run();
}
