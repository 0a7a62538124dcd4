/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the guest is announced, on a clock of our own. Times in milliseconds. */
#include "colo/node/announce.h"

#include "tests/support/turned-clock.h"

#define ROUNDS 3

typedef struct {
    Config config;
    Announce *announce;
    AnnounceRight right;
    guint volleys, elsewhere;
} Fixture;

static AnnounceRight on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->right;
}

static void on_volley(gpointer user_data)
{
    Fixture *f = user_data;
    f->volleys++;
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(nic, ==, 1);
    f->elsewhere++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const AnnounceHandler handler = {
        .look = on_look, .volley = on_volley, .elsewhere = on_elsewhere};
    (void)data;
    f->config = (Config){.announce_rounds = ROUNDS,
                         .announce_initial_ms = 50,
                         .announce_step_ms = 100,
                         .announce_max_ms = 550};
    f->right = ANNOUNCE_ALLOWED;
    f->announce = announce_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    announce_free(f->announce);
}

/* At 0, 50 and 200. */
static void test_rounds(Fixture *f, gconstpointer data)
{
    (void)data;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->volleys, ==, 0);
    announce_start(f->announce);
    g_assert_cmpuint(f->volleys, ==, 1);
    turned_clock_pass_ms(49);
    g_assert_cmpuint(f->volleys, ==, 1);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->volleys, ==, 2);
    turned_clock_pass_ms(149);
    g_assert_cmpuint(f->volleys, ==, 2);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
    g_assert_false(announce_is_planned(f->announce));
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
}

/* A number that is changed is that of the next rounds; waits are as they are by then. */
static void test_live(Fixture *f, gconstpointer data)
{
    (void)data;
    announce_start(f->announce);
    f->config.announce_rounds = 1;
    f->config.announce_initial_ms = f->config.announce_step_ms = 10;
    turned_clock_pass_ms(50);
    g_assert_cmpuint(f->volleys, ==, 2);
    turned_clock_pass_ms(20);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
    announce_start(f->announce);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS + 1);
    f->config.announce_rounds = ROUNDS;
    announce_elsewhere(f->announce, 1);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->volleys, ==, ROUNDS + 2);
}

/* A round in which this node may not is left out, and the others come. */
static void test_may_not(Fixture *f, gconstpointer data)
{
    (void)data;
    announce_start(f->announce);
    f->right = ANNOUNCE_UNPROVEN;
    turned_clock_pass_ms(100);
    f->right = ANNOUNCE_ALLOWED;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS - 1);
    announce_start(f->announce);
    announce_end(f->announce);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
}

static void test_owed(Fixture *f, gconstpointer data)
{
    (void)data;
    f->right = ANNOUNCE_NOT;
    announce_when_possible(f->announce);
    turned_clock_pass_ms(1000);
    announce_if_owed(f->announce);
    f->right = ANNOUNCE_ALLOWED;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->volleys, ==, 0);
    announce_if_owed(f->announce);
    g_assert_cmpuint(f->volleys, ==, 1);
    announce_end(f->announce);
    announce_if_owed(f->announce);
    g_assert_cmpuint(f->volleys, ==, 1);
    /* One that needs a sign of the secondary has it before the rounds end. */
    f->right = ANNOUNCE_UNPROVEN;
    announce_when_possible(f->announce);
    f->right = ANNOUNCE_ALLOWED;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
}

/* Each frame of another host is told once in the rounds, which begin anew two seconds after the
 * last ones have begun. */
static void test_elsewhere(Fixture *f, gconstpointer data)
{
    (void)data;
    announce_start(f->announce);
    turned_clock_pass_ms(100);
    announce_elsewhere(f->announce, 1);
    announce_elsewhere(f->announce, 1);
    g_assert_cmpuint(f->elsewhere, ==, 1);
    turned_clock_pass_ms(1899);
    g_assert_cmpuint(f->volleys, ==, ROUNDS);
    g_assert_true(announce_is_repeated(f->announce));
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->volleys, ==, ROUNDS + 1);
    turned_clock_pass_ms(10000);
    g_assert_cmpuint(f->volleys, ==, 2 * ROUNDS);
    /* Long after: at once. */
    announce_elsewhere(f->announce, 1);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->volleys, ==, 2 * ROUNDS + 1);
}

/* The node whose VM's output leaves, and only it. */
static void test_right(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        gboolean alone = state == FSM_S_DEVICE || state == FSM_P_NONE || state == FSM_P_SETUP ||
                         state == FSM_P_ACTIVE;
        AnnounceRight stale = state == FSM_P_COLO ? ANNOUNCE_UNPROVEN : ANNOUNCE_NOT;
        AnnounceRight fresh = state == FSM_P_COLO ? ANNOUNCE_ALLOWED : ANNOUNCE_NOT;
        g_assert_cmpint(announce_right(state, FALSE), ==, alone ? ANNOUNCE_ALLOWED : stale);
        g_assert_cmpint(announce_right(state, TRUE), ==, alone ? ANNOUNCE_ALLOWED : fresh);
    }
}

static void test_waits(void)
{
    static const gint64 waits_ms[] = {50, 150, 250, 350, 450, 550, 550};
    Config config = {.announce_initial_ms = 50, .announce_step_ms = 100, .announce_max_ms = 550};
    for (guint i = 0; i < G_N_ELEMENTS(waits_ms); i++)
        g_assert_cmpint(announce_wait_us(&config, i + 1), ==, waits_ms[i] * 1000);
}

#define ADD(name, test) g_test_add("/announce/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/announce/right", test_right);
    g_test_add_func("/announce/waits", test_waits);
    ADD("rounds", test_rounds);
    ADD("live", test_live);
    ADD("may-not", test_may_not);
    ADD("owed", test_owed);
    ADD("elsewhere", test_elsewhere);
    return g_test_run();
}
