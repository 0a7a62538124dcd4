/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a node. node.c holds the state and carries out the actions of fsm.h; node-primary.c runs
 * the checkpoint cycle, node-secondary.c the receiving side and the takeover, node-net.c the
 * guest's frames, node-control.c what administrators see and ask for. All of it runs on the main
 * thread.
 */
#ifndef COLO_COLO_NODE_INTERNAL_H
#define COLO_COLO_NODE_INTERNAL_H

#include "checkpoint/checkpoint.h"
#include "colo/arbiter.h"
#include "colo/config.h"
#include "colo/control.h"
#include "colo/fsm.h"
#include "colo/link.h"
#include "colo/node.h"
#include "colo/schedule.h"
#include "colo/stats.h"
#include "netcompare/netcompare.h"
#include "vm/vm.h"

/* A network card of the guest and its way out. */
typedef struct {
    Node *node;
    unsigned index;
    Uplink *uplink;       /* for the node's whole life; open while this node may speak */
    Port *port;           /* for the life of the VM process */
    Addresses *addresses; /* of the guest, for the announcement after a takeover */
} Card;

/* Where the primary is in its checkpoint cycle. */
typedef enum {
    CYCLE_IDLE,
    CYCLE_PAUSING,
    CYCLE_SAVING,
    CYCLE_COPYING,
    CYCLE_RESUMING, /* also: started */
    CYCLE_SENDING,  /* the VM runs; waits for the last byte and for RECEIVED */
} CyclePhase;

/* What the primary does before it claims protection. */
typedef enum {
    PROOF_SYNCHRONISE, /* all RAM is on its way */
    PROOF_DUE,         /* a checkpoint for the secondary to try is to be taken */
    PROOF_LOAD,        /* the secondary loads it: READY is to come, nothing else is sent */
} Proof;

typedef struct {
    CyclePhase phase;
    guint64 epoch;      /* of the checkpoint under way */
    gboolean cancelled; /* there is no session for it (any more): only resume the VM */
    gboolean sent, received;
    CheckpointReason reason;
    CaptureStats stats;
    ColoTime pause_started, resumed;
} Cycle;

struct Node {
    Config *config; /* borrowed */
    NodeHandler handler;

    FsmState state;
    gboolean is_primary; /* its role, also after the end */
    guint64 epoch;       /* of the last checkpoint: taken (primary) or received (secondary) */
    Vm *vm;
    json_object *identity; /* of the VM, for hellos */
    DirtyTracker *tracker; /* as long as vm */
    guint ending_timer;    /* runs while vm's end is expected */
    GError *ending_sign;
    Link *link;
    Arbiter *arbiter;
    Control *control;
    GPtrArray *cards; /* of Card* */

    /* What the peer said in its hello, and the session in which this node is entitled (fsm.h). */
    char *peer_name;
    char *claim;
    const char *arbiter_answer; /* the last one, for status; NULL: never asked */
    guint question; /* number of the last question to the arbiter: stale answers are ignored */
    guint ask_again_timer;
    guint end_source; /* about to tell that it has ended */
    gboolean forced;  /* an administrator decides, whatever the arbiter can't say */

    /* primary (node-primary.c) */
    Gate *gate;
    gboolean gate_open;
    Capture *capture;
    Cycle cycle;
    GSource *schedule_timer;
    gboolean admin_asks;
    gboolean output_filling;
    Proof proof;
    unsigned proofs;  /* loads that READY has told of */
    GQueue *deferred; /* of Input*: came while the VM was paused for a checkpoint */
    gsize deferred_bytes;
    gboolean has_progress;
    SyncProgress progress;

    /* secondary (node-secondary.c) */
    Apply *apply;
    int apply_fd;     /* the checkpoint connection, our own descriptor; -1: none */
    Checkpoint *last; /* received last */
    guint check_timer;
    gboolean checking;    /* a check of QEMU is under way; a load waits for its end */
    GBytes *waiting_load; /* NULL: none */
    VmDone waiting_done;
    unsigned proofs_tried; /* loads of this session */
    gboolean loading;      /* a proof, maybe of a session that has ended */
    PageSet *touched;      /* pages that loads wrote to */
    guint8 *kept;          /* their contents before the load of a takeover */
    GQueue *mirrored;      /* of Input*: what the primary's guest was given since `last` */
    gsize mirrored_bytes;
    guint64 mirror_dropped;
    ColoTime link_lost;

    /* for status */
    guint64 checkpoints, by_reason[REASONS];
    guint64 bytes_last, bytes_total;
    guint64 takeovers;
    guint64 mirror_sent, mirror_congested;
    Stats *pause_stats, *transfer_stats, *apply_stats;
    GError *last_error;
    gint64 last_error_at; /* wall clock, for people */
    ColoTime started;
};

/* A frame on its way to a guest. */
typedef struct {
    unsigned nic;
    guint64 epoch;
    GBytes *data;
} Input;

Input *input_new(unsigned nic, guint64 epoch, const guint8 *data, gsize len);
void input_free(Input *input);

/* ---- node.c ---- */

/* "primary" or "secondary". */
const char *node_role(const Node *node);
/* Feeds an event to the state machine and carries out what follows. */
void node_event(Node *node, FsmEvent event);
/* Remembers an error for status and logs it; `what` goes before it. */
void node_report(Node *node, const char *what, const GError *error);
/* The VM can't go on here. */
void node_vm_lost(Node *node, const char *what, const GError *error);
/*
 * A sign that the VM's process is ending. It will say itself how, and better than the sign does; if
 * it doesn't in a moment, the VM is lost all the same.
 */
void node_vm_ending(Node *node, const char *what, const GError *sign);
/* The peer or its stream broke the rules, or went away: ends the link. */
void node_link_lost(Node *node, const char *what, const GError *error);
/* The same for an engine, which may know before the peer's last words were read: they count. */
void node_stream_lost(Node *node, const char *what, const GError *error);
/* Sends a control event; `data` may be NULL. */
void node_emit(Node *node, const char *name, json_object *data);

/* ---- node-primary.c ---- */

void primary_init(Node *node);
void primary_finalise(Node *node);
/* Lets a VM that was just started go. */
void primary_run(Node *node);
void primary_open_gate(Node *node);
void primary_synchronise(Node *node);
void primary_end_capture(Node *node);
/* Messages of the secondary; FALSE with NODE_ERROR_PROTOCOL if one makes no sense. */
gboolean primary_received(Node *node, guint64 epoch, GError **error);
gboolean primary_ready(Node *node, const guint8 *runs, gsize len, GError **error);
/* Something that the schedule depends on has changed. */
void primary_reschedule(Node *node);
/* Before the VM is freed: forgets the cycle. */
void primary_forget_vm(Node *node);

/* ---- node-secondary.c ---- */

void secondary_init(Node *node);
void secondary_finalise(Node *node);
void secondary_start_apply(Node *node);
void secondary_drop_apply(Node *node);
/* Whether the primary may claim protection: FALSE with NODE_ERROR_PROTOCOL if READY was not said.
 */
gboolean secondary_may_protect(const Node *node, GError **error);
void secondary_take_over(Node *node);
/* Before the VM is freed: forgets what was asked of it. */
void secondary_forget_vm(Node *node);
/* A frame from the network while the VM is being taken over: it waits until the VM runs. */
void secondary_input(Node *node, unsigned nic, const guint8 *data, gsize len);
void secondary_mirrored(Node *node, unsigned nic, guint64 epoch, const guint8 *data, gsize len);

/* ---- node-net.c ---- */

/* Makes the taps, silent. */
gboolean net_init(Node *node, GError **error);
void net_finalise(Node *node);
/* Ports come and go with the VM process. */
void net_attach(Node *node);
void net_detach(Node *node);
/* Opens or silences the uplinks. */
void net_set_open(Node *node, gboolean open);
/* Reads everything that the guest has sent until now; the VM may be lost by that. */
void net_drain(Node *node);
/* Sends to the outside. */
void net_send(Node *node, unsigned nic, const guint8 *data, gsize len);
/* Gives to the guest, now. */
void net_deliver(Node *node, unsigned nic, const guint8 *data, gsize len);
void net_announce(Node *node);
void net_send_addresses(Node *node);
gboolean net_receive_addresses(Node *node, const guint8 *payload, gsize len, GError **error);
/* The primary's side: a frame the guest sent, and one that came for it. */
void primary_output(Node *node, unsigned nic, const guint8 *data, gsize len);
void primary_input(Node *node, unsigned nic, const guint8 *data, gsize len);

/* ---- node-control.c ---- */

gboolean control_init(Node *node, GError **error);

#endif
