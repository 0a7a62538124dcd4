/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM that has moved is kept step by step, or not at all. */
#include "colo/node/replica.h"

#include "common/log.h"
#include "tests/support/turned-clock.h"

typedef struct {
    Replica *replica;
    ReplicaFacts facts;
    gboolean without_disks; /* they are switched at once */
    guint forgotten, checks, switches, kept, started_over;
} Fixture;

static ReplicaFacts on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->facts;
}

static void on_forget(gpointer user_data)
{
    ((Fixture *)user_data)->forgotten++;
}

static void on_check(gpointer user_data)
{
    ((Fixture *)user_data)->checks++;
}

static void on_switch(gpointer user_data)
{
    Fixture *f = user_data;
    f->switches++;
    if (f->without_disks)
        replica_switched(f->replica, NULL);
}

static void on_kept(gpointer user_data)
{
    ((Fixture *)user_data)->kept++;
}

static void on_start_over(gpointer user_data)
{
    Fixture *f = user_data;
    f->started_over++;
    replica_forget(f->replica); /* the VM is ended */
}

static const ReplicaFacts good = {.is_paused = TRUE, .has_disks = TRUE};

static void set_up(Fixture *f, gconstpointer data)
{
    static const ReplicaHandler handler = {.look = on_look,
                                           .forget = on_forget,
                                           .check = on_check,
                                           .switch_disks = on_switch,
                                           .kept = on_kept,
                                           .start_over = on_start_over};
    (void)data;
    f->facts = good;
    f->replica = replica_new(&handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    replica_free(f->replica);
}

static GError *some_error(void)
{
    return g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "it hangs");
}

static void assert_started_over(const Fixture *f, guint kept)
{
    g_assert_cmpuint(f->started_over, ==, 0); /* not from within */
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->started_over, ==, 1);
    g_assert_cmpuint(f->kept, ==, kept);
    g_assert_cmpint(replica_phase(f->replica), ==, REPLICA_NOTHING);
}

/* Each fact alone is an obstacle, with a reason of its own; there is no other. */
static void test_obstacles(Fixture *f, gconstpointer data)
{
    (void)f, (void)data;
    g_assert_null(replica_obstacle(&good));
    ReplicaFacts bad[] = {good, good, good, good, good, good, good, good};
    bad[0].is_paused = FALSE;
    bad[1].is_ending = TRUE;
    bad[2].is_grown = TRUE;
    bad[3].has_disks = FALSE;
    bad[4].is_unsynced = TRUE;
    bad[5].is_cached = TRUE;
    bad[6].is_unread = TRUE;
    bad[7].has_input = TRUE;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_nonnull(replica_obstacle(&bad[i]));
        for (gsize k = 0; k < i; k++)
            g_assert_cmpstr(replica_obstacle(&bad[i]), !=, replica_obstacle(&bad[k]));
    }
}

static void test_phases(Fixture *f, gconstpointer data)
{
    (void)f, (void)data;
    for (ReplicaPhase from = 0; from < REPLICA_PHASES; from++) {
        g_assert_nonnull(replica_phase_name(from));
        g_assert_true(replica_may(from, REPLICA_NOTHING));
        g_assert_cmpint(replica_may(from, REPLICA_CHECKING), ==, from == REPLICA_NOTHING);
        g_assert_cmpint(replica_may(from, REPLICA_SWITCHING), ==, from == REPLICA_CHECKING);
        g_assert_cmpint(replica_may(from, REPLICA_KEPT), ==, from == REPLICA_SWITCHING);
        g_assert_cmpint(replica_may(from, REPLICA_FAILED), ==,
                        from == REPLICA_CHECKING || from == REPLICA_SWITCHING ||
                            from == REPLICA_KEPT);
    }
}

static void test_kept(Fixture *f, gconstpointer data)
{
    (void)data;
    replica_begin(f->replica);
    g_assert_cmpuint(f->forgotten, ==, 1);
    g_assert_cmpuint(f->checks, ==, 1);
    g_assert_cmpuint(f->switches, ==, 0);
    replica_checked(f->replica, NULL);
    g_assert_cmpuint(f->switches, ==, 1);
    g_assert_cmpuint(f->kept, ==, 0);
    replica_switched(f->replica, NULL);
    g_assert_cmpuint(f->kept, ==, 1);
    g_assert_cmpint(replica_phase(f->replica), ==, REPLICA_KEPT);
    replica_proven(f->replica);
    g_assert_cmpint(replica_phase(f->replica), ==, REPLICA_NOTHING);
    /* And again. */
    f->without_disks = TRUE;
    replica_begin(f->replica);
    replica_checked(f->replica, NULL);
    g_assert_cmpuint(f->kept, ==, 2);
    g_assert_cmpuint(f->started_over, ==, 0);
}

/* At once, and nothing of the VM is touched. */
static void test_obstacle(Fixture *f, gconstpointer data)
{
    (void)data;
    f->facts.is_grown = TRUE;
    replica_begin(f->replica);
    g_assert_cmpuint(f->started_over, ==, 1);
    g_assert_cmpuint(f->forgotten + f->checks, ==, 0);
    g_assert_cmpint(replica_phase(f->replica), ==, REPLICA_NOTHING);
}

static void test_not_checked(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = some_error();
    (void)data;
    replica_begin(f->replica);
    replica_checked(f->replica, error);
    assert_started_over(f, 0);
    g_assert_cmpuint(f->switches, ==, 0);
}

static void test_not_switched(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = some_error();
    (void)data;
    replica_begin(f->replica);
    replica_checked(f->replica, NULL);
    replica_switched(f->replica, error);
    assert_started_over(f, 0);
}

/* The VM is lost in each phase: it is started over once, and what is answered late means nothing. */
static void test_lost(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = some_error();
    (void)data;
    g_assert_false(replica_lost(f->replica, "lost", error));
    for (guint steps = 0; steps < 2; steps++) {
        f->started_over = 0;
        replica_begin(f->replica);
        if (steps > 0)
            replica_checked(f->replica, NULL);
        g_assert_true(replica_lost(f->replica, "lost", error));
        g_assert_true(replica_lost(f->replica, "lost again", error));
        replica_checked(f->replica, error);
        replica_switched(f->replica, NULL);
        assert_started_over(f, 0);
        g_assert_false(replica_lost(f->replica, "lost", error));
    }
}

/* What was kept turns out not to be fit for a copy; one that is proven ends as any copy. */
static void test_unfit(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = some_error();
    (void)data;
    for (guint i = 0; i < 2; i++) {
        replica_begin(f->replica);
        replica_checked(f->replica, NULL);
        replica_switched(f->replica, NULL);
        if (i == 1)
            replica_proven(f->replica);
        g_assert_cmpint(replica_lost(f->replica, "lost", error), ==, i == 0);
        turned_clock_pass_ms(0);
        g_assert_cmpuint(f->started_over, ==, 1);
        replica_proven(f->replica);
        g_assert_cmpint(replica_phase(f->replica), ==, REPLICA_NOTHING);
    }
}

/* The node ends meanwhile. */
static void test_forgotten(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = some_error();
    (void)data;
    replica_begin(f->replica);
    replica_checked(f->replica, error);
    replica_forget(f->replica);
    turned_clock_pass_ms(0);
    replica_begin(f->replica);
    replica_forget(f->replica);
    replica_checked(f->replica, NULL);
    replica_begin(f->replica);
    replica_checked(f->replica, error);
    g_clear_pointer(&f->replica, replica_free);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->started_over + f->kept + f->switches, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
#define ADD(name, test) g_test_add("/replica/" name, Fixture, NULL, set_up, test, tear_down)
    ADD("obstacles", test_obstacles);
    ADD("phases", test_phases);
    ADD("kept", test_kept);
    ADD("obstacle", test_obstacle);
    ADD("not-checked", test_not_checked);
    ADD("not-switched", test_not_switched);
    ADD("lost", test_lost);
    ADD("unfit", test_unfit);
    ADD("forgotten", test_forgotten);
    return g_test_run();
}
