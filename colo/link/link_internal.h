/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the link. From the bottom:
 *
 *   address.c    listening sockets
 *   given.c      sockets that somebody else has opened
 *   channel.c    one connection: all bytes pass here
 *   wire.c       hellos and frames as bytes (pure)
 *   judge.c      may these two be a pair? (pure)
 *   hello.c      hellos on a connection
 *   heartbeat.c  when to send one, when the peer counts as lost (pure)
 *   beat.c       heartbeats and their echoes on a link that is up
 *   accept.c     incoming connections
 *   dial.c       outgoing ones
 *   linger.c     a pairing that this side has ended
 *   link.c            the link that is up, and the public functions
 *
 * Callbacks may call any public function, link_free() included. So whatever calls back holds a
 * reference of the Link, and of the Channel it reads, and looks again before it goes on.
 */
#ifndef COLO_COLO_LINK_LINK_INTERNAL_H
#define COLO_COLO_LINK_LINK_INTERNAL_H

#include <gio/gio.h>
#include <glib-unix.h>
#include <json-c/json.h>

#include "colo/link/link.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/unix-listen.h"

/* ---- Addresses (address.c) ---- */

/* colo_address_parse(); `option` is named in the error. LINK_ERROR_ADDRESS. */
gboolean link_address_parse(const char *option, const char *text, ColoAddress *ret_address,
                            GError **error);
/* A listening, non-blocking socket. Resolves names, which may block. `link` NULL: there are no sets of
 * descriptors. LINK_ERROR_ADDRESS. */
gboolean link_address_listen(Link *link, const char *text, UnixListen *ret_listen, GError **error);
/* The other end of a connected socket, without its port: "10.0.0.2"; of a unix
 * socket which process it is. */
char *link_address_peer(int fd);
/* The port that a socket is bound to; 0: it is a unix socket. */
guint16 link_address_port(int fd);

/* ---- Sockets that somebody else has opened (given.c) ---- */

/*
 * A duplicate of a stream socket, made non-blocking; `address` is of kind FDSET or FD. `what`: which one
 * of a set: "listen", or a channel's name. -1 and LINK_ERROR_ADDRESS: there is none, or it won't do.
 */
int link_given(Link *link, const ColoAddress *address, const char *what, gboolean to_listen,
               GError **error);

/* Ends the connections of a set, for good: closing duplicates doesn't. What is missing is no error. */
void link_end_given(Link *link, const ColoAddress *address);
/* An attempt with that set begins: what was taken for it is its own. And: it is over. */
void link_begin_given(Link *link, const ColoAddress *address);
void link_drop_given(Link *link);

/* ---- Bytes (wire.c) ---- */

#define LINK_HELLO_HEAD     16u
#define LINK_HELLO_MAX      65536u
#define LINK_MESSAGE_HEAD   8u
#define LINK_PACKET_HEAD    16u
#define LINK_PROTOCOL       4u
#define LINK_TYPE_HEARTBEAT 1u
#define LINK_TYPE_ECHO      2u
#define LINK_TYPE_SERVICE   16u /* the first that isn't the link's own */

#define LINK_BEAT_BYTES 16u
#define LINK_ECHO_BYTES 24u

typedef enum { LINK_HELLO = 1, LINK_ANSWER = 2, LINK_REFUSAL = 3 } LinkHelloKind;
typedef enum { LINK_PARSE_SHORT, LINK_PARSE_WHOLE, LINK_PARSE_BAD } LinkParse;

/* The bytes of a hello, answer or refusal. */
GBytes *link_build_hello(LinkHelloKind kind, json_object *body);

/*
 * Reads one from the start of `data`. WHOLE: its kind and body (a new reference, an object). SHORT:
 * `ret_need` is how many bytes are needed in all, as far as is known. BAD: LINK_ERROR_PROTOCOL.
 * All `len` bytes belong to it: a reader asks for no more than `ret_need`.
 */
LinkParse link_parse_hello(const guint8 *data, gsize len, LinkHelloKind *ret_kind,
                           json_object **ret_body, gsize *ret_need, GError **error);

typedef struct {
    guint16 type;
    const guint8 *payload; /* in the bytes given */
    gsize len, used;       /* of the payload; of all of it */
} LinkParsedMessage;

/* The payloads of a heartbeat and of its echo; their lengths were checked. */
typedef struct {
    guint64 number;
    ColoTime sent;      /* by the clock of the side whose heartbeat it is */
    guint64 timeout_us; /* of an echo: heartbeat-timeout of the side that echoes */
} LinkBeat;

void link_build_beat(guint8 payload[LINK_BEAT_BYTES], const LinkBeat *beat);
void link_build_echo(guint8 payload[LINK_ECHO_BYTES], const LinkBeat *echo);
LinkBeat link_parse_beat(const guint8 payload[LINK_BEAT_BYTES]);
LinkBeat link_parse_echo(const guint8 payload[LINK_ECHO_BYTES]);

void link_build_message_head(guint8 head[LINK_MESSAGE_HEAD], guint16 type, gsize len);
LinkParse link_parse_message(const guint8 *data, gsize len, LinkParsedMessage *ret_message,
                             GError **error);

typedef struct {
    guint32 nic;
    guint64 epoch;
    const guint8 *frame;
    gsize len, used;
} LinkParsedPacket;

void link_build_packet_head(guint8 head[LINK_PACKET_HEAD], guint32 nic, guint64 epoch, gsize len);
LinkParse link_parse_packet(const guint8 *data, gsize len, LinkParsedPacket *ret_packet,
                            GError **error);

/* A string member that is fit to print (UTF-8, no control characters, 1 to `max` bytes) or NULL. */
/* The member `features` of our hello: new reference. */
json_object *link_features(void);
/* Whether that of a hello, which may have none, is well formed. */
gboolean link_features_are_valid(json_object *hello);
/* The first that `needs` demands and `has` lacks; NULL: none. Both are valid; borrowed. */
const char *link_features_lacking(json_object *has, json_object *needs);
const char *link_hello_string(json_object *object, const char *member, gsize max);

/* Bytes from a stranger as a short text for people. Free with g_free(). */
char *link_printable(const guint8 *data, gsize len);

/* ---- Who may pair with whom (judge.c) ---- */

/*
 * Compares the hellos of both sides; `theirs` is not trusted. TRUE if they may be a pair, else why
 * not as each side has to read it ("here" being the reader's). Free both with g_free().
 */
gboolean link_judge(json_object *ours, json_object *theirs, char **ret_for_us, char **ret_for_them);

/* ---- Heartbeats (heartbeat.c) ---- */

typedef struct {
    gint64 interval_us, timeout_us;
    ColoTime looked;  /* the last step or sign of life */
    ColoTime planned; /* when the next step was to be */
    ColoTime beat;    /* when to send the next heartbeat */
    gint64 idle_us;   /* time that was watched without a sign of life */
} Heartbeat;

enum { HEARTBEAT_SEND = 1, HEARTBEAT_LOST = 2 };

void heartbeat_start(Heartbeat *heartbeat, guint interval_ms, guint timeout_ms, ColoTime now);
/* Any byte on control. */
void heartbeat_received(Heartbeat *heartbeat, ColoTime now);
/* To be called at `planned` or as soon after as possible: what to do now. */
guint heartbeat_step(Heartbeat *heartbeat, ColoTime now);

/* ---- Connections (channel.c) ---- */

typedef struct Channel Channel;

typedef struct {
    /* Bytes are there; returns how many it has used, and is called again while it uses some. NULL:
     * all are thrown away. Not called while the channel is held. */
    gsize (*data)(Channel *channel, const guint8 *data, gsize len, gpointer user_data);
    /* Ended or failed (LINK_ERROR_CLOSED): nothing more will come. */
    void (*ended)(Channel *channel, const GError *why, gpointer user_data);
    /* From the main loop: the kernel has taken all that had to wait. NULL: nobody wants to know. */
    void (*drained)(Channel *channel, gpointer user_data);
} ChannelHandler;

typedef enum {
    CHANNEL_HOLD,  /* only the end is noticed; bytes stay in the kernel */
    CHANNEL_EXACT, /* no more bytes are read than asked for with channel_need() */
    CHANNEL_READ,
} ChannelMode;

/* Takes over the connected `fd`. Sets TCP_NODELAY and the rest. Starts with CHANNEL_HOLD. */
Channel *channel_new(int fd);
Channel *channel_ref(Channel *channel);
void channel_unref(Channel *channel);
/* Closes it and gives up a reference: no callback comes any more. Takes NULL. */
void channel_close(Channel *channel);
gboolean channel_is_open(const Channel *channel);

/* What is done with bytes from now on, at which main-loop priority. `handler` is borrowed. */
void channel_handle(Channel *channel, ChannelMode mode, int priority, const ChannelHandler *handler,
                    gpointer user_data);
/* Nothing of it is looked at, also not its end, until the next channel_handle(). */
void channel_ignore(Channel *channel);
/* EXACT: how many bytes in all may be in the buffer. */
void channel_need(Channel *channel, gsize bytes);
/*
 * Reads what is there, now, and hands it to the handler; TRUE if there may be more. Does nothing
 * from within that handler.
 */
gboolean channel_read_now(Channel *channel);
/* When bytes last came. */
ColoTime channel_last_received(const Channel *channel);

/*
 * Queues `head` and `body` whole. With `now` the kernel is offered them at once, else at the end of
 * this turn of the main loop, together with others.
 */
void channel_write(Channel *channel, const void *head, gsize head_len, const void *body,
                   gsize body_len, gboolean now);
/* Bytes that the kernel has not taken yet. */
gsize channel_queued(const Channel *channel);
/* Ends our direction once the queue is empty. */
void channel_finish(Channel *channel);
/* The socket, borrowed. */
int channel_fd(const Channel *channel);

/* ---- Hellos on a connection (hello.c) ---- */

/* Queues a hello, answer or refusal at once. Takes over `body`. */
void link_send_hello(Channel *channel, LinkHelloKind kind, json_object *body);
/*
 * A ChannelHandler's `data` for a channel that is read exactly: how many bytes were used.
 * `ret_body` (a new reference) and `ret_kind` are set once the hello is whole; until then the
 * channel is asked for more. LINK_ERROR_PROTOCOL.
 */
gsize link_take_hello(Channel *channel, const guint8 *data, gsize len, LinkHelloKind *ret_kind,
                      json_object **ret_body, GError **error);

/* ---- The link (link.c, accept.c, dial.c) ---- */

typedef enum { LINK_CONTROL, LINK_CHECKPOINT, LINK_PACKETS, LINK_DISKS, LINK_CHANNELS } LinkChannel;
extern const char *const link_channel_names[LINK_CHANNELS];

/* Pure (state.c): what the link does, and what can happen to it. The diagram is in link.c. */
typedef enum { LINK_IDLE, LINK_ACCEPTING, LINK_DIALLING, LINK_UP, LINK_STATES } LinkState;

typedef enum {
    LINK_EVENT_ACCEPT, /* orders of the service: look for a peer, or for none any more */
    LINK_EVENT_DIAL,
    LINK_EVENT_END,
    LINK_EVENT_PAIRED, /* a pairing has all its connections */
    LINK_EVENT_LOST,   /* one of them has ended, or the peer broke the rules */
    LINK_EVENTS
} LinkEvent;

/* FALSE, with `ret_next` untouched, if `event` makes no sense in `state`. */
gboolean link_state_step(LinkState state, LinkEvent event, LinkState *ret_next);
const char *link_state_name(LinkState state);
const char *link_event_name(LinkEvent event);

typedef struct Dial Dial;

/* A socket that is served; of TCP only its descriptor counts. */
typedef struct {
    Link *link;
    UnixListen socket;
    GSource *source;
} Listener;

/* Two nodes that are becoming or are a pair. */
typedef struct {
    char *session;
    json_object *peer_hello;
    char *peer;                       /* for people: "beta (10.0.0.2)" */
    Channel *channels[LINK_CHANNELS]; /* NULL: not there, or not yet */
    gboolean answered[LINK_CHANNELS];
} Pairing;

/* Duplicates of those of a set: a descriptor + 1; 0: none. */
typedef struct {
    int set, fd[LINK_CHANNELS];
} LinkGiven;

struct Link {
    gint refs;
    gboolean freed;
    LinkCallbacks callbacks;
    gpointer user_data;
    char *peer_address;
    guint interval_ms, timeout_ms, handshake_ms;
    guint channels;        /* how many a pairing has: all, or all but LINK_DISKS */
    LinkGiven taken, used; /* for the next attempt; by that which is under way */

    Listener listener, also;
    GPtrArray *guests; /* connections without a hello yet */

    LinkState state; /* link.c sets it */
    char *idle_reason;
    json_object *hello;
    GHashTable *reported; /* reasons that attempt_failed() has had */

    Dial *dial;         /* while dialling */
    Pairing *pairing;   /* under way or up; of a dialler, only once it has an answer */
    GSource *handshake; /* its time */

    GSource *beat_source;
    Heartbeat heartbeat;
    guint64 beats_sent, beats_received, echoes_received;
    ColoTime echoed;          /* when the last heartbeat was sent that has an echo */
    gint64 peer_timeout_us;   /* the peer's heartbeat-timeout, from its echoes */
    gboolean fresh_wanted;    /* fresh() is to be called at the next echo that counts */
    gboolean engines_may_end; /* their connections, without the link */
    gboolean packets_follow;  /* to late_packet(), after this side has ended the link */
    ColoTime looked;          /* when no connection had ended yet */
    GError *failing;          /* up, but about to go down from the main loop */
    GSource *failing_source;
    GPtrArray *lingering; /* of linger.c */
    LinkPacketStats packets;
};

Link *link_ref(Link *link);
void link_unref(Link *link);

/* Tells attempt_failed(), if this reason is new. May free everything but `link`. */
void link_report(Link *link, const GError *why);
/* This side's hello with one more member. New reference. */
json_object *link_hello_with(const Link *link, const char *member, const char *value);
/* All of `link->pairing` is answered: it is up. The caller holds a reference. */
void link_go_up(Link *link);

Pairing *pairing_new(const char *session, json_object *peer_hello, const char *address);
void pairing_free(Pairing *pairing);
/* The pairing has all channels it needs, answered. */
gboolean link_pairing_is_complete(const Link *link);

/* A one-shot timer (common/patience.h) at high priority; `data` is borrowed. NULL-safe removal. */
GSource *link_timer(guint ms, GSourceFunc func, gpointer data);
void link_source_clear(GSource **source);

/* Sends a message, of a link that is up. */
void link_put_message(Link *link, guint16 type, const void *payload, gsize len);
/* The peer doesn't read control: LINK_ERROR_OVERRUN. */
gboolean link_is_overrun(const Link *link, GError **error);
/* Its bytes are an engine's: checkpoints', or the disks'. */
gboolean link_is_engines(LinkChannel which);
/* Reads all that has come on control, as far as it is wanted. */
void link_read_control(Link *link);
/* Ends a link that is up; takes `why`. Only from the main loop. */
void link_go_down(Link *link, GError *why);

/* ---- A pairing that this side has ended (linger.c) ---- */

/* For link->lingering. */
GPtrArray *link_lingering_new(void);
/* Takes a pairing that was up, until both sides have read what there is, or for a second. */
void link_linger(Link *link, Pairing *pairing);
/* Now. What has come on control is read, so that closing doesn't reset. */
void link_end_lingering(Link *link);

/* ---- Signs of life (beat.c) ---- */

void link_start_beating(Link *link);
/* A heartbeat or an echo. The caller holds a reference. FALSE: LINK_ERROR_PROTOCOL. */
gboolean link_take_sign(Link *link, const LinkParsedMessage *message, GError **error);

/* Accepting: serves the listening socket for the link's whole life. */
gboolean link_listen(Link *link, const char *text, GError **error);
void link_listener_end(Listener *listener);
void link_listen_end(Link *link);
/* Ends a pairing that isn't up yet, without a word. */
void link_pairing_drop(Link *link);

/* Dialling: tries until it succeeds or is ended. */
void link_dial_start(Link *link);
void link_dial_end(Link *link);

#endif
