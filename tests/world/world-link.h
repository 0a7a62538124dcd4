/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A session from inside: what its ends (world-link.c) and its pipes (world-pipe.c) share. */
#ifndef COLO_TESTS_WORLD_LINK_H
#define COLO_TESTS_WORLD_LINK_H

#include <sys/stat.h>

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
    GSource *silence;                     /* runs while nothing comes from the peer */
    gint64 up_us, good_us, good_until_us; /* both receive from each other since; did until */
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
    char *told;                 /* the last failure */
    char *peer, *listen, *also; /* addresses */
    End *end;
    LinkPacketStats stats;
    gboolean freed;
    gboolean engines_may_end; /* their connections, without this one */
    guint calls;
};

static inline WorldHost *host_of(const End *end)
{
    return &world.host[end->side];
}

static inline End *other(const End *end)
{
    return &end->session->end[!end->side];
}

/* What one host sends reaches the other. */
static inline gboolean way_is_open(guint from)
{
    return !world.cut[from];
}

/* ---- world-pipe.c ---- */

/* A session that has just begun. */
void session_add(Session *session);
/*
 * The n-th of the sessions that exist; NULL: there are no more. One whose ends both are over is to
 * be removed.
 */
Session *session_get(guint index);
void session_remove(guint index);
void stream_open(Stream *stream, Pipe *pipe);

void item_free(Item *item);
/* It arrives after so long, behind what is there. */
void pipe_put(Pipe *pipe, Item *item, gint64 us);
void pipe_put_end(Pipe *pipe, gint64 us);
/* Something may be to be delivered now. */
void pipe_schedule(Pipe *pipe);
gboolean pipe_may_deliver(const Pipe *pipe);
void pipe_deliver(Pipe *pipe, Item *item);
/* The other end is told, as far as the way is open. */
void end_report(End *end);
/* It is over on this side. */
void end_finish(End *end);

/* ---- world-link.c ---- */

/* A callback may free the link. */
void link_enter(Link *link);
void link_leave(Link *link);
/* Its side finds that it has ended. */
void end_lose(End *end, LinkError code, const char *why);

#endif
