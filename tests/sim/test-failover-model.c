/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two nodes, a link that breaks at any moment, an arbiter that may be out of reach, administrators
 * and crashes: every state that the table of fsm.c can lead such a pair into is visited
 * (breadth-first, exhaustively, within bounds on sessions and messages in flight), and in each of
 * them it is checked that
 *
 *   1. no two sides are active: an open gate, or a takeover, on one side only;
 *   2. nobody takes over from a checkpoint after which the other side let output go unheld;
 *   3. no internal event meets a state that has no answer for it.
 *
 * What the nodes do besides changing state is modelled from the FsmAction bits, as node.c does it.
 */
#include "colo/fsm.h"

#include <string.h>

#define SESSIONS 3
#define QUEUE    3

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
} Side;

typedef struct {
    Side side[2];
    guint8 session;               /* of the link; 0: there was none yet */
    guint8 connected;             /* the connection exists; a side may not have noticed yet */
    guint8 granted[SESSIONS + 1]; /* 0: nobody, 1 + side */
    guint8 queue[2][QUEUE];       /* messages to side i */
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
        side->seek = SEEK_NONE;
        if (side->sees_link) {
            side->sees_link = FALSE;
            pair->connected = FALSE;
            memset(pair->queue[me], 0, QUEUE);
        }
    }
    if (actions & FSM_DO_OPEN_GATE)
        side->gate_open = TRUE;
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
    case MSG_YIELD:
        if (side->state == FSM_P_COLO)
            event(pair, me, FSM_YIELD);
        break;
    case MSG_YIELDED:
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

/* The arbiter, or an administrator in its place: says yes to one side of a session, ever. */
static void arbiter_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->state != FSM_P_PAUSED && side->state != FSM_S_PAUSED)
        return;
    if (!side->asking) {
        WITH_COPY(pair, search)
        {
            event(pair, i, FSM_ASK_AGAIN);
        }
        return;
    }
    guint8 winner = search->from->granted[side->claim];
    WITH_COPY(pair, search)
    {
        if (!winner)
            pair->granted[side->claim] = (guint8)(1 + i);
        event(pair, i, !winner || winner == 1 + i ? FSM_GRANTED : FSM_DENIED);
    }
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

static void explore(Search *search)
{
    Pair start = {0};
    start.side[0].state = FSM_P_STARTING;
    start.side[1].state = FSM_S_STARTING;
    search->seen = g_hash_table_new_full(pair_hash, pair_equal, g_free, NULL);
    search->todo = g_queue_new();
    visit(search, &start);
    while ((search->from = g_queue_pop_head(search->todo))) {
        link_steps(search);
        message_steps(search);
        for (int i = 0; i < 2; i++) {
            if (is_dead(&search->from->side[i]))
                continue;
            own_steps(search, i);
            arbiter_steps(search, i);
        }
    }
}

static void test_no_two_active(void)
{
    Search search = {0};
    explore(&search);
    gboolean reached[FSM_STATES] = {FALSE};
    gboolean second_took_over = FALSE, first_took_back = FALSE;
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, search.seen);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Pair *pair = key;
        reached[pair->side[0].state] = reached[pair->side[1].state] = TRUE;
        second_took_over |= pair->side[1].state == FSM_P_NONE;
        first_took_back |= pair->side[0].state == FSM_P_NONE && pair->session == SESSIONS &&
                           pair->side[1].state == FSM_S_STARTING;
    }
    g_test_message("%u states of the pair", g_hash_table_size(search.seen));
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (!reached[state])
            g_error("the model never reaches state %s", fsm_state_name(state));
    g_assert_true(second_took_over);
    g_assert_true(first_took_back);
    g_hash_table_destroy(search.seen);
    g_queue_free(search.todo);
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
            if (state == FSM_P_PAUSED && (step.actions & FSM_DO_OPEN_GATE))
                g_assert_cmpint(event_, ==, FSM_GRANTED);
            if (step.actions & FSM_DO_TAKE_OVER)
                g_assert_true(state == FSM_S_COLO || state == FSM_S_PAUSED);
            /* These may find the link broken and feed that from within: nothing may come after. */
            if (step.actions & FSM_DO_START_APPLY)
                g_assert_cmpuint(step.actions, <, FSM_DO_START_APPLY << 1);
            if (step.actions & FSM_DO_SYNCHRONISE)
                g_assert_cmpuint(step.actions, <, FSM_DO_SYNCHRONISE << 1);
            /* A VM that must not go on is dead before anything else happens. */
            if (fsm_is_primary(state) && step.next == FSM_S_STARTING)
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
    g_test_add_func("/failover-model/no-two-active", test_no_two_active);
    return g_test_run();
}
