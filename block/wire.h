/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of the stream between two disk sets (docs/DISKS.md): encoding, and decoding that trusts
 * nothing. A decoded header has its fields checked against the disks, so that the receiver can act
 * on it without looking again.
 */
#ifndef COLO_BLOCK_WIRE_H
#define COLO_BLOCK_WIRE_H

#include <json-c/json.h>

#include "block/block.h"

#define WIRE_VERSION 1u
#define WIRE_HEADER  32u

/* A record of a type with this bit that the receiver doesn't know is skipped. */
#define WIRE_OPTIONAL 0x8000u

/* Bytes of guest data in one record, at most. */
#define WIRE_DATA_MAX (1u << 20)

/* Chunks in one record of hashes or needs, at most. */
#define WIRE_HASH_CHUNKS 16u
#define WIRE_HASH_BYTES  16u

/* Bits in one record of a dirty bitmap, at most (8 KiB). */
#define WIRE_BITMAP_CHUNKS 65536u

typedef enum {
    WIRE_HELLO = 1,    /* both: JSON */
    WIRE_BITMAP = 2,   /* replica: dirty chunks from `offset`, `count` of them; payload: bits */
    WIRE_READY = 3,    /* replica: no more bitmaps */
    WIRE_START = 4,    /* primary: from here on all writes follow; offset: hash seed */
    WIRE_WRITE = 5,    /* primary: payload at `offset` */
    WIRE_ZERO = 6,     /* primary: zeroes; payload: be64 length, be32 flags (1: may trim) */
    WIRE_HASH = 7,     /* primary: hashes of `count` chunks from `offset` */
    WIRE_NEED = 8,     /* replica: which of them differ; payload: bits */
    WIRE_SYNC_END = 9, /* primary: nothing more to compare */
    WIRE_SYNCED = 10,  /* replica: answers it */
    WIRE_MARK = 11, /* primary: checkpoint `epoch`; payload: be64 xxh3 of all since the last mark */
    WIRE_APPLIED = 12, /* replica: the images are those of `epoch`; offset: bytes that an epoch may
                          have; 0: no limit */
    WIRE_ERROR = 13,   /* either, and the last one: text */
} WireType;

typedef struct {
    guint16 type;
    guint16 disk;
    guint32 length; /* of the payload */
    guint64 epoch;
    guint64 offset;
    guint32 count;
} WireHeader;

/* One record, header and payload, to be freed with g_free(). */
typedef struct WireRecord {
    struct WireRecord *next;
    gsize len; /* of bytes */
    guint8 bytes[];
} WireRecord;

/* A record with room for the payload behind its header, which wire_payload() gives. */
WireRecord *wire_record_new(const WireHeader *header);

static inline guint8 *wire_payload(WireRecord *record)
{
    return record->bytes + WIRE_HEADER;
}

/*
 * Checks and decodes a header. `sizes` are the disks'; `at` is the stream offset, for messages.
 * BLOCK_ERROR_STREAM names record and offset.
 */
gboolean wire_decode(const guint8 *bytes, const guint64 *sizes, guint n_disks, guint64 at,
                     WireHeader *ret_header, GError **error);

const char *wire_type_name(guint16 type);

/* A session from its 32 hexadecimal digits. FALSE, and nothing written, for anything else. */
gboolean wire_session_parse(json_object *text, guint8 *ret_session);

/* What each side tells about itself. */
typedef struct {
    guint8 session[BLOCK_SESSION_BYTES];
    gboolean has_lineage, writer;
    guint8 lineage[BLOCK_SESSION_BYTES];
    guint64 lineage_epoch;
    Generation generation;
    gboolean discard; /* of a replica: whatever is here may be overwritten */
    gboolean primary;
} WireHello;

/* {"current", "bitmap", "history": [...], "data"}, identifiers as 16 hexadecimal digits; what is 0
 * is left out. And back: FALSE if it isn't one. */
json_object *wire_generation_object(const Generation *generation);
gboolean wire_generation_parse(json_object *object, Generation *ret_generation);

/* The hello record of a set with these disks. */
WireRecord *wire_hello_new(const WireHello *hello, const DiskConfig *disks, const guint64 *sizes,
                           guint n_disks);

/*
 * Reads the peer's hello and compares it with our disks, session and the role it must have.
 * BLOCK_ERROR_STREAM if it can't be read, BLOCK_ERROR_MISMATCH naming the first difference.
 */
gboolean wire_hello_check(const guint8 *payload, gsize len, const WireHello *ours,
                          const DiskConfig *disks, const guint64 *sizes, guint n_disks,
                          WireHello *ret_theirs, GError **error);

#endif
