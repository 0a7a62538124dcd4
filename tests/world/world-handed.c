/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM that is handed over, and the secondary that fails to take it over, in each way that it can.
 * It gives the VM back: its own has ended by then, and nothing of it was heard. Then the primary
 * continues.
 */
#include "colo/arbiter/arbiter_internal.h"
#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define SECOND G_USEC_PER_SEC

/* By host: it gives the VM back, and its primary doesn't know that yet. */
static gboolean gives_back[WORLD_HOSTS];
/* It was told to end in a takeover. Whoever did that tells a primary that waits, too. */
static gboolean ended_in_takeover[WORLD_HOSTS];

void world_handed_terminate(WorldHost *host)
{
    host->told_to_end = TRUE;
    host->insistence++;
    if (host->node->state == FSM_P_HANDED)
        world_sometimes("a host shuts down, and its VM is the other one's to take");
    node_leave(host->node);
}

static gboolean end_now(gpointer data)
{
    WorldHost *host = data;
    if (!host->lives || host->ended)
        return G_SOURCE_REMOVE;
    world_handed_terminate(host);
    return G_SOURCE_REMOVE;
}

static gboolean reset_now(gpointer data)
{
    (void)data;
    world_link_reset();
    return G_SOURCE_REMOVE;
}

static gboolean die_now(gpointer data)
{
    WorldHost *host = data;
    if (!host->lives || host->ended)
        return G_SOURCE_REMOVE;
    if (host->node->state == FSM_S_TAKING)
        world_sometimes("a secondary's colod dies as it takes over a VM that was handed over");
    world_die(host, world_chance(300));
    return G_SOURCE_REMOVE;
}

static void hang_arbiter(WorldHost *host)
{
    world_storage_hang(host, world.now_us + world_between(SECOND / 10, WORLD_HEAL_US / 2));
}

static gboolean hang_arbiter_now(gpointer data)
{
    hang_arbiter(data);
    if (world_chance(300))
        world_link_reset();
    return G_SOURCE_REMOVE;
}

/* Something that a takeover needs, or the primary's way back. */
static void fail(WorldHost *host)
{
    SimVm *vm = host->vm;
    switch (world_random(9)) {
    case 0:
        vm->refuse[VM_OP_LOAD] = 1;
        break;
    case 1:
        vm->refuse[VM_OP_RESUME] = (guint)world_between(1, 8);
        break;
    case 2:
        vm->die_in[world_chance(500) ? VM_OP_LOAD : VM_OP_RESUME] = TRUE;
        break;
    case 3:
        host->disk_hangs_until_us = world.now_us + world_between(SECOND, 8 * SECOND);
        break;
    case 4:
        world_later(host, world_between(0, 30000), end_now, host);
        break;
    case 5:
        vm->refuse[VM_OP_LOAD] = 1;
        world_later(NULL, world_between(0, 30000), reset_now, NULL);
        break;
    case 6:
        world_later(NULL, world_between(0, 30000), die_now, host);
        break;
    case 7:
        vm->refuse[VM_OP_RESUME] = (guint)world_between(1, 8);
        world_later(&world.host[!host->index], world_between(0, 30000), end_now,
                    &world.host[!host->index]);
        break;
    default:
        vm->refuse[VM_OP_LOAD] = 1;
        world_later(host, world_between(0, 10000), hang_arbiter_now, host);
    }
}

/* The primary's VM continues: the other one's is not on its way to. (One is perhaps forced.) */
static void check_alone(const WorldHost *host, FsmState before)
{
    const WorldHost *peer = &world.host[!host->index];
    if (world.lied || world.split || !world_has_arbiter() || !peer->lives)
        return;
    if (before == FSM_P_FROZEN ? peer->node->state == FSM_S_TAKING
                               : fsm_is_taking_over(peer->node->state))
        world_fail("%s continues while %s takes the VM over", host->name, peer->name);
}

static void look_at_given_back(const WorldHost *host, FsmState state)
{
    if (host->vm)
        world_fail("%s gives the VM back, and has it", host->name);
    world_sometimes(state == FSM_COMPLETED
                        ? "a VM that was handed over is given back before its secondary ends"
                        : "a VM that was handed over is given back");
}

void world_handed_needs_person(const WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    if (!peer->lives || world.lied || !world_has_arbiter() || ended_in_takeover[peer->index])
        return;
    ClaimStart start = claim_starting(peer->node->claim);
    if (gives_back[peer->index])
        world_fail("%s waits for a person, though %s has given the VM back", host->name,
                   peer->name);
    if (peer->node->state == FSM_S_NONE)
        world_fail("%s waits for a person, though %s has no VM and waits for it", host->name,
                   peer->name);
    if (start == CLAIM_START_WAITS || start == CLAIM_START_WAITS_ASKED)
        world_fail("%s waits for a person, though %s has given the VM up, and waits for it",
                   host->name, peer->name);
}

/* The network is busy while a VM is handed over. */
#define FLURRY_US (30 * 1000)

static gint64 flurry_until_us;

static gboolean on_flurry(gpointer data)
{
    static const guint8 frame[NETCOMPARE_VNET_HDR_BYTES + 60] = {0};
    (void)data;
    if (world.now_us >= flurry_until_us)
        return G_SOURCE_REMOVE;
    world_net_to_guest(frame, sizeof(frame));
    world_later(NULL, world_between(20, 200), on_flurry, NULL);
    return G_SOURCE_REMOVE;
}

/* When a host's VM was taken. */
static gint64 taken_us[WORLD_HOSTS];

/*
 * What the network has sent to the old primary until it learns that the VM is the other's is forwarded: the
 * network knows better only since then.
 */
void world_handed_closes(const WorldHost *host, guint unread)
{
    if (unread && taken_us[host->index] == world.now_us && host->node &&
        host->node->state == FSM_P_FROZEN)
        world_fail("%s: its VM was taken, and %u frames for it in its tap are lost", host->name,
                   unread);
}

/* ---- A yes that is too late, and its secondary is ended ---- */

/* By then whoever ends has told the arbiter, and whoever was denied has looked there. */
#define CONCEDED_US (5 * SECOND)

/* By host: when it was ended as a secondary that holds the VM, too. */
static gint64 ended_us[WORLD_HOSTS];

/* The arbiter does not answer in time, and does then: the secondary has left the VM to the primary. */
static void ask_too_late(WorldHost *host)
{
    world_storage_hang(host, world.now_us + world_between(5 * SECOND, 7 * SECOND));
    world_later(host, world_between(8 * SECOND, 20 * SECOND), end_now, host);
}

static gboolean is_answered(const WorldHost *host)
{
    return host->storage_hangs_until_us <= world.now_us && world.arbiter_hangs_per_mille == 0 &&
           g_file_test(host->arbiter_path, G_FILE_TEST_EXISTS);
}

/* No primary waits for a secondary that was ended, and has run nothing, to be started again. */
static gboolean look_at_ended(gpointer data)
{
    WorldHost *host = data, *peer = &world.host[!host->index];
    if (ended_us[host->index] != world.now_us - CONCEDED_US || host->lives || world.lied ||
        !peer->lives || peer->ended || !world_is_awake(peer) ||
        peer->storage_bad_until_us > world.now_us)
        return G_SOURCE_REMOVE;
    if (peer->node->state == FSM_P_FROZEN)
        world_fail("%s is frozen, for %s, which was ended before it ran the VM", peer->name,
                   host->name);
    return G_SOURCE_REMOVE;
}

/* By host: the answer to what it asks in a hand-over is lost, for storage goes away when it has been stored. */
static gboolean loses_answer[WORLD_HOSTS];

static void on_asked(gboolean done, gpointer data)
{
    WorldHost *host = data;
    if (!done || !loses_answer[host->index] || !host->node || host->node->state != FSM_S_HANDED)
        return;
    loses_answer[host->index] = FALSE;
    world_sometimes("the arbiter's yes is stored, and its answer is lost");
    world_unmount(host);
}

void world_handed_begins(WorldHost *host)
{
    arbiter_set_hook(claim_arbiter(host->node->claim), on_asked, host);
}

static gboolean quit_now(gpointer data)
{
    WorldHost *host = data;
    if (host->lives && !host->ended && world_is_awake(host))
        world_command(host, "quit", json_object_new_object());
    return G_SOURCE_REMOVE;
}

/* It leaves the VM to its primary, which ends, and is started again. */
static void lose_answer(WorldHost *host)
{
    WorldHost *peer = &world.host[!host->index];
    loses_answer[host->index] = TRUE;
    world_later(peer, world_between(SECOND, 8 * SECOND), quit_now, peer);
}

/* Its takeover is cut off, and QEMU doesn't run the VM until the node is ended; or dies. */
static void fail_alone(WorldHost *host)
{
    if (world_chance(500)) {
        host->vm->refuse[VM_OP_RESUME] = 8;
        world_later(host, world_between(SECOND / 10, 4 * SECOND), end_now, host);
    } else {
        host->vm->die_in[world_chance(500) ? VM_OP_LOAD : VM_OP_RESUME] = TRUE;
    }
}

/* Nothing has run there in the takeover; nor are images its own, from which it could be started again. */
static gboolean is_unheard(const WorldHost *host, FsmState before)
{
    gboolean is_taken = world.disks && traffic_route(host->node->traffic) == ROUTE_OPEN;
    return before == FSM_S_DEVICE && !host->ran_in_takeover && !is_taken;
}

static void note_end(WorldHost *host, FsmState before)
{
    gboolean held = before == FSM_S_COLO || before == FSM_S_HANDED || before == FSM_S_PAUSED ||
                    before == FSM_S_RECOVER;
    gboolean unheard = is_unheard(host, before);
    host->ended_unheard = unheard;
    ended_us[host->index] = 0;
    if ((!held && !unheard) || !world_has_arbiter() || !is_answered(host))
        return;
    if (unheard)
        world_sometimes(host->vm ? "a secondary is ended in a takeover that was refused"
                                 : "a secondary loses its QEMU in a takeover");
    if (claim_has_asked_handed(host->node->claim))
        world_sometimes("a secondary is ended that has asked for a VM that was handed over");
    ended_us[host->index] = world.now_us;
    world_later(NULL, CONCEDED_US, look_at_ended, host);
}

void world_handed_moved(WorldHost *host, guint before, const char *event)
{
    FsmState state = host->node->state;
    if (!g_strcmp0(event, "taken"))
        taken_us[host->index] = world.now_us;
    if (state == FSM_P_HANDED && before != FSM_P_HANDED && world_chance(300)) {
        flurry_until_us = world.now_us + FLURRY_US;
        world_later(NULL, 0, on_flurry, NULL);
    }
    if (state == FSM_S_HANDED && before != FSM_S_HANDED && world_chance(60))
        ask_too_late(host);
    else if (state == FSM_S_HANDED && before != FSM_S_HANDED && world_chance(60))
        lose_answer(host);
    if (fsm_is_taking_over(state) && !fsm_is_taking_over((FsmState)before))
        host->ran_in_takeover = host->ended_unheard = FALSE;
    if (state == FSM_S_DEVICE && before != FSM_S_DEVICE && host->vm && world_chance(100))
        fail_alone(host);
    if (state == FSM_COMPLETED || (state == FSM_FAILED && before == FSM_S_DEVICE))
        note_end(host, (FsmState)before);
    ended_in_takeover[host->index] |= state == FSM_COMPLETED && before == FSM_S_DEVICE;
    ended_in_takeover[!host->index] &= state != FSM_P_NONE;
    if (state == FSM_COMPLETED && before == FSM_P_HANDED && host->insistence == 1)
        world_fail("%s ends its VM, and the other one may give it back", host->name);
    if (state == FSM_S_TAKING && before != FSM_S_TAKING && host->vm && world_chance(300))
        fail(host);
    if (state == FSM_S_GIVING && before == FSM_S_TAKING &&
        (switchover_is_cancelled(host->node->switchover) ||
         switchover_phase(host->node->switchover) == SWITCHOVER_CANCELLED))
        world_sometimes(
            "a VM is given back, as its switchover was cancelled while the arbiter was asked");
    if (state == FSM_P_NONE && fsm_is_contested((FsmState)before))
        check_alone(host, (FsmState)before);
    if (g_strcmp0(event, "given-back") != 0) {
        if (fsm_is_contested((FsmState)before) && state == FSM_P_NONE && gives_back[!host->index])
            world_sometimes("a primary learns from the arbiter that it has its VM back");
        gives_back[host->index] |= state == FSM_S_GIVING || state == FSM_S_LEAVING;
        gives_back[!host->index] &= state != FSM_P_NONE;
        return;
    }
    gives_back[!host->index] &= state != FSM_P_NONE;
    if (state == FSM_P_NONE)
        world_sometimes("a primary is told that it has its VM back");
    else
        look_at_given_back(host, state);
}
