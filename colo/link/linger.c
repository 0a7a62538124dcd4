/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pairing that this side has ended on purpose. It lives for a moment: until the peer has read what was sent last,
 * and this side what the peer had sent.
 */
#include "colo/link/link_internal.h"

#define LINGER_MS  1000u
#define LINGER_MAX 4u

typedef struct {
    Link *link;
    Pairing *pairing;
    GSource *timer;
    guint open;       /* connections whose end is waited for */
    gboolean follows; /* packets are wanted */
} Linger;

static void linger_free(gpointer data)
{
    Linger *linger = data;
    link_source_clear(&linger->timer);
    pairing_free(linger->pairing);
    g_free(linger);
}

static gboolean on_linger_timeout(gpointer user_data)
{
    Linger *linger = user_data;
    g_ptr_array_remove(linger->link->lingering, linger);
    return G_SOURCE_REMOVE;
}

static void on_linger_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Linger *linger = user_data;
    Channel *packets = linger->pairing->channels[LINK_PACKETS];
    (void)why;
    if (--linger->open == 0)
        g_ptr_array_remove(linger->link->lingering, linger);
    else if (channel != packets)
        channel_finish(packets); /* not before: its end would overtake our last words */
}

static void ignore_end(Channel *channel, const GError *why, gpointer user_data)
{
    (void)channel;
    (void)why;
    (void)user_data;
}

static gsize on_late_packets(Channel *channel, const guint8 *data, gsize len, gpointer user_data)
{
    Linger *linger = user_data;
    Link *link = link_ref(linger->link);
    LinkParsedPacket packet;
    gsize used = 0;
    /* A callback may free the link, and so this. What breaks the protocol is thrown away. */
    while (channel_is_open(channel) && linger->follows) {
        LinkParse result = link_parse_packet(data + used, len - used, &packet, NULL);
        linger->follows = result != LINK_PARSE_BAD;
        if (result != LINK_PARSE_WHOLE)
            break;
        used += packet.used;
        link->packets.received_frames++;
        link->packets.received_bytes += packet.len;
        link->callbacks.late_packet(packet.nic, packet.frame, packet.len, link->user_data);
    }
    gboolean rest = channel_is_open(channel) && linger->follows;
    link_unref(link);
    return rest ? used : len;
}

void link_linger(Link *link, Pairing *pairing)
{
    static const ChannelHandler last_words = {.ended = on_linger_ended};
    static const ChannelHandler packets = {.data = on_late_packets, .ended = on_linger_ended};
    static const ChannelHandler nothing = {.ended = ignore_end};
    Linger *linger = g_new(Linger, 1);
    *linger =
        (Linger){.link = link, .pairing = pairing, .open = 2, .follows = link->packets_follow};
    linger->timer = link_timer(LINGER_MS, on_linger_timeout, linger);
    if (link->lingering->len >= LINGER_MAX)
        g_ptr_array_remove_index(link->lingering, 0);
    g_ptr_array_add(link->lingering, linger);
    for (LinkChannel which = 0; which < link->channels; which++)
        channel_handle(pairing->channels[which],
                       link_is_engines(which) ? CHANNEL_HOLD : CHANNEL_READ, G_PRIORITY_DEFAULT,
                       which == LINK_CONTROL   ? &last_words
                       : which == LINK_PACKETS ? &packets
                                               : &nothing,
                       linger);
    channel_finish(pairing->channels[LINK_CONTROL]);
}

GPtrArray *link_lingering_new(void)
{
    return g_ptr_array_new_with_free_func(linger_free);
}

void link_end_lingering(Link *link)
{
    for (guint i = link->lingering->len; i > 0; i--) {
        Linger *linger = g_ptr_array_index(link->lingering, i - 1);
        channel_read_now(linger->pairing->channels[LINK_CONTROL]);
    }
    g_clear_pointer(&link->lingering, g_ptr_array_unref);
}
