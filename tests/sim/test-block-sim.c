/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The replicated disk against a model: byte arrays. A primary and a replica run in this process.
 * The test makes random changes on both, checkpoints, takeovers and deaths, and compares every
 * byte. BLOCK_SIM_SEED=N runs one seed again, BLOCK_SIM_RUNS=N more of them.
 */
#include <errno.h>
#include <string.h>

#include "tests/support/block-pair.h"

static const guint64 sizes[SIDE_DISKS] = {(1u << 20) + 4608, 300000};

/* The contents of all disks at one moment. */
typedef struct {
    guint8 *bytes[SIDE_DISKS];
} Contents;

typedef struct {
    Side *a, *b;   /* the hosts; roles move between them */
    Side *primary; /* owns the disks */
    Side *replica;
    Contents truth;      /* what the primary's guest has written */
    Contents checkpoint; /* truth at the last mark */
    Contents local;      /* what the replica's guest sees */
    guint64 epoch;
    GRand *rand;
} World;

static void contents_init(Contents *c)
{
    for (guint i = 0; i < SIDE_DISKS; i++)
        c->bytes[i] = g_malloc0(sizes[i]);
}

static void contents_clear(Contents *c)
{
    for (guint i = 0; i < SIDE_DISKS; i++)
        g_free(c->bytes[i]);
}

static void contents_copy(Contents *to, const Contents *from)
{
    for (guint i = 0; i < SIDE_DISKS; i++)
        memcpy(to->bytes[i], from->bytes[i], sizes[i]);
}

static gboolean images_equal(const Side *side, const Contents *c)
{
    for (guint i = 0; i < SIDE_DISKS; i++) {
        g_autofree guint8 *bytes = side_image(side, i);
        if (memcmp(bytes, c->bytes[i], sizes[i]))
            return FALSE;
    }
    return TRUE;
}

static void assert_reads(const Side *side, const Contents *c)
{
    for (guint i = 0; i < SIDE_DISKS; i++) {
        g_autofree guint8 *bytes = side_read(side, i);
        g_assert_cmpmem(bytes, sizes[i], c->bytes[i], sizes[i]);
    }
}

static void world_init(World *w, guint32 seed)
{
    *w = (World){.a = side_new(sizes), .b = side_new(sizes), .rand = g_rand_new_with_seed(seed)};
    w->primary = w->a;
    w->replica = w->b;
    contents_init(&w->truth);
    contents_init(&w->checkpoint);
    contents_init(&w->local);
    /* Small bounds, so that spilling and waiting happen. */
    w->a->options.stage_memory_bytes = w->b->options.stage_memory_bytes = 20000;
    w->a->options.queue_bytes = w->b->options.queue_bytes = 100000;
}

static void world_clear(World *w)
{
    side_free(w->a);
    side_free(w->b);
    contents_clear(&w->truth);
    contents_clear(&w->checkpoint);
    contents_clear(&w->local);
    g_rand_free(w->rand);
}

static void open_side(Side *side, gboolean owner)
{
    g_autoptr(GError) error = NULL;
    side_open(side, owner, &error);
    g_assert_no_error(error);
}

/* A random change of a random range; the model changes when the disk reports that it has. */
static int change(World *w, Side *side, Contents *model)
{
    guint disk = (guint)g_rand_int_range(w->rand, 0, SIDE_DISKS);
    guint32 longest = g_rand_int_range(w->rand, 0, 4) ? 5000 : 150000;
    guint32 len = (guint32)g_rand_int_range(w->rand, 1, (gint32)longest);
    guint64 offset = (guint64)g_rand_int_range(w->rand, 0, (gint32)(sizes[disk] - len + 1));
    if (g_rand_boolean(w->rand))
        offset = offset / 512 * 512;
    Disk *d = side->disks[disk];
    guint kind = (guint)g_rand_int_range(w->rand, 0, 8);
    int r;
    if (kind < 6) {
        g_autofree guint8 *buf = g_malloc(len);
        for (guint32 i = 0; i < len; i++)
            buf[i] = (guint8)g_rand_int(w->rand);
        r = disk_write(d, buf, len, offset, kind == 0);
        if (r == 0)
            memcpy(model->bytes[disk] + offset, buf, len);
    } else {
        r = kind == 6 ? disk_zero(d, len, offset, g_rand_boolean(w->rand), FALSE)
                      : disk_trim(d, len, offset, FALSE);
        /* Trimming zeroes on every file system that runs this test. */
        if (r == 0)
            memset(model->bytes[disk] + offset, 0, len);
    }
    return r;
}

static void changes(World *w, Side *side, Contents *model, guint count)
{
    for (guint i = 0; i < count; i++)
        g_assert_cmpint(change(w, side, model), ==, 0);
}

/* One whole checkpoint, during which the guests continue where they may. */
static void checkpoint(World *w)
{
    g_autoptr(GError) error = NULL;
    w->epoch++;
    disk_set_mark(w->primary->set, w->epoch, &error);
    g_assert_no_error(error);
    contents_copy(&w->checkpoint, &w->truth);
    changes(w, w->primary, &w->truth, (guint)g_rand_int_range(w->rand, 0, 4));
    g_assert_true(side_wait_marked(w->replica, w->epoch));
    disk_set_apply(w->replica->set, w->epoch, &error);
    g_assert_no_error(error);
    contents_copy(&w->local, &w->checkpoint);
    g_assert_true(side_wait_applied(w->primary, w->epoch));
}

/* Pairs and takes the first checkpoint; returns what the synchronisation had to do. */
static DiskSyncProgress join(World *w)
{
    g_assert_true(side_synchronise(w->primary, w->replica));
    w->epoch = 0;
    DiskSyncProgress progress = w->primary->progress;
    checkpoint(w);
    g_assert_true(images_equal(w->replica, &w->checkpoint));
    return progress;
}

/* Bytes of the chunks in which two contents differ. */
static guint64 difference(const Side *side, const Contents *c)
{
    guint64 bytes = 0;
    for (guint i = 0; i < SIDE_DISKS; i++) {
        g_autofree guint8 *image = side_image(side, i);
        for (guint64 at = 0; at < sizes[i]; at += BLOCK_CHUNK_BYTES) {
            gsize len = (gsize)MIN(BLOCK_CHUNK_BYTES, sizes[i] - at);
            if (memcmp(image + at, c->bytes[i] + at, len))
                bytes += len;
        }
    }
    return bytes;
}

/* The primary's host dies; the other takes over, and the dead one comes back as its replica. */
static void takeover_and_rejoin(World *w)
{
    g_autoptr(GError) error = NULL;
    side_crash(w->primary);
    disk_set_takeover(w->replica->set, w->epoch, &error);
    g_assert_no_error(error);
    Side *dead = w->primary;
    w->primary = w->replica;
    w->replica = dead;
    contents_copy(&w->truth, &w->local);
    assert_reads(w->primary, &w->truth);
    g_assert_true(images_equal(w->primary, &w->truth));
    changes(w, w->primary, &w->truth, (guint)g_rand_int_range(w->rand, 0, 10));
    open_side(w->replica, FALSE);
    guint64 differ = difference(w->replica, &w->truth);
    DiskSyncProgress progress = join(w);
    g_assert_false(progress.full);
    g_assert_cmpuint(progress.sent_bytes, <=, differ);
}

/* The replica's host dies and comes back. */
static void replica_dies(World *w)
{
    side_crash(w->replica);
    changes(w, w->primary, &w->truth, (guint)g_rand_int_range(w->rand, 0, 6));
    side_wait_lost(w->primary);
    disk_set_detach(w->primary->set);
    g_assert_true(images_equal(w->replica, &w->checkpoint));
    open_side(w->replica, FALSE);
    guint64 differ = difference(w->replica, &w->truth);
    DiskSyncProgress progress = join(w);
    g_assert_false(progress.full);
    g_assert_cmpuint(progress.sent_bytes, <=, differ);
}

static void run_random(guint32 seed)
{
    World w;
    world_init(&w, seed);
    g_test_message("seed %u", seed);
    open_side(w.primary, TRUE);
    open_side(w.replica, FALSE);
    changes(&w, w.primary, &w.truth, 20);
    g_assert_true(join(&w).full);
    for (guint step = 0; step < 120; step++) {
        guint what = (guint)g_rand_int_range(w.rand, 0, 100);
        if (what < 50)
            changes(&w, w.primary, &w.truth, 1);
        else if (what < 75)
            changes(&w, w.replica, &w.local, 1);
        else if (what < 94)
            checkpoint(&w);
        else if (what < 97)
            takeover_and_rejoin(&w);
        else
            replica_dies(&w);
        assert_reads(w.primary, &w.truth);
        assert_reads(w.replica, &w.local);
    }
    world_clear(&w);
}

static guint env_number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void test_random(void)
{
    if (g_getenv("BLOCK_SIM_SEED")) {
        run_random(env_number("BLOCK_SIM_SEED", 0));
        return;
    }
    for (guint i = 0; i < env_number("BLOCK_SIM_RUNS", 12); i++)
        run_random(g_test_rand_int() & 0x7fffffff);
}

/*
 * Deaths of the replica: the same story again and again, each time with a death one change later.
 * Afterwards its images are one checkpoint on both disks, or it refuses to be used.
 */
typedef struct {
    World w;
    Contents seen[8]; /* truth at each mark */
    gboolean takeover;
} Story;

static gboolean story_checkpoint(Story *s)
{
    World *w = &s->w;
    w->epoch++;
    contents_copy(&s->seen[w->epoch], &w->truth);
    return disk_set_mark(w->primary->set, w->epoch, NULL) &&
           side_wait_marked(w->replica, w->epoch) &&
           disk_set_apply(w->replica->set, w->epoch, NULL);
}

/* Plays until the end or the replica's death. */
static void play(Story *s)
{
    World *w = &s->w;
    if (!side_synchronise(w->primary, w->replica))
        return;
    for (guint e = 0; e < 4; e++) {
        for (guint i = 0; i < 5; i++)
            change(w, w->primary, &w->truth);
        if (!story_checkpoint(s))
            return;
        contents_copy(&w->local, &s->seen[w->epoch]);
        for (guint i = 0; i < 3; i++)
            if (change(w, w->replica, &w->local) < 0)
                return;
    }
    change(w, w->primary, &w->truth);
    s->takeover = TRUE;
    side_crash(w->primary);
    disk_set_takeover(w->replica->set, w->epoch, NULL);
}

/* What the dead replica left is usable only if it is exactly right. */
static void assert_usable_or_refused(Story *s, gboolean *ret_refused)
{
    World *w = &s->w;
    g_autoptr(GError) error = NULL;
    w->replica->die_at = 0;
    *ret_refused = !side_open(w->replica, TRUE, &error);
    if (*ret_refused) {
        g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_STATE);
        return;
    }
    gboolean right = w->epoch == 0 || (s->takeover && images_equal(w->replica, &w->local));
    for (guint64 e = w->epoch; e > 0 && e + 1 >= w->epoch && !right; e--)
        right = images_equal(w->replica, &s->seen[e]);
    g_assert_true(right);
    side_close(w->replica);
}

/* And whatever it was, it becomes a good replica again. */
static void assert_rejoins(Story *s)
{
    World *w = &s->w;
    if (s->takeover) /* the other host is back with what its guest had written */
        open_side(w->primary, TRUE);
    else
        disk_set_detach(w->primary->set);
    open_side(w->replica, FALSE);
    /* What a takeover made of it is newer: it is given up. */
    disk_set_discard(w->replica->set);
    join(w);
    assert_reads(w->replica, &w->local);
    assert_reads(w->primary, &w->truth);
}

static void test_replica_dies_anywhere(void)
{
    guint refused = 0, usable = 0;
    guint32 seed = g_test_rand_int() & 0x7fffffff;
    for (gint64 die_at = 1;; die_at++) {
        Story s = {0};
        world_init(&s.w, seed);
        for (guint i = 0; i < G_N_ELEMENTS(s.seen); i++)
            contents_init(&s.seen[i]);
        open_side(s.w.primary, TRUE);
        changes(&s.w, s.w.primary, &s.w.truth, 10);
        open_side(s.w.replica, FALSE);
        s.w.replica->die_at = s.w.replica->changes + die_at;
        play(&s);
        gboolean died = side_is_dead(s.w.replica), was_refused;
        side_crash(s.w.replica);
        assert_usable_or_refused(&s, &was_refused);
        assert_rejoins(&s);
        refused += was_refused;
        usable += !was_refused;
        world_clear(&s.w);
        for (guint i = 0; i < G_N_ELEMENTS(s.seen); i++)
            contents_clear(&s.seen[i]);
        if (!died)
            break;
    }
    g_test_message("%u deaths: %u refused, %u usable", refused + usable, refused, usable);
    g_assert_cmpuint(refused, >, 10);
    g_assert_cmpuint(usable, >, 10);
}

/*
 * Deaths of the primary at every change. The replica continues, and the dead one's rejoin sends
 * what differs and no more, without comparing everything.
 */
static void test_primary_dies_anywhere(void)
{
    guint32 seed = g_test_rand_int() & 0x7fffffff;
    gboolean died = TRUE;
    for (gint64 die_at = 1; died; die_at++) {
        World w;
        world_init(&w, seed);
        open_side(w.primary, TRUE);
        open_side(w.replica, FALSE);
        changes(&w, w.primary, &w.truth, 10);
        join(&w);
        w.primary->die_at = w.primary->changes + die_at;
        for (guint e = 0; e < 3 && !side_is_dead(w.primary); e++) {
            for (guint i = 0; i < 6; i++)
                change(&w, w.primary, &w.truth);
            if (!disk_set_mark(w.primary->set, w.epoch + 1, NULL) ||
                !side_wait_marked(w.replica, w.epoch + 1))
                break;
            w.epoch++;
            contents_copy(&w.local, &w.truth);
            g_assert_true(disk_set_apply(w.replica->set, w.epoch, NULL));
        }
        died = side_is_dead(w.primary);
        /* Torn writes make what a dying primary sent unknown to the model: read the replica. */
        for (guint i = 0; i < SIDE_DISKS; i++) {
            g_autofree guint8 *bytes = side_image(w.replica, i);
            memcpy(w.local.bytes[i], bytes, sizes[i]);
        }
        changes(&w, w.replica, &w.local, 2);
        w.primary->die_at = 0;
        takeover_and_rejoin(&w);
        world_clear(&w);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/sim/random", test_random);
    g_test_add_func("/block/sim/replica-dies-anywhere", test_replica_dies_anywhere);
    g_test_add_func("/block/sim/primary-dies-anywhere", test_primary_dies_anywhere);
    return g_test_run();
}
