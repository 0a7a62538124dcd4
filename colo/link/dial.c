/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dialling: control first; when that is answered, the others at the same address. An attempt has
 * the handshake's time. Whatever goes wrong ends the attempt, and after a delay, doubled each time
 * up to a second, comes the next. A peer that isn't there yet is normal.
 *
 * The address may also be a set of sockets that are connected already; then each has the name of its
 * channel.
 *
 * GSocketClient resolves and connects without blocking and tries all addresses of a name; its bytes
 * don't interest us, only the connected socket.
 */
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "colo/link/link_internal.h"
#include "common/json.h"

#define DELAY_MIN_MS 100u
#define DELAY_MAX_MS 1000u
#define REASON_MAX   1024

struct Dial {
    GSocketClient *client;
    GCancellable *cancellable;        /* of the attempt */
    GSocketAddress *remote;           /* where control was connected */
    ColoAddress given;                /* or the set that has the sockets */
    Channel *channels[LINK_CHANNELS]; /* connected, not answered yet */
    GSource *retry;
    guint delay_ms;
};

/* One connect under way. It outlives the attempt if that is given up. */
typedef struct {
    Link *link; /* a reference */
    GCancellable *cancellable;
    LinkChannel which;
} Step;

static void begin(Link *link);

static void step_free(Step *step)
{
    link_unref(step->link);
    g_object_unref(step->cancellable);
    g_free(step);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Step, step_free)

/* ---- The end of an attempt ---- */

static void end_attempt(Link *link)
{
    Dial *dial = link->dial;
    if (dial->cancellable)
        g_cancellable_cancel(dial->cancellable);
    g_clear_object(&dial->cancellable);
    if (dial->given.kind == COLO_ADDRESS_FDSET && !link_is_up(link))
        link_end_given(link, &dial->given);
    link_drop_given(link);
    dial->given = (ColoAddress)COLO_ADDRESS_INIT;
    g_clear_object(&dial->remote);
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++)
        g_clear_pointer(&dial->channels[which], channel_close);
    if (!link_is_up(link))
        link_pairing_drop(link);
}

static gboolean on_retry(gpointer user_data)
{
    Link *link = user_data;
    link_source_clear(&link->dial->retry);
    begin(link);
    return G_SOURCE_REMOVE;
}

static void fail(Link *link, LinkError code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void fail(Link *link, LinkError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GError) why = g_error_new(LINK_ERROR, code, "%s: %s", link->peer_address, text);
    Dial *dial = link->dial;
    end_attempt(link);
    link_source_clear(&dial->retry);
    GSource *retry = dial->retry = link_timer(dial->delay_ms, on_retry, link);
    dial->delay_ms = MIN(2 * dial->delay_ms, DELAY_MAX_MS);
    link_report(link, why);
    /* Unless it is another attempt's time already, or none's. */
    if (link->callbacks.dial_failed && !link->freed && link->dial && link->dial->retry == retry)
        link->callbacks.dial_failed(why, link->user_data);
}

static gboolean on_handshake_timeout(gpointer user_data)
{
    Link *link = link_ref(user_data);
    fail(link, LINK_ERROR_TIMEOUT,
         "no link within %u ms (is the host up, and is it a colod that listens there?)",
         link->handshake_ms);
    link_unref(link);
    return G_SOURCE_REMOVE;
}

/* ---- Answers ---- */

static LinkChannel which_of(const Link *link, const Channel *channel)
{
    LinkChannel which = 0;
    while (which < LINK_CHANNELS && link->dial->channels[which] != channel)
        which++;
    g_assert(which < LINK_CHANNELS);
    return which;
}

static void on_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Link *link = link_ref(user_data);
    (void)channel;
    fail(link, LINK_ERROR_CLOSED, "no answer: %s", why->message);
    link_unref(link);
}

static void reach(Link *link, LinkChannel which);

/* TRUE if this answer on control makes a pairing. */
static gboolean pair(Link *link, json_object *theirs, const char *session)
{
    g_autofree char *for_us = NULL;
    g_autofree char *for_them = NULL;
    if (!session || strlen(session) != 32 || strspn(session, "0123456789abcdef") != 32) {
        fail(link, LINK_ERROR_PROTOCOL, "an answer without a session");
        return FALSE;
    }
    if (!link_judge(link->hello, theirs, &for_us, &for_them)) {
        fail(link, LINK_ERROR_REFUSED, "%s", for_us);
        return FALSE;
    }
    g_autofree char *address = link_address_peer(channel_fd(link->dial->channels[LINK_CONTROL]));
    link->pairing = pairing_new(session, theirs, address);
    return TRUE;
}

static void handle_answer(Link *link, LinkChannel which, json_object *theirs)
{
    /* Held: what the peer sends now, being up already, is read when we are up too. */
    static const ChannelHandler handler = {.ended = on_ended};
    Dial *dial = link->dial;
    const char *session = link_hello_string(theirs, "session", 64);
    if (which == LINK_CONTROL) {
        if (!pair(link, theirs, session))
            return;
    } else if (g_strcmp0(session, link->pairing->session)) {
        fail(link, LINK_ERROR_PROTOCOL, "an answer with another session");
        return;
    }
    Pairing *pairing = link->pairing;
    pairing->channels[which] = g_steal_pointer(&dial->channels[which]);
    pairing->answered[which] = TRUE;
    channel_handle(pairing->channels[which], CHANNEL_HOLD, G_PRIORITY_HIGH, &handler, link);
    if (which == LINK_CONTROL) {
        /* The first that can't be had ends the attempt. */
        for (LinkChannel other = LINK_CHECKPOINT;
             other < link->channels && link->pairing == pairing; other++)
            reach(link, other);
    } else if (link_pairing_is_complete(link)) {
        link_go_up(link);
    }
}

static void handle_hello(Link *link, LinkChannel which, LinkHelloKind kind, json_object *theirs)
{
    const char *reason = link_hello_string(theirs, "reason", REASON_MAX);
    gboolean later = json_object_get_boolean(json_object_object_get(theirs, "later"));
    if (kind == LINK_REFUSAL)
        fail(link, later ? LINK_ERROR_NOT_NOW : LINK_ERROR_REFUSED, "refused: %s",
             reason ? reason : "no reason was given");
    else if (kind == LINK_ANSWER)
        handle_answer(link, which, theirs);
    else
        fail(link, LINK_ERROR_PROTOCOL, "a hello where an answer belongs");
}

static gsize on_data(Channel *channel, const guint8 *data, gsize len, gpointer user_data)
{
    Link *link = link_ref(user_data);
    LinkChannel which = which_of(link, channel);
    g_autoptr(GError) error = NULL;
    json_object *theirs = NULL;
    LinkHelloKind kind = 0;
    gsize used = link_take_hello(channel, data, len, &kind, &theirs, &error);
    if (error)
        fail(link, LINK_ERROR_PROTOCOL, "%s", error->message);
    else if (theirs)
        handle_hello(link, which, kind, theirs);
    json_object_put(theirs);
    link_unref(link);
    return used;
}

/* ---- Connecting ---- */

static void send_hello(Link *link, LinkChannel which)
{
    static const ChannelHandler handler = {.data = on_data, .ended = on_ended};
    Channel *channel = link->dial->channels[which];
    json_object *hello;
    if (which == LINK_CONTROL) {
        hello = link_hello_with(link, "channel", link_channel_names[which]);
    } else {
        hello = json_object_new_object();
        colo_json_add_string(hello, "channel", link_channel_names[which]);
        colo_json_add_string(hello, "session", link->pairing->session);
    }
    channel_need(channel, LINK_HELLO_HEAD);
    channel_handle(channel, CHANNEL_EXACT, G_PRIORITY_HIGH, &handler, link);
    link_send_hello(channel, LINK_HELLO, hello);
}

static void fail_connect(Link *link, const GError *error)
{
    if (error->domain == G_RESOLVER_ERROR)
        fail(link, LINK_ERROR_ADDRESS, "can't find the address: %s", error->message);
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED))
        fail(link, LINK_ERROR_ADDRESS, "nobody listens there (is colod running on the peer?)");
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        fail(link, LINK_ERROR_ADDRESS, "there is no such socket (is what listens there running?)");
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        fail(link, LINK_ERROR_ADDRESS, "what listens there accepts nothing (does it stand still?)");
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_HOST_UNREACHABLE) ||
             g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NETWORK_UNREACHABLE))
        fail(link, LINK_ERROR_ADDRESS,
             "can't be reached (is the network between the hosts up?): %s", error->message);
    else
        fail(link, LINK_ERROR_ADDRESS, "%s", error->message);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer user_data)
{
    g_autoptr(Step) step = user_data;
    Link *link = step->link;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);
    if (g_cancellable_is_cancelled(step->cancellable))
        return;
    Dial *dial = link->dial;
    GSocket *socket = connection ? g_socket_connection_get_socket(connection) : NULL;
    if (socket && !dial->remote)
        dial->remote = g_socket_connection_get_remote_address(connection, &error);
    if (error) {
        fail_connect(link, error);
        return;
    }
    int fd = fcntl(g_socket_get_fd(socket), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        fail(link, LINK_ERROR_ADDRESS, "can't keep the connection: %s", g_strerror(errno));
        return;
    }
    dial->channels[step->which] = channel_new(fd);
    send_hello(link, step->which);
}

static void connect_step(Link *link, LinkChannel which, GSocketConnectable *to)
{
    Step *step = g_new(Step, 1);
    *step = (Step){.link = link_ref(link),
                   .cancellable = g_object_ref(link->dial->cancellable),
                   .which = which};
    g_socket_client_connect_async(link->dial->client, to, step->cancellable, on_connected, step);
}

static void take_given(Link *link, LinkChannel which)
{
    Dial *dial = link->dial;
    g_autoptr(GError) error = NULL;
    int fd = link_given(link, &dial->given, link_channel_names[which], FALSE, &error);
    if (fd < 0) {
        fail(link, LINK_ERROR_ADDRESS, "%s", error->message);
        return;
    }
    dial->channels[which] = channel_new(fd);
    send_hello(link, which);
}

/* One more connection, to where control went. */
static void reach(Link *link, LinkChannel which)
{
    if (link->dial->remote)
        connect_step(link, which, G_SOCKET_CONNECTABLE(link->dial->remote));
    else
        take_given(link, which);
}

static void begin(Link *link)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    Dial *dial = link->dial;
    dial->cancellable = g_cancellable_new();
    g_assert(link_address_parse("peer", link->peer_address, &address, NULL));
    link->handshake = link_timer(link->handshake_ms, on_handshake_timeout, link);
    if (address.kind == COLO_ADDRESS_FDSET) {
        dial->given = address;
        link_begin_given(link, &address);
        take_given(link, LINK_CONTROL);
        return;
    }
    g_autoptr(GSocketConnectable) to =
        address.path ? G_SOCKET_CONNECTABLE(g_unix_socket_address_new(address.path))
                     : g_network_address_new(address.host, address.port);
    connect_step(link, LINK_CONTROL, to);
}

static gboolean on_no_peer(gpointer user_data)
{
    Link *link = link_ref(user_data);
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, LINK_ERROR_ADDRESS,
                                                "no address of a peer is configured: a secondary "
                                                "has to know where its primary is");
    link_source_clear(&link->dial->retry);
    link_report(link, why);
    link_unref(link);
    return G_SOURCE_REMOVE;
}

void link_dial_start(Link *link)
{
    Dial *dial = link->dial = g_new0(Dial, 1);
    dial->client = g_socket_client_new();
    g_socket_client_set_enable_proxy(dial->client, FALSE);
    dial->delay_ms = DELAY_MIN_MS;
    /* Not from within: it may fail at once, and who is told may not expect that. */
    if (link->peer_address)
        dial->retry = link_timer(0, on_retry, link);
    else
        dial->retry = link_timer(0, on_no_peer, link);
}

void link_dial_end(Link *link)
{
    if (!link->dial)
        return;
    end_attempt(link);
    link_source_clear(&link->dial->retry);
    g_object_unref(link->dial->client);
    g_clear_pointer(&link->dial, g_free);
}
