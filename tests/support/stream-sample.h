/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checkpoint streams that are right, and a model of the end that receives them. */
#ifndef COLO_TESTS_STREAM_SAMPLE_H
#define COLO_TESTS_STREAM_SAMPLE_H

#include "checkpoint/stream_internal.h"

#define STREAM_SAMPLE_PAGES 64u
#define STREAM_SAMPLE_ID    "pc.ram"

typedef struct {
    guint8 ram[STREAM_SAMPLE_PAGES * VM_PAGE_SIZE];
    guint64 checkpoints, epoch, frames;
    guint8 complete[STREAM_SAMPLE_PAGES * VM_PAGE_SIZE]; /* RAM at the last END */
} StreamSink;

/* Reads `step` bytes at a time at most, until the stream ends; the error it ends with. */
GError *stream_sample_read(const guint8 *bytes, gsize len, gsize step, StreamSink *sink);

/* A stream, and where its records are. */
typedef struct {
    GByteArray *bytes;
    GArray *records; /* gsize offsets */
    guint8 ram[STREAM_SAMPLE_PAGES * VM_PAGE_SIZE];
} StreamSample;

/* Two checkpoints, of which the second changes little; few pages have data, to keep it short. */
StreamSample *stream_sample_new(void);
/* Four, with packed pages: as they are, lz4 and zstd, with and without differences. */
StreamSample *stream_sample_packed(void);
void stream_sample_free(StreamSample *sample);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamSample, stream_sample_free)

/* Writes a checkpoint that has `count` pages of `ram` from `first` on, half of them twice. */
void stream_sample_checkpoint(StreamWriter *writer, guint64 epoch, const guint8 *ram, guint64 first,
                              guint64 count);
/* Moves what has been written to the end of `to`. */
void stream_sample_take(StreamWriter *writer, GByteArray *to);

#endif
