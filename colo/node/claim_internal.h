/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the claim. claim.c has the questions about a lost link, claim-back.c what is given back of
 * their answers, claim-owner.c whose the VM is, claim-unrun.c what has not run here, and claim-watch.c whether the
 * arbiter is there.
 */
#ifndef COLO_COLO_NODE_CLAIM_INTERNAL_H
#define COLO_COLO_NODE_CLAIM_INTERNAL_H

#include "colo/node/claim.h"

/* How long to wait before an arbiter that couldn't be asked, or wasn't there, is tried again. */
#define CLAIM_AGAIN_MS 1000

struct Claim {
    const Config *config; /* borrowed */
    ClaimCallbacks callbacks;
    gpointer user_data;
    Arbiter *arbiter;
    FsmState state; /* the node's */

    /*
     * `forced` and `yielded` are what an answer is judged by. They are no arguments of claim_ask(),
     * for they come before a question and outlast it. An order may come while a question is open,
     * or while a load delays the next one. The peer yields once, and the claim asks again until it
     * has an answer. Nor are they values of `doing`: each goes with several of them, and the two go
     * together (test-claim-walk). Both end by moves of the node, which the claim is told.
     */
    struct {
        ClaimDoing doing;
        guint timer;
        char *session;         /* NULL: none was protected */
        char *peer;            /* in that; NULL: it has not told its name */
        gboolean forced;       /* an administrator has decided, and no answer has come since */
        gboolean yielded;      /* the peer's VM is dead for certain */
        gboolean asked_handed; /* in that, when the VM was handed over */
        /* Secondary: has asked in that, was not told no, and can't have been heard. */
        gboolean may_have;
        gboolean gives_back; /* that, in that session: an answer is to come, in time */
        guint back_timer;    /* then it is tried again */
        guint wait_ms;       /* before the next one */
        guint asked;         /* how many there were */
        ArbiterAnswer last;  /* if has_last */
        gboolean has_last;
    } question;

    /* What was granted to the one side, and is the other's again. */
    struct {
        guint timer;
        gboolean looks;  /* whether the session was given back: an answer is to come, in time */
        gboolean handed; /* primary: it handed the VM over, and then lost the link */
    } back;

    struct {
        ClaimStart doing;
        guint timer;
        ArbiterClaim how, waiting; /* to ask next; and as one that waits */
        ArbiterStake stake;
    } start;

    struct {
        ClaimRecord doing;
        guint timer;
        char *session; /* to be on record; NULL: none */
        guint64 generation;
        guint open; /* writes that are not answered yet */
    } record;

    struct {
        ClaimWatch doing;
        guint timer;
        char *trouble; /* why it isn't there; NULL: it is */
    } watch;

    /* Of a switchover to this node. */
    struct {
        guint timer;
        gboolean wanted;   /* it is looked for */
        gboolean looks;    /* an answer is to come, in time */
        gboolean is_stale; /* that is of a look that began before it was wanted */
        gboolean given;
    } approval;

    /* That the VM, which has no disks, has not run here. */
    struct {
        ClaimNote doing;
        char *session;    /* of the last one; NULL: there was none */
        char *asked;      /* likewise, when the question that is open was asked */
        gboolean is_open; /* an answer is to come, or (is_late) has not come in time */
        gboolean is_late;
        gboolean removes;      /* what that question is for */
        gboolean waits;        /* a takeover does, for its removal */
        guint timer;           /* likewise, no longer */
        gboolean holds_output; /* in a takeover: output waits for that */
    } note;

    guint owner_questions; /* about whose the VM is: their answers are to come, or late */
    guint disown_timer;    /* runs while it is written that the VM is nobody's, or the peer's */
};

/* Which of the answers to one question this is. */
ClaimTime claim_time_of(const GError *error);
void claim_report(const Claim *claim, FsmEvent event);
void claim_tell(const Claim *claim, const char *what, const GError *error, gboolean again);

/* ---- claim.c ---- */

/*
 * Whose the VM is to be if this side does not continue by what it may have been granted; NULL: there is
 * nothing of that, or nobody to have it.
 */
const char *claim_concedes_to(const Claim *claim);
/* FALSE: that could not be written, or not in time. Of the session that counts. */
void claim_given_back(Claim *claim, gboolean is_done);

/* ---- claim-owner.c ---- */

/* What the arbiter may have granted to this node, which goes on without it: then claim_given_back(). */
void claim_give_back(Claim *claim);
void claim_owner_moved(Claim *claim, FsmState next);
void claim_owner_finalise(Claim *claim);

/* ---- claim-back.c ---- */

void claim_back_moved(Claim *claim, FsmState before, FsmState next);
void claim_back_finalise(Claim *claim);

/* ---- claim-unrun.c ---- */

void claim_note_moved(Claim *claim, FsmState before, FsmState next, const char *session);
void claim_note_finalise(Claim *claim);

/* ---- claim-watch.c ---- */

void claim_watch_finalise(Claim *claim);

#endif
