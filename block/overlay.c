/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/overlay.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "block/chunk-map.h"

#define BLOCKS_PER_CHUNK (BLOCK_CHUNK_BYTES / IMAGE_BLOCK)
G_STATIC_ASSERT(BLOCKS_PER_CHUNK == 16);

static gsize table_bytes(const Overlay *overlay)
{
    return (gsize)(chunk_count(overlay->image->size) + 1) * sizeof(guint16);
}

gboolean overlay_open(Overlay *overlay, const Image *image, const char *dir,
                      const DiskSetOptions *options, GError **error)
{
    *overlay = (Overlay){.file = BLOCK_FILE_NONE, .image = image};
    g_autofree char *name = g_strconcat(image->file.name, ".overlay", NULL);
    if (!block_file_open_unnamed(&overlay->file, dir, name, options, error))
        return FALSE;
    /* Pages of the table that are never touched cost nothing. */
    void *table = mmap(NULL, table_bytes(overlay), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED) {
        block_file_fail(&overlay->file, "map its table", -errno, error);
        block_file_close(&overlay->file);
        return FALSE;
    }
    overlay->blocks = table;
    overlay->chunks = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_mutex_init(&overlay->chunks_mutex);
    return TRUE;
}

void overlay_close(Overlay *overlay)
{
    if (!overlay->blocks)
        return;
    munmap(overlay->blocks, table_bytes(overlay));
    overlay->blocks = NULL;
    g_array_unref(overlay->chunks);
    g_mutex_clear(&overlay->chunks_mutex);
    block_file_close(&overlay->file);
}

static gboolean has_block(const Overlay *overlay, guint64 block)
{
    guint16 mask = __atomic_load_n(&overlay->blocks[block / BLOCKS_PER_CHUNK], __ATOMIC_ACQUIRE);
    return mask >> (block % BLOCKS_PER_CHUNK) & 1;
}

/* After the contents are in place: the block is ours from now on. */
static void add_blocks(Overlay *overlay, guint64 first, guint64 last)
{
    for (guint64 block = first; block <= last; block++) {
        guint64 chunk = block / BLOCKS_PER_CHUNK;
        guint16 bit = (guint16)(1u << (block % BLOCKS_PER_CHUNK));
        guint16 before = __atomic_fetch_or(&overlay->blocks[chunk], bit, __ATOMIC_ACQ_REL);
        if (!(before & bit))
            __atomic_add_fetch(&overlay->n_blocks, 1, __ATOMIC_RELAXED);
        if (before == 0) {
            g_mutex_lock(&overlay->chunks_mutex);
            g_array_append_val(overlay->chunks, chunk);
            g_mutex_unlock(&overlay->chunks_mutex);
        }
    }
}

int overlay_read(const Overlay *overlay, void *buf, gsize len, guint64 offset)
{
    guint8 *at = buf;
    while (len > 0) {
        guint64 block = offset / IMAGE_BLOCK;
        gboolean here = has_block(overlay, block);
        guint64 end = (block + 1) * IMAGE_BLOCK;
        while (end < offset + len && has_block(overlay, end / IMAGE_BLOCK) == here)
            end += IMAGE_BLOCK;
        gsize piece = (gsize)MIN(len, end - offset);
        int r = here ? block_file_read(&overlay->file, at, piece, offset)
                     : image_read(overlay->image, at, piece, offset);
        if (r < 0)
            return r;
        at += piece;
        offset += piece;
        len -= piece;
    }
    return 0;
}

/* Makes the whole of `block` present, for a change of a part of it. */
static int copy_up(Overlay *overlay, guint64 block)
{
    if (has_block(overlay, block))
        return 0;
    guint8 buf[IMAGE_BLOCK] __attribute__((aligned(IMAGE_BLOCK)));
    guint64 start = block * IMAGE_BLOCK;
    gsize len = (gsize)MIN(IMAGE_BLOCK, overlay->image->size - start);
    int r = image_read(overlay->image, buf, len, start);
    if (r == 0)
        r = block_file_write(&overlay->file, buf, len, start);
    if (r == 0)
        add_blocks(overlay, block, block);
    return r;
}

/* Copies up the blocks at both ends that the range covers only in part. */
static int copy_up_ends(Overlay *overlay, guint64 len, guint64 offset)
{
    guint64 end = offset + len;
    int r = 0;
    if (offset % IMAGE_BLOCK)
        r = copy_up(overlay, offset / IMAGE_BLOCK);
    if (r == 0 && end % IMAGE_BLOCK && end < overlay->image->size)
        r = copy_up(overlay, end / IMAGE_BLOCK);
    return r;
}

int overlay_write(Overlay *overlay, const void *buf, gsize len, guint64 offset)
{
    if (len == 0)
        return 0;
    int r = copy_up_ends(overlay, len, offset);
    if (r == 0)
        r = block_file_write(&overlay->file, buf, len, offset);
    if (r == 0)
        add_blocks(overlay, offset / IMAGE_BLOCK, (offset + len - 1) / IMAGE_BLOCK);
    return r;
}

int overlay_zero(Overlay *overlay, guint64 len, guint64 offset)
{
    if (len == 0)
        return 0;
    int r = copy_up_ends(overlay, len, offset);
    if (r == 0)
        r = block_file_zero(&overlay->file, len, offset, TRUE);
    if (r == 0)
        add_blocks(overlay, offset / IMAGE_BLOCK, (offset + len - 1) / IMAGE_BLOCK);
    return r;
}

int overlay_reset(Overlay *overlay)
{
    if (overlay->chunks->len == 0)
        return 0;
    for (guint i = 0; i < overlay->chunks->len; i++)
        overlay->blocks[g_array_index(overlay->chunks, guint64, i)] = 0;
    g_array_set_size(overlay->chunks, 0);
    overlay->n_blocks = 0;
    return block_file_truncate(&overlay->file, 0);
}

guint64 overlay_bytes(const Overlay *overlay)
{
    return (guint64)__atomic_load_n(&overlay->n_blocks, __ATOMIC_RELAXED) * IMAGE_BLOCK;
}

/* The runs within one chunk. */
static int foreach_in_chunk(const Overlay *overlay, guint64 chunk, guint8 *buf, OverlayRun run,
                            gpointer user_data)
{
    for (guint64 block = chunk * BLOCKS_PER_CHUNK, stop = block + BLOCKS_PER_CHUNK; block < stop;) {
        guint64 first = block;
        while (block < stop && has_block(overlay, block))
            block++;
        if (block == first) {
            block++;
            continue;
        }
        guint64 start = first * IMAGE_BLOCK;
        gsize len = (gsize)(MIN(block * IMAGE_BLOCK, overlay->image->size) - start);
        int r = block_file_read(&overlay->file, buf, len, start);
        if (r == 0)
            r = run(start, buf, len, user_data);
        if (r != 0)
            return r;
    }
    return 0;
}

int overlay_foreach(const Overlay *overlay, OverlayRun run, gpointer user_data)
{
    g_autofree guint8 *buf = g_malloc(BLOCK_CHUNK_BYTES);
    for (guint i = 0; i < overlay->chunks->len; i++) {
        guint64 chunk = g_array_index(overlay->chunks, guint64, i);
        int r = foreach_in_chunk(overlay, chunk, buf, run, user_data);
        if (r != 0)
            return r;
    }
    return 0;
}
