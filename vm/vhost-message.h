/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The messages of vhost-user, as QEMU's front end sends them (QEMU, docs/interop/vhost-user.rst): their
 * bytes, and which are well formed. What they do is vhost-card.h's.
 *
 * On the socket, both ways: le32 request, le32 flags, le32 size of the payload, payload. A message's
 * descriptors come with its first byte. All is in the host's order, which is little-endian here.
 */
#ifndef COLO_VM_VHOST_MESSAGE_H
#define COLO_VM_VHOST_MESSAGE_H

#include <glib.h>

#include "vm/vring.h"

#define VHOST_ERROR vhost_error_quark()
GQuark vhost_error_quark(void);

typedef enum {
    VHOST_ERROR_MESSAGE, /* QEMU has sent what is no message, or none that can be now */
    VHOST_ERROR_CLOSED,  /* its end of the socket is gone */
    VHOST_ERROR_SOCKET,  /* there can be no socket to listen at */
    VHOST_ERROR_RING,    /* the guest's driver has broken a rule */
} VhostError;

typedef enum {
    VHOST_GET_FEATURES = 1,
    VHOST_SET_FEATURES = 2,
    VHOST_SET_OWNER = 3,
    VHOST_RESET_OWNER = 4,
    VHOST_SET_MEM_TABLE = 5,
    VHOST_SET_LOG_BASE = 6,
    VHOST_SET_LOG_FD = 7,
    VHOST_SET_VRING_NUM = 8,
    VHOST_SET_VRING_ADDR = 9,
    VHOST_SET_VRING_BASE = 10,
    VHOST_GET_VRING_BASE = 11,
    VHOST_SET_VRING_KICK = 12,
    VHOST_SET_VRING_CALL = 13,
    VHOST_SET_VRING_ERR = 14,
    VHOST_GET_PROTOCOL_FEATURES = 15,
    VHOST_SET_PROTOCOL_FEATURES = 16,
    VHOST_SET_VRING_ENABLE = 18,
} VhostRequest;

#define VHOST_HEADER_BYTES 12u
/* Of VHOST_SET_MEM_TABLE: le32 count, le32 unused, then the regions. */
#define VHOST_REGION_BYTES 32u
#define VHOST_PAYLOAD_MAX  (8u + VRING_REGIONS_MAX * VHOST_REGION_BYTES)
#define VHOST_FDS_MAX      VRING_REGIONS_MAX
/* Rings: what the guest receives by, what it sends by. */
enum { VHOST_TO_GUEST = 0, VHOST_FROM_GUEST = 1, VHOST_RINGS = 2 };

/* A region of the guest's memory. */
typedef struct {
    guint64 guest, size; /* address in the guest; bytes */
    guint64 user;        /* address in QEMU: rings are named by these */
    guint64 offset;      /* in the file */
} VhostRegion;

/* A message that is well formed. Its members depend on the request. */
typedef struct {
    VhostRequest request;
    gboolean wants_reply; /* of any kind: a value, or whether it was done */
    guint ring;           /* of VHOST_*_VRING_*: below VHOST_RINGS */
    guint64 value;        /* features; size, index or enabling of a ring; 1 if a descriptor comes */
    guint64 desc, avail, used; /* VHOST_SET_VRING_ADDR: addresses in QEMU */
    guint count;               /* VHOST_SET_MEM_TABLE: each with a descriptor */
    VhostRegion regions[VRING_REGIONS_MAX];
} VhostMessage;

const char *vhost_request_name(guint32 request);

/* The payload's size, from a header of VHOST_HEADER_BYTES. FALSE: it is no header. */
gboolean vhost_message_size(const guint8 *header, gsize *ret_size, GError **error);
/* Reads a whole message, which came with `fds` descriptors. */
gboolean vhost_message_parse(const guint8 *bytes, gsize len, guint fds, VhostMessage *ret,
                             GError **error);

/* The largest reply. */
#define VHOST_REPLY_BYTES (VHOST_HEADER_BYTES + 8u)
/* Writes the reply to `message` with `value`; its length. */
gsize vhost_message_reply(const VhostMessage *message, guint64 value,
                          guint8 reply[VHOST_REPLY_BYTES]);

#endif
