/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host whose process is stopped and goes on later (SIGSTOP here; a paused hypervisor is the same
 * to it): what it may believe on waking. The host is this program, started again with --dial; it
 * tells what happens to its link, one line each.
 */
#include <glib-unix.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "tests/support/link-end.h"
#include "tests/support/proxy.h"

#define BEAT_MS    20
#define TIMEOUT_MS 400
/* Much longer than the timeout. */
#define STOPPED_MS (5 * TIMEOUT_MS)

/* ---- The host ---- */

static void print_up(LinkEnd *end)
{
    (void)end;
    printf("up\n");
}

static gboolean freshness;

static void print_message(LinkEnd *end)
{
    if (freshness)
        printf("%s\n", link_is_fresh(end->link) ? "fresh" : "stale");
    printf("message %s\n", (const char *)g_ptr_array_index(end->messages, end->messages->len - 1));
    link_send(end->link, LINK_MSG_BLANK, "heard", 5);
}

static void print_down(LinkEnd *end)
{
    printf("down %d\n", end->down->code);
}

static void print_fresh(LinkEnd *end)
{
    (void)end;
    printf("received again\n");
}

static gint64 last_us;

/* Work of the main loop: after a stop it must find the link as it is, not as it was. */
static gboolean work(gpointer user_data)
{
    LinkEnd *end = user_data;
    gint64 now_us = g_get_monotonic_time();
    if (now_us - last_us > (gint64)STOPPED_MS * 500)
        printf("worked %s\n", link_is_up(end->link) ? "linked" : "alone");
    last_us = now_us;
    return G_SOURCE_CONTINUE;
}

G_NORETURN static void host(const char *port)
{
    LinkEndOptions options = {.interval_ms = BEAT_MS, .timeout_ms = TIMEOUT_MS};
    LinkEnd *end = link_end_new(&options, (guint16)g_ascii_strtoull(port, NULL, 10));
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* A test that fails leaves nothing behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    end->on_up = print_up;
    end->on_message = print_message;
    end->on_down = print_down;
    end->on_fresh = freshness ? print_fresh : NULL;
    last_us = g_get_monotonic_time();
    g_timeout_add(5, work, end);
    link_end_dial(end, "beta");
    for (;;)
        g_main_context_iteration(NULL, TRUE);
}

/* ---- The test ---- */

typedef struct {
    LinkEnd *primary;
    Proxy *proxy;
    GPid pid;
    int out;
    GString *output;
} World;

static gboolean on_output(gint fd, GIOCondition condition, gpointer user_data)
{
    World *world = user_data;
    char buffer[1024];
    (void)condition;
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0)
        return G_SOURCE_REMOVE;
    g_string_append_len(world->output, buffer, got);
    return G_SOURCE_CONTINUE;
}

static void world_open_with(World *world, guint primary_timeout_ms, const char *what)
{
    g_autoptr(GError) error = NULL;
    LinkEndOptions options = {.interval_ms = BEAT_MS, .timeout_ms = primary_timeout_ms};
    world->primary = link_end_new(&options, 0);
    g_autofree char *target = g_strdup_printf("127.0.0.1:%u", link_end_port(world->primary));
    world->proxy = proxy_new("127.0.0.1:0", target, &error);
    g_assert_no_error(error);
    g_autofree char *port = g_strdup_printf("%u", proxy_port(world->proxy));
    char *argv[] = {(char *)"/proc/self/exe", (char *)what, port, NULL};
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &world->pid,
                             NULL, &world->out, NULL, &error);
    g_assert_no_error(error);
    world->output = g_string_new(NULL);
    g_unix_fd_add(world->out, G_IO_IN | G_IO_HUP, on_output, world);
    link_end_accept(world->primary, "alpha");
    link_end_wait(world->primary->ups && strstr(world->output->str, "up\n"));
    g_string_truncate(world->output, 0);
}

static void world_open(World *world, guint primary_timeout_ms)
{
    world_open_with(world, primary_timeout_ms, "--dial");
}

static void world_close(World *world)
{
    int status;
    kill(world->pid, SIGKILL);
    waitpid(world->pid, &status, 0);
    link_end_free(world->primary);
    proxy_free(world->proxy);
    /* To its end, which removes the source. */
    while (g_main_context_iteration(NULL, FALSE))
        ;
    close(world->out);
    g_string_free(world->output, TRUE);
}

static void stop(World *world)
{
    int status;
    kill(world->pid, SIGSTOP);
    g_assert_cmpint(waitpid(world->pid, &status, WUNTRACED), ==, world->pid);
    g_assert_true(WIFSTOPPED(status));
}

static gboolean on_time(gpointer user_data)
{
    *(gboolean *)user_data = TRUE;
    return G_SOURCE_REMOVE;
}

/* What is tested here is what time does: it can't be waited for otherwise. */
static void let_time_pass(guint ms)
{
    gboolean over = FALSE;
    g_timeout_add(ms, on_time, &over);
    link_end_wait(over);
}

/* The peer kept sending heartbeats: the link holds, and what was sent meanwhile is received. */
static void test_peer_lives(void)
{
    World world;
    world_open(&world, 60000);
    stop(&world);
    link_send(world.primary->link, LINK_MSG_ADDRESSES, "meanwhile", 9);
    let_time_pass(STOPPED_MS);
    kill(world.pid, SIGCONT);
    link_end_wait(world.primary->messages->len == 1);
    link_end_wait(strstr(world.output->str, "worked"));
    g_assert_nonnull(strstr(world.output->str, ":meanwhile\nworked linked\n"));
    /* And holds. */
    let_time_pass(STOPPED_MS);
    g_assert_null(strstr(world.output->str, "down"));
    g_assert_cmpuint(world.primary->downs, ==, 0);
    world_close(&world);
}

/*
 * What is read on waking says nothing about now, even if the peer has been there all the time: it
 * is asked. The echo that waited in the socket with it is too old.
 */
static void test_stale(void)
{
    World world;
    world_open_with(&world, TIMEOUT_MS, "--dial-and-ask");
    let_time_pass(3 * BEAT_MS);
    link_send(world.primary->link, LINK_MSG_ADDRESSES, "before", 6);
    link_end_wait(strstr(world.output->str, ":before\n"));
    g_assert_nonnull(strstr(world.output->str, "fresh\nmessage"));
    /* An echo is on its way as it is stopped. */
    guint64 beats = world.primary->link->beats_received;
    proxy_do(world.proxy, "blackhole control down");
    link_end_wait(world.primary->link->beats_received > beats);
    stop(&world);
    proxy_do(world.proxy, "pass control");
    link_set_heartbeat(world.primary->link, BEAT_MS, 60000);
    link_send(world.primary->link, LINK_MSG_ADDRESSES, "meanwhile", 9);
    let_time_pass(STOPPED_MS);
    g_string_truncate(world.output, 0);
    kill(world.pid, SIGCONT);
    link_end_wait(strstr(world.output->str, ":meanwhile\n"));
    g_assert_true(g_str_has_prefix(world.output->str, "stale\nmessage"));
    link_end_wait(strstr(world.output->str, "received again\n"));
    g_assert_cmpuint(world.primary->downs, ==, 0);
    world_close(&world);
}

/* The peer ended the connections a moment after its last message: that message proves nothing. */
static void test_ended(void)
{
    World world;
    world_open_with(&world, 60000, "--dial-and-ask");
    let_time_pass(3 * BEAT_MS);
    stop(&world);
    link_send(world.primary->link, LINK_MSG_ADDRESSES, "last words", 10);
    link_close(world.primary->link);
    let_time_pass(STOPPED_MS);
    kill(world.pid, SIGCONT);
    link_end_wait(strstr(world.output->str, ":last words\n"));
    g_assert_true(g_str_has_prefix(world.output->str, "stale\nmessage"));
    world_close(&world);
}

/* The peer gave us up: that is known before anything else is done, and after its last words. */
static void test_peer_gave_up(void)
{
    g_autofree char *expected = g_strdup_printf("message %d:last words\ndown %d\nworked alone\n",
                                                LINK_MSG_ADDRESSES, LINK_ERROR_CLOSED);
    World world;
    world_open(&world, TIMEOUT_MS);
    stop(&world);
    link_send(world.primary->link, LINK_MSG_ADDRESSES, "last words", 10);
    link_end_wait(world.primary->downs);
    g_assert_error(world.primary->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    let_time_pass(STOPPED_MS);
    kill(world.pid, SIGCONT);
    link_end_wait(strstr(world.output->str, "worked"));
    g_assert_cmpstr(world.output->str, ==, expected);
    world_close(&world);
}

/* The peer vanished without a word while we were stopped: noticed, if later. */
static void test_peer_vanished(void)
{
    g_autofree char *expected = g_strdup_printf("down %d\n", LINK_ERROR_TIMEOUT);
    World world;
    world_open(&world, 60000);
    stop(&world);
    proxy_do(world.proxy, "blackhole all");
    let_time_pass(STOPPED_MS);
    kill(world.pid, SIGCONT);
    link_end_wait(strstr(world.output->str, "down"));
    g_assert_nonnull(strstr(world.output->str, expected));
    world_close(&world);
}

/* Stopped and continued all the time: a peer that lives isn't lost, however unlucky the moments. */
static void test_often(void)
{
    World world;
    world_open(&world, 60000);
    for (int i = 0; i < 20; i++) {
        stop(&world);
        let_time_pass((guint)g_test_rand_int_range(1, 2 * TIMEOUT_MS));
        kill(world.pid, SIGCONT);
        link_send(world.primary->link, LINK_MSG_BLANK, NULL, 0);
        link_end_wait(world.primary->messages->len == (guint)i + 1 || world.primary->downs);
    }
    g_assert_cmpuint(world.primary->downs, ==, 0);
    world_close(&world);
}

int main(int argc, char **argv)
{
    freshness = argc == 3 && !strcmp(argv[1], "--dial-and-ask");
    if (freshness || (argc == 3 && !strcmp(argv[1], "--dial")))
        host(argv[2]);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link-stop/peer-lives", test_peer_lives);
    g_test_add_func("/link-stop/stale", test_stale);
    g_test_add_func("/link-stop/ended", test_ended);
    g_test_add_func("/link-stop/peer-gave-up", test_peer_gave_up);
    g_test_add_func("/link-stop/peer-vanished", test_peer_vanished);
    g_test_add_func("/link-stop/often", test_often);
    return g_test_run();
}
