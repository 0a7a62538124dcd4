/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Receive windows: the client gets the smaller one of both VMs'. */
#include "netcompare/compare_internal.h"
#include "netcompare/rewrite_internal.h"

/*
 * A client that gets the PVM's window, where the SVM's is smaller, sends what the SVM has no room
 * for and drops. The SVM falls behind. The client, whose segment has arrived at the PVM, sends it
 * again only when its timer expires. So a frame leaves with the smaller window. Raw windows are
 * compared, for both sides scale alike, and the SVM's edge is at least as far as its ACK, which is
 * not behind the frame's. When the SVM's window has grown and no frame comes that could carry it,
 * the last one is sent again.
 */
void tcp_forget_narrowed(Compare *compare, Flow *flow)
{
    if (flow->narrowed == NULL)
        return;
    links_remove(&compare->narrowed, &flow->narrowed_link);
    g_clear_pointer(&flow->narrowed, g_bytes_unref);
}

void tcp_narrow(Compare *compare, Flow *flow, Held *held)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];
    const Packet *p = &held->packet;

    if ((p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) != TCP_ACK)
        return;
    tcp_forget_narrowed(compare, flow);
    if (!svm->has_window || p->window <= svm->window || compare->options.offline)
        return;
    flow->narrowed = held->frame;
    flow->narrowed_to = svm->window;
    flow->narrowed_nic = p->key.nic;
    flow->narrowed_link = (GList){.data = flow};
    links_push(&compare->narrowed, &flow->narrowed_link);
    held->frame = rewrite_frame_window(flow->narrowed, p, svm->window);
}

static void widen(Compare *compare, Flow *flow, guint16 to)
{
    g_autoptr(GBytes) frame = g_bytes_ref(flow->narrowed);
    Packet p;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);

    packet_parse(data, len, compare->options.vnet_hdr, flow->narrowed_nic, &p);
    flow->narrowed_to = MIN(to, p.window);
    g_autoptr(GBytes) widened = rewrite_frame_window(frame, &p, flow->narrowed_to);
    if (flow->narrowed_to == p.window)
        tcp_forget_narrowed(compare, flow);
    compare->actions.release(p.key.nic, flow->epoch, widened, compare->user_data);
}

void tcp_widen_if_grown(Compare *compare, Flow *flow)
{
    guint16 window = flow->tcp[SECONDARY].window;

    if (flow->narrowed != NULL && !flow->diverged && flow->fifo.length == 0 &&
        window > flow->narrowed_to + flow->narrowed_to / 2)
        widen(compare, flow, window);
}

void tcp_widen_all(Compare *compare)
{
    while (compare->narrowed.head != NULL)
        widen(compare, compare->narrowed.head->data, G_MAXUINT16);
}
