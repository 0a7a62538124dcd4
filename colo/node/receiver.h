/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secondary's end of the checkpoint stream, from the session's begin until it is over or the VM
 * is taken over.
 *
 * It owns the engine that receives and applies (checkpoint.h), its own descriptor of the checkpoint
 * connection, and how far the first checkpoint has come. It has no VM: what a checkpoint leads to
 * is its creator's.
 *
 * Why this and replay.h are two parts: this one outlives the link, because what is complete is
 * applied after the link has gone. It is about RAM, and knows no epoch's frames. The other one is
 * about frames, and knows no stream.
 *
 * Always holds:
 * - A checkpoint whose attachment this node can't read is an error of the stream, and is never
 *   received.
 * - One that comes while RAM may not be changed is reported as `intruded`, not as `received`.
 * - After receiver_end() nothing is reported, and nobody writes to RAM.
 *
 * It is used on the main thread, where the handler is called, too. The engine has a thread of its
 * own.
 */
#ifndef COLO_COLO_NODE_RECEIVER_H
#define COLO_COLO_NODE_RECEIVER_H

#include "checkpoint/checkpoint.h"

typedef struct Receiver Receiver;

/* Called on the main loop. It may end the session from within. */
typedef struct {
    /* Whether RAM may be changed by a checkpoint now. */
    gboolean (*may_change_ram)(gpointer user_data);
    /* One is complete and verified, and RAM is about to be made that of it; and it is. */
    void (*received)(Checkpoint *checkpoint, gpointer user_data);
    /* `to_run`: the primary wants the VM to run from it. */
    void (*applied)(Checkpoint *checkpoint, gboolean to_run, gpointer user_data);
    /* NODE_ERROR_PROTOCOL: one came while RAM may not be changed, and it is being changed. */
    void (*intruded)(const GError *error, gpointer user_data);
    /* The stream ended or broke: no other checkpoint comes. */
    void (*failed)(const GError *error, gpointer user_data);
    /* receiver_finish(): what RAM is of; NULL: no checkpoint was complete. */
    void (*finished)(Checkpoint *checkpoint, gpointer user_data);
} ReceiverHandler;

/* `handler` is borrowed. */
Receiver *receiver_new(const ReceiverHandler *handler, gpointer user_data);
/* Ends the session. */
void receiver_free(Receiver *receiver);

/* A session begins: `fd` is its connection, `ram` that of the VM, which is paused. */
gboolean receiver_begin(Receiver *receiver, const VmRam *ram, int fd, GError **error);
/* It is over, if there is one. */
void receiver_end(Receiver *receiver);
/*
 * Of a VM with disks: a checkpoint after `epoch` is not complete yet; 0: none is. Without a session
 * nothing happens.
 */
void receiver_allow(Receiver *receiver, guint64 epoch);
/* The link is about to be closed: what is complete is still applied. */
void receiver_shut_down(Receiver *receiver);
/* A takeover: drops what is incomplete, applies what is complete, then finished(). Once. */
void receiver_finish(Receiver *receiver);

/* There is a session. */
gboolean receiver_is_receiving(const Receiver *receiver);
/* Of its first checkpoint; NULL: nothing of that has come. Borrowed. */
const SyncProgress *receiver_progress(const Receiver *receiver);

#endif
