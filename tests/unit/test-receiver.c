/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The receiver at the end of a real stream, over RAM in this process: what it reports, and when. That
 * RAM is the checkpoint's is tests/unit/test-checkpoint-run.c's.
 */
#include "colo/node/receiver.h"

#include "colo/node/messages.h"
#include "colo/node/node.h"
#include "tests/support/test-ram.h"
#include "tests/support/wait.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGES 64u

typedef struct {
    TestRam *primary, *secondary;
    DirtyTracker *tracker;
    Capture *capture;
    int fd; /* the primary's */
    guint64 epoch;
    gboolean synchronised, sent, capture_failed;

    Receiver *receiver;
    gboolean may_change_ram, ends; /* the session, as a checkpoint is received */
    guint64 received, applied;     /* epochs; 0: none */
    gboolean to_run;
    guint intruded, failed, finished;
    guint64 finished_epoch; /* 0: none was complete */
    double percent;         /* when the first one was received */
} Fixture;

/* ---- The primary's end ---- */

static void on_progress(const SyncProgress *progress, gpointer user_data)
{
    (void)progress;
    (void)user_data;
}

static void on_synchronised(const SyncProgress *progress, gpointer user_data)
{
    Fixture *f = user_data;
    (void)progress;
    f->synchronised = TRUE;
}

static void on_taken(const CaptureStats *stats, gpointer user_data)
{
    (void)stats;
    (void)user_data;
}

static void on_sent(const CaptureStats *stats, gpointer user_data)
{
    Fixture *f = user_data;
    (void)stats;
    f->sent = TRUE;
}

static void on_capture_failed(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    (void)error;
    f->capture_failed = TRUE;
}

/* ---- The receiver's ---- */

static gboolean on_may_change_ram(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->may_change_ram;
}

static void on_received(Checkpoint *checkpoint, gpointer user_data)
{
    Fixture *f = user_data;
    if (f->received == 0 && receiver_progress(f->receiver))
        f->percent = receiver_progress(f->receiver)->percent;
    f->received = checkpoint->epoch;
    if (f->ends)
        receiver_end(f->receiver);
}

static void on_applied(Checkpoint *checkpoint, gboolean to_run, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(f->intruded, ==, 0);
    g_assert_cmpuint(f->received, ==, checkpoint->epoch);
    f->applied = checkpoint->epoch;
    f->to_run = to_run;
}

static void on_intruded(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    f->intruded++;
    receiver_end(f->receiver);
}

static void on_failed(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_nonnull(error);
    f->failed++;
}

static void on_finished(Checkpoint *checkpoint, gpointer user_data)
{
    Fixture *f = user_data;
    f->finished++;
    f->finished_epoch = checkpoint ? checkpoint->epoch : 0;
}

/* ---- */

/* A session, in which the secondary's own copy of the descriptor is the only one. */
static void begin(Fixture *f)
{
    static const CaptureCallbacks callbacks = {.progress = on_progress,
                                               .synchronised = on_synchronised,
                                               .taken = on_taken,
                                               .sent = on_sent,
                                               .failed = on_capture_failed};
    g_autoptr(GError) error = NULL;
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    f->fd = fds[0];
    f->tracker = dirty_tracker_new(&f->primary->ram, DIRTY_METHOD_COMPARE, &error);
    g_assert_no_error(error);
    f->capture = capture_new(&f->primary->ram, f->tracker, f->fd, &callbacks, f, &error);
    g_assert_no_error(error);
    g_assert_true(receiver_begin(f->receiver, &f->secondary->ram, fds[1], &error));
    g_assert_no_error(error);
    close(fds[1]);
    f->synchronised = FALSE;
    capture_synchronise(f->capture, PAGES);
    WAIT_FOR(f->synchronised || f->capture_failed || f->failed);
    g_assert_true(f->synchronised);
}

static void end_primary(Fixture *f)
{
    g_clear_pointer(&f->capture, capture_free);
    g_clear_pointer(&f->tracker, dirty_tracker_free);
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const ReceiverHandler handler = {.may_change_ram = on_may_change_ram,
                                            .received = on_received,
                                            .applied = on_applied,
                                            .intruded = on_intruded,
                                            .failed = on_failed,
                                            .finished = on_finished};
    (void)data;
    f->primary = test_ram_new(PAGES);
    f->secondary = test_ram_new(PAGES);
    memset(f->primary->guest, 0x5a, PAGES * VM_PAGE_SIZE);
    f->may_change_ram = TRUE;
    f->receiver = receiver_new(&handler, f);
    begin(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    receiver_free(f->receiver);
    end_primary(f);
    test_ram_free(f->primary);
    test_ram_free(f->secondary);
}

/* Takes the next checkpoint, and sees it sent. */
static void take_with(Fixture *f, GBytes *attachment)
{
    g_autoptr(GBytes) state = g_bytes_new_static("state", 5);
    f->sent = FALSE;
    capture_take(f->capture, ++f->epoch, state, NULL, attachment);
    WAIT_FOR(f->sent || f->capture_failed);
}

static void take(Fixture *f, gboolean to_run)
{
    g_autoptr(GBytes) attachment = attachment_pack(&(Attachment){.runs = to_run});
    take_with(f, attachment);
}

/* The other end has read it. */
static gboolean all_is_read(const Fixture *f)
{
    int bytes;
    g_assert_cmpint(ioctl(f->fd, SIOCOUTQ, &bytes), ==, 0);
    return bytes == 0;
}

static void test_receives(Fixture *f, gconstpointer data)
{
    (void)data;
    take(f, TRUE);
    WAIT_FOR(f->applied == 1);
    g_assert_true(f->to_run);
    g_assert_cmpfloat(f->percent, >, 0);
    g_assert_cmpfloat(f->percent, <=, 100);
    g_assert_cmpint(f->secondary->guest[5 * VM_PAGE_SIZE], ==, 0x5a);
    take(f, FALSE);
    WAIT_FOR(f->applied == 2);
    g_assert_false(f->to_run);
    g_assert_cmpuint(f->failed, ==, 0);
}

/* An attachment of nobody, or none: it isn't complete, and what was before it stays valid. */
static void test_attachment(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) attachment = data ? g_bytes_new_static(data, strlen(data)) : NULL;
    take(f, FALSE);
    WAIT_FOR(f->applied == 1);
    take_with(f, attachment);
    WAIT_FOR(f->failed || f->received == 2);
    g_assert_cmpuint(f->failed, ==, 1);
    g_assert_cmpuint(f->received, ==, 1);
    receiver_finish(f->receiver);
    WAIT_FOR(f->finished == 1);
    g_assert_cmpuint(f->finished_epoch, ==, 1);
}

static void test_intrudes(Fixture *f, gconstpointer data)
{
    (void)data;
    take(f, FALSE);
    WAIT_FOR(f->applied == 1);
    f->may_change_ram = FALSE;
    take(f, FALSE);
    WAIT_FOR(f->intruded || f->received == 2);
    g_assert_cmpuint(f->intruded, ==, 1);
    g_assert_cmpuint(f->received, ==, 1);
    g_assert_false(receiver_is_receiving(f->receiver));
}

/* With disks, both have to be there. */
static void test_allow(Fixture *f, gconstpointer data)
{
    (void)data;
    receiver_allow(f->receiver, 0);
    take(f, FALSE);
    WAIT_FOR(all_is_read(f));
    g_assert_cmpuint(f->received, ==, 0);
    receiver_allow(f->receiver, 1);
    WAIT_FOR(f->applied == 1);
    take(f, FALSE);
    WAIT_FOR(all_is_read(f));
    receiver_finish(f->receiver);
    WAIT_FOR(f->finished == 1);
    g_assert_cmpuint(f->finished_epoch, ==, 1);
    g_assert_cmpuint(f->received, ==, 1);
    /* The disks may tell so after the session. */
    receiver_end(f->receiver);
    receiver_allow(f->receiver, 2);
}

/* The link is closed in the middle: the stream's end is reported, what is complete stays. */
static void test_shut_down(Fixture *f, gconstpointer data)
{
    (void)data;
    take(f, FALSE);
    WAIT_FOR(f->applied == 1);
    receiver_shut_down(f->receiver);
    WAIT_FOR(f->failed == 1);
    take(f, FALSE);
    g_assert_true(f->capture_failed);
    g_assert_true(receiver_is_receiving(f->receiver));
    receiver_finish(f->receiver);
    WAIT_FOR(f->finished == 1);
    g_assert_cmpuint(f->finished_epoch, ==, 1);
    g_assert_cmpuint(f->failed, ==, 1);
}

static void test_nothing_complete(Fixture *f, gconstpointer data)
{
    (void)data;
    receiver_finish(f->receiver);
    WAIT_FOR(f->finished == 1);
    g_assert_cmpuint(f->finished_epoch, ==, 0);
    g_assert_cmpuint(f->failed, ==, 0);
}

/* From within a report: nothing else comes. The next session starts over. */
static void test_ends_within(Fixture *f, gconstpointer data)
{
    (void)data;
    f->ends = TRUE;
    take(f, FALSE);
    WAIT_FOR(f->received == 1);
    g_assert_false(receiver_is_receiving(f->receiver));
    g_assert_null(receiver_progress(f->receiver));
    receiver_shut_down(f->receiver);
    receiver_end(f->receiver);
    end_primary(f);
    f->ends = FALSE;
    f->received = f->epoch = 0;
    begin(f);
    take(f, TRUE);
    WAIT_FOR(f->applied == 1);
    g_assert_cmpuint(f->failed, ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path, *data;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/receiver/receives",           NULL,     test_receives        },
        {"/receiver/no-attachment",      NULL,     test_attachment      },
        {"/receiver/foreign-attachment", "\xff..", test_attachment      },
        {"/receiver/intrudes",           NULL,     test_intrudes        },
        {"/receiver/allow",              NULL,     test_allow           },
        {"/receiver/shut-down",          NULL,     test_shut_down       },
        {"/receiver/nothing-complete",   NULL,     test_nothing_complete},
        {"/receiver/ends-within",        NULL,     test_ends_within     },
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, tests[i].data, set_up, tests[i].test, tear_down);
    return g_test_run();
}
