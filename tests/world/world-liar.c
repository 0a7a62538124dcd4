/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that lies. In some stories one host's node doesn't send for a while what it should. Its
 * messages are lost, changed, cut or repeated. Messages of every type and packets come from it that
 * it never sent. The other node gets them in every state. So the liar's own node, which is real,
 * gets answers that it has not asked for.
 *
 * No peer proves its identity on the link: what a peer says of itself is believed
 * (docs/ARCHITECTURE.md has the details). So nothing is promised of clients' histories then. The
 * following must be true all the same, of both nodes. Neither aborts. A primary's VM is given away
 * on the arbiter's answer, or where the peer says that it has taken what was handed to it. A
 * message never ends it. A frozen primary or a secondary sends nothing to clients. No output leaves
 * before the peer has said that it has the checkpoint after it. When the lies are over, all is well
 * again.
 */
#include <string.h>

#include "colo/node/messages.h"
#include "colo/node/node_internal.h"
#include "common/endian.h"
#include "tests/world/world-link.h"

/* Of what the liar's node sends while it lies. */
#define LIES_PER_MILLE 300u
/* Between two messages out of nothing. */
#define OFTEN_US (50 * 1000)

/* ---- Lies ---- */

static End *liar_end(void)
{
    const Link *link = world.liar ? world.liar->link : NULL;
    End *end = link && link->end && link->end->up ? link->end : NULL;
    return end && other(end)->link ? end : NULL;
}

static void send(End *end, Channel channel, guint type, guint64 epoch, GBytes *bytes)
{
    Item *item = g_new0(Item, 1);
    /* Each of them lets the other side continue without the arbiter. */
    world.left |= channel == CONTROL &&
                  (type == LINK_MSG_GOODBYE || type == LINK_MSG_FAILED ||
                   type == LINK_MSG_YIELDED || type == LINK_MSG_PAUSED || type == LINK_MSG_REFUSED);
    item->type = type;
    item->epoch = epoch;
    item->bytes = bytes;
    pipe_put(&other(end)->pipe[channel], item, world.delay_us);
}

static GBytes *random_bytes(gsize len)
{
    guint8 *data = g_malloc0(len);
    for (gsize i = 0; i < MIN(len, 100); i++)
        data[i] = (guint8)world_random(256);
    return g_bytes_new_take(data, len);
}

/* Near what is true, mostly. */
static guint64 some_epoch(void)
{
    const WorldHost *honest = &world.host[!world.liar->index];
    guint64 epoch = honest->node->epoch;
    return world_chance(100) ? world_random(G_MAXUINT64) : epoch + world_random(4) - 1;
}

/* A true message of this type, with numbers of its own. */
static GBytes *plausible(guint type)
{
    MessageRun run = {world_random(2 * WORLD_PAGES), world_random(4)};
    guint64 number = world_random(8);
    Message message = {.type = (LinkMessage)type};
    switch (message_info(type)->form) {
    case MESSAGE_FORM_READY:
        message.ready = (MessageReady){&run, world_random(2)};
        break;
    case MESSAGE_FORM_DIRTY:
        message.dirty =
            (MessageDirty){some_epoch(), (guint32)world_random(2), &run, world_random(2)};
        break;
    case MESSAGE_FORM_ADDRESSES:
        message.addresses =
            (MessageAddresses){(guint32)world_random(2), (const guint8 *)"liar", world_random(5)};
        break;
    case MESSAGE_FORM_STALLED:
        message.stalled = (MessageStalled){some_epoch(), "it lies"};
        break;
    case MESSAGE_FORM_SETTLED:
        message.settled = (MessageSettled){some_epoch(), world_random(5), &number, world_random(2)};
        break;
    case MESSAGE_FORM_REFUSED:
        message.refused = (MessageRefused){world_chance(500), "it lies"};
        break;
    case MESSAGE_FORM_TEXT:
    case MESSAGE_FORM_OPTIONS:
        message.text = world_chance(500) ? "answer-timeout=4s\n" : "it lies\n";
        break;
    default:
        message.epoch = some_epoch();
        break;
    }
    return message_pack(&message);
}

/* It begins with an epoch, as most do: with one near it. */
static GBytes *move_epoch(const guint8 *data, gsize len)
{
    guint8 *copy = g_memdup2(data, len);
    colo_put_be64(copy, colo_get_be64(data) + world_random(4) - 1);
    return g_bytes_new_take(copy, len);
}

/* Cut, changed, or something else altogether. */
static GBytes *tamper(GBytes *bytes)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    guint64 how = world_random(10);
    if (len >= 8 && how < 7 && how > 2)
        return move_epoch(data, len);
    if (how == 0)
        return random_bytes(world_chance(20) ? LINK_MESSAGE_MAX : world_random(64));
    if (how > 2 || len == 0)
        return g_bytes_ref(bytes);
    g_autofree guint8 *copy = g_memdup2(data, len);
    copy[world_random(len)] ^= (guint8)(1 + world_random(255));
    return g_bytes_new(copy, how == 1 ? world_random(len) : len);
}

static guint some_type(void)
{
    for (;;) {
        guint type = 16 + (guint)world_random(40);
        if (message_info(type) || world_chance(50))
            return type;
    }
}

static void send_something(End *end)
{
    if (world_chance(200)) {
        gsize len = world_chance(20) ? LINK_PACKET_MAX : 1 + world_random(100);
        guint card = world_chance(200) ? LINK_NIC_NOTE : (guint)world_random(3);
        send(end, PACKETS, card, some_epoch(), random_bytes(len));
        return;
    }
    guint type = some_type();
    g_autoptr(GBytes) bytes = message_info(type) ? plausible(type) : random_bytes(8);
    world_tell("%s lies: message %u", world.liar->name, type);
    world_sometimes("a peer says what is not true");
    send(end, CONTROL, type, 0, tamper(bytes));
}

gboolean world_liar_sends(const Link *link, guint type, const void *payload, gsize len)
{
    End *end = liar_end();
    if (!world.lies || !end || link != end->link || !world_chance(LIES_PER_MILLE))
        return FALSE;
    g_autoptr(GBytes) bytes = g_bytes_new(payload, len);
    switch (world_random(4)) {
    case 0: /* it is lost */
        return TRUE;
    case 1: /* it comes twice */
        send(end, CONTROL, type, 0, g_bytes_ref(bytes));
        return FALSE;
    case 2:
        send(end, CONTROL, type, 0, tamper(bytes));
        return TRUE;
    default:
        send_something(end);
        return FALSE;
    }
}

static gboolean on_lie(gpointer data)
{
    (void)data;
    End *end = liar_end();
    if (!world.lies)
        return G_SOURCE_REMOVE;
    if (end)
        send_something(end);
    world_later(NULL, world_between(100, OFTEN_US), on_lie, NULL);
    return G_SOURCE_REMOVE;
}

/* Whoever has lied is started again: what it believes is of no use. */
static gboolean on_truth(gpointer data)
{
    (void)data;
    world.lies = FALSE;
    world_tell("%s lies no more", world.liar->name);
    world_die(world.liar, world_chance(500));
    return G_SOURCE_REMOVE;
}

void world_lie(void)
{
    if (!world.liar || world.lies)
        return;
    world_tell("%s lies", world.liar->name);
    world.lies = world.lied = TRUE;
    world_later(NULL, 0, on_lie, NULL);
    world_later(NULL, world_between(1000, world_chance(300) ? WORLD_HEAL_US / 2 : G_USEC_PER_SEC),
                on_truth, NULL);
}

void world_truth(void)
{
    if (!world.lied || world.lies)
        return;
    world.lied = world.left = FALSE;
    world_client_forget();
}

/* ---- What must be true all the same ---- */

void world_check_state(WorldHost *host, guint before, const char *event)
{
    FsmState state = host->node->state, from = (FsmState)before;
    if (!strcmp(event, "denied") || !strcmp(event, "taken"))
        host->denied = TRUE;
    else if (!strcmp(event, "granted") || state == FSM_P_COLO)
        host->denied = FALSE;
    gboolean had_it = fsm_is_primary(from) && from != FSM_P_ASKING && from != FSM_P_STARTING;
    if (!had_it || fsm_is_primary(state))
        return;
    if (state == FSM_S_STARTING && !host->denied)
        world_fail("%s gives its VM away, and the arbiter has not said so", host->name);
    if (state == FSM_COMPLETED && (strcmp(event, "shutdown") != 0 || !host->told_to_end))
        world_fail("%s ends its VM (%s), and nobody has told it to", host->name, event);
    /* What QEMU has refused is no message's doing. */
    gboolean refused = host->trouble && strstr(host->trouble, "refused (");
    if (state == FSM_FAILED && world.lies && host->vm && !host->vm->vm.dead && !refused)
        world_fail("%s ends a VM that is well: %s", host->name,
                   host->trouble ? host->trouble : "without a reason");
}

void world_note_checkpoint(WorldHost *host, guint64 epoch, guint64 position)
{
    host->taken[epoch % WORLD_TAKEN] = (WorldTaken){epoch, position};
}

/* RECEIVED has come, true or not. */
void world_note_received(WorldHost *host, GBytes *bytes)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    guint64 epoch = len == 8 ? colo_get_be64(data) : 0;
    const WorldTaken *taken = &host->taken[epoch % WORLD_TAKEN];
    if (epoch && taken->epoch == epoch)
        host->proven = taken->position;
}

void world_check_output(const WorldHost *host, guint64 position)
{
    FsmState state = host->node->state;
    if (state == FSM_P_FROZEN || (!fsm_is_primary(state) && state != FSM_S_DEVICE))
        world_fail("%s: the guest is heard in state %s", host->name, fsm_state_name(state));
    if (state == FSM_P_COLO && !strcmp(world.mode, "buffered") && position > host->proven)
        world_fail("%s: output leaves that no checkpoint has (position %" G_GUINT64_FORMAT
                   ", the last one has %" G_GUINT64_FORMAT ")",
                   host->name, position, host->proven);
}
