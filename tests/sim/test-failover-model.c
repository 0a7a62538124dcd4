/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two nodes, a link that breaks at any moment, an arbiter that may be out of reach, administrators,
 * crashes and service managers that start a node again in any role: every state that the table of
 * fsm.c can lead such a pair into is visited (breadth-first, exhaustively, within bounds on
 * sessions and messages in flight), and in each of them it is checked that
 *
 *   1. no two sides are active: an open gate, or a takeover, on one side only;
 *   2. nobody goes on from a state of the VM after which the other side let output go unheld;
 *   3. a side that holds a live copy of the VM, from which it could go on, drops it only when the
 *      other goes on, unless it fails or is told to end: so both never do;
 *   4. an unprotected VM is heard, and what it says never waits for the arbiter's storage;
 *   5. no internal event meets a state that has no answer for it.
 *
 * And from each of them, if nothing fails from there on, a state is reached in which one side runs
 * the VM, also where both have been started and wait for each other; only where the side that the
 * arbiter has chosen is lost, administrators have to help.
 *
 * What the nodes do besides changing state is modelled from the FsmAction bits, as node.c and
 * colo/node/owner.c do it. Storage is what colo/arbiter/owner.c makes of it: what is read may be
 * old when it is judged, what is written lands at any later moment or, if its writer dies, never.
 * Each side's own way there may be cut: its question is then unanswered, and not stored, stored
 * all the same, or stored at any later moment, even after the asker's end. A pair without an
 * arbiter has administrators in its place, who don't start an overtaken node as primary.
 */
#include "colo/node/fsm.h"

#include <string.h>

#define SESSIONS 3
#define QUEUE    3
#define WRITES   2

typedef enum {
    MSG_NONE,
    MSG_BLANK,
    MSG_CHECKPOINT, /* the first of a session: from its pause on the gate is closed */
    MSG_PROOF,
    MSG_PROTECT,
    MSG_RUNS,
    MSG_STANDS,
    MSG_YIELD,
    MSG_YIELDED,
    MSG_HANDED,
    MSG_TAKEN,
    MSG_REFUSED,
    MSG_REFUSED_ASKED, /* the arbiter may have said yes */
    MSG_GOODBYE,
    MSG_FAILED,
    MSG_UNFIT,
    MSG_LEAVE,
} Message;

typedef enum { SEEK_NONE, SEEK_ACCEPT, SEEK_DIAL } Seek;

/* Bytes only: states are compared and hashed as memory. */
typedef struct {
    guint8 state; /* FsmState */
    guint8 gate_open;
    guint8 seek;      /* Seek */
    guint8 sees_link; /* has had LINK_UP and not yet LINK_DOWN */
    guint8 claim;     /* session in which it was last protected; 0: none */
    guint8 asking;    /* a question to the arbiter is open */
    guint8 leaving;   /* secondary: has asked whether it may leave, to start its QEMU anew */
    guint8 may_spoil; /* secondary: it is the first one, and may wait for a load */
    guint8 captured;  /* primary: the session's first checkpoint was taken */
    guint8 stale;     /* the other side went on while this one held the VM */
    guint8 crashed;
    guint8 yielded;  /* the other side's VM is dead for certain */
    guint8 doubted;  /* primary: the secondary may be let go on though it has not said so */
    guint8 is_auto;  /* role auto */
    guint8 asks;     /* whose the VM is, again and again: it was denied when it was started */
    guint8 has_read; /* starting, or asking: it knows the record below, which may be old */
    guint8 read_owner, read_session;
    guint8 writes[WRITES]; /* records on their way to storage: 1 + session */
    guint8 recorded;       /* the last of them has landed */
    guint8 releasing;      /* has ended, and may yet say so to storage */
    guint8 flying;         /* session of a question that was given up and may land yet; 0: none */
} Side;

typedef struct {
    Side side[2];
    guint8 session;               /* of the link; 0: there was none yet */
    guint8 connected;             /* the connection exists; a side may not have noticed yet */
    guint8 granted[SESSIONS + 1]; /* 0: nobody, 1 + side */
    guint8 queue[2][QUEUE];       /* messages to side i */
    guint8 owner, owner_session;  /* on record: 0: nobody, 1 + side; 0: none */
    guint8 has_arbiter;
    guint8 restarts;
} Pair;

/* A state of the pair that was reached. */
typedef struct {
    Pair pair; /* first: it is its own key */
    guint number, from;
} Known;

/* A step that needs nobody's failure: what storage, the link and the nodes do by themselves. */
typedef struct {
    guint from, to;
} Edge;

typedef struct {
    GHashTable *seen;
    GPtrArray *known; /* of Known*, by number */
    GArray *edges;
    const Pair *from;
    guint number;   /* of from */
    guint restarts; /* at most */
} Search;

static const Search *current;

static void tell_side(const Side *side)
{
    g_printerr("%s%s %s claim %u gate %u link %u seek %u asking %u flying %u stale %u | ",
               side->crashed ? "dead " : "", fsm_is_primary(side->state) ? "P" : "S",
               fsm_state_name(side->state), side->claim, side->gate_open, side->sees_link,
               side->seek, side->asking, side->flying, side->stale);
}

/* How the pair came to where it is looked at. */
static void tell_way(guint number)
{
    const Known *known = g_ptr_array_index(current->known, number);
    if (number > 0)
        tell_way(known->from);
    tell_side(&known->pair.side[0]);
    tell_side(&known->pair.side[1]);
    g_printerr("session %u granted %u %u %u owner %u/%u\n", known->pair.session,
               known->pair.granted[1], known->pair.granted[2], known->pair.granted[3],
               known->pair.owner, known->pair.owner_session);
}

/* A state that must not be, and how it came to be. */
#define EXPECT(pair, what)                                                                         \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            tell_way(current->number);                                                             \
            tell_side(&(pair)->side[0]);                                                           \
            tell_side(&(pair)->side[1]);                                                           \
            g_error("%s", #what);                                                                  \
        }                                                                                          \
    } while (0)

static gboolean is_dead(const Side *side)
{
    return side->crashed || side->state == FSM_FAILED || side->state == FSM_COMPLETED;
}

static gboolean is_active(const Side *side)
{
    return !is_dead(side) && (side->gate_open || side->state == FSM_S_DEVICE);
}

/* Could go on with the VM, but lets nothing out by itself: the other side may be the one to. */
static gboolean is_holding(const Side *side)
{
    static const gboolean holding[FSM_STATES] = {
        [FSM_P_COLO] = TRUE,    [FSM_P_DEVICE] = TRUE,  [FSM_P_HANDED] = TRUE,
        [FSM_P_PAUSED] = TRUE,  [FSM_P_RECOVER] = TRUE, [FSM_P_FROZEN] = TRUE,
        [FSM_S_COLO] = TRUE,    [FSM_S_HANDED] = TRUE,  [FSM_S_PAUSED] = TRUE,
        [FSM_S_RECOVER] = TRUE,
    };
    return !is_dead(side) && holding[side->state];
}

/* Its VM goes on, for clients to hear. */
static gboolean goes_on(const Side *side)
{
    static const gboolean on[FSM_STATES] = {
        [FSM_P_NONE] = TRUE, [FSM_P_SETUP] = TRUE,  [FSM_P_ACTIVE] = TRUE,
        [FSM_P_COLO] = TRUE, [FSM_P_DEVICE] = TRUE, [FSM_S_DEVICE] = TRUE,
    };
    return !is_dead(side) && on[side->state] && !side->stale;
}

static gboolean has_copy(const Side *side)
{
    return goes_on(side) || (is_holding(side) && !side->stale);
}

static void send_to(Pair *pair, int to, Message message)
{
    if (!pair->connected || !pair->side[!to].sees_link)
        return;
    for (int i = 0; i < QUEUE; i++)
        if (!pair->queue[to][i]) {
            pair->queue[to][i] = (guint8)message;
            return;
        }
    /* Out of the model's bounds: as if the link had broken here. */
    pair->connected = FALSE;
}

static void write_record(Side *side, guint8 session)
{
    side->recorded = FALSE;
    for (int i = 0; i < WRITES; i++)
        if (!side->writes[i]) {
            side->writes[i] = 1 + session;
            return;
        }
    /* Out of the model's bounds: as if the process had died here. */
    side->crashed = TRUE;
}

static void carry_out(Pair *pair, int me, guint actions, gboolean asked)
{
    Side *side = &pair->side[me];
    if (actions & (FSM_DO_KILL_VM | FSM_DO_FREEZE_VM))
        side->gate_open = FALSE;
    if (actions & FSM_DO_SAY_PROTECT)
        send_to(pair, !me, MSG_PROTECT);
    if (actions & FSM_DO_SAY_RUNS)
        send_to(pair, !me, MSG_RUNS);
    if (actions & FSM_DO_SAY_STANDS)
        send_to(pair, !me, MSG_STANDS);
    if (actions & FSM_DO_SAY_HANDED)
        send_to(pair, !me, MSG_HANDED);
    if (actions & FSM_DO_SAY_TAKEN)
        send_to(pair, !me, MSG_TAKEN);
    if (actions & FSM_DO_SAY_REFUSED)
        send_to(pair, !me, asked ? MSG_REFUSED_ASKED : MSG_REFUSED);
    if (actions & FSM_DO_SAY_YIELDED)
        send_to(pair, !me, MSG_YIELDED);
    if (actions & FSM_DO_SAY_FAILED)
        send_to(pair, !me, MSG_FAILED);
    if (actions & FSM_DO_SAY_GOODBYE)
        send_to(pair, !me, MSG_GOODBYE);
    if (actions & (FSM_DO_END_CAPTURE | FSM_DO_KILL_VM))
        side->captured = FALSE;
    if (actions & FSM_DO_CLOSE_LINK) {
        /* What was sent before may still arrive: the peer drains its queue or loses it. */
        if (side->sees_link || side->seek != SEEK_NONE)
            pair->connected = FALSE;
        if (side->sees_link)
            memset(pair->queue[me], 0, QUEUE);
        side->seek = SEEK_NONE;
        side->sees_link = FALSE;
    }
    if (actions & FSM_DO_OPEN_GATE)
        side->gate_open = TRUE;
    if (actions & FSM_DO_RECORD)
        write_record(side, side->state == FSM_P_ACTIVE ? pair->session : 0);
    if (actions & FSM_DO_RELEASE)
        side->releasing = TRUE;
    if (actions & FSM_DO_START_APPLY)
        send_to(pair, !me, MSG_BLANK);
    if (actions & FSM_DO_TAKE_OVER)
        g_assert_cmpint(pair->granted[side->claim], ==, 1 + me);
    if (actions & FSM_DO_ASK_ARBITER)
        side->asking = TRUE;
    if (actions & FSM_DO_ACCEPT)
        side->seek = SEEK_ACCEPT;
    if (actions & FSM_DO_DIAL)
        side->seek = SEEK_DIAL;
}

/* Ends a copy of the VM: a failure, or the order of somebody who may have it ended. */
static gboolean is_loss(FsmEvent what)
{
    return what == FSM_VM_LOST || what == FSM_SHUTDOWN || what == FSM_INVALID ||
           what == FSM_PEER_GOODBYE || /* whose VM ran when it said that this one may leave: */
           what == FSM_RECYCLE;
}

static void event(Pair *pair, int me, FsmEvent what)
{
    Side *side = &pair->side[me];
    FsmStep step = fsm_step(side->state, what);
    if (step.verdict == FSM_IGNORE)
        return;
    if (step.verdict == FSM_BUG)
        g_error("event %s in state %s of side %d", fsm_event_name(what),
                fsm_state_name(side->state), me);
    Side before = *side;
    if (fsm_is_protected(step.next))
        side->claim = pair->session;
    side->state = (guint8)step.next;
    side->asking = FALSE;
    side->leaving &= step.next == FSM_S_COLO;
    side->may_spoil = before.state == FSM_S_COLO && step.next == FSM_S_PAUSED && what != FSM_UNFIT;
    side->has_read = side->read_owner = side->read_session = 0;
    side->yielded &= step.next == FSM_S_PAUSED;
    side->doubted &= is_holding(side);
    if (before.state == FSM_P_ASKING && what == FSM_DENIED)
        side->asks = TRUE;
    side->asks &=
        step.next == FSM_S_STARTING || step.next == FSM_S_NONE || step.next == FSM_S_SETUP;
    carry_out(pair, me, step.actions, before.asking);
    if (step.next == FSM_P_NONE && what == FSM_TAKEN_OVER)
        side->gate_open = TRUE;
    if (before.stale && is_active(side))
        g_error("event %s in state %s: side %d goes on from where the other has gone on before",
                fsm_event_name(what), fsm_state_name(before.state), me);
    if (has_copy(&before) && !has_copy(side) && !side->crashed && !is_loss(what) &&
        !goes_on(&pair->side[!me]))
        g_error("event %s in state %s: side %d drops the VM, and the other doesn't run it",
                fsm_event_name(what), fsm_state_name(before.state), me);
}

/* Forgets what makes no difference any more: fewer states are to be visited. */
static void tidy(Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        Side *side = &pair->side[i];
        if (side->crashed)
            *side = (Side){.state = FSM_FAILED, .crashed = TRUE, .flying = side->flying};
        if (!pair->connected && !side->sees_link)
            memset(pair->queue[i], 0, QUEUE);
        if (side->state != FSM_P_ACTIVE)
            side->captured = side->recorded = FALSE;
        if (side->state >= FSM_S_STARTING && side->state <= FSM_S_ACTIVE)
            side->claim = 0;
    }
}

static void check(Pair *pair)
{
    EXPECT(pair, !(is_active(&pair->side[0]) && is_active(&pair->side[1])));
    for (int i = 0; i < 2; i++) {
        Side *side = &pair->side[i];
        if (!is_holding(side))
            side->stale = FALSE;
        else if (is_active(&pair->side[!i]))
            side->stale = TRUE;
        if (!is_dead(side) && (side->state == FSM_P_NONE || side->state == FSM_P_SETUP))
            g_assert_true(side->gate_open);
        /* Output is held until a checkpoint is complete: that must not wait for storage. */
        if (!is_dead(side) && side->state == FSM_P_ACTIVE && pair->has_arbiter && !side->recorded)
            g_assert_true(side->gate_open);
    }
}

/* Adds a successor, unless it was seen before. */
static void visit(Search *search, Pair *next, gboolean by_itself)
{
    check(next);
    tidy(next);
    Known *known = g_hash_table_lookup(search->seen, next);
    if (!known) {
        known = g_new(Known, 1);
        *known = (Known){.pair = *next, .number = search->known->len, .from = search->number};
        g_hash_table_add(search->seen, known);
        g_ptr_array_add(search->known, known);
    }
    if (by_itself && search->from) {
        Edge edge = {search->number, known->number};
        g_array_append_val(search->edges, edge);
    }
}

#define WITH_COPY(pair, search, by_itself)                                                         \
    for (Pair next = *(search)->from, *pair = &next; pair;                                         \
         visit(search, pair, by_itself), pair = NULL)
/* What happens unless something fails; and what fails, or somebody orders. */
#define STEP(pair, search)  WITH_COPY(pair, search, TRUE)
#define FAULT(pair, search) WITH_COPY(pair, search, FALSE)

static void link_steps(Search *search)
{
    const Pair *now = search->from;
    for (int dials = 0; dials < 2; dials++) {
        const Side *a = &now->side[dials], *b = &now->side[!dials];
        if (!now->connected && !is_dead(a) && !is_dead(b) && a->seek == SEEK_DIAL &&
            b->seek == SEEK_ACCEPT && !a->sees_link && !b->sees_link && now->session < SESSIONS)
            STEP(pair, search)
            {
                pair->connected = TRUE;
                pair->session++;
                memset(pair->queue, 0, sizeof(pair->queue));
            }
    }
    if (now->connected)
        FAULT(pair, search)
        {
            pair->connected = FALSE;
        }
    for (int i = 0; i < 2; i++) {
        const Side *side = &now->side[i];
        if (is_dead(side))
            continue;
        if (now->connected && !side->sees_link && side->seek != SEEK_NONE)
            STEP(pair, search)
            {
                pair->side[i].seek = SEEK_NONE;
                pair->side[i].sees_link = TRUE;
                event(pair, i, FSM_LINK_UP);
            }
        if (!now->connected && side->sees_link)
            STEP(pair, search)
            {
                pair->side[i].sees_link = FALSE;
                memset(pair->queue[i], 0, QUEUE);
                event(pair, i, FSM_LINK_DOWN);
            }
        if (!now->connected && side->sees_link && side->state == FSM_S_COLO)
            FAULT(pair, search)
            {
                pair->side[i].sees_link = FALSE;
                memset(pair->queue[i], 0, QUEUE);
                event(pair, i, FSM_INVALID);
            }
        /* Its question waited for a load, which has spoilt RAM: the arbiter never hears it. */
        if (side->may_spoil && !side->yielded)
            FAULT(pair, search)
            {
                event(pair, i, FSM_INVALID);
            }
    }
}

static void receive(Pair *pair, int me, Message message)
{
    Side *side = &pair->side[me];
    switch (message) {
    case MSG_BLANK:
        event(pair, me, FSM_BLANK);
        break;
    case MSG_CHECKPOINT:
        send_to(pair, !me, MSG_PROOF);
        break;
    case MSG_PROOF:
        if (side->state == FSM_P_ACTIVE)
            event(pair, me, FSM_PROVEN);
        break;
    case MSG_PROTECT:
        event(pair, me, FSM_PROTECT);
        break;
    case MSG_RUNS:
        event(pair, me, FSM_PEER_RUNS);
        break;
    case MSG_STANDS:
        event(pair, me, FSM_PEER_PAUSED);
        break;
    case MSG_YIELD:
        if (side->state == FSM_P_COLO)
            event(pair, me, FSM_YIELD);
        break;
    case MSG_YIELDED:
        side->yielded = TRUE;
        event(pair, me, FSM_YIELDED);
        break;
    case MSG_HANDED:
        event(pair, me, FSM_HANDED);
        break;
    case MSG_TAKEN:
        event(pair, me, FSM_TAKEN);
        break;
    case MSG_REFUSED_ASKED:
        side->doubted = TRUE;
        event(pair, me, FSM_REFUSED);
        break;
    case MSG_REFUSED:
        event(pair, me, FSM_REFUSED);
        break;
    case MSG_GOODBYE:
        event(pair, me, side->doubted ? FSM_LINK_DOWN : FSM_PEER_GOODBYE);
        break;
    case MSG_FAILED:
        event(pair, me, side->doubted ? FSM_LINK_DOWN : FSM_PEER_FAILED);
        break;
    case MSG_UNFIT:
        event(pair, me, FSM_UNFIT);
        break;
    case MSG_LEAVE:
        if (side->state == FSM_P_COLO && !side->doubted)
            send_to(pair, !me, MSG_LEAVE);
        else if (side->state == FSM_S_COLO && side->leaving)
            event(pair, me, FSM_RECYCLE);
        break;
    case MSG_NONE:
        g_assert_not_reached();
    }
}

static void message_steps(Search *search)
{
    for (int i = 0; i < 2; i++) {
        const Side *side = &search->from->side[i];
        Message first = search->from->queue[i][0];
        /* Bytes that arrived before the end of the connection may be read before it is noticed. */
        if (!first || !side->sees_link || is_dead(side))
            continue;
        STEP(pair, search)
        {
            memmove(pair->queue[i], pair->queue[i] + 1, QUEUE - 1);
            pair->queue[i][QUEUE - 1] = MSG_NONE;
            receive(pair, i, first);
        }
    }
}

static void own_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    switch ((FsmState)side->state) {
    case FSM_P_STARTING:
    case FSM_S_STARTING:
        STEP(pair, search)
        {
            event(pair, i, FSM_VM_STARTED);
        }
        break;
    case FSM_P_ACTIVE:
        if (!side->captured && (side->recorded || !search->from->has_arbiter))
            STEP(pair, search)
            {
                pair->side[i].captured = TRUE;
                pair->side[i].gate_open = FALSE;
                send_to(pair, !i, MSG_CHECKPOINT);
            }
        break;
    case FSM_P_COLO:
        FAULT(pair, search)
        {
            event(pair, i, FSM_YIELD);
        }
        /* The secondary shows no progress. */
        FAULT(pair, search)
        {
            send_to(pair, !i, MSG_UNFIT);
            event(pair, i, FSM_LINK_DOWN);
        }
        break;
    case FSM_P_DEVICE:
        STEP(pair, search)
        {
            event(pair, i, FSM_COMMITTED);
        }
        FAULT(pair, search)
        {
            event(pair, i, FSM_HAND_OVER_FAILED);
        }
        break;
    case FSM_P_HANDED:
        FAULT(pair, search)
        {
            event(pair, i, FSM_HAND_OVER_FAILED);
        }
        break;
    case FSM_S_HANDED:
        if (side->asking)
            break;
        STEP(pair, search)
        {
            event(pair, i, FSM_VM_FIT);
        }
        FAULT(pair, search)
        {
            event(pair, i, FSM_VM_UNFIT);
        }
        break;
    case FSM_S_COLO:
        FAULT(pair, search)
        {
            send_to(pair, !i, MSG_YIELD);
        }
        if (!side->leaving)
            FAULT(pair, search)
            {
                pair->side[i].leaving = TRUE;
                send_to(pair, !i, MSG_LEAVE);
            }
        break;
    case FSM_S_DEVICE:
        STEP(pair, search)
        {
            event(pair, i, FSM_TAKEN_OVER);
        }
        break;
    default:
        break;
    }
    if (side->state != FSM_P_ASKING)
        FAULT(pair, search)
        {
            event(pair, i, FSM_VM_LOST);
        }
    FAULT(pair, search)
    {
        event(pair, i, FSM_SHUTDOWN);
    }
    FAULT(pair, search)
    {
        pair->side[i].crashed = TRUE;
        pair->connected = FALSE;
    }
}

/* Says yes to one side of a session, ever. */
static gboolean decide(Pair *pair, int i, guint8 session)
{
    if (!pair->granted[session])
        pair->granted[session] = (guint8)(1 + i);
    return pair->granted[session] == 1 + i;
}

/* The answer of arbiter_claim() for what was read; with the decision that it may make. */
static gboolean owns(Pair *pair, int i, guint8 owner, guint8 session)
{
    if (session && pair->granted[session])
        return pair->granted[session] == 1 + i;
    if (owner != 1 + i)
        return FALSE;
    return !session || decide(pair, i, session);
}

/* The answer of ARBITER_INHERIT: only what is decided already. */
static gboolean inherits(const Pair *pair, int i, const Side *side)
{
    if (side->read_session)
        return pair->granted[side->read_session] == 1 + i;
    return side->read_owner == 1 + i;
}

/*
 * Its disks turn out not to have all of the VM's data, so it gives the VM back to who was the last
 * to run it: as if there had been no session since.
 */
static void give_back_step(Search *search, int i)
{
    const Pair *now = search->from;
    const Side *side = &now->side[i];
    if (!side->is_auto || side->read_owner != 2 - i || !side->read_session ||
        now->granted[side->read_session] != 1 + i || now->owner != side->read_owner ||
        now->owner_session != side->read_session)
        return;
    FAULT(pair, search)
    {
        pair->owner_session = 0;
        if (side->state == FSM_P_ASKING)
            event(pair, i, FSM_DENIED);
        else
            pair->side[i].has_read = pair->side[i].read_owner = pair->side[i].read_session = 0;
    }
}

/* A node that waits for a primary, and may be the one to be it by now. */
static void inherit_step(Search *search, int i)
{
    STEP(pair, search)
    {
        Side *own = &pair->side[i];
        gboolean granted = inherits(pair, i, own);
        own->has_read = own->read_owner = own->read_session = 0;
        if (granted)
            event(pair, i, FSM_GRANTED);
    }
}

/* A node that may be started as primary, and asks first. */
static void claim_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    gboolean waits = side->state == FSM_S_NONE && side->asks && search->from->owner;
    if (side->state != FSM_P_ASKING && !waits)
        return;
    if (!side->has_read) {
        STEP(pair, search)
        {
            Side *own = &pair->side[i];
            if (!pair->owner)
                pair->owner = (guint8)(1 + i);
            own->has_read = TRUE;
            own->read_owner = pair->owner;
            own->read_session = pair->owner_session;
        }
        return;
    }
    give_back_step(search, i);
    if (waits) {
        inherit_step(search, i);
        return;
    }
    STEP(pair, search)
    {
        FsmEvent otherwise = side->is_auto ? FSM_DENIED : FSM_VM_LOST;
        event(pair, i,
              owns(pair, i, side->read_owner, side->read_session) ? FSM_GRANTED : otherwise);
    }
}

static void storage_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (!search->from->has_arbiter)
        return;
    if (side->writes[0] && !side->crashed)
        STEP(pair, search)
        {
            Side *own = &pair->side[i];
            pair->owner = (guint8)(1 + i);
            pair->owner_session = own->writes[0] - 1;
            memmove(own->writes, own->writes + 1, WRITES - 1);
            own->writes[WRITES - 1] = 0;
            own->recorded = !own->writes[0];
        }
    if (side->releasing && !side->writes[0] && !side->crashed)
        STEP(pair, search)
        {
            pair->side[i].releasing = FALSE;
            if (pair->owner && owns(pair, i, pair->owner, pair->owner_session))
                pair->owner = pair->owner_session = 0;
        }
}

/* A service manager, or an administrator, starts a node again. */
static void restart_steps(Search *search, int i)
{
    static const Side fresh[] = {
        {.state = FSM_P_ASKING},
        {.state = FSM_P_ASKING, .is_auto = TRUE},
        {.state = FSM_S_STARTING                    },
    };
    const Pair *now = search->from;
    if (!is_dead(&now->side[i]) || !now->has_arbiter || now->restarts == search->restarts)
        return;
    for (gsize role = 0; role < G_N_ELEMENTS(fresh); role++)
        STEP(pair, search)
        {
            pair->side[i] = fresh[role];
            pair->restarts++;
            pair->connected = FALSE;
            memset(pair->queue[i], 0, QUEUE);
        }
}

/* An answer to the question of a side that is in doubt. */
static void answer(Pair *pair, int i)
{
    event(pair, i, pair->granted[pair->side[i].claim] == 1 + i ? FSM_GRANTED : FSM_DENIED);
}

static gboolean may_ask(const Side *side)
{
    return side->state == FSM_P_PAUSED || side->state == FSM_P_RECOVER ||
           side->state == FSM_S_PAUSED || side->state == FSM_S_HANDED;
}

/* A question that was given up may reach storage all the same; its answer may come, or be lost. */
static void late_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (!side->flying)
        return;
    STEP(pair, search)
    {
        decide(pair, i, side->flying);
        pair->side[i].flying = 0;
    }
    if ((may_ask(side) || side->state == FSM_S_RECOVER) && side->flying == side->claim &&
        !side->crashed)
        STEP(pair, search)
        {
            decide(pair, i, side->flying);
            pair->side[i].flying = 0;
            answer(pair, i);
        }
    FAULT(pair, search)
    {
        pair->side[i].flying = 0;
    }
}

/*
 * The arbiter, or an administrator in its place. Each side's storage answers or doesn't; what it
 * doesn't answer it may have stored, or may store at any later moment.
 */
static void arbiter_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (!may_ask(side))
        return;
    if (!side->asking) {
        if (side->state == FSM_S_HANDED)
            return; /* not before FIT */
        STEP(pair, search)
        {
            event(pair, i, FSM_ASK_AGAIN);
        }
        return;
    }
    STEP(pair, search)
    {
        decide(pair, i, side->claim);
        answer(pair, i);
    }
    FAULT(pair, search)
    {
        event(pair, i, FSM_UNDECIDED);
    }
    if (!search->from->has_arbiter)
        return;
    FAULT(pair, search)
    {
        decide(pair, i, side->claim);
        event(pair, i, FSM_UNDECIDED);
    }
    if (!side->flying)
        FAULT(pair, search)
        {
            pair->side[i].flying = side->claim;
            event(pair, i, FSM_UNDECIDED);
        }
}

static guint pair_hash(gconstpointer data)
{
    const guint8 *bytes = data;
    guint hash = 2166136261u;
    for (size_t i = 0; i < sizeof(Pair); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

static gboolean pair_equal(gconstpointer a, gconstpointer b)
{
    return !memcmp(a, b, sizeof(Pair));
}

/* ---- What every state leads to ---- */

/* Both have been started, and told that the VM is the other's. */
static gboolean both_wait(const Pair *pair)
{
    for (int i = 0; i < 2; i++)
        if (is_dead(&pair->side[i]) || !pair->side[i].asks)
            return FALSE;
    return pair->owner != 0;
}

/* Where only an administrator can help: whoever the arbiter has chosen has lost the VM. */
static gboolean is_lost(const Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        const Side *side = &pair->side[i];
        if (goes_on(side))
            return FALSE;
        if (has_copy(side) && pair->granted[side->claim] != 2 - i)
            return FALSE;
    }
    return TRUE;
}

/* Nothing fails from here on: then exactly one side will run the VM. */
static void check_recovery(const Search *search)
{
    guint count = search->known->len;
    g_autofree guint *first = g_new0(guint, count + 1);
    g_autofree guint *into = g_new(guint, search->edges->len);
    g_autofree gboolean *good = g_new0(gboolean, count);
    const Edge *edges = (const Edge *)(gpointer)search->edges->data;
    for (guint i = 0; i < search->edges->len; i++)
        first[edges[i].to + 1]++;
    for (guint i = 0; i < count; i++)
        first[i + 1] += first[i];
    g_autofree guint *at = g_memdup2(first, count * sizeof(guint));
    for (guint i = 0; i < search->edges->len; i++)
        into[at[edges[i].to]++] = edges[i].from;
    GQueue todo = G_QUEUE_INIT;
    for (guint i = 0; i < count; i++) {
        const Known *known = g_ptr_array_index(search->known, i);
        if (goes_on(&known->pair.side[0]) || goes_on(&known->pair.side[1])) {
            good[i] = TRUE;
            g_queue_push_tail(&todo, GUINT_TO_POINTER(i));
        }
    }
    while (!g_queue_is_empty(&todo)) {
        guint to = GPOINTER_TO_UINT(g_queue_pop_head(&todo));
        for (guint e = first[to]; e < first[to + 1]; e++)
            if (!good[into[e]]) {
                good[into[e]] = TRUE;
                g_queue_push_tail(&todo, GUINT_TO_POINTER(into[e]));
            }
    }
    for (guint i = 0; i < count; i++) {
        const Known *known = g_ptr_array_index(search->known, i);
        const Pair *pair = &known->pair;
        if (!good[i] && (!is_lost(pair) || both_wait(pair))) {
            tell_way(i);
            g_error("from here nobody comes to run the VM");
        }
    }
}

static void explore(Search *search, gboolean has_arbiter, const Side *first, const Side *second)
{
    Pair begin = {
        .side = {*first, *second},
          .has_arbiter = (guint8)has_arbiter
    };
    current = search;
    search->seen = g_hash_table_new(pair_hash, pair_equal);
    search->known = g_ptr_array_new_with_free_func(g_free);
    search->edges = g_array_new(FALSE, FALSE, sizeof(Edge));
    visit(search, &begin, TRUE);
    while (search->number < search->known->len) {
        search->from = &((Known *)g_ptr_array_index(search->known, search->number))->pair;
        link_steps(search);
        message_steps(search);
        for (int i = 0; i < 2; i++) {
            storage_steps(search, i);
            late_steps(search, i);
            restart_steps(search, i);
            if (is_dead(&search->from->side[i]))
                continue;
            own_steps(search, i);
            arbiter_steps(search, i);
            claim_steps(search, i);
        }
        search->number++;
    }
    g_test_message("%u states of the pair", search->known->len);
    check_recovery(search);
}

typedef struct {
    gboolean second_took_over, first_took_back, overtaken_came_back, overtaken_refused;
    gboolean reached[FSM_STATES];
} Sights;

static Sights see(Search *search)
{
    Sights sights = {0};
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, search->seen);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Pair *pair = &((const Known *)key)->pair;
        const Side *a = &pair->side[0], *b = &pair->side[1];
        sights.reached[a->state] = sights.reached[b->state] = TRUE;
        sights.second_took_over |= b->state == FSM_P_NONE;
        sights.first_took_back |=
            a->state == FSM_P_NONE && pair->session == SESSIONS && b->state == FSM_P_FROZEN;
        /* Of role auto, and it is a secondary of the one that has overtaken it. */
        sights.overtaken_came_back |=
            pair->restarts > 0 && a->is_auto && a->state == FSM_S_COLO && b->state == FSM_P_COLO;
        sights.overtaken_refused |= pair->restarts > 0 && !a->is_auto && !a->claim &&
                                    a->state == FSM_FAILED && b->state == FSM_P_NONE;
    }
    g_hash_table_destroy(search->seen);
    g_ptr_array_unref(search->known);
    g_array_unref(search->edges);
    return sights;
}

static const Side as_secondary = {.state = FSM_S_STARTING};

static void test_without_arbiter(void)
{
    static const Side as_primary = {.state = FSM_P_STARTING};
    Search search = {0};
    explore(&search, FALSE, &as_primary, &as_secondary);
    Sights sights = see(&search);
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (!sights.reached[state] && state != FSM_P_ASKING)
            g_error("the model never reaches state %s", fsm_state_name(state));
    g_assert_true(sights.second_took_over && sights.first_took_back);
}

static void test_with_arbiter(void)
{
    static const Side as_primary = {.state = FSM_P_ASKING};
    Search search = {.restarts = 2};
    explore(&search, TRUE, &as_primary, &as_secondary);
    Sights sights = see(&search);
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (!sights.reached[state])
            g_error("the model never reaches state %s", fsm_state_name(state));
    g_assert_true(sights.second_took_over && sights.first_took_back);
    g_assert_true(sights.overtaken_came_back && sights.overtaken_refused);
}

/* Two that are started alike find out who is what. */
static void test_both_auto(void)
{
    static const Side as_auto = {.state = FSM_P_ASKING, .is_auto = TRUE};
    Search search = {.restarts = 1};
    explore(&search, TRUE, &as_auto, &as_auto);
    Sights sights = see(&search);
    g_assert_true(sights.reached[FSM_P_COLO] && sights.reached[FSM_S_COLO]);
    g_assert_true(sights.second_took_over && sights.overtaken_came_back);
}

static void test_table_is_whole(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_assert_nonnull(fsm_state_name(state));
        for (FsmEvent event_ = 0; event_ < FSM_EVENTS; event_++) {
            g_assert_nonnull(fsm_event_name(event_));
            FsmStep step = fsm_step(state, event_);
            if (step.verdict != FSM_MOVE)
                continue;
            /* Output is let go only by a primary, and only where nobody else can have a claim. */
            if (step.actions & FSM_DO_OPEN_GATE)
                g_assert_true(step.next == FSM_P_NONE || step.next == FSM_P_SETUP);
            if ((state == FSM_P_PAUSED || state == FSM_P_RECOVER || state == FSM_P_FROZEN) &&
                (step.actions & FSM_DO_OPEN_GATE))
                g_assert_cmpint(event_, ==, FSM_GRANTED);
            if (step.actions & FSM_DO_TAKE_OVER)
                g_assert_true(event_ == FSM_GRANTED || event_ == FSM_PEER_PAUSED);
            /* These may find the link broken and feed that from within: nothing may come after. */
            if (step.actions & FSM_DO_START_APPLY)
                g_assert_cmpuint(step.actions, <, FSM_DO_START_APPLY << 1);
            if (step.actions & FSM_DO_SYNCHRONISE)
                g_assert_cmpuint(step.actions, <, FSM_DO_SYNCHRONISE << 1);
            /* A VM that must not go on is dead before anything else happens. */
            if (fsm_is_primary(state) && state != FSM_P_ASKING && step.next == FSM_S_STARTING)
                g_assert_true((step.actions & FSM_DO_KILL_VM) && (step.actions & FSM_DO_START_VM));
            if (step.next == FSM_FAILED || step.next == FSM_COMPLETED)
                g_assert_true((step.actions & FSM_DO_KILL_VM) && (step.actions & FSM_DO_EXIT));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/failover-model/table-is-whole", test_table_is_whole);
    g_test_add_func("/failover-model/without-arbiter", test_without_arbiter);
    g_test_add_func("/failover-model/with-arbiter", test_with_arbiter);
    g_test_add_func("/failover-model/both-auto", test_both_auto);
    return g_test_run();
}
