/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The copy: the secondary's VM, and what is done to it.
 *
 * It owns the copy's condition, the checkpoint that it is of, the job under way, the guard of RAM
 * around loads, and what is left to answer to PREPARE. Others own its purpose at the moment
 * (CopyDuty), the disks, and the connections to the primary and the network. It asks for the facts,
 * and reports what has happened.
 *
 * A Vm takes one order at a time, and reasons for one come from all sides. So a reason only changes
 * a fact, and copy_step() begins the next job whenever none is under way. The conditions and the
 * choice are pure: colo/node/copy-next.h.
 *
 * RAM is changed by checkpoints only while the VM is paused. One that the copy is to run from is
 * announced (PREPARE), and carries the pages that the copy has written since the last one. So RAM
 * is that of the checkpoint to the byte.
 *
 * A load of device state may write to RAM, because QEMU resets the machine first. The pages that
 * loads are known to write to are kept aside before each load, and restored after it (LoadGuard).
 * They are learnt before protection is claimed. Each checkpoint of that time is loaded, to know
 * that it can be. READY names the pages that were written and not known before, and the primary
 * then sends these again. If a later load writes to yet another page, RAM is no checkpoint's any
 * more. The copy is then invalid, until the next checkpoint, which carries that page.
 *
 * An invalid side doesn't ask the arbiter. Otherwise the primary, which can continue, would be
 * denied. So no load begins while the arbiter is asked, and a question waits for the load under
 * way.
 *
 * A takeover: a copy that runs continues where it is, and so does one that was paused in the epoch
 * of the last complete checkpoint. It has sent all that clients have received. Otherwise the
 * checkpoint is loaded. That load is the last one: every page that it writes to is restored.
 */
#ifndef COLO_COLO_NODE_COPY_H
#define COLO_COLO_NODE_COPY_H

#include "checkpoint/checkpoint.h"
#include "colo/node/copy-next.h"
#include "colo/node/epoch.h"
#include "colo/node/messages.h"
#include "vm/vm.h"

typedef struct Copy Copy;

/* Facts that others own; `disks` is about the checkpoint of `epoch`. */
typedef struct {
    CopyDuty duty;
    CopyDisks disks;
    gboolean refused;
} CopyWorld;

/*
 * What is asked and reported, on the main loop. The handler may end the session or the VM at once,
 * but not free the copy.
 */
typedef struct {
    CopyWorld (*look)(OptionalEpoch epoch, gpointer user_data);

    /* The VM is paused: a session may begin. */
    void (*begin)(gpointer user_data);
    /* QEMU has read all input that the guest was given. */
    gboolean (*is_delivered)(gpointer user_data);
    /* All that the guest has sent until now is to be read. */
    void (*drain)(gpointer user_data);
    /* It is about to be paused; it has been; or it wasn't resumed. */
    void (*pausing)(gpointer user_data);
    void (*paused)(gpointer user_data);
    void (*not_resumed)(gpointer user_data);
    /* It has given up its disks, which are to be made those of the checkpoint. */
    void (*inactivated)(gpointer user_data);

    /* It is about to enter the epoch of `checkpoint`: FALSE with an error if it can't. */
    gboolean (*enter)(const Checkpoint *checkpoint, gpointer user_data, GError **error);
    /* Whether a copy may run on the disks as they are. */
    gboolean (*may_run)(gpointer user_data, GError **error);
    /* QEMU has resumed it: in epoch `in`, and its output counts; none: it doesn't. */
    void (*resumed)(OptionalEpoch in, gpointer user_data);
    /* A load, to show that it can be, has written to `pages`, which were not known. */
    gboolean (*proven)(const PageSet *pages, gpointer user_data, GError **error);
    /* It should run in epoch `epoch` and doesn't, until the next checkpoint. */
    void (*stalled)(guint64 epoch, const char *why, gpointer user_data);
    /* Part of the answer to PREPARE; and whether the link has room for one (told.h). */
    void (*dirty)(const MessageDirty *part, gpointer user_data);
    gboolean (*has_room)(gpointer user_data);
    /* All of it was sent. */
    void (*told)(gpointer user_data);

    void (*fit)(gboolean is_fit, gpointer user_data);
    /* The load that the arbiter's question waited for is over. */
    void (*may_ask)(gpointer user_data);
    /* A takeover: it can continue where it is, for good; then copy_taken_over(). */
    void (*take_over)(gpointer user_data);

    /*
     * A step was refused, and is to be tried again in a while: CopyWorld.refused, copy_step().
     * `is_load`: QEMU doesn't take the device state.
     */
    void (*refused)(const char *what, const GError *error, gboolean is_load, gpointer user_data);
    /* No step is under way, and there is none to take now. */
    void (*rests)(gpointer user_data);
    /* The VM can't continue here; or its process seems to end, which will report it by itself. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
    void (*ending)(const char *what, const GError *error, gpointer user_data);
} CopyHandler;

/* `handler` is borrowed. */
Copy *copy_new(const CopyHandler *handler, gpointer user_data);
/* Forgets, and detaches. NULL is fine. */
void copy_free(Copy *copy);

/* The VM has been started; both are borrowed until copy_detach(), which comes before they go. */
void copy_attach(Copy *copy, Vm *vm, DirtyTracker *tracker);
/* The VM was killed: no job is under way any more. */
void copy_killed(Copy *copy);
void copy_detach(Copy *copy);

/* A fact has changed: begins the next job, if there is one and none is under way. */
void copy_step(Copy *copy);

/* ---- The session ---- */

/* One is to begin, as soon as the VM is paused: begin(). FALSE: RAM can't be guarded. */
gboolean copy_start(Copy *copy, GError **error);
/* It is over, or the VM is about to be: forgets the checkpoint and all that was to be done. */
void copy_forget(Copy *copy);
/* Whether RAM may be changed by a checkpoint that has come: the VM is paused, and not loaded. */
gboolean copy_may_change_ram(const Copy *copy);
/* A checkpoint is complete, and RAM is about to be made that of it. */
void copy_received(Copy *copy, Checkpoint *checkpoint);
/* RAM is that of it. `to_run`: the primary wants the copy to run from it. */
void copy_applied(Copy *copy, gboolean to_run);
/* The one received last; NULL: none. Borrowed. */
const Checkpoint *copy_checkpoint(const Copy *copy);
/* It was loaded, and READY sent, as protection needs it. */
gboolean copy_is_proven(const Copy *copy);

/* ---- Questions of the primary ---- */

/* PREPARE of checkpoint `epoch`: dirty(). FALSE: it isn't the next one, or was asked already. */
gboolean copy_prepare(Copy *copy, guint64 epoch);
/* The link has room again for what is left of the answer. */
void copy_tell_on(Copy *copy);
/* Whether it could continue: fit(), after QEMU has answered. */
void copy_check_fit(Copy *copy);
/* A load is under way, so the arbiter is to be asked at its end: may_ask(). */
void copy_ask_when_loaded(Copy *copy);

/* ---- The VM ---- */

/*
 * It has stopped by itself, and can't continue; or, for an I/O error, it could continue where it
 * is.
 */
void copy_stopped(Copy *copy, const char *why);
void copy_stopped_by_io_error(Copy *copy, const char *why);

/* ---- The takeover ---- */

/* The last checkpoint is applied, copy_applied() or not, and nobody writes to RAM any more. */
void copy_settled(Copy *copy);
/* How the attempt to continue has ended. */
void copy_taken_over(Copy *copy, const GError *error);

/* ---- What it is ---- */

CopyCondition copy_condition(const Copy *copy);
/* What is under way. */
CopyJob copy_job(const Copy *copy);
/* QEMU owes an answer for a second and more. */
gboolean copy_is_late(const Copy *copy);
/* It could be taken over from, as far as its own past goes. */
gboolean copy_is_valid(const Copy *copy);
/* Of the checkpoint received last, in this session. */
OptionalEpoch copy_epoch(const Copy *copy);
/* It is in epoch `epoch`: loaded from its checkpoint, running or paused. */
gboolean copy_is_in(const Copy *copy, guint64 epoch);
/* Its output is that of its epoch: to be compared, and to be sent at a takeover. */
gboolean copy_output_counts(const Copy *copy);
/* It runs, and no job is under way. */
gboolean copy_runs(const Copy *copy);
/* For tests: copy_settled() was called; the guard around its loads, or NULL. */
gboolean copy_is_settled(const Copy *copy);
LoadGuard *copy_guard(const Copy *copy);

#endif
