/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/divergence.h"

static json_object *hex(const guint8 *bytes, guint len)
{
    if (len == 0)
        return NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < MIN(len, COMPARE_SAMPLE_BYTES); i++)
        g_string_append_printf(text, i > 0 ? " %02x" : "%02x", bytes[i]);
    return json_object_new_string(text->str);
}

/* Null: this side has none. */
static json_object *value(gint64 number, gboolean is_flag)
{
    if (is_flag)
        return json_object_new_boolean(number > 0);
    return number >= 0 ? json_object_new_int64(number) : NULL;
}

static json_object *iso_time(gint64 wall_us)
{
    g_autoptr(GDateTime) seconds = g_date_time_new_from_unix_utc(wall_us / G_USEC_PER_SEC);
    if (!seconds)
        return NULL;
    g_autofree char *text = g_date_time_format(seconds, "%Y-%m-%dT%H:%M:%S");
    g_autofree char *whole =
        g_strdup_printf("%s.%03dZ", text, (int)(wall_us % G_USEC_PER_SEC / 1000));
    return json_object_new_string(whole);
}

json_object *divergence_to_json(const CompareDivergence *divergence, gint64 wall_us)
{
    json_object *object = json_object_new_object();
    /* A full table is nobody's flow: the key is empty. */
    gboolean has_flow =
        divergence->key.kind != COMPARE_KIND_OPAQUE || divergence->key.ethertype != 0;
    g_autofree char *flow = has_flow || divergence->reason != COMPARE_TABLE_FULL
                                ? compare_key_to_string(&divergence->key)
                                : NULL;
    json_object_object_add(object, "reason",
                           json_object_new_string(compare_reason_name(divergence->reason)));
    json_object_object_add(object, "flow", flow ? json_object_new_string(flow) : NULL);
    json_object_object_add(object, "epoch", json_object_new_int64((gint64)divergence->epoch));
    json_object_object_add(object, "when", iso_time(wall_us));
    json_object_object_add(object, "offset", json_object_new_int64((gint64)divergence->offset));
    json_object_object_add(object, "detail",
                           divergence->detail ? json_object_new_string(divergence->detail) : NULL);
    json_object_object_add(object, "primary", hex(divergence->primary, divergence->primary_len));
    json_object_object_add(object, "secondary",
                           hex(divergence->secondary, divergence->secondary_len));
    if (divergence->field) {
        json_object_object_add(object, "field", json_object_new_string(divergence->field));
        json_object_object_add(object, "primary-value",
                               value(divergence->primary_value, divergence->is_flag));
        json_object_object_add(object, "secondary-value",
                               value(divergence->secondary_value, divergence->is_flag));
    }
    return object;
}

json_object *divergence_log_add(DivergenceLog *log, const CompareDivergence *divergence,
                                gint64 wall_us)
{
    guint at = (guint)(log->total++ % DIVERGENCE_LAST);
    log->last[at] = *divergence;
    log->wall_us[at] = wall_us;
    log->by_reason[divergence->reason]++;
    if (log->total == 1 || colo_time_diff_us(divergence->when, log->second) >= G_USEC_PER_SEC) {
        log->second = divergence->when;
        log->in_second = 0;
    }
    if (log->in_second == DIVERGENCE_EVENTS_PER_SECOND) {
        log->left_out++;
        return NULL;
    }
    log->in_second++;
    json_object *event = divergence_to_json(divergence, wall_us);
    if (log->left_out > 0)
        json_object_object_add(event, "left-out", json_object_new_int64((gint64)log->left_out));
    log->left_out = 0;
    return event;
}

void divergence_log_describe(const DivergenceLog *log, json_object *object)
{
    json_object *counts = json_object_new_object();
    for (CompareReason reason = 0; reason < COMPARE_REASONS; reason++)
        json_object_object_add(counts, compare_reason_name(reason),
                               json_object_new_int64((gint64)log->by_reason[reason]));
    json_object_object_add(object, "divergences", counts);
    json_object *last = json_object_new_array();
    for (guint64 n = log->total - MIN(log->total, DIVERGENCE_LAST); n < log->total; n++) {
        guint at = (guint)(n % DIVERGENCE_LAST);
        json_object_array_add(last, divergence_to_json(&log->last[at], log->wall_us[at]));
    }
    json_object_object_add(object, "last", last);
}
