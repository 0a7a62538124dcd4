/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream's writer and reader (docs/STREAM.md): what is written is read, and what is broken on its
 * way is an error.
 */
#include <glib.h>
#include <string.h>

#include "common/endian.h"
#include "tests/support/stream-sample.h"

#define PAGES STREAM_SAMPLE_PAGES
#define ID    STREAM_SAMPLE_ID

static void test_round_trip(void)
{
    g_autoptr(StreamSample) sample = stream_sample_new();
    static const gsize steps[] = {1, 7, 4096, G_MAXSIZE};
    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree StreamSink *sink = g_new0(StreamSink, 1);
        g_autoptr(GError) error =
            stream_sample_read(sample->bytes->data, sample->bytes->len, steps[i], sink);
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
        g_assert_cmpuint(sink->checkpoints, ==, 2);
        g_assert_cmpuint(sink->epoch, ==, 8);
        g_assert_cmpuint(sink->frames, ==, 2);
        g_assert_cmpmem(sink->complete, sizeof(sink->complete), sample->ram, sizeof(sample->ram));
    }
}

/* Random contents, through records of every size. */
static void test_random_round_trips(void)
{
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree guint8 *ram = g_malloc0(PAGES * VM_PAGE_SIZE);
    for (guint64 epoch = 1; epoch <= 100; epoch++) {
        for (int i = 0; i < 20; i++) {
            guint8 *page = ram + g_test_rand_int_range(0, PAGES) * VM_PAGE_SIZE;
            if (g_test_rand_bit())
                page[g_test_rand_int_range(0, VM_PAGE_SIZE)] = (guint8)g_test_rand_int();
            else
                memset(page, 0, VM_PAGE_SIZE);
        }
        stream_sample_checkpoint(writer, epoch, ram, 0, PAGES);
        stream_sample_take(writer, bytes);
    }
    g_autofree StreamSink *sink = g_new0(StreamSink, 1);
    g_autoptr(GError) error = stream_sample_read(bytes->data, bytes->len, 10000, sink);
    g_assert_cmpuint(sink->checkpoints, ==, 100);
    g_assert_cmpmem(sink->complete, sizeof(sink->complete), ram, PAGES * VM_PAGE_SIZE);
}

/* Zero pages cost a few bytes, in runs, and runs of data share a record. */
static void test_size(void)
{
    g_autofree guint8 *ram = g_malloc0(PAGES * VM_PAGE_SIZE);
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    gsize len;
    stream_writer_bytes(writer, &len);
    stream_writer_taken(writer);
    for (guint page = 0; page < PAGES; page++)
        g_assert_true(stream_writer_page(writer, page, ram + page * VM_PAGE_SIZE));
    stream_writer_bytes(writer, &len);
    g_assert_cmpuint(len, ==, STREAM_RECORD_BYTES + 16);
    stream_writer_taken(writer);
    memset(ram, 1, PAGES * VM_PAGE_SIZE);
    for (guint page = 0; page < PAGES; page++)
        g_assert_false(stream_writer_page(writer, page, ram + page * VM_PAGE_SIZE));
    stream_writer_bytes(writer, &len);
    g_assert_cmpuint(len, ==, STREAM_RECORD_BYTES + 16 + PAGES * VM_PAGE_SIZE);
}

/* Wherever the stream ends, only whole checkpoints count. */
static void test_truncated_anywhere(void)
{
    g_autoptr(StreamSample) sample = stream_sample_new();
    gsize first_end = 0;
    for (guint i = 0; i < sample->records->len; i++) {
        gsize at = g_array_index(sample->records, gsize, i);
        if (!first_end && colo_get_be16(sample->bytes->data + at) == STREAM_END)
            first_end = at + STREAM_RECORD_BYTES + 24;
    }
    for (gsize len = 0; len < sample->bytes->len; len++) {
        g_autofree StreamSink *sink = g_new0(StreamSink, 1);
        g_autoptr(GError) error = stream_sample_read(sample->bytes->data, len, G_MAXSIZE, sink);
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
        g_assert_cmpuint(sink->checkpoints, ==, len >= first_end ? 1 : 0);
    }
}

/* Every single bit: an error, never a checkpoint with other contents. */
static void test_flipped_bits(void)
{
    g_autoptr(StreamSample) sample = stream_sample_new();
    guint8 *bytes = sample->bytes->data;
    guint64 tried = 0;
    for (gsize at = 0; at < sample->bytes->len; at++) {
        /* In page data, one byte of 64 is enough: the hash sees all alike. */
        if (at > 400 && at % 64 && (bytes[at] == bytes[at - 1] && bytes[at] <= 2))
            continue;
        for (int bit = 0; bit < 8; bit++, tried++) {
            g_autofree StreamSink *sink = g_new0(StreamSink, 1);
            bytes[at] ^= (guint8)(1 << bit);
            g_autoptr(GError) error =
                stream_sample_read(bytes, sample->bytes->len, G_MAXSIZE, sink);
            bytes[at] ^= (guint8)(1 << bit);
            if (sink->checkpoints == 2)
                g_error("bit %d of byte %" G_GSIZE_FORMAT " was not noticed", bit, at);
        }
    }
    g_assert_cmpuint(tried, >, 5000);
}

/* The writer refuses what the reader would. */
static void test_writer_limits(void)
{
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) none = g_bytes_new(NULL, 0);
    g_assert_false(stream_writer_device_state(writer, none, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_clear_error(&error);
    g_autoptr(GBytes) large =
        g_bytes_new_take(g_malloc0(STREAM_FRAME_MAX + 1), STREAM_FRAME_MAX + 1);
    g_assert_false(stream_writer_frame(writer, 2, large, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_assert_nonnull(strstr(error->message, "card 2"));
    g_clear_error(&error);
    g_autoptr(GBytes) largest = g_bytes_new_take(g_malloc0(STREAM_FRAME_MAX), STREAM_FRAME_MAX);
    for (guint64 sent = 0; sent < STREAM_FRAMES_BYTES_MAX; sent += STREAM_FRAME_MAX) {
        g_assert_true(stream_writer_frame(writer, 2, largest, &error));
        stream_writer_bytes(writer, NULL);
        stream_writer_taken(writer);
    }
    g_assert_false(stream_writer_frame(writer, 2, largest, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_clear_error(&error);
    stream_writer_end(writer, 1); /* the next checkpoint may have as many */
    g_assert_true(stream_writer_frame(writer, 2, largest, &error));
    g_assert_no_error(error);
}

/* ---- The fuzzer's seeds ---- */

/* What has no pages with data is small, and mutates well. */
static GByteArray *seed_of_zeros(void)
{
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    g_autofree guint8 *ram = g_malloc0(PAGES * VM_PAGE_SIZE);
    GByteArray *bytes = g_byte_array_new();
    stream_sample_checkpoint(writer, 1, ram, 0, PAGES);
    stream_sample_checkpoint(writer, 2, ram, 3, 4);
    stream_sample_checkpoint(writer, 3, ram, 60, 4);
    stream_sample_take(writer, bytes);
    return bytes;
}

/*
 * The seeds are streams of this version: a writer that comes to write other bytes needs another
 * version. COLO_WRITE_SEEDS=1 writes them anew.
 */
static GByteArray *seed_of(const char *name, const GByteArray *stream)
{
    const char *tests = g_getenv("COLO_TESTS");
    g_autofree char *path = g_build_filename(tests, "fuzz", "corpus", "stream", name, NULL);
    static const guint8 mode = 1; /* see fuzz-stream.c */
    g_autoptr(GByteArray) seed = g_byte_array_new();
    g_byte_array_append(seed, &mode, 1);
    g_byte_array_append(seed, stream->data, stream->len);
    g_autoptr(GError) error = NULL;
    if (g_getenv("COLO_WRITE_SEEDS"))
        g_file_set_contents(path, (const char *)seed->data, seed->len, &error);
    g_assert_no_error(error);
    char *there = NULL;
    gsize len;
    g_file_get_contents(path, &there, &len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(len, >, 1);
    return g_byte_array_new_take((guint8 *)there, len);
}

static void check_seed(const char *name, const GByteArray *stream)
{
    g_autoptr(GByteArray) there = seed_of(name, stream);
    g_assert_cmpmem(there->data + 1, there->len - 1, stream->data, stream->len);
}

/* What a codec makes of pages differs from version to version. But each reads the others'. */
static void check_packed_seed(void)
{
    g_autoptr(StreamSample) packed = stream_sample_packed();
    g_autoptr(GByteArray) there = seed_of("packed", packed->bytes);
    g_autofree StreamSink *sink = g_new0(StreamSink, 1);
    g_autoptr(GError) error = stream_sample_read(there->data + 1, there->len - 1, G_MAXSIZE, sink);
    g_assert_cmpuint(sink->checkpoints, ==, 4);
    g_assert_cmpmem(sink->complete, sizeof(sink->complete), packed->ram, sizeof(packed->ram));
}

static void test_seeds(void)
{
    if (!g_getenv("COLO_TESTS")) {
        g_test_skip("COLO_TESTS does not say where the tests' folder is");
        return;
    }
    g_autoptr(StreamSample) sample = stream_sample_new();
    g_autoptr(GByteArray) zeros = seed_of_zeros();
    check_seed("two-checkpoints", sample->bytes);
    check_seed("zeros", zeros);
    check_packed_seed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/round-trip", test_round_trip);
    g_test_add_func("/stream/random-round-trips", test_random_round_trips);
    g_test_add_func("/stream/size", test_size);
    g_test_add_func("/stream/truncated-anywhere", test_truncated_anywhere);
    g_test_add_func("/stream/flipped-bits", test_flipped_bits);
    g_test_add_func("/stream/writer-limits", test_writer_limits);
    g_test_add_func("/stream/seeds", test_seeds);
    return g_test_run();
}
