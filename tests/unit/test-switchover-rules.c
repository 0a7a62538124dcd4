/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of a switchover, all of them. A model of a primary (its VM, the secondary, administrators)
 * does all that it can in each phase, in every order; so does one of a secondary, whose primary may
 * say anything. What a table allows is what can be; likewise of the plan of a last checkpoint.
 */
#include "colo/node/switchover-rules.h"

#include "colo/node/cycle.h"
#include "common/clock.h"

#include <string.h>

/* ---- The walk ---- */

/* Bytes, and nothing between them: compared as such. */
typedef struct {
    guint8 phase; /* SwitchoverPhase */
    guint8 pause; /* the wish */
    guint8 state; /* FsmState of the primary */
    guint8 plan;  /* Plan: whether the next checkpoint is the last */
    guint8 told;  /* the secondary, that it may be asked for nothing more */
} Model;

/* What the walk of a side has seen: events that move it, and from which phase to which. */
typedef struct {
    gboolean moved[SWITCHOVER_PHASES][SWITCHOVER_EVENTS];
    gboolean became[SWITCHOVER_PHASES][SWITCHOVER_PHASES];
} Seen;

static Seen primary_seen, secondary_seen;

static void note(Seen *seen, SwitchoverPhase phase, SwitchoverEvent event, SwitchoverPhase next)
{
    seen->moved[phase][event] = TRUE;
    seen->became[phase][next] = TRUE;
}

static const char *name_of(SwitchoverPhase phase)
{
    const char *name = switchover_phase_name(phase);
    return name ? name : "none";
}

/* The table is what was seen, and so is what the setter lets through. */
static void check_seen(const Seen *seen, gboolean is_primary)
{
    for (SwitchoverPhase phase = 0; phase < SWITCHOVER_PHASES; phase++) {
        for (SwitchoverEvent event = 0; event < SWITCHOVER_EVENTS; event++) {
            SwitchoverStep step = is_primary ? switchover_step(phase, event, FALSE)
                                             : switchover_secondary_step(phase, event);
            if ((step.verdict == SWITCHOVER_MOVE) != seen->moved[phase][event])
                g_error("%s in %s (%d): %s", switchover_event_name(event), name_of(phase), phase,
                        seen->moved[phase][event] ? "can be" : "is in the table, and can't be");
        }
        for (SwitchoverPhase next = 0; next < SWITCHOVER_PHASES; next++)
            if (switchover_may_become(is_primary, phase, next) != seen->became[phase][next])
                g_error("%s (%d) from %s (%d)", name_of(next), next, name_of(phase), phase);
    }
}

static Model feed(Model m, SwitchoverEvent event);

static gboolean planned[PLANS][PLANS];

static void set_plan(Model *m, Plan next)
{
    planned[m->plan][next] |= next != m->plan;
    m->plan = (guint8)next;
}

/* As a primary does when its node moves, or is about to hand its VM over or to resume it. */
static void follow(Model *m, guint actions)
{
    if ((actions & FSM_DO_HAND_OVER) && m->plan != PLAN_NONE)
        set_plan(m, PLAN_LAST);
    if ((actions & FSM_DO_RESUME_VM) || (!fsm_is_protected(m->state) && m->state != FSM_P_HANDED))
        set_plan(m, PLAN_NONE);
}

/* The node moves, as fsm.h has it, and that comes back. */
static Model move(Model m, FsmEvent event)
{
    FsmStep step = fsm_step(m.state, event);
    g_assert_cmpint(step.verdict, !=, FSM_BUG);
    if (step.verdict == FSM_IGNORE)
        return m;
    m.state = (guint8)step.next;
    SwitchoverEvent follows = switchover_of_state(m.phase, m.state, event);
    follow(&m, step.actions);
    return follows == SWITCHOVER_EVENTS ? m : feed(m, follows);
}

static Model act(Model m, guint actions)
{
    if (actions & SWITCHOVER_DO_ASK)
        m.told = FALSE;
    if (actions & SWITCHOVER_DO_HOLD) {
        g_assert_true(m.plan == PLAN_NONE && m.state == FSM_P_COLO);
        set_plan(&m, PLAN_HELD);
    }
    if (actions & SWITCHOVER_DO_LET_GO)
        set_plan(&m, PLAN_NONE);
    if (actions & SWITCHOVER_DO_SAY_CANCEL) {
        g_assert_false(m.told);
        m.told = TRUE;
    }
    g_assert_false((actions & SWITCHOVER_DO_SAY_PHASE) && m.told);
    if (actions & SWITCHOVER_DO_PRE)
        m = move(m, FSM_HOLD);
    if (actions & SWITCHOVER_DO_GO) {
        g_assert_cmpint(m.plan, ==, PLAN_HELD);
        m = move(m, FSM_CONTINUE);
        g_assert_true(m.phase == SWITCHOVER_DEVICE && m.state == FSM_P_DEVICE);
        g_assert_cmpint(m.plan, ==, PLAN_LAST);
    }
    if (actions & SWITCHOVER_DO_WAY_BACK) {
        /* The node may have left it for another reason, which has decided who runs the VM. */
        gboolean stands = m.state == FSM_P_PRE_SWITCHOVER || m.state == FSM_P_DEVICE;
        m = move(m, FSM_CANCEL);
        g_assert_true(!stands || (m.state == FSM_P_COLO && m.plan == PLAN_NONE));
    }
    return m;
}

static Model feed(Model m, SwitchoverEvent event)
{
    SwitchoverStep step = switchover_step(m.phase, event, m.pause);
    if (step.verdict != SWITCHOVER_MOVE)
        return m;
    g_assert_true((step.next == SWITCHOVER_COMPLETED) ==
                  (event == SWITCHOVER_TAKEN && m.state == FSM_P_FROZEN));
    note(&primary_seen, m.phase, event, step.next);
    m.phase = (guint8)step.next;
    return act(m, step.actions);
}

static void check(const Model *m)
{
    if (m->plan != PLAN_NONE && m->state == FSM_P_COLO)
        g_assert_true(m->plan == PLAN_HELD && m->phase == SWITCHOVER_STOPPING);
    /* The VM stands where the phase says that it may, and nowhere else. */
    if (m->state == FSM_P_PRE_SWITCHOVER)
        g_assert_cmpint(m->phase, ==, SWITCHOVER_PRE);
    if (m->phase == SWITCHOVER_PRE)
        g_assert_cmpint(m->state, ==, FSM_P_PRE_SWITCHOVER);
    if (m->phase == SWITCHOVER_DEVICE)
        g_assert_cmpint(m->state, ==, FSM_P_DEVICE);
    if (m->phase == SWITCHOVER_HANDED || m->phase == SWITCHOVER_HANDED_CANCELLING)
        g_assert_cmpint(m->state, ==, FSM_P_HANDED);
    if (switchover_is_limited(m->phase) || m->phase == SWITCHOVER_CANCELLING)
        g_assert_cmpint(m->state, ==, FSM_P_COLO);
    g_assert_true(!switchover_is_under_way(m->phase) ==
                  !(m->phase && m->phase < SWITCHOVER_COMPLETED));
}

static void found(GHashTable *seen, GQueue *queue, Model m)
{
    check(&m);
    g_autoptr(GBytes) key = g_bytes_new(&m, sizeof(m));
    if (!g_hash_table_contains(seen, key)) {
        g_queue_push_tail(queue, g_memdup2(&m, sizeof(m)));
        g_hash_table_add(seen, g_steal_pointer(&key));
    }
}

static void visit_orders(GHashTable *seen, GQueue *queue, const Model *m)
{
    found(seen, queue, feed(*m, SWITCHOVER_CANCEL));
    found(seen, queue, feed(*m, SWITCHOVER_GO_ON));
    /* A second cancel changes nothing. */
    Model once = feed(*m, SWITCHOVER_CANCEL), twice = feed(once, SWITCHOVER_CANCEL);
    g_assert_cmpint(memcmp(&once, &twice, sizeof(once)), ==, 0);
    for (guint pause = 0; pause < 2; pause++) {
        Model begun = *m;
        if (m->state != FSM_P_COLO || switchover_is_under_way(m->phase))
            continue;
        begun.pause = (guint8)pause;
        found(seen, queue, feed(begun, SWITCHOVER_BEGIN));
    }
}

static void visit_world(GHashTable *seen, GQueue *queue, const Model *m)
{
    static const FsmEvent happens[] = {FSM_LINK_DOWN,    FSM_VM_LOST, FSM_PEER_FAILED,
                                       FSM_PEER_GOODBYE, FSM_YIELD,   FSM_SHUTDOWN};
    for (gsize i = 0; i < G_N_ELEMENTS(happens); i++)
        if (fsm_step(m->state, happens[i]).verdict == FSM_MOVE && fsm_is_primary(m->state))
            found(seen, queue, move(*m, happens[i]));
    if (m->state == FSM_P_DEVICE && m->plan != PLAN_NONE)
        found(seen, queue, move(*m, FSM_COMMITTED));
    if (m->state == FSM_P_DEVICE)
        found(seen, queue, move(*m, FSM_HAND_OVER_FAILED));
    if (m->state == FSM_P_HANDED) {
        found(seen, queue, move(*m, FSM_TAKEN));
        found(seen, queue, move(*m, FSM_REFUSED));
    }
    if (!fsm_is_protected(m->state) && m->state != FSM_P_HANDED) {
        Model again = *m; /* some day it is the primary of a pair again */
        again.state = FSM_P_COLO;
        found(seen, queue, again);
    }
    if (m->phase == SWITCHOVER_STOPPING)
        found(seen, queue, feed(*m, SWITCHOVER_HELD));
    if (m->state == FSM_P_COLO) {
        found(seen, queue, feed(*m, SWITCHOVER_RUNS));
        for (SwitchoverEvent e = SWITCHOVER_ACKED; e <= SWITCHOVER_SMALL; e++)
            found(seen, queue, feed(*m, e));
    }
    /* A limit of time, or the guest: they count until it has been handed over. */
    if (m->phase != SWITCHOVER_DEVICE && m->state != FSM_P_HANDED)
        found(seen, queue, feed(*m, SWITCHOVER_OVER));
}

static void test_walk(void)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GQueue) queue = g_queue_new();
    found(seen, queue, (Model){.state = FSM_P_COLO});
    while (!g_queue_is_empty(queue)) {
        g_autofree Model *m = g_queue_pop_head(queue);
        visit_orders(seen, queue, m);
        visit_world(seen, queue, m);
    }
    g_test_message("%u states", g_hash_table_size(seen));
    check_seen(&primary_seen, TRUE);
    for (Plan from = 0; from < PLANS; from++)
        for (Plan to = 0; to < PLANS; to++)
            if (plan_may_become(from, to) != planned[from][to])
                g_error("the plan %s from %s: %s", plan_name(to), plan_name(from),
                        planned[from][to] ? "can be" : "is in the table, and can't be");
}

/* ---- Commands ---- */

static void test_commands(void)
{
    for (SwitchoverPhase phase = 0; phase < SWITCHOVER_PHASES; phase++) {
        gboolean under_way = switchover_is_under_way(phase);
        g_assert_cmpint(switchover_step(phase, SWITCHOVER_BEGIN, FALSE).verdict, ==,
                        under_way ? SWITCHOVER_REFUSE : SWITCHOVER_MOVE);
        g_assert_cmpint(switchover_step(phase, SWITCHOVER_GO_ON, TRUE).verdict, ==,
                        phase == SWITCHOVER_PRE ? SWITCHOVER_MOVE : SWITCHOVER_REFUSE);
        SwitchoverVerdict cancel = switchover_step(phase, SWITCHOVER_CANCEL, FALSE).verdict;
        g_assert_cmpint(cancel, !=, SWITCHOVER_REFUSE);
        gboolean is_asked = phase == SWITCHOVER_CANCELLING || phase == SWITCHOVER_HANDED_CANCELLING;
        g_assert_true((cancel == SWITCHOVER_MOVE) == (under_way && !is_asked));
        gboolean has_vm =
            under_way && !is_asked && phase != SWITCHOVER_DEVICE && phase != SWITCHOVER_HANDED;
        g_assert_cmpint(switchover_is_before_device(phase), ==, has_vm);
    }
}

/* What has no limit of time, and what has. */
static void test_limits(void)
{
    for (SwitchoverPhase phase = 0; phase < SWITCHOVER_PHASES; phase++) {
        const char *name = switchover_phase_name(phase);
        gboolean limited = name && (!strcmp(name, "setup") || !strcmp(name, "active"));
        g_assert_true(switchover_is_limited(phase) == limited);
        g_assert_true(!name == (phase == SWITCHOVER_NONE));
    }
}

/* ---- The secondary ---- */

typedef struct {
    guint8 phase; /* SwitchoverPhase */
    guint8 state; /* FsmState of the secondary */
} There;

static There feed_there(There m, SwitchoverEvent event)
{
    SwitchoverStep step = switchover_secondary_step(m.phase, event);
    if (step.verdict != SWITCHOVER_MOVE)
        return m;
    g_assert_true((step.next == SWITCHOVER_COMPLETED) ==
                  (event == SWITCHOVER_TAKEN && m.state == FSM_P_NONE));
    /* It orders nothing of its node, and each ASK and change of the parts is answered. */
    const guint says = SWITCHOVER_DO_SAY_ACK | SWITCHOVER_DO_SAY_WANT | SWITCHOVER_DO_SAY_CANCEL;
    gboolean is_parts = event == SWITCHOVER_ACKED || event == SWITCHOVER_WITHDRAWN;
    g_assert_cmpint(step.actions & ~says, ==, 0);
    g_assert_cmpint((step.actions & SWITCHOVER_DO_SAY_ACK) != 0, ==, is_parts);
    g_assert_cmpint((step.actions & SWITCHOVER_DO_SAY_WANT) != 0, ==, event == SWITCHOVER_BEGIN);
    g_assert_cmpint((step.actions & SWITCHOVER_DO_SAY_CANCEL) != 0, ==, event == SWITCHOVER_CANCEL);
    note(&secondary_seen, m.phase, event, step.next);
    m.phase = (guint8)step.next;
    return m;
}

static void found_there(GHashTable *seen, GQueue *queue, There m)
{
    /* The VM is the primary's until it is handed over; and then nobody's whose node is elsewhere. */
    if (switchover_is_handed(m.phase))
        g_assert_true(m.state == FSM_S_HANDED || m.state == FSM_S_TAKING ||
                      m.state == FSM_S_DEVICE || m.state == FSM_S_PAUSED ||
                      m.state == FSM_S_RECOVER);
    else if (switchover_is_under_way(m.phase))
        g_assert_cmpint(m.state, ==, FSM_S_COLO);
    g_assert_true(m.phase != SWITCHOVER_STOPPING && m.phase != SWITCHOVER_CANCELLING);
    /* A second cancel changes nothing. */
    There once = feed_there(m, SWITCHOVER_CANCEL), twice = feed_there(once, SWITCHOVER_CANCEL);
    g_assert_cmpint(once.phase, ==, twice.phase);
    gpointer key = GUINT_TO_POINTER((guint)m.phase << 8 | m.state);
    if (g_hash_table_add(seen, key))
        g_queue_push_tail(queue, key);
}

/* Orders, the primary's messages, and what the secondary sees of itself. */
static void visit_messages(GHashTable *seen, GQueue *queue, There m)
{
    found_there(seen, queue, feed_there(m, SWITCHOVER_CANCEL));
    found_there(seen, queue, feed_there(m, SWITCHOVER_GO_ON));
    found_there(seen, queue, feed_there(m, SWITCHOVER_CANCELLED_THERE));
    found_there(seen, queue, feed_there(m, SWITCHOVER_FAILED_THERE));
    if (m.state != FSM_S_COLO)
        return;
    static const SwitchoverEvent happens[] = {
        SWITCHOVER_BEGIN, SWITCHOVER_ACKED, SWITCHOVER_WITHDRAWN,
        SWITCHOVER_HELD,  SWITCHOVER_GOES,  SWITCHOVER_OVER /* ASK of another one */};
    for (gsize i = 0; i < G_N_ELEMENTS(happens); i++)
        found_there(seen, queue, feed_there(m, happens[i]));
}

/* All that can happen to the node: fsm.h. */
static void visit_node(GHashTable *seen, GQueue *queue, There m)
{
    for (FsmEvent event = 0; event < FSM_EVENTS; event++) {
        FsmStep step = fsm_step(m.state, event);
        if (step.verdict != FSM_MOVE || fsm_is_primary(m.state))
            continue;
        There next = {.phase = m.phase, .state = (guint8)step.next};
        SwitchoverEvent follows = switchover_of_secondary(next.state, event);
        found_there(seen, queue, follows == SWITCHOVER_EVENTS ? next : feed_there(next, follows));
    }
    if (!switchover_is_under_way(m.phase)) /* some day it is the secondary of a pair again */
        found_there(seen, queue, (There){.phase = m.phase, .state = FSM_S_COLO});
}

static void test_secondary_walk(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GQueue) queue = g_queue_new();
    found_there(seen, queue, (There){.state = FSM_S_COLO});
    while (!g_queue_is_empty(queue)) {
        guint key = GPOINTER_TO_UINT(g_queue_pop_head(queue));
        There m = {.phase = (guint8)(key >> 8), .state = (guint8)key};
        visit_messages(seen, queue, m);
        visit_node(seen, queue, m);
    }
    g_test_message("%u states", g_hash_table_size(seen));
    check_seen(&secondary_seen, FALSE);
}

static SwitchoverPhase next_there(SwitchoverPhase phase, SwitchoverEvent event)
{
    SwitchoverStep step = switchover_secondary_step(phase, event);
    return step.verdict == SWITCHOVER_MOVE ? step.next : phase;
}

/* What each end of it is called there. */
static void test_secondary(void)
{
    for (SwitchoverPhase phase = 0; phase < SWITCHOVER_PHASES; phase++) {
        gboolean under_way = switchover_is_under_way(phase) && phase != SWITCHOVER_STOPPING &&
                             phase != SWITCHOVER_CANCELLING;
        gboolean handed = switchover_is_handed(phase);
        gboolean asked = phase == SWITCHOVER_SETUP || phase == SWITCHOVER_ACTIVE;
        SwitchoverPhase before = under_way && !handed ? SWITCHOVER_FAILED : phase;
        g_assert_cmpint(next_there(phase, SWITCHOVER_OVER), ==,
                        under_way ? SWITCHOVER_FAILED : phase);
        /* Handed and cut: it may still become this side's. */
        g_assert_cmpint(next_there(phase, SWITCHOVER_CUT), ==, before);
        /* Without the primary's word it is a failover's. */
        g_assert_cmpint(next_there(phase, SWITCHOVER_COMMITTED), ==,
                        phase == SWITCHOVER_DEVICE ? SWITCHOVER_HANDED : before);
        g_assert_cmpint(next_there(phase, SWITCHOVER_TAKEN), ==,
                        handed ? SWITCHOVER_COMPLETED : phase);
        /* What the primary tells of it counts while the VM is its own, and never goes back. */
        g_assert_cmpint(next_there(phase, SWITCHOVER_HELD), ==, asked ? SWITCHOVER_PRE : phase);
        g_assert_cmpint(next_there(phase, SWITCHOVER_GOES), ==,
                        asked || phase == SWITCHOVER_PRE ? SWITCHOVER_DEVICE : phase);
        g_assert_cmpint(next_there(phase, SWITCHOVER_CANCELLED_THERE), ==,
                        handed      ? SWITCHOVER_HANDED_CANCELLING
                        : under_way ? SWITCHOVER_CANCELLED
                                    : phase);
    }
    /* It was left to the primary: by the order, or it failed. */
    g_assert_cmpint(next_there(SWITCHOVER_HANDED, SWITCHOVER_LEFT), ==, SWITCHOVER_FAILED);
    g_assert_cmpint(next_there(SWITCHOVER_HANDED_CANCELLING, SWITCHOVER_LEFT), ==,
                    SWITCHOVER_CANCELLED);
    g_assert_cmpint(next_there(SWITCHOVER_HANDED_CANCELLING, SWITCHOVER_GRANTED), ==,
                    SWITCHOVER_HANDED);

    g_assert_cmpint(switchover_fit(TRUE, FALSE), ==, FSM_VM_FIT);
    g_assert_cmpint(switchover_fit(TRUE, TRUE), ==, FSM_VM_UNFIT);
    g_assert_cmpint(switchover_fit(FALSE, FALSE), ==, FSM_VM_UNFIT);
}

/* ---- Parts and figures ---- */

static void test_parts(void)
{
    g_autofree char *none = switchover_parts_text(0);
    g_autofree char *two = switchover_parts_text(SWITCHOVER_PART_DISKS | SWITCHOVER_PART_ARBITER);
    g_autofree char *all = switchover_parts_text(SWITCHOVER_PARTS_ALL);
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(two, ==, "disks arbiter");
    g_assert_cmpstr(all, ==, "checkpoint disks vm uplink arbiter");
}

static void test_figures(void)
{
    SwitchoverLoad load = {.left_bytes = 1 << 20, .pause_us = 3000, .apply_us = 2000};
    g_assert_cmpint(switchover_expected_us(&load), ==, -1);
    load.bytes_per_s = 100 << 20;
    g_assert_cmpint(switchover_expected_us(&load), ==, 15000);
    g_assert_true(switchover_is_small(&load, 15) && !switchover_is_small(&load, 14));
    g_assert_true(switchover_may_shrink(&load, 14) && switchover_may_shrink(&load, 5));
    g_assert_false(switchover_may_shrink(&load, 4) || switchover_may_shrink(&load, 15));
    /* Of the last checkpoint's pages it is known how long they took. */
    load.last_us = 15001;
    g_assert_true(!switchover_is_small(&load, 15) && switchover_may_shrink(&load, 15));
    g_assert_true(switchover_is_small(&load, 0) && !switchover_may_shrink(&load, 0));
    load.bytes_per_s = 0;
    g_assert_true(switchover_is_small(&load, 0));
    g_assert_false(switchover_is_small(&load, 100));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/switchover-rules/walk", test_walk);
    g_test_add_func("/switchover-rules/commands", test_commands);
    g_test_add_func("/switchover-rules/limits", test_limits);
    g_test_add_func("/switchover-rules/secondary-walk", test_secondary_walk);
    g_test_add_func("/switchover-rules/secondary", test_secondary);
    g_test_add_func("/switchover-rules/parts", test_parts);
    g_test_add_func("/switchover-rules/figures", test_figures);
    return g_test_run();
}
