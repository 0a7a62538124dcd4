/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock, and whose turn it is. Each process of colod has a GMainContext. The functions of GLib
 * that attach a source to the default context are replaced: they attach it to that of the host whose
 * code runs. The world asks each context what is due, in an order by chance, and turns the clock when
 * nothing is. A host that stands still is not asked.
 *
 * The node's own threads are steps here: of a question to the arbiter, which takes a while, may hang,
 * and may be answered after it was stored, or never.
 */
#include <dlfcn.h>
#include <string.h>
#include <time.h>

#include "tests/world/world.h"

#define FDS_MAX 8

World world;

/* ---- Time ---- */

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    (void)clock;
    ret->tv_sec = world.now_us / G_USEC_PER_SEC;
    ret->tv_nsec = world.now_us % G_USEC_PER_SEC * 1000;
    return 0;
}

void world_clock_init(void)
{
    world.now_us = 1000 * (gint64)G_USEC_PER_SEC;
    g_assert_cmpint(g_get_monotonic_time(), ==, world.now_us); /* GLib asks us */
}

/* ---- Chance ---- */

guint64 world_random(guint64 below)
{
    guint64 z = world.random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

gboolean world_chance(guint per_mille)
{
    return per_mille > 0 && world_random(1000) < per_mille;
}

gint64 world_between(gint64 least, gint64 most)
{
    return least + (gint64)world_random((guint64)(most - least) + 1);
}

/* ---- Sources: what GLib attaches to the default context belongs to the host that runs ---- */

static GPtrArray *held_back; /* of GSource*: sources of a thread's step; NULL: none are */

static guint attach(GSource *source, GMainContext *context)
{
    static guint (*real)(GSource *, GMainContext *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "g_source_attach");
    for (guint i = 0; i < WORLD_HOSTS; i++)
        if (world.host[i].context == context)
            world.host[i].due_us = 0;
    if (world.outside.context == context)
        world.outside.due_us = 0;
    return real(source, context);
}

guint g_source_attach(GSource *source, GMainContext *context)
{
    if (held_back) {
        g_ptr_array_add(held_back, g_source_ref(source));
        g_ptr_array_add(held_back, g_main_context_ref(context));
        return 0;
    }
    return attach(source, context ? context : world.current->context);
}

static guint add(GSource *source, gint priority, GSourceFunc func, gpointer data,
                 GDestroyNotify notify)
{
    g_source_set_priority(source, priority);
    g_source_set_callback(source, func, data, notify);
    guint id = attach(source, world.current->context);
    g_source_unref(source);
    return id;
}

guint g_timeout_add_full(gint priority, guint ms, GSourceFunc func, gpointer data,
                         GDestroyNotify notify)
{
    return add(g_timeout_source_new(ms), priority, func, data, notify);
}

guint g_timeout_add(guint ms, GSourceFunc func, gpointer data)
{
    return add(g_timeout_source_new(ms), G_PRIORITY_DEFAULT, func, data, NULL);
}

guint g_idle_add_full(gint priority, GSourceFunc func, gpointer data, GDestroyNotify notify)
{
    return add(g_idle_source_new(), priority, func, data, notify);
}

guint g_idle_add(GSourceFunc func, gpointer data)
{
    return add(g_idle_source_new(), G_PRIORITY_DEFAULT_IDLE, func, data, NULL);
}

gboolean g_source_remove(guint id)
{
    GSource *source = g_main_context_find_source_by_id(world.current->context, id);
    if (!source)
        world_fail("%s removes a source that it hasn't", world.current->name);
    g_source_destroy(source);
    return TRUE;
}

static gboolean dispatch(GSource *source, GSourceFunc func, gpointer data)
{
    (void)source;
    func(data);
    return G_SOURCE_REMOVE;
}

GSource *world_after(WorldHost *host, gint64 us, GSourceFunc func, gpointer data)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    GSource *source = g_source_new(&funcs, sizeof(GSource));
    g_source_set_callback(source, func, data, NULL);
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_ready_time(source, world.now_us + us);
    attach(source, host ? host->context : world.outside.context);
    return source;
}

void world_later(WorldHost *host, gint64 us, GSourceFunc func, gpointer data)
{
    g_source_unref(world_after(host, us, func, data));
}

void world_source_clear(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

/* ---- Threads ---- */

typedef struct {
    WorldHost *host;
    GThreadFunc func;
    gpointer data;
    GPtrArray *held;
    gint64 answer_us; /* after the work; -1: never */
} Step;

static gboolean answer_step(gpointer data)
{
    Step *step = data;
    for (guint i = 0; i < step->held->len; i += 2) {
        attach(g_ptr_array_index(step->held, i), g_ptr_array_index(step->held, i + 1));
        g_source_unref(g_ptr_array_index(step->held, i));
        g_main_context_unref(g_ptr_array_index(step->held, i + 1));
    }
    g_ptr_array_unref(step->held);
    g_free(step);
    return G_SOURCE_REMOVE;
}

static gboolean run_step(gpointer data)
{
    Step *step = data;
    if (world.now_us < step->host->storage_hangs_until_us) {
        world_later(step->host, step->host->storage_hangs_until_us - world.now_us, run_step, step);
        return G_SOURCE_REMOVE;
    }
    step->held = held_back = g_ptr_array_new();
    step->func(step->data);
    held_back = NULL;
    if (step->answer_us >= 0)
        world_later(NULL, step->answer_us, answer_step, step);
    return G_SOURCE_REMOVE;
}

/* It ends with its process; what it has stored by then stays. */
static GThread *start_step(GThreadFunc func, gpointer data)
{
    static int thread;
    Step *step = g_new0(Step, 1);
    *step = (Step){.host = world.current, .func = func, .data = data};
    gint64 wait_us = world_between(200, 3000);
    if (world_chance(world.arbiter_hangs_per_mille)) {
        step->answer_us = world_between(0, 20 * G_USEC_PER_SEC);
        if (world_chance(300))
            wait_us = world_between(0, 20 * G_USEC_PER_SEC);
        world_sometimes("an answer of the arbiter comes late");
    }
    world_later(world.current, wait_us, run_step, step);
    return (GThread *)&thread;
}

GThread *g_thread_try_new(const char *name, GThreadFunc func, gpointer data, GError **error)
{
    (void)name;
    (void)error;
    return start_step(func, data);
}

GThread *g_thread_new(const char *name, GThreadFunc func, gpointer data)
{
    (void)name;
    return start_step(func, data);
}

void g_thread_unref(GThread *thread)
{
    (void)thread;
}

/* ---- Whose turn it is ---- */

WorldHost *world_enter(WorldHost *host)
{
    WorldHost *before = world.current;
    world.current = host;
    return before;
}

gboolean world_is_awake(const WorldHost *host)
{
    return host->lives && host->frozen_until_us <= world.now_us;
}

void world_call(WorldHost *host, void (*func)(gpointer data), gpointer data)
{
    WorldHost *volatile before = world_enter(host);
    GMainContext *volatile context = host->context;
    host->due_us = 0;
    g_main_context_push_thread_default(context);
    if (sigsetjmp(host->death, 0) == 0)
        func(data);
    g_main_context_pop_thread_default(context);
    world_enter(before);
}

static void dispatch_due(gpointer context)
{
    g_main_context_dispatch(context);
}

/* One turn of its main loop, if something is due; else due_us says when something will be. */
static gboolean turn(WorldHost *host)
{
    GPollFD fds[FDS_MAX];
    GMainContext *context = host->context;
    gint priority, wait_ms = -1;

    if (world.now_us < host->due_us)
        return FALSE;
    g_main_context_prepare(context, &priority);
    gint n = g_main_context_query(context, priority, &wait_ms, fds, FDS_MAX);
    host->due_us = wait_ms < 0 ? G_MAXINT64 : world.now_us + (gint64)wait_ms * 1000;
    if (wait_ms != 0)
        return FALSE;
    for (gint i = 0; i < n; i++)
        fds[i].revents = 0;
    g_main_context_check(context, priority, fds, n);
    world_call(host, dispatch_due, context);
    return TRUE;
}

void world_run_until(gint64 us)
{
    WorldHost *hosts[] = {&world.host[0], &world.host[1], &world.outside};

    while (world.now_us < us) {
        gboolean turned = FALSE;
        gint64 next_us = world.now_us + (us - world.now_us + 999) / 1000 * 1000;
        guint first = (guint)world_random(G_N_ELEMENTS(hosts));
        for (guint i = 0; i < G_N_ELEMENTS(hosts); i++) {
            WorldHost *host = hosts[(first + i) % G_N_ELEMENTS(hosts)];
            if (!world_is_awake(host))
                continue;
            if (turn(host))
                turned = TRUE;
            else
                next_us = MIN(next_us, host->due_us);
        }
        if (!turned)
            world.now_us = next_us;
    }
}
