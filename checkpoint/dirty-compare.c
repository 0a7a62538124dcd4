/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by comparison: a page is dirty if its xxh3-64 differs from the hash of what was
 * last copied of it. Works on every kernel and sees every change, whoever made it, but reads all of
 * RAM at each harvest. Costs 8 bytes per page of RAM.
 *
 * The hash must be that of the copy, not of the page at the time of the harvest. A running guest
 * may change a page after the harvest, have that copied, and change it back. So a page that was
 * reported counts as unknown, hence dirty, until dirty_tracker_copied() gives what was copied. A
 * hash of 0 means unknown (a page that really hashes to it is sent each time).
 *
 * Holes in the memfd are not read (that would fill them): they are zero pages.
 */
#include <xxhash.h>

#include "checkpoint/dirty_internal.h"

/* Between two looks at whether to continue: some milliseconds. */
#define LOOK_PAGES 16384

typedef struct {
    const VmRam *ram;
    guint64 zero_hash;
    guint64 *hashes; /* by page; 0: unknown */
    gint interrupted;
} Compare;

static gpointer compare_start(const VmRam *ram, GError **error)
{
    (void)error;
    static const guint8 zeros[VM_PAGE_SIZE];
    Compare *c = g_new0(Compare, 1);
    c->ram = ram;
    c->zero_hash = XXH3_64bits(zeros, VM_PAGE_SIZE);
    c->hashes = g_new0(guint64, ram->size_bytes / VM_PAGE_SIZE);
    return c;
}

static void compare_stop(gpointer state)
{
    Compare *c = state;
    g_free(c->hashes);
    g_free(c);
}

/* With `take`, a page that has changed counts as copied. Each extent is asked for once: to find its
 * end, the kernel walks over all of it. */
static gboolean look(Compare *c, guint64 first, guint64 end, gboolean take, PageSet *pages,
                     GError **error)
{
    guint64 count, left = 0;
    gboolean hole = FALSE;
    for (guint64 page = first; page < end; page += count, left -= count) {
        if (left == 0)
            hole = ram_next_extent(c->ram, page, end - page, &left);
        count = MIN(left, LOOK_PAGES);
        if (g_atomic_int_get(&c->interrupted)) {
            g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "interrupted");
            return FALSE;
        }
        for (guint64 p = page; p < page + count; p++) {
            guint64 now =
                hole ? c->zero_hash : XXH3_64bits(c->ram->base + p * VM_PAGE_SIZE, VM_PAGE_SIZE);
            if (now == c->hashes[p] && now != 0)
                continue;
            page_set_add_run(pages, p, 1);
            if (take)
                c->hashes[p] = now;
        }
    }
    return TRUE;
}

static gboolean compare_peek(gpointer state, guint64 first, guint64 count, PageSet *pages,
                             GError **error)
{
    return look(state, first, first + count, FALSE, pages, error);
}

static gboolean compare_harvest(gpointer state, PageSet *pages, GError **error)
{
    /* Nothing starts over: what counts is dirty_tracker_copied(). */
    return look(state, 0, page_set_limit(pages), FALSE, pages, error);
}

static gboolean compare_harvest_still(gpointer state, PageSet *pages, GError **error)
{
    return look(state, 0, page_set_limit(pages), TRUE, pages, error);
}

static void compare_interrupt(gpointer state, gboolean interrupt)
{
    Compare *c = state;
    g_atomic_int_set(&c->interrupted, interrupt);
}

static void compare_copied(gpointer state, guint64 page, const guint8 *data)
{
    Compare *c = state;
    c->hashes[page] = data ? XXH3_64bits(data, VM_PAGE_SIZE) : c->zero_hash;
}

const DirtyOps dirty_compare_ops = {
    .name = "compare",
    .start = compare_start,
    .stop = compare_stop,
    .harvest = compare_harvest,
    .peek = compare_peek,
    .sees_ours = TRUE,
    .copied = compare_copied,
    .harvest_still = compare_harvest_still,
    .interrupt = compare_interrupt,
};
