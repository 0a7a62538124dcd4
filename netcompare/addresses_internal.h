/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What addresses.c (learning, serialising) and announce.c (making frames) share. */
#ifndef COLO_NETCOMPARE_ADDRESSES_INTERNAL_H
#define COLO_NETCOMPARE_ADDRESSES_INTERNAL_H

#include "netcompare/netcompare.h"

#define ADDRESSES_MAX   64u
#define ADDRESS_NO_VLAN 0xffffu

enum {
    ETHERTYPE_OF_IPV4 = 0x0800,
    ETHERTYPE_OF_ARP = 0x0806,
    ETHERTYPE_OF_RARP = 0x8035,
    ETHERTYPE_OF_VLAN = 0x8100,
    ETHERTYPE_OF_IPV6 = 0x86dd,
};

typedef enum {
    ADDRESS_MAC = 0,
    ADDRESS_IPV4 = 4,
    ADDRESS_IPV6 = 6,
} AddressKind;

typedef struct {
    AddressKind kind;
    guint16 vlan;  /* VLAN id (0 to 4095), or ADDRESS_NO_VLAN: untagged */
    guint8 router; /* IPv6: 1 if the guest calls itself a router in its advertisements */
    guint8 mac[6];
    guint8 ip[16]; /* 0, 4 or 16 bytes, the rest zero */
} Address;

/* Invariants: entries[0] is the latest seen; no two have the same kind, vlan, mac and ip. */
struct Addresses {
    guint8 mac[6]; /* the card's own, always announced */
    guint count;
    Address entries[ADDRESSES_MAX];
};

static inline gsize address_ip_bytes(AddressKind kind)
{
    return kind == ADDRESS_IPV4 ? 4 : kind == ADDRESS_IPV6 ? 16 : 0;
}

#endif
