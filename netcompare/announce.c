/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames that tell a network where a guest is now.
 *
 * RARP requests (RFC 903), as QEMU and Xen send them after a migration: broadcast, so that every
 * switch learns the port, and they change no host's tables. ARP announcements (RFC 5227, 1.1 and
 * 3): an ARP request whose sender and target are the address. It is not a reply: any host that has
 * an entry updates it from a request (RFC 826), while some ignore replies that they have not asked
 * for. Unsolicited neighbour advertisements (RFC 4861, 7.2.6) to all nodes, with the override flag.
 * The router flag is as the guest itself sets it: without it hosts drop a router from their lists.
 */
#include <string.h>

#include "common/endian.h"
#include "netcompare/addresses_internal.h"

/* Ethernet's shortest frame, without its checksum. */
#define FRAME_MIN_BYTES 60u

typedef struct {
    guint8 data[NETCOMPARE_VNET_HDR_BYTES + 128];
    gsize len;
} FrameBuilder;

static const guint8 broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Starts a frame: an empty virtio-net header, the Ethernet header, the VLAN tag. */
static void begin(FrameBuilder *frame, const guint8 to[6], const Address *from, guint16 type)
{
    *frame = (FrameBuilder){.len = NETCOMPARE_VNET_HDR_BYTES};
    guint8 *at = frame->data + frame->len;
    memcpy(at, to, 6);
    memcpy(at + 6, from->mac, 6);
    at += 12;
    if (from->vlan != ADDRESS_NO_VLAN) {
        colo_put_be16(at, ETHERTYPE_OF_VLAN);
        colo_put_be16(at + 2, from->vlan);
        at += 4;
    }
    colo_put_be16(at, type);
    frame->len = (gsize)(at + 2 - frame->data);
}

/* Room for `len` bytes at the frame's end. */
static guint8 *append(FrameBuilder *frame, gsize len)
{
    guint8 *at = frame->data + frame->len;
    frame->len += len;
    g_assert(frame->len <= sizeof(frame->data));
    return at;
}

static void finish(FrameBuilder *frame, FrameFunc send, gpointer user_data)
{
    gsize len = MAX(frame->len, NETCOMPARE_VNET_HDR_BYTES + FRAME_MIN_BYTES);
    send(frame->data, len, user_data);
}

static void send_rarp(const Address *address, FrameFunc send, gpointer user_data)
{
    FrameBuilder frame;
    begin(&frame, broadcast, address, ETHERTYPE_OF_RARP);
    guint8 *rarp = append(&frame, 28);
    memcpy(rarp, (const guint8[]){0, 1, 8, 0, 6, 4, 0, 3}, 8);
    memcpy(rarp + 8, address->mac, 6);
    memcpy(rarp + 18, address->mac, 6);
    finish(&frame, send, user_data);
}

static void send_arp(const Address *address, FrameFunc send, gpointer user_data)
{
    FrameBuilder frame;
    begin(&frame, broadcast, address, ETHERTYPE_OF_ARP);
    guint8 *arp = append(&frame, 28);
    memcpy(arp, (const guint8[]){0, 1, 8, 0, 6, 4, 0, 1}, 8);
    memcpy(arp + 8, address->mac, 6);
    memcpy(arp + 14, address->ip, 4);
    memcpy(arp + 24, address->ip, 4);
    finish(&frame, send, user_data);
}

/* The checksum of an ICMPv6 message (RFC 4443, 2.3): over a pseudo-header and the message. */
static guint16 icmpv6_checksum(const guint8 *ip, const guint8 *icmp, gsize len)
{
    guint32 sum = (guint32)len + 58u;
    for (gsize i = 8; i < 40; i += 2) /* both addresses */
        sum += colo_get_be16(ip + i);
    for (gsize i = 0; i < len; i += 2)
        sum += colo_get_be16(icmp + i);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)~sum;
}

static void send_advertisement(const Address *address, FrameFunc send, gpointer user_data)
{
    static const guint8 all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    static const guint8 all_nodes[16] = {0xff, 0x02, [15] = 1};
    enum { IP_BYTES = 40, ICMP_BYTES = 32 };
    FrameBuilder frame;

    begin(&frame, all_nodes_mac, address, ETHERTYPE_OF_IPV6);
    guint8 *ip = append(&frame, IP_BYTES);
    ip[0] = 0x60;
    colo_put_be16(ip + 4, ICMP_BYTES);
    ip[6] = 58;
    ip[7] = 255;
    memcpy(ip + 8, address->ip, 16);
    memcpy(ip + 24, all_nodes, 16);
    guint8 *icmp = append(&frame, ICMP_BYTES);
    icmp[0] = 136;
    icmp[4] = (guint8)(address->router << 7 | 0x20); /* override, not solicited */
    memcpy(icmp + 8, address->ip, 16);
    icmp[24] = 2; /* target link-layer address, 1 unit of 8 bytes */
    icmp[25] = 1;
    memcpy(icmp + 26, address->mac, 6);
    colo_put_be16(icmp + 2, icmpv6_checksum(ip, icmp, ICMP_BYTES));
    finish(&frame, send, user_data);
}

void addresses_announce(const Addresses *addresses, FrameFunc send, gpointer user_data)
{
    Address own = {.kind = ADDRESS_MAC, .vlan = ADDRESS_NO_VLAN};
    memcpy(own.mac, addresses->mac, 6);
    send_rarp(&own, send, user_data);
    /* Switches first: then what follows reaches everybody. */
    for (guint i = 0; i < addresses->count; i++) {
        const Address *entry = &addresses->entries[i];
        if (entry->kind == ADDRESS_MAC &&
            (entry->vlan != ADDRESS_NO_VLAN || memcmp(entry->mac, own.mac, 6) != 0))
            send_rarp(entry, send, user_data);
    }
    for (guint i = 0; i < addresses->count; i++) {
        const Address *entry = &addresses->entries[i];
        if (entry->kind == ADDRESS_IPV4)
            send_arp(entry, send, user_data);
        else if (entry->kind == ADDRESS_IPV6)
            send_advertisement(entry, send, user_data);
    }
}
