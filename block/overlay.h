/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volatile overlay of a replica: the local VM's own writes since the last checkpoint, in an
 * unnamed sparse file, in blocks of IMAGE_BLOCK bytes. A write of part of a block first copies the
 * rest of it from the image, which doesn't change while the overlay has blocks.
 *
 * Any thread, but no two writes to one block at once (range lock), and no reset during reads or
 * writes.
 */
#ifndef COLO_BLOCK_OVERLAY_H
#define COLO_BLOCK_OVERLAY_H

#include "block/image.h"

typedef struct {
    BlockFile file;
    const Image *image; /* what lies below, borrowed */
    guint16 *blocks;    /* for each chunk: which of its blocks are here */
    GArray *chunks;     /* of guint64: those with any */
    GMutex chunks_mutex;
    gint64 n_blocks; /* atomic */
} Overlay;

gboolean overlay_open(Overlay *overlay, const Image *image, const char *dir,
                      const DiskSetOptions *options, GError **error);
void overlay_close(Overlay *overlay);

/* 0 or a negative errno. */
int overlay_read(const Overlay *overlay, void *buf, gsize len, guint64 offset);
int overlay_write(Overlay *overlay, const void *buf, gsize len, guint64 offset);
int overlay_zero(Overlay *overlay, guint64 len, guint64 offset);

/* Forgets every block and gives the space back. */
int overlay_reset(Overlay *overlay);

guint64 overlay_bytes(const Overlay *overlay);

/* Calls `run` for each run of blocks that are here, cut at the disk's end and at chunk bounds, with
 * their contents. Stops at a non-zero result and returns it. Nobody may write meanwhile. */
typedef int (*OverlayRun)(guint64 offset, const void *buf, gsize len, gpointer user_data);
int overlay_foreach(const Overlay *overlay, OverlayRun run, gpointer user_data);

#endif
