/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which addresses the guest has: learned from its own frames, so that they can be announced when it
 * continues elsewhere. netcompare.h has the reason why only ARP and neighbour discovery count.
 *
 * A fixed table of ADDRESSES_MAX, latest seen first: a guest that makes up addresses only pushes
 * out its own oldest. Ordinary traffic costs one comparison with the first entries.
 *
 * Serialised (version 1): u8 version, be16 count. Then per address: u8 kind (0 MAC, 4 IPv4, 6
 * IPv6), u8 flags (bit 0: router), be16 VLAN id (0xffff: none), 6 bytes MAC, 0, 4 or 16 bytes IP
 * address.
 *
 * Does not follow frames with two VLAN tags, fragments or extension headers: neighbour discovery
 * never has the latter (RFC 6980).
 */
#include <string.h>

#include "common/endian.h"
#include "netcompare/addresses_internal.h"

#define SERIAL_VERSION     1u
#define SERIAL_HEAD_BYTES  3u
#define SERIAL_ENTRY_BYTES 10u /* without the IP address */

/* What one frame tells of its sender. */
typedef struct {
    const guint8 *mac; /* the Ethernet source */
    guint16 vlan;
    AddressKind kind;      /* ADDRESS_MAC: it has no IP address of its sender */
    const guint8 *ip;      /* that the sender claims as its own */
    gboolean tells_router; /* it tells whether it is a router, in `router` */
    guint8 router;
} Claim;

Addresses *addresses_new(const guint8 mac[6])
{
    Addresses *addresses = g_new0(Addresses, 1);
    memcpy(addresses->mac, mac, 6);
    return addresses;
}

void addresses_free(Addresses *addresses)
{
    g_free(addresses);
}

gboolean addresses_is_own(const Addresses *addresses, const guint8 *data, gsize len)
{
    const gsize source = NETCOMPARE_VNET_HDR_BYTES + 6;
    return len >= source + 6 && memcmp(data + source, addresses->mac, 6) == 0;
}

/* ---- Reading a frame ---- */

static gboolean is_zero(const guint8 *bytes, gsize len)
{
    for (gsize i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return FALSE;
    }
    return TRUE;
}

/* ARP over Ethernet for IPv4 (RFC 826): the sender's addresses, if they agree with the frame's. */
static void read_arp(const guint8 *arp, gsize len, Claim *claim)
{
    static const guint8 ethernet_ipv4[] = {0, 1, 8, 0, 6, 4};

    if (len < 28 || memcmp(arp, ethernet_ipv4, sizeof(ethernet_ipv4)) != 0 ||
        memcmp(arp + 8, claim->mac, 6) != 0)
        return;
    if (is_zero(arp + 14, 4) || arp[14] >= 224) /* a probe (RFC 5227), or no host's address */
        return;
    claim->kind = ADDRESS_IPV4;
    claim->ip = arp + 14;
}

/*
 * Neighbour discovery (RFC 4861): the source of solicitations and router advertisements, the target
 * of advertisements, and the target of a solicitation without a source (duplicate detection).
 */
static void read_ipv6(const guint8 *ip, gsize len, Claim *claim)
{
    enum { NEXT_HEADER_ICMPV6 = 58, ROUTER_ADVERT = 134, SOLICITATION = 135, ADVERT = 136 };
    const guint8 *source = ip + 8, *icmp = ip + 40;

    if (len < 40 + 16 || ip[0] >> 4 != 6 || ip[6] != NEXT_HEADER_ICMPV6 || ip[7] != 255 ||
        (icmp[0] != ROUTER_ADVERT && len < 40 + 24))
        return;
    const guint8 *own = NULL;
    switch (icmp[0]) {
    case ROUTER_ADVERT:
        own = source;
        claim->tells_router = TRUE;
        claim->router = 1;
        break;
    case SOLICITATION:
        own = is_zero(source, 16) ? icmp + 8 : source;
        break;
    case ADVERT:
        own = icmp + 8;
        claim->tells_router = TRUE;
        claim->router = icmp[4] >> 7;
        break;
    default:
        return;
    }
    if (is_zero(own, 16) || own[0] == 0xff)
        return;
    claim->kind = ADDRESS_IPV6;
    claim->ip = own;
}

/* Reads one frame, its virtio-net header first. FALSE if it tells nothing of its sender. */
static gboolean read_claim(const guint8 *data, gsize len, Claim *claim)
{
    const guint8 *frame = data + NETCOMPARE_VNET_HDR_BYTES;
    gsize at = 14;

    if (len < NETCOMPARE_VNET_HDR_BYTES + at)
        return FALSE;
    len -= NETCOMPARE_VNET_HDR_BYTES;
    *claim = (Claim){.mac = frame + 6, .vlan = ADDRESS_NO_VLAN, .kind = ADDRESS_MAC};
    if ((claim->mac[0] & 1) || is_zero(claim->mac, 6))
        return FALSE;
    guint16 type = colo_get_be16(frame + 12);
    if (type == ETHERTYPE_OF_VLAN && len >= at + 4) {
        claim->vlan = colo_get_be16(frame + 14) & 0xfff;
        type = colo_get_be16(frame + 16);
        at += 4;
    }
    if (type == ETHERTYPE_OF_ARP)
        read_arp(frame + at, len - at, claim);
    else if (type == ETHERTYPE_OF_IPV6)
        read_ipv6(frame + at, len - at, claim);
    return TRUE;
}

/* ---- The table ---- */

static gboolean same_address(const Address *a, const Address *b)
{
    return a->kind == b->kind && a->vlan == b->vlan && memcmp(a->mac, b->mac, 6) == 0 &&
           memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static void remove_at(Addresses *addresses, guint i)
{
    memmove(&addresses->entries[i], &addresses->entries[i + 1],
            (addresses->count - i - 1) * sizeof(Address));
    addresses->count--;
}

/* Puts an address first; the last one goes if the table is full. */
static void put_first(Addresses *addresses, const Address *address)
{
    if (addresses->count == ADDRESSES_MAX)
        addresses->count--;
    memmove(&addresses->entries[1], &addresses->entries[0], addresses->count * sizeof(Address));
    addresses->entries[0] = *address;
    addresses->count++;
}

/* An IP address has one owner: forgets it where another MAC has it, in the same VLAN. */
static void forget_others(Addresses *addresses, const Address *claimed)
{
    for (guint i = addresses->count; i-- > 0;) {
        const Address *entry = &addresses->entries[i];
        if (entry->kind == claimed->kind && entry->vlan == claimed->vlan &&
            memcmp(entry->ip, claimed->ip, sizeof(entry->ip)) == 0 &&
            memcmp(entry->mac, claimed->mac, 6) != 0)
            remove_at(addresses, i);
    }
}

static Address claimed_address(const Claim *claim)
{
    Address address = {.kind = claim->kind, .vlan = claim->vlan, .router = claim->router};
    memcpy(address.mac, claim->mac, 6);
    if (claim->ip != NULL)
        memcpy(address.ip, claim->ip, address_ip_bytes(claim->kind));
    return address;
}

static void learn(Addresses *addresses, Address *address, gboolean tells_router)
{
    for (guint i = 0; i < addresses->count; i++) {
        Address *entry = &addresses->entries[i];
        if (!same_address(entry, address))
            continue;
        if (!tells_router)
            address->router = entry->router;
        memmove(&addresses->entries[1], &addresses->entries[0], i * sizeof(Address));
        addresses->entries[0] = *address;
        return;
    }
    if (address->kind != ADDRESS_MAC)
        forget_others(addresses, address);
    put_first(addresses, address);
}

/* A router advertisement comes from one address, but is true of all that this MAC has. */
static void mark_router(Addresses *addresses, const Address *address)
{
    for (guint i = 0; i < addresses->count; i++) {
        Address *entry = &addresses->entries[i];
        if (entry->kind == ADDRESS_IPV6 && entry->vlan == address->vlan &&
            memcmp(entry->mac, address->mac, 6) == 0)
            entry->router = address->router;
    }
}

void addresses_learn(Addresses *addresses, const guint8 *data, gsize len)
{
    Claim claim;
    if (!read_claim(data, len, &claim))
        return;
    Address address = claimed_address(&claim);
    if (claim.kind != ADDRESS_MAC) {
        learn(addresses, &address, claim.tells_router);
        if (claim.tells_router)
            mark_router(addresses, &address);
    }
    address = (Address){.kind = ADDRESS_MAC, .vlan = claim.vlan};
    memcpy(address.mac, claim.mac, 6);
    learn(addresses, &address, FALSE);
}

void addresses_received(Addresses *addresses, const guint8 *data, gsize len)
{
    Claim claim;
    if (!read_claim(data, len, &claim) || claim.kind == ADDRESS_MAC)
        return;
    Address address = claimed_address(&claim);
    forget_others(addresses, &address);
}

/* ---- As bytes ---- */

GBytes *addresses_serialise(const Addresses *addresses)
{
    GByteArray *out = g_byte_array_new();
    guint8 head[SERIAL_HEAD_BYTES] = {SERIAL_VERSION};
    colo_put_be16(head + 1, (guint16)addresses->count);
    g_byte_array_append(out, head, sizeof(head));
    for (guint i = 0; i < addresses->count; i++) {
        const Address *entry = &addresses->entries[i];
        guint8 fixed[SERIAL_ENTRY_BYTES] = {(guint8)entry->kind, entry->router};
        colo_put_be16(fixed + 2, entry->vlan);
        memcpy(fixed + 4, entry->mac, 6);
        g_byte_array_append(out, fixed, sizeof(fixed));
        g_byte_array_append(out, entry->ip, (guint)address_ip_bytes(entry->kind));
    }
    return g_byte_array_free_to_bytes(out);
}

/* Reads one address at `bytes`; its length, or 0 if it is none. */
static gsize parse_address(const guint8 *bytes, gsize len, Address *ret_address)
{
    if (len < SERIAL_ENTRY_BYTES)
        return 0;
    Address address = {.kind = bytes[0], .router = bytes[1], .vlan = colo_get_be16(bytes + 2)};
    gsize ip_bytes = address_ip_bytes(address.kind);
    if ((address.kind != ADDRESS_MAC && ip_bytes == 0) || address.router > 1 ||
        (address.vlan > 0xfff && address.vlan != ADDRESS_NO_VLAN) ||
        len < SERIAL_ENTRY_BYTES + ip_bytes)
        return 0;
    memcpy(address.mac, bytes + 4, 6);
    memcpy(address.ip, bytes + SERIAL_ENTRY_BYTES, ip_bytes);
    if ((address.mac[0] & 1) || is_zero(address.mac, 6))
        return 0;
    *ret_address = address;
    return SERIAL_ENTRY_BYTES + ip_bytes;
}

gboolean addresses_merge(Addresses *addresses, GBytes *bytes, GError **error)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    Address entries[ADDRESSES_MAX];

    if (len < SERIAL_HEAD_BYTES || data[0] != SERIAL_VERSION) {
        g_set_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_FRAME,
                    "the guest's addresses: %" G_GSIZE_FORMAT
                    " bytes that are not version %u (does the peer run another version of colo?)",
                    len, SERIAL_VERSION);
        return FALSE;
    }
    guint count = colo_get_be16(data + 1);
    gsize at = SERIAL_HEAD_BYTES, used = 1;
    guint i = 0;
    for (; i < MIN(count, ADDRESSES_MAX) && used > 0; i++, at += used)
        used = parse_address(data + at, len - at, &entries[i]);
    if (used == 0 || count > ADDRESSES_MAX || at != len) {
        g_set_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_FRAME,
                    "the guest's addresses: malformed at byte %" G_GSIZE_FORMAT
                    " of %" G_GSIZE_FORMAT " (%u announced, at most %u)",
                    at, len, count, ADDRESSES_MAX);
        return FALSE;
    }
    while (i-- > 0) /* the latest seen last, so that it ends first */
        learn(addresses, &entries[i], TRUE);
    return TRUE;
}
