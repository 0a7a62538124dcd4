/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/fake-disks.h"

#include "block/control.h"
#include "common/fd.h"
#include "tests/support/folder.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* No test takes so long. */
#define HELD_US (G_GINT64_CONSTANT(100000) * G_USEC_PER_SEC)

struct FakeDisks {
    char *dir, *state_dir;
    guint n;
    guint64 limit_bytes;   /* 0: as measured */
    BlockControl *control; /* NULL: no server */
    DiskSet *set;

    GMutex mutex; /* everything below */
    GCond changed;
    gboolean closed; /* the service has closed its connection */
    gboolean dead;
    int refuse_with;
    const char *refuse_what;
    char *refuse_file;
    gboolean hang;
    guint hanging;
    char *hang_file; /* NULL: none */
    guint delay_us;
};

static char *disk_name(guint index)
{
    return g_strdup_printf("vd%c", 'a' + index);
}

FakeDisks *fake_disks_new(const char *dir, guint n, guint64 bytes)
{
    FakeDisks *disks = g_new0(FakeDisks, 1);
    g_mutex_init(&disks->mutex);
    g_cond_init(&disks->changed);
    disks->dir = g_strdup(dir);
    disks->state_dir = g_build_filename(dir, "state", NULL);
    disks->n = n;
    g_assert_cmpint(g_mkdir_with_parents(disks->state_dir, 0700), ==, 0);
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = disk_name(i);
        g_autofree char *image = fake_disks_image(disks, name);
        g_assert_true(g_file_set_contents(image, "", 0, NULL));
        g_assert_cmpint(truncate(image, (off_t)bytes), ==, 0);
    }
    return disks;
}

void fake_disks_free(FakeDisks *disks)
{
    if (!disks)
        return;
    fake_disks_crash(disks);
    folder_remove(disks->state_dir);
    folder_remove(disks->dir);
    g_mutex_clear(&disks->mutex);
    g_cond_clear(&disks->changed);
    g_free(disks->refuse_file);
    g_free(disks->hang_file);
    g_free(disks->state_dir);
    g_free(disks->dir);
    g_free(disks);
}

void fake_disks_configure(const FakeDisks *disks, Config *config, VmDiskFormat format)
{
    for (guint i = 0; i < disks->n; i++) {
        g_autofree char *name = disk_name(i);
        VmDisk *disk = vm_description_add_disk(config->vm, name);
        disk->path = fake_disks_image(disks, name);
        disk->format = format;
    }
    g_free(config->state_dir);
    config->state_dir = g_strdup(disks->state_dir);
    config->disk_timeout_ms = 30000;
}

/* ---- The server ---- */

static int fault(const char *what, const char *file, guint64 offset, gsize *len, gpointer data)
{
    FakeDisks *disks = data;
    (void)offset;
    g_mutex_lock(&disks->mutex);
    if (disks->hang_file && strstr(file, disks->hang_file)) {
        guint delay_us = disks->delay_us;
        disks->hanging++;
        while (disks->hang && !disks->dead && !disks->closed)
            g_cond_wait(&disks->changed, &disks->mutex);
        disks->hanging--;
        g_mutex_unlock(&disks->mutex);
        g_usleep(delay_us);
        g_mutex_lock(&disks->mutex);
    }
    gboolean refused = disks->refuse_with && strstr(file, disks->refuse_file) &&
                       (!disks->refuse_what || !strcmp(what, disks->refuse_what));
    int r = disks->dead ? -EIO : refused ? disks->refuse_with : 0;
    g_mutex_unlock(&disks->mutex);
    if (r)
        *len = 0;
    return r;
}

/* On the control's thread. */
static void on_closed(gpointer data)
{
    FakeDisks *disks = data;
    g_mutex_lock(&disks->mutex);
    disks->closed = TRUE;
    g_cond_broadcast(&disks->changed);
    g_mutex_unlock(&disks->mutex);
}

static void stop(FakeDisks *disks)
{
    if (!disks->control)
        return;
    block_control_stop(disks->control);
    g_clear_pointer(&disks->set, disk_set_free);
    g_clear_pointer(&disks->control, block_control_free);
}

void fake_disks_crash(FakeDisks *disks)
{
    g_mutex_lock(&disks->mutex);
    disks->dead = TRUE;
    g_cond_broadcast(&disks->changed);
    g_mutex_unlock(&disks->mutex);
    stop(disks);
}

void fake_disks_await_end(FakeDisks *disks)
{
    if (!disks->control)
        return;
    g_mutex_lock(&disks->mutex);
    while (!disks->closed)
        g_cond_wait(&disks->changed, &disks->mutex);
    g_mutex_unlock(&disks->mutex);
    stop(disks);
}

DiskServer *fake_disks_serve(FakeDisks *disks, const DiskServerOptions *options,
                             const DiskConfig *configs, guint n_disks,
                             const DiskServerCallbacks *callbacks, gpointer user_data,
                             GError **error)
{
    int control[2], fds[2];
    fake_disks_crash(disks);
    disks->dead = disks->closed = FALSE;
    DiskSetOptions set_options = {.state_dir = options->state_dir,
                                  .stage_memory_bytes = options->stage_memory_bytes,
                                  .queue_bytes = options->queue_bytes,
                                  .sync_rate_bytes = options->sync_rate_bytes,
                                  .settle_bytes = disks->limit_bytes,
                                  .throttle_us = disks->limit_bytes ? HELD_US : 0,
                                  .fault = fault,
                                  .fault_data = disks};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    disks->control = block_control_new(control[1], fds[1]);
    disks->set = disk_set_open(configs, n_disks, options->owner, &set_options,
                               block_control_callbacks(), disks->control, error);
    if (!disks->set) {
        g_clear_pointer(&disks->control, block_control_free);
        close(control[0]);
        close(fds[0]);
        return NULL;
    }
    block_control_start(disks->control, disks->set, on_closed, disks);
    return disk_server_adopt(control[0], fds[0], callbacks, user_data);
}

/* ---- The guest's side, and the images ---- */

Disk *fake_disks_find(const FakeDisks *disks, const char *name)
{
    return disk_set_find(disks->set, name);
}

void fake_disks_limit(FakeDisks *disks, guint64 bytes)
{
    disks->limit_bytes = bytes;
}

DiskSetStatus fake_disks_status(const FakeDisks *disks)
{
    DiskSetStatus status;
    disk_set_status(disks->set, &status);
    return status;
}

char *fake_disks_image(const FakeDisks *disks, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".img", NULL);
    return g_build_filename(disks->dir, file, NULL);
}

void fake_disks_refuse(FakeDisks *disks, const char *what, const char *file, int negative_errno)
{
    g_mutex_lock(&disks->mutex);
    g_free(disks->refuse_file);
    disks->refuse_what = what;
    disks->refuse_file = g_strdup(file);
    disks->refuse_with = negative_errno;
    g_mutex_unlock(&disks->mutex);
}

static void hold_up(FakeDisks *disks, const char *file, gboolean hang, guint us)
{
    g_mutex_lock(&disks->mutex);
    g_free(disks->hang_file);
    disks->hang_file = hang || us ? g_strdup(file) : NULL;
    disks->hang = hang;
    disks->delay_us = us;
    g_cond_broadcast(&disks->changed);
    g_mutex_unlock(&disks->mutex);
}

void fake_disks_hang(FakeDisks *disks, const char *file, gboolean hang)
{
    hold_up(disks, file, hang, 0);
}

gboolean fake_disks_is_hanging(FakeDisks *disks)
{
    g_mutex_lock(&disks->mutex);
    gboolean hanging = disks->hanging > 0;
    g_mutex_unlock(&disks->mutex);
    return hanging;
}

void fake_disks_delay(FakeDisks *disks, const char *file, guint us)
{
    hold_up(disks, file, FALSE, us);
}
