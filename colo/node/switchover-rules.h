/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A switchover: how far it has come, and what each event means then. Pure: tables from (phase,
 * event) to (next phase, actions), and rules about the figures. switchover.c carries the actions
 * out; primary and secondary each have a table of their own.
 *
 * The primary's. An event that isn't drawn leaves the phase as it is.
 *
 *     begin                        the VM stands, and no wish to hold it
 *  --------> SETUP <-----> ACTIVE           .------------. goes
 *            acked |        | small         |            '-------> DEVICE --handed--> HANDED
 *       ^ withdrawn         v               |                  ^      |                 |  taken
 *       '---------------  STOPPING --held---+--> PRE --continue'      |                 '-------.
 *         withdrawn         |                |                        |                         v
 *                           |                |                        |                    COMPLETED
 *         cancel: at once   |                | cancel                 | cancel: the secondary's
 *      SETUP, ACTIVE,       |                v                        v to decide, if it has it
 *      STOPPING ------------'            CANCELLING <-----------------'--- HANDED_CANCELLING
 *              |                             | runs
 *              v                             v
 *          CANCELLED                     CANCELLED
 *
 * Whatever else ends it (the link, a limit of time, the secondary's refusal, the guest) is `over`:
 * FAILED, with the first reason. It is left to fsm.h who runs the VM then.
 *
 * The secondary's follows what the primary says, until the VM is handed to it. It is never in
 * STOPPING or CANCELLING.
 *
 *    begin                          held       goes          handed          taken
 *  ---------> SETUP <-----> ACTIVE ------> PRE ------> DEVICE -----> HANDED ------> COMPLETED
 *     acked        acked      |                          ^             | ^
 *    withdrawn   withdrawn    '----------- goes ---------'      cancel | | granted
 *                                                                      v |      left
 *      (SETUP to DEVICE) --cancelled-there--> CANCELLED        HANDED_CANCELLING -----> CANCELLED
 *
 * Before HANDED, the command `cancel` is passed on to the primary, and changes nothing here.
 *
 * Always holds (tests/unit/test-switchover-rules.c walks all of it):
 * - Each command has an answer in each phase; `cancel` is never refused and changes nothing twice.
 * - Before DEVICE the primary's VM has had no pause of ours, but for STOPPING and PRE.
 * - In DEVICE the VM stands. Until then approval can be withdrawn, and the limit of time counts.
 * - A phase that has ended is left by `begin` only; on the secondary also by the primary's ASK.
 * - Before HANDED, a secondary's phase is under way in `colo` only: whatever moves the node ends it.
 */
#ifndef COLO_COLO_NODE_SWITCHOVER_RULES_H
#define COLO_COLO_NODE_SWITCHOVER_RULES_H

#include "colo/node/fsm.h"

typedef enum {
    SWITCHOVER_NONE,     /* there was none */
    SWITCHOVER_SETUP,    /* the secondary has not approved in all its parts; the VM runs */
    SWITCHOVER_ACTIVE,   /* pages are sent ahead until the pause would be short; the VM runs */
    SWITCHOVER_STOPPING, /* the VM is about to be paused for its last checkpoint */
    SWITCHOVER_PRE,      /* it is held, and its disks are still this side's */
    SWITCHOVER_DEVICE,   /* its last checkpoint is on its way */
    SWITCHOVER_HANDED,   /* it is the secondary's to take */
    SWITCHOVER_HANDED_CANCELLING, /* the same, and the secondary was asked to leave it */
    SWITCHOVER_CANCELLING,        /* the VM is on its way back to running here */
    SWITCHOVER_COMPLETED,
    SWITCHOVER_CANCELLED,
    SWITCHOVER_FAILED,
    SWITCHOVER_PHASES
} SwitchoverPhase;

typedef enum {
    SWITCHOVER_BEGIN,           /* a command, which was checked */
    SWITCHOVER_ACKED,           /* the secondary approves in all its parts */
    SWITCHOVER_WITHDRAWN,       /* it doesn't, or no more */
    SWITCHOVER_SMALL,           /* primary: what is left to send is */
    SWITCHOVER_HELD,            /* the VM stands, and its last checkpoint waits */
    SWITCHOVER_GO_ON,           /* the command `continue` */
    SWITCHOVER_CANCEL,          /* the command; primary: or the secondary's message */
    SWITCHOVER_CANCELLED_THERE, /* secondary: the primary's message, of an administrator's order */
    SWITCHOVER_FAILED_THERE,    /* likewise, with what has ended it */
    SWITCHOVER_GOES,            /* the primary is in `device` */
    SWITCHOVER_COMMITTED,       /* the secondary was told to take the VM */
    SWITCHOVER_CUT,             /* secondary: it is being found out who continues */
    SWITCHOVER_GRANTED,         /* secondary: it does, whatever was ordered */
    SWITCHOVER_TAKEN,           /* the secondary has taken it */
    SWITCHOVER_LEFT,            /* it has not: the VM is left to the primary */
    SWITCHOVER_RUNS,            /* primary: the VM does, here */
    SWITCHOVER_OVER,            /* it can't come to its end any more */
    SWITCHOVER_EVENTS
} SwitchoverEvent;

/* Carried out in this order, after the phase has changed. */
typedef enum {
    SWITCHOVER_DO_ASK = 1 << 0,      /* the secondary for its approval; begins to look */
    SWITCHOVER_DO_HOLD = 1 << 1,     /* the next checkpoint is the last, and is held in its pause */
    SWITCHOVER_DO_PRE = 1 << 2,      /* FSM_HOLD */
    SWITCHOVER_DO_GO = 1 << 3,       /* FSM_CONTINUE: the last checkpoint */
    SWITCHOVER_DO_WAY_BACK = 1 << 4, /* FSM_CANCEL */
    SWITCHOVER_DO_LET_GO = 1 << 5,   /* the last checkpoint is to be none, if it was ordered */
    SWITCHOVER_DO_SAY_CANCEL = 1 << 6, /* to the peer */
    SWITCHOVER_DO_SAY_PHASE = 1 << 7,  /* to the secondary: PRE or DEVICE */
    SWITCHOVER_DO_SAY_WANT = 1 << 8,   /* to the primary: it was ordered here */
    SWITCHOVER_DO_SAY_ACK = 1 << 9,    /* likewise: the parts that don't approve */
} SwitchoverAction;

typedef enum {
    SWITCHOVER_IGNORE, /* it means nothing here */
    SWITCHOVER_REFUSE, /* a command that is an error here */
    SWITCHOVER_MOVE,
} SwitchoverVerdict;

typedef struct {
    SwitchoverVerdict verdict;
    SwitchoverPhase next;
    guint actions; /* SwitchoverAction bits */
} SwitchoverStep;

/* Of a primary. `pause`: the wish to hold the VM. */
SwitchoverStep switchover_step(SwitchoverPhase phase, SwitchoverEvent event, gboolean pause);
/* Of a secondary. */
SwitchoverStep switchover_secondary_step(SwitchoverPhase phase, SwitchoverEvent event);
/* Whether the table of that side has a move from one phase to the other. */
gboolean switchover_may_become(gboolean is_primary, SwitchoverPhase from, SwitchoverPhase to);

/* "setup", "device", "cancelling", ...; NULL for SWITCHOVER_NONE. */
const char *switchover_phase_name(SwitchoverPhase phase);
const char *switchover_event_name(SwitchoverEvent event);
/* It has begun, and not ended. */
gboolean switchover_is_under_way(SwitchoverPhase phase);
/* The limit of time counts. */
gboolean switchover_is_limited(SwitchoverPhase phase);
/* It is under way, and the last checkpoint isn't on its way yet. */
gboolean switchover_is_before_device(SwitchoverPhase phase);
/* The VM is the secondary's to take. */
gboolean switchover_is_handed(SwitchoverPhase phase);

/* What the change of the node to `next` by `event` means to it; SWITCHOVER_EVENTS: nothing. */
SwitchoverEvent switchover_of_state(SwitchoverPhase phase, FsmState next, FsmEvent event);

/* ---- The secondary ---- */

/* The same of a secondary. */
SwitchoverEvent switchover_of_secondary(FsmState next, FsmEvent event);
/* Why a secondary leaves the VM to the primary: FSM_VM_UNFIT or FSM_UNDECIDED. */
const char *switchover_refusal(FsmEvent event);
/* A secondary that the VM is handed to: an order to cancel makes it unfit, if it has not asked. */
FsmEvent switchover_fit(gboolean is_fit, gboolean is_cancelled);

/* ---- The parts of an approval ---- */

typedef enum {
    SWITCHOVER_PART_CHECKPOINT = 1 << 0, /* the last one is applied, and loaded if it is to run */
    SWITCHOVER_PART_DISKS = 1 << 1,      /* they are attached, and in step with it */
    SWITCHOVER_PART_VM = 1 << 2,         /* QEMU has answered of late */
    SWITCHOVER_PART_UPLINK = 1 << 3,     /* each tap is there, in its bridge */
    SWITCHOVER_PART_ARBITER = 1 << 4,    /* its storage can be read now; or there is none */
    SWITCHOVER_PARTS_ALL = (1 << 5) - 1,
} SwitchoverPart;

/* "disks uplink"; "" of none. */
char *switchover_parts_text(guint parts);

/* ---- Figures ---- */

typedef struct {
    guint64 left_bytes; /* that would be sent in the pause */
    gint64 bytes_per_s; /* as measured last; 0: not yet */
    gint64 pause_us;    /* of an ordinary checkpoint, until it is copied */
    gint64 apply_us;    /* on the secondary */
    gint64 last_us;     /* from the pause of the last checkpoint until the secondary had it */
} SwitchoverLoad;

/* How long the guest would stand; -1: not known. */
gint64 switchover_expected_us(const SwitchoverLoad *load);
/*
 * `limit_ms` 0: nothing is waited for. What is left was counted a moment ago: just after a long
 * checkpoint it is what was written since, which nobody has looked at. So the last one counts, too.
 */
gboolean switchover_is_small(const SwitchoverLoad *load, guint64 limit_ms);
/* It isn't, and less would be left after one more checkpoint: a pause alone is short enough. */
gboolean switchover_may_shrink(const SwitchoverLoad *load, guint64 limit_ms);

#endif
