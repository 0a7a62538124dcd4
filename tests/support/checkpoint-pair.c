/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/checkpoint-pair.h"

#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/base.h"
#include "common/fd.h"

#define PAGES CHECKPOINT_PAIR_PAGES

/* ---- A guest: a thread that writes, and can be paused ---- */

struct CheckpointGuest {
    TestRam *ram;
    GThread *thread;
    GMutex lock;
    GCond changed;
    gboolean pause, paused, quit;
    guint hot_pages; /* the first pages, written all the time */
};

static gpointer guest_run(gpointer data)
{
    CheckpointGuest *guest = data;
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

static CheckpointGuest *guest_new(TestRam *ram, guint hot_pages)
{
    CheckpointGuest *guest = g_new0(CheckpointGuest, 1);
    guest->ram = ram;
    guest->hot_pages = hot_pages;
    g_mutex_init(&guest->lock);
    g_cond_init(&guest->changed);
    guest->thread = g_thread_new("guest", guest_run, guest);
    return guest;
}

static void guest_set_paused(CheckpointGuest *guest, gboolean pause)
{
    g_mutex_lock(&guest->lock);
    guest->pause = pause;
    g_cond_broadcast(&guest->changed);
    while (guest->paused != pause)
        g_cond_wait(&guest->changed, &guest->lock);
    g_mutex_unlock(&guest->lock);
}

static void guest_free(CheckpointGuest *guest)
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

/* ---- What is reported ---- */

static void on_progress(const SyncProgress *progress, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_cmpfloat(progress->percent, >=, pair->percent);
    g_assert_cmpfloat(progress->percent, <=, 100.0);
    pair->percent = progress->percent;
}

static void on_synchronised(const SyncProgress *progress, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_false(pair->synchronised);
    pair->progress = *progress;
    g_assert_cmpuint(progress->sent_bytes, >=, progress->total_bytes);
    pair->synchronised = TRUE;
}

static void on_taken(const CaptureStats *stats, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_cmpuint(stats->epoch, ==, pair->epoch);
    pair->taken = TRUE;
    if (pair->guest)
        guest_set_paused(pair->guest, FALSE);
}

static void on_dirty_limit(gpointer data)
{
    ((CheckpointPair *)data)->limits++;
}

static void on_sent(const CaptureStats *stats, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_true(pair->taken);
    pair->stats = *stats;
    pair->sent = TRUE;
}

static void on_capture_failed(const GError *error, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_no_error(pair->capture_error);
    pair->capture_error = g_error_copy(error);
}

static void on_received(Checkpoint *checkpoint, gpointer data)
{
    CheckpointPair *pair = data;
    pair->received = checkpoint->epoch;
    g_clear_pointer(&pair->last, checkpoint_unref);
    pair->last = checkpoint_ref(checkpoint);
}

static void on_applied(Checkpoint *checkpoint, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_cmpuint(pair->received, ==, checkpoint->epoch);
    pair->applied = checkpoint->epoch;
}

static void on_apply_failed(const GError *error, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_no_error(pair->apply_error);
    pair->apply_error = g_error_copy(error);
}

static const CaptureCallbacks capture_callbacks = {
    .progress = on_progress,
    .synchronised = on_synchronised,
    .taken = on_taken,
    .sent = on_sent,
    .dirty_limit = on_dirty_limit,
    .failed = on_capture_failed,
};

static guint64 unusable_epoch; /* 0: none is */

void checkpoint_pair_refuse(guint64 epoch)
{
    unusable_epoch = epoch;
}

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

void checkpoint_pair_wait(const gboolean *flag)
{
    while (!*flag)
        g_main_context_iteration(NULL, TRUE);
}

/* ---- A pair ---- */

Capture *checkpoint_pair_capture_new(CheckpointPair *pair, int fd)
{
    g_autoptr(GError) error = NULL;
    Capture *capture =
        capture_new(&pair->primary->ram, pair->tracker, fd, &capture_callbacks, pair, &error);
    g_assert_no_error(error);
    return capture;
}

Apply *checkpoint_pair_apply_new(CheckpointPair *pair, int fd)
{
    g_autoptr(GError) error = NULL;
    Apply *apply = apply_new(&pair->secondary->ram, fd, &apply_callbacks, pair, &error);
    g_assert_no_error(error);
    return apply;
}

CheckpointPair *checkpoint_pair_new(DirtyMethod method)
{
    g_autoptr(GError) error = NULL;
    CheckpointPair *pair = g_new0(CheckpointPair, 1);
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
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    pair->apply = checkpoint_pair_apply_new(pair, pair->fds[1]);
    return pair;
}

void checkpoint_pair_cut(CheckpointPair *pair)
{
    g_clear_pointer(&pair->apply, apply_free);
    g_clear_pointer(&pair->capture, capture_free);
    close(pair->fds[0]);
    close(pair->fds[1]);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair->fds), ==, 0);
}

void checkpoint_pair_free(CheckpointPair *pair)
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

/* Frames that can be told apart by epoch: as many as the epoch modulo 4. */
static GPtrArray *frames_of(guint64 epoch)
{
    GPtrArray *frames = checkpoint_frames_new();
    for (unsigned i = 0; i < epoch % 4; i++) {
        g_autofree char *text = g_strdup_printf("frame %u of %" G_GUINT64_FORMAT, i, epoch);
        checkpoint_frames_add(frames, i, g_bytes_new(text, strlen(text)));
    }
    return frames;
}

/* NULL for every third. */
static GBytes *attachment_of(guint64 epoch)
{
    return epoch % 3 ? g_bytes_new(&epoch, sizeof(epoch)) : NULL;
}

void checkpoint_pair_start_take(CheckpointPair *pair)
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

void checkpoint_pair_check(const CheckpointPair *pair)
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

void checkpoint_pair_take_unchecked(CheckpointPair *pair)
{
    checkpoint_pair_start_take(pair);
    checkpoint_pair_wait(&pair->sent);
    while (pair->applied != pair->epoch) {
        g_assert_no_error(pair->apply_error);
        g_main_context_iteration(NULL, TRUE);
    }
}

void checkpoint_pair_take(CheckpointPair *pair)
{
    checkpoint_pair_take_unchecked(pair);
    checkpoint_pair_check(pair);
}

DirtyMethod checkpoint_pair_method(gconstpointer data)
{
    DirtyMethod method;
    g_assert_true(dirty_method_parse(data, &method));
    return method;
}

void checkpoint_pair_fill(TestRam *ram)
{
    for (guint64 page = 0; page < PAGES / 2; page++)
        memset(ram->guest + page * VM_PAGE_SIZE, (int)(page % 255 + 1), VM_PAGE_SIZE);
}

static gboolean write_all(gpointer opaque, const guint8 *bytes, gsize len, GError **error)
{
    return colo_fd_write_all(GPOINTER_TO_INT(opaque), bytes, len, error);
}

void checkpoint_pair_tell_base(CheckpointPair *pair)
{
    g_autoptr(GError) error = NULL;
    base_send(&pair->secondary->ram, 1, write_all, GINT_TO_POINTER(pair->fds[1]), &error);
    g_assert_no_error(error);
}

void checkpoint_pair_again(CheckpointPair *pair)
{
    checkpoint_pair_cut(pair);
    pair->synchronised = FALSE;
    pair->percent = 0;
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    pair->apply = checkpoint_pair_apply_new(pair, pair->fds[1]);
}

static void on_finished(Checkpoint *checkpoint, gpointer data)
{
    CheckpointPair *pair = data;
    g_assert_false(pair->finished);
    pair->finish_epoch = checkpoint ? checkpoint->epoch : 0;
    pair->finished = TRUE;
}

void checkpoint_pair_finish(CheckpointPair *pair)
{
    apply_finish(pair->apply, on_finished, pair);
    checkpoint_pair_wait(&pair->finished);
}

void checkpoint_pair_run_guest(CheckpointPair *pair, guint hot_pages)
{
    pair->guest = guest_new(pair->primary, hot_pages);
}
