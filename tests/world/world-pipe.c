/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is under way between the two ends of a session. What is in a pipe arrives in order, after
 * the delay of the way. While the way is cut it waits there, as in the buffers of TCP. The streams
 * of checkpoints and disks are distinguished by the number of a real descriptor.
 */
#include "tests/world/world-link.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

static GPtrArray *sessions; /* of Session* */

/* ---- Pipes ---- */

void item_free(Item *item)
{
    if (item->bytes)
        g_bytes_unref(item->bytes);
    if (item->object && item->destroy)
        item->destroy(item->object);
    g_free(item);
}

void end_finish(End *end)
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

void pipe_put(Pipe *pipe, Item *item, gint64 us)
{
    item->due_us = MAX(world.now_us + us, pipe->last_due_us);
    pipe->last_due_us = item->due_us;
    g_queue_push_tail(pipe->items, item);
    pipe_schedule(pipe);
}

void pipe_put_end(Pipe *pipe, gint64 us)
{
    Item *fin = g_new0(Item, 1);
    fin->fin = TRUE;
    pipe_put(pipe, fin, us);
}

/* The other end is told, as far as the way is open. */
void end_report(End *end)
{
    End *peer = other(end);
    for (Channel c = 0; c < CHANNELS && peer->link; c++)
        pipe_put_end(&peer->pipe[c], world.delay_us);
}

void pipe_deliver(Pipe *pipe, Item *item)
{
    End *end = pipe->end;
    Link *link = end->link;
    gsize len = 0;
    const guint8 *data = item->bytes ? g_bytes_get_data(item->bytes, &len) : NULL;

    if (item->fin) {
        /* A stream's end is found out by whoever reads it; control's is the link's. */
        if (pipe->channel == CONTROL)
            end_lose(end, LINK_ERROR_CLOSED, "the peer has ended the connection");
        else if (pipe->channel == DISKS)
            end->stream[DISKS].func(NULL, end->stream[DISKS].user_data);
        return;
    }
    link_enter(link);
    switch (pipe->channel) {
    case CONTROL:
        if (item->type == LINK_MSG_RECEIVED)
            world_note_received(link->host, item->bytes);
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
    link_leave(link);
}

static gboolean is_read(const Pipe *pipe)
{
    return pipe->channel < CHECKPOINTS || pipe->end->stream[pipe->channel].func;
}

gboolean pipe_may_deliver(const Pipe *pipe)
{
    const Item *head = g_queue_peek_head(pipe->items);
    return head && head->due_us <= world.now_us && way_is_open(!pipe->end->side) &&
           pipe->end->link && pipe->end->up && is_read(pipe);
}

static gboolean pump(gpointer data)
{
    Pipe *pipe = data;
    world_source_clear(&pipe->pump);
    if (!pipe_may_deliver(pipe)) {
        pipe_schedule(pipe);
        return G_SOURCE_REMOVE;
    }
    Item *item = g_queue_pop_head(pipe->items);
    pipe_deliver(pipe, item);
    item_free(item);
    pipe_schedule(pipe);
    return G_SOURCE_REMOVE;
}

void pipe_schedule(Pipe *pipe)
{
    End *end = pipe->end;
    const Item *head = g_queue_peek_head(pipe->items);
    if (pipe->pump || !head || !end->link || !end->up || !way_is_open(!end->side) || !is_read(pipe))
        return;
    pipe->pump = world_after(host_of(end), MAX(0, head->due_us - world.now_us), pump, pipe);
}

/* ---- Sessions ---- */

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

void stream_open(Stream *stream, Pipe *pipe)
{
    int fds[2];
    struct stat st;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    close(fds[1]);
    g_assert_cmpint(fstat(fds[0], &st), ==, 0);
    *stream = (Stream){.pipe = pipe, .fd = fds[0], .inode = st.st_ino};
}

void session_add(Session *session)
{
    if (!sessions)
        sessions = g_ptr_array_new_with_free_func(session_free);
    g_ptr_array_add(sessions, session);
}

Session *session_get(guint index)
{
    return sessions && index < sessions->len ? g_ptr_array_index(sessions, index) : NULL;
}

void session_remove(guint index)
{
    g_ptr_array_remove_index_fast(sessions, index);
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
    Session *session;
    for (guint i = 0; (session = session_get(i)) != NULL && !stream; i++)
        for (guint side = 0; side < WORLD_HOSTS && !stream; side++)
            stream = find_stream(&session->end[side], st.st_ino);
    return stream;
}

void world_stream_listen(Stream *stream, StreamFunc func, gpointer user_data)
{
    stream->func = func;
    stream->user_data = user_data;
    pipe_schedule(stream->pipe);
}

gboolean world_stream_is_up(const Stream *stream)
{
    return stream->pipe->end->link && other(stream->pipe->end)->link;
}

gboolean world_stream_is_under_way(const Stream *stream)
{
    const Item *head = g_queue_peek_head(stream->pipe->items);
    return head && !head->fin;
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
    pipe_put(&other(stream->pipe->end)->pipe[stream->pipe->channel], wrapped, world.delay_us + us);
    return TRUE;
}

void world_stream_close(Stream *stream)
{
    stream->func = NULL;
    if (world_stream_is_up(stream))
        pipe_put_end(&other(stream->pipe->end)->pipe[stream->pipe->channel], world.delay_us);
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
        end_report(end);
        pipe_put_end(&end->pipe[CONTROL], 0);
    }
    return 0;
}
