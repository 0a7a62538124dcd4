/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the checkpoint stream. The bytes come from a peer and nothing in them is believed before it
 * has been checked. Every rule of docs/STREAM.md is one check here, and its error names the record
 * and its offset.
 *
 * Memory: one buffer of BUFFER_BYTES, in which a PAGES or FRAME record lies whole, and one bit per
 * page until the first END. A device state or attachment grows with the bytes that have arrived,
 * not with the length that was announced. What packed pages need is in pack.h, and is there when the
 * first of them has come.
 *
 * Bytes enter the hash when they are consumed, all but the last 8 of an END.
 */
#include <stdarg.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoint/pack.h"
#include "checkpoint/stream_internal.h"
#include "common/endian.h"

#define BUFFER_BYTES (2u << 20)
#define PAGES_HEAD   16u
#define FRAME_HEAD   8u

struct StreamReader {
    char *id;
    guint64 pages;
    StreamSource source;
    gpointer opaque;
    guint8 *buf;
    gsize pos, end;     /* unread bytes in buf */
    guint64 offset;     /* in the stream, of buf[pos] */
    XXH3_state_t *hash; /* since the last END */
    GError *failed;     /* what the stream ended with */
    gboolean started;   /* the header has been read */
    guint32 number;     /* of the next record */
    /* The record at hand. */
    guint64 record_offset;
    const char *record_name;
    guint32 record_number;
    /* The checkpoint at hand. */
    gboolean begun, has_state, has_attachment, has_epoch;
    guint64 epoch; /* of the last BEGIN */
    guint64 named_pages, frames, frame_bytes, start_offset;
    gint64 saved;       /* bytes, by packing */
    Unpacker *unpacker; /* NULL: nothing packed has come */
    PageSet *missing;   /* until the first END: pages not named yet */
};

StreamReader *stream_reader_new(const char *id, guint64 size_bytes, StreamSource source,
                                gpointer opaque)
{
    StreamReader *r = g_new0(StreamReader, 1);
    r->id = g_strdup(id);
    r->pages = size_bytes / VM_PAGE_SIZE;
    r->source = source;
    r->opaque = opaque;
    r->buf = g_malloc(BUFFER_BYTES);
    r->hash = XXH3_createState();
    XXH3_64bits_reset(r->hash);
    r->missing = page_set_new(r->pages);
    page_set_add_run(r->missing, 0, r->pages);
    r->record_name = "header";
    return r;
}

void stream_reader_free(StreamReader *r)
{
    if (!r)
        return;
    g_free(r->id);
    g_free(r->buf);
    XXH3_freeState(r->hash);
    g_clear_error(&r->failed);
    page_set_free(r->missing);
    unpacker_free(r->unpacker);
    g_free(r);
}

/* Ends the stream with an error about the record at hand. */
G_GNUC_PRINTF(4, 5)
static gboolean bad(StreamReader *r, CheckpointError code, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!r->started)
        r->failed = g_error_new(CHECKPOINT_ERROR, (int)code, "checkpoint stream, header: %s", what);
    else
        r->failed =
            g_error_new(CHECKPOINT_ERROR, (int)code,
                        "checkpoint stream, record %u (%s) at offset %" G_GUINT64_FORMAT ": %s",
                        r->record_number, r->record_name, r->record_offset, what);
    g_propagate_error(error, g_error_copy(r->failed));
    return FALSE;
}

/* Waits until `len` bytes (at most BUFFER_BYTES) lie at buf[pos]. */
static gboolean need(StreamReader *r, gsize len, GError **error)
{
    g_assert(len <= BUFFER_BYTES);
    while (r->end - r->pos < len) {
        if (BUFFER_BYTES - r->pos < len || r->pos == r->end) {
            memmove(r->buf, r->buf + r->pos, r->end - r->pos);
            r->end -= r->pos;
            r->pos = 0;
        }
        gssize got = r->source(r->opaque, r->buf + r->end, BUFFER_BYTES - r->end, &r->failed);
        if (got < 0) {
            g_propagate_error(error, g_error_copy(r->failed));
            return FALSE;
        }
        if (got == 0)
            return bad(r, CHECKPOINT_ERROR_IO, error,
                       "the connection ended after %" G_GUINT64_FORMAT
                       " bytes, with %" G_GSIZE_FORMAT " bytes missing",
                       r->offset + (r->end - r->pos), len - (r->end - r->pos));
        r->end += (gsize)got;
    }
    return TRUE;
}

/* Moves on over `len` bytes that lie in the buffer; returns where they are. */
static const guint8 *consume(StreamReader *r, gsize len, gsize hashed)
{
    const guint8 *at = r->buf + r->pos;
    XXH3_64bits_update(r->hash, at, hashed);
    r->pos += len;
    r->offset += len;
    return at;
}

static gboolean read_header(StreamReader *r, GError **error)
{
    if (!need(r, STREAM_HEADER_BYTES, error))
        return FALSE;
    const guint8 *at = consume(r, STREAM_HEADER_BYTES, STREAM_HEADER_BYTES);
    if (memcmp(at, STREAM_MAGIC, 8) != 0)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "this is no checkpoint stream");
    guint32 version = colo_get_be32(at + 8), page_size = colo_get_be32(at + 12);
    guint64 size = colo_get_be64(at + 16);
    guint32 id_len = colo_get_be32(at + 24);
    if (version != STREAM_VERSION)
        return bad(r, CHECKPOINT_ERROR_VERSION, error,
                   "the peer sends version %u, this side reads version %u: run the same release "
                   "on both hosts",
                   version, STREAM_VERSION);
    if (page_size != VM_PAGE_SIZE)
        return bad(r, CHECKPOINT_ERROR_MISMATCH, error, "pages of %u bytes there, of %u here",
                   page_size, VM_PAGE_SIZE);
    if (size != r->pages * VM_PAGE_SIZE)
        return bad(r, CHECKPOINT_ERROR_MISMATCH, error,
                   "the VM has %" G_GUINT64_FORMAT " bytes of RAM there, %" G_GUINT64_FORMAT
                   " here: give both hosts the same memory",
                   size, r->pages * VM_PAGE_SIZE);
    if (id_len < 1 || id_len > STREAM_ID_MAX)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "a RAM id of %u bytes (1 to %u)", id_len,
                   STREAM_ID_MAX);
    if (!need(r, id_len, error))
        return FALSE;
    const char *id = (const char *)consume(r, id_len, id_len);
    if (strlen(r->id) != id_len || memcmp(id, r->id, id_len) != 0) {
        g_autofree char *theirs = g_strndup(id, id_len);
        g_autofree char *printable = g_strescape(theirs, NULL);
        return bad(r, CHECKPOINT_ERROR_MISMATCH, error, "RAM block '%s' there, '%s' here",
                   printable, r->id);
    }
    r->started = TRUE;
    return TRUE;
}

static const struct {
    const char *name;
    guint32 min, max; /* of the payload */
} known[] = {
    [STREAM_PAGES] = {"PAGES",        PAGES_HEAD + VM_PAGE_SIZE,
                      PAGES_HEAD + STREAM_RUN_PAGES *VM_PAGE_SIZE                             },
    [STREAM_ZERO] = {"ZERO",         16,                        16                           },
    [STREAM_BEGIN] = {"BEGIN",        8,                         8                            },
    [STREAM_DEVICE_STATE] = {"DEVICE_STATE", 1,                         STREAM_PAYLOAD_MAX           },
    [STREAM_FRAME] = {"FRAME",        FRAME_HEAD + 1,            FRAME_HEAD + STREAM_FRAME_MAX},
    [STREAM_END] = {"END",          24,                        24                           },
    [STREAM_ATTACHMENT] = {"ATTACHMENT",   1,                         STREAM_PAYLOAD_MAX           },
    [STREAM_SAME] = {"SAME",         16,                        16                           },
    [STREAM_PACKED] = {"PACKED",       PACK_PAYLOAD_MIN,          PACK_PAYLOAD_MAX             },
};

static gboolean is_known(guint type)
{
    return type < G_N_ELEMENTS(known) && known[type].name;
}

/* Reads and checks a record's first 16 bytes. */
static gboolean read_head(StreamReader *r, guint *ret_type, guint32 *ret_len, GError **error)
{
    r->record_offset = r->offset;
    r->record_number = r->number;
    r->record_name = "its header";
    if (!need(r, STREAM_RECORD_BYTES, error))
        return FALSE;
    const guint8 *at = consume(r, STREAM_RECORD_BYTES, STREAM_RECORD_BYTES);
    guint type = colo_get_be16(at), flags = colo_get_be16(at + 2);
    guint32 len = colo_get_be32(at + 4), number = colo_get_be32(at + 8);
    if (colo_get_be32(at + 12) != (guint32)XXH3_64bits(at, 12))
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "damaged");
    r->record_name = is_known(type) ? known[type].name : "unknown";
    if (number != r->number)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "its number is %u: records were lost, repeated or moved", number);
    if (flags & ~STREAM_MANDATORY)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "unknown flags 0x%04x", flags);
    if (!is_known(type) && (flags & STREAM_MANDATORY))
        return bad(r, CHECKPOINT_ERROR_VERSION, error,
                   "type %u is mandatory and unknown here: run the same release on both hosts",
                   type);
    if (is_known(type) && !(flags & STREAM_MANDATORY))
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "not marked as mandatory");
    guint32 min = is_known(type) ? known[type].min : 0;
    guint32 max = is_known(type) ? known[type].max : STREAM_PAYLOAD_MAX;
    if (len < min || len > max)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "a length of %u bytes is impossible (%u to %u)", len, min, max);
    r->number++;
    *ret_type = type;
    *ret_len = len;
    return TRUE;
}

static gboolean name_pages(StreamReader *r, StreamRecord *record, GError **error)
{
    if (record->count < 1 || record->first >= r->pages || record->count > r->pages - record->first)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "pages %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                   " of a RAM of %" G_GUINT64_FORMAT,
                   record->first, record->count, r->pages);
    /* Can't wrap in practice, but a hostile peer may try with ZERO runs. */
    if (r->named_pages > G_MAXUINT64 - record->count)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "too many pages in one checkpoint");
    r->named_pages += record->count;
    if (r->missing)
        page_set_remove_run(r->missing, record->first, record->count);
    return TRUE;
}

static gboolean read_pages(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    /* The head first, so that nonsense is found before its data is waited for. */
    if (!need(r, PAGES_HEAD, error))
        return FALSE;
    const guint8 *at = r->buf + r->pos;
    record->first = colo_get_be64(at);
    record->count = colo_get_be32(at + 8);
    if (record->count < 1 || record->count > STREAM_RUN_PAGES ||
        PAGES_HEAD + record->count * VM_PAGE_SIZE != len || colo_get_be32(at + 12) != 0)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "%" G_GUINT64_FORMAT " pages in a payload of %u bytes", record->count, len);
    if (!name_pages(r, record, error) || !need(r, len, error))
        return FALSE;
    record->data = consume(r, len, len) + PAGES_HEAD;
    return TRUE;
}

/* The next run of packed pages, as PAGES; FALSE: there is none. */
static gboolean next_unpacked(StreamReader *r, StreamRecord *record)
{
    if (!r->unpacker || !unpacker_next(r->unpacker, &record->first, &record->count, &record->data))
        return FALSE;
    record->type = STREAM_PAGES;
    record->offset = r->record_offset;
    return TRUE;
}

static gboolean read_packed(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!need(r, len, error))
        return FALSE;
    if (!r->unpacker)
        r->unpacker = unpacker_new(r->pages);
    const char *wrong = unpacker_open(r->unpacker, consume(r, len, len), len);
    if (wrong)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "%s", wrong);
    r->saved -= (gint64)(STREAM_RECORD_BYTES + len);
    while (next_unpacked(r, record)) {
        r->saved += (gint64)(STREAM_RECORD_BYTES + PAGES_HEAD + record->count * VM_PAGE_SIZE);
        if (!name_pages(r, record, error))
            return FALSE;
    }
    unpacker_rewind(r->unpacker);
    return next_unpacked(r, record);
}

static gboolean read_zero(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!need(r, len, error))
        return FALSE;
    const guint8 *at = consume(r, len, len);
    record->first = colo_get_be64(at);
    record->count = colo_get_be64(at + 8);
    return name_pages(r, record, error);
}

/* Pages that RAM has already: nothing may have been named of them before. */
static gboolean read_same(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!need(r, len, error))
        return FALSE;
    const guint8 *at = consume(r, len, len);
    record->first = colo_get_be64(at);
    record->count = colo_get_be64(at + 8);
    if (!r->missing)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "after the first checkpoint");
    guint64 before = page_set_count(r->missing);
    if (!name_pages(r, record, error))
        return FALSE;
    if (before - page_set_count(r->missing) != record->count)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "some of its pages have come before");
    return TRUE;
}

static gboolean read_begin(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!need(r, len, error))
        return FALSE;
    record->epoch = colo_get_be64(consume(r, len, len));
    if (r->begun)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "a second one before END");
    if (r->has_epoch && record->epoch != r->epoch + 1)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "epoch %" G_GUINT64_FORMAT " after epoch %" G_GUINT64_FORMAT, record->epoch,
                   r->epoch);
    r->begun = r->has_epoch = TRUE;
    r->epoch = record->epoch;
    return TRUE;
}

/* What may come once per checkpoint; `*has`: it has come. */
static gboolean read_once(StreamReader *r, gboolean *has, guint32 len, StreamRecord *record,
                          GError **error)
{
    if (!r->begun || *has)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   r->begun ? "a second one before END" : "before BEGIN");
    *has = TRUE;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    while (bytes->len < len) {
        if (!need(r, 1, error))
            return FALSE;
        gsize part = MIN(r->end - r->pos, (gsize)(len - bytes->len));
        g_byte_array_append(bytes, consume(r, part, part), (guint)part);
    }
    record->bytes = g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
    return TRUE;
}

static gboolean read_frame(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!r->begun)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "before BEGIN");
    r->frames++;
    r->frame_bytes += len - FRAME_HEAD;
    if (r->frames > STREAM_FRAMES_MAX || r->frame_bytes > STREAM_FRAMES_BYTES_MAX)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "too many held frames (at most %u, %u bytes)",
                   STREAM_FRAMES_MAX, STREAM_FRAMES_BYTES_MAX);
    if (!need(r, len, error))
        return FALSE;
    const guint8 *at = consume(r, len, len);
    if (colo_get_be32(at + 4) != 0)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "its reserved field is not 0");
    record->nic = colo_get_be32(at);
    record->bytes = g_bytes_new(at + FRAME_HEAD, len - FRAME_HEAD);
    return TRUE;
}

static gboolean read_end(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    if (!need(r, len, error))
        return FALSE;
    const guint8 *at = consume(r, len, len - 8);
    record->epoch = colo_get_be64(at);
    guint64 pages = colo_get_be64(at + 8), hash = colo_get_be64(at + 16);
    if (!r->begun || !r->has_state)
        return bad(r, CHECKPOINT_ERROR_STREAM, error, "without %s",
                   r->begun ? "DEVICE_STATE" : "BEGIN");
    if (record->epoch != r->epoch)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "epoch %" G_GUINT64_FORMAT " in the checkpoint of epoch %" G_GUINT64_FORMAT,
                   record->epoch, r->epoch);
    if (hash != XXH3_64bits_digest(r->hash))
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "the checkpoint of epoch %" G_GUINT64_FORMAT " is damaged: its hash differs",
                   r->epoch);
    if (pages != r->named_pages)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "it counts %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT " have come", pages,
                   r->named_pages);
    if (r->missing && page_set_count(r->missing) > 0)
        return bad(r, CHECKPOINT_ERROR_STREAM, error,
                   "the first checkpoint lacks %" G_GUINT64_FORMAT " pages of RAM",
                   page_set_count(r->missing));
    g_clear_pointer(&r->missing, page_set_free);
    record->total_bytes = r->offset - r->start_offset;
    record->plain_bytes = (guint64)((gint64)record->total_bytes + r->saved);
    record->total_pages = pages;
    XXH3_64bits_reset(r->hash);
    r->begun = r->has_state = r->has_attachment = FALSE;
    r->named_pages = r->frames = r->frame_bytes = 0;
    r->saved = 0;
    r->start_offset = r->offset;
    return TRUE;
}

static gboolean skip(StreamReader *r, guint32 len, GError **error)
{
    while (len > 0) {
        if (!need(r, 1, error))
            return FALSE;
        gsize part = MIN(r->end - r->pos, len);
        consume(r, part, part);
        len -= (guint32)part;
    }
    return TRUE;
}

static gboolean read_payload(StreamReader *r, guint32 len, StreamRecord *record, GError **error)
{
    switch (record->type) {
    case STREAM_PAGES:
        return read_pages(r, len, record, error);
    case STREAM_PACKED:
        return read_packed(r, len, record, error);
    case STREAM_ZERO:
        return read_zero(r, len, record, error);
    case STREAM_SAME:
        return read_same(r, len, record, error);
    case STREAM_BEGIN:
        return read_begin(r, len, record, error);
    case STREAM_DEVICE_STATE:
        return read_once(r, &r->has_state, len, record, error);
    case STREAM_ATTACHMENT:
        return read_once(r, &r->has_attachment, len, record, error);
    case STREAM_FRAME:
        return read_frame(r, len, record, error);
    case STREAM_END:
        return read_end(r, len, record, error);
    default:
        return skip(r, len, error);
    }
}

gboolean stream_reader_next(StreamReader *r, StreamRecord *ret_record, GError **error)
{
    if (r->failed) {
        g_propagate_error(error, g_error_copy(r->failed));
        return FALSE;
    }
    if (!r->started && !read_header(r, error))
        return FALSE;
    StreamRecord record = {0};
    if (next_unpacked(r, &record)) {
        *ret_record = record;
        return TRUE;
    }
    do {
        record = (StreamRecord){0};
        guint32 len = 0;
        if (!read_head(r, &record.type, &len, error))
            return FALSE;
        record.offset = r->record_offset;
        if (!read_payload(r, len, &record, error))
            return FALSE;
    } while (!is_known(record.type));
    *ret_record = record;
    return TRUE;
}
