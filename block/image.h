/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The image of a disk: a raw file or block device, locked against other processes in QEMU's way.
 * Transfers may have any alignment, also under O_DIRECT. Callers make sure (range lock) that no two
 * changes of the same aligned block run at once. Results are 0 or a negative errno.
 */
#ifndef COLO_BLOCK_IMAGE_H
#define COLO_BLOCK_IMAGE_H

#include "block/file.h"

/* What changes are aligned out to: reading, merging and writing back happens within such a block.
 */
#define IMAGE_BLOCK 4096u

typedef struct {
    BlockFile file;
    char *path;
    guint64 size;
    gint write_error; /* -errno: why the last change to it failed; 0: it did not */
    gint sync_error;  /* sticky: after a failed fdatasync nobody knows what the cache has lost */
    void (*sync_failed)(gpointer data); /* set by the owner: called once, from any thread */
    gpointer sync_failed_data;
} Image;

/* BLOCK_ERROR_IO, _LOCKED, or _CONFIG for a size that O_DIRECT can't take. */
gboolean image_open(Image *image, const DiskConfig *config, const DiskSetOptions *options,
                    GError **error);
void image_close(Image *image);

int image_read(const Image *image, void *buf, gsize len, guint64 offset);
int image_write(const Image *image, const void *buf, gsize len, guint64 offset);
int image_zero(const Image *image, guint64 len, guint64 offset, gboolean may_punch);

/* Zeroes without storage; -EOPNOTSUPP, with nothing changed, if the storage has no such thing. */
int image_punch(const Image *image, guint64 len, guint64 offset);

/* Changes whenever somebody writes to it by its file name, and is never 0. A block device keeps no
 * such record: it always looks the same. */
guint64 image_stamp(const Image *image);

/* A real fdatasync. Once it has failed it fails for ever: data may be lost without a trace. */
int image_sync(Image *image);

/* Writes a range out to the medium, and waits for it; what makes it durable is the next sync. A
 * failure is one of that. */
void image_settle(Image *image, gsize len, guint64 offset);

/* What the page cache has, and the medium perhaps not, is not read any more. Only what still is to
 * be written stays. */
void image_forget_cache(const Image *image);

/* The piece that starts at `offset`: its length (at most `len`) and whether it is a hole. */
int image_extent(const Image *image, guint64 offset, guint64 len, guint64 *ret_len,
                 gboolean *ret_hole);

#endif
