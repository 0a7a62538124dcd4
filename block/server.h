/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nbdkit process that serves a VM's disks, seen from the service: started, commanded and
 * watched. It dies with us, and a disk server that died is a lost host. Commands and events are
 * those of docs/DISKS.md, "Control".
 *
 * Threads: one thread, its default GMainContext. Nothing blocks.
 */
#ifndef COLO_BLOCK_SERVER_H
#define COLO_BLOCK_SERVER_H

#include <json-c/json.h>

#include "block/block.h"
#include "common/json.h"

typedef struct {
    const char *nbdkit;    /* binary; NULL: "nbdkit" from PATH */
    const char *plugin;    /* path of colo-disk.so */
    const char *socket;    /* unix socket for QEMU; must not exist */
    const char *state_dir; /* as in DiskSetOptions, like the sizes below */
    gboolean owner;        /* the disks belong to this side */
    guint64 stage_memory_bytes, queue_bytes, sync_rate_bytes;
} DiskServerOptions;

typedef struct {
    /* The exports are served: QEMU may be started. */
    void (*ready)(gpointer user_data);
    /* "MARKED", ...; `data` is borrowed. */
    void (*event)(const char *name, json_object *data, gpointer user_data);
    /* It has ended, could not start, or can't be reached: why, with its last output. Once, and
     * nothing after it; commands that were waiting have failed before. */
    void (*died)(const GError *error, gpointer user_data);
} DiskServerCallbacks;

typedef struct DiskServer DiskServer;

/* `result` is borrowed, NULL with an error. */
typedef void (*DiskServerDone)(json_object *result, const GError *error, gpointer user_data);

/* What to do if there is no nbdkit. */
#define DISK_SERVER_WAY_OUT "on Debian: the package nbdkit; or set its path with 'nbdkit'"

/*
 * Whether an image exists, is a file or a block device, and begins like one of its format. A qcow2
 * image that is used as a raw one would be destroyed. BLOCK_ERROR_IO.
 */
gboolean disk_image_check(const char *name, const char *path, const char *format, GError **error);

/*
 * Starts it. All DiskConfig.direct must be equal. BLOCK_ERROR_IO or VM_ERROR_NO_QEMU if it can't
 * even be started, or an image is none; what else is wrong with a disk comes through died().
 */
DiskServer *disk_server_start(const DiskServerOptions *options, const DiskConfig *disks,
                              guint n_disks, const DiskServerCallbacks *callbacks,
                              gpointer user_data, GError **error);

/*
 * For a server that another has started and will end, in tests: `control` and `fds` are our ends of
 * its two sockets, taken over.
 */
DiskServer *disk_server_adopt(int control, int fds, const DiskServerCallbacks *callbacks,
                              gpointer user_data);

/*
 * Lets it end in order: it makes durable what it has done. So whoever starts it next, even after a
 * reboot, finds its files to be right. No callback any more, not of pending commands either. Not
 * from a callback. The exports must have no client any more.
 */
void disk_server_end(DiskServer *server);

/* Blocks until it has ended, at most that long; FALSE: not yet. */
gboolean disk_server_wait(DiskServer *server, guint timeout_ms);

/* SIGKILL; no callback any more, pending commands neither. NULL is fine. Not from a callback. */
void disk_server_free(DiskServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskServer, disk_server_free)

/* Runs a command, also before ready(); `arguments` may be NULL, its reference is taken. `done` is
 * called once, later. Without an answer after `timeout_ms` it fails, but may still be carried out;
 * 0: it waits for ever.
 */
void disk_server_command(DiskServer *server, const char *name, json_object *arguments,
                         guint timeout_ms, DiskServerDone done, gpointer user_data);

/* Reads what "generation" is in a result. FALSE: it isn't there. */
gboolean disk_server_generation(json_object *object, Generation *ret_generation);

/* The commands mark, apply, finish and takeover. */
static inline void disk_server_epoch_command(DiskServer *server, const char *name, guint64 epoch,
                                             guint timeout_ms, DiskServerDone done,
                                             gpointer user_data)
{
    json_object *arguments = json_object_new_object();
    colo_json_add_uint(arguments, "epoch", epoch);
    disk_server_command(server, name, arguments, timeout_ms, done, user_data);
}

/* Attaches to the peer's disks over the connected socket `fd` (the caller keeps its copy).
 * `session` is 32 hexadecimal digits. `discard`: of a replica, disk_set_discard(). */
void disk_server_attach(DiskServer *server, gboolean primary, const char *session, int fd,
                        gboolean discard, guint timeout_ms, DiskServerDone done,
                        gpointer user_data);

#endif
