/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/cli/compare-report.h"
#include "common/json.h"

#include <json-c/json.h>
#include <stdio.h>

static const char *const explanations[COMPARE_REASONS] = {
    [COMPARE_PAYLOAD] = "Both VMs sent something at this place, and it is not the same: they have "
                        "computed different answers.",
    [COMPARE_FLAG] = "The VMs disagree about the connection itself: one opens, ends or resets it, "
                     "or marks data as urgent, where the other does not.",
    [COMPARE_EXTRA_OUTPUT] = "The secondary sent this and the primary did not, up to the end of "
                             "its capture.",
    [COMPARE_MISSING_OUTPUT] =
        "The primary sent this and the secondary did not, up to the end of "
        "its capture (or acknowledged less). Nothing later of the flow could "
        "have left before a checkpoint.",
    [COMPARE_SECONDARY_SILENT] = "The secondary sent nothing at all while the primary did: is its "
                                 "guest hung, or its capture shorter?",
    [COMPARE_TABLE_FULL] = "There was no room to compare further: whether the flow is equal isn't "
                           "known. --filter and --memory-limit help.",
};

const char *report_verdict_name(ReportVerdict verdict)
{
    static const char *const names[] = {[REPORT_EQUAL] = "equal",
                                        [REPORT_DIFFERENT] = "different",
                                        [REPORT_CUT_OFF] = "cut-off",
                                        [REPORT_UNKNOWN] = "unknown"};
    return names[verdict];
}

static char *hex(const guint8 *bytes, guint len)
{
    GString *s = g_string_new(NULL);
    for (guint i = 0; i < len; i++)
        g_string_append_printf(s, i > 0 ? " %02x" : "%02x", bytes[i]);
    return g_string_free(s, FALSE);
}

/* Of microseconds since 1970, in this format of strftime with microseconds behind the seconds. */
static char *time_text(gint64 time_us, gboolean utc)
{
    gint64 seconds = time_us / G_USEC_PER_SEC;
    g_autoptr(GDateTime) when =
        utc ? g_date_time_new_from_unix_utc(seconds) : g_date_time_new_from_unix_local(seconds);
    if (when == NULL)
        return g_strdup("?");
    g_autofree char *text = g_date_time_format(when, utc ? "%Y-%m-%dT%H:%M:%S" : "%F %T");
    g_autofree char *zone = g_date_time_format(when, utc ? "Z" : " %z");
    return g_strdup_printf("%s.%06d%s", text, (int)(time_us % G_USEC_PER_SEC), zone);
}

/* ---- Text ---- */

static void print_bytes(const char *side, const guint8 *bytes, guint len)
{
    g_autofree char *text = hex(bytes, len);

    printf("    %-10s", side);
    if (len == 0) {
        puts("nothing");
        return;
    }
    printf("%-*s  ", (int)(3 * COMPARE_SAMPLE_BYTES - 1), text);
    for (guint i = 0; i < len; i++)
        putchar(g_ascii_isprint(bytes[i]) ? bytes[i] : '.');
    putchar('\n');
}

static void print_value(gint64 value, gboolean is_flag)
{
    if (is_flag)
        fputs(value > 0 ? "yes" : "no", stdout);
    else if (value < 0)
        fputs("none", stdout);
    else
        printf("%" G_GINT64_FORMAT, value);
}

static void print_frame(const char *side, const CompareOrigin *origin, gboolean before)
{
    g_autofree char *when = time_text(origin->time_us, FALSE);

    printf("    %-10s", side);
    if (origin->number == 0)
        puts("no frame of this flow");
    else
        printf("%sframe %" G_GUINT64_FORMAT ", %s\n", before ? "no such frame; its last was " : "",
               origin->number, when);
}

static void print_divergence(const ReportStyle *style, const CompareDivergence *d,
                             ReportVerdict verdict)
{
    printf("  %s (%s) at %.6f s, ", verdict == REPORT_DIFFERENT ? "DIFFERENT" : "NOT KNOWN",
           compare_reason_name(d->reason), (gdouble)d->when.us / G_USEC_PER_SEC);
    if (d->connection > 1)
        printf("connection %" G_GUINT64_FORMAT " on these ports, ", d->connection);
    printf("offset %" G_GUINT64_FORMAT ": %s\n", d->offset, d->detail);
    print_frame("primary", &d->primary_origin, d->primary_before);
    print_frame("secondary", &d->secondary_origin, d->secondary_before);
    if (d->field != NULL) {
        printf("    %s: primary ", d->field);
        print_value(d->primary_value, d->is_flag);
        fputs(", secondary ", stdout);
        print_value(d->secondary_value, d->is_flag);
        putchar('\n');
    }
    if (d->field == NULL || d->primary_len > 0 || d->secondary_len > 0) {
        print_bytes("primary", d->primary, d->primary_len);
        print_bytes("secondary", d->secondary, d->secondary_len);
    }
    if (style->explain)
        printf("    %s\n", explanations[d->reason]);
}

static void print_flow(const ReportStyle *style, const CompareFlowInfo *info, ReportVerdict verdict,
                       const CompareDivergence *d)
{
    g_autofree char *key = compare_key_to_string(&info->key);

    printf("%s: %" G_GUINT64_FORMAT " packets, secondary %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
           " bytes equal\n",
           key, info->primary_frames, info->secondary_frames, info->verified_bytes);
    if (info->unseen_bytes > 0)
        printf("  %" G_GUINT64_FORMAT " bytes were cut off when captured, and not compared\n",
               info->unseen_bytes);
    if (info->skipped_bytes > 0)
        printf("  %" G_GUINT64_FORMAT " bytes are in neither capture\n", info->skipped_bytes);
    if (info->unfinished)
        puts("  compared up to where a capture is cut short");
    if (d != NULL)
        print_divergence(style, d, verdict);
}

static void print_summary(const ReportSummary *summary)
{
    static const char *const words[] = {[REPORT_EQUAL] = "equal",
                                        [REPORT_DIFFERENT] = "different",
                                        [REPORT_CUT_OFF] = "not known, frames were cut",
                                        [REPORT_UNKNOWN] = "not known"};

    printf("%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " flows differ, %" G_GUINT64_FORMAT
           " bytes equal\n",
           words[summary->verdict], summary->by_verdict[REPORT_DIFFERENT], summary->flows,
           summary->verified_bytes);
}

/* ---- JSON ---- */

static void add_text(json_object *object, const char *name, const char *text)
{
    colo_json_add_string(object, name, text);
}

static void print_object(json_object *object)
{
    puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
    json_object_put(object);
}

static void add_key(json_object *flow, const CompareKey *key)
{
    g_autofree char *text = compare_key_to_string(key);
    g_autofree char *source = compare_key_address(key, FALSE);
    g_autofree char *destination = compare_key_address(key, TRUE);

    add_text(flow, "flow", text);
    add_text(flow, "protocol", compare_key_protocol(key));
    add_text(flow, "source", source);
    add_text(flow, "destination", destination);
    if (compare_key_has_ports(key)) {
        colo_json_add_uint(flow, "source-port", key->sport);
        colo_json_add_uint(flow, "destination-port", key->dport);
    }
    if (key->vlan[0] != COMPARE_NO_VLAN) {
        json_object *vlans = json_object_new_array();
        for (int i = 0; i < 2 && key->vlan[i] != COMPARE_NO_VLAN; i++)
            json_object_array_add(vlans, json_object_new_int(key->vlan[i]));
        json_object_object_add(flow, "vlans", vlans);
    }
    colo_json_add_uint(flow, "nic", key->nic);
}

/* The frame; null: there is none of this side. */
static void add_frame(json_object *object, const char *name, const CompareOrigin *origin)
{
    if (origin->number == 0) {
        json_object_object_add(object, name, NULL);
        return;
    }
    g_autofree char *when = time_text(origin->time_us, TRUE);
    json_object *frame = json_object_new_object();
    colo_json_add_uint(frame, "number", origin->number);
    add_text(frame, "time", when);
    colo_json_add_int(frame, "time-us", origin->time_us);
    json_object_object_add(object, name, frame);
}

static void add_value(json_object *object, const char *name, gint64 value, gboolean is_flag)
{
    json_object *json = NULL;
    if (is_flag)
        json = json_object_new_boolean(value > 0);
    else if (value >= 0)
        json = json_object_new_int64(value);
    json_object_object_add(object, name, json);
}

static json_object *divergence_object(const ReportStyle *style, const CompareDivergence *d)
{
    json_object *object = json_object_new_object();
    g_autofree char *primary = hex(d->primary, d->primary_len);
    g_autofree char *secondary = hex(d->secondary, d->secondary_len);

    add_text(object, "reason", compare_reason_name(d->reason));
    add_text(object, "detail", d->detail);
    colo_json_add_int(object, "time-us", d->when.us);
    colo_json_add_uint(object, "connection", d->connection);
    colo_json_add_uint(object, "offset", d->offset);
    add_frame(object, d->primary_before ? "primary-last-frame" : "primary-frame",
              &d->primary_origin);
    add_frame(object, d->secondary_before ? "secondary-last-frame" : "secondary-frame",
              &d->secondary_origin);
    if (d->field != NULL) {
        add_text(object, "field", d->field);
        add_value(object, "primary-value", d->primary_value, d->is_flag);
        add_value(object, "secondary-value", d->secondary_value, d->is_flag);
    }
    add_text(object, "primary", primary);
    add_text(object, "secondary", secondary);
    if (style->explain)
        add_text(object, "explanation", explanations[d->reason]);
    return object;
}

static void print_json_flow(const ReportStyle *style, const CompareFlowInfo *info,
                            ReportVerdict verdict, const CompareDivergence *d)
{
    json_object *flow = json_object_new_object();

    add_key(flow, &info->key);
    add_text(flow, "result", report_verdict_name(verdict));
    colo_json_add_uint(flow, "primary-packets", info->primary_frames);
    colo_json_add_uint(flow, "secondary-packets", info->secondary_frames);
    colo_json_add_uint(flow, "verified-bytes", info->verified_bytes);
    colo_json_add_uint(flow, "cut-off-bytes", info->unseen_bytes);
    colo_json_add_uint(flow, "skipped-bytes", info->skipped_bytes);
    colo_json_add_bool(flow, "unfinished", info->unfinished);
    if (d != NULL)
        json_object_object_add(flow, "divergence", divergence_object(style, d));
    print_object(flow);
}

static void add_pair(json_object *object, const char *name, const guint64 numbers[2])
{
    json_object *pair = json_object_new_object();
    colo_json_add_uint(pair, "primary", numbers[0]);
    colo_json_add_uint(pair, "secondary", numbers[1]);
    json_object_object_add(object, name, pair);
}

static void print_json_summary(const ReportSummary *summary)
{
    json_object *object = json_object_new_object();
    json_object *cut_short = json_object_new_object();

    colo_json_add_bool(object, "equal", summary->verdict == REPORT_EQUAL);
    add_text(object, "result", report_verdict_name(summary->verdict));
    colo_json_add_uint(object, "flows", summary->flows);
    colo_json_add_uint(object, "diverged-flows", summary->by_verdict[REPORT_DIFFERENT]);
    colo_json_add_uint(object, "cut-off-flows", summary->by_verdict[REPORT_CUT_OFF]);
    colo_json_add_uint(object, "unknown-flows", summary->by_verdict[REPORT_UNKNOWN]);
    colo_json_add_uint(object, "verified-bytes", summary->verified_bytes);
    colo_json_add_uint(object, "cut-off-bytes", summary->unseen_bytes);
    colo_json_add_uint(object, "skipped-bytes", summary->skipped_bytes);
    colo_json_add_uint(object, "uncompared-frames", summary->uncompared_frames);
    add_pair(object, "frames", summary->frames);
    add_pair(object, "cut-frames", summary->cut_frames);
    add_pair(object, "unparsed-frames", summary->unparsed_frames);
    colo_json_add_bool(cut_short, "primary", summary->cut_short[0]);
    colo_json_add_bool(cut_short, "secondary", summary->cut_short[1]);
    json_object_object_add(object, "cut-short", cut_short);
    print_object(object);
}

/* ---- Either ---- */

void report_flow(const ReportStyle *style, const CompareFlowInfo *info, ReportVerdict verdict,
                 const CompareDivergence *divergence)
{
    (style->json ? print_json_flow : print_flow)(style, info, verdict, divergence);
}

void report_summary(const ReportStyle *style, const ReportSummary *summary)
{
    (style->json ? print_json_summary : print_summary)(summary);
}
