/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint/'s dirty tracking and load guard, without userfaultfd and threads. The guest's own
 * dirty pages are the tracker, and an order of the guard is a step of the world.
 */
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "tests/world/world.h"

/* ---- Dirty tracking ---- */

struct DirtyTracker {
    SimVm *vm;
};

DirtyTracker *dirty_tracker_new(const VmRam *ram, DirtyMethod method, GError **error)
{
    (void)method;
    (void)error;
    DirtyTracker *tracker = g_new0(DirtyTracker, 1);
    tracker->vm = sim_vm_of(ram);
    return tracker;
}

void dirty_tracker_free(DirtyTracker *tracker)
{
    g_free(tracker);
}

DirtyMethod dirty_tracker_method(const DirtyTracker *tracker)
{
    (void)tracker;
    return DIRTY_METHOD_UFFD;
}

const char *dirty_method_name(DirtyMethod method)
{
    return method == DIRTY_METHOD_UFFD ? "uffd" : "auto";
}

const char *dirty_tracker_passed_over(const DirtyTracker *tracker)
{
    (void)tracker;
    return NULL;
}

gboolean dirty_method_parse(const char *name, DirtyMethod *ret_method)
{
    (void)name;
    *ret_method = DIRTY_METHOD_AUTO;
    return TRUE;
}
/* ---- Load guard ---- */

typedef enum { BEFORE, BEFORE_LAST, AFTER, WRITTEN } Order;

struct LoadGuard {
    WorldHost *host;
    SimVm *vm;
    guint32 known, wrong, found;
    gboolean keeps_all;
    guint32 kept[WORLD_PAGES];
    Order order;
    LoadGuardDone done;
    gpointer user_data;
    GSource *step;
};

LoadGuard *load_guard_new(const VmRam *ram, DirtyTracker *tracker, GError **error)
{
    (void)tracker;
    (void)error;
    LoadGuard *guard = g_new0(LoadGuard, 1);
    guard->host = world.current;
    guard->vm = sim_vm_of(ram);
    return guard;
}

void load_guard_free(LoadGuard *guard)
{
    if (!guard)
        return;
    world_source_clear(&guard->step);
    g_free(guard);
}

void load_guard_reset(LoadGuard *guard)
{
    g_assert_null(guard->done);
    guard->known = guard->wrong = 0;
}

static void put_back(LoadGuard *guard, guint32 which)
{
    for (guint page = 0; page < WORLD_PAGES; page++)
        if (which & (1u << page))
            guard->vm->ram[page] = guard->kept[page];
}

static gboolean on_order(gpointer data)
{
    LoadGuard *guard = data;
    LoadGuardDone done = guard->done;
    world_source_clear(&guard->step);
    guard->done = NULL;
    guint32 found = guard->vm->dirty;
    guard->vm->dirty = 0;
    if (guard->vm->vm.running)
        world_fail("%s: a VM that runs is looked at", guard->host->name);
    switch (guard->order) {
    case BEFORE:
    case BEFORE_LAST:
        found = 0;
        memcpy(guard->kept, guard->vm->ram, sizeof(guard->kept));
        guard->keeps_all = guard->order == BEFORE_LAST;
        break;
    case AFTER:
        put_back(guard, guard->keeps_all ? G_MAXUINT32 : guard->known);
        found = guard->keeps_all ? 0 : found & ~guard->known;
        guard->known |= found;
        guard->wrong |= found;
        if (found)
            world_sometimes("a load writes to a page that it has not written to before");
        break;
    case WRITTEN:
        found |= guard->wrong;
        guard->wrong = 0;
        break;
    }
    g_autoptr(PageSet) pages = page_set_new(WORLD_PAGES);
    for (guint page = 0; page < WORLD_PAGES; page++)
        if (found & (1u << page))
            page_set_add_run(pages, page, 1);
    done(pages, NULL, guard->user_data);
    return G_SOURCE_REMOVE;
}

static void order(LoadGuard *guard, Order which, LoadGuardDone done, gpointer user_data)
{
    g_assert_null(guard->done);
    guard->order = which;
    guard->done = done;
    guard->user_data = user_data;
    guard->step = world_after(guard->host, world_between(100, 2000), on_order, guard);
}

void load_guard_before(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    order(guard, BEFORE, done, user_data);
}

void load_guard_before_last(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    order(guard, BEFORE_LAST, done, user_data);
}

void load_guard_after(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    order(guard, AFTER, done, user_data);
}

void load_guard_written(LoadGuard *guard, LoadGuardDone done, gpointer user_data)
{
    order(guard, WRITTEN, done, user_data);
}
