/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads what is needed of pcapng: sections, interfaces with their names and time units, enhanced
 * packets. Other blocks and options are passed over. One block in memory at a time, which is at
 * most BLOCK_MAX_BYTES; nothing is read past its end, whatever its length field has.
 */
#include <errno.h>
#include <string.h>

#include "netcompare/pcapng.h"

#define BLOCK_MAX_BYTES (1u << 20)
#define MAX_INTERFACES  4096u
#define SECTION         0x0a0d0d0au
#define MAGIC           0x1a2b3c4du

enum { BLOCK_INTERFACE = 1, BLOCK_OLD_PACKET = 2, BLOCK_SIMPLE_PACKET = 3, BLOCK_PACKET = 6 };
enum { OPTION_END = 0, OPTION_NAME = 2, OPTION_TSRESOL = 9 };
enum { LINKTYPE_ETHERNET = 1 };

G_DEFINE_QUARK(pcapng_error, pcapng_error)

typedef struct {
    char *name;
    guint64 units_per_second; /* of its times */
} Interface;

struct PcapngReader {
    FILE *file;
    char *name;
    guint64 offset, next; /* of the block at hand, of the one after it */
    guint64 n_packets;
    gboolean in_section;
    GByteArray *block;     /* what is between its two lengths */
    GPtrArray *interfaces; /* of Interface* */
};

static void interface_free(gpointer data)
{
    Interface *interface = data;
    g_free(interface->name);
    g_free(interface);
}

PcapngReader *pcapng_reader_new(FILE *file, const char *name)
{
    PcapngReader *reader = g_new0(PcapngReader, 1);
    reader->file = file;
    reader->name = g_strdup(name);
    reader->block = g_byte_array_new();
    reader->interfaces = g_ptr_array_new_with_free_func(interface_free);
    return reader;
}

void pcapng_reader_free(PcapngReader *reader)
{
    if (!reader)
        return;
    fclose(reader->file);
    g_free(reader->name);
    g_byte_array_unref(reader->block);
    g_ptr_array_unref(reader->interfaces);
    g_free(reader);
}

static guint16 get16(const guint8 *bytes)
{
    return (guint16)(bytes[0] | bytes[1] << 8);
}

static guint32 get32(const guint8 *bytes)
{
    return get16(bytes) | (guint32)get16(bytes + 2) << 16;
}

static gboolean fail(const PcapngReader *reader, PcapngError code, const char *what, GError **error)
{
    g_set_error(error, PCAPNG_ERROR, code, "capture %s, block at byte %" G_GUINT64_FORMAT ": %s",
                reader->name, reader->offset, what);
    return FALSE;
}

static gboolean cut_short(const PcapngReader *reader, GError **error)
{
    gboolean failed = ferror(reader->file) != 0;
    return fail(reader, failed ? PCAPNG_ERROR_READ : PCAPNG_ERROR_CUT_SHORT,
                failed ? g_strerror(errno) : "the file is cut short", error);
}

/* ---- Blocks ---- */

/* Reads the next block; *ret_type 0 at the end of the file. */
static gboolean read_block(PcapngReader *reader, guint32 *ret_type, GError **error)
{
    guint8 header[8], end[4];
    gsize got = fread(header, 1, sizeof(header), reader->file);
    *ret_type = 0;
    reader->offset = reader->next;
    if (got == 0 && feof(reader->file) && reader->in_section)
        return TRUE;
    if (!reader->in_section && (got < sizeof(header) || get32(header) != SECTION))
        return fail(reader, PCAPNG_ERROR_FORMAT, "this is no pcapng file", error);
    if (got < sizeof(header))
        return cut_short(reader, error);
    guint32 type = get32(header), len = get32(header + 4);
    if (len < 12 || len % 4 || len > BLOCK_MAX_BYTES)
        return fail(reader, type == SECTION ? PCAPNG_ERROR_FORMAT : PCAPNG_ERROR_READ,
                    type == SECTION ? "this is no little-endian pcapng file (editcap rewrites it)"
                                    : "its length makes no sense",
                    error);
    g_byte_array_set_size(reader->block, len - 12);
    if (fread(reader->block->data, 1, len - 12, reader->file) != len - 12 ||
        fread(end, 1, sizeof(end), reader->file) != sizeof(end))
        return cut_short(reader, error);
    if (get32(end) != len)
        return fail(reader, PCAPNG_ERROR_READ, "its two lengths differ", error);
    reader->next += len;
    *ret_type = type;
    return TRUE;
}

static gboolean take_section(PcapngReader *reader, GError **error)
{
    if (reader->block->len < 16 || get32(reader->block->data) != MAGIC ||
        get16(reader->block->data + 4) != 1)
        return fail(reader, PCAPNG_ERROR_FORMAT,
                    "this is no little-endian pcapng file of version 1", error);
    reader->in_section = TRUE;
    g_ptr_array_set_size(reader->interfaces, 0);
    return TRUE;
}

/* Units per second of an if_tsresol byte; 0: none that is known here. */
static guint64 parse_resolution(guint8 value)
{
    guint64 units = 1;
    if (value & 0x80)
        return (value & 0x7f) <= 40 ? G_GUINT64_CONSTANT(1) << (value & 0x7f) : 0;
    if (value > 12)
        return 0;
    while (value-- > 0)
        units *= 10;
    return units;
}

/* The options of an interface. FALSE: they don't fit. */
static gboolean take_options(Interface *interface, const guint8 *at, gsize len)
{
    while (len >= 4) {
        guint16 option = get16(at);
        gsize size = get16(at + 2), padded = (size + 3) & ~(gsize)3;
        at += 4, len -= 4;
        if (option == OPTION_END)
            return TRUE;
        if (padded > len)
            return FALSE;
        if (option == OPTION_NAME) {
            g_free(interface->name);
            interface->name = g_strndup((const char *)at, size);
        }
        if (option == OPTION_TSRESOL && size == 1)
            interface->units_per_second = parse_resolution(at[0]);
        at += padded, len -= padded;
    }
    return len == 0;
}

static gboolean take_interface(PcapngReader *reader, GError **error)
{
    const GByteArray *block = reader->block;
    if (block->len < 8 || reader->interfaces->len >= MAX_INTERFACES)
        return fail(reader, PCAPNG_ERROR_READ, "an interface that makes no sense", error);
    if (get16(block->data) != LINKTYPE_ETHERNET)
        return fail(reader, PCAPNG_ERROR_FORMAT, "an interface that is not Ethernet", error);
    Interface *interface = g_new0(Interface, 1);
    interface->name = g_strdup("");
    interface->units_per_second = G_USEC_PER_SEC;
    g_ptr_array_add(reader->interfaces, interface);
    if (!take_options(interface, block->data + 8, block->len - 8))
        return fail(reader, PCAPNG_ERROR_READ, "options of an interface that don't fit", error);
    if (interface->units_per_second == 0)
        return fail(reader, PCAPNG_ERROR_FORMAT, "an interface with a time unit that is not known",
                    error);
    return TRUE;
}

static gboolean take_packet(const PcapngReader *reader, PcapngPacket *ret_packet, GError **error)
{
    const GByteArray *block = reader->block;
    if (block->len < 20)
        return fail(reader, PCAPNG_ERROR_READ, "a packet that is too short", error);
    guint32 id = get32(block->data), captured = get32(block->data + 12);
    guint32 wire_len = get32(block->data + 16);
    if (captured > block->len - 20 || wire_len < captured)
        return fail(reader, PCAPNG_ERROR_READ, "a packet that does not fit", error);
    if (id >= reader->interfaces->len)
        return fail(reader, PCAPNG_ERROR_READ, "a packet of an interface that there is not", error);
    const Interface *interface = g_ptr_array_index(reader->interfaces, id);
    guint64 time = (guint64)get32(block->data + 4) << 32 | get32(block->data + 8);
    guint64 seconds = time / interface->units_per_second;
    long double rest = (long double)(time % interface->units_per_second);
    *ret_packet = (PcapngPacket){
        .data = block->data + 20,
        .len = captured,
        .wire_len = wire_len,
        /* A time later than any clock's is cut to the largest one. */
        .time_us = (gint64)MIN(seconds, (guint64)G_MAXINT32 * 1000) * G_USEC_PER_SEC +
                   (gint64)(rest * G_USEC_PER_SEC / (long double)interface->units_per_second),
        .interface = interface->name,
        .number = reader->n_packets};
    return TRUE;
}

gboolean pcapng_reader_next(PcapngReader *reader, PcapngPacket *ret_packet, GError **error)
{
    for (;;) {
        guint32 type;
        if (!read_block(reader, &type, error))
            return FALSE;
        if (type == 0) {
            *ret_packet = (PcapngPacket){0};
            return TRUE;
        }
        if (type == BLOCK_PACKET || type == BLOCK_SIMPLE_PACKET || type == BLOCK_OLD_PACKET)
            reader->n_packets++;
        if (type == SECTION && !take_section(reader, error))
            return FALSE;
        if (type == BLOCK_INTERFACE && !take_interface(reader, error))
            return FALSE;
        if (type == BLOCK_PACKET)
            return take_packet(reader, ret_packet, error);
    }
}
