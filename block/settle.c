/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/settle.h"

#include "block/set.h"

/* What is written out at a time: a tenth of a second of slow storage. */
#define PIECE_BYTES (4u << 20)

/* A writer waits while more is noted than the medium takes in this time. An epoch may have as much
 * again. */
#define LIMIT_US (G_USEC_PER_SEC / 2)

/* The rate that is assumed before it is measured; the least, however slow the medium is; the most
 * that may be noted, and that an epoch may have. */
#define ASSUMED_BYTES   (G_GUINT64_CONSTANT(16) << 20)
#define LIMIT_MIN_BYTES PIECE_BYTES
#define LIMIT_MAX_BYTES (G_GUINT64_CONSTANT(64) << 20)
#define EPOCH_MAX_BYTES (G_GUINT64_CONSTANT(1) << 30)

/* How long its rate is measured, and by how much at least. */
#define MEASURE_US    (G_USEC_PER_SEC / 4)
#define MEASURE_BYTES PIECE_BYTES

/* Between two passes: what many small epochs write is written out together. */
#define GAP_US (G_USEC_PER_SEC / 10)

/* How often a waiting writer looks. */
#define LOOK_US (G_USEC_PER_SEC / 5)

typedef struct {
    guint32 *bytes; /* of each piece, noted and not yet written out */
    guint64 pieces;
    gboolean touched; /* since it was last synced: the thread's own */
} Noted;

struct Settler {
    DiskSet *set;
    guint64 limit_max, epoch_max;
    GThread *thread;
    GMutex mutex; /* everything below */
    GCond changed;
    Noted *noted; /* of each disk */
    guint64 total;
    guint64 settled;    /* bytes, ever */
    guint64 taken;      /* what the medium takes in LIMIT_US: bytes */
    gint64 measured_us; /* the thread's own: the measuring under way */
    guint64 measured_bytes;
    gboolean is_measured; /* `taken`, ever */
    gboolean stop;
};

/* The next piece of a disk from `from` on that has anything; pieces if none has. */
static guint64 next_piece(const Noted *noted, guint64 from)
{
    while (from < noted->pieces && noted->bytes[from] == 0)
        from++;
    return from;
}

static guint64 limit_of(const Settler *settler)
{
    return MIN(settler->taken, settler->limit_max);
}

/* The medium has taken `bytes` in `us`. */
static void measure(Settler *settler, guint64 bytes, gint64 us)
{
    settler->measured_bytes += bytes;
    settler->measured_us += us;
    if (settler->measured_us < MEASURE_US || settler->measured_bytes < MEASURE_BYTES)
        return;
    guint64 taken = settler->measured_bytes * LIMIT_US / (guint64)settler->measured_us;
    if (settler->is_measured)
        taken = (settler->taken + taken) / 2;
    settler->taken = CLAMP(taken, LIMIT_MIN_BYTES, EPOCH_MAX_BYTES);
    settler->is_measured = TRUE;
    settler->measured_bytes = 0;
    settler->measured_us = 0;
}

/* Writes out what is noted of one disk. The mutex is held but for the storage's own time. */
static void pass_disk(Settler *settler, guint index)
{
    Noted *noted = &settler->noted[index];
    Image *image = &settler->set->disks[index].image;
    /* Less tells how long one request takes, and not how much the medium takes. */
    gboolean measures = settler->total >= MIN(MEASURE_BYTES, limit_of(settler) / 4);
    gint64 began = g_get_monotonic_time();
    for (guint64 piece = next_piece(noted, 0); piece < noted->pieces && !settler->stop;
         piece = next_piece(noted, piece + 1)) {
        guint32 bytes = noted->bytes[piece];
        noted->bytes[piece] = 0;
        noted->touched = TRUE;
        g_mutex_unlock(&settler->mutex);
        image_settle(image, PIECE_BYTES, piece * PIECE_BYTES);
        g_mutex_lock(&settler->mutex);
        settler->total -= bytes;
        settler->settled += bytes;
        g_cond_broadcast(&settler->changed);
        gint64 now = g_get_monotonic_time();
        if (measures)
            measure(settler, bytes, now - began);
        began = now;
    }
    if (!noted->touched || settler->stop)
        return;
    noted->touched = FALSE;
    g_mutex_unlock(&settler->mutex);
    image_sync(image);
    g_mutex_lock(&settler->mutex);
    if (measures)
        measure(settler, 0, g_get_monotonic_time() - began);
}

static gpointer settle_thread(gpointer data)
{
    Settler *settler = data;
    g_mutex_lock(&settler->mutex);
    while (!settler->stop) {
        if (settler->total == 0) {
            g_cond_wait(&settler->changed, &settler->mutex);
            continue;
        }
        gint64 until = g_get_monotonic_time() + GAP_US;
        while (!settler->stop && settler->total <= limit_of(settler) &&
               g_cond_wait_until(&settler->changed, &settler->mutex, until))
            ;
        for (guint i = 0; i < settler->set->n_disks && !settler->stop; i++)
            pass_disk(settler, i);
    }
    g_mutex_unlock(&settler->mutex);
    return NULL;
}

Settler *settler_new(DiskSet *set)
{
    Settler *settler = g_new0(Settler, 1);
    settler->set = set;
    guint64 most = set->options.settle_bytes;
    settler->limit_max = most ? most : LIMIT_MAX_BYTES;
    settler->epoch_max = most ? most : EPOCH_MAX_BYTES;
    settler->taken = ASSUMED_BYTES;
    settler->noted = g_new0(Noted, set->n_disks);
    for (guint i = 0; i < set->n_disks; i++) {
        Noted *noted = &settler->noted[i];
        noted->pieces = (set->disks[i].image.size + PIECE_BYTES - 1) / PIECE_BYTES;
        noted->bytes = g_new0(guint32, noted->pieces + 1);
    }
    g_mutex_init(&settler->mutex);
    g_cond_init(&settler->changed);
    settler->thread = g_thread_new("disk-settle", settle_thread, settler);
    return settler;
}

void settler_free(Settler *settler)
{
    if (!settler)
        return;
    g_mutex_lock(&settler->mutex);
    settler->stop = TRUE;
    g_cond_broadcast(&settler->changed);
    g_mutex_unlock(&settler->mutex);
    g_thread_join(settler->thread);
    for (guint i = 0; i < settler->set->n_disks; i++)
        g_free(settler->noted[i].bytes);
    g_free(settler->noted);
    g_mutex_clear(&settler->mutex);
    g_cond_clear(&settler->changed);
    g_free(settler);
}

void settler_note(Settler *settler, guint index, guint64 offset, guint64 len)
{
    Noted *noted = &settler->noted[index];
    g_mutex_lock(&settler->mutex);
    for (guint64 end = offset + len; offset < end;) {
        guint64 piece = offset / PIECE_BYTES;
        guint64 stop = MIN(end, (piece + 1) * PIECE_BYTES);
        /* What is written over is written out once. */
        guint32 bytes = (guint32)MIN(stop - offset, PIECE_BYTES - noted->bytes[piece]);
        noted->bytes[piece] += bytes;
        settler->total += bytes;
        offset = stop;
    }
    g_cond_broadcast(&settler->changed);
    g_mutex_unlock(&settler->mutex);
}

void settler_wait(Settler *settler, void (*step)(gpointer user_data), gpointer user_data,
                  const gint *stop)
{
    g_mutex_lock(&settler->mutex);
    guint64 seen = settler->settled;
    while (settler->total > limit_of(settler) && !(stop && g_atomic_int_get(stop))) {
        g_cond_wait_until(&settler->changed, &settler->mutex, g_get_monotonic_time() + LOOK_US);
        if (settler->settled == seen || !step)
            continue;
        seen = settler->settled;
        g_mutex_unlock(&settler->mutex);
        step(user_data);
        g_mutex_lock(&settler->mutex);
    }
    g_mutex_unlock(&settler->mutex);
}

guint64 settler_epoch_bytes(Settler *settler)
{
    g_mutex_lock(&settler->mutex);
    guint64 taken = settler->taken;
    g_mutex_unlock(&settler->mutex);
    return MIN(taken, settler->epoch_max);
}
