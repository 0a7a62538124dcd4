/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams that are made wrong on purpose, with checks and hashes that are right: each ends with an
 * error that names the record, and with bounded memory.
 */
#include <glib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/endian.h"
#include "tests/support/stream-sample.h"

#define PAGES STREAM_SAMPLE_PAGES
#define ID    STREAM_SAMPLE_ID

/* Mends the check of the record head at `at`. */
static void mend(guint8 *at)
{
    colo_put_be32(at + 12, (guint32)XXH3_64bits(at, 12));
}

static void expect(const GByteArray *bytes, CheckpointError code, const char *words)
{
    g_autofree StreamSink *sink = g_new0(StreamSink, 1);
    g_autoptr(GError) error = stream_sample_read(bytes->data, bytes->len, G_MAXSIZE, sink);
    g_assert_error(error, CHECKPOINT_ERROR, (int)code);
    if (!strstr(error->message, words))
        g_error("'%s' does not say '%s'", error->message, words);
}

/* A record lost, repeated, or swapped with the next one. */
static void test_records_moved(void)
{
    g_autoptr(StreamSample) sample = stream_sample_new();
    const guint8 *bytes = sample->bytes->data;
    for (guint i = 0; i + 1 < sample->records->len; i++) {
        gsize at = g_array_index(sample->records, gsize, i);
        gsize next = g_array_index(sample->records, gsize, i + 1);
        gsize after = i + 2 < sample->records->len ? g_array_index(sample->records, gsize, i + 2)
                                                   : sample->bytes->len;
        g_autofree char *named = g_strdup_printf("its number is %u", i + 1);
        g_autoptr(GByteArray) lost = g_byte_array_new();
        g_byte_array_append(lost, bytes, (guint)at);
        g_byte_array_append(lost, bytes + next, sample->bytes->len - (guint)next);
        expect(lost, CHECKPOINT_ERROR_STREAM, named);
        g_autoptr(GByteArray) swapped = g_byte_array_new();
        g_byte_array_append(swapped, bytes, (guint)at);
        g_byte_array_append(swapped, bytes + next, (guint)(after - next));
        g_byte_array_append(swapped, bytes + at, (guint)(next - at));
        g_byte_array_append(swapped, bytes + after, sample->bytes->len - (guint)after);
        expect(swapped, CHECKPOINT_ERROR_STREAM, named);
        g_autoptr(GByteArray) repeated = g_byte_array_new();
        g_byte_array_append(repeated, bytes, (guint)next);
        g_byte_array_append(repeated, bytes + at, sample->bytes->len - (guint)at);
        g_autofree char *again = g_strdup_printf("its number is %u", i);
        expect(repeated, CHECKPOINT_ERROR_STREAM, again);
    }
}

typedef struct {
    StreamWriter *writer;
    GByteArray *bytes;
} Wrong;

static Wrong wrong_new(void)
{
    return (Wrong){.writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE),
                   .bytes = g_byte_array_new()};
}

/* A whole first checkpoint, of zeros. */
static void wrong_checkpoint(Wrong *wrong, guint64 epoch)
{
    g_autoptr(GBytes) state = g_bytes_new_static("x", 1);
    stream_writer_zero_run(wrong->writer, 0, PAGES);
    stream_writer_begin(wrong->writer, epoch);
    g_assert_true(stream_writer_device_state(wrong->writer, state, NULL));
    stream_writer_end(wrong->writer, epoch);
}

static void wrong_expect(Wrong *wrong, CheckpointError code, const char *words)
{
    stream_sample_take(wrong->writer, wrong->bytes);
    expect(wrong->bytes, code, words);
    stream_writer_free(wrong->writer);
    g_byte_array_unref(wrong->bytes);
}

static void test_epochs(void)
{
    static const guint64 second[] = {0, 4, 5, 7, G_MAXUINT64};
    for (gsize i = 0; i < G_N_ELEMENTS(second); i++) {
        Wrong wrong = wrong_new();
        wrong_checkpoint(&wrong, 5);
        wrong_checkpoint(&wrong, second[i]);
        wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "after epoch 5");
    }
    Wrong wrong = wrong_new();
    stream_writer_begin(wrong.writer, 5);
    stream_writer_begin(wrong.writer, 6);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "record 1 (BEGIN) at offset 58: a second one");
}

static void test_order(void)
{
    g_autoptr(GBytes) state = g_bytes_new_static("x", 1);
    Wrong wrong = wrong_new();
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "(DEVICE_STATE) at offset 34: before BEGIN");
    wrong = wrong_new();
    g_assert_true(stream_writer_frame(wrong.writer, 0, state, NULL));
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "(FRAME) at offset 34: before BEGIN");
    wrong = wrong_new();
    stream_writer_end(wrong.writer, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "without BEGIN");
    wrong = wrong_new();
    stream_writer_begin(wrong.writer, 1);
    stream_writer_end(wrong.writer, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "without DEVICE_STATE");
    wrong = wrong_new();
    stream_writer_begin(wrong.writer, 1);
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "a second one");
    wrong = wrong_new();
    stream_writer_zero_run(wrong.writer, 0, PAGES - 1);
    stream_writer_begin(wrong.writer, 1);
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    stream_writer_end(wrong.writer, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "lacks 1 pages");
    wrong = wrong_new();
    stream_writer_zero_run(wrong.writer, 0, PAGES);
    stream_writer_begin(wrong.writer, 1);
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    stream_writer_end(wrong.writer, 2);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "epoch 2 in the checkpoint of epoch 1");
}

static void test_page_numbers(void)
{
    static const struct {
        guint64 first, count;
    } runs[] = {
        {PAGES,              1          },
        {0,                  PAGES + 1  },
        {PAGES - 1,          2          },
        {0,                  0          },
        {G_MAXUINT64,        1          },
        {1,                  G_MAXUINT64},
        {G_MAXUINT64,        G_MAXUINT64},
        {G_MAXUINT64 / 4096, 1          },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(runs); i++) {
        Wrong wrong = wrong_new();
        guint8 payload[16 + VM_PAGE_SIZE] = {0};
        colo_put_be64(payload, runs[i].first);
        colo_put_be64(payload + 8, runs[i].count);
        stream_writer_record(wrong.writer, STREAM_ZERO, STREAM_MANDATORY, payload, 16);
        wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "(ZERO)");
        wrong = wrong_new();
        colo_put_be32(payload + 8, (guint32)runs[i].count);
        colo_put_be32(payload + 12, 0);
        stream_writer_record(wrong.writer, STREAM_PAGES, STREAM_MANDATORY, payload,
                             sizeof(payload));
        wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "(PAGES)");
    }
}

static void test_types_and_flags(void)
{
    Wrong wrong = wrong_new();
    stream_writer_record(wrong.writer, 16, STREAM_MANDATORY, "x", 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_VERSION, "type 16 is mandatory and unknown");
    wrong = wrong_new();
    stream_writer_record(wrong.writer, 16, 2, "x", 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "unknown flags 0x0002");
    wrong = wrong_new();
    stream_writer_record(wrong.writer, STREAM_BEGIN, 0, "12345678", 8);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "not marked as mandatory");
    wrong = wrong_new();
    stream_writer_record(wrong.writer, 0, STREAM_MANDATORY, NULL, 0);
    wrong_expect(&wrong, CHECKPOINT_ERROR_VERSION, "type 0");
    wrong = wrong_new();
    g_autofree guint8 *payload = g_malloc0(100000);
    for (guint i = 0; i < 100; i++) /* skipped, whatever their size */
        stream_writer_record(wrong.writer, 16 + i, 0, payload, i * 1000);
    wrong_checkpoint(&wrong, 1);
    stream_writer_record(wrong.writer, 16, STREAM_MANDATORY, NULL, 0);
    wrong_expect(&wrong, CHECKPOINT_ERROR_VERSION, "record 104 (unknown)");
}

/* What the reader has already is named once, in the first checkpoint, and nothing of it before. */
static void test_same(void)
{
    g_autoptr(GBytes) state = g_bytes_new_static("x", 1);
    Wrong wrong = wrong_new();
    stream_writer_same_run(wrong.writer, 0, PAGES - 2);
    stream_writer_same_run(wrong.writer, PAGES - 2, 1);
    stream_writer_zero_run(wrong.writer, PAGES - 1, 1);
    stream_writer_begin(wrong.writer, 1);
    g_assert_true(stream_writer_device_state(wrong.writer, state, NULL));
    stream_writer_end(wrong.writer, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_IO, "record 5 (its header)");

    wrong = wrong_new();
    wrong_checkpoint(&wrong, 1);
    stream_writer_same_run(wrong.writer, 3, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "(SAME) at offset");
    wrong = wrong_new();
    stream_writer_zero_run(wrong.writer, 7, 1);
    stream_writer_same_run(wrong.writer, 6, 3);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "some of its pages have come before");
    wrong = wrong_new();
    stream_writer_same_run(wrong.writer, 6, 3);
    stream_writer_begin(wrong.writer, 1);
    stream_writer_same_run(wrong.writer, 8, 1);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "some of its pages have come before");
    wrong = wrong_new();
    stream_writer_same_run(wrong.writer, PAGES - 1, 2);
    wrong_expect(&wrong, CHECKPOINT_ERROR_STREAM, "of a RAM of 64");
}

static guint64 resident_bytes(void)
{
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_auto(GStrv) fields = g_strsplit(text, " ", 0);
    return g_ascii_strtoull(fields[1], NULL, 10) * (guint64)sysconf(_SC_PAGESIZE);
}

/* Lengths that can't be are refused at the header; those that can cost nothing until they arrive.
 */
static void test_hostile_lengths(void)
{
    static const guint32 lengths[] = {0,
                                      7,
                                      9,
                                      17,
                                      4096,
                                      (1u << 20) + 17,
                                      STREAM_PAYLOAD_MAX,
                                      STREAM_PAYLOAD_MAX + 1,
                                      G_MAXINT32,
                                      G_MAXUINT32};
    guint64 before = resident_bytes();
    for (guint type = 0; type <= 20; type++) {
        for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
            Wrong wrong = wrong_new();
            stream_writer_begin(wrong.writer, 1);
            stream_sample_take(wrong.writer, wrong.bytes);
            guint8 head[STREAM_RECORD_BYTES + 16] = {0};
            colo_put_be16(head, (guint16)type);
            colo_put_be16(head + 2, type >= 1 && type <= 6 ? STREAM_MANDATORY : 0);
            colo_put_be32(head + 4, lengths[i]);
            colo_put_be32(head + 8, 1);
            mend(head);
            g_byte_array_append(wrong.bytes, head, sizeof(head));
            g_autofree StreamSink *sink = g_new0(StreamSink, 1);
            g_autoptr(GError) error =
                stream_sample_read(wrong.bytes->data, wrong.bytes->len, G_MAXSIZE, sink);
            g_assert_true(error->domain == CHECKPOINT_ERROR);
            g_assert_cmpuint(sink->checkpoints, ==, 0);
            stream_writer_free(wrong.writer);
            g_byte_array_unref(wrong.bytes);
        }
    }
    /* Not one of the 64 MiB that were promised more than a hundred times was taken. */
    g_assert_cmpuint(resident_bytes(), <, before + (48u << 20));
}

static void test_header(void)
{
    static const struct {
        gsize at;
        guint8 value;
        CheckpointError code;
        const char *words;
    } cases[] = {
        {0,  'X', CHECKPOINT_ERROR_STREAM,   "no checkpoint stream"                },
        {11, 3,   CHECKPOINT_ERROR_VERSION,  "version 3, this side reads version 2"},
        {14, 0,   CHECKPOINT_ERROR_MISMATCH, "pages of 0 bytes there"              },
        {16, 1,   CHECKPOINT_ERROR_MISMATCH, "bytes of RAM there"                  },
        {27, 0,   CHECKPOINT_ERROR_STREAM,   "RAM id of 0 bytes"                   },
        {26, 1,   CHECKPOINT_ERROR_STREAM,   "RAM id of 262 bytes"                 },
        {28, 'q', CHECKPOINT_ERROR_MISMATCH, "'qc.ram' there, 'pc.ram' here"       },
        {27, 5,   CHECKPOINT_ERROR_MISMATCH, "'pc.ra' there"                       },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(StreamSample) sample = stream_sample_new();
        sample->bytes->data[cases[i].at] = cases[i].value;
        expect(sample->bytes, cases[i].code, cases[i].words);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/records-moved", test_records_moved);
    g_test_add_func("/stream/epochs", test_epochs);
    g_test_add_func("/stream/order", test_order);
    g_test_add_func("/stream/page-numbers", test_page_numbers);
    g_test_add_func("/stream/types-and-flags", test_types_and_flags);
    g_test_add_func("/stream/same", test_same);
    g_test_add_func("/stream/hostile-lengths", test_hostile_lengths);
    g_test_add_func("/stream/header", test_header);
    return g_test_run();
}
