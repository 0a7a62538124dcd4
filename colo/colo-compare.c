/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo-compare: the packet comparator on two captures, of what two VMs sent. Tells where they
 * differ, and why; also on one file of `colo capture`, which has both. They are read side by side,
 * each frame at its time after the first one of its own capture, and never held in memory as a
 * whole. When too much waits, the flow that has waited longest is given up.
 *
 * Exit status: 0 equal, 1 different, 2 bad input or use, 3 there was no room to tell.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "colo/cli/cli.h"
#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "netcompare/pcapfile.h"

#define MEMORY_LIMIT_MIB 1024
#define MEMORY_MIN_MIB   1
#define MEMORY_MAX_MIB   (1 << 20)

enum { EXIT_EQUAL, EXIT_DIFFERENT, EXIT_BAD_INPUT, EXIT_UNKNOWN };

static gboolean opt_json, opt_explain, opt_quiet, opt_verbose, opt_version;
static char *opt_guest_mac, *opt_guest_ip, *opt_filter;
static gint opt_memory_limit = MEMORY_LIMIT_MIB;

static const GOptionEntry entries[] = {
    {"guest-mac",    0,   0, G_OPTION_ARG_STRING, &opt_guest_mac,
     "Compare only frames sent by this address",                                                           "MAC"},
    {"guest-ip",     0,   0, G_OPTION_ARG_STRING, &opt_guest_ip,
     "Compare only packets sent by this IPv4 or IPv6 address",                                             "IP" },
    {"filter",       0,   0, G_OPTION_ARG_STRING, &opt_filter,
     "Compare only frames that this pcap-filter(7) expression matches",                                    "BPF"},
    {"verbose",      'v', 0, G_OPTION_ARG_NONE,   &opt_verbose,      "Print equal flows too",              NULL },
    {"quiet",        'q', 0, G_OPTION_ARG_NONE,   &opt_quiet,
     "Print nothing but errors; the exit status is the result",                                            NULL },
    {"json",         0,   0, G_OPTION_ARG_NONE,   &opt_json,         "Print JSON, one object a line",      NULL },
    {"explain",      0,   0, G_OPTION_ARG_NONE,   &opt_explain,      "Explain what each difference means", NULL },
    {"memory-limit", 0,   0, G_OPTION_ARG_INT,    &opt_memory_limit,
     "For flows, and for frames that wait, half each (1024)",                                              "MIB"},
    {"version",      0,   0, G_OPTION_ARG_NONE,   &opt_version,      "Print the version",                  NULL },
    {NULL,           0,   0, 0,                   NULL,              NULL,                                 NULL },
};

typedef struct {
    PcapFile *capture;
    PcapFrame frame; /* not yet given to the comparator; data NULL: the end */
    gint64 start_us; /* of its first frame */
    guint64 n_frames, n_cut;
} Input;

typedef struct {
    Compare *compare;
    Input inputs[2];
    guint8 mac[6], ip[16];
    GHashTable *divergences; /* CompareKey -> CompareDivergence: each flow's first */
    ReportStyle style;
    ReportSummary summary;
    gboolean one_file;
    gboolean failed; /* flows are of no use to anybody any more */
    /* The first frame's addresses; has any frame gone the other way? */
    guint8 first_addresses[12];
    gboolean has_first, both_ways;
} Run;

static const char *const sides[] = {"primary", "secondary"};

static void warning(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void warning(const char *format, ...)
{
    va_list args;

    if (opt_quiet)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "colo-compare: %s\n", text);
}

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
    packet_parse_captured(frame->data, frame->len, frame->wire_len, 0, &packet);
    return packet.key.kind != COMPARE_KIND_OPAQUE && packet.key.kind != COMPARE_KIND_ETHERNET &&
           memcmp(packet.key.src, run->ip, 16) == 0;
}

/* A tap without a filter: what clients have sent is compared too. */
static void watch_direction(Run *run, const PcapFrame *frame)
{
    const guint8 *to = run->first_addresses, *from = to + 6;

    if (run->both_ways || frame->len < 12 || (frame->data[0] & 1) != 0)
        return; /* also of broadcasts */
    if (!run->has_first)
        memcpy(run->first_addresses, frame->data, 12);
    run->has_first = TRUE;
    run->both_ways = memcmp(frame->data, from, 6) == 0 && memcmp(frame->data + 6, to, 6) == 0;
}

/* Goes to the next frame of the guest. */
static gboolean input_next(Run *run, Input *input, GError **error)
{
    do {
        if (!pcapfile_next(input->capture, &input->frame, error))
            return FALSE;
    } while (input->frame.data != NULL && !is_guests(run, &input->frame));
    if (input->frame.data == NULL)
        return TRUE;
    input->n_frames++;
    input->n_cut += input->frame.len < input->frame.wire_len;
    watch_direction(run, &input->frame);
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
static void start_together(Run *run)
{
    Input *p = &run->inputs[0], *s = &run->inputs[1];

    if (p->frame.data == NULL)
        p->start_us = s->start_us;
    if (s->frame.data == NULL)
        s->start_us = p->start_us;
    p->start_us = s->start_us = MIN(p->start_us, s->start_us);
}

/* "--guest-mac M and --filter F"; NULL: all frames are wanted. */
static char *wanted(void)
{
    const char *const names[] = {"--guest-mac", "--guest-ip", "--filter"};
    const char *const values[] = {opt_guest_mac, opt_guest_ip, opt_filter};
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (values[i] != NULL)
            g_string_append_printf(text, "%s%s '%s'", text->len > 0 ? " and " : "", names[i],
                                   values[i]);
    return g_string_free(text, text->len == 0);
}

static char *describe_empty(const Input *input)
{
    g_autofree char *filter = wanted();
    guint64 n = pcapfile_frames(input->capture);

    if (n == 0)
        return g_strdup_printf("%s has no frames", pcapfile_name(input->capture));
    return g_strdup_printf("of the %" G_GUINT64_FORMAT " frames of %s none passes %s", n,
                           pcapfile_name(input->capture), filter != NULL ? filter : "");
}

/* Nothing is equal to nothing. */
static gboolean has_frames(const Run *run, GError **error)
{
    const Input *p = &run->inputs[0], *s = &run->inputs[1];
    gboolean one_file = run->one_file;
    gboolean filtered = opt_filter != NULL || opt_guest_ip != NULL || opt_guest_mac != NULL;

    if (p->n_frames > 0 && s->n_frames > 0)
        return TRUE;
    if (one_file && !filtered && pcapfile_frames(p->capture) > 0 &&
        p->n_frames + s->n_frames == 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s has no frame to be compared of interfaces that are named PVM and "
                    "SVM, as files of 'colo capture' have: give two captures, one of each VM",
                    pcapfile_name(p->capture));
        return FALSE;
    }
    g_autofree char *p_text = describe_empty(p), *s_text = describe_empty(s);
    if (p->n_frames == 0 && s->n_frames == 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN, "no frame to be compared: %s%s%s",
                    p_text, one_file ? "" : "; ", one_file ? "" : s_text);
        return FALSE;
    }
    const char *none = p->n_frames > 0 ? s_text : p_text;
    if (pcapfile_is_cut_short(p->n_frames > 0 ? s->capture : p->capture)) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "no frame to be compared: %s, and is cut short", none);
        return FALSE;
    }
    warning("the %s's capture has no frame to be compared: %s", sides[p->n_frames > 0], none);
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

    if (g_hash_table_contains(run->divergences, &divergence->key))
        return;
    CompareDivergence *copy = g_memdup2(divergence, sizeof(*divergence));
    g_hash_table_insert(run->divergences, &copy->key, copy);
}

/* A flow that found no room to the end is different if one side has nothing of it at all. */
static ReportVerdict judge(const CompareFlowInfo *info, const CompareDivergence *d)
{
    if (d != NULL && d->reason == COMPARE_TABLE_FULL)
        return info->primary_frames == 0 || info->secondary_frames == 0 ? REPORT_DIFFERENT
                                                                        : REPORT_UNKNOWN;
    if (d != NULL)
        return REPORT_DIFFERENT;
    return info->unseen_bytes > 0 ? REPORT_CUT_OFF : REPORT_EQUAL;
}

static void on_flow_ended(const CompareFlowInfo *info, gpointer user_data)
{
    Run *run = user_data;
    ReportSummary *summary = &run->summary;
    const CompareDivergence *d = g_hash_table_lookup(run->divergences, &info->key);
    ReportVerdict verdict = judge(info, d);

    if (run->failed)
        return;
    summary->flows++;
    summary->by_verdict[verdict]++;
    summary->verified_bytes += info->verified_bytes;
    summary->unseen_bytes += info->unseen_bytes;
    summary->skipped_bytes += info->skipped_bytes;
    if (!opt_quiet && (opt_verbose || verdict != REPORT_EQUAL))
        report_flow(&run->style, info, verdict, d);
    g_hash_table_remove(run->divergences, &info->key);
}

static void sum_up(Run *run, const CompareStats *stats)
{
    ReportSummary *summary = &run->summary;
    guint64 beheaded = 0;

    for (int i = 0; i < 2; i++) {
        summary->frames[i] = run->inputs[i].n_frames;
        summary->cut_frames[i] = run->inputs[i].n_cut;
        summary->unparsed_frames[i] = stats->unparsed_frames[i];
        summary->cut_short[i] = pcapfile_is_cut_short(run->inputs[i].capture);
        beheaded += stats->beheaded_frames[i];
    }
    summary->uncompared_frames = stats->uncompared_frames;
    if (summary->by_verdict[REPORT_DIFFERENT] > 0)
        summary->verdict = REPORT_DIFFERENT;
    else if (summary->by_verdict[REPORT_CUT_OFF] > 0 || beheaded > 0)
        summary->verdict = REPORT_CUT_OFF;
    else if (summary->by_verdict[REPORT_UNKNOWN] > 0 || stats->uncompared_frames > 0)
        summary->verdict = REPORT_UNKNOWN;
}

static void warn(const Run *run)
{
    const ReportSummary *summary = &run->summary;

    for (int i = 0; i < 2; i++) {
        const PcapFile *capture = run->inputs[i].capture;
        if (summary->cut_frames[i] > 0)
            warning("%" G_GUINT64_FORMAT " frames of the %s's capture were cut when captured: "
                    "capture whole frames (tcpdump -s 0)",
                    summary->cut_frames[i], sides[i]);
        if (summary->cut_short[i] && !(run->one_file && i == 1))
            warning("the %s's capture %s is cut short after frame %" G_GUINT64_FORMAT
                    ": compared as far as it goes",
                    sides[i], pcapfile_name(capture), pcapfile_frames(capture));
    }
    if (summary->skipped_bytes > 0)
        warning("%" G_GUINT64_FORMAT " bytes are in neither capture", summary->skipped_bytes);
    if (summary->uncompared_frames > 0)
        warning("%" G_GUINT64_FORMAT " frames were not compared, for want of room for their flows: "
                "use --filter or --memory-limit",
                summary->uncompared_frames);
    if (run->both_ways && opt_guest_mac == NULL && opt_guest_ip == NULL)
        warning("the captures have frames of both directions: --guest-mac ADDRESS compares only "
                "what the guest has sent");
}

/* ---- The run ---- */

static void feed(Run *run, int side, ColoTime now)
{
    const PcapFrame *frame = &run->inputs[side].frame;
    const CompareStats *stats = compare_stats(run->compare);
    const CompareOrigin origin = {.number = frame->number, .time_us = frame->time_us};
    g_autoptr(GBytes) bytes = g_bytes_new(frame->data, frame->len);
    gsize limit = ((gsize)opt_memory_limit << 20) / 2;

    while (stats->held_bytes > limit && compare_give_up_oldest(run->compare, now))
        ;
    compare_captured(run->compare, side == 1, frame->nic, bytes, frame->wire_len, &origin, now);
}

static gboolean compare_captures(Run *run, GError **error)
{
    Input *p = &run->inputs[0], *s = &run->inputs[1];
    ColoTime now = {0};

    while (p->frame.data != NULL || s->frame.data != NULL) {
        gint64 p_us = p->frame.data != NULL ? p->frame.time_us - p->start_us : G_MAXINT64;
        gint64 s_us = s->frame.data != NULL ? s->frame.time_us - s->start_us : G_MAXINT64;
        int side = p_us <= s_us ? 0 : 1;
        now.us = MAX(now.us, MIN(p_us, s_us)); /* a clock that was set back stops */
        feed(run, side, now);
        if (!input_next(run, &run->inputs[side], error))
            return FALSE;
    }
    compare_finish(run->compare, pcapfile_is_cut_short(p->capture),
                   pcapfile_is_cut_short(s->capture), now);
    return TRUE;
}

static void start(Run *run)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .flow_ended = on_flow_ended};
    CompareOptions options;

    compare_options_init(&options);
    options.timeout_us = options.ack_timeout_us = 0;
    options.max_flows = (guint)(((gsize)opt_memory_limit << 20) / 2 / COMPARE_FLOW_BYTES);
    options.vnet_hdr = FALSE;
    options.offline = TRUE;
    options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
    run->divergences = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
    run->compare = compare_new(&options, &actions, 0, (ColoTime){0}, run);
}

/* `paths`: one or two, and NULL. */
static gboolean run_on(Run *run, char **paths, GError **error)
{
    g_autofree char *spooled = NULL;

    run->one_file = paths[1] == NULL;
    if (!parse_guest(run, error))
        return FALSE;
    if (run->one_file && strcmp(paths[0], "-") == 0 && (spooled = pcapfile_spool(error)) == NULL)
        return FALSE;
    char *both[] = {spooled, NULL};
    for (int i = 0; i < 2; i++)
        if (!input_open(run, i, spooled != NULL ? both : paths, error))
            return FALSE;
    if (!has_frames(run, error))
        return FALSE;
    if (run->one_file)
        start_together(run);
    start(run);
    return compare_captures(run, error);
}

static int complain(const char *what)
{
    fprintf(stderr, "colo-compare: %s (see colo-compare --help)\n", what);
    return EXIT_BAD_INPUT;
}

static int parse_options(int *argc, char ***argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(
        "PRIMARY.pcap SECONDARY.pcap | BOTH.pcapng - compare what two VMs sent");
    g_autoptr(GError) error = NULL;

    g_option_context_set_description(
        context,
        "'-' is standard input; gzip and zstd files are read too.\n"
        "Exit status: 0 equal, 1 different, 2 wrong use or captures, or frames were cut so "
        "that it can't be told,\n3 there was no room to tell. See colo-compare(1).");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error))
        return complain(error->message);
    if (opt_version) {
        puts("colo-compare " COLO_VERSION);
        return EXIT_EQUAL;
    }
    if (opt_quiet && opt_verbose)
        return complain("--quiet and --verbose contradict each other");
    if (opt_memory_limit < MEMORY_MIN_MIB || opt_memory_limit > MEMORY_MAX_MIB)
        return complain("--memory-limit: from 1 to 1048576 MiB");
    if (*argc != 2 && *argc != 3)
        return complain("two captures are needed, or one of 'colo capture': colo-compare "
                        "[OPTION]... PRIMARY.pcap SECONDARY.pcap");
    if (*argc == 3 && strcmp((*argv)[1], "-") == 0 && strcmp((*argv)[2], "-") == 0)
        return complain("standard input can be only one of the captures");
    return -1;
}

/* A report that could not be written is an error. */
static int close_output(int status)
{
    gboolean failed = ferror(stdout) != 0;

    if (fflush(stdout) == 0 && !failed)
        return status;
    fprintf(stderr, "colo-compare: the result can't be written: %s\n", g_strerror(errno));
    return EXIT_BAD_INPUT;
}

int main(int argc, char **argv)
{
    static const int statuses[] = {[REPORT_EQUAL] = EXIT_EQUAL,
                                   [REPORT_DIFFERENT] = EXIT_DIFFERENT,
                                   [REPORT_CUT_OFF] = EXIT_BAD_INPUT,
                                   [REPORT_UNKNOWN] = EXIT_UNKNOWN};
    g_autoptr(GError) error = NULL;
    Run run = {0};

    int status = parse_options(&argc, &argv);
    if (status >= 0)
        return close_output(status);
    run.style = (ReportStyle){.json = opt_json, .explain = opt_explain};
    run.failed = !run_on(&run, argv + 1, &error);
    CompareStats stats = run.compare != NULL ? *compare_stats(run.compare) : (CompareStats){0};
    g_clear_pointer(&run.compare, compare_free); /* prints the flows that are left */
    if (!run.failed) {
        sum_up(&run, &stats);
        warn(&run);
        if (!opt_quiet)
            report_summary(&run.style, &run.summary);
        status = statuses[run.summary.verdict];
    } else {
        fprintf(stderr, "colo-compare: %s\n", error->message);
        status = EXIT_BAD_INPUT;
    }
    g_clear_pointer(&run.divergences, g_hash_table_unref);
    pcapfile_free(run.inputs[0].capture);
    pcapfile_free(run.inputs[1].capture);
    return close_output(status);
}
