/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client on a connected stream socket (internal to vm/).
 *
 *     greeting wanted --greeting--> negotiating --reply--> ready --+
 *            |                          |                    |     | end of stream, garbage,
 *            +--------------------------+--------------------+-----+ line too long, greeting late
 *                                       v
 *                                    closed
 *
 * Commands may be given in every state: they are sent when it is ready, and fail when it is closed.
 * Each command is answered exactly once, never from within qmp_execute(), unless the client is
 * freed first. Replies are matched by id, so their order is the peer's own affair; a reply that comes
 * after its command timed out is ignored. Nothing blocks. One thread: the default GMainContext's.
 */
#ifndef COLO_VM_QMP_H
#define COLO_VM_QMP_H

#include "vm/vm.h"

typedef struct Qmp Qmp;

/* `result` is borrowed, NULL with an error: VM_ERROR_QMP, _TIMEOUT or _DIED. */
typedef void (*QmpReply)(json_object *result, const GError *error, gpointer user_data);

typedef struct {
    /* Negotiated; `version` is the greeting's "version" object. May be NULL. */
    void (*ready)(json_object *version, gpointer user_data);
    void (*event)(const char *name, json_object *data, gpointer user_data);
    /* The connection is gone (_DIED) or unusable (_QMP), once, after all commands have failed. */
    void (*closed)(const GError *error, gpointer user_data);
} QmpHandler;

/* Longest line that is accepted, in bytes. */
#define QMP_LINE_MAX (8u * 1024u * 1024u)

/*
 * Takes `fd` over. `peer` is a static string, "QEMU": errors name it. The handlers may free the
 * client, also in the middle of a batch of lines.
 */
Qmp *qmp_new(int fd, const char *peer, const QmpHandler *handler, gpointer user_data);

/* Calls nothing back any more, pending commands neither. NULL is fine. */
void qmp_free(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_free)

/*
 * Sends a command. `arguments` may be NULL, its reference is taken. `reply` may be NULL. After
 * `timeout_ms` (common/patience.h) without an answer the command fails with VM_ERROR_TIMEOUT; 0: it
 * waits for ever.
 */
void qmp_execute(Qmp *qmp, const char *command, json_object *arguments, guint timeout_ms,
                 QmpReply reply, gpointer user_data);

#endif
