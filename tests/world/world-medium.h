/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a host's disks hold when no process runs: the image, and what block/'s files hold of it
 * (state, dirty maps, journal). A block is a number. Generations are block/generation.h's own.
 */
#ifndef COLO_TESTS_WORLD_MEDIUM_H
#define COLO_TESTS_WORLD_MEDIUM_H

#include "block/block.h"
#include "tests/world/world.h"

typedef enum { MEDIUM_OWNED, MEDIUM_INCOMPLETE, MEDIUM_REPLICA } MediumState;

/* Whose checkpoint the image is, and since when the dirty maps count: docs/DISKS.md, "Lineage". */
typedef struct {
    gboolean known, writer;
    char session[33];
    guint64 epoch;
} Lineage;

typedef struct Medium {
    WorldHost *host;
    guint64 image[WORLD_BLOCKS];
    guint64 durable[WORLD_BLOCKS]; /* what a loss of power leaves at least */
    /*
     * Blocks that a failed fdatasync has lost, a bit for each: `lost` is still shown by the page
     * cache, `gone` is not. `told`: whoever it was synchronised from had reported that.
     */
    guint32 lost, gone, told;
    gboolean unsynced;       /* as the state file has it */
    guint boots, noted_boot; /* of the host; of the one in which the state was written */
    gboolean found, clean;
    MediumState state;
    Lineage lineage;
    guint64 applied; /* lineage.epoch is what is committed */
    Generation generation;
    guint32 dirty[2];
    Changes journal; /* of the committed epoch, until it is applied */
} Medium;

/* What a process sees of it: an apply that died is finished, what can't be trusted is not. */
gboolean medium_open(Medium *medium, gboolean owner, GError **error);
/* As block/state.h's: an incomplete replica's data is broken. */
Generation medium_generation(const Medium *medium);
/* Writes all that `changes` names; `some`: a process dies in the middle of it. */
void medium_write(Medium *medium, const Changes *changes, gboolean some);
void medium_put(Medium *medium, guint block, guint64 value);
/* fdatasync: 0, or the errno by which it fails; `what` is counted then. */
int medium_sync(Medium *medium, const char *what);
/* An ordered end of its process, which has been able to sync. */
void medium_end_cleanly(Medium *medium);
/* The host has lost its power. */
void medium_lose_power(Medium *medium);

#endif
