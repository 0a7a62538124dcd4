/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A port and a gate without QEMU: a thread plays the filter-redirector on a socketpair. Small
 * frames and super-frames each way, and small ones through a gate. Prints "name value unit" lines.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/endian.h"
#include "common/fd.h"
#include "netcompare/netcompare.h"

#define SMALL_BYTES 60u
#define LARGE_BYTES 65226u

typedef struct {
    int fd;         /* the thread's end */
    guint32 frames; /* to write, or to read */
    gsize frame_bytes;
    guint32 received;
} Bench;

/* The framing, as QEMU writes it: lengths and frame, each with a call of its own. */
static gpointer write_as_qemu(gpointer data)
{
    Bench *bench = data;
    guint32 len = NETCOMPARE_VNET_HDR_BYTES + (guint32)bench->frame_bytes;
    g_autofree guint8 *frame = g_malloc0(len);
    guint8 be_len[4], be_header[4];

    colo_put_be32(be_len, len);
    colo_put_be32(be_header, NETCOMPARE_VNET_HDR_BYTES);
    for (guint32 i = 0; i < bench->frames; i++) {
        if (!colo_fd_write_all(bench->fd, be_len, 4, NULL) ||
            !colo_fd_write_all(bench->fd, be_header, 4, NULL) ||
            !colo_fd_write_all(bench->fd, frame, len, NULL))
            break;
    }
    return NULL;
}

static gpointer read_as_qemu(gpointer data)
{
    Bench *bench = data;
    gsize left = (gsize)bench->frames * (8 + NETCOMPARE_VNET_HDR_BYTES + bench->frame_bytes);
    guint8 buffer[4096]; /* as much as QEMU's character device reads at once */
    while (left > 0) {
        ssize_t n = read(bench->fd, buffer, sizeof(buffer));
        if (n <= 0)
            break;
        left -= (gsize)n;
    }
    return NULL;
}

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    (void)data;
    (void)len;
    ((Bench *)user_data)->received++;
}

static void on_failed(const GError *error, gpointer user_data)
{
    (void)user_data;
    g_error("%s", error->message);
}

static void print_rates(const char *name, const Bench *bench, gint64 us)
{
    double seconds = (double)us / 1e6;
    printf("%s_frames %.0f frames/s\n", name, bench->frames / seconds);
    printf("%s_bytes %.1f MiB/s\n", name,
           (double)bench->frames * (double)bench->frame_bytes / seconds / 1048576.0);
}

static void bench_port(const char *name, gboolean output, guint32 frames, gsize frame_bytes)
{
    int pair[2], bytes = 4 << 20;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        g_error("socketpair failed");
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    Bench bench = {.fd = pair[1], .frames = frames, .frame_bytes = frame_bytes};
    Port *port = port_new(pair[0], on_output, on_failed, &bench);
    g_autofree guint8 *frame = g_malloc0(NETCOMPARE_VNET_HDR_BYTES + frame_bytes);

    ColoTime start = colo_time_now();
    GThread *thread = g_thread_new("qemu", output ? write_as_qemu : read_as_qemu, &bench);
    if (output) {
        while (bench.received < frames)
            g_main_context_iteration(NULL, TRUE);
    } else {
        for (guint32 i = 0; i < frames;) {
            if (port_stats(port)->queued_bytes < 1 << 20) {
                port_send(port, frame, NETCOMPARE_VNET_HDR_BYTES + frame_bytes);
                i++;
            } else {
                g_main_context_iteration(NULL, TRUE);
            }
        }
        while (port_stats(port)->queued_bytes > 0)
            g_main_context_iteration(NULL, TRUE);
    }
    g_thread_join(thread);
    print_rates(name, &bench, colo_time_diff_us(colo_time_now(), start));
    port_free(port);
    close(pair[0]);
    close(pair[1]);
}

static void on_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)frame;
    ((Bench *)user_data)->received++;
}

/* Epochs of 1,000 frames, each held until the next has begun. */
static void bench_gate(guint32 frames)
{
    Bench bench = {.frames = frames, .frame_bytes = SMALL_BYTES};
    guint8 frame[NETCOMPARE_VNET_HDR_BYTES + SMALL_BYTES] = {0};
    Gate *gate = gate_new(64 << 20, on_release, &bench);
    ColoTime start = colo_time_now();
    for (guint32 i = 0; i < frames; i++) {
        gate_add(gate, 0, i / 1000, frame, sizeof(frame));
        if (i % 1000 == 999)
            gate_release(gate, i / 1000);
    }
    print_rates("net_gate_small", &bench, colo_time_diff_us(colo_time_now(), start));
    gate_free(gate);
}

int main(void)
{
    bench_port("net_port_output_small", TRUE, 500000, SMALL_BYTES);
    bench_port("net_port_output_large", TRUE, 30000, LARGE_BYTES);
    bench_port("net_port_input_small", FALSE, 500000, SMALL_BYTES);
    bench_port("net_port_input_large", FALSE, 30000, LARGE_BYTES);
    bench_gate(2000000);
    return 0;
}
