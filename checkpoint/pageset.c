/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bitmap of pages. Sets are sparse or full of runs, so everything goes 64 pages at a time: a word
 * of no interest costs one comparison.
 *
 * Invariants: no bit at or above `pages` is ever set; `count` is the number of bits set.
 */
#include <string.h>

#include "checkpoint/checkpoint_internal.h"

struct PageSet {
    guint64 pages;
    guint64 count;
    guint64 words;
    guint64 *bits;
};

/* The bits from `from` to the end of a word. */
static inline guint64 mask_from(guint from)
{
    return ~G_GUINT64_CONSTANT(0) << from;
}

static inline guint popcount(guint64 word)
{
    return (guint)__builtin_popcountll(word);
}

PageSet *page_set_new(guint64 pages)
{
    PageSet *set = g_new(PageSet, 1);
    set->pages = pages;
    set->count = 0;
    set->words = (pages + 63) / 64;
    set->bits = g_new0(guint64, MAX(set->words, 1));
    return set;
}

PageSet *page_set_copy(const PageSet *set)
{
    PageSet *copy = page_set_new(set->pages);
    page_set_add_set(copy, set);
    return copy;
}

void page_set_free(PageSet *set)
{
    if (!set)
        return;
    g_free(set->bits);
    g_free(set);
}

/* Applies `set` (or clear) to all bits of a run, word by word. */
static void change_run(PageSet *set, guint64 first, guint64 count, gboolean add)
{
    g_assert(first <= set->pages && count <= set->pages - first);
    guint64 end = first + count;
    while (first < end) {
        guint64 word = first / 64, stop = MIN((word + 1) * 64, end);
        guint64 mask = mask_from(first % 64);
        if (stop % 64)
            mask &= ~mask_from(stop % 64);
        guint before = popcount(set->bits[word]);
        if (add)
            set->bits[word] |= mask;
        else
            set->bits[word] &= ~mask;
        set->count += popcount(set->bits[word]);
        set->count -= before;
        first = stop;
    }
}

void page_set_add_run(PageSet *set, guint64 first, guint64 count)
{
    change_run(set, first, count, TRUE);
}

void page_set_remove_run(PageSet *set, guint64 first, guint64 count)
{
    change_run(set, first, count, FALSE);
}

void page_set_clear(PageSet *set)
{
    if (set->count > 0)
        memset(set->bits, 0, set->words * sizeof(guint64));
    set->count = 0;
}

gboolean page_set_contains(const PageSet *set, guint64 page)
{
    return page < set->pages && (set->bits[page / 64] >> (page % 64) & 1);
}

guint64 page_set_count(const PageSet *set)
{
    return set->count;
}

guint64 page_set_limit(const PageSet *set)
{
    return set->pages;
}

void page_set_add_set(PageSet *set, const PageSet *other)
{
    g_assert(set->pages == other->pages);
    for (guint64 i = 0; other->count > 0 && i < set->words; i++) {
        guint64 added = other->bits[i] & ~set->bits[i];
        set->bits[i] |= added;
        set->count += popcount(added);
    }
}

void page_set_remove_set(PageSet *set, const PageSet *other)
{
    g_assert(set->pages == other->pages);
    for (guint64 i = 0; other->count > 0 && i < set->words; i++) {
        guint64 removed = other->bits[i] & set->bits[i];
        set->bits[i] &= ~removed;
        set->count -= popcount(removed);
    }
}

guint64 page_set_count_union(const PageSet *set, const PageSet *other)
{
    g_assert(set->pages == other->pages);
    guint64 count = set->count;
    for (guint64 i = 0; other->count > 0 && i < set->words; i++)
        count += popcount(other->bits[i] & ~set->bits[i]);
    return count;
}

/* The first page at or after `from` whose bit, xored with `flip`, is set; `pages` if none. */
static guint64 find_next(const PageSet *set, guint64 from, guint64 flip)
{
    if (from >= set->pages)
        return set->pages;
    guint64 i = from / 64;
    guint64 word = (set->bits[i] ^ flip) & mask_from(from % 64);
    while (word == 0) {
        if (++i == set->words)
            return set->pages;
        word = set->bits[i] ^ flip;
    }
    return MIN(i * 64 + (guint)__builtin_ctzll(word), set->pages);
}

gboolean page_set_next_run(const PageSet *set, guint64 from, guint64 *ret_first, guint64 *ret_count)
{
    guint64 first = set->count > 0 ? find_next(set, from, 0) : set->pages;
    if (first == set->pages)
        return FALSE;
    *ret_first = first;
    *ret_count = find_next(set, first, ~G_GUINT64_CONSTANT(0)) - first;
    return TRUE;
}
