/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the comparator and the rewriter need to know of a frame: which flow, which bytes count, and
 * TCP's fields. Never reads past the frame's end; whatever does not fit its own headers is opaque.
 */
#ifndef COLO_NETCOMPARE_PACKET_H
#define COLO_NETCOMPARE_PACKET_H

#include "netcompare/compare.h"

enum {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_URG = 0x20,
};

/* Protocol numbers, by IANA. */
enum {
    PROTO_HOPOPTS = 0,
    PROTO_ICMP = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_ROUTING = 43,
    PROTO_FRAGMENT = 44,
    PROTO_AH = 51,
    PROTO_ICMPV6 = 58,
    PROTO_NONE = 59,
    PROTO_DSTOPTS = 60,
    PROTO_SCTP = 132,
    PROTO_MOBILITY = 135,
};

/* Of a SYN: what the client will hold the guest to for the whole connection. */
typedef struct {
    guint16 mss;   /* 0: absent */
    guint8 wscale; /* + 1; 0: absent */
    guint8 sack_ok;
    guint8 ts;
} PacketSynOptions;

typedef struct {
    CompareKey key;
    /*
     * The bytes that count: TCP and UDP payload, else all after the network header. `unit` > 0:
     * they are datagrams of that many bytes each (UDP segmentation offload). `skip_len` bytes at
     * `skip` are a checksum over the rest, which may be filled in or not. `extra` counts too.
     */
    const guint8 *body;
    guint32 body_len;
    guint32 body_have; /* of them that are there: all, but in a capture that cut frames */
    guint32 unit;
    guint32 skip, skip_len;
    guint32 extra;

    /* A TCP header is there and whole: kind TCP, or the first fragment of a segment. */
    gboolean has_tcp;
    guint32 tcp_offset;  /* of the header in the frame */
    guint32 sack_offset; /* of the first SACK block in the frame */
    guint32 ts_offset;   /* of TSval in the frame; 0: absent */
    guint32 seq, ack;
    guint32 tsval, tsecr;
    guint16 window, urgent;
    guint8 flags;
    guint8 sack_blocks; /* how many; 0: absent */
    PacketSynOptions syn_options;

    guint32 l3_offset, l4_offset; /* of the IP header and of its payload; 0: not IP or opaque */
    gboolean partial_csum;        /* the L4 checksum field holds the pseudo header's sum only */
} Packet;

/* Fills `packet`, whose pointers are into `frame`. Any bytes will do. */
void packet_parse(const guint8 *frame, gsize len, gboolean vnet_hdr, unsigned nic, Packet *packet);

/*
 * The same, of a frame that had `wire_len` bytes when it was captured, of which the first `len` are
 * there. It is opaque if its headers aren't whole.
 */
void packet_parse_captured(const guint8 *frame, gsize len, gsize wire_len, unsigned nic,
                           Packet *packet);

/*
 * Is `packet`, parsed from `frame`, an ICMP error that quotes the beginning of a TCP segment? Then
 * the key of the segment's own flow, and where in the frame its sequence number is.
 */
gboolean packet_quoted_tcp(const guint8 *frame, const Packet *packet, CompareKey *ret_key,
                           guint32 *ret_seq_offset);

/* TCP: the sequence number after the segment (SYN and FIN count one each). */
static inline guint32 packet_tcp_end(const Packet *packet)
{
    return packet->seq + !!(packet->flags & TCP_SYN) + packet->body_len +
           !!(packet->flags & TCP_FIN);
}

/* a - b in sequence space: negative if a is before b. */
static inline gint32 seq_diff(guint32 a, guint32 b)
{
    return (gint32)(a - b);
}

#endif
