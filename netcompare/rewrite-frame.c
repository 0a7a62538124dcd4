/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the numbers in a TCP header, and in an ICMP error that quotes one. The checksum is
 * adjusted by what changed (RFC 1624). So a wrong one stays wrong, and a super-frame costs no more
 * than a small one. A partial one (only the pseudo header's sum, to be completed by a network card)
 * does not cover the header yet and stays as it is.
 */
#include "netcompare/rewrite_internal.h"

#include <gio/gio.h>
#include <string.h>

#include "common/endian.h"

#define TCP_FLAGS_AT     12u /* data offset and flags, then the window */
#define TCP_CHECKSUM_AT  16u
#define ICMP_CHECKSUM_AT 2u

typedef struct {
    GBytes *frame;        /* as it came */
    const Packet *packet; /* parsed from it */
    guint32 header;       /* where the TCP or ICMP header is */
    guint32 checksum;     /* where its checksum is in it */
    guint8 *copy;         /* NULL: nothing has changed yet */
} Edit;

static const guint8 *current(const Edit *edit)
{
    return edit->copy != NULL ? edit->copy : g_bytes_get_data(edit->frame, NULL);
}

/* Sum of the 16-bit words that hold bytes `at`..`at` + 4, counted from the header. */
static guint32 words_around(const guint8 *header, guint32 at)
{
    guint32 sum = 0;
    for (guint32 i = at & ~1u; i < at + 4; i += 2)
        sum += colo_get_be16(header + i);
    return sum;
}

/* ~(~checksum + ~old + new), in one's complement */
static guint16 adjusted(guint16 checksum, guint32 before, guint32 after)
{
    guint32 sum = (guint16)~checksum + after;

    while (before >> 16)
        before = (before & 0xffff) + (before >> 16);
    sum += (guint16)~before;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)~sum;
}

/* Adds `delta` to the 32-bit field at `offset` in the frame. */
static void add_to_field(Edit *edit, guint32 offset, guint32 delta)
{
    if (delta == 0)
        return;
    if (edit->copy == NULL)
        edit->copy = g_memdup2(current(edit), g_bytes_get_size(edit->frame));
    guint8 *header = edit->copy + edit->header, *checksum = header + edit->checksum;
    guint32 at = offset - edit->header, before = words_around(header, at);

    colo_put_be32(header + at, colo_get_be32(header + at) + delta);
    if (!edit->packet->partial_csum)
        colo_put_be16(checksum,
                      adjusted(colo_get_be16(checksum), before, words_around(header, at)));
}

static Edit edit_tcp(GBytes *frame, const Packet *packet)
{
    return (Edit){.frame = frame,
                  .packet = packet,
                  .header = packet->tcp_offset,
                  .checksum = TCP_CHECKSUM_AT};
}

static GBytes *finish(Edit *edit)
{
    if (edit->copy == NULL)
        return g_bytes_ref(edit->frame);
    return g_bytes_new_take(edit->copy, g_bytes_get_size(edit->frame));
}

GBytes *rewrite_frame_window(GBytes *frame, const Packet *packet, guint16 window)
{
    Edit edit = edit_tcp(frame, packet);
    add_to_field(&edit, packet->tcp_offset + TCP_FLAGS_AT, (guint32)window - packet->window);
    return finish(&edit);
}

GBytes *rewrite_frame_output(GBytes *frame, const Packet *packet, const RewriteMap *map)
{
    Edit edit = edit_tcp(frame, packet);

    add_to_field(&edit, packet->tcp_offset + 4, map->seq);
    if (packet->ts_offset != 0)
        add_to_field(&edit, packet->ts_offset, map->ts);
    return finish(&edit);
}

/* The guest's timestamp that this echo maps to. */
static guint32 mapped_echo(guint32 tsecr, const RewriteMap *map)
{
    guint32 guest = tsecr - map->ts;

    if (map->clamp && seq_diff(guest, map->ts_last) > 0)
        return map->ts_last;
    if (map->clamp && seq_diff(guest, map->ts_first) < 0)
        return map->ts_first;
    return guest;
}

GBytes *rewrite_frame_input(GBytes *frame, const Packet *packet, const RewriteMap *map)
{
    Edit edit = edit_tcp(frame, packet);

    if (!(packet->flags & TCP_ACK))
        return g_bytes_ref(frame); /* has none of the guest's numbers */
    add_to_field(&edit, packet->tcp_offset + 8, -map->seq);
    for (guint i = 0; i < 2u * packet->sack_blocks; i++)
        add_to_field(&edit, packet->sack_offset + 4 * i, -map->seq);
    if (packet->ts_offset != 0 && map->ts != 0)
        add_to_field(&edit, packet->ts_offset + 4, mapped_echo(packet->tsecr, map) - packet->tsecr);
    return finish(&edit);
}

GBytes *rewrite_frame_quoted(GBytes *frame, const Packet *packet, guint32 seq_offset,
                             const RewriteMap *map)
{
    Edit edit = {.frame = frame,
                 .packet = packet,
                 .header = packet->l4_offset,
                 .checksum = ICMP_CHECKSUM_AT};

    add_to_field(&edit, seq_offset, -map->seq);
    return finish(&edit);
}

/* ---- Export ---- */

/*
 * u8 version | then for each map: be32 nic | be16 outer, inner vlan, sport, dport, ethertype |
 * u8 flags, 0 | src[16] | dst[16] | be32 seq, ts, isn, ts_last
 */
#define EXPORT_VERSION 1
#define EXPORT_BYTES   64u
#define EXPORT_HAS_ISN 1
#define EXPORT_HAS_TS  2
#define EXPORT_UNKNOWN 4

void rewrite_export_append(GByteArray *bytes, const RewriteExported *map)
{
    guint8 record[EXPORT_BYTES] = {0};

    if (bytes->len == 0)
        g_byte_array_append(bytes, &(guint8){EXPORT_VERSION}, 1);
    colo_put_be32(record, map->key.nic);
    colo_put_be16(record + 4, map->key.vlan[0]);
    colo_put_be16(record + 6, map->key.vlan[1]);
    colo_put_be16(record + 8, map->key.sport);
    colo_put_be16(record + 10, map->key.dport);
    colo_put_be16(record + 12, map->key.ethertype);
    record[14] = (guint8)((map->has_isn ? EXPORT_HAS_ISN : 0) | (map->has_ts ? EXPORT_HAS_TS : 0) |
                          (map->unknown ? EXPORT_UNKNOWN : 0));
    memcpy(record + 16, map->key.src, 16);
    memcpy(record + 32, map->key.dst, 16);
    colo_put_be32(record + 48, map->seq);
    colo_put_be32(record + 52, map->ts);
    colo_put_be32(record + 56, map->isn);
    colo_put_be32(record + 60, map->ts_last);
    g_byte_array_append(bytes, record, sizeof(record));
}

GArray *rewrite_export_parse(GBytes *bytes, GError **error)
{
    gsize len;
    const guint8 *at = g_bytes_get_data(bytes, &len);

    if (len < 1 || at[0] != EXPORT_VERSION || (len - 1) % EXPORT_BYTES != 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the primary's TCP maps are malformed (%zu bytes, version %d, not %d): do both "
                    "hosts run the same version?",
                    len, len > 0 ? at[0] : -1, EXPORT_VERSION);
        return NULL;
    }
    GArray *maps = g_array_new(FALSE, TRUE, sizeof(RewriteExported));
    for (at++, len--; len > 0; at += EXPORT_BYTES, len -= EXPORT_BYTES) {
        RewriteExported map = {
            .key = {.nic = colo_get_be32(at),
                    .vlan = {colo_get_be16(at + 4), colo_get_be16(at + 6)},
                    .sport = colo_get_be16(at + 8),
                    .dport = colo_get_be16(at + 10),
                    .ethertype = colo_get_be16(at + 12),
                    .proto = PROTO_TCP,
                    .kind = COMPARE_KIND_TCP},
            .has_isn = (at[14] & EXPORT_HAS_ISN) != 0,
            .has_ts = (at[14] & EXPORT_HAS_TS) != 0,
            .unknown = (at[14] & EXPORT_UNKNOWN) != 0,
            .seq = colo_get_be32(at + 48),
            .ts = colo_get_be32(at + 52),
            .isn = colo_get_be32(at + 56),
            .ts_last = colo_get_be32(at + 60),
        };
        memcpy(map.key.src, at + 16, 16);
        memcpy(map.key.dst, at + 32, 16);
        g_array_append_val(maps, map);
    }
    return maps;
}
