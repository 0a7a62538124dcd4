/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a switchover shows of itself: its status and figures for status, and its event. */
#include "colo/node/switchover_internal.h"

json_object *switchover_describe_change(const Switchover *switchover)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "id", json_object_new_int64(switchover->id));
    colo_json_add_string(data, "status", switchover_phase_name(switchover->phase));
    if (switchover->error)
        colo_json_add_string(data, "error", switchover->error);
    return data;
}

/* From `from` to `to`, or until now; null if it has not begun. */
static void add_ms(json_object *object, const char *name, ColoTime from, ColoTime to)
{
    ColoTime until = to.us ? to : colo_time_now();
    json_object_object_add(
        object, name,
        from.us ? json_object_new_double((double)colo_time_diff_us(until, from) / COLO_US_PER_MS)
                : NULL);
}

static void add_known(json_object *object, const char *name, gboolean is_known, double value)
{
    json_object_object_add(object, name, is_known ? json_object_new_double(value) : NULL);
}

/* Of a primary whose secondary approves in all its parts. */
static char *why_not_small(const Switchover *switchover, const SwitchoverWorld *world)
{
    const SwitchoverLoad *load = &switchover->load;
    gint64 alone_ms = (load->pause_us + load->apply_us) / COLO_US_PER_MS;
    gint64 expected_ms =
        switchover->expected_us < 0 ? -1 : switchover->expected_us / COLO_US_PER_MS;
    if (world->is_refused)
        return g_strdup(
            "the VM can't be resumed here, and so not be held (order it without pause)");
    if (switchover->phase == SWITCHOVER_STOPPING)
        return g_strdup(
            "the VM has not been paused for its last checkpoint: the one before is still "
            "under way, the disks are not synced, or QEMU does not pause it");
    if (!world->copy_is_fit)
        return g_strdup(
            "the secondary's VM has stopped by itself, and no checkpoint has replaced it");
    if (world->is_busy && switchover->ahead == 0)
        return g_strdup("a checkpoint is under way that the secondary has not taken yet");
    if (alone_ms > (gint64)switchover->config->downtime_limit_ms)
        return g_strdup_printf("a checkpoint alone takes %" G_GINT64_FORMAT
                               " ms (raise downtime-limit, or set it to 0ms)",
                               alone_ms);
    return g_strdup_printf("the guest writes to memory faster than it is sent: %" G_GUINT64_FORMAT
                           " KiB are left, the last checkpoint took %" G_GINT64_FORMAT
                           " ms, and the guest would stand for %" G_GINT64_FORMAT
                           " ms (raise downtime-limit, or set it to 0ms)",
                           load->left_bytes >> 10, switchover->last_us / COLO_US_PER_MS,
                           expected_ms);
}

char *switchover_why_late(const Switchover *switchover, const SwitchoverWorld *world)
{
    g_autofree char *why =
        !switchover->pending ? g_strdup("the secondary has not answered")
        : *switchover->pending
            ? g_strdup_printf("the secondary does not approve of: %s", switchover->pending)
            : why_not_small(switchover, world);
    return g_strdup_printf("not ready in %" G_GUINT64_FORMAT " ms: %s",
                           switchover->config->switchover_timeout_ms, why);
}

static void add_pending(const Switchover *switchover, json_object *object)
{
    json_object *names = json_object_new_array();
    g_auto(GStrv) parts = g_strsplit(switchover->pending ? switchover->pending : "", " ", -1);
    for (guint i = 0; parts[i]; i++)
        json_object_array_add(names, json_object_new_string(parts[i]));
    json_object_object_add(object, "ack-pending", names);
}

json_object *switchover_describe(const Switchover *switchover)
{
    if (switchover->phase == SWITCHOVER_NONE)
        return NULL;
    const SwitchoverLoad *load = &switchover->load;
    gboolean measured = switchover->is_primary && load->bytes_per_s > 0;
    const ColoTime none = {0};
    ColoTime stands = switchover->is_primary ? switchover->stopped : none;
    ColoTime waits = switchover->is_primary ? none : switchover->handed;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "id", json_object_new_int64(switchover->id));
    colo_json_add_string(object, "status", switchover_phase_name(switchover->phase));
    json_object_object_add(object, "pause", json_object_new_boolean(switchover->pause));
    if (switchover->started)
        colo_json_add_string(object, "started", switchover->started);
    add_ms(object, "total-ms", switchover->began, switchover->ended);
    add_ms(object, "setup-ms", switchover->began,
           switchover->ready.us ? switchover->ready : switchover->ended);
    add_ms(object, "downtime-ms", stands,
           switchover->resumed.us ? switchover->resumed : switchover->ended);
    if (switchover->peer_took_us >= 0)
        add_known(object, "peer-downtime-ms", TRUE,
                  (double)switchover->peer_took_us / COLO_US_PER_MS);
    else
        add_ms(object, "peer-downtime-ms", waits, switchover->ended);
    add_known(object, "expected-downtime-ms", switchover->expected_us >= 0,
              (double)switchover->expected_us / COLO_US_PER_MS);
    json_object_object_add(object, "remaining-bytes",
                           measured ? json_object_new_int64((gint64)load->left_bytes) : NULL);
    add_known(object, "mbps", measured, (double)load->bytes_per_s * 8 / 1e6);
    add_known(object, "pages-per-second", measured, (double)load->bytes_per_s / 4096);
    add_pending(switchover, object);
    json_object_object_add(object, "error",
                           switchover->error ? json_object_new_string(switchover->error) : NULL);
    return object;
}

/* ---- For status and tests ---- */

SwitchoverPhase switchover_phase(const Switchover *switchover)
{
    return switchover->phase;
}

guint32 switchover_id(const Switchover *switchover)
{
    return switchover->id;
}

const char *switchover_error(const Switchover *switchover)
{
    return switchover->error;
}
