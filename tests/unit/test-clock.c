/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the guest's clock is set, with an agent but no guest, on a clock of our own. */
#include "colo/node/clock.h"

#include "common/clock.h"
#include "common/log.h"
#include "tests/support/fake-agent.h"
#include "tests/support/turned-clock.h"

#include <sys/socket.h>
#include <unistd.h>

#define STEP_MS 500

typedef struct {
    Config config;
    GuestClock *clock;
    GuestClockWorld world;
    int fds[2];
    FakeAgent *guest;
    guint told;
} Fixture;

static GuestClockWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static gboolean on_stays_running(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world.runs;
}

static void on_told(gpointer user_data)
{
    Fixture *f = user_data;
    f->told++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const GuestClockHandler handler = {
        .look = on_look, .stays_running = on_stays_running, .told = on_told};
    (void)data;
    f->config.time_step_ms = STEP_MS;
    f->world = (GuestClockWorld){.state = FSM_P_COLO, .phase = CYCLE_IDLE, .runs = TRUE};
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds);
    g_assert_cmpint(failed, ==, 0);
    f->guest = fake_agent_new(f->fds[1]);
    f->clock = clock_new(&f->config, &handler, f);
    clock_attach(f->clock, f->fds[0]);
    turned_clock_pass_ms(20000); /* nothing of an earlier test */
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    clock_free(f->clock);
    fake_agent_free(f->guest);
    close(f->fds[0]);
    close(f->fds[1]);
}

/* The guest is paused for so long, and then runs. */
static void pause_for(Fixture *f, gint64 ms)
{
    f->world.behind_us += ms * COLO_US_PER_MS;
    clock_look(f->clock);
    turned_clock_pass_ms(1);
}

static void test_set(Fixture *f, gconstpointer data)
{
    (void)data;
    pause_for(f, STEP_MS - 1);
    g_assert_cmpuint(f->guest->syncs, ==, 0);
    gint64 before_us = turned_clock_us;
    pause_for(f, 1);
    g_assert_cmpuint(f->guest->set_times, ==, 1);
    g_assert_cmpint(f->guest->time_ns, >=, before_us * 1000);
    g_assert_cmpint(f->guest->time_ns, <=, turned_clock_us * 1000);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
    g_assert_cmpuint(f->told, ==, 1);
    /* Due again, but not within a second. */
    pause_for(f, STEP_MS);
    turned_clock_pass_ms(900);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
    turned_clock_pass_ms(100);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 2);
    turned_clock_pass_ms(60000);
    g_assert_cmpuint(f->guest->set_times, ==, 2);
}

/* After a takeover nobody knows what a dead host has told it. */
static void test_taken_over(Fixture *f, gconstpointer data)
{
    (void)data;
    clock_taken_over(f->clock);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
    clock_look(f->clock);
    turned_clock_pass_ms(60000);
    g_assert_cmpuint(f->guest->set_times, ==, 1);
}

/* Whoever may not be told yet is told when it may. */
static void test_not_now(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.phase = CYCLE_SETTLING;
    g_assert_false(cycle_is_between_pauses(f->world.phase));
    pause_for(f, STEP_MS);
    turned_clock_pass_ms(60000);
    g_assert_cmpuint(f->guest->syncs, ==, 0);
    f->world.phase = CYCLE_IDLE;
    clock_look(f->clock);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
}

/* An agent that took long may have set a time that was over: it is told another one. */
static void test_late_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    f->guest->mood = FAKE_AGENT_SLOW;
    pause_for(f, STEP_MS);
    g_assert_cmpuint(f->guest->set_times, ==, 1);
    turned_clock_pass_ms(2000);
    f->guest->mood = FAKE_AGENT_WELL;
    fake_agent_send(f->guest, "{\"return\": {}}\n", 15);
    turned_clock_pass_ms(1);
    g_assert_true(clock_has_failed(f->clock));
    g_assert_cmpuint(clock_corrections(f->clock), ==, 0);
    g_assert_cmpuint(f->told, ==, 1); /* the VMs differ by it all the same */
    turned_clock_pass_ms(9900);
    g_assert_cmpuint(f->guest->set_times, ==, 1);
    turned_clock_pass_ms(200);
    g_assert_cmpuint(f->guest->set_times, ==, 2);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
}

/* What another VM was told counts for this one no more. */
static void test_forgotten(Fixture *f, gconstpointer data)
{
    (void)data;
    pause_for(f, STEP_MS);
    clock_forget(f->clock);
    g_assert_false(clock_has_agent(f->clock));
    g_assert_cmpuint(clock_corrections(f->clock), ==, 0);
    f->world.behind_us = 0;
    clock_attach(f->clock, f->fds[0]);
    pause_for(f, STEP_MS);
    g_assert_cmpuint(clock_corrections(f->clock), ==, 1);
}

static void test_due(void)
{
    g_assert_false(clock_is_due(FALSE, 499 * COLO_US_PER_MS, 500));
    g_assert_true(clock_is_due(FALSE, 500 * COLO_US_PER_MS, 500));
    g_assert_false(clock_is_due(FALSE, 500 * COLO_US_PER_MS, 0));
    g_assert_true(clock_is_due(TRUE, 0, 500));
    g_assert_false(clock_is_due(TRUE, 500 * COLO_US_PER_MS, 0));
}

static void test_may(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (CyclePhase phase = 0; phase < CYCLE_PHASES; phase++) {
            gboolean is_released = state == FSM_P_NONE || state == FSM_P_SETUP ||
                                   state == FSM_P_ACTIVE || state == FSM_P_COLO;
            gboolean no_pause = cycle_is_between_pauses(phase);
            g_assert_cmpint(clock_may_be_set(state, phase, TRUE), ==, is_released && no_pause);
            g_assert_false(clock_may_be_set(state, phase, FALSE));
        }
}

#define ADD(name, test) g_test_add("/clock/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    g_test_add_func("/clock/due", test_due);
    g_test_add_func("/clock/may", test_may);
    ADD("set", test_set);
    ADD("taken-over", test_taken_over);
    ADD("not-now", test_not_now);
    ADD("late-answer", test_late_answer);
    ADD("forgotten", test_forgotten);
    return g_test_run();
}
