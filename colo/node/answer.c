/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's patience with its secondary (answer-watch.h), and what comes after it:
 *
 *   primary                                       secondary
 *   colo --UNFIT--, link closed, asks the    --> colo -> paused: keeps its checkpoint, does not
 * ask, arbiter and goes on unprotected               dials; gets RUNS, drops it, is blank
 *
 * The sick side leaves the arbiter's yes to the primary, which is well. But it keeps what it has
 * until the primary is seen to run the VM (fsm.h): for the primary may die in the same moment. So
 * after some seconds without a link it asks after all (claim_leave()).
 */
#include "colo/node/events.h"
#include "colo/node/node_internal.h"
#include "common/log.h"
#include "common/patience.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* How often to look, at most. */
#define LOOK_MS 250

/* Bytes that have been sent and that the peer's host has not acknowledged. */
static guint64 bytes_under_way(int fd)
{
    int bytes;
    return fd >= 0 && ioctl(fd, SIOCOUTQ, &bytes) == 0 ? (guint64)bytes : 0;
}

static guint64 acknowledged(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    return info.tcpi_bytes_acked;
}

static AnswerFacts find_facts(const Node *node)
{
    CyclePhase phase = node->cycle.phase;
    int stream = link_checkpoint_fd(node->link), disks = link_disks_fd(node->link);
    AnswerFacts facts = {.is_protected = fsm_is_protected(node->state),
                         .prepares = phase == CYCLE_PREPARING,
                         .completes = cycle_is_owed_received(phase),
                         .loads = node->proof == PROOF_LOAD,
                         .stream_under_way = bytes_under_way(stream) > 0,
                         .disks_under_way = bytes_under_way(disks) > 0,
                         .writes_wait = disks_writes_wait(node),
                         .messages = node->answers,
                         .stream_bytes = acknowledged(stream),
                         .disks_bytes = acknowledged(disks)};
    /* What follows it on the connection doesn't count. */
    facts.checkpoint_bytes = MIN(facts.stream_bytes, node->answer_sent_bytes);
    return facts;
}

void answer_sent(Node *node)
{
    int stream = link_checkpoint_fd(node->link);
    node->answer_sent_bytes = acknowledged(stream) + bytes_under_way(stream);
}

static void give_up(Node *node, const char *what, gint64 quiet_us)
{
    g_autoptr(GError) error = g_error_new(
        NODE_ERROR, NODE_ERROR_PROTOCOL,
        "%s, and it has shown no progress for %.1f s (checkpoint %" G_GUINT64_FORMAT ")", what,
        (double)quiet_us / G_USEC_PER_SEC, node->epoch);
    gboolean was_protected = fsm_is_protected(node->state);
    if (was_protected)
        message_send(node->link, &(Message){.type = LINK_MSG_UNFIT, .text = error->message});
    node_link_lost(node,
                   was_protected ? "the secondary is connected but unfit; it has been notified"
                                 : "the secondary is connected but doesn't answer",
                   error);
}

static guint look_ms(const Node *node)
{
    return (guint)CLAMP(node->config->answer_timeout_ms / 4, 1, LOOK_MS);
}

/* For what nobody waits: three orders to its QEMU, one to its disks, and the link's own time. */
static gint64 limit_us(const Node *node)
{
    const Config *config = node->config;
    return (gint64)(3 * config->qemu_timeout_ms + config->heartbeat_timeout_ms +
                    (node->disks ? config->disk_timeout_ms : 0)) *
           COLO_US_PER_MS;
}

static gboolean on_look(gpointer user_data)
{
    Node *node = user_data;
    AnswerFacts facts = find_facts(node);
    gint64 soon_us = (gint64)node->config->answer_timeout_ms * COLO_US_PER_MS;
    const char *what = NULL;
    node->answer_timer = 0;
    if (answer_step(&node->answer_watch, &facts, (gint64)node->answer_look_ms * COLO_US_PER_MS,
                    soon_us, limit_us(node), &what))
        give_up(node, what, facts.is_protected || facts.writes_wait ? soon_us : limit_us(node));
    else
        answer_watch(node);
    return G_SOURCE_REMOVE;
}

void answer_watch(Node *node)
{
    if (node->answer_timer)
        return;
    node->answer_look_ms = look_ms(node);
    node->answer_timer = patience_add(node->answer_look_ms, on_look, node);
}

void answer_forget(Node *node)
{
    if (node->answer_timer)
        g_source_remove(node->answer_timer);
    node->answer_timer = 0;
    node->answer_watch = (AnswerWatch){0};
}

/* ---- The secondary ---- */

void answer_unfit(Node *node, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, why);
    node->link_lost = colo_time_now();
    node_report(node, "the primary continues without this side, which is unfit", error);
    if (events_unfit(copy_is_valid(node->copy)) == FSM_INVALID) {
        node_event(node, FSM_INVALID);
        return;
    }
    node_event(node, FSM_UNFIT);
    claim_leave(node->claim);
    copy_step(node->copy);
}
