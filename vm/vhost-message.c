/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/vhost-message.h"

#include <string.h>

enum { FLAG_VERSION = 1, FLAG_VERSION_MASK = 3, FLAG_REPLY = 4, FLAG_NEED_REPLY = 8 };

/* In the value of VHOST_SET_VRING_KICK, _CALL and _ERR */
#define RING_MASK  0xffu
#define NO_FD_FLAG 0x100u

G_DEFINE_QUARK(vhost_error, vhost_error)

typedef enum {
    PAYLOAD_NONE,
    PAYLOAD_VALUE,  /* le64 */
    PAYLOAD_STATE,  /* le32 ring, le32 value */
    PAYLOAD_RING,   /* le64: ring, and whether a descriptor comes */
    PAYLOAD_PLACE,  /* le32 ring, le32 flags, le64 desc, used, avail, log */
    PAYLOAD_MEMORY, /* le32 count, le32 unused, regions */
    PAYLOAD_LOG,    /* le64 size, le64 offset */
} Payload;

static const struct {
    const char *name; /* NULL: no request of this number */
    Payload payload;
    gboolean answers; /* with a value, whether it is asked to or not */
    guint fds;        /* at most */
} requests[] = {
    [VHOST_GET_FEATURES] = {"GET_FEATURES",          PAYLOAD_NONE,   TRUE,  0            },
    [VHOST_SET_FEATURES] = {"SET_FEATURES",          PAYLOAD_VALUE,  FALSE, 0            },
    [VHOST_SET_OWNER] = {"SET_OWNER",             PAYLOAD_NONE,   FALSE, 0            },
    [VHOST_RESET_OWNER] = {"RESET_OWNER",           PAYLOAD_NONE,   FALSE, 0            },
    [VHOST_SET_MEM_TABLE] = {"SET_MEM_TABLE",         PAYLOAD_MEMORY, FALSE, VHOST_FDS_MAX},
    [VHOST_SET_LOG_BASE] = {"SET_LOG_BASE",          PAYLOAD_LOG,    TRUE,  1            },
    [VHOST_SET_LOG_FD] = {"SET_LOG_FD",            PAYLOAD_NONE,   FALSE, 1            },
    [VHOST_SET_VRING_NUM] = {"SET_VRING_NUM",         PAYLOAD_STATE,  FALSE, 0            },
    [VHOST_SET_VRING_ADDR] = {"SET_VRING_ADDR",        PAYLOAD_PLACE,  FALSE, 0            },
    [VHOST_SET_VRING_BASE] = {"SET_VRING_BASE",        PAYLOAD_STATE,  FALSE, 0            },
    [VHOST_GET_VRING_BASE] = {"GET_VRING_BASE",        PAYLOAD_STATE,  TRUE,  0            },
    [VHOST_SET_VRING_KICK] = {"SET_VRING_KICK",        PAYLOAD_RING,   FALSE, 1            },
    [VHOST_SET_VRING_CALL] = {"SET_VRING_CALL",        PAYLOAD_RING,   FALSE, 1            },
    [VHOST_SET_VRING_ERR] = {"SET_VRING_ERR",         PAYLOAD_RING,   FALSE, 1            },
    [VHOST_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", PAYLOAD_NONE,   TRUE,  0            },
    [VHOST_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", PAYLOAD_VALUE,  FALSE, 0            },
    [VHOST_SET_VRING_ENABLE] = {"SET_VRING_ENABLE",      PAYLOAD_STATE,  FALSE, 0            },
};

static const gsize payload_bytes[] = {
    [PAYLOAD_NONE] = 0,   [PAYLOAD_VALUE] = 8,  [PAYLOAD_STATE] = 8, [PAYLOAD_RING] = 8,
    [PAYLOAD_PLACE] = 40, [PAYLOAD_MEMORY] = 8, [PAYLOAD_LOG] = 16,
};

static guint32 get32(const guint8 *at)
{
    guint32 value;
    memcpy(&value, at, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static guint64 get64(const guint8 *at)
{
    guint64 value;
    memcpy(&value, at, sizeof(value));
    return GUINT64_FROM_LE(value);
}

static void put32(guint8 *at, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

const char *vhost_request_name(guint32 request)
{
    return request < G_N_ELEMENTS(requests) && requests[request].name ? requests[request].name
                                                                      : "an unknown request";
}

static gboolean refuse(GError **error, guint32 request, const char *why)
{
    g_set_error(error, VHOST_ERROR, VHOST_ERROR_MESSAGE, "vhost-user: %s (%u) %s",
                vhost_request_name(request), request, why);
    return FALSE;
}

gboolean vhost_message_size(const guint8 *header, gsize *ret_size, GError **error)
{
    guint32 request = get32(header), flags = get32(header + 4), size = get32(header + 8);
    if (request >= G_N_ELEMENTS(requests) || !requests[request].name)
        return refuse(error, request, "was not agreed on");
    if ((flags & FLAG_VERSION_MASK) != FLAG_VERSION || flags & FLAG_REPLY)
        return refuse(error, request, "is of another version, or a reply");
    if (size > VHOST_PAYLOAD_MAX)
        return refuse(error, request, "is too long");
    *ret_size = size;
    return TRUE;
}

static void parse_regions(const guint8 *at, VhostMessage *message)
{
    for (guint i = 0; i < message->count; i++, at += VHOST_REGION_BYTES)
        message->regions[i] = (VhostRegion){.guest = get64(at),
                                            .size = get64(at + 8),
                                            .user = get64(at + 16),
                                            .offset = get64(at + 24)};
}

static gboolean parse_memory(const guint8 *payload, gsize size, guint fds, VhostMessage *message,
                             GError **error)
{
    message->count = get32(payload);
    if (message->count > VRING_REGIONS_MAX ||
        size != 8 + message->count * (gsize)VHOST_REGION_BYTES)
        return refuse(error, message->request, "has another length than its regions");
    if (fds != message->count)
        return refuse(error, message->request, "has not one descriptor for each region");
    parse_regions(payload + 8, message);
    return TRUE;
}

static gboolean parse_ring(const guint8 *payload, Payload kind, guint fds, VhostMessage *message,
                           GError **error)
{
    message->ring = get32(payload);
    if (kind == PAYLOAD_STATE) {
        message->value = get32(payload + 4);
    } else if (kind == PAYLOAD_PLACE) {
        message->desc = get64(payload + 8);
        message->used = get64(payload + 16);
        message->avail = get64(payload + 24);
    } else {
        guint64 value = get64(payload);
        message->ring = value & RING_MASK;
        message->value = !(value & NO_FD_FLAG);
        if (fds != message->value)
            return refuse(error, message->request, "has a descriptor, or none, against its word");
    }
    return message->ring < VHOST_RINGS ||
           refuse(error, message->request, "names a ring that there is not");
}

gboolean vhost_message_parse(const guint8 *bytes, gsize len, guint fds, VhostMessage *ret,
                             GError **error)
{
    gsize size;
    if (!vhost_message_size(bytes, &size, error))
        return FALSE;
    guint32 request = get32(bytes);
    Payload kind = requests[request].payload;
    const guint8 *payload = bytes + VHOST_HEADER_BYTES;
    VhostMessage message = {.request = request,
                            .wants_reply =
                                requests[request].answers || (get32(bytes + 4) & FLAG_NEED_REPLY)};
    if (len != VHOST_HEADER_BYTES + size ||
        (kind == PAYLOAD_MEMORY ? size < payload_bytes[kind] : size != payload_bytes[kind]))
        return refuse(error, request, "has a wrong length");
    if (fds > requests[request].fds)
        return refuse(error, request, "has too many descriptors");
    if (kind == PAYLOAD_VALUE)
        message.value = get64(payload);
    if (kind == PAYLOAD_MEMORY && !parse_memory(payload, size, fds, &message, error))
        return FALSE;
    if ((kind == PAYLOAD_STATE || kind == PAYLOAD_PLACE || kind == PAYLOAD_RING) &&
        !parse_ring(payload, kind, fds, &message, error))
        return FALSE;
    *ret = message;
    return TRUE;
}

gsize vhost_message_reply(const VhostMessage *message, guint64 value,
                          guint8 reply[VHOST_REPLY_BYTES])
{
    put32(reply, message->request);
    put32(reply + 4, FLAG_VERSION | FLAG_REPLY);
    put32(reply + 8, 8);
    if (message->request == VHOST_GET_VRING_BASE) {
        put32(reply + 12, message->ring);
        put32(reply + 16, (guint32)value);
    } else {
        value = GUINT64_TO_LE(value);
        memcpy(reply + 12, &value, sizeof(value));
    }
    return VHOST_REPLY_BYTES;
}
