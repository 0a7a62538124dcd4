/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that has the VM's disks served: it runs the disk server (block/server.h), and takes
 * the disks through sessions, checkpoints and the takeover. docs/DISKS.md, "What the VM's owner
 * does", is the protocol; disks.c has the picture.
 *
 * It owns the server from before the VM's start until after its end, the orders to it, what the
 * session has come to, and the activation flag (block/activation.h). It has no VM, no link and no
 * RAM: it asks for facts, orders and reports by its handler.
 *
 * It is made with the node, not with the VM. A node without a VM then needs no check, and a server
 * that ends in order can be waited for when all else of the node is gone.
 *
 * Always holds:
 * - A checkpoint is complete on the secondary only if it is for RAM and for all disks. Until
 *   MARKED(e), RAM's e is held back (hold_back, marked), so RAM never gets ahead of the disks.
 * - The VM runs only with the activation flag's consent: disks_activate() is asked before every
 *   resume (resume.c), of a copy disks_may_run_copy().
 * - While apply(e) changes the images, the VM is paused and its QEMU has given them up.
 * - Orders are answered in the order in which they were given. What belongs to a session that is
 *   over is ignored: the answer to an order before the detach, or an event before the detach's own
 *   answer.
 * - Failures are reported from the main loop, never from within a function below.
 *
 * All of it runs on the main thread; nothing blocks but disks_free().
 */
#ifndef COLO_COLO_NODE_DISKS_H
#define COLO_COLO_NODE_DISKS_H

#include "block/server.h"
#include "colo/config/config.h"
#include "colo/node/epoch.h"
#include "colo/node/fsm.h"

typedef struct Disks Disks;

/* Facts that others own. */
typedef struct {
    FsmState state;
    gboolean is_primary; /* the node's role, also after the end */
    gboolean keeps;      /* nobody else may have the VM: what fails is tried again */
    VmDisks qemu;        /* what QEMU has of its disks */
} DisksWorld;

/* Called on the main loop, also from within the functions below. */
typedef struct {
    DisksWorld (*look)(gpointer user_data);
    /* disk_server_start() for the VM's disks: the plugin is not in `options`. */
    DiskServer *(*serve)(const DiskServerOptions *options, const DiskServerCallbacks *callbacks,
                         gpointer callback_data, GError **error, gpointer user_data);
    /* The VM can be started: QEMU finds its disks at `socket`. NULL: it has none. */
    void (*ready)(const char *socket, gpointer user_data);

    /* The VM can't continue on these disks. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
    /* The session is over, and the peer has not said why. */
    void (*stream_lost)(const char *what, const GError *error, gpointer user_data);
    void (*trouble)(const char *what, const GError *error, gpointer user_data);

    /* Primary: disks_may_checkpoint() from now on. */
    void (*synchronised)(gpointer user_data);
    /* Primary of a protected VM: the epoch has nearly all that it may have. */
    void (*filling)(gpointer user_data);

    /* Secondary: a session begins. RAM's checkpoints count only up to the last `marked`. */
    void (*hold_back)(gpointer user_data);
    void (*marked)(guint64 epoch, gpointer user_data);
    /* The server still works at checkpoint `epoch`: the primary is to have patience. */
    void (*applying)(guint64 epoch, gpointer user_data);
    /* What is due, or what the disks hold, has changed: copy_step(). */
    void (*step_copy)(gpointer user_data);
    /* A step of a takeover was refused, and is due again. */
    void (*refused)(const char *what, const GError *error, gpointer user_data);

    /* QEMU is to open its disks and run the VM: then disks_ran(); or disks_leave_stopped(). */
    void (*run)(gpointer user_data);
    /* QEMU, which doesn't run it, is to give them up: then disks_inactivated(). */
    void (*inactivate)(gpointer user_data);
    /* A result that may name the generation of the disks. */
    void (*noted)(json_object *result, gpointer user_data);
    /* The flag, its members and why they have changed, for administrators; `data` is taken. */
    void (*changed)(json_object *data, gpointer user_data);
    /* How disks_activate() has ended. */
    void (*activated)(const GError *error, gpointer user_data);
} DisksHandler;

/* `config` is borrowed. */
Disks *disks_new(const Config *config, const DisksHandler *handler, gpointer user_data);
/*
 * Stops the server as disks_stop() does, if it runs. Blocks until a server that ends in order has
 * ended, for disk-timeout at most; then it is killed.
 */
void disks_free(Disks *disks);

/* ---- As long as the VM ---- */

/* Starts the server, as the owner of the disks or not: then `ready`; at once without disks. */
void disks_start(Disks *disks, gboolean owner);
/* After the VM has gone. If the node ends, the server begins to end in order. */
void disks_stop(Disks *disks, gboolean node_ends);
/* Between these two, of a VM with disks. */
gboolean disks_are_there(const Disks *disks);

/* Any order of no session: `result` is NULL with an error. */
typedef void (*DisksAnswer)(json_object *result, const GError *error, gpointer user_data);
void disks_order(Disks *disks, const char *name, json_object *arguments, DisksAnswer done);
/* sync-rate may have changed. */
void disks_limit_sync_rate(Disks *disks);
/* The VM is about to be paused: its writes don't wait for the end of the epoch any more. */
void disks_let_through(Disks *disks);

/* ---- Sessions ---- */

typedef struct {
    gboolean primary;
    const char *id; /* 32 hexadecimal digits */
    int fd;         /* the connection to the peer's server; the caller keeps its copy */
    gboolean discard;
} DisksSession;

/*
 * Of a VM that is the other side's now: its disks become a replica, in the same server. Before a session,
 * and for a VM whose disks are given up: disks_may_become_replica(). `result` is NULL for a VM without
 * disks, and then `done` is called from within. After a failure they are of no use.
 */
gboolean disks_may_become_replica(const Disks *disks);
void disks_become_replica(Disks *disks, DisksAnswer done);

/* A session begins, or has ended; nothing is done for a VM without disks. */
void disks_attach(Disks *disks, const DisksSession *session);
void disks_detach(Disks *disks);

/* Primary: the secondary's disks are in step with ours. */
gboolean disks_may_checkpoint(const Disks *disks);
/* Primary: so much waits for the peer that the guest's writes do, too. */
gboolean disks_writes_wait(const Disks *disks);

/* Ends an order to the disks; not called if the session has ended meanwhile. */
typedef void (*DisksDone)(guint64 epoch, const GError *error, gpointer user_data);

/*
 * Primary, of a VM with disks: makes what was written durable, so that the pause need not. In the
 * pause it ends the epoch in the disks' stream.
 */
void disks_sync(Disks *disks, guint64 epoch, DisksDone done);
void disks_mark(Disks *disks, guint64 epoch, DisksDone done);

/* Secondary: checkpoint `epoch` is complete. It has to be applied as soon as the VM is paused. */
void disks_received(Disks *disks, guint64 epoch);
gboolean disks_apply_is_due(const Disks *disks);
/* Applies what is due: the VM is paused and has given up its disks. Then `step_copy`. */
void disks_apply(Disks *disks);
gboolean disks_are_applying(const Disks *disks);
gboolean disks_are_at(const Disks *disks, OptionalEpoch epoch);

/* ---- The activation flag ---- */

/*
 * TRUE if the disks belong to this side: the VM may run. Else it activates them, has the VM resumed
 * (`run`), and then calls `activated`. `takeover` is the checkpoint that is taken over from, if
 * one is.
 */
gboolean disks_activate(Disks *disks, OptionalEpoch takeover);
void disks_ran(Disks *disks, const GError *error);
/*
 * The VM stays stopped: QEMU opens its disks when it runs, and the flag stays INACTIVE until then.
 * What is below QEMU is this side's, which is what `activated` is told.
 */
void disks_leave_stopped(Disks *disks);
/*
 * Primary, at the last checkpoint of a VM that is handed over, and paused. The flag is INACTIVE from
 * here on. QEMU gives up its disks, which writes to the images. These end the epoch (disks_mark() of
 * it is done then), are synced and can't be written to any more. `done` is called in any case, also
 * if the session has ended, unless the disks end. The way back is disks_activate(), then and after a
 * failure.
 */
void disks_give_up(Disks *disks, guint64 epoch, DisksDone done);
/* What that waits for, for people, with the disks' names. The caller's. */
char *disks_describe_wait(const Disks *disks);
void disks_inactivated(Disks *disks, const GError *error);
/*
 * The same for a VM that is handed over at an earlier checkpoint: what is written from there on is
 * of no use. The flag is INACTIVE from here on, whatever becomes of the images.
 */
void disks_renounce(Disks *disks);
/* The flag is ACTIVE; or only the images are, with a VM that stays stopped. Or there are none. */
gboolean disks_are_active(const Disks *disks);
gboolean disks_images_are_active(const Disks *disks);
/* Whether a copy of the VM may run, on disks that are not this side's. */
gboolean disks_may_run_copy(const Disks *disks, GError **error);
void disks_vm_paused(Disks *disks);

/* ---- Status: as of the last look, twice a second ---- */

/* An order that has no answer yet: "sync", "takeover"; NULL: none. */
const char *disks_order_name(const Disks *disks);
void disks_add_status(const Disks *disks, json_object *status);
/* An image could not be synced, which is final. */
gboolean disks_are_unsynced(const Disks *disks);

#endif
