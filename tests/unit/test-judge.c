/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge between its two VMs: what it releases, when it believes the copy, and what it asks for.
 * What the comparator finds is tests/unit/test-compare-*'s.
 */
#include "colo/node/judge.h"

#include "colo/node/node.h"
#include "tests/support/netframe.h"

#include <string.h>

typedef struct {
    Config config;
    Judge *judge;
    JudgeWorld world;
    guint released, settled, diverged, wanted, modes;
    CheckpointReason reason; /* the last that was wanted */
    Mode mode;               /* the last that was told */
    guint64 settled_epoch;
} Fixture;

static JudgeWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static void on_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    Fixture *f = user_data;
    (void)nic;
    (void)frame;
    f->released++;
}

static void on_wanted(CheckpointReason reason, gpointer user_data)
{
    Fixture *f = user_data;
    f->wanted++;
    f->reason = reason;
}

static gboolean on_note(const CompareNote *note, gpointer user_data)
{
    (void)note;
    (void)user_data;
    return TRUE;
}

static void on_settled(const MessageSettled *settled, gpointer user_data)
{
    Fixture *f = user_data;
    f->settled++;
    f->settled_epoch = settled->epoch;
}

static void on_diverged(json_object *event, gpointer user_data)
{
    Fixture *f = user_data;
    f->diverged++;
    json_object_put(event);
}

static void on_mode_changed(Mode mode, gpointer user_data)
{
    Fixture *f = user_data;
    f->modes++;
    f->mode = mode;
}

static void set_up(Fixture *f, gconstpointer mode)
{
    static const JudgeHandler handler = {.look = on_look,
                                         .release = on_release,
                                         .wanted = on_wanted,
                                         .note = on_note,
                                         .settled = on_settled,
                                         .diverged = on_diverged,
                                         .mode_changed = on_mode_changed};
    f->config.mode = (Mode)GPOINTER_TO_INT(mode);
    f->config.compare_timeout_ms = 60000;
    f->config.output_limit_bytes = 1 << 20;
    f->judge = judge_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer mode)
{
    (void)mode;
    judge_free(f->judge);
}

/* A datagram of the guest. */
static GBytes *datagram(const char *text)
{
    FrameSpec spec = {.vnet = TRUE,
                      .src = 2,
                      .dst = 1,
                      .proto = 17,
                      .sport = 53,
                      .dport = 4711,
                      .data = text,
                      .len = strlen(text)};
    return netframe_new(&spec);
}

static void vm_sends(Fixture *f, guint64 epoch, const char *text)
{
    g_autoptr(GBytes) frame = datagram(text);
    judge_output(f->judge, 0, epoch, frame);
}

static void copy_sends(Fixture *f, guint64 epoch, guint64 taken, const char *text)
{
    g_autoptr(GBytes) frame = datagram(text);
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    judge_copy_output(f->judge, 0, epoch, taken, data, len);
}

static gboolean pause_for(Fixture *f, guint64 epoch, gboolean compared)
{
    return judge_pause(f->judge,
                       &(JudgePause){.epoch = epoch, .compared = compared, .may_compare = TRUE});
}

/* Epoch `epoch` compares, and the copy runs in it. */
static void begin(Fixture *f, guint64 epoch)
{
    g_assert_true(pause_for(f, epoch, FALSE));
    judge_committed(f->judge, epoch, TRUE);
    g_assert_true(judge_loaded(f->judge, epoch, NULL));
    g_assert_cmpint(judge_peer_vm(f->judge), ==, PEER_VM_RUNS);
}

static void refuses(gboolean (*message)(Judge *, guint64, GError **), Fixture *f, guint64 epoch)
{
    g_autoptr(GError) error = NULL;
    PeerVm before = judge_peer_vm(f->judge);
    g_assert_false(message(f->judge, epoch, &error));
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    g_assert_cmpint(judge_peer_vm(f->judge), ==, before);
}

/* ---- Output ---- */

static void test_equal(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    vm_sends(f, 5, "hello");
    g_assert_cmpuint(f->released, ==, 0);
    copy_sends(f, 5, 5, "hello");
    g_assert_cmpuint(f->released, ==, 1);
    /* In the other order, too. */
    copy_sends(f, 5, 5, "again");
    vm_sends(f, 5, "again");
    g_assert_cmpuint(f->released, ==, 2);
    g_assert_cmpuint(f->wanted + f->diverged, ==, 0);
}

static void test_different(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    vm_sends(f, 5, "hello");
    copy_sends(f, 5, 5, "hullo");
    g_assert_cmpuint(f->released, ==, 0);
    g_assert_cmpuint(f->diverged, ==, 1);
    g_assert_cmpint(f->reason, ==, REASON_MISMATCH);
    g_assert_cmpuint(judge_divergences(f->judge)->total, ==, 1);
    /* A checkpoint releases it. */
    pause_for(f, 6, TRUE);
    g_assert_cmpuint(f->released, ==, 0);
    judge_committed(f->judge, 6, TRUE);
    g_assert_cmpuint(f->released, ==, 1);
}

/* One that has stalled counts from the next checkpoint on, and no sooner than that is taken. */
static void test_whose_word_counts(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    vm_sends(f, 5, "hello");
    g_assert_true(judge_stalled(f->judge, 5, NULL));
    g_assert_cmpint(f->reason, ==, REASON_STALLED);
    copy_sends(f, 5, 5, "hello");
    g_assert_cmpuint(f->released, ==, 0);
    pause_for(f, 6, TRUE);
    vm_sends(f, 6, "again");
    copy_sends(f, 6, 5, "again");
    g_assert_cmpuint(f->released, ==, 0);
    /* Taken; its frame has overtaken RECEIVED(6), behind which the VM's waits. */
    copy_sends(f, 6, 6, "again");
    judge_committed(f->judge, 6, TRUE);
    g_assert_cmpint(judge_peer_vm(f->judge), ==, PEER_VM_LOADS);
    g_assert_cmpuint(f->released, ==, 2);
}

/* What is held when the secondary is gone stays held: it may have taken over. */
static void test_end(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    vm_sends(f, 5, "hello");
    judge_end(f->judge);
    g_assert_cmpint(judge_peer_vm(f->judge), ==, PEER_VM_PAUSED);
    copy_sends(f, 5, 5, "hello");
    g_assert_cmpuint(f->released, ==, 0);
    guint held = 0;
    judge_foreach_held(f->judge, 6, on_release, f);
    held = f->released;
    g_assert_cmpuint(held, ==, 1);
    judge_forget(f->judge, TRUE);
    g_assert_cmpuint(f->released, ==, held + 1);
    g_assert_null(judge_stats(f->judge));
}

/* A frame of the epoch before may come after the checkpoint that ends comparing. */
static void test_late_frame(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    g_assert_false(judge_pause(f->judge, &(JudgePause){.epoch = 6, .compared = TRUE}));
    judge_committed(f->judge, 6, FALSE);
    vm_sends(f, 5, "hello");
    g_assert_cmpuint(f->released, ==, 1);
}

static void test_dropped(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    vm_sends(f, 5, "hello");
    judge_forget(f->judge, FALSE);
    g_assert_cmpuint(f->released, ==, 0);
}

/* ---- Messages ---- */

static void test_messages(Fixture *f, gconstpointer data)
{
    (void)data;
    refuses(judge_loaded, f, 0);
    refuses(judge_stalled, f, 0);
    pause_for(f, 5, FALSE);
    judge_committed(f->judge, 5, TRUE);
    g_assert_cmpuint(judge_epoch(f->judge).number, ==, 5);
    refuses(judge_loaded, f, 4);
    refuses(judge_loaded, f, 6);
    g_assert_true(judge_loaded(f->judge, 5, NULL));
    refuses(judge_loaded, f, 5);
    g_assert_cmpuint(f->wanted, ==, 0);
    g_assert_true(judge_rebooted(f->judge, 5, NULL));
    g_assert_cmpuint(f->wanted, ==, 1);
    g_assert_true(judge_stalled(f->judge, 5, NULL));
    refuses(judge_stalled, f, 5);
    refuses(judge_rebooted, f, 5);
    g_assert_cmpuint(f->wanted, ==, 2);
}

/* What the checkpoint brought has left: told at once, in any mode, for a takeover would repeat it. */
static void test_left(Fixture *f, gconstpointer data)
{
    (void)data;
    gboolean compares = pause_for(f, 5, FALSE);
    g_assert_cmpuint(f->settled, ==, 0);
    judge_committed(f->judge, 5, compares);
    g_assert_cmpuint(f->settled, ==, 1);
    g_assert_cmpuint(f->settled_epoch, ==, 5);
}

/* The secondary keeps what was released as long as it has not left. */
static void test_settled(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    g_assert_cmpuint(f->settled, ==, 1);
    g_assert_cmpuint(f->settled_epoch, ==, 5);
    f->world.output_waits = TRUE;
    begin(f, 6);
    g_assert_cmpuint(f->settled, ==, 1);
    f->world.output_waits = FALSE;
    while (f->settled == 1)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(f->settled_epoch, ==, 6);
}

/* Told after each output of both VMs, also after a while without any. */
static void test_settled_again(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, 5);
    for (guint i = 0; i < 2; i++) {
        guint before = f->settled;
        vm_sends(f, 5, "hello");
        copy_sends(f, 5, 5, "hello");
        while (f->settled == before)
            g_main_context_iteration(NULL, TRUE);
        /* Long enough for the timer to find nothing, and to end. */
        for (guint n = 0; n < 3; n++) {
            g_usleep(15000);
            while (g_main_context_iteration(NULL, FALSE))
                continue;
        }
    }
}

/* ---- Which epochs compare ---- */

static void test_may_not(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_false(judge_pause(f->judge, &(JudgePause){.epoch = 5}));
    judge_committed(f->judge, 5, FALSE);
    g_assert_null(judge_stats(f->judge));
    g_assert_cmpint(judge_peer_vm(f->judge), ==, PEER_VM_PAUSED);
}

/* A copy that stalls in each epoch isn't worth it: that is told, and so is the end of the pause. */
static void test_auto(Fixture *f, gconstpointer data)
{
    (void)data;
    guint64 epoch = 5;
    begin(f, epoch);
    while (!judge_is_pausing(f->judge)) {
        g_assert_cmpuint(epoch, <, 10);
        g_assert_true(judge_stalled(f->judge, epoch, NULL));
        gboolean compares = pause_for(f, ++epoch, TRUE);
        judge_committed(f->judge, epoch, compares);
        if (compares)
            g_assert_true(judge_loaded(f->judge, epoch, NULL));
    }
    g_assert_cmpuint(f->modes, ==, 1);
    g_assert_cmpint(f->mode, ==, MODE_BUFFERED);
    g_assert_null(judge_stats(f->judge));
    while (!pause_for(f, ++epoch, FALSE))
        g_usleep(50000);
    g_assert_cmpuint(f->modes, ==, 2);
    g_assert_cmpint(f->mode, ==, MODE_COLO);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        Mode mode;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/judge/equal",             MODE_COLO,     test_equal            },
        {"/judge/different",         MODE_COLO,     test_different        },
        {"/judge/whose-word-counts", MODE_COLO,     test_whose_word_counts},
        {"/judge/end",               MODE_COLO,     test_end              },
        {"/judge/late-frame",        MODE_COLO,     test_late_frame       },
        {"/judge/dropped",           MODE_COLO,     test_dropped          },
        {"/judge/messages",          MODE_COLO,     test_messages         },
        {"/judge/settled",           MODE_COLO,     test_settled          },
        {"/judge/settled-again",     MODE_COLO,     test_settled_again    },
        {"/judge/left",              MODE_COLO,     test_left             },
        {"/judge/left-buffered",     MODE_BUFFERED, test_left             },
        {"/judge/may-not",           MODE_COLO,     test_may_not          },
        {"/judge/buffered",          MODE_BUFFERED, test_may_not          },
        {"/judge/auto",              MODE_AUTO,     test_auto             },
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, GINT_TO_POINTER(tests[i].mode), set_up, tests[i].test,
                   tear_down);
    return g_test_run();
}
