/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the controlling thread does to a replica: its images become a complete checkpoint's, and at
 * a takeover this side's own.
 *
 * disk_set_apply() is atomic: the state file's `committed` decides. Before it names the epoch, the
 * journals mean nothing; from then on every process that opens the set applies them.
 */
#include <string.h>

#include "block/set.h"

static gboolean not_now(DiskSet *set, guint64 epoch, const char *what, GError **error)
{
    g_mutex_lock(&set->mutex);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE,
                "checkpoint %" G_GUINT64_FORMAT " can't be %s: the disks are %s, %s, at checkpoint "
                "%" G_GUINT64_FORMAT " with %" G_GUINT64_FORMAT " complete",
                epoch, what, disk_mode_name(set->mode),
                set->replica_synced ? "synchronised" : "not synchronised", set->record.applied,
                set->complete_epoch);
    g_mutex_unlock(&set->mutex);
    return FALSE;
}

/* The decision: from here on the complete stages will be applied, whatever happens. */
static gboolean commit(DiskSet *set, guint64 epoch, GError **error)
{
    guint64 before = set->record.committed;
    if (before == epoch)
        return TRUE; /* an earlier try got this far */
    set->record.committed = epoch;
    if (set_write_state(set, FALSE, FALSE, error))
        return TRUE;
    set->record.committed = before;
    return FALSE;
}

/* In a long apply: how often progress is reported. */
#define APPLYING_US (200 * 1000)

typedef struct {
    DiskSet *set;
    guint index; /* of the disk */
    guint64 epoch;
    gint64 told_us;
} Applying;

static void tell_applying(gpointer data)
{
    Applying *applying = data;
    gint64 now = g_get_monotonic_time();
    if (now - applying->told_us < APPLYING_US)
        return;
    applying->told_us = now;
    if (applying->set->callbacks.applying)
        applying->set->callbacks.applying(applying->epoch, applying->set->user_data);
}

static void on_entry(guint64 offset, guint64 len, gpointer data)
{
    Applying *applying = data;
    settler_note(applying->set->settler, applying->index, offset, len);
    tell_applying(applying);
}

/* What is not on the medium and has failed to get there can't be taken over any more. */
static gboolean check_settled(DiskSet *set, GError **error)
{
    for (guint i = 0; i < set->n_disks; i++) {
        int r = g_atomic_int_get(&set->disks[i].image.sync_error);
        if (r < 0)
            return set_disk_failed(&set->disks[i], "sync it", r, error);
    }
    return TRUE;
}

static gboolean apply_stages(DiskSet *set, Applying *applying, GError **error)
{
    guint64 epoch = applying->epoch;
    guint complete = 1 - set->open_stage;
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        applying->index = i;
        int r = overlay_reset(&disk->overlay);
        if (r < 0)
            return set_disk_failed(disk, "empty the overlay", r, error);
        if (!stage_apply(&disk->stages[complete], &disk->image, on_entry, applying, error)) {
            g_prefix_error(error, "disk %s: ", disk->config.name);
            return FALSE;
        }
    }
    set->record.applied = epoch;
    if (!set_write_state(set, FALSE, FALSE, error)) {
        set->record.applied = 0;
        return FALSE;
    }
    /* The space comes back now or with the next reset: no reason to fail. What is kept of a journal
     * the kernel writes out some time: only what the medium takes without being held up. */
    guint64 keep_bytes = settler_epoch_bytes(set->settler) / 4;
    for (guint i = 0; i < set->n_disks; i++)
        stage_forget(&set->disks[i].stages[complete], keep_bytes);
    set->complete_epoch = 0;
    return TRUE;
}

gboolean disk_set_apply(DiskSet *set, guint64 epoch, GError **error)
{
    g_mutex_lock(&set->mutex);
    gboolean synced = set->mode == DISK_MODE_REPLICA && set->replica_synced;
    gboolean done = synced && set->record.applied == epoch && set->record.committed == epoch;
    gboolean can = synced && set->complete_epoch == epoch && epoch != 0;
    g_mutex_unlock(&set->mutex);
    if (done)
        return TRUE;
    if (!can)
        return not_now(set, epoch, "applied", error);
    /* The next epoch comes only when most of those before is on the medium: a takeover has no more
     * than this one to sync. */
    Applying applying = {.set = set, .epoch = epoch, .told_us = g_get_monotonic_time()};
    settler_wait(set->settler, tell_applying, &applying, NULL);
    set_exclude(set);
    g_mutex_lock(&set->mutex);
    gboolean ok = check_settled(set, error) && commit(set, epoch, error) &&
                  apply_stages(set, &applying, error);
    g_cond_broadcast(&set->stage_free);
    g_mutex_unlock(&set->mutex);
    set_unlock(set);
    if (ok) {
        throttle_limit(&set->throttle, settler_epoch_bytes(set->settler));
        throttle_begin_epoch(&set->throttle);
    }
    if (ok && set->replica)
        disk_replica_send_applied(set->replica, epoch);
    return ok;
}

gboolean disk_set_finish(DiskSet *set, guint64 epoch, GError **error)
{
    if (!disk_set_apply(set, epoch, error))
        return FALSE;
    g_mutex_lock(&set->mutex);
    Generation before = set->record.generation;
    generation_reach(&set->record.generation);
    gboolean ok = set_end_cleanly(set, error);
    if (!ok)
        set->record.generation = before;
    g_mutex_unlock(&set->mutex);
    return ok;
}

/* ---- Takeover ---- */

static int merge_run(guint64 offset, const void *buf, gsize len, gpointer user_data)
{
    Disk *disk = user_data;
    int r = chunk_map_set(&disk->dirty[disk->set->current_map], offset, len);
    return r < 0 ? r : image_write(&disk->image, buf, len, offset);
}

/* The images become what the local guest has seen. Until that is durable they are INCOMPLETE:
 * whoever dies or fails in between leaves no usable replica (but this process can try again). */
static gboolean merge(DiskSet *set, GError **error)
{
    set_change_state(set, BLOCK_STATE_INCOMPLETE);
    if (!set_write_state(set, FALSE, FALSE, error))
        return FALSE;
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        int r = overlay_foreach(&disk->overlay, merge_run, disk);
        if (r == 0)
            r = image_sync(&disk->image);
        if (r < 0)
            return set_disk_failed(disk, "write the overlay into it", r, error);
    }
    set_change_state(set, BLOCK_STATE_OWNED);
    set->record.writer = FALSE;
    if (set->record.generation.data == GENERATION_BEHIND)
        generation_take_over(&set->record.generation);
    if (set_write_state(set, FALSE, TRUE, error))
        return TRUE;
    set_change_state(set, BLOCK_STATE_INCOMPLETE);
    return FALSE;
}

gboolean disk_set_takeover(DiskSet *set, guint64 epoch, GError **error)
{
    disk_set_detach(set);
    g_mutex_lock(&set->mutex);
    gboolean can = set->mode == DISK_MODE_REPLICA && set->replica_synced &&
                   set->record.applied == epoch && set->record.committed == epoch;
    g_mutex_unlock(&set->mutex);
    if (!can)
        return not_now(set, epoch, "taken over", error);
    /* Nothing but the storage's own time holds up a VM that is being taken over. */
    throttle_limit(&set->throttle, 0);
    set_exclude(set);
    g_mutex_lock(&set->mutex);
    gboolean ok = merge(set, error);
    if (ok) {
        set_close_overlays(set);
        set_change_mode(set, DISK_MODE_ACTIVE);
        set->replica_synced = FALSE;
        set->complete_epoch = 0;
        for (guint i = 0; i < set->n_disks; i++)
            for (guint k = 0; k < 2; k++)
                stage_reset(&set->disks[i].stages[k]);
    }
    g_mutex_unlock(&set->mutex);
    set_unlock(set);
    return ok;
}
