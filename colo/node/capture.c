/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Differences between the two VMs, as administrators get them: events, status and files. */
#include "colo/node/node_internal.h"
#include "common/log.h"

void node_divergence(Node *node, const CompareDivergence *divergence)
{
    gint64 ago_us = colo_time_diff_us(colo_time_now(), divergence->when);
    json_object *event =
        divergence_log_add(&node->divergences, divergence, g_get_real_time() - ago_us);
    if (event) {
        g_autofree char *flow = compare_key_to_string(&divergence->key);
        log_info("the VMs differ (%s): %s: %s", compare_reason_name(divergence->reason), flow,
                 divergence->detail);
        node_emit(node, "DIVERGED", event);
    }
    if (node->recorder)
        recorder_diverged(node->recorder, divergence);
}

static void on_written(const char *path, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (error) {
        node_report(node, "captures are off", error);
        g_clear_pointer(&node->recorder, recorder_free);
        return;
    }
    json_object *data = json_object_new_object();
    json_object_object_add(data, "file", json_object_new_string(path));
    node_emit(node, "CAPTURED", data);
}

void recording_flush(Node *node)
{
    if (node->recorder)
        recorder_flush(node->recorder);
}

void recording_add_status(const Node *node, json_object *status)
{
    if (!node->recorder) {
        json_object_object_add(status, "capture", NULL);
        return;
    }
    const RecorderStats *stats = recorder_stats(node->recorder);
    json_object *capture = json_object_new_object();
    json_object_object_add(capture, "file", json_object_new_string(recorder_file(node->recorder)));
    json_object_object_add(capture, "last",
                           json_object_new_int((int)recorder_last(node->recorder)));
    json_object_object_add(capture, "written", json_object_new_int64((gint64)stats->written));
    json_object_object_add(capture, "left-out", json_object_new_int64((gint64)stats->left_out));
    json_object_object_add(status, "capture", capture);
}

void recording_finalise(Node *node)
{
    g_clear_pointer(&node->recorder, recorder_free);
}

void do_capture_on(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Node *node = user_data;
    const char *file = json_object_get_string(json_object_object_get(arguments, "file"));
    json_object *number = json_object_object_get(arguments, "last");
    gint64 last = number ? json_object_get_int64(number) : RECORDER_LAST_DEFAULT;
    g_autoptr(GError) error = NULL;
    if (last < 1 || last > RECORDER_LAST_MAX) {
        error =
            g_error_new(CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                        "last: %" G_GINT64_FORMAT " is not from 1 to %u", last, RECORDER_LAST_MAX);
        control_fail(request, error);
        return;
    }
    Recorder *recorder = recorder_new(file, (guint)last, on_written, node, &error);
    if (!recorder) {
        control_fail(request, error);
        return;
    }
    recorder_free(node->recorder);
    node->recorder = recorder;
    log_info("the last %u differences are written to %s", (guint)last, recorder_file(recorder));
    control_reply(request, NULL);
}

void do_capture_off(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    g_clear_pointer(&node->recorder, recorder_free);
    control_reply(request, NULL);
}
