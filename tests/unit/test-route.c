/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of the guest's frames: every step of the table, and what must hold along every path that
 * a node can take through it.
 */
#include "colo/node/route.h"

/* ---- The table ---- */

/* A character for each event, in the order of RouteEvent: where it leads, '.' for nowhere. */
static const char *const steps[ROUTES] = {
    [ROUTE_DROP] = "DO...DTD.",    /* */
    [ROUTE_TO_PEER] = "D......DO", /* */
    [ROUTE_HOLD] = "DOHHCH...",    /* */
    [ROUTE_COMPARE] = "D.CHCH...", /* */
    [ROUTE_OPEN] = "DOH..O.O.",
};

static char letter(Route route)
{
    return "DTHCO"[route];
}

static void test_steps(void)
{
    for (guint route = 0; route < ROUTES; route++)
        for (guint event = 0; event < ROUTE_EVENTS; event++) {
            Route next = ROUTES;
            gboolean can = route_step(route, event, &next);
            char found = can ? letter(next) : '.';
            if (found != steps[route][event])
                g_error("%s on %s: %c", route_event_name(event), route_name(route), found);
            g_assert_true(can || next == ROUTES);
        }
}

/* ---- What a node does ---- */

/* A node as far as the route depends on it. */
typedef struct {
    FsmState state;
    Route route;
} Walk;

/* The route's events that an action of the node's leads to, in the order of FsmAction. */
static const struct {
    FsmAction action;
    RouteEvent event;
} of_action[] = {
    {FSM_DO_KILL_VM,        ROUTE_VM_GONE     },
    {FSM_DO_END_CAPTURE,    ROUTE_SESSION_ENDS},
    {FSM_DO_DROP_APPLY,     ROUTE_COPY_ENDS   },
    {FSM_DO_BECOME_REPLICA, ROUTE_VM_GONE     },
    {FSM_DO_OPEN_GATE,      ROUTE_ALONE       },
};

#define WALKS_MAX 256u

typedef struct {
    Walk seen[WALKS_MAX];
    guint count, done;
} Walks;

static void visit(Walks *walks, Walk walk)
{
    if (!route_fits(walk.route, walk.state))
        g_error("%s in state %s", route_name(walk.route), fsm_state_name(walk.state));
    for (guint i = 0; i < walks->count; i++)
        if (walks->seen[i].state == walk.state && walks->seen[i].route == walk.route)
            return;
    g_assert_cmpuint(walks->count, <, WALKS_MAX);
    walks->seen[walks->count++] = walk;
}

static Walk move(Walk walk, RouteEvent event)
{
    Route next = walk.route;
    if (!route_step(walk.route, event, &next))
        g_error("%s on %s in state %s", route_event_name(event), route_name(walk.route),
                fsm_state_name(walk.state));
    walk.route = next;
    return walk;
}

/* Whether the node may feed the event on this route. */
static gboolean can_happen(Walk walk, FsmEvent event)
{
    switch (event) {
    case FSM_PROVEN: /* after a checkpoint */
        return walk.route == ROUTE_HOLD;
    case FSM_PROTECT:
        return walk.route == ROUTE_TO_PEER;
    case FSM_TAKEN_OVER: /* after the VM was resumed */
        return walk.route == ROUTE_OPEN;
    default:
        return TRUE;
    }
}

static void visit_events(Walks *walks, Walk walk)
{
    for (guint event = 0; event < FSM_EVENTS; event++) {
        FsmStep step = fsm_step(walk.state, event);
        if (step.verdict != FSM_MOVE || !can_happen(walk, event))
            continue;
        Walk next = {.state = step.next, .route = walk.route};
        for (guint i = 0; i < G_N_ELEMENTS(of_action); i++)
            if (step.actions & of_action[i].action)
                next = move(next, of_action[i].event);
        visit(walks, next);
    }
}

/* What happens within a state: checkpoints, of a primary with a session; a copy's session; and the
 * end of a takeover. */
static void visit_work(Walks *walks, Walk walk)
{
    if (walk.state == FSM_P_ACTIVE || walk.state == FSM_P_COLO || walk.state == FSM_P_DEVICE) {
        Walk paused = move(walk, ROUTE_PAUSED);
        visit(walks, paused);
        visit(walks, move(paused, ROUTE_EPOCH_HOLDS));
        if (walk.state != FSM_P_ACTIVE)
            visit(walks, move(paused, ROUTE_EPOCH_COMPARES));
    }
    if (walk.state == FSM_S_ACTIVE && walk.route == ROUTE_DROP)
        visit(walks, move(walk, ROUTE_COPY_BEGINS));
    if (fsm_is_taking_over(walk.state) && walk.route == ROUTE_TO_PEER)
        visit(walks, move(walk, ROUTE_TAKES_OVER));
}

/* From each start, by all events and in all orders: no step is missing, and each route fits. */
static void test_walk(void)
{
    g_autofree Walks *walks = g_new0(Walks, 1);
    visit(walks, (Walk){.state = FSM_P_ASKING});
    visit(walks, (Walk){.state = FSM_S_STARTING});
    while (walks->done < walks->count) {
        Walk walk = walks->seen[walks->done++];
        visit_events(walks, walk);
        visit_work(walks, walk);
    }
    /* All that route_fits() lets be can be. */
    guint fitting = 0;
    for (guint route = 0; route < ROUTES; route++)
        for (guint state = 0; state < FSM_STATES; state++)
            fitting += route_fits(route, state);
    g_assert_cmpuint(walks->count, ==, fitting);
}

/* ---- What a state lets leave ---- */

static void test_exit(void)
{
    for (guint state = 0; state < FSM_STATES; state++) {
        RouteExit exit = route_exit(state, FALSE);
        g_assert_cmpint(route_exit(state, TRUE), ==,
                        state == FSM_S_DEVICE ? ROUTE_EXIT_CLOSED : exit);
        /* Whose output can go out is checked, as long as another may have taken over. */
        if (fsm_is_contested(state))
            g_assert_cmpint(exit, !=, ROUTE_EXIT_OPEN);
        if (fsm_is_primary(state) && route_fits(ROUTE_OPEN, state))
            g_assert_cmpint(exit, ==, ROUTE_EXIT_OPEN);
        /* But not of a VM that is the other side's to take. */
        if (route_fits(ROUTE_COMPARE, state))
            g_assert_cmpint(exit, ==, state == FSM_P_HANDED ? ROUTE_EXIT_CLOSED : ROUTE_EXIT_FRESH);
        if (!fsm_is_primary(state) && state != FSM_S_DEVICE)
            g_assert_cmpint(exit, ==, ROUTE_EXIT_CLOSED);
    }
    g_assert_cmpint(route_exit(FSM_S_DEVICE, FALSE), ==, ROUTE_EXIT_OPEN);
    g_assert_cmpint(route_exit(FSM_P_PAUSED, FALSE), ==, ROUTE_EXIT_CLOSED);
    g_assert_cmpint(route_exit(FSM_P_RECOVER, FALSE), ==, ROUTE_EXIT_CLOSED);
    g_assert_cmpint(route_exit(FSM_P_FROZEN, FALSE), ==, ROUTE_EXIT_CLOSED);
}

/* ---- Input ---- */

static gboolean is_mirrored(InputRoute input)
{
    return input == INPUT_MIRROR || input == INPUT_DEFER_MIRRORED;
}

static void check_input(FsmState state, Route output, gboolean pausing, gboolean has_session)
{
    InputRoute input = route_input(state, output, pausing, has_session);
    /* A copy is given what was mirrored, and never what has come here before it is the VM. */
    if (!fsm_is_primary(state)) {
        g_assert_cmpint(input, ==, fsm_is_taking_over(state) ? INPUT_QUEUE : INPUT_DROP);
        return;
    }
    g_assert_cmpint(input, !=, INPUT_DROP);
    g_assert_cmpint(input, !=, INPUT_QUEUE);
    /* Nothing is given between two epochs. */
    g_assert_true(pausing == (input == INPUT_DEFER || input == INPUT_DEFER_MIRRORED));
    /* What a guarded guest is given, its copy gets. */
    if (!pausing)
        g_assert_true((has_session && route_is_guarded(output)) == is_mirrored(input));
    else
        g_assert_true((state == FSM_P_HANDED) == is_mirrored(input));
}

static void test_input(void)
{
    for (guint i = 0; i < FSM_STATES * ROUTES * 4; i++)
        check_input(i / 4 % FSM_STATES, i / 4 / FSM_STATES, i & 1, i >> 1 & 1);
}

/* ---- Names ---- */

static void test_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint route = 0; route < ROUTES; route++) {
        g_assert_true(g_hash_table_add(names, (gpointer)route_name(route)));
        g_assert_true(route_is_to_clients(route) ==
                      (route != ROUTE_DROP && route != ROUTE_TO_PEER));
    }
    g_hash_table_remove_all(names);
    for (guint event = 0; event < ROUTE_EVENTS; event++)
        g_assert_true(g_hash_table_add(names, (gpointer)route_event_name(event)));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/route/steps", test_steps);
    g_test_add_func("/route/walk", test_walk);
    g_test_add_func("/route/exit", test_exit);
    g_test_add_func("/route/input", test_input);
    g_test_add_func("/route/names", test_names);
    return g_test_run();
}
