/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the guest agent (qemu-ga) in a guest, on the stream socket that is QEMU's end of the
 * port org.qemu.guest_agent.0. It can do one thing: set the guest's clock.
 *
 *     idle --sync--> syncing --0xFF and our number--> idle --set-time--> setting --answer--> idle
 *       ^               |                                                   | error, garbage,
 *       +--- patience --+---------------------------------------------------+ too long, patience
 *
 * The guest's answers are not trusted. Whatever comes while nothing is asked is read and dropped,
 * so that the port never fills. What comes before the answer to a sync is dropped too: it answers
 * an earlier request, or, after a takeover, one of another host. Requests that the guest has not
 * read stay in the socket and can't be taken back. While there is one, no other is sent, and only
 * an agent that has just answered gets a time.
 *
 * A guest that sends much is not read faster than some hundred KiB/s, and waits. While it is paused
 * nothing is read. QEMU would put what waits into the room that this makes, and finish the buffers
 * of a guest that it has stopped (7.2, hw/char/virtio-console.c, chr_write_unblocked()). A
 * checkpoint's RAM and device state would then be of two moments.
 *
 * Nothing blocks. One thread: the default GMainContext's, with low priority.
 */
#ifndef COLO_VM_AGENT_H
#define COLO_VM_AGENT_H

#include <glib.h>

#define AGENT_ERROR agent_error_quark()
GQuark agent_error_quark(void);

typedef enum {
    AGENT_ERROR_NO_ANSWER, /* nobody reads the port, or no answer came in time */
    AGENT_ERROR_REFUSED,   /* the agent has answered with an error */
    AGENT_ERROR_GARBAGE,   /* an answer that is none, or too long */
    AGENT_ERROR_CLOSED,    /* the socket is closed, or broken */
} AgentError;

/* Longest answer that is accepted, in bytes. */
#define AGENT_ANSWER_MAX 4096u

typedef struct Agent Agent;

typedef struct {
    /* The request under way has ended; the client may be freed from here. */
    void (*done)(const GError *error, gpointer user_data);
    /* The guest has sent something though nothing was asked: a late answer, perhaps. */
    void (*late)(gpointer user_data);
    /* Whether the guest runs, and isn't about to be stopped. NULL: always. */
    gboolean (*runs)(gpointer user_data);
} AgentHandler;

/* Borrows `fd`, which must stay open until agent_free(). Copies the handler. */
Agent *agent_new(int fd, const AgentHandler *handler, gpointer user_data);

/* Calls nothing back any more. NULL is fine. */
void agent_free(Agent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Agent, agent_free)

/*
 * Begin a request; none may be under way. FALSE with AGENT_ERROR if it could not be sent: `done` is
 * not called then. `timeout_ms`: common/patience.h.
 */
/* Is an agent there? What comes after its answer is the answer to what is asked next. */
gboolean agent_sync(Agent *agent, guint timeout_ms, GError **error);
/* Sets the guest's clock: nanoseconds since the epoch. After a sync only. */
gboolean agent_set_time(Agent *agent, gint64 time_ns, guint timeout_ms, GError **error);

gboolean agent_is_busy(const Agent *agent);
/* Whether something that was sent has not been read. */
gboolean agent_is_unread(const Agent *agent);

#endif
