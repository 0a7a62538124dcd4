/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a method of dirty tracking is, seen from dirty.c. */
#ifndef COLO_CHECKPOINT_DIRTY_INTERNAL_H
#define COLO_CHECKPOINT_DIRTY_INTERNAL_H

#include "checkpoint/checkpoint_internal.h"

typedef struct {
    const char *name;
    /* The method's own state, or NULL with CHECKPOINT_ERROR_TRACKING. `ram` outlives it. */
    gpointer (*start)(const VmRam *ram, GError **error);
    void (*stop)(gpointer state);
    gboolean (*harvest)(gpointer state, PageSet *pages, GError **error);
    /* As harvest of `count` pages from `first` on, but starts nothing over. */
    gboolean (*peek)(gpointer state, guint64 first, guint64 count, PageSet *pages, GError **error);
    /* See dirty_tracker_sees_ours(). */
    gboolean sees_ours;
    /* See dirty_tracker_copied(). NULL: no need to know. */
    void (*copied)(gpointer state, guint64 page, const guint8 *data);
    /* See dirty_tracker_harvest_still(). NULL: as harvest. */
    gboolean (*harvest_still)(gpointer state, PageSet *pages, GError **error);
    /* See dirty_tracker_suspend(). NULL, both: nothing to do. */
    void (*suspend)(gpointer state);
    gboolean (*resume)(gpointer state, GError **error);
    /* See dirty_tracker_interrupt(). NULL: it is fast enough. */
    void (*interrupt)(gpointer state, gboolean interrupt);
} DirtyOps;

extern const DirtyOps dirty_uffd_ops;
extern const DirtyOps dirty_soft_ops;
extern const DirtyOps dirty_compare_ops;

/*
 * Which gaps between written pages are to be protected together with them, so that `calls` calls do:
 * those of fewer pages than the result. gaps[n] gaps have 2^(n-1) to 2^n - 1 pages, and the last class
 * has all larger ones too. The smallest are always joined: a call costs more than mapping them again.
 */
#define DIRTY_GAP_CLASSES       32u
#define DIRTY_GAP_ALWAYS_JOINED 3u
guint64 dirty_join_below(const guint32 gaps[DIRTY_GAP_CLASSES], guint calls);

/* Opens /proc/PID/`file`; errors name the right that is missing. -1 on error. */
int dirty_open_proc(pid_t pid, const char *file, int flags, GError **error);

#endif
