/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What only captures need, of TCP. They may begin in the middle of a connection, at another place
 * on each side. They may be of two runs, with other clients' numbers.
 */
#include "netcompare/compare_internal.h"

/*
 * Offline. Where the stream begins, if its SYN is missing; and what the client's SYN was, which is
 * another one in another run. The first ACK of a connection acknowledges nothing else.
 */
void captured_note(Compare *compare, Flow *flow, Side which, const Packet *p)
{
    FlowOffline *offline = flow->offline;
    const TcpSide *side = &flow->tcp[which];

    if (tcp_acknowledges(flow, p) && side->syn && !offline->has_first_ack[which]) {
        offline->has_first_ack[which] = TRUE;
        offline->first_ack[which] = p->ack;
        if (offline->has_first_ack[!which])
            flow->ack_delta = offline->first_ack[PRIMARY] - offline->first_ack[SECONDARY];
    }
    if (side->seen || side->syn || (p->flags & TCP_RST))
        return;
    offline->has_begin[which] = TRUE;
    offline->begin[which] = p->seq;
    /* What the PVM has sent before its capture began, it need not send again. */
    const GList *head;
    while (which == PRIMARY && !flow->based && (head = flow->segs[SECONDARY].head) != NULL &&
           seq_diff(((Held *)head->data)->end, p->seq) <= 0)
        held_free(compare, head->data);
}

gboolean captured_before_begin(const Flow *flow, Side side, const Held *held)
{
    return flow->offline != NULL && !flow->based && flow->offline->has_begin[side] &&
           seq_diff(held->end, flow->offline->begin[side]) <= 0;
}
