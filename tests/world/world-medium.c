/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of block/, as numbers: the counterpart of block/state.c, set.c and stage.c. */
#include <string.h>

#include "tests/world/world-medium.h"

/* An epoch's own word is the boot's, unless its process has ended in order. */
static gboolean is_trusted(const Medium *medium)
{
    return medium->found && !medium->unsynced &&
           (medium->clean || medium->noted_boot == medium->boots);
}

Generation medium_generation(const Medium *medium)
{
    Generation generation = medium->generation;
    if (medium->state == MEDIUM_INCOMPLETE)
        generation.data = GENERATION_BROKEN;
    return generation;
}

/* The page cache lets go of what the medium has lost. */
static void evict(Medium *medium)
{
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (medium->lost & (1u << i))
            medium->image[i] = medium->durable[i];
    medium->gone |= medium->lost;
    medium->lost = 0;
}

/* What only has been begun is finished, or is nobody's. */
static void recover(Medium *medium)
{
    gboolean trusted = is_trusted(medium);
    if (medium->unsynced)
        evict(medium);
    medium->unsynced &= medium->noted_boot == medium->boots;
    if (medium->state == MEDIUM_REPLICA && !trusted) {
        medium->state = MEDIUM_INCOMPLETE;
    } else if (medium->state == MEDIUM_REPLICA && medium->applied != medium->lineage.epoch) {
        medium_write(medium, &medium->journal, FALSE);
        medium->applied = medium->lineage.epoch;
        world_sometimes("an apply that was cut short is finished by the next process");
    }
    if (!trusted || medium->state == MEDIUM_INCOMPLETE)
        medium->lineage.known = FALSE;
    medium->found = TRUE;
    medium->clean = FALSE;
    medium->noted_boot = medium->boots;
}

gboolean medium_open(Medium *medium, gboolean owner, GError **error)
{
    int failed = world_storage_error(world.current, STORAGE_NEEDS_ROOM);
    if (failed) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "can't open the disks: %s",
                    g_strerror(failed));
        return FALSE;
    }
    recover(medium);
    if (owner && medium->state == MEDIUM_INCOMPLETE) {
        g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_STATE,
                            "the disks here are an incomplete replica");
        return FALSE;
    }
    if (owner && medium->state == MEDIUM_REPLICA) {
        medium->state = MEDIUM_OWNED;
        medium->lineage.writer = FALSE;
    }
    return TRUE;
}

void medium_write(Medium *medium, const Changes *changes, gboolean some)
{
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (changes->named & (1u << i) && !(some && world_chance(500)))
            medium_put(medium, i, changes->block[i]);
}

void medium_put(Medium *medium, guint block, guint64 value)
{
    medium->image[block] = value;
    medium->lost &= ~(1u << block);
    medium->gone &= ~(1u << block);
    medium->told &= ~(1u << block);
}

static gboolean on_evicted(gpointer data)
{
    evict(data);
    return G_SOURCE_REMOVE;
}

int medium_sync(Medium *medium, const char *what)
{
    int failed = world_storage_sync_error(medium->host);
    for (guint i = 0; i < WORLD_BLOCKS; i++) {
        if (medium->image[i] == medium->durable[i] || medium->lost & (1u << i))
            continue;
        if (failed && world_chance(500))
            medium->lost |= 1u << i;
        else
            medium->durable[i] = medium->image[i];
    }
    if (!failed)
        return 0;
    g_autofree char *met = g_strconcat("fdatasync fails: ", what, NULL);
    world_sometimes(met);
    world_tell("%s: fdatasync fails: %s", medium->host->name, what);
    medium->unsynced = TRUE;
    world_later(NULL, world_between(0, 60 * G_USEC_PER_SEC), on_evicted, medium);
    return failed;
}

void medium_end_cleanly(Medium *medium)
{
    if (medium->state == MEDIUM_REPLICA && medium->applied != medium->lineage.epoch)
        return;
    medium->clean = medium_sync(medium, "an ordered end") == 0;
}

void medium_lose_power(Medium *medium)
{
    medium->boots++;
    evict(medium);
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (world_chance(500))
            medium->image[i] = medium->durable[i];
    memcpy(medium->durable, medium->image, sizeof(medium->durable));
}

/* Storage that an examination of it can hang in is the world's: the thread is a step. */
gboolean disk_set_examine(const DiskConfig *disks, guint n_disks, const char *state_dir,
                          Generation *ret_generation, GError **error)
{
    (void)disks;
    (void)n_disks;
    (void)state_dir;
    Medium *medium = world.current->medium;
    int failed = world_storage_error(world.current, STORAGE_IN_PLACE);
    if (failed) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "can't read the state file: %s",
                    g_strerror(failed));
        return FALSE;
    }
    Medium seen = *medium;
    if (seen.state == MEDIUM_REPLICA && !is_trusted(&seen))
        seen.state = MEDIUM_INCOMPLETE;
    *ret_generation = medium_generation(&seen);
    return TRUE;
}
