/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model of a pair of nodes, which is searched as a whole. It has two nodes, a link that breaks at
 * any moment, and an arbiter that may be out of reach. It has administrators, crashes, and service
 * managers that start a node again in any role. The search is breadth-first and exhaustive within
 * bounds on sessions and messages in flight. It visits every state that the rules can lead such a
 * pair into. In each state it checks that
 *
 *   1. no two sides are active: an open gate, or a takeover, on one side only;
 *   2. no side continues from a state of the VM after which the other side released output unheld;
 *   3. a side that holds a live copy of the VM, from which it could continue, drops it only when
 *      the other continues, unless it fails or is told to end: so both never do;
 *   4. an unprotected VM's output leaves, and never waits for the arbiter's storage;
 *   5. every internal event has an answer in each state that it meets, and every step of the claim
 *      is in the claim's table;
 *   6. no node asks for the VM with a copy that can't continue, unless the other's is dead already;
 *   7. a decision is changed by its winner only, whose VM has ended, and which sends nothing;
 *   8. the disks are one side's, and a VM that was handed over stands (model_check() has the exception);
 *   9. what is heard of a VM comes from one that has its disks.
 *
 * From each state, if nothing fails any more, a state is reached in which one side runs the VM.
 * This holds also where both wait for each other. Administrators have to help only where the side
 * that the arbiter has chosen is lost.
 *
 * The decisions are made by the rules that the node and the arbiter consist of: fsm.h,
 * claim-rules.h, events.h, route.h, copy-next.h and owner-rules.h. The model adds who may be
 * reached when, and what is lost:
 *
 *   model-side.c     a node: its events, and what it does for them
 *   model-steps.c    what may happen next to the link, to messages and to a node by itself
 *   model-arbiter.c  the arbiter: questions about a lost link, whose the VM is
 *   model-storage.c  what is on its storage
 *   model-search.c   the search, and what every state leads to
 *
 * Storage is slow and may hang. What is read may be old when it is judged. What is written lands at
 * any later moment, or never if its writer dies. The way to storage may be cut on each side. A
 * question is then unanswered: it is not stored, stored all the same, or stored at any later
 * moment, even after the asker's end. A pair without an arbiter has administrators in its place.
 * They permit a side without a link to continue if they have permitted no other. They don't start
 * an overtaken node as primary.
 */
#ifndef COLO_TESTS_MODEL_MODEL_H
#define COLO_TESTS_MODEL_MODEL_H

#include "colo/arbiter/owner-rules.h"
#include "colo/node/claim-rules.h"
#include "colo/node/events.h"
#include "colo/node/fsm.h"
#include "colo/node/route.h"
#include "colo/node/switchover-rules.h"

/* Bounds. */
#define SESSIONS 3
#define RESTS    4 /* undecided sessions of a VM at rest: so many can be in use */
#define QUEUE    3
#define WRITES   2

typedef enum {
    MSG_NONE,
    MSG_BLANK,
    MSG_CHECKPOINT, /* the first of a session: from its pause on the gate is closed */
    MSG_PROOF,
    MSG_PROTECT,
    MSG_RUNS,
    MSG_PAUSED,
    MSG_YIELD,
    MSG_YIELDED,
    MSG_HANDED,
    MSG_TAKEN,
    MSG_REFUSED,
    MSG_REFUSED_ASKED, /* the arbiter may have said yes */
    MSG_GIVEN_BACK,    /* it had, and now says yes to the other side */
    MSG_GOODBYE,
    MSG_FAILED,
    MSG_UNFIT,
    MSG_LEAVE,
    MSG_CANCEL, /* leave the VM that was handed over */
} ModelMessage;

typedef enum { SEEK_NONE, SEEK_ACCEPT, SEEK_DIAL } Seek;

/* A question to storage about whose the VM is, in turn. */
typedef enum { INQUIRY_NONE, INQUIRY_ASKED, INQUIRY_HAS_READ } Inquiry;

/* UUID.owner. Bytes only, all of these: states are compared and hashed as memory. */
typedef struct {
    guint8 writer;  /* 0: there is no record; 1 + side */
    guint8 session; /* 0: none; those of the link, then those of a VM at rest */
    guint8 rests;
    guint8 in_step; /* 0: nobody; 1 + side */
} OnRecord;

typedef struct {
    guint8 state;     /* FsmState */
    guint8 route;     /* Route: of its output */
    guint8 seek;      /* Seek */
    guint8 sees_link; /* has had LINK_UP and not yet LINK_DOWN */
    guint8 crashed;
    guint8 stale;     /* the other side continued while this one held the VM */
    guint8 captured;  /* primary: the session's first checkpoint was taken */
    guint8 copy;      /* secondary: CopyCondition: STANDBY is for all that can continue */
    guint8 leaving;   /* secondary: has asked whether it may leave, to start its QEMU anew */
    guint8 doubted;   /* primary: the secondary may have a yes though it has not said so */
    guint8 has_asked; /* secondary: while the VM was handed over to it */
    guint8 has_run;   /* it has run the VM since it was started */
    guint8 flag;      /* the disks are its own: ACTIVE */
    guint8 vm_runs;   /* the VM itself, not a copy of the other side's; or it may still */
    guint8 is_auto;   /* role auto */
    guint8 cancelled; /* secondary: is to leave the VM that is handed over to it */

    guint8 claim;    /* session in which it was last protected; 0: none */
    guint8 doing;    /* ClaimDoing, about that */
    guint8 is_asked; /* about that: an answer is to come, in time */
    guint8 flying;   /* session of a question that is late, and may land yet; 0: none */
    guint8 forced;   /* an administrator decides if nobody else can */
    guint8 yielded;  /* the other side's VM is dead for certain */
    guint8 may_have; /* has asked about that, as a secondary, and was not told no */

    guint8 start;   /* ClaimStart */
    guint8 how;     /* ArbiterClaim */
    guint8 inquiry; /* Inquiry */
    OnRecord read;  /* what it has read, which may be old */

    guint8 record;         /* ClaimRecord */
    guint8 record_session; /* 0: it runs the VM alone */
    guint8 record_again;   /* it could not be written: tries again */
    guint8 writes[WRITES]; /* records on their way to storage: 1 + session */
    guint8 releasing;      /* has ended, and may yet report so to storage */
    guint8 giving_back; /* session that it may have won, and has nothing to continue by; 0: none */
    guint8 returning;   /* what was handed over to it: the decision is to be the other side's */
    guint8
        landing; /* session of which that was done by a predecessor, or too late: it may land yet */
} Side;

typedef struct {
    Side side[2];
    guint8 session;                       /* of the link; 0: there was none yet */
    guint8 connected;                     /* the connection exists; a side may not have noticed */
    guint8 granted[SESSIONS + RESTS + 1]; /* 0: nobody, 1 + side */
    guint8 queue[2][QUEUE];               /* messages to side i */
    OnRecord record;
    guint8 has_arbiter;
    guint8 restarts;
} Pair;

/* A state of the pair that was reached. */
typedef struct {
    Pair pair; /* first: it is its own key */
    guint number, from;
} Known;

typedef struct {
    GHashTable *seen;
    GPtrArray *known; /* of Known*, by number */
    GArray *edges;    /* what storage, the link and the nodes do by themselves */
    const Pair *from;
    guint number;                           /* of from */
    guint restarts;                         /* at most */
    gboolean moved[FSM_STATES][FSM_EVENTS]; /* the steps of the table that were taken */
    gboolean left_as_cancelled;             /* the VM, by a secondary that it was handed over to */
    gboolean switched[2]; /* by side: it has handed the VM over, which was taken */
} Search;

/* ---- model-search.c ---- */

/* A state that must not be: prints how it came to be, and ends the program. */
void model_fail(const Pair *pair, const char *what) G_GNUC_NORETURN;
/* The step is taken. */
void model_note(int me, FsmState state, FsmEvent event);
#define EXPECT(pair, what)                                                                         \
    do {                                                                                           \
        if (!(what))                                                                               \
            model_fail(pair, #what);                                                               \
    } while (0)

/* Adds a successor, unless it was seen before. `by_itself`: it needs nobody's failure or order. */
void model_visit(Search *search, Pair *next, gboolean by_itself);
#define WITH_COPY(pair, search, by_itself)                                                         \
    for (Pair next_ = *(search)->from, *pair = &next_; pair;                                       \
         model_visit(search, pair, by_itself), pair = NULL)
/* What happens unless something fails; and what fails, or what an administrator orders. */
#define STEP(pair, search)  WITH_COPY(pair, search, TRUE)
#define FAULT(pair, search) WITH_COPY(pair, search, FALSE)

/* Visits all that such a pair can come to, and checks it. */
void model_explore(Search *search, gboolean has_arbiter, const Side *first, const Side *second);
void model_finish(Search *search);

/* ---- model-side.c ---- */

gboolean model_is_dead(const Side *side);
gboolean model_is_active(const Side *side);
/* Its VM continues, and clients receive its output. */
gboolean model_continues(const Side *side);
/* It could continue with the VM, or does. */
gboolean model_has_copy(const Side *side);

void model_send(Pair *pair, int to, ModelMessage message);
void model_route(Pair *pair, int me, RouteEvent event);
void model_event(Pair *pair, int me, FsmEvent what);
/* Checks a state, and clears what makes no difference any more: fewer states are to be visited. */
void model_check(Pair *pair);
void model_tidy(Pair *pair);

/* ---- model-steps.c ---- */

void model_link_steps(Search *search);
void model_message_steps(Search *search);
/* Steps of one node that lives. */
void model_own_steps(Search *search, int i);
void model_restart_steps(Search *search, int i);

/* ---- model-arbiter.c ---- */

/*
 * The node has moved by `event`. It asks about a lost link. It has to be on record. It has ended.
 */
void model_claim_moved(Pair *pair, int me, FsmEvent event, FsmState next);
void model_claim_ask(Pair *pair, int me);
void model_claim_leave(Pair *pair, int me);
void model_claim_record(Pair *pair, int me, guint8 session);
void model_claim_start(Side *side);

/* Steps of one node that lives; of any node. */
void model_claim_steps(Search *search, int i);
void model_storage_steps(Search *search, int i);

/* ---- model-storage.c ---- */

/* Says yes to one side of a session, ever. */
gboolean model_decide(Pair *pair, int i, guint8 session);
OwnerFacts model_owner_facts(const Pair *pair, int i, const OnRecord *record);
/* Nobody runs the VM: it has a session that is not decided. Likewise, as it was before. */
void model_write_rest(Pair *pair, guint8 writer, guint8 in_step);
void model_give_back(Pair *pair, const OnRecord *record, const OwnerFacts *facts);
/* Clears what was decided for sessions that nobody names any more. */
void model_claim_tidy(Pair *pair);

#endif
