/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/base.h"

#include "common/endian.h"

#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#define BASE_MAGIC        "COLOBASE"
#define BASE_HEADER_BYTES 32u
#define BASE_RUN_BYTES    16u
#define BASE_HASH_BYTES   16u
#define BASE_CHECK_BYTES  8u
#define BASE_RUN_PAGES    4096u /* the most in one run */

struct Base {
    guint64 pages, seed;
    PageSet *told;        /* and nothing was sent of them since */
    guint64 count;        /* of pages that were told */
    guint8 (*hashes)[16]; /* by page, as they came; memory is taken for those that were told */
};

/* ---- The secondary's side ---- */

typedef struct {
    BaseSink sink;
    gpointer opaque;
    XXH3_state_t *check; /* over all bytes so far */
} Out;

static gboolean put(Out *out, const guint8 *bytes, gsize len, GError **error)
{
    XXH3_64bits_update(out->check, bytes, len);
    return out->sink(out->opaque, bytes, len, error);
}

static gboolean put_run(Out *out, const VmRam *ram, guint64 seed, guint64 first, guint32 count,
                        GError **error)
{
    gsize len = BASE_RUN_BYTES + (gsize)count * BASE_HASH_BYTES;
    g_autofree guint8 *bytes = g_malloc0(len);
    guint8 *at = bytes + BASE_RUN_BYTES;
    colo_put_be64(bytes, first);
    colo_put_be32(bytes + 8, count);
    for (guint64 page = first; page < first + count; page++, at += BASE_HASH_BYTES) {
        XXH128_hash_t hash =
            XXH3_128bits_withSeed(ram->base + page * VM_PAGE_SIZE, VM_PAGE_SIZE, seed);
        XXH128_canonicalFromHash((XXH128_canonical_t *)at, hash);
    }
    return put(out, bytes, len, error);
}

/* Each extent is asked for once: to find its end, the kernel walks over all of it. */
static gboolean put_pages(Out *out, const VmRam *ram, guint64 seed, GError **error)
{
    guint64 pages = ram->size_bytes / VM_PAGE_SIZE, run = 0, left = 0, extent;
    gboolean hole = FALSE;
    for (guint64 page = 0; page < pages; page += extent, left -= extent) {
        if (left == 0)
            hole = ram_next_extent(ram, page, pages - page, &left);
        extent = hole ? left : MIN(left, BASE_RUN_PAGES - run);
        run += hole ? 0 : extent;
        gboolean ends = hole || run == BASE_RUN_PAGES || page + extent == pages;
        guint64 first = (hole ? page : page + extent) - run;
        if (run > 0 && ends) {
            if (!put_run(out, ram, seed, first, (guint32)run, error))
                return FALSE;
            run = 0;
        }
    }
    return put_run(out, ram, seed, pages, 0, error);
}

gboolean base_send(const VmRam *ram, guint64 seed, BaseSink sink, gpointer opaque, GError **error)
{
    Out out = {.sink = sink, .opaque = opaque, .check = XXH3_createState()};
    guint8 header[BASE_HEADER_BYTES], check[BASE_CHECK_BYTES];
    XXH3_64bits_reset(out.check);
    memcpy(header, BASE_MAGIC, 8);
    colo_put_be32(header + 8, STREAM_VERSION);
    colo_put_be32(header + 12, VM_PAGE_SIZE);
    colo_put_be64(header + 16, ram->size_bytes);
    colo_put_be64(header + 24, seed);
    gboolean ok = put(&out, header, sizeof(header), error) && put_pages(&out, ram, seed, error);
    if (ok) {
        colo_put_be64(check, XXH3_64bits_digest(out.check));
        ok = sink(opaque, check, sizeof(check), error);
    }
    XXH3_freeState(out.check);
    return ok;
}

/* ---- The primary's side ---- */

typedef struct {
    StreamSource source;
    gpointer opaque;
    guint64 offset;
    XXH3_state_t *check;
} In;

G_GNUC_PRINTF(4, 5)
static gboolean bad(const In *in, CheckpointError code, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CHECKPOINT_ERROR, (int)code,
                "the secondary's base, at offset %" G_GUINT64_FORMAT ": %s", in->offset, what);
    return FALSE;
}

static gboolean get(In *in, guint8 *buf, gsize len, GError **error)
{
    for (gsize have = 0; have < len;) {
        gssize got = in->source(in->opaque, buf + have, len - have, error);
        if (got < 0)
            return FALSE;
        if (got == 0)
            return bad(in, CHECKPOINT_ERROR_IO, error, "the connection has ended");
        have += (gsize)got;
    }
    XXH3_64bits_update(in->check, buf, len);
    in->offset += len;
    return TRUE;
}

static gboolean get_header(In *in, Base *base, GError **error)
{
    guint8 header[BASE_HEADER_BYTES];
    if (!get(in, header, sizeof(header), error))
        return FALSE;
    if (memcmp(header, BASE_MAGIC, 8) != 0)
        return bad(in, CHECKPOINT_ERROR_STREAM, error, "it doesn't begin with " BASE_MAGIC);
    if (colo_get_be32(header + 8) != STREAM_VERSION)
        return bad(in, CHECKPOINT_ERROR_VERSION, error,
                   "version %u, but this is version %u: run the same release on both hosts",
                   colo_get_be32(header + 8), STREAM_VERSION);
    if (colo_get_be32(header + 12) != VM_PAGE_SIZE ||
        colo_get_be64(header + 16) != base->pages * VM_PAGE_SIZE)
        return bad(in, CHECKPOINT_ERROR_MISMATCH, error,
                   "RAM of %" G_GUINT64_FORMAT " bytes in pages of %u there, %" G_GUINT64_FORMAT
                   " bytes in pages of %u here",
                   colo_get_be64(header + 16), colo_get_be32(header + 12),
                   base->pages * VM_PAGE_SIZE, VM_PAGE_SIZE);
    base->seed = colo_get_be64(header + 24);
    return TRUE;
}

/* Runs rise, don't touch each other twice, and end with an empty one behind RAM. */
static gboolean get_run(In *in, Base *base, guint64 *next, GError **error)
{
    guint8 head[BASE_RUN_BYTES];
    if (!get(in, head, sizeof(head), error))
        return FALSE;
    guint64 first = colo_get_be64(head);
    guint32 count = colo_get_be32(head + 8);
    if (first < *next || first > base->pages || count > base->pages - first ||
        count > BASE_RUN_PAGES || (count == 0) != (first == base->pages) ||
        colo_get_be32(head + 12) != 0)
        return bad(in, CHECKPOINT_ERROR_STREAM, error,
                   "pages %" G_GUINT64_FORMAT "+%u of a RAM of %" G_GUINT64_FORMAT
                   ", behind page %" G_GUINT64_FORMAT,
                   first, count, base->pages, *next);
    if (count > 0 && !get(in, base->hashes[first], (gsize)count * BASE_HASH_BYTES, error))
        return FALSE;
    if (count > 0)
        page_set_add_run(base->told, first, count);
    base->count += count;
    *next = count > 0 ? first + count : G_MAXUINT64;
    return TRUE;
}

static gboolean get_all(In *in, Base *base, GError **error)
{
    if (!get_header(in, base, error))
        return FALSE;
    for (guint64 next = 0; next != G_MAXUINT64;)
        if (!get_run(in, base, &next, error))
            return FALSE;
    guint64 check = XXH3_64bits_digest(in->check);
    guint8 told[BASE_CHECK_BYTES];
    if (!get(in, told, sizeof(told), error))
        return FALSE;
    if (colo_get_be64(told) != check)
        return bad(in, CHECKPOINT_ERROR_STREAM, error, "it is damaged: its hash differs");
    return TRUE;
}

Base *base_receive(guint64 pages, StreamSource source, gpointer opaque, GError **error)
{
    g_autoptr(Base) base = g_new0(Base, 1);
    In in = {.source = source, .opaque = opaque, .check = XXH3_createState()};
    base->pages = pages;
    base->told = page_set_new(pages);
    void *hashes = mmap(NULL, pages * BASE_HASH_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (hashes != MAP_FAILED)
        base->hashes = hashes;
    XXH3_64bits_reset(in.check);
    gboolean ok = base->hashes ? get_all(&in, base, error)
                               : bad(&in, CHECKPOINT_ERROR_IO, error, "no address space for it");
    XXH3_freeState(in.check);
    return ok ? g_steal_pointer(&base) : NULL;
}

void base_free(Base *base)
{
    if (!base)
        return;
    if (base->hashes)
        munmap(base->hashes, base->pages * BASE_HASH_BYTES);
    page_set_free(base->told);
    g_free(base);
}

gboolean base_holds(const Base *base, guint64 page, const guint8 *data)
{
    if (!page_set_contains(base->told, page))
        return FALSE;
    XXH128_canonical_t ours;
    XXH128_canonicalFromHash(&ours, XXH3_128bits_withSeed(data, VM_PAGE_SIZE, base->seed));
    return memcmp(ours.digest, base->hashes[page], sizeof(ours.digest)) == 0;
}

void base_forget(Base *base, guint64 first, guint64 count)
{
    page_set_remove_run(base->told, first, count);
}

guint64 base_count(const Base *base)
{
    return base->count;
}
