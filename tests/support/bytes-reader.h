/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes in memory, read as from a connection: a read function of streams (checkpoint/). */
#ifndef COLO_TESTS_SUPPORT_BYTES_READER_H
#define COLO_TESTS_SUPPORT_BYTES_READER_H

#include <glib.h>
#include <string.h>

typedef struct {
    const guint8 *bytes;
    gsize len, at;
    gsize step; /* so many at a time at most; 0: as many as are asked for */
} BytesReader;

static inline gssize bytes_reader_read(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    BytesReader *from = opaque;
    (void)error;
    gsize n = MIN(MIN(len, from->len - from->at), from->step ? from->step : len);
    memcpy(buf, from->bytes + from->at, n);
    from->at += n;
    return (gssize)n;
}

#endif
