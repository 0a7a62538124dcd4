/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of a disk set. Every change to a file passes here. So a test can let the storage fail, or
 * the process die, at any one of them (BlockFaultHook). Results are 0 or a negative errno.
 */
#ifndef COLO_BLOCK_FILE_H
#define COLO_BLOCK_FILE_H

#include "block/block.h"

typedef struct {
    int fd;
    char *name; /* base name, for messages and the hook */
    BlockFaultHook fault;
    gpointer fault_data;
    gboolean direct; /* O_DIRECT: transfers must be aligned, see image.c */
} BlockFile;

#define BLOCK_FILE_NONE ((BlockFile){.fd = -1})

/* Opens `path` for reading and writing. A missing file is made if `create`. BLOCK_ERROR_IO. */
gboolean block_file_open(BlockFile *file, const char *path, gboolean create, gboolean direct,
                         const DiskSetOptions *options, GError **error);

/* An unnamed file in `dir`, gone with its descriptor. */
gboolean block_file_open_unnamed(BlockFile *file, const char *dir, const char *name,
                                 const DiskSetOptions *options, GError **error);
void block_file_close(BlockFile *file);

/* Whole transfers. Reading past the end gives zeroes. */
int block_file_read(const BlockFile *file, void *buf, gsize len, guint64 offset);
int block_file_write(const BlockFile *file, const void *buf, gsize len, guint64 offset);

/* Makes a range read as zeroes; with `punch` and support for it, without storage behind it. */
int block_file_zero(const BlockFile *file, guint64 len, guint64 offset, gboolean punch);

/* As above, but -EOPNOTSUPP where it would have to write zeroes. */
int block_file_punch(const BlockFile *file, guint64 len, guint64 offset);

int block_file_sync(const BlockFile *file);
/* Writes a range out of the page cache; -EOPNOTSUPP where that can't be done. */
int block_file_settle(const BlockFile *file, gsize len, guint64 offset);
/* Lets the page cache go that needs not be written: from now on the medium is read. */
void block_file_forget_cache(const BlockFile *file);
int block_file_truncate(const BlockFile *file, guint64 size);

/* Sets BLOCK_ERROR_IO "NAME: can't WHAT: reason" from a negative errno. Always FALSE. */
gboolean block_file_fail(const BlockFile *file, const char *what, int negative_errno,
                         GError **error);

#endif
