/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/divergence.h"

#include <string.h>

static CompareDivergence sample(CompareReason reason, gint64 when_us)
{
    CompareDivergence d = {
        .reason = reason,
        .key = {.kind = COMPARE_KIND_UDP,
                .ethertype = 0x0800,
                .proto = 17,
                .sport = 53,
                .dport = 4711,
                .vlan = {COMPARE_NO_VLAN, COMPARE_NO_VLAN}},
        .epoch = 9,
        .when = {when_us             },
        .offset = 1234,
        .detail = "other bytes",
        .primary = {0x48,                        0x54      },
        .primary_len = 2
    };
    const guint8 src[] = {10, 0, 0, 2}, dst[] = {10, 0, 0, 1};
    d.key.src[10] = d.key.src[11] = d.key.dst[10] = d.key.dst[11] = 0xff;
    memcpy(d.key.src + 12, src, 4);
    memcpy(d.key.dst + 12, dst, 4);
    return d;
}

static void expect_json(json_object *object, const char *expected)
{
    g_assert_cmpstr(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE),
                    ==, expected);
    json_object_put(object);
}

static void test_json(void)
{
    CompareDivergence d = sample(COMPARE_PAYLOAD, 5);
    expect_json(divergence_to_json(&d, G_GINT64_CONSTANT(1700000000250000)),
                "{\"reason\":\"payload\",\"flow\":\"udp 10.0.0.2:53 -> 10.0.0.1:4711\",\"epoch\":9,"
                "\"when\":\"2023-11-14T22:13:20.250Z\",\"offset\":1234,\"detail\":\"other bytes\","
                "\"primary\":\"48 54\",\"secondary\":null}");
    CompareDivergence ack = {.reason = COMPARE_MISSING_OUTPUT,
                             .key = d.key,
                             .detail = "less",
                             .field = "ACK",
                             .primary_value = 4711,
                             .secondary_value = -1};
    expect_json(
        divergence_to_json(&ack, 0),
        "{\"reason\":\"missing-output\",\"flow\":\"udp 10.0.0.2:53 -> 10.0.0.1:4711\","
        "\"epoch\":0,\"when\":\"1970-01-01T00:00:00.000Z\",\"offset\":0,\"detail\":\"less\","
        "\"primary\":null,\"secondary\":null,\"field\":\"ACK\",\"primary-value\":4711,"
        "\"secondary-value\":null}");
    CompareDivergence full = {.reason = COMPARE_TABLE_FULL, .detail = "no room"};
    expect_json(divergence_to_json(&full, 0),
                "{\"reason\":\"table-full\",\"flow\":null,\"epoch\":0,"
                "\"when\":\"1970-01-01T00:00:00.000Z\",\"offset\":0,\"detail\":\"no room\","
                "\"primary\":null,\"secondary\":null}");
}

static gint64 number_at(json_object *object, const char *name)
{
    json_object *value;
    g_assert_true(json_object_object_get_ex(object, name, &value));
    return json_object_get_int64(value);
}

static void test_last_ones(void)
{
    DivergenceLog log = {0};
    for (guint64 i = 0; i < 11; i++) {
        CompareDivergence d = sample(i % 2 ? COMPARE_FLAG : COMPARE_PAYLOAD, (gint64)i);
        d.epoch = i;
        json_object_put(divergence_log_add(&log, &d, 0));
    }
    json_object *object = json_object_new_object(), *counts, *last;
    divergence_log_describe(&log, object);
    g_assert_true(json_object_object_get_ex(object, "divergences", &counts));
    g_assert_cmpint(number_at(counts, "payload"), ==, 6);
    g_assert_cmpint(number_at(counts, "flag"), ==, 5);
    g_assert_cmpint(number_at(counts, "table-full"), ==, 0);
    g_assert_true(json_object_object_get_ex(object, "last", &last));
    g_assert_cmpuint(json_object_array_length(last), ==, DIVERGENCE_LAST);
    for (guint i = 0; i < DIVERGENCE_LAST; i++)
        g_assert_cmpint(number_at(json_object_array_get_idx(last, i), "epoch"), ==, 3 + i);
    json_object_put(object);
}

/* Adds one; tells whether there was an event, and how many were left out before it. */
static gboolean add_at(DivergenceLog *log, gint64 when_us, gint64 *ret_left_out)
{
    CompareDivergence d = sample(COMPARE_PAYLOAD, when_us);
    json_object *event = divergence_log_add(log, &d, 0), *left_out;
    if (!event)
        return FALSE;
    *ret_left_out = json_object_object_get_ex(event, "left-out", &left_out)
                        ? json_object_get_int64(left_out)
                        : 0;
    json_object_put(event);
    return TRUE;
}

/* A storm costs five events a second, and none of it is forgotten. */
static void test_storm(void)
{
    DivergenceLog log = {0};
    gint64 begin = G_GINT64_CONSTANT(1000000000), told = 0, events = 0, left_out;
    for (gint64 i = 0; i < 10000; i++)
        if (add_at(&log, begin + i * 1000, &left_out)) {
            events++;
            told += 1 + left_out;
        }
    g_assert_cmpint(events, ==, 10 * DIVERGENCE_EVENTS_PER_SECOND);
    g_assert_true(add_at(&log, begin + 11 * G_USEC_PER_SEC, &left_out));
    g_assert_cmpint(told + left_out, ==, 10000);
    g_assert_true(add_at(&log, begin + 11 * G_USEC_PER_SEC, &left_out));
    g_assert_cmpint(left_out, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/divergence/json", test_json);
    g_test_add_func("/divergence/last-ones", test_last_ones);
    g_test_add_func("/divergence/storm", test_storm);
    return g_test_run();
}
