/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile peer of a disk set, in either role. The input is a program: each step is a record with
 * any fields but a right checksum, or raw bytes. Sent records are few enough to fit in the socket
 * together with the answers.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "block/wire.h"
#include "common/endian.h"
#include "tests/support/block-pair.h"

#define STEPS 40u

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

typedef struct {
    const guint8 *at, *end;
    int fd;
    XXH3_state_t *hash; /* as both sides keep it between marks */
    guint64 epoch;
} Peer;

static guint8 take(Peer *p)
{
    return p->at < p->end ? *p->at++ : 0;
}

static void put(Peer *p, WireRecord *record)
{
    guint16 type = colo_get_be16(record->bytes);
    if (send(p->fd, record->bytes, record->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        p->at = p->end; /* the other side has had enough */
    if (type == WIRE_START || type == WIRE_MARK)
        XXH3_64bits_reset(p->hash);
    else
        XXH3_64bits_update(p->hash, record->bytes, record->len);
    g_free(record);
}

/* One record. Fields are small numbers, so that they often mean something. */
static void put_record(Peer *p)
{
    guint8 kind = take(p);
    WireHeader header = {.type = kind % 16, .disk = take(p) % 3};
    guint8 length = take(p), offset = take(p);
    header.offset = (guint64)offset * 4096;
    header.count = take(p) % 20;
    header.length = length;
    if (kind >= 128) { /* what the count asks for */
        header.offset = offset % 4 * (guint64)BLOCK_CHUNK_BYTES;
        header.length = header.type == WIRE_HASH   ? header.count * WIRE_HASH_BYTES
                        : header.type == WIRE_ZERO ? 12
                        : header.type == WIRE_MARK ? 8
                        : header.type == WIRE_NEED || header.type == WIRE_BITMAP
                            ? (header.count + 7) / 8
                            : length;
        if (header.type < WIRE_HASH && header.type != WIRE_BITMAP)
            header.count = 0;
    }
    gboolean right_mark = header.type == WIRE_MARK && header.length == 8 && kind >= 128;
    if (right_mark)
        header.count = 0, header.epoch = ++p->epoch;
    else
        header.epoch = kind & 64 ? take(p) : p->epoch;
    WireRecord *record = wire_record_new(&header);
    for (guint32 i = 0; i < header.length; i++)
        wire_payload(record)[i] = take(p);
    if (right_mark)
        colo_put_be64(wire_payload(record), XXH3_64bits_digest(p->hash));
    if (header.type == WIRE_ZERO && header.length == 12 && kind & 32)
        colo_put_be64(wire_payload(record), take(p) * G_GUINT64_CONSTANT(1000));
    put(p, record);
}

static void put_hello(Peer *p, const guint8 *session, gboolean primary, const Side *side)
{
    WireHello hello = {.primary = primary, .has_lineage = take(p) & 1, .writer = take(p) & 1};
    memcpy(hello.session, session, BLOCK_SESSION_BYTES);
    /* Allowed to go on: what is refused is refused at once. */
    hello.generation.current = 1;
    hello.discard = !primary;
    put(p, wire_hello_new(&hello, side->configs, side->sizes, SIDE_DISKS));
    WireHeader next = {.type = primary ? WIRE_START : WIRE_READY};
    put(p, wire_record_new(&next));
}

/* Applies what the peer marks, until the set gives up on it. */
static void serve(Side *side, gboolean replica)
{
    guint64 applied = 0;
    for (;;) {
        g_mutex_lock(&side->mutex);
        while (!side->lost && (!replica || side->marked <= applied))
            g_cond_wait(&side->changed, &side->mutex);
        guint64 marked = side->marked;
        gboolean lost = side->lost;
        g_mutex_unlock(&side->mutex);
        if (replica && marked > applied) {
            g_assert(disk_set_apply(side->set, marked, NULL));
            applied = marked;
        } else if (lost) {
            return;
        }
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint64 sizes[SIDE_DISKS] = {200000, 4096};
    static const guint8 session[BLOCK_SESSION_BYTES] = {1};
    static Side *side;
    if (!side)
        side = side_new(sizes);
    Peer p = {.at = data, .end = data + size, .hash = XXH3_createState()};
    guint8 how = take(&p);
    gboolean replica = how & 1;
    int fds[2];
    g_assert(side_open(side, !replica, NULL));
    g_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    p.fd = fds[0];
    XXH3_64bits_reset(p.hash);
    if (replica)
        g_assert(disk_set_attach_replica(side->set, fds[1], session, NULL));
    else
        g_assert(disk_set_attach_primary(side->set, fds[1], session, NULL));
    if (how & 2)
        put_hello(&p, session, replica, side);
    for (guint i = 0; i < STEPS && p.at < p.end; i++) {
        if (take(&p) < 240)
            put_record(&p);
        else if (send(p.fd, p.at, (gsize)(p.end - p.at), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            p.at = p.end;
    }
    shutdown(p.fd, SHUT_WR);
    serve(side, replica);
    XXH3_freeState(p.hash);
    side_crash(side); /* the next input finds what this one left, or a fresh replica */
    close(p.fd);
    g_autofree char *state = g_build_filename(side->dir, "state", NULL);
    unlink(state);
    return 0;
}
