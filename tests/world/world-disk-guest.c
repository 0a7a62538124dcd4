/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest reads, writes and flushes: the counterpart of block/disk.c. */
#include <string.h>

#include "tests/world/world-disk.h"

/* Of the times that QEMU gives its disks up, so many can't be written to then. */
#define RELEASE_FAILS_PER_MILLE 200u

guint64 world_disk_read(const WorldHost *host, guint block)
{
    const DiskServer *server = host->disk_server;
    gboolean local = server->mode == DISK_MODE_REPLICA && (server->overlay.named & (1u << block));
    return local ? server->overlay.block[block] : server->medium->image[block];
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
    server->medium->dirty[server->current_map] |= 1u << block;
    medium_put(server->medium, block, value);
    disk_stream_write(server, block, value);
}

int world_disk_flush(WorldHost *host)
{
    gboolean active = host->disk_server->mode == DISK_MODE_ACTIVE;
    return active ? disk_sync(host->disk_server, "a guest's flush") : 0;
}

gboolean world_disk_release(WorldHost *host)
{
    DiskServer *server = host->disk_server;
    if (strcmp(world.disks, "qcow2") != 0 || server->mode != DISK_MODE_ACTIVE ||
        !world_chance(RELEASE_FAILS_PER_MILLE))
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
