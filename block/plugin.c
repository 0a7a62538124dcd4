/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nbdkit plugin: serves every disk of a set under its name as export name, and is controlled
 * over one inherited socket. All it does is translate; the work is the disk set's.
 *
 *   nbdkit --foreground --exit-with-parent --unix SOCKET colo-disk.so \
 *       control-fd=N fds-fd=N state-dir=DIR owner=yes|no disk=NAME,FORMAT,PATH ...
 *
 * When the control connection ends, nbdkit ends too: a server without its colod is a lost host.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/control.h"
#include "block/fault.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* nbdkit gives its plugins no place for their own data but this. */
static struct {
    GPtrArray *disks; /* of DiskConfig* */
    DiskSetOptions options;
    gboolean owner, have_owner, direct;
    int control_fd, fds_fd;
    BlockControl *control;
    DiskSet *set;
    BlockFault *fault; /* for tests; or NULL */
} plugin = {.control_fd = -1, .fds_fd = -1};

static void disk_config_free(gpointer data)
{
    DiskConfig *disk = data;
    g_free((char *)disk->name);
    g_free((char *)disk->format);
    g_free((char *)disk->path);
    g_free(disk);
}

static void plugin_load(void)
{
    plugin.disks = g_ptr_array_new_with_free_func(disk_config_free);
}

static void plugin_unload(void)
{
    if (plugin.control)
        block_control_stop(plugin.control);
    g_clear_pointer(&plugin.set, disk_set_free);
    g_clear_pointer(&plugin.control, block_control_free);
    g_clear_pointer(&plugin.disks, g_ptr_array_unref);
    g_clear_pointer(&plugin.fault, block_fault_free);
    g_free((char *)plugin.options.state_dir);
}

static int add_disk(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", 3);
    if (g_strv_length(parts) != 3) {
        nbdkit_error("disk=%s: expected NAME,FORMAT,PATH", value);
        return -1;
    }
    char *path = nbdkit_absolute_path(parts[2]);
    if (!path)
        return -1;
    DiskConfig *disk = g_new0(DiskConfig, 1);
    disk->name = g_strdup(parts[0]);
    disk->format = g_strdup(parts[1]);
    disk->path = g_strdup(path);
    free(path);
    g_ptr_array_add(plugin.disks, disk);
    return 0;
}

static int parse_bool(const char *value, gboolean *ret_value)
{
    int r = nbdkit_parse_bool(value);
    if (r < 0)
        return -1;
    *ret_value = r;
    return 0;
}

static int parse_size(const char *value, guint64 *ret_value)
{
    int64_t size = nbdkit_parse_size(value);
    if (size < 0)
        return -1;
    *ret_value = (guint64)size;
    return 0;
}

static int plugin_config(const char *key, const char *value)
{
    if (!strcmp(key, "disk"))
        return add_disk(value);
    if (!strcmp(key, "state-dir")) {
        char *path = nbdkit_realpath(value);
        if (!path)
            return -1;
        g_free((char *)plugin.options.state_dir);
        plugin.options.state_dir = g_strdup(path);
        free(path);
        return 0;
    }
    if (!strcmp(key, "control-fd"))
        return nbdkit_parse_int("control-fd", value, &plugin.control_fd);
    if (!strcmp(key, "fds-fd"))
        return nbdkit_parse_int("fds-fd", value, &plugin.fds_fd);
    if (!strcmp(key, "owner")) {
        plugin.have_owner = TRUE;
        return parse_bool(value, &plugin.owner);
    }
    if (!strcmp(key, "direct"))
        return parse_bool(value, &plugin.direct);
    if (!strcmp(key, "stage-memory"))
        return parse_size(value, &plugin.options.stage_memory_bytes);
    if (!strcmp(key, "queue"))
        return parse_size(value, &plugin.options.queue_bytes);
    if (!strcmp(key, "sync-rate"))
        return parse_size(value, &plugin.options.sync_rate_bytes);
    nbdkit_error("unknown parameter %s", key);
    return -1;
}

static int plugin_config_complete(void)
{
    const char *missing = plugin.disks->len == 0      ? "disk"
                          : !plugin.options.state_dir ? "state-dir"
                          : !plugin.have_owner        ? "owner"
                          : plugin.control_fd < 0     ? "control-fd"
                          : plugin.fds_fd < 0         ? "fds-fd"
                                                      : NULL;
    if (missing) {
        nbdkit_error("the parameter %s is missing", missing);
        return -1;
    }
    if (fcntl(plugin.control_fd, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(plugin.fds_fd, F_SETFD, FD_CLOEXEC) < 0) {
        nbdkit_error("control-fd or fds-fd: %m");
        return -1;
    }
    return 0;
}

#define plugin_config_help                                                                         \
    "disk=NAME,FORMAT,PATH  (required, repeatable) A disk: export name, format on it, image.\n"    \
    "state-dir=DIR          (required) Folder for state, bitmaps, journals and overlays.\n"        \
    "owner=BOOL             (required) The disks belong to this side (primary), or not.\n"         \
    "control-fd=N           (required) Inherited unix socket to control the disks.\n"              \
    "fds-fd=N               (required) Inherited unix socket on which descriptors come.\n"         \
    "direct=BOOL            Open the images with O_DIRECT [no].\n"                                 \
    "stage-memory=SIZE      Staged bytes per disk before they go to a file [64M].\n"               \
    "queue=SIZE             Unsent bytes before a writer waits [64M].\n"                           \
    "sync-rate=SIZE         Synchronisation: bytes per second, 0 for no limit [0]."

static gboolean take_fault(GError **error)
{
    const char *text = g_getenv("COLO_BLOCK_FAULT");
    if (!text)
        return TRUE;
    plugin.fault = block_fault_parse(text, error);
    if (plugin.fault)
        plugin.options.fault = block_fault_hook;
    plugin.options.fault_data = plugin.fault;
    return plugin.fault != NULL;
}

/* Before nbdkit serves anything: what is wrong with an image or its state is reported at the
 * start. */
static int plugin_get_ready(void)
{
    g_autofree DiskConfig *disks = g_new0(DiskConfig, plugin.disks->len);
    g_autoptr(GError) error = NULL;
    if (!take_fault(&error)) {
        nbdkit_error("%s", error->message);
        return -1;
    }
    for (guint i = 0; i < plugin.disks->len; i++) {
        disks[i] = *(DiskConfig *)plugin.disks->pdata[i];
        disks[i].direct = plugin.direct;
    }
    plugin.control = block_control_new(plugin.control_fd, plugin.fds_fd);
    plugin.set = disk_set_open(disks, plugin.disks->len, plugin.owner, &plugin.options,
                               block_control_callbacks(), plugin.control, &error);
    if (!plugin.set) {
        nbdkit_error("%s", error->message);
        return -1;
    }
    return 0;
}

static void control_ended(gpointer data)
{
    (void)data;
    /* Writers that wait for the peer must get their answer, or nbdkit waits for them. */
    disk_set_detach(plugin.set);
    nbdkit_shutdown();
}

static int plugin_after_fork(void)
{
    block_control_start(plugin.control, plugin.set, control_ended, NULL);
    return 0;
}

/* ---- Exports ---- */

static int plugin_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    (void)readonly, (void)is_tls;
    for (guint i = 0; i < plugin.disks->len; i++) {
        const DiskConfig *disk = plugin.disks->pdata[i];
        if (nbdkit_add_export(exports, disk->name, disk->format) < 0)
            return -1;
    }
    return 0;
}

static void *plugin_open(int readonly)
{
    (void)readonly;
    const char *name = nbdkit_export_name();
    Disk *disk = name ? disk_set_find(plugin.set, name) : NULL;
    if (!disk) {
        nbdkit_error("no disk is named \"%s\"", name ? name : "");
        nbdkit_set_error(ENOENT);
    }
    return disk;
}

static int64_t plugin_get_size(void *handle)
{
    return (int64_t)disk_size(handle);
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = 4096;
    *maximum = 32u << 20;
    return 0;
}

/* ---- Data ---- */

static int finish(int r, const char *what, uint64_t offset)
{
    if (r == 0)
        return 0;
    nbdkit_error("%s at %" G_GUINT64_FORMAT ": %s", what, (guint64)offset, g_strerror(-r));
    nbdkit_set_error(-r);
    return -1;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    return finish(disk_read(handle, buf, count, offset), "read", offset);
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags)
{
    gboolean fua = (flags & NBDKIT_FLAG_FUA) != 0;
    return finish(disk_write(handle, buf, count, offset, fua), "write", offset);
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    gboolean may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0, fua = (flags & NBDKIT_FLAG_FUA) != 0;
    return finish(disk_zero(handle, count, offset, may_trim, fua), "zero", offset);
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    gboolean fua = (flags & NBDKIT_FLAG_FUA) != 0;
    return finish(disk_trim(handle, count, offset, fua), "trim", offset);
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)flags;
    return finish(disk_flush(handle), "flush", 0);
}

static int add_extent(guint64 offset, guint64 length, gboolean hole, gpointer extents)
{
    uint32_t type = hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    return nbdkit_add_extent(extents, offset, length, type);
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    (void)flags;
    int r = disk_extents(handle, count, offset, add_extent, extents);
    return r < -1 ? finish(r, "extents", offset) : r;
}

static struct nbdkit_plugin registration = {
    .name = "colo-disk",
    .longname = "colo replicated disks",
    .description = "disks of a fault-tolerant VM, replicated by epoch",
    .load = plugin_load,
    .unload = plugin_unload,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = plugin_config_help,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .list_exports = plugin_list_exports,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = yes,
    .can_flush = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_extents = yes,
    .can_multi_conn = yes,
    .can_fua = plugin_can_fua,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .zero = plugin_zero,
    .trim = plugin_trim,
    .flush = plugin_flush,
    .extents = plugin_extents,
};

NBDKIT_REGISTER_PLUGIN(registration)
