/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers, and sources of what is read often: when they are called, and that neither wakes a loop that is
 * awake. GLib wakes it by writing to an eventfd, so write() is counted here.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/timer.h"
#include "tests/support/turned-clock.h"

static guint wakes;

ssize_t write(int fd, const void *bytes, size_t len)
{
    wakes += len == sizeof(guint64);
    return (ssize_t)syscall(SYS_write, fd, bytes, len);
}

typedef struct {
    GSource *timer, *other;
    guint calls;
    gint64 next_us; /* what a call sets; 0: it leaves it */
    gboolean removes;
    int pair[2];
} Fixture;

static gboolean on_timer(gpointer user_data)
{
    Fixture *f = user_data;
    f->calls++;
    if (f->next_us)
        colo_timer_set_us(f->timer, f->next_us);
    return f->removes ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    f->timer = colo_timer_new(on_timer, f);
    turned_clock_settle();
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    g_source_destroy(f->timer);
    g_source_unref(f->timer);
}

static void test_time(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(colo_timer_due_us(f->timer), ==, -1);
    turned_clock_pass_ms(5);
    g_assert_cmpuint(f->calls, ==, 0);
    f->next_us = -1;
    colo_timer_set_us(f->timer, turned_clock_us + 3000);
    g_assert_cmpint(colo_timer_due_us(f->timer), ==, turned_clock_us + 3000);
    turned_clock_pass_ms(2);
    g_assert_cmpuint(f->calls, ==, 0);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->calls, ==, 1);
    turned_clock_pass_ms(5);
    g_assert_cmpuint(f->calls, ==, 1);
}

static void test_withdrawn(Fixture *f, gconstpointer data)
{
    (void)data;
    colo_timer_set_us(f->timer, turned_clock_us + 3000);
    turned_clock_pass_ms(2);
    colo_timer_set_us(f->timer, -1);
    turned_clock_pass_ms(5);
    g_assert_cmpuint(f->calls, ==, 0);
}

/* Its time stays until it sets another. */
static void test_again(Fixture *f, gconstpointer data)
{
    (void)data;
    colo_timer_set_us(f->timer, 0);
    for (guint i = 1; i <= 3; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_assert_cmpuint(f->calls, ==, i);
    }
    f->next_us = -1;
    turned_clock_settle();
    g_assert_cmpuint(f->calls, ==, 4);
}

static void test_removed(Fixture *f, gconstpointer data)
{
    (void)data;
    f->removes = TRUE;
    colo_timer_set_us(f->timer, 0);
    turned_clock_settle();
    g_assert_cmpuint(f->calls, ==, 1);
    g_assert_true(g_source_is_destroyed(f->timer));
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    Fixture *f = user_data;
    char byte;
    (void)condition;
    g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 1);
    f->next_us = -1;
    colo_timer_set_us(f->timer, 0);
    return G_SOURCE_CONTINUE;
}

/* What comes in is read, and a timer set for it: each time one turn for either, and nobody is woken. */
static void test_wakes_nobody(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->pair), ==, 0);
    g_autoptr(GSource) watch = colo_fd_watch_new(f->pair[0], G_IO_IN);
    g_source_set_callback(watch, G_SOURCE_FUNC(on_readable), f, NULL);
    g_source_attach(watch, NULL);
    turned_clock_settle();
    wakes = 0;
    for (guint i = 1; i <= 10; i++) {
        g_assert_cmpint(send(f->pair[1], "x", 1, 0), ==, 1);
        g_assert_true(g_main_context_iteration(NULL, FALSE));
        g_assert_true(g_main_context_iteration(NULL, FALSE));
        g_assert_cmpuint(f->calls, ==, i);
        g_assert_false(g_main_context_iteration(NULL, FALSE));
    }
    g_assert_cmpuint(wakes, ==, 0);
    /* That a wake would have been seen: */
    g_main_context_wakeup(NULL);
    g_assert_cmpuint(wakes, ==, 1);
    g_source_destroy(watch);
    close(f->pair[0]);
    close(f->pair[1]);
}

#define ADD(name, func) g_test_add("/timer/" name, Fixture, NULL, set_up, func, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("time", test_time);
    ADD("withdrawn", test_withdrawn);
    ADD("again", test_again);
    ADD("removed", test_removed);
    ADD("wakes-nobody", test_wakes_nobody);
    return g_test_run();
}
