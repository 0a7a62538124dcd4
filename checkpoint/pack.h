/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages packed together for the stream: the payload of a PACKED record (docs/STREAM.md), made and
 * read. Bytes only; no I/O.
 *
 * Both ends keep versions of pages, in slots, and a page may go as its difference to the version in
 * its slot. What is in the slots follows from the stream's bytes alone: each PACKED record that says so
 * changes them, and nothing else does. So both ends have the same versions, whatever becomes of a
 * checkpoint, of the secondary's RAM, or of pages that were sent in another way meanwhile.
 */
#ifndef COLO_CHECKPOINT_PACK_H
#define COLO_CHECKPOINT_PACK_H

#include "checkpoint/checkpoint_internal.h"

#define PACK_PAGES       64u /* of one record, at most */
#define PACK_HEAD        24u
#define PACK_BODY_MAX    (PACK_PAGES * VM_PAGE_SIZE)
#define PACK_PAYLOAD_MIN (PACK_HEAD + 4u + 1u)
#define PACK_PAYLOAD_MAX (PACK_HEAD + 4u * PACK_PAGES + PACK_BODY_MAX)
/* How many versions of pages are kept at most: 128 MiB. */
#define PACK_SLOTS_MAX 32768u

/* How many versions are kept of a RAM of so many pages: a power of two. */
guint64 pack_slots(guint64 ram_pages);

/* ---- Packing ---- */

typedef struct Packer Packer;

Packer *packer_new(guint64 ram_pages);
void packer_free(Packer *packer);

/* How many pages wait to be packed together. */
guint packer_count(const Packer *packer);
/* Whether `page` can be added to those: there is room, and it is behind them. */
gboolean packer_takes(const Packer *packer, guint64 page);
/* Copies the page. The copy is valid until the next call. */
const guint8 *packer_add(Packer *packer, guint64 page, const guint8 *data);
/*
 * Packs what was added, of which there must be something, into `payload` (PACK_PAYLOAD_MAX bytes), and
 * returns how many bytes that has. `keep`: these versions go to the slots, and a page may go as its
 * difference to the one in its slot. *ret_plain_bytes: what PAGES records of these pages would have.
 */
gsize packer_close(Packer *packer, PackCodec codec, gboolean keep, guint8 *payload,
                   gsize *ret_plain_bytes);

/* ---- Unpacking ---- */

typedef struct Unpacker Unpacker;

Unpacker *unpacker_new(guint64 ram_pages);
void unpacker_free(Unpacker *unpacker);

/*
 * Takes a payload of PACK_PAYLOAD_MIN to PACK_PAYLOAD_MAX bytes, of which nothing is believed. Returns
 * NULL, or what is wrong with it: then the unpacker can't be used any more.
 */
const char *unpacker_open(Unpacker *unpacker, const guint8 *payload, gsize len);
/*
 * The next run of its pages, rising: first page, length, and their data, valid until the next _open().
 * FALSE: there is none.
 */
gboolean unpacker_next(Unpacker *unpacker, guint64 *ret_first, guint64 *ret_count,
                       const guint8 **ret_data);
/* Goes back to the first run. */
void unpacker_rewind(Unpacker *unpacker);

#endif
