/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside a node. node.c holds the state and carries out the actions of fsm.h. What has a header of
 * its own is a part: opaque, with its own fields and timers, and without knowledge of other parts.
 * parts.c makes the smaller ones and connects them. What claim, primary, copy and judge ask for and
 * report goes to node.c, checkpoints.c, svm.c and compare.c, what the switchover does to
 * switching.c. What cards and traffic report goes to net.c, what receiver and replay do to
 * secondary.c, and what machine and disks do to vm.c.
 *
 * These files have no state of their own, and their functions are here. link.c, options.c,
 * recording.c and control.c deal with the peer and administrators. All of it runs on the main
 * thread.
 */
#ifndef COLO_COLO_NODE_NODE_INTERNAL_H
#define COLO_COLO_NODE_NODE_INTERNAL_H

#include "checkpoint/checkpoint.h"
#include "colo/config/config.h"
#include "colo/control/control.h"
#include "colo/link/link.h"
#include "colo/node/announce.h"
#include "colo/node/answer.h"
#include "colo/node/backlog.h"
#include "colo/node/cards.h"
#include "colo/node/claim.h"
#include "colo/node/clock.h"
#include "colo/node/copy.h"
#include "colo/node/disks.h"
#include "colo/node/figures.h"
#include "colo/node/final.h"
#include "colo/node/fsm.h"
#include "colo/node/holdings.h"
#include "colo/node/judge.h"
#include "colo/node/leave.h"
#include "colo/node/machine.h"
#include "colo/node/memory.h"
#include "colo/node/messages.h"
#include "colo/node/node.h"
#include "colo/node/primary.h"
#include "colo/node/receiver.h"
#include "colo/node/replay.h"
#include "colo/node/replica.h"
#include "colo/node/resume.h"
#include "colo/node/seek.h"
#include "colo/node/switchover.h"
#include "colo/node/taking.h"
#include "colo/node/traffic.h"
#include "colo/node/trouble.h"
#include "colo/node/uplinks.h"
#include "vm/vm.h"

/*
 * A pointer for each part, for a process may have either role in turn, and a part within a part
 * would know the other. docs/ARCHITECTURE.md (The parts) says what follows from that.
 */
struct Node {
    Config *config; /* borrowed */
    NodeHandler handler;

    FsmState state;
    gboolean is_primary; /* its role, also after the end */
    gboolean gave_back; /* secondary: the VM; no guest that was heard has run on its images since */
    guint64 epoch;      /* of the last checkpoint: taken (primary) or received (secondary) */
    char *peer_name;    /* as it said in its hello; NULL: none yet */
    gboolean peer_unpacks; /* likewise: it reads packed pages */
    guint end_source;      /* about to report that it has ended */

    /* Other rooms. */
    Link *link;
    Seek *seek; /* what looks for the peer by it */
    Control *control;

    /* Its parts: of either role, of a primary, of a secondary. */
    Claim *claim;
    Machine *machine;
    Disks *disks;
    Cards *cards; /* open while output may leave here */
    Traffic *traffic;
    Primary *primary;
    Judge *judge;
    Receiver *receiver;
    Replay *replay;
    Copy *copy;
    Replica *becoming;
    Switchover *switchover;

    /* The small ones (parts.c). */
    Uplinks *uplinks;
    Announce *announce;
    Memory *memory;
    GuestClock *clock;
    Final *final;
    Holdings *holdings;
    Resume *resume;
    Answering *answering;
    Leave *leave;
    Taking *taking;
    Trouble *trouble;
    Figures *figures;
};

/* ---- node.c ---- */

/* "primary" or "secondary". */
const char *node_role(const Node *node);
/*
 * A checkpoint is taken or received, or the last mark is made: `epoch` begins, and is shown in each
 * line of the log. It never goes back, except in the first checkpoint that a secondary receives in
 * a session (`is_first`): there the peer counts.
 */
void node_set_epoch(Node *node, guint64 epoch, gboolean is_first);
/* Feeds an event to the state machine and carries out what follows. */
void node_event(Node *node, FsmEvent event);
/* Sends a control event; `data` may be NULL. */
void node_emit(Node *node, const char *name, json_object *data);
/* The secondary's VM doesn't run until the next checkpoint. */
void node_emit_stalled(Node *node, const char *why);

/* Remembers an error for status, logs it and reports it to the peer; `what` goes before it. */
void node_report(Node *node, const char *what, const GError *error);
/* The same, unless that is the last error already: of what is tried again and again. */
void node_report_once(Node *node, const char *what, const GError *error);

/* Each side holds what the other needs, and the node can ask who continues. */
gboolean node_is_protected(const Node *node);

/* Has the owner of the node told that it has ended, from the main loop. */
void node_end(Node *node);
gboolean node_end_now(gpointer node);

/* ---- parts.c ---- */

/* Makes the parts that need neither link nor cards. */
void parts_init(Node *node);
/* The rest of them. */
gboolean parts_begin(Node *node, GError **error);
void parts_finalise(Node *node);
/* Whether, and with what proof, the guest may be announced from here. */
AnnounceRight parts_announce_right(const Node *node);
/* The peer has reported what went wrong there. */
void parts_peer_reports(Node *node, const char *text);
/* Secondary: the primary has sent UNFIT. */
void parts_unfit(Node *node, const char *why);
/* The disks below QEMU are active: QEMU is to run the VM. */
void parts_run_vm(Node *node, VmDone done, gpointer user_data);
/* The same, and its guest stays stopped: it is this side's, and its output leaves from here. */
void parts_leave_stopped(Node *node);

/* ---- vm.c ---- */

/* Makes the VM and its disks, neither of them started. */
void node_vm_init(Node *node);
/* Starts the disks, then the VM, paused: FSM_VM_STARTED, or the VM is lost. */
void node_vm_start(Node *node);
/* FSM action: FSM_VM_STARTED, or the VM is lost. */
void node_vm_become_replica(Node *node);
/* A session begins: the disks' part of it. */
void node_attach_disks(Node *node);
/* What QEMU, the disks or a checkpoint are at; NULL: nothing. Borrowed. */
const char *node_vm_waits_for(const Node *node);
/* The VM can't continue here. */
void node_vm_lost(Node *node, const char *what, const GError *error);
/* Ends the VM's process and its output; its RAM stays, for the engines use it. */
void node_vm_kill(Node *node);
/* After node_vm_kill() and the engines' end. `node_ends`: no other VM comes after this one. */
void node_vm_free(Node *node, gboolean node_ends);

/* ---- link.c ---- */

gboolean node_link_init(Node *node, GError **error);
/* Before it: what looks for the peer. */
void node_link_make_seek(Node *node);
/* By order of an administrator: neither a link nor an attempt at one, until another order. */
void node_link_pause(Node *node);
void node_link_close(Node *node);
/* The peer or its stream broke the rules, or went away: ends the link. */
void node_link_lost(Node *node, const char *what, const GError *error);
/* The same for an engine, which may know before the peer's last words were read: they count. */
void node_stream_lost(Node *node, const char *what, const GError *error);

/* ---- checkpoints.c ---- */

void checkpoints_init(Node *node);
/* The VM is about to be ended: forgets the cycle, and what waits for the secondary. */
void checkpoints_forget_vm(Node *node);

/* ---- compare.c ---- */

void comparing_init(Node *node);
/*
 * In the pause, all output of the epoch that ends is known: decides whether `epoch`, which begins,
 * compares. It doesn't after the VM's `last` checkpoint here.
 */
gboolean comparing_pause(Node *node, guint64 epoch, gboolean last);
/* RECEIVED of the checkpoint that begins `epoch`: what was held before it leaves. */
void comparing_committed(Node *node, guint64 epoch, gboolean compares);
/* No secondary is there any more; what is held stays held. */
void comparing_end(Node *node);
/* Releases what is held, or (FALSE) drops it. */
void comparing_forget(Node *node, gboolean release);
/* Messages of the secondary; FALSE with NODE_ERROR_PROTOCOL if one makes no sense. */
gboolean comparing_loaded(Node *node, guint64 epoch, GError **error);
gboolean comparing_stalled(Node *node, const MessageStalled *stalled, GError **error);
gboolean comparing_rebooted(Node *node, guint64 epoch, GError **error);

/* ---- recording.c ---- */

/* Adds what is known of the recording of differences. */
void recording_add_status(const Node *node, json_object *status);
/* Commands. */
void do_capture_on(ControlRequest *request, json_object *arguments, gpointer user_data);
void do_capture_off(ControlRequest *request, json_object *arguments, gpointer user_data);

/* ---- secondary.c ---- */

void secondary_init(Node *node);
void secondary_finalise(Node *node);
/* FSM actions. */
void secondary_start_apply(Node *node);
void secondary_drop_apply(Node *node);
void secondary_take_over(Node *node);
void secondary_send_taken(Node *node);
void secondary_give_back(Node *node);
/*
 * The copy takes over: sends what may not have left yet. From now on its output leaves from here.
 */
void secondary_release_output(Node *node);
/*
 * Messages of the primary: FALSE with NODE_ERROR_PROTOCOL if one makes no sense. PROTECT makes none
 * before READY was sent.
 */
gboolean secondary_prepare(Node *node, guint64 epoch, GError **error);
gboolean secondary_handed(Node *node, const MessageMoved *handed, GError **error);
gboolean secondary_may_protect(const Node *node, GError **error);

/* ---- svm.c ---- */

void svm_init(Node *node);
void svm_finalise(Node *node);
/* An administrator has stopped the guest, as the last checkpoint tells. */
gboolean svm_is_stopped(const Node *node);
/* The copy has rebooted by itself, and runs on. */
void svm_rebooted(Node *node);
/* The session is over, or the VM about to be freed: forgets what was to be done. */
void svm_forget(Node *node);

/* ---- net.c ---- */

/* Makes the node's traffic; its cards and their taps, closed. */
void net_init(Node *node);
gboolean net_make_cards(Node *node, GError **error);
void net_finalise(Node *node);
/* Opens or closes the uplinks. */
void net_set_open(Node *node, gboolean open);
/* The guest is here for good: opens the uplinks, tells the network, and lets go what has waited. */
void net_open_and_announce(Node *node);
/* Tells the peer the guest's addresses; has been told of them. */
void net_send_addresses(Node *node);
gboolean net_receive_addresses(Node *node, const MessageAddresses *addresses, GError **error);

/* ---- switching.c ---- */

/* Makes the node's switchover. */
void switching_init(Node *node);
/* For how long the VM would be paused if it were moved now; -1: not known, or not possible. */
gint64 switching_expected_us(const Node *node);
/* Commands. */
void do_switchover(ControlRequest *request, json_object *arguments, gpointer user_data);
void do_continue(ControlRequest *request, json_object *arguments, gpointer user_data);
void do_cancel(ControlRequest *request, json_object *arguments, gpointer user_data);
void do_query_switchover(ControlRequest *request, json_object *arguments, gpointer user_data);

/* ---- options.c ---- */

/* Primary: tells the secondary all options of the pair. */
void node_options_tell(const Node *node);
/* Message of the peer; FALSE with NODE_ERROR_PROTOCOL if it makes no sense. */
gboolean node_options_received(Node *node, const char *text, GError **error);
/* Commands. */
void do_get(ControlRequest *request, json_object *arguments, gpointer user_data);
void do_set(ControlRequest *request, json_object *arguments, gpointer user_data);

/* ---- control.c ---- */

gboolean node_control_init(Node *node, GError **error);

#endif
