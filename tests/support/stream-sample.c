/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/stream-sample.h"
#include "tests/support/bytes-reader.h"

#include <string.h>

#include "common/endian.h"

#define PAGES STREAM_SAMPLE_PAGES
#define ID    STREAM_SAMPLE_ID

GError *stream_sample_read(const guint8 *bytes, gsize len, gsize step, StreamSink *sink)
{
    BytesReader from = {.bytes = bytes, .len = len, .step = step};
    g_autoptr(StreamReader) reader =
        stream_reader_new(ID, PAGES * VM_PAGE_SIZE, bytes_reader_read, &from);
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

void stream_sample_free(StreamSample *sample)
{
    g_byte_array_unref(sample->bytes);
    g_array_unref(sample->records);
    g_free(sample);
}
void stream_sample_take(StreamWriter *writer, GByteArray *to)
{
    gsize len;
    const guint8 *bytes = stream_writer_bytes(writer, &len);
    g_byte_array_append(to, bytes, (guint)len);
    stream_writer_taken(writer);
}

void stream_sample_checkpoint(StreamWriter *writer, guint64 epoch, const guint8 *ram, guint64 first,
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

static StreamSample *sample_begin(void)
{
    StreamSample *sample = g_new0(StreamSample, 1);
    sample->bytes = g_byte_array_new();
    sample->records = g_array_new(FALSE, FALSE, sizeof(gsize));
    return sample;
}

static StreamSample *sample_end(StreamSample *sample, StreamWriter *writer)
{
    stream_sample_take(writer, sample->bytes);
    gsize at = STREAM_HEADER_BYTES + strlen(ID);
    while (at < sample->bytes->len) {
        g_array_append_val(sample->records, at);
        at += STREAM_RECORD_BYTES + colo_get_be32(sample->bytes->data + at + 4);
    }
    g_assert_cmpuint(at, ==, sample->bytes->len);
    return sample;
}

StreamSample *stream_sample_new(void)
{
    StreamSample *sample = sample_begin();
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    memset(sample->ram + 5 * VM_PAGE_SIZE, 1, VM_PAGE_SIZE);
    stream_sample_checkpoint(writer, 7, sample->ram, 0, PAGES);
    memset(sample->ram + 9 * VM_PAGE_SIZE, 2, VM_PAGE_SIZE);
    stream_sample_checkpoint(writer, 8, sample->ram, 8, 4);
    return sample_end(sample, writer);
}

StreamSample *stream_sample_packed(void)
{
    static const struct {
        PackCodec codec;
        gboolean keep;
    } ways[] = {
        {PACK_LZ4,   FALSE},
        {PACK_LZ4,   TRUE },
        {PACK_ZSTD,  TRUE },
        {PACK_PLAIN, FALSE}
    };
    StreamSample *sample = sample_begin();
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        for (guint page = 5; page < 9; page++)
            sample->ram[page * VM_PAGE_SIZE + 100 * i] = (guint8)(page + i);
        stream_writer_set_packing(writer, ways[i].codec, ways[i].keep);
        stream_sample_checkpoint(writer, 7 + i, sample->ram, i ? 4 : 0, i ? 6 : PAGES);
    }
    return sample_end(sample, writer);
}
