/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A capture and an apply in one process, for what is measured of them: what they report is noted, and when.
 * Nothing is sent ahead, for what a pause costs is the question.
 */
#ifndef COLO_TESTS_CAPTURE_BENCH_H
#define COLO_TESTS_CAPTURE_BENCH_H

#include <errno.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "tests/support/test-ram.h"

typedef struct {
    TestRam *primary, *secondary;
    Capture *capture;
    Apply *apply;
    int fds[2];
    /* Of the checkpoint at hand. */
    gboolean synchronised, taken, sent, received, applied;
    gint64 began_at_us, taken_at_us, received_at_us, apply_us;
    CaptureStats stats;
} CaptureBench;

static inline void capture_bench_synchronised(const SyncProgress *progress, gpointer data)
{
    CaptureBench *b = data;
    (void)progress;
    b->synchronised = TRUE;
}

static inline void capture_bench_taken(const CaptureStats *stats, gpointer data)
{
    CaptureBench *b = data;
    (void)stats;
    b->taken_at_us = g_get_monotonic_time();
    b->taken = TRUE;
}

static inline void capture_bench_sent(const CaptureStats *stats, gpointer data)
{
    CaptureBench *b = data;
    b->stats = *stats;
    b->sent = TRUE;
}

static inline void capture_bench_received(Checkpoint *checkpoint, gpointer data)
{
    CaptureBench *b = data;
    (void)checkpoint;
    b->received_at_us = g_get_monotonic_time();
    b->received = TRUE;
}

static inline void capture_bench_applied(Checkpoint *checkpoint, gpointer data)
{
    CaptureBench *b = data;
    b->apply_us = checkpoint->apply_us;
    b->applied = TRUE;
}

static inline void capture_bench_failed(const GError *error, gpointer data)
{
    (void)data;
    g_error("%s: %s", program_invocation_short_name, error->message);
}

static inline void capture_bench_wait(const gboolean *flag)
{
    while (!*flag)
        g_main_context_iteration(NULL, TRUE);
}

/* A session over b->fds, of RAM that is not written to meanwhile. Returns how long it took to synchronise. */
static inline gint64 capture_bench_begin(CaptureBench *b, DirtyTracker *tracker,
                                         CapturePack packing)
{
    static const CaptureCallbacks capture_callbacks = {.synchronised = capture_bench_synchronised,
                                                       .taken = capture_bench_taken,
                                                       .sent = capture_bench_sent,
                                                       .failed = capture_bench_failed};
    static const ApplyCallbacks apply_callbacks = {.received = capture_bench_received,
                                                   .applied = capture_bench_applied,
                                                   .failed = capture_bench_failed};
    g_autoptr(GError) error = NULL;
    b->synchronised = FALSE;
    b->capture = capture_new(&b->primary->ram, tracker, b->fds[0], &capture_callbacks, b, &error);
    g_assert_no_error(error);
    gint64 start = g_get_monotonic_time();
    b->apply = apply_new(&b->secondary->ram, b->fds[1], &apply_callbacks, b, &error);
    g_assert_no_error(error);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = b->primary->ram.size_bytes / VM_PAGE_SIZE;
    capture_set_tuning(b->capture, &tuning);
    capture_set_packing(b->capture, packing);
    capture_synchronise(b->capture, 0);
    capture_bench_wait(&b->synchronised);
    return g_get_monotonic_time() - start;
}

/* A checkpoint with 100 KiB of device state, until it is applied. */
static inline void capture_bench_take(CaptureBench *b, guint64 epoch)
{
    g_autoptr(GBytes) state = g_bytes_new_take(g_malloc0(100 << 10), 100 << 10);
    b->taken = b->sent = b->received = b->applied = FALSE;
    b->began_at_us = g_get_monotonic_time();
    capture_take(b->capture, epoch, state, NULL, NULL);
    capture_bench_wait(&b->taken);
    capture_bench_wait(&b->sent);
    capture_bench_wait(&b->received);
    capture_bench_wait(&b->applied);
}

static inline void capture_bench_end(CaptureBench *b)
{
    capture_free(b->capture);
    apply_free(b->apply);
    close(b->fds[0]);
    close(b->fds[1]);
}

#endif
