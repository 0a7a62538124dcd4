/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A rewriter between a client and a guest with one connection. What goes through it is parsed, and
 * its checksums are checked.
 */
#ifndef COLO_TESTS_REWRITE_RIG_H
#define COLO_TESTS_REWRITE_RIG_H

#include "netcompare/packet.h"
#include "netcompare/rewrite.h"
#include "tests/support/netframe.h"

/* The first numbers of the PVM, of the SVM and of the client. */
#define REWRITE_ISN_P 0xfffffff0u /* the maps wrap */
#define REWRITE_ISN_S 1000u
#define REWRITE_ISN_C 70u

typedef struct {
    Rewrite *rewrite;
    GPtrArray *delivered; /* of GBytes: to the guest */
    gboolean active;
} RewriteRig;

/* A rewriter in front of an SVM; without more options, its frames have no header and it holds 200
 * bytes at most. */
RewriteRig *rewrite_rig_new_with(const RewriteOptions *options);
RewriteRig *rewrite_rig_new(guint max_flows);
void rewrite_rig_free(RewriteRig *rig);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RewriteRig, rewrite_rig_free)

/* From now on output is mapped. */
void rewrite_rig_take_over(RewriteRig *rig);

/* Segments of the connection, with three bytes of data if they are no SYN. */
FrameSpec rewrite_from_client(guint8 flags, guint32 seq, guint32 ack);
FrameSpec rewrite_from_guest(guint8 flags, guint32 seq, guint32 ack);

/* The pointers in `p` are good as long as `frame`. */
void rewrite_parse(GBytes *frame, gboolean vnet, Packet *p);

/* What the guest gets. The pointers in `p` are good until the next input. */
void rewrite_rig_input(RewriteRig *rig, const FrameSpec *spec, Packet *p);
/* What the client gets; before the takeover, what the comparator gets. */
void rewrite_rig_output(RewriteRig *rig, const FrameSpec *spec, Packet *p);

/* The comparator's note about the connection. */
CompareNote rewrite_note_of(guint64 epoch, gboolean has_isn, guint32 ts_advance);

/* The client opens the connection, up to the note about both SYN-ACKs. */
void rewrite_rig_open(RewriteRig *rig);

#endif
