/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary of a pair: it takes checkpoints of its VM, has a secondary prove that it can load
 * them, and stops the VM where it is to continue elsewhere.
 *
 * It owns the checkpoint cycle (cycle.h), the capture, and when a checkpoint is due (schedule.h). It
 * owns the proof that protection needs. It owns whether the VM is to be paused without a checkpoint.
 * One part has all of that, for one VM is paused at a time: every pause is a step of the one cycle.
 * It has neither the guest's frames, nor the disks, nor the way back to a running VM. It orders
 * these by its handler, and learns there what it has to know. It has no state of the node, and the
 * epoch is the node's: taken() reports the next one.
 *
 * primary.c is the cycle, primary-session.c the session and its schedule, primary-pause.c the pause
 * without a checkpoint.
 *
 * Always holds:
 * - A checkpoint is due only while none is under way, and the VM is not to be paused.
 * - The VM is paused only by a step of the cycle. Whatever ends the session, a VM that was paused
 *   for a checkpoint is resumed. `resume` may leave it paused: its guest is to be stopped (stops.h).
 * - The VM is handed over only when the secondary knows whether an administrator has stopped the
 *   guest: the last checkpoint says so.
 * - Protection is claimed once the secondary has loaded enough checkpoints (READY). The last load
 *   must not write to a page of RAM that the secondary had not named before. It can restore the
 *   pages that it named. Each time it names one, the next checkpoint carries that page once more.
 * - A refusal of QEMU that may pass doesn't end the VM. It ends the session, which can't go on.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_PRIMARY_H
#define COLO_COLO_NODE_PRIMARY_H

#include "checkpoint/checkpoint.h"
#include "colo/config/config.h"
#include "colo/node/cycle.h"
#include "colo/node/figures.h"
#include "colo/node/fsm.h"
#include "colo/node/messages.h"
#include "colo/node/peer-vm.h"
#include "colo/node/schedule.h"
#include "vm/vm.h"

typedef struct Primary Primary;

/* Facts that others own. */
typedef struct {
    FsmState state;
    guint64 epoch; /* of the last checkpoint that was taken */
    PeerVm peer_vm;
    gboolean copy_is_fit;   /* the secondary could continue */
    gboolean is_recorded;   /* the arbiter has the session on record */
    gboolean disks_in_step; /* the secondary's disks are, or there are none */
    gboolean has_disks;
    gboolean output_waits; /* for a checkpoint */
    gboolean is_stopped;   /* an administrator has stopped the guest */
    gboolean ends;         /* the VM's end has begun */
} PrimaryWorld;

/*
 * Called on the main loop, also from within the functions below. The handler may end the session or
 * the VM at once, but not free the primary.
 */
typedef struct {
    PrimaryWorld (*look)(gpointer user_data);
    /* QEMU has read all input that the guest was given. */
    gboolean (*is_delivered)(gpointer user_data);

    void (*event)(FsmEvent event, gpointer user_data);
    void (*trouble)(const char *what, const GError *error, gpointer user_data);
    /* The VM can't continue here; or its process seems to end, which will report it by itself. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
    void (*ending)(const char *what, const GError *error, gpointer user_data);
    /* The session can't go on; or a stream of it has failed, and the peer's last words count. */
    void (*link_lost)(const char *what, const GError *error, gpointer user_data);
    void (*stream_lost)(const char *what, const GError *error, gpointer user_data);
    /* To the secondary; borrowed. */
    void (*send)(const Message *message, gpointer user_data);

    /* A session begins, or has ended: there is a capture, or none any more. */
    void (*session_began)(gpointer user_data);
    void (*session_ended)(gpointer user_data);
    /* What the secondary has loaded is enough, and FSM_PROVEN was reported. */
    void (*proven)(gpointer user_data);

    /* The disks are to know that the VM runs here: then primary_may_run(), or the VM is lost. */
    void (*begin_run)(gpointer user_data);
    /* The VM is to run, or to be left stopped: then primary_ran(), also from within. */
    void (*resume)(gpointer user_data);
    /* It does. `paused`: since when it did not until `now`; 0: nothing is known to have paused it. */
    void (*running)(ColoTime paused, ColoTime now, gpointer user_data);
    /* The guest that QEMU has stopped is to be continued, from now on; FALSE: there is none. */
    gboolean (*continues)(gpointer user_data);
    /* The try to resume it is to be given up; FALSE: none waits. */
    gboolean (*give_up)(gpointer user_data);
    /* It is paused for its end. */
    void (*ready_to_end)(gpointer user_data);
    /* Its uplinks are to be closed, or opened again: the guest is here. */
    void (*fence)(gboolean closed, gpointer user_data);

    /* What the guest has written to its disks is to be durable: then primary_synced(). */
    void (*sync)(guint64 epoch, gpointer user_data);
    /*
     * The VM is about to be paused; and it is, `since` QEMU was told to, and all that it has sent
     * until now is to be read.
     */
    void (*pausing)(gpointer user_data);
    void (*paused)(ColoTime since, gpointer user_data);
    /*
     * In the pause: all output of the epoch that ends is known. Whether epoch `epoch` compares. It
     * doesn't if the checkpoint is the VM's `last` one here.
     */
    gboolean (*decide)(guint64 epoch, gboolean last, gpointer user_data);
    /* The VM is paused for its last checkpoint, which waits for primary_hand_over(). */
    void (*held)(gpointer user_data);
    /* The disks are to end the epoch before `epoch`: then primary_marked(). */
    void (*mark)(guint64 epoch, gpointer user_data);
    /*
     * The VM's last checkpoint here, with its disks: they are to end the epoch before `epoch`, and
     * to be given up. Then primary_given_up(), also if the session has ended.
     */
    void (*give_up_disks)(guint64 epoch, gpointer user_data);
    /* The VM is about to be handed over: nothing is to be written to its disks any more. */
    void (*renounce_disks)(gpointer user_data);
    /* What keeps them from being given up, for people. The caller's. */
    char *(*disks_wait_for)(gpointer user_data);
    /* The VM can't be handed over, or not in time. In `device` FSM_HAND_OVER_FAILED follows. */
    void (*late)(const GError *error, gpointer user_data);
    /*
     * The service's part of the checkpoint: held frames (HeldFrame*) and attachment, to be freed.
     * `stopped`: the guest is, by an administrator's order.
     */
    void (*content)(guint64 epoch, gboolean compares, gboolean stopped, GPtrArray **ret_frames,
                    GBytes **ret_attachment, gpointer user_data);
    /* The checkpoint is taken: what the VM does from now on is of `epoch`. */
    void (*taken)(guint64 epoch, gboolean compares, gpointer user_data);
    /* All of it has been given to the connection. */
    void (*sent)(gpointer user_data);
    /* It is the secondary's: what was held before it leaves. */
    void (*release)(guint64 epoch, gboolean compares, gpointer user_data);
    /* It is sent, received, and the VM runs. */
    void (*complete)(const FiguresCheckpoint *checkpoint, gpointer user_data);
    /* The VM is handed over: what has come for the guest meanwhile goes to the secondary, too. */
    void (*mirror)(gpointer user_data);
} PrimaryHandler;

/* `config` and `handler` are borrowed; live options are read at each look. */
Primary *primary_new(const Config *config, const PrimaryHandler *handler, gpointer user_data);
/* Reports nothing any more. NULL is fine. */
void primary_free(Primary *primary);

/* The VM has been started; both are borrowed until primary_detach(), which comes before they go. */
void primary_attach(Primary *primary, Vm *vm, DirtyTracker *tracker);
/*
 * The guest was loaded, and runs here as of now. A synchronisation spares it while it warms up: QEMU has
 * forgotten all that it knew of the guest's code (TCG) or pages (KVM), and clients wait for its first answer.
 */
void primary_was_loaded(Primary *primary);
/* The VM is about to be ended, and calls back no more: forgets the cycle. */
void primary_forget(Primary *primary);
/* After that and primary_end_session(). */
void primary_detach(Primary *primary);
/* The node is in `next` from now on: what doesn't hold there is over. */
void primary_moved(Primary *primary, FsmState next);

/* ---- The VM runs ---- */

/* Has a VM run that was just started: begin_run(). */
void primary_run(Primary *primary);
void primary_may_run(Primary *primary);
/* How `resume` has ended. */
void primary_ran(Primary *primary, const GError *error);
/* Continues a guest that has stopped, if that is due and no checkpoint is under way. */
void primary_continue(Primary *primary);
/* QEMU refuses to run it, which it need not do if it is to be paused. */
void primary_stay_paused(Primary *primary);

/* ---- The session ---- */

/*
 * A secondary is there; `fd` is the checkpoint connection, borrowed until primary_end_session().
 * `may_pack`: it reads packed pages.
 */
void primary_synchronise(Primary *primary, int fd, gboolean may_pack);
/* It is not there any more, if it was: cancels what is under way. */
void primary_end_session(Primary *primary);
/* How what was asked of the disks has ended; not called for a session that is over. */
void primary_synced(Primary *primary, const GError *error);
void primary_marked(Primary *primary, const GError *error);

void primary_given_up(Primary *primary, const GError *error);

/* Messages of the secondary; FALSE with NODE_ERROR_PROTOCOL if one makes no sense. */
gboolean primary_received(Primary *primary, guint64 epoch, GError **error);
gboolean primary_ready(Primary *primary, const MessageReady *ready, GError **error);
gboolean primary_dirty(Primary *primary, const MessageDirty *dirty, GError **error);
gboolean primary_refused(Primary *primary, const MessageRefused *refused, GError **error);

/* A checkpoint is wanted; or is not any more, for these of the reasons. */
void primary_want(Primary *primary, CheckpointReason reason);
void primary_want_no_more(Primary *primary, Wanted reasons);
/* Something that the schedule depends on has changed. It is looked at from the main loop. */
void primary_reschedule(Primary *primary);
/* After a change of the configuration. */
void primary_tune(Primary *primary);

/* ---- The pause without a checkpoint ---- */

/* The VM is to be paused as soon as no checkpoint is under way. */
void primary_pause(Primary *primary);
/* The same, and nothing leaves or comes in. */
void primary_freeze(Primary *primary);
/*
 * Likewise, as soon as the secondary can continue: FSM_COMMITTED. Not in time: late(), and
 * FSM_HAND_OVER_FAILED.
 */
void primary_hand_over(Primary *primary);
/*
 * The next checkpoint is the VM's last one here, and is taken now. It waits in its pause: held().
 * primary_hand_over(), before or then, waits for this checkpoint instead, and it goes on. Nothing of
 * the guest is redone by the secondary.
 */
void primary_plan(Primary *primary);
/* Not any more: it becomes an ordinary checkpoint, and the VM runs. */
void primary_unplan(Primary *primary);
/* Sends HANDED. */
void primary_send_handed(Primary *primary);
/* The end of any of these. */
void primary_resume(Primary *primary);

/* ---- What is known ---- */

CyclePhase primary_phase(const Primary *primary);
/* Of the checkpoint: under way, or the last one. */
guint64 primary_epoch(const Primary *primary);
gboolean primary_wants(const Primary *primary, CheckpointReason reason);
/* There is a secondary that receives checkpoints. */
gboolean primary_has_session(const Primary *primary);
/* The secondary has yet to tell what its RAM holds; or READY is to come. */
gboolean primary_awaits_base(const Primary *primary);
Proof primary_proof(const Primary *primary);
/* Of the session's synchronisation. Borrowed; NULL: none has begun. */
const SyncProgress *primary_progress(const Primary *primary);
/* Written since the last checkpoint and not sent ahead. */
guint64 primary_dirty_pages(const Primary *primary);
/* The secondary may have the arbiter's yes but not have continued. */
gboolean primary_is_doubted(const Primary *primary);
/* For tests: it is to be paused; a look at the schedule is due; the hand-over has an end. */
gboolean primary_is_to_be_paused(const Primary *primary);
gboolean primary_is_scheduled(const Primary *primary);
gboolean primary_is_handing_over(const Primary *primary);

#endif
