/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two real nodes in a simulated world (tests/world/world.h): faults come by chance, alone and together,
 * and are over after a while. At any time: clients hear one history only, a VM that was overtaken is
 * not heard any more, RAM and disk are those of the device state whenever a VM runs, what clients were
 * told to be on disk is there, and none boots anew while somebody holds a copy. When all is well again: clients are answered, and the pair is protected.
 *
 * Each seed is a process of its own and tells one story. SIM_SEEDS=N tells N of them (1000), from
 * WORLD_FIRST on, and with WORLD_FIRST_FAILURE ends after one that fails. WORLD_SEED=S tells S, with
 * WORLD_TRACE=1 in all detail. WORLD_HOURS: of each (1).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define SECOND G_USEC_PER_SEC

/* Hosts that are dead are started again by then, and the ways are whole. */
#define HEAL_US (20 * SECOND)
/* And then all has to be well within this. */
#define WELL_US (60 * SECOND)

/* ---- Faults ---- */

static gboolean has_arbiter(void)
{
    return strcmp(world.arbiter, "none") != 0;
}

static WorldHost *any_host(void)
{
    return &world.host[world_random(WORLD_HOSTS)];
}

static WorldHost *primary(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++)
        if (world.host[i].lives && world.host[i].node->is_primary)
            return &world.host[i];
    return any_host();
}

static WorldHost *one_of_them(void)
{
    return world_chance(500) ? primary() : any_host();
}

static void kill_host(void)
{
    world_die(one_of_them(), world_chance(300));
}

static void freeze_host(void)
{
    world_freeze(one_of_them(), world_between(10000, world_chance(300) ? 6 * SECOND : SECOND));
}

static void freeze_both(void)
{
    gint64 us = world_between(10000, 6 * SECOND);
    for (guint i = 0; i < WORLD_HOSTS; i++)
        world_freeze(&world.host[i], us + world_between(0, 500000));
}

static gboolean heal_way(gpointer data)
{
    world.cut[GPOINTER_TO_UINT(data)] = FALSE;
    world_tell("the way from %s is whole", world.host[GPOINTER_TO_UINT(data)].name);
    world_link_look();
    return G_SOURCE_REMOVE;
}

static void cut_way(guint from)
{
    world.cut[from] = TRUE;
    world_tell("the way from %s is cut", world.host[from].name);
    world_link_look();
    world_later(NULL, world_between(50000, world_chance(500) ? HEAL_US / 2 : SECOND), heal_way,
                GUINT_TO_POINTER(from));
}

static void cut_one_way(void)
{
    cut_way((guint)world_random(WORLD_HOSTS));
}

static void cut_both_ways(void)
{
    cut_way(0);
    cut_way(1);
}

static void reset_link(void)
{
    world_tell("the connections are reset");
    world_link_reset();
}

static gboolean plug_in(gpointer data)
{
    WorldHost *host = data;
    host->carrier = TRUE;
    world_tell("%s has a carrier again", host->name);
    world_net_look();
    return G_SOURCE_REMOVE;
}

static void unplug(void)
{
    WorldHost *host = one_of_them();
    host->carrier = FALSE;
    world_tell("%s has no carrier", host->name);
    world_net_look();
    world_later(NULL, world_between(SECOND / 10, HEAL_US / 2), plug_in, host);
}

static void storage_is_bad(WorldHost *host)
{
    host->storage_bad_until_us = world.now_us + 2 * HEAL_US;
}

static void hang_storage(void)
{
    gint64 until = world.now_us + world_between(SECOND / 10, HEAL_US / 2);
    WorldHost *host = any_host();
    world_tell("the arbiter's storage hangs");
    host->storage_hangs_until_us = until;
    storage_is_bad(host);
    if (world_chance(500)) {
        world.host[!host->index].storage_hangs_until_us = until;
        storage_is_bad(&world.host[!host->index]);
    }
}

static gboolean storage_is_prompt(gpointer data)
{
    (void)data;
    world.arbiter_hangs_per_mille = 0;
    return G_SOURCE_REMOVE;
}

static void slow_storage(void)
{
    world_tell("answers of the arbiter are late");
    world.arbiter_hangs_per_mille = 500;
    for (guint i = 0; i < WORLD_HOSTS; i++)
        storage_is_bad(&world.host[i]);
    world_later(NULL, world_between(SECOND, HEAL_US / 2), storage_is_prompt, NULL);
}

static gboolean mount_again(gpointer data)
{
    WorldHost *host = data;
    g_autofree char *away = g_strconcat(host->arbiter_path, ".away", NULL);
    if (rename(away, host->arbiter_path) == 0)
        world_tell("%s: the arbiter's storage is back", host->name);
    return G_SOURCE_REMOVE;
}

static void unmount(void)
{
    WorldHost *host = any_host();
    g_autofree char *away = g_strconcat(host->arbiter_path, ".away", NULL);
    if (rename(host->arbiter_path, away) == 0)
        world_tell("%s: the arbiter's storage is away", host->name);
    storage_is_bad(host);
    world_later(NULL, world_between(SECOND / 10, HEAL_US / 2), mount_again, host);
}

static gboolean kill_qemu_now(gpointer data)
{
    WorldHost *host = data;
    if (host->vm)
        sim_vm_die(host->vm);
    return G_SOURCE_REMOVE;
}

static void kill_qemu(void)
{
    WorldHost *host = one_of_them();
    if (host->lives)
        world_later(host, 0, kill_qemu_now, host);
}

static void qemu_refuses(void)
{
    static const VmOp ops[] = {VM_OP_RESUME, VM_OP_RESUME, VM_OP_SAVE, VM_OP_LOAD};
    WorldHost *host = one_of_them();
    if (host->vm)
        host->vm->refuse[ops[world_random(G_N_ELEMENTS(ops))]] = (guint)world_between(1, 4);
}

static void qemu_dies_at_work(void)
{
    WorldHost *host = one_of_them();
    if (host->vm)
        host->vm->die_in[world_between(VM_OP_PAUSE, VM_OP_LOAD)] = TRUE;
}

static void slow_qemu(void)
{
    WorldHost *host = one_of_them();
    host->qemu_slow_until_us = world.now_us + world_between(SECOND / 10, 3 * SECOND);
    world_tell("%s: QEMU answers late", host->name);
}

static void hang_disks(void)
{
    WorldHost *host = one_of_them();
    gint64 us = world_between(SECOND / 100, world_chance(300) ? HEAL_US / 2 : SECOND);
    if (!world.disks)
        return;
    host->disk_hangs_until_us = world.now_us + us;
    world_tell("%s: the disks' storage hangs for %.3f s", host->name, (double)us / SECOND);
}

static void kill_disk_server(void)
{
    world_disk_kill(one_of_them());
}

static void arm_fault_point(void)
{
    WorldHost *host = one_of_them();
    host->fault_in = (guint)world_between(1, 12);
}

static void command(const char *name, const char *argument)
{
    WorldHost *host = any_host();
    json_object *arguments = json_object_new_object();
    if (argument)
        json_object_object_add(arguments, argument, json_object_new_boolean(TRUE));
    if (!host->lives || host->ended || !world_is_awake(host)) {
        json_object_put(arguments);
        return;
    }
    gboolean done = world_command(host, name, arguments);
    world_tell("%s: command %s: %s", host->name, name, done ? "done" : host->refusal);
}

/* Without an arbiter it decides for a side that waits: whoever does that looks at the other one first. */
static gboolean somebody_decides(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        const WorldHost *host = &world.host[i];
        if (!has_arbiter() && host->lives &&
            (host->node->state == FSM_S_PAUSED || host->node->state == FSM_P_PAUSED))
            return TRUE;
    }
    return FALSE;
}

static void hand_over(void)
{
    if (!somebody_decides())
        command("failover", NULL);
}

static void ask_for_checkpoint(void)
{
    command("checkpoint", NULL);
}

static gboolean leave_now(gpointer data)
{
    WorldHost *host = data;
    if (host->lives && !host->ended)
        node_leave(host->node);
    return G_SOURCE_REMOVE;
}

static void terminate(void)
{
    WorldHost *host = any_host();
    if (host->lives)
        world_later(host, 0, leave_now, host);
    world_tell("%s: SIGTERM", host->name);
}

static void quit(void)
{
    command("quit", NULL);
}

typedef struct {
    void (*happen)(void);
    guint weight;
} Fault;

static const Fault faults[] = {
    {kill_host,          20},
    {freeze_host,        10},
    {freeze_both,        4 },
    {cut_one_way,        6 },
    {cut_both_ways,      8 },
    {reset_link,         6 },
    {unplug,             6 },
    {hang_storage,       5 },
    {slow_storage,       5 },
    {unmount,            4 },
    {kill_qemu,          6 },
    {qemu_refuses,       4 },
    {qemu_dies_at_work,  4 },
    {slow_qemu,          8 },
    {hang_disks,         10},
    {kill_disk_server,   3 },
    {arm_fault_point,    15},
    {hand_over,          10},
    {ask_for_checkpoint, 2 },
    {terminate,          4 },
    {quit,               1 },
};

static void something_happens(void)
{
    guint sum = 0, at;
    for (guint i = 0; i < G_N_ELEMENTS(faults); i++)
        sum += faults[i].weight;
    at = (guint)world_random(sum);
    for (guint i = 0; i < G_N_ELEMENTS(faults); at -= faults[i++].weight) {
        if (at < faults[i].weight) {
            faults[i].happen();
            return;
        }
    }
}

/* ---- Whoever looks after the hosts ---- */

static gboolean runs(const WorldHost *host)
{
    return host->lives && fsm_is_primary(host->node->state) && host->node->state != FSM_P_ASKING &&
           host->node->state != FSM_P_FROZEN;
}

/* The role that a dead host is started in; NULL: not yet. Without an arbiter a person has to know. */
static const char *role_for(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    if (has_arbiter())
        return "auto";
    if (!peer->lives || peer->node->state == FSM_S_NONE)
        return "primary";
    return runs(peer) && peer->node->state != FSM_P_PAUSED ? "secondary" : NULL;
}

static void start_the_dead(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (host->lives)
            continue;
        if (host->restart_us == 0)
            host->restart_us = world.now_us + world_between(0, HEAL_US / 2);
        const char *role = host->restart_us <= world.now_us ? role_for(host) : NULL;
        if (role)
            world_start(host, role);
    }
}

static void failover_by_force(WorldHost *host)
{
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "force", json_object_new_boolean(TRUE));
    gboolean done = world_command(host, "failover", arguments);
    world_tell("%s: failover --force: %s", host->name, done ? "done" : host->refusal);
}

/* Clients have heard the VM elsewhere since it was here. */
static gboolean is_overtaken(const WorldHost *host)
{
    return host->reign < world_client_heard_reign();
}

static void end_overtaken(WorldHost *host)
{
    world_sometimes("an administrator ends a side whose VM has gone on elsewhere");
    world_die(host, FALSE);
}

/* Without an arbiter: the other host is dead for certain. */
static void decide(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (!host->lives || world.host[!i].lives || has_arbiter() || !world_is_awake(host) ||
            (host->node->state != FSM_S_PAUSED && host->node->state != FSM_P_PAUSED))
            continue;
        if (host->node->state == FSM_P_PAUSED && is_overtaken(host)) {
            end_overtaken(host);
            continue;
        }
        world_sometimes("an administrator decides");
        failover_by_force(host);
    }
}

static gboolean is_protected(void)
{
    const WorldHost *a = &world.host[0], *b = &world.host[1];
    return a->lives && b->lives &&
           ((a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO) ||
            (b->node->state == FSM_P_COLO && a->node->state == FSM_S_COLO));
}

static const char *state_of(const WorldHost *host)
{
    static char text[WORLD_HOSTS][40];
    if (!host->lives)
        return "dead";
    g_snprintf(text[host->index], sizeof(text[0]), "%s %s",
               host->node->is_primary ? "primary" : "secondary", fsm_state_name(host->node->state));
    return text[host->index];
}

/*
 * What needs a person. The side that was let go on has died before it was heard, or with no more than
 * the output of its checkpoint: the other one keeps its VM until somebody says that it is the only one. And without an arbiter: a side whose VM has gone
 * on elsewhere doesn't know it.
 */
static gboolean administrate(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        const WorldHost *peer = &world.host[!i];
        gboolean overtaken = is_overtaken(host);
        if (!host->lives || !world_is_awake(host))
            continue;
        FsmState state = host->node->state;
        if (state == FSM_P_FROZEN && !runs(peer) && (!overtaken || !world_disk_may_boot(peer))) {
            world_sometimes("an administrator says that a frozen VM is the only one");
            world_begin_reign(host);
            failover_by_force(host);
            return TRUE;
        }
        if (!has_arbiter() && (state == FSM_P_FROZEN || state == FSM_P_PAUSED) &&
            (overtaken || (runs(peer) && peer->reign > host->reign))) {
            end_overtaken(host);
            return TRUE;
        }
    }
    return FALSE;
}

static void until_all_is_well(void)
{
    gint64 began = world.now_us, answers = (gint64)world_client_answers();
    gboolean helped = FALSE;
    world_clients_hurry();
    for (;;) {
        world_run_until(world.now_us + SECOND / 2);
        decide();
        start_the_dead();
        if (is_protected() && (gint64)world_client_answers() > answers + 2)
            return;
        if (!helped && world.now_us > began + HEAL_US + WELL_US / 2)
            helped = administrate();
        if (world.now_us > began + HEAL_US + WELL_US)
            world_fail("all is well for %d s, but %s: alpha is %s, beta is %s",
                       (int)(WELL_US / SECOND),
                       is_protected() ? "clients have no answer" : "there is no protection",
                       state_of(&world.host[0]), state_of(&world.host[1]));
    }
}

/* ---- Stories ---- */

static void choose_constants(void)
{
    /* Not often a short one: most of what happens then is checkpoints. */
    static const guint64 periods[] = {2000, 5000, 10000, 30000};
    world.mode = world_chance(600) ? "colo" : "buffered";
    world.arbiter = world_chance(150) ? "none" : "file";
    world.period_ms = world_chance(50) ? 200 : periods[world_random(G_N_ELEMENTS(periods))];
    world.delay_us = (guint)world_between(50, world_chance(200) ? 10000 : 500);
    world.diverges_per_mille = world_chance(500) ? 0 : (guint)world_between(1, 300);
    world.calm_us = world_between(SECOND, 20 * SECOND);
    if (has_arbiter() && world_chance(500))
        world.disks = world_chance(500) ? "raw" : "qcow2";
    world_tell("mode %s, arbiter %s, period %" G_GUINT64_FORMAT " ms, delay %u us, disk %s",
               world.mode, world.arbiter, world.period_ms, world.delay_us,
               world.disks ? world.disks : "none");
}

static void tell_story(guint64 seed, gint64 hours)
{
    world_clock_init();
    world_init(seed);
    choose_constants();
    world.ended_on_purpose = TRUE;
    world_start(&world.host[0], "primary");
    world_start(&world.host[1], "secondary");
    world_clients_start();
    gint64 end = world.now_us + hours * 3600 * SECOND;
    until_all_is_well();
    while (world.now_us < end) {
        world_run_until(world.now_us + world_between(SECOND / 10, 90 * SECOND));
        guint n = world_chance(400) ? (guint)world_between(2, 4) : 1;
        world_clients_hurry();
        for (guint i = 0; i < n; i++) {
            something_happens();
            world_run_until(world.now_us +
                            world_between(0, world_chance(500) ? 100000 : 3 * SECOND));
        }
        until_all_is_well();
    }
    world_end();
}

/* ---- Processes ---- */

typedef struct {
    pid_t pid;
    int out;
    guint64 seed;
    GString *said;
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

static void child_start(Child *child, guint64 seed, gint64 hours)
{
    int fds[2];
    fflush(stdout);
    if (pipe(fds) != 0)
        g_error("pipe");
    child->seed = seed;
    child->said = g_string_new(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        tell_story(seed, hours);
        report();
        _exit(0);
    }
    close(fds[1]);
    child->out = fds[0];
}

/* The first that has ended, with all that it has said; NULL: none runs. */
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
            g_string_append_len(children[i].said, buffer, n);
        }
    }
}

static void add_counts(GHashTable *counts, const char *said)
{
    g_auto(GStrv) lines = g_strsplit(said, "\n", -1);
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

/* Rare states that so many hours must have met. */
#define HOURS_FOR_RARE 200u
static const char *const rare[] = {
    "QEMU refuses something",
    "a checkpoint is applied while it is taken over from",
    "a load writes to a page that it has not written to before",
    "a peer falls silent for a heartbeat-timeout",
    "an administrator decides",
    "an answer of the arbiter comes late",
    "handed-said",
    "handed-stood",
    "output waits for a sign of life",
    "primary-acknowledged",
    "primary-preparing",
    "primary-released",
    "secondary-loaded",
    "secondary-prepared",
    "secondary-received",
    "takeover-granted",
};

static guint print_missing(GHashTable *counts)
{
    guint missing = 0;
    for (guint i = 0; i < G_N_ELEMENTS(rare); i++) {
        if (g_hash_table_contains(counts, rare[i]))
            continue;
        printf("# never: %s\n", rare[i]);
        missing++;
    }
    return missing;
}

/* FALSE: its story failed, and is told. */
static gboolean child_end(Child *child, GHashTable *counts)
{
    int status;
    close(child->out);
    waitpid(child->pid, &status, 0);
    gboolean well = status == 0 && g_str_has_suffix(child->said->str, "over\n");
    if (well)
        add_counts(counts, child->said->str);
    else
        printf("# seed %" G_GUINT64_FORMAT " failed (status %d):\n%s", child->seed, status,
               child->said->str);
    g_string_free(child->said, TRUE);
    *child = (Child){0};
    return well;
}

/* How many failed. */
static guint tell_stories(guint64 first, guint64 seeds, gint64 hours, GHashTable *counts)
{
    guint jobs = (guint)number("WORLD_JOBS", g_get_num_processors()), failed = 0;
    g_autofree Child *children = g_new0(Child, jobs);
    gboolean one_will_do = g_getenv("WORLD_FIRST_FAILURE") != NULL;
    for (guint64 seed = first;;) {
        for (guint i = 0; i < jobs && seed < first + seeds && !(failed && one_will_do); i++)
            if (!children[i].pid)
                child_start(&children[i], seed++, hours);
        Child *child = await_any(children, jobs);
        if (!child)
            return failed;
        failed += !child_end(child, counts);
    }
}

int main(void)
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
    guint failed = tell_stories(first, seeds, hours, counts);
    print_counts(counts);
    gboolean enough = !failed && seeds * (guint64)hours >= HOURS_FOR_RARE;
    guint missing = enough ? print_missing(counts) : 0;
    printf("%sok 1 - %" G_GUINT64_FORMAT " stories\n", failed ? "not " : "", seeds);
    if (enough)
        printf("%sok 2 - rare states are met\n", missing ? "not " : "");
    printf("1..%d\n", enough ? 2 : 1);
    return failed || missing ? 1 : 0;
}
