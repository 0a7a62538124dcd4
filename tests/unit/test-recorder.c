/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netcompare/recorder.h"

#include <glib/gstdio.h>
#include <pcap/pcap.h>
#include <string.h>
#include <unistd.h>

#include "netcompare/packet.h"
#include "netcompare/pcapng.h"
#include "tests/support/folder.h"
#include "tests/support/netframe.h"

typedef struct {
    char *dir, *file;
    guint written, failed;
    char *path; /* the last one written */
    GError *error;
    Recorder *recorder;
} Fixture;

static void on_written(const char *path, const GError *error, gpointer user_data)
{
    Fixture *fixture = user_data;
    if (error) {
        fixture->failed++;
        fixture->error = g_error_copy(error);
        return;
    }
    fixture->written++;
    g_free(fixture->path);
    fixture->path = g_strdup(path);
}

static void start(Fixture *fixture, guint last)
{
    g_autoptr(GError) error = NULL;
    fixture->recorder = recorder_new(fixture->file, last, on_written, fixture, &error);
    g_assert_no_error(error);
}

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    fixture->dir = g_dir_make_tmp("test-recorder-XXXXXX", NULL);
    fixture->file = g_build_filename(fixture->dir, "web.pcapng", NULL);
    start(fixture, 3);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    recorder_free(fixture->recorder);
    folder_remove(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->file);
    g_free(fixture->path);
    g_clear_error(&fixture->error);
}

static GBytes *make_frame(guint16 sport, gsize len, guint8 fill, gboolean partial)
{
    g_autofree guint8 *data = g_malloc(len);
    memset(data, fill, len);
    FrameSpec spec = {.vnet = TRUE,
                      .vnet_flags = partial,
                      .src = 2,
                      .dst = 1,
                      .proto = PROTO_UDP,
                      .sport = sport,
                      .dport = 4711,
                      .data = data,
                      .len = len};
    GBytes *frame = netframe_new(&spec);
    if (!partial)
        return frame;
    gsize size;
    g_autofree guint8 *bytes = g_bytes_unref_to_data(frame, &size);
    bytes[6] = 14 + 20; /* csum_start: of the UDP header */
    bytes[8] = 6;       /* csum_offset */
    return g_bytes_new(bytes, size);
}

static CompareDivergence difference(GBytes *frame, guint64 epoch)
{
    Packet packet;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, TRUE, 0, &packet);
    return (CompareDivergence){.reason = COMPARE_PAYLOAD,
                               .key = packet.key,
                               .epoch = epoch,
                               .when = {1000},
                               .offset = 5,
                               .detail = "other bytes",
                               .primary = {0xab},
                               .primary_len = 1};
}

/* Records one pair of frames of `epoch` that differ, and has it written. */
static void diverge(Fixture *fixture, guint64 epoch)
{
    g_autoptr(GBytes) ours = make_frame(53, 20, 1, FALSE), theirs = make_frame(53, 20, 2, FALSE);
    CompareDivergence d = difference(ours, epoch);
    recorder_primary(fixture->recorder, 0, epoch, ours, (ColoTime){900});
    recorder_secondary(fixture->recorder, 0, epoch, theirs, (ColoTime){950});
    recorder_diverged(fixture->recorder, &d);
    recorder_flush(fixture->recorder);
}

static void wait_for(const guint *counter, guint value)
{
    while (*counter < value)
        g_main_context_iteration(NULL, TRUE);
}

/* The frames that libpcap finds in a file. */
static GPtrArray *frames_in(const char *path)
{
    char why[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *header;
    const guint8 *data;
    int result;
    pcap_t *pcap = pcap_open_offline(path, why);
    if (!pcap)
        g_error("%s: %s", path, why);
    g_assert_cmpint(pcap_datalink(pcap), ==, DLT_EN10MB);
    GPtrArray *frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    while ((result = pcap_next_ex(pcap, &header, &data)) == 1) {
        g_assert_cmpuint(header->caplen, ==, header->len);
        /* The wall clock's time, not the monotonic one. */
        g_assert_cmpint(header->ts.tv_sec, >, 1600000000);
        g_ptr_array_add(frames, g_bytes_new(data, header->caplen));
    }
    g_assert_cmpint(result, ==, PCAP_ERROR_BREAK);
    pcap_close(pcap);
    return frames;
}

static gboolean is_frame(GPtrArray *frames, guint at, GBytes *frame)
{
    g_autoptr(GBytes) plain = g_bytes_new_from_bytes(frame, 12, g_bytes_get_size(frame) - 12);
    return g_bytes_equal(g_ptr_array_index(frames, at), plain);
}

/* Of all that was said, the flow's in this epoch, until the next checkpoint. */
static void test_what_is_kept(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autoptr(GBytes) p = make_frame(53, 100, 1, FALSE), s = make_frame(53, 100, 2, FALSE);
    g_autoptr(GBytes) other = make_frame(54, 100, 1, FALSE), later = make_frame(53, 9, 7, FALSE);
    CompareDivergence d = difference(p, 8);
    recorder_primary(fixture->recorder, 0, 7, later, (ColoTime){1});
    recorder_primary(fixture->recorder, 0, 8, other, (ColoTime){2});
    recorder_primary(fixture->recorder, 1, 8, p, (ColoTime){2});
    recorder_primary(fixture->recorder, 0, 8, p, (ColoTime){3});
    recorder_secondary(fixture->recorder, 0, 8, s, (ColoTime){4});
    recorder_diverged(fixture->recorder, &d);
    recorder_primary(fixture->recorder, 0, 8, later, (ColoTime){2000});
    recorder_primary(fixture->recorder, 0, 9, p, (ColoTime){3000});
    recorder_flush(fixture->recorder);
    wait_for(&fixture->written, 1);
    g_assert_true(g_str_has_suffix(fixture->path, "/web-000001.pcapng"));
    g_autoptr(GPtrArray) frames = frames_in(fixture->path);
    g_assert_cmpuint(frames->len, ==, 3);
    g_assert_true(is_frame(frames, 0, p));
    g_assert_true(is_frame(frames, 1, s));
    g_assert_true(is_frame(frames, 2, later));
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(fixture->path, &bytes, &len, NULL));
    static const char *const words[] = {"PVM nic 0",
                                        "SVM nic 0",
                                        "(payload): other bytes",
                                        "udp 10.0.0.2:53 -> 10.0.0.1:4711",
                                        "epoch: 8",
                                        "offset: 5 bytes",
                                        "primary: ab",
                                        "secondary: nothing"};
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        g_assert_nonnull(memmem(bytes, len, words[i], strlen(words[i])));
    /* Flushed again, there is nothing to write. */
    recorder_flush(fixture->recorder);
    diverge(fixture, 10);
    wait_for(&fixture->written, 2);
    g_assert_cmpuint(recorder_stats(fixture->recorder)->written, ==, 2);
}

/* A checksum left to the card is finished; a super-frame is whole. */
static void test_offloads(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autoptr(GBytes) odd = make_frame(53, 101, 5, TRUE), big = make_frame(53, 65000, 6, TRUE);
    CompareDivergence d = difference(odd, 1);
    recorder_primary(fixture->recorder, 0, 1, odd, (ColoTime){1});
    recorder_primary(fixture->recorder, 0, 1, big, (ColoTime){2});
    recorder_diverged(fixture->recorder, &d);
    recorder_flush(fixture->recorder);
    wait_for(&fixture->written, 1);
    g_autoptr(GPtrArray) frames = frames_in(fixture->path);
    g_assert_cmpuint(frames->len, ==, 2);
    for (guint i = 0; i < 2; i++) {
        gsize len;
        const guint8 *frame = g_bytes_get_data(g_ptr_array_index(frames, i), &len);
        g_assert_true(netframe_checksums_ok(frame, len, FALSE));
    }
}

static guint count_files(const Fixture *fixture)
{
    guint count = 0;
    g_autoptr(GDir) dir = g_dir_open(fixture->dir, 0, NULL);
    while (g_dir_read_name(dir))
        count++;
    return count;
}

/* The last three stay; numbers go on over restarts, and what is somebody else's stays. */
static void test_rotation(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autofree char *alien = g_build_filename(fixture->dir, "web-000001.pcapng.bak", NULL);
    g_autofree char *first = g_build_filename(fixture->dir, "web-000001.pcapng", NULL);
    g_autofree char *fourth = g_build_filename(fixture->dir, "web-000004.pcapng", NULL);
    g_assert_true(g_file_set_contents(alien, "", 0, NULL));
    for (guint i = 1; i <= 5; i++) {
        diverge(fixture, i);
        wait_for(&fixture->written, i);
    }
    g_assert_cmpuint(count_files(fixture), ==, 4);
    g_assert_false(g_file_test(first, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(alien, G_FILE_TEST_EXISTS));
    recorder_free(fixture->recorder);
    start(fixture, 2);
    diverge(fixture, 6);
    wait_for(&fixture->written, 6);
    g_assert_true(g_str_has_suffix(fixture->path, "/web-000006.pcapng"));
    g_assert_cmpuint(count_files(fixture), ==, 3);
    g_assert_false(g_file_test(fourth, G_FILE_TEST_EXISTS));
}

/* Whatever is recorded, a file is no larger than it may be, and has the newest. */
static void test_bounds(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autoptr(GBytes) big = make_frame(53, 60000, 1, FALSE),
                      newest = make_frame(53, 60000, 2, FALSE);
    CompareDivergence d = difference(big, 1);
    for (guint i = 0; i < 1000; i++)
        recorder_primary(fixture->recorder, 0, 1, big, (ColoTime){i});
    recorder_secondary(fixture->recorder, 0, 1, newest, (ColoTime){1000});
    recorder_diverged(fixture->recorder, &d);
    recorder_flush(fixture->recorder);
    wait_for(&fixture->written, 1);
    g_autoptr(GPtrArray) frames = frames_in(fixture->path);
    g_assert_cmpuint(frames->len, ==, RECORDER_FILE_BYTES / g_bytes_get_size(big));
    g_assert_true(is_frame(frames, frames->len - 1, newest));
}

/* Differences that come faster than files can be written are counted. */
static void test_storm(Fixture *fixture, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 100; i++)
        diverge(fixture, i);
    const RecorderStats *stats = recorder_stats(fixture->recorder);
    while (stats->written + stats->left_out < 100)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(stats->written, >=, 4);
    g_assert_cmpuint(stats->written, ==, fixture->written);
}

/* A folder that goes away, or a full disk: said once, and nothing is recorded any more. */
static void test_write_error(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_rmdir(fixture->dir), ==, 0);
    diverge(fixture, 1);
    diverge(fixture, 2);
    wait_for(&fixture->failed, 1);
    g_assert_error(fixture->error, RECORDER_ERROR, RECORDER_ERROR_WRITE);
    g_assert_nonnull(strstr(fixture->error->message, fixture->dir));
    diverge(fixture, 3);
    g_assert_cmpuint(recorder_stats(fixture->recorder)->left_out, >=, 2);
    g_assert_cmpuint(fixture->failed, ==, 1);
}

static void expect_refused(const char *file, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(recorder_new(file, 1, on_written, NULL, &error));
    g_assert_error(error, RECORDER_ERROR, RECORDER_ERROR_PATH);
    if (!strstr(error->message, text))
        g_error("'%s' doesn't say '%s'", error->message, text);
}

static void test_bad_paths(void)
{
    expect_refused("web.pcapng", "not the absolute path");
    expect_refused("/tmp/", "not the absolute path");
    expect_refused("/tmp/.pcapng", "not the absolute path");
    expect_refused("/nowhere/at/all.pcapng", "/nowhere/at");
    expect_refused("/dev/null/x.pcapng", "/dev/null");
}

/* Freed at any moment, also while a file is being written. */
static void test_freed_early(Fixture *fixture, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 20; i++) {
        diverge(fixture, i);
        recorder_free(fixture->recorder);
        start(fixture, 3);
    }
    diverge(fixture, 99);
    wait_for(&fixture->written, 1);
    g_assert_cmpuint(fixture->written, ==, 1);
}

/* Texts longer than the format has room for are cut, between characters. */
static void test_long_text(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autoptr(GString) text = g_string_new("x");
    while (text->len < 70000)
        g_string_append(text, "\303\244");
    g_autoptr(GByteArray) out = g_byte_array_new();
    pcapng_section(out, text->str);
    pcapng_interface(out, "one");
    pcapng_packet(out, 0, G_GINT64_CONSTANT(1700000000000000), (const guint8 *)"abc", 3, text->str);
    g_assert_cmpuint(out->len % 4, ==, 0);
    g_assert_true(g_file_set_contents(fixture->file, (char *)out->data, (gssize)out->len, NULL));
    g_autoptr(GPtrArray) frames = frames_in(fixture->file);
    g_assert_cmpuint(frames->len, ==, 1);
    g_assert_cmpuint(g_bytes_get_size(g_ptr_array_index(frames, 0)), ==, 3);
}

#define ADD(name, function)                                                                        \
    g_test_add("/recorder/" name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("what-is-kept", test_what_is_kept);
    ADD("offloads", test_offloads);
    ADD("rotation", test_rotation);
    ADD("bounds", test_bounds);
    ADD("storm", test_storm);
    ADD("write-error", test_write_error);
    ADD("freed-early", test_freed_early);
    ADD("long-text", test_long_text);
    g_test_add_func("/recorder/bad-paths", test_bad_paths);
    return g_test_run();
}
