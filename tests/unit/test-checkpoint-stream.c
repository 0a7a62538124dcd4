/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream's writer and reader (docs/STREAM.md): what is written is read; every broken stream
 * ends with an error that names the record, and with bounded memory.
 */
#include <glib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "checkpoint/stream_internal.h"
#include "common/endian.h"

#define PAGES 64u
#define ID    "pc.ram"

/* ---- A model of the receiving end ---- */

typedef struct {
    guint8 ram[PAGES * VM_PAGE_SIZE];
    guint64 checkpoints, epoch, frames;
    guint8 complete[PAGES * VM_PAGE_SIZE]; /* RAM at the last END */
} Sink;

/* Bytes to be read, `step` at a time at most. */
typedef struct {
    const guint8 *bytes;
    gsize len, at, step;
} Bytes;

static gssize read_bytes(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    Bytes *from = opaque;
    (void)error;
    gsize n = MIN(MIN(len, from->len - from->at), from->step);
    memcpy(buf, from->bytes + from->at, n);
    from->at += n;
    return (gssize)n;
}

/* Reads until the stream ends; the error it ends with. */
static GError *consume(const guint8 *bytes, gsize len, gsize step, Sink *sink)
{
    Bytes from = {.bytes = bytes, .len = len, .step = step};
    g_autoptr(StreamReader) reader = stream_reader_new(ID, PAGES * VM_PAGE_SIZE, read_bytes, &from);
    GError *error = NULL;
    StreamRecord record;
    while (stream_reader_next(reader, &record, &error)) {
        g_assert_cmpuint(record.first + record.count, <=, PAGES);
        guint8 *at = sink->ram + record.first * VM_PAGE_SIZE;
        if (record.type == STREAM_PAGES)
            memcpy(at, record.data, record.count * VM_PAGE_SIZE);
        else if (record.type == STREAM_ZERO)
            memset(at, 0, record.count * VM_PAGE_SIZE);
        sink->frames += record.type == STREAM_FRAME;
        if (record.type == STREAM_END) {
            sink->checkpoints++;
            sink->epoch = record.epoch;
            memcpy(sink->complete, sink->ram, sizeof(sink->ram));
        }
        g_clear_pointer(&record.bytes, g_bytes_unref);
    }
    g_autoptr(GError) again = NULL;
    g_assert_false(stream_reader_next(reader, &record, &again));
    g_assert_cmpstr(again->message, ==, error->message);
    return error;
}

/* ---- A valid stream, and where its records are ---- */

typedef struct {
    GByteArray *bytes;
    GArray *records; /* gsize offsets */
    guint8 ram[PAGES * VM_PAGE_SIZE];
} Sample;

static void sample_free(Sample *sample)
{
    g_byte_array_unref(sample->bytes);
    g_array_unref(sample->records);
    g_free(sample);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sample, sample_free)

static void take_bytes(StreamWriter *writer, GByteArray *to)
{
    gsize len;
    const guint8 *bytes = stream_writer_bytes(writer, &len);
    g_byte_array_append(to, bytes, (guint)len);
    stream_writer_taken(writer);
}

static void write_checkpoint(StreamWriter *writer, guint64 epoch, const guint8 *ram, guint64 first,
                             guint64 count)
{
    for (guint64 page = first; page < first + count / 2; page++)
        stream_writer_page(writer, page, ram + page * VM_PAGE_SIZE);
    stream_writer_begin(writer, epoch);
    for (guint64 page = first; page < first + count; page++)
        stream_writer_page(writer, page, ram + page * VM_PAGE_SIZE);
    g_autoptr(GBytes) state = g_bytes_new_static("device state", 12);
    g_autoptr(GBytes) frame = g_bytes_new_static("frame", 5);
    g_assert_true(stream_writer_device_state(writer, state, NULL));
    g_assert_true(stream_writer_frame(writer, 3, frame, NULL));
    stream_writer_record(writer, 17, 0, "optional", 8);
    stream_writer_end(writer, epoch);
}

/* Two checkpoints, of which the second changes little; few pages have data, to keep it short. */
static Sample *sample_new(void)
{
    Sample *sample = g_new0(Sample, 1);
    sample->bytes = g_byte_array_new();
    sample->records = g_array_new(FALSE, FALSE, sizeof(gsize));
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    memset(sample->ram + 5 * VM_PAGE_SIZE, 1, VM_PAGE_SIZE);
    write_checkpoint(writer, 7, sample->ram, 0, PAGES);
    memset(sample->ram + 9 * VM_PAGE_SIZE, 2, VM_PAGE_SIZE);
    write_checkpoint(writer, 8, sample->ram, 8, 4);
    take_bytes(writer, sample->bytes);
    gsize at = STREAM_HEADER_BYTES + strlen(ID);
    while (at < sample->bytes->len) {
        g_array_append_val(sample->records, at);
        at += STREAM_RECORD_BYTES + colo_get_be32(sample->bytes->data + at + 4);
    }
    g_assert_cmpuint(at, ==, sample->bytes->len);
    return sample;
}

/* ---- Tests ---- */

static void test_round_trip(void)
{
    g_autoptr(Sample) sample = sample_new();
    static const gsize steps[] = {1, 7, 4096, G_MAXSIZE};
    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree Sink *sink = g_new0(Sink, 1);
        g_autoptr(GError) error = consume(sample->bytes->data, sample->bytes->len, steps[i], sink);
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
        write_checkpoint(writer, epoch, ram, 0, PAGES);
        take_bytes(writer, bytes);
    }
    g_autofree Sink *sink = g_new0(Sink, 1);
    g_autoptr(GError) error = consume(bytes->data, bytes->len, 10000, sink);
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
    g_autoptr(Sample) sample = sample_new();
    gsize first_end = 0;
    for (guint i = 0; i < sample->records->len; i++) {
        gsize at = g_array_index(sample->records, gsize, i);
        if (!first_end && colo_get_be16(sample->bytes->data + at) == STREAM_END)
            first_end = at + STREAM_RECORD_BYTES + 24;
    }
    for (gsize len = 0; len < sample->bytes->len; len++) {
        g_autofree Sink *sink = g_new0(Sink, 1);
        g_autoptr(GError) error = consume(sample->bytes->data, len, G_MAXSIZE, sink);
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
        g_assert_cmpuint(sink->checkpoints, ==, len >= first_end ? 1 : 0);
    }
}

/* Every single bit: an error, never a checkpoint with other contents. */
static void test_flipped_bits(void)
{
    g_autoptr(Sample) sample = sample_new();
    guint8 *bytes = sample->bytes->data;
    guint64 tried = 0;
    for (gsize at = 0; at < sample->bytes->len; at++) {
        /* In page data, one byte of 64 is enough: the hash sees all alike. */
        if (at > 400 && at % 64 && (bytes[at] == bytes[at - 1] && bytes[at] <= 2))
            continue;
        for (int bit = 0; bit < 8; bit++, tried++) {
            g_autofree Sink *sink = g_new0(Sink, 1);
            bytes[at] ^= (guint8)(1 << bit);
            g_autoptr(GError) error = consume(bytes, sample->bytes->len, G_MAXSIZE, sink);
            bytes[at] ^= (guint8)(1 << bit);
            if (sink->checkpoints == 2)
                g_error("bit %d of byte %" G_GSIZE_FORMAT " was not noticed", bit, at);
        }
    }
    g_assert_cmpuint(tried, >, 5000);
}

/* ---- Streams that are made wrong on purpose, with checks and hashes that are right ---- */

/* Mends the check of the record head at `at`. */
static void mend(guint8 *at)
{
    colo_put_be32(at + 12, (guint32)XXH3_64bits(at, 12));
}

static void expect(const GByteArray *bytes, CheckpointError code, const char *words)
{
    g_autofree Sink *sink = g_new0(Sink, 1);
    g_autoptr(GError) error = consume(bytes->data, bytes->len, G_MAXSIZE, sink);
    g_assert_error(error, CHECKPOINT_ERROR, (int)code);
    if (!strstr(error->message, words))
        g_error("'%s' does not say '%s'", error->message, words);
}

/* A record lost, repeated, or swapped with the next one. */
static void test_records_moved(void)
{
    g_autoptr(Sample) sample = sample_new();
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
    take_bytes(wrong->writer, wrong->bytes);
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
            take_bytes(wrong.writer, wrong.bytes);
            guint8 head[STREAM_RECORD_BYTES + 16] = {0};
            colo_put_be16(head, (guint16)type);
            colo_put_be16(head + 2, type >= 1 && type <= 6 ? STREAM_MANDATORY : 0);
            colo_put_be32(head + 4, lengths[i]);
            colo_put_be32(head + 8, 1);
            mend(head);
            g_byte_array_append(wrong.bytes, head, sizeof(head));
            g_autofree Sink *sink = g_new0(Sink, 1);
            g_autoptr(GError) error = consume(wrong.bytes->data, wrong.bytes->len, G_MAXSIZE, sink);
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
        g_autoptr(Sample) sample = sample_new();
        sample->bytes->data[cases[i].at] = cases[i].value;
        expect(sample->bytes, cases[i].code, cases[i].words);
    }
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
    write_checkpoint(writer, 1, ram, 0, PAGES);
    write_checkpoint(writer, 2, ram, 3, 4);
    write_checkpoint(writer, 3, ram, 60, 4);
    take_bytes(writer, bytes);
    return bytes;
}

/*
 * The seeds are streams of this version: a writer that comes to write other bytes needs another
 * version. COLO_WRITE_SEEDS=1 writes them anew.
 */
static void check_seed(const char *name, const GByteArray *stream)
{
    const char *tests = g_getenv("COLO_TESTS");
    if (!tests) {
        g_test_skip("COLO_TESTS does not say where the tests' folder is");
        return;
    }
    g_autofree char *path = g_build_filename(tests, "fuzz", "corpus", "stream", name, NULL);
    g_autoptr(GByteArray) seed = g_byte_array_new();
    static const guint8 mode = 1; /* see fuzz-stream.c */
    g_byte_array_append(seed, &mode, 1);
    g_byte_array_append(seed, stream->data, stream->len);
    g_autoptr(GError) error = NULL;
    if (g_getenv("COLO_WRITE_SEEDS"))
        g_file_set_contents(path, (const char *)seed->data, seed->len, &error);
    g_assert_no_error(error);
    g_autofree char *there = NULL;
    gsize len;
    g_file_get_contents(path, &there, &len, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(there, len, seed->data, seed->len);
}

static void test_seeds(void)
{
    g_autoptr(Sample) sample = sample_new();
    g_autoptr(GByteArray) zeros = seed_of_zeros();
    check_seed("two-checkpoints", sample->bytes);
    check_seed("zeros", zeros);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/round-trip", test_round_trip);
    g_test_add_func("/stream/random-round-trips", test_random_round_trips);
    g_test_add_func("/stream/size", test_size);
    g_test_add_func("/stream/truncated-anywhere", test_truncated_anywhere);
    g_test_add_func("/stream/flipped-bits", test_flipped_bits);
    g_test_add_func("/stream/records-moved", test_records_moved);
    g_test_add_func("/stream/epochs", test_epochs);
    g_test_add_func("/stream/order", test_order);
    g_test_add_func("/stream/page-numbers", test_page_numbers);
    g_test_add_func("/stream/types-and-flags", test_types_and_flags);
    g_test_add_func("/stream/same", test_same);
    g_test_add_func("/stream/hostile-lengths", test_hostile_lengths);
    g_test_add_func("/stream/header", test_header);
    g_test_add_func("/stream/writer-limits", test_writer_limits);
    g_test_add_func("/stream/seeds", test_seeds);
    return g_test_run();
}
