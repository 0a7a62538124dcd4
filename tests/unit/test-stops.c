/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why a guest is stopped, and who may have it run again: all sets of reasons, all states. */
#include "colo/node/stops.h"

#define ALL_STOPS (1u << STOP_REASONS)

/* As docs/CONTROL.md has it. */
static void test_may_run(void)
{
    for (Stops stops = 0; stops < ALL_STOPS; stops++) {
        gboolean admin = (stops & STOPS(ADMIN)) != 0, io = (stops & STOPS(IO_ERROR)) != 0;
        g_assert_cmpint(stops_may_run(stops, STOP_END_OF_PAUSE), ==, !admin && !io);
        g_assert_cmpint(stops_may_run(stops, STOP_IO_RETRY), ==, !admin);
        g_assert_true(stops_may_run(stops, STOP_CONT));
        g_assert_cmpint(stops_are_carried(stops), ==, admin);
    }
}

/* One reason more never lets a guest run. */
static void test_monotonic(void)
{
    for (Stops stops = 0; stops < ALL_STOPS; stops++)
        for (guint more = 0; more < STOP_REASONS; more++)
            for (StopEnder ender = 0; ender < STOP_ENDERS; ender++)
                if (!stops_may_run(stops, ender))
                    g_assert_false(stops_may_run(stops | 1u << more, ender));
}

static void test_names(void)
{
    g_assert_null(stops_name(0));
    for (Stops stops = 1; stops < ALL_STOPS; stops++) {
        const char *name = stops_name(stops);
        if (stops & STOPS(ADMIN))
            g_assert_cmpstr(name, ==, "admin");
        else if (stops & STOPS(IO_ERROR))
            g_assert_cmpstr(name, ==, "io-error");
        else
            g_assert_nonnull(name);
    }
    g_assert_cmpint(stops_of_qemu("io-error"), ==, STOP_IO_ERROR);
    g_assert_cmpint(stops_of_qemu("guest-panicked"), ==, STOP_PANIC);
    g_assert_cmpint(stops_of_qemu("watchdog"), ==, STOP_WATCHDOG);
    g_assert_cmpint(stops_of_qemu("internal-error"), ==, STOP_INTERNAL_ERROR);
    g_assert_cmpint(stops_of_qemu("admin"), ==, STOP_OTHER);
    g_assert_cmpint(stops_of_qemu("shutdown"), ==, STOP_OTHER);
}

/* The command is possible where the VM is, and nobody else is about to have it. */
static void test_command(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_autofree char *way_out = stops_way_out(state, FALSE, "beta");
        g_autofree char *at_the_end = stops_way_out(state, TRUE, "beta");
        gboolean has_it = fsm_is_primary(state) && state != FSM_P_ASKING &&
                          state != FSM_P_STARTING && state != FSM_P_PRE_SWITCHOVER &&
                          state != FSM_P_DEVICE && state != FSM_P_HANDED && state != FSM_P_FROZEN;
        g_assert_cmpint(way_out == NULL, ==, has_it);
        g_assert_nonnull(at_the_end);
        gboolean is_the_peers = state == FSM_P_FROZEN || state == FSM_S_COLO ||
                                state == FSM_S_ACTIVE || state == FSM_S_HANDED ||
                                state == FSM_S_GIVING || state == FSM_S_LEAVING ||
                                state == FSM_P_PRE_SWITCHOVER;
        if (is_the_peers)
            g_assert_nonnull(g_strstr_len(way_out, -1, "beta"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stops/may-run", test_may_run);
    g_test_add_func("/stops/monotonic", test_monotonic);
    g_test_add_func("/stops/names", test_names);
    g_test_add_func("/stops/command", test_command);
    return g_test_run();
}
