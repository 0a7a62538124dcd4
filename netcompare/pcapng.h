/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes captures in the pcapng format (draft-ietf-opsawg-pcapng), into memory: a section, its
 * interfaces, its packets, in this order. Little-endian, times in microseconds, link type Ethernet.
 */
#ifndef COLO_NETCOMPARE_PCAPNG_H
#define COLO_NETCOMPARE_PCAPNG_H

#include <glib.h>

/* The same for all interfaces (libpcap wants that), and more than any frame has. */
#define PCAPNG_SNAPLEN 262144u

/* `comment` may be NULL; texts are UTF-8, cut at 60,000 bytes. */
void pcapng_section(GByteArray *out, const char *comment);
/* Interfaces are numbered from 0 in their order. */
void pcapng_interface(GByteArray *out, const char *name);
/* `wall_us` is since 1970; `frame` an Ethernet frame of at most PCAPNG_SNAPLEN bytes. */
void pcapng_packet(GByteArray *out, guint32 interface, gint64 wall_us, const guint8 *frame,
                   gsize len, const char *comment);

#endif
