/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame parser. Headers are parsed only as far as their lengths agree with the bytes that are
 * there. A frame whose headers contradict each other or the frame stays opaque: two of them are
 * equal only if every byte is. Of a frame that was cut when it was captured, lengths are those it
 * had, and bytes those that are there.
 *
 * Sources: IEEE 802.1Q, RFC 826, 791, 8200, 9293, 7323, 2018, 768, 792, 4443, 9260; virtio 1.2,
 * 5.1.6 for the header before the frame.
 */
#include "netcompare/packet.h"

#include "common/endian.h"
#include "netcompare/netcompare.h"

#define ETHERNET_BYTES      14u
#define VLAN_BYTES          4u
#define IPV6_BYTES          40u
#define MAX_IPV6_EXTENSIONS 8
/* A super-frame may be longer (BIG TCP); its length field is 0 then, and all that is there counts.
 */
#define MAX_IP_BYTES 65535u

enum {
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_ARP = 0x0806,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_IPV6 = 0x86dd,
    ETHERTYPE_QINQ = 0x88a8,
    ETHERTYPE_QINQ_OLD = 0x9100,
    ETHERTYPE_MIN = 0x0600,
};

enum {
    VNET_FLAG_NEEDS_CSUM = 1,
    VNET_GSO_NONE = 0,
    VNET_GSO_UDP_L4 = 5,
    VNET_GSO_ECN = 0x80,
};

typedef struct {
    const guint8 *start; /* of the frame, with its virtio-net header */
    const guint8 *at, *end;
    gsize cut; /* bytes behind `end` that were not captured */
    guint8 gso_type;
    guint16 gso_size;
} Cursor;

static gsize left(const Cursor *c)
{
    return (gsize)(c->end - c->at);
}

static gsize left_on_wire(const Cursor *c)
{
    return left(c) + c->cut;
}

/* What follows is `len` bytes long. FALSE: there are not so many. */
static gboolean narrow(Cursor *c, gsize len)
{
    if (len > left_on_wire(c))
        return FALSE;
    c->cut = len > left(c) ? len - left(c) : 0;
    c->end = c->at + (len - c->cut);
    return TRUE;
}

static guint32 offset_of(const Cursor *c, const guint8 *p)
{
    return (guint32)(p - c->start);
}

static void set_bytes(Packet *packet, CompareKind kind, const guint8 *body, gsize len)
{
    packet->key.kind = (guint8)kind;
    packet->body = body;
    packet->body_len = packet->body_have = (guint32)len;
}

/* All that is left from `skip` bytes on. */
static void set_body(Packet *packet, CompareKind kind, const Cursor *c, gsize skip)
{
    set_bytes(packet, kind, c->at + skip, left(c) - skip);
    packet->body_len += (guint32)c->cut;
}

/* All of the frame counts, and the flow is the pair of MAC addresses, if there is one. */
static void set_opaque(Packet *packet, const guint8 *eth, gsize len)
{
    guint32 nic = packet->key.nic;

    memset(packet, 0, sizeof(*packet));
    packet->key.nic = nic;
    packet->key.vlan[0] = packet->key.vlan[1] = COMPARE_NO_VLAN;
    if (len >= 12) {
        memcpy(packet->key.dst, eth, 6);
        memcpy(packet->key.src, eth + 6, 6);
    }
    set_bytes(packet, COMPARE_KIND_OPAQUE, eth, len);
}

/* The options of a TCP header. Stops at the first one that does not fit: the rest stays unknown. */
static void parse_tcp_options(const Cursor *c, const guint8 *opt, const guint8 *end, Packet *packet)
{
    while (opt < end && *opt != 0) {
        if (*opt == 1) {
            opt++;
            continue;
        }
        if (end - opt < 2 || opt[1] < 2 || opt[1] > end - opt)
            return;
        guint len = opt[1];
        if (*opt == 2 && len == 4) {
            packet->syn_options.mss = colo_get_be16(opt + 2);
        } else if (*opt == 3 && len == 3) {
            packet->syn_options.wscale = (guint8)(MIN(opt[2], 14) + 1);
        } else if (*opt == 4 && len == 2) {
            packet->syn_options.sack_ok = 1;
        } else if (*opt == 5 && len > 2 && (len - 2) % 8 == 0) {
            packet->sack_offset = offset_of(c, opt + 2);
            packet->sack_blocks = (guint8)((len - 2) / 8);
        } else if (*opt == 8 && len == 10) {
            packet->syn_options.ts = 1;
            packet->ts_offset = offset_of(c, opt + 2);
            packet->tsval = colo_get_be32(opt + 2);
            packet->tsecr = colo_get_be32(opt + 6);
        }
        opt += len;
    }
}

/* A TCP header at the cursor. FALSE if it is not whole. */
static gboolean parse_tcp_header(const Cursor *c, Packet *packet, gsize *ret_bytes)
{
    const guint8 *tcp = c->at;

    if (left(c) < 20)
        return FALSE;
    gsize header = (gsize)(tcp[12] >> 4) * 4;
    if (header < 20 || header > left(c))
        return FALSE;
    packet->has_tcp = TRUE;
    packet->tcp_offset = offset_of(c, tcp);
    packet->seq = colo_get_be32(tcp + 4);
    packet->ack = colo_get_be32(tcp + 8);
    packet->flags = tcp[13] & 0x3f;
    packet->window = colo_get_be16(tcp + 14);
    packet->urgent = colo_get_be16(tcp + 18);
    parse_tcp_options(c, tcp + 20, tcp + header, packet);
    *ret_bytes = header;
    return TRUE;
}

static void set_ports(const Cursor *c, Packet *packet)
{
    packet->key.sport = colo_get_be16(c->at);
    packet->key.dport = colo_get_be16(c->at + 2);
}

static gboolean parse_tcp(const Cursor *c, Packet *packet)
{
    gsize header;

    if (!parse_tcp_header(c, packet, &header))
        return FALSE;
    set_ports(c, packet);
    set_body(packet, COMPARE_KIND_TCP, c, header);
    return TRUE;
}

/* UDP's own length field tells how much of the payload counts; with offloads it may be wrong. */
static gboolean parse_udp(const Cursor *c, Packet *packet)
{
    if (left(c) < 8)
        return FALSE;
    gboolean gso = c->gso_type != VNET_GSO_NONE;
    guint udp_len = colo_get_be16(c->at + 4);
    if (!gso && (udp_len < 8 || udp_len > left_on_wire(c)))
        return FALSE;
    set_ports(c, packet);
    set_body(packet, COMPARE_KIND_UDP, c, 8);
    if (c->gso_type == VNET_GSO_UDP_L4 && c->gso_size > 0)
        packet->unit = c->gso_size;
    else if (!gso)
        packet->extra =
            (guint32)(left_on_wire(c) - udp_len); /* bytes after the datagram: 0, for sane ones */
    return TRUE;
}

/* Messages with an identifier (echo and its like) are a flow for each. */
static gboolean icmp_has_id(guint8 proto, guint8 type)
{
    if (proto == PROTO_ICMPV6)
        return type == 128 || type == 129;
    return type == 0 || type == 8 || (type >= 13 && type <= 18);
}

static gboolean parse_icmp(const Cursor *c, Packet *packet)
{
    if (left(c) < 4)
        return FALSE;
    packet->key.sport = colo_get_be16(c->at);
    if (left(c) >= 8 && icmp_has_id(packet->key.proto, c->at[0]))
        packet->key.dport = colo_get_be16(c->at + 4);
    set_body(packet, COMPARE_KIND_ICMP, c, 0);
    packet->skip = 2;
    packet->skip_len = 2;
    return TRUE;
}

static gboolean parse_sctp(const Cursor *c, Packet *packet)
{
    if (left(c) < 12)
        return FALSE;
    set_ports(c, packet);
    set_body(packet, COMPARE_KIND_SCTP, c, 0);
    packet->skip = 8;
    packet->skip_len = 4;
    return TRUE;
}

/* The payload of an IP packet, which the cursor is narrowed to. FALSE: opaque. */
static gboolean parse_transport(const Cursor *c, guint8 proto, Packet *packet)
{
    packet->key.proto = proto;
    packet->l4_offset = offset_of(c, c->at);
    switch (proto) {
    case PROTO_TCP:
        return parse_tcp(c, packet);
    case PROTO_UDP:
        return parse_udp(c, packet);
    case PROTO_ICMP:
    case PROTO_ICMPV6:
        return parse_icmp(c, packet);
    case PROTO_SCTP:
        return parse_sctp(c, packet);
    default:
        set_body(packet, COMPARE_KIND_IP, c, 0);
        return TRUE;
    }
}

/*
 * A fragment: its place in the datagram counts, the identification does not. The first one may
 * begin with a TCP header, which the rewriter wants to know.
 */
static gboolean parse_fragment(const Cursor *c, guint8 proto, guint32 place, Packet *packet)
{
    gsize header;

    packet->key.proto = proto;
    packet->extra = place;
    packet->l4_offset = offset_of(c, c->at);
    if (proto == PROTO_TCP && (place & 0xfff8) == 0 && parse_tcp_header(c, packet, &header))
        set_ports(c, packet);
    else
        packet->has_tcp = FALSE;
    set_body(packet, COMPARE_KIND_FRAGMENT, c, 0);
    return TRUE;
}

static void set_ipv4_address(guint8 address[16], const guint8 *from)
{
    address[10] = address[11] = 0xff;
    memcpy(address + 12, from, 4);
}

static gboolean parse_ipv4(Cursor c, Packet *packet)
{
    const guint8 *ip = c.at;

    if (left(&c) < 20 || ip[0] >> 4 != 4)
        return FALSE;
    gsize header = (gsize)(ip[0] & 15) * 4, total = colo_get_be16(ip + 2);
    if (total == 0 && left_on_wire(&c) > MAX_IP_BYTES)
        total = left_on_wire(&c);
    if (header < 20 || header > left(&c) || total < header || total > left_on_wire(&c))
        return FALSE;
    packet->l3_offset = offset_of(&c, ip);
    set_ipv4_address(packet->key.src, ip + 12);
    set_ipv4_address(packet->key.dst, ip + 16);
    c.at = ip + header;
    narrow(&c, total - header);
    guint fragment = colo_get_be16(ip + 6) & 0x3fff;
    if (fragment != 0) /* place << 3 | more, as in IPv6 */
        return parse_fragment(&c, ip[9], (fragment & 0x1fff) << 3 | fragment >> 13, packet);
    return parse_transport(&c, ip[9], packet);
}

/* Steps over one extension header. FALSE if it is not whole. */
static gboolean skip_extension(Cursor *c, guint8 *proto)
{
    if (left(c) < 8)
        return FALSE;
    gsize bytes = *proto == PROTO_AH ? ((gsize)c->at[1] + 2) * 4 : ((gsize)c->at[1] + 1) * 8;
    if (bytes > left(c))
        return FALSE;
    *proto = c->at[0];
    c->at += bytes;
    return TRUE;
}

static gboolean parse_ipv6(Cursor c, Packet *packet)
{
    const guint8 *ip = c.at;

    if (left(&c) < IPV6_BYTES || ip[0] >> 4 != 6)
        return FALSE;
    gsize payload = colo_get_be16(ip + 4);
    if (payload == 0 && left_on_wire(&c) > MAX_IP_BYTES)
        payload = left_on_wire(&c) - IPV6_BYTES;
    if (payload == 0 && ip[6] == PROTO_HOPOPTS)
        return FALSE; /* a jumbogram that is none */
    packet->l3_offset = offset_of(&c, ip);
    memcpy(packet->key.src, ip + 8, 16);
    memcpy(packet->key.dst, ip + 24, 16);
    c.at = ip + IPV6_BYTES;
    if (!narrow(&c, payload))
        return FALSE;

    guint8 proto = ip[6];
    for (int i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
        switch (proto) {
        case PROTO_HOPOPTS:
        case PROTO_ROUTING:
        case PROTO_DSTOPTS:
        case PROTO_AH:
        case PROTO_MOBILITY:
            if (!skip_extension(&c, &proto))
                return FALSE;
            break;
        case PROTO_FRAGMENT: {
            if (left(&c) < 8)
                return FALSE;
            guint place = colo_get_be16(c.at + 2) & 0xfff9;
            proto = c.at[0];
            c.at += 8;
            if (place != 0)
                return parse_fragment(&c, proto, place, packet);
            break; /* an atomic fragment (RFC 6946) is a whole packet */
        }
        default:
            return parse_transport(&c, proto, packet);
        }
    }
    return FALSE;
}

static gboolean parse_arp(Cursor c, Packet *packet)
{
    static const guint8 ethernet_ipv4[] = {0, 1, 8, 0, 6, 4};

    if (left(&c) < 28 || memcmp(c.at, ethernet_ipv4, sizeof(ethernet_ipv4)) != 0)
        return FALSE;
    packet->key.sport = colo_get_be16(c.at + 6);
    set_ipv4_address(packet->key.src, c.at + 14);
    set_ipv4_address(packet->key.dst, c.at + 24);
    set_bytes(packet, COMPARE_KIND_ARP, c.at, 28);
    return TRUE;
}

static gboolean is_vlan(guint16 ethertype)
{
    return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ ||
           ethertype == ETHERTYPE_QINQ_OLD;
}

/* Another ethertype (or a third tag): all that follows counts, between these two addresses. */
static gboolean parse_ethernet(const Cursor *c, const guint8 *eth, Packet *packet)
{
    memcpy(packet->key.dst, eth, 6);
    memcpy(packet->key.src, eth + 6, 6);
    set_body(packet, COMPARE_KIND_ETHERNET, c, 0);
    return TRUE;
}

static gboolean parse_link(Cursor *c, Packet *packet)
{
    const guint8 *eth = c->at;

    if (left(c) < ETHERNET_BYTES)
        return FALSE;
    guint16 ethertype = colo_get_be16(eth + 12);
    c->at += ETHERNET_BYTES;
    for (int i = 0; i < 2 && is_vlan(ethertype); i++) {
        if (left(c) < VLAN_BYTES)
            return FALSE;
        packet->key.vlan[i] = colo_get_be16(c->at) & 0xfff;
        ethertype = colo_get_be16(c->at + 2);
        c->at += VLAN_BYTES;
    }
    if (ethertype >= ETHERTYPE_MIN)
        packet->key.ethertype = ethertype;
    else
        packet->extra = ethertype; /* LLC: a length, no type */
    switch (ethertype) {
    case ETHERTYPE_IPV4:
        return parse_ipv4(*c, packet);
    case ETHERTYPE_IPV6:
        return parse_ipv6(*c, packet);
    case ETHERTYPE_ARP:
        return parse_arp(*c, packet);
    default:
        return parse_ethernet(c, eth, packet);
    }
}

static void parse(const guint8 *frame, gsize len, gsize wire_len, gboolean vnet_hdr, unsigned nic,
                  Packet *packet)
{
    Cursor c = {.start = frame,
                .at = frame,
                .end = frame + len,
                .cut = wire_len > len ? wire_len - len : 0};

    memset(packet, 0, sizeof(*packet));
    packet->key.nic = nic;
    packet->key.vlan[0] = packet->key.vlan[1] = COMPARE_NO_VLAN;
    gboolean partial = FALSE;
    if (vnet_hdr) {
        if (len < NETCOMPARE_VNET_HDR_BYTES) {
            set_opaque(packet, frame, len);
            return;
        }
        partial = (frame[0] & VNET_FLAG_NEEDS_CSUM) != 0;
        c.gso_type = frame[1] & (guint8)~VNET_GSO_ECN;
        c.gso_size = (guint16)(frame[4] | frame[5] << 8);
        c.at += NETCOMPARE_VNET_HDR_BYTES;
    }
    const guint8 *eth = c.at;
    if (!parse_link(&c, packet))
        set_opaque(packet, eth, (gsize)(frame + len - eth));
    packet->partial_csum = partial;
}

void packet_parse(const guint8 *frame, gsize len, gboolean vnet_hdr, unsigned nic, Packet *packet)
{
    parse(frame, len, len, vnet_hdr, nic, packet);
}

void packet_parse_captured(const guint8 *frame, gsize len, gsize wire_len, unsigned nic,
                           Packet *packet)
{
    parse(frame, len, wire_len, FALSE, nic, packet);
}

/* Error messages, which quote the packet that they are about. */
static gboolean icmp_quotes(guint8 proto, guint8 type)
{
    if (proto == PROTO_ICMPV6)
        return type >= 1 && type <= 4;
    return type == 3 || type == 4 || type == 11 || type == 12;
}

gboolean packet_quoted_tcp(const guint8 *frame, const Packet *packet, CompareKey *ret_key,
                           guint32 *ret_seq_offset)
{
    const guint8 *ip = packet->body + 8; /* after the ICMP header */
    gboolean v6 = packet->key.proto == PROTO_ICMPV6;
    gsize header = IPV6_BYTES;

    if (packet->key.kind != COMPARE_KIND_ICMP || packet->body_len < 8 + 20 ||
        !icmp_quotes(packet->key.proto, packet->body[0]) || ip[0] >> 4 != (v6 ? 6 : 4))
        return FALSE;
    if (!v6)
        header = (gsize)(ip[0] & 15) * 4;
    if (header < 20 || packet->body_len < 8 + header + 8 || ip[v6 ? 6 : 9] != PROTO_TCP)
        return FALSE;
    if (!v6 && (colo_get_be16(ip + 6) & 0x1fff) != 0)
        return FALSE; /* a later fragment */
    *ret_key = (CompareKey){
        .nic = packet->key.nic,
        .vlan = {packet->key.vlan[0], packet->key.vlan[1]},
        .ethertype = packet->key.ethertype,
        .proto = PROTO_TCP,
        .kind = COMPARE_KIND_TCP,
        .sport = colo_get_be16(ip + header),
        .dport = colo_get_be16(ip + header + 2)
    };
    if (v6) {
        memcpy(ret_key->src, ip + 8, 16);
        memcpy(ret_key->dst, ip + 24, 16);
    } else {
        set_ipv4_address(ret_key->src, ip + 12);
        set_ipv4_address(ret_key->dst, ip + 16);
    }
    *ret_seq_offset = (guint32)(ip + header + 4 - frame);
    return TRUE;
}
