/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long a takeover waits for the secondary's images to be on their medium. Before it a guest has
 * written 2 GiB as fast as it could, with a checkpoint every 100 ms. Also: how fast that is, and
 * how large a checkpoint gets. And how long one takes to be complete there (from its mark to
 * MARKED) and to be applied. The primary's image is in memory (/dev/shm), the secondary's in
 * TMPDIR: put that on the storage to be looked at. Prints lines "NAME VALUE UNIT". BENCH_SYNC_MIB:
 * how much is written (2048).
 */
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/block-server.h"

#define PERIOD_US  100000
#define WRITE_SIZE (1u << 20)

typedef struct {
    BlockServer *primary, *replica;
    guint64 mib, epoch;
    gint done;
    GArray *marks, *applies; /* of double: ms */
    guint64 epoch_max_bytes;
} Pair;

static double ms_since(ColoTime before)
{
    return (double)colo_time_diff_us(colo_time_now(), before) / COLO_US_PER_MS;
}

/* How much waits to be applied, when a mark has come: the epoch, and what has come behind it. */
static void note_epoch(Pair *pair)
{
    json_object *reply = block_server_command(pair->replica, "status", NULL, -1);
    json_object *disks = json_object_object_get(json_object_object_get(reply, "return"), "disks");
    guint64 bytes = json_object_get_uint64(
        json_object_object_get(json_object_array_get_idx(disks, 0), "staged-bytes"));
    pair->epoch_max_bytes = MAX(pair->epoch_max_bytes, bytes);
    json_object_put(reply);
}

static void checkpoint(Pair *pair)
{
    ColoTime before = colo_time_now();
    block_server_ok(pair->primary, "mark", block_server_epoch(++pair->epoch));
    json_object_put(block_server_wait(pair->replica, "MARKED"));
    double ms = ms_since(before);
    g_array_append_val(pair->marks, ms);
    note_epoch(pair);
    before = colo_time_now();
    block_server_ok(pair->replica, "apply", block_server_epoch(pair->epoch));
    ms = ms_since(before);
    g_array_append_val(pair->applies, ms);
    json_object_put(block_server_wait(pair->primary, "APPLIED"));
}

static gpointer write_all(gpointer data)
{
    Pair *pair = data;
    struct nbd_handle *nbd = block_server_connect(pair->primary, "vda");
    g_autofree guint8 *buf = g_malloc(WRITE_SIZE);
    memset(buf, 0x5a, WRITE_SIZE);
    for (guint64 i = 0; i < pair->mib; i++)
        if (nbd_pwrite(nbd, buf, WRITE_SIZE, i * WRITE_SIZE, 0) < 0)
            g_error("%s", nbd_get_error());
    nbd_close(nbd);
    g_atomic_int_set(&pair->done, TRUE);
    return NULL;
}

static int compare(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *name, GArray *times)
{
    g_array_sort(times, compare);
    const double *ms = (const double *)(gpointer)times->data;
    printf("%s_p50 %.1f ms\n%s_max %.1f ms\n", name, ms[times->len / 2], name, ms[times->len - 1]);
}

int main(void)
{
    const char *mib = g_getenv("BENCH_SYNC_MIB");
    signal(SIGPIPE, SIG_IGN);
    if (block_server_missing()) {
        fprintf(stderr, "bench-sync: %s\n", block_server_missing());
        return 1;
    }
    Pair pair = {.mib = mib ? g_ascii_strtoull(mib, NULL, 10) : 2048,
                 .marks = g_array_new(FALSE, FALSE, sizeof(double)),
                 .applies = g_array_new(FALSE, FALSE, sizeof(double))};
    guint64 size = pair.mib * WRITE_SIZE;
    pair.primary = block_server_new(&size, 1);
    g_autofree char *image = block_server_image(pair.primary, 0);
    g_autofree char *memory = g_strdup_printf("/dev/shm/colo-bench-%d.img", getpid());
    if (g_unlink(image) < 0 || symlink(memory, image) < 0 ||
        !g_file_set_contents(memory, "", 0, NULL) || truncate(memory, (off_t)size) < 0)
        g_error("%s: no image in memory", memory);
    pair.replica = block_server_new(&size, 1);
    g_assert(block_server_start(pair.primary, TRUE, NULL, NULL));
    g_assert(block_server_start(pair.replica, FALSE, NULL, NULL));
    block_server_pair(pair.primary, pair.replica);
    json_object_put(block_server_wait(pair.primary, "SYNCHRONISED"));
    checkpoint(&pair);
    ColoTime before = colo_time_now();
    GThread *writer = g_thread_new("writer", write_all, &pair);
    while (!g_atomic_int_get(&pair.done)) {
        g_usleep(PERIOD_US);
        checkpoint(&pair);
    }
    g_thread_join(writer);
    checkpoint(&pair);
    printf("disk_sync_write %.1f MiB/s\n", (double)pair.mib * 1000 / ms_since(before));
    block_server_kill(pair.primary);
    before = colo_time_now();
    block_server_ok(pair.replica, "takeover", block_server_epoch(pair.epoch));
    printf("disk_sync_takeover %.1f ms\n", ms_since(before));
    print_times("disk_sync_marked", pair.marks);
    print_times("disk_sync_apply", pair.applies);
    printf("disk_sync_epoch_max %.1f MiB\n", (double)pair.epoch_max_bytes / WRITE_SIZE);
    block_server_free(pair.replica);
    block_server_free(pair.primary);
    g_unlink(memory);
    g_array_unref(pair.marks);
    g_array_unref(pair.applies);
    return 0;
}
