/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint/ without threads and sockets: each thing that an engine's thread would do is a step of
 * the world, after a time by chance. What the engines promise is kept, and demanded. RAM changes
 * only while the VM is paused, a checkpoint counts whole or not at all, and epochs rise by one.
 */
#include <string.h>
#include <sys/socket.h>

#include "checkpoint/checkpoint.h"
#include "tests/world/world.h"

G_DEFINE_QUARK(checkpoint_error, checkpoint_error)

/* ---- What goes through the stream ---- */

typedef struct {
    gboolean checkpoint; /* else pages that are sent ahead */
    guint32 named;       /* a bit for each page */
    guint32 ram[WORLD_PAGES];
    guint64 epoch;
    GBytes *state, *attachment;
    GPtrArray *frames;
} Parcel;

static void parcel_free(gpointer data)
{
    Parcel *parcel = data;
    g_clear_pointer(&parcel->state, g_bytes_unref);
    g_clear_pointer(&parcel->attachment, g_bytes_unref);
    g_clear_pointer(&parcel->frames, g_ptr_array_unref);
    g_free(parcel);
}

/* ---- Capture ---- */

struct Capture {
    WorldHost *host;
    SimVm *vm;
    CaptureCallbacks callbacks;
    gpointer user_data;
    Stream *stream;
    int fd;
    guint32 added; /* pages of capture_add_pages() */
    gboolean failed;
    Parcel *parcel;
    CaptureStats stats;
    GSource *step;
    guint64 dirty_limit, sync_rate;
    ColoTime start;
    GSource *look; /* it will be found that the limit is reached */
};

static void capture_fails(Capture *capture)
{
    g_autoptr(GError) error =
        g_error_new_literal(CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO, "the connection has ended");
    if (!capture->failed) {
        capture->failed = TRUE;
        capture->callbacks.failed(error, capture->user_data);
    }
}

static void on_peer_stream(gpointer item, gpointer user_data)
{
    /* Nothing is sent this way; its end is the link's, which reports it. */
    (void)item;
    (void)user_data;
}

Capture *capture_new(const VmRam *ram, DirtyTracker *tracker, int fd,
                     const CaptureCallbacks *callbacks, gpointer user_data, GError **error)
{
    (void)tracker;
    (void)error;
    Capture *capture = g_new0(Capture, 1);
    capture->host = world.current;
    capture->vm = sim_vm_of(ram);
    capture->callbacks = *callbacks;
    capture->user_data = user_data;
    capture->fd = fd;
    capture->stream = world_stream(fd);
    g_assert_nonnull(capture->stream);
    world_stream_listen(capture->stream, on_peer_stream, capture);
    capture->vm->capture = capture;
    return capture;
}

void capture_free(Capture *capture)
{
    if (!capture)
        return;
    if (capture->vm->capture == capture)
        capture->vm->capture = NULL;
    world_source_clear(&capture->step);
    world_source_clear(&capture->look);
    if (capture->parcel)
        parcel_free(capture->parcel);
    shutdown(capture->fd, 2);
    g_free(capture);
}

static Parcel *harvest(Capture *capture, guint32 which)
{
    Parcel *parcel = g_new0(Parcel, 1);
    parcel->named = which;
    memcpy(parcel->ram, capture->vm->ram, sizeof(parcel->ram));
    capture->vm->dirty = 0;
    return parcel;
}

static gboolean on_synchronised(gpointer data)
{
    Capture *capture = data;
    SyncProgress progress = {.round = 1, .total_bytes = WORLD_PAGES, .percent = 100};
    world_source_clear(&capture->step);
    if (capture->failed || !world_stream_is_up(capture->stream)) {
        capture_fails(capture);
        return G_SOURCE_REMOVE;
    }
    capture->callbacks.progress(&progress, capture->user_data);
    capture->callbacks.synchronised(&progress, capture->user_data);
    return G_SOURCE_REMOVE;
}

/* What the peer has already is only hashed, by its base (checkpoint/base.c); the rest is sent. */
static gint64 sync_us(const Capture *capture)
{
    const SimVm *peer = world.host[!capture->host->index].vm;
    gint64 us = 0;
    for (guint page = 0; page < WORLD_PAGES; page++)
        us += peer->ram[page] == capture->vm->ram[page] ? world.page_us / 50 : world.page_us;
    return us;
}

void capture_synchronise(Capture *capture, guint64 pause_pages)
{
    (void)pause_pages;
    gint64 us = world_between(5000, 2 * G_USEC_PER_SEC);
    if (world.page_us)
        us = sync_us(capture);
    if (capture->sync_rate)
        us = MAX(us, (gint64)(WORLD_PAGES * VM_PAGE_SIZE * G_USEC_PER_SEC / capture->sync_rate));
    world_stream_send(capture->stream, harvest(capture, G_MAXUINT32), parcel_free, us);
    us = MAX(us, colo_time_diff_us(capture->start, colo_time_now()));
    capture->step = world_after(capture->host, us, on_synchronised, capture);
}

void capture_set_start(Capture *capture, ColoTime start)
{
    capture->start = start;
}

static gboolean on_sent(gpointer data)
{
    Capture *capture = data;
    world_source_clear(&capture->step);
    Parcel *parcel = g_steal_pointer(&capture->parcel);
    capture->stats.transfer_us = world_between(100, 20000);
    if (capture->failed ||
        !world_stream_send(capture->stream, parcel, parcel_free, capture->stats.transfer_us)) {
        capture_fails(capture);
        return G_SOURCE_REMOVE;
    }
    capture->stats.bytes = capture->stats.plain_bytes = VM_PAGE_SIZE;
    capture->callbacks.sent(&capture->stats, capture->user_data);
    return G_SOURCE_REMOVE;
}

static gboolean on_taken(gpointer data)
{
    Capture *capture = data;
    Parcel *parcel = capture->parcel;
    world_source_clear(&capture->step);
    if (capture->vm->vm.running)
        world_fail("%s: a checkpoint is copied from a VM that runs", capture->host->name);
    guint32 which = capture->vm->dirty | capture->added;
    capture->added = 0;
    parcel->named = which;
    memcpy(parcel->ram, capture->vm->ram, sizeof(parcel->ram));
    capture->vm->dirty = 0;
    capture->stats.dirty_pages = (guint64)__builtin_popcount(which);
    capture->step = world_after(capture->host, world_between(100, 5000), on_sent, capture);
    capture->callbacks.taken(&capture->stats, capture->user_data);
    return G_SOURCE_REMOVE;
}

void capture_take(Capture *capture, guint64 epoch, GBytes *device_state, GPtrArray *frames,
                  GBytes *attachment)
{
    g_assert_null(capture->parcel);
    world_source_clear(&capture->step);
    Parcel *parcel = capture->parcel = g_new0(Parcel, 1);
    parcel->checkpoint = TRUE;
    parcel->epoch = epoch;
    parcel->state = g_bytes_ref(device_state);
    parcel->frames = frames ? g_ptr_array_ref(frames) : g_ptr_array_new();
    parcel->attachment = attachment ? g_bytes_ref(attachment) : NULL;
    capture->stats = (CaptureStats){.epoch = epoch};
    world_note_checkpoint(capture->host, epoch, capture->vm->history->position);
    capture->step = world_after(capture->host, world_between(100, 4000), on_taken, capture);
}

void capture_add_pages(Capture *capture, guint64 first, guint64 count)
{
    if (count > WORLD_PAGES || first > WORLD_PAGES - count)
        world_fail("%s: pages that RAM doesn't have are to be sent", capture->host->name);
    for (guint64 page = first; page < first + count; page++)
        capture->added |= 1u << page;
}

gboolean capture_awaits_base(const Capture *capture)
{
    (void)capture;
    return FALSE;
}

guint64 capture_dirty_pages(const Capture *capture)
{
    return (guint64)__builtin_popcount(capture->vm->dirty);
}

/* Its thread looks so often. */
#define LOOK_US (10 * 1000)

static gboolean on_looked(gpointer data)
{
    Capture *capture = data;
    world_source_clear(&capture->look);
    if (capture->dirty_limit && capture_dirty_pages(capture) >= capture->dirty_limit) {
        world_sometimes("the dirty-limit is reached");
        capture->callbacks.dirty_limit(capture->user_data);
    }
    return G_SOURCE_REMOVE;
}

void world_capture_written(Capture *capture)
{
    if (capture->dirty_limit && !capture->look &&
        capture_dirty_pages(capture) == capture->dirty_limit)
        capture->look = world_after(capture->host, world_between(0, LOOK_US), on_looked, capture);
}

void capture_set_sync_rate(Capture *capture, guint64 bytes_per_s)
{
    capture->sync_rate = bytes_per_s;
}

void capture_set_packing(Capture *capture, CapturePack packing)
{
    (void)capture;
    (void)packing;
}

void capture_set_dirty_limit(Capture *capture, guint64 pages)
{
    capture->dirty_limit = pages;
}

/* ---- Apply ---- */

typedef struct {
    Checkpoint checkpoint;
    guint references;
} Counted;

Checkpoint *checkpoint_ref(Checkpoint *checkpoint)
{
    ((Counted *)checkpoint)->references++;
    return checkpoint;
}

void checkpoint_unref(Checkpoint *checkpoint)
{
    if (--((Counted *)checkpoint)->references > 0)
        return;
    g_bytes_unref(checkpoint->device_state);
    g_ptr_array_unref(checkpoint->frames);
    if (checkpoint->attachment)
        g_bytes_unref(checkpoint->attachment);
    g_free(checkpoint);
}

struct Apply {
    WorldHost *host;
    SimVm *vm;
    ApplyCallbacks callbacks;
    gpointer user_data;
    Stream *stream;
    guint64 allowed, last_epoch;
    gboolean limited; /* apply_allow() was called */
    guint32 staged;
    guint32 ram[WORLD_PAGES];
    guint32 told[WORLD_PAGES]; /* RAM as the session began: what is equal to it need not be sent */
    gboolean synchronised;
    GQueue *arrived;  /* of Parcel* */
    Parcel *verified; /* waits to be allowed, or is being applied */
    Checkpoint *current, *last;
    gboolean stopped, broken;
    void (*done)(Checkpoint *checkpoint, gpointer user_data);
    gpointer done_data;
    GSource *step;
};

static void next(Apply *apply);

static void apply_fails(Apply *apply, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO, why);
    if (apply->stopped || apply->broken)
        return;
    apply->broken = TRUE;
    apply->callbacks.failed(error, apply->user_data);
}

static void on_arrived(gpointer item, gpointer user_data)
{
    Apply *apply = user_data;
    if (!item) { /* the link reports it */
        apply->host->cut_short = world_stream_is_under_way(apply->stream) ||
                                 !g_queue_is_empty(apply->arrived) ||
                                 (apply->verified && !apply->current);
        return;
    }
    g_queue_push_tail(apply->arrived, item);
    if (!apply->step && !apply->verified)
        next(apply);
}

Apply *apply_new(const VmRam *ram, int fd, const ApplyCallbacks *callbacks, gpointer user_data,
                 GError **error)
{
    (void)error;
    Apply *apply = g_new0(Apply, 1);
    apply->host = world.current;
    apply->vm = sim_vm_of(ram);
    apply->callbacks = *callbacks;
    apply->user_data = user_data;
    apply->arrived = g_queue_new();
    apply->stream = world_stream(fd);
    g_assert_nonnull(apply->stream);
    apply->host->copy_stopped = apply->host->cut_short = FALSE;
    memcpy(apply->told, apply->vm->ram, sizeof(apply->told));
    world_stream_listen(apply->stream, on_arrived, apply);
    return apply;
}

static void finish_if_stopped(Apply *apply)
{
    if (!apply->stopped || apply->step || !apply->done)
        return;
    void (*done)(Checkpoint *, gpointer) = apply->done;
    apply->done = NULL;
    done(apply->last, apply->done_data);
}

static gboolean on_next(gpointer data)
{
    Apply *apply = data;
    world_source_clear(&apply->step);
    next(apply);
    return G_SOURCE_REMOVE;
}

/* The pages of a checkpoint reach RAM. */
static gboolean on_written(gpointer data)
{
    Apply *apply = data;
    world_source_clear(&apply->step);
    if (apply->vm->vm.running)
        world_fail("%s: RAM changes under a VM that runs", apply->host->name);
    for (guint page = 0; page < WORLD_PAGES; page++)
        if (apply->staged & (1u << page))
            apply->vm->ram[page] = apply->ram[page];
    apply->staged = 0;
    if (apply->last)
        checkpoint_unref(apply->last);
    apply->last = g_steal_pointer(&apply->current);
    g_clear_pointer(&apply->verified, parcel_free);
    if (apply->stopped) {
        finish_if_stopped(apply);
        return G_SOURCE_REMOVE;
    }
    apply->step = world_after(apply->host, 0, on_next, apply); /* if the callback doesn't free it */
    Checkpoint *applied = checkpoint_ref(apply->last);
    applied->apply_us = 1000;
    apply->callbacks.applied(applied, apply->user_data);
    checkpoint_unref(applied);
    return G_SOURCE_REMOVE;
}

static gboolean on_complete(gpointer data)
{
    Apply *apply = data;
    Parcel *parcel = apply->verified;
    world_source_clear(&apply->step);
    Counted *counted = g_new0(Counted, 1);
    counted->references = 2;
    Checkpoint *checkpoint = &counted->checkpoint;
    checkpoint->epoch = parcel->epoch;
    checkpoint->device_state = g_bytes_ref(parcel->state);
    checkpoint->frames = g_ptr_array_ref(parcel->frames);
    checkpoint->attachment = parcel->attachment ? g_bytes_ref(parcel->attachment) : NULL;
    checkpoint->pages = 1;
    apply->current = checkpoint;
    world_stop_received(apply->host, parcel->attachment);
    /* From here on nothing but death keeps it from being applied. */
    apply->step = world_after(apply->host, world_between(100, 3000), on_written, apply);
    apply->callbacks.received(checkpoint, apply->user_data);
    checkpoint_unref(checkpoint);
    return G_SOURCE_REMOVE;
}

static void complete_if_allowed(Apply *apply)
{
    g_autoptr(GError) error = NULL;
    if (!apply->verified || apply->current || apply->step || apply->stopped ||
        (apply->limited && apply->verified->epoch > apply->allowed))
        return;
    Checkpoint look = {.epoch = apply->verified->epoch,
                       .device_state = apply->verified->state,
                       .frames = apply->verified->frames,
                       .attachment = apply->verified->attachment};
    if (apply->callbacks.check && !apply->callbacks.check(&look, &error)) {
        apply_fails(apply, error->message);
        return;
    }
    apply->step = world_after(apply->host, world_between(0, 500), on_complete, apply);
}

/* What the primary was told of is not sent: if somebody writes to it after that, it stays so. */
static guint32 left_out(const Apply *apply, const Parcel *parcel)
{
    guint32 equal = 0;
    for (guint page = 0; !apply->synchronised && page < WORLD_PAGES; page++)
        if (parcel->ram[page] == apply->told[page])
            equal |= 1u << page;
    return equal;
}

static void take_pages(Apply *apply, const Parcel *parcel)
{
    guint32 equal = left_out(apply, parcel), sent = parcel->named & ~equal;
    if (equal && apply->vm->left)
        world_sometimes("a VM that was kept has pages that need not be sent");
    for (guint page = 0; page < WORLD_PAGES; page++)
        if (sent & (1u << page))
            apply->ram[page] = parcel->ram[page];
        else if (equal & (1u << page))
            apply->ram[page] = apply->vm->ram[page];
    apply->staged |= sent;
    apply->synchronised = TRUE;
}

static void next(Apply *apply)
{
    while (!apply->stopped && !apply->broken && !apply->verified && !apply->current) {
        Parcel *parcel = g_queue_pop_head(apply->arrived);
        if (!parcel)
            return;
        take_pages(apply, parcel);
        if (apply->last_epoch == 0) { /* RAM has no contents to keep before the first one */
            if (apply->vm->vm.running)
                world_fail("%s: a synchronisation writes under a VM that runs", apply->host->name);
            memcpy(apply->vm->ram, apply->ram, sizeof(apply->vm->ram));
        }
        if (!parcel->checkpoint) {
            parcel_free(parcel);
            continue;
        }
        if (apply->last_epoch && parcel->epoch != apply->last_epoch + 1)
            world_fail("checkpoint %" G_GUINT64_FORMAT " follows %" G_GUINT64_FORMAT, parcel->epoch,
                       apply->last_epoch);
        apply->last_epoch = parcel->epoch;
        apply->verified = parcel;
        complete_if_allowed(apply);
    }
}

void apply_allow(Apply *apply, guint64 epoch)
{
    apply->limited = TRUE;
    apply->allowed = epoch;
    complete_if_allowed(apply);
}

static gboolean on_stopped(gpointer data)
{
    Apply *apply = data;
    world_source_clear(&apply->step);
    finish_if_stopped(apply);
    return G_SOURCE_REMOVE;
}

void apply_finish(Apply *apply, void (*done)(Checkpoint *checkpoint, gpointer user_data),
                  gpointer user_data)
{
    apply->stopped = TRUE;
    apply->done = done;
    apply->done_data = user_data;
    world_link_engine_ends(apply->host);
    if (!apply->current) {
        world_source_clear(&apply->step);
        apply->step = world_after(apply->host, world_between(0, 500), on_stopped, apply);
    } else {
        world_sometimes("a checkpoint is applied while it is taken over from");
    }
}

void apply_free(Apply *apply)
{
    if (!apply)
        return;
    world_source_clear(&apply->step);
    if (apply->stream)
        world_stream_listen(apply->stream, NULL, NULL);
    if (apply->current) {
        /* What is complete is applied, also if nobody waits for it. */
        for (guint page = 0; page < WORLD_PAGES; page++)
            if (apply->staged & (1u << page))
                apply->vm->ram[page] = apply->ram[page];
        checkpoint_unref(apply->current);
    }
    if (apply->last)
        checkpoint_unref(apply->last);
    if (apply->verified)
        parcel_free(apply->verified);
    g_queue_free_full(apply->arrived, parcel_free);
    g_free(apply);
}
