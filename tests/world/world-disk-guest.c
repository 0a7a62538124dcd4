/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest reads, writes and flushes: the counterpart of block/disk.c. */
#include <string.h>

#include "tests/world/world-disk.h"

/* Of the times that QEMU gives its disks up, so many can't be written to then. */
#define RELEASE_FAILS_PER_MILLE 200u

/* Of the writes to a qcow2 image, so many are to new clusters. */
#define NEW_CLUSTER_PER_MILLE 500u

guint64 world_disk_read(const WorldHost *host, guint block)
{
    const DiskServer *server = host->disk_server;
    if (host->vm && host->vm->kept.named & (1u << block))
        return host->vm->kept.block[block];
    gboolean local = server->mode == DISK_MODE_REPLICA && (server->overlay.named & (1u << block));
    return local ? server->overlay.block[block] : server->medium->image[block];
}

static void put(DiskServer *server, guint block, guint64 value)
{
    server->medium->dirty[server->current_map] |= 1u << block;
    medium_put(server->medium, block, value);
    disk_stream_write(server, block, value);
}

/* What refers to a new cluster is in QEMU's memory: only QEMU reads what is in that, before a flush. */
static gboolean is_kept(const DiskServer *server)
{
    return server->host->vm && !strcmp(world.disks, "qcow2") && world_chance(NEW_CLUSTER_PER_MILLE);
}

int world_disk_write_kept(WorldHost *host)
{
    DiskServer *server = host->disk_server;
    Changes *kept = host->vm ? &host->vm->kept : NULL;
    if (!kept || !kept->named || !server || server->ended || server->mode != DISK_MODE_ACTIVE)
        return 0;
    int failed = world_storage_error(host, STORAGE_NEEDS_ROOM);
    if (failed) {
        world_disk_refuses(host);
        return failed;
    }
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (kept->named & (1u << i))
            put(server, i, kept->block[i]);
    *kept = (Changes){0};
    return 0;
}

void world_disk_refuses(WorldHost *host)
{
    if (host->disk_server)
        host->disk_server->refused++;
}

void world_disk_write(WorldHost *host, guint block, guint64 value)
{
    DiskServer *server = host->disk_server;
    if (server->mode == DISK_MODE_INACTIVE)
        world_fail("%s: the guest writes to disks that were given up", host->name);
    if (server->mode == DISK_MODE_REPLICA) {
        changes_add(&server->overlay, block, value);
        return;
    }
    if (is_kept(server)) {
        changes_add(&host->vm->kept, block, value);
        return;
    }
    host->vm->kept.named &= ~(1u << block);
    put(server, block, value);
}

int world_disk_flush(WorldHost *host)
{
    if (host->disk_server->mode != DISK_MODE_ACTIVE)
        return 0;
    int failed = world_disk_write_kept(host);
    return failed ? failed : disk_sync(host->disk_server, "a guest's flush");
}

gboolean world_disk_release(WorldHost *host)
{
    DiskServer *server = host->disk_server;
    if (strcmp(world.disks, "qcow2") != 0 || server->mode != DISK_MODE_ACTIVE ||
        (world_disk_write_kept(host) == 0 && !world_chance(RELEASE_FAILS_PER_MILLE)))
        return TRUE;
    server->refused++;
    server->unheard = world_chance(500);
    world_sometimes(server->unheard ? "QEMU can't write as it gives its disks up, and says it has"
                                    : "QEMU can't write as it gives its disks up");
    return server->unheard;
}

void world_disk_takes_back(WorldHost *host)
{
    if (host->disk_server)
        host->disk_server->unheard = FALSE;
}

int world_disk_sync_error(const WorldHost *host)
{
    return host->disk_server ? host->disk_server->sync_error : 0;
}

gboolean world_disk_may_differ(const WorldHost *host, guint block)
{
    const Medium *medium = host->medium;
    guint32 known = medium->told | (world_disk_sync_error(host) ? medium->gone : 0);
    return (known & (1u << block)) != 0;
}

void world_disk_is_read_anew(WorldHost *host)
{
    host->medium->gone = host->medium->told = 0;
}
