/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of block/, as numbers: the counterpart of block/state.c, set.c and stage.c. */
#include <string.h>

#include "tests/world/world-medium.h"

/* An epoch's own word is the boot's, unless its process has ended in order. */
static gboolean is_trusted(const Medium *medium)
{
    return medium->found && (medium->clean || medium->noted_boot == medium->boots);
}

Generation medium_generation(const Medium *medium)
{
    Generation generation = medium->generation;
    if (medium->state == MEDIUM_INCOMPLETE)
        generation.data = GENERATION_BROKEN;
    return generation;
}

/* What only has been begun is finished, or is nobody's. */
static void recover(Medium *medium)
{
    gboolean trusted = is_trusted(medium);
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
            medium->image[i] = changes->block[i];
}

void medium_sync(Medium *medium)
{
    memcpy(medium->durable, medium->image, sizeof(medium->durable));
}

void medium_end_cleanly(Medium *medium)
{
    if (medium->state == MEDIUM_REPLICA && medium->applied != medium->lineage.epoch)
        return;
    medium_sync(medium);
    medium->clean = TRUE;
}

void medium_lose_power(Medium *medium)
{
    medium->boots++;
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (world_chance(500))
            medium->image[i] = medium->durable[i];
    medium_sync(medium);
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
