/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notes on the wire; docs/COMPARE.md is the specification. */
#include "netcompare/compare.h"

#include <string.h>

#include "common/endian.h"

/*
 * be64 epoch | be32 nic | be16 outer, inner vlan | be16 sport, dport | src[16] | dst[16] |
 * u8 version, flags | be16 ethertype | be32 pvm_isn, svm_isn, ts_advance, svm_ts
 */
#define NOTE_VERSION 1
#define NOTE_HAS_ISN 1
#define NOTE_HAS_TS  2

G_STATIC_ASSERT(8 + 4 + 4 + 4 + 32 + 4 + 16 == COMPARE_NOTE_BYTES);

void compare_note_pack(const CompareNote *note, guint8 bytes[COMPARE_NOTE_BYTES])
{
    memset(bytes, 0, COMPARE_NOTE_BYTES);
    colo_put_be64(bytes, note->epoch);
    colo_put_be32(bytes + 8, note->key.nic);
    colo_put_be16(bytes + 12, note->key.vlan[0]);
    colo_put_be16(bytes + 14, note->key.vlan[1]);
    colo_put_be16(bytes + 16, note->key.sport);
    colo_put_be16(bytes + 18, note->key.dport);
    memcpy(bytes + 20, note->key.src, 16);
    memcpy(bytes + 36, note->key.dst, 16);
    bytes[52] = NOTE_VERSION;
    bytes[53] = (guint8)((note->has_isn ? NOTE_HAS_ISN : 0) | (note->has_ts ? NOTE_HAS_TS : 0));
    colo_put_be16(bytes + 54, note->key.ethertype);
    colo_put_be32(bytes + 56, note->pvm_isn);
    colo_put_be32(bytes + 60, note->svm_isn);
    colo_put_be32(bytes + 64, note->ts_advance);
    colo_put_be32(bytes + 68, note->svm_ts);
}

gboolean compare_note_unpack(const guint8 *bytes, gsize len, CompareNote *ret_note)
{
    if (len != COMPARE_NOTE_BYTES || bytes[52] != NOTE_VERSION ||
        (bytes[53] & ~(NOTE_HAS_ISN | NOTE_HAS_TS)) != 0)
        return FALSE;
    CompareNote note = {
        .epoch = colo_get_be64(bytes),
        .has_isn = (bytes[53] & NOTE_HAS_ISN) != 0,
        .pvm_isn = colo_get_be32(bytes + 56),
        .svm_isn = colo_get_be32(bytes + 60),
        .ts_advance = colo_get_be32(bytes + 64),
        .has_ts = (bytes[53] & NOTE_HAS_TS) != 0,
        .svm_ts = colo_get_be32(bytes + 68),
        .key =
            {
                  .nic = colo_get_be32(bytes + 8),
                  .vlan = {colo_get_be16(bytes + 12), colo_get_be16(bytes + 14)},
                  .sport = colo_get_be16(bytes + 16),
                  .dport = colo_get_be16(bytes + 18),
                  .ethertype = colo_get_be16(bytes + 54),
                  .proto = 6, /* TCP: notes are about nothing else */
                .kind = COMPARE_KIND_TCP,
                  },
    };
    memcpy(note.key.src, bytes + 20, 16);
    memcpy(note.key.dst, bytes + 36, 16);
    *ret_note = note;
    return TRUE;
}
