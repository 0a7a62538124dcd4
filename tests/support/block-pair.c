/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/block-pair.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/endian.h"
#include "tests/support/folder.h"

/* A hang is a failure too, but no test waits this long. */
#define GUARD_US (G_GINT64_CONSTANT(120) * G_USEC_PER_SEC)

static const char *const disk_names[SIDE_DISKS] = {"vda", "vdb"};

Side *side_new(const guint64 *sizes)
{
    Side *side = g_new0(Side, 1);
    g_mutex_init(&side->mutex);
    g_cond_init(&side->changed);
    /* In memory if possible: what is tested doesn't depend on how long a sync takes. */
    side->dir = g_file_test("/dev/shm", G_FILE_TEST_IS_DIR)
                    ? g_mkdtemp(g_strdup("/dev/shm/colo-disks-XXXXXX"))
                    : g_dir_make_tmp("colo-disks-XXXXXX", NULL);
    g_assert_nonnull(side->dir);
    for (guint i = 0; i < SIDE_DISKS; i++) {
        side->paths[i] = g_strdup_printf("%s/%s.img", side->dir, disk_names[i]);
        side->sizes[i] = sizes[i];
        g_assert_true(g_file_set_contents(side->paths[i], "", 0, NULL));
        g_assert_cmpint(truncate(side->paths[i], (off_t)sizes[i]), ==, 0);
        side->configs[i] =
            (DiskConfig){.name = disk_names[i], .path = side->paths[i], .format = "raw"};
    }
    side->options.state_dir = side->dir;
    side->options.throttle_us = 1; /* many tests write much within one epoch */
    return side;
}

void side_free(Side *side)
{
    side_close(side);
    folder_remove(side->dir);
    for (guint i = 0; i < SIDE_DISKS; i++)
        g_free(side->paths[i]);
    g_free(side->dir);
    g_free(side->lost_message);
    g_mutex_clear(&side->mutex);
    g_cond_clear(&side->changed);
    g_free(side);
}

static int fault(const char *what, const char *file, guint64 offset, gsize *len, gpointer data)
{
    Side *side = data;
    (void)offset;
    int r = 0;
    g_mutex_lock(&side->mutex);
    side->changes++;
    if (!strcmp(what, "sync") && g_str_has_suffix(file, ".img")) {
        side->image_syncs++;
        g_cond_broadcast(&side->changed);
    }
    side->settles += !strcmp(what, "settle");
    side->forgets += !strcmp(what, "forget");
    while (!strcmp(what, "settle") && side->hold_settling && !side->dead)
        g_cond_wait(&side->changed, &side->mutex);
    gulong delay_us = strcmp(what, "settle") != 0 ? 0 : side->settle_us;
    if (side->dead) {
        r = -EIO;
        *len = 0;
    } else if (side->die_at && side->changes >= side->die_at) {
        side->dead = TRUE;
        r = -EIO;
        /* What fits in a page is written whole or not at all, the rest may be torn anywhere. */
        *len = *len > 4096 ? *len / 2 : 0;
    } else if (side->refuse_with && (!side->refuse_what || !strcmp(what, side->refuse_what)) &&
               strstr(file, side->refuse_file)) {
        r = side->refuse_with;
        *len /= 2;
    }
    g_mutex_unlock(&side->mutex);
    g_usleep(delay_us); /* the medium's own time */
    return r;
}

void side_refuse(Side *side, const char *what, const char *file, int negative_errno)
{
    g_mutex_lock(&side->mutex);
    side->refuse_what = what;
    side->refuse_file = file;
    side->refuse_with = negative_errno;
    g_mutex_unlock(&side->mutex);
}

void side_slow_settling(Side *side, gulong us)
{
    g_mutex_lock(&side->mutex);
    side->settle_us = us;
    g_mutex_unlock(&side->mutex);
}

void side_hold_settling(Side *side, gboolean hold)
{
    g_mutex_lock(&side->mutex);
    side->hold_settling = hold;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void on_synchronised(const DiskSyncProgress *progress, gpointer data)
{
    Side *side = data;
    g_mutex_lock(&side->mutex);
    side->synchronised = TRUE;
    side->progress = *progress;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void on_marked(guint64 epoch, gpointer data)
{
    Side *side = data;
    g_mutex_lock(&side->mutex);
    side->marked = epoch;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void on_filling(gpointer data)
{
    Side *side = data;
    g_mutex_lock(&side->mutex);
    side->fillings++;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void on_applied(guint64 epoch, gpointer data)
{
    Side *side = data;
    g_mutex_lock(&side->mutex);
    side->applied = epoch;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void on_lost(const GError *error, gpointer data)
{
    Side *side = data;
    g_mutex_lock(&side->mutex);
    g_assert_false(side->lost);
    side->lost = TRUE;
    g_free(side->lost_message);
    side->lost_message = g_strdup(error->message);
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
}

static void forget(Side *side)
{
    g_mutex_lock(&side->mutex);
    side->synchronised = side->lost = FALSE;
    side->marked = side->applied = 0;
    side->fillings = 0;
    g_mutex_unlock(&side->mutex);
}

gboolean side_open(Side *side, gboolean owner, GError **error)
{
    static const DiskSetCallbacks callbacks = {.synchronised = on_synchronised,
                                               .marked = on_marked,
                                               .filling = on_filling,
                                               .applied = on_applied,
                                               .lost = on_lost};
    g_assert_null(side->set);
    forget(side);
    side->dead = FALSE;
    side->changes = 0;
    side->image_syncs = 0;
    side->forgets = 0;
    side->options.fault = fault;
    side->options.fault_data = side;
    side->set =
        disk_set_open(side->configs, SIDE_DISKS, owner, &side->options, &callbacks, side, error);
    if (!side->set)
        return FALSE;
    for (guint i = 0; i < SIDE_DISKS; i++) {
        side->disks[i] = disk_set_find(side->set, disk_names[i]);
        g_assert_nonnull(side->disks[i]);
        g_assert_cmpuint(disk_size(side->disks[i]), ==, side->sizes[i]);
    }
    return TRUE;
}

void side_close(Side *side)
{
    g_clear_pointer(&side->set, disk_set_free);
}

gboolean side_is_dead(Side *side)
{
    g_mutex_lock(&side->mutex);
    gboolean dead = side->dead;
    g_mutex_unlock(&side->mutex);
    return dead;
}

void side_crash(Side *side)
{
    g_mutex_lock(&side->mutex);
    side->dead = TRUE;
    g_cond_broadcast(&side->changed);
    g_mutex_unlock(&side->mutex);
    side_close(side);
}

void side_pair(Side *primary, Side *replica)
{
    int fds[2];
    guint8 session[BLOCK_SESSION_BYTES];
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    for (guint i = 0; i < BLOCK_SESSION_BYTES; i++)
        session[i] = (guint8)g_random_int();
    forget(primary);
    forget(replica);
    disk_set_attach_replica(replica->set, fds[0], session, &error);
    g_assert_no_error(error);
    disk_set_attach_primary(primary->set, fds[1], session, &error);
    g_assert_no_error(error);
}

gboolean side_synchronise(Side *primary, Side *replica)
{
    side_pair(primary, replica);
    return side_wait_synchronised(primary);
}

/* Waits until `*value` is at least `wanted`. */
static gboolean wait_for(Side *side, const guint64 *value, const gboolean *flag, guint64 wanted)
{
    gint64 until = g_get_monotonic_time() + GUARD_US;
    g_mutex_lock(&side->mutex);
    while (!(flag && *flag) && !(value && *value >= wanted) && !side->lost)
        if (!g_cond_wait_until(&side->changed, &side->mutex, until))
            g_error("nothing happens any more");
    gboolean ok = (flag && *flag) || (value && *value >= wanted);
    g_mutex_unlock(&side->mutex);
    return ok;
}

gboolean side_wait_synchronised(Side *side)
{
    return wait_for(side, NULL, &side->synchronised, 0);
}

gboolean side_wait_marked(Side *side, guint64 epoch)
{
    return wait_for(side, &side->marked, NULL, epoch);
}

void side_wait_image_syncs(Side *side, guint64 count)
{
    wait_for(side, &side->image_syncs, NULL, count);
}

gboolean side_wait_applied(Side *side, guint64 epoch)
{
    return wait_for(side, &side->applied, NULL, epoch);
}

void side_wait_lost(Side *side)
{
    wait_for(side, NULL, &side->lost, 0);
}

guint8 *side_image(const Side *side, guint disk)
{
    char *bytes = NULL;
    gsize len = 0;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(side->paths[disk], &bytes, &len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(len, ==, side->sizes[disk]);
    return (guint8 *)bytes;
}

guint8 *side_read(const Side *side, guint disk)
{
    guint8 *bytes = g_malloc(side->sizes[disk]);
    g_assert_cmpint(disk_read(side->disks[disk], bytes, (guint32)side->sizes[disk], 0), ==, 0);
    return bytes;
}

char *side_state_path(const Side *side)
{
    return g_build_filename(side->dir, "state", NULL);
}

void side_patch_state(const Side *side, gsize at, guint8 xor, gboolean resign)
{
    g_autofree char *path = side_state_path(side);
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_cmpuint(len, ==, 256);
    bytes[at] = (char)(bytes[at] ^ xor);
    if (resign)
        colo_put_be64(bytes + 248, XXH3_64bits(bytes, 248));
    g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

void side_open_fails(Side *side, gboolean owner, BlockError code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(side_open(side, owner, &error));
    g_assert_error(error, BLOCK_ERROR, (gint)code);
    if (!strstr(error->message, text))
        g_error("\"%s\" does not contain \"%s\"", error->message, text);
}

guint8 side_byte(const Side *side, guint disk, guint64 offset)
{
    guint8 byte = 0;
    g_assert_cmpint(disk_read(side->disks[disk], &byte, 1, offset), ==, 0);
    return byte;
}

void side_open_ok(Side *side, gboolean owner)
{
    g_autoptr(GError) error = NULL;
    side_open(side, owner, &error);
    g_assert_no_error(error);
}

void side_fill(const Side *side, guint disk, guint8 value, guint32 count, guint64 offset)
{
    g_autofree guint8 *buf = g_malloc(count);
    memset(buf, value, count);
    g_assert_cmpint(disk_write(side->disks[disk], buf, count, offset, FALSE), ==, 0);
}

void block_pair_new(BlockPair *pair, const guint64 *sizes)
{
    pair->a = side_new(sizes);
    pair->b = side_new(sizes);
}

void block_pair_open(BlockPair *pair)
{
    side_open_ok(pair->a, TRUE);
    side_open_ok(pair->b, FALSE);
}

void block_pair_join(BlockPair *pair)
{
    g_assert_true(side_synchronise(pair->a, pair->b));
    g_assert_true(disk_set_mark(pair->a->set, 1, NULL));
    g_assert_true(side_wait_marked(pair->b, 1));
}

void block_pair_free(BlockPair *pair)
{
    side_free(pair->a);
    side_free(pair->b);
}

void block_pair_checkpoint(BlockPair *pair, guint64 epoch)
{
    g_autoptr(GError) error = NULL;
    disk_set_mark(pair->a->set, epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_marked(pair->b, epoch));
    disk_set_apply(pair->b->set, epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_applied(pair->a, epoch));
}

void block_pair_assert_same_images(const BlockPair *pair)
{
    for (guint i = 0; i < SIDE_DISKS; i++) {
        g_autofree guint8 *a = side_image(pair->a, i), *b = side_image(pair->b, i);
        g_assert_cmpmem(a, pair->a->sizes[i], b, pair->b->sizes[i]);
    }
}

const guint64 block_pair_sizes[SIDE_DISKS] = {1u << 20, 200 * 1024};

void block_pair_setup(BlockPair *pair, gconstpointer data)
{
    (void)data;
    block_pair_new(pair, block_pair_sizes);
}

void block_pair_setup_open(BlockPair *pair, gconstpointer data)
{
    block_pair_setup(pair, data);
    block_pair_open(pair);
}

void block_pair_setup_joined(BlockPair *pair, gconstpointer data)
{
    block_pair_setup_open(pair, data);
    block_pair_join(pair);
    g_assert_true(side_wait_applied(pair->a, 1));
}

void block_pair_teardown(BlockPair *pair, gconstpointer data)
{
    (void)data;
    block_pair_free(pair);
}
