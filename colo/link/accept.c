/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Incoming connections, from the first byte to the pairing. The listening socket is served for the
 * link's whole life, so that a peer always gets an answer, if only a reason.
 *
 *   guest --hello on control, judged--> pairing --hello on the others, same session--> up
 *   guest --anything else--> refused: told why, read to its end, closed
 *
 * At most GUESTS_MAX connections may be without a hello; one more pushes out the oldest. A guest
 * and a pairing have the handshake's time, no more.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"
#include "common/json.h"

#define GUESTS_MAX         32
#define LISTEN_AGAIN_MS    1000
#define SESSION_HEX_DIGITS 32

typedef struct {
    Link *link; /* its owner */
    Channel *channel;
    GSource *timer;
    char *address;
} Guest;

static void guest_free(gpointer data)
{
    Guest *guest = data;
    link_source_clear(&guest->timer);
    channel_close(guest->channel);
    g_free(guest->address);
    g_free(guest);
}

static void report_guest(Link *link, LinkError code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void report_guest(Link *link, LinkError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, code, text);
    link_report(link, why);
}

/* ---- Refusing ---- */

static void on_refused_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Guest *guest = user_data;
    (void)channel;
    (void)why;
    g_ptr_array_remove(guest->link->guests, guest);
}

/*
 * Refuses. The connection is read to its end first: closing a socket with unread bytes resets it,
 * and the reset could overtake the reason. `later`: nothing is wrong, it may ask again.
 */
static void refuse(Guest *guest, const char *reason, gboolean later)
{
    static const ChannelHandler handler = {.ended = on_refused_ended};
    json_object *body = json_object_new_object();
    colo_json_add_string(body, "reason", reason);
    if (later)
        colo_json_add_bool(body, "later", TRUE);
    channel_handle(guest->channel, CHANNEL_READ, G_PRIORITY_DEFAULT, &handler, guest);
    link_send_hello(guest->channel, LINK_REFUSAL, body);
    channel_finish(guest->channel);
}

/* ---- The pairing under way ---- */

void link_pairing_drop(Link *link)
{
    link_source_clear(&link->handshake);
    g_clear_pointer(&link->pairing, pairing_free);
}

static gboolean on_handshake_timeout(gpointer user_data)
{
    Link *link = link_ref(user_data);
    g_autofree char *peer = g_strdup(link->pairing->peer);
    link_pairing_drop(link);
    report_guest(link, LINK_ERROR_TIMEOUT, "%s has begun to pair and hasn't finished within %u ms",
                 peer, link->handshake_ms);
    link_unref(link);
    return G_SOURCE_REMOVE;
}

static void on_pairing_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Link *link = link_ref(user_data);
    (void)channel;
    g_autofree char *peer = g_strdup(link->pairing->peer);
    link_pairing_drop(link);
    report_guest(link, LINK_ERROR_CLOSED, "%s has begun to pair and not finished: %s", peer,
                 why->message);
    link_unref(link);
}

/* Moves the guest's connection into the pairing and sends `answer`, which it takes over. The guest is
 * gone then. */
static void adopt(Link *link, Guest *guest, LinkChannel which, json_object *answer)
{
    static const ChannelHandler handler = {.ended = on_pairing_ended};
    Pairing *pairing = link->pairing;
    Channel *channel = g_steal_pointer(&guest->channel);
    g_ptr_array_remove(link->guests, guest);
    pairing->channels[which] = channel;
    pairing->answered[which] = TRUE;
    channel_handle(channel, CHANNEL_HOLD, G_PRIORITY_HIGH, &handler, link);
    link_send_hello(channel, LINK_ANSWER, answer);
    if (link_pairing_is_complete(link))
        link_go_up(link);
}

static void make_session(char ret_text[SESSION_HEX_DIGITS + 1])
{
    guint8 bits[SESSION_HEX_DIGITS / 2];
    /* Can't fail for so few bytes once the system has booted. */
    g_assert_cmpint(getrandom(bits, sizeof(bits), 0), ==, sizeof(bits));
    for (gsize i = 0; i < sizeof(bits); i++)
        g_snprintf(ret_text + 2 * i, 3, "%02x", bits[i]);
}

/* ---- Hellos ---- */

/* Why no control connection is wanted now, for the one who asks; NULL if it is. */
static char *not_now(const Link *link)
{
    if (link->pairing)
        return g_strdup_printf("already %s with %s", link_is_up(link) ? "paired" : "pairing",
                               link->pairing->peer);
    if (link->state == LINK_DIALLING)
        return g_strdup("that node is looking for a primary itself (both are secondary)");
    if (link->state == LINK_IDLE)
        return g_strdup_printf("that node takes no peer now: %s", link->idle_reason);
    return NULL;
}

/*
 * It may ask again: nobody is taken just now, or the peer itself has had a link, which is not known
 * here to have ended.
 */
static gboolean is_for_now(const Link *link, json_object *theirs)
{
    if (!link->pairing)
        return link->state == LINK_IDLE;
    const char *paired = link_hello_string(link->pairing->peer_hello, "name", 255);
    return !g_strcmp0(paired, link_hello_string(theirs, "name", 255));
}

static void admit_control(Link *link, Guest *guest, json_object *theirs)
{
    gboolean later = is_for_now(link, theirs);
    g_autofree char *for_them = not_now(link);
    g_autofree char *for_us = g_strdup(for_them);
    const char *name = link_hello_string(theirs, "name", 255);
    if (!for_them && !link_judge(link->hello, theirs, &for_us, &for_them))
        g_assert(for_us && for_them);
    if (for_them) {
        g_autofree char *address = g_strdup(guest->address);
        refuse(guest, for_them, later);
        report_guest(link, later ? LINK_ERROR_NOT_NOW : LINK_ERROR_REFUSED, "refused %s (%s): %s",
                     name ? name : "a node", address, for_us);
        return;
    }
    char session[SESSION_HEX_DIGITS + 1];
    make_session(session);
    link->pairing = pairing_new(session, theirs, guest->address);
    link->handshake = link_timer(link->handshake_ms, on_handshake_timeout, link);
    adopt(link, guest, LINK_CONTROL, link_hello_with(link, "session", session));
}

static void admit_other(Link *link, Guest *guest, LinkChannel which, const char *session)
{
    Pairing *pairing = link->pairing;
    if (link->state != LINK_ACCEPTING || !pairing || g_strcmp0(session, pairing->session) ||
        pairing->channels[which]) {
        g_autofree char *address = g_strdup(guest->address);
        refuse(guest, "no pairing with that session is under way", FALSE);
        report_guest(link, LINK_ERROR_REFUSED,
                     "refused a %s connection from %s: no pairing with its session is under way",
                     link_channel_names[which], address);
        return;
    }
    json_object *answer = json_object_new_object();
    colo_json_add_string(answer, "session", pairing->session);
    adopt(link, guest, which, answer);
}

static void break_off(Link *link, Guest *guest, const char *what)
{
    g_autofree char *address = g_strdup(guest->address);
    refuse(guest, what, FALSE);
    report_guest(link, LINK_ERROR_PROTOCOL, "connection from %s: %s", address, what);
}

static void admit(Link *link, Guest *guest, LinkHelloKind kind, json_object *theirs)
{
    const char *channel = link_hello_string(theirs, "channel", 32);
    const char *session = link_hello_string(theirs, "session", 64);
    if (kind != LINK_HELLO) {
        break_off(link, guest, "an answer where a hello belongs");
        return;
    }
    if (!g_strcmp0(channel, link_channel_names[LINK_CONTROL])) {
        admit_control(link, guest, theirs);
        return;
    }
    for (LinkChannel which = LINK_CONTROL + 1; which < link->channels; which++)
        if (!g_strcmp0(channel, link_channel_names[which])) {
            admit_other(link, guest, which, session);
            return;
        }
    break_off(link, guest, "a hello that names no channel");
}

static gsize on_guest_data(Channel *channel, const guint8 *data, gsize len, gpointer user_data)
{
    Guest *guest = user_data;
    Link *link = link_ref(guest->link);
    g_autoptr(GError) error = NULL;
    json_object *theirs = NULL;
    LinkHelloKind kind = 0;
    gsize used = link_take_hello(channel, data, len, &kind, &theirs, &error);
    if (error)
        break_off(link, guest, error->message);
    else if (theirs)
        admit(link, guest, kind, theirs);
    json_object_put(theirs);
    link_unref(link);
    return used;
}

static void on_guest_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Guest *guest = user_data;
    Link *link = link_ref(guest->link);
    (void)channel;
    g_autofree char *address = g_strdup(guest->address);
    g_ptr_array_remove(link->guests, guest);
    report_guest(link, LINK_ERROR_CLOSED, "connection from %s: no hello: %s", address,
                 why->message);
    link_unref(link);
}

static gboolean on_guest_timeout(gpointer user_data)
{
    Guest *guest = user_data;
    Link *link = link_ref(guest->link);
    g_autofree char *address = g_strdup(guest->address);
    g_ptr_array_remove(link->guests, guest);
    report_guest(link, LINK_ERROR_TIMEOUT, "connection from %s: not finished within %u ms", address,
                 link->handshake_ms);
    link_unref(link);
    return G_SOURCE_REMOVE;
}

/* ---- The listening socket ---- */

static void serve(Listener *listener);

static gboolean on_listen_again(gpointer user_data)
{
    serve(user_data);
    return G_SOURCE_REMOVE;
}

/* Out of descriptors or memory: accept() would fail again and again, and poll() never rest. */
static void pause_listening(Listener *listener, int code)
{
    link_source_clear(&listener->source);
    listener->source = link_timer(LISTEN_AGAIN_MS, on_listen_again, listener);
    report_guest(listener->link, LINK_ERROR_ADDRESS, "can't accept connections for now: %s",
                 g_strerror(code));
}

static void add_guest(Link *link, int fd)
{
    static const ChannelHandler handler = {.data = on_guest_data, .ended = on_guest_ended};
    Guest *guest = g_new0(Guest, 1);
    guest->link = link;
    guest->address = link_address_peer(fd);
    guest->channel = channel_new(fd);
    guest->timer = link_timer(link->handshake_ms, on_guest_timeout, guest);
    if (link->guests->len >= GUESTS_MAX)
        g_ptr_array_remove_index(link->guests, 0);
    g_ptr_array_add(link->guests, guest);
    channel_need(guest->channel, LINK_HELLO_HEAD);
    channel_handle(guest->channel, CHANNEL_EXACT, G_PRIORITY_DEFAULT, &handler, guest);
}

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer user_data)
{
    Listener *listener = user_data;
    Link *link = link_ref(listener->link);
    (void)condition;
    int incoming = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (incoming >= 0)
        add_guest(link, incoming);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        pause_listening(listener, errno);
    /* Other errors are those of a connection that has ended meanwhile. */
    link_unref(link);
    return G_SOURCE_CONTINUE;
}

static void serve(Listener *listener)
{
    link_source_clear(&listener->source);
    listener->source = g_unix_fd_source_new(listener->socket.fd, G_IO_IN);
    g_source_set_callback(listener->source, G_SOURCE_FUNC(on_incoming), listener, NULL);
    g_source_attach(listener->source, g_main_context_get_thread_default());
}

static gboolean begin_listening(Link *link, Listener *listener, const char *text, GError **error)
{
    UnixListen socket = UNIX_LISTEN_NONE;
    if (text && !link_address_listen(link, text, &socket, error))
        return FALSE;
    link_listener_end(listener);
    *listener = (Listener){.link = link, .socket = socket};
    if (text)
        serve(listener);
    return TRUE;
}

void link_listener_end(Listener *listener)
{
    link_source_clear(&listener->source);
    unix_listen_end(&listener->socket);
}

gboolean link_listen(Link *link, const char *text, GError **error)
{
    link->guests = g_ptr_array_new_with_free_func(guest_free);
    return begin_listening(link, &link->listener, text, error);
}

gboolean link_listen_also(Link *link, const char *address, GError **error)
{
    return begin_listening(link, &link->also, address, error);
}

void link_listen_end(Link *link)
{
    link_listener_end(&link->listener);
    link_listener_end(&link->also);
    g_clear_pointer(&link->guests, g_ptr_array_unref);
}
