/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chooses a method of dirty tracking and calls it. Each method upholds one contract, and each test
 * tries to break it: a page that changed after the harvest that last reported it is reported by the
 * next harvest. A page may be reported without need, never the other way.
 *
 * Two kinds of change are not writes and are not seen by uffd or soft-dirty:
 * - what is written through another mapping than the VM's own, so by colod itself through VmRam.base.
 *   What it writes while the VM runs, for the VM's cards, is in VmRam.log: it is part of each harvest
 *   here, for all methods. What is written into RAM of a VM that is paused (an apply) is not: the writer
 *   adds the pages to the set;
 * - a clean page that the VM gives back to the host (virtio-balloon, free page reporting). Its
 *   contents are undefined for the guest from then on (virtio 1.2, 5.5.6), so the secondary may
 *   keep the old ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "checkpoint/dirty_internal.h"

G_DEFINE_QUARK(checkpoint_error, checkpoint_error)

struct DirtyTracker {
    DirtyMethod method;
    const DirtyOps *ops;
    gpointer state;
    RamLog *log;       /* borrowed; NULL: nobody writes but the VM */
    char *passed_over; /* or NULL */
    gboolean suspended;
};

static const DirtyOps *ops_of(DirtyMethod method)
{
    switch (method) {
    case DIRTY_METHOD_UFFD:
        return &dirty_uffd_ops;
    case DIRTY_METHOD_SOFT_DIRTY:
        return &dirty_soft_ops;
    case DIRTY_METHOD_COMPARE:
        return &dirty_compare_ops;
    case DIRTY_METHOD_AUTO:
        break;
    }
    return NULL;
}

const char *dirty_method_name(DirtyMethod method)
{
    const DirtyOps *ops = ops_of(method);
    return ops ? ops->name : "auto";
}

gboolean dirty_method_parse(const char *name, DirtyMethod *ret_method)
{
    for (DirtyMethod m = DIRTY_METHOD_AUTO; m <= DIRTY_METHOD_COMPARE; m++) {
        if (!strcmp(name, dirty_method_name(m))) {
            *ret_method = m;
            return TRUE;
        }
    }
    return FALSE;
}

int dirty_open_proc(pid_t pid, const char *file, int flags, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, file);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "open %s: %s%s", path,
                    g_strerror(errno),
                    errno == EACCES || errno == EPERM
                        ? " (run as the VM's own user, or with CAP_SYS_PTRACE)"
                        : "");
    return fd;
}

static DirtyTracker *start(const VmRam *ram, DirtyMethod method, GError **error)
{
    const DirtyOps *ops = ops_of(method);
    gpointer state = ops->start(ram, error);
    if (!state) {
        g_prefix_error(error, "%s: ", ops->name);
        return NULL;
    }
    DirtyTracker *tracker = g_new(DirtyTracker, 1);
    *tracker = (DirtyTracker){.method = method, .ops = ops, .state = state, .log = ram->log};
    return tracker;
}

DirtyTracker *dirty_tracker_new(const VmRam *ram, DirtyMethod method, GError **error)
{
    if (method != DIRTY_METHOD_AUTO) {
        DirtyTracker *tracker = start(ram, method, error);
        if (!tracker)
            g_prefix_error(error, "dirty pages can't be tracked: ");
        return tracker;
    }
    g_autoptr(GString) why = g_string_new(NULL);
    for (DirtyMethod m = DIRTY_METHOD_UFFD; m <= DIRTY_METHOD_COMPARE; m++) {
        g_autoptr(GError) failed = NULL;
        DirtyTracker *tracker = start(ram, m, &failed);
        if (tracker) {
            tracker->passed_over = why->len > 0 ? g_strdup(why->str) : NULL;
            return tracker;
        }
        g_string_append_printf(why, "%s%s", why->len ? "; " : "", failed->message);
    }
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING,
                "dirty pages can't be tracked by any method: %s", why->str);
    return NULL;
}

void dirty_tracker_free(DirtyTracker *tracker)
{
    if (!tracker)
        return;
    tracker->ops->stop(tracker->state);
    g_free(tracker->passed_over);
    g_free(tracker);
}

DirtyMethod dirty_tracker_method(const DirtyTracker *tracker)
{
    return tracker->method;
}

const char *dirty_tracker_passed_over(const DirtyTracker *tracker)
{
    return tracker->passed_over;
}

/* What was written while it was suspended is not known: so all was. */
static gboolean resume(DirtyTracker *tracker, PageSet *pages, GError **error)
{
    if (!tracker->suspended)
        return TRUE;
    if (!tracker->ops->resume(tracker->state, error))
        return FALSE;
    tracker->suspended = FALSE;
    page_set_add_run(pages, 0, page_set_limit(pages));
    return TRUE;
}

/* ---- What we have written ourselves ---- */

static void add_word(guint64 first, guint64 marks, gpointer user_data)
{
    while (marks) {
        guint64 from = (guint64)__builtin_ctzll(marks);
        guint64 gap = ~(marks >> from);
        guint64 count = gap ? (guint64)__builtin_ctzll(gap) : 64;
        page_set_add_run(user_data, first + from, count);
        marks &= from + count < 64 ? ~G_GUINT64_CONSTANT(0) << (from + count) : 0;
    }
}

static void take_log(DirtyTracker *tracker, PageSet *pages)
{
    if (tracker->log)
        ram_log_take(tracker->log, add_word, pages);
}

/* ---- */

gboolean dirty_tracker_harvest(DirtyTracker *tracker, PageSet *pages, GError **error)
{
    take_log(tracker, pages);
    return resume(tracker, pages, error) && tracker->ops->harvest(tracker->state, pages, error);
}

gboolean dirty_tracker_harvest_still(DirtyTracker *tracker, PageSet *pages, GError **error)
{
    take_log(tracker, pages);
    return resume(tracker, pages, error) &&
           (tracker->ops->harvest_still ? tracker->ops->harvest_still
                                        : tracker->ops->harvest)(tracker->state, pages, error);
}

void dirty_tracker_suspend(DirtyTracker *tracker)
{
    if (!tracker->ops->suspend || tracker->suspended)
        return;
    tracker->ops->suspend(tracker->state);
    tracker->suspended = TRUE;
}

void dirty_tracker_interrupt(DirtyTracker *tracker, gboolean interrupt)
{
    if (tracker->ops->interrupt)
        tracker->ops->interrupt(tracker->state, interrupt);
}

gboolean dirty_tracker_peek_run(DirtyTracker *tracker, guint64 first, guint64 count, PageSet *pages,
                                GError **error)
{
    if (tracker->log)
        ram_log_look(tracker->log, first, count, add_word, pages);
    if (!tracker->suspended)
        return tracker->ops->peek(tracker->state, first, count, pages, error);
    page_set_add_run(pages, first, count);
    return TRUE;
}

gboolean dirty_tracker_peek(DirtyTracker *tracker, PageSet *pages, GError **error)
{
    return dirty_tracker_peek_run(tracker, 0, page_set_limit(pages), pages, error);
}

gboolean dirty_tracker_sees_ours(const DirtyTracker *tracker)
{
    return tracker->ops->sees_ours;
}

void dirty_tracker_copied(DirtyTracker *tracker, guint64 page, const guint8 *data)
{
    if (tracker->ops->copied)
        tracker->ops->copied(tracker->state, page, data);
}
