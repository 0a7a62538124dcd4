/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recording the differences between the two VMs (netcompare/recorder.h), as administrators ask for
 * it: the judge has the recorder.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

static void on_written(const char *path, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (error) {
        node_report(node, "captures are off", error);
        judge_set_recorder(node->judge, NULL);
        return;
    }
    json_object *data = json_object_new_object();
    json_object_object_add(data, "file", json_object_new_string(path));
    node_emit(node, "CAPTURED", data);
}

void recording_add_status(const Node *node, json_object *status)
{
    const Recorder *recorder = judge_recorder(node->judge);
    if (!recorder) {
        json_object_object_add(status, "capture", NULL);
        return;
    }
    const RecorderStats *stats = recorder_stats(recorder);
    json_object *capture = json_object_new_object();
    json_object_object_add(capture, "file", json_object_new_string(recorder_file(recorder)));
    json_object_object_add(capture, "last", json_object_new_int((int)recorder_last(recorder)));
    json_object_object_add(capture, "written", json_object_new_int64((gint64)stats->written));
    json_object_object_add(capture, "left-out", json_object_new_int64((gint64)stats->left_out));
    json_object_object_add(status, "capture", capture);
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
    judge_set_recorder(node->judge, recorder);
    log_info("the last %u differences are written to %s", (guint)last, recorder_file(recorder));
    control_reply(request, NULL);
}

void do_capture_off(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    judge_set_recorder(node->judge, NULL);
    control_reply(request, NULL);
}
