/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's end of a card. In some stories it is one by vhost-user, which tells what the guest has room
 * for: now and then it has none, for longer than a pause or a checkpoint. And what the owner doesn't take
 * of the guest's output stays in the guest.
 *
 * Checks that whatever a guest is given, whose secondary gets its input, is mirrored with the epoch in
 * which it is given.
 */
#include <xxhash.h>

#include "colo/node/card-port.h"
#include "colo/node/node_internal.h"
#include "tests/world/world.h"

/* ---- What is given is mirrored ---- */

typedef struct {
    guint64 epoch;
    GHashTable *frames; /* mirrored with it: hash -> how many weren't given since */
    GArray *given;      /* hashes, in this turn of the main loop */
} Input;

static Input inputs[WORLD_HOSTS];

static void forget(Input *input, guint64 epoch)
{
    if (!input->frames) {
        input->frames = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        input->given = g_array_new(FALSE, FALSE, sizeof(guint64));
    }
    g_hash_table_remove_all(input->frames);
    g_array_set_size(input->given, 0);
    input->epoch = epoch;
}

static guint count_of(const Input *input, guint64 hash)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(input->frames, &hash));
}

static void set_count(Input *input, guint64 hash, guint count)
{
    guint64 *key = g_new(guint64, 1);
    *key = hash;
    g_hash_table_insert(input->frames, key, GUINT_TO_POINTER(count));
}

void world_card_mirrored(const WorldHost *host, guint64 epoch, const guint8 *data, gsize len)
{
    Input *input = &inputs[host->index];
    guint64 hash = XXH3_64bits(data, len);
    if (!input->frames || input->epoch != epoch)
        forget(input, epoch);
    set_count(input, hash, count_of(input, hash) + 1);
}

static void note_given(const WorldHost *host, const guint8 *data, gsize len)
{
    const Node *node = host->node;
    guint64 hash = XXH3_64bits(data, len);
    if (!node || !route_mirrors(traffic_route(node->traffic), primary_has_session(node->primary)))
        return;
    Input *input = &inputs[host->index];
    if (!input->frames || input->epoch != node->epoch)
        forget(input, node->epoch);
    g_array_append_val(input->given, hash);
}

void world_card_check(const WorldHost *host)
{
    Input *input = &inputs[host->index];
    if (!input->given)
        return;
    for (guint i = 0; i < input->given->len; i++) {
        guint64 hash = g_array_index(input->given, guint64, i);
        guint count = count_of(input, hash);
        if (count == 0)
            world_fail("%s: the guest is given what is not mirrored with epoch %" G_GUINT64_FORMAT,
                       host->name, input->epoch);
        set_count(input, hash, count - 1);
    }
    g_array_set_size(input->given, 0);
}

/* ---- Room ---- */

/* For so many of a thousand frames the guest has none. */
#define FULL_PER_MILLE 20u

typedef struct {
    WorldHost *host;
    SimVm *vm;
    VhostHandler handler;
    gpointer user_data;
    gboolean is_full;
    GSource *opens;
} Room;

struct CardPort {
    Port *port;
    Room *room;
};

static gboolean on_room(gpointer data);

static void open_later(Room *room, gint64 most_us)
{
    world_source_clear(&room->opens);
    room->opens = world_after(room->host, world_between(100, most_us), on_room, room);
}

static gboolean on_room(gpointer data)
{
    Room *room = data;
    world_source_clear(&room->opens);
    if (!room->vm->vm.running) {
        open_later(room, 5000);
        return G_SOURCE_REMOVE;
    }
    room->is_full = FALSE;
    room->handler.room(room->user_data);
    return G_SOURCE_REMOVE;
}

gboolean card_port_has_room(const CardPort *port, gsize len)
{
    Room *room = port->room;
    (void)len;
    if (!world.knows_room)
        return TRUE;
    if (room->is_full)
        return FALSE;
    if (room->vm->vm.running && !world_chance(FULL_PER_MILLE))
        return TRUE;
    world_sometimes("a guest has no room for a frame");
    room->is_full = TRUE;
    open_later(room, world_chance(500) ? 5000 : 400 * 1000);
    return FALSE;
}

/* ---- The rest is the port's ---- */

CardPort *card_port_new(Vm *vm, unsigned index, const VhostHandler *handler, gpointer user_data)
{
    CardPort *port = g_new0(CardPort, 1);
    WorldHost *host = world.current;
    forget(&inputs[host->index], 0);
    port->port = port_new(vm_nic_fd(vm, index), handler->output, handler->failed, user_data);
    if (world.knows_room)
        world_port_set_takes(port->port, handler->takes);
    port->room = g_new0(Room, 1);
    *port->room = (Room){.host = host, .vm = host->vm, .handler = *handler, .user_data = user_data};
    return port;
}

void card_port_free(CardPort *port)
{
    if (!port)
        return;
    world_source_clear(&port->room->opens);
    port_free(port->port);
    g_free(port->room);
    g_free(port);
}

void card_port_give(const CardPort *port, const guint8 *data, gsize len)
{
    note_given(port->room->host, data, len);
    port_send(port->port, data, len);
}

void card_port_drain(const CardPort *port)
{
    port_drain(port->port);
}

void card_port_take_output(const CardPort *port)
{
    sim_vm_output(port->room->vm);
}

gboolean card_port_keeps(const CardPort *port)
{
    (void)port;
    return TRUE;
}

/* Its guest's buffers are no part of what is saved here: so its input is handled before, as QEMU's is. */
gboolean card_port_is_read(const CardPort *port)
{
    return port_is_read(port->port);
}

guint64 card_port_dropped(const CardPort *port)
{
    (void)port;
    return 0;
}

void card_port_forget(const CardPort *port)
{
    (void)port;
}
