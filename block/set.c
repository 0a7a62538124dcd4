/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening a disk set, what an earlier process left, the modes, status. */
#include "block/set.h"

#include <errno.h>
#include <string.h>

G_DEFINE_QUARK(block_error, block_error)

void set_change_mode(DiskSet *set, DiskMode next)
{
    if (!disk_mode_may(set->mode, next))
        g_error("disks: %s -> %s", disk_mode_name(set->mode), disk_mode_name(next));
    if (next != set->mode)
        g_debug("disks: %s -> %s", disk_mode_name(set->mode), disk_mode_name(next));
    set->mode = next;
}

void set_change_state(DiskSet *set, BlockState next)
{
    BlockState before = set->record.state;
    if (!block_state_may(before, next))
        g_error("disks on record: %s -> %s", block_state_name(before), block_state_name(next));
    if (next != before)
        g_debug("disks on record: %s -> %s", block_state_name(before), block_state_name(next));
    set->record.state = next;
}

gboolean set_write_state(DiskSet *set, gboolean clean, gboolean sync, GError **error)
{
    int r = state_write(&set->state, &set->record, clean, sync);
    return r == 0 || block_file_fail(&set->state.file, "write it", r, error);
}

gboolean set_disk_failed(const Disk *disk, const char *what, int r, GError **error)
{
    block_file_fail(&disk->image.file, what, r, error);
    g_prefix_error(error, "disk %s: ", disk->config.name);
    return FALSE;
}

void set_hello(DiskSet *set, const guint8 *session, gboolean primary, WireHello *ret_hello)
{
    g_mutex_lock(&set->mutex);
    *ret_hello = (WireHello){.has_lineage = set->record.has_lineage,
                             .writer = set->record.writer,
                             .lineage_epoch = set->record.committed,
                             .generation = state_generation(&set->record),
                             .discard = !primary && set->discard,
                             .primary = primary};
    memcpy(ret_hello->lineage, set->record.session, BLOCK_SESSION_BYTES);
    memcpy(ret_hello->session, session, BLOCK_SESSION_BYTES);
    g_mutex_unlock(&set->mutex);
}

gboolean set_may_synchronise(const WireHello *ours, const WireHello *theirs, GError **error)
{
    const WireHello *source = ours->primary ? ours : theirs;
    const WireHello *target = ours->primary ? theirs : ours;
    GenerationPermission permission =
        generation_may_overwrite(&source->generation, &target->generation);
    if (permission == GENERATION_ALLOWED ||
        (permission == GENERATION_NEEDS_DISCARD && target->discard))
        return TRUE;
    g_autofree char *have = generation_describe(&ours->generation);
    g_autofree char *has = generation_describe(&theirs->generation);
    if (permission == GENERATION_FORBIDDEN) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_GENERATION,
                    "the primary's disks hold no data that counts (generation %s here, %s there)",
                    have, has);
        return FALSE;
    }
    static const char *const why[GENERATION_VERDICTS] = {
        [GENERATION_OLDER] = "are newer than the primary's",
        [GENERATION_SPLIT] = "and the primary's were both written to since they were equal",
        [GENERATION_UNRELATED] = "and the primary's have nothing in common"};
    g_set_error(
        error, BLOCK_ERROR, BLOCK_ERROR_GENERATION,
        "the secondary's disks %s (generation %s here, %s there): they are not overwritten. "
        "If their data is to be lost: colod --discard-this-side, once, on the secondary",
        why[generation_compare(&source->generation, &target->generation)], have, has);
    return FALSE;
}

/* ---- Opening ---- */

static gboolean check_name(const DiskConfig *config, GError **error)
{
    gboolean ok = config->name && *config->name && strlen(config->name) <= 64;
    for (const char *at = config->name; ok && *at; at++)
        ok = g_ascii_isalnum(*at) || strchr("-_.", *at);
    if (!ok)
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "\"%s\" can't be a disk's name: use up to 64 letters, digits, '-', '_', '.'",
                    config->name ? config->name : "");
    return ok;
}

static void on_sync_failed(gpointer data)
{
    state_unsynced(data);
}

static gboolean open_disk(DiskSet *set, Disk *disk, gboolean *all_valid, GError **error)
{
    if (!check_name(&disk->config, error))
        return FALSE;
    if (!image_open(&disk->image, &disk->config, &set->options, error)) {
        g_prefix_error(error, "disk %s: ", disk->config.name);
        return FALSE;
    }
    disk->image.sync_failed = on_sync_failed;
    disk->image.sync_failed_data = &set->state;
    guint64 size = disk->image.size;
    for (guint i = 0; i < 2; i++) {
        gboolean valid = FALSE;
        g_autofree char *map =
            g_strdup_printf("%s/%s.dirty%u", set->state_dir, disk->config.name, i);
        g_autofree char *journal =
            g_strdup_printf("%s/%s.journal%u", set->state_dir, disk->config.name, i);
        if (!chunk_map_open(&disk->dirty[i], map, size, &set->options, &valid, error) ||
            !stage_open(&disk->stages[i], journal, size, &set->options, error))
            return FALSE;
        *all_valid = *all_valid && valid;
    }
    return TRUE;
}

static guint64 hash_disks(const DiskConfig *disks, const guint64 *sizes, guint n_disks)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < n_disks; i++)
        g_string_append_printf(text, "%s %" G_GUINT64_FORMAT "\n", disks[i].name, sizes[i]);
    return XXH3_64bits(text->str, text->len);
}

static guint64 stamp_images(const DiskSet *set)
{
    guint64 stamp = 0;
    for (guint i = 0; i < set->n_disks; i++)
        stamp = XXH3_64bits_withSeed(&stamp, sizeof(stamp), image_stamp(&set->disks[i].image));
    return stamp | 1;
}

/* Finishes the apply that an earlier process began: every disk has the committed epoch's journal.
 */
static gboolean replay(DiskSet *set, GError **error)
{
    g_autofree Stage **found = g_new0(Stage *, set->n_disks);
    for (guint i = 0; i < set->n_disks; i++) {
        for (guint k = 0; k < 2; k++) {
            Stage *stage = &set->disks[i].stages[k];
            if (!stage_load(stage, error))
                return FALSE;
            if (stage->sealed && stage->epoch == set->record.committed &&
                !memcmp(stage->session, set->record.session, BLOCK_SESSION_BYTES))
                found[i] = stage;
        }
        if (!found[i]) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STATE,
                        "disk %s: the journal of checkpoint %" G_GUINT64_FORMAT " is missing",
                        set->configs[i].name, set->record.committed);
            return FALSE;
        }
    }
    for (guint i = 0; i < set->n_disks; i++)
        if (!stage_apply(found[i], &set->disks[i].image, NULL, NULL, error))
            return FALSE;
    set->record.applied = set->record.committed;
    return TRUE;
}

/* The guest is to see what the medium has, now and not when the page cache lets go of the rest. */
static void forget_caches(DiskSet *set)
{
    for (guint i = 0; i < set->n_disks; i++)
        image_forget_cache(&set->disks[i].image);
}

/* Brings the images and the record into a state from which either mode can start. */
static gboolean recover(DiskSet *set, gboolean found, gboolean trusted, gboolean maps_valid,
                        GError **error)
{
    StateRecord *record = &set->record;
    if (!found)
        *record = (StateRecord){.state = BLOCK_STATE_OWNED};
    else
        set_change_state(set, block_state_found(record->state, trusted));
    if (record->state == BLOCK_STATE_REPLICA && record->applied != record->committed &&
        !replay(set, error))
        return FALSE;
    if (record->unsynced)
        forget_caches(set);
    /* Whoever has changed the images since a clean end has told no bitmap. */
    gboolean touched = record->images && record->images != stamp_images(set);
    if (!trusted || touched || !maps_valid || record->state == BLOCK_STATE_INCOMPLETE)
        record->has_lineage = FALSE;
    record->images = 0;
    record->set_hash = hash_disks(set->configs, set->sizes, set->n_disks);
    if (!set_write_state(set, FALSE, TRUE, error))
        return FALSE;
    for (guint i = 0; i < set->n_disks; i++)
        for (guint k = 0; k < 2; k++) {
            int r = stage_reset(&set->disks[i].stages[k]);
            if (r < 0)
                return block_file_fail(&set->disks[i].stages[k].file, "empty it", r, error);
        }
    return TRUE;
}

static gboolean start_mode(DiskSet *set, gboolean owner, GError **error)
{
    if (!owner) {
        set_change_mode(set, DISK_MODE_REPLICA);
        return set_open_overlays(set, error);
    }
    if (set->record.state == BLOCK_STATE_INCOMPLETE) {
        g_set_error(
            error, BLOCK_ERROR, BLOCK_ERROR_STATE,
            "%s: the disks here are an incomplete replica: only the other host's are of use "
            "(start the VM there, and this node as its secondary)",
            set->state_dir);
        return FALSE;
    }
    set_change_mode(set, DISK_MODE_ACTIVE);
    if (set->record.state == BLOCK_STATE_REPLICA) {
        set_change_state(set, BLOCK_STATE_OWNED);
        set->record.writer = FALSE;
        return set_write_state(set, FALSE, TRUE, error);
    }
    return TRUE;
}

static gboolean open_all(DiskSet *set, gboolean owner, GError **error)
{
    gboolean maps_valid = TRUE, found = FALSE, trusted = FALSE;
    for (guint i = 0; i < set->n_disks; i++) {
        if (!open_disk(set, &set->disks[i], &maps_valid, error))
            return FALSE;
        set->sizes[i] = set->disks[i].image.size;
        for (guint k = 0; k < i; k++)
            if (!strcmp(set->configs[k].name, set->configs[i].name)) {
                g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG, "two disks are named %s",
                            set->configs[i].name);
                return FALSE;
            }
    }
    return state_open(&set->state, set->state_dir,
                      hash_disks(set->configs, set->sizes, set->n_disks), &set->options,
                      &set->record, &found, &trusted, error) &&
           recover(set, found, trusted, maps_valid, error) && start_mode(set, owner, error);
}

static void init_disks(DiskSet *set, const DiskConfig *disks)
{
    set->disks = g_new0(Disk, set->n_disks);
    set->configs = g_new0(DiskConfig, set->n_disks);
    set->sizes = g_new0(guint64, set->n_disks);
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        disk->set = set;
        disk->index = i;
        disk->config = (DiskConfig){.name = g_strdup(disks[i].name),
                                    .path = g_strdup(disks[i].path),
                                    .format = g_strdup(disks[i].format ? disks[i].format : "raw"),
                                    .direct = disks[i].direct};
        disk->image.file.fd = -1;
        for (guint k = 0; k < 2; k++)
            disk->dirty[k].file.fd = disk->stages[k].file.fd = -1;
        disk->overlay.file.fd = -1;
        range_lock_init(&disk->ranges);
        set->configs[i] = disk->config;
    }
}

gboolean disk_set_examine(const DiskConfig *disks, guint n_disks, const char *state_dir,
                          Generation *ret_generation, GError **error)
{
    static const DiskSetOptions plain = {0};
    g_autofree guint64 *sizes = g_new0(guint64, n_disks);
    StateRecord record;
    gboolean found, trusted;
    for (guint i = 0; i < n_disks; i++) {
        Image image;
        if (!image_open(&image, &disks[i], &plain, error)) {
            g_prefix_error(error, "disk %s: ", disks[i].name);
            return FALSE;
        }
        sizes[i] = image.size;
        image_close(&image);
    }
    if (!state_examine(state_dir, hash_disks(disks, sizes, n_disks), &record, &found, &trusted,
                       error))
        return FALSE;
    record.state = block_state_found(record.state, trusted);
    *ret_generation = state_generation(&record);
    return TRUE;
}

DiskSet *disk_set_open(const DiskConfig *disks, guint n_disks, gboolean owner,
                       const DiskSetOptions *options, const DiskSetCallbacks *callbacks,
                       gpointer user_data, GError **error)
{
    DiskSet *set = g_new0(DiskSet, 1);
    set->options = *options;
    set->state_dir = g_strdup(options->state_dir);
    set->options.state_dir = set->state_dir;
    if (callbacks)
        set->callbacks = *callbacks;
    set->user_data = user_data;
    set->n_disks = n_disks;
    set->sync_rate = options->sync_rate_bytes;
    set->state.file.fd = -1;
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* The exclusive side must get its turn under constant I/O. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&set->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    g_mutex_init(&set->mutex);
    g_cond_init(&set->stage_free);
    throttle_init(&set->throttle, options->throttle_us);
    init_disks(set, disks);
    if (open_all(set, owner, error))
        return set;
    state_close(&set->state); /* nothing more is written: what is there stays as it is */
    disk_set_free(set);
    return NULL;
}

gboolean set_end_cleanly(DiskSet *set, GError **error)
{
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        int r = image_sync(&disk->image);
        if (r == 0)
            r = chunk_map_sync(&disk->dirty[0]);
        if (r == 0)
            r = chunk_map_sync(&disk->dirty[1]);
        if (r < 0)
            return block_file_fail(&disk->image.file, "sync it", r, error);
    }
    set->record.images = stamp_images(set);
    return set_write_state(set, TRUE, TRUE, error);
}

void disk_set_free(DiskSet *set)
{
    if (!set)
        return;
    disk_set_detach(set);
    /* What could not be synced is not called clean. */
    if (set->state.file.fd >= 0 && set->record.applied == set->record.committed)
        set_end_cleanly(set, NULL);
    set_close_overlays(set);
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        for (guint k = 0; k < 2; k++) {
            chunk_map_close(&disk->dirty[k]);
            stage_close(&disk->stages[k]);
        }
        image_close(&disk->image);
        range_lock_clear(&disk->ranges);
        g_free((char *)disk->config.name);
        g_free((char *)disk->config.path);
        g_free((char *)disk->config.format);
    }
    state_close(&set->state);
    pthread_rwlock_destroy(&set->gate);
    g_mutex_clear(&set->mutex);
    g_cond_clear(&set->stage_free);
    throttle_clear(&set->throttle);
    g_free(set->disks);
    g_free(set->configs);
    g_free(set->sizes);
    g_free(set->state_dir);
    g_free(set);
}

gboolean set_open_overlays(DiskSet *set, GError **error)
{
    for (guint i = 0; i < set->n_disks; i++) {
        Disk *disk = &set->disks[i];
        if (!overlay_open(&disk->overlay, &disk->image, set->state_dir, &set->options, error)) {
            set_close_overlays(set);
            return FALSE;
        }
    }
    set->settler = settler_new(set);
    throttle_limit(&set->throttle, settler_epoch_bytes(set->settler));
    return TRUE;
}

void set_close_overlays(DiskSet *set)
{
    throttle_limit(&set->throttle, 0);
    g_clear_pointer(&set->settler, settler_free);
    for (guint i = 0; i < set->n_disks; i++)
        overlay_close(&set->disks[i].overlay);
}

/* ---- Modes ---- */

static gboolean wrong_mode(DiskSet *set, const char *what, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE, "can't %s while the disks are %s", what,
                disk_mode_name(set->mode));
    return FALSE;
}

gboolean set_lacks_metadata(const DiskSet *set, GError **error)
{
    for (guint i = 0; i < set->n_disks; i++) {
        const Disk *disk = &set->disks[i];
        int r = g_atomic_int_get(&disk->image.sync_error);
        if (r < 0 && disk_has_metadata(disk)) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_LACKS,
                        "disk %s: %s: can't sync it: %s: it lacks what QEMU can't write any more",
                        disk->config.name, disk->image.file.name, g_strerror(-r));
            return TRUE;
        }
    }
    return FALSE;
}

/* All of them: each failure counts. */
gboolean disk_set_sync(DiskSet *set, GError **error)
{
    guint failed = 0;
    int why = 0;
    for (guint i = 0; i < set->n_disks; i++) {
        int r = image_sync(&set->disks[i].image);
        if (r < 0 && why == 0) {
            failed = i;
            why = r;
        }
    }
    set->watched = FALSE;
    for (guint i = 0; i < set->n_disks; i++)
        set->disks[i].refused_synced = disk_refused(&set->disks[i]);
    if (set->mode == DISK_MODE_ACTIVE && set_lacks_metadata(set, error))
        return FALSE;
    return why == 0 || block_file_fail(&set->disks[failed].image.file, "sync it", why, error);
}

gboolean disk_set_inactivate(DiskSet *set, GError **error)
{
    if (set->mode == DISK_MODE_REPLICA)
        return TRUE;
    set_exclude(set);
    set_change_mode(set, DISK_MODE_INACTIVE);
    set_unlock(set);
    for (guint i = 0; i < set->n_disks; i++) {
        Image *image = &set->disks[i].image;
        if (g_atomic_int_get(&image->sync_error))
            continue;
        int r = image_sync(image);
        if (r < 0)
            return block_file_fail(&image->file, "sync it", r, error);
    }
    return TRUE;
}

gboolean disk_set_activate(DiskSet *set, GError **error)
{
    if (set->mode == DISK_MODE_REPLICA)
        return wrong_mode(set, "activate without a takeover", error);
    set_exclude(set);
    set_change_mode(set, DISK_MODE_ACTIVE);
    set_unlock(set);
    return TRUE;
}

gboolean disk_set_become_replica(DiskSet *set, GError **error)
{
    if (set->mode != DISK_MODE_INACTIVE || set->primary)
        return wrong_mode(set, "become a replica", error);
    for (guint i = 0; i < set->n_disks; i++) {
        int r = g_atomic_int_get(&set->disks[i].image.sync_error);
        if (r < 0)
            return set_disk_failed(&set->disks[i], "sync it", r, error);
    }
    if (!set_open_overlays(set, error))
        return FALSE;
    set_exclude(set);
    set_change_mode(set, DISK_MODE_REPLICA);
    set_unlock(set);
    return TRUE;
}

gboolean disk_set_write_alone(DiskSet *set, GError **error)
{
    if (set->mode != DISK_MODE_ACTIVE)
        return wrong_mode(set, "be written to alone", error);
    if (set->primary) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_MODE, "the disks have a peer");
        return FALSE;
    }
    g_mutex_lock(&set->mutex);
    Generation before = set->record.generation;
    generation_begin(&set->record.generation);
    gboolean ok = set_write_state(set, FALSE, TRUE, error);
    if (!ok)
        set->record.generation = before;
    g_mutex_unlock(&set->mutex);
    return ok;
}

void disk_set_discard(DiskSet *set)
{
    g_mutex_lock(&set->mutex);
    set->discard = TRUE;
    g_mutex_unlock(&set->mutex);
}

void disk_set_detach(DiskSet *set)
{
    if (set->primary) {
        Primary *primary = set->primary;
        disk_primary_free(primary);
    }
    if (set->replica) {
        disk_replica_free(set->replica);
        set->replica = NULL;
    }
}

void disk_set_let_through(DiskSet *set)
{
    throttle_open(&set->throttle);
}

void disk_set_limit_sync_rate(DiskSet *set, guint64 bytes_per_s)
{
    __atomic_store_n(&set->sync_rate, bytes_per_s, __ATOMIC_RELAXED);
    if (set->primary)
        disk_primary_set_rate(set->primary);
}

/* ---- Status ---- */

void disk_set_status(DiskSet *set, DiskSetStatus *ret_status)
{
    DiskSetStatus status = {.mode = set->mode, .n_disks = set->n_disks};
    g_mutex_lock(&set->mutex);
    status.epoch = set->record.has_lineage ? set->record.applied : 0;
    status.in_sync = set->replica_synced && set->record.applied == set->record.committed;
    status.generation = state_generation(&set->record);
    g_mutex_unlock(&set->mutex);
    if (set->replica)
        disk_replica_status(set->replica, &status);
    if (set->primary)
        disk_primary_status(set->primary, &status);
    throttle_look(&set->throttle, &status.epoch_limit, &status.waits);
    *ret_status = status;
}

void disk_set_disk_status(DiskSet *set, guint index, DiskStatus *ret_status)
{
    g_assert(index < set->n_disks);
    Disk *disk = &set->disks[index];
    DiskStatus status = {.name = disk->config.name,
                         .size_bytes = disk->image.size,
                         .write_error = g_atomic_int_get(&disk->image.write_error),
                         .sync_error = g_atomic_int_get(&disk->image.sync_error)};
    for (guint64 chunk = 0; chunk < disk->dirty[0].chunks; chunk++)
        if (chunk_test(disk->dirty[0].bits, chunk) || chunk_test(disk->dirty[1].bits, chunk))
            status.dirty_bytes +=
                MIN(BLOCK_CHUNK_BYTES, status.size_bytes - chunk * BLOCK_CHUNK_BYTES);
    status.staged_bytes = disk->stages[0].length + disk->stages[1].length;
    if (set->mode == DISK_MODE_REPLICA)
        status.overlay_bytes = overlay_bytes(&disk->overlay);
    *ret_status = status;
}
