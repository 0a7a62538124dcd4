/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks all that can happen to a node around a lost link: its real table of states, and what the
 * arbiter's answers mean to it. Time, an administrator and storage do what they like.
 */
#include "colo/node/claim-rules.h"

#include <string.h>

/* More questions about one session that are open at once add nothing. */
#define OPEN_MAX 2

typedef enum { NOBODY, THIS_SIDE, OTHER_SIDE } Winner;

/* Everything that decides what can happen next; all bytes, so that two can be compared. */
typedef struct {
    guint8 has_arbiter;
    guint8 state, doing;    /* FsmState, ClaimDoing */
    guint8 forced, yielded; /* as in ClaimFacts */
    guint8 handed;          /* likewise: the VM, to the peer */
    guint8 in_time, late;   /* open questions about this session */
    guint8 winner;          /* as far as storage has told this side */
    guint8 seeks;           /* looks for its peer */
    guint8 checks;          /* in `handed`: whether the VM is fit is still to come */
    guint8 waits_for_load;  /* will ask when a load is over */
} World;

typedef struct {
    GHashTable *seen; /* of World* */
    GQueue due;       /* of World*, borrowed from seen */
    gboolean steps[CLAIM_DOINGS][CLAIM_DOINGS];
    guint reported[CLAIM_REPORT_CONTRADICTED + 1];
} Walk;

static guint world_hash(gconstpointer data)
{
    const guint8 *bytes = data;
    guint hash = 5381;
    for (gsize i = 0; i < sizeof(World); i++)
        hash = hash * 33 + bytes[i];
    return hash;
}

static gboolean world_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(World)) == 0;
}

static void reach(Walk *walk, const World *world)
{
    if (g_hash_table_contains(walk->seen, world))
        return;
    World *copy = g_memdup2(world, sizeof(*world));
    g_hash_table_add(walk->seen, copy);
    g_queue_push_tail(&walk->due, copy);
}

static void set_doing(Walk *walk, World *world, ClaimDoing next)
{
    if (!claim_doing_may(world->doing, next))
        g_error("%s -> %s in state %s", claim_doing_name(world->doing), claim_doing_name(next),
                fsm_state_name(world->state));
    walk->steps[world->doing][next] = TRUE;
    world->doing = (guint8)next;
}

/* What may be so when the arbiter is to be asked. */
typedef struct {
    gboolean defers, loads;
} Circumstances;

static void ask(Walk *walk, World *world, Circumstances now)
{
    if (now.defers) {
        set_doing(walk, world, CLAIM_DEFERRED);
        return;
    }
    world->waits_for_load = world->state == FSM_S_PAUSED && now.loads;
    if (world->waits_for_load)
        return;
    world->in_time = MIN(world->in_time + 1, OPEN_MAX);
    set_doing(walk, world, world->doing == CLAIM_FORCED_AGAIN ? CLAIM_FORCED : CLAIM_ASKED);
}

static void move(Walk *walk, World *world, FsmEvent event, Circumstances now)
{
    FsmStep step = fsm_step(world->state, event);
    if (step.verdict != FSM_MOVE)
        g_error("event %s in state %s, %s", fsm_event_name(event), fsm_state_name(world->state),
                claim_doing_name(world->doing));
    if (event == FSM_PROVEN || event == FSM_PROTECT) {
        world->in_time = world->late = 0;
        world->winner = NOBODY;
        set_doing(walk, world, CLAIM_IDLE);
    }
    set_doing(walk, world, claim_doing_after(world->doing, event, step.next));
    world->yielded = (guint8)claim_yielded_after(world->yielded, event, step.next);
    world->handed = (world->handed || world->state == FSM_P_HANDED) && claim_is_in_doubt(step.next);
    world->state = (guint8)step.next;
    world->forced &= claim_is_in_doubt(step.next);
    world->checks = (step.actions & FSM_DO_CHECK_VM) != 0;
    if (step.actions & FSM_DO_CLOSE_LINK)
        world->seeks = FALSE;
    if (step.actions & FSM_DO_ASK_ARBITER)
        ask(walk, world, now);
    if (step.actions & (FSM_DO_DIAL | FSM_DO_ACCEPT))
        world->seeks = TRUE;
}

static void say(Walk *walk, World *world, ClaimReport report)
{
    static const int events[] = {
        [CLAIM_REPORT_NOTHING] = -1,
        [CLAIM_REPORT_GRANTED] = FSM_GRANTED,
        [CLAIM_REPORT_FORCED] = FSM_GRANTED,
        [CLAIM_REPORT_DENIED] = FSM_DENIED,
        [CLAIM_REPORT_UNDECIDED] = FSM_UNDECIDED,
        [CLAIM_REPORT_AGREED] = -1,
        [CLAIM_REPORT_CONTRADICTED] = -1,
    };
    walk->reported[report]++;
    if (events[report] >= 0)
        move(walk, world, (FsmEvent)events[report], (Circumstances){FALSE, FALSE});
}

/* Whoever is told yes has a decision, or knows that the other has none, or was forced. */
static void check_answer(const World *before, ArbiterAnswer answer, const ClaimVerdict *verdict)
{
    gboolean doubts = claim_is_in_doubt(before->state);
    gboolean knows = before->yielded || (before->state == FSM_P_RECOVER && !before->handed) ||
                     before->state == FSM_S_HANDED;
    g_assert_true(verdict->report != CLAIM_REPORT_GRANTED || answer == ARBITER_GRANTED ||
                  (answer == ARBITER_MANUAL && knows));
    g_assert_true(verdict->report != CLAIM_REPORT_FORCED ||
                  (before->forced && answer != ARBITER_DENIED));
    /* An answer changes a state that is in doubt only; a clear one always does. */
    g_assert_true(doubts || !verdict->counts);
    if (doubts && answer == ARBITER_GRANTED)
        g_assert_cmpint(verdict->report, ==, CLAIM_REPORT_GRANTED);
    if (doubts && answer == ARBITER_DENIED)
        g_assert_cmpint(verdict->report, ==, CLAIM_REPORT_DENIED);
    /* What an administrator has to know is said, once. */
    gboolean forced = before->doing == CLAIM_FORCED || before->doing == CLAIM_FORCED_AGAIN;
    g_assert_true((verdict->report == CLAIM_REPORT_CONTRADICTED) ==
                  (forced && answer == ARBITER_DENIED));
}

static void answer(Walk *walk, World world, ArbiterAnswer answer, ClaimTime time)
{
    ClaimFacts facts = {.state = world.state,
                        .doing = world.doing,
                        .forced = world.forced,
                        .yielded = world.yielded,
                        .handed = world.handed,
                        .others_open = world.in_time > 0,
                        .answer = answer,
                        .time = time};
    if (answer == ARBITER_GRANTED || answer == ARBITER_DENIED)
        world.winner = answer == ARBITER_GRANTED ? THIS_SIDE : OTHER_SIDE;
    ClaimVerdict verdict = claim_judge(&facts);
    check_answer(&world, answer, &verdict);
    world.forced &= !verdict.counts;
    set_doing(walk, &world, verdict.next);
    say(walk, &world, verdict.report);
    reach(walk, &world);
}

static void answer_all(Walk *walk, const World *world)
{
    World next = *world;
    if (world->in_time > 0 && !world->has_arbiter) {
        next.in_time--;
        answer(walk, next, ARBITER_MANUAL, CLAIM_IN_TIME);
        return;
    }
    for (int late = 0; late < 2; late++) {
        next = *world;
        if (late ? !next.late : !next.in_time)
            continue;
        next.in_time -= !late;
        next.late -= late;
        if (next.winner != OTHER_SIDE)
            answer(walk, next, ARBITER_GRANTED, CLAIM_IN_TIME);
        if (next.winner != THIS_SIDE)
            answer(walk, next, ARBITER_DENIED, CLAIM_IN_TIME);
        answer(walk, next, ARBITER_UNKNOWN, late ? CLAIM_GONE : CLAIM_IN_TIME);
        next.late = MIN(next.late + 1, OPEN_MAX);
        if (!late)
            answer(walk, next, ARBITER_UNKNOWN, CLAIM_LATE);
    }
}

static void feed(Walk *walk, World world, FsmEvent event, Circumstances now)
{
    move(walk, &world, event, now);
    reach(walk, &world);
}

/* Of the node, its peer and an administrator. */
static void feed_all(Walk *walk, const World *world)
{
    for (FsmEvent event = 0; event < FSM_EVENTS; event++) {
        gboolean of_the_claim = event == FSM_GRANTED || event == FSM_DENIED ||
                                event == FSM_UNDECIDED || event == FSM_ASK_AGAIN;
        gboolean fits = event != FSM_VM_FIT && event != FSM_VM_UNFIT;
        if (of_the_claim || fsm_step(world->state, event).verdict != FSM_MOVE ||
            !(fits || world->checks) || (event == FSM_LINK_UP && !world->seeks) ||
            event == FSM_UNFIT || (event == FSM_INVALID && world->state == FSM_S_PAUSED))
            continue;
        gboolean asks = (fsm_step(world->state, event).actions & FSM_DO_ASK_ARBITER) != 0;
        gboolean may_defer = asks && event == FSM_LINK_DOWN && fsm_is_protected(world->state);
        for (int defers = 0; defers <= may_defer; defers++)
            for (int loads = 0; loads <= asks; loads++)
                feed(walk, *world, event, (Circumstances){defers, loads});
    }
}

static void feed_unfit(Walk *walk, World world)
{
    move(walk, &world, FSM_UNFIT, (Circumstances){FALSE, FALSE});
    set_doing(walk, &world, CLAIM_LEFT);
    reach(walk, &world);
}

static void pass_time(Walk *walk, World world)
{
    Circumstances now = {FALSE, FALSE};
    switch ((ClaimDoing)world.doing) {
    case CLAIM_DEFERRED:
    case CLAIM_AGAIN:
    case CLAIM_UNDECIDED:
    case CLAIM_LEFT:
        feed(walk, world, FSM_ASK_AGAIN, now);
        feed(walk, world, FSM_ASK_AGAIN, (Circumstances){.loads = TRUE});
        break;
    case CLAIM_FORCED_AGAIN:
        if (world.state == FSM_FAILED || world.state == FSM_COMPLETED)
            set_doing(walk, &world, CLAIM_IDLE);
        else
            ask(walk, &world, now);
        reach(walk, &world);
        break;
    default:
        break;
    }
    if (world.waits_for_load && world.state == FSM_S_PAUSED) {
        world.waits_for_load = FALSE;
        feed(walk, world, FSM_ASK_AGAIN, now);
        if (!world.yielded)
            feed(walk, world, FSM_INVALID, now);
    }
}

static void give_orders(Walk *walk, const World *world)
{
    if (world->state == FSM_P_FROZEN)
        feed(walk, *world, FSM_GRANTED, (Circumstances){FALSE, FALSE});
    if (world->state != FSM_P_PAUSED && world->state != FSM_P_RECOVER &&
        world->state != FSM_S_PAUSED && world->state != FSM_S_RECOVER)
        return;
    for (int force = 0; force < 2; force++) {
        World next = *world;
        next.forced = force || !world->has_arbiter;
        if (next.in_time > 0)
            reach(walk, &next);
        else
            feed(walk, next, FSM_ASK_AGAIN, (Circumstances){.loads = world->waits_for_load});
    }
}

static void walk_all(Walk *walk)
{
    walk->seen = g_hash_table_new_full(world_hash, world_equal, g_free, NULL);
    g_queue_init(&walk->due);
    for (int has_arbiter = 0; has_arbiter < 2; has_arbiter++) {
        World primary = {.has_arbiter = (guint8)has_arbiter, .state = FSM_P_ACTIVE};
        World secondary = {.has_arbiter = (guint8)has_arbiter, .state = FSM_S_ACTIVE};
        reach(walk, &primary);
        reach(walk, &secondary);
    }
    for (const World *world; (world = g_queue_pop_head(&walk->due));) {
        answer_all(walk, world);
        feed_all(walk, world);
        pass_time(walk, *world);
        give_orders(walk, world);
        if (world->state == FSM_S_COLO)
            feed_unfit(walk, *world);
    }
}

/* Whoever is in doubt has an answer to come, asks again by itself, or waits for somebody. */
static void check_continues(const World *world)
{
    gboolean waits = world->state == FSM_S_RECOVER || world->state == FSM_P_FROZEN;
    if (!claim_is_in_doubt(world->state) || world->doing != CLAIM_IDLE || waits || world->checks ||
        world->waits_for_load)
        return;
    if (world->in_time == 0)
        g_error("nothing is done in state %s", fsm_state_name(world->state));
}

static void test_walk(void)
{
    Walk walk = {0};
    walk_all(&walk);
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, walk.seen);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        check_continues(key);
    /* Nothing is allowed that can't happen. */
    for (ClaimDoing from = 0; from < CLAIM_DOINGS; from++)
        for (ClaimDoing to = 0; to < CLAIM_DOINGS; to++)
            if (claim_doing_may(from, to) && !walk.steps[from][to])
                g_error("%s -> %s never happens", claim_doing_name(from), claim_doing_name(to));
    for (gsize report = 0; report < G_N_ELEMENTS(walk.reported); report++)
        g_assert_cmpuint(walk.reported[report], >, 0);
    g_test_message("%u worlds", g_hash_table_size(walk.seen));
    g_hash_table_unref(walk.seen);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/claim-walk/all", test_walk);
    return g_test_run();
}
