/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/chunk-map.h"

#include <string.h>
#include <xxhash.h>

#include "common/endian.h"

/* The file: a header page, then the bits (docs/DISKS.md). */
enum { MAP_VERSION = 1, MAP_HEADER = 4096, MAP_HEADER_USED = 32 };
static const char map_magic[8] = "COLODIRT";

static void make_header(guint64 size, guint8 *header)
{
    memset(header, 0, MAP_HEADER_USED);
    memcpy(header, map_magic, sizeof(map_magic));
    colo_put_be32(header + 8, MAP_VERSION);
    colo_put_be32(header + 12, BLOCK_CHUNK_BYTES);
    colo_put_be64(header + 16, size);
    colo_put_be64(header + 24, XXH3_64bits(header, 24));
}

static gboolean load(ChunkMap *map, guint64 size, gboolean *ret_valid, GError **error)
{
    guint8 expected[MAP_HEADER_USED], header[MAP_HEADER_USED];
    make_header(size, expected);
    int r = block_file_read(&map->file, header, sizeof(header), 0);
    if (r == 0)
        r = block_file_read(&map->file, map->bits, map->n_bytes, MAP_HEADER);
    if (r < 0)
        return block_file_fail(&map->file, "read it", r, error);
    *ret_valid = !memcmp(header, expected, sizeof(header));
    if (*ret_valid) {
        /* Bits past the last chunk are nobody's. */
        if (map->chunks % 8)
            map->bits[map->n_bytes - 1] &= (guint8)((1u << (map->chunks % 8)) - 1);
        return TRUE;
    }
    r = chunk_map_clear(map);
    if (r == 0)
        r = block_file_write(&map->file, expected, sizeof(expected), 0);
    return r == 0 || block_file_fail(&map->file, "write it", r, error);
}

gboolean chunk_map_open(ChunkMap *map, const char *path, guint64 size,
                        const DiskSetOptions *options, gboolean *ret_valid, GError **error)
{
    *map = (ChunkMap){.file = BLOCK_FILE_NONE, .chunks = chunk_count(size)};
    map->n_bytes = chunk_bytes(map->chunks);
    map->bits = g_malloc0(map->n_bytes + 1);
    for (guint i = 0; i < CHUNK_MAP_LOCKS; i++)
        g_mutex_init(&map->locks[i]);
    if (block_file_open(&map->file, path, TRUE, FALSE, options, error) &&
        load(map, size, ret_valid, error))
        return TRUE;
    chunk_map_close(map);
    return FALSE;
}

void chunk_map_close(ChunkMap *map)
{
    if (!map->bits)
        return;
    block_file_close(&map->file);
    g_clear_pointer(&map->bits, g_free);
    for (guint i = 0; i < CHUNK_MAP_LOCKS; i++)
        g_mutex_clear(&map->locks[i]);
}

/* Sets the bits of `mask` in one byte: the file first, memory after it. */
static int set_byte(ChunkMap *map, gsize index, guint8 mask)
{
    if ((__atomic_load_n(&map->bits[index], __ATOMIC_ACQUIRE) & mask) == mask)
        return 0;
    GMutex *lock = &map->locks[index % CHUNK_MAP_LOCKS];
    g_mutex_lock(lock);
    guint8 value = map->bits[index] | mask;
    int r = 0;
    if (value != map->bits[index])
        r = block_file_write(&map->file, &value, 1, MAP_HEADER + index);
    if (r == 0)
        __atomic_store_n(&map->bits[index], value, __ATOMIC_RELEASE);
    g_mutex_unlock(lock);
    return r;
}

int chunk_map_set(ChunkMap *map, guint64 offset, guint64 len)
{
    if (len == 0)
        return 0;
    guint64 first = offset / BLOCK_CHUNK_BYTES, last = (offset + len - 1) / BLOCK_CHUNK_BYTES;
    for (guint64 chunk = first; chunk <= last;) {
        guint64 stop = MIN(last, chunk | 7);
        guint8 mask = (guint8)((0xffu >> (7 - (stop - chunk))) << (chunk % 8));
        int r = set_byte(map, (gsize)(chunk / 8), mask);
        if (r < 0)
            return r;
        chunk = stop + 1;
    }
    return 0;
}

int chunk_map_clear(ChunkMap *map)
{
    /* To cut the file off and grow it again is quicker than to write zeroes. A death between the
     * two leaves a short file, which reads as zeroes. */
    int r = block_file_truncate(&map->file, MAP_HEADER);
    if (r == 0)
        r = block_file_truncate(&map->file, MAP_HEADER + map->n_bytes);
    if (r == 0)
        memset(map->bits, 0, map->n_bytes);
    return r;
}

int chunk_map_sync(const ChunkMap *map)
{
    return block_file_sync(&map->file);
}

guint64 chunk_map_count(const ChunkMap *map)
{
    return chunk_popcount(map->bits, map->n_bytes);
}

guint64 chunk_popcount(const guint8 *bits, gsize n_bytes)
{
    guint64 count = 0;
    gsize i = 0;
    for (; i + 8 <= n_bytes; i += 8) {
        guint64 word;
        memcpy(&word, bits + i, sizeof(word));
        count += (guint64)__builtin_popcountll(word);
    }
    for (; i < n_bytes; i++)
        count += (guint64)__builtin_popcount(bits[i]);
    return count;
}
