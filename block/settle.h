/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a replica writes to its images goes to the medium in the background, while the next epoch
 * comes. A takeover has to sync it before any output leaves, so there must never be much of it. A
 * thread writes it out piece by piece and then syncs, for as long as something is noted. A writer
 * that is faster than the medium waits while more than the limit is noted. The limit is what the
 * medium takes in half a second, at most 64 MiB.
 *
 * A failure is the image's (Image.sync_error): every later sync of it fails.
 */
#ifndef COLO_BLOCK_SETTLE_H
#define COLO_BLOCK_SETTLE_H

#include "block/block.h"

typedef struct Settler Settler;

/* For the images of `set`, which stay open until settler_free(). */
Settler *settler_new(DiskSet *set);
/* Ends the thread after its piece; what is noted is forgotten. NULL is fine. */
void settler_free(Settler *settler);

/* `len` bytes at `offset` of disk `index` have been written; 1 for zeroes of any length, which are
 * no work for the medium. Any thread. */
void settler_note(Settler *settler, guint index, guint64 offset, guint64 len);

/*
 * Waits while more than the limit is noted; ends early if `stop` (may be NULL) gets TRUE. `step`,
 * which may be NULL, is called a few times a second, if something has reached the medium since.
 */
void settler_wait(Settler *settler, void (*step)(gpointer user_data), gpointer user_data,
                  const gint *stop);

/* What the medium takes in about half a second: so much may an epoch have (throttle.h). Any thread. */
guint64 settler_epoch_bytes(Settler *settler);

#endif
