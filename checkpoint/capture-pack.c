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

/*
 * glibc's struct tcp_info ends before the rates: what linux/tcp.h has, up to tcpi_delivery_rate. The two
 * headers can't be included together.
 */
typedef struct {
    struct tcp_info known;
    guint64 pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
    guint32 segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    guint64 delivery_rate;
} TcpRates;
G_STATIC_ASSERT(sizeof(struct tcp_info) == 104 && offsetof(TcpRates, delivery_rate) == 160);

static void look_at_link(Capture *c)
{
    TcpRates info;
    socklen_t len = sizeof(info);
    if (c->no_tcp)
        return;
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && len >= sizeof(info))
        pack_rule_link(&c->pack_rule, (double)info.delivery_rate);
    else
        c->no_tcp = TRUE;
}

void capture_note_drain(Capture *c, guint64 bytes, gint64 us)
{
    if (c->no_tcp && bytes >= DRAIN_MIN_BYTES && us >= DRAIN_MIN_US)
        pack_rule_link(&c->pack_rule, (double)bytes * G_USEC_PER_SEC / (double)us);
}

static PackCodec choose(Capture *c, gboolean may_probe)
{
    PackCodec codec;
    PackSample sample = stream_writer_sample(c->writer, &codec);
    pack_rule_packed(&c->pack_rule, codec, sample.page_bytes, sample.wire_bytes, sample.us);
    look_at_link(c);
    return pack_rule_next(&c->pack_rule, may_probe, colo_time_now());
}

void capture_choose_packing(Capture *c, gboolean may_probe)
{
    static const PackCodec fixed[] = {[CAPTURE_PACK_OFF] = PACK_PLAIN,
                                      [CAPTURE_PACK_LZ4] = PACK_LZ4,
                                      [CAPTURE_PACK_ZSTD] = PACK_ZSTD};
    CapturePack packing = __atomic_load_n(&c->packing, __ATOMIC_RELAXED);
    PackCodec next;
    if (packing == CAPTURE_PACK_AUTO)
        next = choose(c, may_probe);
    else
        next = c->pack_rule.chosen = fixed[packing];
    gboolean keep = c->synchronised && c->pack_rule.chosen != PACK_PLAIN;
    stream_writer_set_packing(c->writer, next, keep);
}
