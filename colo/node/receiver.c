/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Around the engine: a descriptor that outlives the link, and the attachment. */
#include "colo/node/receiver.h"

#include "colo/node/messages.h"
#include "colo/node/node.h"
#include "common/fd.h"

#include <fcntl.h>
#include <sys/socket.h>

struct Receiver {
    const ReceiverHandler *handler;
    gpointer user_data;
    Apply *apply; /* NULL: there is no session */
    int fd;       /* our own; -1: none */
    gboolean has_progress;
    SyncProgress progress;
};

/* ---- What the engine reports ---- */

/* In its thread. */
static gboolean check_attachment(const Checkpoint *checkpoint, GError **error)
{
    g_auto(Attachment) attachment = {0};
    return attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, error);
}

static gboolean is_to_run(const Checkpoint *checkpoint)
{
    g_auto(Attachment) attachment = {0};
    attachment_unpack(checkpoint->epoch, checkpoint->attachment, &attachment, NULL);
    return attachment.runs;
}

static void on_progress(guint64 received_bytes, guint64 total_bytes, gpointer user_data)
{
    Receiver *receiver = user_data;
    receiver->has_progress = TRUE;
    receiver->progress = (SyncProgress){
        .total_bytes = total_bytes,
        .sent_bytes = received_bytes,
        .left_us = -1,
        .percent =
            total_bytes ? MIN(100.0, 100.0 * (double)received_bytes / (double)total_bytes) : 0};
}

static void on_received(Checkpoint *checkpoint, gpointer user_data)
{
    const Receiver *receiver = user_data;
    if (receiver->handler->may_change_ram(receiver->user_data)) {
        receiver->handler->received(checkpoint, receiver->user_data);
        return;
    }
    g_autoptr(GError) error =
        g_error_new(NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "a checkpoint came while the VM was running or being loaded");
    receiver->handler->intruded(error, receiver->user_data);
}

static void on_applied(Checkpoint *checkpoint, gpointer user_data)
{
    const Receiver *receiver = user_data;
    receiver->handler->applied(checkpoint, is_to_run(checkpoint), receiver->user_data);
}

static void on_failed(const GError *error, gpointer user_data)
{
    const Receiver *receiver = user_data;
    receiver->handler->failed(error, receiver->user_data);
}

static void on_finished(Checkpoint *checkpoint, gpointer user_data)
{
    const Receiver *receiver = user_data;
    receiver->handler->finished(checkpoint, receiver->user_data);
}

/* ---- The session ---- */

gboolean receiver_begin(Receiver *receiver, const VmRam *ram, int fd, GError **error)
{
    static const ApplyCallbacks callbacks = {.check = check_attachment,
                                             .progress = on_progress,
                                             .received = on_received,
                                             .applied = on_applied,
                                             .failed = on_failed};
    receiver_end(receiver);
    receiver->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    receiver->apply = apply_new(ram, receiver->fd, &callbacks, receiver, error);
    return receiver->apply != NULL;
}

void receiver_end(Receiver *receiver)
{
    g_clear_pointer(&receiver->apply, apply_free);
    colo_fd_close(&receiver->fd);
    receiver->has_progress = FALSE;
}

void receiver_allow(Receiver *receiver, guint64 epoch)
{
    if (receiver->apply)
        apply_allow(receiver->apply, epoch);
}

void receiver_shut_down(Receiver *receiver)
{
    if (receiver->fd >= 0)
        shutdown(receiver->fd, SHUT_RDWR);
}

void receiver_finish(Receiver *receiver)
{
    apply_finish(receiver->apply, on_finished, receiver);
}

gboolean receiver_is_receiving(const Receiver *receiver)
{
    return receiver->apply != NULL;
}

const SyncProgress *receiver_progress(const Receiver *receiver)
{
    return receiver->has_progress ? &receiver->progress : NULL;
}

/* ---- Life ---- */

Receiver *receiver_new(const ReceiverHandler *handler, gpointer user_data)
{
    Receiver *receiver = g_new0(Receiver, 1);
    receiver->handler = handler;
    receiver->user_data = user_data;
    receiver->fd = -1;
    return receiver;
}

void receiver_free(Receiver *receiver)
{
    if (!receiver)
        return;
    receiver_end(receiver);
    g_free(receiver);
}
