/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of flows: from a CompareKey to whatever embeds a FlowNode. Chained hashing that grows by
 * doubling, and the nodes in the order they came, with a mark for those used since. So the oldest
 * unused one is found in constant time (second chance), without touching neighbours on each packet.
 */
#ifndef COLO_NETCOMPARE_FLOW_H
#define COLO_NETCOMPARE_FLOW_H

#include <stdbool.h>

#include "netcompare/compare.h"

typedef struct FlowNode FlowNode;
struct FlowNode {
    FlowNode *next; /* in the bucket */
    guint64 hash;
    CompareKey key;
    GList age; /* in FlowTable.ages; data is the node */
    bool used;
};

typedef struct {
    FlowNode **buckets;
    guint n_buckets; /* a power of two */
    guint n_flows;
    guint64 seed;
    GQueue ages; /* oldest first */
} FlowTable;

void flow_table_init(FlowTable *table, guint64 seed);
/* The nodes are the caller's: the table must be empty, or nobody may need them any more. */
void flow_table_clear(FlowTable *table);

guint64 flow_hash(const FlowTable *table, const CompareKey *key);
/* NULL if there is none. */
FlowNode *flow_table_find(FlowTable *table, const CompareKey *key, guint64 hash);
/* Adds a zeroed node under a key that is not there yet. */
void flow_table_insert(FlowTable *table, FlowNode *node, const CompareKey *key, guint64 hash);
void flow_table_remove(FlowTable *table, FlowNode *node);

/*
 * The oldest node not used since it was last looked at; all that have been are put behind. Looks
 * at no more than `tries` nodes: if they were all used, the oldest of them that `may_evict`; NULL
 * if it refused all.
 */
FlowNode *flow_table_oldest(FlowTable *table, guint tries,
                            gboolean (*may_evict)(const FlowNode *node, gpointer user_data),
                            gpointer user_data);

#endif
