/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/stage.h"

#include <string.h>
#include <unistd.h>

#include "common/endian.h"

/* docs/DISKS.md: a header page, then the log: entries of a 24 byte head and the data of a write. */
enum { JOURNAL_VERSION = 1, JOURNAL_HEADER = 4096, JOURNAL_HEADER_USED = 72, ENTRY_HEAD = 24 };
enum { ENTRY_WRITE = 1, ENTRY_ZERO = 2, ENTRY_TRIM = 3 };
static const char journal_magic[8] = "COLOJRNL";

#define DEFAULT_MEMORY (G_GUINT64_CONSTANT(64) << 20)

typedef struct {
    guint32 kind;
    guint64 offset, len;
} Entry;

gboolean stage_open(Stage *stage, const char *path, guint64 disk_size,
                    const DiskSetOptions *options, GError **error)
{
    *stage = (Stage){.file = BLOCK_FILE_NONE, .disk_size = disk_size};
    stage->memory_limit =
        options->stage_memory_bytes ? options->stage_memory_bytes : DEFAULT_MEMORY;
    if (!block_file_open(&stage->file, path, TRUE, FALSE, options, error))
        return FALSE;
    stage->hash = XXH3_createState();
    XXH3_64bits_reset(stage->hash);
    stage->in_file = TRUE; /* perhaps */
    return TRUE;
}

void stage_close(Stage *stage)
{
    block_file_close(&stage->file);
    g_clear_pointer(&stage->memory, g_free);
    g_clear_pointer(&stage->hash, XXH3_freeState);
}

/* Appends bytes to the log: to memory as long as they fit below the limit, else to the file. */
static int append_bytes(Stage *stage, const void *data, gsize len)
{
    const guint8 *at = data;
    gsize to_memory = 0;
    if (stage->length < stage->memory_limit)
        to_memory = (gsize)MIN(len, stage->memory_limit - stage->length);
    if (to_memory > 0) {
        gsize need = stage->memory_len + to_memory;
        if (need > stage->memory_size) {
            stage->memory_size = (gsize)MIN(stage->memory_limit, MAX(need, stage->memory_size * 2));
            stage->memory = g_realloc(stage->memory, stage->memory_size);
        }
        memcpy(stage->memory + stage->memory_len, at, to_memory);
        stage->memory_len = need;
    }
    if (to_memory < len) {
        stage->in_file = TRUE;
        int r = block_file_write(&stage->file, at + to_memory, len - to_memory,
                                 JOURNAL_HEADER + stage->length + to_memory);
        if (r < 0)
            return r;
    }
    stage->length += len;
    return 0;
}

static int append_entry(Stage *stage, const Entry *entry, const void *data, gsize data_len)
{
    g_assert(!stage->sealed);
    guint8 head[ENTRY_HEAD] = {0};
    colo_put_be32(head, entry->kind);
    colo_put_be64(head + 8, entry->offset);
    colo_put_be64(head + 16, entry->len);
    int r = append_bytes(stage, head, sizeof(head));
    if (r == 0 && data_len > 0)
        r = append_bytes(stage, data, data_len);
    if (r == 0) {
        XXH3_64bits_update(stage->hash, head, sizeof(head));
        if (data_len > 0)
            XXH3_64bits_update(stage->hash, data, data_len);
    }
    return r;
}

int stage_append_write(Stage *stage, guint64 offset, const void *data, guint32 count)
{
    g_assert(count <= STAGE_ENTRY_MAX);
    Entry entry = {.kind = ENTRY_WRITE, .offset = offset, .len = count};
    return append_entry(stage, &entry, data, count);
}

int stage_append_zero(Stage *stage, guint64 offset, guint64 len, gboolean may_trim)
{
    Entry entry = {.kind = may_trim ? ENTRY_TRIM : ENTRY_ZERO, .offset = offset, .len = len};
    return append_entry(stage, &entry, NULL, 0);
}

static void make_header(const Stage *stage, guint8 *header)
{
    memset(header, 0, JOURNAL_HEADER_USED);
    memcpy(header, journal_magic, sizeof(journal_magic));
    colo_put_be32(header + 8, JOURNAL_VERSION);
    memcpy(header + 16, stage->session, BLOCK_SESSION_BYTES);
    colo_put_be64(header + 32, stage->epoch);
    colo_put_be64(header + 40, stage->disk_size);
    colo_put_be64(header + 48, stage->length);
    colo_put_be64(header + 56, stage->log_hash);
    colo_put_be64(header + 64, XXH3_64bits(header, 64));
}

int stage_seal(Stage *stage, const guint8 *session, guint64 epoch)
{
    stage->epoch = epoch;
    memcpy(stage->session, session, BLOCK_SESSION_BYTES);
    stage->log_hash = XXH3_64bits_digest(stage->hash);
    guint8 header[JOURNAL_HEADER_USED];
    make_header(stage, header);
    stage->in_file = TRUE;
    int r = block_file_write(&stage->file, stage->memory, stage->memory_len, JOURNAL_HEADER);
    if (r == 0)
        r = block_file_write(&stage->file, header, sizeof(header), 0);
    stage->sealed = r == 0;
    return r;
}

/* `len` bytes of the log at `pos`, from wherever they are. */
static int read_log(const Stage *stage, guint64 pos, void *buf, gsize len)
{
    guint8 *at = buf;
    if (pos < stage->memory_len) {
        gsize here = (gsize)MIN(len, stage->memory_len - pos);
        memcpy(at, stage->memory + pos, here);
        at += here;
        pos += here;
        len -= here;
    }
    return len > 0 ? block_file_read(&stage->file, at, len, JOURNAL_HEADER + pos) : 0;
}

/* Reads and checks the entry's head at *pos and moves *pos behind it. */
static gboolean next_entry(const Stage *stage, guint64 *pos, Entry *ret_entry, GError **error)
{
    guint8 head[ENTRY_HEAD];
    guint64 at = *pos;
    if (stage->length - at < ENTRY_HEAD) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STATE,
                    "%s: the log ends within an entry at %" G_GUINT64_FORMAT, stage->file.name, at);
        return FALSE;
    }
    int r = read_log(stage, at, head, sizeof(head));
    if (r < 0)
        return block_file_fail(&stage->file, "read it", r, error);
    Entry entry = {.kind = colo_get_be32(head),
                   .offset = colo_get_be64(head + 8),
                   .len = colo_get_be64(head + 16)};
    at += ENTRY_HEAD;
    guint64 data = entry.kind == ENTRY_WRITE ? entry.len : 0;
    if (entry.kind < ENTRY_WRITE || entry.kind > ENTRY_TRIM || entry.len > stage->disk_size ||
        entry.offset > stage->disk_size - entry.len || data > STAGE_ENTRY_MAX ||
        data > stage->length - at) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STATE,
                    "%s: bad entry at %" G_GUINT64_FORMAT " (kind %u, offset %" G_GUINT64_FORMAT
                    ", length %" G_GUINT64_FORMAT ")",
                    stage->file.name, *pos, entry.kind, entry.offset, entry.len);
        return FALSE;
    }
    *pos = at;
    *ret_entry = entry;
    return TRUE;
}

/* Applies the data of a write that is at `pos` of the log. */
static int apply_write(const Stage *stage, const Image *image, const Entry *entry, guint64 pos,
                       guint8 *buf)
{
    if (pos + entry->len <= stage->memory_len)
        return image_write(image, stage->memory + pos, (gsize)entry->len, entry->offset);
    int r = read_log(stage, pos, buf, (gsize)entry->len);
    return r < 0 ? r : image_write(image, buf, (gsize)entry->len, entry->offset);
}

gboolean stage_apply(Stage *stage, Image *image, StageStep step, gpointer user_data, GError **error)
{
    g_assert(stage->sealed);
    g_autofree guint8 *buf = g_malloc(STAGE_ENTRY_MAX);
    for (guint64 pos = 0; pos < stage->length;) {
        Entry entry = {0};
        if (!next_entry(stage, &pos, &entry, error))
            return FALSE;
        int r;
        if (entry.kind == ENTRY_WRITE) {
            r = apply_write(stage, image, &entry, pos, buf);
            pos += entry.len;
        } else {
            r = image_zero(image, entry.len, entry.offset, entry.kind == ENTRY_TRIM);
        }
        if (r < 0)
            return block_file_fail(&image->file, "apply the staged writes", r, error);
        if (step)
            step(entry.offset, entry.kind == ENTRY_WRITE ? entry.len : 1, user_data);
    }
    return TRUE;
}

/* Every entry of the log makes sense. */
static gboolean check_entries(const Stage *stage)
{
    for (guint64 pos = 0; pos < stage->length;) {
        Entry entry = {0};
        if (!next_entry(stage, &pos, &entry, NULL))
            return FALSE;
        if (entry.kind == ENTRY_WRITE)
            pos += entry.len;
    }
    return TRUE;
}

static void forget_log(Stage *stage)
{
    stage->memory_len = 0;
    stage->length = 0;
    stage->sealed = FALSE;
    XXH3_64bits_reset(stage->hash);
}

int stage_forget(Stage *stage, guint64 keep_bytes)
{
    static const guint8 no_header[JOURNAL_HEADER_USED];
    if (!stage->sealed || stage->length > MIN(stage->memory_limit, keep_bytes))
        return stage_reset(stage);
    forget_log(stage);
    return block_file_write(&stage->file, no_header, sizeof(no_header), 0);
}

int stage_reset(Stage *stage)
{
    forget_log(stage);
    if (!stage->in_file)
        return 0;
    int r = block_file_truncate(&stage->file, 0);
    if (r == 0)
        stage->in_file = FALSE;
    return r;
}

/* Hashes the log in the file. */
static int hash_file(const Stage *stage, guint64 *ret_hash)
{
    g_autofree guint8 *buf = g_malloc(STAGE_ENTRY_MAX);
    XXH3_64bits_reset(stage->hash);
    for (guint64 pos = 0; pos < stage->length;) {
        gsize piece = (gsize)MIN(STAGE_ENTRY_MAX, stage->length - pos);
        int r = read_log(stage, pos, buf, piece);
        if (r < 0)
            return r;
        XXH3_64bits_update(stage->hash, buf, piece);
        pos += piece;
    }
    *ret_hash = XXH3_64bits_digest(stage->hash);
    return 0;
}

gboolean stage_load(Stage *stage, GError **error)
{
    guint8 header[JOURNAL_HEADER_USED];
    int r = block_file_read(&stage->file, header, sizeof(header), 0);
    if (r < 0)
        return block_file_fail(&stage->file, "read it", r, error);
    off_t size = lseek(stage->file.fd, 0, SEEK_END);
    guint64 length = colo_get_be64(header + 48);
    stage->sealed = FALSE;
    if (memcmp(header, journal_magic, sizeof(journal_magic)) ||
        colo_get_be64(header + 64) != XXH3_64bits(header, 64) ||
        colo_get_be32(header + 8) != JOURNAL_VERSION ||
        colo_get_be64(header + 40) != stage->disk_size || size < 0 ||
        (length > 0 && ((guint64)size < JOURNAL_HEADER || length > (guint64)size - JOURNAL_HEADER)))
        return TRUE;
    stage->length = length;
    guint64 hash = 0;
    r = hash_file(stage, &hash);
    if (r < 0)
        return block_file_fail(&stage->file, "read it", r, error);
    memcpy(stage->session, header + 16, BLOCK_SESSION_BYTES);
    stage->epoch = colo_get_be64(header + 32);
    stage->log_hash = colo_get_be64(header + 56);
    /* The hash proves that these are our bytes; that they make sense is checked all the same. */
    stage->sealed = hash == stage->log_hash && check_entries(stage);
    if (!stage->sealed)
        stage->length = 0;
    return TRUE;
}
