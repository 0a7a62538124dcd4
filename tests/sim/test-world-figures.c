/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What status says of durations, in a world (tests/world/world.h) where QEMU takes a known time for
 * each thing that it is told. The clock is the world's: a figure is the same in each run. None is
 * below what is known, and none is more than a fifth above.
 */
#include <string.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define MS     COLO_US_PER_MS
#define SECOND G_USEC_PER_SEC

/* Of each operation, on each host. */
#define PAUSE_MS  150
#define SAVE_MS   250
#define LOAD_MS   350
#define RESUME_MS 200
/* The secondary is handed the VM: QEMU there is asked whether it answers, by a `stop`. */
#define TAKE_MS (PAUSE_MS + LOAD_MS + RESUME_MS)
/* From the pause to the copy's first instruction; and without that question. */
#define MOVE_MS     (PAUSE_MS + SAVE_MS + TAKE_MS)
#define EXPECTED_MS (MOVE_MS - PAUSE_MS)

static WorldHost *const alpha = &world.host[0], *const beta = &world.host[1];

static void slow_down(WorldHost *host)
{
    host->takes_us[VM_OP_PAUSE] = PAUSE_MS * MS;
    host->takes_us[VM_OP_SAVE] = SAVE_MS * MS;
    host->takes_us[VM_OP_LOAD] = LOAD_MS * MS;
    host->takes_us[VM_OP_RESUME] = RESUME_MS * MS;
}

/* ---- Figures of a status: "a.b" is a member of a member. -1: null ---- */

static double figure(WorldHost *host, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, ".", -1);
    json_object *at = world_status(host);
    for (guint i = 0; names[i]; i++) {
        if (!json_object_object_get_ex(at, names[i], &at))
            world_fail("%s: no '%s' in the status", host->name, path);
        if (!at)
            return -1;
    }
    return json_object_get_double(at);
}

static void expect(WorldHost *host, const char *path, double known)
{
    double is = figure(host, path);
    if (is < known || is > known * 1.2)
        world_fail("%s: %s is %.3f, and it was %.3f", host->name, path, is, known);
}

static void expect_null(WorldHost *host, const char *path)
{
    if (figure(host, path) != -1)
        world_fail("%s: %s is %.3f, and there was none", host->name, path, figure(host, path));
}

static void expect_text(WorldHost *host, const char *object, const char *name, const char *text)
{
    json_object *at = json_object_object_get(world_status(host), object);
    const char *is = json_object_get_string(json_object_object_get(at, name));
    if (g_strcmp0(is, text) != 0)
        world_fail("%s: %s.%s is %s, not %s: %s", host->name, object, name, is ? is : "null", text,
                   json_object_to_json_string(json_object_object_get(host->status, object)));
}

/* ---- While time passes: none of these ever falls, and all is at least the sum of its parts ---- */

static double last[WORLD_HOSTS][8];

static void watch(WorldHost *host)
{
    static const char *const rising[] = {"switchover.total-ms", "switchover.setup-ms",
                                         "switchover.downtime-ms", "switchover.peer-downtime-ms",
                                         "takeovers"};
    if (!host->lives || !figure(host, "switchover"))
        return;
    double *before = last[host->index], now[G_N_ELEMENTS(rising)] = {0};
    gboolean moves = json_object_object_get(host->status, "switchover") != NULL;
    for (guint i = moves ? 0 : 4; i < G_N_ELEMENTS(rising); i++) {
        now[i] = figure(host, rising[i]);
        if (now[i] < before[i])
            world_fail("%s: %s was %.3f, and is %.3f", host->name, rising[i], before[i], now[i]);
        before[i] = now[i];
    }
    if (moves && now[0] < now[1] + MAX(now[2], 0))
        world_fail("%s: in all %.3f ms, which isn't %.3f and %.3f", host->name, now[0], now[1],
                   now[2]);
}

static void pass_us(gint64 us)
{
    for (gint64 end_us = world.now_us + us; world.now_us < end_us;) {
        world_run_until(world.now_us + 5 * MS);
        watch(alpha);
        watch(beta);
    }
}

static gboolean is_over(void)
{
    watch(alpha);
    watch(beta);
    return !switchover_is_under_way(switchover_phase(alpha->node->switchover)) &&
           !switchover_is_under_way(switchover_phase(beta->node->switchover));
}

/* ---- Cases ---- */

static void start_slow_pair(void)
{
    slow_down(alpha);
    slow_down(beta);
    world_start_pair();
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        world.host[i].config->downtime_limit_ms = 0;
        world.host[i].config->switchover_timeout_ms = 0;
        memset(last[i], 0, sizeof(last[i]));
        for (guint n = 0; n < G_N_ELEMENTS(last[i]); n++)
            last[i][n] = -1;
    }
    pass_us(3 * SECOND); /* nothing is under way */
}

static void order(WorldHost *host, const char *name, const char *flag)
{
    json_object *arguments = json_object_new_object();
    if (flag)
        json_object_object_add(arguments, flag, json_object_new_boolean(TRUE));
    if (!world_command(host, name, arguments))
        world_fail("%s: %s: %s", host->name, name, host->refusal);
}

static void expect_no_switchover(WorldHost *host)
{
    if (json_object_object_get(world_status(host), "switchover"))
        world_fail("%s: figures of a switchover, and there was none", host->name);
}

static void tell_switchover(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    expect_no_switchover(alpha);
    expect_no_switchover(beta);
    expect_null(beta, "last-takeover");
    gint64 began_us = world.now_us;
    order(alpha, "switchover", NULL);
    expect_null(alpha, "switchover.downtime-ms");
    expect_null(alpha, "switchover.peer-downtime-ms");
    world_await(is_over, "the switchover is over", 30 * SECOND);
    expect_text(alpha, "switchover", "status", "completed");
    expect_text(beta, "switchover", "status", "completed");
    double took_ms = (double)(world.now_us - began_us) / MS;
    expect(alpha, "switchover.downtime-ms", MOVE_MS);
    expect(alpha, "switchover.peer-downtime-ms", TAKE_MS);
    expect(beta, "switchover.peer-downtime-ms", TAKE_MS);
    if (figure(alpha, "switchover.total-ms") > took_ms)
        world_fail("total-ms is more than it was");
    expect(alpha, "switchover.total-ms",
           figure(alpha, "switchover.setup-ms") + figure(alpha, "switchover.downtime-ms") - 0.001);
    expect(beta, "last-takeover.duration-ms", TAKE_MS);
    expect_text(beta, "last-takeover", "cause", "switchover");
    /* The guest stood for all of it, though the VM that runs now is the other one's. */
    expect(beta, "blocktime.longest-ms", MOVE_MS);
    expect(beta, "blocktime.total-ms", MOVE_MS);
    expect(beta, "blocktime.share", (double)MOVE_MS * MS / BLOCKTIME_WINDOW_US);
    /* All are kept until the next one. */
    double kept = figure(alpha, "switchover.total-ms");
    pass_us(20 * SECOND);
    g_assert_cmpfloat(figure(alpha, "switchover.total-ms"), ==, kept);
    expect(alpha, "switchover.downtime-ms", MOVE_MS);
    expect(beta, "last-takeover.duration-ms", TAKE_MS);
}

/* Each checkpoint is due before the one before it is loaded: there is no moment without one. */
static void expect_no_rest(guint64 limit_ms)
{
    world.period_ms = 10;
    for (guint i = 0; i < WORLD_HOSTS; i++)
        world.host[i].takes_us[VM_OP_LOAD] = world.host[i].takes_us[VM_OP_SAVE] = 30 * MS;
    world_start_pair();
    alpha->config->downtime_limit_ms = beta->config->downtime_limit_ms = limit_ms;
    pass_us(3 * SECOND);
    order(alpha, "switchover", NULL);
    world_await(is_over, "the switchover is over", 10 * SECOND);
    expect_text(alpha, "switchover", "status", "completed");
}

static void tell_no_rest(gconstpointer data)
{
    (void)data;
    expect_no_rest(0);
}

static void tell_no_rest_limited(gconstpointer data)
{
    (void)data;
    expect_no_rest(300);
}

/* What it takes in pauses is foretold, in a protected pair and before it begins. */
static void tell_expected(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    pass_us(120 * SECOND); /* some checkpoints: half of them count */
    expect_null(beta, "expected-downtime-ms");
    expect(alpha, "expected-downtime-ms", EXPECTED_MS);
    order(alpha, "switchover", NULL);
    world_await(is_over, "the switchover is over", 30 * SECOND);
    expect(alpha, "switchover.expected-downtime-ms", EXPECTED_MS);
}

/* The secondary doesn't approve for a known time; the VM stands at the primary for another. */
#define SETUP_MS 5000
#define HELD_MS  7000

static gboolean is_held(void)
{
    return alpha->node->state == FSM_P_PRE_SWITCHOVER;
}

static void tell_setup(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    beta->config->arbiter_check_ms = 50;
    world_mount(beta, FALSE);
    pass_us(60 * SECOND);
    order(alpha, "switchover", "pause");
    pass_us(SETUP_MS * MS);
    expect_null(alpha, "switchover.downtime-ms");
    world_mount(beta, TRUE);
    world_await(is_held, "the VM is held", 10 * SECOND);
    expect(alpha, "switchover.setup-ms", SETUP_MS);
    pass_us(HELD_MS * MS);
    /* A running count. */
    expect(alpha, "switchover.downtime-ms", HELD_MS + PAUSE_MS);
    order(alpha, "continue", NULL);
    world_await(is_over, "the switchover is over", 30 * SECOND);
    expect_text(alpha, "switchover", "status", "completed");
    expect(alpha, "switchover.downtime-ms", HELD_MS + MOVE_MS);
    expect(alpha, "switchover.setup-ms", SETUP_MS);
    expect(alpha, "switchover.total-ms", SETUP_MS + HELD_MS + MOVE_MS);
    expect(alpha, "switchover.peer-downtime-ms", TAKE_MS);
    expect(beta, "blocktime.longest-ms", HELD_MS + MOVE_MS);
}

/* Cancelled while it stands: it has stood here all the same. */
static void tell_cancelled(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    order(alpha, "switchover", "pause");
    world_await(is_held, "the VM is held", 10 * SECOND);
    pass_us(HELD_MS * MS);
    order(alpha, "cancel", NULL);
    pass_us(2 * SECOND);
    expect_text(alpha, "switchover", "status", "cancelled");
    expect(alpha, "switchover.downtime-ms", HELD_MS + PAUSE_MS + RESUME_MS);
    expect(alpha, "blocktime.longest-ms", HELD_MS + PAUSE_MS + RESUME_MS);
    expect_null(alpha, "switchover.peer-downtime-ms");
    expect_null(beta, "last-takeover");
}

/* An ordinary checkpoint's pause. */
static void tell_checkpoint(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    double before = figure(alpha, "blocktime.total-ms");
    double count = figure(alpha, "checkpoints.total");
    while (figure(alpha, "checkpoints.total") < count + 3)
        pass_us(SECOND);
    expect(alpha, "blocktime.longest-ms", PAUSE_MS + SAVE_MS + RESUME_MS);
    double pauses = figure(alpha, "blocktime.total-ms") - before;
    g_assert_cmpfloat(pauses, >=, 3 * (PAUSE_MS + SAVE_MS + RESUME_MS));
    g_assert_cmpfloat(pauses, <=, 3 * 1.2 * (PAUSE_MS + SAVE_MS + RESUME_MS));
    /* Nobody's clock. */
    g_assert_cmpfloat(figure(beta, "blocktime.total-ms"), ==, 0);
}

static gboolean has_taken_over(void)
{
    return beta->node->state == FSM_P_NONE;
}

/* From the end of the connections on: the arbiter answers in milliseconds. */
static void tell_lost(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    while (!world_is_protected() || figure(alpha, "checkpoints.total") < 6)
        pass_us(SECOND);
    pass_us(10 * SECOND); /* nothing is under way */
    world_die(alpha, FALSE);
    world_await(has_taken_over, "taken over", 30 * SECOND);
    gboolean runs = !strcmp(world.mode, "colo");
    expect(beta, "last-takeover.duration-ms", runs ? RESUME_MS : LOAD_MS + RESUME_MS);
    expect_text(beta, "last-takeover", "cause", "lost");
    double kept = figure(beta, "last-takeover.duration-ms");
    pass_us(SECOND);
    g_assert_cmpfloat(figure(beta, "last-takeover.duration-ms"), ==, kept);
}

static void tell_failover(gconstpointer data)
{
    (void)data;
    start_slow_pair();
    order(alpha, "failover", NULL);
    world_await(has_taken_over, "taken over", 30 * SECOND);
    expect_text(beta, "last-takeover", "cause", "failover");
    pass_us(20 * SECOND);
    expect_text(beta, "last-takeover", "cause", "failover");
}

/* ---- Given back ---- */

/* From when the secondary gives up until the primary's VM runs. */
#define GIVEN_BACK_US (2 * SECOND)

static gboolean is_handed(void)
{
    return beta->node->state == FSM_S_HANDED;
}

static gboolean is_taking(void)
{
    return beta->node->state == FSM_S_TAKING;
}

static gboolean has_given_up(void)
{
    return !is_handed() && !is_taking();
}

static gboolean alpha_runs(void)
{
    return alpha->vm->vm.running;
}

/* `fail` is called on the world when `at` holds. */
static void expect_given_back(gboolean (*at)(void), void (*fail)(void), const char *why)
{
    start_slow_pair();
    const SimVm *vm = alpha->vm;
    beta->config->disk_timeout_ms = 3000;
    order(alpha, "switchover", NULL);
    world_await(at, "the secondary has the VM to take", 30 * SECOND);
    fail();
    world_await(has_given_up, "the secondary gives up", 30 * SECOND);
    beta->disk_holds = NULL;
    beta->storage_hangs_until_us = 0;
    if (alpha_runs())
        world_fail("the primary's VM runs before it is given back");
    world_await(alpha_runs, "the primary's VM runs", GIVEN_BACK_US);
    world_await(is_over, "the switchover is over", SECOND);
    if (alpha->vm != vm)
        world_fail("that is another VM");
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        expect_text(host, "switchover", "status", "failed");
        const char *told = json_object_get_string(
            json_object_object_get(json_object_object_get(host->status, "switchover"), "error"));
        if (!told || !strstr(told, why))
            world_fail("%s: the switchover's error is '%s', not '%s'", host->name, told, why);
        g_assert_cmpfloat(figure(host, "takeovers"), ==, 0);
    }
    world_await(world_is_protected, "the pair is protected again", 60 * SECOND);
    pass_us(3 * SECOND);
    order(alpha, "switchover", NULL);
    world_await(is_over, "the next switchover is over", 30 * SECOND);
    expect_text(beta, "switchover", "status", "completed");
}

static void refuse_load(void)
{
    beta->vm->refuse[VM_OP_LOAD] = 1;
}

static void tell_given_back(gconstpointer data)
{
    (void)data;
    expect_given_back(is_taking, refuse_load, "the device state of this VM can't be loaded");
}

static void refuse_resume(void)
{
    beta->vm->refuse[VM_OP_RESUME] = G_MAXUINT;
}

static void tell_given_back_late(gconstpointer data)
{
    (void)data;
    expect_given_back(is_taking, refuse_resume, "not taken over in time");
}

static void die_in_load(void)
{
    beta->vm->die_in[VM_OP_LOAD] = TRUE;
}

static void tell_given_back_lost(gconstpointer data)
{
    (void)data;
    expect_given_back(is_taking, die_in_load, "QEMU");
}

static void hold_disks(void)
{
    beta->disk_holds = "takeover";
}

static void tell_given_back_disks(gconstpointer data)
{
    (void)data;
    world.disks = "raw";
    expect_given_back(is_taking, hold_disks, "not taken over in");
}

static void hang_arbiter(void)
{
    beta->storage_hangs_until_us = G_MAXINT64;
}

static void tell_refused(gconstpointer data)
{
    (void)data;
    expect_given_back(is_handed, hang_arbiter, "arbiter");
}

/* ---- RAM by difference ---- */

/* A guest of 12 GiB, say, over a link of 10 Gbit/s. */
#define PAGE_US (300 * MS)

/* The last time that it took from the link's coming up until the pair was protected. */
static gint64 linked_us, took_us;

static gboolean is_protected_again(void)
{
    gboolean is_protected = world_is_protected();
    if (!beta->lives || !link_is_up(beta->link))
        linked_us = 0;
    else if (!linked_us && !is_protected)
        linked_us = world.now_us;
    if (!linked_us || !is_protected)
        return FALSE;
    took_us = world.now_us - linked_us;
    return TRUE;
}

static gint64 protect_us(void)
{
    linked_us = 0;
    world_await(is_protected_again, "the pair is protected", 120 * SECOND);
    return took_us;
}

static gboolean is_alone(void)
{
    return alpha->node->state == FSM_P_NONE;
}

/* What it takes the first time. */
static gint64 start_full_pair(void)
{
    world.page_us = PAGE_US;
    world_start(alpha, "primary");
    world_await(is_alone, "the primary runs", 10 * SECOND);
    for (guint page = 0; page < WORLD_PAGES; page++)
        sim_vm_write(alpha->vm, page, page + 1);
    world_start(beta, "secondary");
    gint64 us = protect_us();
    g_assert_cmpint(us, >=, WORLD_PAGES * PAGE_US);
    pass_us(3 * SECOND);
    return us;
}

static void expect_difference(gint64 first_us, const char *what)
{
    gint64 again_us = protect_us();
    if (again_us * 4 >= first_us)
        world_fail("%s: protected again in %.3f s, and the first time took %.3f s", what,
                   (double)again_us / SECOND, (double)first_us / SECOND);
    pass_us(3 * SECOND);
}

static gboolean is_lost(void)
{
    return !world_is_protected();
}

static void tell_difference(gconstpointer data)
{
    (void)data;
    gint64 first_us = start_full_pair();
    order(beta, "pause", NULL);
    order(beta, "recover", NULL);
    expect_difference(first_us, "after a pause of the link");
    world_link_reset();
    world_await(is_lost, "the link is lost", SECOND);
    expect_difference(first_us, "after a reset of the link");
    world.cut[0] = world.cut[1] = TRUE;
    world_link_look();
    pass_us(4 * SECOND);
    world.cut[0] = world.cut[1] = FALSE;
    world_link_look();
    expect_difference(first_us, "after a cut of the link");
    alpha->config->downtime_limit_ms = 0;
    order(alpha, "switchover", NULL);
    world_await(is_over, "the switchover is over", 30 * SECOND);
    expect_text(alpha, "switchover", "status", "completed");
    expect_difference(first_us, "after a switchover");
}

/* ---- ---- */

typedef struct {
    const char *mode;
    void (*tell)(gconstpointer data);
} Case;

static void run(gconstpointer data)
{
    const Case *test = data;
    for (guint64 seed = 1; seed <= 3; seed++)
        world_case(seed, test->mode, test->tell, NULL);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*tell)(gconstpointer data);
    } tests[] = {
        {"switchover",       tell_switchover      },
        {"no-rest",          tell_no_rest         },
        {"no-rest-limited",  tell_no_rest_limited },
        {"expected",         tell_expected        },
        {"setup",            tell_setup           },
        {"cancelled",        tell_cancelled       },
        {"checkpoint",       tell_checkpoint      },
        {"lost",             tell_lost            },
        {"failover",         tell_failover        },
        {"difference",       tell_difference      },
        {"given-back",       tell_given_back      },
        {"given-back-late",  tell_given_back_late },
        {"given-back-lost",  tell_given_back_lost },
        {"given-back-disks", tell_given_back_disks},
        {"refused",          tell_refused         },
    };
    static const char *const modes[] = {"buffered", "colo"};
    static Case cases[G_N_ELEMENTS(tests) * G_N_ELEMENTS(modes)];
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        cases[i] = (Case){modes[i % 2], tests[i / 2].tell};
        g_autofree char *path =
            g_strdup_printf("/world-figures/%s/%s", modes[i % 2], tests[i / 2].name);
        g_test_add_data_func(path, &cases[i], run);
    }
    return g_test_run();
}
