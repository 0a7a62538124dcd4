/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A link over loopback, both ends in this process and its one main loop: so each figure is what one
 * core does for both hosts together. Prints "name value unit" lines.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/link-end.h"

/* What a card's port hands over in one turn of the main loop, at most. */
#define BATCH 64

static int compare(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static void bench_packets(LinkEnd *from, LinkEnd *to, const char *name, gsize len, guint64 frames)
{
    g_autofree guint8 *frame = g_malloc0(len);
    guint64 sent = 0;
    gint64 begin_us = g_get_monotonic_time();
    to->packet_frames = 0;
    while (to->packet_frames < frames) {
        for (int i = 0; i < BATCH && sent < frames; i++) {
            if (!link_send_packet(from->link, 0, 1, frame, len))
                break;
            sent++;
        }
        g_main_context_iteration(NULL, FALSE);
    }
    double seconds = (double)(g_get_monotonic_time() - begin_us) / 1e6;
    printf("link_%s_frames %.0f frames/s\n", name, (double)frames / seconds);
    printf("link_%s_bytes %.1f MiB/s\n", name, (double)(frames * len) / seconds / (1 << 20));
}

static void bench_messages(LinkEnd *primary, LinkEnd *secondary, guint rounds)
{
    g_autofree gint64 *took_us = g_new(gint64, rounds);
    for (guint i = 0; i < rounds; i++) {
        gint64 begin_us = g_get_monotonic_time();
        link_send(primary->link, LINK_MSG_RECEIVED, "12345678", 8);
        link_end_wait(secondary->messages->len > i);
        link_send(secondary->link, LINK_MSG_RECEIVED, "12345678", 8);
        link_end_wait(primary->messages->len > i);
        took_us[i] = g_get_monotonic_time() - begin_us;
    }
    qsort(took_us, rounds, sizeof(*took_us), compare);
    printf("link_message_round_trip_p50 %" G_GINT64_FORMAT " us\n", took_us[rounds / 2]);
    printf("link_message_round_trip_p99 %" G_GINT64_FORMAT " us\n", took_us[rounds * 99 / 100]);
}

int main(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    bench_packets(primary, secondary, "small", 72, 1000000);
    bench_packets(primary, secondary, "large", 65548, 30000);
    bench_messages(primary, secondary, 5000);
    return 0;
}
