/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What checkpoints cost in memory alone, without a VM and without a network: 512 MiB of RAM in this
 * process, a socket pair between capture and apply. Prints lines "name value unit".
 *
 * harvest_N, copy_N: medians over REPEATS checkpoints with N scattered dirty pages, as the pause of
 * the primary has them. transfer_N: to the last byte in the socket; apply_N: from verified to
 * applied.
 *
 * look_U_of_G: one look at G GiB of RAM, of which the VM has used U, for what was written (the
 * fastest of REPEATS). look_written: with WRITTEN scattered pages to be found, and look_written_kvm if
 * KVM has mapped the RAM too. look_known: at KNOWN
 * scattered pages only, as before a load. keeper: what protecting all RAM adds to a takeover that
 * loads.
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/stream_internal.h"
#include "tests/support/bytes-reader.h"
#include "tests/support/capture-bench.h"

#define PAGES     (512u * 256u)
#define REPEATS   25u
#define WRITTEN   2000u
#define KNOWN     64u
#define GIB_PAGES (256u * 1024u)
#define MIB       (1024.0 * 1024.0)

static int compare(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return x < y ? -1 : x > y;
}

static void print_median(const char *name, guint pages, gint64 *values)
{
    qsort(values, REPEATS, sizeof(*values), compare);
    printf("%s_%u %.3f ms\n", name, pages, (double)values[REPEATS / 2] / 1000.0);
}

static void print_fastest(const char *what, guint gib, guint used_gib, gint64 *values)
{
    qsort(values, REPEATS, sizeof(*values), compare);
    printf("%s_%u_of_%u %.3f ms\n", what, used_gib, gib, (double)values[0] / 1000.0);
}

/* Writes to `count` pages, spread over all of RAM. */
static void dirty(TestRam *ram, guint count, guint salt)
{
    for (guint i = 0; i < count; i++) {
        guint64 page = ((guint64)i * PAGES / count + salt) % PAGES;
        memset(ram->guest + page * VM_PAGE_SIZE, (int)(salt + 1), 256);
    }
}

static void bench_checkpoints(CaptureBench *b, guint64 *epoch, guint pages)
{
    gint64 harvest[REPEATS], copy[REPEATS], taken[REPEATS], transfer[REPEATS], apply[REPEATS];
    for (guint i = 0; i < REPEATS; i++) {
        dirty(b->primary, pages, i);
        capture_bench_take(b, ++*epoch);
        taken[i] = b->taken_at_us - b->began_at_us;
        harvest[i] = b->stats.harvest_us;
        copy[i] = b->stats.copy_us;
        transfer[i] = b->stats.transfer_us;
        apply[i] = b->apply_us;
    }
    print_median("harvest", pages, harvest);
    print_median("copy", pages, copy);
    print_median("take_to_taken", pages, taken);
    print_median("transfer", pages, transfer);
    print_median("apply", pages, apply);
}

/* The stream's code alone: writing and reading 256 MiB of pages, without a socket. */
static void bench_stream(const CaptureBench *b)
{
    g_autoptr(StreamWriter) writer = stream_writer_new("pc.ram", b->primary->ram.size_bytes);
    gint64 start = g_get_monotonic_time();
    guint64 pages = PAGES / 2;
    for (guint64 page = 0; page < pages; page++) {
        stream_writer_page(writer, page, b->primary->ram.base + page * VM_PAGE_SIZE);
        if (stream_writer_pending(writer) >= 256u << 10) {
            stream_writer_bytes(writer, NULL);
            stream_writer_taken(writer);
        }
    }
    double us = (double)(g_get_monotonic_time() - start);
    printf("stream_write_rate %.0f MiB/s\n", (double)pages * VM_PAGE_SIZE / MIB / us * 1e6);

    g_autoptr(StreamWriter) again = stream_writer_new("pc.ram", b->primary->ram.size_bytes);
    for (guint64 page = 0; page < pages; page++)
        stream_writer_page(again, page, b->primary->ram.base + page * VM_PAGE_SIZE);
    BytesReader from = {0};
    from.bytes = stream_writer_bytes(again, &from.len);
    g_autoptr(StreamReader) reader =
        stream_reader_new("pc.ram", b->primary->ram.size_bytes, bytes_reader_read, &from);
    start = g_get_monotonic_time();
    StreamRecord record;
    guint64 read = 0;
    while (read < pages && stream_reader_next(reader, &record, NULL))
        read += record.count;
    us = (double)(g_get_monotonic_time() - start);
    printf("stream_read_rate %.0f MiB/s\n", (double)read * VM_PAGE_SIZE / MIB / us * 1e6);
}

/* ---- Looks ---- */

static gint64 look(DirtyTracker *tracker, PageSet *pages)
{
    page_set_clear(pages);
    gint64 start = g_get_monotonic_time();
    gboolean ok = dirty_tracker_harvest_still(tracker, pages, NULL);
    g_assert_true(ok);
    return g_get_monotonic_time() - start;
}

static gint64 look_at_known(DirtyTracker *tracker, PageSet *pages)
{
    guint64 total = page_set_limit(pages);
    gint64 start = g_get_monotonic_time();
    for (guint64 i = 0; i < KNOWN; i++)
        dirty_tracker_peek_run(tracker, i * total / KNOWN, 1, pages, NULL);
    return g_get_monotonic_time() - start;
}

static gint64 keep(DirtyTracker *tracker, const VmRam *ram)
{
    gint64 start = g_get_monotonic_time();
    dirty_tracker_suspend(tracker);
    PageKeeper *keeper = page_keeper_new(ram, NULL);
    if (keeper)
        page_keeper_put_back(keeper);
    page_keeper_free(keeper);
    return keeper ? g_get_monotonic_time() - start : 0;
}

/* WRITTEN scattered pages are found. */
static void bench_written(TestRam *ram, const char *name, guint gib, guint used_gib,
                          gboolean by_kvm)
{
    guint64 used = (guint64)used_gib * GIB_PAGES;
    ram->ram.by_kvm = by_kvm;
    g_autoptr(DirtyTracker) tracker = dirty_tracker_new(&ram->ram, DIRTY_METHOD_UFFD, NULL);
    g_autoptr(PageSet) pages = page_set_new(ram->ram.size_bytes / VM_PAGE_SIZE);
    gint64 written[REPEATS];
    look(tracker, pages);
    for (guint i = 0; i < REPEATS; i++) {
        for (guint64 n = 0; n < WRITTEN && used > 0; n++)
            ram->guest[n * used / WRITTEN * VM_PAGE_SIZE] = (guint8)i;
        written[i] = look(tracker, pages);
        g_assert_cmpuint(page_set_count(pages), ==, used > 0 ? WRITTEN : 0);
    }
    print_fastest(name, gib, used_gib, written);
}

static void bench_looks(guint gib, guint used_gib)
{
    g_autoptr(GError) error = NULL;
    guint64 total = (guint64)gib * GIB_PAGES, used = (guint64)used_gib * GIB_PAGES;
    g_autoptr(TestRam) ram = test_ram_new(total);
    for (guint64 page = 0; page < used; page++)
        ram->guest[page * VM_PAGE_SIZE] = 1;
    g_autoptr(DirtyTracker) tracker = dirty_tracker_new(&ram->ram, DIRTY_METHOD_UFFD, &error);
    if (!tracker) {
        fprintf(stderr, "no looks: %s\n", error->message);
        return;
    }
    g_autoptr(PageSet) pages = page_set_new(total);
    gint64 clean[REPEATS], known[REPEATS], keeper[REPEATS];
    look(tracker, pages);
    for (guint i = 0; i < REPEATS; i++) {
        clean[i] = look(tracker, pages);
        known[i] = look_at_known(tracker, pages);
    }
    for (guint i = 0; i < REPEATS; i++) {
        keeper[i] = keep(tracker, &ram->ram);
        look(tracker, pages);
    }
    print_fastest("look", gib, used_gib, clean);
    print_fastest("look_known", gib, used_gib, known);
    print_fastest("keeper", gib, used_gib, keeper);
    bench_written(ram, "look_written", gib, used_gib, FALSE);
    bench_written(ram, "look_written_kvm", gib, used_gib, TRUE);
}

/* ---- Sessions ---- */

/* Synchronises RAM that is not written to, and prints how fast. */
static void session_begin(CaptureBench *b, DirtyTracker *tracker, const char *name)
{
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b->fds), ==, 0);
    double us = (double)capture_bench_begin(b, tracker, CAPTURE_PACK_OFF);
    printf("%s %.0f MiB/s\n", name, PAGES * (double)VM_PAGE_SIZE / MIB / us * 1e6);
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    CaptureBench b = {.primary = test_ram_new(PAGES), .secondary = test_ram_new(PAGES)};
    for (guint64 page = 0; page < PAGES; page++)
        memset(b.primary->guest + page * VM_PAGE_SIZE, (int)(page % 255 + 1), VM_PAGE_SIZE);
    DirtyTracker *tracker = dirty_tracker_new(&b.primary->ram, DIRTY_METHOD_AUTO, &error);
    g_assert_no_error(error);
    fprintf(stderr, "dirty pages by %s\n", dirty_method_name(dirty_tracker_method(tracker)));
    session_begin(&b, tracker, "memory_sync_rate");
    guint64 epoch = 0;
    static const guint counts[] = {0, 1000, 10000, 50000};
    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++)
        bench_checkpoints(&b, &epoch, counts[i]);
    bench_stream(&b);
    capture_bench_end(&b);
    /* The secondary has nearly all of it. */
    session_begin(&b, tracker, "memory_resync_rate");
    capture_bench_end(&b);

    dirty_tracker_free(tracker);
    test_ram_free(b.primary);
    test_ram_free(b.secondary);

    static const guint looks[][2] = {
        {1,  0},
        {1,  1},
        {4,  1},
        {4,  4},
        {16, 1},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(looks); i++)
        bench_looks(looks[i][0], looks[i][1]);
    return 0;
}
