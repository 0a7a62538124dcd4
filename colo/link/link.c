/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link that is up, and the public functions. docs/PROTOCOL.md is the specification.
 *
 *   idle --link_accept--> accepting --hello--> pairing --all connected--> up
 *   idle --link_dial--> dialling --answer--> pairing --all connected--> up
 *   pairing --failure, time--> accepting, dialling
 *   up --end of a connection, timeout, broken protocol--> down() --> idle
 *   any --link_close, link_idle--> idle
 *   up --link_accept, link_dial--> accepting, dialling
 *
 * A link that is pairing is accepting or dialling, and has a Pairing. state.c has the table.
 *
 * Invariants:
 * - down() is called once for each up(), or not at all if this side ended the link. No function
 *   that the service calls calls it, but link_break() (what link_send() finds out comes from the
 *   main loop).
 * - Whatever ends the link, all that the peer had sent on control before is delivered first.
 * - Control and heartbeats run at G_PRIORITY_HIGH. After a stop of this process the link first
 *   reads what came meanwhile, its end included; then the rest of the main loop runs.
 */
#include <string.h>
#include <sys/socket.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/patience.h"

#define HANDSHAKE_MS        5000u
#define CONTROL_QUEUE_BYTES ((gsize)4 * 1024 * 1024)
#define PACKETS_QUEUE_BYTES ((gsize)4 * 1024 * 1024)
/* Reasons that are remembered as reported. */
#define REPORTED_MAX 64u
/* Turns of reading control before the link goes down: more than both kernels can hold. */
#define LAST_READS 64

G_DEFINE_QUARK(link_error, link_error)

const char *const link_channel_names[LINK_CHANNELS] = {"control", "checkpoint", "packets", "disks"};

/* ---- Small parts ---- */

Link *link_ref(Link *link)
{
    link->refs++;
    return link;
}

void link_unref(Link *link)
{
    if (--link->refs > 0)
        return;
    g_hash_table_unref(link->reported);
    json_object_put(link->hello);
    g_free(link->peer_address);
    g_free(link->idle_reason);
    g_free(link);
}

GSource *link_timer(guint ms, GSourceFunc func, gpointer data)
{
    GSource *source = patience_source_new(ms);
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_callback(source, func, data, NULL);
    g_source_attach(source, g_main_context_get_thread_default());
    return source;
}

void link_source_clear(GSource **source)
{
    if (*source)
        g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

void link_report(Link *link, const GError *why)
{
    if (link->freed || g_hash_table_contains(link->reported, why->message))
        return;
    if (g_hash_table_size(link->reported) >= REPORTED_MAX)
        g_hash_table_remove_all(link->reported);
    g_hash_table_add(link->reported, g_strdup(why->message));
    link_ref(link);
    link->callbacks.attempt_failed(why, link->user_data);
    link_unref(link);
}

json_object *link_hello_with(const Link *link, const char *member, const char *value)
{
    json_object *hello = json_object_new_object();
    colo_json_add_string(hello, member, value);
    json_object_object_foreach(link->hello, key, ours)
        json_object_object_add(hello, key, json_object_get(ours));
    return hello;
}

/* Raw streams, which others read and write. */
gboolean link_is_engines(LinkChannel which)
{
    return which == LINK_CHECKPOINT || which == LINK_DISKS;
}

/* ---- Pairings ---- */

Pairing *pairing_new(const char *session, json_object *peer_hello, const char *address)
{
    Pairing *pairing = g_new0(Pairing, 1);
    pairing->session = g_strdup(session);
    pairing->peer_hello = json_object_get(peer_hello);
    pairing->peer = g_strdup_printf("%s (%s)", link_hello_string(peer_hello, "name", 255), address);
    return pairing;
}

void pairing_free(Pairing *pairing)
{
    if (!pairing)
        return;
    /* Wakes an engine that waits in a duplicate of the descriptor. */
    for (LinkChannel which = LINK_CHECKPOINT; which < LINK_CHANNELS; which++)
        if (link_is_engines(which) && pairing->channels[which])
            shutdown(channel_fd(pairing->channels[which]), SHUT_RDWR);
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++)
        channel_close(pairing->channels[which]);
    json_object_put(pairing->peer_hello);
    g_free(pairing->session);
    g_free(pairing->peer);
    g_free(pairing);
}

gboolean link_pairing_is_complete(const Link *link)
{
    for (LinkChannel which = 0; which < link->channels; which++)
        if (!link->pairing->answered[which])
            return FALSE;
    return TRUE;
}

/* ---- Orders ---- */

/* Takes the pairing out of the link, which isn't up any more. */
static Pairing *take_pairing(Link *link)
{
    link_source_clear(&link->beat_source);
    link_source_clear(&link->failing_source);
    g_clear_error(&link->failing);
    return g_steal_pointer(&link->pairing);
}

/* The only one who sets the state. */
static void step(Link *link, LinkEvent event)
{
    LinkState before = link->state;
    if (!link_state_step(before, event, &link->state))
        g_error("link: %s while %s", link_event_name(event), link_state_name(before));
    if (link->state != before)
        log_debug("link: %s -> %s", link_state_name(before), link_state_name(link->state));
}

/* An order of the service: ends whatever is there, and obeys. */
static void obey(Link *link, LinkEvent order, json_object *hello, const char *idle_reason)
{
    gboolean was_up = link_is_up(link);
    link_dial_end(link);
    link_source_clear(&link->handshake);
    step(link, order);
    if (was_up)
        link_linger(link, take_pairing(link));
    else
        g_clear_pointer(&link->pairing, pairing_free);
    g_free(link->idle_reason);
    link->idle_reason = g_strdup(idle_reason);
    json_object_put(link->hello);
    link->hello = hello;
    g_hash_table_remove_all(link->reported);
}

/* ---- Control ---- */

gboolean link_is_overrun(const Link *link, GError **error)
{
    gsize queued = channel_queued(link->pairing->channels[LINK_CONTROL]);
    if (queued <= CONTROL_QUEUE_BYTES)
        return FALSE;
    g_set_error(error, LINK_ERROR, LINK_ERROR_OVERRUN,
                "control connection: %zu bytes wait and the peer doesn't read them", queued);
    return TRUE;
}

void link_put_message(Link *link, guint16 type, const void *payload, gsize len)
{
    guint8 head[LINK_MESSAGE_HEAD];
    link_build_message_head(head, type, len);
    channel_write(link->pairing->channels[LINK_CONTROL], head, sizeof(head), payload, len, TRUE);
}

static gsize on_control_data(Channel *channel, const guint8 *data, gsize len, gpointer user_data)
{
    Link *link = user_data;
    g_autoptr(GError) error = NULL;
    LinkParsedMessage message;
    heartbeat_received(&link->heartbeat, channel_last_received(channel));
    LinkParse result = link_parse_message(data, len, &message, &error);
    if (result == LINK_PARSE_SHORT)
        return 0;
    if (result == LINK_PARSE_WHOLE && message.type >= LINK_TYPE_SERVICE) {
        link_ref(link);
        link->callbacks.message(message.type, message.payload, message.len, link->user_data);
        link_unref(link);
        return message.used;
    }
    link_ref(link);
    gboolean taken = result == LINK_PARSE_WHOLE && link_take_sign(link, &message, &error);
    if (!taken)
        link_go_down(link, g_steal_pointer(&error));
    link_unref(link);
    return taken ? message.used : 0;
}

static void on_control_drained(Channel *channel, gpointer user_data)
{
    Link *link = user_data;
    (void)channel;
    if (!link->callbacks.sent || !link_is_up(link))
        return;
    link_ref(link);
    link->callbacks.sent(link->user_data);
    link_unref(link);
}

/* ---- Packets ---- */

static gsize on_packets_data(Channel *channel, const guint8 *data, gsize len, gpointer user_data)
{
    Link *link = link_ref(user_data);
    g_autoptr(GError) error = NULL;
    LinkParsedPacket packet;
    LinkParse result = LINK_PARSE_SHORT;
    gsize used = 0;
    while (channel_is_open(channel) && link_is_up(link) &&
           link->pairing->channels[LINK_PACKETS] == channel) {
        result = link_parse_packet(data + used, len - used, &packet, &error);
        if (result != LINK_PARSE_WHOLE)
            break;
        used += packet.used;
        link->packets.received_frames++;
        link->packets.received_bytes += packet.len;
        link->callbacks.packet(packet.nic, packet.epoch, packet.frame, packet.len, link->user_data);
    }
    if (result == LINK_PARSE_BAD)
        link_go_down(link, g_steal_pointer(&error));
    link_unref(link);
    return used;
}

/* ---- Up and down ---- */

/* All that has come on control, as far as it is wanted. */
void link_read_control(Link *link)
{
    Channel *control = link->pairing->channels[LINK_CONTROL];
    channel_ref(control);
    for (int i = 0; i < LAST_READS && channel_read_now(control); i++)
        ;
    channel_unref(control);
}

static void on_ended(Channel *channel, const GError *why, gpointer user_data)
{
    Link *link = user_data;
    LinkChannel which = 0;
    while (which < link->channels && link->pairing->channels[which] != channel)
        which++;
    GError *error = g_error_copy(why);
    g_assert(which < link->channels);
    g_prefix_error(&error, "%s connection: ", link_channel_names[which]);
    link_go_down(link, error);
}

void link_go_down(Link *link, GError *why)
{
    g_autoptr(GError) error = why;
    link_ref(link);
    Pairing *pairing = link->pairing;
    /* In control's own handler this does nothing: it has been read up to what is wrong. */
    link_read_control(link);
    if (link_is_up(link) && link->pairing == pairing) {
        g_prefix_error(&error, "%s: ", pairing->peer);
        take_pairing(link);
        g_free(link->idle_reason);
        link->idle_reason = g_strdup("it has just lost its peer");
        step(link, LINK_EVENT_LOST);
        link->callbacks.down(error, link->user_data);
        /* Only now: the engines had its descriptor. */
        pairing_free(pairing);
    }
    link_unref(link);
}

static gboolean on_failing(gpointer user_data)
{
    Link *link = user_data;
    link_go_down(link, g_steal_pointer(&link->failing));
    return G_SOURCE_REMOVE;
}

/* For what is found out while the service is calling. */
static void go_down_later(Link *link, GError *why)
{
    link->failing = why;
    link->failing_source = link_timer(0, on_failing, link);
}

static void watch_engines(Link *link)
{
    static const ChannelHandler engines = {.ended = on_ended};
    Channel **channels = link->pairing->channels;
    channel_handle(channels[LINK_CHECKPOINT], CHANNEL_HOLD, G_PRIORITY_DEFAULT, &engines, link);
    /* The disk server reports better why its connection ends: that comes first. */
    if (channels[LINK_DISKS])
        channel_handle(channels[LINK_DISKS], CHANNEL_HOLD, G_PRIORITY_LOW, &engines, link);
}

void link_let_engines_end(Link *link, gboolean may_end)
{
    if (!link_is_up(link))
        return;
    link->engines_may_end = may_end;
    if (!may_end) {
        watch_engines(link);
        return;
    }
    for (LinkChannel which = 0; which < link->channels; which++)
        if (link_is_engines(which))
            channel_ignore(link->pairing->channels[which]);
}

void link_let_packets_follow(Link *link)
{
    g_assert(link->callbacks.late_packet);
    link->packets_follow = link_is_up(link);
}

void link_go_up(Link *link)
{
    static const ChannelHandler control = {
        .data = on_control_data, .ended = on_ended, .drained = on_control_drained};
    static const ChannelHandler packets = {.data = on_packets_data, .ended = on_ended};
    Pairing *pairing = link->pairing;
    Channel **channels = pairing->channels;
    for (LinkChannel which = 0; which < link->channels; which++) {
        if (!link_is_engines(which))
            continue;
        /* Our answer, some hundred bytes: a fresh socket takes it whole. */
        g_assert_cmpuint(channel_queued(channels[which]), ==, 0);
        colo_fd_set_nonblocking(channel_fd(channels[which]), FALSE, NULL);
    }
    step(link, LINK_EVENT_PAIRED);
    link_dial_end(link);
    link_source_clear(&link->handshake);
    g_hash_table_remove_all(link->reported);
    channel_handle(channels[LINK_CONTROL], CHANNEL_READ, G_PRIORITY_HIGH, &control, link);
    channel_handle(channels[LINK_PACKETS], CHANNEL_READ, G_PRIORITY_DEFAULT, &packets, link);
    watch_engines(link);
    link->beats_sent = link->beats_received = link->echoes_received = 0;
    link->echoed = link->looked = (ColoTime){0};
    link->peer_timeout_us = 0;
    link->fresh_wanted = link->engines_may_end = link->packets_follow = FALSE;
    link_start_beating(link);
    json_object *hello = json_object_get(pairing->peer_hello);
    link->callbacks.up(hello, link->user_data);
    json_object_put(hello);
}

/* ---- The interface ---- */

Link *link_new(const LinkOptions *options, const LinkCallbacks *callbacks, gpointer user_data,
               GError **error)
{
    g_autoptr(Link) link = g_new0(Link, 1);
    g_auto(ColoAddress) peer = COLO_ADDRESS_INIT;
    link->refs = 1;
    link->callbacks = *callbacks;
    link->user_data = user_data;
    link->interval_ms = options->heartbeat_interval_ms;
    link->timeout_ms = options->heartbeat_timeout_ms;
    link->handshake_ms =
        options->handshake_timeout_ms ? options->handshake_timeout_ms : HANDSHAKE_MS;
    link->channels = options->disks ? LINK_CHANNELS : LINK_DISKS;
    link->listener.socket = link->also.socket = UNIX_LISTEN_NONE;
    link->reported = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    link->lingering = link_lingering_new();
    link->idle_reason = g_strdup("it is starting");
    link->peer_address = g_strdup(options->peer);
    if (options->peer && !link_address_parse("peer", options->peer, &peer, error))
        return NULL;
    if (!link_listen(link, options->listen, error))
        return NULL;
    return g_steal_pointer(&link);
}

void link_free(Link *link)
{
    if (!link)
        return;
    link->freed = TRUE;
    link_listen_end(link);
    link_forget_given(link);
    obey(link, LINK_EVENT_END, NULL, NULL);
    /* There is no main loop to wait in. */
    link_end_lingering(link);
    link_unref(link);
}

static void seek(Link *link, LinkEvent order, json_object *hello)
{
    json_object *ours = json_object_new_object();
    json_object *name = NULL, *identity = NULL;
    json_object_object_get_ex(hello, "name", &name);
    json_object_object_get_ex(hello, "identity", &identity);
    colo_json_add_string(ours, "role", order == LINK_EVENT_ACCEPT ? "primary" : "secondary");
    colo_json_add_string(ours, "colo", COLO_VERSION);
    json_object_object_add(ours, "features", link_features());
    json_object_object_add(ours, "name", json_object_get(name));
    json_object_object_add(ours, "identity", json_object_get(identity));
    obey(link, order, ours, NULL);
}

void link_accept(Link *link, json_object *hello)
{
    seek(link, LINK_EVENT_ACCEPT, hello);
}

void link_dial(Link *link, json_object *hello)
{
    seek(link, LINK_EVENT_DIAL, hello);
    link_dial_start(link);
}

void link_idle(Link *link, const char *reason)
{
    obey(link, LINK_EVENT_END, NULL, reason);
}

void link_close(Link *link)
{
    obey(link, LINK_EVENT_END, NULL, "it has just ended a link");
}

void link_break(Link *link, const GError *why)
{
    if (link_is_up(link))
        link_go_down(link, g_error_copy(why));
}

gboolean link_is_up(const Link *link)
{
    return link->state == LINK_UP;
}

const char *link_session(const Link *link)
{
    return link_is_up(link) ? link->pairing->session : NULL;
}

int link_checkpoint_fd(const Link *link)
{
    return link_is_up(link) ? channel_fd(link->pairing->channels[LINK_CHECKPOINT]) : -1;
}

int link_disks_fd(const Link *link)
{
    Channel *disks = link_is_up(link) ? link->pairing->channels[LINK_DISKS] : NULL;
    return disks ? channel_fd(disks) : -1;
}

void link_send(Link *link, guint type, const void *payload, gsize len)
{
    g_assert(type >= LINK_TYPE_SERVICE && type <= G_MAXUINT16 && len <= LINK_MESSAGE_MAX);
    if (!link_is_up(link) || link->failing)
        return;
    link_put_message(link, (guint16)type, payload, len);
    GError *error = NULL;
    if (link_is_overrun(link, &error))
        go_down_later(link, error);
}

gboolean link_has_unsent(const Link *link)
{
    return link_is_up(link) && channel_queued(link->pairing->channels[LINK_CONTROL]) > 0;
}

gboolean link_send_packet(Link *link, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    guint8 head[LINK_PACKET_HEAD];
    if (!link_is_up(link))
        return FALSE;
    Channel *packets = link->pairing->channels[LINK_PACKETS];
    if (len == 0 || len > LINK_PACKET_MAX ||
        channel_queued(packets) + sizeof(head) + len > PACKETS_QUEUE_BYTES) {
        link->packets.dropped_frames++;
        return FALSE;
    }
    link_build_packet_head(head, nic, epoch, len);
    channel_write(packets, head, sizeof(head), data, len, FALSE);
    link->packets.sent_frames++;
    link->packets.sent_bytes += len;
    return TRUE;
}

const LinkPacketStats *link_packet_stats(const Link *link)
{
    return &link->packets;
}

guint16 link_port(const Link *link)
{
    return link_address_port(link->listener.socket.fd);
}

void link_set_peer(Link *link, const char *peer)
{
    char *copy = g_strdup(peer);
    g_free(link->peer_address);
    link->peer_address = copy;
}

void link_set_handshake_timeout(Link *link, guint timeout_ms)
{
    link->handshake_ms = timeout_ms;
}

void link_set_heartbeat(Link *link, guint interval_ms, guint timeout_ms)
{
    link->interval_ms = interval_ms;
    link->timeout_ms = timeout_ms;
    if (link_is_up(link))
        link_start_beating(link);
}
