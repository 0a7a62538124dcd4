/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state file of a disk set: what its images are, for the process that comes after this one. It
 * is one record, written in place within one page. So a death of the process leaves the old or the
 * new one.
 *
 *   state       the images are                                       can be owned  lineage
 *   OWNED       whatever the guest wrote                             yes           as recorded
 *   INCOMPLETE  in the middle of a synchronisation or a takeover     no            none
 *   REPLICA     checkpoint `applied`; if `committed` is newer, its   yes           (session,
 *               journals are whole and have to be applied first                    committed)
 *
 * Only the generation tells whether they are the newest (block/generation.h).
 *
 * Lineage (session, epoch) means: these images are that session's checkpoint `epoch` plus changes
 * within the chunks that the dirty bitmaps name.
 */
#ifndef COLO_BLOCK_STATE_H
#define COLO_BLOCK_STATE_H

#include "block/file.h"
#include "block/generation.h"

typedef enum {
    BLOCK_STATE_OWNED = 1,
    BLOCK_STATE_INCOMPLETE = 2,
    BLOCK_STATE_REPLICA = 3,
} BlockState;

typedef struct {
    BlockState state;
    gboolean has_lineage;
    gboolean writer; /* this side was the session's primary */
    guint8 session[BLOCK_SESSION_BYTES];
    guint64 committed, applied;
    guint64 images;    /* after a clean end: their stamps then; else 0 */
    guint64 set_hash;  /* of the disks' names and sizes: another set's files are not believed */
    gboolean unsynced; /* the page cache may show what an image's medium has lost: in this boot */
    Generation generation; /* never BROKEN here: state_generation() */
} StateRecord;

typedef struct {
    BlockFile file;
    guint8 boot_id[16];
    GMutex mutex;        /* a leaf: state_write() and state_unsynced() */
    StateRecord written; /* as in the file */
    gboolean is_written;
    gboolean unsynced; /* of this process */
} StateFile;

/*
 * Opens or makes DIR/state. *ret_found tells whether there was a record. *ret_trusted tells whether
 * everything written before is certain to be there: the last process ended cleanly, or died without
 * the machine, and could sync its images. A damaged record, or another set's: BLOCK_ERROR_STATE,
 * with the way out.
 */
gboolean state_open(StateFile *state, const char *dir, guint64 set_hash,
                    const DiskSetOptions *options, StateRecord *ret_record, gboolean *ret_found,
                    gboolean *ret_trusted, GError **error);
void state_close(StateFile *state);

/* Reads DIR/state as state_open() does, and changes nothing. A missing one is no error. */
gboolean state_examine(const char *dir, guint64 set_hash, StateRecord *ret_record,
                       gboolean *ret_found, gboolean *ret_trusted, GError **error);

/* What the record tells of the set's data. */
Generation state_generation(const StateRecord *record);

/*
 * An image could not be synced: its medium may lack what was written, and nobody knows what. The
 * process that comes next is to know it, however this one ends. Any thread may call it.
 */
void state_unsynced(StateFile *state);

/* Writes the record, `clean` if all files have been synced before and nothing follows. `sync`: it
 * is durable on return. 0 or a negative errno. */
int state_write(StateFile *state, const StateRecord *record, gboolean clean, gboolean sync);

#endif
