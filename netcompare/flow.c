/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netcompare/flow.h"
#include "netcompare/links.h"

#include <arpa/inet.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MIN_BUCKETS 1024u

G_STATIC_ASSERT(sizeof(CompareKey) == 48);

void flow_table_init(FlowTable *table, guint64 seed)
{
    *table = (FlowTable){.n_buckets = MIN_BUCKETS, .seed = seed};
    table->buckets = g_new0(FlowNode *, MIN_BUCKETS);
    g_queue_init(&table->ages);
}

void flow_table_clear(FlowTable *table)
{
    g_free(table->buckets);
    *table = (FlowTable){0};
}

guint64 flow_hash(const FlowTable *table, const CompareKey *key)
{
    return XXH3_64bits_withSeed(key, sizeof(*key), table->seed);
}

FlowNode *flow_table_find(FlowTable *table, const CompareKey *key, guint64 hash)
{
    for (FlowNode *n = table->buckets[hash & (table->n_buckets - 1)]; n != NULL; n = n->next) {
        if (n->hash == hash && memcmp(&n->key, key, sizeof(*key)) == 0) {
            n->used = TRUE;
            return n;
        }
    }
    return NULL;
}

static void put_in_bucket(FlowTable *table, FlowNode *node)
{
    FlowNode **bucket = &table->buckets[node->hash & (table->n_buckets - 1)];
    node->next = *bucket;
    *bucket = node;
}

static void grow(FlowTable *table)
{
    g_free(table->buckets);
    table->n_buckets *= 2;
    table->buckets = g_new0(FlowNode *, table->n_buckets);
    for (GList *l = table->ages.head; l != NULL; l = l->next)
        put_in_bucket(table, l->data);
}

void flow_table_insert(FlowTable *table, FlowNode *node, const CompareKey *key, guint64 hash)
{
    if (table->n_flows == table->n_buckets)
        grow(table);
    node->hash = hash;
    node->key = *key;
    node->age.data = node;
    put_in_bucket(table, node);
    links_push(&table->ages, &node->age);
    table->n_flows++;
}

void flow_table_remove(FlowTable *table, FlowNode *node)
{
    FlowNode **at = &table->buckets[node->hash & (table->n_buckets - 1)];
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    links_remove(&table->ages, &node->age);
    table->n_flows--;
}

FlowNode *flow_table_oldest(FlowTable *table, guint tries,
                            gboolean (*may_evict)(const FlowNode *node, gpointer user_data),
                            gpointer user_data)
{
    FlowNode *second = NULL;

    for (guint i = 0; i < MIN(tries, table->n_flows); i++) {
        FlowNode *node = table->ages.head->data;
        gboolean may = may_evict(node, user_data);
        if (may && !node->used)
            return node;
        if (may && second == NULL)
            second = node;
        node->used = FALSE;
        links_remove(&table->ages, &node->age);
        links_push(&table->ages, &node->age);
    }
    return second;
}

/* ---- Keys for people ---- */

const char *compare_key_protocol(const CompareKey *key)
{
    switch ((CompareKind)key->kind) {
    case COMPARE_KIND_OPAQUE:
        return "malformed";
    case COMPARE_KIND_ETHERNET:
        return "ethernet";
    case COMPARE_KIND_ARP:
        return "arp";
    case COMPARE_KIND_FRAGMENT:
        return "fragment";
    case COMPARE_KIND_IP:
        return "ip";
    case COMPARE_KIND_ICMP:
        return key->proto == 1 ? "icmp" : "icmp6";
    case COMPARE_KIND_SCTP:
        return "sctp";
    case COMPARE_KIND_UDP:
        return "udp";
    case COMPARE_KIND_TCP:
        return "tcp";
    }
    return "unknown";
}

static void append_address(GString *s, const guint8 address[16], gint port)
{
    static const guint8 v4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN];
    gboolean v4 = memcmp(address, v4_mapped, sizeof(v4_mapped)) == 0;

    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text, sizeof(text));
    if (port < 0)
        g_string_append(s, text);
    else if (v4)
        g_string_append_printf(s, "%s:%d", text, port);
    else
        g_string_append_printf(s, "[%s]:%d", text, port);
}

static void append_mac(GString *s, const guint8 mac[6])
{
    g_string_append_printf(s, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                           mac[4], mac[5]);
}

static gboolean has_macs_only(const CompareKey *key)
{
    return key->kind == COMPARE_KIND_OPAQUE || key->kind == COMPARE_KIND_ETHERNET;
}

gboolean compare_key_has_ports(const CompareKey *key)
{
    return key->kind == COMPARE_KIND_SCTP || key->kind == COMPARE_KIND_UDP ||
           key->kind == COMPARE_KIND_TCP;
}

char *compare_key_address(const CompareKey *key, gboolean destination)
{
    GString *s = g_string_new(NULL);
    const guint8 *address = destination ? key->dst : key->src;

    if (has_macs_only(key))
        append_mac(s, address);
    else
        append_address(s, address, -1);
    return g_string_free(s, FALSE);
}

char *compare_key_to_string(const CompareKey *key)
{
    GString *s = g_string_new(compare_key_protocol(key));

    g_string_append_c(s, ' ');
    if (has_macs_only(key)) {
        append_mac(s, key->src);
        g_string_append(s, " -> ");
        append_mac(s, key->dst);
    } else {
        gboolean ports = compare_key_has_ports(key);
        append_address(s, key->src, ports ? key->sport : -1);
        g_string_append(s, " -> ");
        append_address(s, key->dst, ports ? key->dport : -1);
    }
    if (key->kind == COMPARE_KIND_ETHERNET)
        g_string_append_printf(s, " ethertype 0x%04x", key->ethertype);
    else if (key->kind == COMPARE_KIND_IP || key->kind == COMPARE_KIND_FRAGMENT)
        g_string_append_printf(s, " protocol %u", key->proto);
    else if (key->kind == COMPARE_KIND_ICMP)
        g_string_append_printf(s, " type %d code %d id %u", key->sport >> 8, key->sport & 255,
                               key->dport);
    else if (key->kind == COMPARE_KIND_ARP)
        g_string_append_printf(s, " operation %u", key->sport);
    for (int i = 0; i < 2 && key->vlan[i] != COMPARE_NO_VLAN; i++)
        g_string_append_printf(s, " vlan %u", key->vlan[i]);
    if (key->nic != 0)
        g_string_append_printf(s, " nic %u", key->nic);
    return g_string_free(s, FALSE);
}
