/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An nbdkit with our plugin, as a test starts and commands it: the part that is colod's otherwise.
 */
#ifndef COLO_TESTS_BLOCK_SERVER_H
#define COLO_TESTS_BLOCK_SERVER_H

#include <glib.h>
#include <json-c/json.h>
#include <libnbd.h>

typedef struct {
    char *dir; /* state, images and socket; kept over restarts */
    char *socket;
    const char *format; /* of what is in the images; NULL: raw */
    GPid pid;
    int control, fds;
    GString *line;     /* read and not yet taken */
    GPtrArray *events; /* of json_object*, in order, not yet waited for */
    guint next_id;
} BlockServer;

/* NULL and a reason if nbdkit or the plugin is missing here. */
const char *block_server_missing(void);

/* Path of the plugin that has been built with the test. */
char *block_server_plugin(void);

/* A folder with `n` images named vda, vdb, ... of these sizes. Nothing runs yet. */
BlockServer *block_server_new(const guint64 *sizes, guint n);

/* Kills the process if it lives and removes the folder. */
void block_server_free(BlockServer *server);

/* Starts nbdkit, with further arguments (NULL-terminated, may be NULL): filters first. TRUE when it
 * serves; FALSE if it ended, with what it said in *ret_stderr. */
gboolean block_server_start(BlockServer *server, gboolean owner, const char *const *arguments,
                            char **ret_stderr);

/* SIGKILL; or by closing the control connection, waiting for its end. */
void block_server_kill(BlockServer *server);
void block_server_stop(BlockServer *server);

/* Runs a command; `arguments` (consumed) may be NULL, `fd` is passed along if >= 0 and closed.
 * Returns the reply: new reference. */
json_object *block_server_command(BlockServer *server, const char *name, json_object *arguments,
                                  int fd);

/* The same, expecting success. */
void block_server_ok(BlockServer *server, const char *name, json_object *arguments);
json_object *block_server_epoch(guint64 epoch);

/* Waits for the next event with this name; new reference to its data. NULL: the server has ended.
 */
json_object *block_server_wait(BlockServer *server, const char *event);

/* Attaches both in a new session. */
void block_server_pair(BlockServer *primary, BlockServer *replica);

/* A connection to a disk. */
struct nbd_handle *block_server_connect(BlockServer *server, const char *disk);

/* Path of a disk's image; its bytes. */
char *block_server_image(const BlockServer *server, guint disk);
guint8 *block_server_bytes(const BlockServer *server, guint disk, gsize *ret_len);

#endif
