/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of what people read. For `colo`: a connection to a control socket (connection.c), text
 * (text.c), the screen of `colo watch` (watch.c), `colo failover` (failover.c) and what `colo fd`
 * opens (fd.c). For colo-compare: its report (compare-report.h). One thread; calls block.
 *
 * Owns: text and tables on a terminal. Doesn't: keep state, or know more of a node than its control
 * socket reports. Always holds: a member that is missing or of another type is shown as such and
 * never crashes the tool.
 */
#ifndef COLO_COLO_CLI_CLI_H
#define COLO_COLO_CLI_CLI_H

#include <glib.h>
#include <json-c/json.h>

#include "colo/cli/compare-report.h"

#define CLI_ERROR cli_error_quark()
GQuark cli_error_quark(void);

typedef enum {
    CLI_ERROR_NO_COLOD,  /* nobody serves the socket, or not any more */
    CLI_ERROR_COMMAND,   /* colod's answer to a command is an error: its text */
    CLI_ERROR_AMBIGUOUS, /* several colods, and none was chosen */
} CliError;

/* ---- A connection ---- */

typedef struct CliConnection CliConnection;

#define CLI_RUN_FOLDER "/run/colo"

/* The one socket (*.sock) in `folder`. Error: CLI_ERROR_NO_COLOD or _AMBIGUOUS. */
char *cli_find_socket(const char *folder, GError **error);

/* Connects and takes the greeting. Error: CLI_ERROR_NO_COLOD, or _COMMAND if it turns us away. */
CliConnection *cli_connect(const char *path, GError **error);
void cli_connection_free(CliConnection *connection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliConnection, cli_connection_free)

/*
 * Runs a command (`arguments`: NULL or an object, owned) and returns what it returned, a new
 * reference (NULL is JSON's null); *ret_ok tells success. Events that come in between are kept for
 * cli_next_event().
 */
json_object *cli_execute(CliConnection *connection, const char *command, json_object *arguments,
                         gboolean *ret_ok, GError **error);

/* The same; `fd`, which stays the caller's, is sent with the command. -1: none is. */
json_object *cli_execute_fd(CliConnection *connection, const char *command, json_object *arguments,
                            int fd, gboolean *ret_ok, GError **error);

/*
 * What a descriptor is made of for cli_execute_fd(): "-" is standard input, a socket in the file
 * system is connected to, anything else is opened for reading and writing. The caller's; -1 and
 * CLI_ERROR_COMMAND if it can't be.
 */
int cli_fd_open(const char *source, GError **error);

/*
 * The next event, a new reference. Waits `timeout_ms` for it (-1: for ever); NULL without an error
 * if there is none by then or a signal came.
 */
json_object *cli_next_event(CliConnection *connection, int timeout_ms, GError **error);

/* To wait on together with others; what has been read already isn't seen there. */
int cli_connection_fd(const CliConnection *connection);

/* ---- Text. Members that are missing or of another type are shown as "-" or left out. ---- */

/* The page of `colo status`, lines with their ends. Free with g_free(). */
char *cli_status_page(json_object *status, gboolean colour);

/* An event on one line, without its end. Free with g_free(). */
char *cli_event_line(json_object *event);

/* The list of `colo get`. Free with g_free(). */
char *cli_option_list(json_object *options);

/* What `colo set` has changed, and where, on one line without its end. Free with g_free(). */
char *cli_set_line(json_object *result);

/* "1.2 MiB", "3h 12m", "2.5 s". Free with g_free(). */
char *cli_bytes(gint64 bytes);
char *cli_duration(gint64 ms);

/* The list of `colo fd list`. Free with g_free(). */
char *cli_fd_list(json_object *sets);

/* ---- Orders whose result comes later ---- */

typedef enum { CLI_WAITS, CLI_DONE, CLI_REFUSED } CliOutcome;

/* What has come of an order by `now`, what colod shows of it. *ret_text: that, or what is waited for. */
typedef CliOutcome (*CliLook)(json_object *now, gpointer user_data, char **ret_text);

/*
 * Executes the command `query` again and again until look() sees an end of what was ordered. Nothing
 * is undone when the wait ends. After a second stderr shows what it waits for.
 * patience_s: 0: without limit. *ret_ms: how long it took; may be NULL.
 * TRUE: done, and *ret_text (free with g_free()) describes it. Otherwise CLI_ERROR_COMMAND.
 */
gboolean cli_await(CliConnection *connection, const char *query, gint64 patience_s, CliLook look,
                   gpointer user_data, char **ret_text, gint64 *ret_ms, GError **error);

/* ---- Failover ---- */

/*
 * What has come of a failover that was asked for in status `before`, by the status `now`. Pure.
 * *ret_text: what has happened, or what is waited for. Free with g_free().
 */
CliOutcome cli_failover_outcome(json_object *before, json_object *now, char **ret_text);

/*
 * Asks for a failover and, if `wait`, waits for its result: *ret_text describes it (else NULL).
 * FALSE if it did not happen: CLI_ERROR_COMMAND.
 */
gboolean cli_failover(const char *path, gboolean force, gboolean wait, char **ret_text,
                      GError **error);

/* ---- Switchover ---- */

/*
 * What has come of the switchover of this status (query-switchover). Pure. *ret_text: that, or what
 * is waited for. Free with g_free().
 */
CliOutcome cli_switchover_outcome(json_object *now, char **ret_text);

/* As cli_failover(). `pause`: the VM is to be held in pre-switchover. */
gboolean cli_switchover(const char *path, gboolean pause, gboolean wait, char **ret_text,
                        GError **error);

/* ---- Watch ---- */

/*
 * Shows the status until a key q, SIGINT or SIGTERM; continues if colod goes away and comes back.
 * On a terminal redraws in place and leaves the terminal as it was; elsewhere prints a page when it
 * has changed. Error: as cli_connect(), for the first connection only.
 */
gboolean cli_watch(const char *path, GError **error);

#endif
