/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/ping-peer.h"

#include <netinet/ether.h>
#include <string.h>

#include "common/endian.h"

#define VNET  VRING_HEADER_BYTES
#define MTU   1514u
#define TYPE  (VNET + 12)
#define BODY  (VNET + 14) /* of the Ethernet frame */
#define ICMP  (BODY + 20)
#define PINGS (ICMP + 8)

static const guint8 our_mac[6] = {2, 9, 9, 9, 9, 9};
static const guint8 our_ip[4] = {10, 9, 0, 1}, guest_ip[4] = {10, 9, 0, 2};

static guint16 checksum(const guint8 *data, gsize len)
{
    guint32 sum = 0;
    for (; len >= 2; data += 2, len -= 2)
        sum += colo_get_be16(data);
    if (len)
        sum += (guint32)*data << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)~sum;
}

static void begin(const PingPeer *peer, guint8 *frame, guint16 type)
{
    memset(frame, 0, VNET);
    memcpy(frame + VNET, peer->mac, 6);
    memcpy(frame + VNET + 6, our_mac, 6);
    colo_put_be16(frame + TYPE, type);
}

/* Byte `i` of the data of ping `sequence`. */
static guint8 byte_of(guint16 sequence, gsize i)
{
    return (guint8)(sequence + i * 3);
}

void ping_peer_ping(PingPeer *peer, gsize bytes)
{
    guint8 frame[VNET + MTU];
    bytes = MIN(bytes, 1400);
    begin(peer, frame, 0x0800);
    static const guint8 ip[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 1};
    memcpy(frame + BODY, ip, sizeof(ip));
    colo_put_be16(frame + BODY + 2, (guint16)(28 + bytes));
    memcpy(frame + BODY + 12, our_ip, 4);
    memcpy(frame + BODY + 16, guest_ip, 4);
    colo_put_be16(frame + BODY + 10, checksum(frame + BODY, 20));
    memset(frame + ICMP, 0, 8);
    frame[ICMP] = 8;
    colo_put_be16(frame + ICMP + 6, ++peer->sequence);
    for (gsize i = 0; i < bytes; i++)
        frame[PINGS + i] = byte_of(peer->sequence, i);
    colo_put_be16(frame + ICMP + 2, checksum(frame + ICMP, 8 + bytes));
    peer->sent++;
    vhost_card_give(peer->card, frame, PINGS + bytes);
}

static void answer_arp(PingPeer *peer, const guint8 *question)
{
    guint8 frame[VNET + 60] = {0};
    begin(peer, frame, 0x0806);
    static const guint8 head[8] = {0, 1, 8, 0, 6, 4, 0, 2};
    memcpy(frame + BODY, head, 8);
    memcpy(frame + BODY + 8, our_mac, 6);
    memcpy(frame + BODY + 14, our_ip, 4);
    memcpy(frame + BODY + 18, question + BODY + 8, 10); /* who has asked */
    vhost_card_give(peer->card, frame, sizeof(frame));
}

static void count(PingPeer *peer, const guint8 *data, gsize len)
{
    guint16 sequence = colo_get_be16(data + ICMP + 6);
    gsize bytes = colo_get_be16(data + BODY + 2) - 28u;
    peer->answers++;
    for (gsize i = 0; i < bytes; i++)
        if (PINGS + i >= len || data[PINGS + i] != byte_of(sequence, i)) {
            peer->bad++;
            return;
        }
}

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    PingPeer *peer = user_data;
    guint16 type = colo_get_be16(data + TYPE);
    if (type == 0x0806 && len >= BODY + 28 && data[BODY + 7] == 1 &&
        !memcmp(data + BODY + 24, our_ip, 4))
        answer_arp(peer, data);
    else if (type == 0x0800 && len >= PINGS && data[BODY + 9] == 1 && data[ICMP] == 0)
        count(peer, data, len);
}

static void on_room(gpointer user_data)
{
    (void)user_data;
}

static void on_error(const GError *error, gpointer user_data)
{
    (void)user_data;
    g_error("%s", error->message);
}

void ping_peer_init(PingPeer *peer, VhostCard *card, const char *mac)
{
    static const VhostHandler handler = {
        .output = on_output, .room = on_room, .broken = on_error, .failed = on_error};
    struct ether_addr address;
    *peer = (PingPeer){.card = card};
    ether_aton_r(mac, &address);
    memcpy(peer->mac, address.ether_addr_octet, 6);
    vhost_card_set_handler(card, &handler, peer);
}
