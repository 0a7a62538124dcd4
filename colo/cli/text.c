/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON as text for people. What is shown may quote a peer or QEMU: control characters don't reach
 * the terminal. An older or newer colod may report less or other things: nothing here relies on a
 * member being there or having its type.
 */
#include <string.h>

#include "colo/cli/cli.h"

/* ---- Looking into JSON ---- */

/* The value at "a.b.c"; NULL if it isn't there. */
static json_object *at(json_object *object, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, ".", -1);
    for (char **name = names; *name; name++)
        if (!json_object_is_type(object, json_type_object) ||
            !json_object_object_get_ex(object, *name, &object))
            return NULL;
    return object;
}

static char *printable(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);
    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        g_string_append_unichar(out, u == '\n' || u == '\t' ? ' ' : g_unichar_iscntrl(u) ? '?' : u);
    }
    return g_string_free(out, FALSE);
}

/* A string, or `otherwise`. */
static char *text_at(json_object *object, const char *path, const char *otherwise)
{
    json_object *value = at(object, path);
    return json_object_is_type(value, json_type_string) ? printable(json_object_get_string(value))
                                                        : g_strdup(otherwise);
}

static gboolean is_number(json_object *value)
{
    return json_object_is_type(value, json_type_int) ||
           json_object_is_type(value, json_type_double);
}

/* A number as it is; "-" if there is none. */
static char *count_at(json_object *object, const char *path)
{
    json_object *value = at(object, path);
    return is_number(value)
               ? g_strdup_printf("%" G_GINT64_FORMAT, (gint64)json_object_get_int64(value))
               : g_strdup("-");
}

static char *bytes_at(json_object *object, const char *path)
{
    json_object *value = at(object, path);
    return is_number(value) ? cli_bytes(json_object_get_int64(value)) : g_strdup("-");
}

static gboolean true_at(json_object *object, const char *path)
{
    return json_object_get_boolean(at(object, path));
}

/* ---- Quantities ---- */

char *cli_bytes(gint64 bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    gsize unit = 0;
    while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return unit == 0 ? g_strdup_printf("%" G_GINT64_FORMAT " B", bytes)
                     : g_strdup_printf("%.1f %s", value, units[unit]);
}

char *cli_duration(gint64 ms)
{
    gint64 s = ms / 1000;
    if (ms < 1000)
        return g_strdup_printf("%" G_GINT64_FORMAT " ms", ms);
    if (s < 60)
        return g_strdup_printf("%.1f s", (double)ms / 1000);
    if (s < 3600)
        return g_strdup_printf("%" G_GINT64_FORMAT "m %" G_GINT64_FORMAT "s", s / 60, s % 60);
    if (s < 86400)
        return g_strdup_printf("%" G_GINT64_FORMAT "h %" G_GINT64_FORMAT "m", s / 3600,
                               s / 60 % 60);
    return g_strdup_printf("%" G_GINT64_FORMAT "d %" G_GINT64_FORMAT "h", s / 86400, s / 3600 % 24);
}

/* ---- Status ---- */

#define LINE(label) "  " label

static void add_headline(GString *page, json_object *status, gboolean colour)
{
    gboolean is_protected = true_at(status, "protected");
    g_autofree char *vm = text_at(status, "vm.name", "-");
    g_autofree char *vm_state = text_at(status, "vm.state", "-");
    g_autofree char *role = text_at(status, "role", "-");
    g_autofree char *state = text_at(status, "state", "-");
    g_autofree char *mode = text_at(status, "mode", "-");
    const char *begin = !colour ? "" : is_protected ? "\033[1;32m" : "\033[1;31m";
    /* All that is missing is somebody to ask. */
    gboolean alone = !strcmp(state, "colo") && at(status, "arbiter.trouble");
    g_string_append_printf(page, "%s: %s%s%s (%s, state %s, mode %s, VM %s)\n\n", vm, begin,
                           is_protected ? "PROTECTED"
                           : alone      ? "NOT PROTECTED: the arbiter can't be asked"
                                        : "NOT PROTECTED",
                           colour ? "\033[0m" : "", role, state, mode, vm_state);
}

static void add_nodes(GString *page, json_object *status)
{
    g_autofree char *node = text_at(status, "node", "-");
    json_object *uptime = at(status, "uptime-s");
    g_autofree char *up =
        cli_duration(CLAMP(json_object_get_int64(uptime), 0, G_MAXINT64 / 1000) * 1000);
    g_string_append_printf(page, LINE("node         %s, up %s\n"), node,
                           is_number(uptime) ? up : "-");
    g_autofree char *name = text_at(status, "peer.name", "-");
    g_autofree char *address = text_at(status, "peer.address", "an unknown address");
    g_string_append_printf(page, LINE("peer         %s at %s, %sconnected"), name, address,
                           true_at(status, "peer.connected") ? "" : "not ");
    json_object *last_ms = at(status, "peer.last-heard-ms");
    if (is_number(last_ms)) {
        g_autofree char *ago = cli_duration(json_object_get_int64(last_ms));
        g_string_append_printf(page, ", heard %s ago", ago);
    }
    g_string_append(page, "\n");
}

static void add_waiting(GString *page, json_object *status)
{
    static const struct {
        const char *label, *path;
    } lines[] = {
        {"waits for", "waiting.for" },
        {"what runs", "waiting.runs"},
        {"possible",  "waiting.can" }
    };
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *text = text_at(status, lines[i].path, NULL);
        if (text)
            g_string_append_printf(page, LINE("%-12s %s\n"), lines[i].label, text);
    }
}

static void add_times(GString *page, json_object *status, const char *label, const char *member)
{
    static const char *const columns[] = {"p50", "p99", "max"};
    g_string_append_printf(page, LINE("  %-10s"), label);
    for (gsize i = 0; i < G_N_ELEMENTS(columns); i++) {
        g_autofree char *path = g_strconcat(member, ".", columns[i], NULL);
        json_object *value = at(status, path);
        if (is_number(value))
            g_string_append_printf(page, "%9.1f", json_object_get_double(value));
        else
            g_string_append_printf(page, "%9s", "-");
    }
    g_string_append(page, " ms\n");
}

static void add_checkpoints(GString *page, json_object *status)
{
    g_autofree char *epoch = count_at(status, "epoch");
    g_autofree char *total = count_at(status, "checkpoints.total");
    g_string_append_printf(page, LINE("epoch        %s\n"), epoch);
    g_string_append_printf(page, LINE("checkpoints  %s"), total);
    json_object *reasons = at(status, "checkpoints.by-reason");
    const char *separator = ": ";
    if (json_object_is_type(reasons, json_type_object)) {
        json_object_object_foreach(reasons, name, value)
        {
            g_autofree char *reason = printable(name);
            if (!is_number(value) || json_object_get_int64(value) == 0)
                continue;
            g_string_append_printf(page, "%s%s %" G_GINT64_FORMAT, separator, reason,
                                   (gint64)json_object_get_int64(value));
            separator = ", ";
        }
    }
    g_string_append(page, "\n                  p50      p99      max\n");
    add_times(page, status, "pause", "pause-ms");
    add_times(page, status, "transfer", "transfer-ms");
    add_times(page, status, "apply", "apply-ms");
}

static void add_sync(GString *page, json_object *status)
{
    json_object *percent = at(status, "sync.percent");
    if (!is_number(percent))
        return;
    g_autofree char *sent = bytes_at(status, "sync.sent-bytes");
    g_autofree char *total = bytes_at(status, "sync.total-bytes");
    g_string_append_printf(page, LINE("sync         %.1f %%, sent %s for %s"),
                           json_object_get_double(percent), sent, total);
    json_object *left = at(status, "sync.left-ms");
    if (is_number(left)) {
        g_autofree char *time = cli_duration(json_object_get_int64(left));
        g_string_append_printf(page, ", %s left", time);
    }
    g_string_append(page, "\n");
}

static void add_image(GString *page, json_object *image)
{
    g_autofree char *name = text_at(image, "name", "-");
    g_autofree char *size = bytes_at(image, "size-bytes");
    g_autofree char *dirty = bytes_at(image, "dirty-bytes");
    g_autofree char *staged = bytes_at(image, "staged-bytes");
    g_autofree char *overlay = bytes_at(image, "overlay-bytes");
    g_string_append_printf(page, LINE("  %-10s %s, dirty %s, staged %s, overlay %s\n"), name, size,
                           dirty, staged, overlay);
    g_autofree char *failed = text_at(image, "sync-error", NULL);
    if (failed)
        g_string_append_printf(page, LINE("             can't be made durable any more: %s\n"),
                               failed);
}

/* Whose data is newer: the first half of each identifier tells it. */
static void add_generations(GString *page, json_object *status)
{
    g_autofree char *data = text_at(status, "disks.generation.data", NULL);
    if (!data)
        return;
    g_autofree char *ours = text_at(status, "disks.generation.current", "none");
    g_autofree char *peer_data = text_at(status, "disks.peer-generation.data", NULL);
    g_autofree char *theirs = text_at(status, "disks.peer-generation.current", "none");
    g_string_append_printf(page, LINE("  generation %.8s (%s)"), ours, data);
    if (peer_data)
        g_string_append_printf(page, ", the peer had %.8s (%s)", theirs, peer_data);
    g_string_append(page, "\n");
}

static void add_disks(GString *page, json_object *status)
{
    json_object *images = at(status, "disks.images");
    if (!json_object_is_type(at(status, "disks"), json_type_object))
        return;
    g_autofree char *flag = text_at(status, "disks.flag", "-");
    g_autofree char *mode = text_at(status, "disks.mode", "-");
    g_autofree char *epoch = count_at(status, "disks.epoch");
    g_autofree char *queue = bytes_at(status, "disks.queue-bytes");
    g_string_append_printf(page, LINE("disks        %s (%s), %s, epoch %s, %s to send"), flag, mode,
                           !true_at(status, "disks.attached") ? "no peer"
                           : true_at(status, "disks.in-sync") ? "in sync"
                                                              : "synchronising",
                           epoch, queue);
    json_object *total = at(status, "disks.sync.total-bytes");
    json_object *done = at(status, "disks.sync.done-bytes");
    if (is_number(total) && is_number(done) && json_object_get_double(total) > 0)
        g_string_append_printf(page, ", %.1f %% compared",
                               100 * json_object_get_double(done) / json_object_get_double(total));
    g_string_append(page, "\n");
    add_generations(page, status);
    for (gsize i = 0; json_object_is_type(images, json_type_array) &&
                      i < json_object_array_length(images) && i < 32;
         i++)
        add_image(page, json_object_array_get_idx(images, i));
}

static void add_blocktime(GString *page, json_object *status)
{
    g_autofree char *paused = count_at(status, "blocktime.total-ms");
    g_autofree char *longest = count_at(status, "blocktime.longest-ms");
    g_string_append_printf(
        page, LINE("blocktime    %s ms, longest %s ms, %.1f %% of the last 10 s"), paused, longest,
        100 * json_object_get_double(at(status, "blocktime.share")));
    json_object *corrections = at(status, "blocktime.corrections");
    if (corrections)
        g_string_append_printf(page, "; clock set %" G_GINT64_FORMAT " times",
                               json_object_get_int64(corrections));
    g_string_append_c(page, '\n');
}

static void add_traffic(GString *page, json_object *status)
{
    g_autofree char *pages = count_at(status, "dirty.pages");
    g_autofree char *method = text_at(status, "dirty.method", "-");
    g_autofree char *last = bytes_at(status, "bytes.last");
    g_autofree char *total = bytes_at(status, "bytes.total");
    g_autofree char *frames = count_at(status, "held.frames");
    g_autofree char *bytes = bytes_at(status, "held.bytes");
    g_autofree char *max_frames = count_at(status, "held.max-frames");
    g_autofree char *max_bytes = bytes_at(status, "held.max-bytes");
    g_autofree char *mirrored = count_at(status, "packets.mirrored");
    g_autofree char *dropped = count_at(status, "packets.dropped");
    add_blocktime(page, status);
    g_string_append_printf(page, LINE("dirty        %s pages (%s)\n"), pages, method);
    g_string_append_printf(page, LINE("stream       %s last, %s in all\n"), last, total);
    g_string_append_printf(page, LINE("held         %s frames, %s (at most %s, %s)\n"), frames,
                           bytes, max_frames, max_bytes);
    g_string_append_printf(page, LINE("packets      %s mirrored, %s dropped\n"), mirrored, dropped);
}

static const char *carrier_text(json_object *nic, const char *member)
{
    json_object *value = at(nic, member);
    return !json_object_is_type(value, json_type_boolean) ? "carrier not known"
           : json_object_get_boolean(value)               ? "carrier"
                                                          : "NO CARRIER";
}

static void add_nics(GString *page, json_object *status)
{
    json_object *nics = at(status, "nics");
    for (gsize i = 0;
         json_object_is_type(nics, json_type_array) && i < json_object_array_length(nics) && i < 32;
         i++) {
        json_object *nic = json_object_array_get_idx(nics, i);
        g_autofree char *name = text_at(nic, "name", "-");
        g_string_append_printf(page, LINE("nic          %s: %s here, %s at the peer\n"), name,
                               carrier_text(nic, "carrier"), carrier_text(nic, "peer-carrier"));
    }
}

/* "48 54 "HT"", or "nothing". */
static char *bytes_of(json_object *divergence, const char *side)
{
    g_autofree char *hex = text_at(divergence, side, "");
    GString *text = g_string_new(*hex ? hex : "nothing");
    if (*hex)
        g_string_append(text, " \"");
    for (const char *c = hex; g_ascii_isxdigit(c[0]) && g_ascii_isxdigit(c[1]);) {
        char byte = (char)(g_ascii_xdigit_value(c[0]) << 4 | g_ascii_xdigit_value(c[1]));
        g_string_append_c(text, g_ascii_isprint(byte) ? byte : '.');
        c += c[2] == ' ' ? 3 : 2;
    }
    if (*hex)
        g_string_append_c(text, '"');
    return g_string_free(text, FALSE);
}

/* What and where, without the bytes. */
static char *divergence_text(json_object *divergence)
{
    g_autofree char *reason = text_at(divergence, "reason", "-");
    g_autofree char *flow = text_at(divergence, "flow", "-");
    g_autofree char *epoch = count_at(divergence, "epoch");
    g_autofree char *offset = count_at(divergence, "offset");
    g_autofree char *detail = text_at(divergence, "detail", "-");
    return g_strdup_printf("%s, %s, epoch %s, after %s equal bytes: %s", reason, flow, epoch,
                           offset, detail);
}

#define DIVERGENCES_SHOWN 3

static void add_divergences(GString *page, json_object *status)
{
    json_object *last = at(status, "compare.last");
    json_object *counts = at(status, "compare.divergences");
    gsize n = json_object_is_type(last, json_type_array) ? json_object_array_length(last) : 0;
    const char *separator = LINE("differences  ");
    if (json_object_is_type(counts, json_type_object)) {
        json_object_object_foreach(counts, name, value)
        {
            g_autofree char *reason = printable(name);
            if (!is_number(value) || json_object_get_int64(value) == 0)
                continue;
            g_string_append_printf(page, "%s%s %" G_GINT64_FORMAT, separator, reason,
                                   (gint64)json_object_get_int64(value));
            separator = ", ";
        }
    }
    if (*separator == ',')
        g_string_append(page, "\n");
    for (gsize i = n > DIVERGENCES_SHOWN ? n - DIVERGENCES_SHOWN : 0; i < n; i++) {
        json_object *divergence = json_object_array_get_idx(last, i);
        g_autofree char *when = text_at(divergence, "when", "-");
        g_autofree char *text = divergence_text(divergence);
        g_autofree char *primary = bytes_of(divergence, "primary");
        g_autofree char *secondary = bytes_of(divergence, "secondary");
        g_string_append_printf(
            page, LINE("  at %s: %s\n") LINE("    primary    %s\n") LINE("    secondary  %s\n"),
            when, text, primary, secondary);
    }
    json_object *uncompared = at(status, "compare.uncompared");
    if (is_number(uncompared) && json_object_get_int64(uncompared) > 0)
        g_string_append_printf(page,
                               LINE("uncompared   %" G_GINT64_FORMAT
                                    " frames of new flows: there was no room for more\n"),
                               (gint64)json_object_get_int64(uncompared));
}

static void add_capture(GString *page, json_object *status)
{
    g_autofree char *file = text_at(status, "capture.file", NULL);
    if (!file)
        return;
    g_autofree char *last = count_at(status, "capture.last");
    g_autofree char *written = count_at(status, "capture.written");
    g_string_append_printf(page, LINE("capture      %s, the last %s, %s written\n"), file, last,
                           written);
}

static void add_peer_error(GString *page, json_object *status)
{
    g_autofree char *text = text_at(status, "peer.last-error.text", NULL);
    g_autofree char *when = text_at(status, "peer.last-error.when", "-");
    g_autofree char *name = text_at(status, "peer.name", "the peer");
    if (text)
        g_string_append_printf(page, LINE("  of %-8s %s, at %s\n"), name, text, when);
}

char *cli_status_page(json_object *status, gboolean colour)
{
    GString *page = g_string_new(NULL);
    add_headline(page, status, colour);
    add_nodes(page, status);
    add_waiting(page, status);
    add_sync(page, status);
    add_checkpoints(page, status);
    add_traffic(page, status);
    add_nics(page, status);
    add_disks(page, status);
    add_divergences(page, status);
    add_capture(page, status);
    g_autofree char *arbiter = text_at(status, "arbiter.type", "-");
    g_autofree char *answer = text_at(status, "arbiter.answer", NULL);
    g_autofree char *takeovers = count_at(status, "takeovers");
    g_autofree char *error = text_at(status, "last-error.text", "none");
    g_autofree char *when = text_at(status, "last-error.when", NULL);
    g_autofree char *trouble = text_at(status, "arbiter.trouble", NULL);
    g_string_append_printf(page, LINE("arbiter      %s%s%s%s%s\n"), arbiter, answer ? ": " : "",
                           answer ? answer : "", trouble ? ", can't be asked: " : "",
                           trouble ? trouble : "");
    g_string_append_printf(page, LINE("takeovers    %s\n"), takeovers);
    g_string_append_printf(page, LINE("last error   %s%s%s\n"), error, when ? ", at " : "",
                           when ? when : "");
    add_peer_error(page, status);
    return g_string_free(page, FALSE);
}

/* ---- Events and options ---- */

static void add_divergence(GString *line, json_object *data)
{
    g_autofree char *text = divergence_text(data);
    g_autofree char *primary = bytes_of(data, "primary");
    g_autofree char *secondary = bytes_of(data, "secondary");
    g_string_append_printf(line, " %s (primary %s, secondary %s)", text, primary, secondary);
    json_object *left_out = at(data, "left-out");
    if (is_number(left_out))
        g_string_append_printf(line, ", %" G_GINT64_FORMAT " others before it",
                               (gint64)json_object_get_int64(left_out));
}

static void add_event_data(GString *line, json_object *data)
{
    if (!json_object_is_type(data, json_type_object)) {
        g_autofree char *text =
            printable(json_object_to_json_string_ext(data, JSON_C_TO_STRING_PLAIN));
        if (data)
            g_string_append_printf(line, " %s", text);
        return;
    }
    json_object_object_foreach(data, name, value)
    {
        g_autofree char *key = printable(name);
        g_autofree char *text =
            printable(json_object_is_type(value, json_type_string)
                          ? json_object_get_string(value)
                          : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
        g_string_append_printf(line, strpbrk(text, " ") ? " %s=\"%s\"" : " %s=%s", key, text);
    }
}

char *cli_event_line(json_object *event)
{
    GString *line = g_string_new(NULL);
    json_object *seconds = at(event, "timestamp.seconds");
    g_autoptr(GDateTime) when =
        is_number(seconds) ? g_date_time_new_from_unix_local(json_object_get_int64(seconds)) : NULL;
    g_autofree char *time = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : NULL;
    g_autofree char *name = text_at(event, "event", "-");
    gint64 us = json_object_get_int64(at(event, "timestamp.microseconds"));
    g_string_append_printf(line, "%s.%03d %s", time ? time : "-", (int)CLAMP(us / 1000, 0, 999),
                           name);
    if (!strcmp(name, "DIVERGED"))
        add_divergence(line, at(event, "data"));
    else
        add_event_data(line, at(event, "data"));
    return g_string_free(line, FALSE);
}

char *cli_option_list(json_object *options)
{
    GString *list = g_string_new(NULL);
    if (!json_object_is_type(options, json_type_object))
        return g_string_free(list, FALSE);
    json_object_object_foreach(options, name, option)
    {
        g_autofree char *key = printable(name);
        g_autofree char *value = text_at(option, "value", "-");
        g_autofree char *scope = text_at(option, "scope", "");
        g_string_append_printf(list, "%-24s %s%s\n", key, *value ? value : "-",
                               !true_at(option, "live") ? ""
                               : !strcmp(scope, "pair") ? "  (live, of the pair)"
                               : !strcmp(scope, "node") ? "  (live, of this node)"
                                                        : "  (live)");
    }
    return g_string_free(list, FALSE);
}

char *cli_fd_list(json_object *sets)
{
    GString *list = g_string_new(NULL);
    gsize n = json_object_is_type(sets, json_type_array) ? json_object_array_length(sets) : 0;
    for (gsize i = 0; i < n; i++) {
        json_object *set = json_object_array_get_idx(sets, i), *fds = at(set, "fds");
        gsize m = json_object_is_type(fds, json_type_array) ? json_object_array_length(fds) : 0;
        g_autofree char *id = text_at(set, "fdset-id", "-");
        for (gsize j = 0; j < m; j++) {
            g_autofree char *fd = text_at(json_object_array_get_idx(fds, j), "fd", "-");
            g_autofree char *opaque = text_at(json_object_array_get_idx(fds, j), "opaque", "");
            g_string_append_printf(list, "fdset:%-8s %-6s %s\n", id, fd, opaque);
        }
    }
    return g_string_free(list, FALSE);
}

char *cli_set_line(json_object *result)
{
    g_autofree char *name = text_at(result, "name", "-");
    g_autofree char *value = text_at(result, "value", "-");
    g_autofree char *node = text_at(result, "node", "-");
    json_object *scope = at(result, "scope");
    if (strcmp(scope ? json_object_get_string(scope) : "", "pair") != 0)
        return g_strdup_printf("%s is %s on this node (%s) only", name, value, node);
    if (true_at(result, "peer-told"))
        return g_strdup_printf("%s is %s on both nodes", name, value);
    return g_strdup_printf("%s is %s on this node (%s); no peer is connected: when one is, the "
                           "primary's value counts",
                           name, value, node);
}
