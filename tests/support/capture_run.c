/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/capture_run.h"

#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "netcompare/packet.h"
#include "netcompare/pcapng.h"
#include "tests/support/folder.h"

Run *run_new(void)
{
    Run *run = g_new0(Run, 1);
    run->dir = g_dir_make_tmp("colo-compare-XXXXXX", NULL);
    run->primary = g_build_filename(run->dir, "primary.pcap", NULL);
    run->secondary = g_build_filename(run->dir, "secondary.pcap", NULL);
    return run;
}

void run_free(Run *run)
{
    folder_remove(run->dir);
    g_free(run->dir);
    g_free(run->primary);
    g_free(run->secondary);
    g_free(run->out);
    g_free(run->err);
    g_free(run);
}

void capture_raw(const char *path, const CaptureStyle *style, GBytes *const *frames, guint n)
{
    pcap_t *pcap = pcap_open_dead(style->link != 0 ? style->link : DLT_EN10MB, 262144);
    pcap_dumper_t *dumper = pcap_dump_open(pcap, path);

    g_assert_nonnull(dumper);
    for (guint i = 0; i < n; i++) {
        gsize len;
        const guint8 *data = g_bytes_get_data(frames[i], &len);
        gint64 us = style->start_us + i * style->gap_us;
        struct pcap_pkthdr header = {
            .ts = {CAPTURE_SECOND + us / G_USEC_PER_SEC, us % G_USEC_PER_SEC},
            .caplen = (guint)(style->snaplen != 0 ? MIN(len, style->snaplen) : len),
            .len = (guint)len
        };
        pcap_dump((u_char *)dumper, &header, data);
    }
    pcap_dump_close(dumper);
    pcap_close(pcap);
}

void capture_styled(const char *path, const CaptureStyle *style, const FrameSpec *specs, guint n)
{
    g_autoptr(GPtrArray) frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);

    for (guint i = 0; i < n; i++)
        g_ptr_array_add(frames, netframe_new(&specs[i]));
    capture_raw(path, style, (GBytes *const *)frames->pdata, n);
}

void capture(const char *path, const FrameSpec *specs, guint n)
{
    capture_styled(path, &(CaptureStyle){.gap_us = 1000}, specs, n);
}

FrameSpec capture_tcp(guint8 flags, guint32 seq, const char *text)
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

FrameSpec capture_udp(const void *data, gsize len)
{
    return (FrameSpec){.src = 2,
                       .dst = 1,
                       .proto = PROTO_UDP,
                       .sport = 53,
                       .dport = 4712,
                       .data = data,
                       .len = len};
}

static void run_argv(Run *run, const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    int wait_status;

    g_clear_pointer(&run->out, g_free);
    g_clear_pointer(&run->err, g_free);
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                               &run->out, &run->err, &wait_status, &error));
    g_assert_true(WIFEXITED(wait_status));
    run->status = WEXITSTATUS(wait_status);
}

static char *tool(void)
{
    return g_build_filename(g_getenv("COLO_BUILD"), "colo-compare", NULL);
}

void run_it(Run *run, const char *option, const char *value)
{
    g_autofree char *program = tool();
    const char *argv[7] = {program};
    int argc = 1;

    if (option != NULL)
        argv[argc++] = option;
    if (value != NULL)
        argv[argc++] = value;
    argv[argc++] = run->primary;
    argv[argc++] = run->secondary;
    run_argv(run, argv);
}

void run_shell(Run *run, const char *command)
{
    g_autofree char *program = tool();
    const char *argv[] = {"/bin/sh", "-c", command, NULL};

    g_setenv("TOOL", program, TRUE);
    g_setenv("P", run->primary, TRUE);
    g_setenv("S", run->secondary, TRUE);
    run_argv(run, argv);
}

void assert_out(const Run *run, const char *part)
{
    if (strstr(run->out, part) == NULL)
        g_error("'%s' is not in:\n%s%s", part, run->out, run->err);
}

void assert_err(const Run *run, const char *part)
{
    if (strstr(run->err, part) == NULL)
        g_error("'%s' is not in:\n%s%s", part, run->out, run->err);
}

void assert_status(const Run *run, int status)
{
    if (run->status != status)
        g_error("status %d instead of %d:\n%s%s", run->status, status, run->out, run->err);
}

void assert_bad(Run *run, const char *option, const char *value, const char *message)
{
    run_it(run, option, value);
    assert_status(run, 2);
    assert_err(run, message);
}

/* ---- Captures that many tests take ---- */

/* One VM's connection: with its own initial sequence number and its own cuts. */
void capture_two(Run *run, const char *second_answer)
{
    const FrameSpec primary[] = {capture_tcp(TCP_SYN | TCP_ACK, 100, NULL),
                                 capture_tcp(TCP_ACK, 101, "HTTP/1.1 "),
                                 capture_tcp(TCP_ACK | TCP_FIN, 110, "200 OK")};
    const FrameSpec secondary[] = {
        capture_tcp(TCP_SYN | TCP_ACK, 5000, NULL), capture_tcp(TCP_ACK, 5001, second_answer),
        capture_tcp(TCP_ACK | TCP_FIN, 5001 + (guint32)strlen(second_answer), NULL)};
    capture(run->primary, primary, G_N_ELEMENTS(primary));
    capture(run->secondary, secondary, G_N_ELEMENTS(secondary));
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
void capture_both(const Run *run, const char *second_answer)
{
    static const char *const names[] = {"PVM nic 0", "SVM nic 0", "PVM nic 1", "SVM nic 1"};
    g_autoptr(GByteArray) out = g_byte_array_new();
    pcapng_section(out, "why");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        pcapng_interface(out, names[i]);
    for (guint32 nic = 0; nic < 2; nic++) {
        const char *answer = nic == 0 ? "HTTP/1.1 200 OK" : second_answer;
        add_frame(out, 2 * nic, 1, capture_tcp(TCP_ACK, 101, "HTTP/1.1 "));
        add_frame(out, 2 * nic, 2, capture_tcp(TCP_ACK, 110, "200 OK"));
        add_frame(out, 2 * nic + 1, 3, capture_tcp(TCP_ACK, 101, answer));
    }
    g_assert_true(g_file_set_contents(run->primary, (char *)out->data, (gssize)out->len, NULL));
}

/* ---- JSON ---- */

json_object *json_member(json_object *object, const char *name)
{
    json_object *member = NULL;
    if (!json_object_object_get_ex(object, name, &member))
        g_error("no member %s", name);
    return member;
}

/* The last line; the caller puts it. */
json_object *json_summary(Run *run)
{
    g_auto(GStrv) lines = g_strsplit(g_strchomp(run->out), "\n", -1);
    json_object *object = json_tokener_parse(lines[g_strv_length(lines) - 1]);
    g_assert_nonnull(object);
    return object;
}

void assert_json_pair(json_object *summary, const char *name, int primary, int secondary)
{
    json_object *pair = json_member(summary, name);
    g_assert_cmpint(json_object_get_int(json_member(pair, "primary")), ==, primary);
    g_assert_cmpint(json_object_get_int(json_member(pair, "secondary")), ==, secondary);
}
