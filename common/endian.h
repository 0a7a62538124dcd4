/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Big-endian integers at any address: every format of ours is big-endian on the wire and on disk.
 */
#ifndef COLO_COMMON_ENDIAN_H
#define COLO_COMMON_ENDIAN_H

#include <glib.h>
#include <string.h>

static inline void colo_put_be16(void *at, guint16 value)
{
    value = GUINT16_TO_BE(value);
    memcpy(at, &value, sizeof(value));
}

static inline void colo_put_be32(void *at, guint32 value)
{
    value = GUINT32_TO_BE(value);
    memcpy(at, &value, sizeof(value));
}

static inline void colo_put_be64(void *at, guint64 value)
{
    value = GUINT64_TO_BE(value);
    memcpy(at, &value, sizeof(value));
}

static inline guint16 colo_get_be16(const void *at)
{
    guint16 value;
    memcpy(&value, at, sizeof(value));
    return GUINT16_FROM_BE(value);
}

static inline guint32 colo_get_be32(const void *at)
{
    guint32 value;
    memcpy(&value, at, sizeof(value));
    return GUINT32_FROM_BE(value);
}

static inline guint64 colo_get_be64(const void *at)
{
    guint64 value;
    memcpy(&value, at, sizeof(value));
    return GUINT64_FROM_BE(value);
}

#endif
