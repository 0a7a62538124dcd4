/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of the control socket: JSON in QMP's form on a unix socket, so that QMP tools work on it.
 * Greeting {"QMP": {...}}, qmp_capabilities, {"execute","arguments","id"}, {"return"|"error","id"},
 * events {"event","data","timestamp"}.
 *
 * Owns: the socket, its clients, requests until they are answered, the last events. Doesn't: know
 * what a command does, or whether the state allows it. Always holds: a request is answered once; no
 * client can block the service, make it grow without limit or crash it.
 */
#ifndef COLO_COLO_CONTROL_CONTROL_H
#define COLO_COLO_CONTROL_CONTROL_H

#include <glib.h>
#include <json-c/json.h>

#define CONTROL_ERROR control_error_quark()
GQuark control_error_quark(void);

typedef enum {
    CONTROL_ERROR_SOCKET,   /* path unusable or served by another live colod */
    CONTROL_ERROR_COMMAND,  /* unknown command */
    CONTROL_ERROR_ARGUMENT, /* unknown, missing or wrong argument: named */
    CONTROL_ERROR_STATE,    /* not possible in this state: names the state and what would help */
} ControlError;

typedef struct Control Control;
typedef struct ControlRequest ControlRequest;

/*
 * Runs a command. `arguments` is an object, borrowed. It must answer exactly once, now or later,
 * with control_reply() or control_fail(); the client may be gone by then, which is fine.
 */
typedef void (*ControlHandler)(ControlRequest *request, json_object *arguments, gpointer user_data);

typedef struct {
    const char *name; /* "status" */
    ControlHandler handler;
    const char *arguments; /* for help and checking: "name:string value:string", "?" = optional */
    const char *help;      /* one sentence */
    gboolean oob;          /* may overtake: it neither waits for anything nor needs an order */
} ControlCommand;

/* Serves `commands` (terminated by a NULL name; borrowed) on `path`; mode 0600. */
Control *control_new(const char *path, const ControlCommand *commands, gpointer user_data,
                     GError **error);
/*
 * A duplicate of a descriptor that a client has given (add-fd): the latest in `set` with that word. -1
 * and CONTROL_ERROR_ARGUMENT: there is no such.
 */
int control_descriptor(const Control *control, gint64 set, const char *opaque, GError **error);
void control_free(Control *control); /* removes the socket file */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_free)

/* Takes ownership of `result` (NULL: {}). */
void control_reply(ControlRequest *request, json_object *result);
void control_fail(ControlRequest *request, const GError *error);

/* Sends an event to all clients, and keeps the last ones for query-events. Takes `data`. */
void control_event(Control *control, const char *name, json_object *data);

#endif
