/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pack.h"

#include <lz4.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "common/endian.h"

#define CODEC_AT    12u
#define FLAGS_AT    13u
#define RESERVED_AT 14u
#define CHECK_AT    16u
#define KEEP        1u
#define DIFFERENCE  (1u << 31)
#define WORDS       (VM_PAGE_SIZE / sizeof(guint64))
/* What a PAGES record has beside the pages. */
#define PAGES_BYTES 32u
/* The fastest level that is no special case; what it saves over lz4 is most of what zstd can. */
#define ZSTD_LEVEL 1

const char *pack_codec_name(PackCodec codec)
{
    static const char *const names[PACK_CODECS] = {
        [PACK_PLAIN] = "plain", [PACK_LZ4] = "lz4", [PACK_ZSTD] = "zstd"};
    g_assert(codec < PACK_CODECS);
    return names[codec];
}

/* ---- The versions that are kept ---- */

typedef struct {
    Arena versions;
    guint64 *pages; /* of each slot: the page's number + 1; 0: it is empty. NULL: all are */
    guint64 slots;
} Kept;

guint64 pack_slots(guint64 ram_pages)
{
    guint64 slots = 1;
    while (slots * 2 <= MIN(ram_pages / 8, PACK_SLOTS_MAX))
        slots *= 2;
    return slots;
}

/* FALSE: there is no room for them. */
static gboolean kept_begin(Kept *kept)
{
    if (kept->pages)
        return TRUE;
    if (!arena_init(&kept->versions, kept->slots * VM_PAGE_SIZE, NULL))
        return FALSE;
    kept->pages = g_new0(guint64, kept->slots);
    return TRUE;
}

static void kept_clear(Kept *kept)
{
    if (kept->pages)
        arena_clear(&kept->versions);
    g_free(kept->pages);
}

static guint8 *kept_slot(const Kept *kept, guint64 page)
{
    return kept->versions.base + (page & (kept->slots - 1)) * VM_PAGE_SIZE;
}

static gboolean kept_has(const Kept *kept, guint64 page)
{
    return kept->pages[page & (kept->slots - 1)] == page + 1;
}

static void kept_put(Kept *kept, guint64 page, const guint8 *data)
{
    kept->pages[page & (kept->slots - 1)] = page + 1;
    memcpy(kept_slot(kept, page), data, VM_PAGE_SIZE);
}

static guint64 word_at(const guint8 *page, gsize i)
{
    guint64 word;
    memcpy(&word, page + i * sizeof(word), sizeof(word));
    return word;
}

static void put_word(guint8 *page, gsize i, guint64 word)
{
    memcpy(page + i * sizeof(word), &word, sizeof(word));
}

/* ---- Packing ---- */

struct Packer {
    Kept kept;
    ZSTD_CCtx *zstd;
    guint count;
    guint64 pages[PACK_PAGES];
    guint8 *data;
};

Packer *packer_new(guint64 ram_pages)
{
    Packer *packer = g_new0(Packer, 1);
    packer->kept.slots = pack_slots(ram_pages);
    packer->data = g_malloc(PACK_BODY_MAX);
    return packer;
}

void packer_free(Packer *packer)
{
    if (!packer)
        return;
    kept_clear(&packer->kept);
    ZSTD_freeCCtx(packer->zstd);
    g_free(packer->data);
    g_free(packer);
}

guint packer_count(const Packer *packer)
{
    return packer->count;
}

gboolean packer_takes(const Packer *packer, guint64 page)
{
    return packer->count == 0 ||
           (packer->count < PACK_PAGES && page > packer->pages[packer->count - 1] &&
            page - packer->pages[0] < DIFFERENCE);
}

const guint8 *packer_add(Packer *packer, guint64 page, const guint8 *data)
{
    g_assert(packer_takes(packer, page));
    guint8 *at = packer->data + packer->count * VM_PAGE_SIZE;
    packer->pages[packer->count++] = page;
    return memcpy(at, data, VM_PAGE_SIZE);
}

/* Puts a page's version into its slot. Leaves its difference to the one before, if that is worth it. */
static gboolean make_difference(Kept *kept, guint64 page, guint8 *data)
{
    if (!kept_has(kept, page)) {
        kept_put(kept, page, data);
        return FALSE;
    }
    guint8 *before = kept_slot(kept, page);
    gsize equal = 0;
    for (gsize i = 0; i < WORDS; i++)
        equal += word_at(data, i) == word_at(before, i);
    /* Of a page that is a different one now the contents compress better than a difference. */
    if (equal < WORDS / 2) {
        kept_put(kept, page, data);
        return FALSE;
    }
    for (gsize i = 0; i < WORDS; i++) {
        guint64 now = word_at(data, i);
        put_word(data, i, now ^ word_at(before, i));
        put_word(before, i, now);
    }
    return TRUE;
}

/* 0: it doesn't become smaller. */
static gsize compress(Packer *packer, PackCodec codec, guint8 *body, gsize len)
{
    if (codec == PACK_LZ4)
        return (gsize)LZ4_compress_default((const char *)packer->data, (char *)body, (int)len,
                                           (int)len - 1);
    if (codec == PACK_PLAIN)
        return 0;
    if (!packer->zstd)
        packer->zstd = ZSTD_createCCtx();
    gsize got = packer->zstd
                    ? ZSTD_compressCCtx(packer->zstd, body, len - 1, packer->data, len, ZSTD_LEVEL)
                    : 0;
    return ZSTD_isError(got) ? 0 : got;
}

gsize packer_close(Packer *packer, PackCodec codec, gboolean keep, guint8 *payload,
                   gsize *ret_plain_bytes)
{
    guint count = packer->count;
    g_assert(count > 0);
    gsize len = (gsize)count * VM_PAGE_SIZE, runs = 0;
    guint64 first = packer->pages[0];
    keep = keep && kept_begin(&packer->kept);
    colo_put_be64(payload, first);
    colo_put_be32(payload + 8, count);
    payload[FLAGS_AT] = keep ? KEEP : 0;
    colo_put_be16(payload + RESERVED_AT, 0);
    colo_put_be64(payload + CHECK_AT, XXH3_64bits(packer->data, len));
    for (guint i = 0; i < count; i++) {
        guint64 page = packer->pages[i];
        gboolean difference =
            keep && make_difference(&packer->kept, page, packer->data + i * VM_PAGE_SIZE);
        colo_put_be32(payload + PACK_HEAD + 4 * i,
                      (guint32)(page - first) | (difference ? DIFFERENCE : 0));
        runs += i == 0 || page != packer->pages[i - 1] + 1;
    }
    guint8 *body = payload + PACK_HEAD + 4 * count;
    gsize body_len = compress(packer, codec, body, len);
    payload[CODEC_AT] = (guint8)(body_len > 0 ? codec : PACK_PLAIN);
    if (body_len == 0) {
        memcpy(body, packer->data, len);
        body_len = len;
    }
    packer->count = 0;
    *ret_plain_bytes = len + runs * PAGES_BYTES;
    return PACK_HEAD + 4 * count + body_len;
}

/* ---- Unpacking ---- */

struct Unpacker {
    Kept kept;
    guint64 ram_pages;
    ZSTD_DCtx *zstd;
    guint8 *data; /* of the record at hand */
    guint64 pages[PACK_PAGES];
    guint count, at;
};

Unpacker *unpacker_new(guint64 ram_pages)
{
    Unpacker *unpacker = g_new0(Unpacker, 1);
    unpacker->ram_pages = ram_pages;
    unpacker->kept.slots = pack_slots(ram_pages);
    unpacker->data = g_malloc(PACK_BODY_MAX);
    return unpacker;
}

void unpacker_free(Unpacker *unpacker)
{
    if (!unpacker)
        return;
    kept_clear(&unpacker->kept);
    ZSTD_freeDCtx(unpacker->zstd);
    g_free(unpacker->data);
    g_free(unpacker);
}

/* One frame of the format of today: libzstd may also read formats of long ago, with code that few look at. */
static gboolean is_zstd_frame(const guint8 *body, gsize len)
{
    return len > 4 && body[0] == 0x28 && body[1] == 0xb5 && body[2] == 0x2f && body[3] == 0xfd &&
           ZSTD_findFrameCompressedSize(body, len) == len;
}

/* Whether the body unpacks to exactly `want` bytes; never writes more. */
static gboolean expand(Unpacker *u, PackCodec codec, const guint8 *body, gsize len, gsize want)
{
    if (codec == PACK_PLAIN) {
        if (len == want)
            memcpy(u->data, body, want);
        return len == want;
    }
    if (codec == PACK_LZ4)
        return LZ4_decompress_safe((const char *)body, (char *)u->data, (int)len, (int)want) ==
               (int)want;
    if (!u->zstd)
        u->zstd = ZSTD_createDCtx();
    return u->zstd && is_zstd_frame(body, len) &&
           ZSTD_decompressDCtx(u->zstd, u->data, want, body, len) == want;
}

/* Reads which pages there are: rising, and within RAM. */
static gboolean read_table(Unpacker *u, const guint8 *payload, guint count)
{
    guint64 first = colo_get_be64(payload);
    for (guint i = 0; i < count; i++) {
        guint64 more = colo_get_be32(payload + PACK_HEAD + 4 * i) & ~DIFFERENCE;
        if (first >= u->ram_pages || more >= u->ram_pages - first ||
            (i == 0 ? more != 0 : first + more <= u->pages[i - 1]))
            return FALSE;
        u->pages[i] = first + more;
    }
    return TRUE;
}

/* Turns differences into pages, and keeps all; FALSE: a difference to a version that isn't there. */
static gboolean undo_differences(Unpacker *u, const guint8 *payload, guint count)
{
    for (guint i = 0; i < count; i++) {
        guint8 *data = u->data + i * VM_PAGE_SIZE;
        if (colo_get_be32(payload + PACK_HEAD + 4 * i) & DIFFERENCE) {
            if (!kept_has(&u->kept, u->pages[i]))
                return FALSE;
            const guint8 *before = kept_slot(&u->kept, u->pages[i]);
            for (gsize k = 0; k < WORDS; k++)
                put_word(data, k, word_at(data, k) ^ word_at(before, k));
        }
        kept_put(&u->kept, u->pages[i], data);
    }
    return TRUE;
}

static gboolean has_differences(const guint8 *payload, guint count)
{
    for (guint i = 0; i < count; i++)
        if (colo_get_be32(payload + PACK_HEAD + 4 * i) & DIFFERENCE)
            return TRUE;
    return FALSE;
}

const char *unpacker_open(Unpacker *u, const guint8 *payload, gsize len)
{
    u->count = u->at = 0;
    guint32 count = colo_get_be32(payload + 8);
    guint codec = payload[CODEC_AT], flags = payload[FLAGS_AT];
    if (count < 1 || count > PACK_PAGES || len <= PACK_HEAD + 4 * (gsize)count)
        return "a number of pages that it can't have";
    if (codec >= PACK_CODECS || (flags & ~KEEP) || colo_get_be16(payload + RESERVED_AT) != 0)
        return "a codec or flags that are not known here";
    if (!read_table(u, payload, count))
        return "its pages don't rise, or are not of this RAM";
    const guint8 *body = payload + PACK_HEAD + 4 * count;
    gsize want = (gsize)count * VM_PAGE_SIZE;
    if (!expand(u, codec, body, len - PACK_HEAD - 4 * (gsize)count, want))
        return "it doesn't unpack to its pages";
    if (!(flags & KEEP) && has_differences(payload, count))
        return "differences in pages that are not kept";
    if (flags & KEEP) {
        if (!kept_begin(&u->kept))
            return "there is no memory for its pages";
        if (!undo_differences(u, payload, count))
            return "a difference to a page that was not kept";
    }
    if (XXH3_64bits(u->data, want) != colo_get_be64(payload + CHECK_AT))
        return "its pages are not those that were packed";
    u->count = count;
    return NULL;
}

gboolean unpacker_next(Unpacker *u, guint64 *ret_first, guint64 *ret_count, const guint8 **ret_data)
{
    if (u->at >= u->count)
        return FALSE;
    guint from = u->at++;
    while (u->at < u->count && u->pages[u->at] == u->pages[u->at - 1] + 1)
        u->at++;
    *ret_first = u->pages[from];
    *ret_count = u->at - from;
    *ret_data = u->data + from * VM_PAGE_SIZE;
    return TRUE;
}

void unpacker_rewind(Unpacker *u)
{
    u->at = 0;
}
