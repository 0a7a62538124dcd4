/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colo-compare says, where it says it, and from where it reads. */
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>

#include "netcompare/packet.h"
#include "tests/support/capture_run.h"

static void test_frames_and_times(void)
{
    g_autoptr(Run) run = run_new();
    const FrameSpec p[] = {capture_udp("x", 1), capture_tcp(TCP_ACK, 101, "same"),
                           capture_tcp(TCP_ACK, 105, "this")};
    const FrameSpec s[] = {capture_udp("x", 1), capture_tcp(TCP_ACK, 101, "samethat")};

    g_setenv("TZ", "UTC", TRUE);
    capture(run->primary, p, 3);
    capture(run->secondary, s, 2);
    run_it(run, "--filter", "tcp"); /* frames that aren't let through count too */
    assert_status(run, 1);
    assert_out(run, "primary   frame 3, 2023-11-14 22:13:20.002000 +0000\n");
    assert_out(run, "secondary frame 2, 2023-11-14 22:13:20.001000 +0000\n");
    run_it(run, "--json", NULL);
    assert_out(run, "\"primary-frame\":{\"number\":3,\"time\":\"2023-11-14T22:13:20.002000Z\","
                    "\"time-us\":1700000000002000}");
    assert_out(run, "\"secondary-frame\":{\"number\":2,");
}

/* Frames of a file of both are numbered as they are in the file. */
static void test_frames_of_one_file(void)
{
    g_autoptr(Run) run = run_new();
    char *other = g_steal_pointer(&run->secondary);

    capture_both(run, "HTTP/1.1 404 NO");
    run_it(run, NULL, NULL);
    assert_out(run, "primary   frame 5, ");
    assert_out(run, "secondary frame 6, ");
    run->secondary = other;
}

/* Where no bytes differ the name and the values are told. */
static void test_values(void)
{
    FrameSpec syn[2] = {capture_tcp(TCP_SYN | TCP_ACK, 100, NULL),
                        capture_tcp(TCP_SYN | TCP_ACK, 100, NULL)};
    const FrameSpec ack[2] = {capture_tcp(TCP_ACK, 101, NULL), capture_tcp(TCP_ACK, 101, NULL)};
    struct {
        const char *text, *json;
        FrameSpec p[2], s[2];
    } cases[] = {
        {"ACK: primary 9, secondary 7",
         "\"field\":\"ACK\",\"primary-value\":9,\"secondary-value\":7",             {ack[0]},
         {ack[1]}                                 },
        {"FIN: primary yes, secondary no",
         "\"field\":\"FIN\",\"primary-value\":true,\"secondary-value\":false",      {capture_tcp(TCP_ACK | TCP_FIN, 101, NULL)},
         {ack[0]}                                 },
        {"MSS: primary 1460, secondary 1400",
         "\"field\":\"MSS\",\"primary-value\":1460,\"secondary-value\":1400",       {syn[0]},
         {syn[1]}                                 },
        {"window scale: primary 7, secondary none",
         "\"field\":\"window scale\",\"primary-value\":7,\"secondary-value\":null", {syn[0]},
         {syn[1]}                                 },
        {"RST: primary no, secondary yes",
         "\"field\":\"RST\",\"primary-value\":false,\"secondary-value\":true",      {ack[0]},
         {ack[1], capture_tcp(TCP_RST, 101, NULL)}},
    };
    cases[0].s[0].ack = 7;
    cases[2].p[0].mss = 1460;
    cases[2].s[0].mss = 1400;
    cases[3].p[0].wscale = 7;

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Run) run = run_new();
        capture(run->primary, cases[i].p, cases[i].p[1].proto != 0 ? 2 : 1);
        capture(run->secondary, cases[i].s, cases[i].s[1].proto != 0 ? 2 : 1);
        run_it(run, NULL, NULL);
        assert_status(run, 1);
        assert_out(run, cases[i].text);
        run_it(run, "--json", NULL);
        assert_out(run, cases[i].json);
    }
}

/* By default only what differs is told; --verbose tells all, --quiet nothing. */
static void test_how_much(void)
{
    g_autoptr(Run) run = run_new();
    FrameSpec frames[] = {capture_tcp(TCP_ACK, 101, "same"), capture_udp("this", 4)};

    capture(run->primary, frames, 2);
    frames[1].data = "that";
    capture(run->secondary, frames, 2);
    run_it(run, NULL, NULL);
    assert_out(run, "udp 10.0.0.2:53");
    g_assert_null(strstr(run->out, "tcp 10.0.0.2:80"));
    assert_out(run, "different: 1 of 2 flows differ");
    run_it(run, "--verbose", NULL);
    assert_out(run, "tcp 10.0.0.2:80");
    run_it(run, "--quiet", NULL);
    assert_status(run, 1);
    g_assert_cmpstr(run->out, ==, "");
    g_assert_cmpstr(run->err, ==, "");
    assert_bad(run, "--quiet", "--verbose", "contradict");
    run_it(run, "--quiet", "--json");
    g_assert_cmpstr(run->out, ==, "");
    run_it(run, "--json", NULL);
    g_assert_null(strstr(run->out, "\"tcp"));
}

static void test_json_members(void)
{
    g_autoptr(Run) run = run_new();
    FrameSpec frame = capture_tcp(TCP_ACK, 101, "same");

    frame.n_vlan = 1;
    frame.vlan[0] = 7;
    capture(run->primary, &frame, 1);
    capture(run->secondary, &frame, 1);
    run_it(run, "--json", "--verbose");
    assert_status(run, 0);
    assert_out(run, "\"protocol\":\"tcp\",\"source\":\"10.0.0.2\",\"destination\":\"10.0.0.1\","
                    "\"source-port\":80,\"destination-port\":4711,\"vlans\":[7],\"nic\":0,"
                    "\"result\":\"equal\"");
    json_object *summary = json_summary(run);
    assert_json_pair(summary, "frames", 1, 1);
    assert_json_pair(summary, "cut-frames", 0, 0);
    assert_json_pair(summary, "unparsed-frames", 0, 0);
    json_object_put(summary);
}

/* Malformed frames are compared whole, and counted. */
static void test_unparsed(void)
{
    g_autoptr(Run) run = run_new();
    g_autoptr(GBytes) frame = netframe_from_hex("525400000001 525400000002 0800 45000100 aa");
    GBytes *const frames[] = {frame};

    capture_raw(run->primary, &(CaptureStyle){0}, frames, 1);
    capture_raw(run->secondary, &(CaptureStyle){0}, frames, 1);
    run_it(run, "--json", NULL);
    assert_status(run, 0);
    json_object *summary = json_summary(run);
    assert_json_pair(summary, "unparsed-frames", 1, 1);
    assert_json_pair(summary, "cut-frames", 0, 0);
    json_object_put(summary);
}

static void test_compressed(void)
{
    static const char *const programs[] = {"gzip", "zstd"};
    g_autoptr(Run) run = run_new();

    for (guint i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *found = g_find_program_in_path(programs[i]);
        if (found == NULL) {
            g_test_message("%s is missing", programs[i]);
            continue;
        }
        g_setenv("Z", programs[i], TRUE);
        capture_two(run, "HTTP/1.1 200 OK");
        run_shell(run, "$Z -c $P > $P.z && $TOOL $P.z $S");
        assert_status(run, 0);
        run_shell(run, "$TOOL - $S < $P.z");
        assert_status(run, 0);
        run_shell(run, "cat $P.z | $TOOL $S -");
        assert_status(run, 0);
        /* Cut short, and damaged from the begin. */
        run_shell(run, "head -c 60 $P.z > $P.y; $TOOL $P.y $S");
        assert_status(run, 2);
        capture_both(run, "HTTP/1.1 404 NO");
        run_shell(run, "$Z -c $P > $P.z && $TOOL $P.z");
        assert_status(run, 1);
        run_shell(run, "cat $P.z | $TOOL -");
        assert_status(run, 1);
    }
    capture_two(run, "HTTP/1.1 200 OK");
    run_shell(run, "gzip -c $P > $P.z && PATH=/nowhere $TOOL $P.z $S");
    assert_status(run, 2);
    assert_err(run, "gzip can't be run");
}

static void test_standard_input(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 200 OK");
    run_shell(run, "cat $P | $TOOL - $S");
    assert_status(run, 0);
    run_shell(run, "$TOOL $P - < $S");
    assert_status(run, 0);
    run_shell(run, "$TOOL - - < $P");
    assert_status(run, 2);
    assert_err(run, "standard input can be only one");
    run_shell(run, "echo nonsense, at some length | $TOOL - $S");
    assert_status(run, 2);
    assert_err(run, "capture standard input can't be opened");
    capture_both(run, "HTTP/1.1 404 NO");
    run_shell(run, "cat $P | $TOOL -");
    assert_status(run, 1);
}

/* What can't be written has not been told. */
static void test_write_error(void)
{
    g_autoptr(Run) run = run_new();

    capture_two(run, "HTTP/1.1 200 OK");
    run_shell(run, "$TOOL $P $S > /dev/full");
    assert_status(run, 2);
    assert_err(run, "the result can't be written: No space left on device");
    run_shell(run, "$TOOL --quiet $P $S > /dev/full");
    assert_status(run, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("COLO_BUILD") == NULL) {
        puts("1..0 # SKIP COLO_BUILD is not set: run me by tests/run");
        return 0;
    }
    g_test_add_func("/colo-compare-output/frames-and-times", test_frames_and_times);
    g_test_add_func("/colo-compare-output/frames-of-one-file", test_frames_of_one_file);
    g_test_add_func("/colo-compare-output/values", test_values);
    g_test_add_func("/colo-compare-output/how-much", test_how_much);
    g_test_add_func("/colo-compare-output/json-members", test_json_members);
    g_test_add_func("/colo-compare-output/unparsed", test_unparsed);
    g_test_add_func("/colo-compare-output/compressed", test_compressed);
    g_test_add_func("/colo-compare-output/standard-input", test_standard_input);
    g_test_add_func("/colo-compare-output/write-error", test_write_error);
    return g_test_run();
}
