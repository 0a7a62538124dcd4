/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's patience with its secondary (answer-watch.h), and what comes after it:
 *
 *   primary                                      secondary
 *   colo --UNFIT--, link closed, asks the    --> colo -> paused: keeps its checkpoint, doesn't ask,
 *   arbiter and continues unprotected            dials; gets RUNS, drops it, is blank
 *
 * The sick side leaves the arbiter's yes to the primary, which is well. But it keeps what it has
 * until the primary is seen to run the VM (fsm.h), because the primary may die in the same moment.
 * So after some seconds without a link it asks after all (claim_leave()).
 */
#include "colo/node/answer.h"

#include "colo/node/answer-watch.h"
#include "colo/node/node.h"
#include "common/clock.h"
#include "common/patience.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* How often to look, at most. */
#define LOOK_MS 250

/* What the peer has taken from a unix socket, where the kernel counts no bytes. */
typedef struct {
    guint64 under_way; /* at the last look */
    guint64 changes;   /* how often that was another number than before */
} Taken;

struct Answering {
    const Config *config; /* borrowed */
    AnsweringHandler handler;
    gpointer user_data;
    guint timer, look_ms; /* runs during a session; each so long */
    AnswerWatch watch;
    guint64 messages;   /* of the secondary */
    guint64 sent_bytes; /* acknowledged, of the checkpoint stream, when all of the last one is */
    Taken stream, disks;
};

static AnsweringWorld look(const Answering *answering)
{
    return answering->handler.look(answering->user_data);
}

/* Bytes that have been sent and that the peer's host has not acknowledged. */
static guint64 bytes_under_way(int fd)
{
    int bytes;
    return fd >= 0 && ioctl(fd, SIOCOUTQ, &bytes) == 0 ? (guint64)bytes : 0;
}

static struct tcp_info look_at(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return (struct tcp_info){0};
    return info;
}

static gboolean is_unix(int fd)
{
    int domain = AF_UNSPEC;
    socklen_t len = sizeof(domain);
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           domain == AF_UNIX;
}

/* It rises when the peer has taken something. */
static guint64 acknowledged(int fd, Taken *taken)
{
    if (!is_unix(fd))
        return look_at(fd).tcpi_bytes_acked;
    guint64 under_way = bytes_under_way(fd);
    if (under_way != taken->under_way)
        taken->changes++;
    taken->under_way = under_way;
    return taken->changes;
}

/*
 * Bytes on their way are owed. A unix socket that is kept full looks the same whether its bytes are
 * taken or not. So nothing is owed there as long as nothing waits for it.
 */
static gboolean is_owed_bytes(int fd, gboolean waited_for)
{
    return bytes_under_way(fd) > 0 && (waited_for || !is_unix(fd));
}

static AnswerFacts find_facts(Answering *answering, const AnsweringWorld *world)
{
    gboolean is_protected = fsm_is_protected(world->state);
    AnswerFacts facts = {.is_protected = is_protected,
                         .tells = world->tells && !is_unix(world->stream),
                         .joins = world->state == FSM_P_SETUP,
                         .base_bytes = look_at(world->stream).tcpi_bytes_received,
                         .prepares = world->phase == CYCLE_PREPARING,
                         .completes = cycle_is_owed_received(world->phase),
                         .loads = world->loads,
                         .stream_under_way = is_owed_bytes(world->stream, is_protected),
                         .disks_under_way =
                             is_owed_bytes(world->disks, is_protected || world->writes_wait),
                         .writes_wait = world->writes_wait,
                         .messages = answering->messages,
                         .stream_bytes = acknowledged(world->stream, &answering->stream),
                         .disks_bytes = acknowledged(world->disks, &answering->disks)};
    /* What follows it on the connection doesn't count. */
    facts.checkpoint_bytes = MIN(facts.stream_bytes, answering->sent_bytes);
    return facts;
}

void answering_sent(Answering *answering)
{
    int stream = look(answering).stream;
    answering->sent_bytes = acknowledged(stream, &answering->stream) + bytes_under_way(stream);
}

void answering_received(Answering *answering)
{
    answering->messages++;
}

static void give_up(Answering *answering, const AnsweringWorld *world, const char *what,
                    gint64 quiet_us)
{
    g_autoptr(GError) error = g_error_new(
        NODE_ERROR, NODE_ERROR_PROTOCOL,
        "%s, and it has shown no progress for %.1f s (checkpoint %" G_GUINT64_FORMAT ")", what,
        (double)quiet_us / G_USEC_PER_SEC, world->epoch);
    answering->handler.unfit(error, fsm_is_protected(world->state), answering->user_data);
}

static guint look_ms(const Config *config)
{
    return (guint)CLAMP(config->answer_timeout_ms / 4, 1, LOOK_MS);
}

/* What nothing waits for: three orders to its QEMU, one to its disks, and the link's own time. */
static gint64 limit_us(const Config *config, gboolean has_disks)
{
    return (gint64)(3 * config->qemu_timeout_ms + config->heartbeat_timeout_ms +
                    (has_disks ? config->disk_timeout_ms : 0)) *
           COLO_US_PER_MS;
}

static gboolean on_look(gpointer user_data)
{
    Answering *answering = user_data;
    AnsweringWorld world = look(answering);
    AnswerFacts facts = find_facts(answering, &world);
    gint64 passed_us = (gint64)answering->look_ms * COLO_US_PER_MS;
    gint64 soon_us = (gint64)answering->config->answer_timeout_ms * COLO_US_PER_MS;
    gint64 later_us = limit_us(answering->config, world.has_disks);
    const char *what = NULL;
    answering->timer = 0;
    if (answer_step(&answering->watch, &facts, passed_us, soon_us, later_us, &what))
        give_up(answering, &world, what,
                facts.is_protected || facts.writes_wait ? soon_us : later_us);
    else
        answering_watch(answering);
    return G_SOURCE_REMOVE;
}

void answering_watch(Answering *answering)
{
    if (answering->timer)
        return;
    answering->look_ms = look_ms(answering->config);
    answering->timer = patience_add(answering->look_ms, on_look, answering);
}

void answering_forget(Answering *answering)
{
    g_clear_handle_id(&answering->timer, g_source_remove);
    answering->watch = (AnswerWatch){0};
}

/* ---- Life ---- */

Answering *answering_new(const Config *config, const AnsweringHandler *handler, gpointer user_data)
{
    Answering *answering = g_new0(Answering, 1);
    answering->config = config;
    answering->handler = *handler;
    answering->user_data = user_data;
    return answering;
}

void answering_free(Answering *answering)
{
    if (!answering)
        return;
    answering_forget(answering);
    g_free(answering);
}
