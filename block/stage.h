/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stage: changes of one disk in their order, waiting to be applied to its image all or none. It
 * is a log of entries, in memory up to a limit and from there on at the same positions of a journal
 * file.
 *
 *     empty --append--> open --seal--> sealed --apply--> sealed --reset--> empty
 *
 * seal() completes the journal: header, then all bytes that are not in the file yet. From then on,
 * when the set's state file names the journal's epoch, every process that finds it can apply it. It
 * can apply it again if it died in the middle: the entries are absolute, so the last time wins.
 *
 * One thread at a time.
 */
#ifndef COLO_BLOCK_STAGE_H
#define COLO_BLOCK_STAGE_H

#include <xxhash.h>

#include "block/image.h"

/* Largest entry's data: what a reader allocates at most. */
#define STAGE_ENTRY_MAX (1u << 20)

typedef struct {
    BlockFile file;
    guint64 disk_size;
    guint64 memory_limit;
    guint8 *memory; /* the first memory_len bytes of the log */
    gsize memory_len, memory_size;
    guint64 length; /* of the log */
    XXH3_state_t *hash;
    gboolean sealed;
    gboolean in_file; /* the file may hold something */
    guint64 epoch;    /* these three: of a sealed one */
    guint64 log_hash;
    guint8 session[BLOCK_SESSION_BYTES];
} Stage;

gboolean stage_open(Stage *stage, const char *path, guint64 disk_size,
                    const DiskSetOptions *options, GError **error);
void stage_close(Stage *stage);

/* Appends a change; the range has been checked, count <= STAGE_ENTRY_MAX for a write. 0 or -errno.
 */
int stage_append_write(Stage *stage, guint64 offset, const void *data, guint32 count);
int stage_append_zero(Stage *stage, guint64 offset, guint64 len, gboolean may_trim);

/* Completes the journal of the writes up to checkpoint `epoch` of `session`. */
int stage_seal(Stage *stage, const guint8 *session, guint64 epoch);

/* `len` bytes were written at `offset`: of zeroes 1, for they are no work for the medium. */
typedef void (*StageStep)(guint64 offset, guint64 len, gpointer user_data);

/* Writes a sealed log to the image. Nobody else changes the image meanwhile. `step`, which may be
 * NULL, is called after each of its entries. */
gboolean stage_apply(Stage *stage, Image *image, StageStep step, gpointer user_data,
                     GError **error);

/* Forgets all and gives the space back. */
int stage_reset(Stage *stage);

/* Forgets all. The file of a sealed stage that fits into memory keeps its space for the next, if it
 * has `keep_bytes` or less. To write over what is in a file is much quicker than to let it grow. */
int stage_forget(Stage *stage, guint64 keep_bytes);

/*
 * Looks at what an earlier process left. TRUE with stage->sealed if it is a whole journal; not
 * sealed if it is of no use (incomplete, damaged, for another disk). FALSE: could not be read.
 */
gboolean stage_load(Stage *stage, GError **error);

#endif
