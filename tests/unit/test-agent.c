/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client of the guest agent: what a guest may say, and what it may not do by it. */
#include "tests/support/fake-agent.h"
#include "tests/support/wait.h"
#include "vm/agent.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONG_MS  (WAIT_SECONDS * 1000)
#define SHORT_MS 30
#define TIME_NS  G_GINT64_CONSTANT(1700000000123456789)

typedef struct {
    int fds[2];
    Agent *agent;
    FakeAgent *guest;
    guint done, late;
    gboolean is_paused; /* the guest does */
    GError *error;
} Fixture;

static void on_done(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    f->done++;
    g_clear_error(&f->error);
    f->error = error ? g_error_copy(error) : NULL;
}

static gboolean runs(gpointer user_data)
{
    const Fixture *f = user_data;
    return !f->is_paused;
}

static void on_late(gpointer user_data)
{
    Fixture *f = user_data;
    f->late++;
}

static void set_up(Fixture *f, FakeAgentMood mood)
{
    static const AgentHandler handler = {.done = on_done, .late = on_late, .runs = runs};
    *f = (Fixture){0};
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds);
    g_assert_cmpint(failed, ==, 0);
    f->agent = agent_new(f->fds[0], &handler, f);
    f->guest = fake_agent_new(f->fds[1]);
    f->guest->mood = mood;
}

static void tear_down(Fixture *f)
{
    agent_free(f->agent);
    fake_agent_free(f->guest);
    g_clear_error(&f->error);
    close(f->fds[0]);
    if (f->fds[1] >= 0)
        close(f->fds[1]);
}

static void wait_done(Fixture *f)
{
    guint before = f->done;
    WAIT_FOR(f->done > before);
    g_assert_false(agent_is_busy(f->agent));
}

static void sync_with(Fixture *f, guint timeout_ms)
{
    g_autoptr(GError) error = NULL;
    agent_sync(f->agent, timeout_ms, &error);
    g_assert_no_error(error);
    g_assert_true(agent_is_busy(f->agent));
    g_assert_cmpuint(f->done, ==, 0); /* never from within */
}

static void set_time(Fixture *f, guint timeout_ms)
{
    g_autoptr(GError) error = NULL;
    agent_set_time(f->agent, TIME_NS, timeout_ms, &error);
    g_assert_no_error(error);
    wait_done(f);
}

static void test_well(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    for (guint i = 0; i < 3; i++) {
        sync_with(&f, LONG_MS);
        wait_done(&f);
        g_assert_no_error(f.error);
        set_time(&f, LONG_MS);
        g_assert_no_error(f.error);
        g_assert_cmpint(f.guest->time_ns, ==, TIME_NS);
        f.done = 0;
    }
    g_assert_cmpuint(f.guest->syncs, ==, 3);
    g_assert_cmpuint(f.guest->set_times, ==, 3);
    g_assert_cmpuint(f.guest->others, ==, 0);
    g_assert_cmpuint(f.late, ==, 0);
    tear_down(&f);
}

static void test_bad_answers(void)
{
    static const struct {
        FakeAgentMood mood;
        AgentError code;
        const char *message;
    } cases[] = {
        {FAKE_AGENT_REFUSES,   AGENT_ERROR_REFUSED,   "refused: no\\nclock\\033"      },
        {FAKE_AGENT_GARBAGE,   AGENT_ERROR_GARBAGE,   "makes no sense: \\033[2Jlogin:"},
        {FAKE_AGENT_ENDLESS,   AGENT_ERROR_GARBAGE,   "longer than 4096 bytes"        },
        {FAKE_AGENT_NO_ANSWER, AGENT_ERROR_NO_ANSWER, "did not answer within 0.0 s"   },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Fixture f;
        set_up(&f, FAKE_AGENT_WELL);
        sync_with(&f, LONG_MS);
        wait_done(&f);
        f.guest->mood = cases[i].mood;
        set_time(&f, cases[i].mood == FAKE_AGENT_NO_ANSWER ? SHORT_MS : LONG_MS);
        g_assert_error(f.error, AGENT_ERROR, (gint)cases[i].code);
        if (!strstr(f.error->message, cases[i].message))
            g_error("'%s' does not say '%s'", f.error->message, cases[i].message);
        /* And it is well again. */
        f.guest->mood = FAKE_AGENT_WELL;
        f.done = 0;
        sync_with(&f, LONG_MS);
        wait_done(&f);
        set_time(&f, LONG_MS);
        g_assert_no_error(f.error);
        tear_down(&f);
    }
}

/* What is there before the answer is of somebody else's request, or none. */
static void test_noise_before_sync(void)
{
    static const char noise[] =
        "{\"return\": {}}\nlogin: \xff{\"return\": 1}\n\xff{\"return\":\xff"
        "{\"error\": {}}\n\xff[[[[[[[[[[[[[[\n\xff\n\xff{\"return\": \"a\"}\n";
    g_autofree char *endless = g_strnfill(3 * AGENT_ANSWER_MAX, 'x');
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    fake_agent_send(f.guest, "\xff", 1);
    fake_agent_send(f.guest, endless, strlen(endless));
    fake_agent_send(f.guest, noise, sizeof(noise)); /* with its 0 */
    sync_with(&f, LONG_MS);
    wait_done(&f);
    g_assert_no_error(f.error);
    set_time(&f, LONG_MS);
    g_assert_no_error(f.error);
    tear_down(&f);
}

/* A guest that sends a lot unasked doesn't fill the port, and its answer is read. */
static void test_unasked(void)
{
    g_autofree char *text = g_strnfill(4000, 'x');
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    for (guint i = 0; i < 200; i++) {
        guint before = f.late;
        fake_agent_send(f.guest, text, strlen(text));
        WAIT_FOR(f.late > before);
    }
    g_assert_cmpuint(f.done, ==, 0);
    tear_down(&f);
}

static gboolean on_idle(gpointer user_data)
{
    gboolean *idle = user_data;
    *idle = TRUE;
    return G_SOURCE_REMOVE;
}

/* Runs the main loop until nothing is left to do at once. */
static void settle(void)
{
    gboolean idle = FALSE;
    g_idle_add_full(G_PRIORITY_LOW, on_idle, &idle, NULL);
    WAIT_FOR(idle);
}

static gsize send_all_that_fits(int fd)
{
    static const char text[4096];
    gsize sum = 0;
    for (ssize_t put; (put = send(fd, text, sizeof(text), MSG_DONTWAIT)) > 0;)
        sum += (gsize)put;
    return sum;
}

/* What waits while the guest is paused is read when it runs. */
static void test_paused(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    f.is_paused = TRUE;
    fake_agent_send(f.guest, "x", 1);
    settle();
    g_assert_cmpuint(f.late, ==, 0);
    f.is_paused = FALSE;
    WAIT_FOR(f.late == 1);
    tear_down(&f);
}

/* A guest that never stops doesn't keep the main loop busy. */
static void test_flood(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    gsize sent = send_all_that_fits(f.fds[1]);
    g_assert_cmpuint(sent, >, 64 * 1024);
    settle();
    g_assert_cmpuint(send_all_that_fits(f.fds[1]), <, sent);
    guint late = f.late;
    g_assert_cmpuint(late, >, 0);
    WAIT_FOR(f.late > late);
    tear_down(&f);
}

/* What nobody reads can't be taken back: nothing is put behind it. */
static void test_absent(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    g_source_remove(f.guest->source);
    f.guest->source = 0;
    sync_with(&f, SHORT_MS);
    wait_done(&f);
    g_assert_error(f.error, AGENT_ERROR, AGENT_ERROR_NO_ANSWER);
    g_assert_nonnull(strstr(f.error->message, "nobody in the guest reads"));
    for (guint i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(agent_sync(f.agent, SHORT_MS, &error));
        g_assert_error(error, AGENT_ERROR, AGENT_ERROR_NO_ANSWER);
        g_assert_false(agent_is_busy(f.agent));
    }
    /* It is started: answers the one request, late. */
    fake_agent_free(f.guest);
    f.guest = fake_agent_new(f.fds[1]);
    WAIT_FOR(f.late == 1);
    g_assert_cmpuint(f.guest->syncs, ==, 1);
    g_assert_cmpuint(f.done, ==, 1);
    tear_down(&f);
}

static void test_end_of_file(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_NO_ANSWER);
    sync_with(&f, LONG_MS);
    g_source_remove(f.guest->source);
    f.guest->source = 0;
    close(f.fds[1]);
    f.fds[1] = -1;
    wait_done(&f);
    g_assert_error(f.error, AGENT_ERROR, AGENT_ERROR_CLOSED);
    g_autoptr(GError) error = NULL;
    g_assert_false(agent_sync(f.agent, LONG_MS, &error));
    g_assert_error(error, AGENT_ERROR, AGENT_ERROR_CLOSED);
    tear_down(&f);
}

static void test_freed_while_busy(void)
{
    Fixture f;
    set_up(&f, FAKE_AGENT_WELL);
    sync_with(&f, SHORT_MS);
    g_clear_pointer(&f.agent, agent_free);
    WAIT_FOR(f.guest->syncs == 1);
    g_assert_cmpuint(f.done, ==, 0);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/well", test_well);
    g_test_add_func("/agent/bad-answers", test_bad_answers);
    g_test_add_func("/agent/noise-before-sync", test_noise_before_sync);
    g_test_add_func("/agent/unasked", test_unasked);
    g_test_add_func("/agent/paused", test_paused);
    g_test_add_func("/agent/flood", test_flood);
    g_test_add_func("/agent/absent", test_absent);
    g_test_add_func("/agent/end-of-file", test_end_of_file);
    g_test_add_func("/agent/freed-while-busy", test_freed_while_busy);
    return g_test_run();
}
