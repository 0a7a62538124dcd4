/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The replicated disk against the same image served by nbdkit's file plugin, in one run. Sequential
 * and random I/O over unix sockets, protected with a checkpoint every 100 ms. What a mark costs;
 * how quick a synchronisation is and what a rejoin sends. Both hosts' work is done on this machine.
 * Prints lines "NAME VALUE UNIT [BASELINE]", the baseline being plain nbdkit's. BENCH_SECONDS for
 * each figure (2).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/block-server.h"

#define DISK_BYTES (G_GUINT64_CONSTANT(256) << 20)
#define PERIOD_US  100000

typedef enum { SEQ_READ, SEQ_WRITE, RANDOM_READ, RANDOM_WRITE, RANDOM_WRITE_FUA, KINDS } Kind;

static const struct {
    const char *name, *unit;
    guint32 bytes;
    guint workers;
} kinds[KINDS] = {
    [SEQ_READ] = {"disk_seq_read",            "MiB/s", 256 * 1024, 4},
    [SEQ_WRITE] = {"disk_seq_write",           "MiB/s", 256 * 1024, 4},
    [RANDOM_READ] = {"disk_random_read_4k",      "1/s",   4096,       8},
    [RANDOM_WRITE] = {"disk_random_write_4k",     "1/s",   4096,       8},
    [RANDOM_WRITE_FUA] = {"disk_random_write_4k_fua", "1/s",   4096,       4},
};

typedef struct {
    struct nbd_handle *(*connect)(gpointer where);
    gpointer where;
    Kind kind;
    gint next; /* sequential: block number */
    gint requests;
    ColoTime until;
} Load;

static gpointer work(gpointer data)
{
    Load *load = data;
    struct nbd_handle *nbd = load->connect(load->where);
    guint32 bytes = kinds[load->kind].bytes;
    gint blocks = (gint)(DISK_BYTES / bytes);
    g_autofree guint8 *buf = g_malloc(bytes);
    GRand *rand = g_rand_new();
    memset(buf, 0x5a, bytes);
    while (colo_time_diff_us(load->until, colo_time_now()) > 0) {
        gint block = load->kind <= SEQ_WRITE ? g_atomic_int_add(&load->next, 1) % blocks
                                             : g_rand_int_range(rand, 0, blocks);
        guint64 offset = (guint64)block * bytes;
        int r;
        if (load->kind == SEQ_READ || load->kind == RANDOM_READ)
            r = nbd_pread(nbd, buf, bytes, offset, 0);
        else
            r = nbd_pwrite(nbd, buf, bytes, offset,
                           load->kind == RANDOM_WRITE_FUA ? LIBNBD_CMD_FLAG_FUA : 0);
        if (r < 0)
            g_error("%s", nbd_get_error());
        g_atomic_int_inc(&load->requests);
    }
    g_rand_free(rand);
    nbd_close(nbd);
    return NULL;
}

static double measure(struct nbd_handle *(*connect)(gpointer), gpointer where, Kind kind)
{
    GThread *threads[16];
    const char *text = g_getenv("BENCH_SECONDS");
    double seconds = text ? g_ascii_strtod(text, NULL) : 2;
    Load load = {.connect = connect, .where = where, .kind = kind};
    load.until = colo_time_add_us(colo_time_now(), (gint64)(seconds * G_USEC_PER_SEC));
    for (guint i = 0; i < kinds[kind].workers; i++)
        threads[i] = g_thread_new("work", work, &load);
    for (guint i = 0; i < kinds[kind].workers; i++)
        g_thread_join(threads[i]);
    double rate = load.requests / seconds;
    return kind <= SEQ_WRITE ? rate * kinds[kind].bytes / (1 << 20) : rate;
}

/* ---- Plain nbdkit ---- */

static struct nbd_handle *connect_socket(gpointer socket)
{
    struct nbd_handle *nbd = nbd_create();
    if (nbd_connect_unix(nbd, socket) < 0)
        g_error("%s", nbd_get_error());
    return nbd;
}

static void measure_plain(BlockServer *folder, double *results)
{
    g_autofree char *image = block_server_image(folder, 0), *pid_path = NULL;
    pid_path = g_strconcat(folder->socket, ".pid", NULL);
    unlink(pid_path);
    unlink(folder->socket);
    char *argv[] = {"nbdkit", "-f", "-U", folder->socket, "-P", pid_path, "file", image, NULL};
    GPid pid;
    if (!g_spawn_async(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                       NULL, &pid, NULL))
        g_error("nbdkit can't be started");
    while (!g_file_test(pid_path, G_FILE_TEST_EXISTS))
        g_usleep(2000);
    measure(connect_socket, folder->socket, SEQ_WRITE); /* all blocks are there, for both */
    for (Kind kind = 0; kind < KINDS; kind++)
        results[kind] = measure(connect_socket, folder->socket, kind);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

/* ---- Protected ---- */

typedef struct {
    BlockServer *primary, *replica;
    guint64 epoch;
    gint stop;
    GArray *marks; /* of double: microseconds */
} Pair;

static void checkpoint(Pair *pair)
{
    ColoTime before = colo_time_now();
    block_server_ok(pair->primary, "mark", block_server_epoch(++pair->epoch));
    double us = (double)colo_time_diff_us(colo_time_now(), before);
    g_array_append_val(pair->marks, us);
    json_object_put(block_server_wait(pair->replica, "MARKED"));
    block_server_ok(pair->replica, "apply", block_server_epoch(pair->epoch));
    json_object_put(block_server_wait(pair->primary, "APPLIED"));
}

static gpointer take_checkpoints(gpointer data)
{
    Pair *pair = data;
    while (!g_atomic_int_get(&pair->stop)) {
        checkpoint(pair);
        g_usleep(PERIOD_US);
    }
    return NULL;
}

static struct nbd_handle *connect_primary(gpointer data)
{
    return block_server_connect(((Pair *)data)->primary, "vda");
}

/* Synchronises and returns how long it took, and what was sent. */
static double synchronise(Pair *pair, guint64 *ret_sent_bytes)
{
    ColoTime before = colo_time_now();
    block_server_pair(pair->primary, pair->replica);
    json_object *progress = block_server_wait(pair->primary, "SYNCHRONISED");
    double seconds = (double)colo_time_diff_us(colo_time_now(), before) / G_USEC_PER_SEC;
    *ret_sent_bytes = json_object_get_uint64(json_object_object_get(progress, "sent-bytes"));
    json_object_put(progress);
    pair->epoch = 0;
    checkpoint(pair);
    return seconds;
}

static int compare(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One percent of the disk changes while the replica is away, in runs of 64 KiB. */
static guint64 rejoin(Pair *pair)
{
    guint64 sent;
    g_autofree guint8 *buf = g_malloc(65536);
    block_server_kill(pair->replica);
    json_object_put(block_server_wait(pair->primary, "LOST"));
    block_server_ok(pair->primary, "detach", NULL);
    struct nbd_handle *nbd = connect_primary(pair);
    memset(buf, 0xa5, 65536);
    for (guint64 i = 0; i < DISK_BYTES / 100 / 65536; i++)
        if (nbd_pwrite(nbd, buf, 65536, i * 100 * 65536, 0) < 0)
            g_error("%s", nbd_get_error());
    nbd_close(nbd);
    g_assert(block_server_start(pair->replica, FALSE, NULL, NULL));
    synchronise(pair, &sent);
    return sent;
}

static void measure_protected(BlockServer *primary, const double *plain)
{
    static const guint64 sizes[] = {DISK_BYTES};
    Pair pair = {.primary = primary,
                 .replica = block_server_new(sizes, 1),
                 .marks = g_array_new(FALSE, FALSE, sizeof(double))};
    guint64 sent;
    g_assert(block_server_start(pair.primary, TRUE, NULL, NULL));
    g_assert(block_server_start(pair.replica, FALSE, NULL, NULL));
    double seconds = synchronise(&pair, &sent);
    GThread *thread = g_thread_new("checkpoints", take_checkpoints, &pair);
    for (Kind kind = 0; kind < KINDS; kind++)
        printf("%s %.1f %s %.1f\n", kinds[kind].name, measure(connect_primary, &pair, kind),
               kinds[kind].unit, plain[kind]);
    g_atomic_int_set(&pair.stop, TRUE);
    g_thread_join(thread);
    g_array_sort(pair.marks, compare);
    double *marks = (double *)pair.marks->data;
    printf("disk_mark_p50 %.3f ms\n", marks[pair.marks->len / 2] / 1000);
    printf("disk_mark_p99 %.3f ms\n", marks[pair.marks->len * 99 / 100] / 1000);
    printf("disk_sync_rate %.1f MiB/s\n", (double)(DISK_BYTES >> 20) / seconds);
    checkpoint(&pair);
    printf("disk_rejoin_1_percent %.3f MiB\n", (double)rejoin(&pair) / (1 << 20));
    block_server_free(pair.replica);
    g_array_unref(pair.marks);
}

int main(void)
{
    static const guint64 sizes[] = {DISK_BYTES};
    double plain[KINDS];
    signal(SIGPIPE, SIG_IGN);
    if (block_server_missing()) {
        fprintf(stderr, "bench-block: %s\n", block_server_missing());
        return 1;
    }
    BlockServer *primary = block_server_new(sizes, 1);
    measure_plain(primary, plain);
    measure_protected(primary, plain);
    block_server_free(primary);
    return 0;
}
