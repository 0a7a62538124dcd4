/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts, and describes what it has counted. */
#include "colo/node/figures.h"

#include "common/json.h"
#include "common/stats.h"

/* What a transfer counts when the next one has come. */
#define LATE_KEPT 0.8

struct Figures {
    ColoTime started;
    guint64 checkpoints, by_reason[REASONS];
    guint64 bytes_last, bytes_total;
    guint64 plain_last, plain_total; /* likewise, had nothing been compressed */
    gboolean has_codec;
    PackCodec codec;            /* of the primary's last one */
    double late_bytes, late_us; /* of the last transfers, the older the less; not compressed */
    Stats *pauses, *transfers, *applies;
    Stats *stood, *resumes, *loads; /* parts of a pause, here and there */
    ColoTime applied;               /* the last one; 0: none, or it is loaded */
    Blocktime blocktime;
    ColoTime copy_paused; /* when the VM was paused that a takeover resumes */
    ColoTime primary_lost;
    FiguresCause cause;
    guint64 takeovers;
    struct {
        guint64 epoch;
        gint64 took_us;
        FiguresCause cause;
    } last; /* if there was one */
};

static void add_bytes(Figures *figures, guint64 bytes, guint64 plain_bytes, gint64 transfer_us)
{
    figures->checkpoints++;
    figures->bytes_last = bytes;
    figures->bytes_total += bytes;
    figures->plain_last = plain_bytes;
    figures->plain_total += plain_bytes;
    stats_add(figures->transfers, transfer_us);
}

static void add_rate(Figures *figures, guint64 plain_bytes, gint64 us)
{
    figures->late_bytes = figures->late_bytes * LATE_KEPT + (double)plain_bytes;
    figures->late_us = figures->late_us * LATE_KEPT + (double)MAX(us, 1);
}

void figures_add_checkpoint(Figures *figures, const FiguresCheckpoint *checkpoint)
{
    figures->by_reason[checkpoint->reason]++;
    stats_add(figures->pauses, checkpoint->pause_us);
    stats_add(figures->stood, checkpoint->stood_us);
    stats_add(figures->resumes, checkpoint->pause_us - checkpoint->stood_us);
    figures->has_codec = TRUE;
    figures->codec = checkpoint->codec;
    add_bytes(figures, checkpoint->bytes, checkpoint->plain_bytes, checkpoint->transfer_us);
    add_rate(figures, checkpoint->rest_bytes, checkpoint->rest_us);
}

void figures_add_received(Figures *figures, guint64 bytes, guint64 plain_bytes, gint64 transfer_us)
{
    figures->has_codec = FALSE;
    add_bytes(figures, bytes, plain_bytes, transfer_us);
    add_rate(figures, plain_bytes, transfer_us);
}

void figures_add_applied(Figures *figures, gint64 apply_us)
{
    stats_add(figures->applies, apply_us);
    figures->applied = colo_time_now();
}

gint64 figures_checkpoint_us(const Figures *figures)
{
    double ms = stats_p50_ms(figures->pauses) + stats_p50_ms(figures->transfers);
    return (gint64)(ms * COLO_US_PER_MS);
}

gint64 figures_bytes_per_s(const Figures *figures)
{
    return figures->late_us > 0 ? (gint64)(figures->late_bytes / figures->late_us * G_USEC_PER_SEC)
                                : 0;
}

/* A VM is resumed there as it is here, as far as is known. */
void figures_add_loaded(Figures *figures, gboolean resumed)
{
    gint64 resume_us = resumed ? 0 : stats_percentile_us(figures->resumes, 50);
    if (figures->applied.us)
        stats_add(figures->loads, colo_time_diff_us(colo_time_now(), figures->applied) + resume_us);
    figures->applied = (ColoTime){0};
}

gint64 figures_stood_us(const Figures *figures)
{
    return stats_percentile_us(figures->stood, 50);
}

gint64 figures_land_us(const Figures *figures)
{
    return stats_percentile_us(figures->applies, 50) + stats_percentile_us(figures->loads, 50);
}

guint64 figures_checkpoints(const Figures *figures)
{
    return figures->checkpoints;
}

guint64 figures_checkpoints_by(const Figures *figures, CheckpointReason reason)
{
    return figures->by_reason[reason];
}

void figures_add_pause(Figures *figures, ColoTime from, ColoTime until)
{
    blocktime_add(&figures->blocktime, from, until);
}

void figures_copy_paused(Figures *figures, ColoTime since)
{
    figures->copy_paused = since;
}

void figures_copy_resumed(Figures *figures)
{
    figures_add_pause(figures, figures->copy_paused, colo_time_now());
}

const Blocktime *figures_blocktime(const Figures *figures)
{
    return &figures->blocktime;
}

void figures_forget_vm(Figures *figures)
{
    figures->blocktime = (Blocktime){0};
}

void figures_primary_lost(Figures *figures, FiguresCause cause)
{
    figures->primary_lost = colo_time_now();
    figures->cause = cause;
}

gint64 figures_add_takeover(Figures *figures, guint64 epoch)
{
    figures->takeovers++;
    figures->last.epoch = epoch;
    figures->last.took_us = colo_time_diff_us(colo_time_now(), figures->primary_lost);
    figures->last.cause = figures->cause;
    return figures->last.took_us;
}

gint64 figures_takeover_us(const Figures *figures)
{
    return figures->last.took_us;
}

guint64 figures_takeovers(const Figures *figures)
{
    return figures->takeovers;
}

/* ---- Status ---- */

static void add_ms(json_object *parent, const char *name, const Stats *stats)
{
    json_object *object = colo_json_add_object(parent, name);
    json_object_object_add(object, "p50", json_object_new_double(stats_p50_ms(stats)));
    json_object_object_add(object, "p99", json_object_new_double(stats_p99_ms(stats)));
    json_object_object_add(object, "max", json_object_new_double(stats_max_ms(stats)));
}

void figures_describe_checkpoints(const Figures *figures, json_object *status)
{
    json_object *checkpoints = colo_json_add_object(status, "checkpoints");
    colo_json_add_int(checkpoints, "total", figures->checkpoints);
    json_object *reasons = colo_json_add_object(checkpoints, "by-reason");
    for (CheckpointReason reason = 0; reason < REASONS; reason++)
        colo_json_add_int(reasons, schedule_reason_name(reason), figures->by_reason[reason]);
    add_ms(status, "pause-ms", figures->pauses);
    add_ms(status, "transfer-ms", figures->transfers);
    add_ms(status, "apply-ms", figures->applies);
}

void figures_describe_bytes(const Figures *figures, json_object *status)
{
    json_object *bytes = colo_json_add_object(status, "bytes");
    colo_json_add_int(bytes, "last", figures->bytes_last);
    colo_json_add_int(bytes, "total", figures->bytes_total);
    colo_json_add_int(bytes, "plain-last", figures->plain_last);
    colo_json_add_int(bytes, "plain-total", figures->plain_total);
    colo_json_add_string(bytes, "compress",
                         figures->has_codec ? pack_codec_name(figures->codec) : NULL);
}

void figures_describe_takeover(const Figures *figures, json_object *data)
{
    static const char *const causes[FIGURES_CAUSES] = {[FIGURES_LOST] = "lost",
                                                       [FIGURES_FAILOVER] = "failover",
                                                       [FIGURES_SWITCHOVER] = "switchover"};
    double took_ms = (double)figures->last.took_us / COLO_US_PER_MS;
    json_object_object_add(data, "epoch", json_object_new_int64((gint64)figures->last.epoch));
    json_object_object_add(data, "duration-ms", json_object_new_double(took_ms));
    json_object_object_add(data, "cause", json_object_new_string(causes[figures->last.cause]));
}

void figures_describe_life(const Figures *figures, json_object *status)
{
    gint64 up_us = colo_time_diff_us(colo_time_now(), figures->started);
    colo_json_add_int(status, "takeovers", figures->takeovers);
    if (figures->takeovers > 0)
        figures_describe_takeover(figures, colo_json_add_object(status, "last-takeover"));
    else
        json_object_object_add(status, "last-takeover", NULL);
    colo_json_add_int(status, "uptime-s", up_us / G_USEC_PER_SEC);
}

void figures_describe_blocktime(const Figures *figures, json_object *blocktime)
{
    const Blocktime *sums = &figures->blocktime;
    colo_json_add_int(blocktime, "total-ms", sums->total_us / COLO_US_PER_MS);
    colo_json_add_int(blocktime, "longest-ms", sums->longest_us / COLO_US_PER_MS);
    json_object_object_add(blocktime, "share",
                           json_object_new_double(blocktime_share(sums, colo_time_now())));
}

/* ---- Life ---- */

Figures *figures_new(void)
{
    Figures *figures = g_new0(Figures, 1);
    figures->started = colo_time_now();
    figures->pauses = stats_new();
    figures->stood = stats_new();
    figures->resumes = stats_new();
    figures->loads = stats_new();
    figures->transfers = stats_new();
    figures->applies = stats_new();
    return figures;
}

void figures_free(Figures *figures)
{
    if (!figures)
        return;
    stats_free(figures->pauses);
    stats_free(figures->stood);
    stats_free(figures->resumes);
    stats_free(figures->loads);
    stats_free(figures->transfers);
    stats_free(figures->applies);
    g_free(figures);
}
