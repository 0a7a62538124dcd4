/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients ask the guest one thing after the other, and again until they are answered. All that they
 * receive has to be of one history: what they received once is in all that they receive later.
 */
#include <string.h>

#include "colo/node/node_internal.h"
#include "netcompare/netcompare.h"
#include "tests/support/netframe.h"
#include "tests/world/world.h"

#define CLIENTS   2u
#define PORT      7000u
#define GUEST     2u
#define REPEAT_US (250 * 1000)
/* What a primary that is back gives its secondary at most. */
#define PATIENCE_US (3 * G_USEC_PER_SEC)
/* Of a frame: virtio-net header, Ethernet, IPv4 and UDP without options. */
#define PAYLOAD (NETCOMPARE_VNET_HDR_BYTES + 14u + 20u + 8u)

typedef struct {
    guint32 client, request;
} Question;

typedef struct {
    guint32 client, request;
    guint64 position, id;
    guint64 flushed; /* the blocks of this moment that are durable, a bit for each */
} Reply;

#define FLUSH_EACH 3u /* of so many requests one is flushed */

typedef struct {
    guint32 index, request;
    gint64 asked_us;
    GSource *timer;
} Client;

static Client clients[CLIENTS];
static const History *longest;        /* the longest */
static guint64 on_disk[WORLD_BLOCKS]; /* what clients were told to be there */
static guint reached_reign;
static gint64 reached_us;
static guint64 answers;

/* ---- The guest's side ---- */

static gboolean was_seen(const History *history, const Question *question)
{
    for (; history && history->position > 0; history = history->parent)
        if (history->client == question->client)
            return history->request >= question->request;
    return FALSE;
}

/*
 * The blocks that are durable now: all after a flush, but for those that a flush has failed for
 * before, and that are lost.
 */
static guint64 write_to_disk(SimVm *vm)
{
    guint block = (guint)(vm->history->position % WORLD_BLOCKS);
    world_disk_write(vm->host, block, vm->history->id);
    if (vm->history->position % FLUSH_EACH != 0 || world_disk_flush(vm->host) != 0)
        return 0;
    guint64 durable = 0;
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (!world_disk_may_differ(vm->host, i))
            durable |= 1u << i;
    return durable;
}

/* One thing that the guest does: its history is longer, a page is written, and a block. */
static guint64 act(SimVm *vm, guint32 client, guint32 request, guint64 local)
{
    vm->history = history_next(vm->history, client, request, local);
    guint page = (guint)(vm->history->position % (WORLD_PAGES - 8));
    sim_vm_write(vm, page, (guint32)vm->history->id);
    return world.disks ? write_to_disk(vm) : 0;
}

void world_guest_acts(SimVm *vm)
{
    act(vm, CLIENTS, 0, 0);
}

GBytes *world_guest_answer(SimVm *vm, const guint8 *data, gsize len)
{
    Question question;
    guint64 flushed = 0;
    if (len < PAYLOAD + sizeof(question))
        return NULL;
    memcpy(&question, data + PAYLOAD, sizeof(question));
    if (!was_seen(vm->history, &question)) {
        guint64 local = world_chance(world.diverges_per_mille) ? 1 + world_random(1000) : 0;
        flushed = act(vm, question.client, question.request, local);
    }
    Reply answer = {question.client, question.request, vm->history->position, vm->history->id,
                    flushed};
    FrameSpec spec = {.vnet = TRUE,
                      .src = GUEST,
                      .dst = (guint8)(10 + question.client),
                      .proto = 17,
                      .sport = PORT,
                      .dport = (guint16)(PORT + 1 + question.client),
                      .data = &answer,
                      .len = sizeof(answer)};
    GBytes *frame = netframe_new(&spec);
    gsize size;
    /* From the card's own address. */
    memcpy((guint8 *)g_bytes_get_data(frame, &size) + NETCOMPARE_VNET_HDR_BYTES + 6,
           "\x52\x54\x00\x12\x34\x00", 6);
    return frame;
}

/* ---- The clients' side ---- */

static gboolean ask(gpointer data)
{
    Client *client = data;
    world_source_clear(&client->timer);
    Question question = {client->index, client->request};
    FrameSpec spec = {.vnet = TRUE,
                      .src = (guint8)(10 + client->index),
                      .dst = GUEST,
                      .proto = 17,
                      .sport = (guint16)(PORT + 1 + client->index),
                      .dport = PORT,
                      .data = &question,
                      .len = sizeof(question)};
    g_autoptr(GBytes) frame = netframe_new(&spec);
    gsize len;
    const guint8 *bytes = g_bytes_get_data(frame, &len);
    world_net_to_guest(bytes, len);
    client->timer = world_after(NULL, REPEAT_US, ask, client);
    return G_SOURCE_REMOVE;
}

/* What is in a block is `earlier`, or was written over it. */
static gboolean is_same_or_later(guint block, guint64 value, guint64 earlier)
{
    while (value != earlier && value != 0) {
        const History *writer = history_find(value);
        value = writer ? writer->parent->block[block] : 0;
    }
    return value == earlier;
}

void world_client_check_disk(const WorldHost *host, const guint64 *block, const char *what)
{
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (!is_same_or_later(i, block[i], on_disk[i]))
            world_fail("%s: what %s has not what a client was told to be on disk (block %u)",
                       host->name, what, i);
}

static void note_disk(const History *history, guint64 durable)
{
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (durable & (1u << i) && is_same_or_later(i, history->block[i], on_disk[i]))
            on_disk[i] = history->block[i];
}

static void check(WorldHost *host, const Reply *answer)
{
    const History *history = history_find(answer->id);
    world_check_output(host, answer->position);
    if (host->node && host->node->state == FSM_P_HANDED)
        world_fail("%s: a frame leaves, though the VM is the other side's to take", host->name);
    if (world.lied || world.split)
        return;
    if (answer->flushed)
        note_disk(history, answer->flushed);
    if (host->reign < reached_reign)
        world_fail("%s is heard after the VM has gone on elsewhere", host->name);
    reached_reign = host->reign;
    if (longest && history_is_within(history, longest))
        return; /* an old answer */
    if (longest && !history_is_within(longest, history))
        world_fail("%s: what a client was told is lost: position %" G_GUINT64_FORMAT
                   " is heard after %" G_GUINT64_FORMAT ", and does not follow from it",
                   host->name, history->position, longest->position);
    longest = history;
}

void world_client_frame(WorldHost *host, const guint8 *data, gsize len)
{
    Reply answer;
    if (len < PAYLOAD + sizeof(answer) || data[NETCOMPARE_VNET_HDR_BYTES + 12] != 8 ||
        data[NETCOMPARE_VNET_HDR_BYTES + 14 + 9] != 17)
        return;
    memcpy(&answer, data + PAYLOAD, sizeof(answer));
    if (answer.client >= CLIENTS && world.lied)
        return; /* a guest that was given what no client has asked */
    g_assert_cmpuint(answer.client, <, CLIENTS);
    check(host, &answer);
    Client *client = &clients[answer.client];
    if (answer.request != client->request)
        return;
    reached_us = world.now_us;
    answers++;
    client->request++;
    world_source_clear(&client->timer);
    client->timer = world_after(NULL, world_between(world.calm_us / 2, world.calm_us), ask, client);
}

void world_clients_start(void)
{
    for (guint32 i = 0; i < CLIENTS; i++) {
        clients[i] = (Client){.index = i, .request = 1};
        clients[i].timer = world_after(NULL, world_between(0, REPEAT_US), ask, &clients[i]);
    }
}

/* Something has happened: they ask often for a while. */
void world_clients_hurry(void)
{
    for (guint32 i = 0; i < CLIENTS; i++) {
        world_source_clear(&clients[i].timer);
        clients[i].timer = world_after(NULL, world_between(0, REPEAT_US), ask, &clients[i]);
    }
}

void world_client_forget(void)
{
    longest = NULL;
    reached_reign = 0;
}

void world_client_split(void)
{
    world.split = TRUE;
    for (guint i = 0; i < WORLD_HOSTS; i++)
        world.host[i].split = FALSE;
}

void world_client_unite(const WorldHost *host)
{
    world.split = FALSE;
    longest = NULL;
    reached_reign = host->reign;
}

gint64 world_client_reached_us(void)
{
    return reached_us;
}

guint world_client_reached_reign(void)
{
    return reached_reign;
}

guint64 world_client_answers(void)
{
    return answers;
}

gboolean world_holds_the_vm(const WorldHost *host, guint in_state)
{
    FsmState state = (FsmState)in_state;
    if (!host->lives || !host->vm || host->vm->vm.dead)
        return FALSE;
    return (fsm_is_primary(state) && host->vm->history->position > 0) || fsm_is_protected(state) ||
           state == FSM_S_PAUSED || state == FSM_S_RECOVER || fsm_is_taking_over(state) ||
           state == FSM_S_HANDED;
}

void world_client_cold_boot(WorldHost *host)
{
    const WorldHost *peer = &world.host[!host->index];
    gboolean may = world.lied || world.ended_on_purpose || world.lost || !peer->lives ||
                   !world_holds_the_vm(peer, peer->node->state);
    if (!may && host->died_unrun && world_has_arbiter() &&
        world_holds_the_vm(peer, peer->node->state))
        world_fail("%s boots the VM anew, which it has never run, and %s holds it (%s)", host->name,
                   peer->name, fsm_state_name(peer->node->state));
    /* These are limits that docs/ARCHITECTURE.md describes. */
    if (!may && (host->died_in_doubt || peer->node->state == FSM_P_FROZEN))
        world_sometimes("boots anew: the chosen side died before anybody heard it");
    else if (!may && world.now_us < peer->frozen_until_us + PATIENCE_US)
        world_sometimes("boots anew: the secondary stood still for longer than it is waited for");
    else if (!may && world.now_us < peer->storage_bad_until_us)
        world_sometimes("boots anew: the secondary could not ask the arbiter");
    else if (!may)
        world_fail("%s boots the VM anew, though %s holds a copy (%s)", host->name, peer->name,
                   fsm_state_name(peer->node->state));
    world_tell("%s boots the VM anew", host->name);
    world.ended_on_purpose = world.lost = FALSE;
    world.boots++;
    world.port_of_guest = -1; /* frames for a guest that boots go to every host */
    longest = NULL;
}
