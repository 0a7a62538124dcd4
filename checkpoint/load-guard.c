/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps RAM that of the checkpoint while device state is loaded. What is kept is never wrong: an
 * owner whose load has written to a page that was not known does not load again before a checkpoint
 * has carried that page.
 *
 * A look at all of RAM takes half a millisecond for each GiB (uffd) or a tenth of a second
 * (compare). So it is not for a main loop, and there are no more than needed: one after the VM has
 * run (WRITTEN), one after the load (AFTER). Between them the VM is paused. That isn't trusted:
 *
 *     Each page that a look has found is reported, or is known and was put back.
 *
 * So what is written between the two looks, by whomever, counts as the load's: the copy doesn't run
 * from it, and the next checkpoint carries it. Before a load only the known pages are looked at,
 * for their saved contents would be put back. One that was written is known no more, and AFTER
 * finds it.
 *
 * Two looks before a load throw away what they have found. One is the first of a session, whose
 * first checkpoint has named all RAM, and nobody else has written to it since that was told
 * (base.h): the VM is paused, and QEMU has answered before. The others are those of trackers
 * that also see what a checkpoint has changed (compare; soft-dirty, of pages that the VM has no
 * entry for). uffd doesn't see that, not even when memory was given back to the host: what is
 * protected stays so without it.
 *
 * The thread has the sets and the tracker while an order is under way, the owner at all other
 * times.
 */
#include <string.h>

#include "checkpoint/checkpoint_internal.h"

typedef enum {
    ORDER_NONE,
    ORDER_BEFORE,
    ORDER_BEFORE_LAST,
    ORDER_AFTER,
    ORDER_WRITTEN,
    ORDER_END
} Order;

struct LoadGuard {
    const VmRam *ram;
    DirtyTracker *tracker;
    Mailbox *mailbox;
    GThread *thread;
    LoadGuardDone done;
    gpointer user_data;

    GMutex lock;
    GCond changed;
    Order order; /* under lock */

    PageSet *known;     /* pages that loads have written to */
    PageSet *wrong;     /* pages that the next checkpoint has to put right */
    PageSet *found;     /* scratch: of the harvest at hand, and what is reported */
    PageKeeper *keeper; /* of the last load; NULL: of another */
    guint8 *kept;       /* contents of the known pages before the load at hand, in order */
    gboolean accounted; /* for all that a look would find, if the VM was paused since */
    guint64 looks;
};

/* ---- The thread ---- */

/* Copies the known pages, in order, or puts the copy back. */
static void copy_known(LoadGuard *guard, gboolean put_back)
{
    guint8 *kept = guard->kept;
    guint64 first, count;
    for (guint64 at = 0; page_set_next_run(guard->known, at, &first, &count); at = first + count) {
        guint8 *ram = guard->ram->base + first * VM_PAGE_SIZE;
        gsize len = count * VM_PAGE_SIZE;
        if (put_back)
            memcpy(ram, kept, len);
        else
            memcpy(kept, ram, len);
        kept += len;
        for (guint64 page = first; put_back && page < first + count; page++)
            dirty_tracker_copied(guard->tracker, page, guard->ram->base + page * VM_PAGE_SIZE);
    }
}

static gboolean look(LoadGuard *guard, GError **error)
{
    guard->looks++;
    guard->accounted = dirty_tracker_harvest_still(guard->tracker, guard->found, error);
    return guard->accounted;
}

/* Known pages that were written since the last look are not the checkpoint's, so not to be kept. */
static gboolean forget_written(LoadGuard *guard, GError **error)
{
    guint64 first, count;
    for (guint64 at = 0; page_set_next_run(guard->known, at, &first, &count); at = first + count)
        if (!dirty_tracker_peek_run(guard->tracker, first, count, guard->found, error))
            return FALSE;
    page_set_remove_set(guard->known, guard->found);
    return TRUE;
}

static gboolean keep_known(LoadGuard *guard, GError **error)
{
    gboolean trust = guard->accounted && !dirty_tracker_sees_ours(guard->tracker);
    if (!(trust ? forget_written : look)(guard, error))
        return FALSE;
    page_set_clear(guard->found);
    guard->kept = g_realloc(guard->kept, page_set_count(guard->known) * VM_PAGE_SIZE);
    copy_known(guard, FALSE);
    return TRUE;
}

static gboolean keep_all(LoadGuard *guard)
{
    if (guard->ram->uffd_sync < 0)
        return FALSE;
    guard->accounted = FALSE; /* after it all counts as written */
    dirty_tracker_suspend(guard->tracker);
    guard->keeper = page_keeper_new(guard->ram, NULL);
    return guard->keeper != NULL;
}

static gboolean carry_out(LoadGuard *guard, Order order, GError **error)
{
    page_set_clear(guard->found);
    if (order == ORDER_BEFORE_LAST && keep_all(guard))
        return TRUE;
    if (order == ORDER_BEFORE || order == ORDER_BEFORE_LAST)
        return keep_known(guard, error);
    if (order == ORDER_AFTER && guard->keeper) {
        page_keeper_put_back(guard->keeper);
        g_clear_pointer(&guard->keeper, page_keeper_free);
        return TRUE;
    }
    if (!look(guard, error))
        return FALSE;
    if (order == ORDER_AFTER) {
        copy_known(guard, TRUE);
        page_set_remove_set(guard->found, guard->known);
        page_set_add_set(guard->known, guard->found);
        page_set_add_set(guard->wrong, guard->found);
    } else {
        page_set_add_set(guard->found, guard->wrong);
        page_set_clear(guard->wrong);
    }
    return TRUE;
}

static gpointer guard_thread(gpointer data)
{
    LoadGuard *guard = data;
    for (;;) {
        g_mutex_lock(&guard->lock);
        while (guard->order == ORDER_NONE)
            g_cond_wait(&guard->changed, &guard->lock);
        Order order = guard->order;
        if (order != ORDER_END)
            guard->order = ORDER_NONE;
        g_mutex_unlock(&guard->lock);
        if (order == ORDER_END)
            return NULL;
        GError **answer = g_new0(GError *, 1);
        carry_out(guard, order, answer);
        mailbox_post(guard->mailbox, answer);
    }
}

/* ---- The owner's side ---- */

static void deliver(gpointer message, gboolean wanted, gpointer user_data)
{
    g_autofree GError **answer = message;
    g_autoptr(GError) error = *answer;
    LoadGuard *guard = user_data;
    if (!wanted)
        return;
    LoadGuardDone done = guard->done;
    guard->done = NULL;
    done(error ? NULL : guard->found, error, guard->user_data);
}

static void give(LoadGuard *guard, Order order)
{
    g_mutex_lock(&guard->lock);
    guard->order = order;
    g_cond_signal(&guard->changed);
    g_mutex_unlock(&guard->lock);
}

static void begin(LoadGuard *guard, Order order, LoadGuardDone done, gpointer user_data)
{
    g_assert(!guard->done);
    guard->done = done;
    guard->user_data = user_data;
    give(guard, order);
}

void load_guard_before(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    begin(guard, ORDER_BEFORE, done, user_data);
}

void load_guard_before_last(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    begin(guard, ORDER_BEFORE_LAST, done, user_data);
}

void load_guard_after(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    begin(guard, ORDER_AFTER, done, user_data);
}

void load_guard_written(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    begin(guard, ORDER_WRITTEN, done, user_data);
}

void load_guard_reset(LoadGuard *guard)
{
    g_assert(!guard->done);
    page_set_clear(guard->known);
    page_set_clear(guard->wrong);
    guard->accounted = FALSE;
}

const PageSet *load_guard_known(const LoadGuard *guard)
{
    return guard->known;
}

guint64 load_guard_looks(const LoadGuard *guard)
{
    return guard->looks;
}

void load_guard_mark(LoadGuard *guard, guint64 first, guint64 count)
{
    g_assert(!guard->done);
    page_set_add_run(guard->wrong, first, count);
}

LoadGuard *load_guard_new(const VmRam *ram, DirtyTracker *tracker, GError **error)
{
    guint64 pages = ram->size_bytes / VM_PAGE_SIZE;
    g_autoptr(LoadGuard) guard = g_new0(LoadGuard, 1);
    g_mutex_init(&guard->lock);
    g_cond_init(&guard->changed);
    guard->ram = ram;
    guard->tracker = tracker;
    guard->known = page_set_new(pages);
    guard->wrong = page_set_new(pages);
    guard->found = page_set_new(pages);
    guard->mailbox = mailbox_new(deliver, guard);
    guard->thread = g_thread_try_new("colo-guard", guard_thread, guard, error);
    if (!guard->thread) {
        g_prefix_error(error, "guard thread: ");
        return NULL;
    }
    return g_steal_pointer(&guard);
}

void load_guard_free(LoadGuard *guard)
{
    if (!guard)
        return;
    dirty_tracker_interrupt(guard->tracker, TRUE);
    if (guard->thread) {
        give(guard, ORDER_END);
        g_thread_join(guard->thread);
    }
    /* Of a VM that is kept, the tracker goes on with another guard. */
    dirty_tracker_interrupt(guard->tracker, FALSE);
    mailbox_close(guard->mailbox);
    page_keeper_free(guard->keeper);
    page_set_free(guard->known);
    page_set_free(guard->wrong);
    page_set_free(guard->found);
    g_free(guard->kept);
    g_mutex_clear(&guard->lock);
    g_cond_clear(&guard->changed);
    g_free(guard);
}
