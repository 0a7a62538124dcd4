/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can happen to a link: every event in every state. */
#include "colo/link/link_internal.h"

/* In the order of LinkEvent: accept, dial, end, paired, lost; '.': no sense. */
static const char *const steps[LINK_STATES] = {
    [LINK_IDLE] = "ADI..",
    [LINK_ACCEPTING] = "ADIU.",
    [LINK_DIALLING] = "ADIU.",
    [LINK_UP] = "ADI.I",
};

static void test_steps(void)
{
    for (guint state = 0; state < LINK_STATES; state++)
        for (guint event = 0; event < LINK_EVENTS; event++) {
            LinkState next = LINK_STATES;
            gboolean can = link_state_step(state, event, &next);
            g_assert_cmpint(can ? "IADU"[next] : '.', ==, steps[state][event]);
            g_assert_true(can || next == LINK_STATES);
        }
}

/* The service is obeyed whatever was before, and no order leads up: a peer has to be there. */
static void test_orders(void)
{
    static const LinkState obeyed[] = {[LINK_EVENT_ACCEPT] = LINK_ACCEPTING,
                                       [LINK_EVENT_DIAL] = LINK_DIALLING,
                                       [LINK_EVENT_END] = LINK_IDLE};
    for (guint order = 0; order < G_N_ELEMENTS(obeyed); order++)
        for (guint state = 0; state < LINK_STATES; state++) {
            LinkState next = LINK_STATES;
            g_assert_true(link_state_step(state, order, &next));
            g_assert_cmpint(next, ==, obeyed[order]);
        }
}

/* down() comes once for each up(): what can be lost is up, and what is lost isn't. */
static void test_lost_once(void)
{
    for (guint state = 0; state < LINK_STATES; state++) {
        LinkState next = state;
        g_assert_true(link_state_step(state, LINK_EVENT_LOST, &next) == (state == LINK_UP));
        g_assert_cmpint(next, !=, LINK_UP);
        g_assert_false(link_state_step(next, LINK_EVENT_LOST, &next));
    }
}

static void test_names(void)
{
    for (guint state = 0; state < LINK_STATES; state++)
        g_assert_nonnull(link_state_name(state));
    for (guint event = 0; event < LINK_EVENTS; event++)
        g_assert_nonnull(link_event_name(event));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link-state/steps", test_steps);
    g_test_add_func("/link-state/orders", test_orders);
    g_test_add_func("/link-state/lost-once", test_lost_once);
    g_test_add_func("/link-state/names", test_names);
    return g_test_run();
}
