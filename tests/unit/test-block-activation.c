/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The activation flag, on fake disks that are as unforgiving as QEMU: inactivating one twice, or
 * letting the VM run while one is inactive, ends the test. Operations succeed, fail or don't answer
 * as told.
 */
#include <string.h>

#include "block/block.h"

#define DISKS 3

typedef enum { ANSWER_YES, ANSWER_NO, ANSWER_NEVER, ANSWER_LEFT } Answer;

typedef struct {
    gboolean active;
    gboolean half; /* a failed inactivation: some of it has happened */
    Answer activate, inactivate;
    guint activations, inactivations;
    BlockOpDone pending; /* of an operation that has not answered */
    gpointer ticket;
    gboolean pending_activate;
} FakeDisk;

typedef struct {
    FakeDisk disks[DISKS];
    BlockActivation *activation;
    guint succeeded, failed, abandoned, running;
    GString *seen; /* what the watcher saw: the flag, and each disk's state, at each change */
    char *message;
} Fixture;

static void answer(FakeDisk *disk, gboolean activate, gboolean yes, BlockOpDone done,
                   gpointer ticket)
{
    g_autoptr(GError) error = NULL;
    if (yes) {
        disk->active = activate;
        disk->half = FALSE;
    } else {
        disk->half = disk->half || !activate;
        error = g_error_new(G_FILE_ERROR, G_FILE_ERROR_IO, "storage is on fire");
    }
    done(ticket, error);
}

static void fake_op(FakeDisk *disk, gboolean activate, Answer how, BlockOpDone done,
                    gpointer ticket)
{
    g_assert_null(disk->pending);
    if (how == ANSWER_NEVER) {
        disk->pending = done;
        disk->ticket = ticket;
        disk->pending_activate = activate;
        return;
    }
    if (how == ANSWER_LEFT) {
        g_autoptr(GError) error =
            g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_INACTIVE, "not while the guest stands");
        done(ticket, error);
        return;
    }
    answer(disk, activate, how == ANSWER_YES, done, ticket);
}

static void fake_activate(gpointer data, BlockOpDone done, gpointer ticket)
{
    FakeDisk *disk = data;
    disk->activations++;
    fake_op(disk, TRUE, disk->activate, done, ticket);
}

static void fake_inactivate(gpointer data, BlockOpDone done, gpointer ticket)
{
    FakeDisk *disk = data;
    /* bdrv_inactivate_recurse: Assertion `!(bs->open_flags & BDRV_O_INACTIVE)' failed. */
    g_assert_true(disk->active);
    g_assert_false(disk->half);
    disk->inactivations++;
    fake_op(disk, FALSE, disk->inactivate, done, ticket);
}

static const BlockDiskOps fake_ops = {fake_activate, fake_inactivate, FALSE};

/* The storage answers at last. */
static void answer_now(FakeDisk *disk, gboolean yes)
{
    BlockOpDone done = disk->pending;
    g_assert_nonnull(done);
    disk->pending = NULL;
    answer(disk, disk->pending_activate, yes, done, disk->ticket);
}

static void on_done(BlockActivation *activation, const GError *error, gpointer data)
{
    Fixture *f = data;
    (void)activation;
    if (!error) {
        f->succeeded++;
    } else if (g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_ABANDONED)) {
        f->abandoned++;
    } else {
        f->failed++;
        if (g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_RUNNING))
            f->running++;
    }
    g_free(f->message);
    f->message = error ? g_strdup(error->message) : NULL;
}

static void setup(Fixture *f, gconstpointer owner)
{
    static const char *const names[DISKS] = {"vda", "vdb", "vdc"};
    f->activation = block_activation_new(GPOINTER_TO_INT(owner));
    for (guint i = 0; i < DISKS; i++) {
        f->disks[i].active = GPOINTER_TO_INT(owner);
        block_activation_add(f->activation, names[i], &fake_ops, &f->disks[i]);
    }
}

static void teardown(Fixture *f, gconstpointer owner)
{
    (void)owner;
    block_activation_free(f->activation);
    g_free(f->message);
}

static void assert_all(Fixture *f, gboolean active)
{
    g_assert_cmpint(block_activation_flag(f->activation), ==,
                    active ? BLOCK_ACTIVE : BLOCK_INACTIVE);
    for (guint i = 0; i < DISKS; i++) {
        g_assert_cmpint(f->disks[i].active, ==, active);
        g_assert_cmpint(block_activation_disk(f->activation, i, NULL), ==,
                        active ? BLOCK_DISK_ACTIVE : BLOCK_DISK_INACTIVE);
    }
}

static gboolean may_run(Fixture *f)
{
    gboolean yes = block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, NULL);
    if (yes)
        for (guint i = 0; i < DISKS; i++)
            g_assert_true(f->disks[i].active && !f->disks[i].half);
    block_activation_paused(f->activation);
    return yes;
}

static void test_fresh_primary(Fixture *f, gconstpointer data)
{
    (void)data;
    assert_all(f, TRUE);
    g_assert_true(may_run(f));
    block_activate(f->activation, on_done, f);
    g_assert_cmpuint(f->succeeded, ==, 1);
    g_assert_cmpuint(f->disks[0].activations, ==, 0);
}

static void on_changed(BlockActivation *activation, gpointer data)
{
    Fixture *f = data;
    g_string_append_c(f->seen, block_activation_flag(activation) == BLOCK_ACTIVE ? ' ' : '-');
    for (guint i = 0; i < DISKS; i++)
        g_string_append_c(f->seen,
                          block_disk_state_name(block_activation_disk(activation, i, NULL))[0]);
    g_string_append_c(f->seen, '\n');
}

/* Each change is seen once, and the flag is down before the first disk is touched. */
static void test_watched(Fixture *f, gconstpointer data)
{
    (void)data;
    f->seen = g_string_new(NULL);
    block_activation_watch(f->activation, on_changed, f);
    f->disks[1].inactivate = ANSWER_NO;
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpstr(f->seen->str, ==, "-aaa\n-aau\n-aai\n-aui\n");
    g_string_truncate(f->seen, 0);
    block_activate(f->activation, on_done, f);
    g_assert_cmpstr(f->seen->str, ==, "-aai\n-aau\n-aaa\n aaa\n");
    g_string_truncate(f->seen, 0);
    block_activate(f->activation, on_done, f);
    g_assert_cmpstr(f->seen->str, ==, "");
    g_string_free(f->seen, TRUE);
}

static void test_inactivate_twice(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < 3; i++)
        block_inactivate(f->activation, on_done, f);
    assert_all(f, FALSE);
    g_assert_cmpuint(f->succeeded, ==, 3);
    for (guint i = 0; i < DISKS; i++)
        g_assert_cmpuint(f->disks[i].inactivations, ==, 1);
    g_assert_false(may_run(f));
    for (guint i = 0; i < 3; i++)
        block_activate(f->activation, on_done, f);
    assert_all(f, TRUE);
    g_assert_cmpuint(f->disks[1].activations, ==, 1);
    g_assert_true(may_run(f));
}

/* What is below is activated first and inactivated last. */
static void test_order(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < DISKS; i++)
        f->disks[i].inactivate = f->disks[i].activate = ANSWER_NEVER;
    block_inactivate(f->activation, on_done, f);
    for (guint i = DISKS; i-- > 0;)
        answer_now(&f->disks[i], TRUE);
    assert_all(f, FALSE);
    block_activate(f->activation, on_done, f);
    for (guint i = 0; i < DISKS; i++)
        answer_now(&f->disks[i], TRUE);
    assert_all(f, TRUE);
}

/* For each disk: its inactivation fails; the VM can't run; the way back is one activation. */
static void test_fails_half_way(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char *const names[DISKS] = {"vda", "vdb", "vdc"};
    for (guint bad = 0; bad < DISKS; bad++) {
        f->disks[bad].inactivate = ANSWER_NO;
        block_inactivate(f->activation, on_done, f);
        g_assert_cmpuint(f->failed, ==, bad + 1);
        g_assert_nonnull(strstr(f->message, names[bad]));
        g_assert_nonnull(strstr(f->message, "storage is on fire"));
        g_assert_cmpint(block_activation_flag(f->activation), ==, BLOCK_INACTIVE);
        g_assert_cmpint(block_activation_disk(f->activation, bad, NULL), ==, BLOCK_DISK_UNKNOWN);
        g_assert_false(may_run(f));
        block_activate(f->activation, on_done, f);
        assert_all(f, TRUE);
        g_assert_true(may_run(f));
        f->disks[bad].inactivate = ANSWER_YES;
    }
}

/* A later try succeeds, without the disks that are inactive already being touched. */
static void test_second_try(Fixture *f, gconstpointer data)
{
    (void)data;
    f->disks[1].inactivate = ANSWER_NO;
    block_inactivate(f->activation, on_done, f);
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->failed, ==, 2);
    f->disks[1].inactivate = ANSWER_YES;
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->succeeded, ==, 1);
    assert_all(f, FALSE);
    g_assert_cmpuint(f->disks[2].inactivations, ==, 1);
}

/* The way back fails: the VM stays stopped with an error, and it can be tried again. */
static void test_way_back_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GError) error = NULL;
    f->disks[0].inactivate = ANSWER_NO;
    f->disks[1].activate = ANSWER_NO;
    block_inactivate(f->activation, on_done, f);
    block_activate(f->activation, on_done, f);
    g_assert_cmpuint(f->failed, ==, 2);
    g_assert_nonnull(strstr(f->message, "vdb: can't activate"));
    g_assert_false(block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, &error));
    g_assert_error(error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE);
    g_assert_nonnull(strstr(error->message, "vdb"));
    f->disks[1].activate = ANSWER_YES;
    block_activate(f->activation, on_done, f);
    assert_all(f, TRUE);
}

/* Storage that does not answer: INACTIVE from the start, no run, no second operation on it. */
static void test_no_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    f->disks[1].inactivate = ANSWER_NEVER;
    block_inactivate(f->activation, on_done, f);
    g_assert_true(block_activation_is_busy(f->activation));
    g_assert_cmpint(block_activation_flag(f->activation), ==, BLOCK_INACTIVE);
    g_assert_false(may_run(f));
    block_activate(f->activation, on_done, f); /* cancelled: at once, but not yet done */
    g_assert_cmpuint(f->abandoned, ==, 1);
    g_assert_cmpuint(f->succeeded, ==, 0);
    g_assert_false(may_run(f));
    answer_now(&f->disks[1], FALSE);
    g_assert_cmpuint(f->succeeded, ==, 1);
    assert_all(f, TRUE);
    g_assert_true(may_run(f));
}

/* The same, and the storage says yes after all: what it did is undone. */
static void test_late_yes(Fixture *f, gconstpointer data)
{
    (void)data;
    f->disks[1].inactivate = ANSWER_NEVER;
    block_inactivate(f->activation, on_done, f);
    block_activate(f->activation, on_done, f);
    answer_now(&f->disks[1], TRUE);
    assert_all(f, TRUE);
}

/* A secondary's disks were never active: inactivating them does nothing to them. */
static void test_secondary(Fixture *f, gconstpointer data)
{
    (void)data;
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->succeeded, ==, 1);
    assert_all(f, FALSE);
    g_assert_false(may_run(f));
    g_assert_true(block_activation_resume(f->activation, BLOCK_RUN_OVERLAY, NULL));
    block_activate(f->activation, on_done, f); /* a takeover: the VM runs meanwhile */
    assert_all(f, TRUE);
    /* Now it runs on the disks: nothing may be inactivated under it. */
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->running, ==, 1);
    assert_all(f, TRUE);
    block_activation_paused(f->activation);
    g_assert_false(block_activation_resume(f->activation, BLOCK_RUN_OVERLAY, NULL));
}

/* What was not touched is as it was: known to be inactive, or not known. */
static void test_left(Fixture *f, gconstpointer data)
{
    (void)data;
    const guint last = DISKS - 1;
    f->disks[last].activate = ANSWER_LEFT;
    for (guint i = 1; i <= 2; i++) {
        block_activate(f->activation, on_done, f);
        g_assert_cmpuint(f->failed, ==, i);
        g_assert_cmpint(block_activation_flag(f->activation), ==, BLOCK_INACTIVE);
        g_assert_cmpint(block_activation_disk(f->activation, 0, NULL), ==, BLOCK_DISK_ACTIVE);
        g_assert_cmpint(block_activation_disk(f->activation, last, NULL), ==, BLOCK_DISK_INACTIVE);
        g_assert_false(may_run(f));
    }
    g_assert_cmpuint(f->disks[0].activations, ==, 1);
    /* An inactivation has nothing to do for it, either. */
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->disks[last].inactivations, ==, 0);
    f->disks[last].activate = ANSWER_NO;
    block_activate(f->activation, on_done, f);
    g_assert_cmpint(block_activation_disk(f->activation, last, NULL), ==, BLOCK_DISK_UNKNOWN);
    f->disks[last].activate = ANSWER_LEFT;
    block_activate(f->activation, on_done, f);
    g_assert_cmpint(block_activation_disk(f->activation, last, NULL), ==, BLOCK_DISK_UNKNOWN);
    f->disks[last].activate = ANSWER_YES;
    block_activate(f->activation, on_done, f);
    assert_all(f, TRUE);
}

static void test_running_vm(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_true(block_activation_resume(f->activation, BLOCK_RUN_ACTIVE, NULL));
    block_inactivate(f->activation, on_done, f);
    g_assert_cmpuint(f->running, ==, 1);
    assert_all(f, TRUE);
}

/* A takeover that fails on one disk leaves a replica that can't be run on its disks, or resumed on
 * an overlay over a disk of unknown state. */
static void test_takeover_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    f->disks[2].activate = ANSWER_NO;
    block_activate(f->activation, on_done, f);
    g_assert_cmpuint(f->failed, ==, 1);
    g_assert_cmpint(block_activation_flag(f->activation), ==, BLOCK_INACTIVE);
    g_assert_false(may_run(f));
    g_assert_false(block_activation_resume(f->activation, BLOCK_RUN_OVERLAY, NULL));
    f->disks[2].activate = ANSWER_YES;
    block_activate(f->activation, on_done, f);
    assert_all(f, TRUE);
    g_assert_cmpuint(f->disks[0].activations, ==, 1);
}

/* Freed in the middle: who waits is told, and the late answer finds nobody. */
static void test_free_in_flight(void)
{
    FakeDisk disk = {.active = TRUE, .inactivate = ANSWER_NEVER};
    Fixture f = {0};
    BlockActivation *activation = block_activation_new(TRUE);
    block_activation_add(activation, "vda", &fake_ops, &disk);
    block_inactivate(activation, on_done, &f);
    block_activation_free(activation);
    g_assert_cmpuint(f.abandoned, ==, 1);
    answer_now(&disk, TRUE);
    g_free(f.message);
}

/* The opposite is asked for from within a callback that says "abandoned". */
static void on_abandoned(BlockActivation *activation, const GError *error, gpointer data)
{
    if (g_error_matches(error, BLOCK_ERROR, BLOCK_ERROR_ABANDONED))
        block_inactivate(activation, on_done, data);
}

static void test_nested(Fixture *f, gconstpointer data)
{
    (void)data;
    f->disks[2].inactivate = ANSWER_NEVER;
    block_inactivate(f->activation, on_abandoned, f);
    block_activate(f->activation, on_done, f);
    g_assert_cmpuint(f->abandoned, ==, 1); /* the activation, by the nested one */
    answer_now(&f->disks[2], TRUE);
    g_assert_cmpuint(f->succeeded, ==, 1);
    assert_all(f, FALSE);
}

/* Nobody knows what a disk is until the operation on it has answered. */
static void test_steps(void)
{
    for (BlockDiskState from = 0; from < BLOCK_DISK_STATES; from++)
        for (BlockDiskState to = 0; to < BLOCK_DISK_STATES; to++) {
            gboolean is_unknown = from == BLOCK_DISK_UNKNOWN || to == BLOCK_DISK_UNKNOWN;
            g_assert_true(block_disk_may(from, to) == (from == to || is_unknown));
        }
}

/* Any sequence: the fakes watch the rules; at the end, with good storage, all is well. */
static void test_any_sequence(void)
{
    for (guint run = 0; run < 300; run++) {
        Fixture f = {0};
        setup(&f, GINT_TO_POINTER(run % 2));
        guint asked = 0;
        for (guint step = 0; step < 60; step++) {
            FakeDisk *disk = &f.disks[g_test_rand_int_range(0, DISKS)];
            switch (g_test_rand_int_range(0, 6)) {
            case 0:
                block_activate(f.activation, on_done, &f);
                asked++;
                break;
            case 1:
                block_inactivate(f.activation, on_done, &f);
                asked++;
                break;
            case 2:
                disk->activate = (Answer)g_test_rand_int_range(0, 3);
                break;
            case 3:
                disk->inactivate = (Answer)g_test_rand_int_range(0, 3);
                break;
            case 4:
                if (disk->pending)
                    answer_now(disk, g_test_rand_bit());
                break;
            default:
                may_run(&f);
            }
        }
        for (guint i = 0; i < DISKS; i++)
            f.disks[i].activate = f.disks[i].inactivate = ANSWER_YES;
        for (guint i = 0; i < DISKS; i++)
            if (f.disks[i].pending)
                answer_now(&f.disks[i], TRUE);
        block_activate(f.activation, on_done, &f);
        assert_all(&f, TRUE);
        g_assert_cmpuint(f.succeeded + f.failed + f.abandoned, ==, asked + 1);
        teardown(&f, NULL);
    }
}

int main(int argc, char **argv)
{
    gpointer owner = GINT_TO_POINTER(TRUE), secondary = GINT_TO_POINTER(FALSE);
    g_test_init(&argc, &argv, NULL);
#define ADD(name, who, test)                                                                       \
    g_test_add("/block/activation/" name, Fixture, who, setup, test, teardown)
    ADD("fresh-primary", owner, test_fresh_primary);
    ADD("inactivate-twice", owner, test_inactivate_twice);
    ADD("watched", owner, test_watched);
    ADD("order", owner, test_order);
    ADD("fails-half-way", owner, test_fails_half_way);
    ADD("second-try", owner, test_second_try);
    ADD("way-back-fails", owner, test_way_back_fails);
    ADD("no-answer", owner, test_no_answer);
    ADD("late-yes", owner, test_late_yes);
    ADD("secondary", secondary, test_secondary);
    ADD("running-vm", owner, test_running_vm);
    ADD("takeover-fails", secondary, test_takeover_fails);
    ADD("left", secondary, test_left);
    ADD("nested", owner, test_nested);
    g_test_add_func("/block/activation/free-in-flight", test_free_in_flight);
    g_test_add_func("/block/activation/steps", test_steps);
    g_test_add_func("/block/activation/any-sequence", test_any_sequence);
    return g_test_run();
}
