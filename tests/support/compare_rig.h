/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparator with its verdicts collected, a clock set by hand and frames made from specs. */
#ifndef COLO_TESTS_COMPARE_RIG_H
#define COLO_TESTS_COMPARE_RIG_H

#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "tests/support/netframe.h"

typedef struct {
    Compare *compare;
    guint64 epoch; /* that frames are tagged with */
    ColoTime now;
    GPtrArray *released;        /* of GBytes */
    GArray *divergences;        /* of CompareDivergence */
    GArray *notes;              /* of CompareNote */
    GArray *ended;              /* of CompareFlowInfo */
    GArray *settled;            /* of guint64: numbers of datagrams */
    guint notes_before_release; /* how many notes there were at the last release */
} Rig;

/* No virtio-net header unless said; epoch 1. */
void rig_options_init(CompareOptions *options);
/* `options` NULL: rig_options_init()'s. */
Rig *rig_new(const CompareOptions *options);
void rig_free(Rig *rig);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

gboolean rig_primary(Rig *rig, const FrameSpec *spec);
void rig_secondary(Rig *rig, const FrameSpec *spec);
/* Time passes; what was due then happens. */
void rig_wait_ms(Rig *rig, gint64 ms);
/* Checkpoint, committed, loaded: the next epoch. */
void rig_checkpoint(Rig *rig);

/* How many frames have been released since last asked. */
guint rig_released(Rig *rig);
/* Exactly one divergence since last asked, for this reason; returned, good until the next call. */
const CompareDivergence *rig_diverged(Rig *rig, CompareReason reason);
/* No divergence since last asked. */
void rig_agrees(Rig *rig);

/* A TCP segment of the guest (10.0.0.2:80 -> 10.0.0.1:4711). `text` may be NULL. */
FrameSpec rig_tcp(guint8 flags, guint32 seq, guint32 ack, const char *text);

/* The SYN-ACKs of a connection opened in this epoch, matched and released. */
void rig_open(Rig *rig, guint32 pvm_isn, guint32 svm_isn, guint32 client_isn);

#endif
