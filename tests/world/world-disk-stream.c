/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream between two disk servers: the counterpart of block/primary.c, sync.c and replica.c. It
 * has their records in their order. But a block is a number, and what differs is not looked for by
 * hash.
 */
#include <string.h>

#include "block/wire.h"
#include "tests/world/world-disk.h"

/* Of the records that a replica reads so many find it slow. */
#define SLOW_PER_MILLE 20u

typedef struct {
    WireType type;
    guint64 epoch;
    guint block;
    guint64 value;
    gboolean compared; /* by hash: only what differs there is sent */
    gboolean told;     /* the source's storage has lost what its guest wrote, and that was told */
    DiskHello hello;
} Record;

/* ---- The connection ---- */

void disk_stream_end(DiskServer *server)
{
    world_source_clear(&server->sync);
    world_source_clear(&server->reader);
    if (server->stream)
        world_stream_close(server->stream);
    server->stream = NULL;
    server->phase = DISK_UNATTACHED;
    if (server->mode != DISK_MODE_REPLICA)
        disk_throttle_limit(server, 0);
    g_queue_clear_full(server->unread, g_free);
}

static void send(DiskServer *server, Record record)
{
    world_stream_send(server->stream, g_memdup2(&record, sizeof(record)), g_free, 0);
}

static void emit(DiskServer *server, const char *name, json_object *data)
{
    server->callbacks.event(name, data, server->user_data);
    json_object_put(data);
}

static void emit_epoch(DiskServer *server, const char *name, guint64 epoch)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "epoch", json_object_new_uint64(epoch));
    emit(server, name, data);
}

typedef enum { LOST_PEER, LOST_REFUSED, LOST_STORAGE } Lost;

static void lose(DiskServer *server, const char *why, Lost lost)
{
    if (server->phase == DISK_FAILED)
        return;
    server->phase = DISK_FAILED;
    world_source_clear(&server->sync);
    if (server->mode != DISK_MODE_REPLICA)
        disk_throttle_limit(server, 0);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "reason", json_object_new_string(why));
    json_object_object_add(data, "refused", json_object_new_boolean(lost == LOST_REFUSED));
    json_object_object_add(data, "failed", json_object_new_boolean(lost == LOST_STORAGE));
    emit(server, "LOST", data);
}

static DiskHello make_hello(const DiskServer *server)
{
    const Medium *medium = server->medium;
    return (DiskHello){.generation = medium_generation(medium),
                       .lineage = medium->lineage,
                       .dirty = medium->dirty[0] | medium->dirty[1],
                       .discard = server->discard};
}

static gboolean may_synchronise(const DiskHello *source, const DiskHello *target)
{
    GenerationPermission permission =
        generation_may_overwrite(&source->generation, &target->generation);
    return permission == GENERATION_ALLOWED ||
           (permission == GENERATION_NEEDS_DISCARD && target->discard);
}

/* ---- The primary's end ---- */

static gboolean is_incremental(const Lineage *ours, const Lineage *theirs)
{
    if (!ours->known || !theirs->known || ours->writer == theirs->writer ||
        strcmp(ours->session, theirs->session) != 0)
        return FALSE;
    return ours->writer ? ours->epoch <= theirs->epoch : theirs->epoch <= ours->epoch;
}

/* A block at a time, so that the guest writes between them. */
static gboolean synchronise(gpointer data)
{
    DiskServer *server = data;
    world_source_clear(&server->sync);
    if (server->scope == 0) {
        send(server, (Record){.type = WIRE_SYNC_END});
        return G_SOURCE_REMOVE;
    }
    guint block = (guint)__builtin_ctz(server->scope);
    server->scope &= server->scope - 1;
    send(server, (Record){.type = WIRE_WRITE,
                          .block = block,
                          .value = server->medium->image[block],
                          .compared = TRUE,
                          .told = world_disk_may_differ(server->host, block)});
    server->sync = world_after(server->host, world_between(100, 50000), synchronise, server);
    return G_SOURCE_REMOVE;
}

static void start_streaming(DiskServer *server)
{
    gboolean some = is_incremental(&server->ours.lineage, &server->theirs.lineage);
    world_client_check_disk(server->host, server->medium->image, "is to be synchronised from");
    server->phase = DISK_SYNCING;
    server->old_dirty = TRUE;
    server->scope = server->medium->dirty[0] | server->medium->dirty[1] | server->theirs.dirty;
    if (some)
        world_sometimes("a synchronisation sends what has changed only");
    else
        server->scope = (1u << WORLD_BLOCKS) - 1;
    send(server, (Record){.type = WIRE_START});
    server->sync = world_after(server->host, world_between(100, 500000), synchronise, server);
}

static void on_primary_hello(DiskServer *server)
{
    if (may_synchronise(&server->ours, &server->theirs))
        start_streaming(server);
    else
        lose(server, "the generations forbid the synchronisation", LOST_REFUSED);
}

static void on_synced(DiskServer *server)
{
    server->medium->generation.exposed = TRUE;
    server->phase = DISK_SYNCED;
    emit(server, "SYNCHRONISED", json_object_new_object());
}

static void on_applied(DiskServer *server, guint64 epoch)
{
    Medium *medium = disk_changes(server);
    disk_throttle_limit(server, world.epoch_writes);
    medium->state = MEDIUM_OWNED;
    medium->lineage = (Lineage){.known = TRUE, .writer = TRUE, .epoch = epoch};
    g_strlcpy(medium->lineage.session, server->session, sizeof(medium->lineage.session));
    medium->applied = epoch;
    if (!server->adopted)
        generation_adopted(&medium->generation);
    server->adopted = TRUE;
    if (epoch < server->rotated || !server->old_dirty)
        return;
    medium->dirty[1 - server->current_map] = 0;
    server->old_dirty = FALSE;
}

gboolean disk_stream_mark(DiskServer *server, guint64 epoch)
{
    if (server->mode != DISK_MODE_ACTIVE || server->phase != DISK_SYNCED || epoch <= server->epoch)
        return FALSE;
    if (!server->old_dirty) {
        server->current_map = 1 - server->current_map;
        server->rotated = epoch;
        server->old_dirty = TRUE;
    }
    server->epoch = epoch;
    disk_throttle_begin_epoch(server);
    send(server, (Record){.type = WIRE_MARK, .epoch = epoch});
    return TRUE;
}

void disk_stream_write(DiskServer *server, guint block, guint64 value)
{
    if (server->phase == DISK_SYNCING || server->phase == DISK_SYNCED)
        send(server, (Record){.type = WIRE_WRITE, .block = block, .value = value});
}

/* ---- The replica's end ---- */

static void on_start(DiskServer *server)
{
    Medium *medium = disk_changes(server);
    WorldHost *host = server->host, *peer = &world.host[!host->index];
    if (host->split && peer->split && !server->discard)
        world_fail("%s: its disks are overwritten, and no administrator has said so", host->name);
    disk_check_vm(server);
    host->split = peer->split = FALSE;
    server->synced = server->discard = server->final = FALSE;
    server->complete_epoch = 0;
    server->open = (Changes){0};
    medium->state = MEDIUM_INCOMPLETE;
    medium->lineage = (Lineage){0};
    medium->applied = 0;
    medium->dirty[0] = medium->dirty[1] = 0;
    server->phase = DISK_SYNCING;
}

/* The image has just become a checkpoint. */
static void on_first_mark(DiskServer *server, guint64 epoch)
{
    Medium *medium = server->medium;
    server->overlay = (Changes){0};
    medium->state = MEDIUM_REPLICA;
    medium->unsynced = server->sync_error != 0;
    medium->lineage = (Lineage){.known = TRUE, .epoch = epoch};
    g_strlcpy(medium->lineage.session, server->session, sizeof(medium->lineage.session));
    medium->applied = epoch;
    generation_adopt(&medium->generation, &server->theirs.generation);
    server->synced = TRUE;
    server->phase = DISK_SYNCED;
    send(server, (Record){.type = WIRE_APPLIED, .epoch = epoch});
}

void disk_stream_applied(DiskServer *server, guint64 epoch)
{
    if (server->phase == DISK_SYNCED)
        send(server, (Record){.type = WIRE_APPLIED, .epoch = epoch});
}

static void on_mark(DiskServer *server, guint64 epoch)
{
    if (server->phase == DISK_SYNCING) {
        on_first_mark(server, epoch);
    } else {
        server->complete = server->open;
        server->complete_epoch = epoch;
        server->open = (Changes){0};
    }
    server->epoch = epoch;
    emit_epoch(server, "MARKED", epoch);
}

static void on_write(DiskServer *server, const Record *record)
{
    Medium *medium = server->medium;
    if (server->phase != DISK_SYNCING) {
        changes_add(&server->open, record->block, record->value);
        return;
    }
    gboolean same = record->compared && medium->image[record->block] == record->value;
    if (same && !medium->unsynced)
        medium->gone &= ~(1u << record->block);
    else
        medium_put(medium, record->block, record->value);
    if (record->told)
        medium->told |= 1u << record->block;
    disk_settle(server);
}

/* ---- Records ---- */

static void on_record(DiskServer *server, const Record *record)
{
    switch (record->type) {
    case WIRE_HELLO:
        server->theirs = record->hello;
        if (server->mode != DISK_MODE_REPLICA)
            on_primary_hello(server);
        else if (!may_synchronise(&server->theirs, &server->ours))
            lose(server, "the generations forbid the synchronisation", LOST_REFUSED);
        break;
    case WIRE_START:
        on_start(server);
        break;
    case WIRE_WRITE:
        on_write(server, record);
        break;
    case WIRE_SYNC_END:
        send(server, (Record){.type = WIRE_SYNCED});
        break;
    case WIRE_SYNCED:
        on_synced(server);
        break;
    case WIRE_MARK:
        on_mark(server, record->epoch);
        break;
    case WIRE_APPLIED:
        on_applied(server, record->epoch);
        break;
    default:
        g_assert_not_reached();
    }
}

static gboolean on_reader(gpointer data)
{
    DiskServer *server = data;
    world_source_clear(&server->reader);
    disk_stream_read(server);
    return G_SOURCE_REMOVE;
}

static void read_later(DiskServer *server, gint64 us)
{
    server->reader = world_after(server->host, us, on_reader, server);
}

/* The connection stays, so that its node can report to the peer. */
static gboolean fails_to_store(DiskServer *server, const Record *record)
{
    StorageUse use = record->type == WIRE_START ? STORAGE_IN_PLACE : STORAGE_NEEDS_ROOM;
    if (record->type != WIRE_START && record->type != WIRE_WRITE && record->type != WIRE_MARK)
        return FALSE;
    gboolean state =
        record->type == WIRE_START || (record->type == WIRE_MARK && server->phase == DISK_SYNCING);
    int failed = world_storage_error(server->host, use);
    if (!failed && state)
        failed = world_storage_state_error(server->host);
    if (!failed)
        return FALSE;
    g_autofree char *why =
        g_strdup_printf("disk root: can't stage what the peer sent: %s", g_strerror(failed));
    world_sometimes("storage fails as a replica stages what its peer sends");
    lose(server, why, LOST_STORAGE);
    return TRUE;
}

/* A replica's reading waits for its storage, and at a mark for the one before to be applied. */
void disk_stream_read(DiskServer *server)
{
    gboolean stores = server->mode == DISK_MODE_REPLICA;
    while (server->phase != DISK_FAILED && !server->reader) {
        const Record *next = g_queue_peek_head(server->unread);
        gint64 hangs_us = server->host->disk_hangs_until_us - world.now_us;
        if (!next || (next->type == WIRE_MARK && server->complete_epoch))
            return;
        if (stores && hangs_us > 0) {
            read_later(server, hangs_us);
            return;
        }
        g_autofree Record *record = g_queue_pop_head(server->unread);
        if (stores && fails_to_store(server, record))
            return;
        on_record(server, record);
    }
}

static void on_stream(gpointer item, gpointer user_data)
{
    DiskServer *server = user_data;
    if (!item) {
        lose(server, "the connection has ended", LOST_PEER);
        return;
    }
    g_queue_push_tail(server->unread, item);
    if (!server->reader && server->mode == DISK_MODE_REPLICA && world_chance(SLOW_PER_MILLE))
        read_later(server, world_between(1000, 300000));
    disk_stream_read(server);
}

void disk_stream_begin(DiskServer *server, Stream *stream, const char *session)
{
    g_strlcpy(server->session, session, sizeof(server->session));
    server->stream = stream;
    server->phase = DISK_HELLO;
    server->epoch = server->rotated = 0;
    server->adopted = FALSE;
    server->ours = make_hello(server);
    send(server, (Record){.type = WIRE_HELLO, .hello = server->ours});
    world_stream_listen(stream, on_stream, server);
}
