/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captures in the pcapng format (draft-ietf-opsawg-pcapng). Written into memory: a section, its
 * interfaces, its packets, in this order; little-endian, times in microseconds, link type Ethernet.
 * Read with the names of interfaces, which libpcap doesn't tell: little-endian files only.
 */
#ifndef COLO_NETCOMPARE_PCAPNG_H
#define COLO_NETCOMPARE_PCAPNG_H

#include <glib.h>
#include <stdio.h>

/* The same for all interfaces (libpcap wants that), and more than any frame has. */
#define PCAPNG_SNAPLEN 262144u

/* `comment` may be NULL; texts are UTF-8, cut at 60,000 bytes. */
void pcapng_section(GByteArray *out, const char *comment);
/* Interfaces are numbered from 0 in their order. */
void pcapng_interface(GByteArray *out, const char *name);
/* `wall_us` is since 1970; `frame` an Ethernet frame of at most PCAPNG_SNAPLEN bytes. */
void pcapng_packet(GByteArray *out, guint32 interface, gint64 wall_us, const guint8 *frame,
                   gsize len, const char *comment);

/* ---- Reading ---- */

#define PCAPNG_ERROR pcapng_error_quark()
GQuark pcapng_error_quark(void);

typedef enum {
    PCAPNG_ERROR_FORMAT,    /* no pcapng file, or one with what is not read here */
    PCAPNG_ERROR_READ,      /* damaged */
    PCAPNG_ERROR_CUT_SHORT, /* it ends within a block, behind at least one section */
} PcapngError;

typedef struct PcapngReader PcapngReader;

/* Takes `file`; `name` is for errors. */
PcapngReader *pcapng_reader_new(FILE *file, const char *name);
void pcapng_reader_free(PcapngReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PcapngReader, pcapng_reader_free)

typedef struct {
    const guint8 *data; /* good until the next call, as `interface` */
    gsize len;          /* captured; of `wire_len` */
    gsize wire_len;
    gint64 time_us;
    const char *interface; /* its name; "" if it has none */
    guint64 number;        /* in the file, from 1; other blocks with packets count too */
} PcapngPacket;

/* The next packet, from an Ethernet interface. At the end `data` is NULL. */
gboolean pcapng_reader_next(PcapngReader *reader, PcapngPacket *ret_packet, GError **error);

#endif
