/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture and apply, connected by a socket pair, over RAM in this process. After each checkpoint
 * every byte of the secondary's RAM is that of the primary at its pause, whatever a guest thread
 * writes meanwhile. Both sides end well at any moment.
 */
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/checkpoint-pair.h"

#define PAGES      CHECKPOINT_PAIR_PAGES
#define LAST_EPOCH 200u

static void test_still_guest(gconstpointer data)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(checkpoint_pair_method(data));
    if (!pair)
        return;
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    checkpoint_pair_wait(&pair->synchronised);
    g_assert_cmpuint(capture_dirty_pages(pair->capture), ==, 0);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 0);
    g_assert_cmpuint(pair->stats.ahead_pages, ==, PAGES);
    /* Pages that become zero, data, and zero again. */
    memset(pair->primary->guest, 0, 100 * VM_PAGE_SIZE);
    memset(pair->primary->guest + 1500 * VM_PAGE_SIZE, 7, 3 * VM_PAGE_SIZE);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 103);
    g_assert_cmpuint(pair->stats.bytes, <, 6 * VM_PAGE_SIZE);
    memset(pair->primary->guest + 1500 * VM_PAGE_SIZE, 0, 3 * VM_PAGE_SIZE);
    checkpoint_pair_take(pair);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 0);
}

/* A checkpoint without a synchronisation before copies all in the pause. */
static void test_without_synchronisation(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, PAGES);
    checkpoint_pair_take(pair);
}

/* A synchronisation that is to begin later sends nothing; a checkpoint, and the end, don't wait. */
static void test_start(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    capture_set_start(pair->capture, colo_time_add_us(colo_time_now(), G_TIME_SPAN_HOUR));
    capture_synchronise(pair->capture, 0);
    while (capture_awaits_base(pair->capture))
        g_main_context_iteration(NULL, FALSE);
    checkpoint_pair_take(pair);
    g_assert_false(pair->synchronised);
    g_assert_cmpuint(pair->stats.ahead_pages, ==, 0);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, PAGES);
}

static void test_end_before_start(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    capture_set_start(pair->capture, colo_time_add_us(colo_time_now(), G_TIME_SPAN_HOUR));
    capture_synchronise(pair->capture, 0);
    while (capture_awaits_base(pair->capture))
        g_main_context_iteration(NULL, FALSE);
    g_clear_pointer(&pair->capture, capture_free);
}

/* Holes in the memfd cost no memory on the secondary. */
static void test_holes_stay(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    memset(pair->primary->guest + 1000 * VM_PAGE_SIZE, 1, VM_PAGE_SIZE);
    capture_synchronise(pair->capture, 0);
    checkpoint_pair_wait(&pair->synchronised);
    /* Looking at a page through a mapping would checkpoint_pair_fill the hole. */
    checkpoint_pair_take_unchecked(pair);
    int memfd = pair->secondary->ram.memfd;
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 1000 * VM_PAGE_SIZE);
    g_assert_cmpint(lseek(memfd, 1000 * VM_PAGE_SIZE, SEEK_HOLE), ==, 1001 * VM_PAGE_SIZE);
    /* A long run of zeros gives memory back. */
    memset(pair->primary->guest, 1, 512 * VM_PAGE_SIZE);
    checkpoint_pair_take_unchecked(pair);
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 0);
    memset(pair->primary->guest, 0, 512 * VM_PAGE_SIZE);
    checkpoint_pair_take_unchecked(pair);
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 1000 * VM_PAGE_SIZE);
    checkpoint_pair_check(pair);
}

/* Two hundred checkpoints of a guest that writes all the time, pages sent ahead at full tilt. */
static void test_busy_guest(gconstpointer data)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(checkpoint_pair_method(data));
    if (!pair)
        return;
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = 16;
    tuning.look_interval_us = tuning.round_interval_us = 500;
    capture_set_tuning(pair->capture, &tuning);
    checkpoint_pair_fill(pair->primary);
    checkpoint_pair_run_guest(pair, 8);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    guint64 ahead = 0, dirty = 0;
    for (int i = 0; i < (int)LAST_EPOCH; i++) {
        checkpoint_pair_take(pair);
        ahead += i > 0 ? pair->stats.ahead_pages : 0;
        dirty += pair->stats.dirty_pages;
        /* Now and then, wait until something has been sent ahead. */
        guint64 before = capture_dirty_pages(pair->capture);
        for (int n = 0; i % 20 == 0 && n < 1000 && capture_dirty_pages(pair->capture) >= before;
             n++) {
            before = MAX(before, capture_dirty_pages(pair->capture));
            g_usleep(100);
        }
    }
    g_test_message("%" G_GUINT64_FORMAT " pages in pauses, %" G_GUINT64_FORMAT " ahead", dirty,
                   ahead);
    g_assert_no_error(pair->capture_error);
    g_assert_no_error(pair->apply_error);
    g_assert_cmpuint(dirty, >, 0);
}

static void dirty_and_await(const CheckpointPair *pair, guint pages)
{
    memset(pair->primary->guest, 7, pages * VM_PAGE_SIZE);
    while (capture_dirty_pages(pair->capture) != pages)
        g_usleep(100);
    /* The look has posted what there is to tell. */
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

/* Told once when the limit is reached, and again after the next checkpoint; never without one. */
static void test_dirty_limit(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_UFFD);
    if (!pair)
        return;
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    capture_set_dirty_limit(pair->capture, 8);
    for (guint i = 1; i <= 2; i++) {
        dirty_and_await(pair, 7);
        g_assert_cmpuint(pair->limits, ==, i - 1);
        dirty_and_await(pair, 8);
        while (pair->limits < i)
            g_main_context_iteration(NULL, TRUE);
        dirty_and_await(pair, 20);
        g_assert_cmpuint(pair->limits, ==, i);
        checkpoint_pair_take(pair);
    }
    capture_set_dirty_limit(pair->capture, 0);
    dirty_and_await(pair, 20);
    g_assert_cmpuint(pair->limits, ==, 2);
}

static gboolean look_again(gpointer user_data)
{
    (void)user_data;
    return G_SOURCE_CONTINUE;
}

/*
 * A synchronisation that is bounded takes as long as its bytes do, at least. One that would take
 * for ever goes on when it is not bounded any more. A checkpoint doesn't wait.
 */
static void test_sync_rate(void)
{
    enum { RATE = 16 << 20, CHUNK = 256 << 10 };
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    capture_set_sync_rate(pair->capture, RATE);
    ColoTime began = colo_time_now();
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    gint64 took_us = colo_time_diff_us(colo_time_now(), began);
    /* All RAM in its time, which is no more than ours: half of it is empty, and takes none. */
    const SyncProgress *progress = &pair->progress;
    g_assert_cmpuint(progress->sent_bytes, ==, PAGES * VM_PAGE_SIZE);
    g_assert_cmpfloat(progress->send_bytes_per_s, >=,
                      (double)progress->sent_bytes * G_USEC_PER_SEC / (double)took_us);
    g_assert_cmpfloat(progress->send_bytes_per_s, <=, 1.2 * 2 * RATE);
    g_assert_cmpfloat(progress->link_bytes_per_s, >=, 0.25 * progress->send_bytes_per_s);
    g_assert_cmpfloat(progress->link_bytes_per_s, <=, 0.6 * progress->send_bytes_per_s);
    g_assert_cmpfloat(progress->dirty_bytes_per_s, ==, 0);
    checkpoint_pair_take(pair);
    gint64 bytes = (gint64)pair->stats.bytes;
    g_assert_cmpint(bytes, >, 4 * CHUNK);
    g_assert_cmpint(took_us, >=, (PAGES / 2 * VM_PAGE_SIZE - 2 * CHUNK) * G_USEC_PER_SEC / RATE);

    checkpoint_pair_again(pair);
    memset(pair->primary->guest, 9, PAGES * VM_PAGE_SIZE);
    capture_set_sync_rate(pair->capture, 1);
    capture_synchronise(pair->capture, PAGES / 8);
    guint timer = g_timeout_add(1, look_again, NULL);
    while (pair->percent < 1)
        g_main_context_iteration(NULL, TRUE);
    g_assert_false(pair->synchronised);
    capture_set_sync_rate(pair->capture, 0);
    checkpoint_pair_wait(&pair->synchronised);
    g_source_remove(timer);
    capture_set_sync_rate(pair->capture, 1);
    checkpoint_pair_take(pair);
}

/* Ends a pair in the middle of whatever it is doing, after a varying amount of it. */
static void test_end_at_any_moment(void)
{
    for (guint i = 0; i < 120; i++) {
        g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
        checkpoint_pair_fill(pair->primary);
        checkpoint_pair_run_guest(pair, 0);
        capture_synchronise(pair->capture, PAGES);
        if (i % 4 > 0)
            checkpoint_pair_wait(&pair->synchronised);
        for (guint n = 1; i % 4 > 0 && n < i % 5; n++)
            checkpoint_pair_take(pair);
        if (i % 4 > 1)
            checkpoint_pair_start_take(pair);
        if (i % 8 > 5)
            checkpoint_pair_wait(&pair->taken);
        g_usleep((gulong)g_test_rand_int_range(0, 3000)); /* variety, not synchronisation */
        switch (i % 3) {
        case 0:
            g_clear_pointer(&pair->capture, capture_free);
            break;
        case 1:
            g_clear_pointer(&pair->apply, apply_free);
            break;
        default: {
            guint64 received = pair->received;
            checkpoint_pair_finish(pair);
            /* What was reported as received is what RAM is of, or something later. */
            g_assert_cmpuint(pair->finish_epoch, >=, received);
            g_assert_cmpuint(pair->finish_epoch, ==, pair->applied);
            if (pair->applied > 0 && pair->applied == pair->epoch)
                checkpoint_pair_check(pair);
            break;
        }
        }
    }
}

/* The connection ends: both sides say so, and what was complete stays. */
static void test_connection_lost(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    checkpoint_pair_take(pair);
    shutdown(pair->fds[0], SHUT_RDWR);
    while (!pair->apply_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->apply_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
    memset(pair->primary->guest, 9, VM_PAGE_SIZE);
    guint64 kept = pair->epoch;
    g_autofree guint8 *kept_ram = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    checkpoint_pair_start_take(pair);
    while (!pair->capture_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->capture_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
    checkpoint_pair_finish(pair);
    g_assert_cmpuint(pair->finish_epoch, ==, kept);
    g_assert_cmpmem(pair->secondary->guest, PAGES * VM_PAGE_SIZE, kept_ram, PAGES * VM_PAGE_SIZE);
}

/* A first checkpoint that is not complete is none. */
static void test_finish_without_checkpoint(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    pair->finish_epoch = 1;
    checkpoint_pair_finish(pair);
    g_assert_cmpuint(pair->finish_epoch, ==, 0);
    g_assert_null(pair->apply_error);
}

/* One that its owner can't use is not there, and an error of the stream. */
static void test_unusable(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    g_autofree guint8 *first = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    memset(pair->primary->guest, 77, 8 * VM_PAGE_SIZE);
    checkpoint_pair_refuse(2);
    checkpoint_pair_start_take(pair);
    while (!pair->apply_error)
        g_main_context_iteration(NULL, TRUE);
    checkpoint_pair_refuse(0);
    g_assert_error(pair->apply_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_assert_cmpuint(pair->received, ==, 1);
    checkpoint_pair_finish(pair);
    g_assert_cmpuint(pair->finish_epoch, ==, 1);
    g_assert_cmpmem(pair->secondary->guest, PAGES * VM_PAGE_SIZE, first, PAGES * VM_PAGE_SIZE);
}

/* One that waits to be allowed is not there: RAM stays that of the one before. */
static void test_allowed(gconstpointer data)
{
    gboolean allowed = GPOINTER_TO_INT(data);
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    apply_allow(pair->apply, 1);
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    g_autofree guint8 *first = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    memset(pair->primary->guest, 77, 8 * VM_PAGE_SIZE);
    checkpoint_pair_start_take(pair);
    checkpoint_pair_wait(&pair->sent);
    if (allowed)
        apply_allow(pair->apply, 2);
    while (allowed && pair->applied != 2)
        g_main_context_iteration(NULL, TRUE);
    checkpoint_pair_finish(pair);
    g_assert_cmpuint(pair->received, ==, allowed ? 2 : 1);
    g_assert_cmpuint(pair->finish_epoch, ==, allowed ? 2 : 1);
    g_assert_cmpmem(pair->secondary->guest, PAGES * VM_PAGE_SIZE, allowed ? pair->at_pause : first,
                    PAGES * VM_PAGE_SIZE);
}

/*
 * A link so narrow that a round can't end before some of it was read. The guest dirties more than a
 * pause takes before each read: never done.
 */
static gpointer narrow_reader(gpointer data)
{
    CheckpointPair *pair = data;
    g_autofree guint8 *buf = g_malloc(16384);
    guint32 count = 0;
    do {
        count++;
        for (guint page = 0; page < 64; page++)
            memcpy(pair->primary->guest + page * VM_PAGE_SIZE, &count, sizeof(count));
    } while (recv(pair->fds[1], buf, 16384, 0) > 0);
    return NULL;
}

static void test_no_converge(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_cut(pair);
    checkpoint_pair_tell_base(pair);
    int narrow = 1;
    g_assert_cmpint(setsockopt(pair->fds[0], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof(narrow)), ==,
                    0);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.patience_us = 0;
    tuning.patience_rounds = 3;
    capture_set_tuning(pair->capture, &tuning);
    checkpoint_pair_fill(
        pair->primary); /* else the first round could be short enough to need no reader */
    GThread *reader = g_thread_new("reader", narrow_reader, pair);
    capture_synchronise(pair->capture, 0);
    while (!pair->capture_error) {
        g_assert_false(pair->synchronised);
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_error(pair->capture_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_NO_CONVERGE);
    g_assert_nonnull(strstr(pair->capture_error->message, "MiB/s"));
    g_clear_pointer(&pair->capture, capture_free);
    g_thread_join(reader);
}

/* A capture that waits for a full socket takes a checkpoint's copy at once all the same. */
static void test_pause_does_not_wait_for_the_link(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_cut(pair);
    checkpoint_pair_tell_base(pair);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    /* Nobody reads: 4 MiB don't fit the socket, so the thread is or will be stuck in it. */
    checkpoint_pair_start_take(pair);
    checkpoint_pair_wait(&pair->taken);
    g_assert_false(pair->sent);
    /* Now somebody does. */
    pair->apply = checkpoint_pair_apply_new(pair, pair->fds[1]);
    while (pair->applied != pair->epoch)
        g_main_context_iteration(NULL, TRUE);
    checkpoint_pair_check(pair);
}

static void test_other_ram_refused(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    g_clear_pointer(&pair->apply, apply_free);
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    pair->secondary->ram.id = "q35.ram";
    pair->apply = checkpoint_pair_apply_new(pair, fds[0]);
    Capture *other = checkpoint_pair_capture_new(pair, fds[1]);
    capture_synchronise(other, 0);
    while (!pair->apply_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->apply_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_MISMATCH);
    g_assert_nonnull(strstr(pair->apply_error->message, "'pc.ram' there, 'q35.ram' here"));
    capture_free(other);
    g_clear_pointer(&pair->apply, apply_free);
    close(fds[0]);
    close(fds[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const char *const methods[] = {"uffd", "compare"};
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree char *still = g_strdup_printf("/checkpoint/still-guest/%s", methods[i]);
        g_autofree char *busy = g_strdup_printf("/checkpoint/busy-guest/%s", methods[i]);
        g_test_add_data_func(still, methods[i], test_still_guest);
        g_test_add_data_func(busy, methods[i], test_busy_guest);
    }
    g_test_add_func("/checkpoint/dirty-limit", test_dirty_limit);
    g_test_add_func("/checkpoint/sync-rate", test_sync_rate);
    g_test_add_func("/checkpoint/without-synchronisation", test_without_synchronisation);
    g_test_add_func("/checkpoint/start", test_start);
    g_test_add_func("/checkpoint/end-before-start", test_end_before_start);
    g_test_add_func("/checkpoint/holes-stay", test_holes_stay);
    g_test_add_func("/checkpoint/end-at-any-moment", test_end_at_any_moment);
    g_test_add_func("/checkpoint/connection-lost", test_connection_lost);
    g_test_add_func("/checkpoint/finish-without-checkpoint", test_finish_without_checkpoint);
    g_test_add_func("/checkpoint/unusable", test_unusable);
    g_test_add_data_func("/checkpoint/allowed/no", GINT_TO_POINTER(FALSE), test_allowed);
    g_test_add_data_func("/checkpoint/allowed/yes", GINT_TO_POINTER(TRUE), test_allowed);
    g_test_add_func("/checkpoint/no-converge", test_no_converge);
    g_test_add_func("/checkpoint/pause-does-not-wait-for-the-link",
                    test_pause_does_not_wait_for_the_link);
    g_test_add_func("/checkpoint/other-ram-refused", test_other_ram_refused);
    return g_test_run();
}
