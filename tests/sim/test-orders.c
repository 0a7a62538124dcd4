/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every order of starts, ends and deaths of two hosts, on the real disk engine and the real
 * arbiter. What a client was told to be on disk is there whenever the VM runs, on whichever host.
 * The VM can be started as long as the newest disks exist.
 *
 * The test runs all stories up to a length (ORDERS_LENGTH; with DEEP=yes longer ones), and random
 * ones that are longer still. ORDERS_SEED=N runs one of those again, ORDERS_RUNS=N more of them.
 */
#include <glib.h>

#include "tests/support/order-hosts.h"

#define RANDOM_LENGTH 30u

/* ---- Steps: TRUE if it could be done ---- */

static gboolean do_start_a(OrderWorld *w)
{
    return order_start(w, &w->host[0], FALSE);
}

static gboolean do_start_b(OrderWorld *w)
{
    return order_start(w, &w->host[1], FALSE);
}

/* Ordered on the wrong side, as soon as one is the wrong one. */
static gboolean do_choose_a(OrderWorld *w)
{
    return order_start(w, &w->host[0], TRUE);
}

static gboolean do_choose_b(OrderWorld *w)
{
    return order_start(w, &w->host[1], TRUE);
}

/* In `colo` mode the copy has sent the same: the client is told though no checkpoint has it. */
static gboolean do_write(OrderWorld *w)
{
    OrderHost *host = order_running(w);
    if (!host || w->told + 1 >= ORDER_RECORDS_MAX)
        return FALSE;
    order_put(host, w->told, w->told);
    if (order_other(w, host)->state == ORDER_HOLDS)
        order_put(order_other(w, host), w->told, w->told);
    w->told++;
    return TRUE;
}

static gboolean do_join(OrderWorld *w)
{
    OrderHost *a = order_running(w), *b = a ? order_other(w, a) : NULL;
    if (!a || b->state != ORDER_WAITS)
        return FALSE;
    order_synchronise(w, a, b);
    order_checkpoint(w, a, b);
    b->state = ORDER_HOLDS;
    b->asks = FALSE;
    return TRUE;
}

static gboolean do_half_join(OrderWorld *w)
{
    OrderHost *a = order_running(w), *b = a ? order_other(w, a) : NULL;
    if (!a || b->state != ORDER_WAITS)
        return FALSE;
    order_synchronise(w, a, b);
    disk_set_detach(b->side->set);
    disk_set_detach(a->side->set);
    order_write_alone(w, a, w->session);
    b->asks = FALSE;
    return TRUE;
}

static OrderHost *protected(OrderWorld *w)
{
    OrderHost *a = order_running(w);
    return a && order_other(w, a)->state == ORDER_HOLDS ? a : NULL;
}

static gboolean do_checkpoint(OrderWorld *w)
{
    OrderHost *a = protected(w);
    if (a)
        order_checkpoint(w, a, order_other(w, a));
    return a != NULL;
}

/* With a last mark that is confirmed. */
static gboolean do_end(OrderWorld *w)
{
    g_autoptr(GError) error = NULL;
    OrderHost *a = protected(w), *b = a ? order_other(w, a) : NULL;
    if (!a)
        return FALSE;
    w->epoch++;
    g_assert_true(disk_set_mark(a->side->set, w->epoch, NULL));
    g_assert_true(side_wait_marked(b->side, w->epoch));
    disk_set_finish(b->side->set, w->epoch, &error);
    g_assert_no_error(error);
    order_end(w, a, b->name);
    order_leave(b);
    w->in_step = TRUE;
    return TRUE;
}

/* Without: alone, or the secondary doesn't answer. */
static gboolean do_end_alone(OrderWorld *w)
{
    OrderHost *a = order_running(w);
    if (!a)
        return FALSE;
    if (order_other(w, a)->state == ORDER_HOLDS)
        order_leave(order_other(w, a));
    order_end(w, a, NULL);
    return TRUE;
}

static gboolean do_end_secondary(OrderWorld *w)
{
    OrderHost *a = order_running(w), *b = &w->host[w->host[0].state == ORDER_RUNS];
    if (b->state != ORDER_WAITS && b->state != ORDER_HOLDS)
        return FALSE;
    gboolean was_held = b->state == ORDER_HOLDS;
    side_close(b->side);
    b->state = ORDER_OFF;
    if (was_held)
        order_continue_alone(w, a);
    return TRUE;
}

static gboolean do_primary_dies(OrderWorld *w)
{
    OrderHost *a = order_running(w);
    if (!a)
        return FALSE;
    order_die(a);
    if (order_other(w, a)->state == ORDER_HOLDS)
        order_take_over(w, order_other(w, a));
    return TRUE;
}

static gboolean do_secondary_dies(OrderWorld *w)
{
    OrderHost *a = order_running(w), *b = &w->host[w->host[0].state == ORDER_RUNS];
    if (b->state != ORDER_WAITS && b->state != ORDER_HOLDS)
        return FALSE;
    gboolean was_held = b->state == ORDER_HOLDS;
    order_die(b);
    if (was_held)
        order_continue_alone(w, a);
    return TRUE;
}

static gboolean do_power_cut(OrderWorld *w)
{
    for (int i = 0; i < 2; i++)
        if (w->host[i].state != ORDER_OFF) {
            order_die(&w->host[i]);
            order_reboot(&w->host[i]);
        }
    return TRUE;
}

/*
 * The link is cut, and the secondary wins. What the primary wrote until it knew, no client was
 * told.
 */
static gboolean do_overtaken(OrderWorld *w)
{
    OrderHost *a = protected(w), *b = a ? order_other(w, a) : NULL;
    if (!a)
        return FALSE;
    order_put(a, w->told, 77);
    order_die(a);
    order_take_over(w, b);
    g_assert_cmpint(order_ask(w, a), ==, ARBITER_DENIED);
    order_open(a, FALSE);
    a->state = ORDER_WAITS;
    a->asks = FALSE;
    return TRUE;
}

static gboolean do_cut_in_vain(OrderWorld *w)
{
    OrderHost *a = protected(w);
    if (!a)
        return FALSE;
    order_leave(order_other(w, a));
    order_continue_alone(w, a);
    return TRUE;
}

/* The secondary has won and dies before it has taken over: only its primary's disks have all. */
static gboolean do_win_and_die(OrderWorld *w)
{
    OrderHost *a = protected(w);
    if (!a)
        return FALSE;
    order_die(a);
    g_assert_cmpint(order_ask(w, order_other(w, a)), ==, ARBITER_GRANTED);
    order_die(order_other(w, a));
    return TRUE;
}

/* A new disk, and nothing known of it, where the other host runs the VM. */
static gboolean do_new_disk(OrderWorld *w)
{
    OrderHost *a = order_running(w), *b = a ? order_other(w, a) : NULL;
    if (!a || b->state != ORDER_OFF)
        return FALSE;
    order_replace_disk(b);
    return TRUE;
}

static const struct {
    const char *name;
    gboolean (*run)(OrderWorld *w);
} steps[] = {
    {"start-a",        do_start_a       },
    {"start-b",        do_start_b       },
    {"choose-a",       do_choose_a      },
    {"choose-b",       do_choose_b      },
    {"write",          do_write         },
    {"join",           do_join          },
    {"half-join",      do_half_join     },
    {"checkpoint",     do_checkpoint    },
    {"end",            do_end           },
    {"end-alone",      do_end_alone     },
    {"end-secondary",  do_end_secondary },
    {"primary-dies",   do_primary_dies  },
    {"secondary-dies", do_secondary_dies},
    {"power-cut",      do_power_cut     },
    {"overtaken",      do_overtaken     },
    {"cut-in-vain",    do_cut_in_vain   },
    {"win-and-die",    do_win_and_die   },
    {"new-disk",       do_new_disk      },
};

enum { STEPS = G_N_ELEMENTS(steps) };

/* ---- Stories ---- */

static guint stories, story_length;

/*
 * Whatever has happened, once all hosts are started the VM runs again, with all that was told, and
 * can be protected.
 */
static void assert_recovers(OrderWorld *w)
{
    if (!order_running(w)) {
        for (int i = 0; i < 2; i++)
            if (w->host[i].state != ORDER_OFF)
                order_die(&w->host[i]);
        for (guint i = 0; i < 2; i++)
            order_start(w, &w->host[(i + stories) % 2], FALSE);
        order_ask_whose(w);
    }
    OrderHost *a = order_running(w);
    g_assert_nonnull(a);
    order_assert_all_there(w, a);
    OrderHost *b = order_other(w, a);
    if (b->state == ORDER_OFF)
        order_start(w, b, FALSE);
    if (b->state == ORDER_WAITS)
        g_assert_true(do_join(w));
    g_assert_true(do_write(w));
    g_assert_true(do_primary_dies(w));
    g_assert_true(order_running(w) == b);
}

static void begin(OrderWorld *w, gboolean protect)
{
    order_world_init(w);
    /* Nobody begins by chance. */
    g_assert_true(do_start_b(w) && !order_running(w));
    g_assert_true(do_choose_a(w) && order_running(w) == &w->host[0]);
    g_assert_true(do_write(w));
    if (!protect)
        return;
    g_assert_true(do_join(w));
    g_assert_true(do_write(w));
}

static guint env_number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

/* TRUE if the whole story could be run. */
static gboolean tell(const guint *story, guint length, gboolean protect)
{
    OrderWorld w;
    gboolean possible = TRUE;
    begin(&w, protect);
    for (guint i = 0; i < length && possible; i++) {
        possible = steps[story[i]].run(&w);
        order_ask_whose(&w);
        if (order_running(&w))
            do_write(&w);
    }
    if (possible) {
        stories++;
        assert_recovers(&w);
    }
    order_world_clear(&w);
    return possible;
}

static void tell_all(guint *story, guint length, gboolean protect)
{
    if (length == story_length)
        return;
    for (guint step = 0; step < STEPS; step++) {
        if (steps[step].run == do_write)
            continue; /* after every step */
        story[length] = step;
        g_autoptr(GString) text = g_string_new(NULL);
        for (guint i = 0; i <= length; i++)
            g_string_append_printf(text, " %s", steps[story[i]].name);
        g_test_message("%s", text->str);
        if (tell(story, length + 1, protect))
            tell_all(story, length + 1, protect);
    }
}

static void test_all(gconstpointer protect)
{
    story_length = env_number("ORDERS_LENGTH", g_strcmp0(g_getenv("DEEP"), "yes") ? 2 : 4);
    g_autofree guint *story = g_new0(guint, story_length);
    stories = 0;
    tell_all(story, 0, protect != NULL);
    g_test_message("%u stories", stories);
    g_assert_cmpuint(stories, >, 30);
}

static void tell_random(guint32 seed)
{
    OrderWorld w;
    GRand *rand = g_rand_new_with_seed(seed);
    g_test_message("ORDERS_SEED=%u", seed);
    begin(&w, g_rand_boolean(rand));
    for (guint i = 0; i < RANDOM_LENGTH;) {
        guint step = (guint)g_rand_int_range(rand, 0, STEPS);
        if (!steps[step].run(&w))
            continue;
        g_test_message("%s", steps[step].name);
        order_ask_whose(&w);
        i++;
    }
    assert_recovers(&w);
    order_world_clear(&w);
    g_rand_free(rand);
}

static void test_random(void)
{
    if (g_getenv("ORDERS_SEED")) {
        tell_random(env_number("ORDERS_SEED", 0));
        return;
    }
    for (guint i = 0; i < env_number("ORDERS_RUNS", 15); i++)
        tell_random(g_test_rand_int() & 0x7fffffff);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/orders/from-alone", NULL, test_all);
    g_test_add_data_func("/orders/from-protected", "", test_all);
    g_test_add_func("/orders/random", test_random);
    return g_test_run();
}
