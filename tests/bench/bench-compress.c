/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What compressing pages is worth for a guest that runs a database: capture and apply in this process,
 * connected by TCP over a loopback of its own, which is shaped to 1 Gbit/s (tbf) or not. Needs root.
 * Prints lines "name value unit [baseline]".
 *
 * The guest of this bench: RAM of pages with rows (a header, and records of numbers, words and some
 * random bytes). For each checkpoint it changes a few fields in each of TOUCHED pages, of which most are
 * among the HOT ones, moves half a page for an insertion now and then, and writes LOG pages of a log. A
 * real database may be kinder or not.
 *
 * _1g is the shaped link, _fast the other. bytes_per_checkpoint_db is what `auto` sends over 1 Gbit/s, and
 * its baseline what is sent without compression. transfer_db: from the end of the pause's part until the
 * checkpoint is complete at the other end. pause_db: the pause's part. Medians. The baseline of each
 * figure is that without compression.
 */
#include <arpa/inet.h>
#include <glib.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/capture-bench.h"

#define PAGES       (256u * 256u)
#define ROWS        32768u /* pages of them */
#define HOT         600u
#define TOUCHED     400u
#define LOG         40u
#define CHECKPOINTS 60u
#define WARM        150u /* checkpoints that don't count: some seconds, for auto to find out */

typedef struct {
    CaptureBench ends;
    GRand *random;
    guint log_page;
} Bench;

typedef struct {
    double bytes, transfer_us, pause_us;
    PackCodec codec;
} Result;

/* ---- The guest ---- */

/* What a field of a row is like: a small number, a word, or bytes without order. */
static void put_field(GRand *random, guint8 *at)
{
    static const char *const words[] = {"pending ", "shipped ", "open    ", "closed  ",
                                        "gmail.co", "Street  ", "North   ", "invoice "};
    switch (g_rand_int_range(random, 0, 4)) {
    case 0:
        memset(at, 0, 8);
        at[7] = (guint8)g_rand_int(random);
        at[6] = (guint8)g_rand_int_range(random, 0, 8);
        break;
    case 1:
        for (int i = 0; i < 8; i++)
            at[i] = (guint8)g_rand_int(random);
        break;
    default:
        memcpy(at, words[g_rand_int_range(random, 0, G_N_ELEMENTS(words))], 8);
    }
}

static void fill_page(GRand *random, guint8 *page)
{
    for (gsize at = 0; at < VM_PAGE_SIZE; at += 8)
        put_field(random, page + at);
}

static guint8 *page_of(Bench *b, guint page)
{
    return b->ends.primary->guest + (gsize)page * VM_PAGE_SIZE;
}

static void work(Bench *b)
{
    for (guint i = 0; i < TOUCHED; i++) {
        guint hot = g_rand_int_range(b->random, 0, 10) < 8;
        guint8 *page = page_of(b, (guint)g_rand_int_range(b->random, 0, hot ? HOT : ROWS));
        if (g_rand_int_range(b->random, 0, 20) == 0)
            memmove(page + 2048 + 64, page + 2048, 1024);
        for (int n = 0; n < 6; n++)
            put_field(b->random, page + 8 * (gsize)g_rand_int_range(b->random, 0, 512));
    }
    for (guint i = 0; i < LOG; i++, b->log_page = (b->log_page + 1) % 4096)
        fill_page(b->random, page_of(b, ROWS + b->log_page));
}

/* ---- A session ---- */

static void connect_tcp(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean ok = bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 1) == 0 &&
                  getsockname(listener, (struct sockaddr *)&at, &len) == 0;
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok = ok && connect(fds[0], (struct sockaddr *)&at, len) == 0;
    fds[1] = ok ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fds[1] < 0)
        g_error("bench-compress: no connection over the loopback");
    close(listener);
}

static int compare(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values)
{
    qsort(values, CHECKPOINTS, sizeof(*values), compare);
    return values[CHECKPOINTS / 2];
}

static Result take_checkpoints(Bench *b, guint warm)
{
    double bytes[CHECKPOINTS] = {0}, transfer[CHECKPOINTS] = {0}, pause[CHECKPOINTS] = {0};
    CaptureBench *ends = &b->ends;
    for (guint i = 0; i < warm + CHECKPOINTS; i++) {
        work(b);
        capture_bench_take(ends, i + 1);
        if (i >= warm) {
            bytes[i - warm] = (double)ends->stats.bytes;
            transfer[i - warm] = (double)(ends->received_at_us - ends->taken_at_us);
            pause[i - warm] = (double)(ends->taken_at_us - ends->began_at_us);
        }
        g_usleep(20000);
    }
    return (Result){.bytes = median(bytes),
                    .transfer_us = median(transfer),
                    .pause_us = median(pause),
                    .codec = ends->stats.codec};
}

static Result run_session(Bench *b, DirtyTracker *tracker, CapturePack packing)
{
    connect_tcp(b->ends.fds);
    capture_bench_begin(&b->ends, tracker, packing);
    Result result = take_checkpoints(b, packing == CAPTURE_PACK_AUTO ? WARM : 20);
    capture_bench_end(&b->ends);
    return result;
}

/* ---- Figures ---- */

static void print(const char *what, const char *way, const char *link, double value,
                  const char *unit, double baseline)
{
    printf("%s_%s_%s %.3f %s %.3f\n", what, way, link, value, unit, baseline);
}

static Result bench_link(Bench *b, DirtyTracker *tracker, const char *link)
{
    static const char *const ways[] = {[CAPTURE_PACK_AUTO] = "auto",
                                       [CAPTURE_PACK_OFF] = "off",
                                       [CAPTURE_PACK_LZ4] = "lz4",
                                       [CAPTURE_PACK_ZSTD] = "zstd"};
    static const CapturePack order[] = {CAPTURE_PACK_OFF, CAPTURE_PACK_LZ4, CAPTURE_PACK_ZSTD,
                                        CAPTURE_PACK_AUTO};
    Result off = {0}, result = {0};
    for (gsize i = 0; i < G_N_ELEMENTS(order); i++) {
        const char *way = ways[order[i]];
        result = run_session(b, tracker, order[i]);
        if (order[i] == CAPTURE_PACK_OFF)
            off = result;
        print("bytes_db", way, link, result.bytes, "bytes", off.bytes);
        print("transfer_db", way, link, result.transfer_us / 1000, "ms", off.transfer_us / 1000);
        print("pause_db", way, link, result.pause_us / 1000, "ms", off.pause_us / 1000);
        fprintf(stderr, "%s %s: %s in the end\n", link, way, pack_codec_name(result.codec));
    }
    printf("bytes_per_checkpoint_db%s %.0f bytes %.0f\n", strcmp(link, "1g") ? "_fast" : "",
           result.bytes, off.bytes);
    return result;
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    if (unshare(CLONE_NEWNET) != 0 || system("ip link set lo up mtu 1500") != 0) {
        fprintf(stderr, "bench-compress: not root, or no ip: left out\n");
        return 0;
    }
    Bench b = {
        .ends = {.primary = test_ram_new(PAGES), .secondary = test_ram_new(PAGES)},
        .random = g_rand_new_with_seed(1)
    };
    for (guint page = 0; page < ROWS + 4096; page++)
        fill_page(b.random, page_of(&b, page));
    DirtyTracker *tracker = dirty_tracker_new(&b.ends.primary->ram, DIRTY_METHOD_AUTO, &error);
    g_assert_no_error(error);
    bench_link(&b, tracker, "fast");
    if (system("tc qdisc add dev lo root tbf rate 1gbit burst 128k latency 100ms") == 0)
        bench_link(&b, tracker, "1g");
    else
        fprintf(stderr, "bench-compress: the loopback can't be shaped: no figures of it\n");
    dirty_tracker_free(tracker);
    test_ram_free(b.ends.primary);
    test_ram_free(b.ends.secondary);
    g_rand_free(b.random);
    return 0;
}
