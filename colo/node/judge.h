/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge of a primary: does the copy do what the VM does? Between two checkpoints of `colo` mode
 * the guest's output goes through it, and leaves when the copy has sent the same.
 *
 * It owns the comparator (netcompare/compare.h), and what is known of the copy (peer-vm.h). It owns
 * the choice whether the next epoch compares (mode.h), and what the copy need not keep any more
 * (SETTLED). It owns the differences and their recording. It doesn't decide when a checkpoint is
 * taken, nor which way a frame goes (route.h). It has no connection and no uplink.
 *
 * An epoch either compares (output is here) or does not (output is in the gate). This is decided in
 * the pause that begins it, and the checkpoint's attachment tells the secondary. A checkpoint is
 * complete before the next one begins. So what is held of epochs before it is all in one of the
 * two, and leaves in order. When the link is lost the gate takes over, behind what the comparator
 * holds. Nothing leaves until it is known who continues, even if it was proven.
 *
 * Always holds:
 * - The judge itself releases output only in an epoch that the copy runs in. The copy's frames come
 *   by judge_copy_output() and from nowhere else. Other output is released by judge_committed() and
 *   judge_forget().
 * - A copy that is paused or stalled isn't believed before the next checkpoint is taken.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_JUDGE_H
#define COLO_COLO_NODE_JUDGE_H

#include "colo/config/config.h"
#include "colo/node/divergence.h"
#include "colo/node/epoch.h"
#include "colo/node/messages.h"
#include "colo/node/mode.h"
#include "colo/node/peer-vm.h"
#include "colo/node/schedule.h"
#include "netcompare/recorder.h"

typedef struct Judge Judge;

/* Facts that others own. */
typedef struct {
    gboolean copy_rests;   /* it is paused for the checkpoint at hand: its silence means nothing */
    gboolean output_waits; /* some of what was released has not left yet */
} JudgeWorld;

/* Called on the main loop, also from within the functions below. */
typedef struct {
    JudgeWorld (*look)(gpointer user_data);
    /* To the clients; `frame` is borrowed. */
    void (*release)(unsigned nic, GBytes *frame, gpointer user_data);
    /* The VMs are not equal any more: a checkpoint is due. */
    void (*wanted)(CheckpointReason reason, gpointer user_data);
    /* To the secondary: how a connection is mapped. FALSE: there was no room. */
    gboolean (*note)(const CompareNote *note, gpointer user_data);
    /* To the secondary: what it need not keep; borrowed. */
    void (*settled)(const MessageSettled *settled, gpointer user_data);
    /*
     * For administrators: an event about a difference, whose reference is given. The mode of the
     * epoch that begins is another event.
     */
    void (*diverged)(json_object *event, gpointer user_data);
    void (*mode_changed)(Mode mode, gpointer user_data);
} JudgeHandler;

/* `config` and `handler` are borrowed. */
Judge *judge_new(const Config *config, const JudgeHandler *handler, gpointer user_data);
/* Drops what is held. NULL is fine. */
void judge_free(Judge *judge);

/* ---- Epochs ---- */

typedef struct {
    guint64 epoch;        /* that begins */
    gboolean compared;    /* the one that ends */
    gboolean may_compare; /* the one that begins: there is a copy that could run */
    gint64 buffered_us;   /* what a frame waits in `buffered` mode */
} JudgePause;

/*
 * In the pause, all output of the epoch that ends is known. Returns whether the one that begins
 * compares.
 */
gboolean judge_pause(Judge *judge, const JudgePause *pause);
/*
 * The checkpoint that begins `epoch` is complete on the secondary: what was held before it leaves.
 * `compares`: what judge_pause() returned.
 */
void judge_committed(Judge *judge, guint64 epoch, gboolean compares);
/* No secondary is there any more; what is held stays held. */
void judge_end(Judge *judge);
/* The same, and releases what is held, or (FALSE) drops it. */
void judge_forget(Judge *judge, gboolean release);
/* Live options may have changed. */
void judge_tune(Judge *judge);

/* ---- Output ---- */

/* The guest has sent this, in an epoch that compares. */
void judge_output(Judge *judge, unsigned nic, guint64 epoch, GBytes *frame);
/* The copy has; `taken` is the epoch of the last checkpoint that was taken. */
void judge_copy_output(Judge *judge, unsigned nic, guint64 epoch, guint64 taken, const guint8 *data,
                       gsize len);
/* What is held of epochs before `until`; `frame` is borrowed. */
void judge_foreach_held(const Judge *judge, guint64 until,
                        void (*func)(unsigned nic, GBytes *frame, gpointer user_data),
                        gpointer user_data);

/* ---- Messages of the secondary ---- */

/* FALSE with NODE_ERROR_PROTOCOL if it makes no sense. */
gboolean judge_loaded(Judge *judge, guint64 epoch, GError **error);
gboolean judge_stalled(Judge *judge, guint64 epoch, GError **error);
gboolean judge_rebooted(Judge *judge, guint64 epoch, GError **error);

/* ---- What is known ---- */

PeerVm judge_peer_vm(const Judge *judge);
/* It has not stalled: the secondary could take a VM that is handed over. */
gboolean judge_copy_is_fit(const Judge *judge);
/* The last checkpoint that is complete on the secondary. */
OptionalEpoch judge_epoch(const Judge *judge);
/* Comparing pauses, for it was not worth it. */
gboolean judge_is_pausing(const Judge *judge);
/* Borrowed; NULL: there is no comparator. */
const CompareStats *judge_stats(const Judge *judge);
const DivergenceLog *judge_divergences(const Judge *judge);
/* Told of both VMs' output from now on, and owned; NULL: off. */
void judge_set_recorder(Judge *judge, Recorder *recorder);
const Recorder *judge_recorder(const Judge *judge);

#endif
