/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the comparator. compare.c keeps the frames, the epochs and the timers; compare-tcp.c and
 * compare-datagram.c decide, for one flow, what the SVM has been seen to imply.
 */
#ifndef COLO_NETCOMPARE_COMPARE_INTERNAL_H
#define COLO_NETCOMPARE_COMPARE_INTERNAL_H

#include <stdbool.h>

#include "netcompare/compare.h"
#include "netcompare/flow.h"
#include "netcompare/packet.h"

/* More frames than these waiting on one side of one flow: its comparison is given up. */
#define FLOW_MAX_FRAMES 4096u
/* Likewise, of the next connection on the same ports: they are sorted anew at each page turned. */
#define FLOW_MAX_LATER 256u

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

/* A frame that waits. Links are in queues as said; `data` of every link is the Held itself. */
typedef struct {
    GBytes *frame;
    Flow *flow; /* NULL: waits for a checkpoint only, or for its epoch to begin */
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

/* What a side's TCP has said in the running epoch, in its own sequence space. */
typedef struct {
    guint32 isn, ack, urg, ts;
    guint16 window; /* as in the header: not scaled */
    PacketSynOptions syn_options;
    bool seen, syn, rst, has_ack, has_urg, has_ts, has_window;
} TcpSide;

/* What the PVM's TCP has said in all epochs: where both sides stand when a checkpoint is loaded. */
typedef struct {
    guint32 isn, end, ack, urg, ts;
    guint16 window;
    PacketSynOptions syn_options;
    bool seen, has_isn, has_end, has_ack, has_urg, has_ts, has_window;
} TcpTrack;

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
    guint32 verified;   /* PVM's space: the SVM has produced all up to here, identically */
    guint32 delta;      /* SVM's sequence number + delta = PVM's */
    guint32 ts_advance; /* as last noted */
    TcpSide tcp[2];
    TcpTrack track;

    guint64 primary_frames, secondary_frames, verified_bytes, released_frames;

    GQueue later;      /* secondary: frames of the next connection on the same ports */
    GQueue markers;    /* the SVM's SYN and RST that the PVM has not sent */
    guint32 await_isn; /* the last connection's, on the SVM */
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
    GQueue narrowed;    /* flows whose client must still be told the PVM's window */
    gboolean caught_up; /* the SVM, once since it was loaded */
    gint64 grace_us;    /* what it is given beyond the timeout until it has */
    ColoTime loaded;
    Held *spare;
    guint n_spare;
    CompareStats stats;
};

/* ---- compare.c, for the others ---- */

/* Unlinks from everywhere and lets go of the frame. */
void held_free(Compare *compare, Held *held);
/* Hands the frame out because the SVM implies it. */
void held_release(Compare *compare, Held *held);
void held_start_timer(Compare *compare, Held *held, TimerClass timer_class);
void held_push_fifo(Held *held, GQueue *queue);
void held_leave_fifo(Held *held);
void held_leave_seg(Held *held);
/* A SYN (without ACK) of a connection that only this side has opened. */
void held_opens(Compare *compare, Held *held);

typedef struct {
    CompareReason reason;
    const char *detail;
    const guint8 *primary, *secondary; /* from the first difference on */
    gsize primary_len, secondary_len;
    guint64 more_offset; /* beyond the flow's verified bytes */
} Difference;

/* The flow differs: counts it, and asks for a checkpoint unless one is on its way. */
void flow_diverge(Compare *compare, Flow *flow, const Difference *difference);
void flow_count_verified(Compare *compare, Flow *flow, guint64 bytes);

/* ---- One flow; called with flow->epoch up to date ---- */

/* A new epoch: both sides are where the PVM's track says. No frame of the flow is held. */
void tcp_begin_epoch(Flow *flow);
/* `held` is in no queue of the flow's yet; it stays or has been released when this returns. */
void tcp_primary(Compare *compare, Flow *flow, Held *held);
/* Keeps `held` or frees it. */
void tcp_secondary(Compare *compare, Flow *flow, Held *held);
/* Is the SVM's ACK all that this frame of the PVM waits for? */
gboolean tcp_lacks_ack_only(const Flow *flow, const Held *held);

/* The flow is about to go. */
void tcp_forget_narrowed(Compare *compare, Flow *flow);
/* The PVM's windows may be known again: a checkpoint has made the SVM equal. */
void tcp_widen_all(Compare *compare);

void datagram_primary(Compare *compare, Flow *flow, Held *held);
void datagram_secondary(Compare *compare, Flow *flow, Held *held);

#endif
