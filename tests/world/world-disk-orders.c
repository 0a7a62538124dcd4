/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the orders to a host's disk server do to its medium. world-disk.c has when they do it. */
#include <errno.h>
#include <string.h>

#include "block/wire.h"
#include "tests/world/world-disk.h"

/* Of the orders to take disks back, so many fail by themselves. */
#define SWITCH_FAILS_PER_MILLE 200u

static gboolean refuse(GError **error, BlockError code, const char *why)
{
    g_set_error_literal(error, BLOCK_ERROR, (gint)code, why);
    return FALSE;
}

/* Storage has failed in what was to be done. */
static gboolean refuse_io(GError **error, int failed, const char *what)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "disk root: image /image: can't %s: %s", what,
                g_strerror(failed));
    return FALSE;
}

static guint64 epoch_of(json_object *arguments)
{
    return json_object_get_uint64(json_object_object_get(arguments, "epoch"));
}

static gboolean can_apply(const DiskServer *server, guint64 epoch)
{
    return server->mode == DISK_MODE_REPLICA && server->synced && epoch &&
           server->complete_epoch == epoch;
}

static gboolean is_at(const DiskServer *server, guint64 epoch)
{
    return server->mode == DISK_MODE_REPLICA && server->synced &&
           server->medium->applied == epoch && server->medium->lineage.epoch == epoch;
}

void disk_check_vm(const DiskServer *server)
{
    const SimVm *vm = server->host->vm;
    if (vm && vm->vm.running)
        world_fail("%s: the image changes under a VM that runs", server->host->name);
    if (vm && vm->vm.started && !strcmp(world.disks, "qcow2") && !vm->vm.inactivated)
        world_fail("%s: the image changes under a QEMU that caches it", server->host->name);
}

/* From here on it is done, by this process or by the next one. */
static void begin_apply(DiskServer *server)
{
    Medium *medium = disk_changes(server);
    medium->lineage.epoch = server->complete_epoch;
    medium->journal = server->complete;
    medium_write(medium, &server->complete, TRUE);
}

static gboolean apply(DiskServer *server, guint64 epoch, GError **error)
{
    if (is_at(server, epoch))
        return TRUE;
    if (!can_apply(server, epoch))
        return refuse(error, BLOCK_ERROR_MODE, "the checkpoint can't be applied");
    if (!server->final)
        disk_check_vm(server);
    server->overlay = (Changes){0};
    if (server->sync_error)
        return refuse_io(error, server->sync_error, "sync it");
    if (server->step_error)
        return refuse_io(error, server->step_error, "apply the staged writes");
    medium_write(server->medium, &server->complete, FALSE);
    server->medium->lineage.epoch = server->medium->applied = epoch;
    server->complete_epoch = 0;
    disk_settle(server);
    disk_throttle_limit(server, world.epoch_writes);
    disk_throttle_begin_epoch(server);
    disk_stream_applied(server, epoch);
    return TRUE;
}

/* A copy that still runs is of no use any more: its node knows that it may not take over. */
static gboolean finish(DiskServer *server, guint64 epoch, GError **error)
{
    server->final = TRUE;
    if (!apply(server, epoch, error))
        return FALSE;
    int failed = disk_sync(server, "the last mark");
    if (failed)
        return refuse_io(error, failed, "sync it");
    generation_reach(&server->medium->generation);
    server->medium->clean = TRUE;
    return TRUE;
}

/* Until it is done the image is nobody's. */
static void begin_takeover(DiskServer *server)
{
    Medium *medium = disk_changes(server);
    medium->state = MEDIUM_INCOMPLETE;
    medium_write(medium, &server->overlay, TRUE);
}

static gboolean take_over(DiskServer *server, guint64 epoch, GError **error)
{
    Medium *medium = server->medium;
    disk_stream_end(server);
    if (!is_at(server, epoch))
        return refuse(error, BLOCK_ERROR_MODE, "the checkpoint can't be taken over");
    disk_throttle_limit(server, 0);
    if (server->step_error)
        return refuse_io(error, server->step_error, "write the overlay into it");
    medium_write(medium, &server->overlay, FALSE);
    int failed = disk_sync(server, "a takeover");
    if (failed)
        return refuse_io(error, failed, "write the overlay into it");
    medium->dirty[server->current_map] |= server->overlay.named;
    medium->state = MEDIUM_OWNED;
    medium->lineage.writer = FALSE;
    if (medium->generation.data == GENERATION_BEHIND)
        generation_take_over(&medium->generation);
    server->mode = DISK_MODE_ACTIVE;
    server->host->split |= world.split;
    server->synced = FALSE;
    server->complete_epoch = 0;
    return TRUE;
}

static const char lacks[] = "the image lacks what QEMU can't write to it any more";

/* It lacks what QEMU can't write any more. */
static gboolean lacks_metadata(const DiskServer *server)
{
    return server->sync_error && !strcmp(world.disks, "qcow2");
}

static int write_state(const DiskServer *server)
{
    int failed = world_storage_error(server->host, STORAGE_IN_PLACE);
    return failed ? failed : world_storage_state_error(server->host);
}

static gboolean attach(DiskServer *server, json_object *arguments, GError **error)
{
    const char *role = json_object_get_string(json_object_object_get(arguments, "role"));
    Stream *stream = world_stream(json_object_get_int(json_object_object_get(arguments, "fd")));
    gboolean primary = !strcmp(role, "primary");
    if (server->phase != DISK_UNATTACHED ||
        server->mode != (primary ? DISK_MODE_ACTIVE : DISK_MODE_REPLICA))
        return refuse(error, BLOCK_ERROR_MODE, "the disks can't be attached");
    if (!stream)
        return refuse(error, BLOCK_ERROR_PEER, "the connection has ended");
    if (primary && lacks_metadata(server))
        return refuse_io(error, server->sync_error, "sync it");
    int failed = write_state(server);
    if (failed)
        return refuse_io(error, failed, "write its state");
    Generation *generation = &disk_changes(server)->generation;
    if (primary && (generation->current == 0 || generation->data != GENERATION_WRITER))
        generation_begin(generation);
    server->discard |= json_object_get_boolean(json_object_object_get(arguments, "discard"));
    disk_stream_begin(server, stream,
                      json_object_get_string(json_object_object_get(arguments, "session")));
    return TRUE;
}

static gboolean write_alone(DiskServer *server, GError **error)
{
    if (server->mode != DISK_MODE_ACTIVE || server->stream)
        return refuse(error, BLOCK_ERROR_MODE, "the disks can't be written to alone");
    int failed = write_state(server);
    if (failed)
        return refuse_io(error, failed, "write its state");
    generation_begin(&disk_changes(server)->generation);
    server->host->split |= world.split;
    return TRUE;
}

static gboolean switch_to(DiskServer *server, DiskMode mode, GError **error)
{
    if (server->mode == DISK_MODE_REPLICA && mode == DISK_MODE_ACTIVE)
        return refuse(error, BLOCK_ERROR_MODE, "can't activate without a takeover");
    if (server->mode == DISK_MODE_REPLICA)
        return TRUE;
    if (mode == DISK_MODE_INACTIVE) {
        if (server->unheard)
            world_fail("%s: the image is handed over, and QEMU could not write all that it had to",
                       server->host->name);
        server->mode = mode;
        /* One that has lost writes already is given up as it is. */
        int failed = server->sync_error ? 0 : disk_sync(server, "an inactivation");
        return !failed || refuse_io(error, failed, "sync it");
    }
    int failed = world_storage_error(server->host, STORAGE_IN_PLACE);
    if (!failed && world_chance(SWITCH_FAILS_PER_MILLE))
        failed = EIO;
    if (failed) {
        world_sometimes("storage refuses to take disks back");
        return refuse_io(error, failed, "activate it");
    }
    if (server->mode == DISK_MODE_INACTIVE)
        world_sometimes("disks that were given up are taken back");
    server->mode = mode;
    return TRUE;
}

static gboolean become_replica(DiskServer *server, GError **error)
{
    if (server->mode != DISK_MODE_INACTIVE || server->stream)
        return refuse(error, BLOCK_ERROR_MODE, "the disks can't become a replica");
    if (server->sync_error)
        return refuse_io(error, server->sync_error, "sync it");
    server->overlay = (Changes){0};
    server->mode = DISK_MODE_REPLICA;
    disk_throttle_limit(server, world.epoch_writes);
    return TRUE;
}

/* As it gave its disks up, or in the pause before that: of an image with metadata. */
static gboolean has_written(const DiskServer *server, gboolean given_up)
{
    guint since = given_up ? server->refused_watched : server->refused_synced;
    guint until = !given_up && server->watched ? server->refused_watched : server->refused;
    return since == until || (!given_up && strcmp(world.disks, "qcow2") != 0);
}

/* Storage refuses by an answer, not by an error. */
static gboolean mark(DiskServer *server, json_object *arguments, gboolean given_up, GError **error)
{
    if (!has_written(server, given_up)) {
        if (given_up)
            server->unheard = FALSE;
        else
            world_sometimes("no checkpoint is made of what QEMU could not write in its pause");
        server->refusal = "QEMU could not write all that it had to";
        return TRUE;
    }
    if (lacks_metadata(server)) {
        server->refusal = lacks;
        return TRUE;
    }
    return disk_stream_mark(server, epoch_of(arguments)) ||
           refuse(error, BLOCK_ERROR_MODE, "the checkpoint can't be marked");
}

static gboolean sync_images(DiskServer *server, GError **error)
{
    int failed = disk_sync(server, "before a checkpoint");
    server->watched = FALSE;
    server->refused_synced = server->refused;
    if (!failed)
        return TRUE;
    if (server->mode != DISK_MODE_ACTIVE || !lacks_metadata(server))
        return refuse_io(error, failed, "sync it");
    server->refusal = lacks;
    world_sometimes("no checkpoint is made of an image that could not be synced");
    return TRUE;
}

static void watch(DiskServer *server)
{
    server->watched = TRUE;
    server->refused_watched = server->refused;
}

static json_object *disks_of(const DiskServer *server)
{
    json_object *disks = json_object_new_array(), *disk = json_object_new_object();
    json_object_object_add(disk, "name", json_object_new_string("root"));
    json_object_object_add(
        disk, "sync-error",
        server->sync_error ? json_object_new_string(g_strerror(server->sync_error)) : NULL);
    json_object_array_add(disks, disk);
    return disks;
}

json_object *disk_order_result(DiskServer *server)
{
    Generation generation = medium_generation(server->medium);
    json_object *result = json_object_new_object();
    json_object_object_add(result, "mode", json_object_new_string(disk_mode_name(server->mode)));
    json_object_object_add(result, "generation", wire_generation_object(&generation));
    json_object_object_add(result, "disks", disks_of(server));
    if (server->refusal)
        json_object_object_add(result, "refused", json_object_new_string(server->refusal));
    server->refusal = NULL;
    return result;
}

gboolean disk_order_run(DiskServer *server, const char *name, json_object *arguments,
                        GError **error)
{
    if (!strcmp(name, "attach"))
        return attach(server, arguments, error);
    if (!strcmp(name, "mark") || !strcmp(name, "mark-written"))
        return mark(server, arguments, strcmp(name, "mark") != 0, error);
    if (!strcmp(name, "apply"))
        return apply(server, epoch_of(arguments), error);
    if (!strcmp(name, "finish"))
        return finish(server, epoch_of(arguments), error);
    if (!strcmp(name, "takeover"))
        return take_over(server, epoch_of(arguments), error);
    if (!strcmp(name, "write-alone"))
        return write_alone(server, error);
    if (!strcmp(name, "activate"))
        return switch_to(server, DISK_MODE_ACTIVE, error);
    if (!strcmp(name, "inactivate"))
        return switch_to(server, DISK_MODE_INACTIVE, error);
    if (!strcmp(name, "become-replica"))
        return become_replica(server, error);
    if (!strcmp(name, "sync"))
        return sync_images(server, error);
    if (!strcmp(name, "detach"))
        disk_stream_end(server);
    else if (!strcmp(name, "watch"))
        watch(server);
    else if (!strcmp(name, "let-through"))
        disk_throttle_open(server);
    else if (strcmp(name, "status") != 0 && strcmp(name, "limit-sync-rate") != 0)
        world_fail("no order \"%s\"", name);
    return TRUE;
}

gint64 disk_order_begin(DiskServer *server, const char *name, json_object *arguments)
{
    gboolean applies = !strcmp(name, "apply"), ends = !strcmp(name, "finish");
    guint64 epoch = epoch_of(arguments);
    gint64 us = world_between(20, 500);
    server->final |= ends;
    if ((applies || ends) && can_apply(server, epoch)) {
        if (applies)
            disk_check_vm(server);
        server->step_error = world_storage_error(server->host, STORAGE_NEEDS_ROOM);
        begin_apply(server);
        us = world_between(100, 20000);
    } else if (!strcmp(name, "takeover") && is_at(server, epoch)) {
        server->step_error = world_storage_error(server->host, STORAGE_NEEDS_ROOM);
        begin_takeover(server);
        us = world_between(100, 50000);
    }
    return us;
}
