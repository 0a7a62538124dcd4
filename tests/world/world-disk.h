/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host's disk server from inside: what its orders (world-disk.c) and its stream share. */
#ifndef COLO_TESTS_WORLD_DISK_H
#define COLO_TESTS_WORLD_DISK_H

#include "block/server.h"
#include "tests/world/world-medium.h"

typedef enum {
    DISK_UNATTACHED,
    DISK_HELLO,   /* HELLO sent; the peer's is expected */
    DISK_SYNCING, /* the primary sends what may differ */
    DISK_SYNCED,  /* marks may come */
    DISK_FAILED,
} DiskPhase;

typedef struct {
    Generation generation;
    Lineage lineage;
    guint32 dirty;
    gboolean discard;
} DiskHello;

/* What the guest may write within an epoch. */
typedef struct {
    guint limit, written; /* writes; limit 0: none */
    gboolean asked, open;
    GSource *filling;
} DiskThrottle;

struct DiskServer {
    WorldHost *host;
    Medium *medium;
    DiskServerCallbacks callbacks;
    gpointer user_data;
    gboolean ended;
    DiskMode mode;
    GQueue *orders; /* of Order*; the first one is being carried out */
    GSource *step, *start;

    DiskThrottle throttle;

    /* The connection. */
    Stream *stream;
    DiskPhase phase;
    char session[33];
    DiskHello ours, theirs;
    guint64 epoch; /* of the last mark */

    /* Primary. */
    guint current_map;
    gboolean old_dirty, adopted;
    guint64 rotated;
    guint32 scope; /* still to be sent */
    GSource *sync;

    /* Replica. */
    Changes overlay, open, complete;
    guint64 complete_epoch; /* of what waits to be applied; 0: nothing does */
    gboolean synced, discard;
    gboolean final; /* what was written last is here, or comes: the guest is over */
    guint refused;  /* what QEMU could not write; and until `sync`, and until `watch` since then */
    guint refused_synced, refused_watched;
    gboolean watched;
    const char *refusal; /* of the order that is being carried out, by storage; NULL: none */
    gboolean unheard; /* ... and it has said that it has given them up, and nobody knows better */
    int sync_error;   /* an fdatasync has failed: every later one does */
    GSource *settle;  /* what was applied goes to the medium */
    int step_error;   /* of storage, in the order that is being carried out; 0: none */
    GQueue *unread;   /* of records: behind a mark that waits, or storage is slow */
    GSource *reader;
};

/* The medium, to be changed: it has not ended cleanly any more. */
static inline Medium *disk_changes(DiskServer *server)
{
    server->medium->clean = FALSE;
    return server->medium;
}

/* ---- world-disk.c ---- */

/* As block/image.h's image_sync(): 0, or the errno by which it fails, and has failed before. */
int disk_sync(DiskServer *server, const char *what);
/* It has written to a replica's image. */
void disk_settle(DiskServer *server);
/* It is to be carried out, or is being. */
gboolean disk_has_order(const DiskServer *server, const char *name);

/* ---- world-disk-orders.c: `arguments` are as of a disk server's command ---- */

/* Its image changes: no VM may run on it, and no QEMU may cache it. */
void disk_check_vm(const DiskServer *server);
/* What a death can cut short begins; returns after how long disk_order_run() is due. */
gint64 disk_order_begin(DiskServer *server, const char *name, json_object *arguments);
gboolean disk_order_run(DiskServer *server, const char *name, json_object *arguments,
                        GError **error);
/* Of any order that was carried out. */
json_object *disk_order_result(DiskServer *server);

/* ---- world-throttle.c: as block/throttle.h ---- */

void disk_throttle_limit(DiskServer *server, guint limit);
void disk_throttle_begin_epoch(DiskServer *server);
void disk_throttle_open(DiskServer *server);

/* ---- world-disk-stream.c ---- */

/* Sends HELLO; what follows is reported by events. */
void disk_stream_begin(DiskServer *server, Stream *stream, const char *session);
/* Nothing more is read or sent. */
void disk_stream_end(DiskServer *server);
/* FALSE: not now. */
gboolean disk_stream_mark(DiskServer *server, guint64 epoch);
void disk_stream_applied(DiskServer *server, guint64 epoch);
/* The guest has written to an active disk. */
void disk_stream_write(DiskServer *server, guint block, guint64 value);
/* What it waited for may be over. */
void disk_stream_read(DiskServer *server);

#endif
