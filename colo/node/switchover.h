/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A planned switchover: the VM moves to the other host, and nothing of it is lost or redone. This
 * part owns how far it has come (switchover-rules.h), on either side. It owns the wish to pause the
 * VM first, the approval of the secondary, the limit of time, the first error, and the figures.
 *
 *     primary                              secondary
 *     setup    ASK(id) ------------------>
 *              <------ ACK(id, parts)      again whenever the parts that don't approve change
 *     active   none of them is left; checkpoints go ahead until the pause would be short
 *     [pre-switchover: the VM stands, for as long as an administrator wants it to]
 *              PHASE(id, held) --------->
 *     device   the last checkpoint: the VM stays paused in it
 *              PHASE(id, goes) --------->
 *     handed   HANDED ------------------->  asks the arbiter; then TAKEN, or REFUSED
 *
 * WANT(id) is the order that was given to the secondary, which chooses the id then. CANCEL(id) is the
 * end by either side. It has neither the VM nor the checkpoints nor the node's state: it orders by
 * its handler, and is told. Before `device` the state machine doesn't know of it.
 *
 * Cancelling never waits for anything. It sets a wish, and the one way back to a running VM
 * (resume.h) does the rest. A VM that is handed over is the secondary's: there it is a request.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_SWITCHOVER_H
#define COLO_COLO_NODE_SWITCHOVER_H

#include "colo/config/config.h"
#include "colo/node/messages.h"
#include "colo/node/switchover-rules.h"
#include "common/clock.h"
#include "common/json.h"

typedef struct Switchover Switchover;

/* Facts that others own. */
typedef struct {
    FsmState state;
    guint64 epoch; /* of the last checkpoint */
    gboolean vm_runs;
    gboolean ends;        /* this node's end, or the VM's, has begun */
    gboolean copy_is_fit; /* primary: the secondary's VM could continue */
    gboolean is_busy;     /* primary: a checkpoint is under way, or wanted */
    gboolean is_loading;  /* primary: the secondary's VM loads one */
    gboolean is_refused;  /* primary: the VM is to run, and can't be resumed */
    guint pending;        /* secondary: SwitchoverPart bits that don't approve */
    SwitchoverLoad load;  /* primary */
} SwitchoverWorld;

/* Called on the main loop, also from within the functions below. */
typedef struct {
    SwitchoverWorld (*look)(gpointer user_data);
    void (*send)(const Message *message, gpointer user_data);
    /* Secondary: it is asked for its approval, and what it knew of the arbiter is out of date; or no more. */
    void (*watch)(gboolean begins, gpointer user_data);
    /* A checkpoint is to be taken now. */
    void (*ahead)(gpointer user_data);
    /* The next checkpoint is the VM's last one here, and waits in its pause; or isn't. */
    void (*plan)(gpointer user_data);
    void (*unplan)(gpointer user_data);
    /* FSM_HOLD, FSM_CONTINUE or FSM_CANCEL. */
    void (*event)(FsmEvent event, gpointer user_data);
    /* Its status has changed: switchover_describe(). */
    void (*changed)(gpointer user_data);
} SwitchoverHandler;

/* `config` is borrowed; live options are read at each look. */
Switchover *switchover_new(const Config *config, const SwitchoverHandler *handler,
                           gpointer user_data);
/* NULL is fine. */
void switchover_free(Switchover *switchover);

/* ---- Commands: on either side; each is answered at once ---- */

/* FALSE with CONTROL_ERROR_STATE: it can't begin now. The secondary asks the primary for it. */
gboolean switchover_begin(Switchover *switchover, gboolean pause, guint32 *ret_id, GError **error);
/* FALSE with CONTROL_ERROR_STATE if it isn't in `status`, or with _ARGUMENT if none can be held. */
gboolean switchover_continue(Switchover *switchover, const char *status, GError **error);
/* Nothing is refused, and nothing is waited for. */
void switchover_cancel(Switchover *switchover);

/* ---- What happens ---- */

/* The node is in `next` from now on. */
void switchover_moved(Switchover *switchover, FsmState next, FsmEvent event);
/* Primary: the VM is paused for a checkpoint; for its last one, which is held; it runs again. */
void switchover_paused(Switchover *switchover, ColoTime since);
void switchover_held(Switchover *switchover);
void switchover_runs(Switchover *switchover);
/* Likewise: the secondary has all of a checkpoint, and the VM runs. */
void switchover_checkpoint(Switchover *switchover);
/* What has happened to the guest, or to this node: it can't or shouldn't go on before `device`. */
void switchover_guest(Switchover *switchover, const char *what);
void switchover_node_ends(Switchover *switchover);
/* Likewise, and one that is held is let go: nothing is left to be moved. */
void switchover_vm_ends(Switchover *switchover, const char *why);
/*
 * Why the VM can't be handed over: the disks, or the secondary, which may be this side. Before the
 * node has moved.
 */
void switchover_refused(Switchover *switchover, const char *why);
/*
 * There will be no last checkpoint. In `device` that is a reason like those, for the node moves then. Before
 * it the switchover ends here: if the VM is handed over next, by an earlier checkpoint, that is a failover.
 */
void switchover_cannot(Switchover *switchover, const char *why);
/* Primary: the VM runs at the secondary, `took_us` after that was told to take it; likewise. */
void switchover_taken(Switchover *switchover, guint64 took_us);
/* Secondary: the VM is to be left to the primary. */
gboolean switchover_is_cancelled(const Switchover *switchover);

/* Message SWITCHOVER_ASK, _ACK, _WANT, _CANCEL or _PHASE of the peer. */
void switchover_received(Switchover *switchover, const Message *message);

/* ---- For status and tests ---- */

SwitchoverPhase switchover_phase(const Switchover *switchover);
guint32 switchover_id(const Switchover *switchover);
/* The first; NULL: none. Borrowed. */
const char *switchover_error(const Switchover *switchover);
/* All figures; NULL: there was none. The caller's. */
json_object *switchover_describe(const Switchover *switchover);
/* Of its event: id, status and error. */
json_object *switchover_describe_change(const Switchover *switchover);

#endif
