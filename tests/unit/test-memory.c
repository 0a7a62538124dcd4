/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a QEMU that has grown is replaced, on a clock of our own. */
#include "colo/node/memory.h"

#include "common/log.h"
#include "tests/support/turned-clock.h"

#define LIMIT (G_GUINT64_CONSTANT(64) << 20)
#define BASE  (G_GUINT64_CONSTANT(100) << 20)

typedef struct {
    Config config;
    Memory *memory;
    FsmState state;
    guint64 bytes;
    gboolean may_do_without;
    guint leaves, recycled;
} Fixture;

static FsmState on_state(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->state;
}

static guint64 on_measure(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->bytes;
}

static gboolean on_may_do_without(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->may_do_without;
}

static void on_leave(gpointer user_data)
{
    Fixture *f = user_data;
    f->leaves++;
}

static void on_recycle(gpointer user_data)
{
    Fixture *f = user_data;
    f->recycled++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const MemoryHandler handler = {.state = on_state,
                                          .measure = on_measure,
                                          .may_do_without = on_may_do_without,
                                          .leave = on_leave,
                                          .recycle = on_recycle};
    (void)data;
    f->config.qemu_growth_limit_bytes = LIMIT;
    f->state = FSM_S_COLO;
    f->bytes = BASE;
    f->memory = memory_new(&f->config, &handler, f);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(memory_base(f->memory), ==, BASE);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    memory_free(f->memory);
}

static void grow(Fixture *f)
{
    f->bytes = BASE + LIMIT + 1;
    turned_clock_pass_ms(1000);
}

static void test_limit(void)
{
    g_assert_false(memory_is_grown(BASE, BASE + LIMIT, LIMIT));
    g_assert_true(memory_is_grown(BASE, BASE + LIMIT + 1, LIMIT));
    g_assert_false(memory_is_grown(BASE, BASE - 1, LIMIT));
    g_assert_false(memory_is_grown(BASE, G_MAXUINT64, 0));
    g_assert_false(memory_is_grown(0, G_MAXUINT64, LIMIT)); /* it isn't known what it was */
}

/* Asked again until the primary answers, and no VM ends before. */
static void test_secondary(Fixture *f, gconstpointer data)
{
    (void)data;
    memory_leave(f->memory);
    g_assert_cmpuint(f->recycled, ==, 0); /* an answer to nothing */
    grow(f);
    turned_clock_pass_ms(2000);
    g_assert_cmpuint(f->leaves, ==, 3);
    g_assert_cmpuint(f->recycled, ==, 0);
    memory_leave(f->memory);
    g_assert_cmpuint(f->recycled, ==, 1);
    memory_forget(f->memory);
    g_assert_cmpuint(memory_base(f->memory), ==, 0);
}

/* An answer of another session, or to a secondary that is one no more, ends nothing. */
static void test_too_late(Fixture *f, gconstpointer data)
{
    (void)data;
    grow(f);
    f->state = FSM_S_PAUSED;
    memory_leave(f->memory);
    memory_session_over(f->memory);
    f->state = FSM_S_COLO;
    memory_leave(f->memory);
    g_assert_cmpuint(f->recycled, ==, 0);
}

/* A primary is told once and goes on; it answers if it can do without the secondary. */
static void test_primary(Fixture *f, gconstpointer data)
{
    (void)data;
    f->state = FSM_P_COLO;
    grow(f);
    g_assert_true(memory_is_told(f->memory));
    g_assert_cmpuint(f->leaves + f->recycled, ==, 0);
    memory_leave(f->memory);
    g_assert_cmpuint(f->leaves, ==, 0);
    f->may_do_without = TRUE;
    memory_leave(f->memory);
    g_assert_cmpuint(f->leaves, ==, 1);
    f->state = FSM_P_DEVICE;
    memory_leave(f->memory);
    g_assert_cmpuint(f->leaves, ==, 1);
}

/* What it takes before the VM is protected is no growth. */
static void test_base(Fixture *f, gconstpointer data)
{
    (void)data;
    memory_forget(f->memory);
    f->state = FSM_S_ACTIVE;
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(memory_base(f->memory), ==, 0);
    g_assert_cmpuint(memory_bytes(f->memory), ==, BASE);
    f->state = FSM_S_COLO;
    grow(f);
    g_assert_cmpuint(memory_base(f->memory), ==, BASE + LIMIT + 1);
    g_assert_cmpuint(f->leaves, ==, 0);
}

#define ADD(name, test) g_test_add("/memory/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    g_test_add_func("/memory/limit", test_limit);
    ADD("secondary", test_secondary);
    ADD("too-late", test_too_late);
    ADD("primary", test_primary);
    ADD("base", test_base);
    return g_test_run();
}
