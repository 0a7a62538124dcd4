/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state out of and into a running, paused QEMU.
 *
 * Out: `xen-save-devices-state` writes it to a memfd, as a file of /proc/self/fd. It needs no Xen;
 * with live=false it leaves the disks active.
 *
 * In: only a snapshot load can load device state repeatedly. So the state becomes the VM state of a
 * snapshot in a small image (carrier.c), on another memfd:
 *
 *     blockdev-add, snapshot-load --> job concluded --> query-jobs, job-dismiss, blockdev-del
 *
 * The commands of each group are sent together and are executed in order. The job and its image are
 * always removed again, so that a load may follow one that failed. A guest that has powered off
 * runs again only after a reset of the machine (7.2, softmmu/runstate.c, runstate_needs_reset()):
 * then a system_reset comes first.
 */
#include "common/json.h"
#include "vm/qemu_internal.h"

#include "common/patience.h"
#include "vm/carrier.h"
#include "vm/devstate.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE "colo-carrier"

static json_object *text(const char *value)
{
    return json_object_new_string(value);
}

static char *fd_path(int fd)
{
    return g_strdup_printf("/proc/self/fd/%d", fd);
}

/* ---- Out ---- */

static GBytes *read_saved(QemuVm *self, GError **error)
{
    struct stat st;

    if (fstat(self->saved_fd, &st) < 0 || st.st_size <= 0 || st.st_size > DEVSTATE_MAX_BYTES) {
        g_set_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE, "QEMU saved no usable device state");
        return NULL;
    }
    gsize len = (gsize)st.st_size;
    g_autofree guint8 *saved = g_malloc(len);
    if (pread(self->saved_fd, saved, len, 0) != (ssize_t)len) {
        g_set_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE, "can't read the saved device state");
        return NULL;
    }
    return devstate_from_saved(saved, len, self->vm.machine_name, error);
}

static void on_saved(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    g_autoptr(GError) broken = NULL;

    if (!result) {
        qemu_fail(self, error);
        return;
    }
    g_autoptr(GBytes) state = read_saved(self, &broken);
    vm_finish(&self->vm, state, broken);
}

void qemu_save(Vm *vm)
{
    QemuVm *self = qemu_vm(vm);
    g_autofree char *path = fd_path(self->saved_fd);
    json_object *arguments = json_object_new_object();

    json_object_object_add(arguments, "filename", text(path));
    colo_json_add_bool(arguments, "live", FALSE);
    qemu_execute(self, "xen-save-devices-state", arguments, on_saved);
}

/* ---- Disks ---- */

static void on_inactivated(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    if (result)
        vm_finish(&self->vm, NULL, NULL);
    else
        qemu_fail(self, error);
}

/*
 * With live=true the same command leaves the disks inactive, as after a migration. QEMU writes all
 * caches back; `cont` activates the disks, and their drivers reopen their images
 * (qmp_xen_save_devices_state and bdrv_inactivate_recurse, QEMU 7.2). What the command saves is not
 * used. QEMU 10 succeeds here also if it could not write them back: whoever relies on that asks the disk
 * server (disks-flag.c).
 */
static void inactivate(QemuVm *self)
{
    json_object *arguments = json_object_new_object();

    json_object_object_add(arguments, "filename", text("/dev/null"));
    colo_json_add_bool(arguments, "live", TRUE);
    qemu_execute(self, "xen-save-devices-state", arguments, on_inactivated);
}

static void on_bitmap_removed(json_object *result, const GError *error, gpointer user_data)
{
    /* The operation that follows meets the same QEMU. */
    (void)result, (void)error, (void)user_data;
}

static void remove_bitmap(QemuVm *self, json_object *node, json_object *bitmap)
{
    static const char *const keys[][2] = {
        {"node", "node-name"},
        {"name", "name"     }
    };
    json_object *from[] = {node, bitmap}, *arguments = json_object_new_object();
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++)
        json_object_object_add(arguments, keys[i][0],
                               json_object_get(json_object_object_get(from[i], keys[i][1])));
    qemu_execute(self, "block-dirty-bitmap-remove", arguments, on_bitmap_removed);
}

typedef void (*BitmapFunc)(QemuVm *self, json_object *node, json_object *bitmap);

/* Of each persistent bitmap. */
static void each_bitmap(QemuVm *self, json_object *nodes, BitmapFunc func)
{
    gsize count = json_object_is_type(nodes, json_type_array) ? json_object_array_length(nodes) : 0;

    for (gsize i = 0; i < count; i++) {
        json_object *node = json_object_array_get_idx(nodes, i);
        json_object *bitmaps = json_object_object_get(node, "dirty-bitmaps");
        gsize n = bitmaps ? json_object_array_length(bitmaps) : 0;
        for (gsize k = 0; k < n; k++) {
            json_object *bitmap = json_object_array_get_idx(bitmaps, k);
            if (json_object_get_boolean(json_object_object_get(bitmap, "persistent")))
                func(self, node, bitmap);
        }
    }
}

static void query_nodes(QemuVm *self, QmpReply done)
{
    json_object *arguments = json_object_new_object();

    colo_json_add_bool(arguments, "flat", TRUE);
    qemu_execute(self, "query-named-block-nodes", arguments, done);
}

static void on_nodes(json_object *nodes, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;

    if (error && !g_error_matches(error, VM_ERROR, VM_ERROR_QMP)) {
        qemu_fail(self, error);
        return;
    }
    each_bitmap(self, nodes, remove_bitmap);
    inactivate(self);
}

static void note_kept(QemuVm *self, json_object *node, json_object *bitmap)
{
    (void)node, (void)bitmap;
    self->vm.keeps_bitmaps = TRUE;
}

static void on_nodes_after(json_object *nodes, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;

    self->vm.keeps_bitmaps = error != NULL; /* then it isn't known */
    each_bitmap(self, nodes, note_kept);
}

/*
 * A copy's QEMU that was started anew has read the persistent bitmaps of the image as it was then, and they are not
 * its own. One that the primary's QEMU had in use it keeps in memory, also while the disk is inactive, and then can't
 * open an image in which it is whole again (qcow2_load_dirty_bitmaps, QEMU 7.2). One that was whole, as in an image that
 * nobody had open, it would write to the image that has it by now: QEMU 7.2 refuses that and fails, QEMU 10 keeps the old
 * one. So it forgets them all first. What that writes is dropped with all else that a copy writes.
 */
void qemu_inactivate(Vm *vm, gboolean of_copy)
{
    QemuVm *self = qemu_vm(vm);

    if (of_copy) {
        query_nodes(self, on_nodes);
        return;
    }
    inactivate(self);
    /* Nobody waits for it: it is answered after that, and before what is ordered next. */
    query_nodes(self, on_nodes_after);
}

/* ---- In ---- */

void qemu_load_clear(QemuVm *self)
{
    g_clear_pointer(&self->job, g_free);
    g_clear_error(&self->failure);
    if (self->job_timer)
        g_source_remove(self->job_timer);
    self->job_timer = 0;
    self->job_accepted = self->job_concluded = self->resetting = FALSE;
}

/* Keeps the first failure of a load. FALSE if QEMU is gone or hangs: the load has been ended. */
static gboolean note(QemuVm *self, const GError *error)
{
    if (!error)
        return TRUE;
    if (!g_error_matches(error, VM_ERROR, VM_ERROR_QMP)) {
        qemu_fail(self, error);
        return FALSE;
    }
    if (!self->failure)
        self->failure = g_error_copy(error);
    return TRUE;
}

static void on_cleaned(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    (void)result;

    if (!note(self, error))
        return;
    g_autoptr(GError) failure = g_steal_pointer(&self->failure);
    qemu_load_clear(self);
    vm_finish(&self->vm, NULL, failure);
}

static void on_dismissed(json_object *result, const GError *error, gpointer user_data)
{
    (void)result;
    note(user_data, error);
}

/* The job's own error, from query-jobs. */
static void on_jobs(json_object *jobs, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    gsize count = json_object_is_type(jobs, json_type_array) ? json_object_array_length(jobs) : 0;

    if (!note(self, error))
        return;
    for (gsize i = 0; i < count; i++) {
        json_object *job = json_object_array_get_idx(jobs, i), *value;
        if (!json_object_object_get_ex(job, "id", &value) ||
            g_strcmp0(json_object_get_string(value), self->job) ||
            !json_object_object_get_ex(job, "error", &value))
            continue;
        g_autoptr(GError) failed =
            g_error_new(VM_ERROR, VM_ERROR_QMP, "snapshot-load: %s", json_object_get_string(value));
        note(self, failed);
    }
}

static void clean_up(QemuVm *self)
{
    json_object *arguments = json_object_new_object();

    if (self->job_timer)
        g_source_remove(self->job_timer);
    self->job_timer = 0;
    if (self->job_concluded) {
        json_object *job = json_object_new_object();
        json_object_object_add(job, "id", text(self->job));
        qemu_execute(self, "query-jobs", NULL, on_jobs);
        qemu_execute(self, "job-dismiss", job, on_dismissed);
    }
    json_object_object_add(arguments, "node-name", text(NODE));
    qemu_execute(self, "blockdev-del", arguments, on_cleaned);
}

void qemu_job_changed(QemuVm *self, json_object *data)
{
    json_object *id, *status;

    if (!self->job || self->job_concluded || !json_object_object_get_ex(data, "id", &id) ||
        !json_object_object_get_ex(data, "status", &status) ||
        g_strcmp0(json_object_get_string(id), self->job) ||
        g_strcmp0(json_object_get_string(status), "concluded"))
        return;
    self->job_concluded = TRUE;
    if (self->job_accepted)
        clean_up(self);
}

static void on_load_accepted(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;

    if (!note(self, error))
        return;
    if (!result || self->job_concluded)
        clean_up(self);
    else
        self->job_accepted = TRUE;
}

static void on_carrier_added(json_object *result, const GError *error, gpointer user_data)
{
    (void)result;
    note(user_data, error); /* snapshot-load will fail too, and end it */
}

static gboolean on_job_timeout(gpointer user_data)
{
    QemuVm *self = user_data;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "snapshot-load: QEMU did not finish within %.1f s",
                    self->timeout_ms / 1000.0);
    self->job_timer = 0;
    qemu_fail(self, error);
    return G_SOURCE_REMOVE;
}

static void add_carrier(QemuVm *self)
{
    g_autofree char *path = fd_path(self->carrier_fd);
    json_object *file = json_object_new_object();
    json_object *arguments = json_object_new_object();

    json_object_object_add(file, "driver", text("file"));
    json_object_object_add(file, "filename", text(path));
    json_object_object_add(file, "locking", text("off"));
    json_object_object_add(arguments, "driver", text("qcow2"));
    json_object_object_add(arguments, "node-name", text(NODE));
    json_object_object_add(arguments, "file", file);
    qemu_execute(self, "blockdev-add", arguments, on_carrier_added);
}

static void start_job(QemuVm *self)
{
    json_object *devices = json_object_new_array();
    json_object *arguments = json_object_new_object();

    self->job = g_strdup_printf("colo-load-%u", ++self->loads);
    json_object_array_add(devices, text(NODE));
    json_object_object_add(arguments, "job-id", text(self->job));
    json_object_object_add(arguments, "tag", text(CARRIER_TAG));
    json_object_object_add(arguments, "vmstate", text(NODE));
    json_object_object_add(arguments, "devices", devices);
    qemu_execute(self, "snapshot-load", arguments, on_load_accepted);
}

static void on_reset_requested(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    (void)result;

    if (!error)
        return;
    qemu_load_clear(self);
    qemu_fail(self, error);
}

/* QEMU answers before it has done it (7.2, softmmu/runstate.c): the event RESET tells. */
void qemu_was_reset(QemuVm *self)
{
    if (!self->resetting)
        return;
    self->resetting = self->needs_reset = FALSE;
    add_carrier(self);
    start_job(self);
}

void qemu_load(Vm *vm, GBytes *state)
{
    QemuVm *self = qemu_vm(vm);
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *bytes = g_bytes_get_data(state, &len);

    if (!devstate_check(bytes, len, vm->machine_name, &error)) {
        vm_finish(vm, NULL, error);
        return;
    }
    if (!vm_carrier_write(self->carrier_fd, bytes, len, &error)) {
        g_autoptr(GError) failed = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, error->message);
        vm_finish(vm, NULL, failed);
        return;
    }
    self->job_timer = patience_add(self->timeout_ms, on_job_timeout, self);
    if (self->needs_reset) {
        self->resetting = TRUE;
        qemu_execute(self, "system_reset", NULL, on_reset_requested);
        return;
    }
    add_carrier(self);
    start_job(self);
}
