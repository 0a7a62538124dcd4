/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection on the main loop. Every byte of a link passes channel_read_now() and flush(), so
 * TLS will go here. Only the checkpoint stream after its hello doesn't: an engine's thread moves
 * it.
 *
 * Reading finds the end of a connection, writing never does. When send() fails, bytes that the peer
 * sent before may still wait to be read, and a GOODBYE among them must be received. The end is
 * reported after them. Bytes that were queued are sent in order, whole, or the connection ends.
 *
 * No limits here: who writes looks at channel_queued(), and a parser that asks for more bytes is
 * sure to have checked how many.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"

#define READ_BYTES  ((gsize)256 * 1024)
#define FLUSH_BYTES ((gsize)256 * 1024)
/* Reads in one turn of the main loop: no connection can keep the others waiting. */
#define READS_PER_TURN 4
/* The heartbeat is the failure detector: these are only for sockets of a host that has vanished. */
#define KEEPALIVE_IDLE_S     10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT      4
#define USER_TIMEOUT_MS      30000

/* Bytes between start and end wait. */
typedef struct {
    guint8 *data;
    gsize start, end, size;
} Buffer;

struct Channel {
    gint refs;
    int fd;
    ChannelMode mode;
    int priority;
    const ChannelHandler *handler;
    gpointer user_data;
    GSource *in_source, *out_source, *turn_end;
    Buffer in, out;
    gsize need;
    gboolean reading;   /* in channel_read_now() */
    gboolean congested; /* the kernel takes no more for now */
    gboolean finishing;
    int write_error;
    ColoTime last_received;
};

static gsize buffer_len(const Buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Room for `len` more bytes at the end. */
static guint8 *buffer_room(Buffer *buffer, gsize len)
{
    gsize used = buffer_len(buffer);
    if (buffer->size - buffer->end < len) {
        /* Moving only when half is free keeps the cost of a byte constant. */
        if (buffer->start >= buffer->size / 2 && buffer->size - used >= len) {
            memmove(buffer->data, buffer->data + buffer->start, used);
        } else {
            gsize size = MAX(2 * buffer->size, used + len);
            guint8 *data = g_malloc(size);
            if (used)
                memcpy(data, buffer->data + buffer->start, used);
            g_free(buffer->data);
            buffer->data = data;
            buffer->size = size;
        }
        buffer->start = 0;
        buffer->end = used;
    }
    return buffer->data + buffer->end;
}

static void buffer_take(Buffer *buffer, gsize len)
{
    buffer->start += len;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

/* ---- Life ---- */

Channel *channel_new(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY,      1                   },
        {SOL_SOCKET,  SO_KEEPALIVE,     1                   },
        {IPPROTO_TCP, TCP_KEEPIDLE,     KEEPALIVE_IDLE_S    },
        {IPPROTO_TCP, TCP_KEEPINTVL,    KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT,      KEEPALIVE_COUNT     },
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS     },
    };
    Channel *channel = g_new0(Channel, 1);
    channel->refs = 1;
    channel->fd = fd;
    channel->last_received = colo_time_now();
    /* On a socket that has failed already they fail: reading will tell. */
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
    return channel;
}

Channel *channel_ref(Channel *channel)
{
    channel->refs++;
    return channel;
}

void channel_unref(Channel *channel)
{
    if (--channel->refs > 0)
        return;
    g_assert(channel->fd < 0);
    g_free(channel->in.data);
    g_free(channel->out.data);
    g_free(channel);
}

static void shut(Channel *channel)
{
    link_source_clear(&channel->in_source);
    link_source_clear(&channel->out_source);
    link_source_clear(&channel->turn_end);
    channel->handler = NULL;
    colo_fd_close(&channel->fd);
}

void channel_close(Channel *channel)
{
    if (!channel)
        return;
    shut(channel);
    channel_unref(channel);
}

gboolean channel_is_open(const Channel *channel)
{
    return channel->fd >= 0;
}

int channel_fd(const Channel *channel)
{
    return channel->fd;
}

ColoTime channel_last_received(const Channel *channel)
{
    return channel->last_received;
}

/* ---- Reading ---- */

static void tell_end(Channel *channel, int code)
{
    g_autoptr(GError) why = NULL;
    const ChannelHandler *handler = channel->handler;
    if (code == 0)
        code = channel->write_error;
    if (code)
        g_set_error(&why, LINK_ERROR, LINK_ERROR_CLOSED, "the connection has failed: %s",
                    g_strerror(code));
    else
        g_set_error_literal(&why, LINK_ERROR, LINK_ERROR_CLOSED,
                            "the other end has closed the connection");
    link_source_clear(&channel->in_source);
    if (handler)
        handler->ended(channel, why, channel->user_data);
}

static void offer(Channel *channel)
{
    while (channel->handler && channel->mode != CHANNEL_HOLD && buffer_len(&channel->in) > 0) {
        gsize used = buffer_len(&channel->in);
        if (channel->handler->data)
            used = channel->handler->data(channel, channel->in.data + channel->in.start, used,
                                          channel->user_data);
        if (used == 0)
            return;
        buffer_take(&channel->in, used);
    }
}

/* One read and what follows from it: FALSE when there is nothing more to do now. */
static gboolean read_once(Channel *channel)
{
    gsize want = READ_BYTES;
    if (channel->mode == CHANNEL_EXACT)
        want = channel->need - MIN(channel->need, buffer_len(&channel->in));
    if (want == 0)
        return FALSE;
    guint8 *room = buffer_room(&channel->in, want);
    ssize_t got = recv(channel->fd, room, want, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return FALSE;
    if (got <= 0) {
        tell_end(channel, got < 0 ? errno : 0);
        return FALSE;
    }
    channel->in.end += (gsize)got;
    channel->last_received = colo_time_now();
    offer(channel);
    /* A short read has emptied the socket, for now. */
    return channel->mode == CHANNEL_EXACT || (gsize)got == want;
}

gboolean channel_read_now(Channel *channel)
{
    gboolean more = TRUE;
    /* From within its own handler the bytes at hand would be offered twice. */
    if (channel->reading)
        return FALSE;
    channel->reading = TRUE;
    channel_ref(channel);
    for (int i = 0; i < READS_PER_TURN && more; i++)
        more = channel->in_source && channel->mode != CHANNEL_HOLD && read_once(channel);
    channel->reading = FALSE;
    channel_unref(channel);
    return more;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    Channel *channel = user_data;
    (void)condition;
    if (channel->mode != CHANNEL_HOLD) {
        channel_read_now(channel);
        return G_SOURCE_CONTINUE;
    }
    int code = 0;
    socklen_t len = sizeof(code);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len);
    channel_ref(channel);
    tell_end(channel, code);
    channel_unref(channel);
    return G_SOURCE_CONTINUE;
}

void channel_handle(Channel *channel, ChannelMode mode, int priority, const ChannelHandler *handler,
                    gpointer user_data)
{
    channel->mode = mode;
    channel->priority = priority;
    channel->handler = handler;
    channel->user_data = user_data;
    link_source_clear(&channel->in_source);
    /* POLLRDHUP is no GIOCondition, but GLib hands poll() what it is given. */
    int events = mode == CHANNEL_HOLD ? POLLRDHUP : POLLIN;
    channel->in_source = colo_fd_watch_new(channel->fd, (GIOCondition)events);
    g_source_set_priority(channel->in_source, priority);
    g_source_set_callback(channel->in_source, G_SOURCE_FUNC(on_readable), channel, NULL);
    g_source_attach(channel->in_source, g_main_context_get_thread_default());
    if (channel->out_source)
        g_source_set_priority(channel->out_source, priority);
}

void channel_ignore(Channel *channel)
{
    link_source_clear(&channel->in_source);
}

void channel_need(Channel *channel, gsize bytes)
{
    channel->need = bytes;
}

/* ---- Writing ---- */

static gboolean on_writable(gint fd, GIOCondition condition, gpointer user_data);

static void watch_writable(Channel *channel)
{
    channel->congested = TRUE;
    channel->out_source = g_unix_fd_source_new(channel->fd, G_IO_OUT);
    g_source_set_priority(channel->out_source, channel->priority);
    g_source_set_callback(channel->out_source, G_SOURCE_FUNC(on_writable), channel, NULL);
    g_source_attach(channel->out_source, g_main_context_get_thread_default());
}

/* Gives the kernel what it takes; the rest waits until it takes more. */
static void flush(Channel *channel)
{
    Buffer *out = &channel->out;
    channel->congested = FALSE;
    link_source_clear(&channel->out_source);
    while (buffer_len(out) > 0 && !channel->write_error) {
        ssize_t put =
            send(channel->fd, out->data + out->start, buffer_len(out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put >= 0) {
            buffer_take(out, (gsize)put);
        } else if (errno == EAGAIN) {
            watch_writable(channel);
            return;
        } else if (errno != EINTR) {
            channel->write_error = errno;
        }
    }
    if (channel->finishing)
        shutdown(channel->fd, SHUT_WR);
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer user_data)
{
    Channel *channel = user_data;
    const ChannelHandler *handler = channel->handler;
    (void)fd;
    (void)condition;
    flush(channel);
    if (buffer_len(&channel->out) == 0 && handler && handler->drained)
        handler->drained(channel, channel->user_data);
    return G_SOURCE_CONTINUE;
}

/* ---- The end of a turn ---- */

typedef struct {
    GSource source;
    Channel *channel;
} TurnEnd;

/* GLib asks this before it polls. So what comes in one turn goes together, and needs no turn of its own. */
static gboolean at_turn_end(GSource *source, gint *ret_timeout_ms)
{
    Channel *channel = ((TurnEnd *)source)->channel;
    *ret_timeout_ms = -1;
    if (buffer_len(&channel->out) > 0 && !channel->congested && !channel->write_error)
        flush(channel);
    return FALSE;
}

static gboolean never(GSource *source, GSourceFunc func, gpointer user_data)
{
    (void)source;
    (void)func;
    (void)user_data;
    return G_SOURCE_CONTINUE;
}

static void add_turn_end(Channel *channel)
{
    static GSourceFuncs funcs = {.prepare = at_turn_end, .dispatch = never};
    channel->turn_end = g_source_new(&funcs, sizeof(TurnEnd));
    ((TurnEnd *)channel->turn_end)->channel = channel;
    /* GLib doesn't ask sources of less priority than one that is ready. */
    g_source_set_priority(channel->turn_end, G_PRIORITY_HIGH);
    g_source_attach(channel->turn_end, g_main_context_get_thread_default());
}

void channel_write(Channel *channel, const void *head, gsize head_len, const void *body,
                   gsize body_len, gboolean now)
{
    if (!channel_is_open(channel) || channel->write_error || channel->finishing)
        return;
    guint8 *room = buffer_room(&channel->out, head_len + body_len);
    memcpy(room, head, head_len);
    if (body_len)
        memcpy(room + head_len, body, body_len);
    channel->out.end += head_len + body_len;
    if (channel->congested)
        return;
    if (now || buffer_len(&channel->out) >= FLUSH_BYTES)
        flush(channel);
    else if (!channel->turn_end)
        add_turn_end(channel);
}

gsize channel_queued(const Channel *channel)
{
    return buffer_len(&channel->out);
}

void channel_finish(Channel *channel)
{
    if (!channel_is_open(channel) || channel->finishing)
        return;
    channel->finishing = TRUE;
    flush(channel);
}
