/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and writing records on the socket between two sets. */
#include "block/set.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <xxhash.h>

#include "common/endian.h"

#define WRITE_RECORDS 64

/* Takes bytes; what comes with them is read ahead, so that small records don't cost a call each. */
static gboolean read_exactly(WireReader *reader, void *buf, gsize len, GError **error)
{
    guint8 *at = buf;
    gsize here = MIN(len, reader->end - reader->start);
    memcpy(at, reader->ahead + reader->start, here);
    reader->start += here;
    reader->at += len;
    for (at += here, len -= here; len > 0;) {
        struct iovec iov[] = {
            {.iov_base = at,            .iov_len = len                  },
            {.iov_base = reader->ahead, .iov_len = sizeof(reader->ahead)}
        };
        ssize_t got = readv(reader->fd, iov, G_N_ELEMENTS(iov));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int saved = errno;
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_PEER,
                        "the disk connection ended at %" G_GUINT64_FORMAT ": %s", reader->at - len,
                        got < 0 ? g_strerror(saved) : "end of stream");
            return FALSE;
        }
        gsize taken = MIN(len, (gsize)got);
        reader->start = 0;
        reader->end = (gsize)got - taken;
        at += taken;
        len -= taken;
    }
    return TRUE;
}

/* A peer's text, made safe to print. */
static char *clean_text(const guint8 *text, gsize len)
{
    g_autofree char *copy = g_strndup((const char *)text, len);
    char *valid = g_utf8_make_valid(copy, -1);
    for (char *at = valid; *at; at++)
        if ((guchar)*at < ' ')
            *at = ' ';
    return valid;
}

gboolean wire_read(WireReader *reader, const guint64 *sizes, guint n_disks, guint8 *ret_raw,
                   WireHeader *ret_header, guint8 *buf, GError **error)
{
    guint64 at = reader->at;
    if (!read_exactly(reader, ret_raw, WIRE_HEADER, error) ||
        !wire_decode(ret_raw, sizes, n_disks, at, ret_header, error) ||
        !read_exactly(reader, buf, ret_header->length, error))
        return FALSE;
    if (ret_header->type != WIRE_ERROR)
        return TRUE;
    g_autofree char *text = clean_text(buf, ret_header->length);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_PEER, "the peer's disks failed: %s", text);
    return FALSE;
}

/* Writes the whole vector, which it changes. */
static gboolean write_vector(int fd, struct iovec *iov, guint count, GError **error)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    while (message.msg_iovlen > 0) {
        ssize_t put = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            int saved = errno;
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_PEER, "can't send to the peer's disks: %s",
                        g_strerror(saved));
            return FALSE;
        }
        while (message.msg_iovlen > 0 && (gsize)put >= message.msg_iov->iov_len) {
            put -= (ssize_t)message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (guint8 *)message.msg_iov->iov_base + put;
            message.msg_iov->iov_len -= (gsize)put;
        }
    }
    return TRUE;
}

gboolean wire_write(int fd, const WireRecord *list, GError **error)
{
    struct iovec iov[WRITE_RECORDS];
    while (list) {
        guint count = 0;
        for (; list && count < WRITE_RECORDS; list = list->next)
            iov[count++] = (struct iovec){.iov_base = (void *)list->bytes, .iov_len = list->len};
        if (!write_vector(fd, iov, count, error))
            return FALSE;
    }
    return TRUE;
}

gboolean wire_unexpected(const WireHeader *header, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM, "record %s: unexpected here",
                wire_type_name(header->type));
    return FALSE;
}

WireRecord *wire_error_new(const GError *error)
{
    WireHeader header = {.type = WIRE_ERROR, .length = (guint32)MIN(strlen(error->message), 1024)};
    WireRecord *record = wire_record_new(&header);
    memcpy(wire_payload(record), error->message, header.length);
    return record;
}

void wire_hash_chunk(const void *data, gsize len, guint64 seed, guint8 *ret_hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(data, len, seed));
    memcpy(ret_hash, canonical.digest, WIRE_HASH_BYTES);
}
