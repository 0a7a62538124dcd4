/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes and checks Ethernet frames for tests. What is zero in a spec is left out or 0. */
#ifndef COLO_TESTS_NETFRAME_H
#define COLO_TESTS_NETFRAME_H

#include <glib.h>

typedef struct {
    gboolean vnet; /* a virtio-net header comes first */
    guint8 vnet_flags, gso_type;
    guint16 gso_size;
    int n_vlan;
    guint16 vlan[4];
    guint16 vlan_type; /* of the outer tag; 0: 0x8100 */
    gboolean v6;
    guint8 src, dst; /* last byte of 10.0.0.x or fd00::x */
    guint8 proto;    /* 6, 17, or any: the data follows the network header at once */
    guint16 ip_id;
    guint ip_option_bytes; /* IPv4: that many bytes of NOP options, a multiple of 4 */
    const guint8 *ext;     /* IPv6: extension headers, ready made, */
    gsize ext_len;         /* their length */
    guint8 ext_first;      /* and the type of the first */
    guint fragment_offset; /* bytes */
    gboolean more_fragments, fragment;

    guint16 sport, dport;
    guint32 seq, ack;
    guint8 flags;
    guint16 window, urgent;
    gboolean has_ts;
    guint32 tsval, tsecr;
    guint odd_nops; /* NOPs before the timestamp option */
    guint16 mss;
    guint8 wscale;
    int n_sack;
    guint32 sack[4][2];

    const void *data;
    gsize len;
} FrameSpec;

/* The frame, with right checksums (or partial ones if vnet_flags says so). */
GBytes *netframe_new(const FrameSpec *spec);

/* Are the IPv4 header's and the TCP or UDP checksum right? `vnet`: a header comes first. */
gboolean netframe_checksums_ok(const guint8 *frame, gsize len, gboolean vnet);

/* A frame of these bytes, which are written as hex digits and blanks. */
GBytes *netframe_from_hex(const char *hex);

#endif
