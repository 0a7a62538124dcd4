/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two nodes, a link that breaks at any moment, an arbiter that may be out of reach, administrators,
 * crashes and service managers that start a node again in any role: every state that the table of
 * fsm.c can lead such a pair into is visited (breadth-first, exhaustively, within bounds on
 * sessions and messages in flight), and in each of them it is checked that
 *
 *   1. no two sides are active: an open gate, or a takeover, on one side only;
 *   2. nobody takes over from a checkpoint after which the other side let output go unheld;
 *   3. no internal event meets a state that has no answer for it.
 *
 * What the nodes do besides changing state is modelled from the FsmAction bits, as node.c and
 * node-owner.c do it. Storage is what arbiter-owner.c makes of it: what is read may be old when it
 * is judged, what is written lands at any later moment or, if its writer dies, never. A pair
 * without an arbiter has administrators in its place, who don't start an overtaken node as primary.
 */
#include "colo/fsm.h"

#include <string.h>

#define SESSIONS 3
#define QUEUE    3
#define RESTARTS 2
#define WRITES   2

typedef enum {
    MSG_NONE,
    MSG_BLANK,
    MSG_CHECKPOINT, /* the first of a session: from its pause on the gate is closed */
    MSG_PROOF,
    MSG_PROTECT,
    MSG_YIELD,
    MSG_YIELDED,
    MSG_GOODBYE,
    MSG_FAILED,
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
    guint8 captured;  /* primary: the session's first checkpoint was taken */
    guint8 stale;     /* secondary: the other side's gate was open while this one had a claim */
    guint8 crashed;
    guint8 yielded;  /* the other side's VM is dead for certain */
    guint8 is_auto;  /* role auto */
    guint8 has_read; /* starting: it knows the record below, which may be old */
    guint8 read_owner, read_session;
    guint8 writes[WRITES]; /* records on their way to storage: 1 + session */
    guint8 recorded;       /* the last of them has landed */
    guint8 proven;         /* the secondary has shown that it can go on */
    guint8 releasing;      /* has ended, and may yet say so to storage */
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

typedef struct {
    GHashTable *seen;
    GQueue *todo;
    const Pair *from;
    const char *step;
} Search;

static gboolean is_dead(const Side *side)
{
    return side->crashed || side->state == FSM_FAILED || side->state == FSM_COMPLETED;
}

static gboolean is_active(const Side *side)
{
    return !is_dead(side) && (side->gate_open || side->state == FSM_S_DEVICE);
}

static gboolean has_claim(const Side *side)
{
    return !is_dead(side) && (side->state == FSM_S_COLO || side->state == FSM_S_PAUSED);
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
    side->recorded = side->proven = FALSE;
    for (int i = 0; i < WRITES; i++)
        if (!side->writes[i]) {
            side->writes[i] = 1 + session;
            return;
        }
    /* Out of the model's bounds: as if the process had died here. */
    side->crashed = TRUE;
}

static void carry_out(Pair *pair, int me, guint actions)
{
    Side *side = &pair->side[me];
    if (actions & FSM_DO_KILL_VM)
        side->gate_open = FALSE;
    if (actions & FSM_DO_SAY_PROTECT)
        send_to(pair, !me, MSG_PROTECT);
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
        g_assert_false(side->stale);
    if (actions & FSM_DO_ASK_ARBITER)
        side->asking = TRUE;
    if (actions & FSM_DO_ACCEPT)
        side->seek = SEEK_ACCEPT;
    if (actions & FSM_DO_DIAL)
        side->seek = SEEK_DIAL;
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
    if (fsm_is_protected(step.next))
        side->claim = pair->session;
    side->state = (guint8)step.next;
    side->asking = FALSE;
    side->has_read = side->read_owner = side->read_session = 0;
    side->yielded &= step.next == FSM_S_PAUSED;
    carry_out(pair, me, step.actions);
    if (step.next == FSM_P_NONE && what == FSM_TAKEN_OVER)
        side->gate_open = TRUE;
}

static void check(Pair *pair)
{
    g_assert_false(is_active(&pair->side[0]) && is_active(&pair->side[1]));
    for (int i = 0; i < 2; i++) {
        if (!has_claim(&pair->side[i]))
            pair->side[i].stale = FALSE;
        else if (is_active(&pair->side[!i]))
            pair->side[i].stale = TRUE;
    }
}

/* Adds a successor, unless it was seen before. */
static void visit(Search *search, Pair *next)
{
    check(next);
    if (g_hash_table_contains(search->seen, next))
        return;
    Pair *kept = g_memdup2(next, sizeof(*next));
    g_hash_table_add(search->seen, kept);
    g_queue_push_tail(search->todo, kept);
}

#define WITH_COPY(pair, search)                                                                    \
    for (Pair next = *(search)->from, *pair = &next; pair; visit(search, pair), pair = NULL)

static void link_steps(Search *search)
{
    const Pair *now = search->from;
    for (int dials = 0; dials < 2; dials++) {
        const Side *a = &now->side[dials], *b = &now->side[!dials];
        if (!now->connected && !is_dead(a) && !is_dead(b) && a->seek == SEEK_DIAL &&
            b->seek == SEEK_ACCEPT && !a->sees_link && !b->sees_link && now->session < SESSIONS)
            WITH_COPY(pair, search)
            {
                pair->connected = TRUE;
                pair->session++;
                memset(pair->queue, 0, sizeof(pair->queue));
            }
    }
    if (now->connected)
        WITH_COPY(pair, search)
        {
            pair->connected = FALSE;
        }
    for (int i = 0; i < 2; i++) {
        const Side *side = &now->side[i];
        if (is_dead(side))
            continue;
        if (now->connected && !side->sees_link && side->seek != SEEK_NONE)
            WITH_COPY(pair, search)
            {
                pair->side[i].seek = SEEK_NONE;
                pair->side[i].sees_link = TRUE;
                event(pair, i, FSM_LINK_UP);
            }
        if (!now->connected && side->sees_link)
            WITH_COPY(pair, search)
            {
                pair->side[i].sees_link = FALSE;
                memset(pair->queue[i], 0, QUEUE);
                event(pair, i, FSM_LINK_DOWN);
            }
        if (!now->connected && side->sees_link && side->state == FSM_S_COLO)
            WITH_COPY(pair, search)
            {
                pair->side[i].sees_link = FALSE;
                memset(pair->queue[i], 0, QUEUE);
                event(pair, i, FSM_SPOILT);
            }
        /* Its question waited for a load, which has spoilt RAM: the arbiter never hears it. */
        if (side->state == FSM_S_PAUSED && side->asking && !side->yielded)
            WITH_COPY(pair, search)
            {
                event(pair, i, FSM_SPOILT);
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
        if (side->state != FSM_P_ACTIVE)
            break;
        side->proven = TRUE;
        if (side->recorded || !pair->has_arbiter)
            event(pair, me, FSM_PROVEN);
        break;
    case MSG_PROTECT:
        event(pair, me, FSM_PROTECT);
        break;
    case MSG_YIELD:
        if (side->state == FSM_P_COLO)
            event(pair, me, FSM_YIELD);
        break;
    case MSG_YIELDED:
        side->yielded = TRUE;
        event(pair, me, FSM_YIELDED);
        break;
    case MSG_GOODBYE:
        event(pair, me, FSM_PEER_GOODBYE);
        break;
    case MSG_FAILED:
        event(pair, me, FSM_PEER_FAILED);
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
        WITH_COPY(pair, search)
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
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_VM_STARTED);
        }
        break;
    case FSM_P_ACTIVE:
        if (!side->captured)
            WITH_COPY(pair, search)
            {
                pair->side[i].captured = TRUE;
                pair->side[i].gate_open = FALSE;
                send_to(pair, !i, MSG_CHECKPOINT);
            }
        break;
    case FSM_P_COLO:
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_YIELD);
        }
        break;
    case FSM_S_COLO:
        WITH_COPY(pair, search)
        {
            send_to(pair, !i, MSG_YIELD);
        }
        break;
    case FSM_S_DEVICE:
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_TAKEN_OVER);
        }
        break;
    default:
        break;
    }
    if (side->state != FSM_P_ASKING)
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_VM_LOST);
        }
    WITH_COPY(pair, search)
    {
        event(pair, i, FSM_SHUTDOWN);
    }
    WITH_COPY(pair, search)
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

/* A node that may be started as primary, and asks first. */
static void claim_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->state != FSM_P_ASKING)
        return;
    if (!side->has_read) {
        WITH_COPY(pair, search)
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
    WITH_COPY(pair, search)
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
        WITH_COPY(pair, search)
        {
            Side *own = &pair->side[i];
            pair->owner = (guint8)(1 + i);
            pair->owner_session = own->writes[0] - 1;
            memmove(own->writes, own->writes + 1, WRITES - 1);
            own->writes[WRITES - 1] = 0;
            own->recorded = !own->writes[0];
            if (own->recorded && own->proven && own->state == FSM_P_ACTIVE)
                event(pair, i, FSM_PROVEN);
        }
    if (side->releasing && !side->writes[0] && !side->crashed)
        WITH_COPY(pair, search)
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
    if (!is_dead(&now->side[i]) || !now->has_arbiter || now->restarts == RESTARTS)
        return;
    for (gsize role = 0; role < G_N_ELEMENTS(fresh); role++)
        WITH_COPY(pair, search)
        {
            pair->side[i] = fresh[role];
            pair->restarts++;
            pair->connected = FALSE;
            memset(pair->queue[i], 0, QUEUE);
        }
}

/* The arbiter, or an administrator in its place. */
static void arbiter_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->state == FSM_P_RECOVER && !side->asking)
        return; /* not before BLANK */
    if (side->state != FSM_P_PAUSED && side->state != FSM_P_RECOVER && side->state != FSM_S_PAUSED)
        return;
    if (!side->asking) {
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_ASK_AGAIN);
        }
        return;
    }
    if (!search->from->has_arbiter && (side->yielded || side->state == FSM_P_RECOVER)) {
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_GRANTED);
        }
        return;
    }
    WITH_COPY(pair, search)
    {
        event(pair, i, decide(pair, i, side->claim) ? FSM_GRANTED : FSM_DENIED);
    }
    if (side->state != FSM_P_RECOVER) /* it goes on asking */
        WITH_COPY(pair, search)
        {
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

static void explore(Search *search, gboolean has_arbiter, const Side *first, const Side *second)
{
    Pair begin = {
        .side = {*first, *second},
          .has_arbiter = (guint8)has_arbiter
    };
    search->seen = g_hash_table_new_full(pair_hash, pair_equal, g_free, NULL);
    search->todo = g_queue_new();
    visit(search, &begin);
    while ((search->from = g_queue_pop_head(search->todo))) {
        link_steps(search);
        message_steps(search);
        for (int i = 0; i < 2; i++) {
            storage_steps(search, i);
            restart_steps(search, i);
            if (is_dead(&search->from->side[i]))
                continue;
            own_steps(search, i);
            arbiter_steps(search, i);
            claim_steps(search, i);
        }
    }
    g_test_message("%u states of the pair", g_hash_table_size(search->seen));
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
        const Pair *pair = key;
        const Side *a = &pair->side[0], *b = &pair->side[1];
        sights.reached[a->state] = sights.reached[b->state] = TRUE;
        sights.second_took_over |= b->state == FSM_P_NONE;
        sights.first_took_back |=
            a->state == FSM_P_NONE && pair->session == SESSIONS && b->state == FSM_S_STARTING;
        /* Of role auto, and it is a secondary of the one that has overtaken it. */
        sights.overtaken_came_back |=
            pair->restarts > 0 && a->is_auto && a->state == FSM_S_COLO && b->state == FSM_P_COLO;
        sights.overtaken_refused |= pair->restarts > 0 && !a->is_auto && !a->claim &&
                                    a->state == FSM_FAILED && b->state == FSM_P_NONE;
    }
    g_hash_table_destroy(search->seen);
    g_queue_free(search->todo);
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
    Search search = {0};
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
    Search search = {0};
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
                g_assert_true(step.next == FSM_P_NONE || step.next == FSM_P_ACTIVE);
            if ((state == FSM_P_PAUSED || state == FSM_P_RECOVER) &&
                (step.actions & FSM_DO_OPEN_GATE))
                g_assert_cmpint(event_, ==, FSM_GRANTED);
            if (step.actions & FSM_DO_TAKE_OVER)
                g_assert_true(state == FSM_S_PAUSED && event_ == FSM_GRANTED);
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
