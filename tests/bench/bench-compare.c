/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the packet comparator costs: frames from memory, no I/O. Prints the packets (of both VMs)
 * per second of processor time, and the memory that flows and waiting frames take. Fails if not all
 * that was compared was released.
 *
 *   bench-compare [SECONDS-PER-CASE]
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/endian.h"
#include "netcompare/compare.h"
#include "netcompare/packet.h"
#include "tests/support/netframe.h"

#define MAX_FRAMES 65536u /* made beforehand; used again with other numbers written into them */

typedef struct {
    const char *name;
    guint n_flows;
    guint payload;
    guint lead; /* the PVM's frames are this many ahead of the SVM's */
} Case;

typedef struct {
    Compare *compare;
    guint64 released;
    guint64 diverged;
} Bench;

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    Bench *bench = user_data;
    (void)nic;
    (void)epoch;
    (void)frame;
    bench->released++;
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    Bench *bench = user_data;
    (void)divergence;
    bench->diverged++;
}

/* Frame `n` of a ring, turned into the next segment of a flow. The frame must not be held. */
static GBytes *next_frame(GBytes **ring, guint n, guint flow, guint32 seq)
{
    GBytes *frame = ring[n % MAX_FRAMES];
    guint8 *data = (guint8 *)g_bytes_get_data(frame, NULL); /* ours alone */

    colo_put_be32(data + 14 + 16, 0x0a000000 + (flow >> 14)); /* the client */
    colo_put_be16(data + 14 + 20 + 2, (guint16)(1024 + (flow & 0x3fff)));
    colo_put_be32(data + 14 + 20 + 4, seq);
    return frame;
}

static GBytes **make_ring(guint payload)
{
    g_autofree guint8 *body = g_malloc0(payload + 1);
    GBytes **ring = g_new(GBytes *, MAX_FRAMES);
    FrameSpec spec = {.src = 2,
                      .dst = 1,
                      .proto = PROTO_TCP,
                      .sport = 80,
                      .flags = TCP_ACK,
                      .ack = 1,
                      .data = body,
                      .len = payload};

    for (guint i = 0; i < MAX_FRAMES; i++)
        ring[i] = netframe_new(&spec);
    return ring;
}

static void free_ring(GBytes **ring)
{
    for (guint i = 0; i < MAX_FRAMES; i++)
        g_bytes_unref(ring[i]);
    g_free(ring);
}

/* The processor's time: the rate is per core, whatever else the machine does. */
static gdouble cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (gdouble)t.tv_sec + (gdouble)t.tv_nsec / 1e9;
}

static gboolean run_case(const Case *c, gdouble seconds)
{
    static const CompareActions actions = {.release = on_release, .diverged = on_diverged};
    Bench bench = {0};
    CompareOptions options;
    GBytes **primary = make_ring(c->payload), **secondary = make_ring(c->payload);
    g_autofree guint32 *p_seq = g_new0(guint32, c->n_flows), *s_seq = g_new0(guint32, c->n_flows);
    guint64 n = 0;
    gdouble start = 0;
    ColoTime now = colo_time_now();

    size_t memory = mallinfo2().uordblks;
    compare_options_init(&options);
    options.vnet_hdr = FALSE;
    options.timeout_us = options.ack_timeout_us = 0; /* a busy machine is no divergence */
    bench.compare = compare_new(&options, &actions, 1, now, &bench);
    /* Warm up: every flow exists. Then time. */
    for (;; n++) {
        if (n == c->n_flows + c->lead)
            start = cpu_seconds();
        if (n % 4096 == 0) {
            now = colo_time_now();
            if (n > c->n_flows + c->lead && cpu_seconds() - start >= seconds)
                break;
            compare_tick(bench.compare, now);
        }
        guint flow = (guint)(n % c->n_flows);
        compare_primary(bench.compare, 0, 1, next_frame(primary, (guint)n, flow, p_seq[flow]), now);
        p_seq[flow] += c->payload;
        if (n < c->lead)
            continue;
        flow = (guint)((n - c->lead) % c->n_flows);
        compare_secondary(bench.compare, 0, 1, next_frame(secondary, (guint)n, flow, s_seq[flow]),
                          now);
        s_seq[flow] += c->payload;
    }
    gdouble elapsed = cpu_seconds() - start;
    guint64 timed = 2 * (n - c->n_flows - c->lead);
    const CompareStats *stats = compare_stats(bench.compare);
    gboolean good = bench.released == n - c->lead && bench.diverged == 0 && stats->dropped == 0;
    printf("compare_%s %.3f Mpackets/s/core\n", c->name, (gdouble)timed / elapsed / 1e6);
    printf("compare_%s_memory %.1f MiB\n", c->name,
           (gdouble)(mallinfo2().uordblks - memory) / 1048576);
    if (!good)
        fprintf(stderr, "bench-compare: %s: not all that was compared was released\n", c->name);
    compare_free(bench.compare);
    free_ring(primary);
    free_ring(secondary);
    return good;
}

int main(int argc, char **argv)
{
    static const Case cases[] = {
        {"64b_1_flow",     1,      10,   0    },
        {"64b_1k_flows",   1000,   10,   16   },
        {"64b_100k_flows", 100000, 10,   256  },
        {"1514b_1k_flows", 1000,   1460, 256  },
        {"64b_far_ahead",  100,    10,   10000},
    };
    gdouble seconds = argc > 1 ? g_ascii_strtod(argv[1], NULL) : 1;
    gboolean good = TRUE;

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        good = run_case(&cases[i], seconds) && good;
    return good ? 0 : 1;
}
