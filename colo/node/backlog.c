/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/backlog.h"

struct Backlog {
    GQueue frames; /* of BacklogFrame*, by their own links */
    gsize limit_bytes;
    BacklogStats stats;
};

static gsize cost_of(const BacklogFrame *frame)
{
    return g_bytes_get_size(frame->data) + BACKLOG_FRAME_BYTES;
}

Backlog *backlog_new(gsize limit_bytes)
{
    Backlog *backlog = g_new0(Backlog, 1);
    g_queue_init(&backlog->frames);
    backlog->limit_bytes = limit_bytes;
    return backlog;
}

void backlog_free(Backlog *backlog)
{
    if (!backlog)
        return;
    backlog_clear(backlog);
    g_free(backlog);
}

void backlog_add(Backlog *backlog, unsigned nic, guint64 tag, GBytes *data)
{
    BacklogFrame *frame = g_new(BacklogFrame, 1);
    *frame =
        (BacklogFrame){.link = {.data = frame}, .nic = nic, .tag = tag, .data = g_bytes_ref(data)};
    g_queue_push_tail_link(&backlog->frames, &frame->link);
    backlog->stats.frames++;
    backlog->stats.bytes += cost_of(frame);
    while (backlog->limit_bytes && backlog->stats.bytes > backlog->limit_bytes) {
        backlog_drop(backlog, backlog_first(backlog));
        backlog->stats.dropped++;
    }
}

BacklogFrame *backlog_first(const Backlog *backlog)
{
    return backlog->frames.head ? backlog->frames.head->data : NULL;
}

BacklogFrame *backlog_next(const BacklogFrame *frame)
{
    return frame->link.next ? frame->link.next->data : NULL;
}

BacklogFrame *backlog_take(Backlog *backlog, BacklogFrame *frame)
{
    if (!frame)
        return NULL;
    g_queue_unlink(&backlog->frames, &frame->link);
    backlog->stats.frames--;
    backlog->stats.bytes -= cost_of(frame);
    return frame;
}

void backlog_frame_free(BacklogFrame *frame)
{
    g_bytes_unref(frame->data);
    g_free(frame);
}

void backlog_drop(Backlog *backlog, BacklogFrame *frame)
{
    backlog_frame_free(backlog_take(backlog, frame));
}

void backlog_clear(Backlog *backlog)
{
    for (BacklogFrame *frame; (frame = backlog_first(backlog));)
        backlog_drop(backlog, frame);
}

const BacklogStats *backlog_stats(const Backlog *backlog)
{
    return &backlog->stats;
}
