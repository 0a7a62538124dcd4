/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every order of starts, ends and deaths of two hosts, on the real disk engine and the real
 * arbiter. What a client was told to be on disk is there whenever the VM runs, on whichever host.
 * The VM can be started as long as the newest disks exist. What else a node does is done here as
 * owner.c, generation.c and final.c of colo/node/ do it.
 *
 * The test runs all stories up to a length (ORDERS_LENGTH; with DEEP=yes longer ones), and random
 * ones that are longer still. ORDERS_SEED=N runs one of those again, ORDERS_RUNS=N more of them.
 */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "colo/arbiter/arbiter.h"
#include "common/endian.h"
#include "tests/support/block-pair.h"

#define UUID          "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define RECORD_BYTES  512u
#define RECORDS_MAX   250u
#define RANDOM_LENGTH 30u

static const guint64 sizes[SIDE_DISKS] = {RECORDS_MAX * RECORD_BYTES, 70000};

typedef enum {
    OFF,
    RUNS,  /* as primary, alone or with the other as its replica */
    WAITS, /* as secondary, for a primary */
    HOLDS, /* a replica that could take over */
} HostState;

typedef struct {
    const char *name;
    Side *side;
    HostState state;
    gboolean asks; /* whose the VM is, while it waits: no primary has come since it was started */
    ArbiterStake stake;
} Host;

typedef struct {
    char *dir; /* the arbiter's */
    Arbiter *arbiter;
    Host host[2];
    char session[2 * BLOCK_SESSION_BYTES + 1];
    guint64 epoch;
    guint told;       /* records 0 to told - 1 are on disk, a client was told */
    gboolean in_step; /* nobody runs the VM, and either host's disks have all of them */
} World;

/* ---- The arbiter ---- */

typedef struct {
    gboolean answered;
    ArbiterAnswer answer;
} Answered;

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    if (answer == ARBITER_UNKNOWN)
        g_error("the arbiter: %s", error->message);
    *(Answered *)user_data = (Answered){TRUE, answer};
}

static ArbiterAnswer wait_for(Answered *answered)
{
    while (!answered->answered)
        g_main_context_iteration(NULL, TRUE);
    return answered->answer;
}

static ArbiterAnswer claim(World *w, const Host *host, ArbiterClaim how, const ArbiterStake *stake)
{
    Answered answered = {0};
    arbiter_claim(w->arbiter, UUID, host->name, how, stake, on_answer, &answered);
    return wait_for(&answered);
}

static ArbiterAnswer ask(World *w, const Host *host)
{
    Answered answered = {0};
    arbiter_ask(w->arbiter, UUID, w->session, host->name, w->epoch, on_answer, &answered);
    return wait_for(&answered);
}

static guint64 generation_of(const Host *host)
{
    DiskSetStatus status;
    disk_set_status(host->side->set, &status);
    return status.generation.current;
}

static void record(World *w, const Host *host, const char *session)
{
    Answered answered = {0};
    arbiter_record(w->arbiter, UUID, session, host->name, generation_of(host), on_answer,
                   &answered);
    wait_for(&answered);
}

static void release(World *w, const Host *host, guint64 generation, const char *in_step)
{
    Answered answered = {0};
    ArbiterRest rest = {generation, w->epoch, in_step};
    arbiter_give_back(w->arbiter, UUID, host->name, &rest, on_answer, &answered);
    wait_for(&answered);
}

/* ---- Records ---- */

static void fill(guint8 *bytes, guint number)
{
    memset(bytes, (int)(number % 250) + 1, RECORD_BYTES);
}

static void put(const Host *host, guint number, guint pattern)
{
    guint8 bytes[RECORD_BYTES];
    fill(bytes, pattern);
    g_assert_cmpint(
        disk_write(host->side->disks[0], bytes, RECORD_BYTES, (guint64)number * RECORD_BYTES, TRUE),
        ==, 0);
}

/* The VM has just begun to run here. */
static void assert_all_there(const World *w, const Host *host)
{
    g_assert_cmpint(w->host[0].state == RUNS && w->host[1].state == RUNS, ==, FALSE);
    for (guint i = 0; i < w->told; i++) {
        guint8 bytes[RECORD_BYTES], expected[RECORD_BYTES];
        fill(expected, i);
        g_assert_cmpint(
            disk_read(host->side->disks[0], bytes, RECORD_BYTES, (guint64)i * RECORD_BYTES), ==, 0);
        if (memcmp(bytes, expected, RECORD_BYTES))
            g_error("%s: record %u of %u is not what the client was told", host->name, i, w->told);
    }
}

/* ---- What hosts do ---- */

static void open_host(Host *host, gboolean owner)
{
    g_autoptr(GError) error = NULL;
    side_open(host->side, owner, &error);
    g_assert_no_error(error);
}

static void write_alone(World *w, Host *host, const char *session)
{
    g_autoptr(GError) error = NULL;
    disk_set_write_alone(host->side->set, &error);
    g_assert_no_error(error);
    record(w, host, session);
    host->state = RUNS;
    w->in_step = FALSE;
    assert_all_there(w, host);
}

static Host *running(World *w)
{
    return w->host[0].state == RUNS ? &w->host[0] : w->host[1].state == RUNS ? &w->host[1] : NULL;
}

static gboolean start(World *w, Host *host, gboolean chosen)
{
    g_autoptr(GError) error = NULL;
    if (host->state != OFF)
        return FALSE;
    host->stake = (ArbiterStake){.has_disks = TRUE, .chosen = chosen};
    disk_set_examine(host->side->configs, SIDE_DISKS, host->side->dir, &host->stake.generation,
                     &error);
    g_assert_no_error(error);
    ArbiterAnswer answer = claim(w, host, ARBITER_LOOK, &host->stake);
    if (answer == ARBITER_OPEN)
        answer = claim(w, host, ARBITER_CLAIM, &host->stake);
    if (w->in_step)
        g_assert_cmpint(answer, ==, ARBITER_GRANTED);
    open_host(host, answer == ARBITER_GRANTED);
    host->state = WAITS;
    host->asks = answer != ARBITER_GRANTED && !chosen;
    if (answer == ARBITER_GRANTED)
        write_alone(w, host, NULL);
    return TRUE;
}

/* Those that wait ask again, whichever host runs the VM. */
static void ask_whose(World *w)
{
    for (int i = 0; i < 2; i++) {
        Host *host = &w->host[i];
        if (host->state != WAITS || !host->asks ||
            claim(w, host, ARBITER_INHERIT, &host->stake) != ARBITER_GRANTED)
            continue;
        g_assert_null(running(w));
        g_assert_false(w->in_step); /* ended on purpose */
        side_close(host->side);
        open_host(host, TRUE);
        write_alone(w, host, NULL);
    }
}

static Host *other(World *w, const Host *host)
{
    return host == &w->host[0] ? &w->host[1] : &w->host[0];
}

static void checkpoint(World *w, Host *a, Host *b)
{
    g_autoptr(GError) error = NULL;
    w->epoch++;
    disk_set_mark(a->side->set, w->epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_marked(b->side, w->epoch));
    disk_set_apply(b->side->set, w->epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_applied(a->side, w->epoch));
}

/* Nothing that is not the newest may ask to be overwritten in vain: it always is older. */
static void synchronise(World *w, Host *a, Host *b)
{
    for (guint i = 0; i < 4; i++)
        g_snprintf(w->session + i * 8, 9, "%08x", g_random_int());
    record(w, a, w->session);
    if (!side_synchronise(a->side, b->side))
        g_error("%s may not synchronise %s: %s", a->name, b->name,
                a->side->lost_message ? a->side->lost_message : b->side->lost_message);
    w->epoch = 0;
}

static void go_on_alone(World *w, Host *host)
{
    disk_set_detach(host->side->set);
    g_assert_cmpint(ask(w, host), ==, ARBITER_GRANTED);
    write_alone(w, host, w->session);
}

static void take_over(World *w, Host *host)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(ask(w, host), ==, ARBITER_GRANTED);
    disk_set_takeover(host->side->set, w->epoch, &error);
    g_assert_no_error(error);
    host->state = RUNS;
    assert_all_there(w, host);
    record(w, host, NULL);
}

static void leave(Host *host)
{
    disk_set_detach(host->side->set);
    host->state = WAITS;
}

static void die(Host *host)
{
    side_crash(host->side);
    host->state = OFF;
}

/* Another boot: the kernel's name for it in the state file is another one. */
static void reboot(const Host *host)
{
    g_autofree char *path = g_build_filename(host->side->dir, "state", NULL);
    g_autofree char *bytes = NULL;
    gsize len;
    if (!g_file_get_contents(path, &bytes, &len, NULL) || len != 256)
        return;
    bytes[72] = (char)(bytes[72] ^ 0xff);
    colo_put_be64(bytes + 248, XXH3_64bits(bytes, 248));
    g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

/* ---- Steps: TRUE if it could be done ---- */

static gboolean do_start_a(World *w)
{
    return start(w, &w->host[0], FALSE);
}

static gboolean do_start_b(World *w)
{
    return start(w, &w->host[1], FALSE);
}

/* Ordered on the wrong side, as soon as one is the wrong one. */
static gboolean do_choose_a(World *w)
{
    return start(w, &w->host[0], TRUE);
}

static gboolean do_choose_b(World *w)
{
    return start(w, &w->host[1], TRUE);
}

/* In `colo` mode the copy has sent the same: the client is told though no checkpoint has it. */
static gboolean do_write(World *w)
{
    Host *host = running(w);
    if (!host || w->told + 1 >= RECORDS_MAX)
        return FALSE;
    put(host, w->told, w->told);
    if (other(w, host)->state == HOLDS)
        put(other(w, host), w->told, w->told);
    w->told++;
    return TRUE;
}

static gboolean do_join(World *w)
{
    Host *a = running(w), *b = a ? other(w, a) : NULL;
    if (!a || b->state != WAITS)
        return FALSE;
    synchronise(w, a, b);
    checkpoint(w, a, b);
    b->state = HOLDS;
    b->asks = FALSE;
    return TRUE;
}

static gboolean do_half_join(World *w)
{
    Host *a = running(w), *b = a ? other(w, a) : NULL;
    if (!a || b->state != WAITS)
        return FALSE;
    synchronise(w, a, b);
    disk_set_detach(b->side->set);
    disk_set_detach(a->side->set);
    write_alone(w, a, w->session);
    b->asks = FALSE;
    return TRUE;
}

static Host *protected(World *w)
{
    Host *a = running(w);
    return a && other(w, a)->state == HOLDS ? a : NULL;
}

static gboolean do_checkpoint(World *w)
{
    Host *a = protected(w);
    if (a)
        checkpoint(w, a, other(w, a));
    return a != NULL;
}

static void end(World *w, Host *host, const char *in_step)
{
    guint64 generation = generation_of(host);
    side_close(host->side);
    host->state = OFF;
    release(w, host, generation, in_step);
}

/* With a last mark that is confirmed. */
static gboolean do_end(World *w)
{
    g_autoptr(GError) error = NULL;
    Host *a = protected(w), *b = a ? other(w, a) : NULL;
    if (!a)
        return FALSE;
    w->epoch++;
    g_assert_true(disk_set_mark(a->side->set, w->epoch, NULL));
    g_assert_true(side_wait_marked(b->side, w->epoch));
    disk_set_finish(b->side->set, w->epoch, &error);
    g_assert_no_error(error);
    end(w, a, b->name);
    leave(b);
    w->in_step = TRUE;
    return TRUE;
}

/* Without: alone, or the secondary doesn't answer. */
static gboolean do_end_alone(World *w)
{
    Host *a = running(w);
    if (!a)
        return FALSE;
    if (other(w, a)->state == HOLDS)
        leave(other(w, a));
    end(w, a, NULL);
    return TRUE;
}

static gboolean do_end_secondary(World *w)
{
    Host *a = running(w), *b = &w->host[w->host[0].state == RUNS];
    if (b->state != WAITS && b->state != HOLDS)
        return FALSE;
    gboolean was_held = b->state == HOLDS;
    side_close(b->side);
    b->state = OFF;
    if (was_held)
        go_on_alone(w, a);
    return TRUE;
}

static gboolean do_primary_dies(World *w)
{
    Host *a = running(w);
    if (!a)
        return FALSE;
    die(a);
    if (other(w, a)->state == HOLDS)
        take_over(w, other(w, a));
    return TRUE;
}

static gboolean do_secondary_dies(World *w)
{
    Host *a = running(w), *b = &w->host[w->host[0].state == RUNS];
    if (b->state != WAITS && b->state != HOLDS)
        return FALSE;
    gboolean was_held = b->state == HOLDS;
    die(b);
    if (was_held)
        go_on_alone(w, a);
    return TRUE;
}

static gboolean do_power_cut(World *w)
{
    for (int i = 0; i < 2; i++)
        if (w->host[i].state != OFF) {
            die(&w->host[i]);
            reboot(&w->host[i]);
        }
    return TRUE;
}

/*
 * The link is cut, and the secondary wins. What the primary wrote until it knew, no client was
 * told.
 */
static gboolean do_overtaken(World *w)
{
    Host *a = protected(w), *b = a ? other(w, a) : NULL;
    if (!a)
        return FALSE;
    put(a, w->told, 77);
    die(a);
    take_over(w, b);
    g_assert_cmpint(ask(w, a), ==, ARBITER_DENIED);
    open_host(a, FALSE);
    a->state = WAITS;
    a->asks = FALSE;
    return TRUE;
}

static gboolean do_cut_in_vain(World *w)
{
    Host *a = protected(w);
    if (!a)
        return FALSE;
    leave(other(w, a));
    go_on_alone(w, a);
    return TRUE;
}

/* The secondary has won and dies before it has taken over: only its primary's disks have all. */
static gboolean do_win_and_die(World *w)
{
    Host *a = protected(w);
    if (!a)
        return FALSE;
    die(a);
    g_assert_cmpint(ask(w, other(w, a)), ==, ARBITER_GRANTED);
    die(other(w, a));
    return TRUE;
}

/* A new disk, and nothing known of it, where the other host runs the VM. */
static gboolean do_new_disk(World *w)
{
    Host *a = running(w), *b = a ? other(w, a) : NULL;
    if (!a || b->state != OFF)
        return FALSE;
    side_free(b->side);
    b->side = side_new(sizes);
    return TRUE;
}

static const struct {
    const char *name;
    gboolean (*run)(World *w);
} steps[] = {
    {"start-a",        do_start_a       },
    {"start-b",        do_start_b       },
    {"choose-a",       do_choose_a      },
    {"choose-b",       do_choose_b      },
    {"write",          do_write         },
    {"join",           do_join          },
    {"half-join",      do_half_join     },
    {"checkpoint",     do_checkpoint    },
    {"end",            do_end           },
    {"end-alone",      do_end_alone     },
    {"end-secondary",  do_end_secondary },
    {"primary-dies",   do_primary_dies  },
    {"secondary-dies", do_secondary_dies},
    {"power-cut",      do_power_cut     },
    {"overtaken",      do_overtaken     },
    {"cut-in-vain",    do_cut_in_vain   },
    {"win-and-die",    do_win_and_die   },
    {"new-disk",       do_new_disk      },
};

enum { STEPS = G_N_ELEMENTS(steps) };

/* ---- Stories ---- */

static guint stories, story_length;

static void world_init(World *w)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount = NULL;
    *w = (World){
        .host = {{.name = "alpha"}, {.name = "beta"}}
    };
    w->dir = g_file_test("/dev/shm", G_FILE_TEST_IS_DIR)
                 ? g_mkdtemp(g_strdup("/dev/shm/colo-orders-XXXXXX"))
                 : g_dir_make_tmp("colo-orders-XXXXXX", NULL);
    arbiter_init_folder(w->dir, &id, &mount, &error);
    g_assert_no_error(error);
    w->arbiter = arbiter_new(w->dir, NULL, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 2; i++)
        w->host[i].side = side_new(sizes);
}

static void world_clear(World *w)
{
    for (int i = 0; i < 2; i++)
        side_free(w->host[i].side);
    arbiter_free(w->arbiter);
    GDir *dir = g_dir_open(w->dir, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(w->dir, name, NULL);
        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(w->dir);
    g_free(w->dir);
}

/*
 * Whatever has happened, once all hosts are started the VM runs again, with all that was told, and
 * can be protected.
 */
static void assert_recovers(World *w)
{
    if (!running(w)) {
        for (int i = 0; i < 2; i++)
            if (w->host[i].state != OFF)
                die(&w->host[i]);
        for (guint i = 0; i < 2; i++)
            start(w, &w->host[(i + stories) % 2], FALSE);
        ask_whose(w);
    }
    Host *a = running(w);
    g_assert_nonnull(a);
    assert_all_there(w, a);
    Host *b = other(w, a);
    if (b->state == OFF)
        start(w, b, FALSE);
    if (b->state == WAITS)
        g_assert_true(do_join(w));
    g_assert_true(do_write(w));
    g_assert_true(do_primary_dies(w));
    g_assert_true(running(w) == b);
}

static void begin(World *w, gboolean protect)
{
    world_init(w);
    /* Nobody begins by chance. */
    g_assert_true(do_start_b(w) && !running(w));
    g_assert_true(do_choose_a(w) && running(w) == &w->host[0]);
    g_assert_true(do_write(w));
    if (!protect)
        return;
    g_assert_true(do_join(w));
    g_assert_true(do_write(w));
}

static guint env_number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

/* TRUE if the whole story could be run. */
static gboolean tell(const guint *story, guint length, gboolean protect)
{
    World w;
    gboolean possible = TRUE;
    begin(&w, protect);
    for (guint i = 0; i < length && possible; i++) {
        possible = steps[story[i]].run(&w);
        ask_whose(&w);
        if (running(&w))
            do_write(&w);
    }
    if (possible) {
        stories++;
        assert_recovers(&w);
    }
    world_clear(&w);
    return possible;
}

static void tell_all(guint *story, guint length, gboolean protect)
{
    if (length == story_length)
        return;
    for (guint step = 0; step < STEPS; step++) {
        if (steps[step].run == do_write)
            continue; /* after every step */
        story[length] = step;
        g_autoptr(GString) text = g_string_new(NULL);
        for (guint i = 0; i <= length; i++)
            g_string_append_printf(text, " %s", steps[story[i]].name);
        g_test_message("%s", text->str);
        if (tell(story, length + 1, protect))
            tell_all(story, length + 1, protect);
    }
}

static void test_all(gconstpointer protect)
{
    story_length = env_number("ORDERS_LENGTH", g_strcmp0(g_getenv("DEEP"), "yes") ? 2 : 4);
    g_autofree guint *story = g_new0(guint, story_length);
    stories = 0;
    tell_all(story, 0, protect != NULL);
    g_test_message("%u stories", stories);
    g_assert_cmpuint(stories, >, 30);
}

static void tell_random(guint32 seed)
{
    World w;
    GRand *rand = g_rand_new_with_seed(seed);
    g_test_message("ORDERS_SEED=%u", seed);
    begin(&w, g_rand_boolean(rand));
    for (guint i = 0; i < RANDOM_LENGTH;) {
        guint step = (guint)g_rand_int_range(rand, 0, STEPS);
        if (!steps[step].run(&w))
            continue;
        g_test_message("%s", steps[step].name);
        ask_whose(&w);
        i++;
    }
    assert_recovers(&w);
    world_clear(&w);
    g_rand_free(rand);
}

static void test_random(void)
{
    if (g_getenv("ORDERS_SEED")) {
        tell_random(env_number("ORDERS_SEED", 0));
        return;
    }
    for (guint i = 0; i < env_number("ORDERS_RUNS", 15); i++)
        tell_random(g_test_rand_int() & 0x7fffffff);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/orders/from-alone", NULL, test_all);
    g_test_add_data_func("/orders/from-protected", "", test_all);
    g_test_add_func("/orders/random", test_random);
    return g_test_run();
}
