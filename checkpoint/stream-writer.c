/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes the checkpoint stream into a buffer that its user sends and empties.
 *
 * Invariants: `out` holds whole records. At most one PAGES record that still grows follows them
 * (`run_at` >= 0), and nothing while a run of ZERO or SAME grows (`short_count` > 0). Bytes enter the hash when
 * their record is closed, so the hash is always that of `out` up to the open record.
 *
 * Pages that are packed wait in the packer. Other than a PAGES record they may wait beside a run of ZERO
 * or SAME, for records of different pages may change places: pages come behind all that wait (`floor`),
 * else all is closed before.
 */
#include <string.h>
#include <xxhash.h>

#include "checkpoint/pack.h"
#include "checkpoint/stream_internal.h"
#include "common/endian.h"

#define PAGES_HEAD 16u

struct StreamWriter {
    GByteArray *out;
    guint32 number;              /* of the next record */
    guint64 pages;               /* since the last END */
    guint64 frames, frame_bytes; /* likewise */
    XXH3_state_t *hash;          /* since the last END */
    gssize run_at;               /* where in `out` the open PAGES record starts; -1: none */
    guint64 run_first;
    guint32 run_count;
    StreamType short_type;            /* ZERO or SAME: of the open run of pages without data */
    guint64 short_first, short_count; /* 0: there is none */
    const guint8 *last_page;          /* stream_writer_last_page() */
    guint64 ram_pages;
    Packer *packer; /* NULL: nothing was ever packed */
    PackCodec codec;
    gboolean keep;
    guint64 floor; /* pages from here on may join those that wait */
    PackSample sample;
    PackCodec sample_codec;
    gint64 saved;
};

static guint8 *grow(StreamWriter *w, gsize len)
{
    guint at = w->out->len;
    g_byte_array_set_size(w->out, at + (guint)len);
    return w->out->data + at;
}

static void put_head(StreamWriter *w, guint8 *at, guint type, guint flags, guint32 len)
{
    colo_put_be16(at, (guint16)type);
    colo_put_be16(at + 2, (guint16)flags);
    colo_put_be32(at + 4, len);
    colo_put_be32(at + 8, w->number++);
    colo_put_be32(at + 12, (guint32)XXH3_64bits(at, 12));
}

StreamWriter *stream_writer_new(const char *id, guint64 size_bytes)
{
    gsize id_len = strlen(id);
    g_assert(id_len >= 1 && id_len <= STREAM_ID_MAX);
    StreamWriter *w = g_new0(StreamWriter, 1);
    w->out = g_byte_array_sized_new(2u << 20);
    w->run_at = -1;
    w->ram_pages = size_bytes / VM_PAGE_SIZE;
    w->hash = XXH3_createState();
    XXH3_64bits_reset(w->hash);
    guint8 *at = grow(w, STREAM_HEADER_BYTES + id_len);
    memcpy(at, STREAM_MAGIC, 8);
    colo_put_be32(at + 8, STREAM_VERSION);
    colo_put_be32(at + 12, VM_PAGE_SIZE);
    colo_put_be64(at + 16, size_bytes);
    colo_put_be32(at + 24, (guint32)id_len);
    memcpy(at + STREAM_HEADER_BYTES, id, id_len);
    XXH3_64bits_update(w->hash, at, w->out->len);
    return w;
}

void stream_writer_free(StreamWriter *w)
{
    if (!w)
        return;
    g_byte_array_unref(w->out);
    XXH3_freeState(w->hash);
    packer_free(w->packer);
    g_free(w);
}

void stream_writer_record(StreamWriter *w, guint type, guint flags, const void *payload,
                          guint32 len)
{
    stream_writer_bytes(w, NULL);
    guint8 *at = grow(w, STREAM_RECORD_BYTES + (gsize)len);
    put_head(w, at, type, flags, len);
    if (len > 0)
        memcpy(at + STREAM_RECORD_BYTES, payload, len);
    XXH3_64bits_update(w->hash, at, STREAM_RECORD_BYTES + (gsize)len);
}

static void close_pages(StreamWriter *w)
{
    if (w->run_at < 0)
        return;
    guint8 *at = w->out->data + w->run_at;
    gsize len = w->out->len - (gsize)w->run_at;
    w->run_at = -1;
    if (w->run_count == 0) {
        g_byte_array_set_size(w->out, w->out->len - (guint)len);
        return;
    }
    put_head(w, at, STREAM_PAGES, STREAM_MANDATORY, (guint32)(len - STREAM_RECORD_BYTES));
    colo_put_be64(at + STREAM_RECORD_BYTES, w->run_first);
    colo_put_be32(at + STREAM_RECORD_BYTES + 8, w->run_count);
    colo_put_be32(at + STREAM_RECORD_BYTES + 12, 0);
    XXH3_64bits_update(w->hash, at, len);
}

static void close_short(StreamWriter *w)
{
    if (w->short_count == 0)
        return;
    guint8 *at = grow(w, STREAM_RECORD_BYTES + 16);
    put_head(w, at, w->short_type, STREAM_MANDATORY, 16);
    colo_put_be64(at + STREAM_RECORD_BYTES, w->short_first);
    colo_put_be64(at + STREAM_RECORD_BYTES + 8, w->short_count);
    XXH3_64bits_update(w->hash, at, STREAM_RECORD_BYTES + 16);
    w->short_count = 0;
}

static gboolean has_packed(const StreamWriter *w)
{
    return w->packer && packer_count(w->packer) > 0;
}

static void close_packed(StreamWriter *w)
{
    if (!has_packed(w))
        return;
    guint start = w->out->len;
    guint64 page_bytes = (guint64)packer_count(w->packer) * VM_PAGE_SIZE;
    ColoTime before = colo_time_now();
    grow(w, STREAM_RECORD_BYTES + PACK_PAYLOAD_MAX);
    guint8 *at = w->out->data + start;
    gsize plain_bytes;
    gsize len = packer_close(w->packer, w->codec, w->keep, at + STREAM_RECORD_BYTES, &plain_bytes);
    g_byte_array_set_size(w->out, start + STREAM_RECORD_BYTES + (guint)len);
    put_head(w, at, STREAM_PACKED, STREAM_MANDATORY, (guint32)len);
    w->sample_codec = w->codec;
    w->sample.page_bytes += page_bytes;
    w->sample.wire_bytes += STREAM_RECORD_BYTES + len;
    w->sample.us += colo_time_diff_us(colo_time_now(), before);
    w->saved += (gint64)plain_bytes - (gint64)(STREAM_RECORD_BYTES + len);
    XXH3_64bits_update(w->hash, at, STREAM_RECORD_BYTES + len);
}

const guint8 *stream_writer_bytes(StreamWriter *w, gsize *ret_len)
{
    w->last_page = NULL;
    close_pages(w);
    close_packed(w);
    close_short(w);
    if (ret_len)
        *ret_len = w->out->len;
    return w->out->data;
}

void stream_writer_taken(StreamWriter *w)
{
    g_assert(w->run_at < 0 && w->short_count == 0 && !has_packed(w));
    g_byte_array_set_size(w->out, 0);
}

gsize stream_writer_pending(const StreamWriter *w)
{
    return w->out->len + (w->packer ? packer_count(w->packer) * VM_PAGE_SIZE : 0);
}

void stream_writer_set_packing(StreamWriter *w, PackCodec codec, gboolean keep)
{
    if (w->codec == codec && w->keep == keep)
        return;
    stream_writer_bytes(w, NULL);
    w->codec = codec;
    w->keep = keep;
    w->sample = (PackSample){0};
    if (codec != PACK_PLAIN && !w->packer)
        w->packer = packer_new(w->ram_pages);
}

PackSample stream_writer_sample(StreamWriter *w, PackCodec *ret_codec)
{
    PackSample sample = w->sample;
    *ret_codec = w->sample_codec;
    w->sample = (PackSample){0};
    return sample;
}

gint64 stream_writer_saved(StreamWriter *w)
{
    gint64 saved = w->saved;
    w->saved = 0;
    return saved;
}

/* Pages come that may wait beside others only if they are behind them. */
static void keep_order(StreamWriter *w, guint64 first, guint64 count)
{
    if (first < w->floor)
        stream_writer_bytes(w, NULL);
    w->floor = first + count;
}

static void short_run(StreamWriter *w, StreamType type, guint64 first, guint64 count)
{
    w->pages += count;
    w->last_page = NULL;
    close_pages(w);
    keep_order(w, first, count);
    if (w->short_count > 0 && w->short_type == type && w->short_first + w->short_count == first) {
        w->short_count += count;
        return;
    }
    close_short(w);
    w->short_type = type;
    w->short_first = first;
    w->short_count = count;
}

void stream_writer_zero_run(StreamWriter *w, guint64 first, guint64 count)
{
    short_run(w, STREAM_ZERO, first, count);
}

void stream_writer_same_run(StreamWriter *w, guint64 first, guint64 count)
{
    short_run(w, STREAM_SAME, first, count);
}

const guint8 *stream_writer_last_page(const StreamWriter *w)
{
    return w->last_page;
}

/* Makes sure that a PAGES record is open that `page` can be added to. */
static void open_pages(StreamWriter *w, guint64 page)
{
    if (w->run_at >= 0 && w->run_count < STREAM_RUN_PAGES && w->run_first + w->run_count == page)
        return;
    close_pages(w);
    w->run_at = (gssize)w->out->len;
    w->run_first = page;
    w->run_count = 0;
    grow(w, STREAM_RECORD_BYTES + PAGES_HEAD);
}

gboolean stream_writer_page(StreamWriter *w, guint64 page, const guint8 *data)
{
    if (!data || page_is_zero(data)) {
        stream_writer_zero_run(w, page, 1);
        return TRUE;
    }
    w->pages++;
    if (w->codec != PACK_PLAIN) {
        keep_order(w, page, 1);
        if (!packer_takes(w->packer, page))
            close_packed(w);
        w->last_page = packer_add(w->packer, page, data);
        return FALSE;
    }
    close_short(w);
    open_pages(w, page);
    w->last_page = memcpy(grow(w, VM_PAGE_SIZE), data, VM_PAGE_SIZE);
    w->run_count++;
    return FALSE;
}

void stream_writer_begin(StreamWriter *w, guint64 epoch)
{
    guint8 payload[8];
    colo_put_be64(payload, epoch);
    stream_writer_record(w, STREAM_BEGIN, STREAM_MANDATORY, payload, sizeof(payload));
}

static gboolean write_whole(StreamWriter *w, guint type, const char *what, GBytes *bytes,
                            GError **error)
{
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);
    if (len < 1 || len > STREAM_PAYLOAD_MAX) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM,
                    "%s of %" G_GSIZE_FORMAT " bytes can't be sent: 1 to %u are possible", what,
                    len, STREAM_PAYLOAD_MAX);
        return FALSE;
    }
    stream_writer_record(w, type, STREAM_MANDATORY, data, (guint32)len);
    return TRUE;
}

gboolean stream_writer_device_state(StreamWriter *w, GBytes *state, GError **error)
{
    return write_whole(w, STREAM_DEVICE_STATE, "a device state", state, error);
}

gboolean stream_writer_attachment(StreamWriter *w, GBytes *attachment, GError **error)
{
    return write_whole(w, STREAM_ATTACHMENT, "an attachment", attachment, error);
}

gboolean stream_writer_frame(StreamWriter *w, unsigned nic, GBytes *frame, GError **error)
{
    gsize len;
    const void *data = g_bytes_get_data(frame, &len);
    if (len < 1 || len > STREAM_FRAME_MAX) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM,
                    "a frame of %" G_GSIZE_FORMAT " bytes of card %u can't be sent: 1 to %u are "
                    "possible",
                    len, nic, STREAM_FRAME_MAX);
        return FALSE;
    }
    if (w->frames >= STREAM_FRAMES_MAX || len > STREAM_FRAMES_BYTES_MAX - w->frame_bytes) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM,
                    "more held frames than a checkpoint can carry (%u, %u bytes): take checkpoints "
                    "more often, or hold less output",
                    STREAM_FRAMES_MAX, STREAM_FRAMES_BYTES_MAX);
        return FALSE;
    }
    w->frames++;
    w->frame_bytes += len;
    stream_writer_bytes(w, NULL);
    guint8 *at = grow(w, STREAM_RECORD_BYTES + 8 + len);
    put_head(w, at, STREAM_FRAME, STREAM_MANDATORY, (guint32)(8 + len));
    colo_put_be32(at + STREAM_RECORD_BYTES, nic);
    colo_put_be32(at + STREAM_RECORD_BYTES + 4, 0);
    memcpy(at + STREAM_RECORD_BYTES + 8, data, len);
    XXH3_64bits_update(w->hash, at, STREAM_RECORD_BYTES + 8 + len);
    return TRUE;
}

void stream_writer_end(StreamWriter *w, guint64 epoch)
{
    stream_writer_bytes(w, NULL);
    guint8 *at = grow(w, STREAM_RECORD_BYTES + 24);
    put_head(w, at, STREAM_END, STREAM_MANDATORY, 24);
    colo_put_be64(at + STREAM_RECORD_BYTES, epoch);
    colo_put_be64(at + STREAM_RECORD_BYTES + 8, w->pages);
    XXH3_64bits_update(w->hash, at, STREAM_RECORD_BYTES + 16);
    colo_put_be64(at + STREAM_RECORD_BYTES + 16, XXH3_64bits_digest(w->hash));
    XXH3_64bits_reset(w->hash);
    w->pages = w->frames = w->frame_bytes = 0;
}
