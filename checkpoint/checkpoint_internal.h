/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of checkpoint/ share with each other and with its tests. */
#ifndef COLO_CHECKPOINT_CHECKPOINT_INTERNAL_H
#define COLO_CHECKPOINT_CHECKPOINT_INTERNAL_H

#include "checkpoint/checkpoint.h"

/* ---- pageset.c ---- */

/* One more than the highest page number that fits. */
guint64 page_set_limit(const PageSet *set);
void page_set_remove_run(PageSet *set, guint64 first, guint64 count);
/* Both sets have the same limit. */
void page_set_add_set(PageSet *set, const PageSet *other);
void page_set_remove_set(PageSet *set, const PageSet *other);
guint64 page_set_count_union(const PageSet *set, const PageSet *other);

/* ---- dirty.c ---- */

/* As dirty_tracker_harvest(), but the next harvest reports the same pages again. */
gboolean dirty_tracker_peek(DirtyTracker *tracker, PageSet *pages, GError **error);
/* The same of `count` pages from `first` on only. */
gboolean dirty_tracker_peek_run(DirtyTracker *tracker, guint64 first, guint64 count, PageSet *pages,
                                GError **error);

/* Whether pages are reported that colod has written itself, through its own mapping or the memfd.
 */
gboolean dirty_tracker_sees_ours(const DirtyTracker *tracker);

/* As dirty_tracker_harvest(), of RAM that nobody writes to meanwhile: what is there is what would
 * be copied, so COMPARE needs no dirty_tracker_copied(). */
gboolean dirty_tracker_harvest_still(DirtyTracker *tracker, PageSet *pages, GError **error);

/* Any thread: has a harvest that would take long fail soon, now and until it is FALSE again. */
void dirty_tracker_interrupt(DirtyTracker *tracker, gboolean interrupt);

/* Unregisters the VM's mapping until the next look, which reports all pages. (uffd only: the others
 * register nothing.) */
void dirty_tracker_suspend(DirtyTracker *tracker);

/* ---- page-keeper.c ---- */

typedef struct PageKeeper PageKeeper;

/* From now on pages are kept before they are written to by the VM's process. Error:
 * CHECKPOINT_ERROR_TRACKING if this can't be done here. */
PageKeeper *page_keeper_new(const VmRam *ram, GError **error);
/* Ends it: RAM is what it was at the start. Returns how many pages had been written to. */
guint64 page_keeper_put_back(PageKeeper *keeper);
void page_keeper_free(PageKeeper *keeper);

/* ---- load-guard.c, for tests; no order is under way ---- */

const PageSet *load_guard_known(const LoadGuard *guard);
/* As if the VM had written to these pages. */
void load_guard_mark(LoadGuard *guard, guint64 first, guint64 count);
/* How often it has looked at all of RAM. */
guint64 load_guard_looks(const LoadGuard *guard);

/* ---- ram.c ---- */

/* FALSE with CHECKPOINT_ERROR_MISMATCH if the stream can't describe this RAM. */
gboolean ram_check(const VmRam *ram, GError **error);

/*
 * Looks at the memfd from page `first` on, for `max` pages at most (at least 1). Returns whether
 * there is a hole, and sets *ret_count to how many pages have that answer. Reads and fills nothing.
 */
gboolean ram_next_extent(const VmRam *ram, guint64 first, guint64 max, guint64 *ret_count);

/* Sets pages to zero; gives the memory of long runs back to the host. Never fills holes. */
void ram_zero(const VmRam *ram, guint64 first, guint64 count);

/*
 * Writes pages that may have no memory yet. It writes through the memfd, where the kernel takes a
 * page and fills it. A fault that clears and maps it first takes twice as long (measured: 8 instead
 * of 3.4 us a page).
 */
void ram_write_new(const VmRam *ram, guint64 first, guint64 count, const guint8 *data);

gboolean page_is_zero(const guint8 *page);

/*
 * Page-sized slots, as many as RAM has pages: address space is reserved for all, memory taken as it
 * is used. For staging, so that memory that was used once is there the next time.
 */
typedef struct {
    guint8 *base;
    guint64 size_bytes;
    guint64 ready_bytes; /* memory is there for the slots below */
} Arena;

/* FALSE with CHECKPOINT_ERROR_IO if the address space can't be had. */
gboolean arena_init(Arena *arena, guint64 size_bytes, GError **error);
void arena_clear(Arena *arena);
/* Takes memory for the first `bytes` now, so that using them does not fault. */
void arena_prepare(Arena *arena, guint64 bytes);
/* Gives memory beyond the first `bytes` back. */
void arena_trim(Arena *arena, guint64 bytes);

/* ---- mailbox.c: from the engine's thread to its owner's main loop ---- */

typedef struct Mailbox Mailbox;

/* Runs on the owner's thread; frees `message`. `deliver` is FALSE if it must only be freed. */
typedef void (*MailboxFunc)(gpointer message, gboolean deliver, gpointer user_data);

/* On the owner's thread: messages will be dispatched by its thread-default GMainContext. */
Mailbox *mailbox_new(MailboxFunc func, gpointer user_data);

/* Any thread. In order, with high priority. */
void mailbox_post(Mailbox *mailbox, gpointer message);

/* On the owner's thread, also from within `func`: nothing is delivered any more. */
void mailbox_close(Mailbox *mailbox);

#endif
