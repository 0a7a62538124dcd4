/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clock, and whose turn it is. GLib's main loop is replaced, as far as colod uses it: sources
 * that have a ready time and no other reason to run. Each process has its list of them; its
 * GMainContext is a name for it only. A source that is attached to the default context goes to the
 * host whose code runs. As in GLib, a turn dispatches what is due of one priority, the most urgent
 * one.
 *
 * The world asks each host what is due, in an order by chance, and advances the clock when nothing
 * is. A host that is paused is not asked.
 *
 * The node's own threads are steps here. A question to the arbiter takes a while and may hang. It
 * may be answered after it was stored, or never.
 */
#include <dlfcn.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "colo/arbiter/arbiter_internal.h"
#include "common/clock.h"
#include "tests/world/world.h"

World world;

/* ---- Time ---- */

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    (void)clock;
    ret->tv_sec = world.now_us / G_USEC_PER_SEC;
    ret->tv_nsec = world.now_us % G_USEC_PER_SEC * 1000;
    return 0;
}

/* The wall clock is the same one. */
int gettimeofday(struct timeval *ret, void *zone)
{
    (void)zone;
    ret->tv_sec = world.now_us / G_USEC_PER_SEC;
    ret->tv_usec = world.now_us % G_USEC_PER_SEC;
    return 0;
}

void world_clock_init(void)
{
    world.now_us = 1000 * (gint64)G_USEC_PER_SEC;
    g_assert_cmpint(g_get_monotonic_time(), ==, world.now_us); /* GLib asks us */
    g_assert_cmpint(g_get_real_time(), ==, world.now_us);
}

/* ---- Chance ---- */

guint64 world_random(guint64 below)
{
    guint64 z = world.random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

/* GLib's, of which generations are drawn. */
guint32 g_random_int(void)
{
    return (guint32)world_random((guint64)G_MAXUINT32 + 1);
}

gboolean world_chance(guint per_mille)
{
    return !world.is_case && per_mille > 0 && world_random(1000) < per_mille;
}

gint64 world_between(gint64 least, gint64 most)
{
    return least + (gint64)world_random((guint64)(most - least) + 1);
}

/* ---- Sources: those of a process, in the order in which they were attached ---- */

typedef struct {
    GSource *source;
    gint64 due_us; /* -1: never */
    guint id;
} Attached;

static GPtrArray *held_back; /* of GSource*: sources of a thread's step; NULL: none are */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    g_assert_nonnull(function);
    return function;
}

static WorldHost *of_context(const GMainContext *context)
{
    for (guint i = 0; i < WORLD_HOSTS; i++)
        if (world.host[i].context == context)
            return &world.host[i];
    return world.outside.context == context ? &world.outside : NULL;
}

static Attached *find_in(WorldHost *host, const GSource *source)
{
    for (guint i = 0; host->sources && i < host->sources->len; i++) {
        Attached *attached = &g_array_index(host->sources, Attached, i);
        if (attached->source == source)
            return attached;
    }
    return NULL;
}

/* NULL: it is attached to none. */
static Attached *find(const GSource *source, WorldHost **ret_host)
{
    WorldHost *const hosts[] = {world.current, &world.host[0], &world.host[1], &world.outside};
    for (guint i = 0; i < G_N_ELEMENTS(hosts); i++) {
        Attached *attached = find_in(hosts[i], source);
        *ret_host = hosts[i];
        if (attached)
            return attached;
    }
    return NULL;
}

static guint attach(GSource *source, GMainContext *context)
{
    static guint last_id;
    WorldHost *host = of_context(context);
    if (!host)
        return 0; /* of a process that has died */
    g_assert(!source->source_funcs->prepare && !source->source_funcs->check);
    Attached attached = {g_source_ref(source), g_source_get_ready_time(source), ++last_id};
    g_array_append_val(host->sources, attached);
    host->due_us = 0;
    return attached.id;
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

void g_source_destroy(GSource *source)
{
    static void (*destroy)(GSource *);
    WorldHost *host;
    Attached *attached = find(source, &host);
    if (!destroy)
        destroy = REAL(g_source_destroy);
    destroy(source);
    g_source_set_callback_indirect(source, NULL, NULL);
    if (!attached)
        return;
    g_array_remove_index(host->sources,
                         (guint)(attached - &g_array_index(host->sources, Attached, 0)));
    g_source_unref(source);
}

void g_source_set_ready_time(GSource *source, gint64 us)
{
    static void (*set)(GSource *, gint64);
    WorldHost *host;
    Attached *attached = find(source, &host);
    if (!set)
        set = REAL(g_source_set_ready_time);
    set(source, us);
    if (!attached)
        return;
    attached->due_us = us;
    host->due_us = 0;
}

gboolean g_source_remove(guint id)
{
    GArray *sources = world.current->sources;
    for (guint i = 0; i < sources->len; i++) {
        if (g_array_index(sources, Attached, i).id == id) {
            g_source_destroy(g_array_index(sources, Attached, i).source);
            return TRUE;
        }
    }
    world_fail("%s removes a source that it hasn't", world.current->name);
}

GMainContext *g_main_context_ref_thread_default(void)
{
    return g_main_context_ref(world.current->context);
}

/* ---- Timeouts and idle functions ---- */

typedef struct {
    GSource source;
    gint64 interval_us;
} Timer;

static gboolean dispatch_timer(GSource *source, GSourceFunc func, gpointer data)
{
    if (!func(data))
        return G_SOURCE_REMOVE;
    g_source_set_ready_time(source, world.now_us + ((Timer *)source)->interval_us);
    return G_SOURCE_CONTINUE;
}

static GSource *timer_new(gint priority, gint64 interval_us)
{
    static GSourceFuncs funcs = {.dispatch = dispatch_timer};
    GSource *source = g_source_new(&funcs, sizeof(Timer));
    ((Timer *)source)->interval_us = interval_us;
    g_source_set_priority(source, priority);
    g_source_set_ready_time(source, world.now_us + interval_us);
    return source;
}

static guint timer_add(gint priority, gint64 interval_us, GSourceFunc func, gpointer data,
                       GDestroyNotify notify)
{
    g_autoptr(GSource) source = timer_new(priority, interval_us);
    g_source_set_callback(source, func, data, notify);
    return attach(source, world.current->context);
}

GSource *g_timeout_source_new(guint ms)
{
    return timer_new(G_PRIORITY_DEFAULT, ms * COLO_US_PER_MS);
}

GSource *g_idle_source_new(void)
{
    return timer_new(G_PRIORITY_DEFAULT_IDLE, 0);
}

guint g_timeout_add_full(gint priority, guint ms, GSourceFunc func, gpointer data,
                         GDestroyNotify notify)
{
    return timer_add(priority, ms * COLO_US_PER_MS, func, data, notify);
}

guint g_timeout_add(guint ms, GSourceFunc func, gpointer data)
{
    return timer_add(G_PRIORITY_DEFAULT, ms * COLO_US_PER_MS, func, data, NULL);
}

guint g_idle_add_full(gint priority, GSourceFunc func, gpointer data, GDestroyNotify notify)
{
    return timer_add(priority, 0, func, data, notify);
}

guint g_idle_add(GSourceFunc func, gpointer data)
{
    return timer_add(G_PRIORITY_DEFAULT_IDLE, 0, func, data, NULL);
}

/* ---- The world's own ---- */

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

/* A thread waits for a mount that is gone for up to so long. */
#define LEFT_US (600 * G_USEC_PER_SEC)

/* How often one that hangs looks whether it still does: a test may mend storage earlier. */
#define LOOK_US (G_GINT64_CONSTANT(1000) * 1000)

typedef struct {
    WorldHost *host;
    GThreadFunc func;
    gpointer data;
    GPtrArray *held;
    gint64 answer_us;     /* after the work; -1: never */
    gint64 wakes_us;      /* it hangs until then, whatever the storage does; 0: it doesn't */
    gboolean may_be_left; /* a question to the arbiter that no other one waits for */
    gboolean is_local;    /* of the host's own storage, which the arbiter's is not */
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
    if (world.now_us < step->wakes_us) {
        world_later(step->host, step->wakes_us - world.now_us, run_step, step);
        return G_SOURCE_REMOVE;
    }
    if (step->is_local && step->host->notes_hang) {
        world_later(step->host, LOOK_US, run_step, step);
        return G_SOURCE_REMOVE;
    }
    if (world.now_us < step->host->storage_hangs_until_us && !step->is_local) {
        if (step->may_be_left && step->host->storage_is_another) {
            step->wakes_us = step->host->storage_hangs_until_us + world_between(0, LEFT_US);
            world_sometimes("a question hangs, though storage is back under the same path");
        }
        gint64 left_us = step->host->storage_hangs_until_us - world.now_us;
        world_later(step->host, MIN(left_us, LOOK_US), run_step, step);
        return G_SOURCE_REMOVE;
    }
    step->held = held_back = g_ptr_array_new();
    step->func(step->data);
    held_back = NULL;
    if (step->answer_us >= 0)
        world_later(NULL, step->answer_us, answer_step, step);
    return G_SOURCE_REMOVE;
}

/*
 * Those in turn wait for the one before, however long: that is a limit (colo/arbiter/arbiter.c). But
 * nobody is to wait so for a VM that is given back.
 */
static gboolean may_be_left(const Question *question)
{
    return !question->in_turn || question->work == arbiter_hand_back ||
           question->work == arbiter_read_again;
}

/* It ends with its process; what it has stored by then stays. */
static GThread *start_step(GThreadFunc func, gpointer data, gboolean may_be_left)
{
    static int thread;
    Step *step = g_new0(Step, 1);
    *step = (Step){.host = world.current, .func = func, .data = data, .may_be_left = may_be_left};
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

/* What a node notes on its own storage. Now and then that hangs, for longer than a takeover waits. */
static GThread *start_note(GThreadFunc func, gpointer data)
{
    static int thread;
    Step *step = g_new0(Step, 1);
    *step = (Step){.host = world.current, .func = func, .data = data, .is_local = TRUE};
    gboolean hangs = world_chance(20);
    if (hangs)
        world_sometimes("a node's own storage hangs as it notes something");
    world_later(world.current, hangs ? world_between(0, 10 * G_USEC_PER_SEC) : 200, run_step, step);
    return (GThread *)&thread;
}

GThread *g_thread_try_new(const char *name, GThreadFunc func, gpointer data, GError **error)
{
    (void)error;
    if (!strcmp(name, "note"))
        return start_note(func, data);
    return start_step(func, data, !strcmp(name, "arbiter") && may_be_left(data));
}

GThread *g_thread_new(const char *name, GThreadFunc func, gpointer data)
{
    (void)name;
    return start_step(func, data, FALSE);
}

void g_thread_unref(GThread *thread)
{
    (void)thread;
}

/* ---- Whose turn it is ---- */

void world_loop_init(WorldHost *host)
{
    host->context = g_main_context_new();
    host->sources = g_array_new(FALSE, FALSE, sizeof(Attached));
    host->due_us = 0;
}

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
    host->due_us = 0;
    if (sigsetjmp(host->death, 0) == 0)
        func(data);
    world_enter(before);
}

/* What is due of the most urgent priority; host->due_us is when something is, if nothing is now. */
static GPtrArray *find_due(WorldHost *host)
{
    static GPtrArray *due;
    gint priority = G_MAXINT;
    if (!due)
        due = g_ptr_array_new_with_free_func((GDestroyNotify)g_source_unref);
    g_ptr_array_set_size(due, 0);
    host->due_us = G_MAXINT64;
    for (guint i = 0; i < host->sources->len; i++) {
        const Attached *attached = &g_array_index(host->sources, Attached, i);
        GSource *source = attached->source;
        if (attached->due_us < 0)
            continue;
        host->due_us = MIN(host->due_us, attached->due_us);
        if (attached->due_us > world.now_us || source->priority > priority)
            continue;
        if (source->priority < priority)
            g_ptr_array_set_size(due, 0);
        priority = source->priority;
        g_ptr_array_add(due, g_source_ref(source));
    }
    return due;
}

static void dispatch_one(GSource *source)
{
    GSourceCallbackFuncs *funcs = source->callback_funcs;
    gpointer held = source->callback_data, data = NULL;
    GSourceFunc func = NULL;
    if (funcs) {
        funcs->ref(held);
        funcs->get(held, source, &func, &data);
    }
    gboolean goes_on = source->source_funcs->dispatch(source, func, data);
    if (funcs)
        funcs->unref(held);
    if (!goes_on && !g_source_is_destroyed(source))
        g_source_destroy(source);
}

static void dispatch_all(gpointer data)
{
    const GPtrArray *due = data;
    for (guint i = 0; i < due->len; i++) {
        GSource *source = g_ptr_array_index(due, i);
        if (!g_source_is_destroyed(source)) /* by one before it */
            dispatch_one(source);
    }
}

/* One turn of its main loop, if something is due. */
static gboolean turn(WorldHost *host)
{
    if (world.now_us < host->due_us)
        return FALSE;
    GPtrArray *due = find_due(host);
    if (due->len == 0)
        return FALSE;
    world_call(host, dispatch_all, due);
    if (host->node) {
        world_storage_check_disks(host);
        world_check_answers(host);
        world_card_check(host);
    }
    return TRUE;
}

void world_run_until(gint64 us)
{
    WorldHost *hosts[] = {&world.host[0], &world.host[1], &world.outside};

    while (world.now_us < us) {
        gboolean turned = FALSE;
        gint64 next_us = us;
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
