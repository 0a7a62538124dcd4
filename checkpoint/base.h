/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a secondary's RAM holds already when a session begins: its base (docs/STREAM.md). The
 * secondary sends a hash of each of its pages, and the primary's first checkpoint doesn't send the
 * pages that are the same (internal to checkpoint/).
 *
 * Always holds: a page is left out only if its hash is the one that the secondary has told, and
 * nothing was sent of it in this session. The hashes are of 128 bits, with a seed that the secondary
 * draws: a guest can't make two pages that are taken for each other.
 *
 * Nothing here knows of epochs or of earlier sessions: what counts is what is in RAM.
 */
#ifndef COLO_CHECKPOINT_BASE_H
#define COLO_CHECKPOINT_BASE_H

#include "checkpoint/stream_internal.h"

typedef struct Base Base;

/* Takes all of `bytes`, FALSE with an error. May block. */
typedef gboolean (*BaseSink)(gpointer opaque, const guint8 *bytes, gsize len, GError **error);

/*
 * Hashes all pages of `ram` that have memory, and gives them to `sink`, by and by. Nobody writes to
 * RAM meanwhile. Pages without memory are left out: they are zero.
 */
gboolean base_send(const VmRam *ram, guint64 seed, BaseSink sink, gpointer opaque, GError **error);

/*
 * Reads the base of a RAM of `pages` pages, to its last byte and not further. CHECKPOINT_ERROR_*
 * as the stream's reader; a source that ends is CHECKPOINT_ERROR_IO. Memory: 16 bytes for each page
 * that was told.
 */
Base *base_receive(guint64 pages, StreamSource source, gpointer opaque, GError **error);
void base_free(Base *base);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Base, base_free)

/* Whether the secondary has `page` with these contents. */
gboolean base_holds(const Base *base, guint64 page, const guint8 *data);
/* These pages are sent: what the secondary has told of them counts no more. */
void base_forget(Base *base, guint64 first, guint64 count);
/* How many pages were told. */
guint64 base_count(const Base *base);

#endif
