/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stories in processes of their own: so many of them at a time, and what they have met, counted. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/world/world.h"

typedef struct {
    pid_t pid;
    int out;
    guint64 seed;
    GString *output;
} Child;

static guint64 number(const char *name, guint64 fallback)
{
    const char *text = g_getenv(name);
    return text ? g_ascii_strtoull(text, NULL, 10) : fallback;
}

static void report(void)
{
    GHashTableIter i;
    gpointer key, value;
    g_hash_table_iter_init(&i, world.sometimes);
    while (g_hash_table_iter_next(&i, &key, &value))
        printf("sometimes %u %s\n", *(guint *)value, (char *)key);
    printf("sometimes %u takeovers\n", world.takeovers);
    printf("sometimes %u boots\n", world.boots);
    printf("over\n");
    fflush(stdout);
}

/* TRUE: this is the child. */
static gboolean child_fork(Child *child, guint64 seed)
{
    int fds[2];
    fflush(stdout);
    if (pipe2(fds, O_CLOEXEC) != 0)
        g_error("pipe");
    child->seed = seed;
    child->output = g_string_new(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        return TRUE;
    }
    close(fds[1]);
    child->out = fds[0];
    return FALSE;
}

static void child_start(Child *child, WorldStory tell_story, guint64 seed, gint64 hours)
{
    if (!child_fork(child, seed))
        return;
    tell_story(seed, hours);
    report();
    _exit(0);
}

/* The first that has ended, with all of its output; NULL: none runs. */
static Child *await_any(Child *children, guint jobs)
{
    char buffer[4096];
    g_autofree struct pollfd *fds = g_new0(struct pollfd, jobs);
    for (;;) {
        gboolean some = FALSE;
        for (guint i = 0; i < jobs; i++) {
            fds[i] =
                (struct pollfd){.fd = children[i].pid ? children[i].out : -1, .events = POLLIN};
            some |= children[i].pid != 0;
        }
        if (!some || poll(fds, jobs, -1) < 0)
            return NULL;
        for (guint i = 0; i < jobs; i++) {
            if (!fds[i].revents)
                continue;
            ssize_t n = read(fds[i].fd, buffer, sizeof(buffer));
            if (n <= 0)
                return &children[i];
            g_string_append_len(children[i].output, buffer, n);
        }
    }
}

static void add_counts(GHashTable *counts, const char *output)
{
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *rest;
        if (!g_str_has_prefix(*line, "sometimes "))
            continue;
        guint64 n = g_ascii_strtoull(*line + 10, &rest, 10);
        guint64 *sum = g_hash_table_lookup(counts, rest + 1);
        if (!sum) {
            sum = g_new0(guint64, 1);
            g_hash_table_insert(counts, g_strdup(rest + 1), sum);
        }
        *sum += n;
    }
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_counts(GHashTable *counts)
{
    guint n;
    g_autofree char **names = (char **)g_hash_table_get_keys_as_array(counts, &n);
    qsort(names, n, sizeof(*names), by_name);
    for (guint i = 0; i < n; i++)
        printf("# %8" G_GUINT64_FORMAT " %s\n", *(guint64 *)g_hash_table_lookup(counts, names[i]),
               names[i]);
}

/* Rare states are met in so many hours. */
#define HOURS_FOR_RARE 200u

static guint print_missing(GHashTable *counts, const char *const *rare)
{
    guint missing = 0;
    for (; *rare; rare++) {
        if (g_hash_table_contains(counts, *rare))
            continue;
        printf("# never: %s\n", *rare);
        missing++;
    }
    return missing;
}

/* FALSE: its story failed, and is printed. */
static gboolean child_end(Child *child, GHashTable *counts)
{
    int status;
    close(child->out);
    waitpid(child->pid, &status, 0);
    gboolean well = status == 0 && g_str_has_suffix(child->output->str, "over\n");
    if (well)
        add_counts(counts, child->output->str);
    else
        printf("# seed %" G_GUINT64_FORMAT " failed (status %d):\n%s", child->seed, status,
               child->output->str);
    g_string_free(child->output, TRUE);
    *child = (Child){0};
    return well;
}

/* Somebody looks for a story that fails, and for nothing else. */
static gboolean one_will_do(void)
{
    return g_getenv("WORLD_FIRST_FAILURE") != NULL;
}

/* How many failed. */
static guint tell_stories(WorldStory tell_story, guint64 first, guint64 seeds, gint64 hours,
                          GHashTable *counts)
{
    guint jobs = (guint)number("WORLD_JOBS", g_get_num_processors()), failed = 0;
    g_autofree Child *children = g_new0(Child, jobs);
    for (guint64 seed = first;;) {
        for (guint i = 0; i < jobs && seed < first + seeds && !(failed && one_will_do()); i++)
            if (!children[i].pid)
                child_start(&children[i], tell_story, seed++, hours);
        Child *child = await_any(children, jobs);
        if (!child)
            return failed;
        failed += !child_end(child, counts);
    }
}

/* ---- The same seed, the same story ---- */

#define TOLD_TWICE 6u

/*
 * In all detail, by a new program: its addresses differ, too, unlike those of a process that is only
 * forked.
 */
static void child_start_anew(Child *child, guint64 seed)
{
    if (!child_fork(child, seed))
        return;
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, seed);
    g_setenv("WORLD_SEED", text, TRUE);
    g_setenv("WORLD_TRACE", "1", TRUE);
    /* What a world has at its end is left as it is. */
    g_setenv("ASAN_OPTIONS", "detect_leaks=0", TRUE);
    execl("/proc/self/exe", "test-world", NULL);
    _exit(127);
}

static void print_difference(const Child *told)
{
    g_auto(GStrv) one = g_strsplit(told[0].output->str, "\n", -1);
    g_auto(GStrv) other = g_strsplit(told[1].output->str, "\n", -1);
    guint i = 0;
    while (one[i] && !g_strcmp0(one[i], other[i]))
        i++;
    printf("# seed %" G_GUINT64_FORMAT " is told in two ways, from line %u on:\n# %s\n# %s\n",
           told->seed, i + 1, one[i] ? one[i] : "(its end)", other[i] ? other[i] : "(its end)");
}

static gboolean is_told_the_same(guint64 seed)
{
    Child told[2] = {0};
    gboolean well = TRUE;
    for (guint i = 0; i < G_N_ELEMENTS(told); i++)
        child_start_anew(&told[i], seed);
    for (guint i = 0; i < G_N_ELEMENTS(told); i++) {
        int status;
        while (await_any(&told[i], 1) != &told[i])
            ;
        close(told[i].out);
        waitpid(told[i].pid, &status, 0);
        well &= status == 0 && strstr(told[i].output->str, "\nover\n") != NULL;
    }
    gboolean same = well && g_string_equal(told[0].output, told[1].output);
    if (!same)
        print_difference(told);
    for (guint i = 0; i < G_N_ELEMENTS(told); i++)
        g_string_free(told[i].output, TRUE);
    return same;
}

static guint tell_twice(guint64 first, guint64 seeds)
{
    guint others = 0;
    for (guint64 seed = first; seed < first + MIN(seeds, TOLD_TWICE); seed++)
        others += !is_told_the_same(seed);
    return others;
}

/* ---- All of it ---- */

/* It is 25 in one, with a deviation of 4: in HOURS_FOR_RARE the sum can't be below this by luck. */
#define TAKEOVERS_AN_HOUR 20u

static guint tests, not_well;

static void test(gboolean well, const char *what)
{
    printf("%sok %u - %s\n", well ? "" : "not ", ++tests, what);
    not_well += !well;
}

/* Of stories that were all well. */
static void test_counts(GHashTable *counts, guint64 hours, const char *const *rare)
{
    if (hours < HOURS_FOR_RARE)
        return;
    test(print_missing(counts, rare) == 0, "rare states are met");
    const guint64 *takeovers = g_hash_table_lookup(counts, "takeovers");
    test(takeovers && *takeovers >= TAKEOVERS_AN_HOUR * hours, "takeovers are many");
}

int world_tell_stories(WorldStory tell_story, const char *const *rare)
{
    guint64 seeds = number("SIM_SEEDS", 1000), first = number("WORLD_FIRST", 1);
    gint64 hours = (gint64)number("WORLD_HOURS", 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (g_getenv("WORLD_SEED")) {
        tell_story(number("WORLD_SEED", 1), hours);
        report();
        printf("ok 1 - the story of this seed\n1..1\n");
        return 0;
    }
    g_autoptr(GHashTable) counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    guint failed = tell_stories(tell_story, first, seeds, hours, counts);
    print_counts(counts);
    test(failed == 0, "all stories are well");
    if (!failed && !one_will_do()) {
        test_counts(counts, seeds * (guint64)hours, rare);
        test(tell_twice(first, seeds) == 0, "a seed tells the same story again");
    }
    printf("1..%u\n", tests);
    return not_well > 0;
}
