/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-compare: the packet comparator on two captures, of what two VMs sent. Tells where they
 * differ, and why; also on one file of `colo capture`, which has both. They are read side by side,
 * each frame at its time after the first one of its own capture, and never held in memory as a
 * whole: a flow that has waited longest is given up when too much waits.
 *
 * Exit status: 0 equal, 1 different, 2 bad input or use.
 */
#include <arpa/inet.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "netcompare/pcapfile.h"

#define MAX_HELD_BYTES ((gsize)256 << 20)
#define MAX_FLOWS      1048576u

enum { EXIT_EQUAL, EXIT_DIFFERENT, EXIT_BAD_INPUT };

static gboolean opt_json, opt_explain, opt_version;
static char *opt_guest_mac, *opt_guest_ip, *opt_filter;

static const GOptionEntry entries[] = {
    {"guest-mac", 0, 0, G_OPTION_ARG_STRING, &opt_guest_mac,
     "Compare only frames sent by this address",                                               "MAC"},
    {"guest-ip",  0, 0, G_OPTION_ARG_STRING, &opt_guest_ip,
     "Compare only packets sent by this IPv4 or IPv6 address",                                 "IP" },
    {"filter",    0, 0, G_OPTION_ARG_STRING, &opt_filter,
     "Compare only frames that this pcap-filter(7) expression lets through",                   "BPF"},
    {"json",      0, 0, G_OPTION_ARG_NONE,   &opt_json,      "Print JSON, one object a line",  NULL },
    {"explain",   0, 0, G_OPTION_ARG_NONE,   &opt_explain,   "Say what each difference means", NULL },
    {"version",   0, 0, G_OPTION_ARG_NONE,   &opt_version,   "Print the version",              NULL },
    {NULL,        0, 0, 0,                   NULL,           NULL,                             NULL },
};

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
    [COMPARE_TABLE_FULL] = "There was no room to go on comparing.",
};

typedef struct {
    PcapFile *capture;
    PcapFrame frame; /* not yet given to the comparator; data NULL: the end */
    gint64 start_us; /* of its first frame */
    guint64 truncated;
} Input;

typedef struct {
    Compare *compare;
    Input inputs[2];
    guint8 mac[6], ip[16];
    GHashTable *divergences; /* CompareKey -> CompareDivergence: each flow's first */
    guint64 flows, diverged, verified_bytes;
    gboolean incomplete; /* not all flows found room */
    gboolean failed;     /* flows are of no use to anybody any more */
} Run;

/* ---- What is compared ---- */

static gboolean parse_guest(Run *run, GError **error)
{
    guint b[6];
    char rest;
    struct in_addr v4;

    if (opt_guest_mac != NULL) {
        if (sscanf(opt_guest_mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4],
                   &b[5], &rest) != 6) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "--guest-mac %s: not a MAC address like 52:54:00:12:34:56", opt_guest_mac);
            return FALSE;
        }
        for (int i = 0; i < 6; i++)
            run->mac[i] = (guint8)b[i];
    }
    if (opt_guest_ip != NULL) {
        if (inet_pton(AF_INET, opt_guest_ip, &v4) == 1) {
            run->ip[10] = run->ip[11] = 0xff;
            memcpy(run->ip + 12, &v4, 4);
        } else if (inet_pton(AF_INET6, opt_guest_ip, run->ip) != 1) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "--guest-ip %s: neither an IPv4 nor an IPv6 address", opt_guest_ip);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean is_guests(const Run *run, const PcapFrame *frame)
{
    Packet packet;

    if (opt_guest_mac != NULL && (frame->len < 12 || memcmp(frame->data + 6, run->mac, 6) != 0))
        return FALSE;
    if (opt_guest_ip == NULL)
        return TRUE;
    packet_parse(frame->data, frame->len, FALSE, 0, &packet);
    return packet.key.kind != COMPARE_KIND_OPAQUE && packet.key.kind != COMPARE_KIND_ETHERNET &&
           memcmp(packet.key.src, run->ip, 16) == 0;
}

/* Goes to the next frame of the guest. */
static gboolean input_next(Run *run, Input *input, GError **error)
{
    do {
        if (!pcapfile_next(input->capture, &input->frame, error))
            return FALSE;
    } while (input->frame.data != NULL && !is_guests(run, &input->frame));
    if (input->frame.data != NULL && input->frame.len < input->frame.wire_len)
        input->truncated++;
    return TRUE;
}

/* `paths` has one capture of each VM, or one of both. */
static gboolean input_open(Run *run, int side, char **paths, GError **error)
{
    Input *input = &run->inputs[side];

    input->capture = paths[1] != NULL ? pcapfile_open(paths[side], opt_filter, error)
                                      : pcapfile_open_side(paths[0], opt_filter, side == 1, error);
    if (input->capture == NULL || !input_next(run, input, error))
        return FALSE;
    input->start_us = input->frame.time_us;
    return TRUE;
}

/* Of one capture of both VMs, times are times. */
static gboolean start_together(Run *run, const char *path, GError **error)
{
    Input *p = &run->inputs[0], *s = &run->inputs[1];

    if (p->frame.data == NULL && s->frame.data == NULL) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s has no frame to be compared of interfaces that are named PVM and "
                    "SVM, as files of 'colo capture' have: give two captures, one of each VM",
                    path);
        return FALSE;
    }
    if (p->frame.data == NULL)
        p->start_us = s->start_us;
    if (s->frame.data == NULL)
        s->start_us = p->start_us;
    p->start_us = s->start_us = MIN(p->start_us, s->start_us);
    return TRUE;
}

/* ---- Results ---- */

static guint key_hash(gconstpointer key)
{
    g_autoptr(GBytes) bytes = g_bytes_new_static(key, sizeof(CompareKey));
    return g_bytes_hash(bytes);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(CompareKey)) == 0;
}

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)epoch;
    (void)frame;
    (void)user_data;
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    Run *run = user_data;
    CompareDivergence *copy;

    if (divergence->reason == COMPARE_TABLE_FULL && divergence->key.ethertype == 0 &&
        divergence->key.kind == 0)
        run->incomplete = TRUE;
    else if (!g_hash_table_contains(run->divergences, &divergence->key)) {
        copy = g_memdup2(divergence, sizeof(*divergence));
        g_hash_table_insert(run->divergences, &copy->key, copy);
    }
}

static char *hex(const guint8 *bytes, guint len)
{
    GString *s = g_string_new(NULL);
    for (guint i = 0; i < len; i++)
        g_string_append_printf(s, i > 0 ? " %02x" : "%02x", bytes[i]);
    return g_string_free(s, FALSE);
}

static void print_side(const char *side, const guint8 *bytes, guint len)
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

static void print_text(const CompareFlowInfo *info, const CompareDivergence *d)
{
    g_autofree char *key = compare_key_to_string(&info->key);

    printf("%s: %" G_GUINT64_FORMAT " packets, secondary %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
           " bytes equal\n",
           key, info->primary_frames, info->secondary_frames, info->verified_bytes);
    if (d == NULL)
        return;
    printf("  DIFFERENT (%s) at %.6f s, offset %" G_GUINT64_FORMAT ": %s\n",
           compare_reason_name(d->reason), (gdouble)d->when.us / G_USEC_PER_SEC, d->offset,
           d->detail);
    print_side("primary", d->primary, d->primary_len);
    print_side("secondary", d->secondary, d->secondary_len);
    if (opt_explain)
        printf("    %s\n", explanations[d->reason]);
}

static void add_text(json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, json_object_new_string(text));
}

static void add_number(json_object *object, const char *name, guint64 number)
{
    json_object_object_add(object, name, json_object_new_uint64(number));
}

static void print_json(const CompareFlowInfo *info, const CompareDivergence *d)
{
    json_object *flow = json_object_new_object();
    g_autofree char *key = compare_key_to_string(&info->key);

    add_text(flow, "flow", key);
    add_number(flow, "primary-packets", info->primary_frames);
    add_number(flow, "secondary-packets", info->secondary_frames);
    add_number(flow, "verified-bytes", info->verified_bytes);
    if (d != NULL) {
        json_object *divergence = json_object_new_object();
        g_autofree char *primary = hex(d->primary, d->primary_len);
        g_autofree char *secondary = hex(d->secondary, d->secondary_len);
        add_text(divergence, "reason", compare_reason_name(d->reason));
        add_text(divergence, "detail", d->detail);
        add_number(divergence, "time-us", (guint64)d->when.us);
        add_number(divergence, "offset", d->offset);
        add_text(divergence, "primary", primary);
        add_text(divergence, "secondary", secondary);
        if (opt_explain)
            add_text(divergence, "explanation", explanations[d->reason]);
        json_object_object_add(flow, "divergence", divergence);
    }
    puts(json_object_to_json_string_ext(flow, JSON_C_TO_STRING_PLAIN));
    json_object_put(flow);
}

static void on_flow_ended(const CompareFlowInfo *info, gpointer user_data)
{
    Run *run = user_data;
    const CompareDivergence *d = g_hash_table_lookup(run->divergences, &info->key);

    if (run->failed)
        return;
    run->flows++;
    run->verified_bytes += info->verified_bytes;
    if (d != NULL)
        run->diverged++;
    (opt_json ? print_json : print_text)(info, d);
    g_hash_table_remove(run->divergences, &info->key);
}

static void print_summary(const Run *run)
{
    gboolean equal = run->diverged == 0 && !run->incomplete;

    for (int i = 0; i < 2; i++)
        if (run->inputs[i].truncated > 0)
            fprintf(stderr,
                    "colo-compare: %" G_GUINT64_FORMAT " frames of the %s's capture were cut short "
                    "when captured: capture whole frames (tcpdump -s 0)\n",
                    run->inputs[i].truncated, i == 0 ? "primary" : "secondary");
    if (run->incomplete)
        fprintf(stderr, "colo-compare: more than %u flows: not all were compared; use --filter\n",
                MAX_FLOWS);
    if (opt_json) {
        json_object *summary = json_object_new_object();
        json_object_object_add(summary, "equal", json_object_new_boolean(equal));
        add_number(summary, "flows", run->flows);
        add_number(summary, "diverged-flows", run->diverged);
        add_number(summary, "verified-bytes", run->verified_bytes);
        puts(json_object_to_json_string_ext(summary, JSON_C_TO_STRING_PLAIN));
        json_object_put(summary);
        return;
    }
    printf("%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " flows differ, %" G_GUINT64_FORMAT
           " bytes equal\n",
           equal ? "equal" : "different", run->diverged, run->flows, run->verified_bytes);
}

/* ---- The run ---- */

static void feed(Run *run, int side, ColoTime now)
{
    const PcapFrame *frame = &run->inputs[side].frame;
    const CompareStats *stats = compare_stats(run->compare);
    g_autoptr(GBytes) bytes = g_bytes_new(frame->data, frame->len);

    while (stats->held_bytes > MAX_HELD_BYTES / 2 && compare_give_up_oldest(run->compare, now))
        ;
    if (side == 0)
        compare_primary(run->compare, frame->nic, 0, bytes, now);
    else
        compare_secondary(run->compare, frame->nic, 0, bytes, now);
}

static gboolean compare_captures(Run *run, GError **error)
{
    Input *p = &run->inputs[0], *s = &run->inputs[1];
    ColoTime now = {0};

    while (p->frame.data != NULL || s->frame.data != NULL) {
        gint64 p_us = p->frame.data != NULL ? p->frame.time_us - p->start_us : G_MAXINT64;
        gint64 s_us = s->frame.data != NULL ? s->frame.time_us - s->start_us : G_MAXINT64;
        int side = p_us <= s_us ? 0 : 1;
        now.us = MAX(now.us, MIN(p_us, s_us)); /* a clock that was set back stands still */
        feed(run, side, now);
        if (!input_next(run, &run->inputs[side], error))
            return FALSE;
    }
    compare_finish(run->compare, FALSE, FALSE, now);
    return TRUE;
}

static gboolean run_on(Run *run, char **paths, GError **error)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .flow_ended = on_flow_ended};
    CompareOptions options;

    compare_options_init(&options);
    options.timeout_us = options.ack_timeout_us = 0;
    options.max_flows = MAX_FLOWS;
    options.max_held_bytes = MAX_HELD_BYTES;
    options.vnet_hdr = FALSE;
    options.offline = TRUE;
    options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
    if (!parse_guest(run, error))
        return FALSE;
    for (int i = 0; i < 2; i++)
        if (!input_open(run, i, paths, error))
            return FALSE;
    if (paths[1] == NULL && !start_together(run, paths[0], error))
        return FALSE;
    run->divergences = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
    run->compare = compare_new(&options, &actions, 0, (ColoTime){0}, run);
    return compare_captures(run, error);
}

static int parse_options(int *argc, char ***argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(
        "PRIMARY.pcap SECONDARY.pcap | BOTH.pcapng - compare what two VMs sent");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "colo-compare: %s (see colo-compare --help)\n", error->message);
        return EXIT_BAD_INPUT;
    }
    if (opt_version) {
        puts("colo-compare " COLO_VERSION);
        return EXIT_EQUAL;
    }
    if (*argc != 2 && *argc != 3) {
        fputs("colo-compare: two captures are needed, or one of 'colo capture': colo-compare "
              "[OPTION]... PRIMARY.pcap SECONDARY.pcap\n",
              stderr);
        return EXIT_BAD_INPUT;
    }
    return -1;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    Run run = {0};

    int status = parse_options(&argc, &argv);
    if (status >= 0)
        return status;
    run.failed = !run_on(&run, argv + 1, &error);
    g_clear_pointer(&run.compare, compare_free); /* prints the flows that are left */
    if (!run.failed) {
        print_summary(&run);
        status = run.diverged > 0 || run.incomplete ? EXIT_DIFFERENT : EXIT_EQUAL;
    } else {
        fprintf(stderr, "colo-compare: %s\n", error->message);
        status = EXIT_BAD_INPUT;
    }
    g_clear_pointer(&run.divergences, g_hash_table_unref);
    pcapfile_free(run.inputs[0].capture);
    pcapfile_free(run.inputs[1].capture);
    return status;
}
