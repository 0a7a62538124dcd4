/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A dirty bitmap, one bit per chunk (BLOCK_CHUNK_BYTES), in memory and in a file. chunk_map_set()
 * returns only when the file has the bit, so that a write that follows it can't be forgotten by the
 * death of this process. (The file is not synced: after the death of the machine it is not
 * believed.)
 */
#ifndef COLO_BLOCK_CHUNK_MAP_H
#define COLO_BLOCK_CHUNK_MAP_H

#include "block/file.h"

#define CHUNK_MAP_LOCKS 64u

typedef struct {
    BlockFile file;
    guint64 chunks;
    gsize n_bytes;
    guint8 *bits; /* chunk i is bit i % 8 of byte i / 8; as in the file */
    GMutex locks[CHUNK_MAP_LOCKS];
} ChunkMap;

/*
 * Opens or makes the file at `path` for a disk of `size` bytes. A damaged file, or one for a disk
 * of another size, is replaced with *ret_valid = FALSE: then nobody knows what is dirty.
 */
gboolean chunk_map_open(ChunkMap *map, const char *path, guint64 size,
                        const DiskSetOptions *options, gboolean *ret_valid, GError **error);
void chunk_map_close(ChunkMap *map);

/* Any thread. 0 or a negative errno. */
int chunk_map_set(ChunkMap *map, guint64 offset, guint64 len);

/* Forgets all. Nobody may set at the same time. */
int chunk_map_clear(ChunkMap *map);

int chunk_map_sync(const ChunkMap *map);

/* Chunks that are set. */
guint64 chunk_map_count(const ChunkMap *map);

/* Plain bitmaps in the same bit order. */
static inline guint64 chunk_count(guint64 size)
{
    return size / BLOCK_CHUNK_BYTES + (size % BLOCK_CHUNK_BYTES != 0);
}
static inline gsize chunk_bytes(guint64 chunks)
{
    return (gsize)((chunks + 7) / 8);
}
static inline gboolean chunk_test(const guint8 *bits, guint64 chunk)
{
    return bits[chunk / 8] >> (chunk % 8) & 1;
}
static inline void chunk_mark(guint8 *bits, guint64 chunk)
{
    bits[chunk / 8] |= (guint8)(1u << (chunk % 8));
}
guint64 chunk_popcount(const guint8 *bits, gsize n_bytes);

#endif
