/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pack-rule.h"

#include <stdlib.h>
#include <string.h>

/* How much of a measure stays when the next one has come. */
#define KEPT 0.75
/* What is chosen has to be better by this. */
#define BETTER 0.8

void pack_rule_link(PackRule *rule, double bytes_per_s)
{
    if (bytes_per_s > 0)
        rule->rates[rule->n_rates++ % PACK_RATES] = bytes_per_s;
}

static int compare_rates(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double pack_rule_rate(const PackRule *rule)
{
    double sorted[PACK_RATES];
    guint n = MIN(rule->n_rates, PACK_RATES);
    if (n == 0)
        return 0;
    memcpy(sorted, rule->rates, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_rates);
    return sorted[n / 2];
}

void pack_rule_packed(PackRule *rule, PackCodec codec, guint64 page_bytes, guint64 wire_bytes,
                      gint64 us)
{
    if (codec == PACK_PLAIN || page_bytes == 0)
        return;
    PackMeasure *m = &rule->codecs[codec];
    double ns = (double)MAX(us, 1) * 1000.0 / (double)page_bytes;
    double left = (double)wire_bytes / (double)page_bytes;
    double kept = m->ns_per_byte > 0 ? KEPT : 0;
    m->ns_per_byte = m->ns_per_byte * kept + ns * (1 - kept);
    m->left = m->left * kept + left * (1 - kept);
}

double pack_rule_cost(const PackRule *rule, PackCodec codec)
{
    const PackMeasure *m = &rule->codecs[codec];
    double rate = pack_rule_rate(rule);
    if (rate <= 0 || (codec != PACK_PLAIN && m->ns_per_byte <= 0))
        return -1;
    double wire_ns = 1e9 / rate;
    return codec == PACK_PLAIN ? wire_ns : m->ns_per_byte + m->left * wire_ns;
}

static PackCodec choose(const PackRule *rule)
{
    double now = pack_rule_cost(rule, rule->chosen), best_cost = now;
    PackCodec best = rule->chosen;
    if (now < 0)
        return PACK_PLAIN;
    for (PackCodec codec = PACK_PLAIN; codec < PACK_CODECS; codec++) {
        double cost = pack_rule_cost(rule, codec);
        if (cost >= 0 && cost < best_cost && cost < now * BETTER) {
            best = codec;
            best_cost = cost;
        }
    }
    return best;
}

/* The codecs in turn, but that which is chosen: that is measured all the time. */
static PackCodec next_to_probe(const PackRule *rule)
{
    PackCodec codec = rule->probed;
    do
        codec = codec + 1 < PACK_CODECS ? codec + 1 : PACK_LZ4;
    while (codec == rule->chosen);
    return codec;
}

PackCodec pack_rule_next(PackRule *rule, gboolean may_probe, ColoTime now)
{
    rule->chosen = choose(rule);
    if (!may_probe ||
        (rule->probed_at.us && colo_time_diff_us(now, rule->probed_at) < PACK_PROBE_US))
        return rule->chosen;
    rule->probed = next_to_probe(rule);
    rule->probed_at = now;
    return rule->probed;
}
