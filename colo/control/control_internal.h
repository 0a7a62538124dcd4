/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the control socket: the server (control.c: socket, commands, events) and one client
 * (client.c: bytes in and out). receive.c gets bytes and descriptors, reader.c reads JSON,
 * arguments.c checks arguments, fdsets.c keeps descriptors.
 */
#ifndef COLO_COLO_CONTROL_CONTROL_INTERNAL_H
#define COLO_COLO_CONTROL_CONTROL_INTERNAL_H

#include "colo/control/control.h"

#include <sys/types.h>

#define CONTROL_CLIENTS_MAX 128u
/* Output that waits for a client; beyond it the client is disconnected. */
#define CONTROL_OUTPUT_MAX_BYTES (512u << 10)
/* Commands of a client that wait for those before: then it is not read from. */
#define CONTROL_QUEUE_MAX 8u
/* Nor is one with so much output waiting. */
#define CONTROL_OUTPUT_FULL_BYTES (64u << 10)
#define CONTROL_EVENTS_KEPT       256u

/* ---- What comes with bytes ---- */

/* A descriptor that a client has sent with a command. */
typedef struct {
    int fd;            /* owned; -1: none */
    const char *wrong; /* why it can't be used; NULL: nothing is wrong */
} ControlDescriptor;

#define CONTROL_NO_DESCRIPTOR ((ControlDescriptor){.fd = -1})

/*
 * recv() of what waits; it doesn't block. If a descriptor comes, it does with the last of the bytes.
 */
ssize_t control_receive(int fd, char *buf, gsize size, ControlDescriptor *ret_came);
gboolean control_descriptor_is_there(const ControlDescriptor *descriptor);
/* Moves `from` into `into`. Of two neither is kept. */
void control_descriptor_merge(ControlDescriptor *into, ControlDescriptor *from);
void control_descriptor_clear(ControlDescriptor *descriptor);

/* ---- One client ---- */

typedef struct ControlClient ControlClient;

/* Serves a connected socket (owned from now on) and greets it. The caller holds a reference. */
ControlClient *control_client_new(Control *control, int fd);
ControlClient *control_client_ref(ControlClient *client);
void control_client_unref(ControlClient *client);

/* Ends the connection at once; after that the client is deaf. Tells control_forget(). */
void control_client_close(ControlClient *client);

/* Queues a text of one line, without its end, and sends what the socket takes. */
void control_client_send(ControlClient *client, const char *line);

/*
 * The answer to a command has been sent. If it has not overtaken others, the next one may be run:
 * not from within.
 */
void control_client_answered(ControlClient *client, gboolean overtook);

/* From now on the client's commands may overtake. */
void control_client_set_oob(ControlClient *client);

/* Has left the negotiation (by qmp_capabilities or any other command): gets events. */
gboolean control_client_wants_events(const ControlClient *client);
void control_client_set_wants_events(ControlClient *client);

/* NULL after control_client_close(). */
Control *control_client_control(const ControlClient *client);

/* ---- What the server does for its clients ---- */

/* {"QMP": ...}; free with g_free(). */
char *control_greeting(void);
/* Whether `message` asks to overtake ("exec-oob"). */
gboolean control_is_oob(json_object *message);
/*
 * Runs the command in `message` (borrowed, a JSON object); it answers now or later. What `came` with
 * it is moved out. `overtakes`: it was run before those that wait, which its client has enabled.
 */
void control_execute(ControlClient *client, json_object *message, ControlDescriptor *came,
                     gboolean overtakes);
/* Answers what could not be read. */
void control_execute_failed(ControlClient *client, const char *why);
void control_forget(Control *control, ControlClient *client);
/* Serves one more connected socket (owned), as if it had come in by the path. */
void control_add_client(Control *control, int fd);

/* ---- Arguments ---- */

/* Is `spec` (ControlCommand.arguments) well-formed? */
gboolean control_arguments_spec_is_valid(const char *spec);

/*
 * Checks `arguments` (an object, or NULL for none) against `spec`. Error: CONTROL_ERROR_ARGUMENT
 * naming the argument of `command`.
 */
gboolean control_arguments_check(const char *command, const char *spec, json_object *arguments,
                                 GError **error);

#endif
