/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo/link/ without sockets. A session has a pipe for each direction and channel: control,
 * packets, and the streams of checkpoints and disks (world-pipe.c).
 *
 * Heartbeats are not sent: what they would find is reckoned. A side that receives nothing from its
 * peer gives it up a heartbeat-timeout later. That is so when the way is cut, or the peer is paused
 * or dead without a message. And its link is fresh if a heartbeat of a moment ago would have been
 * answered by now.
 */
#include <string.h>

#include "colo/node/node_internal.h"
#include "common/clock.h"
#include "common/patience.h"
#include "tests/world/world-link.h"

G_DEFINE_QUARK(link_error, link_error)

/* ---- Ends of sessions ---- */

/* A callback may free the link. */
void link_enter(Link *link)
{
    link->calls++;
}

void link_leave(Link *link)
{
    if (--link->calls == 0 && link->freed)
        g_free(link);
}

static gboolean dial(gpointer data);
static void dial_fails(Link *link, LinkError code, const char *why);

void end_lose(End *end, LinkError code, const char *why)
{
    Link *link = end->link;
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, (gint)code, why);
    gboolean was_up = end->up;
    if (!link)
        return;
    end_report(end);
    for (Channel c = 0; c < CHANNELS; c++)
        if (end->stream[c].func)
            end->stream[c].func(NULL, end->stream[c].user_data);
    link->end = NULL;
    link_enter(link);
    if (was_up && !link->freed)
        link->callbacks.down(error, link->user_data);
    else if (link->seeking == DIALLING)
        dial_fails(link, code, why);
    link_leave(link);
    end_finish(end);
}

/* ---- Silence, and freshness ---- */

static gboolean on_silence(gpointer data)
{
    End *end = data;
    world_source_clear(&end->silence);
    world_sometimes("a peer falls silent for a heartbeat-timeout");
    end_lose(end, LINK_ERROR_TIMEOUT, "no sign of life");
    return G_SOURCE_REMOVE;
}

static gboolean can_receive(const End *end)
{
    return way_is_open(!end->side) && world_is_awake(host_of(other(end))) && other(end)->link;
}

static void watch_silence(End *end)
{
    if (!end->link || !end->up)
        return;
    if (can_receive(end)) {
        world_source_clear(&end->silence);
    } else if (!end->silence) {
        end->silence = patience_source_new(end->link->timeout_ms);
        g_source_set_callback(end->silence, on_silence, end, NULL);
        WorldHost *before = world_enter(host_of(end));
        g_source_attach(end->silence, NULL);
        world_enter(before);
    }
}

static gint64 round_trip_us(void)
{
    return 2 * (gint64)world.delay_us;
}

/* When the last heartbeat that was answered by now was sent. */
static gint64 echoed_us(const End *end)
{
    gint64 interval_us = (gint64)end->link->interval_ms * 1000;
    gint64 until = end->session->good ? world.now_us : end->good_until_us;
    gint64 last = until - round_trip_us();
    gint64 regular = end->up_us + (MAX(last - end->up_us, 0) / interval_us) * interval_us;
    gint64 asked = end->asked_us <= last ? end->asked_us : 0;
    gint64 best = MAX(regular, asked);
    if (best >= end->good_us)
        return best;
    return MIN(best, end->good_until_us);
}

static gboolean lease_holds(const End *end)
{
    gint64 peer_timeout_us =
        (gint64)(other(end)->link ? other(end)->link->timeout_ms : end->link->timeout_ms) * 1000;
    return world.now_us - echoed_us(end) < peer_timeout_us / 4 * 3;
}

static gboolean on_echo(gpointer data)
{
    End *end = data;
    world_source_clear(&end->echo);
    if (end->link && end->fresh_wanted && end->session->good) {
        end->fresh_wanted = FALSE;
        end->asked_us = world.now_us - round_trip_us();
        end->link->callbacks.fresh(end->link->user_data);
    }
    return G_SOURCE_REMOVE;
}

static void ask_for_echo(End *end)
{
    if (end->fresh_wanted && end->session->good && !end->echo)
        end->echo = world_after(host_of(end), round_trip_us() + 1000, on_echo, end);
}

static void look(Session *session)
{
    End *a = &session->end[0], *b = &session->end[1];
    gboolean good = a->link && b->link && a->up && b->up && can_receive(a) && can_receive(b);
    if (good != session->good) {
        session->good = good;
        for (guint side = 0; side < WORLD_HOSTS; side++) {
            End *end = &session->end[side];
            if (good)
                end->good_us = world.now_us;
            else
                end->good_until_us = world.now_us;
        }
    }
    for (guint side = 0; side < WORLD_HOSTS; side++) {
        End *end = &session->end[side];
        if (!end->link)
            continue;
        watch_silence(end);
        ask_for_echo(end);
        for (Channel c = 0; c < CHANNELS; c++)
            pipe_schedule(&end->pipe[c]);
    }
}

void world_link_look(void)
{
    Session *session;
    for (guint i = 0; (session = session_get(i)) != NULL;) {
        look(session);
        if (!session->end[0].link && !session->end[1].link)
            session_remove(i);
        else
            i++;
    }
}

void world_link_death(WorldHost *host, gboolean silently)
{
    Link *link = host->link;
    host->link = NULL;
    if (!link)
        return;
    if (link->end) {
        if (!silently)
            end_report(link->end);
        end_finish(link->end);
    }
    link->end = NULL;
    world_link_look();
}

void world_link_reset(void)
{
    if (world.cut[0] || world.cut[1])
        return; /* one side would notice it long before the other: see colo/link/beat.c */
    for (guint side = 0; side < WORLD_HOSTS; side++) {
        Link *link = world.host[side].link;
        if (!link || !link->end || !link->end->up)
            continue;
        /* What is under way is lost: both sides learn it at once. */
        Pipe *control = &link->end->pipe[CONTROL];
        g_queue_clear_full(control->items, (GDestroyNotify)item_free);
        world_source_clear(&control->pump);
        control->last_due_us = 0;
        pipe_put_end(control, 0);
    }
}

/* ---- Pairing ---- */

static void on_up(End *end)
{
    end->link->engines_may_end = FALSE;
    Link *link = end->link;
    end->up = TRUE;
    end->up_us = end->asked_us = end->good_us = world.now_us;
    if (link->seeking == DIALLING && !g_str_has_suffix(link->peer, ":9000"))
        world_sometimes("a link goes over another address");
    link->seeking = IDLE;
    g_clear_pointer(&link->told, g_free);
    world_sometimes("two nodes are linked");
    if (seek_recovering(link->host->node->seek))
        world_sometimes("an administrator's recover leads to a link");
    link_enter(link);
    link->callbacks.up(other(end)->hello, link->user_data);
    link_leave(link);
    world_link_look();
}

static gboolean on_end_up(gpointer data)
{
    End *end = data;
    if (!end->link || end->up)
        return G_SOURCE_REMOVE;
    if (!other(end)->link && !other(end)->up) {
        end_lose(end, LINK_ERROR_CLOSED, "it has gone in the middle of a pairing");
        return G_SOURCE_REMOVE;
    }
    on_up(end);
    return G_SOURCE_REMOVE;
}

static void connect_both(Link *from, Link *to)
{
    Session *session = g_new0(Session, 1);
    session_add(session);
    g_snprintf(session->id, sizeof(session->id),
               "%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x", world_random(G_MAXUINT64),
               world_random(G_MAXUINT64));
    for (guint side = 0; side < WORLD_HOSTS; side++) {
        End *end = &session->end[side];
        end->session = session;
        end->side = side;
        end->link = world.host[side].link;
        end->link->end = end;
        end->hello = json_object_get(end->link->hello);
        for (Channel c = 0; c < CHANNELS; c++) {
            end->pipe[c] = (Pipe){.end = end, .channel = c, .items = g_queue_new()};
            end->stream[c] = (Stream){.pipe = &end->pipe[c], .fd = -1};
        }
        stream_open(&end->stream[CHECKPOINTS], &end->pipe[CHECKPOINTS]);
        if (world.disks)
            stream_open(&end->stream[DISKS], &end->pipe[DISKS]);
    }
    world_later(to->host, world.delay_us, on_end_up, to->end);
    world_later(from->host, 2 * (gint64)world.delay_us, on_end_up, from->end);
}

static void dial_again(Link *link)
{
    link->dialling = world_after(link->host, (gint64)link->dial_ms * 1000, dial, link);
    link->dial_ms = MIN(2 * link->dial_ms, 1000);
}

static void dial_fails(Link *link, LinkError code, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, (gint)code, why);
    gboolean is_new = g_strcmp0(link->told, why) != 0;
    dial_again(link);
    const GSource *again = link->dialling;
    link_enter(link);
    if (is_new) {
        g_free(link->told);
        link->told = g_strdup(why);
        link->callbacks.attempt_failed(error, link->user_data);
    }
    if (!link->freed && link->dialling == again)
        link->callbacks.dial_failed(error, link->user_data);
    link_leave(link);
}

static gboolean listens_where(const Link *to, const char *address)
{
    return !g_strcmp0(to->listen, address) || (to->also && !g_strcmp0(to->also, address));
}

static gboolean dial(gpointer data)
{
    Link *link = data;
    world_source_clear(&link->dialling);
    Link *to = world.host[!link->host->index].link;
    if (!to || !way_is_open(0) || !way_is_open(1) || !world_is_awake(to->host) || to->end ||
        !listens_where(to, link->peer))
        dial_fails(link, LINK_ERROR_CLOSED, "nobody is there");
    else if (to->seeking == ACCEPTING)
        connect_both(link, to);
    else
        dial_fails(link, LINK_ERROR_NOT_NOW, to->reason ? to->reason : "it dials, too");
    return G_SOURCE_REMOVE;
}

/* ---- link.h ---- */

Link *link_new(const LinkOptions *options, const LinkCallbacks *callbacks, gpointer user_data,
               GError **error)
{
    (void)error;
    Link *link = g_new0(Link, 1);
    link->host = world.current;
    link->callbacks = *callbacks;
    link->user_data = user_data;
    link->interval_ms = options->heartbeat_interval_ms;
    link->timeout_ms = options->heartbeat_timeout_ms;
    link->peer = g_strdup(options->peer);
    link->listen = g_strdup(options->listen);
    link->host->link = link;
    return link;
}

static void seek(Link *link, Seeking seeking, json_object *hello, const char *reason)
{
    link_close(link);
    link->seeking = seeking;
    json_object_put(link->hello);
    link->hello = json_object_get(hello);
    g_free(link->reason);
    link->reason = g_strdup(reason);
}

void link_accept(Link *link, json_object *hello)
{
    seek(link, ACCEPTING, hello, NULL);
}

void link_dial(Link *link, json_object *hello)
{
    seek(link, DIALLING, hello, NULL);
    link->dial_ms = 100;
    link->dialling = world_after(link->host, 0, dial, link);
}

void link_idle(Link *link, const char *reason)
{
    seek(link, IDLE, NULL, reason);
}

void link_let_packets_follow(Link *link)
{
    (void)link;
}

void link_close(Link *link)
{
    world_source_clear(&link->dialling);
    link->seeking = IDLE;
    End *end = g_steal_pointer(&link->end);
    if (!end)
        return;
    end_report(end);
    end_finish(end);
    world_link_look();
}

void link_free(Link *link)
{
    if (!link)
        return;
    link_close(link);
    if (link->host->link == link)
        link->host->link = NULL;
    json_object_put(link->hello);
    g_free(link->reason);
    g_free(link->told);
    g_free(link->peer);
    g_free(link->listen);
    g_free(link->also);
    link->freed = TRUE;
    link_enter(link);
    link_leave(link);
}

void link_break(Link *link, const GError *why)
{
    End *end = link->end;
    if (!end || !end->up)
        return;
    link_enter(link);
    Pipe *control = &end->pipe[CONTROL];
    while (link->end == end && pipe_may_deliver(control)) {
        Item *item = g_queue_pop_head(control->items);
        pipe_deliver(control, item);
        item_free(item);
    }
    if (link->end == end)
        end_lose(end, LINK_ERROR_PROTOCOL, why->message);
    link_leave(link);
}

void link_let_engines_end(Link *link, gboolean may_end)
{
    link->engines_may_end = may_end;
}

void world_link_engine_ends(WorldHost *host)
{
    Link *link = host->link;
    if (link && link->end && link->end->up && !link->engines_may_end)
        end_lose(link->end, LINK_ERROR_CLOSED, "the connection of an engine has ended");
}

gboolean link_is_up(const Link *link)
{
    return link->end && link->end->up;
}

gboolean link_is_fresh(Link *link)
{
    End *end = link->end;
    if (!end || !end->up)
        return FALSE;
    const Item *last = g_queue_peek_tail(end->pipe[CONTROL].items);
    gboolean ended = last && last->fin && last->due_us <= world.now_us && way_is_open(!end->side);
    if (!ended && lease_holds(end))
        return TRUE;
    world_sometimes("output waits for a sign of life");
    end->fresh_wanted = TRUE;
    ask_for_echo(end);
    return FALSE;
}

const char *link_session(const Link *link)
{
    return link_is_up(link) ? link->end->session->id : NULL;
}

int link_checkpoint_fd(const Link *link)
{
    return link_is_up(link) ? link->end->stream[CHECKPOINTS].fd : -1;
}

int link_disks_fd(const Link *link)
{
    return link_is_up(link) ? link->end->stream[DISKS].fd : -1;
}

/* ---- Messages that a test holds ---- */

static struct {
    Pipe *pipe;
    Item *item;
} held[8];

static void hold(Pipe *pipe, Item *item)
{
    for (guint i = 0; i < G_N_ELEMENTS(held); i++)
        if (!held[i].item) {
            held[i].pipe = pipe;
            held[i].item = item;
            return;
        }
    world_fail("too many messages are held");
}

void world_link_let(void)
{
    world.held_message = 0;
    for (guint i = 0; i < G_N_ELEMENTS(held) && held[i].item; i++)
        pipe_put(held[i].pipe, g_steal_pointer(&held[i].item), world.delay_us);
}

void link_send(Link *link, guint type, const void *payload, gsize len)
{
    if (!link_is_up(link) || !other(link->end)->link || world_liar_sends(link, type, payload, len))
        return;
    Item *item = g_new0(Item, 1);
    item->type = type;
    item->bytes = g_bytes_new(payload, len);
    Pipe *pipe = &other(link->end)->pipe[CONTROL];
    gboolean is_held = world.held_message && type == world.held_message;
    world_tell("%s -> message %u%s", link->host->name, type, is_held ? ", held" : "");
    if (is_held)
        hold(pipe, item);
    else
        pipe_put(pipe, item, world.delay_us);
}

gboolean link_has_unsent(const Link *link)
{
    (void)link;
    return FALSE;
}

gboolean link_send_packet(Link *link, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    if (nic != LINK_NIC_NOTE)
        world_card_mirrored(world.current, epoch, data, len);
    if (!link_is_up(link) || !other(link->end)->link)
        return FALSE;
    Item *item = g_new0(Item, 1);
    item->type = nic;
    item->epoch = epoch;
    item->bytes = g_bytes_new(data, len);
    link->stats.sent_frames++;
    pipe_put(&other(link->end)->pipe[PACKETS], item, world.delay_us);
    return TRUE;
}

const LinkPacketStats *link_packet_stats(const Link *link)
{
    return &link->stats;
}

guint16 link_port(const Link *link)
{
    (void)link;
    return 1;
}

void link_set_peer(Link *link, const char *peer)
{
    char *copy = g_strdup(peer);
    g_free(link->peer);
    link->peer = copy;
}

/* Nobody opens sockets for a node of this world. */
gboolean link_take_given(Link *link, const char *peer, GError **error)
{
    (void)link;
    g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "%s: there are no sets here", peer);
    return FALSE;
}

void link_forget_given(Link *link)
{
    (void)link;
}

gboolean link_listen_also(Link *link, const char *address, GError **error)
{
    (void)error;
    g_free(link->also);
    link->also = g_strdup(address);
    return TRUE;
}

void link_set_handshake_timeout(Link *link, guint timeout_ms)
{
    (void)link;
    (void)timeout_ms;
}

void link_set_heartbeat(Link *link, guint interval_ms, guint timeout_ms)
{
    link->interval_ms = interval_ms;
    link->timeout_ms = timeout_ms;
}
