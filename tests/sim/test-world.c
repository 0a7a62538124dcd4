/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two real nodes in a simulated world (tests/world/world.h). Faults come by chance, alone and
 * together, and are over after a while. At any time the following holds. Clients receive one
 * history only. A VM that was overtaken sends them nothing any more. An unprotected VM answers them
 * though the arbiter is away. RAM and disk are those of the device state whenever a VM runs. What
 * clients were told to be on disk is there. No VM boots anew while another host holds a copy. When
 * all is well again, clients are answered, and the pair is protected.
 *
 * Each seed is a process of its own and runs one story. SIM_SEEDS=N runs N of them (1000), from
 * WORLD_FIRST on, and with WORLD_FIRST_FAILURE ends after one that fails, and tests nothing else.
 * WORLD_SEED=S runs S, with WORLD_TRACE=1 in all detail. WORLD_HOURS: of each (1). Enough of them have
 * to reach all rare states and many takeovers. The first few are told twice, which must be the same.
 */
#include <stdio.h>
#include <string.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define SECOND G_USEC_PER_SEC

/* After that all has to be well within this. */
#define WELL_US (60 * SECOND)

/* ---- Whoever looks after the hosts ---- */

static gboolean runs(const WorldHost *host)
{
    return host->lives && fsm_is_primary(host->node->state) && host->node->state != FSM_P_ASKING &&
           host->node->state != FSM_P_FROZEN;
}

/* Clients have received the VM's output elsewhere since it was here. */
static gboolean is_overtaken(const WorldHost *host)
{
    return host->reign < world_client_reached_reign();
}

/*
 * A person knows where the VM ran last, and that disks in step are as good. Where it died in its
 * takeover, clients have received nothing but the output of its checkpoint.
 */
static gboolean may_boot(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    return world_disk_may_boot(host) &&
           (!is_overtaken(host) || world_disk_is_in_step(host) || !world_disk_may_boot(peer));
}

/* The role that a dead host is started in; NULL: not yet. Without an arbiter a person has to know. */
static const char *role_for(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    if (world_has_arbiter())
        return "auto";
    if (!world.disks && (!peer->lives || peer->node->state == FSM_S_NONE))
        return "primary";
    if (!peer->lives)
        return may_boot(host) ? "primary" : "secondary";
    if (peer->node->state == FSM_S_NONE)
        return may_boot(host) ? "primary" : NULL;
    /* A service manager asks nobody whether the one that is left has handed the VM over to it. */
    if (!world.disks && peer->node->state == FSM_P_PAUSED && claim_was_handed(peer->node->claim) &&
        world_chance(500))
        return "secondary";
    return runs(peer) && peer->node->state != FSM_P_PAUSED ? "secondary" : NULL;
}

static void start_the_dead(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (host->lives)
            continue;
        if (host->restart_us == 0)
            host->restart_us = world.now_us + world_between(0, WORLD_HEAL_US / 2);
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

static void end_overtaken(WorldHost *host)
{
    world_sometimes("an administrator ends a side whose VM has gone on elsewhere");
    world_die(host, FALSE);
}

/* Without an arbiter: the VM was handed over, and whoever was to take it is back. */
static void decide_handed(WorldHost *host)
{
    if (!host->lives || world_has_arbiter() || !world_is_awake(host) ||
        host->node->state != FSM_P_RECOVER || claim_doing(host->node->claim) != CLAIM_MANUAL)
        return;
    if (is_overtaken(host)) {
        end_overtaken(host);
        return;
    }
    world_sometimes("an administrator decides for a primary whose secondary is back");
    failover_by_force(host);
}

/* Without an arbiter: the other host is dead for certain. */
static void decide(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        decide_handed(host);
        if (!host->lives || world.host[!i].lives || world_has_arbiter() || !world_is_awake(host) ||
            (host->node->state != FSM_S_PAUSED && host->node->state != FSM_P_PAUSED))
            continue;
        if (host->node->state == FSM_P_PAUSED && is_overtaken(host)) {
            end_overtaken(host);
            continue;
        }
        world_sometimes("an administrator decides");
        if (world.disks)
            world_sometimes("an administrator decides who has the disks");
        failover_by_force(host);
    }
}

/* Without an arbiter: whoever forces both sides of a link that is lost has two VMs, of one past. */
static void decide_in_haste(void)
{
    WorldHost *a = &world.host[0], *b = &world.host[1];
    if (world_has_arbiter() || !a->lives || !b->lives || !world_is_awake(a) || !world_is_awake(b) ||
        a->node->state + b->node->state != FSM_P_PAUSED + FSM_S_PAUSED ||
        (a->node->state != FSM_P_PAUSED && b->node->state != FSM_P_PAUSED) || !world_chance(30))
        return;
    world_sometimes("an administrator lets both sides continue");
    world_client_split();
    failover_by_force(a);
    failover_by_force(b);
}

/* The one that is left is the VM from now on. */
static void end_split(WorldHost *ended)
{
    WorldHost *left = &world.host[!ended->index];
    world_sometimes("an administrator ends one of two VMs");
    world_die(ended, FALSE);
    world_begin_reign(left);
    world_client_unite(left);
    world.port_of_guest = -1; /* a switch forgets in the end */
}

/* One of the two VMs has ended by itself: likewise. */
static void unite_if_one_is_left(void)
{
    for (guint i = 0; world.split && i < WORLD_HOSTS; i++) {
        const WorldHost *ended = &world.host[!i];
        WorldHost *left = &world.host[i];
        gboolean has_ended = !ended->lives || (!runs(ended) && ended->node->state != FSM_S_DEVICE &&
                                               ended->node->state != FSM_S_PAUSED);
        if (!runs(left) || left->node->state == FSM_P_PAUSED || !has_ended)
            continue;
        world_sometimes("one of two VMs ends by itself");
        world_begin_reign(left);
        world_client_unite(left);
        world.port_of_guest = -1; /* a switch forgets in the end */
    }
}

static void command(WorldHost *host, const char *name)
{
    gboolean done = world_command(host, name, json_object_new_object());
    world_tell("%s: administrator's %s: %s", host->name, name, done ? "done" : host->refusal);
}

/* What docs/PROCEDURES.md says of an image that could not be synced: the other host's is well. */
static gboolean moves_from_unsynced(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (!world_disk_sync_error(host) || host->node->state != FSM_P_COLO || !world_chance(500))
            continue;
        world_sometimes("an administrator moves a VM whose disks can't be synced");
        command(host, "failover");
        return TRUE;
    }
    return FALSE;
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
 * What needs a person. The side that continued has died before clients received anything from it,
 * or with no more than the output of its checkpoint. The other one then keeps its VM until an
 * administrator says that it is the only one. Without an arbiter, there is also a side whose VM has
 * continued elsewhere and that doesn't know it.
 */
static gboolean administrate(void)
{
    unite_if_one_is_left();
    if (world.split && runs(&world.host[0]) && runs(&world.host[1])) {
        end_split(&world.host[world_random(WORLD_HOSTS)]);
        return TRUE;
    }
    if (world.left && world.host[0].lives && world.host[1].lives && runs(&world.host[0]) &&
        runs(&world.host[1])) {
        world_sometimes(
            "an administrator ends a side whose peer has said that it ends, and has not");
        /* The VM of the other one is newer. If this one is on record all the same, it boots again,
         * and the other one is ended next. */
        world_die(&world.host[world.host[0].reign > world.host[1].reign], FALSE);
        world.port_of_guest = -1; /* a switch forgets in the end */
        return TRUE;
    }
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        const WorldHost *peer = &world.host[!i];
        gboolean overtaken = is_overtaken(host);
        if (host->lives && host->node->state == FSM_S_DEVICE && world_disk_sync_error(host)) {
            world_sometimes("an administrator gives back a VM whose disks can't be synced");
            command(host, "quit");
            world.awaits_start = TRUE;
            return TRUE;
        }
        if (host->lives && !strcmp(world.disks ? world.disks : "", "qcow2") && runs(host) &&
            world_disk_sync_error(host) && !fsm_is_protected(host->node->state)) {
            world_sometimes("an administrator shuts down a guest that can't be protected any more");
            command(host, "quit");
            world.awaits_start = TRUE;
            return TRUE;
        }
        if (!host->lives && runs(peer) && host->trouble &&
            strstr(host->trouble, "the generations forbid")) {
            world_sometimes("an administrator discards one side's disks");
            host->discards = TRUE;
            world.awaits_start = TRUE;
            return TRUE;
        }
        if (!host->lives || !world_is_awake(host))
            continue;
        FsmState state = host->node->state;
        if (state == FSM_P_FROZEN && !runs(peer) && (!overtaken || !world_disk_may_boot(peer))) {
            world_sometimes("an administrator says that a frozen VM is the only one");
            if (!overtaken)
                world_handed_needs_person(host);
            world_begin_reign(host);
            failover_by_force(host);
            return TRUE;
        }
        if (!world_has_arbiter() && (state == FSM_P_FROZEN || state == FSM_P_PAUSED) &&
            (overtaken || (runs(peer) && peer->reign > host->reign))) {
            end_overtaken(host);
            return TRUE;
        }
    }
    return FALSE;
}

/*
 * The output of a VM that nobody could take over from must leave. It waits for a checkpoint, which
 * the secondary is at, but never for storage that may be away for hours.
 */
static void look_at_the_unprotected(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        const WorldHost *host = &world.host[i];
        const Node *node = host->node;
        if (host->lives && node->state == FSM_P_ACTIVE &&
            traffic_route(node->traffic) != ROUTE_OPEN && !claim_is_recorded(node->claim))
            world_fail("%s: an unprotected VM's output waits for the arbiter", host->name);
    }
}

/* What was paused, or was led elsewhere, is led back. */
static void recover_links(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (!host->lives || host->ended || !world_is_awake(host) || link_is_up(host->link))
            continue;
        const Seek *seek = host->node->seek;
        if (seek_is_paused(seek) || g_strcmp0(seek_address(seek), host->node->config->peer) != 0)
            world_recover_link(host, 0);
    }
}

static gboolean is_stopped(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++)
        if (runs(&world.host[i]) && resume_is_stopped(world.host[i].node->resume))
            return TRUE;
    return FALSE;
}

/* A guest that is stopped is continued: in half of the stories as soon as its pair is protected. */
static gboolean may_continue(gboolean stays)
{
    if (!stays || !is_stopped())
        return TRUE;
    if (world_is_protected())
        world_sometimes("a pair whose guest is stopped is protected again");
    return world_is_protected();
}

/*
 * A secondary's QEMU, so far that a new one is due. It isn't while the secondary may have the arbiter's
 * yes: the primary can't do without it until their session is over.
 */
static gboolean has_grown(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        const WorldHost *host = &world.host[i];
        const Memory *memory = host->node ? host->node->memory : NULL;
        const Node *peer = world.host[!i].node;
        gboolean may_leave = peer && !primary_is_doubted(peer->primary);
        if (memory && host->node->state == FSM_S_COLO && host->vm && may_leave &&
            memory_is_grown(memory_base(memory), host->vm->private_bytes,
                            host->config->qemu_growth_limit_bytes))
            return TRUE;
    }
    return FALSE;
}

static void until_all_is_well_again(void)
{
    gint64 began = world.now_us, answers = (gint64)world_client_answers();
    gint64 well_us = WELL_US;
    gboolean moved = FALSE, stays = world_chance(500);
    guint helped = 0;
    world.awaits_start = FALSE;
    world_clients_hurry();
    for (;;) {
        world_run_until(world.now_us + SECOND / 2);
        world.guests_are_calm = world.now_us > began + WORLD_HEAL_US;
        look_at_the_unprotected();
        recover_links();
        decide_in_haste();
        decide();
        start_the_dead();
        if ((world_chance(200) || world.now_us > began + WORLD_HEAL_US) && may_continue(stays))
            world_continue_the_stopped();
        if (world.now_us > began + WORLD_HEAL_US && world_storage_mend())
            world_sometimes("an administrator mends storage");
        if (world_is_protected() && !has_grown() && !world.lies &&
            (gint64)world_client_answers() > answers + 2 &&
            (moved || !(moved = moves_from_unsynced())))
            return;
        if (helped < 3 && world.now_us > began + WORLD_HEAL_US + (2 + helped) * WELL_US / 4)
            helped += administrate() ? 1 : 0;
        /* One of the two is ended, refused, and told to discard its disks; the other host starts. */
        if (world.split || world.awaits_start)
            well_us = 2 * WELL_US;
        if (world.now_us > began + WORLD_HEAL_US + well_us)
            world_fail("all is well for %d s, but %s: alpha is %s, beta is %s",
                       (int)(well_us / SECOND),
                       has_grown()            ? "a secondary's QEMU has grown"
                       : world_is_protected() ? "clients have no answer"
                       : is_stopped()         ? "there is no protection of a guest that is stopped"
                                              : "there is no protection",
                       state_of(&world.host[0]), state_of(&world.host[1]));
    }
}

static void until_all_is_well(void)
{
    until_all_is_well_again();
    world.guests_are_calm = FALSE;
}

/* Perhaps one of the two has never run, or has died. */
static void end_all_doubt(void)
{
    for (guint i = 0; i < WORLD_HOSTS && world.split; i++)
        if (world.host[i].node->is_primary)
            world_client_unite(&world.host[i]);
}

/* ---- Stories ---- */

static void choose_constants(void)
{
    /* Not often a short one: most of what happens then is checkpoints. */
    static const guint64 periods[] = {2000, 5000, 10000, 30000};
    static const guint dirty_limits[] = {0, 0, 8, 20};
    static const guint epoch_writes[] = {0, 4, 8, 16};
    static const char *const on_errors[] = {"report", "stop", "enospc"};
    world.mode = !world_chance(600) ? "buffered" : world_chance(300) ? "auto" : "colo";
    world.arbiter = world_chance(150) ? "none" : "file";
    world.period_ms = world_chance(50) ? 200 : periods[world_random(G_N_ELEMENTS(periods))];
    world.delay_us = (guint)world_between(50, world_chance(200) ? 10000 : 500);
    world.diverges_per_mille = world_chance(500) ? 0 : (guint)world_between(1, 300);
    world.calm_us = world_between(SECOND, 20 * SECOND);
    if (world_has_arbiter() && world_chance(120))
        world.liar = &world.host[world_random(WORLD_HOSTS)];
    else if (world_chance(500))
        world.disks = world_chance(500) ? "raw" : "qcow2";
    world.dirty_limit = dirty_limits[world_random(G_N_ELEMENTS(dirty_limits))];
    world.epoch_writes = epoch_writes[world_random(G_N_ELEMENTS(epoch_writes))];
    world.on_error = on_errors[world_random(G_N_ELEMENTS(on_errors))];
    world.knows_room = world_chance(500);
    if (world.knows_room && world_chance(500))
        world.output_limit = 2048; /* nine frames */
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
            world_something_happens();
            world_run_until(world.now_us +
                            world_between(0, world_chance(500) ? 100000 : 3 * SECOND));
        }
        until_all_is_well();
        world_truth();
        end_all_doubt();
    }
    world_end();
}

/* Rare states that are met all the same. */
static const char *const rare[] = {
    "QEMU refuses something",
    "a VM that has moved is kept as the copy",
    "a VM that was kept has pages that need not be sent",
    "a checkpoint is applied while it is taken over from",
    "a load writes to a page that it has not written to before",
    "a pause waits for writes that are being let through",
    "a peer says what is not true",
    "a question hangs, though storage is back under the same path",
    "a node's own storage hangs as it notes something",
    "a peer falls silent for a heartbeat-timeout",
    "an administrator pauses a link that is up",
    "an administrator's recover fails",
    "an administrator's recover leads to a link",
    "a link goes over another address",
    "a guest gets an error of its disk",
    "a guest has no room for a frame",
    "a guest panics",
    "a guest powers off",
    "a guest reboots",
    "a copy's guest panics",
    "a copy's guest powers off",
    "a copy's guest reboots",
    "output stays in the guest",
    "a guest is continued where it was not stopped",
    "a guest is stopped",
    "a guest is stopped during a checkpoint",
    "a guest stops while others of its writes wait",
    "a guest that is stopped is handed over",
    "a guest that is stopped is taken over",
    "a link is lost while the copy is stalled",
    "a primary whose question is open is linked again",
    "a secondary whose question is open is linked again",
    "a takeover while a checkpoint is half received",
    "a write waits for the next epoch",
    "the arbiter's yes is stored, and its answer is lost",
    "the VMs are compared again",
    "the VMs differ too often: buffered mode for a while",
    "the dirty-limit is reached",
    "a host shuts down while it holds the VM for a switchover",
    "a host shuts down, and its VM is the other one's to take",
    "a node is ended while it holds the VM for a switchover",
    "a VM that was handed over is given back",
    "a VM that was handed over is given back before its secondary ends",
    "a secondary is ended that has asked for a VM that was handed over",
    "a secondary's QEMU has grown, and is replaced",
    "a secondary is ended in a takeover that was refused",
    "a secondary loses its QEMU in a takeover",
    "a secondary's colod dies as it takes over a VM that was handed over",
    "a primary is told that it has its VM back",
    "a primary learns from the arbiter that it has its VM back",
    "a switchover: pre-switchover",
    "a switchover: cancelled",
    "a switchover: completed",
    "a switchover: failed",
    "a switchover is completed, and where the VM stood can be seen",
    "an administrator decides",
    "an administrator decides who has the disks",
    "an administrator ends one of two VMs",
    "an administrator mends storage",
    "an administrator gives back a VM whose disks can't be synced",
    "an administrator moves a VM whose disks can't be synced",
    "an answer of the arbiter comes late",
    "an error of its disk stops a guest",
    "fdatasync fails: a guest's flush",
    "fdatasync fails: a state file",
    "fdatasync fails: a takeover",
    "fdatasync fails: an ordered end",
    "fdatasync fails: before a checkpoint",
    "fdatasync fails: the last mark",
    "fdatasync fails: what was applied",
    "frames are in the tap of a host whose VM has been taken",
    "handed-sent",
    "handed-paused",
    "output waits for a sign of life",
    "primary-acknowledged",
    "primary-preparing",
    "primary-released",
    "secondary-loaded",
    "secondary-prepared",
    "secondary-received",
    "storage fails as a replica stages what its peer sends",
    "storage refuses to let QEMU open its disks again",
    "storage refuses what a takeover needs",
    "takeover-granted",
    NULL,
};

int main(void)
{
    return world_tell_stories(tell_story, rare);
}
