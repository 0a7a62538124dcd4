/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the primary loses patience with its secondary, on a clock of our own and connections of the
 * kernel's. What counts as progress with what is tests/unit/test-answer-watch.c's.
 */
#include "colo/node/answer.h"

#include "colo/node/node.h"
#include "tests/support/turned-clock.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOON_MS      1000
#define QEMU_MS      500
#define HEARTBEAT_MS 300
#define DISK_MS      700

typedef struct {
    Config config;
    Answering *answering;
    AnsweringWorld world;
    guint unfit;
    gboolean was_protected;
    char *why;
    int ends[2]; /* of a TCP connection: the primary's, the secondary's; -1: none */
} Fixture;

static AnsweringWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

/* It ends the link, as the node does. */
static void on_unfit(const GError *error, gboolean was_protected, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    f->unfit++;
    f->was_protected = was_protected;
    g_free(f->why);
    f->why = g_strdup(error->message);
    answering_forget(f->answering);
}

/* A protected VM, whose checkpoint 12 is the last one, and nothing is owed. */
static void set_up(Fixture *f, gconstpointer data)
{
    static const AnsweringHandler handler = {.look = on_look, .unfit = on_unfit};
    (void)data;
    f->config.answer_timeout_ms = SOON_MS;
    f->config.qemu_timeout_ms = QEMU_MS;
    f->config.heartbeat_timeout_ms = HEARTBEAT_MS;
    f->config.disk_timeout_ms = DISK_MS;
    f->world = (AnsweringWorld){
        .state = FSM_P_COLO, .phase = CYCLE_IDLE, .stream = -1, .disks = -1, .epoch = 12};
    f->ends[0] = f->ends[1] = -1;
    f->answering = answering_new(&f->config, &handler, f);
    answering_watch(f->answering);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    answering_free(f->answering);
    g_free(f->why);
    for (int i = 0; i < 2; i++)
        if (f->ends[i] >= 0)
            close(f->ends[i]);
}

/* It is not unfit so early, and is when `ms` and a look have passed. */
static void expect_unfit_after(Fixture *f, gint64 ms)
{
    turned_clock_pass_ms(ms - 1);
    g_assert_cmpuint(f->unfit, ==, 0);
    turned_clock_pass_ms(1 + SOON_MS / 4);
    g_assert_cmpuint(f->unfit, ==, 1);
}

static void test_nothing_owed(Fixture *f, gconstpointer data)
{
    (void)data;
    turned_clock_pass_ms(100 * SOON_MS);
    g_assert_cmpuint(f->unfit, ==, 0);
}

static void test_protected(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.phase = CYCLE_PREPARING;
    expect_unfit_after(f, SOON_MS);
    g_assert_true(f->was_protected);
    g_assert_nonnull(strstr(f->why, "1.0 s (checkpoint 12)"));
    /* It was reported once, and the session is over. */
    turned_clock_pass_ms(10 * SOON_MS);
    g_assert_cmpuint(f->unfit, ==, 1);
}

/* Any message is a sign of life; but only while it comes. */
static void test_messages(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.phase = CYCLE_PREPARING;
    for (int i = 0; i < 20; i++) {
        turned_clock_pass_ms(SOON_MS / 2);
        answering_received(f->answering);
    }
    g_assert_cmpuint(f->unfit, ==, 0);
    expect_unfit_after(f, SOON_MS);
}

/* Nothing waits for it yet: it gets what its own orders may take. */
static void test_joining(Fixture *f, gconstpointer data)
{
    gint64 limit_ms = 3 * QEMU_MS + HEARTBEAT_MS + (data ? DISK_MS : 0);
    f->world.state = FSM_P_ACTIVE;
    f->world.loads = TRUE;
    f->world.has_disks = data != NULL;
    expect_unfit_after(f, limit_ms);
    g_assert_false(f->was_protected);
    g_autofree char *quiet = g_strdup_printf("for %.1f s", (double)limit_ms / 1000);
    g_assert_nonnull(strstr(f->why, quiet));
}

/* An administrator changes it while the primary waits. */
static void test_set(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.phase = CYCLE_PREPARING;
    f->config.answer_timeout_ms = 2 * SOON_MS;
    expect_unfit_after(f, 2 * SOON_MS);
}

/* Another session starts over, and none has no secondary that could owe something. */
static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.phase = CYCLE_PREPARING;
    turned_clock_pass_ms(SOON_MS - 1);
    answering_forget(f->answering);
    turned_clock_pass_ms(10 * SOON_MS);
    g_assert_cmpuint(f->unfit, ==, 0);
    answering_watch(f->answering);
    answering_watch(f->answering);
    expect_unfit_after(f, SOON_MS);
}

/* ---- What the kernel knows of the connections ---- */

static void connect_ends(Fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &len), ==, 0);
    f->ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(f->ends[0], (struct sockaddr *)&address, len), ==, 0);
    f->ends[1] = accept(listener, NULL, NULL);
    g_assert_cmpint(f->ends[1], >=, 0);
    close(listener);
}

/* So many bytes go over the connection and are acknowledged. */
static void transfer(const Fixture *f, gsize bytes)
{
    g_autofree char *buffer = g_malloc0(bytes);
    int waiting = 1;
    g_assert_cmpint(send(f->ends[0], buffer, bytes, 0), ==, bytes);
    g_assert_cmpint(recv(f->ends[1], buffer, bytes, MSG_WAITALL), ==, bytes);
    while (waiting)
        g_assert_cmpint(ioctl(f->ends[0], SIOCOUTQ, &waiting), ==, 0);
}

/* RECEIVED is owed for the checkpoint. What is sent behind it shows nothing about it. */
static void test_behind_it(Fixture *f, gconstpointer data)
{
    (void)data;
    connect_ends(f);
    f->world.stream = f->ends[0];
    transfer(f, 1000);
    answering_sent(f->answering);
    f->world.phase = CYCLE_SENT;
    for (int i = 0; i < 5 && !f->unfit; i++) {
        turned_clock_pass_ms(SOON_MS / 4);
        transfer(f, 100);
    }
    g_assert_cmpuint(f->unfit, ==, 1);
    g_assert_nonnull(strstr(f->why, "is not complete there"));
}

/* The bytes of its disks are: a checkpoint is complete when they have come, too. */
static void test_its_disks(Fixture *f, gconstpointer data)
{
    (void)data;
    connect_ends(f);
    f->world.disks = f->ends[0];
    answering_sent(f->answering);
    f->world.phase = CYCLE_SENT;
    for (int i = 0; i < 20; i++) {
        turned_clock_pass_ms(SOON_MS / 2);
        transfer(f, 100);
    }
    g_assert_cmpuint(f->unfit, ==, 0);
    expect_unfit_after(f, SOON_MS);
}

/* A host that takes nothing any more owes that, whatever the cycle does. */
static void test_not_taken(Fixture *f, gconstpointer data)
{
    char buffer[65536] = {0};
    int size = 4096;
    (void)data;
    connect_ends(f);
    f->world.stream = f->ends[0];
    g_assert_cmpint(setsockopt(f->ends[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), ==, 0);
    while (send(f->ends[0], buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
        ;
    /* The last bytes that it has taken may be acknowledged late, by the kernel's clock. */
    for (int i = 0; i < 100 && !f->unfit; i++)
        turned_clock_pass_ms(SOON_MS);
    g_assert_cmpuint(f->unfit, ==, 1);
    g_assert_nonnull(strstr(f->why, "does not take a checkpoint"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        gpointer data;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/answer/nothing-owed",       NULL,   test_nothing_owed},
        {"/answer/protected",          NULL,   test_protected   },
        {"/answer/messages",           NULL,   test_messages    },
        {"/answer/joining",            NULL,   test_joining     },
        {"/answer/joining-with-disks", "disk", test_joining     },
        {"/answer/set",                NULL,   test_set         },
        {"/answer/forget",             NULL,   test_forget      },
        {"/answer/behind-it",          NULL,   test_behind_it   },
        {"/answer/its-disks",          NULL,   test_its_disks   },
        {"/answer/not-taken",          NULL,   test_not_taken   },
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, tests[i].data, set_up, tests[i].test, tear_down);
    return g_test_run();
}
