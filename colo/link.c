/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a link is made. The dialling side opens the control connection and says hello; the accepting
 * side compares, makes a session (128 random bits) and answers; then the other two connections are
 * opened with that session. When all three are answered the link is up. Every step has
 * HANDSHAKE_MS in all; whatever fails on the way ends the attempt, with the reason on both sides.
 *
 *   idle --accept--> accepting --hello--> pairing --three connections--> up
 *   idle --dial--> dialling --answer--> pairing --three connections--> up
 *   pairing --failure, time--> accepting or dialling (again after a growing delay)
 *   up --end of a connection, silence--> idle, down() is called
 *
 * Silence: the heartbeat timer counts from the last byte that was read, and reads once more before
 * it declares the peer lost, so that a process that was itself stopped for long finds the bytes
 * that came meanwhile. What it can't know then is whether the peer has given it up: that is the
 * arbiter's part.
 */
#include "colo/link.h"

#include "colo/link_internal.h"
#include "common/endian.h"
#include "common/fd.h"
#include "vm/vm.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/random.h>

#define HANDSHAKE_MS        5000
#define DIAL_DELAY_MIN_MS   50
#define DIAL_DELAY_MAX_MS   1000
#define MESSAGE_HEAD_BYTES  8
#define MESSAGE_MAX_BYTES   (4 * 1024 * 1024)
#define PACKET_HEAD_BYTES   16
#define PACKET_MAX_BYTES    (128 * 1024)
#define CONTROL_QUEUE_BYTES (8 * 1024 * 1024)
#define PACKETS_QUEUE_BYTES (4 * 1024 * 1024)
/* Connections that have not said who they are yet. */
#define STRANGERS_MAX 16

#define MSG_HEARTBEAT 1

G_DEFINE_QUARK(link - error - quark, link_error)

typedef enum { MODE_IDLE, MODE_ACCEPTING, MODE_DIALLING } Mode;

/* An incoming connection before its hello. */
typedef struct {
    Link *link;
    Conn *conn;
    guint timer;
} Stranger;

struct Link {
    LinkCallbacks callbacks;
    gpointer user_data;
    guint interval_ms, timeout_ms;
    LinkAddress listen, peer;
    int listen_fd;
    guint listen_source;
    GPtrArray *strangers;

    Mode mode;
    char *idle_reason;
    json_object *hello;

    /* The pairing, under way or up. */
    char *session;
    json_object *peer_hello;
    Conn *conns[CHANNELS];
    gboolean answered[CHANNELS]; /* its hello has been answered with yes */
    int checkpoint_fd;
    gboolean up;

    guint handshake_timer, dial_timer, heartbeat_timer;
    guint dial_delay_ms;
    char *last_failure;
};

static const char *const channel_names[CHANNELS] = {"control", "checkpoint", "packets"};

static void dial(Link *link);

/* ---- Ends ---- */

static void clear_timer(guint *timer)
{
    if (*timer)
        g_source_remove(*timer);
    *timer = 0;
}

/* Ends the pairing, whatever its stage. */
static void drop(Link *link)
{
    clear_timer(&link->handshake_timer);
    clear_timer(&link->dial_timer);
    clear_timer(&link->heartbeat_timer);
    for (Channel channel = 0; channel < CHANNELS; channel++) {
        g_clear_pointer(&link->conns[channel], conn_free);
        link->answered[channel] = FALSE;
    }
    if (link->checkpoint_fd >= 0)
        shutdown(link->checkpoint_fd, SHUT_RDWR);
    colo_fd_close(&link->checkpoint_fd);
    g_clear_pointer(&link->session, g_free);
    g_clear_pointer(&link->peer_hello, json_object_put);
    link->up = FALSE;
}

static void tell_attempt_failed(Link *link, const GError *why)
{
    if (!g_strcmp0(link->last_failure, why->message))
        return;
    g_free(link->last_failure);
    link->last_failure = g_strdup(why->message);
    link->callbacks.attempt_failed(why, link->user_data);
}

static gboolean on_dial_timer(gpointer user_data)
{
    Link *link = user_data;
    link->dial_timer = 0;
    dial(link);
    return G_SOURCE_REMOVE;
}

static void fail(Link *link, const GError *why)
{
    gboolean was_up = link->up;
    drop(link);
    if (was_up) {
        link->mode = MODE_IDLE;
        link->callbacks.down(why, link->user_data);
        return;
    }
    if (link->mode == MODE_DIALLING) {
        link->dial_timer =
            g_timeout_add_full(G_PRIORITY_HIGH, link->dial_delay_ms, on_dial_timer, link, NULL);
        link->dial_delay_ms = MIN(2 * link->dial_delay_ms, DIAL_DELAY_MAX_MS);
    }
    tell_attempt_failed(link, why);
}

static void fail_new(Link *link, LinkError code, const char *text)
{
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, code, text);
    fail(link, why);
}

static gboolean on_handshake_timer(gpointer user_data)
{
    Link *link = user_data;
    link->handshake_timer = 0;
    fail_new(link, LINK_ERROR_TIMEOUT, "the peer has begun to pair and did not go on");
    return G_SOURCE_REMOVE;
}

/* ---- Up: messages, packets, heartbeats ---- */

static gsize on_control_data(Conn *conn, const guint8 *data, gsize len, gpointer user_data)
{
    (void)conn;
    Link *link = user_data;
    if (!link->up || len < MESSAGE_HEAD_BYTES)
        return 0;
    guint16 type = colo_get_be16(data);
    guint32 body = colo_get_be32(data + 4);
    if (body > MESSAGE_MAX_BYTES) {
        fail_new(link, LINK_ERROR_PROTOCOL, "a message on the control connection is too long");
        return 0;
    }
    if (len < MESSAGE_HEAD_BYTES + body)
        return 0;
    if (type != MSG_HEARTBEAT)
        link->callbacks.message(type, data + MESSAGE_HEAD_BYTES, body, link->user_data);
    return MESSAGE_HEAD_BYTES + body;
}

static gsize on_packets_data(Conn *conn, const guint8 *data, gsize len, gpointer user_data)
{
    Link *link = user_data;
    gsize used = 0;
    while (link->up && link->conns[CHANNEL_PACKETS] == conn && len - used >= PACKET_HEAD_BYTES) {
        const guint8 *head = data + used;
        guint32 body = colo_get_be32(head);
        if (body > PACKET_MAX_BYTES) {
            fail_new(link, LINK_ERROR_PROTOCOL, "a frame on the packets connection is too long");
            return 0;
        }
        if (len - used < PACKET_HEAD_BYTES + body)
            break;
        used += PACKET_HEAD_BYTES + body;
        link->callbacks.packet(colo_get_be32(head + 4), colo_get_be64(head + 8),
                               head + PACKET_HEAD_BYTES, body, link->user_data);
    }
    return used;
}

static void on_closed(Conn *conn, const GError *why, gpointer user_data)
{
    (void)conn;
    fail(user_data, why);
}

static void on_never_connected(Conn *conn, gpointer user_data)
{
    (void)conn;
    (void)user_data;
    g_assert_not_reached();
}

static const ConnCallbacks control_callbacks = {
    .data = on_control_data, .closed = on_closed, .connected = on_never_connected};
static const ConnCallbacks packets_callbacks = {
    .data = on_packets_data, .closed = on_closed, .connected = on_never_connected};

static gboolean is_silent(const Link *link)
{
    gint64 us = colo_time_diff_us(colo_time_now(), conn_last_heard(link->conns[CHANNEL_CONTROL]));
    return us > (gint64)link->timeout_ms * COLO_US_PER_MS;
}

static gboolean on_heartbeat_timer(gpointer user_data)
{
    Link *link = user_data;
    link_send(link, MSG_HEARTBEAT, NULL, 0);
    if (is_silent(link)) {
        conn_read(link->conns[CHANNEL_CONTROL]);
        /* That may have ended the link. */
        if (link->up && is_silent(link))
            fail_new(link, LINK_ERROR_TIMEOUT, "the peer has been silent for heartbeat-timeout");
    }
    return G_SOURCE_CONTINUE;
}

static void start_heartbeat(Link *link)
{
    clear_timer(&link->heartbeat_timer);
    link->heartbeat_timer =
        g_timeout_add_full(G_PRIORITY_HIGH, link->interval_ms, on_heartbeat_timer, link, NULL);
}

static void go_up_if_complete(Link *link)
{
    for (Channel channel = 0; channel < CHANNELS; channel++)
        if (!link->answered[channel])
            return;
    clear_timer(&link->handshake_timer);
    conn_set_user_data(link->conns[CHANNEL_CONTROL], &control_callbacks, link);
    conn_set_user_data(link->conns[CHANNEL_PACKETS], &packets_callbacks, link);
    /* The accepting side says nothing there before the other has said on control that it is up. */
    link->checkpoint_fd = conn_steal_fd(link->conns[CHANNEL_CHECKPOINT]);
    g_clear_pointer(&link->conns[CHANNEL_CHECKPOINT], conn_free);
    link->up = TRUE;
    link->dial_delay_ms = DIAL_DELAY_MIN_MS;
    g_clear_pointer(&link->last_failure, g_free);
    start_heartbeat(link);
    json_object *peer_hello = json_object_get(link->peer_hello);
    link->callbacks.up(peer_hello, link->user_data);
    json_object_put(peer_hello);
    /* What came on control meanwhile. */
    if (link->up)
        conn_read(link->conns[CHANNEL_CONTROL]);
}

/* ---- Accepting ---- */

static void stranger_free(gpointer data)
{
    Stranger *stranger = data;
    clear_timer(&stranger->timer);
    conn_free(stranger->conn);
    g_free(stranger);
}

static void send_hello(Conn *conn, json_object *object)
{
    g_autoptr(GByteArray) bytes = hello_build(object);
    conn_send(conn, bytes->data, bytes->len, NULL, 0);
    json_object_put(object);
}

static json_object *new_object(const char *member, const char *value)
{
    json_object *object = json_object_new_object();
    json_object_object_add(object, member, json_object_new_string(value));
    return object;
}

/* Says no, with the reason, and forgets the connection. */
static void refuse(Stranger *stranger, LinkError code, const char *reason)
{
    Link *link = stranger->link;
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, code, reason);
    send_hello(stranger->conn, new_object("refused", reason));
    g_ptr_array_remove_fast(link->strangers, stranger);
    /* A node that is busy or idle says so to the other; here it is no news. */
    if (link->mode == MODE_ACCEPTING && !link->session)
        tell_attempt_failed(link, why);
}

/* Why this hello can't be the other half; NULL if it can. */
static char *find_difference(const Link *link, json_object *theirs)
{
    json_object *hello = NULL, *our_identity = NULL, *their_identity = NULL;
    const char *name = NULL;
    if (json_object_object_get_ex(theirs, "hello", &hello))
        name = hello_string(hello, "name");
    if (!name || !json_object_object_get_ex(hello, "identity", &their_identity))
        return g_strdup("the hello names no node or VM");
    if (!g_strcmp0(name, hello_string(link->hello, "name")))
        return g_strdup_printf("both nodes are named '%s': give each its own [node] name", name);
    json_object_object_get_ex(link->hello, "identity", &our_identity);
    return vm_identity_difference(our_identity, their_identity);
}

static char *make_session(void)
{
    guint8 bytes[16];
    g_assert(getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes));
    g_autoptr(GString) text = g_string_new(NULL);
    for (gsize i = 0; i < sizeof(bytes); i++)
        g_string_append_printf(text, "%02x", bytes[i]);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void adopt(Stranger *stranger, Channel channel, json_object *answer)
{
    Link *link = stranger->link;
    link->conns[channel] = g_steal_pointer(&stranger->conn);
    conn_set_user_data(link->conns[channel],
                       channel == CHANNEL_PACKETS ? &packets_callbacks : &control_callbacks, link);
    link->answered[channel] = TRUE;
    g_ptr_array_remove_fast(link->strangers, stranger);
    send_hello(link->conns[channel], answer);
    go_up_if_complete(link);
}

static void admit_control(Stranger *stranger, json_object *theirs)
{
    Link *link = stranger->link;
    if (link->mode != MODE_ACCEPTING) {
        g_autofree char *reason =
            g_strdup_printf("not a primary that takes a secondary now (%s)",
                            link->idle_reason ? link->idle_reason : "looks for one itself");
        refuse(stranger, LINK_ERROR_REFUSED, reason);
        return;
    }
    if (link->session) {
        refuse(stranger, LINK_ERROR_REFUSED, "already paired with another node");
        return;
    }
    g_autofree char *difference = find_difference(link, theirs);
    if (difference) {
        refuse(stranger, LINK_ERROR_REFUSED, difference);
        return;
    }
    link->session = make_session();
    link->peer_hello = json_object_get(json_object_object_get(theirs, "hello"));
    link->handshake_timer = g_timeout_add(HANDSHAKE_MS, on_handshake_timer, link);
    json_object *answer = new_object("session", link->session);
    json_object_object_add(answer, "hello", json_object_get(link->hello));
    adopt(stranger, CHANNEL_CONTROL, answer);
}

static void admit(Stranger *stranger, json_object *theirs)
{
    Link *link = stranger->link;
    const char *name = hello_string(theirs, "channel");
    if (!g_strcmp0(name, channel_names[CHANNEL_CONTROL])) {
        admit_control(stranger, theirs);
        return;
    }
    for (Channel channel = CHANNEL_CONTROL + 1; channel < CHANNELS; channel++)
        if (!g_strcmp0(name, channel_names[channel]) && link->session && !link->up &&
            link->mode == MODE_ACCEPTING && !link->conns[channel] &&
            !g_strcmp0(hello_string(theirs, "session"), link->session)) {
            adopt(stranger, channel, new_object("session", link->session));
            return;
        }
    refuse(stranger, LINK_ERROR_PROTOCOL, "no such session or channel");
}

static gsize on_stranger_data(Conn *conn, const guint8 *data, gsize len, gpointer user_data)
{
    (void)conn;
    Stranger *stranger = user_data;
    g_autoptr(GError) error = NULL;
    json_object *object = NULL;
    gsize used = 0;
    switch (hello_parse(data, len, &object, &used, &error)) {
    case HELLO_SHORT:
        return 0;
    case HELLO_BAD:
        refuse(stranger, LINK_ERROR_PROTOCOL, error->message);
        return 0;
    case HELLO_WHOLE:
        admit(stranger, object);
        json_object_put(object);
        return used;
    }
    return 0;
}

static void on_stranger_closed(Conn *conn, const GError *why, gpointer user_data)
{
    (void)conn;
    (void)why;
    Stranger *stranger = user_data;
    g_ptr_array_remove_fast(stranger->link->strangers, stranger);
}

static gboolean on_stranger_timer(gpointer user_data)
{
    Stranger *stranger = user_data;
    stranger->timer = 0;
    refuse(stranger, LINK_ERROR_TIMEOUT, "no hello in time");
    return G_SOURCE_REMOVE;
}

static const ConnCallbacks stranger_callbacks = {
    .data = on_stranger_data, .closed = on_stranger_closed, .connected = on_never_connected};

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)condition;
    Link *link = user_data;
    COLO_AUTO_FD incoming = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (incoming < 0 || link->strangers->len >= STRANGERS_MAX)
        return G_SOURCE_CONTINUE;
    Stranger *stranger = g_new0(Stranger, 1);
    stranger->link = link;
    stranger->conn = conn_new(colo_fd_steal(&incoming), NULL, &stranger_callbacks, stranger);
    stranger->timer = g_timeout_add(HANDSHAKE_MS, on_stranger_timer, stranger);
    g_ptr_array_add(link->strangers, stranger);
    return G_SOURCE_CONTINUE;
}

/* ---- Dialling ---- */

static Channel channel_of(const Link *link, const Conn *conn)
{
    Channel channel = CHANNEL_CONTROL;
    while (link->conns[channel] != conn)
        channel++;
    return channel;
}

static void on_connected(Conn *conn, gpointer user_data)
{
    Link *link = user_data;
    Channel channel = channel_of(link, conn);
    json_object *object = new_object("channel", channel_names[channel]);
    if (channel == CHANNEL_CONTROL)
        json_object_object_add(object, "hello", json_object_get(link->hello));
    else
        json_object_object_add(object, "session", json_object_new_string(link->session));
    send_hello(conn, object);
}

static gboolean open_channel(Link *link, Channel channel);

static void handle_answer(Link *link, Channel channel, json_object *answer)
{
    const char *refused = hello_string(answer, "refused");
    const char *session = hello_string(answer, "session");
    json_object *hello;
    if (refused) {
        g_autofree char *text = g_strdup_printf("%s says: %s", link->peer.text, refused);
        fail_new(link, LINK_ERROR_REFUSED, text);
        return;
    }
    gboolean right =
        session && (channel == CHANNEL_CONTROL ? json_object_object_get_ex(answer, "hello", &hello)
                                               : !strcmp(session, link->session));
    if (!right) {
        fail_new(link, LINK_ERROR_PROTOCOL, "the peer's answer names no session");
        return;
    }
    link->answered[channel] = TRUE;
    if (channel == CHANNEL_CONTROL) {
        link->session = g_strdup(session);
        link->peer_hello = json_object_get(hello);
        if (!open_channel(link, CHANNEL_CHECKPOINT) || !open_channel(link, CHANNEL_PACKETS))
            return;
    }
    go_up_if_complete(link);
}

static gsize on_answer_data(Conn *conn, const guint8 *data, gsize len, gpointer user_data)
{
    Link *link = user_data;
    Channel channel = channel_of(link, conn);
    g_autoptr(GError) error = NULL;
    json_object *object = NULL;
    gsize used = 0;
    /* After its answer control may bring messages: they wait until the link is up. */
    if (link->answered[channel])
        return 0;
    switch (hello_parse(data, len, &object, &used, &error)) {
    case HELLO_SHORT:
        return 0;
    case HELLO_BAD:
        fail(link, error);
        return 0;
    case HELLO_WHOLE:
        handle_answer(link, channel, object);
        json_object_put(object);
        return used;
    }
    return 0;
}

static const ConnCallbacks answer_callbacks = {
    .data = on_answer_data, .closed = on_closed, .connected = on_connected};

static gboolean open_channel(Link *link, Channel channel)
{
    g_autoptr(GError) error = NULL;
    int fd = link_address_connect(&link->peer, &error);
    if (fd < 0) {
        fail(link, error);
        return FALSE;
    }
    link->conns[channel] = conn_new(fd, &link->peer, &answer_callbacks, link);
    return TRUE;
}

static void dial(Link *link)
{
    link->handshake_timer = g_timeout_add(HANDSHAKE_MS, on_handshake_timer, link);
    open_channel(link, CHANNEL_CONTROL);
}

/* ---- The interface ---- */

Link *link_new(const LinkOptions *options, const LinkCallbacks *callbacks, gpointer user_data,
               GError **error)
{
    g_autoptr(Link) link = g_new0(Link, 1);
    link->callbacks = *callbacks;
    link->user_data = user_data;
    link->interval_ms = options->heartbeat_interval_ms;
    link->timeout_ms = options->heartbeat_timeout_ms;
    link->checkpoint_fd = link->listen_fd = -1;
    link->strangers = g_ptr_array_new_with_free_func(stranger_free);
    if (!link_address_resolve(options->listen, &link->listen, error) ||
        (options->peer && !link_address_resolve(options->peer, &link->peer, error)))
        return NULL;
    link->listen_fd = link_address_listen(&link->listen, error);
    if (link->listen_fd < 0)
        return NULL;
    link->listen_source = g_unix_fd_add(link->listen_fd, G_IO_IN, on_incoming, link);
    return g_steal_pointer(&link);
}

void link_free(Link *link)
{
    if (!link)
        return;
    drop(link);
    clear_timer(&link->listen_source);
    colo_fd_close(&link->listen_fd);
    g_ptr_array_unref(link->strangers);
    link_address_clear(&link->listen);
    link_address_clear(&link->peer);
    json_object_put(link->hello);
    g_free(link->idle_reason);
    g_free(link->last_failure);
    g_free(link);
}

static void set_mode(Link *link, Mode mode, json_object *hello, const char *idle_reason)
{
    drop(link);
    link->mode = mode;
    json_object_put(link->hello);
    link->hello = json_object_get(hello);
    g_free(link->idle_reason);
    link->idle_reason = g_strdup(idle_reason);
    g_clear_pointer(&link->last_failure, g_free);
    link->dial_delay_ms = DIAL_DELAY_MIN_MS;
}

void link_accept(Link *link, json_object *hello)
{
    set_mode(link, MODE_ACCEPTING, hello, NULL);
}

void link_dial(Link *link, json_object *hello)
{
    set_mode(link, MODE_DIALLING, hello, NULL);
    /* From the main loop: an attempt may fail at once. */
    link->dial_timer = g_timeout_add_full(G_PRIORITY_HIGH, 0, on_dial_timer, link, NULL);
}

void link_idle(Link *link, const char *reason)
{
    set_mode(link, MODE_IDLE, NULL, reason);
}

void link_close(Link *link)
{
    set_mode(link, MODE_IDLE, NULL, "closing a link");
}

gboolean link_is_up(const Link *link)
{
    return link->up;
}

const char *link_session(const Link *link)
{
    return link->up ? link->session : NULL;
}

int link_checkpoint_fd(const Link *link)
{
    return link->checkpoint_fd;
}

void link_send(Link *link, guint type, const void *payload, gsize len)
{
    if (!link->up)
        return;
    guint8 head[MESSAGE_HEAD_BYTES] = {0};
    colo_put_be16(head, (guint16)type);
    colo_put_be32(head + 4, (guint32)len);
    Conn *control = link->conns[CHANNEL_CONTROL];
    if (conn_queued(control) > CONTROL_QUEUE_BYTES)
        return; /* It reads nothing: its heartbeats, or ours at its side, will end this. */
    conn_send(control, head, sizeof(head), payload, len);
}

gboolean link_send_packet(Link *link, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    if (!link->up || conn_queued(link->conns[CHANNEL_PACKETS]) + len > PACKETS_QUEUE_BYTES)
        return FALSE;
    guint8 head[PACKET_HEAD_BYTES];
    colo_put_be32(head, (guint32)len);
    colo_put_be32(head + 4, nic);
    colo_put_be64(head + 8, epoch);
    conn_send(link->conns[CHANNEL_PACKETS], head, sizeof(head), data, len);
    return TRUE;
}

void link_set_heartbeat(Link *link, guint interval_ms, guint timeout_ms)
{
    link->interval_ms = interval_ms;
    link->timeout_ms = timeout_ms;
    if (link->up)
        start_heartbeat(link);
}
