/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo/link/ without sockets. A session has a pipe for each direction and channel: control, packets,
 * and the stream of checkpoints. What is in a pipe arrives in order, after the delay of the way; while
 * the way is cut it waits there, as in the buffers of TCP.
 *
 * Heartbeats are not sent: what they would find is reckoned. A side whose peer can't be heard (the way
 * is cut, the peer stands still or is dead without a word) gives it up a heartbeat-timeout later. And
 * its link is fresh if a heartbeat of a moment ago would have been answered by now.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/patience.h"
#include "tests/world/world.h"

typedef enum { CONTROL, PACKETS, CHECKPOINTS, DISKS, CHANNELS } Channel;
typedef enum { IDLE, ACCEPTING, DIALLING } Seeking;

typedef struct Session Session;
typedef struct End End;

/* What comes to an end by one channel. */
typedef struct {
    End *end;
    Channel channel;
    GQueue *items; /* of Item* */
    gint64 last_due_us;
    GSource *pump;
} Pipe;

typedef struct {
    gint64 due_us;
    gboolean fin;
    guint type; /* a message's; a packet's card */
    guint64 epoch;
    GBytes *bytes;
    gpointer object; /* of a stream */
    GDestroyNotify destroy;
} Item;

/* Of CHECKPOINTS and DISKS: whoever has the descriptor listens and sends. */
struct Stream {
    Pipe *pipe;
    StreamFunc func;
    gpointer user_data;
    int fd;
    ino_t inode;
};

struct End {
    Session *session;
    guint side;
    Link *link; /* NULL: over on this side */
    json_object *hello;
    gboolean up, gone; /* up() was called; the peer's end is known */
    Pipe pipe[CHANNELS];
    Stream stream[CHANNELS];
    GSource *silence;                     /* runs while the peer can't be heard */
    gint64 up_us, good_us, good_until_us; /* both can hear each other since; could until */
    gint64 asked_us;                      /* a heartbeat out of turn, for fresh() */
    gboolean fresh_wanted;
    GSource *echo;
};

struct Session {
    char id[33];
    gboolean good;
    End end[WORLD_HOSTS];
};

struct Link {
    WorldHost *host;
    LinkCallbacks callbacks;
    gpointer user_data;
    guint interval_ms, timeout_ms;
    Seeking seeking;
    json_object *hello;
    char *reason; /* for which it takes nobody */
    GSource *dialling;
    guint dial_ms;
    char *told; /* the last failure */
    End *end;
    LinkPacketStats stats;
    gboolean freed;
    guint calls;
};

G_DEFINE_QUARK(link_error, link_error)

static GPtrArray *sessions; /* of Session* */

/* ---- Ends of sessions ---- */

static WorldHost *host_of(const End *end)
{
    return &world.host[end->side];
}

static End *other(const End *end)
{
    return &end->session->end[!end->side];
}

/* What one host says reaches the other. */
static gboolean way_is_open(guint from)
{
    return !world.cut[from];
}

static void item_free(Item *item)
{
    if (item->bytes)
        g_bytes_unref(item->bytes);
    if (item->object && item->destroy)
        item->destroy(item->object);
    g_free(item);
}

static void end_finish(End *end)
{
    end->link = NULL;
    world_source_clear(&end->silence);
    world_source_clear(&end->echo);
    for (Channel c = 0; c < CHANNELS; c++) {
        world_source_clear(&end->pipe[c].pump);
        g_queue_clear_full(end->pipe[c].items, (GDestroyNotify)item_free);
        colo_fd_close(&end->stream[c].fd);
        end->stream[c] = (Stream){.pipe = &end->pipe[c], .fd = -1};
    }
}

/* A callback may free the link. */
static void enter(Link *link)
{
    link->calls++;
}

static void leave(Link *link)
{
    if (--link->calls == 0 && link->freed)
        g_free(link);
}

static void schedule(Pipe *pipe);
static gboolean dial(gpointer data);
static void dial_fails(Link *link, LinkError code, const char *why);

static void put(Pipe *pipe, Item *item, gint64 us)
{
    item->due_us = MAX(world.now_us + us, pipe->last_due_us);
    pipe->last_due_us = item->due_us;
    g_queue_push_tail(pipe->items, item);
    schedule(pipe);
}

static void put_end(Pipe *pipe, gint64 us)
{
    Item *fin = g_new0(Item, 1);
    fin->fin = TRUE;
    put(pipe, fin, us);
}

/* The other end is told, as far as the way is open. */
static void say_end(End *end)
{
    End *peer = other(end);
    for (Channel c = 0; c < CHANNELS && peer->link; c++)
        put_end(&peer->pipe[c], world.delay_us);
}

static void lose(End *end, LinkError code, const char *why)
{
    Link *link = end->link;
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, (gint)code, why);
    gboolean was_up = end->up;
    if (!link)
        return;
    say_end(end);
    for (Channel c = 0; c < CHANNELS; c++)
        if (end->stream[c].func)
            end->stream[c].func(NULL, end->stream[c].user_data);
    link->end = NULL;
    enter(link);
    if (was_up && !link->freed)
        link->callbacks.down(error, link->user_data);
    else if (link->seeking == DIALLING)
        dial_fails(link, code, why);
    leave(link);
    end_finish(end);
}

static void deliver(Pipe *pipe, Item *item)
{
    End *end = pipe->end;
    Link *link = end->link;
    gsize len = 0;
    const guint8 *data = item->bytes ? g_bytes_get_data(item->bytes, &len) : NULL;

    if (item->fin) {
        /* A stream's end is found out by whoever reads it; control's is the link's. */
        if (pipe->channel == CONTROL)
            lose(end, LINK_ERROR_CLOSED, "the peer has ended the connection");
        else if (pipe->channel == DISKS)
            end->stream[DISKS].func(NULL, end->stream[DISKS].user_data);
        return;
    }
    enter(link);
    switch (pipe->channel) {
    case CONTROL:
        link->callbacks.message(item->type, data, len, link->user_data);
        break;
    case PACKETS:
        link->callbacks.packet(item->type, item->epoch, data, len, link->user_data);
        break;
    case CHECKPOINTS:
    case DISKS:
        end->stream[pipe->channel].func(g_steal_pointer(&item->object),
                                        end->stream[pipe->channel].user_data);
        break;
    case CHANNELS:
        break;
    }
    leave(link);
}

static gboolean is_read(const Pipe *pipe)
{
    return pipe->channel < CHECKPOINTS || pipe->end->stream[pipe->channel].func;
}

static gboolean may_deliver(const Pipe *pipe)
{
    const Item *head = g_queue_peek_head(pipe->items);
    return head && head->due_us <= world.now_us && way_is_open(!pipe->end->side) &&
           pipe->end->link && pipe->end->up && is_read(pipe);
}

static gboolean pump(gpointer data)
{
    Pipe *pipe = data;
    world_source_clear(&pipe->pump);
    if (!may_deliver(pipe)) {
        schedule(pipe);
        return G_SOURCE_REMOVE;
    }
    Item *item = g_queue_pop_head(pipe->items);
    deliver(pipe, item);
    item_free(item);
    schedule(pipe);
    return G_SOURCE_REMOVE;
}

static void schedule(Pipe *pipe)
{
    End *end = pipe->end;
    const Item *head = g_queue_peek_head(pipe->items);
    if (pipe->pump || !head || !end->link || !end->up || !way_is_open(!end->side) || !is_read(pipe))
        return;
    pipe->pump = world_after(host_of(end), MAX(0, head->due_us - world.now_us), pump, pipe);
}

/* ---- Silence, and freshness ---- */

static gboolean on_silence(gpointer data)
{
    End *end = data;
    world_source_clear(&end->silence);
    world_sometimes("a peer falls silent for a heartbeat-timeout");
    lose(end, LINK_ERROR_TIMEOUT, "no sign of life");
    return G_SOURCE_REMOVE;
}

static gboolean can_hear(const End *end)
{
    return way_is_open(!end->side) && world_is_awake(host_of(other(end))) && other(end)->link;
}

static void watch_silence(End *end)
{
    if (!end->link || !end->up)
        return;
    if (can_hear(end)) {
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
    gboolean good = a->link && b->link && a->up && b->up && can_hear(a) && can_hear(b);
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
            schedule(&end->pipe[c]);
    }
}

void world_link_look(void)
{
    for (guint i = 0; sessions && i < sessions->len;) {
        Session *session = g_ptr_array_index(sessions, i);
        look(session);
        if (!session->end[0].link && !session->end[1].link)
            g_ptr_array_remove_index_fast(sessions, i);
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
            say_end(link->end);
        end_finish(link->end);
    }
    link->end = NULL;
    world_link_look();
}

void world_link_reset(void)
{
    if (world.cut[0] || world.cut[1])
        return; /* one side would hear of it long before the other: see colo/link/beat.c */
    for (guint side = 0; side < WORLD_HOSTS; side++) {
        Link *link = world.host[side].link;
        if (!link || !link->end || !link->end->up)
            continue;
        /* What is under way is lost: both sides learn it at once. */
        Pipe *control = &link->end->pipe[CONTROL];
        g_queue_clear_full(control->items, (GDestroyNotify)item_free);
        world_source_clear(&control->pump);
        control->last_due_us = 0;
        put_end(control, 0);
    }
}

/* ---- Pairing ---- */

static void on_up(End *end)
{
    Link *link = end->link;
    end->up = TRUE;
    end->up_us = end->asked_us = end->good_us = world.now_us;
    link->seeking = IDLE;
    g_clear_pointer(&link->told, g_free);
    world_sometimes("two nodes are linked");
    enter(link);
    link->callbacks.up(other(end)->hello, link->user_data);
    leave(link);
    world_link_look();
}

static gboolean on_end_up(gpointer data)
{
    End *end = data;
    if (!end->link || end->up)
        return G_SOURCE_REMOVE;
    if (!other(end)->link && !other(end)->up) {
        lose(end, LINK_ERROR_CLOSED, "it has gone in the middle of a pairing");
        return G_SOURCE_REMOVE;
    }
    on_up(end);
    return G_SOURCE_REMOVE;
}

static void session_free(gpointer data)
{
    Session *session = data;
    for (guint side = 0; side < WORLD_HOSTS; side++) {
        end_finish(&session->end[side]);
        g_clear_pointer(&session->end[side].hello, json_object_put);
        for (Channel c = 0; c < CHANNELS; c++)
            g_queue_free(session->end[side].pipe[c].items);
    }
    /* A pump of it may be running: it stays. */
}

static void stream_open(Stream *stream, Pipe *pipe)
{
    int fds[2];
    struct stat st;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    close(fds[1]);
    g_assert_cmpint(fstat(fds[0], &st), ==, 0);
    *stream = (Stream){.pipe = pipe, .fd = fds[0], .inode = st.st_ino};
}

static void connect_both(Link *from, Link *to)
{
    Session *session = g_new0(Session, 1);
    if (!sessions)
        sessions = g_ptr_array_new_with_free_func(session_free);
    g_ptr_array_add(sessions, session);
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
    dial_again(link);
    if (g_strcmp0(link->told, why) == 0)
        return;
    g_free(link->told);
    link->told = g_strdup(why);
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, (gint)code, why);
    enter(link);
    link->callbacks.attempt_failed(error, link->user_data);
    leave(link);
}

static gboolean dial(gpointer data)
{
    Link *link = data;
    world_source_clear(&link->dialling);
    Link *to = world.host[!link->host->index].link;
    if (!to || !way_is_open(0) || !way_is_open(1) || !world_is_awake(to->host) || to->end)
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

void link_close(Link *link)
{
    world_source_clear(&link->dialling);
    link->seeking = IDLE;
    End *end = g_steal_pointer(&link->end);
    if (!end)
        return;
    say_end(end);
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
    link->freed = TRUE;
    enter(link);
    leave(link);
}

void link_break(Link *link, const GError *why)
{
    End *end = link->end;
    if (!end || !end->up)
        return;
    enter(link);
    Pipe *control = &end->pipe[CONTROL];
    while (link->end == end && may_deliver(control)) {
        Item *item = g_queue_pop_head(control->items);
        deliver(control, item);
        item_free(item);
    }
    if (link->end == end)
        lose(end, LINK_ERROR_PROTOCOL, why->message);
    leave(link);
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

void link_send(Link *link, guint type, const void *payload, gsize len)
{
    if (!link_is_up(link) || !other(link->end)->link)
        return;
    Item *item = g_new0(Item, 1);
    item->type = type;
    item->bytes = g_bytes_new(payload, len);
    world_tell("%s -> message %u", link->host->name, type);
    put(&other(link->end)->pipe[CONTROL], item, world.delay_us);
}

gboolean link_has_unsent(const Link *link)
{
    (void)link;
    return FALSE;
}

gboolean link_send_packet(Link *link, unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    if (!link_is_up(link) || !other(link->end)->link)
        return FALSE;
    Item *item = g_new0(Item, 1);
    item->type = nic;
    item->epoch = epoch;
    item->bytes = g_bytes_new(data, len);
    link->stats.sent_frames++;
    put(&other(link->end)->pipe[PACKETS], item, world.delay_us);
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

void link_set_heartbeat(Link *link, guint interval_ms, guint timeout_ms)
{
    link->interval_ms = interval_ms;
    link->timeout_ms = timeout_ms;
}

/* ---- Streams ---- */

static Stream *find_stream(End *end, ino_t inode)
{
    for (Channel c = CHECKPOINTS; c < CHANNELS; c++)
        if (end->stream[c].fd >= 0 && end->stream[c].inode == inode)
            return &end->stream[c];
    return NULL;
}

Stream *world_stream(int fd)
{
    struct stat st;
    Stream *stream = NULL;
    if (fstat(fd, &st) < 0)
        return NULL;
    for (guint i = 0; sessions && i < sessions->len && !stream; i++) {
        Session *session = g_ptr_array_index(sessions, i);
        for (guint side = 0; side < WORLD_HOSTS && !stream; side++)
            stream = find_stream(&session->end[side], st.st_ino);
    }
    return stream;
}

void world_stream_listen(Stream *stream, StreamFunc func, gpointer user_data)
{
    stream->func = func;
    stream->user_data = user_data;
    schedule(stream->pipe);
}

gboolean world_stream_is_up(const Stream *stream)
{
    return stream->pipe->end->link && other(stream->pipe->end)->link;
}

gboolean world_stream_send(Stream *stream, gpointer item, GDestroyNotify destroy, gint64 us)
{
    Item *wrapped = g_new0(Item, 1);
    wrapped->object = item;
    wrapped->destroy = destroy;
    if (!world_stream_is_up(stream)) {
        item_free(wrapped);
        return FALSE;
    }
    put(&other(stream->pipe->end)->pipe[stream->pipe->channel], wrapped, world.delay_us + us);
    return TRUE;
}

void world_stream_close(Stream *stream)
{
    stream->func = NULL;
    if (world_stream_is_up(stream))
        put_end(&other(stream->pipe->end)->pipe[stream->pipe->channel], world.delay_us);
}

/* Of a session's descriptor: nothing ever waits in a socket. */
int ioctl(int fd, unsigned long request, ...)
{
    (void)fd;
    (void)request;
    errno = ENOTTY;
    return -1;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    (void)fd;
    (void)level;
    (void)name;
    (void)value;
    (void)len;
    errno = EOPNOTSUPP;
    return -1;
}

/* The engines' way to end the checkpoint connection. */
int shutdown(int fd, int how)
{
    const Stream *stream = world_stream(fd);
    End *end = stream ? stream->pipe->end : NULL;
    (void)how;
    if (end && end->link && end->up) {
        say_end(end);
        put_end(&end->pipe[CONTROL], 0);
    }
    return 0;
}
