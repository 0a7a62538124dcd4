/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of the link. All bytes between the two hosts pass here: connecting, listening, the
 * versioned hello, framing, TCP_NODELAY, keepalive, heartbeats. A link is three connections, over
 * TCP or unix sockets: control (messages and heartbeats), checkpoint (a raw stream, given to
 * Capture or Apply) and packets (mirrored frames). If the VM has disks there is a fourth one: disks
 * (a raw stream, given to the disk server). docs/PROTOCOL.md is the specification.
 *
 * Both sides listen for their whole life; the side that wants to become secondary dials. The
 * primary accepts one peer at a time. The link ends when any of the connections ends, or when
 * nothing comes on the control connection for heartbeat-timeout. Then down() is called once and the
 * link may dial or accept again.
 *
 * Owns: the connections and the pairing of two hosts. Doesn't: know what a message means, or what
 * follows from a lost link. Always holds: a link that is up has all its connections, of one peer and
 * one session; after down() nothing of that session is delivered. After link_close() only packets are, if
 * they were asked for.
 *
 * Threads: one thread, its default GMainContext; nothing blocks. link_checkpoint_fd() is for an
 * engine's thread. A callback may call any function here, link_free() too.
 */
#ifndef COLO_COLO_LINK_LINK_H
#define COLO_COLO_LINK_LINK_H

#include <gio/gio.h>
#include <json-c/json.h>

#define LINK_ERROR link_error_quark()
GQuark link_error_quark(void);

typedef enum {
    LINK_ERROR_ADDRESS,  /* an address that can't be parsed, bound (port in use) or reached */
    LINK_ERROR_PROTOCOL, /* bytes that break the protocol: what and where */
    LINK_ERROR_REFUSED,  /* one side won't pair with the other: what differs */
    LINK_ERROR_NOT_NOW,  /* one side takes no peer at the moment: it will, or it ends */
    LINK_ERROR_CLOSED,   /* the peer ended a connection */
    LINK_ERROR_TIMEOUT,  /* no heartbeat in time */
    LINK_ERROR_OVERRUN,  /* the peer doesn't read the control connection */
} LinkError;

/* In place of a card's number: the frame is a note of the comparator (COMPARE.md), not a frame. */
#define LINK_NIC_NOTE G_MAXUINT32

/* The longest message payload and the longest frame, in bytes. */
#define LINK_MESSAGE_MAX 1048576u
#define LINK_PACKET_MAX  131072u

/* Messages on the control connection; the payload of each is in docs/PROTOCOL.md. */
typedef enum {
    LINK_MSG_BLANK = 16, /* secondary: holds no checkpoint (any more); start synchronising */
    LINK_MSG_RECEIVED,   /* secondary: be64 epoch: complete and verified; the commit point */
    LINK_MSG_APPLIED,    /* secondary: be64 epoch, be64 apply_us */
    LINK_MSG_READY,      /* secondary: it can load device state; be64 first, be64 count of each run
                            of pages that loading wrote to and that must be sent again */
    LINK_MSG_PROTECT,    /* primary: holds its output; from now on the secondary may take over */
    LINK_MSG_ADDRESSES,  /* primary: be32 nic, addresses_serialise() */
    LINK_MSG_YIELD,      /* secondary: an administrator wants it to take over now */
    LINK_MSG_YIELDED,    /* primary: its VM is dead, its held output dropped: take over */
    LINK_MSG_GOODBYE,    /* either: ends on purpose; don't take over (text: why) */
    LINK_MSG_FAILED,     /* either: can't be half of a pair (text: why) */
    LINK_MSG_PREPARE, /* primary: be64 epoch: stop the VM and send DIRTY: that checkpoint is next */
    LINK_MSG_DIRTY,   /* secondary: be64 epoch, be32 parts to follow, be32 0, then be32 first,
                          be32 count of each run of pages to be put right by the checkpoint */
    LINK_MSG_LOADED,  /* secondary: be64 epoch: its VM runs from that checkpoint on */
    LINK_MSG_STALLED, /* secondary: be64 epoch, text: its VM doesn't run in that epoch, and why */
    LINK_MSG_SETTLED, /* primary: be64 epoch, be64 count: so many frames of the secondary's VM in
                          that epoch need not be sent again at a takeover; then be64 numbers
                             of single ones, ascending */
    LINK_MSG_REBOOTED, /* secondary: be64 epoch: its VM's guest has rebooted in that epoch, and runs
                          on */
    LINK_MSG_RUNS, /* primary: its VM runs, its output leaves: drop what you hold and send BLANK */
    LINK_MSG_PAUSED,  /* primary: the arbiter has denied it: the VM is yours if you hold it */
    LINK_MSG_HANDED,  /* primary: its VM is paused after that checkpoint: take over */
    LINK_MSG_TAKEN,   /* secondary: it may, and does */
    LINK_MSG_REFUSED, /* secondary: be32 whether the arbiter may have granted it, text: why not */
    LINK_MSG_OPTIONS = 40, /* both: text: values of options of the pair; the primary's count */
    LINK_MSG_TROUBLE,      /* both: text: what has gone wrong there, for people */
    LINK_MSG_UNFIT =
        44,        /* primary: continues without the secondary, which shall not ask (text: why) */
    LINK_MSG_BUSY, /* secondary: be64 epoch: its disks are becoming that checkpoint's */
    LINK_MSG_LEAVE = 48,   /* secondary: may it leave, to restart its QEMU? Primary: it may */
    LINK_MSG_CARRIER = 52, /* both: be64 set of network cards whose uplink has no carrier there */
    LINK_MSG_FINAL = 50,   /* primary: be64 epoch: the VM ends; that is the disks' last mark */
    LINK_MSG_FINISHED,     /* secondary: be64 epoch: the disks are that, durably */
    /* All five: be32 id of a switchover, be32 flags, text. */
    LINK_MSG_SWITCHOVER_ASK = 56, /* primary: tell the parts that don't approve of it */
    LINK_MSG_SWITCHOVER_ACK,      /* secondary: these parts don't (text: names) */
    LINK_MSG_SWITCHOVER_WANT,     /* secondary: an administrator wants one (flag 1: to be held) */
    LINK_MSG_SWITCHOVER_CANCEL,   /* both: it is cancelled, or not possible (text: why) */
    LINK_MSG_SWITCHOVER_PHASE,    /* primary: its VM is held (flags 1), or goes (flags 2) */
} LinkMessage;

typedef struct {
    void (*up)(json_object *peer_hello, gpointer user_data);
    void (*message)(guint type, const guint8 *payload, gsize len, gpointer user_data);
    void (*packet)(unsigned nic, guint64 epoch, const guint8 *data, gsize len, gpointer user_data);
    /* Of a link that this side has ended: link_let_packets_follow(). May be NULL: nobody calls that. */
    void (*late_packet)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    /* A link that was up has ended. The engines must be freed before this returns. */
    void (*down)(const GError *why, gpointer user_data);
    /* An attempt failed (nobody there, refused, ...). Dialling continues by itself; the same reason
     * is reported once. `refused` means that the peer is there and refused. */
    void (*attempt_failed)(const GError *why, gpointer user_data);
    /* link_has_unsent() has become FALSE. May be NULL. */
    void (*sent)(gpointer user_data);
    /* An attempt to dial failed: each, after attempt_failed() if that is called. May be NULL. */
    void (*dial_failed)(const GError *why, gpointer user_data);
    /* A duplicate of the socket `what` ("listen", or a channel's name) of a set of descriptors. -1 and
     * an error: there is none. May be NULL: there are no sets. */
    int (*descriptor)(int fdset, const char *what, gpointer user_data, GError **error);
    /* After link_is_fresh() was FALSE: a new message of the peer has come. */
    void (*fresh)(gpointer user_data);
} LinkCallbacks;

typedef struct {
    const char *listen; /* common/address.h; port 0: any, see link_port() */
    const char *peer;   /* too; a name is resolved again at each attempt */
    guint heartbeat_interval_ms;
    guint heartbeat_timeout_ms;
    guint handshake_timeout_ms; /* how long a pairing may take; 0: 5000 */
    gboolean disks;             /* the VM has disks: there is a fourth connection */
} LinkOptions;

/* Frames of the packets connection since link_new(). */
typedef struct {
    guint64 sent_frames, sent_bytes; /* queued for sending */
    guint64 dropped_frames;          /* not queued: congested */
    guint64 received_frames, received_bytes;
} LinkPacketStats;

/* A feature: the side reads PACKED records of the checkpoint stream. */
#define LINK_FEATURE_PACKED "packed-pages"

/* Whether the peer of that hello, as up() has it, has that feature. */
gboolean link_features_has(json_object *hello, const char *name);

typedef struct Link Link;

/*
 * Binds the listening socket (a name in `listen` is resolved, which may block). Connections are
 * refused until link_accept(). Callbacks must be set. Error: LINK_ERROR_ADDRESS.
 */
Link *link_new(const LinkOptions *options, const LinkCallbacks *callbacks, gpointer user_data,
               GError **error);
void link_free(Link *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Link, link_free)

/*
 * From now on accepts a secondary (as primary) or dials the primary (as secondary), until an
 * attempt succeeds; after down() it has to be called again. `hello` is this side's part of the
 * handshake: {"name", "identity": vm_identity()}; the link adds version, role and session. It is
 * copied. link_idle() goes back to neither: connections are refused with `reason`. Each of them
 * ends a link that is up, like link_close().
 */
void link_accept(Link *link, json_object *hello);
void link_dial(Link *link, json_object *hello);
void link_idle(Link *link, const char *reason);

/* Where link_dial() dials from its next call on; NULL: nowhere is known. It must be an address. */
void link_set_peer(Link *link, const char *peer);

/*
 * Takes duplicates of all sockets that dialling "fdset:N" needs, in place of any taken before. So the
 * set may be removed. LINK_ERROR_ADDRESS: which one isn't there; none is taken.
 */
gboolean link_take_given(Link *link, const char *peer, GError **error);
/* The next attempt doesn't use them: closes them. */
void link_forget_given(Link *link);

/*
 * Listens there too, in place of where it was told to before; NULL: nowhere else. A name is
 * resolved, which may block. LINK_ERROR_ADDRESS: nothing has changed.
 */
gboolean link_listen_also(Link *link, const char *address, GError **error);

/*
 * Ends a link that is up (or an attempt) from this side, without calling down(). What was given to
 * link_send() before still goes out; the peer reads it before it sees the end. What was given to
 * link_send_packet() goes out, too.
 */
void link_close(Link *link);

/*
 * Ends a link that is up because the service has found it broken (for example an engine's stream),
 * as if the link had found it. What the peer has sent until now is delivered. Then, if the link is
 * still up, down() is called, all from within. Only from the main loop.
 */
void link_break(Link *link, const GError *why);

gboolean link_is_up(const Link *link);

/*
 * Whether the peer was there a moment ago for certain, and so can't have given this side up. It was
 * if it has answered a heartbeat that was sent a fraction of its heartbeat-timeout ago, and no
 * connection has ended. What was read from the socket doesn't prove that after this process was
 * stopped. If FALSE, the peer is asked, and fresh() or down() will be called.
 */
gboolean link_is_fresh(Link *link);
/*
 * A link that is up: may the engines' connections end without it? At first not. A takeover ends them,
 * while messages still tell how it goes.
 */
void link_let_engines_end(Link *link, gboolean may_end);

/*
 * A link that is up: when this side ends it, packets that the peer had sent before are still brought, to
 * late_packet(), until the peer ends it too, or a second has passed. Without this they are thrown away.
 */
void link_let_packets_follow(Link *link);

/* The session both sides agreed on: 32 hex digits, new for every pairing. NULL if not up. */
const char *link_session(const Link *link);

/*
 * The checkpoint connection: blocking, borrowed, valid until down() returns or link_close(); -1 if
 * not up. The link never reads or writes it but watches it for its end, which an engine causes too
 * by shutting it down.
 */
int link_checkpoint_fd(const Link *link);

/* The disks connection, in the same way; -1 if not up, or without disks. */
int link_disks_fd(const Link *link);

/*
 * Queues a control message (and tries to send it at once). A no-op if the link is not up. A peer
 * that doesn't read them ends the link, from the main loop (LINK_ERROR_OVERRUN). `len` is at most
 * LINK_MESSAGE_MAX, `type` one of LinkMessage.
 */
void link_send(Link *link, guint type, const void *payload, gsize len);

/*
 * Whether messages wait because the peer doesn't read as fast: who has much to send waits for
 * sent().
 *
 */
gboolean link_has_unsent(const Link *link);

/*
 * Mirrors a frame to the peer: 1 to LINK_PACKET_MAX bytes, sent at the end of this turn of the main
 * loop at the latest. Bounded: FALSE, dropped and counted if the connection is congested; FALSE if
 * not up.
 */
gboolean link_send_packet(Link *link, unsigned nic, guint64 epoch, const guint8 *data, gsize len);

/* Borrowed. */
const LinkPacketStats *link_packet_stats(const Link *link);

/* The port it listens on; 0: it is a unix socket. */
guint16 link_port(const Link *link);

/* Live changes; they count from now, or from the next pairing on. */
void link_set_handshake_timeout(Link *link, guint timeout_ms);
void link_set_heartbeat(Link *link, guint interval_ms, guint timeout_ms);

#endif
