/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose data counts. Each disk set carries identifiers of its contents, as DRBD's do (drbd(8),
 * "data generation identifiers"): random numbers of 64 bits, 0 for none.
 *
 *   current   names what the images hold: the generation
 *   bitmap    the generation that the peer had when this side began to write without it; 0: the
 *             peer has `current`, or there never was a peer
 *   history   what came before, newest first
 *
 * A side that begins to write alone draws a new current, and what was current becomes the bitmap's.
 * A replica takes over its source's identifiers when it has become a checkpoint of the source. So
 * the identifiers alone show which of two sets that have met holds all of the other's data, or that
 * both have changed since.
 *
 * `exposed` saves needless ones: as long as nobody else can have `current`, a set that is started
 * again keeps it.
 *
 * Within one generation there is one writer; `data` tells what the images are to it. A replica is
 * behind: its writer continued after the last checkpoint. What was acknowledged to a client then is
 * on the writer's disks (and in the replica's volatile overlay, while its process lives). A replica
 * is in step only after a last mark, taken with the VM at rest.
 *
 * Pure: no files, no time; only generation_begin() draws a random number.
 */
#ifndef COLO_BLOCK_GENERATION_H
#define COLO_BLOCK_GENERATION_H

#include <glib.h>

#define GENERATION_HISTORY 6u

/* "0123456789abcdef" and the terminator. */
#define GENERATION_TEXT_BYTES 17u

typedef enum {
    GENERATION_WRITER,  /* everything that was written in `current` */
    GENERATION_IN_STEP, /* a replica with everything that was written in `current` */
    GENERATION_BEHIND,  /* a checkpoint of `current`: its writer may have continued */
    GENERATION_BROKEN,  /* in the middle of a synchronisation or a takeover: nobody's */
} GenerationData;

typedef struct {
    guint64 current, bitmap;
    guint64 history[GENERATION_HISTORY];
    GenerationData data;
    gboolean exposed; /* another set may have `current` */
} Generation;

/* What two sets are to each other, seen from the first. */
typedef enum {
    GENERATION_EQUAL,         /* both hold all of one generation */
    GENERATION_NEWER,         /* the first holds all that the second does, and more */
    GENERATION_OLDER,         /* the other way round */
    GENERATION_SPLIT,         /* both were written to since they were equal */
    GENERATION_UNRELATED,     /* nothing in common */
    GENERATION_NONE_HERE,     /* the first has no generation */
    GENERATION_NONE_THERE,    /* the second has none */
    GENERATION_NONE_AT_ALL,   /* neither has */
    GENERATION_BROKEN_HERE,   /* the first is in the middle of a synchronisation */
    GENERATION_BROKEN_THERE,  /* the second is */
    GENERATION_BROKEN_AT_ALL, /* both are */
    GENERATION_VERDICTS,
} GenerationVerdict;

GenerationVerdict generation_compare(const Generation *here, const Generation *there);

/* "equal", "newer", ... */
const char *generation_verdict_name(GenerationVerdict verdict);

/* What a resynchronisation from `source` to `target` needs. */
typedef enum {
    GENERATION_ALLOWED,
    GENERATION_NEEDS_DISCARD, /* the target's data would be lost: only at its administrator's word
                               */
    GENERATION_FORBIDDEN,     /* the source's data is nothing to be had by anybody */
} GenerationPermission;

GenerationPermission generation_may_overwrite(const Generation *source, const Generation *target);

/* This set holds all of the data of generation `id`, or of one that came from it. */
gboolean generation_holds(const Generation *generation, guint64 id);

/*
 * The set is about to be written to without its peer. It must not be broken. One that is behind
 * doesn't hold all of its generation: it becomes a sibling of it, not a descendant.
 */
void generation_begin(Generation *generation);

/* The same for a replica that takes over its writer's VM with all that anybody was told of. */
void generation_take_over(Generation *generation);

/* The set has become a checkpoint of `source`. */
void generation_adopt(Generation *generation, const Generation *source);

/* A replica has become all of its source, which has written for the last time. */
void generation_reach(Generation *generation);

/* The peer has adopted it: what it had before is of no more interest but as history. */
void generation_adopted(Generation *generation);

/* "writer", "in-step", "behind", "broken"; and back. */
const char *generation_data_name(GenerationData data);
gboolean generation_data_parse(const char *text, GenerationData *ret_data);

/* 16 hexadecimal digits; and back: FALSE for anything else, and for 0. */
void generation_text(guint64 id, char text[GENERATION_TEXT_BYTES]);
gboolean generation_parse(const char *text, guint64 *ret_id);

/* For people: "1a2b3c4d (writer)", "none". To be freed. */
char *generation_describe(const Generation *generation);

#endif
