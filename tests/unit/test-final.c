/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ordered end on either side, on a clock of our own. */
#include "colo/node/final.h"

#include "colo/node/node.h"
#include "common/log.h"
#include "tests/support/turned-clock.h"

typedef struct {
    Final *final;
    FinalWorld world;
    guint shut_down, paused, troubles, failed;
    guint64 marked, announced, finishing, finished; /* epochs; 0: not yet */
} Fixture;

static FinalWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static void on_event(FsmEvent event, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(event, ==, FSM_SHUTDOWN);
    f->shut_down++;
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(what && error);
    f->troubles++;
}

static void on_pause(gpointer user_data)
{
    Fixture *f = user_data;
    f->paused++;
}

static void on_mark(guint64 epoch, gpointer user_data)
{
    Fixture *f = user_data;
    f->marked = epoch;
}

static void on_announce(guint64 epoch, gpointer user_data)
{
    Fixture *f = user_data;
    f->announced = f->world.epoch = epoch;
}

static void on_finish(guint64 epoch, gpointer user_data)
{
    Fixture *f = user_data;
    f->finishing = epoch;
}

static void on_finished(guint64 epoch, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    if (error)
        f->failed++;
    else
        f->finished = epoch;
}

static void set_up(Fixture *f, gconstpointer state)
{
    static const FinalHandler handler = {.look = on_look,
                                         .event = on_event,
                                         .trouble = on_trouble,
                                         .pause = on_pause,
                                         .mark = on_mark,
                                         .announce = on_announce,
                                         .finish = on_finish,
                                         .finished = on_finished};
    f->world =
        (FinalWorld){.state = (FsmState)GPOINTER_TO_INT(state), .has_disks = TRUE, .epoch = 7};
    f->final = final_new(&handler, f);
}

static void tear_down(Fixture *f, gconstpointer state)
{
    (void)state;
    final_free(f->final);
}

/* ---- Primary ---- */

static void begin(Fixture *f)
{
    final_begin(f->final);
    g_assert_cmpuint(f->paused, ==, 1);
    final_paused(f->final);
    g_assert_cmpuint(f->marked, ==, 8);
}

static void test_in_step(Fixture *f, gconstpointer state)
{
    g_autoptr(GError) error = NULL;
    (void)state;
    begin(f);
    final_mark_made(f->final, 8, NULL);
    g_assert_cmpuint(f->announced, ==, 8);
    g_assert_false(final_is_in_step(f->final));
    g_assert_cmpuint(f->shut_down, ==, 0);
    /* Of another mark: it says nothing about this one. */
    g_assert_false(final_finished(f->final, 7, &error));
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    g_assert_false(final_is_in_step(f->final));
    g_assert_true(final_finished(f->final, 8, NULL));
    g_assert_true(final_is_in_step(f->final));
    g_assert_cmpuint(f->shut_down, ==, 1);
}

/* Whatever happens, it ends, and does not say that the other's disks have everything. */
static void test_alone(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, "a trial");
    begin(f);
    turned_clock_pass_ms(9000);
    g_assert_cmpuint(f->shut_down, ==, 0);
    turned_clock_pass_ms(2000);
    g_assert_cmpuint(f->shut_down, ==, 1);
    final_mark_made(f->final, 8, error);
    g_assert_cmpuint(f->troubles, ==, 1);
    g_assert_cmpuint(f->announced, ==, 0);
    g_assert_cmpuint(f->shut_down, ==, 2);
    /* Ordered once more. */
    final_begin(f->final);
    g_assert_cmpuint(f->shut_down, ==, 3);
    g_assert_cmpuint(f->paused, ==, 1);
    g_assert_false(final_is_in_step(f->final));
}

/* Without a protected VM that has disks there is no last mark. */
static void test_at_once(Fixture *f, gconstpointer unused)
{
    (void)unused;
    for (FsmState state = 0; state < FSM_STATES; state++) {
        f->world = (FinalWorld){.state = state, .has_disks = state != FSM_P_COLO};
        f->shut_down = 0;
        final_begin(f->final);
        g_assert_cmpuint(f->shut_down, ==, 1);
        g_assert_cmpuint(f->paused, ==, 0);
        g_assert_false(final_has_begun(f->final));
    }
}

/* ---- Secondary ---- */

/* In whichever order the mark and its announcement come. */
static void test_durable(Fixture *f, gconstpointer state)
{
    (void)state;
    final_marked(f->final, 7);
    g_assert_true(final_received(f->final, 8, NULL));
    g_assert_cmpuint(f->finishing, ==, 0);
    final_marked(f->final, 8);
    g_assert_cmpuint(f->finishing, ==, 8);
    g_assert_cmpuint(f->finished, ==, 0);
    final_durable(f->final, NULL);
    g_assert_cmpuint(f->finished, ==, 8);
    /* Twice in a session makes no sense; in another it does. */
    g_assert_false(final_received(f->final, 9, NULL));
    final_session_over(f->final);
    g_assert_false(final_has_begun(f->final));
    final_marked(f->final, 9);
    g_assert_true(final_received(f->final, 9, NULL));
    g_assert_cmpuint(f->finishing, ==, 9);
}

/* No number of the peer's is that of a mark which has not come. */
static void test_no_mark(Fixture *f, gconstpointer state)
{
    (void)state;
    f->finishing = G_MAXUINT64;
    g_assert_true(final_received(f->final, 0, NULL));
    g_assert_cmpuint(f->finishing, ==, G_MAXUINT64);
    final_marked(f->final, 0);
    g_assert_cmpuint(f->finishing, ==, 0);
}

/* An answer of the disks that comes after its session is nobody's. */
static void test_durable_late(Fixture *f, gconstpointer state)
{
    (void)state;
    final_marked(f->final, 8);
    g_assert_true(final_received(f->final, 8, NULL));
    final_session_over(f->final);
    f->finished = G_MAXUINT64;
    final_durable(f->final, NULL);
    g_assert_cmpuint(f->finished, ==, G_MAXUINT64);
}

static void test_not_durable(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, "a trial");
    g_assert_true(final_received(f->final, 8, NULL));
    final_marked(f->final, 8);
    final_durable(f->final, error);
    g_assert_cmpuint(f->troubles, ==, 1);
    g_assert_cmpuint(f->failed, ==, 1);
    g_assert_cmpuint(f->finished, ==, 0);
}

/* It has become something else meanwhile. */
static void test_too_late(Fixture *f, gconstpointer state)
{
    (void)state;
    g_assert_true(final_received(f->final, 8, NULL));
    f->world.state = FSM_S_PAUSED;
    final_marked(f->final, 8);
    g_assert_cmpuint(f->finishing, ==, 0);
    final_durable(f->final, NULL);
    g_assert_cmpuint(f->finished, ==, 0);
}

#define ADD(name, state, test)                                                                     \
    g_test_add("/final/" name, Fixture, GINT_TO_POINTER(state), set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("in-step", FSM_P_COLO, test_in_step);
    ADD("alone", FSM_P_COLO, test_alone);
    ADD("at-once", FSM_P_COLO, test_at_once);
    ADD("durable", FSM_S_COLO, test_durable);
    ADD("durable-late", FSM_S_COLO, test_durable_late);
    ADD("no-mark", FSM_S_COLO, test_no_mark);
    ADD("not-durable", FSM_S_COLO, test_not_durable);
    ADD("too-late", FSM_S_COLO, test_too_late);
    return g_test_run();
}
