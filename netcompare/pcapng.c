/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netcompare/pcapng.h"

#include <string.h>

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 6,

    OPTION_END = 0,
    OPTION_COMMENT = 1,
    OPTION_NAME = 2,        /* of an interface */
    OPTION_APPLICATION = 4, /* of a section */
};

#define BYTE_ORDER_MAGIC  0x1a2b3c4du
#define LINKTYPE_ETHERNET 1u
#define TEXT_MAX_BYTES    60000u

static void put16(GByteArray *out, guint16 value)
{
    guint16 bytes = GUINT16_TO_LE(value);
    g_byte_array_append(out, (const guint8 *)&bytes, sizeof(bytes));
}

static void put32(GByteArray *out, guint32 value)
{
    guint32 bytes = GUINT32_TO_LE(value);
    g_byte_array_append(out, (const guint8 *)&bytes, sizeof(bytes));
}

/* Everything is at multiples of 4. */
static void put_padded(GByteArray *out, const void *data, gsize len)
{
    static const guint8 zeros[4];
    g_byte_array_append(out, data, (guint)len);
    g_byte_array_append(out, zeros, -(guint)len & 3);
}

static void put_text(GByteArray *out, guint16 option, const char *text)
{
    if (!text)
        return;
    gsize len = strlen(text);
    if (len > TEXT_MAX_BYTES)
        len = (gsize)(g_utf8_find_prev_char(text, text + TEXT_MAX_BYTES + 1) - text);
    put16(out, option);
    put16(out, (guint16)len);
    put_padded(out, text, len);
}

/* A block begins with its type and length, and ends with its length. */
static guint block_begin(GByteArray *out, guint32 type)
{
    guint start = out->len;
    put32(out, type);
    put32(out, 0);
    return start;
}

static void block_end(GByteArray *out, guint start)
{
    put16(out, OPTION_END);
    put16(out, 0);
    put32(out, out->len - start + 4);
    memcpy(out->data + start + 4, out->data + out->len - 4, 4);
}

void pcapng_section(GByteArray *out, const char *comment)
{
    guint start = block_begin(out, BLOCK_SECTION);
    put32(out, BYTE_ORDER_MAGIC);
    put16(out, 1); /* version 1.0 */
    put16(out, 0);
    put32(out, G_MAXUINT32); /* of unknown length, 64 bits */
    put32(out, G_MAXUINT32);
    put_text(out, OPTION_COMMENT, comment);
    put_text(out, OPTION_APPLICATION, "colo " COLO_VERSION);
    block_end(out, start);
}

void pcapng_interface(GByteArray *out, const char *name)
{
    guint start = block_begin(out, BLOCK_INTERFACE);
    put16(out, LINKTYPE_ETHERNET);
    put16(out, 0);
    put32(out, PCAPNG_SNAPLEN);
    put_text(out, OPTION_NAME, name);
    block_end(out, start);
}

void pcapng_packet(GByteArray *out, guint32 interface, gint64 wall_us, const guint8 *frame,
                   gsize len, const char *comment)
{
    guint start = block_begin(out, BLOCK_PACKET);
    guint32 captured = (guint32)MIN(len, PCAPNG_SNAPLEN);
    put32(out, interface);
    put32(out, (guint32)((guint64)wall_us >> 32));
    put32(out, (guint32)wall_us);
    put32(out, captured);
    put32(out, (guint32)len);
    put_padded(out, frame, captured);
    put_text(out, OPTION_COMMENT, comment);
    block_end(out, start);
}
