/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether pages are packed, and how, by what was measured. Pure: it is told what was measured, and the
 * time.
 *
 * A byte of a page costs 1/link as it is. Packed it costs the time to pack it, and what is left of it
 * costs 1/link. The two are added, though the kernel sends while the next pages are packed: the other
 * end has to unpack, and time on the CPU is taken from somebody. So nothing is packed where the link is
 * faster than the CPU. What is chosen stays until another is better by a fifth.
 *
 * What a codec comes to is only known of pages that were packed with it. So now and then some pages are
 * packed by each of those that are not chosen.
 */
#ifndef COLO_CHECKPOINT_PACK_RULE_H
#define COLO_CHECKPOINT_PACK_RULE_H

#include "checkpoint/checkpoint.h"

#define PACK_PROBE_US (500 * COLO_US_PER_MS)
#define PACK_RATES    7u

/* What a codec has come to of late. */
typedef struct {
    double ns_per_byte; /* of packing; 0: nothing is known */
    double left;        /* of a byte: bytes on the wire */
} PackMeasure;

/* All zero: nothing is known. */
typedef struct {
    PackMeasure codecs[PACK_CODECS]; /* that of PACK_PLAIN is not used */
    double rates[PACK_RATES];        /* of the link, bytes per second: the last ones */
    guint n_rates;                   /* that were ever told */
    PackCodec chosen, probed;        /* probed: the last one */
    ColoTime probed_at;              /* 0: never */
} PackRule;

/* The link takes so many bytes per second. */
void pack_rule_link(PackRule *rule, double bytes_per_s);
/* The median of what was told last; 0: nothing. */
double pack_rule_rate(const PackRule *rule);
/* Pages of so many bytes became `wire_bytes` within `us`. */
void pack_rule_packed(PackRule *rule, PackCodec codec, guint64 page_bytes, guint64 wire_bytes,
                      gint64 us);
/* What a byte of a page costs, in nanoseconds; negative: not known. */
double pack_rule_cost(const PackRule *rule, PackCodec codec);
/*
 * Chooses, and tells how the next pages are to be packed: as was chosen, or, if they may be used for
 * that, as has to be tried.
 */
PackCodec pack_rule_next(PackRule *rule, gboolean may_probe, ColoTime now);

#endif
