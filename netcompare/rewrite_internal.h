/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the rewriter: changing one TCP header, and the export of maps. */
#ifndef COLO_NETCOMPARE_REWRITE_INTERNAL_H
#define COLO_NETCOMPARE_REWRITE_INTERNAL_H

#include "netcompare/packet.h"
#include "netcompare/rewrite.h"

/* client's number = guest's number + map */
typedef struct {
    guint32 seq, ts;
    gboolean clamp; /* TSecr must be one that the guest has sent: */
    guint32 ts_first, ts_last;
} RewriteMap;

/*
 * The frame with its numbers mapped, checksum included: a new reference if nothing changes, else a
 * copy. `packet` is the parsed frame; it must have a TCP header.
 */
GBytes *rewrite_frame_output(GBytes *frame, const Packet *packet, const RewriteMap *map);
GBytes *rewrite_frame_input(GBytes *frame, const Packet *packet, const RewriteMap *map);
/*
 * An ICMP error about a segment of the guest, which expects its own sequence number in it. That is
 * at `seq_offset` in the frame.
 */
GBytes *rewrite_frame_quoted(GBytes *frame, const Packet *packet, guint32 seq_offset,
                             const RewriteMap *map);

/* The frame with another receive window in its TCP header: a copy. */
GBytes *rewrite_frame_window(GBytes *frame, const Packet *packet, guint16 window);

/* One exported map. */
typedef struct {
    CompareKey key;
    guint32 seq, ts;
    guint32 isn;     /* the guest's; meaningful with has_isn */
    guint32 ts_last; /* the guest's last; meaningful with has_ts */
    gboolean has_isn, has_ts;
    gboolean unknown; /* the client has not told yet which SYN it knows: seq is to be learnt */
} RewriteExported;

void rewrite_export_append(GByteArray *bytes, const RewriteExported *map);
/* The maps in `bytes` (of RewriteExported), or NULL with G_IO_ERROR_INVALID_DATA. */
GArray *rewrite_export_parse(GBytes *bytes, GError **error);

#endif
