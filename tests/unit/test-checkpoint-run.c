/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture and apply, connected by a socket pair, over RAM in this process. After each checkpoint
 * every byte of the secondary's RAM is that of the primary at its pause, whatever a guest thread
 * writes meanwhile. Both sides end well at any moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/base.h"
#include "common/fd.h"
#include "tests/support/test-ram.h"

#define PAGES      2048u
#define LAST_EPOCH 200u

/* ---- A guest: a thread that writes, and can be paused ---- */

typedef struct {
    TestRam *ram;
    GThread *thread;
    GMutex lock;
    GCond changed;
    gboolean pause, paused, quit;
    guint hot_pages; /* the first pages, written all the time */
} Guest;

static gpointer guest_run(gpointer data)
{
    Guest *guest = data;
    GRand *random = g_rand_new_with_seed((guint32)g_test_rand_int());
    g_mutex_lock(&guest->lock);
    while (!guest->quit) {
        guest->paused = guest->pause;
        g_cond_broadcast(&guest->changed);
        if (guest->pause) {
            g_cond_wait(&guest->changed, &guest->lock);
            continue;
        }
        g_mutex_unlock(&guest->lock);
        for (int i = 0; i < 100; i++) {
            guint64 page = (guint64)g_rand_int_range(random, 0, PAGES);
            if (guest->hot_pages && i % 10)
                page %= guest->hot_pages;
            guint8 *at = guest->ram->guest + page * VM_PAGE_SIZE;
            if (g_rand_int_range(random, 0, 16) == 0)
                memset(at, 0, VM_PAGE_SIZE);
            else
                *(volatile guint32 *)(at + g_rand_int_range(random, 0, 1024) * 4) =
                    g_rand_int(random);
        }
        g_mutex_lock(&guest->lock);
    }
    g_mutex_unlock(&guest->lock);
    g_rand_free(random);
    return NULL;
}

static Guest *guest_new(TestRam *ram, guint hot_pages)
{
    Guest *guest = g_new0(Guest, 1);
    guest->ram = ram;
    guest->hot_pages = hot_pages;
    g_mutex_init(&guest->lock);
    g_cond_init(&guest->changed);
    guest->thread = g_thread_new("guest", guest_run, guest);
    return guest;
}

static void guest_set_paused(Guest *guest, gboolean pause)
{
    g_mutex_lock(&guest->lock);
    guest->pause = pause;
    g_cond_broadcast(&guest->changed);
    while (guest->paused != pause)
        g_cond_wait(&guest->changed, &guest->lock);
    g_mutex_unlock(&guest->lock);
}

static void guest_free(Guest *guest)
{
    if (!guest)
        return;
    g_mutex_lock(&guest->lock);
    guest->quit = TRUE;
    g_cond_broadcast(&guest->changed);
    g_mutex_unlock(&guest->lock);
    g_thread_join(guest->thread);
    g_mutex_clear(&guest->lock);
    g_cond_clear(&guest->changed);
    g_free(guest);
}

/* ---- A pair ---- */

typedef struct {
    TestRam *primary, *secondary;
    DirtyTracker *tracker;
    Capture *capture;
    Apply *apply;
    Guest *guest;
    int fds[2];
    guint8 *at_pause; /* the primary's RAM when it was paused last */
    guint64 epoch;
    gboolean synchronised, taken, sent, finished;
    guint64 received, applied; /* epochs */
    double percent;
    CaptureStats stats;
    Checkpoint *last; /* reference */
    GError *capture_error, *apply_error;
    guint64 finish_epoch;
} Pair;

static void on_progress(const SyncProgress *progress, gpointer data)
{
    Pair *pair = data;
    g_assert_cmpfloat(progress->percent, >=, pair->percent);
    g_assert_cmpfloat(progress->percent, <=, 100.0);
    pair->percent = progress->percent;
}

static void on_synchronised(const SyncProgress *progress, gpointer data)
{
    Pair *pair = data;
    g_assert_false(pair->synchronised);
    g_assert_cmpuint(progress->sent_bytes, >=, progress->total_bytes);
    pair->synchronised = TRUE;
}

static void on_taken(const CaptureStats *stats, gpointer data)
{
    Pair *pair = data;
    g_assert_cmpuint(stats->epoch, ==, pair->epoch);
    pair->taken = TRUE;
    if (pair->guest)
        guest_set_paused(pair->guest, FALSE);
}

static void on_sent(const CaptureStats *stats, gpointer data)
{
    Pair *pair = data;
    g_assert_true(pair->taken);
    pair->stats = *stats;
    pair->sent = TRUE;
}

static void on_capture_failed(const GError *error, gpointer data)
{
    Pair *pair = data;
    g_assert_no_error(pair->capture_error);
    pair->capture_error = g_error_copy(error);
}

static void on_received(Checkpoint *checkpoint, gpointer data)
{
    Pair *pair = data;
    pair->received = checkpoint->epoch;
    g_clear_pointer(&pair->last, checkpoint_unref);
    pair->last = checkpoint_ref(checkpoint);
}

static void on_applied(Checkpoint *checkpoint, gpointer data)
{
    Pair *pair = data;
    g_assert_cmpuint(pair->received, ==, checkpoint->epoch);
    pair->applied = checkpoint->epoch;
}

static void on_apply_failed(const GError *error, gpointer data)
{
    Pair *pair = data;
    g_assert_no_error(pair->apply_error);
    pair->apply_error = g_error_copy(error);
}

static const CaptureCallbacks capture_callbacks = {
    .progress = on_progress,
    .synchronised = on_synchronised,
    .taken = on_taken,
    .sent = on_sent,
    .failed = on_capture_failed,
};

static guint64 unusable_epoch; /* 0: none is */

static gboolean check(const Checkpoint *checkpoint, GError **error)
{
    if (checkpoint->epoch != unusable_epoch)
        return TRUE;
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM, "not one of ours");
    return FALSE;
}

static const ApplyCallbacks apply_callbacks = {
    .check = check,
    .received = on_received,
    .applied = on_applied,
    .failed = on_apply_failed,
};

static void wait_for(const gboolean *flag)
{
    while (!*flag)
        g_main_context_iteration(NULL, TRUE);
}

/* NULL if the method does not work here; the test is then marked as skipped. */
static Pair *pair_new(DirtyMethod method)
{
    g_autoptr(GError) error = NULL;
    Pair *pair = g_new0(Pair, 1);
    pair->primary = test_ram_new(PAGES);
    pair->secondary = test_ram_new(PAGES);
    pair->at_pause = g_malloc(PAGES * VM_PAGE_SIZE);
    pair->tracker = dirty_tracker_new(&pair->primary->ram, method, &error);
    if (!pair->tracker) {
        g_test_skip(error->message);
        test_ram_free(pair->primary);
        test_ram_free(pair->secondary);
        g_free(pair->at_pause);
        g_free(pair);
        return NULL;
    }
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair->fds), ==, 0);
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    pair->apply = apply_new(&pair->secondary->ram, pair->fds[1], &apply_callbacks, pair, &error);
    g_assert_no_error(error);
    return pair;
}

/* Ends both sides, which shuts their sockets down, and makes new ones for others. */
static void replace_sockets(Pair *pair)
{
    g_clear_pointer(&pair->apply, apply_free);
    g_clear_pointer(&pair->capture, capture_free);
    close(pair->fds[0]);
    close(pair->fds[1]);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair->fds), ==, 0);
}

static void pair_free(Pair *pair)
{
    if (!pair)
        return;
    guest_free(pair->guest);
    capture_free(pair->capture);
    apply_free(pair->apply);
    dirty_tracker_free(pair->tracker);
    close(pair->fds[0]);
    close(pair->fds[1]);
    checkpoint_unref(pair->last);
    g_clear_error(&pair->capture_error);
    g_clear_error(&pair->apply_error);
    test_ram_free(pair->primary);
    test_ram_free(pair->secondary);
    g_free(pair->at_pause);
    g_free(pair);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pair, pair_free)

static void held_frame_free(gpointer data)
{
    HeldFrame *frame = data;
    g_bytes_unref(frame->data);
    g_free(frame);
}

/* Frames that can be told apart by epoch: as many as the epoch modulo 4. */
static GPtrArray *frames_of(guint64 epoch)
{
    GPtrArray *frames = g_ptr_array_new_with_free_func(held_frame_free);
    for (unsigned i = 0; i < epoch % 4; i++) {
        HeldFrame *frame = g_new(HeldFrame, 1);
        g_autofree char *text = g_strdup_printf("frame %u of %" G_GUINT64_FORMAT, i, epoch);
        *frame = (HeldFrame){.nic = i, .data = g_bytes_new(text, strlen(text))};
        g_ptr_array_add(frames, frame);
    }
    return frames;
}

/* NULL for every third. */
static GBytes *attachment_of(guint64 epoch)
{
    return epoch % 3 ? g_bytes_new(&epoch, sizeof(epoch)) : NULL;
}

static void start_take(Pair *pair)
{
    pair->epoch++;
    pair->taken = pair->sent = FALSE;
    if (pair->guest)
        guest_set_paused(pair->guest, TRUE);
    memcpy(pair->at_pause, pair->primary->guest, PAGES * VM_PAGE_SIZE);
    g_autofree char *text = g_strdup_printf("state of %" G_GUINT64_FORMAT, pair->epoch);
    g_autoptr(GBytes) state = g_bytes_new(text, strlen(text));
    g_autoptr(GPtrArray) frames = frames_of(pair->epoch);
    g_autoptr(GBytes) attachment = attachment_of(pair->epoch);
    capture_take(pair->capture, pair->epoch, state, pair->epoch % 4 ? frames : NULL, attachment);
}

static void check_contents(const Pair *pair)
{
    g_autofree char *text = g_strdup_printf("state of %" G_GUINT64_FORMAT, pair->epoch);
    gsize len;
    const char *state = g_bytes_get_data(pair->last->device_state, &len);
    g_assert_cmpmem(state, len, text, strlen(text));
    g_autoptr(GBytes) attachment = attachment_of(pair->epoch);
    g_assert_true(!attachment == !pair->last->attachment);
    if (attachment)
        g_assert_true(g_bytes_equal(attachment, pair->last->attachment));
    g_autoptr(GPtrArray) frames = frames_of(pair->epoch);
    g_assert_cmpuint(pair->last->frames->len, ==, frames->len);
    for (guint i = 0; i < frames->len; i++) {
        const HeldFrame *expected = g_ptr_array_index(frames, i);
        const HeldFrame *frame = g_ptr_array_index(pair->last->frames, i);
        g_assert_cmpuint(frame->nic, ==, expected->nic);
        g_assert_true(g_bytes_equal(frame->data, expected->data));
    }
    for (guint64 page = 0; page < PAGES; page++)
        if (memcmp(pair->at_pause + page * VM_PAGE_SIZE,
                   pair->secondary->guest + page * VM_PAGE_SIZE, VM_PAGE_SIZE))
            g_error("epoch %" G_GUINT64_FORMAT ": page %" G_GUINT64_FORMAT " differs", pair->epoch,
                    page);
}

/* One checkpoint, to the end on both sides. */
static void take_unchecked(Pair *pair)
{
    start_take(pair);
    wait_for(&pair->sent);
    while (pair->applied != pair->epoch) {
        g_assert_no_error(pair->apply_error);
        g_main_context_iteration(NULL, TRUE);
    }
}

static void take(Pair *pair)
{
    take_unchecked(pair);
    check_contents(pair);
}

static DirtyMethod method_of(gconstpointer data)
{
    DirtyMethod method;
    g_assert_true(dirty_method_parse(data, &method));
    return method;
}

/* ---- Tests ---- */

static void fill(TestRam *ram)
{
    for (guint64 page = 0; page < PAGES / 2; page++)
        memset(ram->guest + page * VM_PAGE_SIZE, (int)(page % 255 + 1), VM_PAGE_SIZE);
}

static void test_still_guest(gconstpointer data)
{
    g_autoptr(Pair) pair = pair_new(method_of(data));
    if (!pair)
        return;
    fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    wait_for(&pair->synchronised);
    g_assert_cmpuint(capture_dirty_pages(pair->capture), ==, 0);
    take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 0);
    g_assert_cmpuint(pair->stats.ahead_pages, ==, PAGES);
    /* Pages that become zero, data, and zero again. */
    memset(pair->primary->guest, 0, 100 * VM_PAGE_SIZE);
    memset(pair->primary->guest + 1500 * VM_PAGE_SIZE, 7, 3 * VM_PAGE_SIZE);
    take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 103);
    g_assert_cmpuint(pair->stats.bytes, <, 6 * VM_PAGE_SIZE);
    memset(pair->primary->guest + 1500 * VM_PAGE_SIZE, 0, 3 * VM_PAGE_SIZE);
    take(pair);
    take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, 0);
}

/* A checkpoint without a synchronisation before copies all in the pause. */
static void test_without_synchronisation(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    fill(pair->primary);
    take(pair);
    g_assert_cmpuint(pair->stats.dirty_pages, ==, PAGES);
    take(pair);
}

/* Holes in the memfd cost no memory on the secondary. */
static void test_holes_stay(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    memset(pair->primary->guest + 1000 * VM_PAGE_SIZE, 1, VM_PAGE_SIZE);
    capture_synchronise(pair->capture, 0);
    wait_for(&pair->synchronised);
    /* Looking at a page through a mapping would fill the hole. */
    take_unchecked(pair);
    int memfd = pair->secondary->ram.memfd;
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 1000 * VM_PAGE_SIZE);
    g_assert_cmpint(lseek(memfd, 1000 * VM_PAGE_SIZE, SEEK_HOLE), ==, 1001 * VM_PAGE_SIZE);
    /* A long run of zeros gives memory back. */
    memset(pair->primary->guest, 1, 512 * VM_PAGE_SIZE);
    take_unchecked(pair);
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 0);
    memset(pair->primary->guest, 0, 512 * VM_PAGE_SIZE);
    take_unchecked(pair);
    g_assert_cmpint(lseek(memfd, 0, SEEK_DATA), ==, 1000 * VM_PAGE_SIZE);
    check_contents(pair);
}

/* Two hundred checkpoints of a guest that writes all the time, pages sent ahead at full tilt. */
static void test_busy_guest(gconstpointer data)
{
    g_autoptr(Pair) pair = pair_new(method_of(data));
    if (!pair)
        return;
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = 16;
    tuning.look_interval_us = tuning.round_interval_us = 500;
    capture_set_tuning(pair->capture, &tuning);
    fill(pair->primary);
    pair->guest = guest_new(pair->primary, 8);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    guint64 ahead = 0, dirty = 0;
    for (int i = 0; i < (int)LAST_EPOCH; i++) {
        take(pair);
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

static void on_finished(Checkpoint *checkpoint, gpointer data)
{
    Pair *pair = data;
    g_assert_false(pair->finished);
    pair->finish_epoch = checkpoint ? checkpoint->epoch : 0;
    pair->finished = TRUE;
}

/* Ends a pair in the middle of whatever it is doing, after a varying amount of it. */
static void test_end_at_any_moment(void)
{
    for (guint i = 0; i < 120; i++) {
        g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
        fill(pair->primary);
        pair->guest = guest_new(pair->primary, 0);
        capture_synchronise(pair->capture, PAGES);
        if (i % 4 > 0)
            wait_for(&pair->synchronised);
        for (guint n = 1; i % 4 > 0 && n < i % 5; n++)
            take(pair);
        if (i % 4 > 1)
            start_take(pair);
        if (i % 8 > 5)
            wait_for(&pair->taken);
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
            apply_finish(pair->apply, on_finished, pair);
            wait_for(&pair->finished);
            /* What was reported as received is what RAM is of, or something later. */
            g_assert_cmpuint(pair->finish_epoch, >=, received);
            g_assert_cmpuint(pair->finish_epoch, ==, pair->applied);
            if (pair->applied > 0 && pair->applied == pair->epoch)
                check_contents(pair);
            break;
        }
        }
    }
}

/* The connection ends: both sides say so, and what was complete stays. */
static void test_connection_lost(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    wait_for(&pair->synchronised);
    take(pair);
    take(pair);
    shutdown(pair->fds[0], SHUT_RDWR);
    while (!pair->apply_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->apply_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
    memset(pair->primary->guest, 9, VM_PAGE_SIZE);
    guint64 kept = pair->epoch;
    g_autofree guint8 *kept_ram = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    start_take(pair);
    while (!pair->capture_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->capture_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
    apply_finish(pair->apply, on_finished, pair);
    wait_for(&pair->finished);
    g_assert_cmpuint(pair->finish_epoch, ==, kept);
    g_assert_cmpmem(pair->secondary->guest, PAGES * VM_PAGE_SIZE, kept_ram, PAGES * VM_PAGE_SIZE);
}

/* A first checkpoint that is not complete is none. */
static void test_finish_without_checkpoint(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    pair->finish_epoch = 1;
    apply_finish(pair->apply, on_finished, pair);
    wait_for(&pair->finished);
    g_assert_cmpuint(pair->finish_epoch, ==, 0);
    g_assert_null(pair->apply_error);
}

/* One that its owner can't use is not there, and an error of the stream. */
static void test_unusable(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    take(pair);
    g_autofree guint8 *first = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    memset(pair->primary->guest, 77, 8 * VM_PAGE_SIZE);
    unusable_epoch = 2;
    start_take(pair);
    while (!pair->apply_error)
        g_main_context_iteration(NULL, TRUE);
    unusable_epoch = 0;
    g_assert_error(pair->apply_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_assert_cmpuint(pair->received, ==, 1);
    apply_finish(pair->apply, on_finished, pair);
    wait_for(&pair->finished);
    g_assert_cmpuint(pair->finish_epoch, ==, 1);
    g_assert_cmpmem(pair->secondary->guest, PAGES * VM_PAGE_SIZE, first, PAGES * VM_PAGE_SIZE);
}

/* One that waits to be allowed is not there: RAM stays that of the one before. */
static void test_allowed(gconstpointer data)
{
    gboolean allowed = GPOINTER_TO_INT(data);
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    apply_allow(pair->apply, 1);
    fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    take(pair);
    g_autofree guint8 *first = g_memdup2(pair->at_pause, PAGES * VM_PAGE_SIZE);
    memset(pair->primary->guest, 77, 8 * VM_PAGE_SIZE);
    start_take(pair);
    wait_for(&pair->sent);
    if (allowed)
        apply_allow(pair->apply, 2);
    while (allowed && pair->applied != 2)
        g_main_context_iteration(NULL, TRUE);
    apply_finish(pair->apply, on_finished, pair);
    wait_for(&pair->finished);
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
    Pair *pair = data;
    g_autofree guint8 *buf = g_malloc(16384);
    guint32 count = 0;
    do {
        count++;
        for (guint page = 0; page < 64; page++)
            memcpy(pair->primary->guest + page * VM_PAGE_SIZE, &count, sizeof(count));
    } while (recv(pair->fds[1], buf, 16384, 0) > 0);
    return NULL;
}

static gboolean write_all(gpointer opaque, const guint8 *bytes, gsize len, GError **error)
{
    return colo_fd_write_all(GPOINTER_TO_INT(opaque), bytes, len, error);
}

/* What an apply does first, where there is none. */
static void tell_base(Pair *pair)
{
    g_autoptr(GError) error = NULL;
    base_send(&pair->secondary->ram, 1, write_all, GINT_TO_POINTER(pair->fds[1]), &error);
    g_assert_no_error(error);
}

static void test_no_converge(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    g_autoptr(GError) error = NULL;
    replace_sockets(pair);
    tell_base(pair);
    int narrow = 1;
    g_assert_cmpint(setsockopt(pair->fds[0], SOL_SOCKET, SO_SNDBUF, &narrow, sizeof(narrow)), ==,
                    0);
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.patience_us = 0;
    tuning.patience_rounds = 3;
    capture_set_tuning(pair->capture, &tuning);
    fill(pair->primary); /* else the first round could be short enough to need no reader */
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
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    replace_sockets(pair);
    tell_base(pair);
    g_autoptr(GError) error = NULL;
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    fill(pair->primary);
    capture_synchronise(pair->capture, 0);
    /* Nobody reads: 4 MiB don't fit the socket, so the thread is or will be stuck in it. */
    start_take(pair);
    wait_for(&pair->taken);
    g_assert_false(pair->sent);
    /* Now somebody does. */
    pair->apply = apply_new(&pair->secondary->ram, pair->fds[1], &apply_callbacks, pair, &error);
    g_assert_no_error(error);
    while (pair->applied != pair->epoch)
        g_main_context_iteration(NULL, TRUE);
    check_contents(pair);
}

static void test_other_ram_refused(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    g_clear_pointer(&pair->apply, apply_free);
    g_autoptr(GError) error = NULL;
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    pair->secondary->ram.id = "q35.ram";
    pair->apply = apply_new(&pair->secondary->ram, fds[0], &apply_callbacks, pair, &error);
    g_assert_no_error(error);
    Capture *other =
        capture_new(&pair->primary->ram, pair->tracker, fds[1], &capture_callbacks, pair, &error);
    g_assert_no_error(error);
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

/* ---- What the secondary has already ---- */

/* Makes a pair anew whose RAM is as it is, as after a lost link. */
static void pair_again(Pair *pair)
{
    g_autoptr(GError) error = NULL;
    replace_sockets(pair);
    pair->synchronised = FALSE;
    pair->percent = 0;
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    pair->apply = apply_new(&pair->secondary->ram, pair->fds[1], &apply_callbacks, pair, &error);
    g_assert_no_error(error);
}

/* Only what differs is sent: other pages, pages that one side lacks, on either side. */
static void test_base(gconstpointer data)
{
    g_autoptr(Pair) pair = pair_new(method_of(data));
    if (!pair)
        return;
    fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    take(pair);
    g_assert_cmpuint(pair->stats.same_pages, ==, 0);
    memset(pair->secondary->guest + 3 * VM_PAGE_SIZE, 99, 2 * VM_PAGE_SIZE); /* a copy that ran */
    memset(pair->secondary->guest + (PAGES - 2) * VM_PAGE_SIZE, 99, VM_PAGE_SIZE);
    memset(pair->primary->guest + 9 * VM_PAGE_SIZE, 77, VM_PAGE_SIZE);
    memset(pair->primary->guest + (PAGES - 1) * VM_PAGE_SIZE, 77, VM_PAGE_SIZE);
    memset(pair->primary->guest + 12 * VM_PAGE_SIZE, 0, VM_PAGE_SIZE);
    pair_again(pair);
    capture_synchronise(pair->capture, PAGES);
    wait_for(&pair->synchronised);
    take(pair);
    /* The check has read all pages of both, so none is a hole. */
    g_assert_cmpuint(pair->stats.same_pages, ==, PAGES - 6);
    g_assert_cmpuint(pair->stats.bytes, <, 8 * VM_PAGE_SIZE);
}

static gssize read_some(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    (void)error;
    return recv(GPOINTER_TO_INT(opaque), buf, len, 0);
}

/* How the stream names `page` next. */
static guint next_of_page(StreamReader *reader, guint64 page)
{
    g_autoptr(GError) error = NULL;
    StreamRecord record;
    do {
        gboolean ok = stream_reader_next(reader, &record, &error);
        g_assert_no_error(error);
        g_assert_true(ok);
    } while (page < record.first || page - record.first >= record.count);
    return record.type;
}

/* A page that was named, and is then again what the secondary had before, is sent. */
static void test_base_is_old(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    g_autoptr(GError) error = NULL;
    replace_sockets(pair);
    fill(pair->primary);
    fill(pair->secondary);
    tell_base(pair);
    guint8 *pages = pair->primary->guest + 5 * VM_PAGE_SIZE;
    guint8 fifth = pages[0], sixth = pages[VM_PAGE_SIZE];
    memset(pages, 200, VM_PAGE_SIZE);
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = 0;
    capture_set_tuning(pair->capture, &tuning);
    g_autoptr(StreamReader) reader =
        stream_reader_new("pc.ram", PAGES * VM_PAGE_SIZE, read_some, GINT_TO_POINTER(pair->fds[1]));
    capture_synchronise(pair->capture, 0);
    g_assert_cmpuint(next_of_page(reader, 4), ==, STREAM_SAME);
    g_assert_cmpuint(next_of_page(reader, 5), ==, STREAM_PAGES);
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_SAME);
    memset(pages, fifth, VM_PAGE_SIZE);
    g_assert_cmpuint(next_of_page(reader, 5), ==, STREAM_PAGES);
    pages[VM_PAGE_SIZE] = (guint8)(sixth + 1);
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_PAGES);
    pages[VM_PAGE_SIZE] = sixth;
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_PAGES);
}

/* A secondary that has told nothing is waited for, until the capture ends. */
static void test_base_never_comes(void)
{
    g_autoptr(Pair) pair = pair_new(DIRTY_METHOD_AUTO);
    g_autoptr(GError) error = NULL;
    replace_sockets(pair);
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    capture_synchronise(pair->capture, PAGES);
    guint8 nonsense[64] = "not a base";
    g_assert_true(colo_fd_write_all(pair->fds[1], nonsense, 8, &error));
    g_main_context_iteration(NULL, FALSE);
    g_assert_false(pair->synchronised);
    g_assert_true(colo_fd_write_all(pair->fds[1], nonsense + 8, sizeof(nonsense) - 8, &error));
    while (!pair->capture_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->capture_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_assert_nonnull(strstr(pair->capture_error->message, "the secondary's base"));
    g_clear_error(&pair->capture_error);

    replace_sockets(pair);
    pair->capture = capture_new(&pair->primary->ram, pair->tracker, pair->fds[0],
                                &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    capture_synchronise(pair->capture, PAGES);
    g_clear_pointer(&pair->capture, capture_free);
    g_assert_false(pair->synchronised);
    g_assert_no_error(pair->capture_error);
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
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree char *base = g_strdup_printf("/checkpoint/base/%s", methods[i]);
        g_test_add_data_func(base, methods[i], test_base);
    }
    g_test_add_func("/checkpoint/base-is-old", test_base_is_old);
    g_test_add_func("/checkpoint/base-never-comes", test_base_never_comes);
    g_test_add_func("/checkpoint/without-synchronisation", test_without_synchronisation);
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
