/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guard of RAM that guards nothing: it names what a test has it find, when the test lets it. It
 * has no thread. It stands in for the real one: include it in the one source file of a test program.
 */
#ifndef COLO_TESTS_SUPPORT_GUARD_BY_HAND_H
#define COLO_TESTS_SUPPORT_GUARD_BY_HAND_H

#include "checkpoint/checkpoint.h"
#include "colo/node/told.h"

/* It may name more than a VM has: enough for an answer of three parts. */
#define GUARD_PAGES (5u * TOLD_RUNS_MAX)

struct LoadGuard {
    PageSet *found; /* by the next order that reports */
    const char *order;
    guint source;
    LoadGuardDone done;
    gpointer user_data;
};

typedef struct {
    void (*ordered)(const char *order, gpointer user_data);
    gpointer user_data;
    const char *held;   /* the order that isn't carried out; NULL: none */
    const char *broken; /* the one that fails, as of a VM that ends */
    gboolean none;      /* there can't be one */
} GuardScript;

static GuardScript guard_script;
static LoadGuard *guard; /* NULL: there is none */

LoadGuard *load_guard_new(const VmRam *ram, DirtyTracker *tracker, GError **error)
{
    g_assert_true(ram && tracker);
    g_assert_null(guard);
    if (guard_script.none) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "no threads are left");
        return NULL;
    }
    guard = g_new0(LoadGuard, 1);
    guard->found = page_set_new(GUARD_PAGES);
    return guard;
}

void load_guard_free(LoadGuard *freed)
{
    g_assert_true(freed == guard);
    if (!freed)
        return;
    if (freed->source)
        g_source_remove(freed->source);
    page_set_free(freed->found);
    g_clear_pointer(&guard, g_free);
}

void load_guard_reset(LoadGuard *of)
{
    g_assert_true(of == guard && !of->done);
    guard_script.ordered("reset", guard_script.user_data);
}

/* The callback may free the guard. */
static gboolean on_guard_due(gpointer data)
{
    LoadGuardDone done = g_steal_pointer(&guard->done);
    gboolean reports = !g_str_has_prefix(guard->order, "keep");
    g_autoptr(PageSet) pages = reports ? page_set_copy(guard->found) : page_set_new(GUARD_PAGES);
    g_autoptr(GError) error = NULL;
    (void)data;
    if (g_strcmp0(guard_script.broken, guard->order) == 0)
        g_set_error(&error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "no such process");
    if (reports)
        page_set_clear(guard->found);
    guard->source = 0;
    guard->order = NULL;
    done(error ? NULL : pages, error, guard->user_data);
    return G_SOURCE_REMOVE;
}

/* Carries out the order that is held, and holds none after it. */
static inline void guard_proceed(void)
{
    g_assert_true(guard->done && !guard->source);
    guard_script.held = NULL;
    on_guard_due(NULL);
}

static inline void guard_order(LoadGuard *of, const char *order, LoadGuardDone done,
                               gpointer user_data)
{
    g_assert_true(of == guard && !of->done);
    guard_script.ordered(order, guard_script.user_data);
    of->order = order;
    of->done = done;
    of->user_data = user_data;
    if (g_strcmp0(guard_script.held, order) != 0)
        of->source = g_idle_add_full(G_PRIORITY_DEFAULT, on_guard_due, NULL, NULL);
}

void load_guard_before(LoadGuard *of, LoadGuardDone done, gpointer user_data)
{
    guard_order(of, "keep", done, user_data);
}

void load_guard_before_last(LoadGuard *of, LoadGuardDone done, gpointer user_data)
{
    guard_order(of, "keep-last", done, user_data);
}

void load_guard_after(LoadGuard *of, LoadGuardDone done, gpointer user_data)
{
    guard_order(of, "repair", done, user_data);
}

void load_guard_written(LoadGuard *of, LoadGuardDone done, gpointer user_data)
{
    guard_order(of, "look", done, user_data);
}

#endif
