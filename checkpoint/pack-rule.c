/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/pack-rule.h"

#include <stdlib.h>
#include <string.h>

/* How much of a measure stays when the next one has come. */
#define KEPT 0.75
/* What is chosen has to be better by this. */
#define BETTER 0.8
/* What differences may leave of what a probe has left, and of the time that it took. */
#define HOPE_LEFT 0.5
#define HOPE_TIME 0.7

void pack_rule_link(PackRule *rule, double bytes_per_s, gboolean waited)
{
    if (rule->chosen != PACK_PLAIN && !rule->looking && !waited)
        return;
    /* What was known is old. */
    if (rule->looking)
        rule->n_rates = 0;
    if (bytes_per_s > 0)
        rule->rates[rule->n_rates++ % PACK_RATES] = bytes_per_s;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of the last `n` values that were told, of which `room` are there; 0: none was. A thread that has to wait
 * for its turn once decides nothing so. */
static double median(const double *values, guint n, guint room)
{
    double sorted[MAX(PACK_RATES, PACK_TIMES)];
    n = MIN(n, room);
    if (n == 0)
        return 0;
    memcpy(sorted, values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare);
    return sorted[n / 2];
}

double pack_rule_rate(const PackRule *rule)
{
    return median(rule->rates, rule->n_rates, PACK_RATES);
}

void pack_rule_packed(PackRule *rule, PackCodec codec, guint64 page_bytes, guint64 wire_bytes,
                      gint64 us)
{
    if (codec == PACK_PLAIN || page_bytes == 0)
        return;
    PackMeasure *m = &rule->codecs[codec];
    double left = (double)wire_bytes / (double)page_bytes;
    double kept = m->n_times > 0 ? KEPT : 0;
    m->times[m->n_times++ % PACK_TIMES] = (double)MAX(us, 1) * 1000.0 / (double)page_bytes;
    m->left = m->left * kept + left * (1 - kept);
}

/* What a byte of a page costs, or may cost with `hope`; negative: not known. */
static double cost_of(const PackRule *rule, PackCodec codec, gboolean hope)
{
    const PackMeasure *m = &rule->codecs[codec];
    double rate = pack_rule_rate(rule);
    if (rate <= 0 || (codec != PACK_PLAIN && m->n_times == 0))
        return -1;
    double wire_ns = 1e9 / rate;
    if (codec == PACK_PLAIN)
        return wire_ns;
    double pack_ns = median(m->times, m->n_times, PACK_TIMES);
    return hope ? HOPE_TIME * pack_ns + HOPE_LEFT * m->left * wire_ns : pack_ns + m->left * wire_ns;
}

double pack_rule_cost(const PackRule *rule, PackCodec codec)
{
    return cost_of(rule, codec, FALSE);
}

/* The cheapest that is better than what is chosen by as much as it has to be; else that. */
static PackCodec find_better(const PackRule *rule, gboolean hope)
{
    double now = pack_rule_cost(rule, rule->chosen), best_cost = now * BETTER;
    PackCodec best = rule->chosen;
    if (now < 0)
        return PACK_PLAIN;
    for (PackCodec codec = PACK_PLAIN; codec < PACK_CODECS; codec++) {
        double cost = cost_of(rule, codec, hope);
        if (codec != rule->chosen && cost >= 0 && cost < best_cost) {
            best = codec;
            best_cost = cost;
        }
    }
    return best;
}

static void choose(PackRule *rule, gboolean keeps, ColoTime now)
{
    gint64 since_us = rule->tried_at.us ? colo_time_diff_us(now, rule->tried_at) : G_MAXINT64;
    if (rule->trying && since_us < PACK_TRY_US)
        return;
    rule->trying = FALSE;
    rule->chosen = find_better(rule, FALSE);
    if (rule->chosen != PACK_PLAIN || !keeps || since_us < PACK_AGAIN_US)
        return;
    rule->chosen = find_better(rule, TRUE);
    if (rule->chosen == PACK_PLAIN)
        return;
    rule->trying = TRUE;
    rule->tried_at = now;
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

PackCodec pack_rule_next(PackRule *rule, gboolean begins, gboolean may_probe, gboolean keeps,
                         ColoTime now)
{
    choose(rule, keeps, now);
    if (begins)
        rule->looking = rule->chosen != PACK_PLAIN && keeps && rule->plain_at.us &&
                        colo_time_diff_us(now, rule->plain_at) >= PACK_LOOK_US;
    if (rule->looking || rule->chosen == PACK_PLAIN || !rule->plain_at.us)
        rule->plain_at = now;
    if (rule->looking)
        return PACK_PLAIN;
    if (!may_probe ||
        (rule->probed_at.us && colo_time_diff_us(now, rule->probed_at) < PACK_PROBE_US))
        return rule->chosen;
    rule->probed = next_to_probe(rule);
    rule->probed_at = now;
    return rule->probed;
}
