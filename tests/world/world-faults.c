/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong, by chance: each fault is over by WORLD_HEAL_US after it began. */
#include <errno.h>
#include <stdio.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define SECOND  G_USEC_PER_SEC
#define HEAL_US WORLD_HEAL_US

gboolean world_has_arbiter(void)
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

static gboolean lose_link_now(gpointer data)
{
    (void)data;
    if (world_chance(500))
        cut_both_ways();
    else
        reset_link();
    return G_SOURCE_REMOVE;
}

void world_guest_stalls(const WorldHost *host)
{
    if (host->node->state == FSM_S_COLO && world_chance(500))
        world_later(NULL, 0, lose_link_now, NULL);
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
    world_storage_hang(host, until);
    if (world_chance(500))
        world_storage_hang(&world.host[!host->index], until);
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

void world_unmount(WorldHost *host)
{
    g_autofree char *away = g_strconcat(host->arbiter_path, ".away", NULL);
    if (rename(host->arbiter_path, away) == 0)
        world_tell("%s: the arbiter's storage is away", host->name);
    storage_is_bad(host);
    world_later(NULL, world_between(SECOND / 10, HEAL_US / 2), mount_again, host);
}

static void unmount(void)
{
    world_unmount(any_host());
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
    static const VmOp ops[] = {VM_OP_RESUME, VM_OP_RESUME, VM_OP_SAVE, VM_OP_LOAD, VM_OP_PAUSE};
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
    host->disk_hangs_until_us = MAX(host->disk_hangs_until_us, world.now_us + us);
    world_tell("%s: the disks' storage hangs for %.3f s", host->name, (double)us / SECOND);
}

static void hand_over(void);
static void quit(void);
static void terminate(void);

/* Often it takes over then. */
static void fail_disks(void)
{
    WorldHost *host = one_of_them();
    gint64 us = world_between(SECOND / 100, world_chance(300) ? HEAL_US / 2 : 2 * SECOND);
    if (!world.disks)
        return;
    world_storage_fail(host, world_chance(500) ? ENOSPC : EIO, world_chance(200) ? G_MAXINT64 : us);
    if (world_chance(300))
        world_die(&world.host[!host->index], world_chance(300));
    else if (world_chance(300))
        hand_over();
}

/* What its guest writes next stops it: see world_guest_stalls(). */
static void stall_copy(void)
{
    for (guint i = 0; world.disks && i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (host->lives && host->node->state == FSM_S_COLO)
            world_storage_fail(host, ENOSPC, world_between(SECOND / 2, 2 * SECOND));
    }
    world_clients_hurry();
}

/* In whatever is done then. */
static void fail_syncs(void)
{
    static void (*const then[])(void) = {hand_over, quit, terminate};
    WorldHost *host = one_of_them();
    if (!world.disks)
        return;
    world_storage_fail_syncs(host, world_chance(300) ? ENOSPC : EIO,
                             world_chance(500) ? 0 : world_between(SECOND / 10, HEAL_US / 2));
    if (world_chance(300))
        world_die(&world.host[!host->index], world_chance(300));
    else if (world_chance(300))
        then[world_random(G_N_ELEMENTS(then))]();
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

static void order(const char *name, json_object *arguments)
{
    WorldHost *host = any_host();
    if (!host->lives || host->ended || !world_is_awake(host)) {
        json_object_put(arguments);
        return;
    }
    gboolean done = world_command(host, name, arguments);
    world_tell("%s: command %s: %s", host->name, name, done ? "done" : host->refusal);
}

static void command(const char *name, const char *argument)
{
    json_object *arguments = json_object_new_object();
    if (argument)
        json_object_object_add(arguments, argument, json_object_new_boolean(TRUE));
    order(name, arguments);
}

void world_pause_link(WorldHost *host)
{
    if (!host->lives || host->ended || !world_is_awake(host))
        return;
    if (link_is_up(host->link))
        world_sometimes("an administrator pauses a link that is up");
    gboolean done = world_command(host, "pause", json_object_new_object());
    world_tell("%s: command pause: %s", host->name, done ? "done" : host->refusal);
}

static gboolean would_dial(const WorldHost *host)
{
    return !fsm_is_primary(host->node->state) || host->node->state == FSM_P_FROZEN;
}

void world_recover_link(WorldHost *host, guint where)
{
    if (!host->lives || host->ended || !world_is_awake(host))
        return;
    json_object *arguments = json_object_new_object();
    /* A detour: where the other one listens once it has been told to; and where nobody does. */
    gboolean dials = would_dial(host);
    g_autofree char *uri =
        where == 1 ? g_strdup_printf("10.0.0.%u:9001", dials ? 2 - host->index : host->index + 1)
                   : g_strdup("10.9.9.9:1");
    if (where > 0)
        json_object_object_add(arguments, "uri", json_object_new_string(uri));
    gboolean done = world_command(host, "recover", arguments);
    world_tell("%s: command recover %s: %s", host->name, where ? uri : "",
               done ? "done" : host->refusal);
}

/*
 * Without an arbiter it decides for a side that waits. An administrator who does that looks at the
 * other one first.
 */
static gboolean somebody_decides(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        const WorldHost *host = &world.host[i];
        if (!world_has_arbiter() && host->lives &&
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

static gboolean leave_now(gpointer data)
{
    WorldHost *host = data;
    if (!host->lives || host->ended)
        return G_SOURCE_REMOVE;
    world_handed_terminate(host);
    return G_SOURCE_REMOVE;
}

/* The host shuts down, or whoever holds the VM lets it go. */
static void end_hold(WorldHost *host)
{
    guint64 how = world_random(1000);
    if (how < 80) {
        world_sometimes("a host shuts down while it holds the VM for a switchover");
        world_later(host, 0, leave_now, host);
    } else if (how < 120) {
        world_sometimes("a node is ended while it holds the VM for a switchover");
        world_command(host, "quit", json_object_new_object());
    } else {
        world_command(host, how < 650 ? "continue" : "cancel", json_object_new_object());
    }
}

/* On the host that has it then. */
static gboolean let_go(gpointer data)
{
    WorldHost *host = data;
    if (host->lives && world_is_awake(host) && !host->ended &&
        host->node->state == FSM_P_PRE_SWITCHOVER)
        end_hold(host);
    if (host->lives && host->node->state == FSM_P_PRE_SWITCHOVER)
        world_later(NULL, SECOND / 2, let_go, host);
    return G_SOURCE_REMOVE;
}

static void move_vm(void)
{
    gboolean holds = world_chance(400);
    command("switchover", holds ? "pause" : NULL);
    for (guint i = 0; holds && i < WORLD_HOSTS; i++)
        for (gint64 s = 1; s <= 40; s += 3)
            world_later(NULL, s * SECOND - world_between(0, SECOND), let_go, &world.host[i]);
    if (world_chance(300))
        command(world_chance(800) ? "cancel" : "continue", NULL);
}

static void cancel(void)
{
    command("cancel", NULL);
}

static void ask_for_checkpoint(void)
{
    command("checkpoint", NULL);
}

static void stop_guest(void)
{
    world_stop_guest(one_of_them());
}

static void continue_guest(void)
{
    world_continue_guest(one_of_them());
}

/* And something happens to it at once. */
static void stop_and_fail(void)
{
    stop_guest();
    if (world_chance(500))
        hand_over();
    else
        kill_host();
}

static void pause_link(void)
{
    world_pause_link(any_host());
}

/* Has one side listen on a detour, and the other one dial there. */
static void take_a_detour(void)
{
    for (guint turn = 0; turn < 2; turn++)
        for (guint i = 0; i < WORLD_HOSTS; i++)
            if (world.host[i].lives && would_dial(&world.host[i]) == (turn == 1))
                world_recover_link(&world.host[i], 1);
}

static void recover_link(void)
{
    guint where = (guint)world_random(4);
    if (where == 3)
        take_a_detour();
    else
        world_recover_link(any_host(), where);
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

/*
 * Of the pair, until a node starts again. A pair that begins in `buffered` mode stays in it: so all of
 * its output is known to wait for checkpoints.
 */
static void change_mode(void)
{
    static const char *const modes[] = {"colo", "buffered", "auto"};
    if (!strcmp(world.mode, "buffered"))
        return;
    json_object *set = json_object_new_object();
    json_object_object_add(set, "name", json_object_new_string("mode"));
    json_object_object_add(set, "value",
                           json_object_new_string(modes[world_random(G_N_ELEMENTS(modes))]));
    order("set", set);
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
    {fail_disks,         10},
    {stall_copy,         6 },
    {fail_syncs,         10},
    {kill_disk_server,   3 },
    {arm_fault_point,    15},
    {hand_over,          10},
    {pause_link,         3 },
    {recover_link,       6 },
    {move_vm,            12},
    {cancel,             3 },
    {ask_for_checkpoint, 2 },
    {terminate,          4 },
    {quit,               1 },
    {change_mode,        2 },
    {stop_guest,         8 },
    {continue_guest,     3 },
    {stop_and_fail,      3 },
};

void world_something_happens(void)
{
    guint sum = 0, at;
    if (world.liar && world_chance(500)) {
        world_lie();
        return;
    }
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
