/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wait until QEMU has read its input, on a clock of our own. */
#include "colo/node/settle.h"
#include "tests/support/turned-clock.h"

#define LIMIT_US 5000

typedef struct {
    Settle *settle;
    gboolean is_read;
    guint settled;
} Fixture;

static gboolean on_is_read(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->is_read;
}

static void on_settled(gpointer user_data)
{
    Fixture *f = user_data;
    f->settled++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    f->settle = settle_new(on_is_read, on_settled, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    settle_free(f->settle);
}

static void test_at_once(Fixture *f, gconstpointer data)
{
    (void)data;
    f->is_read = TRUE;
    settle_begin(f->settle, LIMIT_US);
    g_assert_cmpuint(f->settled, ==, 1);
    turned_clock_pass_ms(10);
    g_assert_cmpuint(f->settled, ==, 1);
}

static void test_waits(Fixture *f, gconstpointer data)
{
    (void)data;
    settle_begin(f->settle, LIMIT_US);
    turned_clock_pass_ms(4);
    g_assert_cmpuint(f->settled, ==, 0);
    f->is_read = TRUE;
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->settled, ==, 1);
    turned_clock_pass_ms(10);
    g_assert_cmpuint(f->settled, ==, 1);
}

/* It goes on all the same, and may be begun again. */
static void test_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 1; i <= 2; i++) {
        settle_begin(f->settle, LIMIT_US);
        turned_clock_pass_ms(4);
        g_assert_cmpuint(f->settled, ==, i - 1);
        turned_clock_pass_ms(2);
        g_assert_cmpuint(f->settled, ==, i);
    }
}

/* A host that stands for a while has not let QEMU read. */
static void test_stands(Fixture *f, gconstpointer data)
{
    (void)data;
    settle_begin(f->settle, LIMIT_US);
    turned_clock_us += 1000000;
    turned_clock_settle();
    g_assert_cmpuint(f->settled, ==, 0);
    turned_clock_pass_ms(5);
    g_assert_cmpuint(f->settled, ==, 1);
}

static void test_ends(Fixture *f, gconstpointer data)
{
    (void)data;
    settle_begin(f->settle, LIMIT_US);
    settle_end(f->settle);
    turned_clock_pass_ms(10);
    g_assert_cmpuint(f->settled, ==, 0);
    f->is_read = TRUE;
    settle_begin(f->settle, LIMIT_US);
    g_assert_cmpuint(f->settled, ==, 1);
}

#define ADD(name, test) g_test_add("/settle/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("at-once", test_at_once);
    ADD("waits", test_waits);
    ADD("limit", test_limit);
    ADD("stands", test_stands);
    ADD("ends", test_ends);
    return g_test_run();
}
