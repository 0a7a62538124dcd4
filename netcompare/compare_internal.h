/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the comparator. compare.c keeps the flows and the epochs, compare-held.c the frames,
 * compare-wait.c the deadlines, and compare-difference.c the text of reports. compare-tcp.c and
 * compare-datagram.c decide, for one flow, what the SVM has been seen to imply. Of TCP,
 * compare-segments.c compares the bytes. compare-rare.c has urgent pointers and the texts of resets,
 * compare-window.c the receive windows.
 */
#ifndef COLO_NETCOMPARE_COMPARE_INTERNAL_H
#define COLO_NETCOMPARE_COMPARE_INTERNAL_H

#include <stdbool.h>

#include "netcompare/compare.h"
#include "netcompare/flow.h"
#include "netcompare/links.h"
#include "netcompare/packet.h"

typedef enum { PRIMARY, SECONDARY } Side;

/* One timeout for all of a class, so that each queue is ordered by deadline by itself. */
typedef enum {
    TIMER_PRIMARY,
    TIMER_PRIMARY_ACK,  /* pure ACKs */
    TIMER_PRIMARY_LATE, /* when TIMER_PRIMARY was over, only the SVM's ACK was lacking */
    TIMER_SECONDARY,
    TIMER_SUSPECT, /* the PVM's SYN, where the SVM has opened another connection instead */
    TIMERS,
    TIMER_OFF
} TimerClass;

typedef struct Flow Flow;

/* A frame that waits. Links are in queues as described; `data` of every link is the Held itself. */
typedef struct {
    GBytes *frame;
    Flow *flow;            /* NULL: waits for a checkpoint only, or for its epoch to begin */
    CompareOrigin *origin; /* offline; NULL: unknown */
    guint64 epoch;
    ColoTime came,
        arrival; /* when it did; when waiting for the other side began to mean something */
    guint64 secondary_before; /* frames of the SVM that came before it in its epoch */
    gsize bytes;
    Side side;
    TimerClass timer_class;
    GList order;                    /* Compare.order[side]: all of a side, as they came */
    GList timer;                    /* Compare.timers[timer_class] */
    GList fifo;                     /* primary: Flow.fifo; secondary: Flow.later or .markers */
    GList seg;                      /* Flow.segs[side] */
    GList opening;                  /* Compare.opening[side] */
    GQueue *fifo_queue, *seg_queue; /* which one it is in; NULL: none */
    Packet packet;
    gboolean is_opening;
    gboolean later; /* primary: of the next connection on the same ports */
    /* TCP: the body in the side's own sequence space; end counts a FIN. */
    guint32 first, data_end, end;
    guint32 done; /* datagrams: bytes of the body found equal */
} Held;

/* What a side's TCP has sent in the running epoch, in its own sequence space. */
typedef struct {
    guint32 isn, ack, urg, ts;
    guint16 window; /* as in the header: not scaled */
    PacketSynOptions syn_options;
    bool seen, syn, rst, has_ack, has_urg, has_ts, has_window;
} TcpSide;

/* What the PVM's TCP has sent in all epochs: where both sides are when a checkpoint is loaded. */
typedef struct {
    guint32 isn, end, ack, urg, ts;
    guint16 window;
    PacketSynOptions syn_options;
    bool seen, has_isn, has_end, has_ack, has_urg, has_ts, has_window;
} TcpTrack;

/* The connection before this one on the same ports. */
typedef struct {
    guint64 bytes; /* of it, as in CompareDivergence.offset */
    guint32 verified, delta;
    bool comparable; /* these mean something */
    bool rst;        /* the PVM has reset it */
} TcpLast;

/* What few connections have; made when needed. */
#define TCP_URGENTS 64u
typedef struct {
    GBytes *reset_text[2];   /* of each side's first RST; NULL: none */
    GBytes *last_reset_text; /* the PVM's, of the connection before */
    guint n_urgent;
    guint32 urgent[TCP_URGENTS]; /* the SVM's pointers before TcpSide.urg, oldest first */
} TcpRare;

/* What only the comparison of captures has. */
typedef struct {
    CompareOrigin last[2]; /* each side's last frame */
    guint64 unseen_bytes;  /* were there on both sides, but cut off when captured */
    guint64 skipped_bytes; /* are in neither capture */
    guint64 passed;        /* of both, in the present connection */
    /* From the middle: the highest number up to which a side had sent before. */
    guint32 begin[2];
    bool has_begin[2];
    bool maybe_probe; /* the stream begins with one byte that may be a keepalive's */
    /* The first ACK of a connection whose SYN was seen: it tells the client's SYN. */
    guint32 first_ack[2];
    bool has_first_ack[2];
    bool bundles;    /* UDP: super-frames were seen */
    bool unfinished; /* a capture was cut short in it */
} FlowOffline;

/* Ordered by how often things are used: with many flows, a packet costs its cache misses. */
struct Flow {
    FlowNode node; /* first */

    guint64 epoch;  /* of what follows but `track` and counters: older than Compare's, it is void */
    GQueue fifo;    /* the PVM's frames; released from the head only */
    GQueue segs[2]; /* TCP: bytes not verified, first and end both strictly ascending; datagrams:
                       the SVM's that wait */
    guint held_secondary;
    bool diverged; /* nothing is compared or released before the next checkpoint */

    /* TCP */
    bool based;     /* `verified` means something */
    bool opened;    /* both sides' SYNs were seen in this epoch: `delta` maps them */
    bool noted;     /* the secondary host knows `delta` */
    bool await_syn; /* what the SVM sends is of the last connection, up to its next SYN */
    bool await_isn_known;
    bool closed;        /* FIN or RST has been matched */
    guint32 ack_delta;  /* SVM's ACK + ack_delta = PVM's; 0 but offline */
    guint32 verified;   /* PVM's space: the SVM has produced all up to here, identically */
    guint32 delta;      /* SVM's sequence number + delta = PVM's */
    guint32 ts_advance; /* as last noted */
    TcpSide tcp[2];
    TcpTrack track;

    guint64 primary_frames, secondary_frames, verified_bytes, released_frames;

    GQueue later;              /* secondary: frames of the next connection on the same ports */
    GQueue markers;            /* the SVM's SYN and RST that the PVM has not sent */
    guint32 await_isn;         /* the last connection's, on the SVM */
    TcpLast last;              /* while `await_syn` */
    TcpRare *rare;             /* NULL: nothing of it */
    FlowOffline *offline;      /* NULL: live */
    guint64 before_connection; /* verified bytes when the present connection began */
    guint32 connection;        /* on these ports, from 0 */
    guint32 diverged_for[COMPARE_REASONS];

    GBytes *narrowed; /* left last, with a smaller window than the PVM's; NULL: none */
    guint16 narrowed_to;
    unsigned narrowed_nic;
    GList narrowed_link; /* in Compare.narrowed, if `narrowed` */
};

struct Compare {
    CompareOptions options;
    CompareActions actions;
    gpointer user_data;
    guint64 epoch;          /* being compared */
    gboolean checkpointing; /* the PVM is already one epoch further */
    gboolean running;       /* the SVM runs in `epoch` */
    gboolean overflowed;    /* a flow found no room: until the next checkpoint none is added */
    gboolean asked_for_room;
    ColoTime now; /* as of the last call */
    ColoTime running_since, last_secondary;
    guint primary_since_secondary; /* frames of the PVM since the last of the SVM */
    guint64 secondary_in_epoch;    /* frames of the SVM in `epoch` */
    gint64 waited_us;              /* in all, by frames of the PVM that have left */
    FlowTable flows;
    GQueue order[2];
    GQueue timers[TIMERS];
    GQueue opening[2];  /* SYNs of connections that the other side has not opened */
    GQueue narrowed;    /* flows whose client must still get the PVM's window */
    gboolean caught_up; /* the SVM, once since it was loaded */
    gint64 grace_us;    /* what it is given beyond the timeout until it has */
    ColoTime loaded;
    Held *spare;
    guint n_spare;
    CompareStats stats;
};

/* ---- compare.c, for the others ---- */

/* Hands the frame out because the SVM implies it. */
void held_release(Compare *compare, Held *held);
/* Offline: drops all that the flow holds. */
void flow_drop_held(Compare *compare, Flow *flow);

/* ---- compare-held.c ---- */

/* A frame that has just come, in no flow yet. */
Held *held_new(Compare *compare, Side side, guint64 epoch, GBytes *frame, ColoTime now);
/* Unlinks from everywhere and drops the frame. */
void held_free(Compare *compare, Held *held);
/* Frees what is kept for frames that come. */
void held_free_spares(Compare *compare);
void held_stop_timer(Compare *compare, Held *held);
void held_start_timer(Compare *compare, Held *held, TimerClass timer_class);
void held_push_fifo(Held *held, GQueue *queue);
void held_leave_fifo(Held *held);
void held_leave_seg(Held *held);
/* A SYN (without ACK) of a connection that only this side has opened. */
void held_opens(Compare *compare, Held *held);

/* ---- compare-difference.c ---- */

typedef struct {
    CompareReason reason;
    const char *detail;
    const Held *frames[2];  /* those at hand; NULL: none */
    const guint8 *bytes[2]; /* from the first difference on */
    gsize len[2];
    guint64 more_offset; /* beyond the flow's verified bytes */
    const char *field;   /* as in CompareDivergence */
    gboolean is_flag;
    gint64 value[2];
    gboolean continues; /* the side that lacks this has more behind it */
    gboolean on_last;   /* on the connection before this one */
} Difference;

/* The bytes of `held` from `from` on, as far as they were captured. */
void difference_add_bytes(Difference *difference, Side side, const Held *held, guint32 from);
/* What differs is no byte; a value of -1: this side has none. */
void difference_set_value(Difference *difference, const char *field, gboolean is_flag,
                          gint64 primary, gint64 secondary);
/* Reports it, unless a checkpoint is on its way, which helps. */
void difference_report(Compare *compare, CompareDivergence *divergence);
/* The flow differs: counts it, and asks for a checkpoint unless one is on its way. */
void flow_diverge(Compare *compare, Flow *flow, const Difference *difference);
void flow_count_verified(Compare *compare, Flow *flow, guint64 bytes);
void flow_count_unseen(Flow *flow, guint64 bytes);
/* Bytes of the present connection, or of a flow that has none, that are behind. */
guint64 flow_offset(const Flow *flow);

/* Bytes of the body from `done` on that were captured. */
static inline guint32 held_captured(const Held *held)
{
    return held->packet.body_have > held->done ? held->packet.body_have - held->done : 0;
}

/* ---- compare-wait.c ---- */

/* The SVM has sent, once since it was loaded, all that the PVM has. */
void wait_caught_up(Compare *compare);

/* ---- One flow; called with flow->epoch up to date ---- */

/* A new epoch: both sides are where the PVM's track is. No frame of the flow is held. */
void tcp_begin_epoch(Flow *flow);
/* `held` is in no queue of the flow's yet; it stays or has been released when this returns. */
void tcp_primary(Compare *compare, Flow *flow, Held *held);
/* Keeps `held` or frees it. */
void tcp_secondary(Compare *compare, Flow *flow, Held *held);
/* Is the SVM's ACK all that this frame of the PVM waits for? */
gboolean tcp_lacks_ack_only(const Flow *flow, const Held *held);
/*
 * Has it an ACK that counts? Offline, the RST that refuses a SYN acknowledges nothing but that: in
 * another run the client's SYN is another one, each time that it tries.
 */
static inline gboolean tcp_acknowledges(const Flow *flow, const Packet *p)
{
    gboolean refuses = flow->offline != NULL && (p->flags & TCP_RST) && p->seq == 0;

    return (p->flags & TCP_ACK) && !refuses;
}

/* What of this frame the SVM has not sent, its bytes apart; NULL: nothing. */
static inline const char *tcp_lacks(const Flow *flow, const Packet *p)
{
    const TcpSide *pvm = &flow->tcp[PRIMARY], *svm = &flow->tcp[SECONDARY];

    if ((p->flags & TCP_RST) && !svm->rst)
        return "RST";
    if ((p->flags & TCP_SYN) && !(pvm->syn && svm->syn))
        return "SYN";
    if (tcp_acknowledges(flow, p) &&
        !(svm->has_ack && seq_diff(p->ack, svm->ack + flow->ack_delta) <= 0))
        return "ACK";
    return NULL;
}

/* What the flow waits for, and which side lacks it. FALSE: it can't be told. */
gboolean tcp_explain(Compare *compare, Flow *flow, Difference *ret_difference);
/* Offline: continues behind bytes that neither side has. FALSE: there are none. */
gboolean tcp_skip_gap(Compare *compare, Flow *flow);
/* The flow is about to go. */
void tcp_forget(Compare *compare, Flow *flow);

/* A sequence number of `side` as the PVM counts. */
static inline guint32 tcp_to_primary(const Flow *flow, Side side, guint32 seq)
{
    return side == PRIMARY ? seq : seq + flow->delta;
}

static inline gboolean tcp_may_compare(const Flow *flow)
{
    return flow->based && flow->tcp[PRIMARY].syn == flow->tcp[SECONDARY].syn;
}

typedef enum {
    SEGMENT_PLACED,      /* or not needed: the SVM's has been freed then */
    SEGMENT_CONTRADICTS, /* what the same side has sent before */
    SEGMENT_TOO_FAR,     /* out of order by too much */
} SegmentPlaced;

static inline void segment_set_range(Held *held)
{
    const Packet *p = &held->packet;

    held->first = p->seq + !!(p->flags & TCP_SYN);
    held->data_end = held->first + p->body_len;
    held->end = held->data_end + !!(p->flags & TCP_FIN);
}

SegmentPlaced segment_insert(Compare *compare, GQueue *segs, Held *held);
/*
 * The first segment of `side` that reaches beyond `verified`, and how many bytes are lacking before
 * it; `done` is set. Those that don't reach are dropped. NULL: there is none.
 */
Held *segment_next(Compare *compare, Flow *flow, Side side, guint32 *ret_gap);
/*
 * Frees the SVM's segments that don't reach beyond `verified`: one is left behind where a
 * connection is joined in the middle. TRUE: there was one. Call it before a frame that
 * waits is explained: the frame may be such a segment.
 */
gboolean segments_drop_passed(Compare *compare, Flow *flow);
/* Compares what both sides have, from `verified` on. */
void segments_advance(Compare *compare, Flow *flow);
gboolean segments_skip_gap(Compare *compare, Flow *flow);

/* Offline: what a frame tells, before anything else of it is known. */
void captured_note(Compare *compare, Flow *flow, Side which, const Packet *p);
/* Offline: has `side` sent this before what is known of the stream begins? */
gboolean captured_before_begin(const Flow *flow, Side side, const Held *held);

/* Remembers the text of a side's RST. FALSE: it contradicts what either side has sent. */
gboolean reset_note(Compare *compare, Flow *flow, Side side, const Held *held);
/* Is the text of this RST, on the connection before, what the PVM's was? */
gboolean reset_is_last(const Flow *flow, const Packet *packet);
/* The SVM's urgent pointer changes from `before`. */
void urgent_remember(Flow *flow, guint32 before);
gboolean urgent_was_sent(const Flow *flow, guint32 primary_pointer);
/* Pointers before this one won't come again. */
void urgent_forget(Flow *flow, guint32 primary_pointer);
/* The connection is over, another begins on its ports. */
void rare_turn_page(Flow *flow);
void rare_free(Flow *flow);

/* A window has been narrowed, or not: `held` leaves with the smaller one. */
void tcp_narrow(Compare *compare, Flow *flow, Held *held);
void tcp_widen_if_grown(Compare *compare, Flow *flow);
void tcp_forget_narrowed(Compare *compare, Flow *flow);
/* The PVM's windows may be known again: a checkpoint has made the SVM equal. */
void tcp_widen_all(Compare *compare);

void datagram_primary(Compare *compare, Flow *flow, Held *held);
void datagram_secondary(Compare *compare, Flow *flow, Held *held);

#endif
