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
 * probed: packed by each of those that are not chosen, in turn.
 *
 * A probe doesn't tell what differences to earlier versions would save, for these have to be kept for a
 * while. So a codec that would be worth it if it left half as much gets a try for some seconds. What is
 * measured then decides. One that fails is not followed by another for a minute.
 *
 * The link is only seen by a sender that it makes wait. So while pages are packed, a transfer goes as it is
 * every ten seconds.
 */
#ifndef COLO_CHECKPOINT_PACK_RULE_H
#define COLO_CHECKPOINT_PACK_RULE_H

#include "checkpoint/checkpoint.h"

#define PACK_PROBE_US (500 * COLO_US_PER_MS)
#define PACK_TRY_US   (3 * (gint64)G_USEC_PER_SEC)
#define PACK_AGAIN_US (60 * (gint64)G_USEC_PER_SEC)
#define PACK_LOOK_US  (10 * (gint64)G_USEC_PER_SEC)
#define PACK_RATES    9u
#define PACK_TIMES    5u

/* What a codec has come to of late. */
typedef struct {
    double times[PACK_TIMES]; /* of packing a byte, in nanoseconds: the last ones */
    guint n_times;            /* that were ever told */
    double left;              /* of a byte: bytes on the wire */
} PackMeasure;

/* All zero: nothing is known. */
typedef struct {
    PackMeasure codecs[PACK_CODECS]; /* that of PACK_PLAIN is not used */
    double rates[PACK_RATES];        /* of the link, bytes per second: the last ones */
    guint n_rates;                   /* that were ever told */
    PackCodec chosen, probed;        /* probed: the last one */
    ColoTime probed_at;              /* 0: never */
    ColoTime tried_at;               /* when the last try began; 0: never */
    gboolean trying;
    ColoTime plain_at; /* when pages last went as they are; 0: not known */
    gboolean looking;  /* the transfer at hand goes as it is, to see what the link takes */
} PackRule;

/*
 * The link takes so many bytes per second, as the last transfer showed. `waited`: the sender had always more
 * to send. If it had not, because it packs pages, this tells how large a burst the link takes at once.
 */
void pack_rule_link(PackRule *rule, double bytes_per_s, gboolean waited);
/* The median of what was told last; 0: nothing. */
double pack_rule_rate(const PackRule *rule);
/* Pages of so many bytes became `wire_bytes` within `us`. */
void pack_rule_packed(PackRule *rule, PackCodec codec, guint64 page_bytes, guint64 wire_bytes,
                      gint64 us);
/* What a byte of a page costs, in nanoseconds; negative: not known. */
double pack_rule_cost(const PackRule *rule, PackCodec codec);
/*
 * Chooses, and tells how the next pages are to be packed: as was chosen, or, if they may be used for
 * that, as is to be probed. `begins`: they are the first of a transfer. `keeps`: versions of pages are kept,
 * so a codec may get a try.
 */
PackCodec pack_rule_next(PackRule *rule, gboolean begins, gboolean may_probe, gboolean keeps,
                         ColoTime now);

#endif
