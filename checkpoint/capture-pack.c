/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a capture packs pages: what was measured goes to the rule, and what that says to the writer.
 *
 * The rate of the link is what the kernel has seen arrive at the other end (TCP_INFO): a socket's buffer
 * takes a small checkpoint at once, however slow the link is. Where the kernel doesn't tell, for a unix
 * socket, it is what the socket takes when it is full. One that is never full counts as fast.
 *
 * Versions are kept once RAM is synchronised, for pages of the first synchronisation come once; and not by
 * probes, which would take the memory and seldom meet a page again.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

#include "checkpoint/capture_internal.h"

/* A drain that is shorter tells of the buffer and not of the link. */
#define DRAIN_MIN_BYTES (64u << 10)
#define DRAIN_MIN_US    COLO_US_PER_MS

/* What is sent without a break is looked at in parts. */
#define LOOK_US (20 * COLO_US_PER_MS)

/*
 * glibc's struct tcp_info ends before the rates: what linux/tcp.h has, up to tcpi_delivery_rate. The two
 * headers can't be included together.
 */
#define APP_LIMITED_AT                                                                             \
    7u /* bit 0: the sender had nothing to send for a while; glibc has no name for it */
typedef struct {
    struct tcp_info known;
    guint64 pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
    guint32 segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    guint64 delivery_rate;
} TcpRates;
G_STATIC_ASSERT(sizeof(struct tcp_info) == 104 && offsetof(TcpRates, delivery_rate) == 160);

/*
 * Two things are known: what the kernel makes of the last acknowledgements, and what was acknowledged since
 * the transfer began. On a link that is fast the first is often too low, for one end may wait for its CPU.
 * The second is never too high, but for what a switch lets through at once. So the larger one counts.
 */
static void look_at_link(Capture *c, gboolean begins)
{
    TcpRates info;
    socklen_t len = sizeof(info);
    if (c->no_tcp)
        return;
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || len < sizeof(info)) {
        c->no_tcp = TRUE;
        return;
    }
    LinkLook *look = &c->link_look;
    ColoTime now = colo_time_now();
    gint64 us = colo_time_diff_us(now, look->began);
    guint64 acked = info.bytes_acked - look->acked_before;
    if (look->began.us && us > 0 && acked >= DRAIN_MIN_BYTES)
        look->best = MAX(look->best, (double)acked * G_USEC_PER_SEC / (double)us);
    if (!begins && look->began.us && us < LOOK_US)
        return;
    if (look->began.us)
        pack_rule_link(&c->pack_rule, MAX(look->best, (double)info.delivery_rate),
                       !(((const guint8 *)&info)[APP_LIMITED_AT] & 1));
    *look = (LinkLook){.began = now, .acked_before = info.bytes_acked};
}

void capture_note_drain(Capture *c, guint64 bytes, gint64 us)
{
    if (c->no_tcp && bytes >= DRAIN_MIN_BYTES && us >= DRAIN_MIN_US)
        pack_rule_link(&c->pack_rule, (double)bytes * G_USEC_PER_SEC / (double)us, TRUE);
}

static PackCodec choose(Capture *c, gboolean begins, gboolean may_probe)
{
    PackCodec codec;
    PackSample sample = stream_writer_sample(c->writer, &codec);
    pack_rule_packed(&c->pack_rule, codec, sample.page_bytes, sample.wire_bytes, sample.us);
    look_at_link(c, begins);
    return pack_rule_next(&c->pack_rule, begins, may_probe, c->synchronised, colo_time_now());
}

void capture_choose_packing(Capture *c, gboolean begins, gboolean may_probe)
{
    static const PackCodec fixed[] = {[CAPTURE_PACK_OFF] = PACK_PLAIN,
                                      [CAPTURE_PACK_LZ4] = PACK_LZ4,
                                      [CAPTURE_PACK_ZSTD] = PACK_ZSTD};
    CapturePack packing = __atomic_load_n(&c->packing, __ATOMIC_RELAXED);
    PackCodec next;
    if (packing == CAPTURE_PACK_AUTO)
        next = choose(c, begins, may_probe);
    else
        next = c->pack_rule.chosen = fixed[packing];
    gboolean keep = c->synchronised && c->pack_rule.chosen != PACK_PLAIN;
    stream_writer_set_packing(c->writer, next, keep);
}
