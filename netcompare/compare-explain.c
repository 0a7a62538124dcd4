/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a TCP connection waits for, and which side lacks it. */
#include "netcompare/compare_internal.h"

#include <string.h>

/* Bytes, or a FIN, that one side has and the other lacks. */
static gboolean explain_bytes(Compare *compare, Flow *flow, Difference *ret_difference)
{
    guint32 p_gap, s_gap;
    const Held *p = segment_next(compare, flow, PRIMARY, &p_gap);
    const Held *s = segment_next(compare, flow, SECONDARY, &s_gap);
    gboolean p_has = p != NULL && p_gap == 0, s_has = s != NULL && s_gap == 0;

    if (p_has == s_has)
        return FALSE;
    Side side = p_has ? PRIMARY : SECONDARY;
    const Held *held = p_has ? p : s, *other = p_has ? s : p;
    Difference d = {.reason = p_has ? COMPARE_MISSING_OUTPUT : COMPARE_EXTRA_OUTPUT};
    if (other == NULL)
        d.detail = p_has ? "the secondary has not sent what the primary has sent"
                         : "the secondary has sent what the primary has not";
    else
        d.detail = p_has ? "the secondary lacks bytes here and continues behind them"
                         : "the primary lacks bytes here and continues behind them";
    d.frames[side] = held;
    d.frames[!side] = other;
    d.continues = other != NULL;
    difference_add_bytes(&d, side, held, held->done);
    if (held->done == held->packet.body_len)
        difference_set_value(&d, "FIN", TRUE, p_has, s_has);
    *ret_difference = d;
    return TRUE;
}

/* The oldest frame of the PVM, whose bytes are not what it waits for. */
static void explain_primary(const Flow *flow, const Held *held, Difference *d)
{
    const Packet *p = &held->packet;
    const TcpSide *svm = &flow->tcp[SECONDARY];
    const char *field = tcp_lacks(flow, p);

    d->reason = COMPARE_MISSING_OUTPUT;
    d->detail = "the secondary has not sent what the primary has sent";
    d->frames[PRIMARY] = held;
    if (field == NULL && (p->flags & TCP_URG))
        difference_set_value(d, "urgent pointer", FALSE, (guint32)(p->seq + p->urgent),
                             svm->has_urg ? (gint64)svm->urg : -1);
    else if (field == NULL)
        difference_add_bytes(d, PRIMARY, held, 0);
    else if (strcmp(field, "ACK") == 0)
        difference_set_value(d, field, FALSE, p->ack, svm->has_ack ? (gint64)svm->ack : -1);
    else
        difference_set_value(d, field, TRUE, 1, 0);
}

static void explain_secondary(const Held *held, Difference *d)
{
    const Packet *p = &held->packet;

    d->reason = COMPARE_EXTRA_OUTPUT;
    d->detail = "the secondary has sent what the primary has not";
    d->frames[SECONDARY] = held;
    difference_add_bytes(d, SECONDARY, held, 0);
    if (d->len[SECONDARY] == 0)
        difference_set_value(d,
                             p->flags & TCP_RST   ? "RST"
                             : p->flags & TCP_SYN ? "SYN"
                                                  : "FIN",
                             TRUE, 0, 1);
}

gboolean tcp_explain(Compare *compare, Flow *flow, Difference *ret_difference)
{
    const GQueue *theirs[] = {&flow->markers, &flow->segs[SECONDARY], &flow->later};
    const GList *head = flow->fifo.head;

    *ret_difference = (Difference){0};
    if (tcp_may_compare(flow) && explain_bytes(compare, flow, ret_difference))
        return TRUE;
    if (head != NULL) {
        explain_primary(flow, head->data, ret_difference);
        return TRUE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(theirs); i++) {
        if (theirs[i]->head != NULL) {
            explain_secondary(theirs[i]->head->data, ret_difference);
            return TRUE;
        }
    }
    return FALSE;
}
