/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The states of a node and what moves it between them. Pure: a table from (state, event) to (next
 * state, actions); node.c carries the actions out. Role and state are one thing here, so that what
 * a primary may do is never asked of a secondary.
 *
 *     primary                                          secondary
 *
 *     starting: asking              ------ denied ---> (role auto)
 *        | granted                  <----- granted --- (the same, while it is in `none`)
 *        v
 *     starting                                         starting
 *        | vm-started                                     | vm-started
 *        v            link-down                           v       link-down
 *      none <-----------------------.                   none <------------------.
 *        | link-up: "runs"          |                     | link-up             |
 *        v                          |                     v                     |
 *   .->setup ---------------------->|                   setup ----------------->|
 *   |    | blank                    |                     | peer-runs           |
 *   |    v                          |                     v                     |
 *   |  active --------------------->|               .->active ------------------'
 *   |    | proven                   |               |     | protect
 *   |    v                          |               |     v
 *   |  colo --------> paused -------'               |   colo --------> paused
 *   |    |  link-down | ^ |   granted               |       link-down,  ^  | granted
 *   |    |      link-up | | denied                  |       yielded,    |  |
 *   |    |              | |                         |       unfit       |  |
 *   |    |              v |                         | peer-runs         |  |
 *   |    |        recover-+-> frozen                '-------- recover <-'  |
 *   |    |     granted |  denied |                              |          |
 *   |    | yield       |         | link-up          peer-paused |          |
 *   |    | (below)     |         v                              v          |
 *   '----+-------------'  secondary: starting                 device <-----'
 *        v                                                      | taken-over
 *                                                               v
 *                                                             primary: none
 *
 * A hand-over, by order; link-down at any step leads to `paused`, on either side:
 *
 *      colo <----------------------.                      colo <------------.
 *        | yield                   |                        | handed        | vm-unfit, undecided:
 *        v                         | hand-over-failed       v               | "refused"
 *      device ---------------------+                      handed: fit? -----+
 *        | committed: "handed"     |                        | vm-fit        |
 *        v                         | refused                v               |
 *      handed ---------------------'                      handed: asks -----'
 *        |    | given-back                                  | granted       link-down, yielded
 *        |    '-----------------> none                      v
 *        | taken                                          taking -------------------> device
 *        v                                     taken-over:  |    | hand-over-failed, vm-lost
 *      frozen                                       "taken" |    v
 *                                                           |  giving: the VM has ended here
 *                                                           v    | given-back: "refused"
 *                                                primary: none   '-----------------> starting
 *
 * In `taking` the secondary has the arbiter's yes, and the primary stands still and waits. So it can
 * have the VM back. First the secondary's VM ends, of which nothing was heard. Then the arbiter's
 * decision is made the primary's (`giving`; `leaving`, if the node ends). Only then does the primary
 * learn of it, from the secondary, or from the arbiter if the link is lost meanwhile.
 *
 * A frozen primary whose link comes up sees the other side run the VM: only such a side accepts it.
 * It becomes its secondary, and keeps QEMU with its RAM, and the disks' server, where it can
 * (replica.h).
 *
 * A switchover begins with `continue` instead of `yield`: the checkpoint that the VM is paused in is
 * its last one, so nothing of the guest is redone. Before that the VM can be held (the rest of it
 * is switchover-rules.h; `continue` and `cancel` mean nothing in all other states):
 *
 *      colo --continue--> device --cancel--> colo
 *        | hold                                ^
 *        v                                     |
 *      pre-switchover ---- cancel -------------'
 *        | continue
 *        v
 *      device
 *
 * Which side may answer the clients ("active" side: its gate passes output and its VM runs):
 *   - primary: always, but in `paused` and `recover` its output is held, in `colo` and `device` it
 *     leaves by commit only, and in `pre-switchover`, `handed` and `frozen` the VM is paused;
 *   - secondary: never; it becomes primary, in `device`, only after `granted`, or when the primary
 *     reports that the arbiter has denied it. What its VM sends in `taking` waits until it has.
 *
 * Why no two sides are ever active. The primary enters `colo` before it sends PROTECT, and from
 * then on a lost link takes it to `paused`. There it holds its output until the arbiter (or an
 * administrator) says yes. The secondary enters `colo` on PROTECT only, so a secondary that may ask
 * implies a primary that must ask. The arbiter says yes to one. Where the link is there and the
 * secondary itself reports that it ends, the primary need not ask. There is one exception: the
 * secondary has refused a hand-over after it had asked. The arbiter may then have said yes to the
 * secondary, and a node that starts there again is told so. So node.c feeds link-down instead.
 *
 * Why no two sides ever throw the VM away. An answer may be lost after it was stored, so a side
 * that has received none may have won or lost. A side that was denied doesn't know whether the
 * winner knows, or lives. So each keeps what it has until the other is seen to run the VM. The
 * secondary keeps its checkpoint (`paused`, `recover`) until the primary reports that it runs
 * (peer-runs). The primary keeps its VM (`frozen`) until a primary accepts it as its secondary.
 * Where it was denied, only a side that runs the VM can do that. When nobody can decide
 * (undecided), both look for each other again. When they are linked, the primary asks, and reports
 * the answer. The secondary acts on that, whatever it knew itself. The peer of `recover` may be a
 * secondary that was started again, which holds nothing. The primary's question is then about
 * whether its predecessor has continued.
 *
 * An answer that comes late, to a question that was given up, counts as long as the side is still
 * in doubt about the same session (claim-rules.h).
 *
 * A node that starts again doesn't become a second active side either. It starts a VM only if the
 * arbiter has the VM on record as its own (colo/arbiter/owner.c). For that each takeover has a
 * decision, and a primary has its session on record before PROTECT. Without an arbiter only
 * administrators know. A node that was denied, and that no primary has come to, asks again from
 * time to time. The other may have given the VM back since, and wait likewise (claim-owner.c).
 */
#ifndef COLO_COLO_NODE_FSM_H
#define COLO_COLO_NODE_FSM_H

#include <glib.h>

typedef enum {
    FSM_P_ASKING,   /* may this node start the VM? Nothing runs yet */
    FSM_P_STARTING, /* QEMU is being started */
    FSM_P_NONE,     /* the VM runs unprotected; a secondary is welcome */
    FSM_P_SETUP,    /* a secondary is there and makes itself ready */
    FSM_P_ACTIVE,   /* first synchronisation and proof that the secondary can load */
    FSM_P_COLO,     /* protected */
    /* Still protected; the VM is paused, and waits for an order to hand it over: no time limit */
    FSM_P_PRE_SWITCHOVER,
    FSM_P_DEVICE,  /* still protected; the VM is to be handed over as soon as it is paused */
    FSM_P_HANDED,  /* it is paused, and is the secondary's to take: held until that is known */
    FSM_P_PAUSED,  /* the link is lost: output held until it is known who continues */
    FSM_P_RECOVER, /* likewise, though a secondary is back: asks again */
    FSM_P_FROZEN,  /* the other side continues: the VM is paused until that is seen to run it */
    FSM_S_STARTING,
    FSM_S_NONE,    /* the VM is paused and empty; looks for the primary */
    FSM_S_SETUP,   /* waits for the primary's message that it runs the VM */
    FSM_S_ACTIVE,  /* receives; must not take over */
    FSM_S_COLO,    /* holds a checkpoint it may take over from */
    FSM_S_HANDED,  /* the VM is handed over: can this side take it, and does the arbiter agree? */
    FSM_S_PAUSED,  /* the link is lost: keeps that, and asks whether it may take over */
    FSM_S_RECOVER, /* likewise, though the primary is back: waits for its message */
    FSM_S_DEVICE,  /* taking over: loads the device state */
    FSM_S_TAKING,  /* likewise, while the primary lives, and can have the VM back */
    FSM_S_GIVING,  /* can't take over, its VM has ended: makes the primary the owner */
    FSM_S_LEAVING, /* likewise, before this node ends */
    FSM_FAILED,    /* the VM is lost on this node: colod exits with an error */
    FSM_COMPLETED, /* ended on purpose: colod exits */
    FSM_STATES
} FsmState;

typedef enum {
    FSM_VM_STARTED,
    FSM_VM_LOST, /* QEMU did not start, died, stopped answering or could not be taken over */
    FSM_LINK_UP,
    FSM_LINK_DOWN,    /* also: an engine's stream broke */
    FSM_BLANK,        /* message: the secondary holds no checkpoint */
    FSM_PROVEN,       /* a checkpoint the secondary can load is complete there */
    FSM_PROTECT,      /* message: the primary holds its output from now on */
    FSM_PEER_RUNS,    /* message: the primary's VM runs, its output open; drop what you hold */
    FSM_PEER_PAUSED,  /* message: the arbiter has denied the primary: the VM is the secondary's */
    FSM_PEER_FAILED,  /* message: the peer can't be half of a pair */
    FSM_PEER_GOODBYE, /* message: the peer ends on purpose */
    FSM_YIELD,        /* administrator here or at the peer: hand the VM over now, primary */
    FSM_HOLD,         /* switchover: our VM is paused before its last checkpoint, as asked for */
    FSM_CONTINUE,     /* switchover: hand the VM over, with a last checkpoint */
    FSM_CANCEL,       /* switchover: the VM is to run here as before */
    FSM_COMMITTED,    /* our VM is paused, and the secondary has its last checkpoint */
    FSM_HANDED,       /* message: the primary's VM is paused: take it */
    FSM_VM_FIT,       /* this secondary could continue now */
    FSM_VM_UNFIT,
    FSM_TAKEN,            /* message: the VM runs at the secondary */
    FSM_REFUSED,          /* message: the secondary can't, and has not asked or was not told */
    FSM_GIVEN_BACK,       /* the primary is the owner again; also the message of that */
    FSM_HAND_OVER_FAILED, /* it takes too long, or the secondary can't take over */
    FSM_YIELDED,          /* message: the primary has killed its VM */
    FSM_GRANTED,          /* the arbiter or an administrator: continue alone, or start the VM */
    FSM_UNFIT,            /* message: the primary continues without this side */
    FSM_INVALID,          /* the link is lost, RAM is no checkpoint's: this side can't continue */
    FSM_RECYCLE,          /* the secondary's QEMU has grown too much */
    FSM_DENIED,           /* the arbiter: the other side continues, or has */
    FSM_UNDECIDED,        /* there is no arbiter, or it can't be asked now */
    FSM_ASK_AGAIN,        /* the arbiter may be there again */
    FSM_TAKEN_OVER,
    FSM_SHUTDOWN, /* the guest powered off, or an administrator ends the service */
    FSM_EVENTS
} FsmEvent;

/* Carried out in this order, after the state has changed. */
typedef enum {
    FSM_DO_SEND_PROTECT = 1 << 0,
    FSM_DO_SEND_RUNS = 1 << 1, /* with what the peer holds, no side may continue any more */
    FSM_DO_SEND_HANDED = 1 << 2,
    FSM_DO_OPEN_UPLINKS = 1 << 3, /* and tells the network where the guest is now */
    FSM_DO_SEND_REFUSED = 1 << 4,
    FSM_DO_SEND_PAUSED = 1 << 5,
    /* Before the VM is dead, which takes time: the peer needs to know only that this side won't
     * continue, or must not. */
    FSM_DO_SEND_FAILED = 1 << 6,
    FSM_DO_SEND_GOODBYE = 1 << 7,
    FSM_DO_SEND_TAKEN =
        1 << 8, /* only now: until it knows, the peer forwards what the network sends it */
    FSM_DO_FREEZE_VM = 1 << 9,     /* pauses it, and closes the uplinks */
    FSM_DO_KILL_VM = 1 << 10,      /* with its output: closes the uplinks and drops what is held */
    FSM_DO_SEND_YIELDED = 1 << 11, /* only now may the peer continue */
    FSM_DO_END_CAPTURE = 1 << 12,  /* what was sent is on its way before a connection ends */
    FSM_DO_DROP_APPLY = 1 << 13,   /* with the checkpoint it holds */
    FSM_DO_CLOSE_LINK = 1 << 14,   /* neither dials nor accepts either, until told to */
    /* The VM is the other side's, which runs it: it becomes that side's copy, in the same QEMU if that
     * can be, or else in a fresh one. VM_STARTED */
    FSM_DO_BECOME_REPLICA = 1 << 15,
    FSM_DO_START_VM = 1 << 16,    /* a fresh QEMU, paused */
    FSM_DO_RUN_VM = 1 << 17,      /* one that was just started */
    FSM_DO_HAND_OVER = 1 << 18,   /* has the VM paused: COMMITTED */
    FSM_DO_CHECK_VM = 1 << 19,    /* VM_FIT or VM_UNFIT */
    FSM_DO_RESUME_VM = 1 << 20,   /* one that is paused, or is to be */
    FSM_DO_OPEN_GATE = 1 << 21,   /* releases what is held; output passes from now on */
    FSM_DO_RECORD = 1 << 22,      /* with the arbiter: that the VM is this node's */
    FSM_DO_GIVE_BACK = 1 << 23,   /* with the arbiter: that the VM is the peer's: GIVEN_BACK */
    FSM_DO_START_APPLY = 1 << 24, /* and send BLANK */
    FSM_DO_SYNCHRONISE = 1 << 25,
    FSM_DO_TAKE_OVER = 1 << 26,
    FSM_DO_ASK_ARBITER = 1 << 27,
    FSM_DO_ACCEPT = 1 << 28,
    FSM_DO_DIAL = 1 << 29,
    FSM_DO_DISOWN = 1 << 30, /* with the arbiter: that the VM is nobody's, before the exit */
    FSM_DO_EXIT = 1u << 31,
} FsmAction;

typedef enum {
    FSM_BUG,    /* can't happen: an error of ours */
    FSM_IGNORE, /* can happen and means nothing here */
    FSM_MOVE,
} FsmVerdict;

typedef struct {
    FsmVerdict verdict;
    FsmState next;
    guint actions; /* FsmAction bits */
} FsmStep;

/* What `event` means in `state`. Pure. */
FsmStep fsm_step(FsmState state, FsmEvent event);

/* QEMU's word for a state ("none", "setup", "active", "colo", ...); without the role. */
const char *fsm_state_name(FsmState state);
const char *fsm_event_name(FsmEvent event);
gboolean fsm_is_primary(FsmState state);
/* A secondary with the arbiter's yes, which loads and activates. */
gboolean fsm_is_taking_over(FsmState state);
/* A primary whose secondary may have the arbiter's yes. */
gboolean fsm_is_contested(FsmState state);
/* Each side holds what the other needs: the VM survives the loss of either. */
gboolean fsm_is_protected(FsmState state);

#endif
