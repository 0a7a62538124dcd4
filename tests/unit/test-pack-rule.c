/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How pages are packed, by what was measured (checkpoint/pack-rule.h). */
#include <glib.h>

#include "checkpoint/pack-rule.h"

#define MB 1e6

static ColoTime at(gint64 ms)
{
    return (ColoTime){.us = 1 + ms * COLO_US_PER_MS};
}

/* A codec that packs so many MB/s and leaves `left` of each byte. */
static void tell(PackRule *rule, PackCodec codec, double rate_mb, double left)
{
    guint64 bytes = 1u << 30;
    for (int i = 0; i < 40; i++)
        pack_rule_packed(rule, codec, bytes, (guint64)((double)bytes * left),
                         (gint64)((double)bytes / rate_mb));
}

static void link_of(PackRule *rule, double rate_mb)
{
    for (guint i = 0; i < PACK_RATES; i++)
        pack_rule_link(rule, rate_mb * MB, TRUE);
}

/* What is chosen for a link and what codecs come to, from each state before. */
static void test_walk(void)
{
    static const struct {
        double link, lz4_rate, lz4_left, zstd_rate, zstd_left; /* MB/s */
        PackCodec before, expected;
    } cases[] = {
  /* 10 Gbit/s and more: the CPU is slower than the link. */
        {1250, 800,  0.3, 400,  0.2,  PACK_PLAIN, PACK_PLAIN},
        {1250, 800,  0.3, 400,  0.2,  PACK_LZ4,   PACK_PLAIN},
        {5000, 2000, 0.3, 400,  0.2,  PACK_ZSTD,  PACK_PLAIN},
 /* 1 Gbit/s. */
        {125,  800,  0.3, 400,  0.2,  PACK_PLAIN, PACK_LZ4  },
        {125,  800,  0.3, 400,  0.2,  PACK_ZSTD,  PACK_ZSTD }, /* lz4 is hardly better */
        {125,  800,  0.2, 300,  0.15, PACK_ZSTD,  PACK_LZ4  },
 /* 100 Mbit/s. */
        {12.5, 800,  0.3, 400,  0.2,  PACK_PLAIN, PACK_ZSTD },
        {12.5, 800,  0.3, 400,  0.2,  PACK_LZ4,   PACK_ZSTD },
        {12.5, 800,  0.3, 400,  0.29, PACK_LZ4,   PACK_LZ4  },
 /* What can't be compressed. */
        {125,  3000, 1.0, 2000, 1.0,  PACK_PLAIN, PACK_PLAIN},
        {12.5, 3000, 1.0, 2000, 1.0,  PACK_LZ4,   PACK_LZ4  }, /* it costs next to nothing */
        {125,  400,  1.0, 400,  1.0,  PACK_LZ4,   PACK_PLAIN},
 /* A busy host. */
        {125,  100,  0.3, 50,   0.2,  PACK_PLAIN, PACK_PLAIN},
        {125,  100,  0.3, 50,   0.2,  PACK_ZSTD,  PACK_PLAIN},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        PackRule rule = {.chosen = cases[i].before};
        link_of(&rule, cases[i].link);
        tell(&rule, PACK_LZ4, cases[i].lz4_rate, cases[i].lz4_left);
        tell(&rule, PACK_ZSTD, cases[i].zstd_rate, cases[i].zstd_left);
        PackCodec chosen = pack_rule_next(&rule, FALSE, FALSE, FALSE, at(0));
        if (chosen != cases[i].expected)
            g_error("case %" G_GSIZE_FORMAT ": %s", i, pack_codec_name(chosen));
        g_assert_cmpint(rule.chosen, ==, chosen);
        /* It stays. */
        g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(1)), ==, chosen);
    }
}

/* Nothing is packed before something is known, but what is tried. */
static void test_unknown(void)
{
    PackRule rule = {0};
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    g_assert_cmpfloat(pack_rule_cost(&rule, PACK_PLAIN), <, 0);
    tell(&rule, PACK_LZ4, 800, 0.1);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    PackRule slow = {0};
    link_of(&slow, 1);
    g_assert_cmpint(pack_rule_next(&slow, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    g_assert_cmpfloat(pack_rule_cost(&slow, PACK_LZ4), <, 0);
    pack_rule_packed(&slow, PACK_PLAIN, 4096, 4096, 1);
    pack_rule_packed(&slow, PACK_LZ4, 0, 0, 1);
    g_assert_cmpint(pack_rule_next(&slow, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    /* Packing that took no time took a little. */
    pack_rule_packed(&slow, PACK_LZ4, 4096, 40, 0);
    g_assert_cmpint(pack_rule_next(&slow, FALSE, FALSE, FALSE, at(0)), ==, PACK_LZ4);
    /* A thread that was held up once. */
    pack_rule_packed(&slow, PACK_LZ4, 4096, 40, 0);
    pack_rule_packed(&slow, PACK_LZ4, 4096, 40, G_USEC_PER_SEC);
    g_assert_cmpint(pack_rule_next(&slow, FALSE, FALSE, FALSE, at(0)), ==, PACK_LZ4);
}

/* Those that are not chosen are tried in turn, now and then, and only where it is allowed. */
static void test_probes(void)
{
    PackRule rule = {0};
    gint64 gap = PACK_PROBE_US / COLO_US_PER_MS;
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(0)), ==, PACK_LZ4);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(0)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(gap - 1)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(gap)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(gap)), ==, PACK_ZSTD);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(2 * gap)), ==, PACK_LZ4);
    /* With lz4 chosen only zstd is left. */
    link_of(&rule, 10);
    tell(&rule, PACK_LZ4, 800, 0.2);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(2 * gap)), ==, PACK_LZ4);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(3 * gap)), ==, PACK_ZSTD);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, FALSE, at(4 * gap)), ==, PACK_ZSTD);
    g_assert_cmpint(rule.chosen, ==, PACK_LZ4);
}

/*
 * A codec that would do with differences to earlier pages is tried, where such are kept: what comes of it
 * decides, and there is no other try soon.
 */
static void test_tries(void)
{
    gint64 length = PACK_TRY_US / COLO_US_PER_MS, again = PACK_AGAIN_US / COLO_US_PER_MS;
    PackRule rule = {0};
    link_of(&rule, 125);
    tell(&rule, PACK_LZ4, 250, 0.55); /* 4 + 4.4 ns a byte, to 8 */
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, FALSE, at(0)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(0)), ==, PACK_LZ4);
    /* It is worse for a while. */
    tell(&rule, PACK_LZ4, 250, 0.8);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(length - 1)), ==, PACK_LZ4);
    PackRule kept = rule;
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(length)), ==, PACK_PLAIN);
    tell(&rule, PACK_LZ4, 250, 0.55);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(again - 1)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(again)), ==, PACK_LZ4);
    /* It was good. */
    tell(&kept, PACK_LZ4, 400, 0.2);
    g_assert_cmpint(pack_rule_next(&kept, FALSE, FALSE, TRUE, at(length)), ==, PACK_LZ4);
    g_assert_false(kept.trying);
    /* No hope is large enough where the link is faster than the CPU. */
    PackRule fast = {0};
    link_of(&fast, 1250);
    tell(&fast, PACK_LZ4, 1000, 0.1);
    g_assert_cmpint(pack_rule_next(&fast, FALSE, FALSE, TRUE, at(0)), ==, PACK_PLAIN);
}

/* While pages are packed, a transfer now and then goes as it is, and what it shows counts alone. */
static void test_looks(void)
{
    gint64 gap = PACK_LOOK_US / COLO_US_PER_MS;
    PackRule rule = {0};
    link_of(&rule, 100);
    tell(&rule, PACK_LZ4, 800, 0.2);
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(0)), ==, PACK_LZ4);
    /* A burst is no rate; what the link made wait is. */
    for (guint i = 0; i < PACK_RATES; i++)
        pack_rule_link(&rule, 5000 * MB, FALSE);
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 100 * MB);
    pack_rule_link(&rule, 99 * MB, TRUE);
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(gap - 1)), ==, PACK_LZ4);
    /* Not in the middle of a transfer; and then all of one. */
    g_assert_cmpint(pack_rule_next(&rule, FALSE, FALSE, TRUE, at(gap)), ==, PACK_LZ4);
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(gap)), ==, PACK_PLAIN);
    g_assert_cmpint(pack_rule_next(&rule, FALSE, TRUE, TRUE, at(gap)), ==, PACK_PLAIN);
    pack_rule_link(&rule, 90 * MB, FALSE);
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 90 * MB);
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(gap + 1)), ==, PACK_LZ4);
    /* The link has become a fast one. */
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(2 * gap)), ==, PACK_PLAIN);
    g_assert_cmpint(rule.chosen, ==, PACK_LZ4);
    pack_rule_link(&rule, 3000 * MB, FALSE);
    g_assert_cmpint(pack_rule_next(&rule, TRUE, FALSE, TRUE, at(2 * gap + 1)), ==, PACK_PLAIN);
    g_assert_cmpint(rule.chosen, ==, PACK_PLAIN);
}

/* One reading that is far off decides nothing; a link that has changed does. */
static void test_rate(void)
{
    PackRule rule = {0};
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 0);
    pack_rule_link(&rule, 0, TRUE);
    pack_rule_link(&rule, -1, TRUE);
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 0);
    link_of(&rule, 100);
    pack_rule_link(&rule, 1e12, TRUE);
    pack_rule_link(&rule, 1, TRUE);
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 100 * MB);
    link_of(&rule, 7);
    g_assert_cmpfloat(pack_rule_rate(&rule), ==, 7 * MB);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pack-rule/walk", test_walk);
    g_test_add_func("/pack-rule/unknown", test_unknown);
    g_test_add_func("/pack-rule/probes", test_probes);
    g_test_add_func("/pack-rule/tries", test_tries);
    g_test_add_func("/pack-rule/looks", test_looks);
    g_test_add_func("/pack-rule/rate", test_rate);
    return g_test_run();
}
