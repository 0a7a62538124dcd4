/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rewriter: a pure core between the guest's card and the network. It maps the TCP numbers of
 * the guest to those that its clients know.
 *
 * Why: a connection opened since the last checkpoint has another initial sequence number on the
 * secondary VM (SVM), and another timestamp clock. The client knows the primary VM's (PVM's) only.
 *
 *              client's numbers                         guest's numbers
 *     network ----- rewrite_input(): ack, SACK, TSecr - map -----> deliver() -> guest
 *             <---- rewrite_map_output(): seq, TSval + map --- held, compared --- rewrite_observe()
 *
 *   SHADOW  beside a running SVM: what clients send is mapped for the SVM, which thereby goes the
 *           same way as the PVM; what the SVM sends is looked at only, the comparator wants it raw.
 *     |     rewrite_checkpoint(): the SVM is a copy of the PVM again, its maps are void.
 *     | rewrite_takeover()
 *     v
 *   ACTIVE  this VM is the one that clients talk to: both directions are mapped, each connection
 *           for as long as it lives, also when a new secondary has joined (rewrite_export()).
 *
 * How maps are learnt: from the comparator's notes; failing that (the primary died before sending
 * one), from the first ACK of the client after the SVM's SYN.
 *
 * Threads: one. deliver() runs inside the calls and must not call back. Nothing blocks.
 */
#ifndef COLO_NETCOMPARE_REWRITE_H
#define COLO_NETCOMPARE_REWRITE_H

#include "netcompare/compare.h"

typedef struct {
    guint max_flows;
    gsize max_held_bytes; /* of input for connections that the SVM has not answered yet */
    gboolean vnet_hdr;    /* frames start with a virtio-net header */
    guint64 hash_seed;    /* random */
} RewriteOptions;

/* 262144 flows, 4 MiB held, with a virtio-net header. */
void rewrite_options_init(RewriteOptions *options);

typedef struct {
    guint64 flows;                             /* known now */
    guint64 rewritten_input, rewritten_output; /* frames changed */
    guint64 held_frames, held_bytes;           /* input waiting for the SVM's SYN, now */
    guint64 dropped;                           /* input for which there was no room to wait */
    guint64 no_room;                           /* connections that found no room: not mapped */
    guint64 guessed;                           /* maps learnt from a client's ACK */
} RewriteStats;

typedef struct Rewrite Rewrite;

/* `deliver` gets the frames for the guest, in order but for those that had to wait. SHADOW. */
Rewrite *rewrite_new(const RewriteOptions *options, guint64 epoch,
                     void (*deliver)(unsigned nic, GBytes *frame, gpointer user_data),
                     gpointer user_data);
void rewrite_free(Rewrite *rewrite);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rewrite, rewrite_free)

/* A frame from the network: mapped if need be (a copy) and delivered; or it waits. */
void rewrite_input(Rewrite *rewrite, unsigned nic, GBytes *frame);

/* The guest has sent `frame`: to be called at once, before it is compared or held. */
void rewrite_observe(Rewrite *rewrite, unsigned nic, GBytes *frame);

/*
 * A frame that was observed leaves now, after a takeover: returns it mapped (a copy, or a new
 * reference if nothing changes). Also for frames observed in SHADOW and kept, which the secondary
 * sends first at a takeover. ACTIVE only.
 */
GBytes *rewrite_map_output(Rewrite *rewrite, unsigned nic, GBytes *frame);

/* From the comparator on the primary. One of another epoch than the running one is ignored. */
void rewrite_note(Rewrite *rewrite, const CompareNote *note);

/*
 * The SVM has been made a copy of the PVM: `exported` is the primary's rewrite_export() as of its
 * pause (NULL: it maps nothing). Input that waits is dropped: the PVM had it. SHADOW only. FALSE if
 * the bytes are no export; the maps are then as of the last checkpoint, and useless.
 */
gboolean rewrite_checkpoint(Rewrite *rewrite, guint64 epoch, GBytes *exported, GError **error);

/* From now on ACTIVE. */
void rewrite_takeover(Rewrite *rewrite);

/* The maps of an ACTIVE rewriter (docs/COMPARE.md), for the next secondary. NULL: there are none.
 */
GBytes *rewrite_export(Rewrite *rewrite);

const RewriteStats *rewrite_stats(const Rewrite *rewrite);

#endif
