/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint stream of docs/STREAM.md, as bytes only: a writer that fills a buffer and a reader
 * that turns bytes into records. Neither does I/O of its own or knows what a page is for.
 */
#ifndef COLO_CHECKPOINT_STREAM_INTERNAL_H
#define COLO_CHECKPOINT_STREAM_INTERNAL_H

#include "checkpoint/checkpoint_internal.h"

#define STREAM_MAGIC            "COLOSTRM"
#define STREAM_VERSION          2u
#define STREAM_HEADER_BYTES     28u /* without the id */
#define STREAM_ID_MAX           255u
#define STREAM_RECORD_BYTES     16u
#define STREAM_MANDATORY        1u
#define STREAM_PAYLOAD_MAX      (64u << 20)
#define STREAM_RUN_PAGES        256u
#define STREAM_FRAME_MAX        (256u << 10)
#define STREAM_FRAMES_MAX       CHECKPOINT_FRAMES_MAX
#define STREAM_FRAMES_BYTES_MAX CHECKPOINT_FRAMES_BYTES_MAX

typedef enum {
    STREAM_PAGES = 1,
    STREAM_ZERO,
    STREAM_BEGIN,
    STREAM_DEVICE_STATE,
    STREAM_FRAME,
    STREAM_END,
    STREAM_ATTACHMENT,
    STREAM_SAME,
    STREAM_PACKED,
} StreamType;

/* ---- Writer ---- */

typedef struct StreamWriter StreamWriter;

/* A writer whose output starts with the header. `id` has 1 to STREAM_ID_MAX bytes. */
StreamWriter *stream_writer_new(const char *id, guint64 size_bytes);
void stream_writer_free(StreamWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamWriter, stream_writer_free)

/*
 * Adds a page; neighbours become one record, and zero pages (`data` NULL or all zero) a run of a
 * few bytes. Returns whether it went as a zero page. A guest may be writing to `data` meanwhile:
 * what counts is what was written here.
 */
gboolean stream_writer_page(StreamWriter *writer, guint64 page, const guint8 *data);
void stream_writer_zero_run(StreamWriter *writer, guint64 first, guint64 count);
/* Pages that the reader has already (base.h); before the first END only, each page once, and nothing
 * else of it before. */
void stream_writer_same_run(StreamWriter *writer, guint64 first, guint64 count);
void stream_writer_begin(StreamWriter *writer, guint64 epoch);
/* FALSE with CHECKPOINT_ERROR_STREAM if it is larger than the format allows. */
gboolean stream_writer_device_state(StreamWriter *writer, GBytes *state, GError **error);
gboolean stream_writer_attachment(StreamWriter *writer, GBytes *attachment, GError **error);
gboolean stream_writer_frame(StreamWriter *writer, unsigned nic, GBytes *frame, GError **error);
void stream_writer_end(StreamWriter *writer, guint64 epoch);
/* A record of any type, for those that this version doesn't know. */
void stream_writer_record(StreamWriter *writer, guint type, guint flags, const void *payload,
                          guint32 len);

/*
 * From now on pages are packed so; `keep`: as differences to those that were kept before, where there
 * are such. At first PACK_PLAIN, which every reader knows.
 */
void stream_writer_set_packing(StreamWriter *writer, PackCodec codec, gboolean keep);

/* What packing has come to. */
typedef struct {
    guint64 page_bytes, wire_bytes;
    gint64 us; /* that it took */
} PackSample;

/* Of the last pages that were packed, by the codec that they were packed with; and forgets it. */
PackSample stream_writer_sample(StreamWriter *writer, PackCodec *ret_codec);
/* By how many bytes packing has made the stream shorter since the last call; it may be negative. */
gint64 stream_writer_saved(StreamWriter *writer);

/* The copy that the last stream_writer_page() made, NULL if a zero page; until the next call. */
const guint8 *stream_writer_last_page(const StreamWriter *writer);

/*
 * Closes the run at hand. All bytes written so far and not taken yet; valid until the next call.
 * Whoever takes the bytes calls stream_writer_taken().
 */
const guint8 *stream_writer_bytes(StreamWriter *writer, gsize *ret_len);
void stream_writer_taken(StreamWriter *writer);
/* How many bytes there are, about, without closing the run. */
gsize stream_writer_pending(const StreamWriter *writer);

/* ---- Reader ---- */

typedef struct StreamReader StreamReader;

/*
 * Gives up to `len` bytes (at least 1), 0 at the end of the stream, -1 with an error. May block.
 */
typedef gssize (*StreamSource)(gpointer opaque, guint8 *buf, gsize len, GError **error);

/* One record, checked; of PACKED its runs of pages, each as PAGES. What doesn't belong to its type is 0. */
typedef struct {
    guint type;
    guint64 offset;       /* of its first byte, in the stream */
    guint64 first, count; /* PAGES, ZERO, SAME: within RAM */
    const guint8 *data;   /* PAGES: count pages; valid until the next call */
    guint64 epoch;        /* BEGIN, END */
    unsigned nic;         /* FRAME */
    GBytes *bytes;        /* DEVICE_STATE, ATTACHMENT, FRAME: owned by the receiver */
    guint64 total_bytes;  /* END: bytes of this checkpoint on the wire, */
    guint64 plain_bytes;  /* what these would be, had nothing been packed, */
    guint64 total_pages;  /* and its pages */
} StreamRecord;

/* A reader of the stream for RAM `id` of `size_bytes`. */
StreamReader *stream_reader_new(const char *id, guint64 size_bytes, StreamSource source,
                                gpointer opaque);
void stream_reader_free(StreamReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamReader, stream_reader_free)

/*
 * The next record (the header is read on the way; unknown optional records are skipped). FALSE with
 * an error; a stream that ends is CHECKPOINT_ERROR_IO. After an error every call fails. An END that
 * is returned has been verified.
 */
gboolean stream_reader_next(StreamReader *reader, StreamRecord *ret_record, GError **error);

#endif
