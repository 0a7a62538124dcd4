/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clusters of 64 KiB: 0 header, 1 refcount table, 2 refcount block, 3 active L1 table, 4 snapshot
 * table, 5 the snapshot's L1 table, 6 its L2 table, 7... the VM state.
 *
 * An L1 entry covers 512 MiB. The disk takes entry 0 (of which nothing is allocated), so VM state
 * begins at entry 1. The active L1 table is empty: loading the snapshot puts its own in the place.
 * Each cluster is referenced once. One refcount block counts 32768 clusters, far more than there
 * are. No entry carries the COPIED flag: an image may be written without knowing it.
 */
#include "vm/carrier.h"

#include "common/endian.h"
#include "common/fd.h"
#include "vm/devstate.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER_BITS 16u
#define CLUSTER      (1u << CLUSTER_BITS)
#define HEADER_BYTES 104u
#define L1_ENTRIES   2u
#define ICOUNT_NONE  G_MAXUINT64

enum { REFCOUNT_TABLE = 1, REFCOUNT_BLOCK, ACTIVE_L1, SNAPSHOT_TABLE, SNAPSHOT_L1, L2, STATE };

/* The state's clusters and the L2 entries for them have to fit one table. */
G_STATIC_ASSERT(STATE + DEVSTATE_MAX_BYTES / CLUSTER < CLUSTER / 8);

static guint64 offset_of(guint cluster)
{
    return (guint64)cluster << CLUSTER_BITS;
}

static gboolean put(int fd, guint cluster, const void *data, gsize len, GError **error)
{
    const guint8 *at = data;
    off_t offset = (off_t)offset_of(cluster);

    while (len > 0) {
        ssize_t done = pwrite(fd, at, len, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            int saved = errno;
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved),
                        "writing the carrier of device state: %s", g_strerror(saved));
            return FALSE;
        }
        at += done;
        offset += done;
        len -= (gsize)done;
    }
    return TRUE;
}

static gboolean put_header(int fd, GError **error)
{
    guint8 h[HEADER_BYTES + 8] = "QFI\xfb"; /* and an empty list of extensions */

    colo_put_be32(h + 4, 3);
    colo_put_be32(h + 20, CLUSTER_BITS);
    colo_put_be64(h + 24, CLUSTER); /* the disk's size */
    colo_put_be32(h + 36, L1_ENTRIES);
    colo_put_be64(h + 40, offset_of(ACTIVE_L1));
    colo_put_be64(h + 48, offset_of(REFCOUNT_TABLE));
    colo_put_be32(h + 56, 1); /* clusters of the refcount table */
    colo_put_be32(h + 60, 1); /* snapshots */
    colo_put_be64(h + 64, offset_of(SNAPSHOT_TABLE));
    colo_put_be32(h + 96, 4); /* refcounts of 1 << 4 bits */
    colo_put_be32(h + 100, HEADER_BYTES);
    return put(fd, 0, h, sizeof(h), error);
}

static gboolean put_snapshot_table(int fd, gsize state_len, GError **error)
{
    guint8 entry[72] = {0}; /* 40 fixed, 24 extra, then id "1" and the tag, 8-aligned */

    G_STATIC_ASSERT(64 + 1 + sizeof(CARRIER_TAG) - 1 <= sizeof(entry));
    colo_put_be64(entry, offset_of(SNAPSHOT_L1));
    colo_put_be32(entry + 8, L1_ENTRIES);
    colo_put_be16(entry + 12, 1); /* length of the id */
    colo_put_be16(entry + 14, sizeof(CARRIER_TAG) - 1);
    colo_put_be32(entry + 32, (guint32)state_len);
    colo_put_be32(entry + 36, 24); /* extra data: */
    colo_put_be64(entry + 40, state_len);
    colo_put_be64(entry + 48, CLUSTER); /* the disk's size */
    colo_put_be64(entry + 56, ICOUNT_NONE);
    entry[64] = '1';
    memcpy(entry + 65, CARRIER_TAG, sizeof(CARRIER_TAG) - 1);
    return put(fd, SNAPSHOT_TABLE, entry, sizeof(entry), error);
}

gboolean vm_carrier_write(int fd, const void *state, gsize len, GError **error)
{
    guint clusters = (guint)((len + CLUSTER - 1) / CLUSTER);
    guint8 pointer[8], l1[8 * L1_ENTRIES] = {0};
    g_autofree guint8 *refcounts = g_malloc(2 * (STATE + (gsize)clusters));
    g_autofree guint8 *l2 = g_malloc(8 * (gsize)clusters);

    g_assert(len >= 1 && len <= DEVSTATE_MAX_BYTES);
    if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)offset_of(STATE + clusters)) < 0) {
        int saved = errno;
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(saved),
                    "sizing the carrier of device state: %s", g_strerror(saved));
        return FALSE;
    }
    for (guint i = 0; i < STATE + clusters; i++)
        colo_put_be16(refcounts + 2 * (gsize)i, 1);
    for (guint i = 0; i < clusters; i++)
        colo_put_be64(l2 + 8 * (gsize)i, offset_of(STATE + i));
    colo_put_be64(pointer, offset_of(REFCOUNT_BLOCK));
    colo_put_be64(l1 + 8, offset_of(L2));
    return put_header(fd, error) && put(fd, REFCOUNT_TABLE, pointer, sizeof(pointer), error) &&
           put(fd, REFCOUNT_BLOCK, refcounts, 2 * (STATE + (gsize)clusters), error) &&
           put_snapshot_table(fd, len, error) && put(fd, SNAPSHOT_L1, l1, sizeof(l1), error) &&
           put(fd, L2, l2, 8 * (gsize)clusters, error) && put(fd, STATE, state, len, error);
}
