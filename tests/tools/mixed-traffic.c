/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the test guest that does everything at once and checks every byte: mixed-traffic
 * [OPTION...] (tests/support/mix.h). Runs until SIGTERM or SIGINT. Lines of JSON on standard
 * output: the first says that it has begun; SIGUSR1 prints the figures up to now; the last one is
 * the verdict. SIGUSR2 tells it that a takeover comes: from here on a new gap is measured
 * (gap_since_ms), `silent` names the kinds that have not gone on since, and datagrams may be lost
 * for a moment. Ends with 0 if nothing was lost, doubled, changed or broken, and every kind has
 * done something, with 1 otherwise, with 2 if it could not begin.
 */
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "tests/support/mix.h"

static struct {
    char *kinds, *guest, *guest6, *self, *self6;
    double every_ms, bulk_mb, bulk_mbit;
    int record_bytes, patience_s, excuse_ms, may_lose;
} options = {
    .every_ms = 20, .bulk_mb = 100, .record_bytes = 64, .patience_s = 60, .excuse_ms = 500};

static const GOptionEntry entries[] = {
    {"kinds",        0, 0, G_OPTION_ARG_STRING, &options.kinds,        "which [all]",                           "NAME,..."},
    {"guest",        0, 0, G_OPTION_ARG_STRING, &options.guest,        "the guest's IPv4 address [10.77.0.10]",
     "IP"                                                                                                                 },
    {"guest6",       0, 0, G_OPTION_ARG_STRING, &options.guest6,       "its IPv6 address [fd77::10]",           "IP"      },
    {"self",         0, 0, G_OPTION_ARG_STRING, &options.self,         "where the guest dials [10.77.0.1]",     "IP"      },
    {"self6",        0, 0, G_OPTION_ARG_STRING, &options.self6,        "and over IPv6 [fd77::1]",               "IP"      },
    {"every-ms",     0, 0, G_OPTION_ARG_DOUBLE, &options.every_ms,
     "pause of each kind between two [20]",                                                                     "N"       },
    {"record-bytes", 0, 0, G_OPTION_ARG_INT,    &options.record_bytes, "of the echo kinds [64]",                "N"       },
    {"bulk-mb",      0, 0, G_OPTION_ARG_DOUBLE, &options.bulk_mb,      "of one bulk transfer [100]",            "N"       },
    {"bulk-mbit",    0, 0, G_OPTION_ARG_DOUBLE, &options.bulk_mbit,
     "Mbit/s of each bulk kind [all there are]",                                                                "N"       },
    {"patience-s",   0, 0, G_OPTION_ARG_INT,    &options.patience_s,
     "what stands still so long has failed [60]",                                                               "N"       },
    {"excuse-ms",    0, 0, G_OPTION_ARG_INT,    &options.excuse_ms,
     "datagrams may be lost so long after SIGHUP [500]",                                                        "N"       },
    {"may-lose",     0, 0, G_OPTION_ARG_INT,    &options.may_lose,
     "percent of the datagrams that any network may lose [0]",                                                  "N"       },
    {NULL,           0, 0, G_OPTION_ARG_NONE,   NULL,                  NULL,                                    NULL      },
};

/* Three decimals will do. */
static void add_ms(json_object *object, const char *name, gint64 us)
{
    g_autofree char *text =
        g_strdup_printf("%" G_GINT64_FORMAT ".%03u", us / 1000, (guint)(us % 1000));

    json_object_object_add(object, name, json_object_new_double_s((double)us / 1000, text));
}

static json_object *describe_kind(const MixFigures *figures)
{
    json_object *kind = json_object_new_object();

    colo_json_add_int(kind, "done", figures->done);
    colo_json_add_int(kind, "bytes", figures->bytes);
    colo_json_add_int(kind, "lost", figures->lost);
    colo_json_add_int(kind, "duplicated", figures->duplicated);
    colo_json_add_int(kind, "corrupted", figures->corrupted);
    colo_json_add_int(kind, "failed", figures->failed);
    if (figures->datagrams) {
        colo_json_add_int(kind, "excused_lost", figures->excused_lost);
        colo_json_add_int(kind, "excused_duplicated", figures->excused_duplicated);
    }
    add_ms(kind, "gap_ms", figures->gap_us);
    add_ms(kind, "gap_since_ms", figures->gap_since_us);
    json_object_object_add(
        kind, "error", figures->error[0] != '\0' ? json_object_new_string(figures->error) : NULL);
    return kind;
}

/* A guest that gets no CPU for a while has no room for what comes, and QEMU drops it. */
static gboolean may_be_lost(const MixFigures *figures)
{
    return figures->datagrams &&
           figures->lost * 100 <= (guint64)options.may_lose * (figures->done + figures->lost);
}

/* Prints all figures; TRUE if all is well up to now. `last`: every kind must have done something.
 */
static gboolean print_figures(const Mix *mix, ColoTime start, gboolean last)
{
    json_object *line = json_object_new_object(), *kinds = json_object_new_object();
    g_autoptr(GString) silent = g_string_new(NULL);
    guint64 lost = 0, duplicated = 0, corrupted = 0, failed = 0;
    gboolean good;

    for (guint i = 0; i < mix_lanes(mix); i++) {
        MixFigures figures;

        mix_peek(mix, i, &figures);
        if (!may_be_lost(&figures))
            lost += figures.lost;
        duplicated += figures.duplicated;
        corrupted += figures.corrupted;
        failed += figures.failed;
        if (last ? figures.done == 0 : !figures.went_on)
            g_string_append_printf(silent, "%s%s", silent->len > 0 ? " " : "", figures.kind);
        json_object_object_add(kinds, figures.kind, describe_kind(&figures));
    }
    good = lost + duplicated + corrupted + failed == 0 && (!last || silent->len == 0);
    add_ms(line, "ms", colo_time_diff_us(colo_time_now(), start));
    colo_json_add_bool(line, "good", good);
    colo_json_add_int(line, "lost", lost);
    colo_json_add_int(line, "duplicated", duplicated);
    colo_json_add_int(line, "corrupted", corrupted);
    colo_json_add_int(line, "failed", failed);
    colo_json_add_string(line, "silent", silent->str);
    json_object_object_add(line, "kinds", kinds);
    puts(json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
    fflush(stdout);
    json_object_put(line);
    return good;
}

static gboolean start_lanes(Mix *mix)
{
    g_auto(GStrv) wanted = options.kinds != NULL ? g_strsplit(options.kinds, ",", -1)
                                                 : g_strdupv((char **)mix_kinds());

    for (guint i = 0; wanted[i] != NULL; i++) {
        if (!mix_start_lane(mix, wanted[i])) {
            g_autofree char *known = g_strjoinv(",", (char **)mix_kinds());
            fprintf(stderr, "mixed-traffic: no kind %s; there are %s\n", wanted[i], known);
            return FALSE;
        }
    }
    return TRUE;
}

/* Until SIGTERM or SIGINT. */
static void obey_signals(int signals, Mix *mix, ColoTime start)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGUSR2)
            mix_event(mix);
        else if (info.ssi_signo == SIGHUP)
            mix_watch(mix);
        else if (info.ssi_signo == SIGUSR1)
            print_figures(mix, start, FALSE);
        else
            return;
    }
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    MixOptions mix_options = {0};
    Mix *mix;
    ColoTime start;
    gboolean good;
    sigset_t set;
    int signals, result;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 1 ||
        options.record_bytes % 8 != 0 || options.record_bytes < 32 ||
        options.record_bytes > 65536) {
        fprintf(stderr, "mixed-traffic: %s\n",
                error != NULL ? error->message
                              : "no arguments; records of 32 to 65536 bytes in eights");
        return 2;
    }
    /* Before any thread is made, so that none of them takes a signal. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    mix_options = (MixOptions){.guest = options.guest != NULL ? options.guest : "10.77.0.10",
                               .guest6 = options.guest6 != NULL ? options.guest6 : "fd77::10",
                               .self = options.self != NULL ? options.self : "10.77.0.1",
                               .self6 = options.self6 != NULL ? options.self6 : "fd77::1",
                               .interval_us = (gint64)(options.every_ms * COLO_US_PER_MS),
                               .bulk_bytes = (guint64)(options.bulk_mb * 1e6),
                               .bulk_rate = (guint64)(options.bulk_mbit * 1e6 / 8),
                               .record_bytes = (guint)options.record_bytes,
                               .patience_s = (guint)options.patience_s,
                               .excuse_us = options.excuse_ms * COLO_US_PER_MS};
    mix = mix_new(&mix_options);
    start = colo_time_now();
    good = start_lanes(mix);
    if (good) {
        puts("{\"begun\":true}");
        fflush(stdout);
        obey_signals(signals, mix, start);
    }
    mix_stop(mix);
    result = !good ? 2 : print_figures(mix, start, TRUE) ? 0 : 1;
    mix_free(mix);
    close(signals);
    return result;
}
