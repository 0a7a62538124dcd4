/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many ask at once, and some die while asking. Two hosts are two processes of this program, started
 * again with --ask; each has eight threads, and asks for every session in each of them. A child
 * writes one line for each answer, in one write(2): what it has told somebody is known, whenever it
 * dies.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/arbiter/arbiter.h"
#include "common/fd.h"

#define UUID     "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define THREADS  8
#define SESSIONS 40

static const char *self_path;

/* ---- The child ---- */

typedef struct {
    const char *dir, *who;
    int first;
} Asker;

static void print_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    static const char *const names[] = {"granted", "denied", "manual", "unknown"};
    int *session = user_data;
    g_autofree char *line =
        g_strdup_printf("%d %s %s\n", *session, names[answer], error ? error->message : "");
    g_assert_cmpint(write(STDOUT_FILENO, line, strlen(line)), ==, (gssize)strlen(line));
    *session = -1;
}

static gpointer ask_all(gpointer data)
{
    const Asker *asker = data;
    g_autoptr(GMainContext) context = g_main_context_new();
    g_main_context_push_thread_default(context);
    g_autoptr(Arbiter) arbiter = arbiter_new(asker->dir, NULL, NULL);
    g_assert_nonnull(arbiter);
    for (int i = 0; i < SESSIONS; i++) {
        int session = (asker->first + i) % SESSIONS;
        g_autofree char *name = g_strdup_printf("%032d", session);
        arbiter_ask(arbiter, UUID, name, asker->who, 1, print_answer, &session);
        while (session >= 0)
            g_main_context_iteration(context, TRUE);
    }
    g_main_context_pop_thread_default(context);
    return NULL;
}

static int child(const char *dir, const char *who)
{
    GThread *threads[THREADS];
    Asker askers[THREADS];
    char go;
    /* Both hosts begin at once: when the parent lets go of stdin. */
    while (read(STDIN_FILENO, &go, 1) > 0)
        ;
    for (int i = 0; i < THREADS; i++) {
        /* Half of them in another order, so that every session is contended. */
        askers[i] = (Asker){dir, who, i % 2 ? SESSIONS / 2 : 0};
        threads[i] = g_thread_new("asker", ask_all, &askers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    return 0;
}

/* ---- The parent ---- */

typedef struct {
    GPid pid;
    int in, out;
} Host;

static void host_start(Host *host, const char *dir, const char *who)
{
    g_autoptr(GError) error = NULL;
    char *argv[] = {(char *)self_path, (char *)"--ask", (char *)dir, (char *)who, NULL};
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &host->pid,
                             &host->in, &host->out, NULL, &error);
    g_assert_no_error(error);
}

/* All that it says, to its end. Counts the yeses per session. */
static void host_read(Host *host, unsigned granted[SESSIONS], unsigned *ret_answers)
{
    FILE *out = fdopen(host->out, "r");
    char line[4096], word[16];
    int session;
    *ret_answers = 0;
    while (fgets(line, sizeof(line), out)) {
        g_assert_cmpint(sscanf(line, "%d %15s", &session, word), ==, 2);
        g_assert_cmpint(session, <, SESSIONS);
        if (!strcmp(word, "unknown"))
            g_error("no answer: %s", line);
        granted[session] += !strcmp(word, "granted");
        (*ret_answers)++;
    }
    fclose(out);
}

static int host_wait(Host *host)
{
    int status;
    g_assert_cmpint(waitpid(host->pid, &status, 0), ==, host->pid);
    return status;
}

static char *make_dir(void)
{
    char *dir = g_dir_make_tmp("test-arbiter-race-XXXXXX", NULL);
    g_assert_nonnull(dir);
    g_autofree char *id = NULL, *mount = NULL;
    g_assert_true(arbiter_init_folder(dir, &id, &mount, NULL));
    return dir;
}

/* Removes the folder; returns how many drafts were in it. */
static unsigned remove_dir(const char *path)
{
    const char *name;
    unsigned drafts = 0;
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        drafts += g_str_has_suffix(name, ".draft");
        g_unlink(file);
    }
    g_assert_cmpint(g_rmdir(path), ==, 0);
    return drafts;
}

static void test_two_hosts(void)
{
    g_autofree char *dir = make_dir();
    unsigned granted[2][SESSIONS] = {{0}}, answers;
    Host hosts[2];
    host_start(&hosts[0], dir, "alpha");
    host_start(&hosts[1], dir, "beta");
    close(hosts[0].in);
    close(hosts[1].in);
    for (int i = 0; i < 2; i++) {
        host_read(&hosts[i], granted[i], &answers);
        g_assert_cmpuint(answers, ==, THREADS * SESSIONS);
        g_assert_cmpint(host_wait(&hosts[i]), ==, 0);
    }
    for (int i = 0; i < SESSIONS; i++) {
        /* All threads of one side, none of the other. */
        g_assert_cmpuint(granted[0][i] + granted[1][i], ==, THREADS);
        g_assert_cmpuint(granted[0][i] % THREADS, ==, 0);
    }
    g_assert_cmpuint(remove_dir(dir), ==, 0);
}

/* Waits until the host has given `count` answers; what it said is in `granted`. */
static void read_answers(Host *host, unsigned count, unsigned granted[SESSIONS])
{
    char byte;
    GString *line = g_string_new(NULL);
    while (count > 0 && read(host->out, &byte, 1) == 1) {
        g_string_append_c(line, byte);
        if (byte != '\n')
            continue;
        granted[g_ascii_strtoll(line->str, NULL, 10)] += strstr(line->str, " granted ") != NULL;
        g_string_truncate(line, 0);
        count--;
    }
    g_string_free(line, TRUE);
}

/*
 * One host is killed somewhere in its questions, and both ask again. Whatever it had been told
 * holds for ever, and no session has two winners.
 */
static void test_killed(void)
{
    for (unsigned round = 0; round < 30; round++) {
        g_autofree char *dir = make_dir();
        unsigned granted[2][SESSIONS] = {{0}}, again[2][SESSIONS] = {{0}}, answers;
        Host hosts[2];
        host_start(&hosts[0], dir, "alpha");
        host_start(&hosts[1], dir, "beta");
        close(hosts[0].in);
        close(hosts[1].in);
        read_answers(&hosts[0], (unsigned)g_test_rand_int_range(0, THREADS * SESSIONS / 2),
                     granted[0]);
        kill(hosts[0].pid, SIGKILL);
        host_read(&hosts[0], granted[0], &answers);
        host_wait(&hosts[0]);
        host_read(&hosts[1], granted[1], &answers);
        g_assert_cmpint(host_wait(&hosts[1]), ==, 0);
        /* They ask again, the dead one under its name. */
        for (int i = 0; i < 2; i++) {
            host_start(&hosts[i], dir, i ? "beta" : "alpha");
            close(hosts[i].in);
            host_read(&hosts[i], again[i], &answers);
            g_assert_cmpuint(answers, ==, THREADS * SESSIONS);
            g_assert_cmpint(host_wait(&hosts[i]), ==, 0);
        }
        for (int i = 0; i < SESSIONS; i++) {
            g_assert_false(granted[0][i] && granted[1][i]);
            g_assert_cmpuint(again[0][i] + again[1][i], ==, THREADS);
            g_assert_cmpuint(again[0][i] % THREADS, ==, 0);
            g_assert_true(!granted[0][i] || again[0][i]);
            g_assert_true(!granted[1][i] || again[1][i]);
        }
        g_assert_cmpuint(remove_dir(dir), ==, 0);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--ask"))
        return child(argv[2], argv[3]);
    self_path = "/proc/self/exe";
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter-race/two-hosts", test_two_hosts);
    g_test_add_func("/arbiter-race/killed", test_killed);
    return g_test_run();
}
