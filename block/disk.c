/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data path. A change takes the gate (shared) and then its range, and holds them through all
 * of: dirty bit, image, stream. So overlapping changes have the same order in the stream and in the
 * image. No write is in an image without being in the bitmap.
 */
#include "block/set.h"

#include <errno.h>
#include <string.h>

typedef enum { CHANGE_WRITE, CHANGE_ZERO, CHANGE_ZERO_OR_TRIM, CHANGE_TRIM } ChangeKind;

Disk *disk_set_find(DiskSet *set, const char *name)
{
    for (guint i = 0; i < set->n_disks; i++)
        if (!strcmp(set->configs[i].name, name))
            return &set->disks[i];
    return NULL;
}

guint64 disk_size(const Disk *disk)
{
    return disk->image.size;
}

static gboolean is_inside(const Disk *disk, guint32 count, guint64 offset)
{
    return count <= disk->image.size && offset <= disk->image.size - count;
}

int disk_read(Disk *disk, void *buf, guint32 count, guint64 offset)
{
    if (!is_inside(disk, count, offset))
        return -EINVAL;
    set_share(disk->set);
    int r = disk->set->mode == DISK_MODE_REPLICA ? overlay_read(&disk->overlay, buf, count, offset)
                                                 : image_read(&disk->image, buf, count, offset);
    set_unlock(disk->set);
    return r;
}

/*
 * A change that failed may have happened in part. The peer gets what is there now, so that both
 * sides still read the same. What can't even be read back is lost for this side's guest anyway.
 */
static void send_what_is_there(Disk *disk, guint32 count, guint64 offset)
{
    if (!disk->set->primary)
        return;
    g_autofree guint8 *buf = g_malloc(WIRE_DATA_MAX);
    while (count > 0) {
        guint32 piece = MIN(count, WIRE_DATA_MAX);
        if (image_read(&disk->image, buf, piece, offset) == 0)
            disk_primary_send_write(disk->set->primary, disk, buf, piece, offset);
        offset += piece;
        count -= piece;
    }
}

/* Changes the image, then tells the peer. */
static int change_image(Disk *disk, ChangeKind kind, const void *buf, guint32 count, guint64 offset)
{
    DiskSet *set = disk->set;
    int r = chunk_map_set(&disk->dirty[set->current_map], offset, count);
    if (r < 0)
        return r;
    switch (kind) {
    case CHANGE_WRITE:
        r = image_write(&disk->image, buf, count, offset);
        break;
    case CHANGE_ZERO:
    case CHANGE_ZERO_OR_TRIM:
        r = image_zero(&disk->image, count, offset, kind == CHANGE_ZERO_OR_TRIM);
        break;
    case CHANGE_TRIM:
        r = image_punch(&disk->image, count, offset);
        break;
    }
    if (kind == CHANGE_TRIM && r == -EOPNOTSUPP)
        return 0; /* nothing has changed, and that is a way to trim */
    if (r < 0)
        send_what_is_there(disk, count, offset);
    else if (set->primary && kind == CHANGE_WRITE)
        disk_primary_send_write(set->primary, disk, buf, count, offset);
    else if (set->primary)
        disk_primary_send_zero(set->primary, disk, count, offset, kind != CHANGE_ZERO);
    return r;
}

/* Of anything that QEMU asked for, and is told of. QEMU 10 forgets it as it gives its disks up. */
static int answer(Disk *disk, int r)
{
    if (r < 0) {
        g_atomic_int_set(&disk->refused_with, r);
        g_atomic_int_inc((gint *)&disk->refused);
    }
    return r;
}

/*
 * A raw image has all that was written to it, and so has the peer's. Behind qcow2's flushes there are
 * writes that QEMU does not make if a flush before them failed.
 */
static int sync_image(Disk *disk)
{
    int r = image_sync(&disk->image);
    return disk_has_metadata(disk) ? answer(disk, r) : r;
}

static int change(Disk *disk, ChangeKind kind, const void *buf, guint32 count, guint64 offset,
                  gboolean fua)
{
    DiskSet *set = disk->set;
    if (!is_inside(disk, count, offset))
        return kind == CHANGE_WRITE ? -ENOSPC : -EINVAL;
    if (count == 0)
        return 0;
    /* Before any lock. Zeroes are little work for the medium. */
    if (kind == CHANGE_WRITE) {
        if (throttle_asks(&set->throttle, count) && set->callbacks.filling)
            set->callbacks.filling(set->user_data);
        throttle_admit(&set->throttle, count);
    }
    int r;
    set_share(set);
    RangeHold *hold = disk_hold(disk, offset, count);
    DiskMode mode = set->mode;
    if (mode == DISK_MODE_ACTIVE) {
        r = answer(disk, change_image(disk, kind, buf, count, offset));
        g_atomic_int_set(&disk->image.write_error, r);
    } else if (mode == DISK_MODE_INACTIVE) {
        r = answer(disk, -EPERM);
    } else if (kind == CHANGE_WRITE) {
        r = overlay_write(&disk->overlay, buf, count, offset);
    } else {
        r = overlay_zero(&disk->overlay, count, offset);
    }
    range_lock_drop(&disk->ranges, hold);
    set_unlock(set);
    if (r == 0 && fua && mode == DISK_MODE_ACTIVE)
        r = sync_image(disk);
    return r;
}

int disk_write(Disk *disk, const void *buf, guint32 count, guint64 offset, gboolean fua)
{
    return change(disk, CHANGE_WRITE, buf, count, offset, fua);
}

int disk_zero(Disk *disk, guint32 count, guint64 offset, gboolean may_trim, gboolean fua)
{
    return change(disk, may_trim ? CHANGE_ZERO_OR_TRIM : CHANGE_ZERO, NULL, count, offset, fua);
}

int disk_trim(Disk *disk, guint32 count, guint64 offset, gboolean fua)
{
    return change(disk, CHANGE_TRIM, NULL, count, offset, fua);
}

/* What a replica's guest writes is volatile: there is nothing to make durable before the takeover.
 */
int disk_flush(Disk *disk)
{
    set_share(disk->set);
    gboolean replica = disk->set->mode == DISK_MODE_REPLICA;
    set_unlock(disk->set);
    return replica ? 0 : sync_image(disk);
}

int disk_extents(Disk *disk, guint32 count, guint64 offset, DiskExtentFunc extent,
                 gpointer user_data)
{
    if (!is_inside(disk, count, offset))
        return -EINVAL;
    guint64 end = offset + count;
    while (offset < end) {
        guint64 len = end - offset;
        gboolean hole = FALSE;
        set_share(disk->set);
        int r = 0;
        if (disk->set->mode != DISK_MODE_REPLICA)
            r = image_extent(&disk->image, offset, end - offset, &len, &hole);
        set_unlock(disk->set);
        if (r == 0)
            r = extent(offset, len, hole, user_data);
        if (r != 0)
            return r;
        offset += len;
    }
    return 0;
}
