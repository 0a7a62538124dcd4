/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What capture and apply both do with memory: holes in the memfd, zero pages, staging slots.
 *
 * A hole is a page that the memfd has no memory for: it reads as zeros, but reading it through a
 * mapping gives it memory. Both sides ask SEEK_DATA first, which leaves holes alone. (The file
 * offset that lseek moves is shared with the VM's process; neither uses it.)
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/stream_internal.h"

/* A zero run as long as this is punched out. A shorter one is written: then the guest has no page
 * fault when it uses the page again. */
#define PUNCH_PAGES 64

/* SEEK_HOLE walks on to the next hole, however far; worth it only for questions this long. */
#define SEEK_HOLE_PAGES 4096

#define STAGING_HUGE_PAGE (2u << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

gboolean ram_check(const VmRam *ram, GError **error)
{
    gsize len = strlen(ram->id);
    if (ram->size_bytes > 0 && ram->size_bytes % VM_PAGE_SIZE == 0 && len >= 1 &&
        len <= STREAM_ID_MAX)
        return TRUE;
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_MISMATCH,
                "RAM block '%s' of %" G_GUINT64_FORMAT
                " bytes can't be checkpointed: the size must "
                "be whole pages of %u bytes, the name 1 to %u bytes",
                ram->id, ram->size_bytes, VM_PAGE_SIZE, STREAM_ID_MAX);
    return FALSE;
}

gboolean ram_next_extent(const VmRam *ram, guint64 first, guint64 max, guint64 *ret_count)
{
    off_t at = (off_t)(first * VM_PAGE_SIZE), end = at + (off_t)(max * VM_PAGE_SIZE);
    off_t data = lseek(ram->memfd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) {
        *ret_count = max; /* no such file operation: all is data */
        return FALSE;
    }
    gboolean hole = data != at;
    off_t stop = at + VM_PAGE_SIZE;
    if (hole)
        stop = data < 0 ? end : data;
    else if (max >= SEEK_HOLE_PAGES)
        stop = lseek(ram->memfd, at, SEEK_HOLE);
    /* The file may have changed between the two calls; never claim less than a page. */
    *ret_count = CLAMP((stop - at) / VM_PAGE_SIZE, 1, (off_t)max);
    return hole;
}

void ram_zero(const VmRam *ram, guint64 first, guint64 count)
{
    guint64 offset = first * VM_PAGE_SIZE, len = count * VM_PAGE_SIZE;
    if (count >= PUNCH_PAGES && fallocate(ram->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                          (off_t)offset, (off_t)len) == 0)
        return;
    while (count > 0) {
        guint64 n;
        if (!ram_next_extent(ram, first, count, &n))
            memset(ram->base + first * VM_PAGE_SIZE, 0, n * VM_PAGE_SIZE);
        first += n;
        count -= n;
    }
}

void ram_write_new(const VmRam *ram, guint64 first, guint64 count, const guint8 *data)
{
    guint64 offset = first * VM_PAGE_SIZE, len = count * VM_PAGE_SIZE;
    while (len > 0) {
        ssize_t put = pwrite(ram->memfd, data, len, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            memcpy(ram->base + offset, data, len);
            return;
        }
        data += put;
        offset += (guint64)put;
        len -= (guint64)put;
    }
}

gboolean page_is_zero(const guint8 *page)
{
    /* 64 bytes at a time, in words that the compiler makes vectors of. */
    for (gsize i = 0; i < VM_PAGE_SIZE; i += 64) {
        guint64 words[8];
        memcpy(words, page + i, sizeof(words));
        if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7])
            return FALSE;
    }
    return TRUE;
}

gboolean arena_init(Arena *arena, guint64 size_bytes, GError **error)
{
    void *base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO,
                    "staging: can't reserve %" G_GUINT64_FORMAT " MiB of address space: %s",
                    size_bytes >> 20, g_strerror(errno));
        return FALSE;
    }
    /* Fewer faults and TLB misses; a kernel without huge pages does without. */
    madvise(base, size_bytes, MADV_HUGEPAGE);
    *arena = (Arena){.base = base, .size_bytes = size_bytes};
    return TRUE;
}

void arena_clear(Arena *arena)
{
    if (arena->base)
        munmap(arena->base, arena->size_bytes);
    *arena = (Arena){0};
}

static guint64 round_up(const Arena *arena, guint64 bytes)
{
    bytes = (bytes + STAGING_HUGE_PAGE - 1) / STAGING_HUGE_PAGE * STAGING_HUGE_PAGE;
    return MIN(bytes, arena->size_bytes);
}

void arena_prepare(Arena *arena, guint64 bytes)
{
    bytes = round_up(arena, bytes);
    if (bytes <= arena->ready_bytes)
        return;
    /* A kernel without it takes the faults when the slots are used. */
    madvise(arena->base + arena->ready_bytes, bytes - arena->ready_bytes, MADV_POPULATE_WRITE);
    arena->ready_bytes = bytes;
}

void arena_trim(Arena *arena, guint64 bytes)
{
    bytes = round_up(arena, bytes);
    if (bytes >= arena->ready_bytes)
        return;
    madvise(arena->base + bytes, arena->ready_bytes - bytes, MADV_DONTNEED);
    arena->ready_bytes = bytes;
}
