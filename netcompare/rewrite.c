/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which connection is mapped how.
 *
 * A connection is known by the key of the guest's output. Its map is
 *   seq: the PVM's initial sequence number - the SVM's, for one opened since the last checkpoint;
 *        for an older one what the primary maps it by (imported), usually nothing;
 *   ts:  likewise, plus how far the SVM's timestamps have to be advanced (note).
 *
 * Invariants:
 *  - A map is for one connection, told by the guest's initial sequence number: a SYN of the guest
 *    with another one voids it.
 *  - Input for a connection that the client has opened (SYN) and the guest has not answered waits;
 *    it can't be mapped yet, and unmapped the guest would answer it with a reset.
 *  - In ACTIVE a map lives until its connection is closed, and some time longer: the last ACK may
 *    have been lost.
 */
#include "netcompare/rewrite.h"

#include <string.h>

#include "netcompare/flow.h"
#include "netcompare/rewrite_internal.h"

#define EVICT_TRIES    64u
#define EXPORTS_CLOSED 100u

typedef struct {
    FlowNode node;   /* first */
    guint32 seq, ts; /* the map */
    guint32 ts_base; /* the part of `ts` that was imported */
    guint32 isn;     /* the guest's */
    guint32 client_isn;
    guint32 guest_end;         /* after the guest's FIN */
    guint32 ts_first, ts_last; /* of the guest's timestamps seen in this epoch */
    bool mapped;               /* `seq` is known */
    bool has_isn;              /* the guest's SYN is known */
    bool opened;               /* ... and was seen in this epoch */
    bool has_ts;
    bool client_syn; /* the client wants a new connection; the guest has not answered */
    bool guest_fin, client_fin;
    bool closed;
    guint8 exports_closed; /* exports since then */
    GQueue waiting;        /* of GBytes: input */
} Connection;

struct Rewrite {
    RewriteOptions options;
    guint64 epoch;
    gboolean active;
    void (*deliver)(unsigned nic, GBytes *frame, gpointer user_data);
    gpointer user_data;
    FlowTable table;
    RewriteStats stats;
};

void rewrite_options_init(RewriteOptions *options)
{
    *options = (RewriteOptions){
        .max_flows = 262144,
        .max_held_bytes = (gsize)4 << 20,
        .vnet_hdr = TRUE,
    };
}

/* ---- Connections ---- */

static void drop_waiting(Rewrite *rewrite, Connection *c)
{
    GBytes *frame;

    while ((frame = g_queue_pop_head(&c->waiting)) != NULL) {
        rewrite->stats.held_frames--;
        rewrite->stats.held_bytes -= g_bytes_get_size(frame);
        g_bytes_unref(frame);
    }
}

static void connection_remove(Rewrite *rewrite, Connection *c)
{
    drop_waiting(rewrite, c);
    flow_table_remove(&rewrite->table, &c->node);
    rewrite->stats.flows--;
    g_free(c);
}

static void remove_all(Rewrite *rewrite)
{
    while (rewrite->table.ages.head != NULL)
        connection_remove(rewrite, rewrite->table.ages.head->data);
}

static gboolean may_forget(const FlowNode *node, gpointer user_data)
{
    const Connection *c = (const Connection *)node;
    (void)user_data;
    return c->closed && c->waiting.length == 0;
}

static Connection *connection_find(Rewrite *rewrite, const CompareKey *key)
{
    return (Connection *)flow_table_find(&rewrite->table, key, flow_hash(&rewrite->table, key));
}

/* NULL: there is no room (counted). */
static Connection *connection_get(Rewrite *rewrite, const CompareKey *key)
{
    Connection *c = connection_find(rewrite, key);

    if (c != NULL)
        return c;
    if (rewrite->table.n_flows >= rewrite->options.max_flows) {
        FlowNode *closed = flow_table_oldest(&rewrite->table, EVICT_TRIES, may_forget, NULL);
        if (closed == NULL) {
            rewrite->stats.no_room++;
            return NULL;
        }
        connection_remove(rewrite, (Connection *)closed);
    }
    c = g_new0(Connection, 1);
    flow_table_insert(&rewrite->table, &c->node, key, flow_hash(&rewrite->table, key));
    rewrite->stats.flows++;
    return c;
}

Rewrite *rewrite_new(const RewriteOptions *options, guint64 epoch,
                     void (*deliver)(unsigned nic, GBytes *frame, gpointer user_data),
                     gpointer user_data)
{
    Rewrite *rewrite = g_new0(Rewrite, 1);

    rewrite->options = *options;
    rewrite->epoch = epoch;
    rewrite->deliver = deliver;
    rewrite->user_data = user_data;
    flow_table_init(&rewrite->table, options->hash_seed);
    return rewrite;
}

void rewrite_free(Rewrite *rewrite)
{
    if (rewrite == NULL)
        return;
    remove_all(rewrite);
    flow_table_clear(&rewrite->table);
    g_free(rewrite);
}

/* ---- Parsing ---- */

/* FALSE: not TCP, or a later fragment: nothing to map. The key is the guest's in both directions.
 */
static gboolean parse(const Rewrite *rewrite, unsigned nic, GBytes *frame, gboolean input,
                      Packet *packet)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);

    packet_parse(data, len, rewrite->options.vnet_hdr, nic, packet);
    if (!packet->has_tcp)
        return FALSE;
    packet->key.kind = COMPARE_KIND_TCP;
    if (input) {
        CompareKey *key = &packet->key;
        guint8 address[16];
        guint16 port = key->sport;
        memcpy(address, key->src, 16);
        memcpy(key->src, key->dst, 16);
        memcpy(key->dst, address, 16);
        key->sport = key->dport;
        key->dport = port;
    }
    return TRUE;
}

static RewriteMap map_of(const Connection *c)
{
    return (RewriteMap){
        .seq = c->mapped ? c->seq : 0,
        .ts = c->ts,
        .clamp = c->has_ts,
        .ts_first = c->ts_first,
        .ts_last = c->ts_last,
    };
}

/* ---- Input ---- */

static void deliver(Rewrite *rewrite, unsigned nic, Connection *c, GBytes *frame,
                    const Packet *packet)
{
    RewriteMap map = map_of(c);
    g_autoptr(GBytes) mapped = rewrite_frame_input(frame, packet, &map);

    if (mapped != frame)
        rewrite->stats.rewritten_input++;
    rewrite->deliver(nic, mapped, rewrite->user_data);
}

/* Not TCP; but an ICMP error may be about a connection (path MTU, unreachable). */
static void deliver_other(Rewrite *rewrite, unsigned nic, GBytes *frame, const Packet *packet)
{
    CompareKey key;
    guint32 seq_offset;
    Connection *c = NULL;

    if (packet_quoted_tcp(g_bytes_get_data(frame, NULL), packet, &key, &seq_offset))
        c = connection_find(rewrite, &key);
    if (c == NULL) {
        rewrite->deliver(nic, frame, rewrite->user_data);
        return;
    }
    RewriteMap map = map_of(c);
    g_autoptr(GBytes) mapped = rewrite_frame_quoted(frame, packet, seq_offset, &map);
    if (mapped != frame)
        rewrite->stats.rewritten_input++;
    rewrite->deliver(nic, mapped, rewrite->user_data);
}

/*
 * No note has come, but the client answers the guest's SYN: it acknowledges the SYN that it has
 * got. (Data that came with that SYN would mislead this. Outside of TCP Fast Open no client is
 * known that sends data before the answer.)
 */
static void learn_from_client(Rewrite *rewrite, Connection *c, const Packet *packet)
{
    gboolean handshake = (packet->flags & TCP_ACK) && !(packet->flags & TCP_RST);

    if (!c->opened || c->mapped || c->client_syn || !handshake)
        return;
    c->seq = packet->ack - 1 - c->isn;
    if (packet->ts_offset != 0 && c->has_ts && c->seq != 0)
        c->ts = c->ts_base = packet->tsecr - c->ts_last;
    c->mapped = TRUE;
    rewrite->stats.guessed++;
}

static void note_client_syn(Rewrite *rewrite, const Packet *packet)
{
    Connection *c = connection_get(rewrite, &packet->key);

    if (c == NULL || (c->opened && c->client_isn == packet->seq))
        return; /* the latter: sent again, and answered already */
    c->client_syn = TRUE;
    c->client_isn = packet->seq;
}

static gboolean must_wait(const Connection *c, const Packet *packet)
{
    return c->client_syn && seq_diff(packet->seq, c->client_isn) > 0;
}

static void wait(Rewrite *rewrite, Connection *c, GBytes *frame)
{
    gsize bytes = g_bytes_get_size(frame);

    if (rewrite->stats.held_bytes + bytes > rewrite->options.max_held_bytes) {
        rewrite->stats.dropped++; /* the client will send it again */
        return;
    }
    rewrite->stats.held_frames++;
    rewrite->stats.held_bytes += bytes;
    g_queue_push_tail(&c->waiting, g_bytes_ref(frame));
}

/* Closed: reset, or both FINs are out and the guest's has been acknowledged. */
static void note_client_end(Connection *c, const Packet *packet)
{
    if (packet->flags & TCP_FIN)
        c->client_fin = TRUE;
    gboolean acked = c->guest_fin && (packet->flags & TCP_ACK) &&
                     seq_diff(packet->ack - c->seq, c->guest_end) >= 0;
    if ((packet->flags & TCP_RST) || (acked && c->client_fin))
        c->closed = TRUE;
}

static void note_guest_end(Connection *c, const Packet *packet)
{
    if (packet->flags & TCP_FIN) {
        c->guest_fin = TRUE;
        c->guest_end = packet_tcp_end(packet);
    }
    if (packet->flags & TCP_RST)
        c->closed = TRUE;
}

void rewrite_input(Rewrite *rewrite, unsigned nic, GBytes *frame)
{
    Packet packet;

    if (!parse(rewrite, nic, frame, TRUE, &packet)) {
        deliver_other(rewrite, nic, frame, &packet);
        return;
    }
    if ((packet.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
        if (!rewrite->active) /* the guest of an active one answers before the client continues */
            note_client_syn(rewrite, &packet);
        rewrite->deliver(nic, frame, rewrite->user_data);
        return;
    }
    Connection *c = connection_find(rewrite, &packet.key);
    if (c == NULL) {
        rewrite->deliver(nic, frame, rewrite->user_data);
        return;
    }
    if (must_wait(c, &packet)) {
        wait(rewrite, c, frame);
        return;
    }
    learn_from_client(rewrite, c, &packet);
    note_client_end(c, &packet);
    deliver(rewrite, nic, c, frame, &packet);
}

/* ---- Output ---- */

static void deliver_waiting(Rewrite *rewrite, unsigned nic, Connection *c)
{
    GQueue waiting = c->waiting;
    GBytes *frame;

    g_queue_init(&c->waiting);
    while ((frame = g_queue_pop_head(&waiting)) != NULL) {
        rewrite->stats.held_frames--;
        rewrite->stats.held_bytes -= g_bytes_get_size(frame);
        rewrite_input(rewrite, nic, frame);
        g_bytes_unref(frame);
    }
}

/* The guest's SYN: of a new connection, unless it is the one we know. */
static void note_guest_syn(Connection *c, const Packet *packet, gboolean active)
{
    c->client_syn = FALSE;
    if (c->has_isn && c->isn == packet->seq)
        return;
    c->isn = packet->seq;
    c->has_isn = c->opened = TRUE;
    c->seq = c->ts = c->ts_base = 0;
    c->has_ts = c->guest_fin = c->client_fin = c->closed = FALSE;
    c->mapped = active; /* it leaves as it is, and so the client knows it */
}

/* The guest has sent this timestamp. */
static void note_guest_ts(Connection *c, guint32 ts)
{
    if (!c->has_ts)
        c->ts_first = c->ts_last = ts;
    else if (seq_diff(ts, c->ts_last) > 0)
        c->ts_last = ts;
    c->has_ts = TRUE;
}

void rewrite_observe(Rewrite *rewrite, unsigned nic, GBytes *frame)
{
    Packet packet;

    if (!parse(rewrite, nic, frame, FALSE, &packet))
        return;
    gboolean syn = (packet.flags & TCP_SYN) && !(packet.flags & TCP_RST);
    Connection *c = connection_find(rewrite, &packet.key);
    if (c == NULL && syn && !rewrite->active)
        c = connection_get(rewrite, &packet.key);
    if (c == NULL)
        return;

    gboolean answered = c->client_syn && (packet.flags & (TCP_SYN | TCP_RST));
    if (syn)
        note_guest_syn(c, &packet, rewrite->active);
    if (packet.flags & TCP_RST)
        c->client_syn = FALSE;
    if (packet.ts_offset != 0)
        note_guest_ts(c, packet.tsval);
    note_guest_end(c, &packet);
    if (answered)
        deliver_waiting(rewrite, nic, c);
}

GBytes *rewrite_map_output(Rewrite *rewrite, unsigned nic, GBytes *frame)
{
    Packet packet;
    Connection *c;

    g_assert(rewrite->active);
    if (!parse(rewrite, nic, frame, FALSE, &packet) ||
        (c = connection_find(rewrite, &packet.key)) == NULL)
        return g_bytes_ref(frame);
    RewriteMap map = map_of(c);
    GBytes *mapped = rewrite_frame_output(frame, &packet, &map);
    if (mapped != frame)
        rewrite->stats.rewritten_output++;
    return mapped;
}

/* ---- What the other host sends ---- */

void rewrite_note(Rewrite *rewrite, const CompareNote *note)
{
    gboolean opened = note->has_isn && note->pvm_isn != note->svm_isn;

    if (note->epoch != rewrite->epoch || rewrite->active)
        return;
    Connection *c =
        opened ? connection_find(rewrite, &note->key) : connection_get(rewrite, &note->key);
    if (c == NULL)
        return;
    if (note->has_isn && c->has_isn && c->isn != note->svm_isn)
        return; /* about a connection that was here before this one */
    if (opened) {
        c->seq = note->pvm_isn - note->svm_isn;
        c->mapped = TRUE;
    }
    if (note->has_isn) { /* so that its SYN, sent again by the copy, is not taken for a new one */
        c->isn = note->svm_isn;
        c->has_isn = TRUE;
    }
    if (note->has_ts)
        note_guest_ts(c, note->svm_ts);
    c->ts = c->ts_base + note->ts_advance;
}

gboolean rewrite_checkpoint(Rewrite *rewrite, guint64 epoch, GBytes *exported, GError **error)
{
    g_autoptr(GArray) maps = NULL;

    g_assert(!rewrite->active);
    if (exported != NULL && (maps = rewrite_export_parse(exported, error)) == NULL)
        return FALSE;
    remove_all(rewrite);
    rewrite->epoch = epoch;
    for (guint i = 0; maps != NULL && i < maps->len; i++) {
        const RewriteExported *map = &g_array_index(maps, RewriteExported, i);
        Connection *c = connection_get(rewrite, &map->key);
        if (c == NULL)
            break;
        c->seq = map->seq;
        c->ts = c->ts_base = map->ts;
        c->isn = map->isn;
        c->has_isn = map->has_isn;
        c->ts_first = c->ts_last = map->ts_last;
        c->has_ts = map->has_ts;
        c->mapped = !map->unknown;
        c->opened = map->unknown;
    }
    return TRUE;
}

void rewrite_takeover(Rewrite *rewrite)
{
    rewrite->active = TRUE;
}

static gboolean is_worth_exporting(const Connection *c)
{
    return c->seq != 0 || c->ts != 0 || (c->opened && !c->mapped);
}

GBytes *rewrite_export(Rewrite *rewrite)
{
    GByteArray *bytes = g_byte_array_new();
    GList *next;

    g_assert(rewrite->active);
    for (GList *l = rewrite->table.ages.head; l != NULL; l = next) {
        Connection *c = l->data;
        next = l->next;
        /* The last ACK may have been lost: what is closed is remembered for a while. */
        if (!is_worth_exporting(c) || (c->closed && ++c->exports_closed > EXPORTS_CLOSED)) {
            connection_remove(rewrite, c);
            continue;
        }
        RewriteExported map = {
            .key = c->node.key,
            .seq = c->mapped ? c->seq : 0,
            .ts = c->ts,
            .isn = c->isn,
            .ts_last = c->ts_last,
            .has_isn = c->has_isn,
            .has_ts = c->has_ts,
            .unknown = c->opened && !c->mapped,
        };
        rewrite_export_append(bytes, &map);
    }
    if (bytes->len == 0) {
        g_byte_array_unref(bytes);
        return NULL;
    }
    return g_byte_array_free_to_bytes(bytes);
}

const RewriteStats *rewrite_stats(const Rewrite *rewrite)
{
    return &rewrite->stats;
}
