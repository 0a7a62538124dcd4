/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that deals with the arbiter (colo/arbiter/arbiter.h): it asks, remembers what is
 * open, tries again, and reports what follows.
 *
 * It owns the arbiter, the questions to it and their timers, and who is on record. What is done
 * about each of them is one of the enums of claim-rules.h, which also has every decision. It
 * doesn't own the node's state, which is reported to it (claim_moved()). Nor does it decide what
 * follows from an answer: fsm.h does, by the events that it reports.
 *
 * Always holds:
 * - A node that waits for a time is in a state of its own for that, and asks again by itself.
 * - Nothing is asked of storage, and no VM is started, before the arbiter was seen once.
 * - Only a node that runs the VM alone writes on record.
 * - claim_is_recorded() is asked before PROTECT is sent: a node that starts again finds the session
 *   there.
 *
 * What is no more a side's, in these words:
 *
 *   return     a session that it has won by a hand-over: it goes on as a node (claim_return())
 *   give back  a session that it was granted too late, likewise; by itself
 *   concede    a session that it has perhaps won: it ends (claim_concede())
 *   disown     the VM, which it owned: it ends, and the VM rests (claim_disown())
 *
 * The first three are written by arbiter_hand_back() and arbiter_hand_on() (arbiter_return(),
 * arbiter_concede()), of one session, and wait for nothing. The last one is arbiter_give_back(), in turn.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_CLAIM_H
#define COLO_COLO_NODE_CLAIM_H

#include "colo/config/config.h"
#include "colo/node/claim-rules.h"

typedef struct Claim Claim;

/* Called from the main loop, and by claim_begin(), claim_start() and claim_order() from within. */
typedef struct {
    /* GRANTED, DENIED, UNDECIDED, ASK_AGAIN or GIVEN_BACK. */
    void (*event)(FsmEvent event, gpointer user_data);
    /* An administrator has forced this side to continue, and it is time for claim_ask() again. */
    void (*due)(gpointer user_data);
    /*
     * The arbiter is there (or there is none): the node may begin, with claim_start() if it is a
     * primary. Called once.
     */
    void (*seen)(gpointer user_data);
    /* The VM can't be started here. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
    /* For administrators; `again`: not if it is what was reported last. */
    void (*trouble)(const char *what, const GError *error, gboolean again, gpointer user_data);
    /* The record is kept. */
    void (*recorded)(gpointer user_data);
    /* The arbiter isn't there any more, or (NULL) is there again. */
    void (*watched)(const char *why, gpointer user_data);
    /* What claim_take() has waited for is over. */
    void (*taken)(gpointer user_data);
    /* The VM is nobody's, or the peer's, as far as that could be written in time. Once. */
    void (*disowned)(gpointer user_data);
} ClaimCallbacks;

/* `config` is borrowed. NULL with ARBITER_ERROR if the arbiter is no use as configured. */
Claim *claim_new(const Config *config, const ClaimCallbacks *callbacks, gpointer user_data,
                 GError **error);
void claim_free(Claim *claim);

/* Looks for the arbiter, until it is seen. `state` is what the node is in. */
void claim_begin(Claim *claim, FsmState state);
/* The node has moved; `session` is its link's, with `peer`, and counts if it is protected there. */
void claim_moved(Claim *claim, FsmEvent event, FsmState next, const char *session,
                 const char *peer);

/* ---- The link is lost: who continues? ---- */

/* The next question is deferred for so long: the other side first. 0: it isn't. */
void claim_defer(Claim *claim, guint wait_ms);
/* TRUE if it waits: ASK_AGAIN is reported when it is time. */
gboolean claim_begin_wait(Claim *claim);
/* Asks about the session that was protected last; this side would continue from `epoch`. */
void claim_ask(Claim *claim, guint64 epoch);
/*
 * In the session that was protected last it was asked when the VM was handed over, so it may have
 * granted it.
 */
gboolean claim_has_asked_handed(const Claim *claim);
/* Leaves the arbiter's yes to the primary, which is well, and asks if it doesn't continue. */
void claim_leave(Claim *claim);
/*
 * An administrator orders this side to continue: it asks again, unless an answer is to come.
 * `force`: also if the arbiter can't be asked, as it is where there is none.
 */
void claim_order(Claim *claim, gboolean force);
/* This side's VM is to be paused: the answer was no, or there was none. */
gboolean claim_is_undecided(const Claim *claim);
/* The link was lost because the peer has yielded. */
gboolean claim_is_yielded(const Claim *claim);

/*
 * The VM that was handed over to this node, and that the arbiter has granted, is the peer's again: it has
 * ended here. Then GIVEN_BACK; it is tried until it can be written.
 */
void claim_return(Claim *claim);
/* The primary had handed the VM over when the link was lost, and doesn't know whether it runs there. */
gboolean claim_was_handed(const Claim *claim);

/* A takeover is about to run the VM. Nothing of it is to be heard before claim_take() is over. */
void claim_begin_take(Claim *claim);
/*
 * It runs, or is left stopped, and is to be heard: that must be known to whoever starts this node next. TRUE:
 * it is, or can't be. FALSE: `taken` is called.
 */
gboolean claim_take(Claim *claim);
gboolean claim_holds_output(const Claim *claim);

/* ---- Whose the VM is ---- */

/*
 * This node claims the VM, to run it from disks of `generation` (NULL: it has none). Then GRANTED
 * or DENIED, or the VM is lost. A secondary only gives back what it can't have run.
 */
void claim_start(Claim *claim, const Generation *generation);
/* It runs the VM: about to claim protection in `session`, or (NULL) alone. */
void claim_record(Claim *claim, const char *session);
/* That is on storage: protection may be claimed. */
gboolean claim_is_recorded(const Claim *claim);
/* The disks that the VM runs on have another generation than what is on record. */
void claim_set_generation(Claim *claim, guint64 generation);
/* The link is up: both nodes have the same arbiter, which is this one's from now on. */
void claim_pin(Claim *claim);
/* The VM is protected: the decisions of earlier sessions may go. */
void claim_tidy(Claim *claim);
/* Frozen: an administrator knows that the VM is dead at the other side, which had the yes. */
void claim_overrule(Claim *claim);
/* The VM has ended on purpose; `rest` NULL: it was not run. */
void claim_disown(Claim *claim, const ArbiterRest *rest);
/*
 * This node ends, and is no primary, or one that nobody can have heard yet. What the arbiter may have
 * granted to it is the peer's: else that, denied, would wait until this node is started again. FALSE: there is
 * nothing of that. TRUE: then `disowned`.
 */
gboolean claim_concede(Claim *claim);

/* ---- May a VM be handed over to this node? ---- */

/*
 * It is asked so: it looks now, and again and again. Only what is asked of storage from now on counts. Each
 * look has heartbeat-timeout for its answer.
 */
void claim_want_approval(Claim *claim);
/* No more. */
void claim_end_approval(Claim *claim);
/* Storage could be read in the last of these looks; or there is no arbiter. */
gboolean claim_approves(const Claim *claim);

/* ---- For status and tests ---- */

/* Borrowed. */
Arbiter *claim_arbiter(const Claim *claim);
/* The session that was protected last; NULL: none. */
const char *claim_session(const Claim *claim);
/* The last answer about a lost link: "granted", ...; NULL: none. */
const char *claim_last_answer(const Claim *claim);
/* Why the arbiter isn't there; NULL: it is. */
const char *claim_trouble(const Claim *claim);
ClaimDoing claim_doing(const Claim *claim);
ClaimStart claim_starting(const Claim *claim);
ClaimRecord claim_recording(const Claim *claim);
ClaimNote claim_noting(const Claim *claim);
/* The arbiter was seen, so the node has begun. */
gboolean claim_has_begun(const Claim *claim);
/* An administrator's decision waits for the answer that it is for. */
gboolean claim_is_forced(const Claim *claim);
/* How many questions about lost links there were. */
guint claim_questions(const Claim *claim);

#endif
