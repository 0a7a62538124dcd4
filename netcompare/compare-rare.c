/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What few TCP connections have: a text in a RST (RFC 9293, 3.5.3), and urgent pointers. A side may
 * have sent several pointers before the other sends its first, so the last TCP_URGENTS of the SVM's
 * are remembered.
 */
#include "netcompare/compare_internal.h"

#include <string.h>

static TcpRare *get(Flow *flow)
{
    if (flow->rare == NULL)
        flow->rare = g_new0(TcpRare, 1);
    return flow->rare;
}

void rare_free(Flow *flow)
{
    TcpRare *rare = flow->rare;

    if (rare == NULL)
        return;
    for (Side side = PRIMARY; side <= SECONDARY; side++)
        g_clear_pointer(&rare->reset_text[side], g_bytes_unref);
    g_clear_pointer(&rare->last_reset_text, g_bytes_unref);
    g_clear_pointer(&flow->rare, g_free);
}

void rare_turn_page(Flow *flow)
{
    if (flow->rare == NULL)
        return;
    GBytes *text = g_steal_pointer(&flow->rare->reset_text[PRIMARY]);
    rare_free(flow);
    if (text != NULL)
        get(flow)->last_reset_text = text;
}

/* ---- Texts of resets ---- */

/* One RST may have no text where another has one: `text` NULL. */
static gboolean is_text(GBytes *text, const Packet *p)
{
    gsize len = 0;
    const guint8 *bytes = text != NULL ? g_bytes_get_data(text, &len) : NULL;

    return len == p->body_have && (len == 0 || memcmp(bytes, p->body, len) == 0);
}

gboolean reset_is_last(const Flow *flow, const Packet *packet)
{
    return packet->body_len == 0 ||
           is_text(flow->rare != NULL ? flow->rare->last_reset_text : NULL, packet);
}

static gboolean differ(Compare *compare, Flow *flow, Side side, const Held *held, GBytes *other,
                       const char *detail)
{
    Difference d = {.reason = COMPARE_PAYLOAD, .detail = detail};

    d.frames[side] = held;
    difference_add_bytes(&d, side, held, 0);
    if (other != NULL)
        d.bytes[!side] = g_bytes_get_data(other, &d.len[!side]);
    flow_diverge(compare, flow, &d);
    return FALSE;
}

gboolean reset_note(Compare *compare, Flow *flow, Side side, const Held *held)
{
    const Packet *p = &held->packet;
    gboolean first = !flow->tcp[side].rst, theirs = flow->tcp[!side].rst;

    if (p->body_have < p->body_len)
        flow_count_unseen(flow, p->body_len - p->body_have);
    if (p->body_len == 0 && flow->rare == NULL)
        return TRUE;
    GBytes *other = flow->rare != NULL ? flow->rare->reset_text[!side] : NULL;
    if (first && p->body_len > 0)
        get(flow)->reset_text[side] = g_bytes_new(p->body, p->body_have);
    else if (!first && p->body_len > 0 &&
             !is_text(flow->rare != NULL ? flow->rare->reset_text[side] : NULL, p))
        return differ(compare, flow, side, held, NULL, "a reset is repeated with another text");
    if (first && theirs && !is_text(other, p))
        return differ(compare, flow, side, held, other, "the texts of the resets differ");
    return TRUE;
}

/* ---- Urgent pointers ---- */

void urgent_remember(Flow *flow, guint32 before)
{
    TcpRare *rare = get(flow);

    if (rare->n_urgent == TCP_URGENTS)
        memmove(rare->urgent, rare->urgent + 1, --rare->n_urgent * sizeof(rare->urgent[0]));
    rare->urgent[rare->n_urgent++] = before;
}

gboolean urgent_was_sent(const Flow *flow, guint32 primary_pointer)
{
    const TcpSide *svm = &flow->tcp[SECONDARY];

    if (!svm->has_urg)
        return FALSE;
    if (tcp_to_primary(flow, SECONDARY, svm->urg) == primary_pointer)
        return TRUE;
    for (guint i = 0; flow->rare != NULL && i < flow->rare->n_urgent; i++)
        if (tcp_to_primary(flow, SECONDARY, flow->rare->urgent[i]) == primary_pointer)
            return TRUE;
    return FALSE;
}

void urgent_forget(Flow *flow, guint32 primary_pointer)
{
    TcpRare *rare = flow->rare;
    guint n = 0;

    if (rare == NULL)
        return;
    while (n < rare->n_urgent &&
           seq_diff(tcp_to_primary(flow, SECONDARY, rare->urgent[n]), primary_pointer) < 0)
        n++;
    rare->n_urgent -= n;
    memmove(rare->urgent, rare->urgent + n, rare->n_urgent * sizeof(rare->urgent[0]));
}
