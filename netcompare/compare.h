/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packet comparator: a pure core. Frames and times go in, verdicts come out through callbacks;
 * no sockets, no clock, no threads, no main loop. docs/COMPARE.md argues what is released when.
 *
 * On the primary, it gets the output of both VMs. It releases each frame of the primary VM (PVM)
 * that output of the secondary VM (SVM) implies, and reports when only a checkpoint can help.
 *
 *     compare_primary() ----> held ----> release()    the SVM implies it
 *                              |  `----> release()    compare_committed(): a checkpoint holds it
 *     compare_secondary() -----'`------> diverged()   a checkpoint is needed
 *                                `-----> note()       what the SVM's host needs for a takeover
 *
 * The order of calls for checkpoint e on the primary, while the epoch is e - 1:
 *
 *   compare_checkpoint(e)  the PVM has been paused, its output of e - 1 drained; from here on its
 *                          frames are tagged e, and wait
 *   compare_committed(e)   RECEIVED(e): all of epochs < e leaves, comparing starts over from equal
 *   compare_loaded(e)      the SVM runs again: from here on, waiting means something
 *
 * Threads: all calls on one object from one thread. Callbacks run inside the calls and must not
 * call back into the object. Nothing blocks.
 */
#ifndef COLO_NETCOMPARE_COMPARE_H
#define COLO_NETCOMPARE_COMPARE_H

#include <glib.h>

#include "common/clock.h"

/* ---- What a frame belongs to ---- */

typedef enum {
    COMPARE_KIND_OPAQUE,   /* malformed, truncated: compared whole */
    COMPARE_KIND_ETHERNET, /* another ethertype, or LLC: all that follows the tags */
    COMPARE_KIND_ARP,
    COMPARE_KIND_FRAGMENT, /* of an IPv4 or IPv6 datagram, of any protocol */
    COMPARE_KIND_IP,       /* another protocol over IP: its payload */
    COMPARE_KIND_ICMP,
    COMPARE_KIND_SCTP,
    COMPARE_KIND_UDP,
    COMPARE_KIND_TCP,
} CompareKind;

#define COMPARE_NO_VLAN G_MAXUINT16

/*
 * One direction of a conversation: guest (src) to the outside (dst). 48 bytes without padding, so
 * that it can be hashed and compared as bytes; unused parts are zero. IPv4 addresses are
 * v4-mapped (::ffff:a.b.c.d); MAC addresses, where there are no others, fill the first 6 bytes.
 * Integers are in host order.
 */
typedef struct {
    guint8 src[16], dst[16];
    guint16 vlan[2]; /* outer, inner; COMPARE_NO_VLAN */
    guint16 sport;   /* ICMP: type << 8 | code; ARP: operation */
    guint16 dport;   /* ICMP echo: identifier */
    guint16 ethertype;
    guint8 proto; /* the IP protocol */
    guint8 kind;  /* CompareKind */
    guint32 nic;
} CompareKey;

/* "tcp 10.0.0.2:80 -> 10.0.0.1:4711 vlan 7". Caller frees. */
char *compare_key_to_string(const CompareKey *key);
/* "tcp", "arp"; and "10.0.0.2" or, of flows without other addresses, the MAC. Caller frees. */
const char *compare_key_protocol(const CompareKey *key);
char *compare_key_address(const CompareKey *key, gboolean destination);
gboolean compare_key_has_ports(const CompareKey *key);

/* ---- The comparator ---- */

typedef enum {
    COMPARE_PAYLOAD,          /* different bytes at the same place */
    COMPARE_FLAG,             /* SYN (with its options), FIN, RST or URG where the other has none */
    COMPARE_EXTRA_OUTPUT,     /* the SVM sent what the PVM did not send in time */
    COMPARE_MISSING_OUTPUT,   /* compare-timeout: the SVM did not send what the PVM sent */
    COMPARE_SECONDARY_SILENT, /* missing, and the SVM sent nothing at all: is it hung? */
    COMPARE_TABLE_FULL,       /* no room to compare any more */
} CompareReason;
#define COMPARE_REASONS (COMPARE_TABLE_FULL + 1)

/* "payload", "flag", "extra-output", "missing-output", "secondary-silent", "table-full". */
const char *compare_reason_name(CompareReason reason);

#define COMPARE_SAMPLE_BYTES 16u

/* Of a frame in a capture. */
typedef struct {
    guint64 number; /* from 1; 0: unknown */
    gint64 time_us; /* since 1970 */
} CompareOrigin;

typedef struct {
    CompareReason reason;
    CompareKey key;
    guint64 epoch;
    ColoTime when;
    guint64 offset;     /* bytes of the connection (of other flows: in all) before the difference */
    guint64 connection; /* which one on these ports, from 1 */
    const char *detail; /* one constant sentence: what differs */
    /*
     * What differs where there are no bytes: "ACK", "FIN", "MSS"; NULL: bytes. A flag is 0 or 1;
     * a value of -1: this side has none.
     */
    const char *field;
    gboolean is_flag;
    gint64 primary_value, secondary_value;
    /* Offline: the frames, or, where a side has none, its last one of the flow (`primary_before`).
     */
    CompareOrigin primary_origin, secondary_origin;
    gboolean primary_before, secondary_before;
    /* The first differing bytes; lengths are 0 where one side has none. */
    guint8 primary[COMPARE_SAMPLE_BYTES], secondary[COMPARE_SAMPLE_BYTES];
    guint primary_len, secondary_len;
} CompareDivergence;

/*
 * What the secondary host must know about a TCP connection before a frame of it leaves. It tells
 * how to map the SVM's numbers to the PVM's, which the client knows. Emitted before the release()
 * it belongs to; give both to the same ordered connection.
 */
typedef struct {
    CompareKey key;
    guint64 epoch;
    gboolean has_isn;   /* the SYNs are known; they differ if seen in this epoch on both sides */
    guint32 pvm_isn;    /* meaningful with has_isn */
    guint32 svm_isn;    /* meaningful with has_isn */
    gboolean has_ts;    /* the connection has timestamps */
    guint32 svm_ts;     /* meaningful with has_ts: one that the SVM's TCP has sent */
    guint32 ts_advance; /* to be added to the SVM's TSval: never behind what was released */
} CompareNote;

/* A note for the wire (docs/COMPARE.md), and back: FALSE if the bytes are no note. */
#define COMPARE_NOTE_BYTES 72u
void compare_note_pack(const CompareNote *note, guint8 bytes[COMPARE_NOTE_BYTES]);
gboolean compare_note_unpack(const guint8 *bytes, gsize len, CompareNote *ret_note);

typedef struct {
    CompareKey key;
    guint64 primary_frames, secondary_frames; /* frames seen */
    guint64 verified_bytes;                   /* payload found equal */
    guint64 released_frames;                  /* released by comparison */
    guint64 divergences;
    guint64 diverged[COMPARE_REASONS]; /* by reason */
    gboolean waiting;                  /* output is held, on either side */
    /* Offline: not compared, as it was cut off when captured; as it is in neither capture. */
    guint64 unseen_bytes, skipped_bytes;
    gboolean unfinished; /* it continued where a capture was cut short */
} CompareFlowInfo;

typedef struct {
    gint64 timeout_us; /* compare-timeout: how long output may wait for the SVM's; 0: for ever */
    gint64 ack_timeout_us; /* the same for pure TCP ACKs, which the SVM may delay; 0: for ever */
    guint max_flows;
    gsize max_held_bytes; /* frames of both sides, in all */
    gboolean vnet_hdr;    /* frames start with a virtio-net header (NETCOMPARE_VNET_HDR_BYTES) */
    gboolean offline;     /* no checkpoint will come: a flow that has diverged is given up */
    guint64 hash_seed;    /* random, so that nobody outside can choose colliding flows */
} CompareOptions;

#define COMPARE_TIMEOUT_DEFAULT_US     (G_GINT64_CONSTANT(60) * 1000)
#define COMPARE_ACK_TIMEOUT_DEFAULT_US (G_GINT64_CONSTANT(250) * 1000)
#define COMPARE_MAX_FLOWS_DEFAULT      262144u
/* Memory that a flow takes, rounded up: the default above is 192 MiB. */
#define COMPARE_FLOW_BYTES             768u
#define COMPARE_MAX_HELD_BYTES_DEFAULT ((gsize)64 << 20)

/* The defaults above, with the virtio-net header. */
void compare_options_init(CompareOptions *options);

typedef struct {
    /* A frame of the PVM may leave. Within a flow always in the order it came. */
    void (*release)(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data);
    /*
     * A flow differs and nothing of it leaves before the next checkpoint: ask for one. Called once
     * per flow and epoch; `divergence` is borrowed.
     */
    void (*diverged)(const CompareDivergence *divergence, gpointer user_data);
    /* To be sent to the secondary before the next frame released. May be NULL. */
    void (*note)(const CompareNote *note, gpointer user_data);
    /*
     * The frame of the SVM with this `number` in the epoch, from 1, is no TCP, and the PVM sent it
     * too: it has left, whatever came before it. May be NULL.
     */
    void (*settled)(guint64 epoch, guint64 number, gpointer user_data);
    /* A flow leaves the table. May be NULL. */
    void (*flow_ended)(const CompareFlowInfo *info, gpointer user_data);
} CompareActions;

typedef struct {
    guint64 primary_frames, secondary_frames;
    guint64 released_by_compare, released_by_checkpoint, dropped;
    guint64 stale_secondary; /* frames of the SVM from an epoch that is over */
    guint64 verified_bytes;
    guint64 held_frames, held_bytes, max_held_bytes; /* both sides' */
    guint64 flows, max_flows, evicted_flows;
    guint64 uncompared_frames;  /* of flows that found no room; they wait for a checkpoint */
    guint64 unparsed_frames[2]; /* of the PVM and the SVM: malformed, compared whole */
    guint64 beheaded_frames[2]; /* offline: cut off within their headers, not compared */
    guint64 divergences[COMPARE_REASONS];
    guint64 notes;
} CompareStats;

typedef struct Compare Compare;

/* Starts in `epoch` with both VMs equal and the SVM running. Copies `options` and `actions`. */
Compare *compare_new(const CompareOptions *options, const CompareActions *actions, guint64 epoch,
                     ColoTime now, gpointer user_data);
/* Held frames are dropped, not released. */
void compare_free(Compare *compare);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Compare, compare_free)

/* Live tuning; takes effect for what waits already. */
void compare_set_timeouts(Compare *compare, gint64 timeout_us, gint64 ack_timeout_us);

/*
 * The PVM has sent `frame` (a reference is taken if it has to wait) in `epoch`. FALSE: there was no
 * room, it was dropped and counted, as a full switch would do; a checkpoint has been asked for.
 */
gboolean compare_primary(Compare *compare, unsigned nic, guint64 epoch, GBytes *frame,
                         ColoTime now);

/* The SVM has sent `frame` (a reference is taken if it has to wait) in `epoch`. */
void compare_secondary(Compare *compare, unsigned nic, guint64 epoch, GBytes *frame, ColoTime now);

/* The PVM is paused for checkpoint `epoch`: no other is asked for until it is committed. */
void compare_checkpoint(Compare *compare, guint64 epoch);
/* RECEIVED(epoch): releases all frames of earlier epochs, in order. */
void compare_committed(Compare *compare, guint64 epoch, ColoTime now);
/* The SVM runs in `epoch`: until now no time has passed for the timeouts. */
void compare_loaded(Compare *compare, guint64 epoch, ColoTime now);

/* Unprotected: releases everything held and forgets all flows. */
void compare_release_all(Compare *compare);

/* Calls `func` for every frame of the PVM that is held, of epochs < until, oldest first. */
void compare_foreach_held(const Compare *compare, guint64 until,
                          void (*func)(unsigned nic, GBytes *frame, gpointer user_data),
                          gpointer user_data);

/* All frames of the PVM so far, those that are held too, and how long they have waited in all. */
typedef struct {
    guint64 frames;
    gint64 waited_us;
} CompareWaits;

CompareWaits compare_waits(const Compare *compare, ColoTime now);

/*
 * How many frames of the SVM in the running epoch, from its first on, came before everything that
 * still waits. What they imply has left. So the secondary need not send them again at a takeover.
 * (An ACK of the SVM that is ahead of the PVM's counts too early, by as much as it is ahead.)
 */
guint64 compare_settled(const Compare *compare);

/* The moment compare_tick() is due; us is G_MAXINT64 if nothing waits. */
ColoTime compare_next_deadline(const Compare *compare);
void compare_tick(Compare *compare, ColoTime now);

/* ---- Offline ---- */

/*
 * A frame from a capture, of `wire_len` bytes when it was captured: `frame` may have less. Else as
 * compare_primary() and compare_secondary().
 */
void compare_captured(Compare *compare, gboolean secondary, unsigned nic, GBytes *frame,
                      gsize wire_len, const CompareOrigin *origin, ColoTime now);

/*
 * The two captures are over. What still waits is reported as missing or extra output, unless the
 * capture that lacks it was cut short.
 */
void compare_finish(Compare *compare, gboolean primary_cut, gboolean secondary_cut, ColoTime now);

/*
 * Gives up the flow whose frame has waited longest, to make room: as different if it is known to
 * be, else as COMPARE_TABLE_FULL. FALSE if nothing waits.
 */
gboolean compare_give_up_oldest(Compare *compare, ColoTime now);

const CompareStats *compare_stats(const Compare *compare);

/* Calls `func` for every flow in the table, longest unused about first. */
void compare_foreach_flow(const Compare *compare,
                          void (*func)(const CompareFlowInfo *info, gpointer user_data),
                          gpointer user_data);

#endif
